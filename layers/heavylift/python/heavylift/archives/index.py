"""Where each member lies in a finished archive: a small object beside it, read by ranges. Pure.

Members are stored as they are, so one of them is one range of the archive. The index is little-endian: ``HLINDEX2``,
the number of members and that of files among them (8 bytes each); for each member 28 bytes: where its bytes begin (8),
how many (8), their CRC-32 (4), where its name ends (8); for each file the first 8 bytes of its id's SHA-256, sorted;
then all names, UTF-8, one behind the other. One member costs three small reads.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

from heavylift.archives.members import Members
from heavylift.errors import RequestError
from heavylift.ranges import Range, Reader

_MAGIC = b"HLINDEX2"
_HEAD = struct.Struct("<8s2Q")
_ROW = struct.Struct("<QQIQ")


@dataclass(frozen=True, slots=True)
class Place:
    """Member ``n`` (from 0): its archived name, and where in the archive its bytes are."""

    n: int
    name: str
    offset: int
    size: int
    crc32: int

    @property
    def range(self) -> str | None:
        """The Range header that reads it; None for an empty one, of which there is no range."""
        return f"bytes={self.offset}-{self.offset + self.size - 1}" if self.size else None


def build(members: Members, offset_of: Callable[[int], int]) -> bytes:
    """The index. ``offset_of``: where the bytes of the n-th member begin. Every CRC-32 must be known."""
    rows, names, marks = bytearray(), bytearray(), array("Q")
    for n in range(len(members)):
        names += members.name(n)
        file_id = members.file_id(n)
        if file_id is not None:
            marks.append(_mark(file_id))
        crc32 = members.crc32(n)
        if crc32 is None:
            raise ValueError(f"the CRC-32 of member {n} is unknown")
        rows += _ROW.pack(offset_of(n), members.sizes[n], crc32, len(names))
    head = _HEAD.pack(_MAGIC, len(members), len(marks))
    return head + bytes(rows) + struct.pack(f"<{len(marks)}Q", *sorted(marks)) + bytes(names)


def _mark(file_id: str) -> int:
    return int.from_bytes(sha256(file_id.encode()).digest()[:8], "little")


@dataclass(frozen=True, slots=True)
class Head:
    """How many members an index has, and how many of them are files by their ids."""

    count: int
    files: int


def head_of(data: bytes) -> Head:
    """From an index's first HEAD_BYTES. ValueError for bytes that are no index."""
    magic, count, files = _HEAD.unpack(data)
    if magic != _MAGIC:
        raise ValueError("no index of an archive")
    return Head(int(count), int(files))


def holds_any(head: Head, file_ids: Iterable[str]) -> Reader[bool]:
    """Whether any of these files is a member. One read, of 8 bytes a file."""
    wanted = {_mark(file_id) for file_id in file_ids}
    marks = (yield Range(_HEAD.size + head.count * _ROW.size, head.files * 8)) if head.files and wanted else b""
    return any(mark in wanted for (mark,) in struct.iter_unpack("<Q", marks))


def places(head: Head, first: int, limit: int) -> Reader[list[Place]]:
    """Members ``first`` .. ``first + limit``. RequestError ``not_found``: ``first`` is none of them."""
    count = head.count
    if not 0 <= first < count:
        raise RequestError("not_found", f"The archive has no member {first}; its {count} are counted from 0.")
    limit = min(limit, count - first)
    before = min(first, 1)  # the row before says where the first name begins
    rows = yield Range(_HEAD.size + (first - before) * _ROW.size, (limit + before) * _ROW.size)
    known = list(_ROW.iter_unpack(rows))
    start = known[0][3] if before else 0
    known = known[before:]
    base = _HEAD.size + count * _ROW.size + head.files * 8
    names = (yield Range(base + start, known[-1][3] - start)) if known[-1][3] > start else b""
    found = []
    at = start
    for n, (offset, size, crc32, end) in enumerate(known, first):
        found.append(Place(n, names[at - start : end - start].decode("utf-8", "replace"), offset, size, crc32))
        at = end
    return found


HEAD_BYTES = _HEAD.size
