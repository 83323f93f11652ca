"""One life for every file: the table decides every pair, and ends are ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import RequestError
from heavylift.states import (
    AWAITING_OBJECT,
    FINAL,
    STORED,
    TRANSITIONS,
    Event,
    State,
    as_mermaid,
    list_group,
    next_state,
    stage_of,
)

REVIVING = {Event.RETRY_ASSEMBLY, Event.RETRY_VALIDATION, Event.RETRY_PROCESSING, Event.DELETE}
DOCS = Path(__file__).parents[2] / "docs"


def test_every_pair_is_decided() -> None:
    """A row for every state and event, and nothing else."""
    assert set(TRANSITIONS) == {(state, event) for state in State for event in Event}


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS), ids=lambda one: one.value)
def test_next_state_is_the_table(state: State, event: Event) -> None:
    """What the table refuses is a 409 that names both; what it allows is a state."""
    following = TRANSITIONS[state, event]
    if following is not None:
        assert next_state(state, event) is following
        return
    with pytest.raises(RequestError) as refused:
        next_state(state, event)
    assert refused.value.code == "state_conflict"
    assert refused.value.facts == {"status": state.value, "event": event.value}


@given(st.sampled_from(sorted(FINAL)), st.lists(st.sampled_from(list(Event)), max_size=30))
def test_ends_are_ends(state: State, events: list[Event]) -> None:
    """No list of events leaves a final state but through retry or delete."""
    start = state
    for event in events:
        if event in REVIVING:
            continue
        following = TRANSITIONS[state, event]
        state = state if following is None else following
        assert state is start


@given(st.lists(st.sampled_from(list(Event)), max_size=60))
def test_nothing_reaches_the_store_unseen(events: list[Event]) -> None:
    """Whatever happens in whatever order, a file is fresh only after it was validated and promoted; deleted stays."""
    state, seen = State.CREATED, {State.CREATED}
    for event in events:
        following = TRANSITIONS[state, event]
        if following is None:
            continue
        if state is State.DELETED:
            assert following is State.DELETED
        state = following
        seen.add(state)
        # Retry of a failed thumbnail goes back to fresh, but only the store's stage can fail that way in the code.
        if state in STORED and Event.RETRY_PROCESSING not in events:
            assert {State.STAGED, State.VALIDATING, State.PROMOTING} <= seen


@given(st.lists(st.sampled_from(list(Event)), max_size=40), st.sampled_from(list(Event)))
def test_an_event_that_repeats_changes_nothing_more(events: list[Event], last: Event) -> None:
    """The second of two equal events finds the state unchanged, or is refused."""
    state = State.CREATED
    for event in events:
        state = TRANSITIONS[state, event] or state
    once = TRANSITIONS[state, last] or state
    assert (TRANSITIONS[once, last] or once) is once


def test_the_happy_way() -> None:
    """created, uploading, assembling, staged, validating, promoting, fresh, processing, completed."""
    way = [State.CREATED]
    for event in (
        Event.OPEN,
        Event.ASSEMBLE,
        Event.ARRIVE,
        Event.VALIDATE,
        Event.PROMOTE,
        Event.STORE,
        Event.PROCESS,
        Event.FINISH,
    ):
        way.append(next_state(way[-1], event))

    assert [state.value for state in way] == [
        "created", "uploading", "assembling", "staged", "validating", "promoting", "fresh", "processing", "completed",
    ]  # fmt: skip


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    """From created every state is reachable; from every state some end is."""

    def reach(start: State) -> set[State]:
        found, open_ = {start}, [start]
        while open_:
            state = open_.pop()
            for event in Event:
                following = TRANSITIONS[state, event]
                if following is not None and following not in found:
                    found.add(following)
                    open_.append(following)
        return found

    assert reach(State.CREATED) == set(State)
    for state in State:
        assert reach(state) & FINAL


def test_what_may_be_cancelled() -> None:
    """Until its copy is committed; after that a file is deleted, not cancelled."""
    allowed = {state for state in State if TRANSITIONS[state, Event.CANCEL] is State.CANCELLED}

    assert allowed == {
        *AWAITING_OBJECT,
        State.STAGED,
        State.VALIDATING,
        State.SCANNING,
        State.PROMOTING,
        State.CANCELLED,
    }


def test_lists_and_stages() -> None:
    """failed includes rejected, fresh includes completed; every state that waits for a function has one owner."""
    assert {state for state in State if list_group(state) == "failed"} == {State.FAILED, State.REJECTED}
    assert {state for state in State if list_group(state) == "fresh"} == {
        State.FRESH,
        State.COMPLETED,
        State.COMPLETED_WITH_ERRORS,
    }
    assert {state for state in State if stage_of(state) is None} == FINAL | AWAITING_OBJECT
    assert stage_of(State.PROMOTING) == "validate"
    assert stage_of(State.PROCESSING) == "thumbnail"


def test_the_diagram_is_stable_and_in_the_docs() -> None:
    """as_mermaid prints every change of the table once; docs/architecture.md holds the same lines."""
    diagram = as_mermaid()
    lines = diagram.splitlines()[2:]

    assert diagram == as_mermaid()
    assert len(lines) == len(set(lines))
    assert set(lines) == {
        f"    {state.value} --> {following.value}: {event.value}"
        for (state, event), following in TRANSITIONS.items()
        if following not in {None, state}
    }
    assert diagram.strip() in (DOCS / "architecture.md").read_text()
