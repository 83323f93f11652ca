"""Fujifilm RAF: a header of its own with a whole JPEG behind it. No I/O here.

Facts: Fujifilm publishes none; the header (JPEG at 84 and 88, directory at 92 and 96, sensor data at 100 and 104, all
big-endian) and the directory's tags 0x100 and 0x111 are as LibRaw's and ExifTool's descriptions say.
"""

from __future__ import annotations

import struct
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import NO_WORDS
from heavylift.ranges import Range, Reader
from heavylift.raw.estimate import develop_bytes
from heavylift.raw.jpeg import read_jpeg_words
from heavylift.raw.model import JPEG, Preview, RawFacts, RawStructure

HEADER_BYTES: Final = 108
RECORDS_MAX: Final = 256
DIRECTORY_BYTES_MAX: Final = 65_536
FULL_SIZE: Final = 0x100
CROPPED_SIZE: Final = 0x111


def read_raf(size_bytes: int) -> Reader[RawStructure]:
    """The structure of a RAF: header, directory, the JPEG's Exif block. ContentError ``truncated``."""
    head = yield Range(0, HEADER_BYTES)
    jpeg_at, jpeg_length, directory_at, directory_length, data_at, data_length = struct.unpack_from(">6I", head, 84)
    model = head[28:60].split(b"\0")[0].decode("latin-1").strip()
    notes: list[str] = []
    words = NO_WORDS
    previews: tuple[Preview, ...] = ()
    if jpeg_at and jpeg_length:
        previews = (Preview(JPEG, "the header's JPEG", jpeg_at, jpeg_length),)
        if jpeg_at + jpeg_length <= size_bytes:
            try:
                words = yield from read_jpeg_words(jpeg_at, jpeg_length)
            except ContentError as error:
                notes.append(f"Exif: {error.message}")
    width = height = 0
    if directory_at and 4 <= directory_length <= DIRECTORY_BYTES_MAX and directory_at + directory_length <= size_bytes:
        width, height = _size((yield Range(directory_at, directory_length)))
    facts = RawFacts(
        width,
        height,
        "CFA",
        0,
        "RAF",
        None,
        None,
        words.orientation or 1,
        develop_bytes(width, height) if width and height else 0,
        make=words.make or "FUJIFILM",
        model=words.model or (model if model.isprintable() else "") or None,
        captured_at=words.captured_at,
        gps=words.gps,
    )
    data = (Range(data_at, data_length),) if data_at else ()
    return RawStructure(facts, previews, words.orientation, data=data, notes=tuple(notes))


def _size(directory: bytes) -> tuple[int, int]:
    """Width and height of the sensor data, of the picture on it where the first is absent."""
    (count,) = struct.unpack_from(">I", directory)
    found: dict[int, tuple[int, int]] = {}
    at = 4
    for _ in range(min(count, RECORDS_MAX)):
        if at + 4 > len(directory):
            break
        tag, length = struct.unpack_from(">HH", directory, at)
        if tag in (FULL_SIZE, CROPPED_SIZE) and length == 4 and at + 8 <= len(directory):
            height, width = struct.unpack_from(">HH", directory, at + 4)
            found.setdefault(tag, (width, height))
        at += 4 + length
    return found.get(FULL_SIZE) or found.get(CROPPED_SIZE) or (0, 0)
