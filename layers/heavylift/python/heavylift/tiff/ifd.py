"""Directories of TIFF files: header, IFDs, values. Format readers only (generators); no I/O here.

Facts: TIFF 6.0 section 2 (header, IFD entry, field types); BigTIFF (magic 43, 64-bit counts and offsets);
TIFF/EP for SubIFDs. A value that does not fit its entry is kept as an offset and read only when asked for.
Every reader ends: the number of directories, of entries and of bytes per value is limited by a named
constant, directories already seen are not followed again, and garbage raises only ContentError.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader
from heavylift.tiff import tags

IFDS_MAX: Final = 64  # pages and levels looked at; a scanner's 500-page file is read as its first 64
ENTRIES_MAX: Final = 4096  # per directory; real files stay below 300
VALUE_BYTES_MAX: Final = 4 << 20  # a single value that is not a chunk array: ICC profiles are the largest
TAG_ARRAY_BYTES_MAX: Final = 32 << 20  # offsets or byte counts of one picture: 4 million chunks as LONG8
ARRAY_PIECE_BYTES: Final = 1 << 20  # arrays are fetched in pieces, so that raw bytes and numbers are not both held

TYPE_SIZES: Final[dict[int, int]] = {
    1: 1,  # BYTE
    2: 1,  # ASCII
    3: 2,  # SHORT
    4: 4,  # LONG
    5: 8,  # RATIONAL
    6: 1,  # SBYTE
    7: 1,  # UNDEFINED
    8: 2,  # SSHORT
    9: 4,  # SLONG
    10: 8,  # SRATIONAL
    11: 4,  # FLOAT
    12: 8,  # DOUBLE
    13: 4,  # IFD
    16: 8,  # LONG8
    17: 8,  # SLONG8
    18: 8,  # IFD8
}
_CODES: Final[dict[int, str]] = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_INTEGER_TYPES: Final = frozenset({1, 3, 4, 6, 7, 8, 9, 13, 16, 17, 18})
_ARRAY_CODES: Final[dict[int, str]] = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

MAGIC_CLASSIC: Final = 42
MAGIC_BIG: Final = 43
# RAW formats that are TIFF in all but the number: Panasonic RW2, Olympus ORF.
MAGIC_RAW: Final = frozenset({0x55, 0x4F52, 0x5352})


@dataclass(frozen=True, slots=True)
class Header:
    """The first 8 (BigTIFF: 16) bytes: ``order`` is a struct prefix, ``<`` or ``>``."""

    order: str
    big: bool
    magic: int
    first_ifd: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One field. ``inline`` holds the value's bytes where they fit, else ``offset`` says where they are."""

    tag: int
    type: int
    count: int
    inline: bytes | None
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole value; 0 for a type this module does not know."""
        return TYPE_SIZES.get(self.type, 0) * self.count


@dataclass(frozen=True, slots=True)
class Ifd:
    """One directory. Of a tag that occurs twice, the first counts."""

    header: Header
    offset: int
    entries: dict[int, Entry]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Directories:
    """What a walk found: the page chain from IFD0, and IFD0's SubIFDs. ``complete`` is False where it was cut short."""

    pages: tuple[Ifd, ...]
    sub_ifds: tuple[Ifd, ...]
    complete: bool


def parse_header(head: bytes) -> Header:
    """Read the header from the file's first 16 bytes (8 do for classic TIFF).

    ContentError ``not_recognised``, ``truncated``, ``corrupt``.
    """
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 4:
        raise ContentError("not_recognised", "no TIFF byte order mark")
    (magic,) = struct.unpack_from(order + "H", head, 2)
    if magic == MAGIC_BIG:
        if len(head) < 16:
            raise ContentError("truncated", f"BigTIFF header of {len(head)} bytes, 16 needed", got_bytes=len(head))
        width, zero, first = struct.unpack_from(order + "HHQ", head, 4)
        if width != 8 or zero != 0:
            raise ContentError("corrupt", f"BigTIFF with offsets of {width} bytes")
        return Header(order, True, magic, first)
    if magic != MAGIC_CLASSIC and magic not in MAGIC_RAW:
        raise ContentError("not_recognised", f"TIFF magic {magic}")
    if len(head) < 8:
        raise ContentError("truncated", f"TIFF header of {len(head)} bytes, 8 needed", got_bytes=len(head))
    return Header(order, False, magic, struct.unpack_from(order + "I", head, 4)[0])


def read_header(size_bytes: int) -> Reader[Header]:
    """Fetch and parse the header."""
    head = yield Range(0, min(16, size_bytes))
    return parse_header(head)


def read_ifd(header: Header, offset: int, size_bytes: int) -> Reader[Ifd]:
    """Read one directory of at most ENTRIES_MAX entries: two reads, at most 80 KiB held."""
    count_size, entry_size, link_size = (8, 20, 8) if header.big else (2, 12, 4)
    if offset < 8 or offset + count_size > size_bytes:
        raise ContentError(
            "truncated", f"directory at {offset}, file of {size_bytes} bytes", offset=offset, size_bytes=size_bytes
        )
    raw = yield Range(offset, count_size)
    (count,) = struct.unpack(header.order + ("Q" if header.big else "H"), raw)
    if count == 0:
        raise ContentError("corrupt", f"directory at {offset} without entries", offset=offset)
    if count > ENTRIES_MAX:
        raise ContentError(
            "limit_exceeded", f"directory with {count} entries, {ENTRIES_MAX} allowed", entries=count, limit=ENTRIES_MAX
        )
    start = offset + count_size
    body_size = count * entry_size
    if start + body_size > size_bytes:
        raise ContentError(
            "truncated",
            f"directory at {offset} needs {body_size} bytes, file of {size_bytes}",
            offset=offset,
            size_bytes=size_bytes,
        )
    has_link = start + body_size + link_size <= size_bytes  # some writers end the file before the last link
    raw = yield Range(start, body_size + (link_size if has_link else 0))
    entries: dict[int, Entry] = {}
    for at in range(0, body_size, entry_size):
        entry = _parse_entry(header, raw[at : at + entry_size])
        entries.setdefault(entry.tag, entry)
    link = 0
    if has_link:
        (link,) = struct.unpack_from(header.order + ("Q" if header.big else "I"), raw, body_size)
    return Ifd(header, offset, entries, link)


def _parse_entry(header: Header, raw: bytes) -> Entry:
    if header.big:
        tag, kind, count = struct.unpack_from(header.order + "HHQ", raw)
        room, place, code = 8, 12, "Q"
    else:
        tag, kind, count = struct.unpack_from(header.order + "HHI", raw)
        room, place, code = 4, 8, "I"
    size = TYPE_SIZES.get(kind, 0) * count
    if size <= room:
        return Entry(tag, kind, count, raw[place : place + size], 0)
    return Entry(tag, kind, count, None, struct.unpack_from(header.order + code, raw, place)[0])


def read_bytes(entry: Entry, size_bytes: int, limit_bytes: int = VALUE_BYTES_MAX) -> Reader[bytes]:
    """The value's bytes as stored. ContentError where they are too many or outside the file."""
    if entry.inline is not None:
        return entry.inline
    _check_value(entry, size_bytes, limit_bytes)
    value = yield Range(entry.offset, entry.size_bytes)
    return value


def _check_value(entry: Entry, size_bytes: int, limit_bytes: int) -> None:
    if entry.size_bytes > limit_bytes:
        raise ContentError(
            "limit_exceeded",
            f"tag {entry.tag} holds {entry.size_bytes} bytes, {limit_bytes} allowed",
            tag=entry.tag,
            value_bytes=entry.size_bytes,
            limit_bytes=limit_bytes,
        )
    if entry.offset + entry.size_bytes > size_bytes:
        raise ContentError(
            "truncated",
            f"tag {entry.tag} ends at {entry.offset + entry.size_bytes}, file of {size_bytes} bytes",
            tag=entry.tag,
            size_bytes=size_bytes,
        )


def read_numbers(ifd: Ifd, tag: int, size_bytes: int, count_max: int = 4096) -> Reader[tuple[float, ...]]:
    """A field's numbers, () where the tag is absent. Rationals come as quotients (x/0 as 0). At most ``count_max``."""
    entry = ifd.entries.get(tag)
    if entry is None:
        return ()
    if entry.type not in TYPE_SIZES:
        raise ContentError("corrupt", f"tag {tag} of unknown type {entry.type}", tag=tag)
    raw = yield from read_bytes(entry, size_bytes, count_max * TYPE_SIZES[entry.type])
    order = ifd.header.order
    if entry.type in (5, 10):
        code = "I" if entry.type == 5 else "i"
        flat = struct.unpack(f"{order}{2 * entry.count}{code}", raw)
        return tuple(n / d if d else 0.0 for n, d in zip(flat[::2], flat[1::2], strict=True))
    if entry.type == 2:
        return tuple(raw)
    return struct.unpack(f"{order}{entry.count}{_CODES[entry.type]}", raw)


def read_integers(ifd: Ifd, tag: int, size_bytes: int, count_max: int = 4096) -> Reader[tuple[int, ...]]:
    """Like ``read_numbers`` for fields that must hold integers."""
    entry = ifd.entries.get(tag)
    if entry is not None and entry.type not in _INTEGER_TYPES:
        raise ContentError("corrupt", f"tag {tag} of type {entry.type}, an integer needed", tag=tag)
    values = yield from read_numbers(ifd, tag, size_bytes, count_max)
    return tuple(int(value) for value in values)


def read_integer(ifd: Ifd, tag: int, size_bytes: int, default: int) -> Reader[int]:
    """The first integer of a field, ``default`` where the tag is absent or empty."""
    values = yield from read_integers(ifd, tag, size_bytes)
    return values[0] if values else default


def read_text(ifd: Ifd, tag: int, size_bytes: int, length_max: int = 256) -> Reader[str]:
    """The beginning of an ASCII field, '' where absent, of another type or outside the file."""
    entry = ifd.entries.get(tag)
    if entry is None or entry.type not in (1, 2, 7):
        return ""
    if entry.inline is not None:
        raw = entry.inline
    else:
        length = min(entry.count, length_max, max(0, size_bytes - entry.offset))
        if length == 0:
            return ""
        raw = yield Range(entry.offset, length)
    return raw.split(b"\0")[0].decode("latin-1")


def read_array(ifd: Ifd, tag: int, size_bytes: int, count_max: int) -> Reader[array[int]]:
    """A chunk array's first ``count_max`` numbers, in the file's own width (2, 4 or 8 bytes each), fetched in pieces.

    Longer arrays than the picture has chunks are tolerated: the rest is not read. Memory: the numbers and one piece.
    """
    entry = ifd.entries.get(tag)
    if entry is None:
        return array("I")
    code = _ARRAY_CODES.get(entry.type)
    if code is None:
        raise ContentError("corrupt", f"tag {tag} of type {entry.type}, offsets or byte counts needed", tag=tag)
    count = min(entry.count, count_max)
    wanted = Entry(tag, entry.type, count, entry.inline, entry.offset)
    numbers: array[int] = array(code)
    width = TYPE_SIZES[entry.type]
    if entry.inline is not None:
        numbers.frombytes(entry.inline[: count * width])
    else:
        _check_value(wanted, size_bytes, TAG_ARRAY_BYTES_MAX)
        end = wanted.offset + wanted.size_bytes
        for start in range(wanted.offset, end, ARRAY_PIECE_BYTES):
            piece = yield Range(start, min(ARRAY_PIECE_BYTES, end - start))
            numbers.frombytes(piece)
    if (ifd.header.order == ">") != (sys.byteorder == "big"):
        numbers.byteswap()
    return numbers


def walk(header: Header, size_bytes: int) -> Reader[Directories]:
    """IFD0, its chain of pages and its SubIFDs: at most IFDS_MAX directories, each once.

    A broken IFD0 is the file's fault; a broken later directory only ends the walk (``complete`` False).
    """
    first = yield from read_ifd(header, header.first_ifd, size_bytes)
    seen = {first.offset}
    pages, subs, complete = [first], [], True
    try:
        offsets = yield from read_integers(first, tags.SUB_IFDS, size_bytes, IFDS_MAX)
        for offset in offsets:
            if offset in seen:
                complete = False
                continue
            seen.add(offset)
            subs.append((yield from read_ifd(header, offset, size_bytes)))
    except ContentError:
        complete = False
    try:
        link = first.next_offset
        while link:
            if link in seen or len(seen) >= IFDS_MAX:
                complete = False
                break
            seen.add(link)
            page = yield from read_ifd(header, link, size_bytes)
            pages.append(page)
            link = page.next_offset
    except ContentError:
        complete = False
    return Directories(tuple(pages), tuple(subs), complete)
