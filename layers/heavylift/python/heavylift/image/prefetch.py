"""Serves ranges to a pipe: several at once from the source, in order to the pipe, bounded bytes in between.

Nothing is read that was not asked for, and nothing twice. Retries belong to the source.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from heavylift.errors import HeavyliftError
from heavylift.ranges import Fetch, Range, short_read

# S3 gives 40 to 90 MB/s a connection and answers after some 20 ms: twelve ranges of 2 MiB take what one function's
# network gives, where four of 4 MiB took half of it (measured), and stay below 32 MiB with the parent's own buffers.
CONNECTIONS: Final = 12
IN_FLIGHT_BYTES: Final = 24 << 20


# glibc's mallopt: one heap for all threads, as four of their own would keep 8 MiB each that nobody uses (measured: 40
# MiB more at the peak without, 16 with); ranges come from it and go back to it, for by mmap each of their pages faults
# anew (2 GB: 0.3 to 0.5 s of system time).
_MALLOC_OPTIONS: Final = ((-8, 1), (-3, 32 << 20), (-1, 32 << 20))  # M_ARENA_MAX, M_MMAP_ and M_TRIM_THRESHOLD


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Have glibc reuse what threads free."""
    if sys.platform == "linux":
        import ctypes

        try:
            for option, value in _MALLOC_OPTIONS:
                ctypes.CDLL(None).mallopt(option, value)
        except (OSError, AttributeError):
            pass  # another C library: more memory, nothing wrong


class _Slot:
    __slots__ = ("data", "range")

    def __init__(self, want: Range) -> None:
        self.range = want
        self.data: bytes | None = None


class Prefetcher:
    """``ask`` queues ranges; worker threads fetch them; one writer hands them on in the order asked.

    A range is admitted only while the bytes being fetched and waiting to be written stay within ``in_flight_bytes``
    (one range is always admitted). The first error stops everything and is kept in ``error``; ``on_error`` is called.
    """

    def __init__(
        self,
        fetch: Fetch,
        write: Callable[[bytes], None],
        on_error: Callable[[], None],
        *,
        connections: int = CONNECTIONS,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
    ) -> None:
        self._fetch = fetch
        self._write = write
        self._on_error = on_error
        self._connections = connections
        self._in_flight_max = in_flight_bytes
        self._lock = threading.Condition()
        self._waiting: deque[_Slot] = deque()  # not yet begun
        self._order: deque[_Slot] = deque()  # begun, not yet written
        self._held_bytes = 0
        self._idle = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        self.error: BaseException | None = None
        self.requests = 0
        self.bytes_read = 0

    def ask(self, ranges: Iterable[Range]) -> None:
        with self._lock:
            self._waiting.extend(_Slot(want) for want in ranges)
            if not self._threads:
                keep_freed_memory()
                self._start(self._hand_on)
            while len(self._threads) - 1 < self._connections and self._idle < len(self._waiting):
                self._start(self._work)
                self._idle += 1
            self._lock.notify_all()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _take(self) -> _Slot | None:
        """The next range to fetch, once there is room; None at the end."""
        with self._lock:
            while not self._closed:
                if self._waiting:
                    length = self._waiting[0].range.length
                    if not self._order or self._held_bytes + length <= self._in_flight_max:
                        slot = self._waiting.popleft()
                        self._order.append(slot)
                        self._held_bytes += length
                        self._idle -= 1
                        return slot
                self._lock.wait()
            return None

    def _work(self) -> None:
        while (slot := self._take()) is not None:
            want = slot.range
            data: bytes | None = None
            try:
                data = self._fetch(want.offset, want.length)
                if len(data) != want.length:
                    raise short_read(want, len(data))
            except HeavyliftError as error:
                self._fail(error)
                return
            finally:
                if (
                    data is None
                ):  # any other error is ours and goes on to the thread's hook, but must not hang the child
                    self._fail(sys.exc_info()[1])
            with self._lock:
                slot.data = data
                self.requests += 1
                self.bytes_read += len(data)
                self._idle += 1
                self._lock.notify_all()
            del data

    def _hand_on(self) -> None:
        while True:
            with self._lock:
                while not self._closed and not (self._order and self._order[0].data is not None):
                    self._lock.wait()
                if self._closed:
                    return
                data = self._order[0].data
                assert data is not None
            try:
                self._write(data)
            except (OSError, ValueError):
                self._close()  # the child is gone; its end says why
                return
            with self._lock:
                self._held_bytes -= len(data)
                self._order.popleft().data = None  # a worker may still hold the slot
                self._lock.notify_all()
            del data

    def _fail(self, error: BaseException | None) -> None:
        with self._lock:
            if self.error is None and not self._closed:
                self.error = error
        self._close()
        self._on_error()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._lock.notify_all()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop. Fetches under way are waited for, all together ``timeout_seconds``: the caller's time may be up."""
        self._close()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:  # whoever still holds this object (an exception's frames) shall not hold its bytes
            for slot in self._order:
                slot.data = None
            self._order.clear()
