"""The sweeper: what is due, resent once a visibility period, failed at the fifth attempt, expired, never starved."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import work
from heavylift.limits import ATTEMPTS_MAX
from heavylift.records import FileRecord
from heavylift.retention import Clocks
from heavylift.states import AWAITING_OBJECT, FINAL, State
from heavylift.sweeping import due, sweep
from heavylift.sweeping.due import Backlog, Step, step_for
from tests.doubles.answers import refusal
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import STAGING, World

NOW = 1_000.0
CLOCKS = Clocks(quarantine_s=14 * 86_400)
BASE = FileRecord("t", "f", "n", 1, State.STAGED, mode="multipart", expires_at=5_000.0, due_at=500.0)


@given(
    st.sampled_from(list(State)),
    st.one_of(st.none(), st.floats(0, 2_000)),
    st.floats(0, 2_000),
    st.floats(0, 2_000),
    st.integers(0, 6),
)
def test_a_step_for_every_record(
    state: State, due_at: float | None, lease_until: float, expires_at: float, attempt: int
) -> None:
    """Nothing before its time, nothing under a live lease, nothing after the end; else what its state asks for."""
    record = replace(BASE, status=state, due_at=due_at, lease_until=lease_until, expires_at=expires_at, attempt=attempt)
    step = step_for(record, NOW, CLOCKS)

    if state in FINAL:
        assert step.do in {"nothing", "purge", "release", "forget"}
    elif due_at is None or due_at > NOW or lease_until > NOW:
        assert step.do == "nothing"
    elif state in AWAITING_OBJECT:
        if expires_at <= NOW:
            assert step.do == "expire"
        elif state is State.ASSEMBLING and attempt >= ATTEMPTS_MAX:
            assert step == Step("fail", "complete")
        else:
            assert step.do == {State.CREATED: "look", State.ASSEMBLING: "assemble"}.get(state, "nothing")
    else:
        assert step.stage in {"validate", "thumbnail"}
        assert step.do == ("fail" if attempt >= ATTEMPTS_MAX else "resend")


def staged(world: World) -> str:
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    assert world.complete(file_id)[0] == 200
    world.s3.created.clear()
    return file_id


def test_a_resend_at_most_once_a_visibility_period(world: World) -> None:
    """A sweep every minute sends one message, until the period is over again."""
    staged(world)
    world.clock.advance(work.look_again_s("validate") + 1)
    sent = []
    for minute in range(60):
        before = len(world.queues.messages)
        world.sweep()
        sent += [minute] * (len(world.queues.messages) - before)
        world.clock.advance(60)

    assert sent == [0, math.ceil(work.look_again_s("validate") / 60)]


def test_a_file_that_nobody_takes_up_ends_failed(world: World) -> None:
    """A function that dies before its first write is not called for ever."""
    file_id = staged(world)
    for _ in range(20):
        world.clock.advance(work.look_again_s("validate") + 1)
        world.sweep()

    assert world.status(file_id) == "failed"
    assert (world.record(file_id).failure or {})["stage"] == "validate"
    assert len(world.queues.messages) == ATTEMPTS_MAX
    world.queues.messages.clear()
    assert world.retry(file_id)[0] == 202
    world.pump()
    world.check_stored(file_id, PICTURE.data)


def test_a_file_that_a_worker_left_and_nobody_takes_up_ends_failed(world: World) -> None:
    """Killed once after its claim, from then on before any write: that is no endless chain of messages either."""
    file_id = staged(world)
    world.set(file_id, status=State.VALIDATING, attempt=1, fence=1, lease_until=world.clock.now + 330)
    for _ in range(20):
        world.clock.advance(work.look_again_s("validate") + 1)
        world.sweep()

    assert world.status(file_id) == "failed"
    assert len(world.queues.messages) == ATTEMPTS_MAX
    assert world.retry(file_id)[0] == 202
    world.pump()
    world.check_stored(file_id, PICTURE.data)


def test_a_backlog_is_no_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that wait for hours behind many others are neither sent again nor failed; a lost one is found later."""
    monkeypatch.setattr(due, "BACKLOG_MESSAGES", 3)
    ids = []
    for _ in range(6):
        file_id = world.initiate(TEXT.name, TEXT.data)
        world.put(file_id, TEXT.data)
        assert world.complete(file_id)[0] == 200
        ids.append(file_id)
    world.announce()
    lost = staged(world)
    for _ in range(20):
        world.clock.advance(work.look_again_s("validate") + 1)
        world.sweep()
    assert len(world.queues.messages) == 6
    assert {world.status(file_id) for file_id in [*ids, lost]} == {"staged"}
    assert {world.record(file_id).attempt for file_id in ids} == {0}
    world.sweep_until_quiet()
    assert {world.status(file_id) for file_id in [*ids, lost]} == {"completed"}


def test_a_session_expires_with_its_parts(world: World) -> None:
    """Aborted in S3, expired in the table; a stubborn upload is tried again in the next run."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put_part(file_id, 1, PICTURE.data)
    world.clock.advance(7 * 86_400 - 60)
    world.sweep()
    assert world.status(file_id) == "uploading"
    world.clock.advance(120)

    def around(call: Any, run: Any) -> Any:
        return {} if call.operation == "abort_multipart_upload" else run()

    world.gate.around = around
    assert world.sweep() == {"postponed": 1}
    assert world.status(file_id) == "uploading"
    world.gate.around = None
    assert world.sweep() == {"expire": 1}
    assert world.status(file_id) == "expired"
    assert world.s3.uploads == {}
    assert world.sweep() == {}


@pytest.mark.parametrize("state", [State.CREATED, State.UPLOADING, State.ASSEMBLING])
def test_bytes_that_arrived_do_not_expire(world: World, state: State) -> None:
    """Every event lost, nobody asked: at its session's end a file that is there whole goes its way."""
    sample = TEXT if state is State.CREATED else PICTURE
    file_id = world.initiate(sample.name, sample.data)
    world.put(file_id, sample.data)
    if state is not State.CREATED:
        world.set(file_id, status=State.ASSEMBLING)
    if state is State.UPLOADING:
        assert world.complete(file_id)[0] == 200
        world.set(file_id, status=state, staged_at=None, etag=None)
    world.s3.created.clear()
    world.clock.advance(8 * 86_400)
    world.sweep_until_quiet()

    world.check_stored(file_id, sample.data)


def test_a_complete_under_way_is_left_alone(world: World) -> None:
    """At its session's very end: the lease of whoever joins the parts counts more than the clock."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    world.clock.advance(7 * 86_400 + 1)
    world.set(file_id, status=State.ASSEMBLING, lease_until=world.clock.now + 40, due_at=world.clock.now)
    world.sweep()

    assert world.status(file_id) == "assembling"
    assert len(world.s3.uploads) == 1


def test_the_list_of_what_is_due_may_be_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record as it was before its complete: nothing of the new life is aborted."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    old = world.record(file_id)
    world.clock.advance(7 * 86_400 + 1)
    world.set(file_id, status=State.ASSEMBLING, lease_until=world.clock.now + 40)

    assert due.settle(old, Backlog()) == "expire"
    assert world.status(file_id) == "assembling"
    assert len(world.s3.uploads) == 1


def test_one_file_that_cannot_be_settled_stops_nobody(world: World) -> None:
    """A refused permission on one file is logged; the others and the statistics get their turn, each run."""
    ids = [world.initiate(PICTURE.name, PICTURE.data) for _ in range(6)]
    world.clock.advance(8 * 86_400)
    poison = world.record(ids[2]).key

    def around(call: Any, run: Any) -> Any:
        if call.arguments.get("Key") == poison:
            raise refusal("AccessDenied", 403, call.operation)
        return run()

    world.gate.around = around
    assert world.sweep() == {"expire": 5, "refused": 1}
    assert world.call("sessions", "GET", "/v1/stats")[1]["total"] == 6


def test_a_run_is_bounded_and_the_next_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two, four pages' time a run: in the end all are settled, once each."""
    monkeypatch.setattr(due, "PAGE", 2)
    for n in range(20):
        world.initiate(f"{n}", PICTURE.data)
    world.clock.advance(8 * 86_400)
    runs, expired = 0, 0
    while expired < 20:
        left = iter([1.0] * 4)
        expired += sweep(lambda left=left: next(left, 0.0)).get("expire", 0)  # type: ignore[misc]
        runs += 1
        assert runs < 40
    assert expired == 20
    assert runs > 2


def test_a_single_put_whose_event_was_lost_is_found_long_before_its_session_ends(world: World) -> None:
    """Looked for once its first URL must be dead; an absent one is not looked for all the time."""
    arrived = world.initiate(TEXT.name, TEXT.data)
    absent = world.initiate(TEXT.name, TEXT.data)
    world.put(arrived, TEXT.data)
    world.s3.created.clear()
    world.clock.advance(2 * 3_600)
    world.sweep()
    assert (world.status(arrived), world.status(absent)) == ("staged", "created")
    world.gate.restart()
    for _ in range(20):
        world.clock.advance(900)
        world.sweep()
        world.pump()
    looked_for = [call for call in world.gate.calls if call.arguments.get("Key") == world.record(absent).key]
    assert looked_for == []
    world.sweep_until_quiet()
    world.check_stored(arrived, TEXT.data)
    assert world.status(absent) == "expired"
    assert world.s3.buckets[STAGING] == {}
