"""gzip that can be put down and taken up again: zlib, with places to go on from (RFC 1951, RFC 1952). No I/O here.

Where a deflate block ends, all that the inflater knows is the bits of a byte that are not used yet and the last 32 KiB
of output; Mark Adler's zran.c, which ships with zlib, goes on from such places. Python's zlib does not tell where
blocks end, so that the library behind it is called directly. It takes three times isal's time: only files that may need
several slices are read so.
"""

from __future__ import annotations

import base64
import ctypes
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from heavylift.tables.bounds import BLOCK_BYTES, INFLATE_PLACES, INFLATE_SPACING_BYTES

_WINDOW_BYTES: Final = 32_768
_RAW: Final = -15  # without gzip's header and trailer, which would be wrong where one goes on
_Z_BLOCK: Final = 5
_Z_OK, _Z_STREAM_END, _Z_BUF_ERROR = 0, 1, -5
_BLOCK_END, _LAST_BLOCK, _BITS = 128, 64, 7  # of ``data_type``, after Z_BLOCK
_HEADER_BYTES: Final = 10
_TRAILER_BYTES: Final = 8
_EXTRA, _NAME, _COMMENT, _HEADER_CRC = 4, 8, 16, 2


class Broken(ValueError):
    """What is wrong with the data."""


class _Stream(ctypes.Structure):
    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@cache
def library() -> Any:
    """zlib itself, as this Python has it; None where it cannot be reached."""
    for name in (getattr(zlib, "__file__", None), None):
        try:
            found = ctypes.CDLL(name)
            found.zlibVersion.restype = ctypes.c_char_p
            for function in ("inflateInit2_", "inflate", "inflatePrime", "inflateSetDictionary", "inflateEnd"):
                getattr(found, function)
        except (OSError, AttributeError):
            continue
        return found
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where inflating can go on: the compressed byte ``at`` is the next one, after ``bits`` bits of ``byte``, the one
    before. ``inside``: False where a member may begin."""

    at: int
    bits: int
    byte: int
    out: int
    window: bytes
    crc: int
    length: int
    inside: bool = True

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("at", "bits", "byte", "out", "crc", "length", "inside")} | {
            "window": base64.b64encode(self.window).decode()
        }


def place_of(state: Mapping[str, Any]) -> Place:
    return Place(**{**state, "window": base64.b64decode(state["window"])})


class Inflater:
    """``pieces`` of what gzip's compressed ``blocks`` hold; they begin at byte ``at`` of the file.

    ``place_before`` answers where to go on for an output byte. Memory: INFLATE_PLACES windows and one piece.
    """

    def __init__(self, place: Place | None = None) -> None:
        self._place = place
        self.at = place.at if place else 0
        self.out = place.out if place else 0
        self._places: deque[Place] = deque([place] if place else [], INFLATE_PLACES)
        self._data = b""
        self._pos = 0
        self._base = self.at  # of ``_data`` in the file
        self._blocks: Iterator[bytes] = iter(())
        self._byte = place.byte if place else 0  # the last one that was taken
        self._last = self.out  # of the last place

    def place_before(self, out: int) -> Place | None:
        """The last place from which the output byte ``out`` can be reached; None: only from the beginning."""
        return next((place for place in reversed(self._places) if place.out <= out), None)

    def pieces(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """At most BLOCK_BYTES each. Broken; ``taken`` says how far it came."""
        self._blocks = blocks
        place, self._place = self._place, None
        if place is not None and not place.inside:
            place = None
        while place is not None or self._more():
            if place is None:
                if self.taken and self._padding():
                    return
                self._header()
            yield from self._member(place)
            place = None
            self._keep(Place(self.taken, 0, 0, self.out, b"", 0, 0, inside=False))

    def _keep(self, place: Place) -> None:
        if place.out - self._last >= INFLATE_SPACING_BYTES:
            self._places.append(place)
            self._last = place.out

    @property
    def taken(self) -> int:
        """Compressed bytes behind."""
        return self._base + self._pos

    def _more(self) -> bool:
        """Whether there is another byte."""
        while self._pos >= len(self._data):
            self._base += len(self._data)
            self._data, self._pos = next(self._blocks, b""), 0
            if not self._data:
                return False
        return True

    def _bytes(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            if not self._more():
                raise EOFError
            step = self._data[self._pos : self._pos + count - len(taken)]
            taken += step
            self._pos += len(step)
        return bytes(taken)

    def _padding(self) -> bool:
        """Zeros after a member, up to the end, are padding (gzip's manual)."""
        if self._data[self._pos]:
            return False
        while self._more():
            if self._data[self._pos :].strip(b"\0"):
                raise Broken(f"after {self.taken} compressed bytes something else than gzip follows")
            self._pos = len(self._data)
        return True

    def _header(self) -> None:
        """RFC 1952, 2.3."""
        at = self.taken
        head = self._bytes(_HEADER_BYTES) if at == 0 else self._bytes(1)
        if at and head == b"\x1f":
            head += self._bytes(_HEADER_BYTES - 1)
        if not head.startswith(b"\x1f\x8b\x08"):
            raise Broken(f"after {at} compressed bytes something else than gzip follows")
        flags = head[3]
        if flags & _EXTRA:
            self._bytes(int.from_bytes(self._bytes(2), "little"))
        for flag in (_NAME, _COMMENT):
            while flags & flag and self._bytes(1) != b"\0":
                pass
        if flags & _HEADER_CRC:
            self._bytes(2)

    def _member(self, place: Place | None) -> Iterator[bytes]:
        zlib_ = library()
        stream = _Stream()
        if zlib_.inflateInit2_(ctypes.byref(stream), _RAW, zlib_.zlibVersion(), ctypes.sizeof(stream)) != _Z_OK:
            raise MemoryError("zlib has no memory")
        try:
            yield from self._inflate(zlib_, stream, place)
        finally:
            zlib_.inflateEnd(ctypes.byref(stream))

    def _inflate(self, zlib_: Any, stream: _Stream, place: Place | None) -> Iterator[bytes]:
        window, crc, length = b"", 0, 0
        if place is not None:
            window, crc, length = place.window, place.crc, place.length
            if place.bits:
                zlib_.inflatePrime(ctypes.byref(stream), place.bits, place.byte >> (8 - place.bits))
            if window:
                zlib_.inflateSetDictionary(ctypes.byref(stream), window, len(window))
        out = ctypes.create_string_buffer(BLOCK_BYTES)
        while True:
            if not self._more():
                raise EOFError
            begin = self._pos
            stream.next_in = (ctypes.cast(ctypes.c_char_p(self._data), ctypes.c_void_p).value or 0) + begin
            stream.avail_in = len(self._data) - begin
            stream.next_out, stream.avail_out = ctypes.addressof(out), BLOCK_BYTES
            answer = zlib_.inflate(ctypes.byref(stream), _Z_BLOCK)
            self._pos = len(self._data) - stream.avail_in
            if self._pos > begin:
                self._byte = self._data[self._pos - 1]
            piece = ctypes.string_at(out, BLOCK_BYTES - stream.avail_out)
            if piece:
                crc, length = zlib.crc32(piece, crc), length + len(piece)
                self.out += len(piece)
                window = (piece if len(piece) >= _WINDOW_BYTES else window + piece)[-_WINDOW_BYTES:]
                yield piece
            if answer == _Z_STREAM_END:
                break
            if answer not in (_Z_OK, _Z_BUF_ERROR):
                raise Broken(f"gzip is broken: {(stream.msg or b'it needs a dictionary').decode('ascii', 'replace')}")
            if stream.data_type & _BLOCK_END and not stream.data_type & _LAST_BLOCK:
                bits = stream.data_type & _BITS
                self._keep(Place(self.taken, bits, self._byte, self.out, window, crc, length))
        trailer = self._bytes(_TRAILER_BYTES)
        if int.from_bytes(trailer[:4], "little") != crc:
            raise Broken("gzip is broken: its checksum is another one")
        if int.from_bytes(trailer[4:], "little") != length & 0xFFFFFFFF:
            raise Broken("gzip is broken: its length is another one")
