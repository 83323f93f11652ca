"""Two at once: another worker, a cancel, an early event or another client, at each AWS call of the first in turn.

The second runs to its end inside the first one's call, so every interleaving of the two at a call is tried, in one
thread and in the same order each time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from heavylift import keys
from tests.doubles.gate import Around, Call, Killed
from tests.doubles.queues import Message
from tests.doubles.samples import EMPTY, PICTURE, SAMPLES, SMALL_PICTURE, TEXT, Sample
from tests.doubles.world import DERIVED, STAGING, STORE, World

Worlds = Callable[[], World]
by_name = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
PICTURES = pytest.mark.parametrize("sample", [PICTURE, SMALL_PICTURE], ids=lambda sample: sample.name)


def once_at(world: World, number: int, act: Callable[[], object], *, after: bool = False) -> Around:
    """``act`` runs undisturbed just before (or just after) call ``number`` of whoever is calling now."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number != number:
            return run()
        world.gate.around = None
        if not after:
            act()
            return run()
        try:
            return run()
        finally:
            act()

    return around


def staged(world: World, sample: Sample) -> str:
    file_id = world.initiate(sample.name, sample.data)
    world.put(file_id, sample.data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    return file_id


def take(world: World) -> Message:
    world.announce()
    message = world.queues.receive()
    assert message is not None
    return message


def twin_of(world: World, message: Message) -> Message:
    """The same event once more, as another message, received now."""
    world.queues.send_message(QueueUrl=f"https://sqs/{message.queue}", MessageBody=message.body)
    twin = world.queues.messages[-1]
    twin.receive_count, twin.visible_at = 1, world.clock.now + 10_000
    return twin


def each_call(
    worlds: Worlds,
    prepare: Callable[[World], str],
    act: Callable[[World, str], object],
    disturb: Callable[[World, str], object],
    check: Callable[[World, str], object],
    *,
    after: bool = False,
    least: int = 3,
) -> None:
    """Run ``act`` once for each of its calls, with ``disturb`` at that call, and ``check`` what came of it."""
    world = worlds()
    file_id = prepare(world)
    world.gate.restart()
    act(world, file_id)
    total = len(world.gate.calls)
    assert total >= least
    for number in range(1, total + 1):
        world = worlds()
        file_id = prepare(world)
        world.gate.restart(once_at(world, number, lambda w=world, f=file_id: disturb(w, f), after=after))
        act(world, file_id)
        world.gate.around = None
        check(world, file_id)


@pytest.mark.parametrize("lease", ["lapsed", "live"])
@by_name
def test_two_workers_on_one_file(worlds: Worlds, sample: Sample, lease: str) -> None:
    """A second message for the same file, while the first worker stands still within or past its lease."""

    def first(world: World, _: str) -> None:
        message = take(world)
        assert message.queue == "validate"
        assert world.deliver(message), "a worker that lost its lease acknowledges"

    def second(world: World, _: str) -> None:
        if lease == "lapsed":
            world.clock.advance(400)  # a lease is 330 s
        message = next(m for m in world.queues.messages if m.queue == "validate")
        assert world.deliver(twin_of(world, message))

    def check(world: World, file_id: str) -> None:
        world.pump()
        world.check_stored(file_id, sample.data, orphan_uploads=1)
        assert len(world.record(file_id).thumbnails) == (3 if sample.served else 0)

    each_call(worlds, lambda world: staged(world, sample), first, second, check, least=8)


@pytest.mark.parametrize("lease", ["lapsed", "live"])
@PICTURES
def test_two_workers_on_one_thumbnail(worlds: Worlds, sample: Sample, lease: str) -> None:
    """The fence decides: one of two sets of pictures stays, the record points at it, the other set is removed."""

    def prepare(world: World) -> str:
        file_id = staged(world, sample)
        assert world.deliver(take(world))
        assert world.status(file_id) == "fresh"
        return file_id

    def first(world: World, _: str) -> None:
        message = take(world)
        assert message.queue == "thumbnail"
        assert world.deliver(message)

    def second(world: World, _: str) -> None:
        if lease == "lapsed":
            world.clock.advance(1000)  # a lease is 930 s
        message = next(m for m in world.queues.messages if m.queue == "thumbnail")
        assert world.deliver(twin_of(world, message))

    def check(world: World, file_id: str) -> None:
        world.pump()
        world.check_stored(file_id, sample.data)
        there = {key for key in world.s3.buckets[DERIVED] if key.startswith("thumbnails/")}
        assert there == {picture["key"] for picture in world.record(file_id).thumbnails}
        assert len(there) == 3

    each_call(worlds, prepare, first, second, check)


@by_name
def test_a_cancel_at_any_moment(worlds: Worlds, sample: Sample) -> None:
    """A cancel while the file is validated wins, or comes too late; what a worker made meanwhile goes with a sweep."""
    answers: set[int] = set()

    def act(world: World, _: str) -> None:
        assert world.deliver(take(world))

    def cancel(world: World, file_id: str) -> None:
        answers.add(world.cancel(file_id)[0])

    def check(world: World, file_id: str) -> None:
        world.pump()
        if world.status(file_id) == "cancelled":
            world.clock.advance(3_601)
            world.sweep()
            assert world.s3.uploads == {}
            assert world.s3.buckets[STORE] == {}
            assert world.s3.versions == {}
            assert world.s3.buckets[STAGING] == {}
            assert not any(key.startswith("thumbnails/") for key in world.s3.buckets[DERIVED])
        else:
            world.check_stored(file_id, sample.data)

    each_call(worlds, lambda world: staged(world, sample), act, cancel, check, least=8)
    assert answers == {200, 409}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_cancel_while_the_parts_are_joined(worlds: Worlds, after: bool) -> None:
    """complete and cancel at the same moment: cancelled, nothing left, and complete says so with a 409."""
    answers: list[tuple[int, dict[str, Any]]] = []

    def prepare(world: World) -> str:
        file_id = world.initiate(PICTURE.name, PICTURE.data)
        world.put(file_id, PICTURE.data)
        return file_id

    def act(world: World, file_id: str) -> None:
        answers.append(world.complete(file_id))

    def check(world: World, file_id: str) -> None:
        world.pump()
        assert world.status(file_id) == "cancelled"
        assert world.s3.uploads == {}
        assert world.s3.buckets[STAGING] == {}
        assert world.s3.buckets[STORE] == {}
        status, body = answers[-1]
        # 503: the parts went away between two of its calls; asked again it is the 409.
        assert (status, body.get("code")) in {
            (409, "state_conflict"),
            (503, "aws_unavailable"),
            (410, "upload_expired"),
        } or (status == 200 and after), body
        if status == 503:
            assert world.complete(file_id)[1]["code"] == "state_conflict"

    each_call(worlds, prepare, act, lambda world, file_id: world.cancel(file_id), check, after=after)
    assert (409, "state_conflict") in {(status, body.get("code")) for status, body in answers}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_eight_clients_complete_one_upload(worlds: Worlds, after: bool) -> None:
    """Seven more callers at any call of the first: one object; whoever got a 202 asks again and gets the same 200."""
    answers: list[tuple[int, dict[str, Any]]] = []

    def prepare(world: World) -> str:
        file_id = world.initiate(PICTURE.name, PICTURE.data)
        world.put(file_id, PICTURE.data)
        answers.clear()
        return file_id

    def act(world: World, file_id: str) -> None:
        answers.append(world.complete(file_id))

    def others(world: World, file_id: str) -> None:
        answers.extend(world.complete(file_id) for _ in range(7))

    def check(world: World, file_id: str) -> None:
        assert {status for status, _ in answers} <= {200, 202}
        final = [world.complete(file_id) if status == 202 else (status, body) for status, body in answers]
        assert all(one == final[0] for one in final)
        assert final[0][0] == 200
        assert world.s3.versions_made[STAGING, keys.staging("in", "acme", file_id)] == 1
        world.pump()
        world.check_stored(file_id, PICTURE.data)

    each_call(worlds, prepare, act, others, check, after=after)


@by_name
def test_the_stores_event_beats_the_commit(worlds: Worlds, sample: Sample) -> None:
    """Every event is delivered the moment that its object appears: thumbnail then makes validate's last step itself."""
    beaten: set[str] = set()

    def act(world: World, _: str) -> None:
        assert world.deliver(take(world))

    def early(world: World, file_id: str) -> None:
        world.announce()
        for message in [m for m in world.queues.messages if m.queue == "thumbnail"]:
            message.receive_count = 1
            assert world.deliver(message)
            beaten.add(world.status(file_id))

    def check(world: World, file_id: str) -> None:
        world.pump()
        world.check_stored(file_id, sample.data)
        assert len(world.record(file_id).thumbnails) == (3 if sample.served else 0)

    each_call(worlds, lambda world: staged(world, sample), act, early, check, after=True, least=8)
    assert beaten == {"completed"}


@by_name
@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "reversed"])
def test_events_that_repeat_and_overtake(world: World, sample: Sample, copies: int, reverse: bool) -> None:
    """Every event three times, the newest first: the same final state and objects as with one each."""
    ids = {}
    for number in range(3):
        data = sample.data + (b"" if sample is EMPTY else bytes(number))
        ids[staged(world, Sample(sample.name, data, sample.served))] = data
    world.pump(copies=copies, reverse=reverse)
    world.pump(copies=copies, reverse=reverse)
    assert world.s3.buckets[STAGING] == {}
    for file_id, data in ids.items():
        record = world.record(file_id)
        assert record.status.value == "completed"
        assert world.s3.buckets[STORE][keys.store("acme", file_id)].body == data
        assert world.s3.versions_made[STORE, keys.store("acme", file_id)] == 1
        assert len(record.thumbnails) == (3 if sample.served else 0)
    assert len(world.s3.buckets[STORE]) == 3
    pictures = [key for key in world.s3.buckets[DERIVED] if key.startswith("thumbnails/")]
    assert len(pictures) == (9 if sample.served else 0)


def test_an_event_long_after_the_end_reads_the_record_only(world: World) -> None:
    """A repeated store event of a completed picture costs reads of the record and nothing else."""
    file_id = staged(world, PICTURE)
    world.pump()
    before = world.record(file_id)
    made = world.s3.buckets[STORE][keys.store("acme", file_id)]
    world.queues.send_message(
        QueueUrl="https://sqs/thumbnail", MessageBody=world.event_body(STORE, keys.store("acme", file_id), made)
    )
    world.gate.restart()
    world.pump()
    assert {call.operation for call in world.gate.calls} == {"get_item"}
    assert world.record(file_id) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@by_name
def test_bytes_that_change_under_the_worker(worlds: Worlds, sample: Sample, after: bool) -> None:
    """The staging object is replaced at any call: the store gets the proven bytes or nothing, never the new ones."""
    ended: set[str] = set()

    def proven(world: World) -> str:
        file_id = staged(world, sample)
        assert world.complete(file_id)[0] == 200  # a single PUT too: from now on the record knows its bytes
        return file_id

    def act(world: World, _: str) -> None:
        world.deliver(take(world))

    def replace(world: World, file_id: str) -> None:
        other = bytes(reversed(sample.data)) + (b"!" if sample is EMPTY else b"")
        world.s3.put_object(Bucket=STAGING, Key=keys.staging("in", "acme", file_id), Body=other)

    def check(world: World, file_id: str) -> None:
        world.s3.created[:] = [one for one in world.s3.created if one[0] != STAGING]
        world.pump()
        record = world.record(file_id)
        ended.add(record.status.value)
        for made in world.s3.buckets[STORE].values():
            assert made.body == sample.data
        if record.status.value == "rejected":
            assert record.failure is not None
            assert record.failure["code"] == "source_changed"
            assert world.s3.buckets[STORE] == {}

    each_call(worlds, proven, act, replace, check, after=after, least=7)
    assert ended == {"rejected", "completed"}


def test_a_source_that_vanishes_is_source_expired(world: World) -> None:
    """The object is gone from staging before validate comes: a verdict, not a crash; retry answers 410."""
    file_id = staged(world, PICTURE)
    world.s3.buckets[STAGING].clear()
    world.pump()
    record = world.record(file_id)
    assert (record.status.value, (record.failure or {})["code"]) == ("rejected", "source_expired")
    assert world.retry(file_id)[0] == 410


def test_a_target_with_other_bytes_is_a_conflict(world: World) -> None:
    """What stands under the store's key and is not this source's copy is never replaced: failed, target_conflict."""
    for sample in (TEXT, PICTURE):
        file_id = staged(world, sample)
        key = keys.store("acme", file_id)
        world.s3.put_object(Bucket=STORE, Key=key, Body=sample.data)  # even the same bytes, if not our copy
        world.pump()
        record = world.record(file_id)
        assert (record.status.value, (record.failure or {})["code"]) == ("failed", "target_conflict")
        assert (record.failure or {})["stage"] == "validate"
        assert world.s3.versions_made[STORE, key] == 1
        # Somebody puts it right; retry mends.
        del world.s3.buckets[STORE][key]
        assert world.retry(file_id)[0] == 202
        world.pump()
        assert world.status(file_id) == "completed"
        assert world.s3.buckets[STORE][key].metadata["file-id"] == file_id


@pytest.mark.parametrize("stage", ["validate", "thumbnail"])
@pytest.mark.parametrize("how", ["crash", "killed", "transient"])
def test_five_attempts_then_failed_and_retry_mends(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str, how: str
) -> None:
    """Whatever breaks an attempt, the fifth is the last: dead-letter queue, failed with its stage; retry mends it."""
    from heavylift import thumbnailing, validation
    from heavylift.errors import TransientError

    broken = {"now": True, "times": 0}
    module, name = (validation, "detect") if stage == "validate" else (thumbnailing, "make_thumbnails")
    whole = getattr(module, name)

    def breaks(*given: Any, **more: Any) -> Any:
        if not broken["now"]:
            return whole(*given, **more)
        broken["times"] += 1
        if how == "transient":
            raise TransientError("out_of_memory", "The child was killed.")
        raise Killed("now") if how == "killed" else ZeroDivisionError("ours")

    monkeypatch.setattr(module, name, breaks)
    file_id = staged(world, PICTURE)
    world.pump()
    world.sweep_until_quiet()
    record = world.record(file_id)
    assert broken["times"] == 5
    assert record.status.value == "failed"
    assert record.failure is not None
    assert record.failure["stage"] == stage
    assert record.failure["retryable"] is True
    assert record.failure["code"] == ("out_of_memory" if how == "transient" else "attempts_exhausted")
    assert [message.queue for message in world.queues.dead] == [stage]
    broken["now"] = False
    assert world.retry(file_id) == (202, {"upload_id": file_id, "status": "staged" if stage == "validate" else "fresh"})
    world.pump()
    world.check_stored(file_id, PICTURE.data)


def test_the_retry_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handled failure comes back after 15, 30, 60 and 120 s, not after six timeouts."""
    from heavylift import validation
    from heavylift.errors import TransientError

    seen: list[float] = []

    def breaks(*_: Any) -> Any:
        seen.append(world.clock.now)
        raise TransientError("aws_unavailable", "S3 did not answer.")

    monkeypatch.setattr(validation, "detect", breaks)
    staged(world, PICTURE)
    world.pump()
    assert [round(later - earlier) for earlier, later in itertools.pairwise(seen)] == [15, 30, 60, 120]


def test_a_long_copy_goes_on_in_slices_that_are_no_attempts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of time with progress: a continuation each slice, one line in the audit trail, no part is copied twice."""
    from heavylift import promotion

    monkeypatch.setattr(promotion, "COPY_PART_SIZE", 8)  # 13 parts
    monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)
    copied: list[int] = []
    file_id = staged(world, PICTURE)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy":
            copied.append(call.arguments["PartNumber"])
            world.context_left = 300 if len(copied) % 2 else 0  # two parts a slice
        if call.operation == "list_parts":
            world.context_left = 300
        return run()

    world.gate.restart(around)
    world.pump()
    world.check_stored(file_id, PICTURE.data)
    assert copied == list(range(1, 14))
    attempts = [entry["attempt"] for entry in world.record(file_id).events if entry["event"] == "validate"]
    assert attempts == [1]
    slices = [message for queue, message in world.handled if queue == "validate"]
    assert len(slices) == 7


def test_a_copy_that_stands_still_is_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part more in two slices: failed with no_progress, not an endless chain of messages; retry goes on."""
    from heavylift import promotion

    monkeypatch.setattr(promotion, "COPY_PARALLEL", 1)
    file_id = staged(world, PICTURE)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.service == "dynamodb" and world.status(file_id) == "promoting":
            world.context_left = 0
        return answer

    world.gate.restart(around)
    world.pump()
    world.gate.around = None
    record = world.record(file_id)
    assert (record.status.value, (record.failure or {})["code"]) == ("failed", "no_progress")
    world.context_left = None
    assert world.retry(file_id)[0] == 202
    world.pump()
    world.check_stored(file_id, PICTURE.data)


def test_the_hop_limit_ends_a_chain(world: World) -> None:
    """A continuation over its hop limit is failed, however much it got done."""
    from heavylift import work
    from heavylift.errors import HeavyliftError
    from heavylift.queue import Continuation

    record = world.record(staged(world, PICTURE))
    last = Continuation("continue", "acme", record.file_id, 1, hop=9, hop_limit=10, checkpoint={"done": 5})
    assert work.next_slice(last, record, 6).hop == 10
    with pytest.raises(HeavyliftError) as refused:
        work.next_slice(work.next_slice(last, record, 6), record, 7)
    assert refused.value.code == "no_progress"


def test_cancelling_or_expiring_beats_a_late_put(world: World) -> None:
    """A PUT whose URL outlived its session's cancel: the object is deleted when its event comes."""
    file_id = world.initiate(TEXT.name, TEXT.data)
    record = world.record(file_id)
    assert world.cancel(file_id)[1]["status"] == "cancelled"
    world.s3.put_object(Bucket=STAGING, Key=record.key, Body=TEXT.data)
    world.pump()
    assert world.s3.buckets[STAGING] == {}
    assert world.status(file_id) == "cancelled"


def test_an_object_that_nobody_asked_for_is_deleted(world: World) -> None:
    """Of no record, or under a key that no record has: deleted and noted, and the queue goes on."""
    for key in ("in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA", "in/acme/whatever.tif", "in/a/b/c/d"):
        world.s3.put_object(Bucket=STAGING, Key=key, Body=b"x")
    world.pump()
    assert world.s3.buckets[STAGING] == {}
    assert world.queues.dead == []


def test_a_message_of_nobody_goes_to_the_dead(world: World) -> None:
    """Unknown v, unknown do, no JSON: five receives, then the dead-letter queue; a file's message goes its way."""
    for body in ('{"v":2,"do":"continue"}', '{"v":1,"do":"dance","tenant":"acme","id":"x"}', "no json", "[1]"):
        world.queues.send_message(QueueUrl="https://sqs/validate", MessageBody=body)
    world.queues.send_message(QueueUrl="https://sqs/validate", MessageBody=json.dumps({"Event": "s3:TestEvent"}))
    file_id = staged(world, TEXT)
    world.pump()
    assert world.status(file_id) == "completed"
    assert len(world.queues.dead) == 4
