"""The records of a ZIP file, byte for byte: local headers, central directory, end records. No I/O here.

Format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5; the extended timestamp (0x5455) is Info-ZIP's, proginfo/extrafld
of its sources. Members are stored, never deflated, and never followed by a data descriptor: readers of streams refuse
stored members with one. ZIP64 stands only where a field overflows, the UTF-8 flag only where a name needs it.
"""

from __future__ import annotations

import struct
import time

LIMIT_16 = 0xFFFF  # these values themselves mean "look into ZIP64"
LIMIT_32 = 0xFFFF_FFFF

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_TIMESTAMP = struct.Struct("<2HBi")

_STORED = 0
_VERSION, _VERSION_ZIP64 = 20, 45
_UNIX = 3 << 8  # "made by": what the external attributes mean
_UTF8 = 0x800
_FILE_MODE, _DIRECTORY_MODE = 0o100644 << 16, 0o40755 << 16 | 0x10

# 1980-01-01 and 2107-12-31 23:59:58, the first and last moments that DOS can write.
_DOS_FIRST, _DOS_LAST = 315_532_800, 4_354_819_198


def _dos(modified_at: int) -> tuple[int, int]:
    """(time, date) as DOS writes them, in UTC."""
    at = time.gmtime(min(max(modified_at, _DOS_FIRST), _DOS_LAST))
    return at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec >> 1, (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday


def _timestamp(modified_at: int) -> bytes:
    """Seconds since 1970, where they fit; the DOS time has no zone and counts by twos."""
    return _TIMESTAMP.pack(0x5455, 5, 1, modified_at) if -(1 << 31) <= modified_at < 1 << 31 else b""


def local_length(name_length: int, size_bytes: int, modified_at: int) -> int:
    """Bytes of a local header; they follow from what is known before a byte of the member is."""
    timestamp = 9 if -(1 << 31) <= modified_at < 1 << 31 else 0
    return 30 + name_length + timestamp + (20 if size_bytes >= LIMIT_32 else 0)


def central_length(name_length: int, size_bytes: int, modified_at: int, offset: int, size_before: int = 0) -> int:
    """Bytes of an entry of the central directory; ``size_before``: of the member before it."""
    timestamp = 9 if -(1 << 31) <= modified_at < 1 << 31 else 0
    values = 2 * (size_bytes >= LIMIT_32 or size_before == LIMIT_32) + (offset >= LIMIT_32)
    return 46 + name_length + timestamp + (4 + 8 * values if values else 0)


def end_length(count: int, central_offset: int, central_size: int) -> int:
    """Bytes of the end records."""
    return 98 if _end_needs_zip64(count, central_offset, central_size) else 22


def local_header(name: bytes, size_bytes: int, modified_at: int, crc32: int) -> bytes:
    """The header before a member's bytes. Its ZIP64 field stands last, and always has both sizes (APPNOTE 4.5.3)."""
    zip64 = size_bytes >= LIMIT_32
    extra = _timestamp(modified_at) + (struct.pack("<2H2Q", 1, 16, size_bytes, size_bytes) if zip64 else b"")
    size = min(size_bytes, LIMIT_32)
    return (
        _LOCAL.pack(
            b"PK\3\4",
            _VERSION_ZIP64 if zip64 else _VERSION,
            0 if name.isascii() else _UTF8,
            _STORED,
            *_dos(modified_at),
            crc32,
            size,
            size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def central_header(
    name: bytes, size_bytes: int, modified_at: int, crc32: int, offset: int, size_before: int = 0
) -> bytes:
    """A member's entry in the central directory; its ZIP64 field stands first, with the values that overflow.

    ``size_before``: of the member before it. Behind one of exactly 2^32 - 1 bytes the sizes stand there, too: unzip 6.0
    of Info-ZIP (``getZip64Data`` in process.c) takes that size for the mark that it equals, and looks for the sizes of
    the next entry in its ZIP64 field, whatever the entry says.
    """
    size = LIMIT_32 if size_before == LIMIT_32 else min(size_bytes, LIMIT_32)
    sizes = (size_bytes, size_bytes) if size == LIMIT_32 else ()
    overflowing = (*sizes, offset) if offset >= LIMIT_32 else sizes
    zip64 = struct.pack(f"<2H{len(overflowing)}Q", 1, 8 * len(overflowing), *overflowing) if overflowing else b""
    extra = zip64 + _timestamp(modified_at)
    version = _VERSION_ZIP64 if overflowing else _VERSION
    return (
        _CENTRAL.pack(
            b"PK\1\2",
            _UNIX | version,
            version,
            0 if name.isascii() else _UTF8,
            _STORED,
            *_dos(modified_at),
            crc32,
            size,
            size,
            len(name),
            len(extra),
            0,  # comment
            0,  # disk
            0,  # internal attributes
            _DIRECTORY_MODE if name.endswith(b"/") else _FILE_MODE,
            min(offset, LIMIT_32),
        )
        + name
        + extra
    )


def _end_needs_zip64(count: int, central_offset: int, central_size: int) -> bool:
    return count >= LIMIT_16 or central_offset >= LIMIT_32 or central_size >= LIMIT_32


def end_records(count: int, central_offset: int, central_size: int) -> bytes:
    """What stands behind the central directory of ``count`` entries."""
    zip64 = b""
    if _end_needs_zip64(count, central_offset, central_size):
        version = _VERSION_ZIP64
        zip64 = _END64.pack(
            b"PK\6\6", 44, _UNIX | version, version, 0, 0, count, count, central_size, central_offset
        ) + _LOCATOR64.pack(b"PK\6\7", 0, central_offset + central_size, 1)
    shown = min(count, LIMIT_16)
    return zip64 + _END.pack(
        b"PK\5\6", 0, 0, shown, shown, min(central_size, LIMIT_32), min(central_offset, LIMIT_32), 0
    )
