"""How long to wait before the next try. Pure but for ``Clock``, through which all time and chance come."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from datetime import UTC, datetime

BASE_S = 0.3
CAP_S = 20.0
# A Retry-After beyond this is a mistake or an attack, not a schedule.
RETRY_AFTER_MAX_S = 300.0
POLL_FIRST_S = 0.2
POLL_LAST_S = 2.0
POLL_GROWTH = 1.5


def full_jitter(attempt: int, rand: float) -> float:
    """Seconds before try ``attempt`` + 1 (attempts count from 0), ``rand`` in [0, 1).

    Full jitter: uniform between nothing and the exponential, so that clients that failed together do not
    come back together.
    """
    return rand * min(CAP_S, BASE_S * 2.0 ** min(attempt, 16))


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date), None if it says nothing."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(RETRY_AFTER_MAX_S, float(text[:9]))
    at = http_date(text)
    return None if at is None else min(RETRY_AFTER_MAX_S, max(0.0, at - now))


def pause_s(attempt: int, rand: float, retry_after: float | None = None) -> float:
    """The wait before another try: what the server asks for, else full jitter, whichever is longer."""
    jitter = full_jitter(attempt, rand)
    return jitter if retry_after is None else max(retry_after, jitter)


def poll_s(polls: int) -> float:
    """The wait after poll number ``polls`` (from 0) of something that is not final yet: 0.2 s growing to 2 s."""
    return min(POLL_LAST_S, POLL_FIRST_S * POLL_GROWTH ** min(polls, 32))


def http_date(text: str | None) -> float | None:
    """An HTTP date as seconds since the epoch, None if it is none."""
    if not text:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment_s(value: object) -> float | None:
    """An ``expires_at`` as seconds since the epoch: a number, or ISO 8601 text; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Clock:
    """Time and chance, replaceable in tests."""

    def now(self) -> float:
        """Seconds that only grow; for durations."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch by this machine's clock, which may be wrong."""
        return time.time()

    def random(self) -> float:
        """A number in [0, 1)."""
        return random.random()

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        """Wait, but no longer than until ``stop`` is set; True if it is."""
        return stop.wait(seconds)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on a condition that is held, at most so long."""
        condition.wait(seconds)
