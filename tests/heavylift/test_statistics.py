"""Statistics: a sum of pages, in any cut; restartable."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heavylift import statistics
from heavylift.states import State

NOW = 1_763_596_800.0
items = st.lists(
    st.builds(
        lambda tenant, status, size, age, took: {
            "tenant": tenant,
            "status": status.value,
            "size": size,
            "created_at": NOW - age,
            **({} if took is None else {"staged_at": NOW - age + took}),
        },
        st.sampled_from(["acme", "globex"]),
        st.sampled_from(list(State)),
        st.integers(0, 10**13),
        st.integers(0, 20 * 86_400),
        st.one_of(st.none(), st.integers(0, 86_400)),
    ),
    max_size=30,
)


@given(items, st.lists(st.integers(0, 30), max_size=4))
def test_pages_may_be_cut_anywhere(found: list[dict[str, Any]], cuts: list[int]) -> None:
    """Counted page by page or all at once: the same view, each tenant its own."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(found)), len(found)]
    sums: dict[str, Any] = {}
    for start, end in itertools.pairwise(edges):
        sums = statistics.add(sums, found[start:end], NOW)
    whole = statistics.add({}, found, NOW)

    assert sums == whole
    for tenant in ("acme", "globex"):
        mine = [item for item in found if item["tenant"] == tenant]
        view = statistics.view({"as_of": NOW, "counts": whole.get(tenant, {})})
        assert view["total"] == len(mine)
        assert view["bytes_total"] == sum(item["size"] for item in mine)
        assert view["failed"] == sum(item["status"] in {"failed", "rejected"} for item in mine)
        assert view["succeeded"] == sum(
            item["status"] in {"fresh", "completed", "completed_with_errors"} for item in mine
        )
        open_ones = [item["size"] for item in mine if item["status"] == "uploading"]
        assert (view["active_uploads"], view["active_bytes"]) == (len(open_ones), sum(open_ones))
        assert view["uploads_today"] == sum(NOW - item["created_at"] < 86_400 for item in mine)
        assert view["uploads_week"] == sum(NOW - item["created_at"] < 7 * 86_400 for item in mine)


def test_the_pages_before_are_not_changed() -> None:
    """add returns new sums: a page that is counted again after a kill finds the old ones."""
    item = {"tenant": "acme", "status": "fresh", "size": 5, "created_at": NOW - 1}
    before = statistics.add({}, [item], NOW)
    copy = {tenant: dict(counts) for tenant, counts in before.items()}
    statistics.add(before, [item], NOW)
    assert before == copy


def test_average_speed() -> None:
    """Bytes over seconds from initiate to staged, of the last seven days."""
    found = [
        {"tenant": "a", "status": "completed", "size": 100, "created_at": NOW - 20, "staged_at": NOW - 10},
        {"tenant": "a", "status": "completed", "size": 300, "created_at": NOW - 40, "staged_at": NOW - 10},
        {
            "tenant": "a",
            "status": "completed",
            "size": 10**9,
            "created_at": NOW - 9 * 86_400,
            "staged_at": NOW - 8 * 86_400,
        },
        {"tenant": "a", "status": "uploading", "size": 10**9, "created_at": NOW - 5},
    ]
    counts = statistics.add({}, found, NOW)["a"]

    assert statistics.view({"as_of": NOW, "counts": counts})["average_bytes_per_s"] == 10
    assert statistics.view({"as_of": NOW, "counts": counts})["as_of"] == "2025-11-20T00:00:00.000Z"
