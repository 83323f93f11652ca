"""JPEGs inside other files: their true size, and the camera's words in their Exif block. No I/O here.

Facts: ITU T.81 annex B; Exif 2.32 4.5.4 (an Exif block is a TIFF of its own) and 4.6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

from heavylift.errors import ContentError
from heavylift.image.headers import PictureHeader, read_jpeg
from heavylift.ranges import Range, Reader
from heavylift.tiff import tags
from heavylift.tiff.ifd import Header, Ifd, parse_header, read_ifd, read_integer, read_text

T = TypeVar("T")
READS_MAX: Final = 160  # up to the frame header of a preview: an Exif block, MakerNotes, profiles
SEGMENTS_LOOKED_AT: Final = 8  # for the Exif block, which stands first or second
EXIF_IFD: Final = 34665
DATE_TIME: Final = 306
DATE_TIME_ORIGINAL: Final = 36867
OFFSET_TIME_ORIGINAL: Final = 36881
MAKER_NOTE: Final = 37500
PIXEL_X: Final = 40962
PIXEL_Y: Final = 40963
TEXT_BYTES_MAX: Final = 128
_DATE: Final = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
_OFFSET: Final = re.compile(r"[+-]\d\d:\d\d")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class CameraWords:
    """What a TIFF or Exif directory says of the camera; ``orientation`` 0 where it says nothing."""

    make: str | None = None
    model: str | None = None
    captured_at: str | None = None
    orientation: int = 0
    pixel_width: int = 0
    pixel_height: int = 0


def within(reader: Reader[T], offset: int, reads_max: int = 1 << 20) -> Reader[T]:
    """A reader whose byte 0 is byte ``offset`` of the object. ContentError ``limit_exceeded`` over ``reads_max``."""
    try:
        want = next(reader)
        for _ in range(reads_max):
            data = yield Range(want.offset + offset, want.length)
            want = reader.send(data)
    except StopIteration as done:
        result: T = done.value
        return result
    raise ContentError("limit_exceeded", f"more than {reads_max} reads in one structure", limit=reads_max)


def read_frame(offset: int, length: int, size_bytes: int) -> Reader[PictureHeader]:
    """The frame header of the JPEG at ``offset``: baseline, extended or progressive.

    ContentError: outside the file, no JPEG, or one that no preview is (lossless: sensor data).
    """
    if offset + length > size_bytes:
        raise ContentError(
            "truncated",
            f"a JPEG at {offset} of {length} bytes, file of {size_bytes}",
            offset=offset,
            length=length,
            size_bytes=size_bytes,
        )
    if length < 64 or (yield Range(offset, 2)) != b"\xff\xd8":
        raise ContentError("corrupt", f"no JPEG begins at {offset}", offset=offset)
    header = yield from within(read_jpeg(length), offset, READS_MAX)
    if header.bits_per_sample != 8:
        raise ContentError("unsupported_feature", f"a JPEG of {header.bits_per_sample} bits a sample")
    return header


def read_precision(offset: int, length: int) -> Reader[int]:
    """Bits a sample of the JPEG at ``offset``, lossless ones too; 0 where no frame header is found near its front."""
    at = offset + 2
    for _ in range(SEGMENTS_LOOKED_AT):
        if at + 10 > offset + length:
            break
        head = yield Range(at, 10)
        if head[0] != 0xFF:
            break
        if 0xC0 <= head[1] <= 0xCF and head[1] not in (0xC4, 0xC8, 0xCC):
            return head[4]
        at += 2 + int.from_bytes(head[2:4], "big")
    return 0


def read_jpeg_words(offset: int, length: int) -> Reader[CameraWords]:
    """What the Exif block of the JPEG at ``offset`` says. Nothing where there is none."""
    at = offset + 2
    for _ in range(SEGMENTS_LOOKED_AT):
        if at + 10 > offset + length:
            break
        head = yield Range(at, 10)
        if head[0] != 0xFF or head[1] in (0xDA, 0xD9):
            break
        segment = int.from_bytes(head[2:4], "big")
        if segment < 2:
            break
        if head[1] == 0xE1 and segment > 16 and head[4:10] == b"Exif\0\0":
            return (yield from within(read_words(min(segment - 8, offset + length - at - 10)), at + 10))
        at += 2 + segment
    return CameraWords()


def read_words(size_bytes: int) -> Reader[CameraWords]:
    """The camera's words of a TIFF block of ``size_bytes`` at 0. Nothing where it is broken."""
    try:
        header = parse_header((yield Range(0, min(16, size_bytes))))
        ifd = yield from read_ifd(header, header.first_ifd, size_bytes)
        exif = yield from read_exif(header, ifd, size_bytes)
        return (yield from words_of(ifd, exif, size_bytes))
    except ContentError:
        return CameraWords()


def read_exif(header: Header, ifd: Ifd, size_bytes: int) -> Reader[Ifd | None]:
    """The Exif directory that ``ifd`` points to, None where there is none or it is broken."""
    try:
        at = yield from read_integer(ifd, EXIF_IFD, size_bytes, 0)
        return (yield from read_ifd(header, at, size_bytes)) if at else None
    except ContentError:
        return None


def words_of(ifd: Ifd, exif: Ifd | None, size_bytes: int) -> Reader[CameraWords]:
    """Make, model, date, orientation and pixel sizes of a directory and its Exif directory."""
    make = yield from _text(ifd, tags.MAKE, size_bytes)
    model = yield from _text(ifd, tags.MODEL, size_bytes)
    captured_at = None
    for source, tag in ((exif, DATE_TIME_ORIGINAL), (ifd, DATE_TIME_ORIGINAL), (ifd, DATE_TIME)):
        if source is not None and captured_at is None:
            captured_at = _date((yield from _text(source, tag, size_bytes)))
    if captured_at is not None and exif is not None:
        offset = yield from _text(exif, OFFSET_TIME_ORIGINAL, size_bytes)
        captured_at += offset if offset and _OFFSET.fullmatch(offset) else ""
    orientation = yield from integer(ifd, tags.ORIENTATION, size_bytes)
    width = height = 0
    if exif is not None:
        width = yield from integer(exif, PIXEL_X, size_bytes)
        height = yield from integer(exif, PIXEL_Y, size_bytes)
    return CameraWords(
        make, model, captured_at, orientation if 1 <= orientation <= 8 else 0, max(0, width), max(0, height)
    )


def integer(ifd: Ifd, tag: int, size_bytes: int, default: int = 0) -> Reader[int]:
    """A field's first integer; ``default`` where it is absent or broken."""
    try:
        return (yield from read_integer(ifd, tag, size_bytes, default))
    except ContentError:
        return default


def _text(ifd: Ifd, tag: int, size_bytes: int) -> Reader[str | None]:
    try:
        text = yield from read_text(ifd, tag, size_bytes, TEXT_BYTES_MAX)
    except ContentError:
        return None
    return _UNPRINTABLE.sub(" ", text).strip() or None


def _date(text: str | None) -> str | None:
    """Exif's ``2024:05:01 12:34:56`` in ISO 8601; None for anything else, and for clocks that were never set."""
    found = _DATE.match(text or "")
    if found is None or found[1] == "0000":
        return None
    return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}"
