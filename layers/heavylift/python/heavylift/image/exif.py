"""What a camera says of itself in a TIFF directory or an Exif block (a TIFF of its own). No I/O here.

Facts: TIFF 6.0; Exif 2.32 4.5.4, 4.6.4 (make, model, orientation), 4.6.5 (dates), 4.6.6 (GPS). Nothing here raises for
what is broken or absent: a picture is not judged by its captions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader, drive
from heavylift.tiff import tags
from heavylift.tiff.ifd import Header, Ifd, parse_header, read_ifd, read_integer, read_numbers, read_text

T = TypeVar("T")
EXIF_BYTES_MAX: Final = 1 << 20  # of a block in PNG, WebP, HEIF or PSD; a JPEG's segment has 64 KiB
HEADER_BYTES: Final = 8
EXIF_IFD: Final = 34665
GPS_IFD: Final = 34853
DATE_TIME: Final = 306
DATE_TIME_ORIGINAL: Final = 36867
OFFSET_TIME_ORIGINAL: Final = 36881
MAKER_NOTE: Final = 37500
PIXEL_X: Final = 40962
PIXEL_Y: Final = 40963
GPS_LATITUDE: Final = (1, 2, 90.0)  # its letter, its degrees, the largest value
GPS_LONGITUDE: Final = (3, 4, 180.0)
GPS_ALTITUDE: Final = (5, 6)  # 1: below the sea; metres
TEXT_BYTES_MAX: Final = 128
_DATE: Final = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
_OFFSET: Final = re.compile(r"[+-]\d\d:\d\d")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class CameraWords:
    """What a TIFF or Exif directory says of the camera; ``orientation`` 0 where it says nothing.

    ``gps``: latitude and longitude in degrees, altitude_m where it is known. It is shown to who asks for it only.
    """

    make: str | None = None
    model: str | None = None
    captured_at: str | None = None
    orientation: int = 0
    pixel_width: int = 0
    pixel_height: int = 0
    gps: dict[str, float] | None = None


NO_WORDS: Final = CameraWords()


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


def words_in(block: bytes) -> CameraWords:
    """The camera's words of an Exif block at hand, with or without ``Exif\\0\\0`` before it."""
    data = block[6:] if block.startswith(b"Exif\0\0") else block
    try:
        return drive(read_words(len(data)), lambda offset, length: data[offset : offset + length])
    except ContentError:
        return NO_WORDS


def read_words(size_bytes: int) -> Reader[CameraWords]:
    """The camera's words of a TIFF block of ``size_bytes`` at 0. Nothing where it is broken."""
    if size_bytes < HEADER_BYTES:
        return NO_WORDS
    try:
        header = parse_header((yield Range(0, min(16, size_bytes))))
        ifd = yield from read_ifd(header, header.first_ifd, size_bytes)
        exif = yield from read_exif(header, ifd, size_bytes)
        return (yield from words_of(ifd, exif, size_bytes))
    except ContentError:
        return NO_WORDS


def read_exif(header: Header, ifd: Ifd, size_bytes: int) -> Reader[Ifd | None]:
    """The Exif directory that ``ifd`` points to, None where there is none or it is broken."""
    return (yield from _pointed(header, ifd, EXIF_IFD, size_bytes))


def _pointed(header: Header, ifd: Ifd, tag: int, size_bytes: int) -> Reader[Ifd | None]:
    try:
        at = yield from read_integer(ifd, tag, size_bytes, 0)
        return (yield from read_ifd(header, at, size_bytes)) if at else None
    except ContentError:
        return None


def words_of(ifd: Ifd, exif: Ifd | None, size_bytes: int) -> Reader[CameraWords]:
    """Make, model, date, orientation, pixel sizes and place of a directory and its Exif directory."""
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
    places = yield from _pointed(ifd.header, ifd, GPS_IFD, size_bytes)
    gps = None if places is None else (yield from read_gps(places, size_bytes))
    return CameraWords(
        make, model, captured_at, orientation if 1 <= orientation <= 8 else 0, max(0, width), max(0, height), gps
    )


def read_gps(ifd: Ifd, size_bytes: int) -> Reader[dict[str, float] | None]:
    """The place that a GPS directory tells; None where it tells none that can be on Earth."""
    degrees: list[float] = []
    for letter_tag, tag, largest in (GPS_LATITUDE, GPS_LONGITUDE):
        letter = yield from _text(ifd, letter_tag, size_bytes)
        parts = yield from _numbers(ifd, tag, size_bytes)
        if not letter or len(parts) != 3:
            return None
        value = parts[0] + parts[1] / 60 + parts[2] / 3600
        if not 0 <= value <= largest:
            return None
        degrees.append(round(-value if letter[0] in "SsWw" else value, 7))
    gps = {"latitude": degrees[0], "longitude": degrees[1]}
    altitude = yield from _numbers(ifd, GPS_ALTITUDE[1], size_bytes)
    if len(altitude) == 1:
        below = yield from integer(ifd, GPS_ALTITUDE[0], size_bytes)
        gps["altitude_m"] = round(-altitude[0] if below == 1 else altitude[0], 2)
    return gps


def integer(ifd: Ifd, tag: int, size_bytes: int, default: int = 0) -> Reader[int]:
    """A field's first integer; ``default`` where it is absent or broken."""
    try:
        return (yield from read_integer(ifd, tag, size_bytes, default))
    except ContentError:
        return default


def _numbers(ifd: Ifd, tag: int, size_bytes: int) -> Reader[tuple[float, ...]]:
    try:
        return (yield from read_numbers(ifd, tag, size_bytes, 3))
    except ContentError:
        return ()


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
