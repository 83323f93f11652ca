"""Marks: higher versions win whatever the order, and the counts are those of the last marks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from heavylift.batches import marks
from heavylift.batches.marks import Tally
from heavylift.states import FINAL, State

OUTCOMES = "rswfxckdm"


def test_every_final_state_has_an_outcome() -> None:
    """But deleted, which leaves the verdict as it was; no other state has one."""
    assert {state for state in State if marks.outcome_of(state)} == FINAL - {State.DELETED}


@given(st.integers(0, 2_000_000), st.integers(0, 2_000_000), st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES))
def test_marks_sort_by_version(one: int, two: int, a: str, b: str) -> None:
    """Text order is version order, up to the largest version that a mark can tell."""
    if min(one, marks.VERSION_MAX) < min(two, marks.VERSION_MAX):
        assert marks.mark_of(one, a) < marks.mark_of(two, b)


@given(
    st.lists(st.tuples(st.integers(0, 250), st.integers(1, 50), st.sampled_from(OUTCOMES)), max_size=60),
    st.integers(0, 2**32),
)
def test_any_order_and_any_repeat_count_the_same(written: list[tuple[int, int, str]], seed: int) -> None:
    """Each member's highest version decides; the simple model is a dictionary."""
    once = {(n, version): outcome for n, version, outcome in written}  # one outcome a version
    model: dict[int, tuple[int, str]] = {}
    for (n, version), outcome in once.items():
        model[n] = max(model.get(n, (0, "")), (version, outcome))
    order = [(n, version, outcome) for (n, version), outcome in once.items()] * 2
    random.Random(seed).shuffle(order)
    items: dict[str, dict[str, str]] = {}
    for n, version, outcome in order:
        item = items.setdefault(marks.sort_key(n // 100), {"sk": marks.sort_key(n // 100)})
        mark = marks.mark_of(version, outcome)
        if item.get(marks.name_of(n), "") < mark:
            item[marks.name_of(n)] = mark
    found = {n: mark for item in items.values() for n, mark in marks.of_item(item).items()}

    assert {n: mark[-1] for n, mark in found.items()} == {n: outcome for n, (_, outcome) in model.items()}
    last = [outcome for _, outcome in model.values()]
    total = marks.tally(found.values())
    assert total == Tally(
        received=sum(outcome in "rswfkd" for outcome in last),
        succeeded=last.count("s") + last.count("w"),
        flawed=last.count("w"),
        failed=sum(outcome in "fxm" for outcome in last),
        skipped=last.count("k") + last.count("c"),
        duplicates=last.count("d"),
    )
    assert total.processed == len(last) - last.count("r")
    parts = [marks.tally(marks.of_item(item).values()) for item in items.values()]
    summed = Tally()
    for part in parts:
        summed = summed.plus(part)
    assert summed == total


def test_missing_gives_way_to_anything_that_arrives() -> None:
    """A record's first version is 1."""
    assert marks.mark_of(0, marks.MISSING) < marks.mark_of(1, marks.RUNNING)
