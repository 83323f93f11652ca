"""The last steps: ranges to eight bits, colours, turning, encoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.image.finish import finish, percentile, to_eight_bits, to_srgb
from heavylift.image.narrow import reducible, shrink_image


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1e6, 1e6), st.floats(0.01, 1e6), st.floats(0.001, 0.999))
def test_percentile(seed: int, offset: float, width: float, part: float) -> None:
    """A percentile by histograms is numpy's, within a thousandth of the range."""
    values = (np.random.default_rng(seed).random((80, 90)) ** 2 * width + offset).astype(np.float32)
    spread = float(values.max() - values.min())

    step = float(np.spacing(np.abs(values).max()))  # what numbers of 32 bits can tell apart there
    wanted = float(np.percentile(values.astype(np.float64), part * 100))
    assert abs(percentile(Image.fromarray(values), part) - wanted) <= spread * 2e-3 + 1e-2 + step


def test_ranges() -> None:
    """Stated limits are black and white; a flat picture does not divide by zero."""
    image = Image.fromarray(np.array([[-5, 0, 50, 100, 300]], dtype=np.float32))

    assert list(np.asarray(to_eight_bits(image, (0, 100))).ravel()) == [0, 0, 128, 255, 255]
    assert to_eight_bits(Image.new("F", (4, 4), 7.5)).getextrema() == (128, 128)
    assert to_eight_bits(Image.new("F", (4, 4), 0.0)).getextrema() == (0, 0)
    assert to_eight_bits(Image.new("RGB", (4, 4))).mode == "RGB"


def test_not_a_number_is_survived() -> None:
    """Samples that are no numbers or infinite do not stop the picture."""
    values = np.linspace(0, 1, 10_000).reshape(100, 100).astype(np.float32)
    values[3, 3], values[4, 4] = np.nan, np.inf
    made = to_eight_bits(shrink_image(Image.fromarray(values), (100, 100)))

    assert made.mode == "L"
    low, high = made.getextrema()
    assert low < 10
    assert high > 245


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "I;16", "I;16B", "YCbCr", "RGBA", "LA", "CMYK", "F", "I"])
def test_every_mode_can_be_averaged(mode: str) -> None:
    """After the change of mode Image.reduce takes the picture."""
    assert reducible(Image.new(mode, (20, 20))).reduce(2).size == (10, 10)


def test_sixteen_bits_give_the_high_byte() -> None:
    """The high byte, in both byte orders of Pillow's modes, and turned round where zero is white."""
    values = np.array([[0, 255, 256, 32_768, 65_535]], dtype=np.uint16)
    little = Image.fromarray(values)
    big = Image.frombytes("I;16B", (5, 1), values.byteswap().tobytes())

    for image in (little, big):
        assert list(np.asarray(reducible(image)).ravel()) == [0, 0, 1, 128, 255]
    assert list(np.asarray(reducible(little, invert_16=True)).ravel()) == [255, 255, 254, 127, 0]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "LAB", "HSV"])
def test_srgb_or_grey(mode: str) -> None:
    """Everything ends as RGB or grey, also with a profile of the wrong kind."""
    for profile in (None, b"nonsense"):
        assert to_srgb(Image.new(mode, (8, 8)), profile).mode == ("L" if mode == "L" else "RGB")


def test_sizes_in_cascade() -> None:
    """Smaller sizes are made from the larger, and come in the order asked."""
    made = finish(
        Image.new("RGB", (400, 200)),
        full_size=(4000, 2000),
        orientation=6,
        icc_profile=None,
        sizes=(100, 400),
        quality=80,
        pad_color=None,
    )

    assert [(one.size, one.width, one.height) for one in made] == [(100, 50, 100), (400, 200, 400)]
