"""Frames by byte range: pydicom finds the same bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames

from heavylift.dicom.elements import PixelElement
from heavylift.dicom.frames import Extended, Frame, Shape, native_frame, read_frame, read_frames
from heavylift.errors import ContentError, RequestError
from heavylift.ranges import Range, drive
from tests.heavylift.dicom.made import TEST_FILES, delimiter, header_of, item

COMPRESSED = ("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5")


def is_compressed(path: Path) -> bool:
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    return "StudyInstanceUID" in dataset and dataset.file_meta.get("TransferSyntaxUID", "").startswith(COMPRESSED)


ENCAPSULATED = sorted(filter(is_compressed, TEST_FILES.glob("*.dcm")))


def bytes_of(data: bytes, frame: Frame) -> bytes:
    return b"".join(data[piece.offset : piece.end] for piece in frame.pieces)


def pixel_of(value: bytes) -> PixelElement:
    return PixelElement(0x7FE00010, "OB", 0, None)


def one(value: bytes, number: int, frames: int, **options: object) -> bytes:
    reader = read_frame(pixel_of(value), len(value), number, frames, **options)  # type: ignore[arg-type]
    return bytes_of(value, drive(reader, lambda offset, length: value[offset : offset + length]))


def every(value: bytes, frames: int, **options: object) -> list[bytes]:
    reader = read_frames(pixel_of(value), len(value), frames, **options)  # type: ignore[arg-type]
    found = drive(reader, lambda offset, length: value[offset : offset + length])
    return [bytes_of(value, frame) for frame in found]


@pytest.mark.parametrize("path", ENCAPSULATED, ids=lambda path: path.name)
def test_real_frames_are_pydicoms(path: Path) -> None:
    """Each frame alone and all together; padding may follow."""
    data = path.read_bytes()
    header = header_of(data, to_pixel_data=True)
    assert header.pixel_data is not None
    dataset = pydicom.dcmread(io.BytesIO(data))
    expected = list(generate_frames(dataset.PixelData, number_of_frames=header.number_of_frames))
    for number, frame in enumerate(expected, start=1):
        reader = read_frame(header.pixel_data, len(data), number, header.number_of_frames)
        assert bytes_of(data, drive(reader, lambda offset, length: data[offset : offset + length])) == frame


def encapsulated(fragments: list[bytes], table: bytes = b"") -> bytes:
    return item(table) + b"".join(map(item, fragments)) + delimiter()


FRAGMENTS = [b"\xff\xd8" + bytes([n]) * (20 + 2 * n) + b"\xff\xd9" for n in range(5)]


def offsets_of(counts: list[int], fragments: list[bytes]) -> bytes:
    """The Basic Offset Table of frames with so many fragments each."""
    starts, at, n = [], 0, 0
    for count in counts:
        starts.append(at)
        at += sum(8 + len(fragment) for fragment in fragments[n : n + count])
        n += count
    return struct.pack(f"<{len(starts)}I", *starts)


@pytest.mark.parametrize(
    ("fragments", "table", "frames"),
    [
        (FRAGMENTS, b"", 5),
        (FRAGMENTS, offsets_of([1] * 5, FRAGMENTS), 5),
        (FRAGMENTS, offsets_of([2, 1, 2], FRAGMENTS), 3),
        (FRAGMENTS, b"", 1),
        ([part for frame in FRAGMENTS for part in (frame[:10], frame[10:])], b"", 5),
        (FRAGMENTS, struct.pack("<5I", 0, 0, 0, 0, 0), 5),
        (FRAGMENTS, struct.pack("<2I", 0, 30), 5),
    ],
)
def test_frames_with_and_without_tables(fragments: list[bytes], table: bytes, frames: int) -> None:
    """One fragment a frame, many, one frame in all; useless tables are not believed."""
    value = encapsulated(fragments, table)
    sound = table if len(table) == 4 * frames and any(table[4:]) else b""
    expected = list(generate_frames(encapsulated(fragments, sound), number_of_frames=frames))

    assert every(value, frames) == expected
    assert [one(value, number, frames) for number in range(1, frames + 1)] == expected


def test_the_extended_table_leads_to_a_frame() -> None:
    """Offsets and lengths of 64 bits; the last frame's length is odd."""
    fragments = [*FRAGMENTS, b"\xff\xd8odd\xff\xd9\0"]
    starts = [sum(8 + len(fragment) for fragment in fragments[:n]) for n in range(len(fragments))]
    lengths = [*(len(fragment) for fragment in FRAGMENTS), 7]
    extended = Extended(struct.pack("<6Q", *starts), struct.pack("<6Q", *lengths))
    value = encapsulated(fragments)

    assert every(value, 6, extended=extended) == [*FRAGMENTS, b"\xff\xd8odd\xff\xd9"]
    assert one(value, 6, 6, extended=extended) == b"\xff\xd8odd\xff\xd9"


def test_the_extended_table_stands_in_the_header() -> None:
    """It is kept for whoever looks for frames."""
    source = pydicom.dcmread(TEST_FILES / "JPEG2000.dcm")
    frame = next(generate_frames(source.PixelData, number_of_frames=1))
    source.PixelData = encapsulated([frame])
    source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths = struct.pack("<Q", 0), struct.pack("<Q", len(frame))
    out = io.BytesIO()
    source.save_as(out)
    header = header_of(out.getvalue())

    assert header.values[0x7FE00001] == bytes(8)
    assert header.values[0x7FE00002] == struct.pack("<Q", len(frame))


def test_a_frame_by_its_table_takes_two_ranges_of_any_file() -> None:
    """The table, then the frame's first fragment; nothing between is read."""
    fragments = [bytes(500_000)] * 40
    value = encapsulated(fragments, offsets_of([1] * 40, fragments))
    asked = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append(length)
        return value[offset : offset + length]

    drive(read_frame(pixel_of(value), len(value), 30, 40), fetch)

    assert len(asked) == 2
    assert max(asked) <= 65_536


@pytest.mark.parametrize("number", [0, -1, 6])
def test_frames_that_are_not_there(number: int) -> None:
    """They are counted from 1."""
    with pytest.raises(RequestError) as caught:
        one(encapsulated(FRAGMENTS), number, 5)

    assert caught.value.code == "not_found"


def test_damaged_fragments_are_the_files_fault() -> None:
    """Every cut and every changed byte: the right frames or a verdict."""
    value = encapsulated(FRAGMENTS, offsets_of([1] * 5, FRAGMENTS))
    for at in range(len(value)):
        for damaged in (value[:at], value[:at] + bytes([value[at] ^ 0x41]) + value[at + 1 :]):
            try:
                found = every(damaged, 5)
            except ContentError:
                continue
            assert sum(map(len, found)) <= len(damaged)


@pytest.mark.parametrize(
    ("shape", "number", "expected"),
    [
        (Shape(10, 10, 1, 16, 3), 1, Frame((Range(1000, 200),))),
        (Shape(10, 10, 1, 16, 3), 3, Frame((Range(1400, 200),))),
        (Shape(10, 10, 3, 8, 2, "RGB"), 2, Frame((Range(1300, 300),))),
        (Shape(10, 10, 3, 8, 2, "YBR_FULL_422"), 2, Frame((Range(1200, 200),))),
        (Shape(3, 3, 1, 1, 5), 2, Frame((Range(1001, 2),), 1)),
        (Shape(3, 3, 1, 1, 5), 1, Frame((Range(1000, 2),))),
    ],
)
def test_native_frames(shape: Shape, number: int, expected: Frame) -> None:
    """By arithmetic; frames of single bits may begin within a byte."""
    assert native_frame(1000, 600, shape, number) == expected


def test_native_frames_that_the_pixel_data_do_not_hold() -> None:
    """The file's fault, not the caller's."""
    with pytest.raises(ContentError) as caught:
        native_frame(1000, 599, Shape(10, 10, 1, 16, 3), 3)

    assert caught.value.code == "truncated"
