"""Rows of a TIFF's strips as a stream of bytes, from any row on: uncompressed, inflated, or LZW. Child only.

The strips are read once, in order, and never held: memory is one piece of input and one of output.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.sources import ByteStream, PictureSource
from heavylift.ranges import Range
from heavylift.tiff.bands import Path, choose_path, strip_ranges
from heavylift.tiff.layout import Chunks, Picture

if TYPE_CHECKING:
    from heavylift.tiff.lzw import Mark

INFLATE_INPUT_BYTES: Final = 256 << 10
REVERSED: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))  # fill order 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading may begin again: row ``y`` of a plane; in an LZW strip behind a Clear code before that row."""

    y: int = 0
    bit: int = 0
    out: int = 0


class Rows(Protocol):
    def fill(self, view: memoryview) -> None:
        """Put the next rows' bytes into ``view``. ContentError ``truncated``, ``corrupt``."""

    def place(self, y: int) -> Place:
        """What to begin with in order to go on at row ``y``, the next one."""

    def close(self) -> None: ...


def open_rows(source: PictureSource, picture: Picture, chunks: Chunks, plane: int, start: Place) -> Rows:
    """The rows of a plane from ``start`` on."""
    path = choose_path(picture)
    if path is Path.ROWS:
        return _Plain(source, picture, chunks, plane, start)
    coded = _Inflated if path is Path.INFLATE else _Lzw
    return coded(source, picture, chunks, plane, start)


class _Plain:
    """Rows as they lie in uncompressed strips. Strips that were never written give zeros."""

    def __init__(self, source: PictureSource, picture: Picture, chunks: Chunks, plane: int, start: Place) -> None:
        ranges = strip_ranges(picture, chunks, plane, start.y)
        self._stream: ByteStream = source.stream(want for want in ranges if want.offset >= 0)
        sparse = not all(chunks.counts[plane * picture.down : (plane + 1) * picture.down])
        self._lengths = strip_ranges(picture, chunks, plane, start.y) if sparse else None
        self._present, self._left = True, 0

    def fill(self, view: memoryview) -> None:
        if self._lengths is None:
            self._stream.readinto(view)
            return
        while view:
            if not self._left:
                strip = next(self._lengths)
                self._present, self._left = strip.offset >= 0, strip.length
            take = min(self._left, len(view))
            if self._present:
                self._stream.readinto(view[:take])
            else:
                view[:take] = bytes(take)
            self._left -= take
            view = view[take:]

    def place(self, y: int) -> Place:
        return Place(y)

    def close(self) -> None:
        self._stream.close()


class _Coded:
    """Rows of coded strips, one strip after the other; zeros for strips that were not written."""

    def __init__(self, source: PictureSource, picture: Picture, chunks: Chunks, plane: int, start: Place) -> None:
        self._picture, self._chunks = picture, chunks
        first = plane * picture.down + start.y // picture.chunk_height
        self._strips = range(first, (plane + 1) * picture.down)
        self._next = first
        self._start = start
        self._stream = source.stream(self._ranges())
        self.stored_left = self.rows_left = 0  # bytes of the present strip: not yet read, not yet given out
        # Rows of the strip that were taken before: decoded again, for the coding has no other way to the next one.
        self._skip_left = (start.y % picture.chunk_height) * picture.row_bytes(picture.width) - start.out
        self._scratch = memoryview(bytearray(min(self._skip_left, INFLATE_INPUT_BYTES)))

    def _ranges(self) -> Iterator[Range]:
        chunks = self._chunks
        for index in self._strips:
            if chunks.counts[index]:
                skipped = self._start.bit // 8 if index == self._strips.start else 0
                yield Range(chunks.offsets[index] + skipped, chunks.counts[index] - skipped)

    def fill(self, view: memoryview) -> None:
        with decoding("TIFF"):
            while self._skip_left:
                take = min(self._skip_left, len(self._scratch))
                self._fill(self._scratch[:take])
                self._skip_left -= take
            self._fill(view)

    def _fill(self, view: memoryview) -> None:
        while view:
            if not self.rows_left:
                self._end_strip()
                index = self._next
                self._next += 1
                self.rows_left = self._picture.chunk_bytes(index)
                self.stored_left = self._chunks.counts[index]
                self._begin_strip(self._start if index == self._strips.start else Place())
            take = min(self.rows_left, len(view))
            got = self._some(view[:take])
            self.rows_left -= got
            view = view[got:]

    def read(self, count: int) -> bytes:
        """The next stored bytes of the strip, at most ``count``."""
        piece = bytearray(min(count, self.stored_left))
        self._stream.readinto(memoryview(piece))
        self.stored_left -= len(piece)
        return bytes(piece if self._picture.fill_order == 1 else piece.translate(REVERSED))

    def skip_stored(self) -> None:
        while self.stored_left:
            self.read(INFLATE_INPUT_BYTES)

    def place(self, y: int) -> Place:
        return Place(y)

    def close(self) -> None:
        with decoding("TIFF"):
            self._end_strip()
        self._stream.close()

    def _begin_strip(self, start: Place) -> None:
        raise NotImplementedError

    def _some(self, view: memoryview) -> int:
        raise NotImplementedError

    def _end_strip(self) -> None:
        raise NotImplementedError


class _Inflated(_Coded):
    """Deflate strips, inflated as far as the caller's buffer and no further."""

    _inflater: zlib._Decompress | None = None
    _tail = b""

    def _begin_strip(self, start: Place) -> None:
        self._tail = b""
        self._inflater = zlib.decompressobj() if self.stored_left else None

    def _some(self, view: memoryview) -> int:
        if self._inflater is None:
            view[:] = bytes(len(view))
            return len(view)
        if not self._tail:
            self._tail = self.read(INFLATE_INPUT_BYTES)
        out = self._inflater.decompress(self._tail, len(view))
        self._tail = self._inflater.unconsumed_tail
        view[: len(out)] = out
        if not out and not self._tail and (self._inflater.eof or not self.stored_left):
            missing = self.rows_left
            raise ContentError("truncated", f"a deflate strip ends {missing} bytes early", missing_bytes=missing)
        return len(out)

    def _end_strip(self) -> None:
        """Read on to the stream's checksum, which zlib compares by itself; what follows is passed over."""
        while self._inflater is not None and not self._inflater.eof:
            self._tail = self._tail or self.read(INFLATE_INPUT_BYTES)
            # No end mark, or more rows than declared: tolerated.
            if not self._tail or self._inflater.decompress(self._tail, 1):
                break
            self._tail = self._inflater.unconsumed_tail
        self.skip_stored()


class _Lzw(_Coded):
    """LZW strips, which can be begun at any Clear code."""

    _pieces: Iterator[tuple[bytes, Mark]] | None = None
    _piece = memoryview(b"")
    _before: Mark  # where the present piece began
    _behind: Mark

    def _begin_strip(self, start: Place) -> None:
        from heavylift.tiff.lzw import Mark, pieces

        self._piece = memoryview(b"")
        self._pieces = None
        self._before = self._behind = Mark(start.bit, start.out)
        self.rows_left -= start.out  # the stream begins behind them
        if self.stored_left:
            index = self._next - 1
            self.stored_left -= start.bit // 8
            self._pieces = pieces(self.read, self._chunks.counts[index], self._picture.chunk_bytes(index), self._behind)

    def _some(self, view: memoryview) -> int:
        if self._pieces is None:
            view[:] = bytes(len(view))
            return len(view)
        if not self._piece:
            piece, behind = next(self._pieces)
            self._piece = memoryview(piece)
            self._before, self._behind = self._behind, behind
        take = min(len(view), len(self._piece))
        view[:take] = self._piece[:take]
        self._piece = self._piece[take:]
        return take

    def _end_strip(self) -> None:
        self.skip_stored()

    def place(self, y: int) -> Place:
        if not self.rows_left or self._pieces is None:
            return Place(y)
        mark = self._before if self._piece else self._behind
        return Place(y, mark.bit, mark.out)
