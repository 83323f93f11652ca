"""What directories say about pixels, and whether the file can hold them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.facts import ImageFacts, TiffStructure, inspect, read_tiff
from heavylift.ranges import Reader, drive
from heavylift.sniff import detection
from heavylift.tiff import tags
from heavylift.tiff.layout import Chunks, Picture, choose_level, read_chunks

PIXELS = np.random.default_rng(1).integers(0, 256, (60, 50, 3), dtype=np.uint8)
CODES = {"empty_file", "truncated", "corrupt", "unsupported_feature", "limit_exceeded", "too_large_to_decode"}


def written(pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, metadata=None, **options)  # type: ignore[arg-type]
    return out.getvalue()


def inspected(data: bytes) -> ImageFacts:
    size = len(data)

    def fetch(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= size
        return data[offset : offset + length]

    return drive(inspect(detection("TIFF"), size), fetch)


def layout(data: bytes) -> tuple[Picture, Chunks]:
    size = len(data)

    def read() -> Reader[tuple[Picture, Chunks]]:
        structure = yield from read_tiff(detection("TIFF"), size)
        chunks = yield from read_chunks(structure.main, size)
        return structure.main, chunks

    return drive(read(), lambda offset, length: data[offset : offset + length])


def code_of(data: bytes) -> str:
    with pytest.raises(ContentError) as caught:
        inspected(data)
    return caught.value.code


def changed(data: bytes, tag: int, *, value: int | None = None, count: int | None = None, tag_to: int = 0) -> bytes:
    """A classic little-endian TIFF with one entry of its first directory altered."""
    out = bytearray(data)
    (at,) = struct.unpack_from("<I", out, 4)
    (entries,) = struct.unpack_from("<H", out, at)
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", out, entry)[0] == tag:
            if value is not None:
                struct.pack_into("<HII", out, entry + 2, 4, 1, value)
            if count is not None:
                struct.pack_into("<I", out, entry + 4, count)
            if tag_to:
                struct.pack_into("<H", out, entry, tag_to)
    return bytes(out)


def grown(data: bytes, side: int) -> bytes:
    """The file, claiming to be ``side`` pixels wide and high in one strip."""
    for tag in (tags.IMAGE_WIDTH, tags.IMAGE_LENGTH, tags.ROWS_PER_STRIP):
        data = changed(data, tag, value=side)
    return data


@pytest.mark.parametrize(
    ("options", "mode", "bits", "compression"),
    [
        ({"photometric": "rgb"}, "RGB", 8, "none"),
        ({"photometric": "rgb", "compression": "zlib", "tile": (16, 16)}, "RGB", 8, "deflate"),
        ({"photometric": "rgb", "bigtiff": True, "byteorder": ">"}, "RGB", 8, "none"),
        ({"photometric": "rgb", "planarconfig": "contig", "rowsperstrip": 7}, "RGB", 8, "none"),
    ],
)
def test_facts_of_rgb(options: dict[str, object], mode: str, bits: int, compression: str) -> None:
    """Width, height, mode, depth and compression of ordinary files."""
    facts = inspected(written(**options))

    assert (facts.width, facts.height, facts.mode) == (50, 60, mode)
    assert (facts.bits_per_sample, facts.compression, facts.pages, facts.levels) == (bits, compression, 1, 1)


@pytest.mark.parametrize(
    ("dtype", "mode", "bits"), [("u1", "L", 8), ("u2", "I;16", 16), ("i2", "I", 16), ("u4", "I", 32), ("f4", "F", 32)]
)
def test_facts_of_grey(dtype: str, mode: str, bits: int) -> None:
    """The depth of grey pictures decides the mode, and with it the estimate."""
    facts = inspected(written(PIXELS[:, :, 0].astype(dtype), photometric="minisblack"))

    assert (facts.mode, facts.bits_per_sample) == (mode, bits)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "F"])
def test_modes_are_pillows(mode: str) -> None:
    """The mode named is the one in which Pillow opens the file."""
    image = Image.new(mode, (20, 10))
    out = io.BytesIO()
    image.save(out, "TIFF")

    assert inspected(out.getvalue()).mode == Image.open(out).mode


def test_pages_and_levels() -> None:
    """Pages are counted; reduced copies are levels, not pages."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for _ in range(2):
            writer.write(PIXELS, photometric="rgb", contiguous=False, metadata=None)
        writer.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    facts = inspected(out.getvalue())

    assert (facts.pages, facts.levels) == (2, 2)


@pytest.mark.parametrize("in_pages", [True, False])
def test_smallest_sufficient_level(in_pages: bool) -> None:
    """Of a pyramid the smallest level that is large enough is taken, from SubIFDs and from the page chain."""
    out = io.BytesIO()
    big = np.zeros((400, 600, 3), np.uint8)
    with tifffile.TiffWriter(out) as writer:
        writer.write(big, photometric="rgb", subifds=0 if in_pages else 2, metadata=None)
        for step in (2, 4):
            writer.write(big[::step, ::step], photometric="rgb", subfiletype=1, metadata=None)
        if in_pages:  # a label: reduced, but of another shape
            writer.write(big[:130, :130], photometric="rgb", subfiletype=1, metadata=None)
    data = out.getvalue()

    def level(edge: int) -> Reader[Picture]:
        structure: TiffStructure = yield from read_tiff(detection("TIFF"), len(data))
        return (yield from choose_level(structure.main, structure.directories, edge, len(data)))

    widths = [drive(level(edge), lambda o, n: data[o : o + n]).width for edge in (100, 150, 151, 300, 301, 1200)]
    assert widths == [150, 150, 300, 300, 600, 600]


def test_chunks_agree_with_tifffile() -> None:
    """Offsets and byte counts are tifffile's."""
    data = written(photometric="rgb", rowsperstrip=7, compression="zlib")
    picture, chunks = layout(data)
    with tifffile.TiffFile(io.BytesIO(data)) as judge:
        assert list(chunks.offsets) == list(judge.pages[0].dataoffsets)
        assert list(chunks.counts) == list(judge.pages[0].databytecounts)
    assert picture.chunk_count == 9


STRIPS = written(photometric="rgb", rowsperstrip=7)
ONE = written(photometric="rgb", rowsperstrip=60)
DEFLATED = written(photometric="rgb", rowsperstrip=60, compression="zlib")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"I", "not_recognised"),
        (STRIPS[:-20], "truncated"),
        (STRIPS[:200], "truncated"),
        (changed(STRIPS, tags.IMAGE_WIDTH, value=0), "corrupt"),
        (changed(STRIPS, tags.IMAGE_WIDTH, value=0xFFFFFFFF), "limit_exceeded"),
        (changed(changed(ONE, tags.IMAGE_LENGTH, value=61), tags.ROWS_PER_STRIP, value=61), "truncated"),
        (changed(STRIPS, tags.IMAGE_LENGTH, value=2_000_000), "corrupt"),
        (changed(changed(ONE, tags.IMAGE_WIDTH, value=300_000), tags.IMAGE_LENGTH, value=300_000), "limit_exceeded"),
        (grown(DEFLATED, 90_000), "truncated"),
        (changed(STRIPS, tags.STRIP_OFFSETS, tag_to=65_000), "corrupt"),
        (changed(ONE, tags.STRIP_OFFSETS, value=1 << 30), "truncated"),
        (changed(ONE, tags.STRIP_BYTE_COUNTS, value=100), "truncated"),
        (changed(ONE, tags.SAMPLES_PER_PIXEL, value=0), "corrupt"),
        (changed(ONE, tags.SAMPLES_PER_PIXEL, value=60_000), "limit_exceeded"),
        (changed(ONE, tags.PLANAR_CONFIGURATION, value=9), "corrupt"),
        (changed(ONE, tags.COMPRESSION, value=6), "unsupported_feature"),
        (changed(ONE, tags.COMPRESSION, value=34_892), "unsupported_feature"),
        (changed(ONE, tags.PHOTOMETRIC, value=32_803), "unsupported_feature"),
        (changed(ONE, tags.PHOTOMETRIC, value=5), "unsupported_feature"),
    ],
)
def test_unsound_files(data: bytes, code: str) -> None:
    """What a file lacks is found from its directories alone, and has a code."""
    if code == "not_recognised":
        with pytest.raises(ContentError):
            inspected(data)
    else:
        assert code_of(data) == code


def test_longer_arrays_are_tolerated() -> None:
    """An array that claims more chunks than the picture has is read as far as needed."""
    assert inspected(changed(STRIPS, tags.STRIP_OFFSETS, count=0xFFFFFFFF)).width == 50


@pytest.mark.parametrize("rows", [0, 61, 0xFFFFFFFF])
def test_rows_per_strip_out_of_range_mean_the_whole_height(rows: int) -> None:
    """0, more than the height and 2^32-1 all mean one strip."""
    picture, _ = layout(changed(ONE, tags.ROWS_PER_STRIP, value=rows))

    assert picture.chunk_height == 60


@pytest.mark.parametrize("alter", [{"tag_to": 65_000}, {"value": 0}])
def test_missing_byte_counts(alter: dict[str, int]) -> None:
    """Uncompressed strips without byte counts are as long as their rows; one compressed strip goes to the end."""
    picture, chunks = layout(changed(ONE, tags.STRIP_BYTE_COUNTS, **alter))
    assert list(chunks.counts) == [60 * 50 * 3]
    picture, chunks = layout(changed(DEFLATED, tags.STRIP_BYTE_COUNTS, **alter))
    assert list(chunks.counts) == [len(DEFLATED) - chunks.offsets[0]]
    assert picture.height == 60


def test_estimate_knows_the_depth() -> None:
    """Pillow keeps RGB in four bytes a pixel at any depth, 16-bit grey in two, float in four."""

    def estimate(dtype: str, samples: int) -> int:
        shape = (2000, 3000, samples) if samples > 1 else (2000, 3000)
        photometric = "rgb" if samples > 1 else "minisblack"
        return inspected(written(np.zeros(shape, dtype), photometric=photometric)).estimated_memory_bytes

    pixels = 6_000_000
    base = estimate("u1", 1) - pixels
    for dtype, samples, size in (("u2", 1, 2), ("f4", 1, 4), ("u1", 3, 4), ("u2", 3, 4)):
        grown = estimate(dtype, samples) - base
        assert size * pixels <= grown <= 1.3 * size * pixels + 30_000_000


MUTATED: list[Callable[[], bytes]] = [
    lambda: STRIPS,
    lambda: DEFLATED,
    lambda: written(photometric="rgb", bigtiff=True, byteorder=">", tile=(16, 16)),
    lambda: written(PIXELS[:, :, 0].astype(np.uint16), photometric="minisblack", compression="zlib", rowsperstrip=9),
]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(MUTATED) - 1),
    st.lists(st.tuples(st.integers(0, 511), st.sampled_from([0, 1, 2, 3, 127, 128, 255])), max_size=6),
    st.integers(0, 100),
)
def test_damage_gives_facts_or_a_code(which: int, changes: list[tuple[int, int]], keep_percent: int) -> None:
    """Damaged and shortened files give facts or a ContentError with one of the promised codes."""
    data = bytearray(MUTATED[which]())
    for offset, value in changes:
        data[offset % len(data)] = value
    data = data[: len(data) * keep_percent // 100]
    code = None
    try:
        facts = inspected(bytes(data))
        assert facts.width > 0
    except ContentError as error:
        code = error.code

    assert code in CODES | {"not_recognised", None}
