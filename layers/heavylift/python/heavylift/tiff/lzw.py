"""LZW strips of any size, piece by piece. Child only; numpy.

A TIFF's LZW encoder writes a Clear code when its table is full (TIFF 6.0 section 13), so a stream is a chain of
segments of at most 4,094 codes that know nothing of each other. Where a code lies in a segment follows from its
number alone, because the width of codes grows at fixed numbers: so segments are found without decoding them. How
many bytes a segment becomes follows from its codes: an entry is one byte longer than the entry that it extends.
Segments of known length are then decoded by libtiff as a small picture of their own, at its speed.

Memory: PIECE_BYTES as stored, eight times that in numbers, and OUT_BYTES decoded.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heavylift.errors import ContentError

Array = NDArray[Any]

CLEAR: Final = 256
END: Final = 257
FIRST: Final = 258
OUT_BYTES: Final = 1 << 20  # decoded at once; more gains no speed
PIECE_BYTES: Final = 1 << 20  # stored bytes looked at together
# libtiff's decoder takes 1,024 codes more than the table has entries, for encoders that clear late.
CODES_MAX: Final = 3838 + 1024


def _schedule() -> tuple[Array, Array]:
    """Offset and width in bits of a segment's n-th code: widths grow when entries 510, 1022 and 2046 are made."""
    widths = np.full(CODES_MAX, 12, np.int64)
    widths[:1790] = 11
    widths[:766] = 10
    widths[:254] = 9
    offsets = np.zeros(CODES_MAX, np.int64)
    np.cumsum(widths[:-1], out=offsets[1:])
    return offsets, widths


_OFFSETS, _WIDTHS = _schedule()
_MASKS: Final = (1 << _WIDTHS) - 1
_SEGMENT_BITS: Final = int(_OFFSETS[-1] + _WIDTHS[-1])


@dataclass(frozen=True, slots=True)
class Mark:
    """Where to go on: behind a Clear code, ``bit`` bits into the strip, ``out`` bytes of it decoded."""

    bit: int = 0
    out: int = 0


def pieces(
    read: Callable[[int], bytes], stored_bytes: int, decoded_bytes: int, start: Mark
) -> Iterator[tuple[bytes, Mark]]:
    """The decoded bytes of a strip from ``start`` on, in order, each piece with the mark behind it.

    ``read(n)``: the next n stored bytes, the first of them being byte ``start.bit // 8`` of the strip.
    ContentError ``corrupt``, ``truncated``.
    """
    base = start.bit // 8  # the strip's byte that ``data`` begins with
    at = start.bit - 8 * base  # in bits, within ``data``
    out = start.out
    data = b""
    left = stored_bytes - base
    windows = _windows(data)
    if start.bit == 0:
        data, left, windows = _more(data, 0, read, left)
        if _code(windows, 0, 9, len(data)) != CLEAR:
            raise ContentError("corrupt", "an LZW strip that does not begin with a Clear code")
        at = 9
    first, length = at, 0  # of the segments that are decoded together
    while out + length < decoded_bytes:
        if 8 * len(data) - at < _SEGMENT_BITS + 16 and left:
            if length:
                yield _decoded(data, first, at, length), Mark(8 * base + at, out + length)
                out, length = out + length, 0
            drop = at // 8
            base += drop
            at -= 8 * drop
            first = at
            data, left, windows = _more(data, drop, read, left)
        codes, ending = _segment(windows, at, 8 * len(data))
        if ending < 0 and left:
            raise ContentError("corrupt", f"LZW codes without a Clear code after {CODES_MAX}")
        length += _length(codes)
        if ending < 0:
            at = 8 * len(data)
        else:
            at += int(_OFFSETS[len(codes)] + _WIDTHS[len(codes)])
        if ending != CLEAR:
            break
        if length >= OUT_BYTES:
            yield _decoded(data, first, at, min(length, decoded_bytes - out)), Mark(8 * base + at, out + length)
            out, length, first = out + length, 0, at
    if length and out < decoded_bytes:
        yield _decoded(data, first, at, min(length, decoded_bytes - out)), Mark(8 * base + at, out + length)
        out += length
    if out < decoded_bytes:
        raise ContentError(
            "truncated", f"an LZW strip ends {decoded_bytes - out} bytes early", missing_bytes=decoded_bytes - out
        )


def _more(data: bytes, drop: int, read: Callable[[int], bytes], left: int) -> tuple[bytes, int, Array]:
    take = min(left, PIECE_BYTES)
    data = data[drop:] + read(take)
    return data, left - take, _windows(data)


def _windows(data: bytes) -> Array:
    """For each byte, the 24 bits that begin with it; zeros beyond the end."""
    padded = np.zeros(len(data) + 2, np.uint32)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return (padded[:-2] << 16) | (padded[1:-1] << 8) | padded[2:]


def _code(windows: Array, at: int, width: int, size: int) -> int:
    if (at + width) > 8 * size:
        raise ContentError("truncated", "an LZW strip without codes")
    return int(windows[at >> 3]) >> (24 - (at & 7) - width) & ((1 << width) - 1)


def _segment(windows: Array, at: int, bits: int) -> tuple[Array, int]:
    """The codes from ``at`` up to the next Clear or End, and which of them it is; -1 where the data end first."""
    count = int(np.searchsorted(_OFFSETS + _WIDTHS, bits - at, side="right"))
    places = _OFFSETS[:count] + at
    codes = (windows[places >> 3] >> (24 - (places & 7) - _WIDTHS[:count])) & _MASKS[:count]
    ends = codes >> 1 == CLEAR >> 1
    found = int(ends.argmax()) if count else 0
    if not count or not ends[found]:
        return codes, -1
    return codes[:found], int(codes[found])


def _length(codes: Array) -> int:
    """How many bytes the codes of one segment become: each entry's length by following what it extends."""
    count = len(codes)
    if not count:
        return 0
    parents = codes - FIRST
    literal = parents < 0
    # The entry that code n makes is complete only with code n + 1, so a code may name the one just before it.
    if (parents >= np.arange(count)).any():
        raise ContentError("corrupt", "an LZW code that names an entry not made yet")
    parents = np.where(literal, count, parents)
    lengths = np.ones(count + 1, np.int64)
    lengths[:count] -= literal
    lengths[count] = 0
    parents = np.append(parents, count)
    while (parents != count).any():
        lengths += lengths[parents]
        parents = parents[parents]
    return int(lengths.sum()) + count


def _decoded(data: bytes, first: int, end: int, length: int) -> bytes:
    """The segments between two bits, by libtiff: a picture of one row. A Clear code of 9 bits goes before them."""
    stored = np.frombuffer(data, np.uint8, -(-end // 8) - first // 8 if end > first else 0, first // 8)
    # The first bit has to come to bit 9: behind one whole byte and one bit.
    shift = (first - 1) % 8
    if first % 8 == 0:
        stored = np.concatenate([np.zeros(1, np.uint8), stored])
    wide = np.append(stored, np.uint8(0)).astype(np.uint16)
    body = (((wide[:-1] << shift) | (wide[1:] >> (8 - shift))) & 0xFF).astype(np.uint8) if shift else stored.copy()
    body[0] &= 0x7F  # the last bit of the Clear code
    return _picture(b"\x80" + body.tobytes(), length)


def _picture(stored: bytes, length: int) -> bytes:
    entries = [
        (256, 4, length),
        (257, 4, 1),
        (258, 3, 8),
        (259, 3, 5),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, len(stored)),
    ]
    at = 8 + len(stored) + len(stored) % 2
    head = struct.pack("<2sHI", b"II", 42, at)
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, n) for tag, kind, n in entries
    )
    tiff = b"".join([head, stored, b"\0" * (len(stored) % 2), directory, bytes(4)])
    image = Image.open(io.BytesIO(tiff), formats=["TIFF"])
    return image.tobytes()
