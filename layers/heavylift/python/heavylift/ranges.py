"""Format readers ask, somebody else fetches. No I/O here.

A format reader is a generator: it yields ``Range(offset, length)``, receives exactly that many bytes and
returns its result. ``drive`` runs it over anything that can fetch: S3, a file, a literal. What is read in one
known order (a picture's strips) is not a conversation but a plan: ``coalesce`` turns it into few requests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from heavylift.errors import ContentError

T = TypeVar("T")

REQUEST_BYTES: Final = 4 << 20  # below 4 MiB the time per request shows, above it only memory grows (measured)
GAP_BYTES_MAX: Final = 64 << 10  # reading 64 KiB too many costs less than another request


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


def short_read(want: Range, got_bytes: int) -> ContentError:
    """The one error for a range that the object could not fill."""
    return ContentError(
        "truncated",
        f"wanted {want.length} bytes at {want.offset}, got {got_bytes}",
        wanted_bytes=want.length,
        offset=want.offset,
        got_bytes=got_bytes,
    )


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
                raise short_read(want, len(data))
            want = reader.send(data[: want.length])
    except StopIteration as done:
        result: T = done.value
        return result


def answered_by(head: bytes, reader: Reader[T]) -> Reader[T]:
    """``reader``, with every range that lies inside the object's first bytes ``head`` answered from there."""
    try:
        want = next(reader)
        while True:
            data = head[want.offset : want.end] if want.end <= len(head) else (yield want)
            want = reader.send(data)
    except StopIteration as done:
        result: T = done.value
        return result


@dataclass(frozen=True, slots=True)
class Request:
    """One range to fetch, and which of its bytes are wanted: (start in the range, length), ascending."""

    range: Range
    pieces: tuple[tuple[int, int], ...]


def coalesce(
    wanted: Iterable[Range], *, request_bytes: int = REQUEST_BYTES, gap_bytes_max: int = GAP_BYTES_MAX
) -> Iterator[Request]:
    """Requests that bring the wanted ranges in their order: neighbours joined, long ranges cut.

    The pieces of all requests, put together, are the wanted ranges put together. A request is at most
    ``request_bytes`` long; ranges that follow each other within ``gap_bytes_max`` share one. Lazy: holds one request.
    """
    start, end = 0, 0
    pieces: list[tuple[int, int]] = []
    for want in wanted:
        offset, left = want.offset, want.length
        while left > 0:
            gap = offset - end
            if pieces and (gap < 0 or gap > gap_bytes_max or offset - start >= request_bytes):
                yield Request(Range(start, end - start), tuple(pieces))
                pieces = []
            if not pieces:
                start = end = offset
                gap = 0
            take = min(left, request_bytes - (offset - start))
            if pieces and gap == 0:
                first, length = pieces[-1]
                pieces[-1] = (first, length + take)
            else:
                pieces.append((offset - start, take))
            offset += take
            left -= take
            end = offset
    if pieces:
        yield Request(Range(start, end - start), tuple(pieces))


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
