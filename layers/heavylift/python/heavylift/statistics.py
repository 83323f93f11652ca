"""Statistics of a tenant: what is counted, in which hour, how hours become days, months and a total. Pure.

A file belongs to the hour (UTC) in which it was created, a member of a batch to its batch's hour: both stand in its
id. So an hour of a tenant is a range of ids, whatever becomes of its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from heavylift import ids
from heavylift.records import iso
from heavylift.states import FINAL, STORED, State

HOUR_S = 3_600
DAY_HOURS = 24
WEEK_HOURS = 7 * DAY_HOURS
# What of a record is counted; nothing else is read for it.
FIELDS = ("file_id", "status", "size", "created_at", "staged_at")
_STORED = frozenset(state.value for state in STORED)
_FAILED = frozenset({State.FAILED.value, State.REJECTED.value})
_FINAL = frozenset(state.value for state in FINAL)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over files. Whole numbers all, so that the order in which they are added makes no difference."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    bytes_total: int = 0
    active_uploads: int = 0
    active_bytes: int = 0
    timed_bytes: int = 0
    """Bytes of the files whose upload has ended, and how long their uploads took together."""
    timed_ms: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))

    def as_item(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


NOTHING = Counts()


def from_item(item: Mapping[str, Any]) -> Counts:
    """The counts of an item; what it does not name is 0."""
    return Counts(**{f.name: item.get(f.name, 0) for f in fields(Counts)})


def add_up(parts: Iterable[Counts]) -> Counts:
    """The sum."""
    return sum(parts, NOTHING)


def count(item: Mapping[str, Any]) -> Counts:
    """What one file adds; a tombstone adds nothing."""
    status, size = item["status"], item["size"]
    if status == State.DELETED.value:
        return NOTHING
    uploading = status == State.UPLOADING.value
    staged_at = item.get("staged_at")
    took_ms = 0 if staged_at is None else round(1000 * (staged_at - item["created_at"]))
    # A file that was staged when it was created was never uploaded: there is no speed to tell.
    timed = staged_at is not None and staged_at > item["created_at"]
    return Counts(
        total=1,
        succeeded=int(status in _STORED),
        failed=int(status in _FAILED),
        bytes_total=size,
        active_uploads=int(uploading),
        active_bytes=size if uploading else 0,
        timed_bytes=size if timed else 0,
        timed_ms=max(took_ms, 1) if timed else 0,
    )


def is_open(item: Mapping[str, Any]) -> bool:
    """Whether what this file adds may change without anybody marking its hour."""
    return item["status"] not in _FINAL


def hour_of(file_id: str) -> str:
    """``yyyy-mm-ddThh`` in UTC."""
    return _hour_text(ids.ulid_ms(file_id) // 1000)


def _hour_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H")


def id_range(hour: str) -> tuple[str, str]:
    """(low, high): the ids of an hour's files lie between the two."""
    start_ms = int(datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()) * 1000
    # The next hour's first prefix, which is shorter than any id that begins with it, sorts before them all.
    return ids.ulid_prefix(start_ms), ids.ulid_prefix(start_ms + HOUR_S * 1000)


# --- items of a tenant's statistics ---
TOTAL = "NOW"


def partition(tenant: str) -> str:
    return f"T#{tenant}#STATS"


def hour_key(hour: str) -> str:
    return f"H#{hour}"


def open_key(hour: str) -> str:
    """Of the item that names the files of an hour that have not ended yet."""
    return f"O#{hour}"


def folds(hour: str) -> tuple[tuple[str, str], ...]:
    """What an hour goes into: (sort key of the sum, prefix of the sort keys that it is the sum of), smallest first.

    A day has at most 24 hours, a month 31 days, a total 12 months a year: each is one small read.
    """
    day, month = hour[:10], hour[:7]
    return (f"D#{day}", f"H#{day}T"), (f"M#{month}", f"D#{month}-"), (TOTAL, "M#")


def week_range(as_of: float) -> tuple[str, str]:
    """(low, high): the sort keys of the hours that ``view`` needs."""
    return hour_key(_hour_text(as_of - (WEEK_HOURS - 1) * HOUR_S)), "H#~"


def view(total: Counts, hours: Mapping[str, Counts], as_of: float | None) -> dict[str, Any]:
    """GET /v1/stats. ``hours``: by sort key. Before the first count all is zero and ``as_of`` null.

    Today and this week are the hour of ``as_of`` and the 23 and 167 whole hours before it.
    """
    if as_of is None:
        total, week, today = NOTHING, NOTHING, NOTHING
    else:
        since_week, since_today = week_range(as_of)[0], hour_key(_hour_text(as_of - (DAY_HOURS - 1) * HOUR_S))
        week = add_up(counts for key, counts in hours.items() if key >= since_week)
        today = add_up(counts for key, counts in hours.items() if key >= since_today)
    return {
        "as_of": iso(as_of),
        "active_uploads": total.active_uploads,
        "active_bytes": total.active_bytes,
        "average_bytes_per_s": round(1000 * week.timed_bytes / week.timed_ms) if week.timed_ms else 0,
        "uploads_today": today.total,
        "uploads_week": week.total,
        "total": total.total,
        "succeeded": total.succeeded,
        "failed": total.failed,
        "bytes_total": total.bytes_total,
        "bytes_average": round(total.bytes_total / total.total) if total.total else 0,
    }
