"""Previews that only a maker note knows, in each maker's way of counting offsets."""

from __future__ import annotations

import struct

import pytest

from heavylift.ranges import drive
from heavylift.raw.reading import read_raw
from heavylift.sniff import detection
from tests.heavylift.raw import raws
from tests.heavylift.raw.raws import Directory, Entry, Place, Writer, text

JPEG = raws.jpeg(640, 480)


def ifd(order: str, *entries: tuple[int, int, int, int]) -> bytes:
    """A directory of (tag, type, count, value) without a header."""
    packed = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return struct.pack(order + "H", len(entries)) + packed + bytes(4)


def file_with(note: bytes, jpeg_at: int | None = None, order: str = "<") -> bytes:
    """A file whose maker note begins at 200; a JPEG at ``jpeg_at`` where the note does not hold it."""
    place = Place(note, gap=0)
    exif = Directory([Entry(37500, raws.UNDEFINED, place)])
    root = Directory([text(271, "M"), Entry(34665, raws.LONG, (Place(directory=exif),))])
    data = bytearray(Writer(order=order).write(root))
    assert data[place.at : place.at + len(note)] == note
    if jpeg_at is not None:
        data = data.ljust(jpeg_at, b"\0") + JPEG
    return bytes(data)


def found(data: bytes, name: str = "PEF") -> list[bytes]:
    structure = drive(read_raw(detection(name), len(data)), lambda offset, length: data[offset : offset + length])
    return [
        data[each.offset : each.offset + each.length] for each in structure.previews if each.where == "the maker note"
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pentax_of_the_file(order: str) -> None:
    """``AOC``: the start counts from the file's beginning, the byte order is the note's own."""
    mark = b"II" if order == "<" else b"MM"
    note = b"AOC\0" + mark + ifd(order, (3, 4, 1, len(JPEG)), (4, 4, 1, 4000))
    assert found(file_with(note, 4000, ">")) == [JPEG]


def test_pentax_of_the_note() -> None:
    """``PENTAX``: the start counts from the note."""
    head = b"PENTAX \0II"
    start = len(head) + len(ifd("<", (3, 4, 1, 0), (4, 4, 1, 0)))
    note = head + ifd("<", (3, 4, 1, len(JPEG)), (4, 4, 1, start)) + JPEG
    assert found(file_with(note)) == [JPEG]


@pytest.mark.parametrize("signature", [b"OLYMPUS\0II\x03\0", b"OM SYSTEM\0\0\0II\x04\0"])
@pytest.mark.parametrize("kind", [raws.IFD, raws.LONG, raws.UNDEFINED])
def test_olympus_of_the_note(signature: bytes, kind: int) -> None:
    """CameraSettings as a directory's offset, as a number or as a blob; offsets count from the note."""
    count = 1 if kind != raws.UNDEFINED else 100
    first_length = len(ifd("<", (0, 0, 0, 0)))
    settings_at = len(signature) + first_length
    settings_length = len(ifd("<", (0, 0, 0, 0), (0, 0, 0, 0)))
    jpeg_at = settings_at + settings_length
    note = (
        signature
        + ifd("<", (0x2020, kind, count, settings_at))
        + ifd("<", (0x101, 4, 1, jpeg_at), (0x102, 4, 1, len(JPEG)))
        + JPEG
    )
    assert found(file_with(note), "ORF") == [JPEG]


def test_old_olympus_of_the_file() -> None:
    """``OLYMP``: offsets count from the file's beginning."""
    note = b"OLYMP\0\x01\0" + ifd("<", (0x2020, 4, 1, 3000))
    data = bytearray(file_with(note, 4000))
    settings = ifd("<", (0x101, 4, 1, 4000), (0x102, 4, 1, len(JPEG)))
    data[3000 : 3000 + len(settings)] = settings
    assert found(bytes(data), "ORF") == [JPEG]


@pytest.mark.parametrize(
    "note",
    [
        b"Nikon\0\x02\x10\0\0" + b"\xff" * 40,
        b"Nikon\0\x02\x10\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(40),
        b"OLYMPUS\0II\x03\0" + b"\xff" * 40,
        b"AOC\0MM\xff\xff" + bytes(40),
        b"PENTAX \0" + bytes(40),
        b"Unknown maker" + bytes(40),
        b"Nikon",
    ],
)
def test_broken_notes(note: bytes) -> None:
    """A note that is none, or leads nowhere, gives no preview and no error."""
    assert found(file_with(note)) == []
