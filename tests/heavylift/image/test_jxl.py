"""JPEG XL: the header by an own reader, the picture by libjxl, both against what was written."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.jxl import JxlHeader, parse_header, read_jxl
from heavylift.image.thumbnails import ThumbnailResult
from heavylift.ranges import drive
from tests.heavylift.image.pictures import PROMISED_DIFFERENCE, difference, scene, thumbnails

MIB = 1 << 20
RGB = scene(640, 420)
ALPHA = np.linspace(0, 255, 640).astype(np.uint8)[None, :].repeat(420, 0)


def encoded(pixels: np.ndarray, **options: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, numthreads=1, **options))


def header(data: bytes) -> JxlHeader:
    return drive(read_jxl(len(data)), lambda at, length: data[at : at + length])


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize(
    "size", [(8, 8), (256, 256), (300, 400), (1920, 1080), (33, 70), (640, 512), (2000, 1), (9, 8)]
)
def test_sizes(size: tuple[int, int], container: bool) -> None:
    """Every way to write a size: in eights, as a ratio, in full; bare and in a container."""
    data = encoded(np.zeros((size[1], size[0], 3), np.uint8), lossless=True, effort=1, usecontainer=container)

    assert (header(data).width, header(data).height) == size


@pytest.mark.parametrize(
    ("shape", "kind", "bits", "extra"),
    [((9, 7), np.uint8, 8, 0), ((9, 7, 2), np.uint8, 8, 1), ((9, 7, 4), np.uint8, 8, 1), ((9, 7, 3), np.uint16, 16, 0)],
)
def test_samples(shape: tuple[int, ...], kind: Any, bits: int, extra: int) -> None:
    """Depth and further channels."""
    found = header(encoded(np.zeros(shape, kind), lossless=True, effort=1))

    assert (found.bits_per_sample, found.extra_channels, found.orientation, found.animated) == (bits, extra, 1, False)


def test_frames_and_turns() -> None:
    """An animation says so; orientation is read from the bits of the standard."""
    assert header(encoded(np.zeros((3, 16, 24, 3), np.uint8), lossless=True, effort=1)).animated
    # 8 x 8 in eights (1, 00000), as a square (001); not all default, extra fields, orientation 6 (101), nothing else.
    bits = "1" + "00000" + "100" + "0" + "1" + "101" + "0" + "0" + "0" + "0" + "00" + "1" + "00"
    turned = parse_header(int(bits[::-1], 2).to_bytes(8, "little"))
    assert (turned.width, turned.height, turned.orientation, turned.bits_per_sample) == (8, 8, 6, 8)


@given(st.binary(max_size=80), st.booleans())
def test_garbage_is_a_verdict(data: bytes, container: bool) -> None:
    """Whatever follows the signature ends in a header or a ContentError."""
    start = b"\0\0\0\x0cJXL \r\n\x87\n" if container else b"\xff\x0a"
    code = None
    try:
        header(start + data)
    except ContentError as error:
        code = error.code
    assert code in (None, "truncated", "corrupt")


def assert_shown(result: ThumbnailResult, reference: Image.Image) -> None:
    assert (result.facts.width, result.facts.height) == reference.size
    assert (result.facts.format, result.facts.compression) == ("JXL", "jpeg-xl")
    for picture in result.thumbnails:
        assert difference(picture.jpeg, reference) <= PROMISED_DIFFERENCE


def test_pictures() -> None:
    """Colour, 16 bits, and alpha over white: within what is promised of Pillow's LANCZOS."""
    assert_shown(thumbnails(encoded(RGB, distance=0.5, effort=3), sizes=(64, 200)), Image.fromarray(RGB))
    wide = encoded(RGB.astype(np.uint16) * 257, lossless=True, effort=1, usecontainer=True)
    assert_shown(thumbnails(wide, sizes=(200,)), Image.fromarray(RGB))
    white = Image.new("RGB", (640, 420), "white")
    white.paste(Image.fromarray(RGB), mask=Image.fromarray(ALPHA))
    assert_shown(thumbnails(encoded(np.dstack([RGB, ALPHA]), lossless=True, effort=1), sizes=(200,)), white)


def test_grey_and_the_first_frame() -> None:
    """Grey stays grey; of an animation the first frame is shown and its frames are not counted."""
    assert_shown(
        thumbnails(encoded(RGB[:, :, 1], lossless=True, effort=1), sizes=(200,)), Image.fromarray(RGB[:, :, 1])
    )
    result = thumbnails(encoded(np.stack([RGB, 255 - RGB]), lossless=True, effort=1), sizes=(200,))
    assert_shown(result, Image.fromarray(RGB))
    assert result.facts.pages is None


@pytest.mark.memory
@pytest.mark.parametrize("options", [{"distance": 1.0, "effort": 1}, {"lossless": True, "effort": 1}], ids=str)
def test_estimate(options: dict[str, Any]) -> None:
    """Memory is estimated high enough, and not absurdly high."""
    result = thumbnails(encoded(np.tile(scene(1000, 800), (3, 4, 1)), **options))
    peak, estimate = result.child_memory_peak_bytes, result.decision.estimated_memory_bytes

    assert peak <= estimate
    assert estimate <= 2 * peak + 60 * MIB
