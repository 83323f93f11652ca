"""Bytes of an object in order, fetched ahead of who reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

from heavylift.limits import FETCH_PARALLEL
from heavylift.ranges import REQUEST_BYTES, Fetch


def ahead(
    fetch: Fetch, start: int, end: int, *, request_bytes: int = REQUEST_BYTES, parallel: int = FETCH_PARALLEL
) -> Generator[bytes, None, None]:
    """The bytes from ``start`` to ``end``, in order, with ``parallel`` requests of ``request_bytes`` in flight.

    Memory: ``parallel`` pieces, while ``fetch`` joins one of them twice that one.
    """
    starts = iter(range(start, end, request_bytes))
    if parallel == 1 or end - start <= request_bytes:
        for at in starts:
            yield fetch(at, min(request_bytes, end - at))
        return
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(parallel) as pool:
        try:
            for at in starts:
                waiting.append(pool.submit(fetch, at, min(request_bytes, end - at)))
                if len(waiting) >= parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
