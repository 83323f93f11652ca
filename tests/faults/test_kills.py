"""A sandbox may die before or after any AWS call, or lose any answer: the same final state, each time.

Every test first counts the calls of an undisturbed run, then disturbs each of them in turn in a world of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from heavylift.errors import TransientError
from tests.doubles.gate import DISTURBANCES, Around, Killed, kill_before, repeat
from tests.doubles.samples import PICTURE, SAMPLES, SMALL_PICTURE, TEXT, Sample
from tests.doubles.world import DERIVED, STAGING, STORE, World

Worlds = Callable[[], World]
by_name = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
by_disturbance = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)


def uploaded(world: World, sample: Sample) -> str:
    """A file whose bytes are in staging; for multipart files complete was answered."""
    file_id = world.initiate(sample.name, sample.data)
    world.put(file_id, sample.data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    return file_id


def calls_of(worlds: Worlds, prepare: Callable[[World], str], act: Callable[[World, str], object]) -> int:
    world = worlds()
    file_id = prepare(world)
    world.gate.restart()
    act(world, file_id)
    return len(world.gate.calls)


@by_disturbance
@by_name
def test_processing_survives_any_one_fault(worlds: Worlds, sample: Sample, disturb: Callable[[int], Around]) -> None:
    """validate and thumbnail, disturbed at any one call, end with one store object and an empty staging bucket."""
    total = calls_of(worlds, lambda world: uploaded(world, sample), lambda world, _: world.pump())
    assert total > 10
    for number in range(1, total + 1):
        world = worlds()
        file_id = uploaded(world, sample)
        world.gate.restart(disturb(number))
        world.pump()
        # A copy's upload that was made twice, or never remembered, holds no part; the bucket's rule aborts it.
        world.check_stored(file_id, sample.data, orphan_uploads=1)
        assert all(upload.bucket == STORE and not upload.parts for upload in world.s3.uploads.values())
        assert len(world.record(file_id).thumbnails) == (3 if sample.served else 0)
        assert world.queues.dead == []
        world.clock.advance(901)
        world.sweep()
        assert world.s3.uploads == {}
        # Whatever was disturbed, the end was announced: twice at most, and then under one id. Clearing the
        # announcement from the record was its last write.
        record = world.record(file_id)
        assert (record.outbox, record.due_at) == ((), None)
        assert {(one.type, one.detail["id"]) for one in world.bus.taken} == {
            ("file.completed", f"{file_id}-{record.version - 1}")
        }
        assert 1 <= len(world.bus.taken) <= 2


@by_name
def test_answers_that_botocore_asks_for_again_cost_no_attempt(worlds: Worlds, sample: Sample) -> None:
    """A write that arrived twice is recognised as our own: the audit trail is that of an undisturbed run."""
    world = worlds()
    file_id = uploaded(world, sample)
    world.gate.restart()
    world.pump()
    undisturbed = [(entry["event"], entry.get("attempt")) for entry in world.record(file_id).events]
    updates = [call.number for call in world.gate.calls if call.operation == "update_item"]
    assert updates
    for number in updates:
        world = worlds()
        file_id = uploaded(world, sample)
        world.gate.restart(repeat(number))
        world.pump()
        assert [(entry["event"], entry.get("attempt")) for entry in world.record(file_id).events] == undisturbed


@by_disturbance
def test_thumbnails_of_a_killed_attempt_are_not_left_behind(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """The pictures in the bucket are those that the record points at, whatever attempt was cut off while writing."""
    total = calls_of(worlds, lambda world: uploaded(world, SMALL_PICTURE), lambda world, _: world.pump())
    for number in range(1, total + 1):
        world = worlds()
        file_id = uploaded(world, SMALL_PICTURE)
        world.gate.restart(disturb(number))
        world.pump()
        there = {key for key in world.s3.buckets[DERIVED] if key.startswith("thumbnails/")}
        assert there == {picture["key"] for picture in world.record(file_id).thumbnails}


@by_disturbance
def test_complete_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """complete, disturbed at any one call and asked again, joins the parts once."""

    def prepare(world: World) -> str:
        file_id = world.initiate(PICTURE.name, PICTURE.data)
        world.put(file_id, PICTURE.data)
        return file_id

    total = calls_of(worlds, prepare, lambda world, file_id: world.complete(file_id))
    for number in range(1, total + 1):
        world = worlds()
        file_id = prepare(world)
        world.gate.restart(disturb(number))
        try:
            status, _ = world.complete(file_id)
        except Killed:
            status = 0
        world.gate.around = None
        if status != 200:
            world.clock.advance(41)  # the lease of the broken try
            status, body = world.complete(file_id)
            assert status == 200, body
        assert world.s3.versions_made[STAGING, f"in/acme/{file_id}"] == 1
        world.pump()
        world.check_stored(file_id, PICTURE.data)


@by_disturbance
def test_an_upload_that_stands_in_assembling_is_finished_by_the_sweeper(
    worlds: Worlds, disturb: Callable[[int], Around]
) -> None:
    """The client never asks again, and S3's event is lost: the sweeper alone brings the file to its end."""

    def prepare(world: World) -> str:
        file_id = world.initiate(PICTURE.name, PICTURE.data)
        world.put(file_id, PICTURE.data)
        return file_id

    total = calls_of(worlds, prepare, lambda world, file_id: world.complete(file_id))
    ended = set()
    for number in range(1, total + 1):
        world = worlds()
        file_id = prepare(world)
        world.gate.restart(disturb(number))
        with contextlib.suppress(Killed):
            world.complete(file_id)
        world.gate.around = None
        world.s3.created.clear()
        world.sweep_until_quiet()
        ended.add(world.status(file_id))
        if world.status(file_id) == "completed":
            world.check_stored(file_id, PICTURE.data)
        else:
            # complete never got as far as a write: the session's time simply ran out.
            assert world.status(file_id) == "expired"
            assert world.s3.uploads == {}
            assert world.s3.buckets[STAGING] == {}
    assert "completed" in ended


@by_disturbance
@pytest.mark.parametrize("stage", ["open", "parts", "staged"])
def test_cancel_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around], stage: str) -> None:
    """cancel, disturbed at any one call and asked again, leaves no part, no object, and the state cancelled."""

    def prepare(world: World) -> str:
        file_id = world.initiate(PICTURE.name, PICTURE.data)
        if stage != "open":
            world.put(file_id, PICTURE.data)
        if stage == "staged":
            assert world.complete(file_id)[0] == 200
        return file_id

    total = calls_of(worlds, prepare, lambda world, file_id: world.cancel(file_id))
    for number in range(1, total + 1):
        world = worlds()
        file_id = prepare(world)
        world.gate.restart(disturb(number))
        with contextlib.suppress(Killed):
            world.cancel(file_id)
        world.gate.around = None
        assert world.cancel(file_id) == (200, {"upload_id": file_id, "status": "cancelled"})
        world.pump()
        assert world.s3.uploads == {}
        assert world.s3.buckets[STAGING] == {}
        assert world.s3.buckets[STORE] == {}
        assert world.status(file_id) == "cancelled"


@by_disturbance
def test_retry_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """retry, disturbed at any one call, mends the file: asked again if nothing was written, else by the sweeper."""

    def prepare(world: World) -> str:
        file_id = uploaded(world, PICTURE)
        world.pump()
        world.set(
            file_id,
            status=world.record(file_id).status.__class__("failed"),
            failure={"code": "out_of_memory", "message": "m", "stage": "thumbnail", "retryable": True},
        )
        return file_id

    total = calls_of(worlds, prepare, lambda world, file_id: world.retry(file_id))
    for number in range(1, total + 1):
        world = worlds()
        file_id = prepare(world)
        world.gate.restart(disturb(number))
        try:
            status, _ = world.retry(file_id)
        except Killed:
            status = 0
        assert status == 202 or disturb is not repeat
        world.gate.around = None
        if world.status(file_id) == "failed":
            assert world.retry(file_id)[0] == 202
        world.sweep_until_quiet()
        world.check_stored(file_id, PICTURE.data)


@by_disturbance
def test_the_sweeper_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """A sweep over a lost event, a lapsed lease, an expired session and a last attempt, disturbed at any one call."""

    def prepare(world: World) -> dict[str, str]:
        lost = uploaded(world, TEXT)
        lapsed = uploaded(world, PICTURE)
        world.s3.created.clear()
        expired = world.initiate("late.png", PICTURE.data)
        world.put_part(expired, 1, PICTURE.data)
        world.clock.advance(8 * 86_400)
        return {"lost": lost, "lapsed": lapsed, "expired": expired}

    world = worlds()
    prepare(world)
    world.gate.restart()
    world.sweep()
    total = len(world.gate.calls)
    assert total > 15
    for number in range(1, total + 1):
        world = worlds()
        ids = prepare(world)
        world.gate.restart(disturb(number))
        with contextlib.suppress(Killed, TransientError):
            world.sweep()
        world.gate.around = None
        world.clock.advance(900)
        world.sweep()
        world.sweep_until_quiet()
        assert world.status(ids["lost"]) == "completed"
        assert world.status(ids["lapsed"]) == "completed"
        assert world.status(ids["expired"]) == "expired"
        assert world.s3.uploads == {}
        assert world.s3.buckets[STAGING] == {}
        world.sweep()
        assert world.call("sessions", "GET", "/v1/stats")[1]["total"] == 3


def test_initiate_that_dies_leaves_nothing_that_a_client_can_see(worlds: Worlds) -> None:
    """Killed at any call, initiate leaves no record without its multipart upload."""
    world = worlds()
    world.gate.restart()
    world.initiate(PICTURE.name, PICTURE.data)
    total = len(world.gate.calls)
    for number in range(1, total + 1):
        world = worlds()
        world.gate.restart(kill_before(number))
        with pytest.raises(Killed):
            world.initiate(PICTURE.name, PICTURE.data)
        world.gate.around = None
        # At most the mark of an hour that will be counted once too often.
        # The marked hour and the tenant's rate are no upload.
        assert {pk.partition("#DIRTY#")[0] for pk, _ in world.table.items} <= {"T#_", "T#acme#RATE"}
        assert world.call("sessions", "GET", "/v1/uploads")[1]["items"] == []
