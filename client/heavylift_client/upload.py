"""One run over a stream of files: the threads, and what happens to them.

    feeder    looks at files, finds open sessions, opens new ones (groups of up to 200)
    hashers   SHA-256 of the next parts, a bounded number of parts ahead
    signer    URLs for what is hashed, many parts a call, only when the senders run low
    senders   N of them, a connection each: the pool over (file, part); how many send at once is the pace's
    finishers complete, then wait for the verdict

Memory does not depend on file or part size: at most 1 MiB of a part per thread, and the digests.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable

from heavylift_client.api import Api
from heavylift_client.backoff import Clock
from heavylift_client.board import Board
from heavylift_client.errors import Stopped
from heavylift_client.feeder import Feeder
from heavylift_client.pace import Pace
from heavylift_client.results import Result
from heavylift_client.sender import Sender
from heavylift_client.sources import Item
from heavylift_client.transfers import Hooks
from heavylift_client.transport import Transport

HASHERS = 2  # one keeps up with 5 Gbit/s; the second covers a slow disk
FINISHERS = 2
JOIN_S = 5.0  # threads notice a stop within one read or one shut socket


def upload(
    items: Iterable[Item],
    *,
    api: Api,
    transport: Transport,
    pace: Pace,
    wait: bool,
    clock: Clock,
    stop: threading.Event,
    hooks: Hooks,
    patience_s: float,
    max_part_size: int | None = None,
    only_resume: bool = False,
) -> Generator[Result, None, None]:
    """Results as files end, in that order. One file's failure is its result and never stops the others.

    Closing the iterator stops the work (the transport is cut and cannot be used again); running again
    resumes. Raises Stopped when ``stop`` was set from elsewhere.
    """
    board = Board(pace=pace, wait=wait, clock=clock, stop=stop, hooks=hooks)
    pace.listen(board.wake)
    feeder = Feeder(api, board, clock, hooks, max_part_size, only_resume)
    sender = Sender(api, transport, board, clock, hooks, patience_s, wait)
    work: list[Callable[[], None]] = [lambda: feeder.feed(items), sender.sign_parts]
    work += [sender.hash_parts] * HASHERS + [sender.send_parts] * pace.most + [sender.finish_files] * FINISHERS
    crashes: list[BaseException] = []

    def guarded(do: Callable[[], None]) -> None:
        try:
            do()
        except Stopped:
            stop.set()
        except BaseException as error:  # noqa: BLE001  a thread's error is raised again below
            crashes.append(error)
            stop.set()
        finally:
            if stop.is_set():
                board.wake()
            board.results.put(None)

    threads = [threading.Thread(target=guarded, args=(do,), daemon=True) for do in work]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            # A time limit, because a wait without one would not notice Ctrl-C on every platform.
            try:
                result = board.results.get(timeout=1.0)
            except queue.Empty:
                if stop.is_set():
                    board.wake()
                continue
            if result is None:
                running -= 1
            else:
                yield result
    finally:
        if not board.finished:
            stop.set()
            board.wake()
            transport.abort()
        for thread in threads:
            thread.join(JOIN_S)
        transport.close()
    if crashes:
        raise crashes[0]
    if stop.is_set():
        raise Stopped
