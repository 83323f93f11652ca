"""Bad pictures of every format, all the way: a verdict with a code, in bounded memory and time, never a wrong picture.

What validate says by numbers and what the child says over pixels are asked as the functions ask them. A sample of
every row runs always; at full size every row does.
"""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.decoding import complaint
from heavylift.image.facts import inspect_sound
from heavylift.image.thumbnails import Thumbnail, ThumbnailOptions, make_thumbnails
from heavylift.ranges import ReadAhead, drive
from heavylift.sniff import Detection, detection
from tests.heavylift.image.cameras import exif, heic
from tests.heavylift.image.pictures import CountingSource, saved, scene, tiff
from tests.heavylift.image.test_headers import psd
from tests.heavylift.image.test_rows import chunk, written

MIB = 1 << 20
CODES = {
    "truncated",
    "corrupt",
    "unsupported_feature",
    "limit_exceeded",
    "too_large_to_decode",
    "too_long_to_decode",
    "not_recognised",
}
BUDGET = ThumbnailOptions().budget_bytes
# Of these memory does not grow with the picture, whatever a header claims.
STREAMED = {"TIFF", "PNG", "BMP"}
SECONDS_MAX = 20.0
RGB = scene(320, 240)
PICTURE = Image.fromarray(RGB)
EXIF = exif(6).tobytes()


def interlaced(image: Image.Image) -> bytes:
    """An Adam7 PNG: seven passes, no filters."""
    pixels = np.asarray(image.convert("RGB"))
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(
        b"\0" + row.tobytes() for x, y, across, down in passes for row in pixels[y::down, x::across] if row.size
    )
    head = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


MORE = [PICTURE.rotate(180), PICTURE.rotate(90)]
SAMPLES: dict[str, tuple[str, bytes]] = {
    "JPEG": ("JPEG", saved(PICTURE, "JPEG", exif=EXIF)),
    "progressive JPEG": ("JPEG", saved(PICTURE, "JPEG", progressive=True)),
    "PNG": ("PNG", saved(PICTURE, "PNG")),
    "PNG in bands": ("PNG", saved(Image.fromarray(scene(3000, 1200)), "PNG", compress_level=1)),
    "interlaced PNG": ("PNG", interlaced(PICTURE)),
    "WebP": ("WebP", saved(PICTURE, "WEBP", exif=EXIF)),
    "lossless WebP": ("WebP", saved(PICTURE.resize((100, 80)), "WEBP", lossless=True)),
    "animated WebP": ("WebP", saved(PICTURE, "WEBP", save_all=True, append_images=MORE)),
    "GIF": ("GIF", saved(PICTURE, "GIF")),
    "animated GIF": ("GIF", saved(PICTURE, "GIF", save_all=True, append_images=MORE)),
    "BMP": ("BMP", saved(PICTURE, "BMP")),
    "JP2": ("JP2", saved(PICTURE, "JPEG2000")),
    "codestream": ("J2K", saved(PICTURE, "JPEG2000", no_jp2=True)),
    "AVIF": ("AVIF", saved(PICTURE, "AVIF", exif=EXIF)),
    "HEIC": ("HEIC", heic(PICTURE, exif=EXIF)),
    "JPEG XL": ("JXL", imagecodecs.jpegxl_encode(RGB, distance=1.0, effort=3, numthreads=1)),
    "PSD": ("PSD", psd(320, 240)[: -320 * 240 * 3] + RGB.transpose(2, 0, 1).tobytes()),
    "TIFF of pages": ("TIFF", saved(PICTURE, "TIFF", save_all=True, append_images=MORE)),
    "TIFF in tiles": ("TIFF", tiff(RGB, photometric="rgb", tile=(64, 64), compression="zlib", predictor=True)),
    "JPEG in tiles": ("TIFF", tiff(scene(700, 500), photometric="rgb", tile=(128, 128), compression="jpeg")),
    "LERC in tiles": ("TIFF", tiff(RGB, photometric="rgb", tile=(64, 64), compression="lerc")),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``code``: why there is no picture, or what is wrong with the file beside it; None: all is well."""

    code: str | None
    pictures: tuple[Thumbnail, ...]
    peak_bytes: int
    seconds: float


def judged(format_name: str, data: bytes, **options: object) -> Verdict:
    """What validate and thumbnail say, in their order; anything but a verdict is raised."""
    source = CountingSource(data)
    started = time.monotonic()
    try:
        drive(inspect_sound(detection(format_name), len(data)), ReadAhead(source.read, len(data)))
        chosen = ThumbnailOptions(sizes=(256,), **options)  # type: ignore[arg-type]
        result = make_thumbnails(source, detection(format_name), chosen, lambda: SECONDS_MAX + 5)
    except ContentError as error:
        peak = error.facts.get("child_memory_peak_bytes", 0)
        assert isinstance(peak, int)
        return Verdict(error.code, (), peak, time.monotonic() - started)
    code = result.failure.code if result.failure else None
    return Verdict(code, result.thumbnails, result.child_memory_peak_bytes, time.monotonic() - started)


def check(format_name: str, data: bytes, **options: object) -> Verdict:
    verdict = judged(format_name, data, **options)
    assert verdict.code in CODES | {None}
    assert verdict.seconds <= SECONDS_MAX
    assert verdict.peak_bytes <= (128 * MIB if format_name in STREAMED else BUDGET)
    for picture in verdict.pictures:
        with Image.open(io.BytesIO(picture.jpeg)) as opened:
            opened.load()
            assert opened.size == (picture.width, picture.height)
    return verdict


def options_of(name: str) -> dict[str, object]:
    """Bands wherever the format has them and the row is about them."""
    if "in bands" in name or "in tiles" in name:
        return {"tiff_threshold_bytes": 0, "large_file_threshold_bytes": 0}
    return {}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_whole_file_is_good(name: str) -> None:
    """Every row begins with a file that makes a picture."""
    format_name, data = SAMPLES[name]
    verdict = check(format_name, data, **options_of(name))

    assert verdict.code is None
    assert len(verdict.pictures) == 1


def cut(name: str, percent: int) -> None:
    format_name, data = SAMPLES[name]
    verdict = check(format_name, data[: len(data) * percent // 100], **options_of(name))
    assert verdict.code is not None, f"{name} cut at {percent} % is passed as good"


def changed(name: str, at: int, by: int) -> None:
    format_name, data = SAMPLES[name]
    broken = bytearray(data)
    broken[at] ^= by
    verdict = check(format_name, bytes(broken), **options_of(name))
    if name.endswith("PNG") and verdict.code is None:
        # Every byte that a picture depends on has its checksum.
        assert verdict.pictures[0].jpeg == judged(format_name, data).pictures[0].jpeg, f"byte {at}"


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_files(name: str) -> None:
    """Cut somewhere, and shortly before the end: never completed without a failure."""
    for percent in (random.Random(name).randrange(5, 95, 5), 95):
        cut(name, percent)


@pytest.mark.parametrize("name", SAMPLES)
def test_changed_bytes(name: str) -> None:
    """A few of the first 512 bytes changed."""
    chance = random.Random(name)
    for at in chance.sample(range(min(512, len(SAMPLES[name][1]))), 2):
        changed(name, at, chance.randrange(1, 256))


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", SAMPLES)
def test_every_cut(name: str) -> None:
    """At every 5 %, and short of the last bytes."""
    for percent in range(5, 100, 5):
        cut(name, percent)


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", SAMPLES)
def test_every_byte(name: str) -> None:
    """Each of the first 512 bytes changed."""
    chance = random.Random(f"every byte of {name}")
    for at in range(min(512, len(SAMPLES[name][1]))):
        changed(name, at, chance.randrange(1, 256))


# --- bombs


def patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    at = data.index(mark) + offset
    return data[:at] + value + data[at + len(value) :]


def side(value: int, size: int = 4, order: str = "big") -> bytes:
    return value.to_bytes(size, order) * 2  # type: ignore[arg-type]


def big_webp() -> bytes:
    """A lossless WebP of one colour whose header says 16,383 pixels a side."""
    data = bytearray(saved(Image.new("RGB", (64, 64)), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", struct.unpack_from("<I", data, 21)[0] & ~0xFFFFFFF | 16_382 << 14 | 16_382)
    return bytes(data)


def lying_heic() -> bytes:
    """A HEIC of 2,048 pixels a side whose box says 64."""
    data = heic(Image.new("RGB", (2048, 2048), "red"))
    return patched(data, b"ispe", 8, side(64))


BOMBS: dict[str, tuple[str, bytes, set[str]]] = {
    "PNG of 300,000 a side in 100 bytes": (
        "PNG",
        written(300_000, 300_000, 8, 2, bytes(50)),
        {"truncated", "limit_exceeded"},
    ),
    "PNG of 300,000 a side that deflate could hold": (
        "PNG",
        written(300_000, 300_000, 1, 0, b"")[:33] + chunk(b"IDAT", bytes(11 * MIB)) + chunk(b"IEND", b""),
        {"limit_exceeded"},
    ),
    "interlaced PNG of 30,000 a side": (
        "PNG",
        written(30_000, 30_000, 1, 0, b"")[:8]
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 1))
        + chunk(b"IDAT", bytes(200_000))
        + chunk(b"IEND", b""),
        {"too_large_to_decode"},
    ),
    "JPEG of 65,500 a side in 10 KB": (
        "JPEG",
        patched(SAMPLES["JPEG"][1], b"\xff\xc0", 5, side(65_500, 2)),
        {"truncated"},
    ),
    "progressive JPEG of 30,000 a side": (
        "JPEG",
        patched(SAMPLES["progressive JPEG"][1], b"\xff\xc2", 5, side(30_000, 2)) + bytes(3 * MIB),
        {"too_large_to_decode"},
    ),
    "JPEG of 65,500 a side with zeros behind": (
        "JPEG",
        patched(SAMPLES["JPEG"][1], b"\xff\xc0", 5, side(65_500, 2)) + bytes(26 * MIB),
        {"truncated", "corrupt", "too_long_to_decode", "too_large_to_decode"},
    ),
    "GIF of 65,535 a side": ("GIF", patched(SAMPLES["GIF"][1], b"GIF8", 6, b"\xff" * 4), {"too_large_to_decode"}),
    "WebP of 16,383 a side": ("WebP", big_webp(), {"too_large_to_decode"}),
    "BMP of 60,000 a side": (
        "BMP",
        patched(SAMPLES["BMP"][1], b"BM", 18, side(60_000, 4, "little")),
        {"truncated"},
    ),
    "AVIF of 60,000 a side": ("AVIF", patched(SAMPLES["AVIF"][1], b"ispe", 8, side(60_000)), {"too_large_to_decode"}),
    "HEIC of 60,000 a side": ("HEIC", patched(SAMPLES["HEIC"][1], b"ispe", 8, side(60_000)), {"too_large_to_decode"}),
    "JP2 of 2,000,000,000 a side": (
        "JP2",
        patched(SAMPLES["JP2"][1], b"\xff\x51", 6, side(2_000_000_000)),
        {"limit_exceeded"},
    ),
    "JP2 of 100,000 a side": (
        "JP2",
        patched(SAMPLES["JP2"][1], b"\xff\x51", 6, side(100_000)),
        {"too_large_to_decode", "too_long_to_decode", "corrupt"},
    ),
    "PSD of 300,000 a side": (
        "PSD",
        patched(SAMPLES["PSD"][1], b"8BPS", 14, side(300_000)),
        {"limit_exceeded", "truncated"},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    """What claims far more than it is, is refused by its numbers, in a second and without memory."""
    format_name, data, codes = BOMBS[name]
    verdict = check(format_name, data)

    assert verdict.code in codes
    assert verdict.pictures == ()


def test_a_heic_that_is_larger_than_it_says() -> None:
    """The decoder's own limit holds where the box lies; a verdict, or a picture of what is there."""
    verdict = check("HEIC", lying_heic(), budget_bytes=160 * MIB)

    assert verdict.code in CODES | {None}
    assert verdict.peak_bytes <= 160 * MIB


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("Security limit exceeded: 40000x40000 pixels"), "limit_exceeded"),
        (RuntimeError("Unsupported codec"), "unsupported_feature"),
        (EOFError("no more"), "truncated"),
        (OSError("image file is truncated (3 bytes not processed)"), "truncated"),
        (NotImplementedError("12 bits"), "unsupported_feature"),
        (Image.DecompressionBombError("so many pixels"), "too_large_to_decode"),
        (ZeroDivisionError(), "corrupt"),
    ],
)
def test_what_decoders_say_becomes_a_code(error: Exception, code: str) -> None:
    """Every decoder's complaint in our words."""
    assert complaint("HEIC", error).code == code


def test_noise_under_every_name() -> None:
    """Random bytes, taken for each format: a verdict without a picture."""
    noise = random.Random(1).randbytes(3000)
    for format_name in sorted({each for each, _ in SAMPLES.values()}):
        verdict = check(format_name, noise)
        assert verdict.code is not None, format_name
        assert verdict.pictures == ()


def test_types_by_content() -> None:
    """Each sample is told by its bytes alone."""
    from heavylift.sniff import detect

    for name, (format_name, data) in SAMPLES.items():
        found: Detection = drive(detect(len(data)), CountingSource(data).read)
        assert (found.kind, found.format) == ("image", format_name), name
