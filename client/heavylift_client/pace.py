"""How many requests are on the wire at once: more while that pays, fewer when the store says so. No I/O here.

The controller climbs: every epoch it compares what went out per second with the epoch before. One more step up
is kept only if it brought something; otherwise it is taken back and not tried again for a while. A ``SlowDown``
halves the number at once, at most once an epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from heavylift_client.backoff import Clock

FIRST = 4
FIRST_SMALL = 10  # a small PUT is mostly waiting: other clients begin with as many
MOST = 16  # S3 gives 40-90 MB/s a connection: sixteen fill 10 Gbit/s
EPOCH_S = 2.0  # long enough that one slow part does not decide
PAYS = 1.1  # throughput is noisy; a step that brings less than this brings nothing
HOLD_EPOCHS = 8  # before a step that did not pay is tried again
HOLD_AFTER_SLOW_EPOCHS = 2


@dataclass(frozen=True, slots=True)
class Trend:
    """What the controller knows: the number now, and what it got from the number before.

    ``before``: the number before the step on trial, None when none is; ``rate``: bytes/s before that step.
    """

    limit: int
    most: int
    before: int | None = None
    rate: float = 0.0
    hold: int = 0


def after_epoch(trend: Trend, rate: float, busy: bool) -> Trend:
    """The trend after an epoch with ``rate`` bytes/s; ``busy``: whether all allowed requests were in use."""
    if trend.before is not None and rate < trend.rate * PAYS:
        return replace(trend, limit=trend.before, before=None, rate=rate, hold=HOLD_EPOCHS)
    if trend.hold:
        return replace(trend, before=None, rate=rate, hold=trend.hold - 1)
    if not busy or trend.limit >= trend.most:
        return replace(trend, before=None, rate=rate)
    step = max(1, trend.limit // 4)
    return replace(trend, limit=min(trend.most, trend.limit + step), before=trend.limit, rate=rate)


def slowed(trend: Trend) -> Trend:
    """The trend after the store asked for less."""
    return replace(trend, limit=max(1, trend.limit // 2), before=None, hold=HOLD_AFTER_SLOW_EPOCHS)


class Pace:
    """Counts the requests on the wire of one run, all of its lanes together. Thread-safe.

    ``fixed``: the number to begin with and never to exceed; None: begin with ``first``, find the best up to 16.
    """

    def __init__(self, fixed: int | None, clock: Clock, *, first: int = FIRST) -> None:
        most = MOST if fixed is None else max(1, fixed)
        self.most = most
        """How many there may ever be; the number of threads worth having."""
        self._trend = Trend(min(first, most) if fixed is None else most, most)
        self._clock = clock
        self._condition = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._on_wire = 0
        self._peak = 0
        self._bytes = 0
        self._began: float | None = None
        self._slowed = False

    @property
    def limit(self) -> int:
        """How many there may be now."""
        return self._trend.limit

    def listen(self, wake: Callable[[], None]) -> None:
        """``wake`` is called, without a lock, whenever another request may begin."""
        self._listeners.append(wake)

    def try_enter(self) -> bool:
        """Take a place on the wire if one is free."""
        with self._condition:
            if self._on_wire >= self._trend.limit:
                return False
            self._on_wire += 1
            self._peak = max(self._peak, self._on_wire)
            if self._began is None:
                self._began = self._clock.now()
            return True

    def enter(self, stop: threading.Event) -> bool:
        """Wait for a place on the wire; False when stopped."""
        while not self.try_enter():
            with self._condition:
                # A limit in time, because ``stop`` may come from a signal handler that notifies nobody.
                self._condition.wait(0.2)
            if stop.is_set():
                return False
        return True

    def leave(self, sent_bytes: int, *, slow_down: bool = False) -> None:
        """Give the place back: what went out, and whether the store asked for less."""
        with self._condition:
            self._on_wire -= 1
            self._bytes += sent_bytes
            self._judge(slow_down)
            self._condition.notify()
        for wake in self._listeners:
            wake()

    def _judge(self, slow_down: bool) -> None:
        if slow_down and not self._slowed:
            self._slowed = True  # those that were on the wire with it say the same
            self._trend = slowed(self._trend)
        now = self._clock.now()
        lasted_s = now - (self._began if self._began is not None else now)
        if lasted_s < EPOCH_S:
            return
        if not self._slowed:
            self._trend = after_epoch(self._trend, self._bytes / lasted_s, self._peak >= self._trend.limit)
        self._began, self._bytes, self._peak, self._slowed = now, 0, self._on_wire, False
