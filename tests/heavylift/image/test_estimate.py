"""Memory estimates against what the child really takes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from heavylift.image.estimate import mode_bytes, whole_decode_bytes
from heavylift.image.thumbnails import ThumbnailResult
from tests.heavylift.image.cameras import heic, heic_of_ten_bits
from tests.heavylift.image.pictures import saved, scene, thumbnails, tiff
from tests.heavylift.image.test_headers import psd

MIB = 1 << 20
LARGE = np.tile(scene(1000, 800), (3, 4, 1))  # 4000 x 2400
PICTURE = Image.fromarray(LARGE)


def assert_estimate(result: ThumbnailResult, at_most: float = 2.0) -> None:
    """Never low, and not absurdly high."""
    peak, estimate = result.child_memory_peak_bytes, result.decision.estimated_memory_bytes

    assert peak <= estimate
    assert estimate <= at_most * peak + 30 * MIB


@pytest.mark.memory
@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "subsampling": 0}),
        ("PNG", {"compress_level": 1}),
        ("WEBP", {"method": 0}),
        ("GIF", {}),
        ("BMP", {}),
        ("AVIF", {"speed": 10}),
    ],
)
def test_whole(format_name: str, options: dict[str, object]) -> None:
    """The formats that are decoded at once."""
    assert_estimate(thumbnails(saved(PICTURE, format_name, **options)))


@pytest.mark.memory
def test_whole_jpeg_2000() -> None:
    """JPEG 2000, whose decoder takes four bytes a sample."""
    assert_estimate(thumbnails(saved(PICTURE.resize((1600, 1200)), "JPEG2000")))


@pytest.mark.memory
def test_whole_psd() -> None:
    """Planes that become pixels."""
    assert_estimate(thumbnails(psd(*PICTURE.size)[: -LARGE.size] + LARGE.transpose(2, 0, 1).tobytes()))


@pytest.mark.memory
def test_whole_heic() -> None:
    """libheif's planes and its picture, of eight bits and of ten."""
    small = PICTURE.resize((1600, 1200))
    for data in (heic(small, quality=60), heic_of_ten_bits(small, quality=60)):
        assert_estimate(thumbnails(data))


@pytest.mark.memory
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16"])
def test_whole_by_mode(mode: str) -> None:
    """Modes that are changed on the way."""
    image = PICTURE.convert("L").convert("I;16") if mode == "I;16" else PICTURE.convert(mode)
    assert_estimate(thumbnails(saved(image, "PNG", compress_level=1)))


@pytest.mark.memory
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True, "tile": (256, 256)},
        {"compression": "zlib", "rowsperstrip": 2400},
        {"compression": "zlib", "rowsperstrip": 64},
        {"planarconfig": "separate"},
    ],
    ids=str,
)
def test_bands(depth: int, options: dict[str, object]) -> None:
    """TIFFs band by band, 8 and 16 bits: below 128 MiB, and below the estimate."""
    pixels = LARGE if depth == 8 else LARGE.astype(np.uint16) << 8
    if "planarconfig" in options:
        pixels = np.moveaxis(pixels, -1, 0).copy()
    result = thumbnails(tiff(pixels, photometric="rgb", **options), tiff_threshold_bytes=0)

    assert result.decision.method == "chunked"
    assert_estimate(result, 3.0)
    assert result.child_memory_peak_bytes < 128 * MIB


@pytest.mark.memory
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=str)
def test_whole_tiff(options: dict[str, object]) -> None:
    """TIFFs decoded at once, turned and not."""
    assert_estimate(thumbnails(saved(PICTURE, "TIFF", **options), tiff_chunking=False))
    exif = Image.Exif()
    exif[274] = 6
    assert_estimate(thumbnails(saved(PICTURE, "TIFF", exif=exif, **options), tiff_chunking=False))


def test_depth_and_shape_count() -> None:
    """The estimate follows mode, progressive coding and the shrinking of JPEG."""
    pixels = 10_000 * 10_000

    def of(format_name: str, mode: str, **options: object) -> int:
        return whole_decode_bytes(format_name, 10_000, 10_000, mode, 1000, **options)  # type: ignore[arg-type]

    assert of("PNG", "RGB") - of("PNG", "L") >= 3 * pixels
    assert of("PNG", "I;16") - of("PNG", "L") >= pixels
    assert of("JPEG", "RGB", interlaced=True, sampled=3.0) - of("JPEG", "RGB") >= 6 * pixels
    assert of("JPEG", "RGB", shrink=8) < of("JPEG", "RGB") / 4
    assert [mode_bytes(mode) for mode in ("1", "L", "P", "I;16", "RGB", "CMYK", "F", "LAB")] == [1, 1, 1, 2, 4, 4, 4, 4]
