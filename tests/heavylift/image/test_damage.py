"""Damaged files through the decoders: a verdict with a code, never another exception, never a crash."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.estimate import chunked_decode_bytes
from heavylift.image.facts import read_tiff
from heavylift.image.sources import LocalSource
from heavylift.image.whole import decode_whole
from heavylift.ranges import drive
from heavylift.sniff import detection
from heavylift.tiff.bands import choose_shrink, fit_within
from heavylift.tiff.layout import check_decodable, read_chunks
from heavylift.tiff.reducer import reduce_tiff
from tests.heavylift.image.cameras import heic
from tests.heavylift.image.pictures import saved, scene, thumbnails, tiff

CODES = {"truncated", "corrupt", "unsupported_feature", "limit_exceeded", "too_large_to_decode", "not_recognised"}
RGB = scene(120, 90)
PICTURE = Image.fromarray(RGB)
TIFFS = [
    tiff(RGB, photometric="rgb"),
    tiff(RGB, photometric="rgb", bigtiff=True, byteorder=">", rowsperstrip=7),
    tiff(RGB, photometric="rgb", compression="zlib", predictor=True, tile=(32, 32)),
    tiff(RGB.astype(np.uint16), photometric="rgb", compression="zlib", rowsperstrip=20),
    tiff(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate"),
    saved(PICTURE, "TIFF", compression="jpeg"),
    saved(PICTURE, "TIFF", compression="tiff_lzw"),
    saved(PICTURE.convert("1"), "TIFF", compression="group4"),
    saved(PICTURE.quantize(30), "TIFF"),
]
OTHERS = {
    "JPEG": saved(PICTURE, "JPEG"),
    "PNG": saved(PICTURE, "PNG"),
    "WebP": saved(PICTURE, "WEBP"),
    "GIF": saved(PICTURE, "GIF"),
    "BMP": saved(PICTURE, "BMP"),
    "JP2": saved(PICTURE, "JPEG2000"),
    "AVIF": saved(PICTURE, "AVIF"),
    "HEIC": heic(PICTURE),
}
changes_of_512 = st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=5)
MEMORY_OF_A_TEST = 80 << 20


def damaged(sample: bytes, changes: list[tuple[int, int]], keep_percent: int) -> bytes:
    data = bytearray(sample)
    for offset, value in changes:
        data[offset % len(data)] = value
    return bytes(data[: max(1, len(data) * keep_percent // 100)])


def reduce_anything(data: bytes) -> None:
    source = LocalSource(io.BytesIO(data), len(data))
    structure = drive(read_tiff(detection("TIFF"), len(data)), source.fetch)
    check_decodable(structure.main)
    chunks = drive(read_chunks(structure.main, len(data)), source.fetch)
    out = fit_within(structure.main.width, structure.main.height, 60)
    shrink = choose_shrink(structure.main, *out)
    if chunked_decode_bytes(structure.main, shrink, out[0], chunks) <= MEMORY_OF_A_TEST:
        assert reduce_tiff(source, structure.main, chunks, shrink, out).size == out


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TIFFS) - 1), changes_of_512, st.integers(20, 100))
def test_damaged_tiffs(which: int, changes: list[tuple[int, int]], keep_percent: int) -> None:
    """Through our own reader and libtiff: a picture of the right size, or a promised code."""
    code = None
    try:
        reduce_anything(damaged(TIFFS[which], changes, keep_percent))
    except ContentError as error:
        code = error.code

    assert code in CODES | {None}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(OTHERS)), changes_of_512, st.integers(20, 100))
def test_damaged_pictures_of_other_formats(name: str, changes: list[tuple[int, int]], keep_percent: int) -> None:
    """Through Pillow: a picture, or a promised code."""

    def allowed(size: tuple[int, int], mode: str) -> None:
        if size[0] * size[1] > 4_000_000:
            raise ContentError("too_large_to_decode", "too large for this test")

    data = damaged(OTHERS[name], changes, keep_percent)
    code = None
    try:
        decode_whole(LocalSource(io.BytesIO(data), len(data)), name, 60, allowed)
    except ContentError as error:
        code = error.code

    assert code in CODES | {None}


@pytest.mark.parametrize("which", range(len(TIFFS)))
def test_cut_tiffs_end_in_a_verdict(which: int) -> None:
    """Through the child: cut at a quarter, half and three quarters."""
    for percent in (25, 50, 75):
        with pytest.raises(ContentError) as caught:
            thumbnails(TIFFS[which][: len(TIFFS[which]) * percent // 100], tiff_threshold_bytes=0)
        assert caught.value.code in ("truncated", "corrupt")


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("which", range(len(TIFFS)))
def test_every_byte_of_the_head(which: int) -> None:
    """Through the child: each of the first 512 bytes changed, one at a time; a picture or a promised code."""
    generator = np.random.default_rng(which)
    for offset in range(512):
        data = damaged(TIFFS[which], [(offset, int(generator.integers(256)))], 100)
        code = None
        try:
            thumbnails(data, tiff_threshold_bytes=0, seconds=20)
        except ContentError as error:
            code = error.code
        assert code in CODES | {None}


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_twentieth_cut(name: str) -> None:
    """Through the child: cut at every 5 %: a verdict, or (where only the last bytes are gone) the whole picture."""
    sample = OTHERS[name]
    for percent in range(5, 100, 5):
        data = sample[: len(sample) * percent // 100]
        with pytest.raises(ContentError) as caught:
            thumbnails(data)
        assert caught.value.code in CODES
