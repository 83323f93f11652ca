"""Archives of stored files, asked for over HTTP and built by the handler, with all that can go wrong on the way."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heavylift.archives import building
from tests.doubles.answers import refusal
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed, kill_after
from tests.doubles.queues import Message
from tests.doubles.world import DERIVED, STORE, World
from tests.heavylift.archives.sites import SMALL

Worlds = Callable[[], World]
SIZES = (20, 130, 700, 99, 350)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a hundred bytes, so that archives of text files have every kind of part."""
    monkeypatch.setattr(building, "PARAMS", SMALL)


def data_of(n: int, size: int) -> bytes:
    return (f"file {n} " * size)[:size].encode()


def stored(world: World, sizes: tuple[int, ...] = SIZES) -> list[str]:
    """Files in the store, completed."""
    ids = []
    for n, size in enumerate(sizes):
        file_id = world.initiate(f"scan_{n:03d}.txt", data_of(n, size), kind="text")
        world.put(file_id, data_of(n, size))
        if world.record(file_id).mode == "multipart":
            world.complete(file_id)
        ids.append(file_id)
    world.pump()
    assert {world.status(file_id) for file_id in ids} == {"completed"}
    return ids


def ask(world: World, ids: list[str], **body: Any) -> str:
    status, view = world.call("initiate", "POST", "/v1/archives", body={"file_ids": ids, **body})
    assert status == 202, view
    archive_id: str = view["archive_id"]
    return archive_id


def look(world: World, archive_id: str) -> dict[str, Any]:
    status, view = world.call("sessions", "GET", "/v1/archives/{id}", path={"id": archive_id})
    assert status == 200
    return view


def sweep_all(world: World, archive_id: str, days: float = 1.0) -> dict[str, Any]:
    """The schedule runs until the job has ended, and two hours more."""
    end = world.clock.now + days * 86_400
    while not look(world, archive_id)["final"] and world.clock.now < end:
        world.clock.advance(900)
        world.sweep()
        world.pump()
    for _ in range(9):
        world.clock.advance(900)
        world.sweep()
    world.pump()
    return look(world, archive_id)


def check(world: World, view: dict[str, Any], ids: list[str], sizes: tuple[int, ...] = SIZES) -> None:
    """The archive has these files' bytes, and nothing else is there of its making."""
    assert view["status"] == "completed", view
    (key,) = [key for key in world.s3.buckets[DERIVED] if key.startswith("archives/") and key.endswith(".zip")]
    body = world.s3.buckets[DERIVED][key].body
    assert view["size"] == len(body)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        found = [archive.read(one) for one in archive.infolist() if one.filename.endswith(".txt")]
        assert sorted(found) == sorted(data_of(n, size) for n, size in enumerate(sizes))
    nothing_left(world)


def nothing_left(world: World) -> None:
    assert world.s3.uploads == {}
    assert [key for key in world.s3.buckets[DERIVED] if key.startswith(("work/", "requests/"))] == []


def test_files_become_an_archive(world: World) -> None:
    """Asked for, built by one slice, completed; the figures are there."""
    ids = stored(world)
    archive_id = ask(world, ids)
    assert look(world, archive_id)["status"] == "queued"
    world.pump()
    view = look(world, archive_id)

    check(world, view, ids)
    assert view["final"] is True
    assert view["parts"] > 3
    assert 0 < view["bytes_through"] == max(view["bytes_in"], view["bytes_out"])


def calls_of(worlds: Worlds) -> int:
    world = worlds()
    ids = stored(world)
    ask(world, ids)
    world.gate.restart()
    world.pump()
    return len(world.gate.calls)


@pytest.mark.parametrize("disturb", DISTURBANCES)
def test_building_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Disturbed at any one call, the archive is completed with the same bytes and nothing is left over."""
    total = calls_of(worlds)
    assert total > 30
    for number in range(1, total + 1, 8):
        world = worlds()
        ids = stored(world)
        archive_id = ask(world, ids)
        world.gate.restart(disturb(number))
        world.pump()
        world.gate.restart()
        view = sweep_all(world, archive_id)
        check(world, view, ids)
        assert world.queues.dead == []


# --- twins ---

WRITES = {"create_multipart_upload", "upload_part", "upload_part_copy", "complete_multipart_upload"}


def twins(world: World, around: Callable[[Message], Around]) -> tuple[list[dict[str, Any]], list[str]]:
    """Two jobs of the same files, of which the first is delivered under ``around(message of the second)``; both when
    nothing is left to do, and the writes that made archives of them.
    """
    ids = stored(world)
    asked = [ask(world, ids) for _ in range(2)]
    world.announce()
    first, second = world.queues.receive(), world.queues.receive()
    assert first is not None
    assert second is not None
    world.gate.restart(around(second))
    with contextlib.suppress(Killed):
        world.deliver(first)
    world.gate.around = None
    world.pump()
    if not all(look(world, archive_id)["final"] for archive_id in asked):
        sweep_all(world, asked[0])
        sweep_all(world, asked[1])
    views = [look(world, archive_id) for archive_id in asked]
    writes = [call.operation for call in world.gate.calls if call.operation in WRITES]
    check(world, views[0], ids)
    assert {view["status"] for view in views} == {"completed"}
    assert {view["crc32"] for view in views} == {views[0]["crc32"]}
    assert world.queues.dead == []
    return views, writes


def twin_at(world: World, number: int, second: Message, *, kill: bool = False) -> Around:
    """At call ``number`` the twin runs to its end; ``kill``: it is the end of the first."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number != number:
            return run()
        world.gate.around = None
        world.deliver(second)
        if kill:
            raise Killed(f"before call {number}")
        return run()

    return around


def test_a_twin_at_any_call_builds_nothing_twice(worlds: Worlds) -> None:
    """Two requests for the same files at the same moment: whenever the second one comes, one archive is built once."""
    world = worlds()
    ask(world, stored(world))
    world.gate.restart()
    world.pump()
    alone = sorted(call.operation for call in world.gate.calls if call.operation in WRITES)
    for number in range(1, len(world.gate.calls) + 1, 3):
        world = worlds()
        views, writes = twins(world, lambda second, world=world, number=number: twin_at(world, number, second))  # type: ignore[misc]
        assert sorted(writes) == alone, number
        assert sorted(view["reused"] for view in views) == [False, True], number


def test_a_twin_outlives_the_one_that_had_the_turn(worlds: Worlds) -> None:
    """The builder dies at any call after its twin has begun to wait: both come to their archive all the same."""
    for number in range(4, calls_of(worlds), 12):
        world = worlds()
        twins(world, lambda second, world=world, number=number: twin_at(world, number, second, kill=True))  # type: ignore[misc]


def test_a_twin_goes_on_where_the_other_was_cancelled(world: World) -> None:
    """Cancelled in the middle, the one that had the turn hands it on at once: no sweeper is needed."""
    ids = stored(world)
    first, second = ask(world, ids), ask(world, ids)
    world.announce()
    messages = [world.queues.receive(), world.queues.receive()]

    def around(call: Call, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.operation == "upload_part":
            world.gate.around = None
            assert messages[1] is not None
            world.deliver(messages[1])
            assert look(world, second)["parts"] == 0
            world.call("complete", "DELETE", "/v1/archives/{id}", path={"id": first})
        return answer

    assert messages[0] is not None
    world.gate.restart(around)
    world.deliver(messages[0])
    world.pump()

    assert look(world, first)["status"] == "cancelled"
    check(world, look(world, second), ids)


def test_a_file_that_goes_while_its_archive_is_waited_for(world: World) -> None:
    """The twin's archive is there, and holds what was deleted since: who has waited does not end with it."""
    ids = stored(world)
    ask(world, ids)
    waiting = {how: ask(world, ids, on_missing=how) for how in ("fail", "skip")}
    world.announce()
    messages = [world.queues.receive() for _ in range(3)]

    def around(call: Call, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.operation == "complete_multipart_upload" and call.arguments["Key"].startswith("archives/"):
            world.gate.around = None
            for message in messages[1:]:
                assert message is not None
                world.deliver(message)
            world.call("complete", "DELETE", "/v1/files/{id}", path={"id": ids[1]})
        return answer

    assert messages[0] is not None
    world.gate.restart(around)
    world.deliver(messages[0])
    world.pump()
    failed, skipped = look(world, waiting["fail"]), look(world, waiting["skip"])

    assert (failed["status"], failed["failure"]["code"]) == ("failed", "source_missing"), failed
    assert failed["failure"]["file_id"] == ids[1]
    assert (skipped["status"], skipped["missing"]) == ("completed", 1), skipped
    nothing_left(world)


def in_slices(world: World, calls: int) -> Around:
    """Each slice has time for so many calls."""
    handled, begun = [0], [0]

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if handled[0] != len(world.handled):
            handled[0], begun[0] = len(world.handled), call.number
        world.context_left = 300 if call.number - begun[0] < calls else 0
        return run()

    return around


def test_time_is_short_again_and_again(world: World) -> None:
    """Slice after slice goes on where the last one stopped; continuations are no attempts."""
    ids = stored(world)
    archive_id = ask(world, ids)
    world.gate.restart(in_slices(world, 16))
    world.pump()
    world.gate.restart()

    check(world, look(world, archive_id), ids)
    assert len([queue for queue, _ in world.handled if queue == "archive"]) > 2


@pytest.mark.parametrize("shares", [2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_several_workers(world: World, monkeypatch: pytest.MonkeyPatch, shares: int, reverse: bool) -> None:
    """Helpers and the one that sent for them, in any order, twice each: one archive, completed once."""
    monkeypatch.setattr(building, "shares_of", lambda layout: shares)
    ids = stored(world)
    archive_id = ask(world, ids)
    world.pump(copies=2, reverse=reverse)
    view = sweep_all(world, archive_id)

    check(world, view, ids)
    assert [one.type for one in world.bus.taken].count("archive.completed") == 1


def test_a_dead_helper_is_done_without(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that nobody makes any more is made by whom the sweeper wakes."""
    monkeypatch.setattr(building, "shares_of", lambda layout: 3)
    ids = stored(world)
    archive_id = ask(world, ids)
    world.announce()
    first = world.queues.receive()
    assert first is not None
    world.deliver(first)
    world.queues.messages.clear()

    assert look(world, archive_id)["status"] == "building"
    check(world, sweep_all(world, archive_id), ids)


# --- members that are not what they were ---


def deleted(world: World, file_id: str) -> str:
    world.s3.buckets[STORE].pop(f"files/acme/{file_id}")
    return "source_missing"


def changed(world: World, file_id: str) -> str:
    record = world.record(file_id)
    world.s3.buckets[STORE].pop(f"files/acme/{file_id}")
    world.s3.put_object(Bucket=STORE, Key=f"files/acme/{file_id}", Body=b"x" * record.size)
    return "source_missing"  # that version is gone


def lying(world: World, file_id: str) -> str:
    record = world.record(file_id)
    world.set(file_id, checksums={**record.checksums, "crc32": "AAAAAA=="})
    return "crc_mismatch"


@pytest.mark.parametrize("spoil", [deleted, changed, lying])
@pytest.mark.parametrize("n", [0, 2])
def test_a_member_at_fault_fails_the_job_by_name(world: World, spoil: Any, n: int) -> None:
    """Small or large: no archive, nothing left over, and the failure names file and member."""
    ids = stored(world)
    code = spoil(world, ids[n])
    archive_id = ask(world, ids)
    world.pump()
    view = look(world, archive_id)

    assert view["status"] == "failed"
    assert view["failure"]["code"] == code
    assert view["failure"]["file_id"] == ids[n]
    assert f"scan_{n:03d}.txt" in view["failure"]["message"]
    assert [key for key in world.s3.buckets[DERIVED] if key.endswith(".zip")] == []
    nothing_left(world)


@pytest.mark.parametrize("n", [0, 2])
def test_a_vanished_member_is_left_out_where_that_was_asked(world: World, n: int) -> None:
    """``on_missing: skip``: the archive has the others, and a report of the one that is not there."""
    ids = stored(world)
    deleted(world, ids[n])
    archive_id = ask(world, ids, on_missing="skip")
    world.pump()
    view = look(world, archive_id)

    assert view["status"] == "completed", view
    nothing_left(world)
    (key,) = [key for key in world.s3.buckets[DERIVED] if key.endswith(".zip")]
    with zipfile.ZipFile(io.BytesIO(world.s3.buckets[DERIVED][key].body)) as archive:
        assert len([one for one in archive.namelist() if one.endswith(".txt") and "scan" in one]) == len(SIZES) - 1
        assert any(ids[n] in archive.read(one).decode("utf-8", "replace") for one in archive.namelist())


def test_more_than_s3_can_hold_fails_in_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one upload's parts nor blocks of them suffice: ``too_large`` at once, for good, and nothing is begun."""
    monkeypatch.setattr(building, "PARAMS", replace(SMALL, part_count_max=2))
    archive_id = ask(world, stored(world))
    world.gate.restart()
    world.pump()
    view = look(world, archive_id)

    assert (view["status"], view["failure"]["code"]) == ("failed", "too_large"), view
    assert view["failure"]["retryable"] is False
    assert "create_multipart_upload" not in {call.operation for call in world.gate.calls}
    nothing_left(world)


# --- the world's faults ---


def test_a_disk_that_stays_full_fails_the_job_cleanly(world: World) -> None:
    """S3 can store nothing: five attempts, then ``failed`` with that reason, retryable, and nothing left over."""
    ids = stored(world)
    archive_id = ask(world, ids)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation in {"upload_part", "upload_part_copy"}:
            raise refusal("InternalError", 500, call.operation)
        return run()

    world.gate.restart(around)
    world.pump()
    view = sweep_all(world, archive_id)
    world.gate.restart()

    assert view["status"] == "failed"
    assert view["failure"]["code"] == "aws_unavailable"
    assert view["failure"]["retryable"] is True
    nothing_left(world)


def test_a_cancelled_job_leaves_nothing(world: World) -> None:
    """Cancelled between two slices, or while a worker is at it: no archive, no upload, no temporary object."""
    ids = stored(world)
    for at in (12, 30, 42):
        archive_id = ask(world, ids, name=f"at {at}")

        def around(call: Call, run: Callable[[], Any], at: int = at, asked: list[str] = [archive_id]) -> Any:  # noqa: B006
            if call.number >= at and asked:
                world.gate.around = None
                world.call("complete", "DELETE", "/v1/archives/{id}", path={"id": asked.pop()})
            return run()

        world.gate.restart(around)
        world.pump()
        world.gate.restart()
        view = sweep_all(world, archive_id)

        assert view["status"] == "cancelled", at
        nothing_left(world)


def test_killed_and_cancelled(worlds: Worlds) -> None:
    """A worker dies anywhere, nobody goes on, the job is cancelled: the sweeper finds what is left."""
    total = calls_of(worlds)
    for number in range(3, total + 1, 9):
        world = worlds()
        archive_id = ask(world, stored(world))
        world.gate.restart(kill_after(number))
        world.announce()
        message = world.queues.receive()
        assert message is not None
        with contextlib.suppress(Killed):
            world.deliver(message)
        world.gate.restart()
        status, _ = world.call("complete", "DELETE", "/v1/archives/{id}", path={"id": archive_id})
        view = sweep_all(world, archive_id)

        assert view["status"] == ("cancelled" if status == 200 else "completed"), number
        nothing_left(world)


def test_the_same_members_are_the_same_archive(world: World) -> None:
    """The second job finds the first one's archive; no second build."""
    ids = stored(world)
    first, second = ask(world, ids), ask(world, ids)
    world.pump()
    built = [call.operation for call in world.gate.calls].count("complete_multipart_upload")
    third = ask(world, ids)
    world.pump()

    assert {look(world, one)["status"] for one in (first, second, third)} == {"completed"}
    assert [call.operation for call in world.gate.calls].count("complete_multipart_upload") == built
    assert len([key for key in world.s3.buckets[DERIVED] if key.endswith(".zip")]) == 1


def test_an_archive_of_its_last_day_is_made_anew(world: World) -> None:
    """Less than 24 hours are left: the same bytes as a new object, with a life of its own."""
    ids = stored(world)
    first = ask(world, ids)
    world.pump()
    world.clock.advance(6.5 * 86_400)
    second = ask(world, ids)
    world.pump()

    assert look(world, second)["status"] == "completed"
    assert look(world, second)["expires_at"] > look(world, first)["expires_at"]
    check(world, look(world, second), ids)
