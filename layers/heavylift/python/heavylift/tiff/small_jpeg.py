"""JPEG chunks that are made smaller while they are decoded, by their own transform. Child only.

A chunk in a TIFF is a JPEG without its tables (TIFF Technical Note 2). Put together again it is Pillow's to decode,
at 1/2, 1/4 or 1/8: at 1/8 of each block only its average is made. What is handed on is built from segments that were
looked at one by one, so that the decoder sees the frame header that was checked, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from PIL import Image

from heavylift.tiff import tags
from heavylift.tiff.layout import Picture

_START: Final = b"\xff\xd8"
_TABLES: Final = frozenset({0xDB, 0xC4, 0xDD})  # quantization, Huffman codes, restart interval
_FRAMES: Final = frozenset({0xC0, 0xC1})  # baseline and extended, in one pass
_SCAN: Final = 0xDA
_SEGMENTS_MAX: Final = 64
# Pillow's mode and, as libtiff tells its decoder, what the components are; markers of other programs do not count.
_MODES: Final = {
    (tags.WHITE_IS_ZERO, 1): ("L", "L"),
    (tags.BLACK_IS_ZERO, 1): ("L", "L"),
    (tags.RGB, 3): ("RGB", "RGB"),
    (tags.YCBCR, 3): ("RGB", "YCbCr"),
    (tags.SEPARATED, 4): ("CMYK", "CMYK"),
}


@dataclass(frozen=True, slots=True)
class Stream:
    """A JPEG that was put together: its bytes and the size in its frame header."""

    data: bytes
    width: int
    height: int


class SmallJpeg:
    """Decodes one picture's chunks at 1/``scale``, which is ``bands.jpeg_scale``'s."""

    def __init__(self, picture: Picture, tables: bytes, scale: int) -> None:
        key = (tags.BLACK_IS_ZERO, 1) if picture.planar == 2 else (picture.photometric, picture.samples)
        self.mode, self._components = _MODES[key]
        self._samples = key[1]
        self._invert = key[0] == tags.WHITE_IS_ZERO
        self._tables = _segments(tables)
        self._largest = (picture.chunk_width, picture.chunk_height)
        self.scale = scale

    def decode(self, stored: bytes | memoryview, size: tuple[int, int]) -> Image.Image | None:
        """The first ``size`` pixels of a chunk, made smaller; None where that is better left to libtiff: a stream of
        another kind, and a chunk whose padding would be averaged with its last pixels."""
        stream = self._stream(stored)
        if stream is None or not size[0] <= stream.width <= self._largest[0]:
            return None
        if not size[1] <= stream.height <= self._largest[1]:
            return None
        scale = self.scale
        for wanted, there in zip(size, (stream.width, stream.height), strict=True):
            if wanted != there and wanted % scale:
                return None
        whole = (-(-stream.width // scale), -(-stream.height // scale))
        raw = self.mode
        image = Image.frombytes(self.mode, whole, stream.data, "jpeg", raw, self._components, scale, 0)
        if self._invert:
            image = image.point(lambda value: 255 - value)
        small = (-(-size[0] // scale), -(-size[1] // scale))
        return image if image.size == small else image.crop((0, 0, *small))

    def _stream(self, stored: bytes | memoryview) -> Stream | None:
        if self._tables is None or stored[:2] != _START:
            return None
        at = 2
        size: tuple[int, int] | None = None
        parts: list[bytes | memoryview] = [_START, self._tables]
        view = memoryview(stored)
        for _ in range(_SEGMENTS_MAX):
            if at + 4 > len(stored) or stored[at] != 0xFF:
                return None
            marker, length = stored[at + 1], int.from_bytes(stored[at + 2 : at + 4], "big")
            end = at + 2 + length
            if length < 2 or end > len(stored):
                return None
            if marker == _SCAN:
                if size is None:
                    return None
                parts.append(view[at:])
                return Stream(b"".join(parts), *size)
            if marker in _FRAMES:
                if size is not None or length != 8 + 3 * self._samples:
                    return None
                if stored[at + 4] != 8 or stored[at + 9] != self._samples:
                    return None
                height = int.from_bytes(stored[at + 5 : at + 7], "big")
                size = (int.from_bytes(stored[at + 7 : at + 9], "big"), height)
                parts.append(view[at:end])
            elif marker in _TABLES:
                parts.append(view[at:end])
            elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):  # applications' own, comments
                return None
            at = end
        return None


def _segments(tables: bytes) -> bytes | None:
    """The tables' segments without what is around them; b"" where there are none, None where they are not that."""
    if not tables:
        return b""
    if tables[:2] != _START:
        return None
    at = 2
    parts: list[bytes] = []
    for _ in range(_SEGMENTS_MAX):
        if at + 2 > len(tables) or tables[at] != 0xFF:
            return None
        marker = tables[at + 1]
        if marker == 0xD9:
            return b"".join(parts)
        length = int.from_bytes(tables[at + 2 : at + 4], "big")
        end = at + 2 + length
        if length < 2 or end > len(tables):
            return None
        if marker in _TABLES:
            parts.append(tables[at:end])
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return None
        at = end
    return None
