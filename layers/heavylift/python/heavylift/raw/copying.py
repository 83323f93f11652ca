"""A copy of an object on the function's own disk, for a library that reads files only. The I/O of this package."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from heavylift.errors import HeavyliftError, TransientError
from heavylift.image.prefetch import keep_freed_memory

CONNECTIONS: Final = 4
REQUEST_BYTES: Final = 4 << 20  # four in flight and as many being written: 32 MiB at most


class RangeSource(Protocol):
    size_bytes: int

    def read(self, offset: int, length: int) -> bytes: ...


def disk_free_bytes() -> int:
    """What the temporary folder's disk still takes: on Lambda the function's ephemeral storage."""
    return shutil.disk_usage(tempfile.gettempdir()).free


@contextmanager
def copied(source: RangeSource, seconds_left: Callable[[], float]) -> Iterator[int]:
    """The whole object in a file without a name, as an open descriptor: nothing stays whatever ends the process.

    TransientError ``out_of_time``, ``no_space``, and the source's errors.
    """
    keep_freed_memory()
    with tempfile.TemporaryFile(prefix="heavylift-") as file:
        _fill(file.fileno(), source, seconds_left)
        yield file.fileno()


def _fill(descriptor: int, source: RangeSource, seconds_left: Callable[[], float]) -> None:
    lock = threading.Lock()
    offsets = iter(range(0, source.size_bytes, REQUEST_BYTES))
    errors: list[HeavyliftError] = []

    def work() -> None:
        while not errors:
            with lock:
                offset = next(offsets, None)
            if offset is None:
                return
            try:
                if seconds_left() <= 0:
                    raise TransientError("out_of_time", "copying the file was stopped before the deadline")
                _write(descriptor, source, offset, min(REQUEST_BYTES, source.size_bytes - offset))
            except HeavyliftError as error:
                errors.append(error)
            except OSError as error:  # of the file: the disk is full
                errors.append(TransientError("no_space", f"copying the file failed: {error.strerror}"))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _write(descriptor: int, source: RangeSource, offset: int, length: int) -> None:
    data = source.read(offset, length)
    if len(data) < length:
        raise TransientError("aws_unavailable", f"wanted {length} bytes at {offset}, got {len(data)}")
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
