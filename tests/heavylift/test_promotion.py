"""Promotion: slices tile the object; one copy whatever was lost; conditions that S3 checks."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import promotion, s3
from heavylift.errors import ContentError, TransientError
from heavylift.limits import COPY_OBJECT_MAX, OBJECT_SIZE_MAX, PART_COUNT_MAX, S3_PART_SIZE_MAX, S3_PART_SIZE_MIN
from heavylift.promotion import Promotion, TargetConflict, already_done, plan_slices, promote
from tests.doubles.world import STAGING, STORE, World


@given(st.one_of(st.integers(COPY_OBJECT_MAX + 1, OBJECT_SIZE_MAX), st.integers(COPY_OBJECT_MAX + 1, 10**10)))
def test_slices_tile_the_object(size: int) -> None:
    """Numbered from 1, no gap, no overlap, equal but the last, within S3's limits."""
    slices = plan_slices(size)

    assert [piece.number for piece in slices] == list(range(1, len(slices) + 1))
    assert slices[0].offset == 0
    assert all(a.offset + a.length == b.offset for a, b in itertools.pairwise(slices))
    assert slices[-1].offset + slices[-1].length == size
    assert len(slices) <= PART_COUNT_MAX
    assert {piece.length for piece in slices[:-1]} <= {slices[0].length}
    assert 1 <= slices[-1].length <= slices[0].length <= S3_PART_SIZE_MAX
    assert len(slices) == 1 or slices[0].length >= S3_PART_SIZE_MIN


BODY = bytes(range(256)) * 2


def work_on(world: World, body: bytes = BODY) -> Promotion:
    made = world.s3.put_object(Bucket=STAGING, Key="in/t/F", Body=body)
    return Promotion(STAGING, "in/t/F", made["ETag"].strip('"'), len(body), STORE, "files/t/F", "image/tiff", "F")


def go(work: Promotion, upload_id: str | None = None, seconds: float = 100) -> tuple[s3.Head, list[str]]:
    remembered: list[str] = []
    return promote(work, upload_id, remembered.append, lambda: seconds), remembered


@pytest.mark.parametrize("size", [0, 1, 100, 101, 512])
def test_the_copy(world: World, size: int) -> None:
    """Same bytes, the detected type, a CRC-32 of the whole, marked as this source's copy."""
    work = work_on(world, BODY[:size])
    head, remembered = go(work)
    made = world.s3.buckets[STORE]["files/t/F"]

    assert made.body == BODY[:size]
    assert made.media_type == "image/tiff"
    assert head.metadata == {"source-etag": work.source_etag, "source-size": str(size), "file-id": "F"}
    assert head.checksums["crc32"]
    assert len(remembered) == (1 if size > 100 else 0)
    assert go(work)[0] == head, "a second time it is recognised"
    assert world.s3.versions_made[STORE, "files/t/F"] == 1


@pytest.mark.parametrize("size", [100, 512])
def test_a_changed_source(world: World, size: int) -> None:
    """S3 refuses the copy; nothing is stored."""
    work = work_on(world, BODY[:size])
    world.s3.put_object(Bucket=STAGING, Key="in/t/F", Body=bytes(size))
    with pytest.raises(ContentError) as refused:
        go(work)
    assert refused.value.code == "source_changed"
    world.s3.delete_object(Bucket=STAGING, Key="in/t/F")
    with pytest.raises(ContentError) as refused:
        go(work)
    assert refused.value.code == "source_expired"
    assert world.s3.buckets[STORE] == {}


@pytest.mark.parametrize("size", [0, 100, 512])
def test_an_occupied_target(world: World, size: int) -> None:
    """Other bytes, or the same ones of another source: a conflict, left as they are."""
    work = work_on(world, BODY[:size])
    for body in (BODY[:size], b"other"):
        world.s3.put_object(Bucket=STORE, Key="files/t/F", Body=body)
        with pytest.raises(TargetConflict) as refused:
            go(work)
        assert refused.value.code == "target_conflict"
        assert world.s3.buckets[STORE]["files/t/F"].body == body


def test_parts_that_are_there_are_not_copied_again(world: World) -> None:
    """The next attempt lists the remembered upload and copies the rest."""
    work = work_on(world)
    allowed = iter([1.0, 1.0, 1.0])
    promotion_parallel, promotion.COPY_PARALLEL = promotion.COPY_PARALLEL, 1
    remembered: list[str] = []
    try:
        with pytest.raises(promotion.OutOfTime) as late:
            promote(work, None, remembered.append, lambda: next(allowed, 0.0))
        assert (late.value.parts_done, late.value.facts) == (3, {"parts_done": 3, "parts": 11})
        world.gate.restart()
        go(work, remembered[0])
    finally:
        promotion.COPY_PARALLEL = promotion_parallel
    assert [c.arguments["PartNumber"] for c in world.gate.calls if c.operation == "upload_part_copy"] == [*range(4, 12)]
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


def test_a_part_of_another_length_is_copied_again(world: World) -> None:
    """A remembered upload whose part does not fit the plan is put right."""
    work = work_on(world)
    upload = s3.create_multipart(
        STORE, "files/t/F", checksum="CRC32", checksum_type="FULL_OBJECT", metadata=dict(work.metadata)
    )
    s3.copy_part(STAGING, "in/t/F", work.source_etag, STORE, "files/t/F", upload, 1, 0, 10)
    go(work, upload)
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


def test_an_upload_that_is_gone_is_forgotten(world: World) -> None:
    """Aborted by the bucket's rule: the record forgets it, the next attempt starts anew."""
    work = work_on(world)
    remembered: list[str] = []
    with pytest.raises(TransientError):
        promote(work, "u-gone", remembered.append, lambda: 100.0)
    assert remembered == [""]
    go(work, None)
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


def test_nothing_there_yet(world: World) -> None:
    """already_done of an empty place is None."""
    assert already_done(work_on(world)) is None


def test_one_slow_part_does_not_start_the_rest(world: World) -> None:
    """When a part copy fails, those that wait are not begun."""
    from tests.doubles.answers import refusal

    work = work_on(world)
    promotion_parallel, promotion.COPY_PARALLEL = promotion.COPY_PARALLEL, 1

    def around(call: Any, run: Any) -> Any:
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] == 2:
            raise refusal("SlowDown", 503, "UploadPartCopy")
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] > 2:
            threading.Event().wait(0.02)
        return run()

    world.gate.around = around
    try:
        with pytest.raises(TransientError):
            go(work)
    finally:
        promotion.COPY_PARALLEL = promotion_parallel
    numbers = [c.arguments["PartNumber"] for c in world.gate.calls if c.operation == "upload_part_copy"]
    assert len(numbers) < 11
