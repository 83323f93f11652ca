"""Where a decoder gets its bytes: one ranged fetch, or a stream of ranges in one known order.

The decoder does not know whether a pipe to its parent or a file is behind it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Final, Protocol

from heavylift.ranges import Fetch, Range, coalesce, short_read

FILE_BLOCK_BYTES: Final = 64 << 10
FILE_STREAM_REQUEST_BYTES: Final = 1 << 20
FILE_AHEAD_BYTES: Final = 4 << 20
FILE_BLOCKS_MAX: Final = 16


class ByteStream(Protocol):
    """The bytes of the ranges it was made for, one after the other."""

    def readinto(self, view: memoryview) -> None:
        """Fill ``view`` with the next bytes. ContentError ``truncated`` where the source holds fewer."""
        ...

    def close(self) -> None:
        """No more bytes are wanted; what was asked for is dropped."""
        ...


class PictureSource(Protocol):
    """An object to decode from. One stream at a time, and no fetch while a stream is open."""

    size_bytes: int

    def fetch(self, offset: int, length: int) -> bytes: ...

    def stream(self, ranges: Iterable[Range], *, request_bytes: int = ..., ahead_bytes: int = ...) -> ByteStream: ...


def small_reads(source: PictureSource, head: bytes) -> Fetch:
    """A fetch that answers from the object's first bytes ``head`` what lies in them: no request for a few bytes."""

    def fetch(offset: int, length: int) -> bytes:
        if offset + length <= len(head):
            return head[offset : offset + length]
        return source.fetch(offset, length)

    return fetch


class LocalSource:
    """A file on this machine, or bytes in memory."""

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, size_bytes: int) -> None:
        self._file = file
        self.size_bytes = size_bytes

    def fetch(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length) or b""

    def stream(self, ranges: Iterable[Range], *, request_bytes: int = 0, ahead_bytes: int = 0) -> ByteStream:
        return _LocalStream(self._file, ranges)


class _LocalStream:
    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, ranges: Iterable[Range]) -> None:
        self._file = file
        self._pieces = (
            (request.range.offset + start, length)
            for request in coalesce(ranges, request_bytes=1 << 62, gap_bytes_max=0)
            for start, length in request.pieces
        )
        self._left = 0

    def readinto(self, view: memoryview) -> None:
        while view:
            if not self._left:
                offset, self._left = next(self._pieces)
                self._file.seek(offset)
            take = min(len(view), self._left)
            got = self._file.readinto(view[:take]) or 0
            if got == 0:
                raise short_read(Range(self._file.tell(), take), 0)
            self._left -= got
            view = view[got:]

    def close(self) -> None:
        pass


class RangeFile(io.RawIOBase):
    """A seekable file over a source, for decoders that want one.

    Scattered reads fetch blocks of 64 KiB, of which the last few are kept; a decoder that reads on and on is given
    a stream, at most FILE_AHEAD_BYTES ahead of it. The file's bytes are never all held.
    """

    def __init__(self, source: PictureSource, head: bytes = b"") -> None:
        self._source = source
        self._size = source.size_bytes
        self._at = 0
        self._blocks: dict[int, bytes] = {}
        if head and len(head) == min(FILE_BLOCK_BYTES, self._size):
            self._blocks[0] = head
        self._stream: ByteStream | None = None
        self._stream_at = 0
        self._run_end = len(self._blocks.get(0, b""))  # where the last block read in a row ends
        self._run_blocks = len(self._blocks)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def readall(self) -> bytes:
        return self.read(-1)

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        want = left if size is None or size < 0 else min(size, left)
        if want == 0:
            return b""
        if want <= FILE_BLOCK_BYTES:
            block = self._blocks.get(self._at // FILE_BLOCK_BYTES)
            inside = self._at % FILE_BLOCK_BYTES
            if block is not None and inside + want <= len(block):
                self._at += want
                return block[inside : inside + want]
        data = bytearray(want)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        want = min(len(view), max(0, self._size - self._at))
        view = view[:want]
        while view:
            took = self._some(view)
            view = view[took:]
            self._at += took
        return want

    def _some(self, view: memoryview) -> int:
        """Put some bytes from the present position into ``view``, return how many."""
        number, inside = divmod(self._at, FILE_BLOCK_BYTES)
        block = self._blocks.get(number)
        if block is not None:
            part = block[inside : inside + len(view)]
            view[: len(part)] = part
            return len(part)
        if self._stream is not None and self._stream_at == self._at:
            self._stream.readinto(view)
            self._stream_at += len(view)
            return len(view)
        if self._reading_on(number) or len(view) > FILE_STREAM_REQUEST_BYTES:
            self._open_stream()
            return 0
        self._load_block(number)
        return 0

    def _reading_on(self, number: int) -> bool:
        return self._run_blocks >= 2 and number * FILE_BLOCK_BYTES == self._run_end == self._at

    def _open_stream(self) -> None:
        self._close_stream()
        rest = Range(self._at, self._size - self._at)
        self._stream = self._source.stream(
            [rest], request_bytes=FILE_STREAM_REQUEST_BYTES, ahead_bytes=FILE_AHEAD_BYTES
        )
        self._stream_at = self._at

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _load_block(self, number: int) -> None:
        self._close_stream()
        start = number * FILE_BLOCK_BYTES
        length = min(FILE_BLOCK_BYTES, self._size - start)
        block = self._source.fetch(start, length)
        if len(block) < length:
            raise short_read(Range(start, length), len(block))
        if len(self._blocks) >= FILE_BLOCKS_MAX:
            # The first block stays: decoders return to the header.
            self._blocks.pop(next(key for key in self._blocks if key != 0))
        self._blocks[number] = block
        self._run_blocks = self._run_blocks + 1 if start == self._run_end else 1
        self._run_end = start + length

    def close(self) -> None:
        self._close_stream()
        super().close()
