"""A part of an object as an object of its own, read in few requests."""

from __future__ import annotations

import threading
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.thumbnails import RangeSource
from heavylift.ranges import Fetch, Range, coalesce, drive
from heavylift.raw.model import Preview
from heavylift.tiff.layout import check_decodable, read_chunks, read_picture
from heavylift.tiff.rewrap import read_fields, rewrap

ONE_READ_BYTES_MAX: Final = 16 << 20  # a preview is read by one request up to here, which is held meanwhile
BLOCK_BYTES: Final = 4 << 20  # of longer ones
BLOCKS_MAX: Final = 2
STRIPS_BYTES_MAX: Final = 12 << 20  # of previews stored as strips: their bytes are held twice
CHUNKS_MAX: Final = 4096


class BytesSource:
    """Bytes at hand as an object."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class Window:
    """``part`` of a source: read whole at the first question, or in blocks where it is long. Thread-safe."""

    def __init__(self, source: RangeSource, part: Range) -> None:
        self._source = source
        self._part = part
        self.size_bytes = part.length
        self._block_bytes = part.length if part.length <= ONE_READ_BYTES_MAX else BLOCK_BYTES
        self._blocks: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size_bytes)
        pieces = []
        while offset < end:
            number, inside = divmod(offset, self._block_bytes)
            piece = self._block(number)[inside : inside + end - offset]
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _block(self, number: int) -> bytes:
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                start = number * self._block_bytes
                want = min(self._block_bytes, self.size_bytes - start)
                if len(self._blocks) >= BLOCKS_MAX:
                    self._blocks.pop(next(iter(self._blocks)))
                block = self._source.read(self._part.offset + start, want)
                self._blocks[number] = block
            return block


def wrapped(preview: Preview, size_bytes: int, small: Fetch, fetch: Fetch) -> bytes:
    """A preview of strips or tiles as a TIFF of its own. ``small`` reads directories, ``fetch`` pixels.

    ContentError where the strips are broken or too many. Memory: twice the stored bytes, STRIPS_BYTES_MAX each.
    """
    assert preview.ifd is not None
    picture = drive(read_picture(preview.ifd, size_bytes), small)
    check_decodable(picture)
    if picture.planar != 1 or picture.chunk_count > CHUNKS_MAX:
        raise ContentError(
            "limit_exceeded",
            f"a preview in {picture.chunk_count} pieces and {picture.planes} planes, {CHUNKS_MAX} in one are read",
            chunks=picture.chunk_count,
        )
    chunks = drive(read_chunks(picture, size_bytes), small)
    fields = drive(read_fields(picture, size_bytes), small)
    stored = sum(chunks.counts)
    if stored > STRIPS_BYTES_MAX:
        raise ContentError("limit_exceeded", f"a preview of {stored} bytes in strips", limit=STRIPS_BYTES_MAX)
    wanted = [Range(offset, count) for offset, count in zip(chunks.offsets, chunks.counts, strict=True)]
    data = bytearray()
    for request in coalesce(wanted, request_bytes=ONE_READ_BYTES_MAX):
        got = fetch(request.range.offset, request.range.length)
        if len(got) < request.range.length:
            raise ContentError("truncated", "the preview's strips end early", offset=request.range.offset)
        for start, length in request.pieces:
            data += memoryview(got)[start : start + length]
        del got
    pieces, at = [], 0
    for want in wanted:
        pieces.append(memoryview(data)[at : at + want.length])
        at += want.length
    size = (picture.width, picture.height)
    chunk = (picture.chunk_width, picture.chunk_height)
    return rewrap(picture, fields, size, chunk, pieces, range(len(pieces)))
