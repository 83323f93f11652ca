"""Promotion, disturbed at each of its calls: the fresh object is the validated one, once, or there is a verdict.

The judge is a model of its own: the bytes that were proven, zlib's CRC-32 over them, and what the store holds.
"""

from __future__ import annotations

import base64
import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from heavylift import keys, promotion
from heavylift.limits import ATTEMPTS_MAX
from heavylift.records import FileRecord
from tests.doubles.answers import refusal
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed
from tests.doubles.samples import EMPTY, TEXT, Sample
from tests.doubles.world import STAGING, STORE, World
from tests.faults.test_races import each_call, staged, take, twin_of

Worlds = Callable[[], World]
LONG = Sample("long.txt", b"seven parts of fifty bytes each, but for the last\n" * 7, served=False)
OTHER = b"not what was proven\n"
SIZES = pytest.mark.parametrize("sample", [EMPTY, TEXT, LONG], ids=["no bytes", "one copy", "parts"])
MOMENTS = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


def proven(world: World, sample: Sample) -> str:
    """A file in staging whose bytes the record knows, single PUTs too."""
    file_id = staged(world, sample)
    assert world.complete(file_id)[0] == 200
    return file_id


def key_of(file_id: str) -> str:
    return keys.store("acme", file_id)


def replace(world: World, file_id: str, body: bytes = OTHER) -> None:
    world.s3.put_object(Bucket=STAGING, Key=world.record(file_id).key, Body=body)


def work_once(world: World, _: str) -> None:
    """The worker of one message; what it raises costs it its message for a while, as everywhere."""
    world.deliver(take(world))


def settle(world: World) -> None:
    """Everything that comes by itself has come, and the sweeper ran once after it."""
    world.sweep_until_quiet()
    world.clock.advance(3_600)
    world.sweep()


def judge(world: World, file_id: str, data: bytes) -> FileRecord:
    """The end state, whatever it is, holds together."""
    settle(world)
    record, made = world.record(file_id), world.s3.buckets[STORE].get(key_of(file_id))
    failure = record.failure or {}
    if record.status.value == "completed":
        assert made is not None
        assert made.body == data
        assert world.s3.versions_made[STORE, key_of(file_id)] == 1
        assert record.checksums["crc32"] == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        assert record.store_etag == made.etag
        assert world.s3.buckets[STAGING] == {}
    elif record.status.value == "rejected":
        assert failure["code"] in {"source_changed", "source_expired"}
        assert made is None
        assert failure["retryable"] is (failure["code"] == "source_changed")
    else:
        assert (record.status.value, failure["code"], failure["retryable"]) == ("failed", "target_conflict", False)
        assert made is not None
        assert world.s3.versions_made[STORE, key_of(file_id)] == 1
    assert (record.store_upload_id, record.progress) == (None, 0)
    nothing_open(world)
    return record


def nothing_open(world: World) -> None:
    assert world.s3.uploads == {}


@MOMENTS
@pytest.mark.parametrize("how", ["replaced", "deleted"])
@SIZES
def test_the_source_goes_at_any_call(worlds: Worlds, sample: Sample, how: str, after: bool) -> None:
    """The proven bytes or a verdict; after `source_changed` a retry takes what lies there now, proven anew."""
    ended: set[str] = set()

    def disturb(world: World, file_id: str) -> None:
        if how == "replaced":
            replace(world, file_id)
        else:
            world.s3.buckets[STAGING].pop(world.record(file_id).key, None)

    def check(world: World, file_id: str) -> None:
        record = judge(world, file_id, sample.data)
        ended.add((record.failure or {}).get("code", record.status.value))
        if record.status.value != "rejected":
            return
        status, body = world.retry(file_id)
        if how == "deleted":
            assert (status, body["code"]) == (410, "source_expired")
            return
        assert status == 202
        assert world.record(file_id).checksums["sha256_proven"] is False, "nothing is said of the new bytes"
        settle(world)
        # They are looked at as they are: here they have not the size that was announced.
        assert (world.record(file_id).failure or {})["code"] == "size_mismatch"
        assert world.s3.buckets[STORE] == {}
        nothing_open(world)

    each_call(worlds, lambda world: proven(world, sample), work_once, disturb, check, after=after, least=7)
    assert ended == {"completed", "source_changed" if how == "replaced" else "source_expired"} | (
        {"source_changed"} if how == "deleted" and sample is not EMPTY else set()
    )


@pytest.mark.parametrize("begun", [False, True], ids=["validated", "half copied"])
@pytest.mark.parametrize("cleared", [True, False], ids=["", "killed before the old upload was forgotten"])
def test_a_retry_with_other_bytes_of_the_same_size(world: World, begun: bool, cleared: bool) -> None:
    """The file is then what lies there; no part of the old source is ever joined with the new one's."""
    file_id = proven(world, LONG)
    new = LONG.data[::-1].strip() + b"\n"
    stop_at = 4 if begun else 1

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] == stop_at:
            replace(world, file_id, new)
        return run()

    world.gate.restart(around)
    world.pump()
    world.gate.around = None
    assert (world.record(file_id).failure or {})["code"] == "source_changed"
    if not cleared:
        upload = world.s3.create_multipart_upload(
            Bucket=STORE, Key=key_of(file_id), ContentType="text/plain", Metadata={}, ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )["UploadId"]  # fmt: skip
        for number in range(1, 5):
            world.s3.upload_part(Bucket=STORE, Key=key_of(file_id), UploadId=upload, PartNumber=number, Body=b"o" * 50)
        world.set(file_id, store_upload_id=upload, progress=4)
    assert world.retry(file_id)[0] == 202
    world.pump()
    record = world.record(file_id)
    assert record.status.value == "completed"
    assert world.s3.buckets[STORE][key_of(file_id)].body == new
    assert record.checksums["crc32"] == base64.b64encode(zlib.crc32(new).to_bytes(4, "big")).decode()
    assert "sha256_composite" not in record.checksums, "the proof was of other bytes"


@MOMENTS
@pytest.mark.parametrize("ours", [True, False], ids=["our copy", "foreign"])
@SIZES
def test_a_target_that_appears_at_any_call(worlds: Worlds, sample: Sample, ours: bool, after: bool) -> None:
    """Our own copy of the same source is the work done; the same bytes of anybody else are a conflict."""
    ended: set[str] = set()

    def disturb(world: World, file_id: str) -> None:
        record, key = world.record(file_id), key_of(file_id)
        if key in world.s3.buckets[STORE]:
            return
        mark = {"source-etag": record.etag or "", "source-size": str(record.size), "file-id": file_id}
        world.s3.put_object(
            Bucket=STORE, Key=key, Body=sample.data, Metadata=mark if ours else {}, ChecksumAlgorithm="CRC32"
        )

    def check(world: World, file_id: str) -> None:
        record = judge(world, file_id, sample.data)
        ended.add(record.status.value)
        if record.status.value == "failed":
            assert world.retry(file_id)[0] == 202, "harmless: it can only meet the same conflict"
            assert judge(world, file_id, sample.data).status.value == "failed"
            world.s3.buckets[STORE].pop(key_of(file_id))  # an operator put it aside
            world.s3.versions_made.clear()
            assert world.retry(file_id)[0] == 202
            assert judge(world, file_id, sample.data).status.value == "completed"

    each_call(worlds, lambda world: proven(world, sample), work_once, disturb, check, after=after, least=7)
    assert ended == ({"completed"} if ours else {"completed", "failed"})


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda one: one.__name__)
def test_any_call_killed_or_its_answer_lost(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Completed, as if nothing had been (the smaller sizes: test_kills.py)."""
    world = worlds()
    proven(world, LONG)
    world.gate.restart()
    world.pump()
    for number in range(1, len(world.gate.calls) + 1):
        world = worlds()
        file_id = proven(world, LONG)
        world.gate.restart(disturb(number))
        world.pump()
        world.gate.around = None
        assert judge(world, file_id, LONG.data).status.value == "completed"


@pytest.mark.parametrize("source", ["kept", "replaced"])
@MOMENTS
@SIZES
def test_a_worker_that_was_stopped_past_its_lease(worlds: Worlds, sample: Sample, source: str, after: bool) -> None:
    """Another takes over at any of its calls, also over a source that was replaced; then the first one wakes."""

    def second(world: World, file_id: str) -> None:
        world.clock.advance(400)  # a lease is 330 s
        if source == "replaced":
            replace(world, file_id)
        message = next(one for one in world.queues.messages if one.queue == "validate")
        world.deliver(twin_of(world, message))

    ended: set[str] = set()

    def check(world: World, file_id: str) -> None:
        ended.add(judge(world, file_id, sample.data).status.value)

    each_call(worlds, lambda world: proven(world, sample), work_once, second, check, after=after, least=7)
    assert ended == ({"completed", "rejected"} if source == "replaced" else {"completed"})


def go_on_under(world: World, file_id: str, around: Around) -> None:
    """Deliver, sweep and wait until the file has ended, with ``around`` in force for every invocation."""
    for _ in range(60):
        world.announce()
        message = world.queues.receive()
        if message is not None:
            world.gate.around = around
            with contextlib.suppress(Killed):
                world.deliver(message)
            world.gate.around = None
        elif world.record(file_id).final:
            return
        else:
            waiting = [one.visible_at for one in world.queues.messages]
            world.clock.now = max(world.clock.now + 1, min([*waiting, world.clock.now + 3_000]))
            world.sweep()
    raise AssertionError(world.record(file_id))


@pytest.mark.parametrize("how", ["killed", "answer lost", "refused"])
def test_attempts_that_get_further_are_not_counted(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Cut off after each single part, six times: completed, never failed, and no part is copied again."""
    monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)
    file_id = proven(world, LONG)
    copied: list[int] = []
    attempts: list[int] = []
    in_this_attempt = 0

    def around(call: Call, run: Callable[[], Any]) -> Any:
        nonlocal in_this_attempt
        if call.operation in {"create_multipart_upload", "list_parts"}:
            in_this_attempt = 0
        if call.operation != "upload_part_copy":
            return run()
        if in_this_attempt == 1 and how == "killed":
            raise Killed("in the middle")
        if in_this_attempt == 1 and how == "refused":
            raise refusal("SlowDown", 503, "UploadPartCopy")
        in_this_attempt += 1
        copied.append(call.arguments["PartNumber"])
        attempts.append(world.record(file_id).attempt)
        answer = run()
        if how == "answer lost" and len(copied) < 7:
            raise refusal("RequestTimeout", 400, "UploadPartCopy")
        return answer

    go_on_under(world, file_id, around)
    assert copied == list(range(1, 8))
    assert set(attempts) == {1}
    assert judge(world, file_id, LONG.data).status.value == "completed"


@pytest.mark.parametrize("how", ["killed", "refused"])
def test_five_attempts_without_progress_are_the_end(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Failed, retryable, nothing left in the store; a retry begins anew and mends."""
    monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)
    file_id = proven(world, LONG)
    tries: list[int] = []

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy" and call.arguments["PartNumber"] == 4:
            tries.append(world.record(file_id).attempt)
            if how == "refused":
                raise refusal("SlowDown", 503, "UploadPartCopy")
            raise Killed("always here")
        return run()

    go_on_under(world, file_id, around)
    record = world.record(file_id)
    # Three parts were found by the second attempt: that was progress, and from there five are counted.
    assert tries == [1, 1, 2, 3, 4, ATTEMPTS_MAX]
    assert (record.status.value, (record.failure or {})["stage"]) == ("failed", "validate")
    assert (record.failure or {})["retryable"] is True
    settle(world)
    nothing_open(world)
    assert world.retry(file_id)[0] == 202
    assert judge(world, file_id, LONG.data).status.value == "completed"


def test_the_table_is_written_a_constant_number_of_times(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of parts; a slice more is two writes more, the lease and its end."""
    monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)

    def writes(part_size: int, slices: int) -> int:
        world = worlds()
        monkeypatch.setattr(promotion, "COPY_PART_SIZE", part_size)
        monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)
        file_id = proven(world, LONG)
        parts = len(promotion.plan_slices(len(LONG.data)))
        copied = 0

        def around(call: Call, run: Callable[[], Any]) -> Any:
            nonlocal copied
            answer = run()
            if call.operation == "list_parts":
                world.context_left = None
            if call.operation == "upload_part_copy":
                copied += 1
                world.context_left = 0.0 if copied % -(-parts // slices) == 0 and copied < parts else None
            return answer

        world.gate.restart(around)
        world.pump()
        world.gate.around = None
        updates = sum(call.operation == "update_item" for call in world.gate.calls)
        sent = sum(call.operation == "send_message" for call in world.gate.calls)
        assert sent == slices - 1
        assert judge(world, file_id, LONG.data).status.value == "completed"
        return updates

    once = writes(50, 1)
    assert writes(5, 1) == once
    assert writes(5, 7) == once + 2 * 6
