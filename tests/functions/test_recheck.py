"""New rules for a file that is stored already: a new report, and its state stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift import checking, keys, wishes
from heavylift.errors import TransientError
from heavylift.limits import ATTEMPTS_MAX
from heavylift.states import State
from tests.doubles.gate import Killed, kill_after, kill_before, lose_answer
from tests.doubles.samples import PICTURE
from tests.doubles.world import DERIVED, STAGING, STORE, World
from tests.functions.test_tables import GOOD, big_table, report_of, sent

STRICT = {"min_records": 3}


def stored(world: World, data: bytes = GOOD, name: str = "a.csv", **entry: Any) -> str:
    file_id = sent(world, name, data, **entry)
    world.pump()
    assert world.status(file_id) == "completed"
    return file_id


def untouched(world: World, file_id: str, before: Any) -> None:
    """Everything but the report and the rules is as it was."""
    after = world.record(file_id)
    for name in ("status", "finished_at", "store_etag", "failure", "thumbnails", "checksums", "outbox", "due_at"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.recheck is None
    assert world.s3.versions_made[STORE, keys.store("acme", file_id)] == 1


@pytest.mark.parametrize("rules_before", [None, {"min_records": 1}])
def test_a_new_report_and_valid(world: World, rules_before: dict[str, Any] | None) -> None:
    """The state stays completed whatever the rules say; right ones make it valid again; nothing is announced."""
    file_id = stored(world, **({"rules": rules_before} if rules_before else {}))
    before, told = world.record(file_id), len(world.bus.taken)
    status, answer = world.retry(file_id, rules=STRICT)
    world.pump()
    shown = world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})[1]
    report = report_of(world, world.record(file_id))

    assert (status, answer["status"], shown["status"]) == (202, "completed", "completed")
    assert (shown["valid"], report["valid"], report["counts"]) == (False, False, {"row-count": 1})
    assert report["rules_sha256"] != report_of_key(world, before)["rules_sha256"]
    untouched(world, file_id, before)
    assert len(world.bus.taken) == told

    assert world.retry(file_id, rules={"min_records": 2})[0] == 202
    world.pump()
    assert (world.record(file_id).report or {})["valid"] is True
    events = [entry["event"] for entry in world.record(file_id).events]
    assert events[-4:] == ["recheck", "rechecked"] * 2
    untouched(world, file_id, before)


def report_of_key(world: World, record: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.s3.buckets[DERIVED][record.report["key"]].body)
    return found


def test_a_picture_keeps_its_pictures(world: World) -> None:
    """Of a picture its size and format are judged; nothing is decoded again."""
    file_id = sent(world, PICTURE.name, PICTURE.data)
    world.pump()
    before = world.record(file_id)
    world.retry(file_id, rules={"allowed_formats": ["tiff"]})
    world.pump()

    assert (world.record(file_id).report or {})["valid"] is False
    untouched(world, file_id, before)


def test_rules_while_pictures_are_made(world: World) -> None:
    """The lease of whoever makes them is left alone, and both works end."""
    file_id = sent(world, PICTURE.name, PICTURE.data)
    while world.status(file_id) != "fresh":
        world.announce()
        message = world.queues.receive()
        assert message is not None
        world.deliver(message)
    assert world.retry(file_id, rules={"max_file_size": 5})[0] == 202
    world.pump()
    record = world.record(file_id)

    assert (record.status, record.recheck) == (State.COMPLETED, None)
    assert (record.report or {})["valid"] is False
    assert len(record.thumbnails) == 3


def test_the_last_wish_counts(world: World) -> None:
    """Two sets of rules, one after the other, delivered in any order and twice."""
    file_id = stored(world)
    world.retry(file_id, rules=STRICT)
    world.retry(file_id, rules={"max_records": 2})
    world.pump(copies=2, reverse=True)
    record = world.record(file_id)

    assert record.rules == {"max_records": 2}
    assert (record.report or {})["valid"] is True
    assert report_of(world, record)["rules_sha256"] == (record.report or {})["rules_sha256"]


@pytest.mark.parametrize("fault", [kill_before, kill_after, lose_answer])
@pytest.mark.parametrize("number", range(1, 12))
def test_killed_at_every_call(world: World, fault: Any, number: int) -> None:
    """Of the request, then of the work: the wish is done once, at the latest when the sweeper sends it again."""
    file_id = stored(world)
    before = world.record(file_id)
    world.gate.restart(fault(number))
    try:
        world.retry(file_id, rules=STRICT)
        message = world.queues.receive()
        if message is not None:
            world.deliver(message)
    except Killed:
        pass
    world.gate.around = None
    if world.record(file_id).rules != STRICT:
        world.retry(file_id, rules=STRICT)
    world.sweep_until_quiet()

    assert (world.record(file_id).report or {})["valid"] is False
    untouched(world, file_id, before)
    assert [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")] == []


def test_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table is checked in slices, as before it was stored; the report is that of one go."""
    data = big_table()
    file_id = stored(world, data, rules={"max_errors": 9})
    before = world.record(file_id)
    real, ended = checking.check, []

    def impatient(*given: Any) -> Any:
        try:
            return real(*given[:-1], lambda: 0.0)
        except checking.Unfinished as pause:
            ended.append(pause.done)
            raise

    monkeypatch.setattr(checking, "check", impatient)
    world.retry(file_id, rules={"unique_keys": ["id"], "max_errors": 9})
    world.pump()
    report = report_of(world, world.record(file_id))

    assert len(ended) > 3
    assert ended == sorted(set(ended))
    assert report["counts"] == {"extra-cell": 1, "unique-error": 1}
    untouched(world, file_id, before)
    assert [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")] == []


def test_trouble_ends_the_wish_and_not_the_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five attempts; then the old report stays, and the trail says why."""
    file_id = stored(world)
    before = world.record(file_id)

    def broken(*given: Any) -> Any:
        raise TransientError("aws_unavailable", "S3 is away.")

    monkeypatch.setattr(checking, "check", broken)
    world.retry(file_id, rules=STRICT)
    world.pump()
    after = world.record(file_id)

    assert after.report == before.report
    untouched(world, file_id, before)
    assert after.events[-1]["event"] == "recheck_failed"
    assert after.events[-1]["code"] == "aws_unavailable"


def test_deleted_meanwhile(world: World) -> None:
    """Nothing is written to what is gone."""
    file_id = stored(world)
    world.retry(file_id, rules=STRICT)
    assert world.call("complete", "DELETE", "/v1/files/{id}", path={"id": file_id})[0] == 200
    world.pump()
    world.sweep_until_quiet()

    assert world.status(file_id) == "deleted"
    assert world.s3.buckets[STORE] == world.s3.buckets[STAGING] == {}
    assert not [key for key in world.s3.buckets[DERIVED] if key.startswith(("reports/", "work/"))]


def test_a_lost_message_is_sent_again(world: World) -> None:
    """By the sweeper, with attempts that end."""
    file_id = stored(world)
    world.retry(file_id, rules=STRICT)
    world.queues.messages.clear()
    world.sweep_until_quiet()

    assert (world.record(file_id).report or {})["valid"] is False
    assert ATTEMPTS_MAX == 5
    assert wishes.WISHED == "recheck"


def test_without_rules_there_is_nothing_to_try_again(world: World) -> None:
    """As before: 409."""
    file_id = stored(world)

    assert world.retry(file_id)[0] == 409
