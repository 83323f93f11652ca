"""Assembly: what is proof that the listed parts are the whole file."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.assembly import composite, prove
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
