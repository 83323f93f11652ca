"""Assembly: what is proof that the listed parts are the whole file."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.assembly import composite, measured, prove, unmeasured
from heavylift.errors import RequestError
from heavylift.limits import MIB
from heavylift.parts import plan_parts
from heavylift.records import FileRecord
from heavylift.s3 import PartInfo
from heavylift.states import State


def record_of(size: int, checksum: str = "sha256") -> FileRecord:
    plan = plan_parts(size)
    return FileRecord(
        "t", "f", "n", size, State.UPLOADING, mode=plan.mode, part_size=plan.part_size, part_count=plan.part_count,
        checksum=checksum,
    )  # fmt: skip


def digest(number: int) -> str:
    return base64.b64encode(sha256(str(number).encode()).digest()).decode()


def whole(record: FileRecord) -> list[PartInfo]:
    plan = plan_parts(record.size)
    with_digest = record.checksum == "sha256"
    return [
        PartInfo(number, plan.length(number), f"etag{number}", digest(number) if with_digest else None)
        for number in range(1, plan.part_count + 1)
    ]


sizes = st.integers(16 * MIB + 1, 3 << 30)


@given(sizes, st.sampled_from(["sha256", "none"]), st.randoms())
def test_the_whole_file_is_proven_in_any_order(size: int, checksum: str, random: Any) -> None:
    """Parts come out in their order, with the composite that S3 will compute, or none."""
    record = record_of(size, checksum)
    listed = whole(record)
    random.shuffle(listed)
    proof = prove(record, listed)

    assert [part.number for part in proof.parts] == list(range(1, record.part_count + 1))
    assert sum(part.size_bytes for part in proof.parts) == size
    assert (proof.sha256_composite is None) is (checksum == "none")


@given(sizes, st.data())
def test_any_one_defect_is_named(size: int, data: st.DataObject) -> None:
    """Gone, of another size, without its digest, or one too many: parts_missing with exactly that part."""
    record = record_of(size)
    listed = whole(record)
    number = data.draw(st.integers(1, record.part_count))
    part = listed[number - 1]
    how = data.draw(st.sampled_from(["gone", "longer", "shorter", "no digest", "surplus"]))
    if how == "gone":
        del listed[number - 1]
    elif how == "surplus":
        listed.append(PartInfo(record.part_count + number, 5, "e", digest(0)))
    else:
        change = {"longer": 1, "shorter": -1, "no digest": 0}[how]
        listed[number - 1] = PartInfo(
            number, part.size_bytes + change, "e", None if how == "no digest" else part.sha256
        )
    with pytest.raises(RequestError) as refused:
        prove(record, listed)

    assert refused.value.code == "parts_missing"
    if how == "surplus":
        assert (refused.value.facts["missing"], refused.value.facts["surplus"]) == (
            [],
            [[record.part_count + number] * 2],
        )
    else:
        assert refused.value.facts["missing"] == [[number, number]]


@given(sizes, st.data())
def test_a_claimed_digest_must_be_s3s(size: int, data: st.DataObject) -> None:
    """One wrong claim: part_mismatch with its number; right ones, and none, pass."""
    record = record_of(size)
    claimed: dict[int, str | None] = {part.number: part.sha256 for part in whole(record)}
    number = data.draw(st.integers(1, record.part_count))
    assert prove(record, whole(record), {**claimed, number: None})
    with pytest.raises(RequestError) as refused:
        prove(record, whole(record), {**claimed, number: digest(0)})

    assert (refused.value.code, refused.value.facts["parts"]) == ("part_mismatch", [[number, number]])


def test_the_composite() -> None:
    """b64(sha256(d1 || d2 || ...)) - N; none as soon as one digest is missing."""
    parts = [PartInfo(n, 1, "e", digest(n)) for n in (1, 2, 3)]
    joined = b"".join(sha256(str(n).encode()).digest() for n in (1, 2, 3))

    assert composite(parts) == base64.b64encode(sha256(joined).digest()).decode() + "-3"
    assert composite([*parts, PartInfo(4, 1, "e")]) is None


def test_ten_thousand_parts_are_listed_as_ranges() -> None:
    """What is missing of a large file stays a short answer."""
    record = record_of(10 << 40)
    listed = [part for part in whole(record) if part.number % 1_000]
    with pytest.raises(RequestError) as refused:
        prove(record, listed)

    assert len(refused.value.facts["missing"]) == record.part_count // 1_000


def unsized(**values: Any) -> FileRecord:
    """Begun with a ticket: nobody said its size."""
    usual: dict[str, Any] = {"mode": "multipart", "part_count": 0, "checksum": "none", "by_ticket": True}
    return FileRecord("t", "f", "n", 0, State.UPLOADING, size_known=False, **{**usual, **values})


def sent(sizes_of_parts: list[int]) -> list[PartInfo]:
    return [PartInfo(number, size, f"etag{number}") for number, size in enumerate(sizes_of_parts, start=1)]


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.randoms())
def test_a_file_is_measured_by_its_parts(part_size: int, whole_parts: int, last: int, random: Any) -> None:
    """Any cut into equal parts and a rest gives the plan that proves it, whatever the order of the list."""
    listed = sent([part_size] * (whole_parts - 1) + [min(last, part_size)])
    size = sum(part.size_bytes for part in listed)
    random.shuffle(listed)
    for claimed in ((), range(1, whole_parts + 1)):
        record = measured(unsized(), listed, claimed, size)
        assert (record.size, record.size_known, record.part_count) == (size, True, whole_parts)
        assert [part.number for part in prove(record, listed).parts] == list(range(1, whole_parts + 1))
    with pytest.raises(RequestError) as caught:
        measured(unsized(), listed, (), size - 1)
    assert caught.value.code == "size_not_allowed"


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.sets(st.integers(1, 7), max_size=6), st.integers(0, 7))
def test_what_is_measured_is_whole(part_sizes: list[int], left_out: set[int], claimed: int) -> None:
    """Judged by a plain reading of the rule: no gap, one size but for the last, no part beyond those claimed."""
    listed = [part for part in sent(part_sizes) if part.number not in left_out]
    numbers = range(1, claimed + 1)
    last = claimed or max((part.number for part in listed), default=0)
    there = {part.number: part.size_bytes for part in listed}
    in_order = [there.get(number, 0) for number in range(1, last + 1)]
    good = bool(in_order) and all(in_order) and set(in_order[:-1]) <= {in_order[0]} and in_order[-1] <= in_order[0]
    surplus = any(number > last for number in there)
    if not good or surplus:
        with pytest.raises(RequestError, match="parts"):
            prove(measured(unsized(), listed, numbers, 10**9), listed)
        return
    record = measured(unsized(), listed, numbers, 10**9)
    proof = prove(record, listed, None, {number: f"etag{number}" for number in numbers})
    assert sum(part.size_bytes for part in proof.parts) == record.size == sum(in_order)


def test_what_a_client_says_it_sent_counts() -> None:
    """An ETag that is not S3's is a part_mismatch; quotes are the edge's business."""
    listed = sent([5, 5, 2])
    record = measured(unsized(), listed, (1, 2, 3), 100)
    assert prove(record, listed, None, {1: "etag1", 2: "etag2", 3: "etag3"}).sha256_composite is None
    with pytest.raises(RequestError) as caught:
        prove(record, listed, None, {1: "etag1", 2: "other", 3: "etag3"})
    assert (caught.value.code, caught.value.facts["parts"]) == ("part_mismatch", [[2, 2]])


def test_only_what_nobody_announced_is_measured() -> None:
    """A declared size is never replaced by what happens to be there, nor forgotten when an upload opens again."""
    record = record_of(20 * MIB, "none")
    assert measured(record, sent([1]), (), 10) is record
    assert unmeasured(record) == {}
    known = measured(unsized(), sent([5, 5]), (), 100)
    assert unmeasured(known) == {"size": 0, "size_known": False, "part_size": 0, "part_count": 0}
    assert unmeasured(unsized(mode="single")) == {}
