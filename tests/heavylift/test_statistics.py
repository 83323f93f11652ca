"""Statistics: files into hours, hours into days, months and a total, and what is shown of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import ids, statistics
from heavylift.states import FINAL, State
from heavylift.statistics import NOTHING, Counts

NOW = 1_763_596_800.0  # 2025-11-20T00:00:00Z
HOUR_S = 3_600

seconds = st.floats(0, 4e9, allow_nan=False)
files = st.builds(
    lambda status, size, age, took: {
        "file_id": ids.new_ulid(NOW - age),
        "status": status.value,
        "size": size,
        "created_at": NOW - age,
        **({} if took is None else {"staged_at": NOW - age + took}),
    },
    st.sampled_from(list(State)),
    st.integers(0, 10**13),
    st.integers(0, 20 * 86_400),
    st.one_of(st.none(), st.integers(0, 86_400)),
)


def shown(found: list[dict[str, Any]], as_of: float = NOW) -> dict[str, Any]:
    """The view of these files, by the way of the items."""
    hours: dict[str, Counts] = {}
    for file in found:
        key = statistics.hour_key(statistics.hour_of(file["file_id"]))
        hours[key] = hours.get(key, NOTHING) + statistics.count(file)
    return statistics.view(statistics.add_up(hours.values()), hours, as_of)


@given(st.lists(files, max_size=30))
def test_what_is_shown(found: list[dict[str, Any]]) -> None:
    """Each figure from its definition; a tombstone is in none."""
    view = shown(found)
    there = [file for file in found if file["status"] != "deleted"]
    stored = {"fresh", "processing", "completed", "completed_with_errors"}
    uploading = [file["size"] for file in there if file["status"] == "uploading"]

    assert view["total"] == len(there)
    assert view["bytes_total"] == sum(file["size"] for file in there)
    assert view["failed"] == sum(file["status"] in {"failed", "rejected"} for file in there)
    assert view["succeeded"] == sum(file["status"] in stored for file in there)
    assert (view["active_uploads"], view["active_bytes"]) == (len(uploading), sum(uploading))
    for name, hours in (("uploads_today", 24), ("uploads_week", 168)):
        since = NOW - (hours - 1) * HOUR_S
        assert view[name] == sum(file["created_at"] >= since for file in there)


@given(st.lists(files, max_size=20), st.randoms(use_true_random=False))
def test_the_order_makes_no_difference(found: list[dict[str, Any]], random: Any) -> None:
    """Sums of whole numbers: the same, however files are grouped and in whatever order."""
    mixed = random.sample(found, len(found))
    cut = random.randint(0, len(found))
    halves = [statistics.add_up(map(statistics.count, part)) for part in (mixed[:cut], mixed[cut:])]

    assert statistics.add_up(halves) == statistics.add_up(map(statistics.count, found))
    assert statistics.from_item(halves[0].as_item()) == halves[0]


@given(seconds)
def test_an_hour_is_a_range_of_ids(at: float) -> None:
    """Every id of the hour lies in its range, a batch's files too, and no id of another hour."""
    hour = statistics.hour_of(ids.new_ulid(at))
    low, high = statistics.id_range(hour)
    start = at // HOUR_S * HOUR_S

    assert hour == datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%dT%H")
    for inside in (at, start, start + HOUR_S - 0.001):
        assert all(low <= ids.new_ulid(inside) + tail <= high for tail in ("", "-000001", "-999999"))
    for outside in (start - 0.001, start + HOUR_S):
        if outside >= 0:
            assert not low <= ids.new_ulid(outside) <= high


@given(seconds)
def test_every_sum_is_of_what_lies_below_it(at: float) -> None:
    """Hour, day, month, total: each key begins with the prefix that the next sum reads, and no other does."""
    hour = statistics.hour_of(ids.new_ulid(at))
    key = statistics.hour_key(hour)
    prefixes = [prefix for _, prefix in statistics.folds(hour)]
    for sum_key, prefix in statistics.folds(hour):
        assert [one for one in prefixes if key.startswith(one)] == [prefix]
        key = sum_key
    assert key == statistics.TOTAL
    assert not statistics.open_key(hour).startswith(tuple(prefixes))


@pytest.mark.parametrize(
    ("hours_ago", "today", "week"), [(0, 1, 1), (23, 1, 1), (24, 0, 1), (167, 0, 1), (168, 0, 0), (-1, 1, 1)]
)
def test_whole_hours(hours_ago: int, today: int, week: int) -> None:
    """The hour of as_of and the 23 and 167 before it; what was counted after as_of is there too."""
    as_of = NOW + 1_800
    file = {"file_id": ids.new_ulid(as_of - hours_ago * HOUR_S), "status": "created", "size": 1, "created_at": as_of}
    view = shown([file], as_of)

    assert (view["uploads_today"], view["uploads_week"]) == (today, week)
    low, high = statistics.week_range(as_of)
    assert (low <= statistics.hour_key(statistics.hour_of(file["file_id"])) <= high) is bool(week)


def test_average_speed() -> None:
    """Bytes over seconds from initiate to staged, of the last seven days; what was never uploaded has no speed."""

    def file(size: int, age: float, took: float | None) -> dict[str, Any]:
        made = {"file_id": ids.new_ulid(NOW - age), "status": "completed", "size": size, "created_at": NOW - age}
        return made if took is None else {**made, "staged_at": NOW - age + took}

    found = [file(100, 20, 10), file(300, 40, 30), file(10**9, 9 * 86_400, 5), file(10**9, 5, None), file(10**9, 5, 0)]

    assert shown(found)["average_bytes_per_s"] == 10
    assert shown(found)["as_of"] == "2025-11-20T00:00:00.000Z"
    assert shown([file(7, 20, 1e-6)])["average_bytes_per_s"] == 7_000  # a millisecond at least


def test_before_the_first_count() -> None:
    """All zero and as_of null, whatever a first count has written already."""
    view = statistics.view(Counts(total=3), {}, None)

    assert view.pop("as_of") is None
    assert set(view.values()) == {0}
    assert list(view) == [
        "active_uploads", "active_bytes", "average_bytes_per_s", "uploads_today", "uploads_week", "total", "succeeded",
        "failed", "bytes_total", "bytes_average",
    ]  # fmt: skip


def test_who_has_ended() -> None:
    """Exactly the final states: nothing of theirs changes without a mark."""
    assert {state for state in State if not statistics.is_open({"status": state.value})} == FINAL
