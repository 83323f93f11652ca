"""sweep: what the clock has to do. Bounded pages, restartable, one run at a time.

Events are hints; the table and the buckets are the truth. A run settles what is due (lapsed leases, lost messages,
announcements, expired sessions, the remains of what is gone), compares the open uploads and the staging bucket with
the records, looks after archives, counts the statistics and walks a bounded way through the store and what was derived
from it.
"""

from __future__ import annotations

from collections.abc import Callable

from heavylift import counting
from heavylift.sweeping import archives, due, listings, turn
from heavylift.telemetry import count, logger


def sweep(seconds_left: Callable[[], float]) -> dict[str, int]:
    """One run: what was done, by kind. Stops in time; what is left is found by the next run."""
    mine = turn.take()
    if mine is None:
        logger().info("another run of the sweeper is at work")
        return {}
    done: dict[str, int] = {}

    def note(what: str) -> None:
        if what != "nothing":
            done[what] = done.get(what, 0) + 1

    def go_on() -> bool:
        return seconds_left() > 0 and mine.keep()

    try:
        backlog = due.Backlog()
        due.settle_all(go_on, note, backlog)
        places = turn.places()
        listings.compare_uploads(go_on, note, places)
        listings.compare_staging(go_on, note, places, backlog)
        listings.compare_work(go_on, note, places)
        archives.compare_requests(go_on, note, places)
        archives.compare_uploads(go_on, note, places)
        counting.recount(lambda: seconds_left() if go_on() else 0.0)
        listings.walk_store(go_on, note, places)
        listings.walk_derived(go_on, note, places)
        archives.walk_archives(go_on, note, places)
        turn.keep_places(places)
    finally:
        mine.give_back()
    logger().info("swept", done=done)
    for what, number in done.items():
        count("Swept", number, what=what)
    return done
