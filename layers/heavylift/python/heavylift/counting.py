"""Counting a tenant's files for the statistics: marks of what changed, and the recount that the sweeper runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from heavylift import dynamo, statistics

SCAN_PAGE = 1_000
_STATE = {"pk": "T#_#SWEEP", "sk": "STATISTICS"}


def mark(tenant: str, file_id: str) -> None:
    """Say that what is counted of this file has changed, or is about to within the minute."""
    mark_all(tenant, (file_id,))


def mark_all(tenant: str, file_ids: Iterable[str]) -> None:
    """``mark`` for many files of one call: one write an hour, not one a file."""


def recount(seconds_left: Callable[[], float]) -> dict[str, int]:
    """One run of the sweeper: bring the statistics up to date. Stops in time; the next run goes on.

    The answer says how many pages were read.
    """
    state = dynamo.get_item(_STATE) or {}
    sums = state.get("sums") or {}
    start = state.get("next") or None
    now = time.time()
    pages = 0
    while seconds_left() > 0:
        items, start = dynamo.scan_page(statistics.COUNTED, start, SCAN_PAGE)
        pages += 1
        sums = statistics.add(sums, items, now)
        if start is None:
            for tenant, counts in sums.items():
                dynamo.put_item({**statistics.item_key(tenant), "as_of": now, "counts": counts})
            sums = {}
            break
    dynamo.put_item({**_STATE, "sums": sums, "next": start or {}})
    return {"pages": pages}
