"""What the header of a JPEG XL says. No I/O here; pixels are ``image.whole``'s.

Facts: ISO/IEC 18181-1 (codestream: SizeHeader, ImageMetadata; bits come lowest first) and 18181-2 (container: boxes
``jxlc``, or ``jxlp`` with a number before each piece).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.heif import box_of
from heavylift.ranges import Range, Reader

CODESTREAM: Final = b"\xff\x0a"
BOXES_MAX: Final = 64
HEADER_BYTES: Final = 64  # more than the fields up to the number of extra channels can take
_RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZES: Final = ((1, 9), (1, 13), (1, 18), (1, 30))  # least value and bits, by a selector of two bits


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """``width`` and ``height`` as stored; ``extra_channels``: alpha and others, None where they are not told early."""

    width: int
    height: int
    bits_per_sample: int = 8
    orientation: int = 1
    animated: bool = False
    extra_channels: int | None = 0


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ContentError("truncated", "a JPEG XL ends in its header")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return value

    def choice(self, options: tuple[tuple[int, int], ...]) -> int:
        """A U32 of four distributions, each a least value and further bits."""
        least, bits = options[self.take(2)]
        return least + self.take(bits)


def read_jxl(size_bytes: int) -> Reader[JxlHeader]:
    """The header of the codestream, bare or in a container. ContentError ``truncated``, ``corrupt``."""
    start = yield from _codestream(size_bytes)
    data = yield Range(start, min(HEADER_BYTES, size_bytes - start))
    if data[:2] != CODESTREAM:
        raise ContentError("corrupt", "a JPEG XL container without a codestream")
    return parse_header(data[2:])


def _codestream(size_bytes: int) -> Reader[int]:
    head = yield Range(0, min(2, size_bytes))
    if head == CODESTREAM:
        return 0
    at, found = 0, None
    for _ in range(BOXES_MAX):
        if at + 8 > size_bytes:
            break
        kind, body, end = box_of((yield Range(at, min(16, size_bytes - at))), at, size_bytes)
        if end > size_bytes:
            raise ContentError(
                "truncated",
                f"JPEG XL: box {kind!r} ends at {end}, the file at {size_bytes}",
                needed_bytes=end,
                size_bytes=size_bytes,
            )
        if kind in (b"jxlc", b"jxlp") and found is None:
            found = body + (4 if kind == b"jxlp" else 0)
        at = end
    if found is None or found + 4 > size_bytes:
        raise ContentError("corrupt", "a JPEG XL container without a codestream")
    return found


def parse_header(data: bytes) -> JxlHeader:
    """The fields behind the signature, as far as they matter here."""
    bits = _Bits(data)
    width, height = _size(bits)
    if bits.take(1):  # all default: 8 bits, upright, nothing else
        return JxlHeader(width, height)
    orientation, animated = 1, False
    if bits.take(1):  # extra fields
        orientation = bits.take(3) + 1
        if bits.take(1):  # the size that is meant to be shown
            _size(bits)
        if bits.take(1):  # a preview, whose header is not read: what follows is not known
            return JxlHeader(width, height, orientation=orientation, extra_channels=None)
        if bits.take(1):
            animated = True
            bits.choice(((100, 0), (1000, 0), (1, 10), (1, 30)))
            bits.choice(((1, 0), (1001, 0), (1, 8), (1, 10)))
            bits.choice(((0, 0), (0, 3), (0, 16), (0, 32)))
            bits.take(1)
    if bits.take(1):  # floats
        depth = bits.choice(((32, 0), (16, 0), (24, 0), (1, 6)))
        bits.take(4)
    else:
        depth = bits.choice(((8, 0), (10, 0), (12, 0), (1, 6)))
    bits.take(1)  # sixteen bits are enough to decode it
    extra = bits.choice(((0, 0), (1, 0), (2, 4), (1, 12)))
    return JxlHeader(width, height, depth, orientation, animated, extra)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else bits.choice(_SIZES)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.choice(_SIZES)), height
