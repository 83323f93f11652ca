"""Listings against records: what S3 holds and no record wants goes, what a record waits for is taken up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import keys
from heavylift.records import FileRecord
from heavylift.retention import GONE
from heavylift.s3 import Listed
from heavylift.states import AWAITING_OBJECT, FINAL, State
from heavylift.sweeping import due, sweep, turn, walking
from heavylift.sweeping.listings import derived_fate, staged_fate, stored_fate, upload_fate
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import DERIVED, STAGING, STORE, World

FILE_ID = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
NOW = 100_000.0
BASE = FileRecord("acme", FILE_ID, "n", 7, State.STAGED, key=keys.staging("in", "acme", FILE_ID), s3_upload_id="mine")
ages = st.floats(0, 90_000)
records = st.one_of(
    st.none(),
    st.builds(
        lambda status, lease_until, store_upload_id, staged_at: replace(
            BASE, status=status, lease_until=lease_until, store_upload_id=store_upload_id, staged_at=staged_at
        ),
        st.sampled_from(list(State)),
        st.sampled_from([0.0, NOW + 10]),
        st.sampled_from([None, "copy"]),
        st.sampled_from([None, 1.0]),
    ),
)


@given(records, ages, st.sampled_from(["mine", "copy", "other"]), st.booleans())
def test_an_upload_that_is_wanted_is_never_aborted(
    record: FileRecord | None, age: float, upload_id: str, in_store: bool
) -> None:
    """The open session's own, the copy that a worker fills or is about to remember, and whatever is younger."""
    listed = Listed("k", NOW - age, upload_id=upload_id)
    fate = upload_fate(listed, record, in_store=in_store, now=NOW, grace_s=120)

    if record is None:
        assert fate == ("keep" if age <= 120 else "abort")
    elif (not in_store and record.status in AWAITING_OBJECT and upload_id == "mine") or (
        in_store
        and record.status is State.PROMOTING
        and (upload_id == record.store_upload_id or record.lease_until > NOW)
    ):
        assert fate == "keep"
    else:
        nobodys = record.status in GONE and (in_store or upload_id == "mine")
        old = age > 120 and record.status is not State.FAILED
        assert fate == "abort" or not (nobodys or old)


@given(records, ages, st.integers(6, 8))
def test_a_staged_object_is_deleted_only_when_nobody_can_want_it(
    record: FileRecord | None, age: float, size: int
) -> None:
    """Bytes that wait for a verdict, or lie in quarantine, stay; a lost event is found after a minute."""
    found = Listed(BASE.key, NOW - age, size)
    fate = staged_fate(found, record, now=NOW, grace_s=120, event_s=60)

    if fate == "delete":
        assert record is None or record.status in GONE or record.stored
        assert record is not None or age > 120
    if fate == "arrive":
        assert record is not None
        assert record.status in AWAITING_OBJECT
        assert size == record.size
        assert age > 60
    if record is not None and (record.status in GONE or record.stored):
        assert fate == "delete"
    if record is not None and record.status in {State.STAGED, State.VALIDATING, State.SCANNING, State.PROMOTING}:
        assert fate == "keep"


def test_a_batchs_member_without_a_record_is_announced_again() -> None:
    """Its record is made by validate: the lost event is replaced, the object is not deleted."""
    found = Listed(f"in/acme/{FILE_ID}/12", NOW - 1_000, 7)

    assert staged_fate(found, None, now=NOW, grace_s=120, event_s=60) == "announce"


@given(st.one_of(st.none(), st.sampled_from(list(State))))
def test_the_store_is_never_emptied_for_want_of_records(state: State | None) -> None:
    """Without a record an object is reported, never deleted: the table may be an older one, restored."""
    fate = stored_fate(None if state is None else replace(BASE, status=state))

    assert fate == (
        "report" if state is None else "prove" if state is State.PROMOTING else "delete" if state in GONE else "keep"
    )


@given(records, ages, st.sampled_from(["thumbnails", "reports", "manifests", "work"]))
def test_what_a_record_points_at_stays(record: FileRecord | None, age: float, kind: str) -> None:
    """And the audit trail of a tombstone; temporaries of a file that has ended go at once."""
    key = f"{kind}/acme/{FILE_ID}/1-256.jpg"
    if record is not None:
        record = replace(record, thumbnails=({"key": key},))
    fate = derived_fate(Listed(key, NOW - age), kind, record, now=NOW, stray_s=3_600, work_s=86_400)

    if record is None:
        assert fate == ("delete" if age > (86_400 if kind == "work" else 3_600) else "keep")
    elif kind == "work":
        assert fate == "delete" or record.status not in FINAL
    else:
        assert fate == ("delete" if record.status in GONE else "keep")
        trail = Listed(f"manifests/acme/{FILE_ID}/events/000000.json", NOW - age)
        assert derived_fate(trail, "manifests", record, now=NOW, stray_s=3_600, work_s=86_400) == "keep"


def test_a_stored_file_that_is_checked_again_keeps_its_work() -> None:
    """The checkpoint of rules that came late lives until they are applied, as that of any other work."""
    key = keys.work("acme", FILE_ID, "table.json")
    wish = {"at": NOW, "fence": 1, "attempt": 0, "progress": 1}
    stored = FileRecord("acme", FILE_ID, "a", 5, State.COMPLETED, recheck=wish)
    ages = {60: "keep", 80_000: "keep", 90_000: "delete"}
    for age, fate in ages.items():
        listed = Listed(key, NOW - age)
        assert derived_fate(listed, "work", stored, now=NOW, stray_s=3_600, work_s=86_400) == fate


def test_orphans_are_removed_by_one_run(world: World) -> None:
    """Uploads that no record knows, objects that nobody awaits, strays of killed workers, temporaries."""
    done = world.initiate(PICTURE.name, PICTURE.data)
    world.put(done, PICTURE.data)
    assert world.complete(done)[0] == 200
    world.pump()
    cancelled = world.initiate(PICTURE.name, PICTURE.data)
    world.cancel(cancelled)
    late = {"ContentType": "x/y", "Metadata": {}}
    for file_id in (done, cancelled, FILE_ID):
        world.s3.create_multipart_upload(Bucket=STAGING, Key=keys.staging("in", "acme", file_id), **late)
        world.s3.create_multipart_upload(Bucket=STORE, Key=keys.store("acme", file_id), **late)
        world.s3.put_object(Bucket=STAGING, Key=keys.staging("in", "acme", file_id), Body=b"late")
        world.s3.put_object(Bucket=DERIVED, Key=keys.work("acme", file_id, "1"), Body=b"left")
        world.s3.put_object(Bucket=DERIVED, Key=keys.thumbnail("acme", file_id, 77, 256), Body=b"stray")
    world.s3.put_object(Bucket=STORE, Key=keys.store("acme", cancelled), Body=b"copied by a worker that lost its lease")
    world.clock.advance(86_401)
    world.sweep()

    assert world.s3.uploads == {}
    assert world.s3.buckets[STAGING] == {}
    assert list(world.s3.buckets[STORE]) == [keys.store("acme", done)]
    assert set(world.s3.buckets[DERIVED]) == {
        keys.manifest("acme", done),
        *(picture["key"] for picture in world.record(done).thumbnails),
    }
    assert world.status(done) == "completed"


def test_lost_events_are_found_by_the_next_run(world: World) -> None:
    """Every event lost: each run moves every file by a stage at least, and the end is reached in three."""
    ids = {}
    for sample in (TEXT, PICTURE):
        ids[sample.name] = world.initiate(sample.name, sample.data)
        world.put(ids[sample.name], sample.data)
    assert world.complete(ids[PICTURE.name])[0] == 200
    seen = []
    for _ in range(3):
        world.s3.created.clear()
        world.clock.advance(900)
        world.sweep()
        while (message := world.queues.receive()) is not None:
            world.deliver(message)
            world.s3.created.clear()
        seen.append([world.status(file_id) for file_id in ids.values()])

    assert seen[0] == ["completed", "fresh"]
    assert seen[1] == ["completed", "completed"]


def test_a_backlog_is_not_made_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where events wait in a long queue nobody looks for lost ones, and no message is sent."""
    monkeypatch.setattr(due, "BACKLOG_MESSAGES", 3)
    for _ in range(6):
        world.put(world.initiate(TEXT.name, TEXT.data), TEXT.data)
    world.announce()
    lost = world.initiate(TEXT.name, TEXT.data)
    world.put(lost, TEXT.data)
    world.s3.created.clear()
    world.clock.advance(900)
    world.sweep()

    assert len(world.queues.messages) == 6
    assert world.status(lost) == "created"


def test_a_run_that_ends_early_is_gone_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of one key, a few pages' time a run: every orphan goes in the end."""
    monkeypatch.setattr(walking, "PAGE", 1)
    orphans = [f"01JD2Z3NDEKTSV4RRFFQ69G5{n:02d}" for n in range(10, 20)]
    for file_id in orphans:
        world.s3.put_object(Bucket=STAGING, Key=keys.staging("in", "acme", file_id), Body=b"late")
    world.clock.advance(1_000)
    runs = 0
    while world.s3.buckets[STAGING]:
        left = iter([1.0] * 9)
        sweep(lambda left=left: next(left, 0.0))  # type: ignore[misc]
        runs += 1
        assert runs < 20
    assert runs > 2


def test_one_at_a_time(world: World) -> None:
    """A second run while one is at work does nothing; one that was killed keeps nobody out for long."""
    mine = turn.take()
    assert mine is not None
    assert turn.take() is None
    assert world.sweep() == {}
    world.clock.advance(100)
    assert mine.keep()
    world.clock.advance(100)
    assert turn.take() is None, "it said that it lives"
    world.clock.advance(100)
    other = turn.take()
    assert other is not None
    assert not mine.keep(), "the one that slept has lost its turn"
    mine.give_back()
    assert turn.take() is None
    other.give_back()
    assert turn.take() is not None
