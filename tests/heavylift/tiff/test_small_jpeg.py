"""JPEG chunks that come smaller out of their decoder: the same picture as whole, and damage that stays a verdict."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.facts import read_tiff
from heavylift.image.sources import LocalSource
from heavylift.ranges import drive
from heavylift.sniff import detection
from heavylift.tiff.bands import Shrink, choose_shrink, fit_within, jpeg_scale
from heavylift.tiff.layout import Picture, read_chunks
from heavylift.tiff.reducer import reduce_tiff
from heavylift.tiff.small_jpeg import SmallJpeg
from tests.heavylift.image.pictures import difference as imaged_difference
from tests.heavylift.image.pictures import saved, scene, thumbnails, tiff

MIB = 1 << 20
WIDTH, HEIGHT = 1_003, 711  # no multiple of a block, nor of a tile
RGB = scene(WIDTH, HEIGHT)
CMYK = np.dstack([255 - RGB, RGB[:, :, :1] // 4])


def made(data: bytes, edge: int) -> tuple[Image.Image, Image.Image]:
    """(the reducer's picture, Pillow's LANCZOS of the whole)."""
    source = LocalSource(io.BytesIO(data), len(data))
    main = drive(read_tiff(detection("TIFF"), len(data)), source.fetch).main
    chunks = drive(read_chunks(main, len(data)), source.fetch)
    out = fit_within(main.width, main.height, edge)
    image = reduce_tiff(source, main, chunks, choose_shrink(main, *out, band_bytes=400_000), out)
    whole = Image.open(io.BytesIO(data))
    return image, whole.convert(image.mode).resize(image.size, Image.Resampling.LANCZOS)


def difference(data: bytes, edge: int) -> float:
    image, wanted = made(data, edge)
    return float(np.abs(np.asarray(image, float) - np.asarray(wanted, float)).mean())


CODED: dict[str, dict[str, Any]] = {
    "rgb": {"photometric": "rgb"},
    "ycbcr 4:4:4": {"photometric": "ycbcr", "subsampling": (1, 1)},
    "ycbcr 4:2:0": {"photometric": "ycbcr", "subsampling": (2, 2)},
    "ycbcr 4:2:2": {"photometric": "ycbcr", "subsampling": (2, 1)},
}


@pytest.mark.parametrize("edge", [120, 200, 41], ids=["by 4", "by 2", "by 8"])
@pytest.mark.parametrize("chunking", [{"tile": (128, 128)}, {"tile": (64, 112)}, {"rowsperstrip": 16}], ids=str)
@pytest.mark.parametrize("coding", CODED)
def test_the_same_picture(coding: str, chunking: dict[str, Any], edge: int) -> None:
    """Every colour coding of three samples, tiles and strips, at each scale."""
    options = {"compression": "jpeg", "compressionargs": {"level": 90}, **CODED[coding], **chunking}

    assert difference(tiff(RGB, **options), edge) < 1.0


@pytest.mark.parametrize("chunking", [{"tile": (128, 128)}, {"rowsperstrip": 16}], ids=str)
@pytest.mark.parametrize("kind", ["minisblack", "miniswhite", "separated", "planes"])
def test_other_colours(kind: str, chunking: dict[str, Any]) -> None:
    """Grey either way round, CMYK, and samples in planes of their own."""
    options: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 95}, **chunking}
    if kind == "planes":
        data = tiff(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate", **options)
        image, _ = made(data, 120)
        wanted = Image.fromarray(RGB).resize(image.size, Image.Resampling.LANCZOS)
        assert float(np.abs(np.asarray(image, float) - np.asarray(wanted, float)).mean()) < 1.2
        return
    pixels = CMYK if kind == "separated" else RGB[:, :, 1].copy()

    assert difference(tiff(pixels, photometric=kind, **options), 120) < 1.0


def test_padding_does_not_bleed_in() -> None:
    """Tiles whose padding is far from the picture's last pixels: the edge shows the picture alone."""
    picture = np.full((512, 512, 3), 0, np.uint8)
    picture[:261, :261] = 250
    whole = tiff(picture, photometric="rgb", compression="jpeg", compressionargs={"level": 100}, tile=(256, 256))
    main = drive(read_tiff(detection("TIFF"), len(whole)), lambda at, n: whole[at : at + n]).main
    small = replace(main, width=261, height=261)
    source = LocalSource(io.BytesIO(whole), len(whole))
    chunks = drive(read_chunks(main, len(whole)), source.fetch)
    image = reduce_tiff(source, small, chunks, choose_shrink(small, 16, 16), (16, 16))

    assert np.asarray(image).min() > 235


def picture_of(data: bytes) -> tuple[Picture, bytes]:
    """A picture and its first chunk."""
    main = drive(read_tiff(detection("TIFF"), len(data)), lambda at, n: data[at : at + n]).main
    chunks = drive(read_chunks(main, len(data)), lambda at, n: data[at : at + n])
    return main, data[chunks.offsets[0] : chunks.offsets[0] + chunks.counts[0]]


TILED = tiff(RGB, photometric="rgb", compression="jpeg", tile=(128, 128))


@pytest.mark.parametrize("change", ["wider", "higher", "more samples", "12 bits", "progressive", "twice", "no frame"])
def test_other_frames_are_left_to_libtiff(change: str) -> None:
    """A frame header that is not the one that was expected never reaches the decoder that trusts it."""
    main, chunk = picture_of(TILED)
    decoder = SmallJpeg(main, b"", 8)
    assert decoder.decode(chunk, (128, 128)) is not None
    at = chunk.index(b"\xff\xc0")
    frame = chunk[at : at + 19]
    changed = {
        "wider": frame[:7] + b"\x10\x00" + frame[9:],
        "higher": frame[:5] + b"\x10\x00" + frame[7:],
        "more samples": frame[:9] + b"\x04" + frame[10:],
        "12 bits": frame[:4] + b"\x0c" + frame[5:],
        "progressive": b"\xff\xc2" + frame[2:],
        "twice": frame + frame,
        "no frame": b"",
    }[change]

    assert decoder.decode(chunk[:at] + changed + chunk[at + 19 :], (128, 128)) is None


def test_tables_that_are_none() -> None:
    """Tables that do not parse leave the picture to libtiff; cells that no transform makes do, too."""
    main, chunk = picture_of(TILED)
    for tables in (b"xx", b"\xff\xd8\xff\xdb\x00\x01", b"\xff\xd8\xff\xc0\x00\x04\x00\x00\xff\xd9", b"\xff\xd8\xff"):
        decoder = SmallJpeg(main, tables, 8)
        assert decoder.decode(chunk, (128, 128)) is None


def test_scales() -> None:
    """By the largest of 8, 4 and 2 that cells and chunks are whole numbers of; 12 bits and bands that overlap by 1."""
    main, _ = picture_of(TILED)
    shrink = Shrink(8, 16, 1, 128)
    assert jpeg_scale(main, shrink) == 8
    assert jpeg_scale(main, replace(shrink, across=4)) == 4
    assert jpeg_scale(replace(main, chunk_height=24), shrink) == 8
    assert jpeg_scale(replace(main, chunk_height=20), shrink) == 4
    assert jpeg_scale(main, replace(shrink, down=3)) == 1
    assert jpeg_scale(main, replace(shrink, carry=True)) == 1
    assert jpeg_scale(replace(main, bits=12), shrink) == 1
    assert jpeg_scale(replace(main, samples=4), shrink) == 1
    assert jpeg_scale(replace(main, compression=5), shrink) == 1


def test_one_strip_for_the_whole_picture() -> None:
    """A strip of 100 megabytes decoded is made smaller as it comes; one that cannot be is refused by name."""
    wide = scene(1_300, 600).repeat(8, 0).repeat(8, 1)
    data = tiff(wide, photometric="rgb", compression="jpeg", rowsperstrip=4800)
    result = thumbnails(data, sizes=(300,), tiff_threshold_bytes=0)
    assert result.decision.method == "chunked"
    assert result.child_memory_peak_bytes <= result.decision.estimated_memory_bytes < 128 * MIB
    assert imaged_difference(result.thumbnails[0].jpeg, Image.fromarray(wide)) < 3.0
    at = data.index(b"\xff\xc0")
    progressive = data[:at] + b"\xff\xc9" + data[at + 2 :]
    with pytest.raises(ContentError) as caught:
        made(progressive, 300)
    assert caught.value.code == "unsupported_feature"


def test_damage_is_a_verdict() -> None:
    """Chunks that are cut or changed give a picture or a ContentError, and nothing else."""
    seen = set()
    for seed in range(60):
        random = np.random.default_rng(seed)
        data = bytearray(TILED)
        for _ in range(4):
            data[int(random.integers(300, len(data)))] = int(random.integers(256))
        try:
            made(bytes(data), 60)[0].load()
            seen.add("picture")
        except ContentError as error:
            seen.add(error.code)
        except OSError:  # the judge's: it does not open the file
            seen.add("judge")
    assert "picture" in seen
    assert seen <= {"picture", "judge", "corrupt", "truncated", "unsupported_feature", "limit_exceeded"}


def test_a_cut_chunk_is_truncated() -> None:
    """A stream that ends early is no picture with a grey part."""
    main, chunk = picture_of(TILED)
    decoder = SmallJpeg(main, b"", 8)
    with pytest.raises(ValueError, match="not enough image data"):
        decoder.decode(chunk[: len(chunk) * 2 // 3], (128, 128))


def test_strips_of_pillow() -> None:
    """A strip JPEG as Pillow writes it."""
    assert difference(saved(Image.fromarray(RGB), "TIFF", compression="jpeg"), 120) < 1.0
