"""Previews that only a maker note points to: Nikon, Olympus and OM System, Pentax. No I/O here.

Facts: the makers publish none; the layouts are those that ExifTool's tag tables document (Nikon PreviewIFD 0x0011,
Olympus CameraSettings 0x2020 with PreviewImageStart 0x0101 and PreviewImageLength 0x0102, Pentax
PreviewImageLength 0x0003 and PreviewImageStart 0x0004). What is found is a candidate only: its bytes must be a JPEG.
"""

from __future__ import annotations

from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import integer, within
from heavylift.ranges import Range, Reader
from heavylift.raw.model import JPEG, Preview
from heavylift.tiff.ifd import MAGIC_CLASSIC, Entry, Header, Ifd, parse_header, read_ifd

HEAD_BYTES: Final = 26
JPEG_START: Final = 513
JPEG_LENGTH: Final = 514
NIKON_PREVIEW_IFD: Final = 0x0011
OLYMPUS_SETTINGS: Final = 0x2020
OLYMPUS_START: Final = 0x0101
OLYMPUS_LENGTH: Final = 0x0102
PENTAX_LENGTH: Final = 0x0003
PENTAX_START: Final = 0x0004
# Signature of an Olympus note, where its directory begins, whether its offsets count from the note.
_OLYMPUS: Final = ((b"OLYMPUS\0II", 12, True), (b"OM SYSTEM\0", 16, True), (b"OLYMP\0", 8, False))


def read_maker_note(note: Entry, order: str, size_bytes: int) -> Reader[Preview | None]:
    """The preview that a maker note points to, None where it points to none. Never raises for a broken note."""
    if note.inline is not None or note.size_bytes < HEAD_BYTES or note.offset + note.size_bytes > size_bytes:
        return None
    try:
        head = yield Range(note.offset, HEAD_BYTES)
        if head.startswith(b"Nikon\0"):
            return (yield from _nikon(note.offset + 10, head[10:26], size_bytes))
        for signature, start, own_base in _OLYMPUS:
            if head.startswith(signature):
                base = note.offset if own_base else 0
                return (yield from _olympus(base, note.offset + start - base, order, size_bytes))
        if head.startswith((b"AOC\0", b"PENTAX \0")):
            return (yield from _pentax(note.offset, head, order, size_bytes))
    except ContentError:
        return None
    return None


def _jpeg(where: str, base: int, start: int, length: int) -> Preview | None:
    return Preview(JPEG, where, base + start, length) if start > 0 and length > 0 else None


def _nikon(base: int, head: bytes, size_bytes: int) -> Reader[Preview | None]:
    """A TIFF of its own from byte 10 of the note on; its first directory points to the preview's."""
    rest = size_bytes - base
    header = parse_header(head)

    def read() -> Reader[Preview | None]:
        first = yield from read_ifd(header, header.first_ifd, rest)
        at = yield from integer(first, NIKON_PREVIEW_IFD, rest)
        if not at:
            return None
        ifd = yield from read_ifd(header, at, rest)
        return (yield from _pair(ifd, JPEG_START, JPEG_LENGTH, rest, base))

    return (yield from within(read(), base))


def _olympus(base: int, first_at: int, order: str, size_bytes: int) -> Reader[Preview | None]:
    rest = size_bytes - base
    header = Header(order, False, MAGIC_CLASSIC, first_at)

    def read() -> Reader[Preview | None]:
        first = yield from read_ifd(header, first_at, rest)
        entry = first.entries.get(OLYMPUS_SETTINGS)
        if entry is None:
            return None
        at = entry.offset if entry.inline is None else (yield from integer(first, OLYMPUS_SETTINGS, rest))
        settings = yield from read_ifd(header, at, rest)
        return (yield from _pair(settings, OLYMPUS_START, OLYMPUS_LENGTH, rest, base))

    return (yield from within(read(), base))


def _pentax(at: int, head: bytes, order: str, size_bytes: int) -> Reader[Preview | None]:
    """``AOC``: offsets of the file. ``PENTAX ``: offsets of the note."""
    own_base = head.startswith(b"PENTAX ")
    mark_at, base = (8, at) if own_base else (4, 0)
    order = {b"II": "<", b"MM": ">"}.get(head[mark_at : mark_at + 2], order)
    first_at = at + mark_at + 2 - base
    header = Header(order, False, MAGIC_CLASSIC, first_at)
    rest = size_bytes - base

    def read() -> Reader[Preview | None]:
        first = yield from read_ifd(header, first_at, rest)
        return (yield from _pair(first, PENTAX_START, PENTAX_LENGTH, rest, base))

    return (yield from within(read(), base))


def _pair(ifd: Ifd, start_tag: int, length_tag: int, size_bytes: int, base: int) -> Reader[Preview | None]:
    start = yield from integer(ifd, start_tag, size_bytes)
    length = yield from integer(ifd, length_tag, size_bytes)
    return _jpeg("the maker note", base, start, length)
