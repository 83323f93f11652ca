"""What an archive is made of: members with their final names, in columns that hold 100 000 of them in some 25 MB.

No I/O here. The whole list also has one compact form of bytes, so that any worker of a job reads the same members.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

NAME_BYTES_MAX = 0xFFFF  # the length field of a ZIP header has two bytes
SIZE_MAX = 0xFFFF_FFFF_FFFF_FFFF  # the size field of ZIP64 has eight
CONTENT_BYTES_MAX = 1 << 20  # larger ones are written to S3 first and then are members as any other
_MAGIC = b"HLMEMB1\n"
_SLICE = 1 << 20  # compressed by so many bytes at a time


@dataclass(frozen=True, slots=True)
class Source:
    """An object in S3 that holds a member's bytes, pinned: another version or other bytes are never taken instead."""

    bucket: str
    key: str
    version_id: str | None
    etag: str  # without quotes


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the archive.

    ``name``: as archived, UTF-8 when bytes; a directory's ends with "/". ``modified_at``: seconds since 1970, UTC.
    ``crc32`` of the whole content, None when nobody recorded it. The bytes are those of ``source``, or ``content``
    itself for small files made for the archive; an empty member needs neither. ``file_id``: whose file it is.
    """

    name: bytes | str
    size_bytes: int
    modified_at: int
    crc32: int | None = None
    source: Source | None = None
    content: bytes | None = None
    file_id: str | None = None


class _Texts:
    """Byte strings one behind the other in one blob."""

    __slots__ = ("blob", "ends")

    def __init__(self) -> None:
        self.blob = bytearray()
        self.ends = array("Q", [0])

    def append(self, text: bytes) -> None:
        self.blob += text
        self.ends.append(len(self.blob))

    def __getitem__(self, n: int) -> bytes:
        return bytes(self.blob[self.ends[n] : self.ends[n + 1]])

    def length(self, n: int) -> int:
        return self.ends[n + 1] - self.ends[n]


class Members:
    """Members in logical order (that of the central directory), by columns.

    ``append`` and ``set_crc32`` write; all else reads. Not safe to write to from several threads; reading is.
    """

    __slots__ = ("_contents", "_crcs", "_known", "_names", "_origins", "_places", "_sources", "sizes", "times")

    def __init__(self) -> None:
        self.sizes = array("Q")
        self.times = array("q")
        self._crcs = array("I")
        self._known = bytearray()
        self._names = _Texts()
        # Where sources lie: few buckets and prefixes, named once; the rest of a source is one text a member.
        self._places: dict[tuple[str, str], int] = {}
        self._origins = array("i")
        self._sources = _Texts()
        self._contents: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.sizes)

    def append(self, member: Member) -> int:
        """Add a member behind the last one; its number. ValueError when it cannot be archived as it is given."""
        name = member.name if isinstance(member.name, bytes) else member.name.encode()
        name.decode()  # UnicodeDecodeError is a ValueError
        if not 0 < len(name) <= NAME_BYTES_MAX:
            raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes, not {len(name)}")
        if not 0 <= member.size_bytes <= SIZE_MAX:
            raise ValueError(f"{name!r}: a size of {member.size_bytes} bytes")
        crc32 = member.crc32
        if member.content is not None and (member.source is not None or len(member.content) != member.size_bytes):
            raise ValueError(
                f"{name!r}: content of {len(member.content)} bytes for {member.size_bytes}, or two origins"
            )
        if member.content is not None and len(member.content) > CONTENT_BYTES_MAX:
            raise ValueError(f"{name!r}: {len(member.content)} bytes of content belong into an object of their own")
        if member.content is None and member.source is None and member.size_bytes:
            raise ValueError(f"{name!r}: {member.size_bytes} bytes from nowhere")
        if name.endswith(b"/") and member.size_bytes:
            raise ValueError(f"{name!r}: a directory of {member.size_bytes} bytes")
        if member.content is not None or not member.size_bytes:
            crc32 = zlib.crc32(member.content or b"")
        n = len(self.sizes)
        self.sizes.append(member.size_bytes)
        self.times.append(member.modified_at)
        self._crcs.append(crc32 or 0)
        self._known.append(crc32 is not None)
        self._names.append(name)
        self._origins.append(self._origin(member))
        source, file_id = member.source, member.file_id or ""
        if source is None:
            self._sources.append(file_id.encode())
        else:
            rest = "" if self._prefix(member) is not None else source.key
            self._sources.append("\0".join((file_id, source.etag, source.version_id or "", rest)).encode())
        if member.content:
            self._contents[n] = member.content
        return n

    @staticmethod
    def _prefix(member: Member) -> str | None:
        """What stands before the file's id in the source's key, which then need not be kept."""
        key, file_id = member.source.key if member.source else "", member.file_id
        return key.removesuffix(file_id) if file_id and key.endswith(file_id) else None

    def _origin(self, member: Member) -> int:
        if member.source is None:
            return -1
        place = (member.source.bucket, self._prefix(member) or "")
        return self._places.setdefault(place, len(self._places))

    def name(self, n: int) -> bytes:
        """The archived name, UTF-8."""
        return self._names[n]

    def name_length(self, n: int) -> int:
        return self._names.length(n)

    def crc32(self, n: int) -> int | None:
        return self._crcs[n] if self._known[n] else None

    def set_crc32(self, n: int, crc32: int) -> None:
        self._crcs[n] = crc32
        self._known[n] = 1

    def unknown(self) -> list[int]:
        """The members whose CRC-32 nobody knows, in order."""
        return [n for n, known in enumerate(self._known) if not known]

    def content(self, n: int) -> bytes | None:
        """The bytes of a member that has no source; None when it has one."""
        return self._contents.get(n, b"") if self._origins[n] < 0 else None

    def in_s3(self, n: int) -> bool:
        """Whether the member's bytes are an object's."""
        return self._origins[n] >= 0

    def source(self, n: int) -> Source | None:
        if self._origins[n] < 0:
            return None
        bucket, prefix = self._place(self._origins[n])
        file_id, etag, version_id, rest = self._sources[n].decode().split("\0", 3)
        return Source(bucket, rest or prefix + file_id, version_id or None, etag)

    def file_id(self, n: int) -> str | None:
        return self._sources[n].decode().split("\0", 1)[0] or None

    def member(self, n: int) -> Member:
        """The ``n``-th member, counted from 0; IndexError when there is none."""
        if not 0 <= n < len(self):
            raise IndexError(n)
        return Member(
            self.name(n),
            self.sizes[n],
            self.times[n],
            self.crc32(n),
            self.source(n),
            self.content(n),
            self.file_id(n),
        )

    def __iter__(self) -> Iterator[Member]:
        return (self.member(n) for n in range(len(self)))

    def _place(self, origin: int) -> tuple[str, str]:
        # Insertion order is the numbering; there are a handful.
        return next(place for place, number in self._places.items() if number == origin)

    # --- as bytes ---

    def _columns(self) -> tuple[array[int] | bytearray, ...]:
        return (
            self.sizes,
            self.times,
            self._crcs,
            self._known,
            self._origins,
            self._names.ends,
            self._names.blob,
            self._sources.ends,
            self._sources.blob,
        )

    def pack(self) -> bytes:
        """All members in some tens of bytes each, little-endian, compressed. Holds no second copy of the columns."""
        contents = b"".join(self._contents.values())
        head = {
            "places": list(self._places),
            "contents": [[n, len(content)] for n, content in self._contents.items()],
            "columns": [len(column) for column in self._columns()],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        squeeze = zlib.compressobj(1)
        pieces = [_MAGIC, squeeze.compress(struct.pack("<Q", len(text)) + text)]
        for column in (*self._columns(), contents):
            if isinstance(column, array) and sys.byteorder == "big":
                column = array(column.typecode, column)
                column.byteswap()
            with memoryview(column).cast("B") as view:
                pieces.extend(squeeze.compress(view[at : at + _SLICE]) for at in range(0, len(view), _SLICE))
        pieces.append(squeeze.flush())
        return b"".join(pieces)

    @classmethod
    def unpack(cls, data: bytes) -> Members:
        """What ``pack`` wrote. ValueError when it is anything else."""
        if not data.startswith(_MAGIC):
            raise ValueError("no list of members")
        reader = _Inflated(memoryview(data)[len(_MAGIC) :])
        head = json.loads(reader.read(struct.unpack("<Q", reader.read(8))[0]))
        members = cls()
        columns = members._columns()
        for column, count in zip(columns, head["columns"], strict=True):
            if isinstance(column, bytearray):
                column += reader.read(count)
                continue
            del column[:]
            column.frombytes(reader.read(count * column.itemsize))
            if sys.byteorder == "big":
                column.byteswap()
        members._places = {(bucket, prefix): number for number, (bucket, prefix) in enumerate(head["places"])}
        members._contents = {n: bytes(reader.read(length)) for n, length in head["contents"]}
        if any(len(column) != len(members) for column in columns[1:5]) or any(a > b for a, b in pairwise(columns[5])):
            raise ValueError("the columns do not fit each other")
        return members


class _Inflated:
    """A zlib stream read by exact lengths."""

    def __init__(self, data: memoryview) -> None:
        self.inflate = zlib.decompressobj()
        self.data = data
        self.at = 0
        self.waiting = b""

    def read(self, length: int) -> bytearray:
        out = bytearray()
        while len(out) < length:
            if not self.waiting:
                self.waiting = bytes(self.data[self.at : self.at + _SLICE])
                self.at += len(self.waiting)
            ended = not self.waiting
            try:
                piece = self.inflate.decompress(self.waiting, length - len(out))
            except zlib.error as error:
                raise ValueError("the list of members is damaged") from error
            if ended and not piece:
                raise ValueError(f"the list of members ends {length - len(out)} bytes too early")
            self.waiting = self.inflate.unconsumed_tail
            out += piece
        return out
