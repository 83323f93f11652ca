"""PNG and BMP in bands: the same picture as whole, in memory that does not grow, and strict about what is missing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from heavylift.errors import ContentError
from heavylift.image import bmp, png
from heavylift.image.rows import BAND_BYTES, RowLayout, rows_decode_bytes, shrink_of
from heavylift.image.sources import LocalSource
from heavylift.image.streaming import decode_rows, row_layout
from heavylift.image.thumbnails import ThumbnailOptions, make_thumbnails
from heavylift.image.whole import Whole, decode_whole
from tests.heavylift.image.pictures import CountingSource, detected, difference, saved, scene, thumbnails

MIB = 1 << 20
RGB = scene(401, 333)
PICTURE = Image.fromarray(RGB)
EDGE = 90


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def written(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes, piece: int = 1000) -> bytes:
    """A PNG of filtered rows, its pixels cut into IDAT chunks of ``piece`` bytes."""
    stored = zlib.compress(rows)
    idats = [chunk(b"IDAT", stored[at : at + piece]) for at in range(0, len(stored), piece)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + b"".join(idats) + chunk(b"IEND", b"")


def filtered(rows: np.ndarray, unit: int, kinds: list[int]) -> bytes:
    """Rows of bytes, each with a filter of its own (PNG 9.2)."""
    out = b""
    above = np.zeros(rows.shape[1], np.int16)
    for number, row in enumerate(rows.astype(np.int16)):
        left = np.concatenate([np.zeros(unit, np.int16), row[:-unit]])
        corner = np.concatenate([np.zeros(unit, np.int16), above[:-unit]])
        kind = kinds[number % len(kinds)]
        guess = left + above - corner
        to = [abs(guess - each) for each in (left, above, corner)]
        paeth = np.where((to[0] <= to[1]) & (to[0] <= to[2]), left, np.where(to[1] <= to[2], above, corner))
        predicted = (np.zeros_like(row), left, above, (left + above) // 2, paeth)[kind]
        out += bytes([kind]) + ((row - predicted) & 255).astype(np.uint8).tobytes()
        above = row
    return out


def in_rows(data: bytes, name: str = "PNG", edge: int = EDGE) -> Whole:
    return decode_rows(LocalSource(io.BytesIO(data), len(data)), name, data[:65_536], edge, 1)


def as_whole(data: bytes, name: str = "PNG", edge: int = EDGE) -> Image.Image:
    return decode_whole(LocalSource(io.BytesIO(data), len(data)), name, edge, lambda size, mode: None).image


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows, so that a small picture has many."""
    for module in (png, bmp):
        monkeypatch.setattr(
            module, "shrink_of", lambda layout, out: shrink_of(RowLayout(layout.format, 401, 333, 300_000, 4), out)
        )


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_picture_that_pillow_gives(mode: str) -> None:
    """To the bit what decoding the whole picture gives."""
    image = PICTURE.convert("L").convert("I;16") if mode == "I;16" else PICTURE.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = saved(image, "PNG")
    whole = in_rows(data)

    assert whole.full_size == image.size
    assert whole.image.tobytes() == as_whole(data).tobytes()


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize(
    ("colour", "bits"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16), (6, 8), (6, 16)]
)
def test_every_filter_and_depth(colour: int, bits: int) -> None:
    """All five filters, rows that depend on the band before, samples of 1 to 16 bits."""
    generator = np.random.default_rng(bits + colour)
    samples = png.SAMPLES[colour]
    row_bytes = (401 * samples * bits + 7) // 8
    rows = generator.integers(0, 256, (333, row_bytes), dtype=np.uint8)
    data = written(401, 333, bits, colour, filtered(rows, max(1, samples * bits // 8), [4, 2, 3, 1, 0]))
    made, wanted = in_rows(data).image, as_whole(data)  # grey with alpha in 16 bits is RGBA to Pillow

    assert made.convert(wanted.mode).tobytes() == wanted.tobytes()


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_with_transparent_colours(bits: int) -> None:
    """Palettes of all depths, alphas for some of their colours."""
    rows = np.random.default_rng(bits).integers(0, 256, (333, (401 * bits + 7) // 8), dtype=np.uint8)
    colours = bytes(np.random.default_rng(1).integers(0, 256, 3 << bits, dtype=np.uint8))
    extra = (chunk(b"PLTE", colours), chunk(b"tRNS", b"\0\x80"))
    data = written(401, 333, bits, 3, filtered(rows, 1, [0, 2]), *extra)

    assert in_rows(data).image.tobytes() == as_whole(data).tobytes()


@pytest.mark.parametrize(("colour", "stored"), [(0, b"\0\x07"), (2, b"\0\x07\0\x07\0\x07")])
def test_one_transparent_colour_is_white(colour: int, stored: bytes) -> None:
    """The grey or colour that tRNS names is shown as white, whoever decodes."""
    rows = np.full((40, 40 * png.SAMPLES[colour]), 7, np.uint8)
    data = written(40, 40, 8, colour, filtered(rows, png.SAMPLES[colour], [0]), chunk(b"tRNS", stored))
    for image in (in_rows(data).image, as_whole(data)):
        assert set(image.tobytes()) == {255}


def test_the_profile_is_kept() -> None:
    """iCCP comes along; a broken one does not."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert in_rows(saved(PICTURE, "PNG", icc_profile=profile)).icc_profile == profile
    rows = filtered(RGB[:20, :20].reshape(20, 60), 3, [0])
    assert in_rows(written(20, 20, 8, 2, rows, chunk(b"iCCP", b"x\0\0garbage"))).icc_profile is None


PNG = saved(PICTURE, "PNG")


def code_of(data: bytes, name: str = "PNG") -> str:
    with pytest.raises(ContentError) as caught:
        in_rows(data, name)
    return caught.value.code


def test_cut_anywhere_it_is_truncated() -> None:
    """From the header to the last byte but one: a PNG without its end is no good picture."""
    for kept in [*range(40, len(PNG), len(PNG) // 40), len(PNG) - 13, len(PNG) - 12, len(PNG) - 5]:
        assert code_of(PNG[:kept]) == "truncated"


def test_every_byte_of_the_pixels_is_held_to_its_checksum() -> None:
    """One byte changed anywhere in a critical chunk: corrupt or truncated, never another picture."""
    generator = np.random.default_rng(5)
    for at in [*range(16, 33), *generator.integers(41, len(PNG) - 16, 150)]:
        changed = bytearray(PNG)
        changed[at] ^= 1 << generator.integers(8)
        assert code_of(bytes(changed)) in ("corrupt", "truncated", "unsupported_feature")


def test_what_stands_behind_the_pixels() -> None:
    """Text behind the pixels is skipped, broken text forgiven, missing text not; further rows are ignored."""
    rows = filtered(RGB[:20, :20].reshape(20, 60), 3, [1])
    good = written(20, 20, 8, 2, rows)
    wanted = in_rows(good).image.tobytes()
    text = chunk(b"tEXt", b"Comment\0hello")
    for behind in (text, text[:-1] + b"\0", chunk(b"tEXt", bytes(2 * MIB))):
        assert in_rows(good[:-12] + behind + good[-12:]).image.tobytes() == wanted
    assert code_of(good[:-12] + chunk(b"tEXt", bytes(2 * MIB))[:-100]) == "truncated"
    assert in_rows(written(20, 20, 8, 2, rows + rows)).image.tobytes() == wanted
    assert code_of(written(20, 20, 8, 2, rows[:-1])) == "truncated"
    assert in_rows(good + b"trailing").image.tobytes() == wanted


def test_interlaced_files_are_not_read_in_rows() -> None:
    """Adam7 is decoded whole, and gives a picture."""
    head = bytearray(PNG)
    head[28] = 1
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    assert row_layout("PNG", bytes(head)) is None
    assert row_layout("JPEG", b"\xff\xd8\xff") is None


# --- BMP


def core_bmp(width: int, height: int, pixels: bytes) -> bytes:
    """With OS/2's header of 12 bytes."""
    head = struct.pack("<2sIHHIIHHHH", b"BM", 26 + len(pixels), 0, 0, 26, 12, width, height, 1, 24)
    return head + pixels


def plain_bmp(bits: int, height: int, rows: np.ndarray, palette: bytes = b"", colours: int = 0) -> bytes:
    width = 401
    start = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, colours, 0)
    return struct.pack("<2sIHHI", b"BM", start + rows.size, 0, 0, start) + info + palette + rows.tobytes()


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 16, 24, 32])
def test_bmp_of_every_depth(bits: int, top_down: bool) -> None:
    """Rows from the bottom or from the top, palettes, padding: to the bit what Pillow gives."""
    row_bytes = (401 * bits + 31) // 32 * 4
    generator = np.random.default_rng(bits)
    rows = generator.integers(0, 256, (333, row_bytes), dtype=np.uint8)
    colours = generator.integers(0, 256, (1 << bits, 4), dtype=np.uint8) if bits <= 8 else np.zeros((0, 4), np.uint8)
    data = plain_bmp(bits, -333 if top_down else 333, rows, colours.tobytes())

    assert in_rows(data, "BMP").image.tobytes() == as_whole(data, "BMP").tobytes()


def test_bmp_of_other_kinds() -> None:
    """OS/2's header is read in rows too (from 54 bytes on); run lengths and bit fields are left to Pillow."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32), dtype=np.uint8).tobytes()
    data = core_bmp(10, 10, pixels)
    assert in_rows(data, "BMP").image.tobytes() == as_whole(data, "BMP").tobytes()
    coded = bytearray(saved(PICTURE.convert("P"), "BMP"))
    coded[30] = 1
    assert row_layout("BMP", bytes(coded)) is None
    assert row_layout("BMP", b"BM" + bytes(20)) is None


def test_a_bmp_that_is_cut() -> None:
    """Without a byte of the last row it is truncated; the padding of that row may be missing."""
    data = saved(PICTURE.crop((0, 0, 41, 30)), "BMP")  # a row is 123 bytes and one of padding
    assert in_rows(data[:-1], "BMP").image.tobytes() == in_rows(data, "BMP").image.tobytes()
    assert code_of(data[: len(data) // 2], "BMP") == "truncated"


# --- memory, decisions, seconds


@settings(max_examples=200)
@given(st.integers(1, 200_000), st.integers(1, 200_000), st.sampled_from([0.125, 1, 3, 4, 6, 8]), st.integers(50, 2000))
def test_bands_of_any_shape_stay_small(width: int, height: int, pixel: float, edge: int) -> None:
    """Bands tile the picture; a band of more than one row is at most BAND_BYTES; the estimate has a ceiling."""
    row_bytes = max(1, int(width * pixel))
    layout = RowLayout("PNG", width, height, row_bytes, 4)
    out = (min(width, edge), min(height, edge))
    shrink = shrink_of(layout, out)

    assert shrink.band_rows == 1 or shrink.band_rows * row_bytes <= BAND_BYTES
    assert shrink.band_rows % shrink.down == 0
    assert rows_decode_bytes(layout, out) < 128 * MIB + 24 * row_bytes + 16 * out[0] * max(out)


@pytest.mark.parametrize("name", ["PNG", "BMP"])
def test_large_pictures_take_bands_and_little_memory(name: str) -> None:
    """20 megapixels in the child: chunked, with its reason, below 90 MiB, within its estimate, and right."""
    large = Image.fromarray(np.tile(scene(800, 500), (5, 10, 1)))
    data = saved(large, name, **({"compress_level": 1} if name == "PNG" else {}))
    result = thumbnails(data, sizes=(512, 64))

    assert result.decision.method == "chunked"
    assert "in bands" in result.decision.reason
    assert result.child_memory_peak_bytes <= min(90 * MIB, result.decision.estimated_memory_bytes)
    assert difference(result.thumbnails[0].jpeg, large) < 3


@pytest.mark.full
@pytest.mark.memory
@pytest.mark.timeout(7_200)
def test_a_gigabyte_of_pixels() -> None:
    """A PNG of 20,000 pixels a side, RGB, by rows of noise and gradients: 90 MiB, whatever the size."""
    side = 20_000
    row = scene(side // 10, 1)[0].repeat(10, axis=0).astype(np.uint8)
    squeeze = zlib.compressobj(1)
    pieces = []
    for y in range(side):
        pieces.append(squeeze.compress(b"\1" + ((row + y // 100) & 255).astype(np.uint8).tobytes()))
    pieces.append(squeeze.flush())
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"".join(pieces)) + chunk(b"IEND", b"")
    result = thumbnails(data, seconds=600)

    assert result.decision.method == "chunked"
    assert result.child_memory_peak_bytes <= min(90 * MIB, result.decision.estimated_memory_bytes)
    assert (result.facts.width, len(result.thumbnails)) == (side, 3)


@pytest.mark.parametrize("name", ["PNG", "BMP"])
def test_every_byte_is_read_once_in_few_requests(name: str) -> None:
    """Besides the head: chunks and palettes before the pixels cost no request of their own."""
    picture = PICTURE.resize((3000, 2400)).convert("P") if name == "BMP" else PICTURE.resize((3000, 2400))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(picture, name, **({"icc_profile": profile, "compress_level": 0} if name == "PNG" else {}))
    source = CountingSource(data)
    result = make_thumbnails(source, detected(data), ThumbnailOptions(large_file_threshold_bytes=0), lambda: 60.0)

    assert result.decision.method == "chunked"
    assert source.bytes_read <= len(data) + 65_536
    assert len(source.reads) <= len(data) // (2 * MIB) + 3


def test_more_seconds_than_are_left() -> None:
    """What would not be done in time is refused by its numbers, and so is a bomb that weighs nothing."""
    for side, stored_bytes, seconds, words in (
        (60_000, 500_000, 10, "10 s are left"),
        (200_000, 6_000_000, 60, "given"),
    ):
        data = written(side, side, 1, 0, b"")
        at = data.index(b"IDAT") - 4
        data = data[:at] + chunk(b"IDAT", bytes(stored_bytes)) + data[-12:]
        with pytest.raises(ContentError) as caught:
            thumbnails(data, seconds=seconds)
        assert caught.value.code == "too_long_to_decode"
        assert words in caught.value.message
