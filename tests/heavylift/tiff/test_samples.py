"""Samples of every kind: the reducer against LANCZOS of the numbers that were written, and against Pillow's reading."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.finish import to_eight_bits
from tests.heavylift.image.pictures import scene
from tests.heavylift.tiff.test_reducer import reduced
from tests.heavylift.tiff.written import COMPRESSIONS, Array, Layout, chunks_of, write

WIDTH, HEIGHT, EDGE = 331, 233, 70
RGB = scene(WIDTH, HEIGHT)
ALPHA = np.linspace(0, 1, WIDTH)[None, :].repeat(HEIGHT, 0)
UNIT = RGB / 255.0
GREY = UNIT[:, :, 1:2]
INKS = np.dstack([1 - UNIT, np.full((HEIGHT, WIDTH), 0.1)])
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB_COLOURS, PALETTE, SEPARATED, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 8, 9
TOLERANCE = 1.2  # of 255; promised are 3


def numbers(unit: Array, bits: int, sample_format: int = 1) -> Array:
    """0 to 1 as samples."""
    if sample_format == 3:
        return unit.astype(f"f{bits // 8}")
    if sample_format == 2:
        most = 2.0 ** (bits - 1) - (1024 if bits == 64 else 1)
        return ((unit - 0.5) * (2.0**bits - 1)).round().clip(-most, most).astype("i8")
    top = 2**bits - 1 if bits < 64 else 2.0**64 - 4096
    return (unit * top).round().astype("u8" if bits > 32 else "u4")


def shown(made: Image.Image) -> Array:
    return np.dstack([np.asarray(band, float) for band in to_eight_bits(made).split()])


def lanczos(eight: Array, size: tuple[int, int]) -> Array:
    """Each channel by Pillow's LANCZOS of the whole."""
    parts = [
        np.asarray(Image.fromarray(eight[:, :, n].astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
        for n in range(eight.shape[2])
    ]
    return np.clip(np.dstack(parts), 0, 255)


def by_range(unit: Array, size: tuple[int, int]) -> Array:
    """The documented scaling: linear between the 0.5th and the 99.5th percentile of the small picture."""
    small = np.dstack(
        [
            np.asarray(Image.fromarray(unit[:, :, n].astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
            for n in range(unit.shape[2])
        ]
    )
    low, high = np.quantile(small, (0.005, 0.995))
    return np.clip((small - low) / (high - low), 0, 1) * 255


def assert_near(made: Image.Image, wanted: Array, tolerance: float = TOLERANCE) -> None:
    actual = shown(made)
    assert actual.shape == wanted.shape
    assert float(np.abs(actual - wanted).mean()) < tolerance


CHUNKINGS: list[dict[str, object]] = [{"rows": 16}, {"rows": HEIGHT}, {"tile": (64, 48)}]
chunked = pytest.mark.parametrize("chunking", CHUNKINGS, ids=str)


@chunked
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 15, 16])
def test_unsigned_samples(bits: int, planar: int, chunking: dict[str, object]) -> None:
    """1 to 16 bits, grey both ways, colour and CMYK, together and in planes: the highest 8 bits are shown."""
    order = "<" if bits % 4 else ">"
    tolerance = TOLERANCE if bits > 2 else 2.0
    cases: list[tuple[int, Array]] = [(RGB_COLOURS, UNIT), (SEPARATED, INKS)]
    if planar == 1:
        cases += [(WHITE_IS_ZERO, 1 - GREY), (BLACK_IS_ZERO, GREY)]
    for photometric, unit in cases:
        values = numbers(unit, bits)
        eight = values >> (bits - 8) if bits > 8 else values * 255 // (2**bits - 1)
        layout = Layout(photometric=photometric, bits=bits, planar=planar, order=order, **chunking)  # type: ignore[arg-type]
        made = reduced(write(values, layout), EDGE)
        wanted = lanczos(eight, made.size)
        assert made.mode == {RGB_COLOURS: "RGB", SEPARATED: "CMYK"}.get(photometric, "L")
        assert_near(made, 255 - wanted if photometric == WHITE_IS_ZERO else wanted, tolerance)


@chunked
@pytest.mark.parametrize(
    ("sample_format", "bits"), [(1, 32), (1, 64), (2, 8), (2, 16), (2, 32), (2, 64), (3, 16), (3, 32), (3, 64)]
)
def test_samples_without_a_black_and_a_white(sample_format: int, bits: int, chunking: dict[str, object]) -> None:
    """Signed, wide and float samples are shown by their range, all colours by the same; so is zero as white."""
    for photometric, unit, order, planar in (
        (BLACK_IS_ZERO, GREY, "<", 1),
        (WHITE_IS_ZERO, GREY, ">", 1),
        (RGB_COLOURS, UNIT, ">", 1),
        (RGB_COLOURS, UNIT, "<", 2),
    ):
        values = numbers(unit, bits, sample_format)
        layout = Layout(
            photometric=photometric,
            bits=bits,
            sample_format=sample_format,
            order=order,
            planar=planar,
            **chunking,  # type: ignore[arg-type]
        )
        made = reduced(write(values, layout), EDGE)
        if photometric == WHITE_IS_ZERO and made.mode == "F":
            raise AssertionError("not turned round")
        wanted = by_range(values.astype(float), made.size)
        assert_near(made, 255 - wanted if photometric == WHITE_IS_ZERO else wanted)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", "<>")
def test_every_coding_of_bytes(compression: str, order: str) -> None:
    """Every coding with its predictors, for samples that Pillow reads and for such that it does not."""
    predictable = compression not in ("none", "packbits")
    chunkings = CHUNKINGS[1:] if compression == "deflate" else CHUNKINGS[2:]
    for bits, sample_format, predictor, chunking in itertools.product((8, 16, 32), (1, 3), (1, 2, 3), chunkings):
        if (sample_format == 3 and bits == 8) or (predictor == 3 and sample_format != 3):
            continue
        if predictor > 1 and not predictable:
            continue
        for photometric, unit in ((BLACK_IS_ZERO, GREY), (RGB_COLOURS, UNIT)):
            values = numbers(unit, bits, sample_format)
            layout = Layout(
                photometric=photometric,
                bits=bits,
                sample_format=sample_format,
                predictor=predictor,
                compression=compression,
                order=order,
                big=order == "<",
                **chunking,  # type: ignore[arg-type]
            )
            made = reduced(write(values, layout), EDGE)
            wide = sample_format == 3 or bits == 32
            wanted = by_range(values.astype(float), made.size) if wide else lanczos(values >> (bits - 8), made.size)
            assert_near(made, wanted)


@chunked
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_fill_order(compression: str, chunking: dict[str, object]) -> None:
    """Bytes whose lowest bit comes first, coded or not."""
    for bits, photometric, unit in ((1, 1, GREY), (8, 1, GREY), (8, 2, UNIT), (16, 2, UNIT), (12, 1, GREY)):
        values = numbers(unit, bits)
        eight = values >> (bits - 8) if bits > 8 else values * 255 // (2**bits - 1)
        layout = Layout(photometric=photometric, bits=bits, compression=compression, fill_order=2, **chunking)  # type: ignore[arg-type]
        made = reduced(write(values, layout), EDGE)
        assert_near(made, lanczos(eight, made.size), 2.6 if bits == 1 else TOLERANCE)


@chunked
@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize(("bits", "sample_format"), [(8, 1), (12, 1), (16, 1), (32, 1), (32, 3)])
@pytest.mark.parametrize("planar", [1, 2])
def test_alpha(kind: int, bits: int, sample_format: int, planar: int, chunking: dict[str, object]) -> None:
    """Alpha over white, multiplied into the colours before (1) or not (2), of grey and colour, also wide ones."""
    for photometric, unit in ((RGB_COLOURS, UNIT), (BLACK_IS_ZERO, GREY)):
        stored = unit * ALPHA[:, :, None] if kind == 1 else unit
        values = numbers(np.dstack([stored, ALPHA]), bits, sample_format)
        limits = ((340, 11, (0.0,)), (341, 11, (1.0 if sample_format == 3 else 2.0**32,)))
        layout = Layout(
            photometric=photometric,
            bits=bits,
            sample_format=sample_format,
            planar=planar,
            extra=((338, 3, (kind,)), *(limits if bits == 32 else ())),
            **chunking,  # type: ignore[arg-type]
        )
        top = 1.0 if sample_format == 3 else 2.0**32
        made = reduced(write(values, layout), EDGE, limits=(0.0, top) if bits == 32 else None)
        over = (unit * ALPHA[:, :, None] + 1 - ALPHA[:, :, None]) * 255
        assert_near(made, lanczos(over, made.size), 2.0)


def test_extra_samples_are_left_out() -> None:
    """Samples that nobody says anything of, many of them, do not change the colours."""
    for photometric, unit, more in ((2, UNIT, 1), (2, UNIT, 4), (5, INKS, 1), (1, GREY, 3), (2, UNIT, 9)):
        for bits in (8, 16):
            values = numbers(np.dstack([unit, *[ALPHA] * more]), bits)
            layout = Layout(photometric=photometric, bits=bits, compression="deflate", extra=((338, 3, (0,) * more),))
            made = reduced(write(values, layout), EDGE)
            assert_near(made, lanczos(values[:, :, : unit.shape[2]] >> (bits - 8), made.size))


@chunked
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palettes(bits: int, chunking: dict[str, object]) -> None:
    """Colour maps of 2 to 65,536 entries; colours are averaged, not indices."""
    count = min(1 << bits, 4_000)
    table = np.sort(np.random.default_rng(bits).integers(0, 65_536, (3, 1 << bits)).astype("u2"), axis=1)
    indices = (GREY * (count - 1)).astype("u4")
    layout = Layout(photometric=PALETTE, bits=bits, extra=((320, 3, tuple(table.ravel().tolist())),), **chunking)  # type: ignore[arg-type]
    made = reduced(write(indices, layout), EDGE)
    assert_near(made, lanczos((table >> 8).T[indices[:, :, 0]], made.size), 2.6)


@chunked
@pytest.mark.parametrize("planar", [1, 2])
def test_lab(planar: int, chunking: dict[str, object]) -> None:
    """Lab in 8 and 16 bits, a and b signed (CIE) or shifted (ICC), averaged without wrapping round."""
    light, a, b = GREY[:, :, 0] * 100, (UNIT[:, :, 0] - 0.5) * 200, (UNIT[:, :, 2] - 0.5) * 200
    wanted = np.dstack([light * 2.55, a + 128, b + 128])
    for bits, photometric in ((8, CIELAB), (16, CIELAB), (8, ICCLAB)):
        unit = 2 ** (bits - 8)
        if photometric == CIELAB:
            values = np.dstack([light * 2.55 * unit, a * unit, b * unit]).round().astype("i4") & (2**bits - 1)
        else:
            values = np.dstack([light * 2.55, a + 128, b + 128]).round().astype("i4")
        layout = Layout(photometric=photometric, bits=bits, planar=planar, compression="deflate", **chunking)  # type: ignore[arg-type]
        made = reduced(write(values, layout), EDGE)
        assert made.mode == "LAB"
        assert_near(made, lanczos(wanted, made.size))


@pytest.mark.parametrize("chunking", [{"rows": 64}, {"tile": (112, 64)}], ids=str)
@pytest.mark.parametrize(("code", "format_name"), [(50001, "WEBP"), (34712, "JPEG2000"), (33005, "JPEG2000")])
def test_chunks_that_are_pictures(code: int, format_name: str, chunking: dict[str, object]) -> None:
    """WebP and JPEG 2000 in strips and tiles, which Pillow decodes by itself."""
    layout = Layout(photometric=RGB_COLOURS, **chunking)  # type: ignore[arg-type]
    across = 112 if layout.tile else WIDTH
    made = []
    for raw in chunks_of(RGB, layout):
        out = io.BytesIO()
        options = {"lossless": True} if format_name == "WEBP" else {"no_jp2": True}
        Image.fromarray(np.frombuffer(raw, np.uint8).reshape(-1, across, 3)).save(out, format_name, **options)
        made.append(out.getvalue())
    assert_near(reduced(write(RGB, layout, made, code), EDGE), lanczos(RGB, (EDGE, 49)))
    with pytest.raises(ContentError) as caught:
        reduced(write(RGB, layout, [made[0][:80], *made[1:]], code), EDGE)
    assert caught.value.code in ("corrupt", "truncated")


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize(("bits", "sample_format"), [(32, 3), (64, 3), (16, 3), (32, 1), (32, 2)])
def test_wide_lab(bits: int, sample_format: int, compression: str, planar: int) -> None:
    """Lab of more than 16 bits: floats are L from 0 to 100, a and b as they are; integers by their highest bits."""
    eight = RGB.astype(float)
    lab = np.dstack([eight[:, :, 0] / 2.55, eight[:, :, 1] - 128, eight[:, :, 2] - 128])
    if sample_format == 3:
        values = lab.astype({16: np.float16, 32: np.float32, 64: np.float64}[bits])
    else:
        whole = eight.astype(int) - [0, 128, 128] & 255
        values = (whole.astype(np.uint32) << 24).view(np.int32 if sample_format == 2 else np.uint32)
    layout = Layout(
        photometric=8, bits=bits, sample_format=sample_format, compression=compression, planar=planar, tile=(112, 64)
    )
    made = reduced(write(values, layout), EDGE)

    assert made.mode == "LAB"
    kept = np.asarray(made).astype(int)
    kept[:, :, 1:] = (kept[:, :, 1:] + 128) % 256
    assert float(np.abs(kept - lanczos(RGB, made.size)).mean()) < TOLERANCE


@pytest.mark.parametrize(
    ("layout", "samples"),
    [
        (Layout(photometric=1, bits=24, sample_format=1), 1),
        (Layout(photometric=1, bits=16, sample_format=5), 1),
        (Layout(photometric=1, bits=12, predictor=2, compression="deflate"), 1),
        (Layout(photometric=9, bits=32, sample_format=3), 3),
        (Layout(photometric=6, bits=16), 3),
        (Layout(photometric=3, bits=32), 1),
        (Layout(photometric=2, bits=8), 2),
    ],
    ids=str,
)
def test_what_is_refused(layout: Layout, samples: int) -> None:
    """Samples of a meaning that nobody here knows are refused by name before a pixel is read."""
    body = [bytes(WIDTH * 16 * samples * 8)] * (-(-HEIGHT // 16))
    with pytest.raises(ContentError) as caught:
        reduced(write(np.zeros((HEIGHT, WIDTH, samples), np.uint8), layout, body), EDGE)
    assert caught.value.code == "unsupported_feature"


def test_not_a_number_is_zero() -> None:
    """Infinite samples and such that are no numbers do not spread over their rows."""
    values = numbers(UNIT, 32, 3)
    values[100, 100] = np.nan
    values[50, 20, 1] = np.inf
    clean = np.where(np.isfinite(values), values, 0)
    layout = Layout(photometric=RGB_COLOURS, bits=32, sample_format=3)
    made = reduced(write(values, layout), EDGE)
    assert_near(made, by_range(clean, made.size))
