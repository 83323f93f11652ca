"""The fingerprint of a file: enough to find its own open upload again, cheap for any size.

Version 1: ``v1:`` + hex SHA-256 of the size as 8 bytes big-endian, the first MiB, 14 blocks of 64 KiB at
``floor(i * (size - 65536) / 15)`` for i = 1..14, and the last MiB; of a file under 2 MiB, of the size and
all bytes. No name and no time goes in, so a moved or copied file is found too. It says "probably the same",
never "the same": a resuming client re-hashes what is there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

MIB = 1 << 20
SAMPLE_BYTES = 64 << 10
SAMPLE_COUNT = 14
WHOLE_BELOW_BYTES = 2 * MIB  # below this, sampling would read as much as all of it

ReadAt = Callable[[int, int], bytes]
"""``read(offset, length)``: exactly ``length`` bytes."""


def sampled_ranges(size: int) -> Iterator[tuple[int, int]]:
    """The (offset, length) pieces whose bytes follow the size into the hash, in order."""
    if size < WHOLE_BELOW_BYTES:
        if size:
            yield 0, size
        return
    yield 0, MIB
    for i in range(1, SAMPLE_COUNT + 1):
        yield i * (size - SAMPLE_BYTES) // (SAMPLE_COUNT + 1), SAMPLE_BYTES
    yield size - MIB, MIB


def fingerprint_of(size: int, read: ReadAt) -> str:
    """The fingerprint of ``size`` bytes behind ``read``; holds at most 2 MiB."""
    digest = hashlib.sha256(size.to_bytes(8, "big"))
    for offset, length in sampled_ranges(size):
        digest.update(read(offset, length))
    return "v1:" + digest.hexdigest()


def fingerprint(path: str | bytes | os.PathLike[str]) -> str:
    """The fingerprint of the file at ``path``. Raises OSError; EOFError if the file shrinks meanwhile."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fingerprint_of(os.fstat(fd).st_size, reader(fd))
    finally:
        os.close(fd)


def reader(fd: int) -> ReadAt:
    """``read(offset, length)`` over an open file."""

    def read(offset: int, length: int) -> bytes:
        data = os.pread(fd, length, offset)
        while len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                raise EOFError(f"wanted {length} bytes at {offset}, got {len(data)}")
            data += more
        return data

    return read
