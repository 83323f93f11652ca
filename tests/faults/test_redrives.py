"""Messages that come again days later, from a dead-letter queue or an archive of events: nothing changes any more."""

from __future__ import annotations

from typing import Any

from tests.doubles.dicom import ROOT, dicom, sent
from tests.doubles.dicom import pump as pump_dicom
from tests.doubles.queues import Message
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import DERIVED, STAGING, STORE, World

DAY_S = 86_400


def remembered(world: World) -> list[tuple[str, str]]:
    """Every (queue, body) that was ever sent, from now on."""
    sent_ever: list[tuple[str, str]] = []
    plain = world.queues.send_message

    def send_message(**given: Any) -> dict[str, Any]:
        sent_ever.append((given["QueueUrl"].rsplit("/", 1)[-1], given["MessageBody"]))
        return plain(**given)

    world.queues.send_message = send_message  # type: ignore[method-assign]
    return sent_ever


def redrive(world: World, sent_ever: list[tuple[str, str]]) -> None:
    """All of them once more, each until it is settled or dead."""
    for queue, body in list(sent_ever):
        world.queues.send_message(QueueUrl=f"https://sqs.example/{queue}", MessageBody=body)
    pump_dicom(world) if any(queue == "dicom_ingest" for queue, _ in sent_ever) else world.pump()


def objects(world: World) -> dict[str, dict[str, bytes]]:
    """What lies in the buckets; work/ belongs to nobody for long."""
    return {
        bucket: {key: made.body for key, made in world.s3.buckets[bucket].items() if not key.startswith("work/")}
        for bucket in (STAGING, STORE, DERIVED)
    }


def records(world: World) -> dict[Any, Any]:
    """What the table says of files, series, studies and archives."""
    return {place: item for place, item in world.table.items.items() if place[1] == "F"}


def lives(world: World) -> tuple[list[str], Any]:
    """Files, a DICOM study and an archive, all at their ends."""
    ids = []
    for sample in (PICTURE, TEXT):
        ids.append(world.initiate(sample.name, sample.data))
        world.put(ids[-1], sample.data)
        world.complete(ids[-1])
    bad = world.initiate("x.png", b"text")
    world.put(bad, b"text")
    world.pump()
    client = sent(world, {n: (f"IM{n}", dicom(1, 1, n)) for n in (1, 2)})
    pump_dicom(world)
    status, asked = world.call("initiate", "POST", "/v1/archives", body={"file_ids": ids})
    assert status == 202
    world.pump()
    status, archive = world.call("sessions", "GET", "/v1/archives/{id}", path={"id": asked["archive_id"]})
    assert archive["status"] == "completed"
    return [*ids, bad], client


def test_every_message_again_after_two_weeks(world: World) -> None:
    """Of every function: the record says that it has ended, nothing is made, written or counted again."""
    sent_ever = remembered(world)
    _, client = lives(world)
    assert {queue for queue, _ in sent_ever} == {"validate", "thumbnail", "dicom_ingest", "archive"}
    before = objects(world), records(world), client.studies()
    told = len(world.bus.taken)
    world.clock.advance(3 * DAY_S)
    redrive(world, sent_ever)
    assert (objects(world), records(world), client.studies()) == before
    assert len(world.bus.taken) == told
    assert client.studies()[f"{ROOT}.1"]["instances"] == 2


def test_every_message_again_when_its_file_is_gone(world: World) -> None:
    """Deleted, and forgotten: no object comes back to life, and no message is put up with for ever."""
    sent_ever = remembered(world)
    ids, _ = lives(world)
    for file_id in ids:
        world.call("complete", "DELETE", "/v1/files/{id}", path={"id": file_id})
    world.sweep_until_quiet()
    for days in (1, 100):
        world.clock.advance(days * DAY_S)
        for _ in range(3):
            world.sweep()
            world.clock.advance(4_000)
        world.sweep_until_quiet(days=1)
        before = objects(world)
        redrive(world, sent_ever)
        after = objects(world)
        assert after[STORE] == before[STORE]
        assert after[STAGING] == {}
        assert set(after[DERIVED]) <= set(before[DERIVED])
        assert world.queues.messages == []


def test_a_dead_letter_that_is_redriven_finishes_its_file(world: World) -> None:
    """thumbnail died five times; nobody asked for a retry, but the message is put back once the cause is mended."""
    crashes = iter(range(100))

    def crash(*_: Any) -> Any:
        raise MemoryError(next(crashes))

    plain, world.thumbnails = world.thumbnails, crash
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    world.complete(file_id)
    for _ in range(12):
        try:
            world.pump()
        except MemoryError:
            world.clock.advance(6_000)
            continue
        break
    world.sweep_until_quiet()
    assert world.status(file_id) == "failed"
    dead = [one for one in world.queues.dead if one.queue == "thumbnail"]
    assert dead
    world.thumbnails = plain
    world.clock.advance(2 * DAY_S)
    for one in dead:
        world.queues.messages.append(Message(f"m{900 + int(one.message_id[1:])}", one.queue, one.body, 0))
    world.pump()
    assert world.status(file_id) == "failed", "its attempts are used up; a retry begins them anew"
    world.retry(file_id)
    world.pump()
    world.check_stored(file_id, PICTURE.data)
    assert len(world.record(file_id).thumbnails) == 3
