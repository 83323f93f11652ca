"""What a compressed frame says of its own size, before a decoder believes it. Pure functions; no I/O here.

Facts: ISO/IEC 10918-1 B.1, B.2 (JPEG: markers, frame header), 14495-1 C.2 (JPEG-LS: SOF55), 15444-1 A.5.1
(JPEG 2000: SIZ). A damaged size makes a decoder take gigabytes, or minutes, for a frame of a few kilobytes.
"""

from __future__ import annotations

import struct
from typing import Final

from heavylift.dicom.syntaxes import Codec

_JPEGS: Final = frozenset({Codec.JPEG, Codec.JPEG_EXTENDED, Codec.JPEG_LOSSLESS, Codec.JPEG_LS})
_J2KS: Final = frozenset({Codec.JPEG_2000, Codec.HTJ2K})
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SIZ: Final = b"\xff\x4f\xff\x51"
TILES_MAX: Final = 4_096  # of one frame; a slide's tile is a frame of its own


def size_of(data: bytes, codec: Codec) -> tuple[int, int, int] | None:
    """(columns, rows, components) as the frame's own header says; None where it has none that can be read.

    Also None for JPEG 2000 with more than TILES_MAX tiles. Codecs without a header of their own (RLE) have no answer:
    use ``tells_size``.
    """
    if codec in _JPEGS:
        return _jpeg_size(data)
    return _j2k_size(data) if codec in _J2KS else None


def tells_size(codec: Codec) -> bool:
    """Frames of this codec carry their size."""
    return codec in _JPEGS or codec in _J2KS


def _jpeg_size(data: bytes) -> tuple[int, int, int] | None:
    at = 2
    if data[:2] != b"\xff\xd8":
        return None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAME_HEADERS:
            if at + 10 > len(data):
                return None
            rows, columns, components = struct.unpack_from(">HHB", data, at + 5)
            return columns, rows, components
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None


def _j2k_size(data: bytes) -> tuple[int, int, int] | None:
    start = data.find(_SIZ)
    if start < 0 or start + 42 > len(data):
        return None
    right, bottom, left, top, width, height, first_x, first_y, components = struct.unpack_from(">8IH", data, start + 8)
    if not width or not height or right <= left or bottom <= top:
        return None
    if -(-(right - first_x) // width) * -(-(bottom - first_y) // height) > TILES_MAX:
        return None
    return right - left, bottom - top, components
