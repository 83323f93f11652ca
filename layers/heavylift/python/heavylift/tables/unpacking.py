"""gzip and zstd, as a source of bounded pieces. No I/O here beyond the ``read`` it is given.

A bomb is stopped by a limit that follows from the file's size alone, so that it strikes at the same byte however the
file is read. Memory: one input and one output piece, and a zstd window of at most ZSTD_WINDOW_BYTES.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.tables.bounds import (
    BLOCK_BYTES,
    INFLATE_FROM_BYTES,
    UNPACKED_BYTES,
    UNPACKED_FREE_BYTES,
    UNPACKED_RATIO,
    ZSTD_WINDOW_BYTES,
)
from heavylift.tables.inflating import Broken, Inflater, library, place_of

Blocks = Iterator[bytes]
_INPUT_BYTES: Final = 65_536
_GZIP_WINDOW: Final = 31
_GZIP_MAGIC: Final = b"\x1f\x8b"


class Unpackable(HeavyliftError):
    """Compressed data is broken; the code is one of the report's."""


def unpacked_bytes_max(size_bytes: int) -> int:
    """How many bytes a compressed file of this size may hold."""
    return min(UNPACKED_BYTES, max(UNPACKED_FREE_BYTES, UNPACKED_RATIO * size_bytes))


def inflater_for(compression: str | None, size_bytes: int, place: Mapping[str, Any] | None = None) -> Inflater | None:
    """What reads a large gzip file, from ``place`` on; None: such a file is always read from its beginning."""
    if compression != "gzip" or size_bytes < INFLATE_FROM_BYTES or library() is None:
        return None
    return Inflater(place_of(place) if place else None)


def unpack(
    compression: str | None, blocks: Blocks, size_bytes: int, skip: int = 0, inflater: Inflater | None = None
) -> Generator[bytes, None, None]:
    """The content of ``blocks`` from its byte ``skip`` on, in pieces of at most BLOCK_BYTES. Unpackable.

    ``blocks`` begin at the file's beginning, or at ``inflater.at``.
    """
    if compression is None:
        for block in blocks:  # their source began at ``skip`` by itself
            for at in range(0, len(block), BLOCK_BYTES):
                yield block if len(block) <= BLOCK_BYTES else block[at : at + BLOCK_BYTES]
        return
    inflater = inflater or inflater_for(compression, size_bytes)
    limit = unpacked_bytes_max(size_bytes)
    seen = 0
    if inflater is not None:
        plain, seen = _inflated(inflater, blocks), inflater.out
    else:
        plain = _gunzip(_even(blocks)) if compression == "gzip" else _unzstd(_even(blocks))
    for piece in plain:
        if seen + len(piece) > limit:
            kept = piece[max(0, skip - seen) : limit - seen]
            if kept:
                yield kept
            raise Unpackable(
                "decompression-limit",
                f"A file of {size_bytes} bytes may hold {limit}; this one holds more.",
                limit=limit,
            )
        seen += len(piece)
        if seen > skip:
            yield piece[-(seen - skip) :] if seen - skip < len(piece) else piece


def _even(blocks: Blocks) -> Blocks:
    """The same bytes in equal blocks: what a decoder still gives before it finds an error depends on its input's."""
    held = bytearray()
    for block in blocks:
        held += block
        whole = len(held) - len(held) % _INPUT_BYTES
        for at in range(0, whole, _INPUT_BYTES):
            yield bytes(held[at : at + _INPUT_BYTES])
        del held[:whole]
    if held:
        yield bytes(held)


def _inflated(inflater: Inflater, blocks: Blocks) -> Blocks:
    try:
        yield from inflater.pieces(blocks)
    except Broken as error:
        raise _broken(str(error)) from None
    except EOFError:
        raise _broken(f"gzip ends after {inflater.taken} compressed bytes, in the middle of its data") from None


def _gunzip(blocks: Blocks) -> Blocks:
    """Members one after the other; zeros after the last are padding (gzip's manual), anything else is an error."""
    from isal import isal_zlib

    zlib_error: Any = isal_zlib.error
    stream: Any = None
    taken = 0
    data = b""
    while True:
        if not data:
            data = next(blocks, b"")
            if not data:
                break
        if stream is None:
            if taken and not data.strip(b"\0"):
                taken += len(data)
                data = b""
                continue
            if len(data) < len(_GZIP_MAGIC):
                data += next(blocks, b"")
            if not data.startswith(_GZIP_MAGIC):
                raise _broken(f"after {taken} compressed bytes something else than gzip follows")
            stream = isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
        try:
            piece = stream.decompress(data, BLOCK_BYTES)
        except zlib_error as error:
            raise _broken(f"gzip is broken: {_reason(error)}") from None
        rest = stream.unused_data if stream.eof else stream.unconsumed_tail
        taken += len(data) - len(rest)
        if piece:
            yield piece
        if stream.eof:
            stream = None
            data = rest
            continue
        data = rest
        if not data and not piece:
            continue
    if stream is not None:
        # What is inside the inflater still comes out.
        while True:
            try:
                piece = stream.decompress(b"", BLOCK_BYTES)
            except zlib_error:
                break
            if not piece:
                break
            yield piece
        if not stream.eof:
            raise _broken(f"gzip ends after {taken} compressed bytes, in the middle of its data")


class _Frames:
    """Follows zstd's frames by their headers (RFC 8878, 3.1), because its reader takes a cut one for a whole one."""

    def __init__(self) -> None:
        self._skip = 0
        self._head = b""
        self._want = "magic"
        self._checksum = 0
        self._last = False

    @property
    def whole(self) -> bool:
        return self._want == "magic" and not self._head and not self._skip

    def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            need = self._needed()
            step = min(need - len(self._head), len(data) - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == self._needed():
                self._take()

    def _needed(self) -> int:
        if self._want == "magic":
            return 4
        if self._want == "skippable":
            return 4
        if self._want == "block":
            return 3
        if not self._head:
            return 1
        flags = self._head[0]
        single = flags >> 5 & 1
        sizes = (single, 2, 4, 8)[flags >> 6]
        return 1 + (1 - single) + (0, 1, 2, 4)[flags & 3] + sizes

    def _take(self) -> None:
        head, self._head = self._head, b""
        if self._want == "magic":
            self._want = "skippable" if head[1:] == b"\x2a\x4d\x18" else "header"
        elif self._want == "skippable":
            self._skip, self._want = int.from_bytes(head, "little"), "magic"
        elif self._want == "header":
            self._checksum = 4 if head[0] & 4 else 0
            self._want = "block"
        else:
            number = int.from_bytes(head, "little")
            self._skip = 1 if number >> 1 & 3 == 1 else number >> 3
            if number & 1:
                self._skip += self._checksum
                self._want = "magic"


class _Source:
    """What zstandard reads from."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._rest = b""
        self.taken = 0
        self.frames = _Frames()

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._blocks, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        self.taken += len(piece)
        self.frames.feed(piece)
        return piece


def _unzstd(blocks: Blocks) -> Blocks:
    import zstandard

    source = _Source(blocks)
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    reader = decompressor.stream_reader(source, read_size=65_536, read_across_frames=True)  # type: ignore[arg-type]
    while True:
        try:
            piece = reader.read(BLOCK_BYTES)
        except zstandard.ZstdError as error:
            raise _broken(f"zstd is broken: {_reason(error)}") from None
        if not piece:
            break
        yield piece
    if not source.frames.whole:
        raise _broken(f"zstd ends after {source.taken} compressed bytes, in the middle of its data")


def _broken(words: str) -> Unpackable:
    return Unpackable("compression-error", words[0].upper() + words[1:] + ".")


def _reason(error: Exception) -> str:
    return str(error).split(":")[-1].strip()[:100]
