"""Pixels: the band reducer against Pillow's own LANCZOS of the whole, for every kind of TIFF it takes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.facts import read_tiff
from heavylift.image.sources import LocalSource
from heavylift.ranges import drive
from heavylift.sniff import detection
from heavylift.tiff.bands import Path, choose_path, choose_shrink, fit_within
from heavylift.tiff.layout import check_decodable, read_chunks
from heavylift.tiff.reducer import reduce_tiff
from tests.heavylift.image.pictures import saved, scene, tiff

WIDTH, HEIGHT, EDGE = 611, 433, 97  # a scale of 6.3: cells of 3 pixels that divide neither side
RGB = scene(WIDTH, HEIGHT)
GREY = RGB[:, :, 1].copy()
PICTURE = Image.fromarray(RGB)
# 16-bit samples whose low byte is far from the high one, so that the wrong byte order shows.
RGB16 = (RGB.astype(np.uint16) << 8) | (255 - RGB[:, :, ::-1]).astype(np.uint16)
GREY16 = RGB16[:, :, 1].copy()
ALPHA = np.linspace(0, 255, WIDTH, dtype=np.uint8)[None, :].repeat(HEIGHT, 0)
RGBA = np.dstack([RGB, ALPHA])


def reduced(
    data: bytes, edge: int = EDGE, *, chunk_edge: int = 2048, band_bytes: int = 60_000, **options: object
) -> Image.Image:
    """The reducer alone, in this process, with bands so small that there are many."""
    source = LocalSource(io.BytesIO(data), len(data))
    structure = drive(read_tiff(detection("TIFF"), len(data)), source.fetch)
    check_decodable(structure.main)
    chunks = drive(read_chunks(structure.main, len(data)), source.fetch)
    out = fit_within(structure.main.width, structure.main.height, edge)
    shrink = choose_shrink(structure.main, *out, chunk_edge=chunk_edge, band_bytes=band_bytes)
    return reduce_tiff(source, structure.main, chunks, shrink, out, **options)  # type: ignore[arg-type]


def assert_like(made: Image.Image, reference: Image.Image, tolerance: float = 0.8) -> None:
    wanted = reference.resize(made.size, Image.Resampling.LANCZOS)
    actual = np.asarray(made.convert(wanted.mode), dtype=float)
    assert float(np.abs(actual - np.asarray(wanted, dtype=float)).mean()) < tolerance


def white_below() -> Image.Image:
    white = Image.new("RGB", PICTURE.size, "white")
    white.paste(PICTURE, mask=Image.fromarray(ALPHA))
    return white


BOTH_ORDERS = [{"byteorder": "<"}, {"byteorder": ">"}]
CHUNKINGS = [
    {"rowsperstrip": 1},
    {"rowsperstrip": 16},
    {"rowsperstrip": 13},
    {"rowsperstrip": HEIGHT},
    {"tile": (64, 64)},
    {"tile": (112, 48)},
    {"tile": (512, 512)},
]


@pytest.mark.parametrize("order", BOTH_ORDERS)
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", [{}, {"compression": "zlib", "predictor": True}], ids=["raw", "deflate"])
@pytest.mark.parametrize("chunking", CHUNKINGS, ids=str)
def test_rgb(order: dict[str, str], bigtiff: bool, compression: dict[str, object], chunking: dict[str, object]) -> None:
    """Strips and tiles of any height, both byte orders, classic and BigTIFF, plain and deflated."""
    assert_like(reduced(tiff(RGB, photometric="rgb", bigtiff=bigtiff, **order, **compression, **chunking)), PICTURE)


@pytest.mark.parametrize("order", BOTH_ORDERS)
@pytest.mark.parametrize("compression", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
@pytest.mark.parametrize("chunking", [CHUNKINGS[1], CHUNKINGS[3], CHUNKINGS[4]], ids=str)
def test_sixteen_bits(order: dict[str, str], compression: dict[str, object], chunking: dict[str, object]) -> None:
    """16-bit samples give their high byte, in both byte orders, colour and grey."""
    options = order | compression | chunking
    assert_like(reduced(tiff(RGB16, photometric="rgb", **options)), PICTURE)
    assert_like(reduced(tiff(GREY16, photometric="minisblack", **options)), Image.fromarray(GREY))


@pytest.mark.parametrize("chunking", [CHUNKINGS[1], CHUNKINGS[4]], ids=str)
def test_white_is_zero(chunking: dict[str, object]) -> None:
    """Pictures whose zero is white come out upright in brightness, 8 and 16 bits."""
    options = chunking | {"photometric": "miniswhite"}
    assert_like(reduced(tiff(255 - GREY, **options)), Image.fromarray(GREY))
    assert_like(reduced(tiff(65_535 - GREY16, **options)), Image.fromarray(GREY))


@pytest.mark.parametrize("compression", [{}, {"compression": "zlib"}])
@pytest.mark.parametrize("chunking", [CHUNKINGS[1], CHUNKINGS[4]], ids=str)
@pytest.mark.parametrize("order", BOTH_ORDERS)
def test_separate_planes(compression: dict[str, object], chunking: dict[str, object], order: dict[str, str]) -> None:
    """Samples in planes of their own, 8 and 16 bits."""
    options = {"photometric": "rgb", "planarconfig": "separate"} | compression | chunking | order
    assert_like(reduced(tiff(np.moveaxis(RGB, -1, 0).copy(), **options)), PICTURE)
    assert_like(reduced(tiff(np.moveaxis(RGB16, -1, 0).copy(), **options)), PICTURE)


@pytest.mark.parametrize("chunking", [CHUNKINGS[1], CHUNKINGS[4]], ids=str)
@pytest.mark.parametrize("compression", [{}, {"compression": "zlib"}])
def test_alpha_is_laid_over_white(chunking: dict[str, object], compression: dict[str, object]) -> None:
    """Transparent parts are white, whether the colours were multiplied by alpha before or not."""
    options = {"photometric": "rgb"} | chunking | compression
    assert_like(reduced(tiff(RGBA, extrasamples=["unassalpha"], **options)), white_below())
    multiplied = (RGB.astype(float) * ALPHA[..., None] / 255).round().astype(np.uint8)
    assert_like(reduced(tiff(np.dstack([multiplied, ALPHA]), extrasamples=["assocalpha"], **options)), white_below())
    assert_like(reduced(tiff(RGBA, extrasamples=["unspecified"], **options)), PICTURE)


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate", "lzma", "zstd", "jpeg"]
)
def test_compressions_of_pillow(compression: str | None) -> None:
    """Everything that Pillow's libtiff writes is read in bands."""
    data = saved(PICTURE, "TIFF", compression=compression)
    assert_like(reduced(data), Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("compression", [None, "group3", "group4", "tiff_lzw"])
def test_bilevel(compression: str | None) -> None:
    """One bit a pixel, fax codings included."""
    bilevel = PICTURE.convert("1")
    # Dithered noise is where a box filter and LANCZOS differ most.
    assert_like(reduced(saved(bilevel, "TIFF", compression=compression)), bilevel.convert("L"), 2.6)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["CMYK", "P", "LAB", "LA"])
def test_other_modes_of_pillow(mode: str, compression: str | None) -> None:
    """CMYK, palette, Lab and grey with alpha."""
    if mode == "LAB":
        from PIL import ImageCms

        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(PICTURE, rgb, lab, outputMode="LAB")
        assert image is not None
    elif mode == "P":
        image = PICTURE.quantize(50)
    else:
        image = PICTURE.convert(mode)
    made = reduced(saved(image, "TIFF", compression=compression))
    if mode == "P":
        assert_like(made, image.convert("RGB"))
    elif mode == "LA":
        assert_like(made, image.convert("L"))
    else:
        assert made.mode == mode
        for band, whole in zip(made.split(), image.split(), strict=True):
            assert_like(band, whole)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "i2", "i4", "u4", "u8"])
@pytest.mark.parametrize("chunking", [CHUNKINGS[1], CHUNKINGS[4]], ids=str)
@pytest.mark.parametrize("order", BOTH_ORDERS)
def test_wide_samples_keep_their_values(dtype: str, chunking: dict[str, object], order: dict[str, str]) -> None:
    """Float, signed and wide integer samples are averaged as they are; how they are shown is decided later."""
    values = GREY.astype(dtype) if dtype != "i1" else (GREY.astype(int) - 128).astype("i1")
    made = reduced(tiff(values, photometric="minisblack", **chunking, **order))

    assert made.mode == "F"
    assert_like(made, Image.fromarray(values.astype(np.float32)))


def test_sparse_chunks_show_the_background() -> None:
    """Tiles and strips that were never written are black; the others are where they belong."""
    data = bytearray(tiff(RGB, photometric="rgb", tile=(64, 64), compression="zlib"))
    import tifffile

    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        page = file.pages[0]
        for number in (0, 11):
            for tag in (324, 325):
                at = page.tags[tag].valueoffset + number * 4
                data[at : at + 4] = bytes(4)
    wanted = PICTURE.copy()
    wanted.paste(0, (0, 0, 64, 64))
    wanted.paste(0, (64, 64, 128, 128))
    assert_like(reduced(bytes(data)), wanted, 1.2)


@pytest.mark.parametrize("compression", [{}, {"compression": "zlib"}])
def test_sparse_strips_show_the_background(compression: dict[str, object]) -> None:
    """The same for strips, uncompressed and deflated."""
    import tifffile

    data = bytearray(tiff(RGB, photometric="rgb", rowsperstrip=40, **compression))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        for tag in (273, 279):
            field = file.pages[0].tags[tag]
            size = {3: 2, 4: 4}[int(field.dtype)]
            at = field.valueoffset + 2 * size
            data[at : at + size] = bytes(size)
    wanted = PICTURE.copy()
    wanted.paste(0, (0, 80, WIDTH, 120))
    assert_like(reduced(bytes(data)), wanted)


def test_large_deflate_strip_is_inflated_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strip too large to hold is inflated row by row, with the same result: predictor, depth and byte order kept."""
    from heavylift.tiff import bands

    monkeypatch.setattr(bands, "CHUNK_DECODED_BYTES_MAX", 10_000)
    for pixels, reference in ((RGB, PICTURE), (RGB16, PICTURE), (GREY16, Image.fromarray(GREY))):
        for predictor in (False, True):
            for order in "<>":
                photometric = "rgb" if pixels.ndim == 3 else "minisblack"
                data = tiff(
                    pixels,
                    photometric=photometric,
                    compression="zlib",
                    predictor=predictor,
                    byteorder=order,
                    rowsperstrip=217,
                )
                structure = drive(read_tiff(detection("TIFF"), len(data)), lambda o, n, d=data: d[o : o + n])
                assert choose_path(structure.main) is Path.INFLATE
                assert_like(reduced(data), reference)


@pytest.mark.parametrize("cut", [0.3, 0.95, 0.999])
def test_deflate_that_ends_early(cut: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deflate stream that stops before its rows do is truncated, not padded."""
    import tifffile

    from heavylift.tiff import bands

    data = bytearray(tiff(RGB, photometric="rgb", compression="zlib", rowsperstrip=HEIGHT))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        count, at = file.pages[0].databytecounts[0], file.pages[0].tags[279].valueoffset
    data[at : at + 4] = struct.pack("<I", int(count * cut))
    for limit in (10_000, 16 << 20):
        monkeypatch.setattr(bands, "CHUNK_DECODED_BYTES_MAX", limit)
        with pytest.raises(ContentError) as caught:
            reduced(bytes(data))
        assert caught.value.code in ("truncated", "corrupt")


def test_without_cells_the_result_is_pillows() -> None:
    """Below twice the wanted size nothing is averaged first: the result is Pillow's LANCZOS to the bit."""
    edge = 400
    made = reduced(tiff(RGB, photometric="rgb", rowsperstrip=5), edge)
    wanted = PICTURE.resize(made.size, Image.Resampling.LANCZOS)

    assert np.array_equal(np.asarray(made), np.asarray(wanted))


def test_smaller_than_wanted_stays_as_it_is() -> None:
    """A picture below the wanted size comes out pixel by pixel."""
    assert np.array_equal(np.asarray(reduced(tiff(RGB, photometric="rgb"), 5000)), RGB)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 300),
    st.integers(16, 400),
    st.sampled_from([None, "zlib"]),
    st.integers(1, 260),
    st.sampled_from([3000, 20_000, 1_000_000]),
)
def test_any_shape(
    width: int, height: int, strip_rows: int, edge: int, compression: str | None, tile: int, band_bytes: int
) -> None:
    """Any width, height, strip height, tile side and band size gives Pillow's picture."""
    pixels = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width)).astype(np.uint8)
    reference = Image.fromarray(pixels)
    for options in ({"rowsperstrip": strip_rows}, {"tile": (-(-tile // 16) * 16, 16)}):
        data = tiff(pixels, photometric="minisblack", compression=compression, **options)
        assert_like(reduced(data, edge, band_bytes=band_bytes), reference, 1.5)


def test_very_wide_pictures_are_averaged_in_two_steps() -> None:
    """A row of cells larger than a band is averaged in steps: the picture stays right and the band small."""
    pixels = np.linspace(0, 255, 20_000)[None, :].repeat(600, 0).astype(np.uint8)
    for options in ({}, {"rowsperstrip": 3, "compression": "zlib"}):
        data = tiff(pixels, photometric="minisblack", **options)
        assert_like(reduced(data, 100, band_bytes=70_000), Image.fromarray(pixels), 1.0)
