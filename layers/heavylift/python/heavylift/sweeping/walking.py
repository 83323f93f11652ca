"""How the sweeper goes through listings: page by page, in bounded laps, on from where the last run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import ClientError

from heavylift import s3
from heavylift.errors import HeavyliftError
from heavylift.s3 import Listed
from heavylift.settings import settings
from heavylift.telemetry import logger

PAGE = 1_000
LAP_PAGES_MAX = 20  # of each class in one run: 20 000 keys; the next run goes on behind them
# initiate's 29 s and a margin for clocks that disagree: no upload or object is older and still without its record.
GRACE_S = 120.0
GRACE_MIN_S = 5.0  # on a scaled clock too, a call of ours takes its time
EVENT_S = 60.0  # an event that is not there after a minute is looked for; most take a second

Note = Callable[[str], None]
GoOn = Callable[[], bool]
Places = dict[str, Any]


def scaled(seconds: float) -> float:
    """A grace time on this deployment's clock."""
    return max(GRACE_MIN_S, seconds / settings().time_scale)


def attempt(note: Note, what: str, key: str, act: Callable[[], object]) -> None:
    """One key that cannot be settled does not keep the others waiting."""
    try:
        act()
    except HeavyliftError as error:
        logger().warning("could not settle an object now", key=key, step=what, code=error.code)
        note("postponed")
    except ClientError:
        logger().exception("could not settle an object", key=key, step=what)
        note("refused")
    else:
        note(what)


def walk(
    bucket: str, prefix: str, place: str, places: Places, go_on: GoOn, pages_max: int | None
) -> Iterable[list[Listed]]:
    """Pages of a listing from where the last run stopped; where this one stops is kept in ``places``."""
    after: str | None = places.get(place, "")
    pages = 0
    while after is not None:
        if not go_on() or (pages_max is not None and pages >= pages_max):
            return
        page, after = s3.list_objects(bucket, prefix, after=after, limit=PAGE)
        pages += 1
        yield page
        if after is None:
            places.pop(place, None)
        else:
            places[place] = after
