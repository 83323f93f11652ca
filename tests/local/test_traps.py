"""Traps are read strictly and spring exactly when they were asked to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.traps import AFTER, BEFORE, Sprung, Trap, TrapError, Traps, parse


def test_a_number_and_its_long_form() -> None:
    """Before, once, unless something else is said."""
    traps = parse({"f": {"UploadPart": 3, "PutItem": {"number": 2, "when": "after", "every": True}}})

    assert traps == {("f", "UploadPart"): Trap(3, BEFORE, False), ("f", "PutItem"): Trap(2, AFTER, True)}
    assert parse({"f": {"PutItem": Trap(2, AFTER, True).as_json()}}) == {("f", "PutItem"): Trap(2, AFTER, True)}


@pytest.mark.parametrize(
    "calls",
    [
        [],
        {"f": 3},
        {"f": {"X": 0}},
        {"f": {"X": True}},
        {"f": {"X": "3"}},
        {"f": {"X": {"number": 1, "when": "during"}}},
        {"f": {"X": {"number": 1, "often": True}}},
        {"f": {"X": {"when": "after"}}},
    ],
)
def test_what_makes_no_sense_is_refused(calls: Any) -> None:
    """A misspelt trap must not look like a survived kill."""
    with pytest.raises(TrapError):
        parse(calls)


@given(st.integers(1, 5), st.booleans(), st.integers(0, 20))
def test_a_trap_springs_once_or_at_every_multiple(number: int, every: bool, calls: int) -> None:
    """Counted by caller and operation, from when it was set."""
    traps = Traps()
    traps.set({("f", "X"): Trap(number, BEFORE, every)})
    sprung = []
    for _ in range(calls):
        assert traps.arrived("g", "X") is None
        assert traps.arrived("f", "Y") is None
        if (hit := traps.arrived("f", "X")) is not None:
            sprung.append(hit)

    expected = [n for n in range(1, calls + 1) if (n % number == 0 if every else n == number)]
    assert sprung == [Sprung("f", "X", n, BEFORE) for n in expected]
    traps.set({("f", "X"): Trap(1)})
    assert traps.arrived("f", "X") == Sprung("f", "X", 1, BEFORE)
