"""Marks: what became of each member, and the exact counts that they add up to. No I/O here.

An item ``C#<hundred>`` holds an attribute for each member of which anything is known, named by the last two digits of
its number. A mark is the version of the member's record and one letter; a mark only ever gives way to one of a higher
version, so that marks may be written twice, late and out of order. A hundred items of a busy batch share the writes:
there is no counter that all members write to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from heavylift.batches.manifest import HUNDRED
from heavylift.states import State

RUNNING = "r"  # it has arrived and has no verdict yet
SUCCEEDED = "s"
FLAWED = "w"  # stored, with a defect: succeeded, with a warning
FAILED = "f"
NEVER_ARRIVED = "x"  # its session ended without all of its bytes
CANCELLED = "c"
SKIPPED = "k"  # it arrived and is none of the files that are wanted
DUPLICATE = "d"
MISSING = "m"  # the batch was completed without it
NOTED = "n"  # stored; something about it is worth knowing: succeeded, with a warning
EXPANDED = "z"  # a ZIP or tar of files: its members count, it does not

VERSION_MAX = 999_999
_OUTCOMES = {
    State.COMPLETED: SUCCEEDED,
    State.COMPLETED_WITH_ERRORS: FLAWED,
    State.REJECTED: FAILED,
    State.FAILED: FAILED,
    State.EXPIRED: NEVER_ARRIVED,
    State.CANCELLED: CANCELLED,
}
FAILURES = frozenset({FAILED, NEVER_ARRIVED, MISSING})
WARNED = frozenset({FLAWED, NOTED, SKIPPED})
_ARRIVED = frozenset({RUNNING, SUCCEEDED, FLAWED, FAILED, SKIPPED, DUPLICATE, NOTED})


def sort_key(hundred: int) -> str:
    return f"C#{hundred:04d}"


def name_of(n: int) -> str:
    """The attribute of member ``n`` in its hundred's item."""
    return f"{n % HUNDRED:02d}"


def mark_of(version: int, outcome: str) -> str:
    """Text that sorts by ``version``; of one version there is one outcome."""
    return f"{min(version, VERSION_MAX):06d}{outcome}"


def outcome_of(status: State, dicom: Mapping[str, Any] | None = None) -> str | None:
    """The verdict that a final state means; None for ``deleted``, which leaves the verdict as it was.

    ``dicom``: what dicom_ingest has found, whose verdicts are finer than the states.
    """
    found = _OUTCOMES.get(status)
    if dicom and dicom.get("mark") and found in {SUCCEEDED, FLAWED, FAILED} and status is not State.FAILED:
        return str(dicom["mark"])
    return found


def is_final(mark: str | None) -> bool:
    return mark is not None and not mark.endswith(RUNNING)


def of_item(item: Mapping[str, Any]) -> dict[int, str]:
    """Member number -> mark of a ``C#`` item."""
    hundred = int(item["sk"][2:])
    return {hundred * HUNDRED + int(name): mark for name, mark in item.items() if len(name) == 2 and name.isdigit()}


@dataclass(frozen=True, slots=True)
class Tally:
    """What the marks of a batch add up to. ``processed`` = succeeded + failed + skipped + duplicates."""

    received: int = 0
    succeeded: int = 0
    flawed: int = 0
    failed: int = 0
    skipped: int = 0
    duplicates: int = 0

    @property
    def processed(self) -> int:
        return self.succeeded + self.failed + self.skipped + self.duplicates

    def plus(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))


def tally(marks: Iterable[str]) -> Tally:
    """Count marks; each member has one."""
    counts: dict[str, int] = {}
    for mark in marks:
        counts[mark[-1]] = counts.get(mark[-1], 0) + 1
    return Tally(
        received=sum(number for outcome, number in counts.items() if outcome in _ARRIVED),
        succeeded=counts.get(SUCCEEDED, 0) + counts.get(FLAWED, 0) + counts.get(NOTED, 0),
        flawed=counts.get(FLAWED, 0),
        failed=sum(counts.get(outcome, 0) for outcome in FAILURES),
        skipped=counts.get(SKIPPED, 0) + counts.get(CANCELLED, 0),
        duplicates=counts.get(DUPLICATE, 0),
    )
