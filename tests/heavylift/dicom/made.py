"""DICOM files written byte by byte, so that a test can break them where it wants, and those that ship with pydicom."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import pydicom

from heavylift.dicom.header import Header, scan

PYDICOM_DATA = Path(pydicom.__file__).parent / "data"
TEST_FILES = PYDICOM_DATA / "test_files"
UNDEFINED = 0xFFFFFFFF
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())

CT_CLASS = b"1.2.840.10008.5.1.4.1.1.2\0"
INSTANCE = b"1.2.3.4.5.600"
STUDY = b"1.2.3.4.5.60\0"
SERIES = b"1.2.3.4.5.61\0"


def element(
    tag: int, vr: bytes, value: bytes, *, explicit: bool = True, little: bool = True, length: int | None = None
) -> bytes:
    """One element; ``length`` lies about the value's."""
    order = "<" if little else ">"
    count = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack(order + "I", count) + value
    if vr in LONG:
        return head + vr + b"\0\0" + struct.pack(order + "I", count) + value
    return head + vr + struct.pack(order + "H", count) + value


def item(value: bytes, *, little: bool = True, undefined: bool = False) -> bytes:
    """An item of a sequence, or a fragment."""
    order = "<" if little else ">"
    if not undefined:
        return struct.pack(order + "HHI", 0xFFFE, 0xE000, len(value)) + value
    return struct.pack(order + "HHI", 0xFFFE, 0xE000, UNDEFINED) + value + struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0)


def delimiter(*, little: bool = True) -> bytes:
    return struct.pack(("<" if little else ">") + "HHI", 0xFFFE, 0xE0DD, 0)


def meta(transfer_syntax: str, sop_class: bytes = CT_CLASS) -> bytes:
    """Preamble and file meta information."""
    uid = transfer_syntax.encode()
    elements = (
        element(0x00020001, b"OB", b"\0\1")
        + element(0x00020002, b"UI", sop_class)
        + element(0x00020003, b"UI", INSTANCE + b"\0")
        + element(0x00020010, b"UI", uid + b"\0" * (len(uid) % 2))
    )
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(elements))) + elements


class Element(NamedTuple):
    tag: int
    vr: bytes
    value: bytes


def us(value: int, little: bool = True) -> bytes:
    return struct.pack("<H" if little else ">H", value)


def elements(little: bool = True, rows: int = 16, columns: int = 16) -> list[Element]:
    """What a small CT slice has before its pixels."""
    return [
        Element(0x00080016, b"UI", CT_CLASS),
        Element(0x00080018, b"UI", INSTANCE + b"\0"),
        Element(0x00080020, b"DA", b"20240229"),
        Element(0x00080060, b"CS", b"CT"),
        Element(0x00100010, b"PN", b"Made^Up "),
        Element(0x00100020, b"LO", b"42"),
        Element(0x0020000D, b"UI", STUDY),
        Element(0x0020000E, b"UI", SERIES),
        Element(0x00200011, b"IS", b"3 "),
        Element(0x00200013, b"IS", b"17"),
        Element(0x00280002, b"US", us(1, little)),
        Element(0x00280004, b"CS", b"MONOCHROME2 "),
        Element(0x00280010, b"US", us(rows, little)),
        Element(0x00280011, b"US", us(columns, little)),
        Element(0x00280100, b"US", us(16, little)),
        Element(0x00280101, b"US", us(12, little)),
        Element(0x00280102, b"US", us(11, little)),
        Element(0x00280103, b"US", us(0, little)),
    ]


def dataset(parts: list[Element], *, explicit: bool = True, little: bool = True) -> bytes:
    return b"".join(
        element(part.tag, part.vr, part.value, explicit=explicit, little=little)
        for part in sorted(parts, key=lambda part: part.tag)
    )


def ct(
    transfer_syntax: str = "1.2.840.10008.1.2.1",
    *,
    explicit: bool = True,
    little: bool = True,
    more: list[Element] | None = None,
    pixels: bytes = bytes(512),
) -> bytes:
    """A whole file: 16 x 16 pixels of 16 bits."""
    parts = [*elements(little), *(more or []), Element(0x7FE00010, b"OW", pixels)]
    return meta(transfer_syntax) + dataset(parts, explicit=explicit, little=little)


def header_of(data: bytes, **options: bool) -> Header:
    return scan(lambda offset, length: data[offset : offset + length], len(data), **options)


def real_files() -> list[Path]:
    """Every file that ships inside pydicom and begins as DICOM, the largest left away."""
    found = [*TEST_FILES.rglob("*"), *(PYDICOM_DATA / "charset_files").glob("*.dcm")]
    return sorted(path for path in found if path.is_file() and path.read_bytes()[128:132] == b"DICM")
