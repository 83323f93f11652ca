"""Format readers ask, somebody else fetches. No I/O here.

A format reader is a generator: it yields ``Range(offset, length)``, receives exactly that many bytes and
returns its result. ``drive`` runs it over anything that can fetch: S3, a file, a literal.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from heavylift.errors import ContentError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """``length`` bytes from byte ``offset`` of the object."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte after the range."""
        return self.offset + self.length


Reader = Generator[Range, bytes, T]
Fetch = Callable[[int, int], bytes]
"""``fetch(offset, length)``: up to ``length`` bytes, fewer only at the end of the object."""


def drive(reader: Reader[T], fetch: Fetch) -> T:
    """Run ``reader`` to its result, answering every Range with ``fetch(offset, length)``.

    This is the one place where a short read is noticed: ContentError ``truncated``.
    """
    try:
        want = next(reader)
        while True:
            data = fetch(want.offset, want.length)
            if len(data) < want.length:
                reader.close()
                raise ContentError(
                    "truncated",
                    f"wanted {want.length} bytes at {want.offset}, got {len(data)}",
                    wanted_bytes=want.length,
                    offset=want.offset,
                    got_bytes=len(data),
                )
            want = reader.send(data[: want.length])
    except StopIteration as done:
        result: T = done.value
        return result


class ReadAhead:
    """Wraps a ``fetch`` so that many small reads near each other become few requests.

    The first block holds ``head_bytes`` from offset 0; later blocks start at the wanted offset and are
    ``block_bytes`` long. At most ``blocks_max`` blocks are held, the oldest dropped first, so memory is
    ``head_bytes + blocks_max * block_bytes``. Reads longer than ``block_bytes`` pass through unkept.
    """

    def __init__(
        self,
        fetch: Fetch,
        size_bytes: int,
        *,
        head_bytes: int = 65_536,
        block_bytes: int = 65_536,
        blocks_max: int = 64,
    ) -> None:
        self._fetch = fetch
        self._size = size_bytes
        self._head_bytes = head_bytes
        self._block_bytes = block_bytes
        self._blocks_max = blocks_max
        self._blocks: dict[int, bytes] = {}

    def __call__(self, offset: int, length: int) -> bytes:
        for start, block in self._blocks.items():
            if start <= offset and offset + length <= start + len(block):
                return block[offset - start : offset - start + length]
        in_head = offset + length <= self._head_bytes
        start = 0 if in_head else offset
        want = self._head_bytes if in_head else max(length, self._block_bytes)
        want = min(want, max(0, self._size - start))
        if want <= 0:
            return b""
        block = self._fetch(start, want)
        if length <= self._block_bytes or in_head:
            if len(self._blocks) >= self._blocks_max:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[start] = block
        return block[offset - start : offset - start + length]
