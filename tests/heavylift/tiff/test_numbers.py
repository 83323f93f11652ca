"""Chunks that decode to numbers, LERC and JPEG XL, as another library writes them: against what was written."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from heavylift.errors import ContentError
from tests.heavylift.image.pictures import tiff
from tests.heavylift.tiff.test_reducer import reduced
from tests.heavylift.tiff.test_samples import EDGE, RGB, assert_near, by_range, lanczos

LERC_OPTIONS = [
    {"tile": (112, 64)},
    {"rowsperstrip": 64},
    {"tile": (112, 64), "compressionargs": {"compression": "deflate"}},
    {"tile": (112, 64), "compressionargs": {"compression": "zstd"}},
]


@pytest.mark.parametrize("options", LERC_OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["rgb", "grey", "u16", "i16", "float", "double", "planes"])
def test_lerc(kind: str, options: dict[str, Any]) -> None:
    """LERC of every kind of number, alone and compressed once more, against the numbers that were written."""
    grey = RGB[:, :, 1].copy()
    if kind == "double" and "compressionargs" in options:
        pytest.skip("the same numbers as of floats")
    pixels: Any = {
        "rgb": RGB,
        "grey": grey,
        "u16": grey.astype(np.uint16) << 8,
        "i16": grey.astype(np.int16) * 20 - 1000,
        "float": grey.astype(np.float32) / 7,
        "double": grey.astype(np.float64) * 1e6,
        "planes": np.moveaxis(RGB, -1, 0).copy(),
    }[kind]
    given = {"photometric": "rgb" if kind in ("rgb", "planes") else "minisblack", **options}
    if kind == "planes":
        given["planarconfig"] = "separate"
    data = tiff(pixels, compression="lerc", **given)
    made = reduced(data, EDGE)
    if kind in ("rgb", "planes"):
        assert_near(made, lanczos(RGB, made.size))
    elif kind in ("grey", "u16"):
        assert_near(made, lanczos(grey[:, :, None], made.size))
    else:
        assert_near(made, by_range(pixels[:, :, None], made.size))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_jpeg_xl_in_tiles(kind: Any) -> None:
    """JPEG XL tiles, 8 and 16 bits."""
    pixels = RGB.astype(kind) * (257 if kind is np.uint16 else 1)
    data = tiff(pixels, photometric="rgb", compression="jpegxl", tile=(112, 64))
    made = reduced(data, EDGE)

    assert_near(made, lanczos(RGB, made.size))


@pytest.mark.parametrize("compression", ["lerc", "jpegxl"])
def test_numbers_of_another_kind_are_corrupt(compression: str) -> None:
    """Chunks that decode to numbers of another width, another size, or not at all."""
    data = tiff(RGB[:, :, 1].copy(), photometric="minisblack", compression=compression, tile=(64, 64))
    other = tiff(RGB[:, :, 1].astype(np.uint16), photometric="minisblack", compression=compression, tile=(64, 64))
    with tifffile.TiffFile(io.BytesIO(data)) as a, tifffile.TiffFile(io.BytesIO(other)) as b:
        at, size = a.pages[0].dataoffsets[0], a.pages[0].databytecounts[0]
        start, length = b.pages[0].dataoffsets[0], b.pages[0].databytecounts[0]
    swapped = data[:at] + other[start : start + min(length, size)].ljust(size, b"\0") + data[at + size :]
    for broken in (swapped, data[:at] + bytes(size) + data[at + size :]):
        with pytest.raises(ContentError) as caught:
            reduced(broken, EDGE)
        assert caught.value.code in ("corrupt", "truncated")


def test_a_chunk_that_claims_to_be_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that runs out of memory over a chunk was told a lie by it: that is the file's fault."""

    def hungry(data: bytes) -> None:
        raise MemoryError

    data = tiff(RGB[:, :, 1].copy(), photometric="minisblack", compression="lerc", tile=(64, 64))
    monkeypatch.setattr(imagecodecs, "lerc_decode", hungry)
    with pytest.raises(ContentError) as caught:
        reduced(data, EDGE)
    assert caught.value.code == "corrupt"
