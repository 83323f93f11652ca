"""ZIP and tar files as lists of members, read from ranges of the object. No I/O here.

Facts: PKWARE APPNOTE.TXT 6.3.10 (end of central directory 4.3.16, ZIP64 4.3.14 and 4.3.15, central headers 4.3.12,
local headers 4.3.7); POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar
Format" (long names, sizes in base 256).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader

HEAD_BYTES: Final = 512
MAY_BE: Final = frozenset({"stray", "not_dicom", "corrupt", "missing_uid", "truncated", "limit_exceeded"})
MEMBERS_MAX: Final = 100_000  # as a batch
STORED, DEFLATED = 0, 8
DEFLATE_RATIO_MAX: Final = 1_032  # zlib's technical notes: no deflate stream grows more; overlapping members would
_TAIL_BYTES: Final = 65_557  # the end record and the longest comment
_WINDOW_BYTES: Final = 1 << 20
_LONG: Final = 0xFFFFFFFF
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside. ``offset``: of its local header (ZIP) or of its first byte (tar); sizes in bytes."""

    path: str
    size: int
    offset: int
    packed_size: int
    method: int = STORED
    crc32: int | None = None
    encrypted: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2] or self.path


def kind_of(head: bytes) -> str | None:
    """``zip`` or ``tar``, by the first HEAD_BYTES; None for anything else."""
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return "zip"
    return "tar" if head[257:262] == b"ustar" else None


def _broken(what: str) -> ContentError:
    return ContentError("corrupt", f"The bundle is broken: {what}.")


def _too_many() -> ContentError:
    return ContentError("limit_exceeded", f"The bundle has more than {MEMBERS_MAX} members.")


# --- ZIP ---


def read_zip(size_bytes: int) -> Reader[list[Member]]:
    """The members of a ZIP in the directory's order, folders left out. ContentError ``corrupt``, ``limit_exceeded``."""
    start, length = yield from _directory(size_bytes)
    members: list[Member] = []
    window, base = b"", start
    while length > 0:
        block = yield Range(base + len(window), min(_WINDOW_BYTES, start + length - base - len(window)))
        window += block
        at = 0
        for member, end in _central_headers(window):
            at = end
            if member is not None:
                members.append(member)
        if len(members) > MEMBERS_MAX:
            raise _too_many()
        window, base = window[at:], base + at
        if base + len(window) >= start + length:
            break
        if len(window) >= _WINDOW_BYTES:
            raise _broken("a header of its directory is longer than a megabyte")
    if window:
        raise _broken("its directory ends in the middle of a header")
    if sum(member.size for member in members) > DEFLATE_RATIO_MAX * size_bytes:
        raise ContentError("limit_exceeded", "The bundle's members are larger together than its bytes can hold.")
    return members


def _directory(size_bytes: int) -> Reader[tuple[int, int]]:
    """(offset, bytes) of the central directory."""
    tail_at = max(0, size_bytes - _TAIL_BYTES)
    tail = yield Range(tail_at, size_bytes - tail_at)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise _broken("it has no end record")
    length, start = struct.unpack_from("<II", tail, at + 12)
    if _LONG in {length, start} or struct.unpack_from("<H", tail, at + 10)[0] == 0xFFFF:
        if at < 20 or tail[at - 20 : at - 16] != b"PK\x06\x07":
            raise _broken("it has no ZIP64 record where it needs one")
        (end_at,) = struct.unpack_from("<Q", tail, at - 12)
        if end_at + 56 > size_bytes:
            raise _broken("its ZIP64 record lies outside")
        record = yield Range(end_at, 56)
        if record[:4] != b"PK\x06\x06":
            raise _broken("its ZIP64 record is none")
        length, start = struct.unpack_from("<QQ", record, 40)
    if start + length > size_bytes:
        raise _broken("its directory lies outside")
    return start, length


def _central_headers(window: bytes) -> Iterator[tuple[Member | None, int]]:
    """(member, or None for a folder; where the next header begins) of every whole header in the window."""
    at = 0
    while at + 46 <= len(window):
        if window[at : at + 4] != b"PK\x01\x02":
            raise _broken("its directory holds no header where one must be")
        flags, method = struct.unpack_from("<HH", window, at + 8)
        crc32, packed, size = struct.unpack_from("<III", window, at + 16)
        name_length, extra_length, comment_length = struct.unpack_from("<HHH", window, at + 28)
        (offset,) = struct.unpack_from("<I", window, at + 42)
        end = at + 46 + name_length + extra_length + comment_length
        if end > len(window):
            return
        name = window[at + 46 : at + 46 + name_length]
        extra = window[at + 46 + name_length : at + 46 + name_length + extra_length]
        size, packed, offset = _zip64(extra, size, packed, offset)
        at = end
        if name.endswith(b"/"):
            yield None, end
            continue
        path = name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        yield Member(path, size, offset, packed, method, crc32, bool(flags & _ENCRYPTED)), end


def _zip64(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset, with those from the ZIP64 extra field that the header has no room for (4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = (
                iter(struct.unpack_from(f"<{length // 8}Q", extra[: at + 4 + length], at + 4)) if length else iter(())
            )
            size = next(values, size) if size == _LONG else size
            packed = next(values, packed) if packed == _LONG else packed
            offset = next(values, offset) if offset == _LONG else offset
        at += 4 + length
    return size, packed, offset


def local_header_bytes(header: bytes) -> int:
    """How many bytes stand before a ZIP member's data. ContentError ``corrupt``."""
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise _broken("a member has no local header")
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    return int(30 + name_length + extra_length)


# --- tar ---


def read_tar(size_bytes: int, at: int = 0) -> Reader[list[Member]]:
    """The members of a tar in its order; only regular files. ContentError ``corrupt``, ``limit_exceeded``."""
    members: list[Member] = []
    long_name, long_size = "", -1
    while at + 512 <= size_bytes:
        block = yield Range(at, 512)
        if not block.strip(b"\0"):
            break
        if not _checksum_holds(block):
            raise _broken("a header's checksum is wrong")
        size = long_size if long_size >= 0 else _tar_number(block[124:136])
        kind = block[156:157]
        data_at, following = at + 512, at + 512 + -(-size // 512) * 512
        if data_at + size > size_bytes:
            raise _broken("a member ends outside")
        at = following
        if kind in {b"x", b"L"}:
            if size > 1 << 20:
                raise _broken("a member's name is longer than a megabyte")
            text = yield Range(data_at, size)
            if kind == b"L":
                long_name = text.split(b"\0", 1)[0].decode("utf-8", "replace")
            else:
                named, sized = _pax(text)
                long_name, long_size = named or long_name, sized
            continue
        if kind in {b"0", b"\0", b"7"}:
            prefix = _tar_text(block[345:500]) if block[257:263] == b"ustar\0" else ""
            short = _tar_text(block[:100])
            path = long_name or (f"{prefix}/{short}" if prefix else short)
            if not path.endswith("/"):
                members.append(Member(path, size, data_at, size))
        if len(members) > MEMBERS_MAX:
            raise _too_many()
        if kind != b"g":
            long_name, long_size = "", -1
    return members


def _tar_text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _tar_number(field: bytes) -> int:
    """Octal, or base 256 where the first bit is set."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if number >> 60:
            raise _broken("a member's size is none")
        return number
    text = field.strip(b" \0")
    try:
        return int(text or b"0", 8)
    except ValueError:
        raise _broken("a member's size is none") from None


def _checksum_holds(block: bytes) -> bool:
    try:
        wanted = int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return wanted == sum(block[:148]) + 8 * 32 + sum(block[156:])


def _pax(text: bytes) -> tuple[str, int]:
    """(path, size) of an extended header; "" and -1 where it has none."""
    path, size, at = "", -1, 0
    while at < len(text):
        space = text.find(b" ", at)
        if space < 0 or not text[at:space].isdigit():
            break
        end = at + int(text[at:space])
        key, _, value = text[space + 1 : end].rstrip(b"\n").partition(b"=")
        if key == b"path":
            path = value.decode("utf-8", "replace")
        elif key == b"size" and value.isdigit():
            size = int(value[:19])
        if end <= at:
            break
        at = end
    return path, size
