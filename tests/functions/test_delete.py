"""Deletion: the record says so at once, and nothing of the file is left in S3; by hand, by age, and after 90 days."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from heavylift import keys
from heavylift.states import TRANSITIONS, Event, State
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed
from tests.doubles.samples import PICTURE, TEXT, Sample
from tests.doubles.world import DERIVED, STAGING, STORE, World

ROUTE = "/v1/files/{id}"


def stored(world: World, sample: Sample = PICTURE) -> str:
    file_id = world.initiate(sample.name, sample.data, metadata={"logical_id": "book"}, fingerprint=f"v1:{'0' * 64}")
    world.put(file_id, sample.data)
    world.complete(file_id)
    world.pump()
    assert world.status(file_id) == "completed"
    return file_id


def delete(world: World, file_id: str) -> tuple[int, dict[str, object]]:
    return world.call("complete", "DELETE", ROUTE, path={"id": file_id})


def nothing_left(world: World) -> None:
    assert world.s3.buckets == {STAGING: {}, STORE: {}, DERIVED: {}}
    assert world.s3.versions == {}
    assert world.s3.uploads == {}


def test_everything_goes(world: World) -> None:
    """Every version, every picture, the manifest; the trail stays; lists show it no more; asked again, the same."""
    file_id = stored(world)
    world.s3.put_object(Bucket=STORE, Key=keys.store("acme", file_id), Body=b"an operator's mistake")
    for _ in range(2):
        assert delete(world, file_id) == (200, {"file_id": file_id, "status": "deleted"})
        nothing_left(world)
    status, body = world.call("sessions", "GET", ROUTE, path={"id": file_id})
    assert (status, body["status"], body["final"], body["thumbnails"]) == (200, "deleted", True, [])
    assert world.call("sessions", "GET", f"{ROUTE}/content", path={"id": file_id})[0] == 409
    trail = world.call("sessions", "GET", f"{ROUTE}/events", path={"id": file_id})[1]["items"]
    assert (trail[-1]["event"], trail[-1]["by"]) == ("delete", "user-1")
    for query in ({}, {"logical_id": "book"}, {"fingerprint": f"v1:{'0' * 64}"}, {"status": "fresh"}):
        assert world.call("sessions", "GET", "/v1/files", query=query)[1]["items"] == []
    (tombstone,) = world.call("sessions", "GET", "/v1/files", query={"status": "deleted"})[1]["items"]
    assert tombstone["upload_id"] == file_id


@pytest.mark.parametrize("state", list(State))
def test_in_every_state(world: World, state: State) -> None:
    """What is open is cancelled, not deleted: 409; everything else goes, whoever works on it."""
    file_id = stored(world)
    world.set(file_id, status=state)
    status, body = delete(world, file_id)

    if TRANSITIONS[state, Event.DELETE] is None:
        assert (status, body["code"]) == (409, "state_conflict")
        assert world.status(file_id) == state.value
    else:
        assert status == 200
        nothing_left(world)


def test_a_locked_version_stays_until_its_day(world: World) -> None:
    """S3 refuses to delete it: the file is gone for everybody, nothing fails, and the sweeper asks once a day."""
    file_id = stored(world)
    asked = 0

    def locked(call: Call, run: Callable[[], object]) -> object:
        nonlocal asked
        if call.operation == "delete_object" and call.arguments["Bucket"] == STORE:
            asked += 1
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Object Lock"}}, "DeleteObject")
        return run()

    world.gate.around = locked
    assert delete(world, file_id) == (200, {"file_id": file_id, "status": "deleted"})
    assert world.call("sessions", "GET", "/v1/files/{id}/content", path={"id": file_id})[0] in (404, 409, 410)
    assert world.s3.buckets[DERIVED] == {}
    assert keys.store("acme", file_id) in world.s3.buckets[STORE]
    before, due = asked, 0
    for _ in range(8):  # two hours
        world.clock.advance(901)
        due += world.sweep().get("purge", 0)
    assert due == 0
    for _ in range(3):
        world.clock.advance(86_401)
        assert "refused" not in world.sweep()
    assert before < asked
    assert world.record(file_id).purged_at is None
    world.gate.around = None  # the lock has ended
    world.clock.advance(86_401)
    world.sweep()
    nothing_left(world)


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda one: one.__name__)
def test_cut_off_at_any_call(worlds: Callable[[], World], disturb: Callable[[int], Around]) -> None:
    """The sweeper goes on where a deletion was killed; nothing is deleted of a file whose record does not say so."""
    world = worlds()
    file_id = stored(world)
    world.gate.restart()
    delete(world, file_id)
    total = len(world.gate.calls)
    assert total >= 10
    for number in range(1, total + 1):
        world = worlds()
        file_id = stored(world)
        world.gate.restart(disturb(number))
        with contextlib.suppress(Killed):
            delete(world, file_id)
        world.gate.around = None
        if world.status(file_id) == "completed":
            world.check_stored(file_id, PICTURE.data)
            continue
        world.clock.advance(901)
        world.sweep()
        nothing_left(world)
        assert world.status(file_id) == "deleted"
        assert {one.type for one in world.bus.taken} == {"file.completed", "file.deleted"}


def test_a_tombstone_goes_after_90_days(world: World) -> None:
    """Record and trail are kept for 90 days and are gone then; ids are never used again."""
    file_id = stored(world)
    for _ in range(15):
        world.retry(file_id, force=True)
        world.pump()
    delete(world, file_id)
    assert list(world.s3.buckets[DERIVED]) == [keys.audit("acme", file_id, 0)]
    world.clock.advance(89 * 86_400)
    world.sweep()
    world.clock.advance(1_000)
    world.sweep()
    assert len(world.call("sessions", "GET", f"{ROUTE}/events", path={"id": file_id})[1]["items"]) == 8 + 3 * 15 + 1
    world.clock.advance(86_400)
    world.sweep()
    nothing_left(world)
    assert world.call("sessions", "GET", ROUTE, path={"id": file_id})[0] == 404


def test_clean_up_by_hand(world: World) -> None:
    """Failed and rejected files older than asked for; others, younger ones and other tenants' stay."""
    rejected = world.initiate("x.png", b"text")
    world.put(rejected, b"text")
    world.pump()
    kept = stored(world, TEXT)
    world.clock.advance(30 * 3_600)
    young = world.initiate("y.png", b"text")
    world.put(young, b"text")
    world.pump()
    route = "/v1/uploads"
    other = world.call("complete", "DELETE", route, query={"status": "failed", "hours_old": "24"}, tenant="other")
    assert other == (200, {"deleted": 0, "more": False})
    done = world.call("complete", "DELETE", route, query={"status": "failed", "hours_old": "24"})
    assert done == (200, {"deleted": 1, "more": False})
    assert [world.status(one) for one in (rejected, young, kept)] == ["deleted", "rejected", "completed"]
    assert list(world.s3.buckets[STAGING]) == [world.record(young).key]
    for query in ({"status": "completed"}, {"hours_old": "-1"}, {"hours_old": "nan"}, {"hours_old": "soon"}):
        status, body = world.call("complete", "DELETE", route, query=query)
        assert (status, body["code"]) == (422, "invalid_parameter")


def test_clean_up_says_that_there_is_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends in time; asked again it goes on, and each file is counted once."""
    from heavylift.api import complete
    from heavylift.api.caller import Caller

    monkeypatch.setattr(complete, "CLEAN_UP_PAGE", 2)
    for number in range(7):
        file_id = world.initiate(f"{number}.png", b"text")
        world.put(file_id, b"text")
    world.pump()
    me, deleted, calls, more = Caller("acme", "u", frozenset()), 0, 0, True
    while more:
        left = iter([1.0] * 4)
        answer = complete.clean_up(me, {"hours_old": "0"}, lambda left=left: next(left, 0.0))  # type: ignore[misc]
        deleted, more, calls = deleted + answer["deleted"], answer["more"], calls + 1
        assert calls < 20
    assert (deleted, calls > 1) == (7, True)
    assert world.s3.buckets[STAGING] == {}
