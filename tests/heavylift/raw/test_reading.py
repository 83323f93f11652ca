"""What a walk through a RAW file finds: facts, previews, and its end over anything."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
import rawpy
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.ranges import ReadAhead, drive
from heavylift.raw.model import RawStructure
from heavylift.raw.reading import inspect_raw, read_raw
from heavylift.sniff import Detection, detect, detection
from tests.heavylift.raw import raws
from tests.heavylift.raw.raws import (
    BUILDERS,
    LONG,
    Directory,
    Entry,
    Place,
    Writer,
    long,
    preview,
    rational,
    short,
    text,
)


class Counted:
    """A fetch over bytes that remembers what was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []

    def __call__(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.data[offset : offset + length]


def sniffed(data: bytes) -> Detection:
    return drive(detect(len(data)), Counted(data))


def structure_of(data: bytes, format_name: str | None = None) -> RawStructure:
    found = detection(format_name) if format_name else sniffed(data)
    return drive(read_raw(found, len(data)), Counted(data))


# --- facts


@pytest.mark.parametrize(
    ("name", "size", "bits", "make", "model", "orientation"),
    [
        ("DNG", (320, 240), 16, "Heavy Optics", "Lifter 80", 1),
        ("NEF", (4000, 3000), 14, "NIKON CORPORATION", "NIKON D1", 8),
        ("CR2", (5184, 3456), 14, "Canon", "Canon EOS 1", 6),
        ("ARW", (6048, 4024), 14, "SONY", "ILCE-7", 3),
        ("PEF", (4928, 3264), 14, "PENTAX", "PENTAX K-1", 1),
        ("ORF", (4640, 3472), 16, "OLYMPUS CORPORATION", "E-M1", 6),
        ("RW2", (5456, 3656), 12, "Panasonic", "DMC-GX8", 1),
        ("RAF", (4936, 3296), 0, "FUJIFILM", "X-T1", 6),
        ("CR3", (6000, 4000), 14, "Canon", "Canon EOS R5", 6),
    ],
)
def test_facts(name: str, size: tuple[int, int], bits: int, make: str, model: str, orientation: int) -> None:
    """The sensor's size and bits, never a preview's; the camera, its clock and how it was held."""
    data = BUILDERS[name]()
    found = sniffed(data)
    facts = drive(inspect_raw(found, len(data)), Counted(data))

    assert (found.kind, found.format, facts.format) == ("raw", name, name)
    assert (facts.width, facts.height, facts.bits_per_sample) == (*size, bits)
    assert (facts.make, facts.model, facts.orientation) == (make, model, orientation)
    assert facts.captured_at in ("2024-05-01T12:34:56", "2024-05-01T12:34:56+02:00")
    assert facts.estimated_memory_bytes > size[0] * size[1]


def test_places_stand_apart() -> None:
    """Where the picture was taken is a fact of its own: whoever shows facts can leave it out. Half a place is none."""
    half = Writer().write(raws.dng([preview(1600, 1200)]))
    assert drive(inspect_raw(sniffed(half), len(half)), Counted(half)).gps is None
    place = Directory(
        [text(1, "N"), rational(2, (47, 1), (22, 1), (0, 1)), text(3, "E"), rational(4, (8, 1), (33, 1), (0, 1))]
    )
    root = raws.dng([preview(1600, 1200)])
    entries = [Entry(34853, LONG, (Place(directory=place),)) if each.tag == 34853 else each for each in root.entries]
    data = Writer().write(replace(root, entries=entries))
    facts = drive(inspect_raw(sniffed(data), len(data)), Counted(data))

    assert facts.gps == {"latitude": pytest.approx(47.3666667), "longitude": 8.55}
    assert "47.36" not in repr(replace(facts, gps=None))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_byte_orders_and_big_tiff(order: str, big: bool) -> None:
    """All four kinds of TIFF give the same facts and previews."""
    data = Writer(order=order, big=big).write(
        raws.dng([preview(1600, 1200, big=big)], big=big, sensor=raws.cfa_directory(8, 8, bytes(128), big=big))
    )
    found = structure_of(data, "DNG")
    (last,) = [each for each in found.previews if each.width == 1600]

    assert (found.facts.width, found.facts.height, found.facts.make) == (8, 8, "Heavy Optics")
    assert data[last.offset : last.offset + last.length] == raws.jpeg(1600, 1200)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
def test_a_clock_that_was_never_set(text: str) -> None:
    """A date that is none is left out."""
    block = raws.tiff_block([raws.text(271, "M"), raws.text(306, text), Entry(50706, raws.BYTE, (1, 4, 0, 0))])
    assert structure_of(block, "DNG").facts.captured_at is None


def test_unprintable_names() -> None:
    """Control characters of a maker's name are blanks."""
    block = raws.tiff_block([Entry(271, raws.ASCII, b"A\x1b[31m\nB\0"), raws.text(272, "  ")])
    facts = structure_of(block, "DNG").facts
    assert (facts.make, facts.model) == ("A [31m B", None)


# --- previews


@pytest.mark.parametrize("name", BUILDERS)
def test_previews_are_whole_jpegs(name: str) -> None:
    """Each format's preview is found where it is, byte for byte."""
    data = BUILDERS[name]()
    wanted = {"ARW": raws.jpeg(1616, 1080), "CR3": raws.jpeg(1620, 1080)}.get(name, raws.jpeg(1600, 1200))
    if name == "RAF":
        wanted = raws.jpeg(1600, 1200, exif=raws.exif_block(6, "FUJIFILM", "X-T1"))
    found = [data[each.offset : each.offset + each.length] for each in structure_of(data).previews]
    assert wanted in found


def test_nikon_in_the_other_byte_order() -> None:
    """The maker note is a TIFF of its own: its byte order counts in it."""
    data = raws.nef(order="<")
    assert "the maker note" in {each.where for each in structure_of(data).previews}


def test_masks_depths_and_sensor_data_are_no_previews() -> None:
    """A semantic mask, a depth map, a JPEG XL and lossy sensor data in one strip are passed over."""
    picture = raws.jpeg(1600, 1200)
    odd = [
        raws.jpeg_directory(picture, 1600, 1200, subfile=65540, compression=34892, photometric=52527),
        raws.jpeg_directory(picture, 1600, 1200, subfile=8, photometric=51177),
        raws.jpeg_directory(picture, 1600, 1200, subfile=0, compression=34892, photometric=34892),
        raws.jpeg_directory(picture, 1600, 1200, subfile=1, compression=34892, photometric=32803),
        raws.jpeg_directory(picture, 1600, 1200, subfile=4, photometric=6),
        raws.jpeg_directory(b"\xff\x0a" * 400, 1600, 1200, compression=52546),
    ]
    found = structure_of(Writer().write(raws.dng(odd, thumb=False)))

    assert found.previews == ()
    assert [note for note in found.notes if "JPEG XL" in note]


def test_libraw_finds_the_same_preview() -> None:
    """LibRaw extracts the very picture that the walk finds largest (with an Exif block of its own put in)."""
    data = raws.simple_dng(1600, 1200)
    with rawpy.imread(io.BytesIO(data)) as raw:
        thumb = raw.extract_thumb()
        sizes = (raw.sizes.raw_width, raw.sizes.raw_height)
    found = structure_of(data)
    largest = max(found.previews, key=lambda each: each.width)

    ours = Image.open(io.BytesIO(data[largest.offset : largest.offset + largest.length]))
    assert thumb.format == rawpy.ThumbFormat.JPEG
    assert Image.open(io.BytesIO(thumb.data)).tobytes() == ours.tobytes()
    assert sizes == (found.facts.width, found.facts.height)


def test_few_reads() -> None:
    """A structure at the front costs one read behind the read-ahead."""
    data = raws.simple_dng()
    fetch = Counted(data)
    drive(read_raw(sniffed(data), len(data)), ReadAhead(fetch, len(data)))
    assert len(fetch.reads) == 1


# --- bounds


def test_directories_in_a_circle() -> None:
    """A directory that follows itself, or is its own SubIFD, is read once."""
    data = bytearray(raws.simple_dng())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] == 330:
            (array,) = struct.unpack_from("<I", data, at + 8)
            struct.pack_into("<I", data, array, first)
    found = structure_of(bytes(data), "DNG")

    assert len([note for note in found.notes if "seen before" in note]) == 2
    assert [each.width for each in found.previews if each.width == 1600] == [1600]


def test_many_directories() -> None:
    """A chain of 300 directories is read as its first 64."""
    last: Directory | None = None
    for _ in range(300):
        last = Directory([long(254, 1), short(256, 1)], following=last)
    data = Writer().write(raws.dng([], following=last))
    fetch = Counted(data)
    found = drive(read_raw(detection("DNG"), len(data)), fetch)

    assert [note for note in found.notes if "more than 64" in note]
    assert len(fetch.reads) < 64 * 3 + 20


def test_a_preview_outside_the_file_is_only_a_candidate() -> None:
    """Offsets beyond the file do not stop the walk."""
    data = Writer().write(
        Directory(
            [
                Entry(50706, raws.BYTE, (1, 4, 0, 0)),
                long(513, 4_000_000_000),
                long(514, 70_000),
                Entry(330, raws.LONG, (4_000_000_000, 0)),
            ]
        )
    )
    found = structure_of(data, "DNG")
    assert [each.offset for each in found.previews] == [4_000_000_000]
    assert len(found.notes) == 2


def test_endless_boxes() -> None:
    """A CR3 of thousands of empty boxes, and of boxes in boxes, ends."""
    ftyp = raws.box(b"ftyp", b"crx \0\0\0\x01")
    nested = b""
    for _ in range(40):
        nested = raws.box(b"moov", nested)
    for data in (
        ftyp + raws.box(b"free") * 50_000,
        ftyp + raws.box(b"moov", raws.box(b"free") * 900) * 200,
        ftyp + nested,
    ):
        fetch = Counted(data)
        drive(read_raw(detection("CR3"), len(data)), fetch)
        assert len(fetch.reads) < 2000


@pytest.mark.parametrize("name", BUILDERS)
def test_truncated_sensor_data_are_told(name: str) -> None:
    """A file that ends within its sensor data is no whole file, whatever its previews are."""
    data = BUILDERS[name]()
    structure = structure_of(data)
    if structure.sensor is not None and name != "RW2":
        tag = structure.sensor.entries[273]
        assert tag.inline is not None
        (end,) = struct.unpack(structure.sensor.header.order + "I", tag.inline)
    else:
        end = data.rindex(b"\x55" * 5000)
    with pytest.raises(ContentError) as caught:
        drive(inspect_raw(detection(name), end), Counted(data[:end]))
    assert caught.value.code == "truncated"


def test_too_few_sensor_data_are_told() -> None:
    """A DNG whose uncompressed strip holds fewer bytes than its pixels need is truncated."""
    sensor = raws.cfa_directory(320, 240, bytes(320 * 240))
    sensor.entries = [each if each.tag != 279 else long(279, 320 * 240) for each in sensor.entries]
    data = Writer().write(raws.dng([], sensor=sensor))
    with pytest.raises(ContentError) as caught:
        drive(inspect_raw(detection("DNG"), len(data)), Counted(data))
    assert caught.value.facts["needed_bytes"] == 2 * 320 * 240


def verdict(reader: Callable[[], object]) -> str:
    """``sound`` or the code of the error; any other exception is a failure of the reader."""
    try:
        reader()
    except ContentError as error:
        return error.code
    return "sound"


@pytest.mark.parametrize("name", BUILDERS)
def test_every_truncation_and_every_byte_of_the_front(name: str) -> None:
    """At each 5 % and with each of the first 512 bytes changed, the walk ends with a structure or a code."""
    data = BUILDERS[name]()
    chance = random.Random(6)
    damaged = [data[: len(data) * percent // 100] for percent in range(5, 100, 5)]
    for at in range(512):
        changed = bytearray(data)
        changed[at] ^= chance.randrange(1, 256)
        damaged.append(bytes(changed))
    seen = set()
    for bad in damaged:
        fetch = Counted(bad)
        found = detection(name)
        seen.add(verdict(lambda found=found, bad=bad, fetch=fetch: drive(inspect_raw(found, len(bad)), fetch)))
        assert len(fetch.reads) < 2000
        assert sum(length for _, length in fetch.reads) < 8 << 20
        drive(detect(len(bad)), Counted(bad))
    assert seen <= {"sound", "truncated", "corrupt", "limit_exceeded", "not_recognised"}


@given(st.sampled_from(["DNG", "ORF", "RW2", "CR3", "RAF", "NEF"]), st.binary(min_size=1, max_size=600))
def test_garbage(name: str, data: bytes) -> None:
    """Any bytes under any format's name end in a structure or a ContentError."""
    for bad in (data, b"II*\0\x08\0\0\0" + data, b"FUJIFILMCCD-RAW " + data, raws.box(b"moov", data)):
        verdict(lambda bad=bad: drive(inspect_raw(detection(name), len(bad)), Counted(bad)))
