"""Promotion: slices tile the object; one copy whatever was lost; conditions that S3 checks."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import promotion, s3
from heavylift.errors import ContentError, TransientError
from heavylift.limits import COPY_OBJECT_MAX, OBJECT_SIZE_MAX, PART_COUNT_MAX, S3_PART_SIZE_MAX, S3_PART_SIZE_MIN
from heavylift.promotion import Journal, OutOfTime, Promotion, TargetConflict, already_done, plan_slices, promote
from tests.doubles.answers import refusal
from tests.doubles.gate import Call
from tests.doubles.s3 import crc32_base64
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


class Notes:
    """A journal that keeps what it is told; ``upload_id`` is what the next attempt would read."""

    def __init__(self, upload_id: str | None = None) -> None:
        self.upload_id = upload_id
        self.remembered: list[str] = []
        self.found: list[int] = []

    def remember(self, upload_id: str) -> None:
        self.remembered.append(upload_id)
        self.upload_id = upload_id or None

    @property
    def journal(self) -> Journal:
        return Journal(self.remember, self.found.append)


def go(work: Promotion, notes: Notes | None = None, seconds_left: Callable[[], float] = lambda: 100.0) -> s3.Head:
    notes = notes or Notes()
    return promote(work, notes.upload_id, notes.journal, seconds_left)


def copies(world: World) -> list[int]:
    return [call.arguments["PartNumber"] for call in world.gate.calls if call.operation == "upload_part_copy"]


@pytest.fixture
def one_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)


@pytest.mark.parametrize("size", [0, 1, 100, 101, 512])
def test_the_copy(world: World, size: int) -> None:
    """Same bytes, the detected type, a CRC-32 of the whole, marked as this source's copy."""
    work, notes = work_on(world, BODY[:size]), Notes()
    head = go(work, notes)
    made = world.s3.buckets[STORE]["files/t/F"]

    assert made.body == BODY[:size]
    assert made.media_type == "image/tiff"
    assert head.metadata == {"source-etag": work.source_etag, "source-size": str(size), "file-id": "F"}
    assert head.checksums["crc32"] == crc32_base64(BODY[:size])
    assert len(notes.remembered) == (1 if size > 100 else 0)
    assert go(work, notes) == head, "a second time it is recognised"
    assert go(work) == head, "also by an attempt that remembers nothing"
    assert world.s3.versions_made[STORE, "files/t/F"] == 1
    assert world.s3.uploads == {}


@pytest.mark.parametrize("size", [100, 512])
def test_a_changed_source(world: World, size: int) -> None:
    """S3 refuses the copy; nothing is stored, and no part of the old source is kept."""
    work, notes = work_on(world, BODY[:size]), Notes()
    world.s3.put_object(Bucket=STAGING, Key="in/t/F", Body=bytes(size))
    with pytest.raises(ContentError) as refused:
        go(work, notes)
    assert refused.value.code == "source_changed"
    world.s3.delete_object(Bucket=STAGING, Key="in/t/F")
    with pytest.raises(ContentError) as refused:
        go(work, notes)
    assert refused.value.code == "source_expired"
    assert world.s3.buckets[STORE] == {}
    assert world.s3.uploads == {}


@pytest.mark.parametrize("size", [0, 100, 512])
def test_an_occupied_target(world: World, size: int) -> None:
    """Other bytes, or the same ones of another source: a conflict, left as they are; a big file is not copied first."""
    work = work_on(world, BODY[:size])
    for body in (BODY[:size], b"other"):
        world.s3.put_object(Bucket=STORE, Key="files/t/F", Body=body)
        with pytest.raises(TargetConflict) as refused:
            go(work)
        assert refused.value.code == "target_conflict"
        assert world.s3.buckets[STORE]["files/t/F"].body == body
    assert copies(world) == []
    assert world.s3.uploads == {}


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "foreign"])
def test_a_target_that_appears_during_the_copy(world: World, ours: bool) -> None:
    """Found by the completion: a twin's copy of the same source is the work done; other bytes are a conflict."""
    work = work_on(world)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "complete_multipart_upload":
            world.gate.around = None
            metadata = dict(work.metadata) if ours else {}
            world.s3.put_object(Bucket=STORE, Key="files/t/F", Body=BODY, Metadata=metadata)
        return run()

    world.gate.restart(around)
    if ours:
        assert go(work).metadata == work.metadata
    else:
        with pytest.raises(TargetConflict):
            go(work)
    assert world.s3.versions_made[STORE, "files/t/F"] == 1
    assert world.s3.uploads == {}, "the loser's parts go at once"


def test_a_twin_that_completes_before_the_verdict(world: World) -> None:
    """The source is replaced, but a twin had all parts: its object is seen after the abort, and that is success."""
    work, notes = work_on(world), Notes()

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] == 3:
            world.gate.around = None
            go(work, Notes(notes.upload_id))  # the twin, at full speed
            world.s3.put_object(Bucket=STAGING, Key="in/t/F", Body=b"other")
        return run()

    world.gate.restart(around)
    assert go(work, notes).metadata == work.metadata
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


@pytest.mark.usefixtures("one_at_a_time")
def test_parts_that_are_there_are_not_copied_again(world: World) -> None:
    """The next attempt says how many parts it found, and copies the rest."""
    work, notes, copied = work_on(world), Notes(), copies
    with pytest.raises(OutOfTime) as late:
        go(work, notes, lambda: 1.0 if len(copied(world)) < 3 else 0.0)
    assert (late.value.parts_done, late.value.facts) == (3, {"parts_done": 3, "parts": 11})
    assert notes.found == []
    world.gate.restart()
    go(work, notes)
    assert copies(world) == [*range(4, 12)]
    assert notes.found == [3]
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


@pytest.mark.parametrize("strange", [1, 40], ids=["another length", "beyond the plan"])
def test_a_part_that_does_not_fit_the_plan(world: World, strange: int) -> None:
    """It counts for nothing: copied again, or left out."""
    work = work_on(world)
    upload = s3.create_multipart(
        STORE, "files/t/F", checksum="CRC32", checksum_type="FULL_OBJECT", metadata=dict(work.metadata)
    )
    s3.copy_part(STAGING, "in/t/F", work.source_etag, STORE, "files/t/F", upload, strange, 0, 10)
    notes = Notes(upload)
    with pytest.raises(OutOfTime) as late:
        go(work, notes, lambda: 0.0)
    assert late.value.parts_done == 0
    go(work, notes)
    assert notes.found == [0, 0]
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


def test_an_upload_that_is_gone_is_given_up_for_a_new_one(world: World) -> None:
    """Aborted by the bucket's rule between two attempts: copied anew at once."""
    work, notes = work_on(world), Notes("u-gone")
    go(work, notes)
    assert len(notes.remembered) == 1
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


def test_an_upload_that_goes_while_it_is_filled(world: World) -> None:
    """Forgotten, so that the next attempt starts anew."""
    work, notes = work_on(world), Notes()

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy":
            world.s3.uploads.clear()
        return run()

    world.gate.restart(around)
    with pytest.raises(TransientError):
        go(work, notes)
    world.gate.around = None
    assert notes.upload_id is None
    go(work, notes)
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY


def test_an_upload_that_nobody_remembers_is_aborted(world: World) -> None:
    """Whoever took the lease over in between does not know of it: it goes before the attempt ends."""
    work = work_on(world)

    def refuse(upload_id: str) -> None:
        assert upload_id in world.s3.uploads
        raise TransientError("record_changed", "somebody else")

    with pytest.raises(TransientError):
        promote(work, None, Journal(refuse, lambda parts: None), lambda: 100.0)
    assert world.s3.uploads == {}
    assert copies(world) == []


@pytest.mark.parametrize(("code", "status"), [("InvalidPart", 400), ("ConditionalRequestConflict", 409)])
def test_a_completion_that_s3_refuses(world: World, code: str, status: int) -> None:
    """A twin got in between: the next attempt lists the parts anew, or begins anew where S3's manual says so."""
    work, notes = work_on(world), Notes()

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "complete_multipart_upload":
            world.gate.around = None
            raise refusal(code, status, "CompleteMultipartUpload")
        return run()

    world.gate.restart(around)
    with pytest.raises(TransientError):
        go(work, notes)
    assert (notes.upload_id is None) == (code == "ConditionalRequestConflict")
    assert len(world.s3.uploads) == (0 if notes.upload_id is None else 1)
    go(work, notes)
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY
    assert world.s3.versions_made[STORE, "files/t/F"] == 1


def test_parts_that_outlive_their_abort_are_no_verdict_yet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict waits for an attempt that leaves nothing."""
    work, notes = work_on(world), Notes()
    world.s3.put_object(Bucket=STAGING, Key="in/t/F", Body=b"other")
    monkeypatch.setattr(s3, "abort_multipart", lambda *_: False)
    with pytest.raises(TransientError):
        go(work, notes)


def test_nothing_there_yet(world: World) -> None:
    """already_done of an empty place is None."""
    assert already_done(work_on(world)) is None


@pytest.mark.usefixtures("one_at_a_time")
def test_one_failing_part_does_not_start_the_rest(world: World) -> None:
    """When a part copy fails, those that wait are not begun."""
    work = work_on(world)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] == 2:
            raise refusal("SlowDown", 503, "UploadPartCopy")
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] > 2:
            threading.Event().wait(0.02)
        return run()

    world.gate.around = around
    with pytest.raises(TransientError):
        go(work)
    assert len(copies(world)) < 11


@pytest.mark.parametrize("size", [0, 100, 512])
def test_nothing_begins_without_time(world: World, size: int) -> None:
    """Neither a copy nor a completion."""
    with pytest.raises(OutOfTime):
        go(work_on(world, BODY[:size]), seconds_left=lambda: 0.0)
    assert copies(world) == []
    assert world.s3.buckets[STORE] == {}


def test_a_completion_waits_for_the_next_slice(world: World) -> None:
    """All parts are there, the time is over: the next slice only joins."""
    work, notes = work_on(world), Notes()
    with pytest.raises(OutOfTime) as late:
        go(work, notes, lambda: 1.0 if len(copies(world)) < 11 else 0.0)
    assert late.value.parts_done <= 11
    world.gate.restart()
    go(work, notes)
    assert len(copies(world)) == 11 - late.value.parts_done


@pytest.mark.usefixtures("one_at_a_time")
def test_no_copy_begins_that_would_not_end_in_time(world: World) -> None:
    """The slowest copy so far is the measure."""
    work, notes = work_on(world), Notes()
    end = time.monotonic() + 0.5

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy":
            threading.Event().wait(0.3)
        return run()

    world.gate.restart(around)
    with pytest.raises(OutOfTime) as late:
        go(work, notes, lambda: end - time.monotonic())
    assert late.value.parts_done == len(copies(world)) <= 1


@pytest.mark.parametrize("stuck", ["upload_part_copy", "complete_multipart_upload"])
def test_what_s3_does_not_answer_is_not_waited_for(world: World, stuck: str) -> None:
    """At the deadline the slice ends; when S3 has done it after all, the next one sees that."""
    work, notes = work_on(world), Notes()
    end = time.monotonic() + 0.3
    answer_now = threading.Event()

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == stuck:
            assert answer_now.wait(60)
        return run()

    world.gate.restart(around)
    with pytest.raises(TransientError) as late:
        go(work, notes, lambda: end - time.monotonic())
    assert late.value.code == "aws_unavailable", "it is given time: no slice that stood still"
    assert world.s3.buckets[STORE] == {}
    answer_now.set()
    for thread in threading.enumerate():
        if thread.name.startswith(("copy", "join")):
            thread.join()
    world.gate.restart()
    go(work, notes)
    assert copies(world) == [], "all that was under way has come to its end"
    assert world.s3.buckets[STORE]["files/t/F"].body == BODY
    assert world.s3.versions_made[STORE, "files/t/F"] == 1
