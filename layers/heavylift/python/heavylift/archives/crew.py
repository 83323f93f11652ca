"""Threads that do one kind of work each until there is none left, time is short, or one of them fails.

Nothing here waits past the deadline: what S3 has not answered by then is left to it, and the next slice sees by
ListParts what came of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

TICK_S = 5.0  # how often somebody is told how far the work is


@dataclass(frozen=True, slots=True)
class Lane:
    """``threads`` that take the next of ``work`` and ``do`` it."""

    work: Iterable[Any]
    threads: int
    do: Callable[[Any], None]


class Crew:
    """One slice's work. ``late``: something was not begun, or not waited for, for want of time."""

    def __init__(self, seconds_left: Callable[[], float]) -> None:
        self.late = False
        self._seconds_left = seconds_left

    def run(self, lanes: Iterable[Lane], tick: Callable[[], None] = lambda: None) -> None:
        """Work until all is done or the time is over. Raises what the first thread to fail raised, and what ``tick``
        raises, which is called every few seconds.
        """
        lanes, stopped = list(lanes), threading.Event()
        pool = ThreadPoolExecutor(sum(lane.threads for lane in lanes), thread_name_prefix="archive")
        running = [future for lane in lanes for future in self._start(pool, lane, stopped)]
        try:
            while running and self._seconds_left() > 0:
                ended, running_still = wait(running, min(TICK_S, max(0.0, self._seconds_left())), FIRST_EXCEPTION)
                for future in ended:
                    future.result()
                if not running_still:
                    return
                running = list(running_still)
                tick()
            self.late = True
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            # What runs may end in time, so that it is neither done twice nor told of a wrong upload.
            wait([future for future in running if not future.cancelled()], max(0.0, self._seconds_left()))

    def _start(self, pool: ThreadPoolExecutor, lane: Lane, stopped: threading.Event) -> list[Future[None]]:
        left, slowest, lock = iter(lane.work), [0.0], threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    if stopped.is_set():
                        return
                    # Begun only if it would end in time were it as slow as the slowest one so far.
                    if self._seconds_left() <= slowest[0]:
                        self.late = True
                        return
                    try:
                        one = next(left)
                    except StopIteration:
                        return
                started = time.monotonic()
                lane.do(one)
                slowest[0] = max(slowest[0], time.monotonic() - started)

        return [pool.submit(work) for _ in range(lane.threads)]
