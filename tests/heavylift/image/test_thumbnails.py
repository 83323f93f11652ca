"""Thumbnails through the child: pixels, facts, decisions, limits, failures."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from heavylift.errors import ContentError, TransientError
from heavylift.image.child import child_environment
from heavylift.image.thumbnails import ThumbnailOptions, make_thumbnails
from heavylift.sniff import detection
from tests.heavylift.image.cameras import exif, heic, heic_of_ten_bits
from tests.heavylift.image.pictures import (
    PROMISED_DIFFERENCE,
    CountingSource,
    detected,
    difference,
    saved,
    scene,
    thumbnails,
    tiff,
)

MIB = 1 << 20
RGB = scene(1700, 1300)
PICTURE = Image.fromarray(RGB)
SMALL = Image.fromarray(scene(300, 200))


def assert_good(data: bytes, reference: Image.Image, **options: object) -> None:
    """All sizes of a file are within the promised difference from Pillow's LANCZOS of the whole."""
    result = thumbnails(data, **options)
    assert [thumbnail.size for thumbnail in result.thumbnails] == [256, 512, 1200]
    for thumbnail in result.thumbnails:
        wanted = reference.copy()
        wanted.thumbnail((thumbnail.size, thumbnail.size))
        made = Image.open(io.BytesIO(thumbnail.jpeg))
        assert made.size == (thumbnail.width, thumbnail.height) == wanted.size
        assert made.info["progressive"]
        assert difference(thumbnail.jpeg, reference) < PROMISED_DIFFERENCE


@pytest.mark.parametrize("method", ["standard", "chunked"])
@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb"},
        {"photometric": "rgb", "compression": "zlib", "predictor": True, "tile": (256, 256)},
        {"photometric": "rgb", "bigtiff": True, "byteorder": ">", "rowsperstrip": 11},
    ],
    ids=["raw", "tiles", "bigtiff"],
)
def test_tiff(method: str, options: dict[str, object]) -> None:
    """TIFFs, whole and in bands."""
    data = tiff(RGB, **options)
    threshold = 0 if method == "chunked" else 100 * MIB
    assert_good(data, PICTURE, tiff_threshold_bytes=threshold)


@pytest.mark.parametrize("turn", [1, 4, 6])
def test_heic(turn: int) -> None:
    """By libheif: the picture upright, whatever both irot and Exif say; its facts are those of the upright one."""
    picture = PICTURE.resize((640, 480))
    data = heic(picture, exif=exif(turn).tobytes(), quality=90)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(picture, "JPEG", exif=exif(turn), quality=95))))
    result = thumbnails(data)
    for made in result.thumbnails:
        assert difference(made.jpeg, upright) < PROMISED_DIFFERENCE
    assert (result.facts.width, result.facts.height, result.facts.orientation) == (*upright.size, 1)
    assert (result.facts.make, result.facts.compression) == ("Heavy Optics", "hevc")
    assert result.child_memory_peak_bytes <= result.decision.estimated_memory_bytes


def test_heic_with_alpha_and_of_ten_bits() -> None:
    """Transparent is white; ten bits are shown as eight."""
    see_through = SMALL.convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(SMALL.size))
    white = Image.new("RGB", SMALL.size, "white")
    white.paste(see_through, mask=see_through.getchannel("A"))
    for data, reference in ((heic(see_through, quality=95), white), (heic_of_ten_bits(SMALL), SMALL)):
        result = thumbnails(data, sizes=(300,))
        assert difference(result.thumbnails[0].jpeg, reference) < PROMISED_DIFFERENCE


def test_the_first_of_several_pictures() -> None:
    """Animated and multi-page files are shown by their first picture, and their pages counted where that is cheap."""
    more = [SMALL.rotate(180), SMALL.rotate(90, expand=False)]
    counted = {}
    for name in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):
        data = saved(SMALL, name, save_all=True, append_images=more)
        first = Image.open(io.BytesIO(data)).convert("RGB")
        result = thumbnails(data, sizes=(256,))
        assert difference(result.thumbnails[0].jpeg, first) < PROMISED_DIFFERENCE, name
        counted[name] = result.facts.pages
    assert counted == {"GIF": 3, "PNG": 3, "WEBP": 3, "AVIF": 3, "TIFF": 3}


def test_what_is_missing_behind_the_first_picture() -> None:
    """A GIF or a TIFF that is cut behind its first picture: that is shown, and the file is truncated."""
    more = [SMALL.rotate(180)]
    gif, tif = (saved(SMALL, name, save_all=True, append_images=more) for name in ("GIF", "TIFF"))
    assert [thumbnails(data).failure for data in (gif, tif)] == [None] * 2
    # Pillow writes each directory in front of its picture's data.
    for data in (gif[: len(gif) * 3 // 4], tif[: len(tif) // 2 + 100]):
        result = thumbnails(data)
        assert len(result.thumbnails) == 3
        assert result.failure is not None
        assert result.failure.code == "truncated"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "JPEG2000", "AVIF", "GIF"])
def test_formats_of_pillow(format_name: str) -> None:
    """The other formats, against what Pillow itself reads from them."""
    data = saved(PICTURE, format_name)
    assert_good(data, Image.open(io.BytesIO(data)).convert("RGB"))


def test_jpeg_and_jpeg_2000_are_made_smaller_while_decoded() -> None:
    """Large pictures of both are decoded at a fraction of their size, and still look as they should."""
    large = Image.fromarray(np.tile(scene(1400, 1000), (4, 4, 1)))
    for format_name, options in (("JPEG", {}), ("JPEG2000", {"quality_mode": "rates", "quality_layers": [8]})):
        data = saved(large, format_name, **options)
        result = thumbnails(data, sizes=(512,))
        assert result.child_memory_peak_bytes < 70 * MIB < 4 * large.width * large.height
        assert difference(result.thumbnails[0].jpeg, large) < PROMISED_DIFFERENCE
        assert result.facts.levels == (1 if format_name == "JPEG" else 6)


def psd(pixels: np.ndarray) -> bytes:
    """A PSD of the simplest kind: header, no layers, raw composite, planes one after the other."""
    height, width, channels = pixels.shape
    head = b"8BPS\0\x01" + bytes(6) + channels.to_bytes(2, "big") + height.to_bytes(4, "big")
    head += width.to_bytes(4, "big") + (8).to_bytes(2, "big") + (3).to_bytes(2, "big") + bytes(12) + bytes(2)
    return head + np.moveaxis(pixels, -1, 0).tobytes()


def test_psd() -> None:
    """The flattened picture of a PSD."""
    assert_good(psd(RGB), PICTURE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_modes_come_out_in_srgb_or_grey(mode: str) -> None:
    """Every mode gives a JPEG that a browser shows: RGB or grey."""
    image = PICTURE.convert("L").convert("I;16") if mode == "I;16" else PICTURE.convert(mode)
    format_name = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    result = thumbnails(saved(image, format_name))

    assert {Image.open(io.BytesIO(made.jpeg)).mode for made in result.thumbnails} <= {"L", "RGB"}


def test_sixteen_bits_by_the_high_byte() -> None:
    """16-bit grey is shown by its high byte, in PNG as in TIFF."""
    grey = RGB[:, :, 1]
    wide = grey.astype(np.uint16) * 256 + 200
    for data in (saved(Image.fromarray(wide), "PNG"), tiff(wide, photometric="minisblack")):
        assert_good(data, Image.fromarray(grey))


def test_transparency_is_white() -> None:
    """What is transparent is white."""
    image = PICTURE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))

    assert_good(saved(image, "PNG"), white)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "standard", "chunked"])
def test_orientation_is_applied_once(orientation: int, kind: str) -> None:
    """Each of the eight orientations comes out upright, whoever decodes."""
    exif = Image.Exif()
    exif[274] = orientation
    small = PICTURE.resize((850, 650))
    if kind in ("JPEG", "PNG"):
        data = saved(small, kind, exif=exif)
        threshold = 0
    else:
        data = tiff(np.asarray(small), photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
        threshold = 0 if kind == "chunked" else 100 * MIB
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(small, "JPEG", exif=exif, quality=95))))
    result = thumbnails(data, tiff_threshold_bytes=threshold)

    assert result.facts.orientation == orientation
    for made in result.thumbnails:
        assert (made.width > made.height) == (upright.width > upright.height)
        assert difference(made.jpeg, upright) < PROMISED_DIFFERENCE


def test_profiles_are_applied() -> None:
    """Colours of another profile are brought to sRGB, as littleCMS does for the whole picture."""
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    xyz = ImageCms.createProfile("LAB")
    profile = swapped.tobytes()
    assert_good(saved(PICTURE, "PNG", icc_profile=profile), PICTURE)
    lab = ImageCms.profileToProfile(PICTURE, ImageCms.createProfile("sRGB"), xyz, outputMode="LAB")
    assert lab is not None
    for threshold in (0, 100 * MIB):
        assert_good(saved(lab, "TIFF"), PICTURE, tiff_threshold_bytes=threshold)
    assert_good(saved(PICTURE, "PNG", icc_profile=b"no profile at all"), PICTURE)


@pytest.mark.parametrize("dtype", ["f4", "u4", "i2"])
def test_wide_samples_are_shown_by_their_percentiles(dtype: str) -> None:
    """Float and wide integers are linear between their 0.5th and 99.5th percentile, whole or in bands."""
    generator = np.random.default_rng(3)
    plain = np.add.outer(np.linspace(0, 100, 600), np.linspace(0, 155, 800))
    values = (plain * 50 - 3000 if dtype == "i2" else plain * 1000).astype(dtype)
    values[generator.integers(0, 600, 20), generator.integers(0, 800, 20)] = np.iinfo("i2").max  # outliers
    low, high = np.percentile(values, (0.5, 99.5))
    shown = np.clip((values.astype(float) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    data = tiff(values, photometric="minisblack")
    for threshold in (0, 100 * MIB):
        assert_good(data, Image.fromarray(shown), tiff_threshold_bytes=threshold)


def test_stated_sample_range_is_used() -> None:
    """SMinSampleValue and SMaxSampleValue, where given, are black and white."""
    values = np.linspace(0.25, 0.5, 400 * 300).reshape(300, 400).astype("f4")
    data = tiff(values, photometric="minisblack", extratags=[(340, 11, 1, 0.0, True), (341, 11, 1, 1.0, True)])
    for threshold in (0, 100 * MIB):
        assert_good(data, Image.fromarray((values * 255).astype(np.uint8)), tiff_threshold_bytes=threshold)


def test_never_enlarged() -> None:
    """A picture smaller than a size keeps its own dimensions."""
    result = thumbnails(saved(SMALL, "PNG"))

    assert [(made.width, made.height) for made in result.thumbnails] == [(256, 171), (300, 200), (300, 200)]


def test_padding() -> None:
    """With a colour, every thumbnail is exactly square and the picture in its middle, still not enlarged."""
    result = thumbnails(saved(SMALL, "PNG"), pad_color="#ffffff", sizes=(256, 400))

    for made in result.thumbnails:
        image = Image.open(io.BytesIO(made.jpeg)).convert("RGB")
        assert image.size == (made.size, made.size) == (made.width, made.height)
        assert image.getpixel((0, 0)) == (255, 255, 255)
    middle = Image.open(io.BytesIO(result.thumbnails[1].jpeg)).crop((50, 100, 350, 300))
    assert difference(saved(middle, "JPEG", quality=95), SMALL) < PROMISED_DIFFERENCE


def test_sizes_and_quality() -> None:
    """Sizes come in the order asked for; quality has its effect."""
    fine = thumbnails(saved(PICTURE, "PNG"), sizes=(700, 100), quality=95)
    coarse = thumbnails(saved(PICTURE, "PNG"), sizes=(700, 100), quality=40)

    assert [made.width for made in fine.thumbnails] == [700, 100]
    assert len(coarse.thumbnails[0].jpeg) < len(fine.thumbnails[0].jpeg) / 2


def test_noisy_pictures_can_be_encoded() -> None:
    """Pure noise, which does not fit the encoder's usual buffer, makes a JPEG all the same."""
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)

    assert len(thumbnails(saved(Image.fromarray(noise), "PNG", compress_level=0)).thumbnails) == 3


def test_pyramid_reads_its_smallest_sufficient_level_only() -> None:
    """Of a pyramid nearly nothing but the chosen level is read."""
    import tifffile

    out = io.BytesIO()
    big = np.asarray(PICTURE.resize((3400, 2600)))
    with tifffile.TiffWriter(out) as writer:
        writer.write(big, photometric="rgb", tile=(256, 256), subifds=2, metadata=None)
        level = np.asarray(PICTURE)
        writer.write(level, photometric="rgb", tile=(256, 256), subfiletype=1, metadata=None)
        writer.write(np.asarray(SMALL), photometric="rgb", subfiletype=1, metadata=None)
    source = CountingSource(out.getvalue())
    result = make_thumbnails(source, detected(source.data), ThumbnailOptions(tiff_threshold_bytes=0), lambda: 60.0)

    padded = 7 * 256 * 6 * 256 * 3
    assert source.bytes_read < padded + 256 * 1024
    assert (result.facts.width, result.facts.levels) == (3400, 3)
    assert difference(result.thumbnails[2].jpeg, PICTURE) < PROMISED_DIFFERENCE


# --- reading


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (128, 128)}], ids=["strips", "tiles"])
def test_every_byte_is_read_once(options: dict[str, object]) -> None:
    """In bands, each byte of the pixels is read once, in few requests, and nothing past what is needed."""
    data = tiff(RGB, photometric="rgb", **options)
    source = CountingSource(data)
    make_thumbnails(source, detected(data), ThumbnailOptions(tiff_threshold_bytes=0), lambda: 60.0)

    assert source.bytes_read <= len(data) + 3 * 65_536
    assert len(source.reads) <= len(data) // (2 * MIB) + 5
    assert max(length for _, length in source.reads) <= 2 * MIB + 65_536
    assert max(offset + length for offset, length in source.reads) <= len(data)


def test_whole_files_are_read_once() -> None:
    """A JPEG is read in blocks, each once, though its decoder starts over after the header."""
    data = saved(PICTURE.resize((3400, 2600)), "JPEG", quality=97)
    source = CountingSource(data)
    make_thumbnails(source, detected(data), ThumbnailOptions(), lambda: 60.0)

    assert len(data) > 2 * MIB
    assert source.bytes_read == len(data)


def test_reads_run_in_parallel_within_bounds() -> None:
    """Several ranges are fetched at once, never more than the connections allowed."""
    lock = threading.Lock()
    now = most = 0

    class Slow(CountingSource):
        def read(self, offset: int, length: int) -> bytes:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            return super().read(offset, length)

    data = tiff(np.tile(RGB, (4, 2, 1)), photometric="rgb")
    make_thumbnails(Slow(data), detected(data), ThumbnailOptions(tiff_threshold_bytes=0, connections=3), lambda: 60.0)

    assert 2 <= most <= 3


# --- decisions and settings


def test_decision_and_its_reason() -> None:
    """The method follows the thresholds, and says why."""
    data = tiff(RGB, photometric="rgb")
    standard, chunked = thumbnails(data), thumbnails(data, tiff_threshold_bytes=MIB)
    by_general_threshold = thumbnails(data, large_file_threshold_bytes=MIB)

    assert [standard.decision.method, chunked.decision.method] == ["standard", "chunked"]
    assert by_general_threshold.decision.method == "chunked"
    assert "threshold of 1 MiB" in chunked.decision.reason
    assert chunked.child_memory_peak_bytes <= chunked.decision.estimated_memory_bytes
    assert standard.child_memory_peak_bytes <= standard.decision.estimated_memory_bytes


def test_chunking_switched_off() -> None:
    """Without chunking a large TIFF is decoded whole where that fits the budget, and refused where not."""
    data = tiff(np.tile(RGB, (3, 2, 1)), photometric="rgb", compression="zlib", rowsperstrip=64)
    whole = thumbnails(data, tiff_chunking=False, tiff_threshold_bytes=0)
    assert whole.decision.method == "standard"
    assert "switched off" in whole.decision.reason
    with pytest.raises(ContentError) as caught:
        thumbnails(data, tiff_chunking=False, budget_bytes=130 * MIB)

    assert caught.value.code == "too_large_to_decode"
    assert caught.value.facts["estimated_memory_bytes"] > caught.value.facts["budget_bytes"] == 130 * MIB
    assert thumbnails(data, budget_bytes=130 * MIB).decision.method == "chunked"


def test_facts_come_with_the_result() -> None:
    """Facts of the picture itself, not of what was decoded."""
    facts = thumbnails(saved(PICTURE, "JPEG", progressive=True)).facts

    assert (facts.width, facts.height, facts.mode, facts.format) == (1700, 1300, "RGB", "JPEG")
    assert (facts.bits_per_sample, facts.compression, facts.orientation) == (8, "jpeg", 1)


# --- failures


def code_of(data: bytes, **options: object) -> str:
    with pytest.raises(ContentError) as caught:
        thumbnails(data, **options)
    return caught.value.code


@pytest.mark.parametrize("threshold", [0, 100 * MIB])
def test_truncated_tiff(threshold: int) -> None:
    """A TIFF cut anywhere is truncated."""
    data = tiff(RGB, photometric="rgb")
    for percent in (1, 30, 99):
        assert code_of(data[: len(data) * percent // 100], tiff_threshold_bytes=threshold) == "truncated"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF"])
def test_half_a_file(format_name: str) -> None:
    """Half a picture is not passed as a whole one."""
    data = saved(PICTURE, format_name)

    assert code_of(data[: len(data) // 2]) in ("truncated", "corrupt")


def test_bombs() -> None:
    """A picture that claims more pixels than memory holds is refused by numbers, without decoding."""
    header = bytearray(saved(SMALL, "PNG"))
    header[16:24] = (300_000).to_bytes(4, "big") * 2
    assert code_of(bytes(header)) in ("truncated", "limit_exceeded", "too_large_to_decode")
    gif = bytearray(saved(SMALL, "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    assert code_of(bytes(gif)) == "too_large_to_decode"
    blank = saved(Image.new("L", (16_000, 16_000)), "GIF")
    assert code_of(blank, budget_bytes=200 * MIB) == "too_large_to_decode"


def test_one_strip_deflate_bomb() -> None:
    """A gigapixel in one deflate strip is streamed in bounded memory: small stored, large claimed, no crash."""
    import zlib

    side, rows = 8192, 16_384
    stream = zlib.compressobj(9)
    row = bytes(side)
    strip = b"".join(stream.compress(row) for _ in range(rows)) + stream.flush()
    data = bytearray(tiff(np.zeros((2, 2), np.uint8), photometric="minisblack", compression="zlib", metadata=None))
    import tifffile

    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        fields = file.pages[0].tags
        for tag, value in ((256, side), (257, rows), (278, rows), (279, len(strip)), (273, len(data))):
            field = fields[tag]
            data[field.offset + 2 : field.offset + 12] = b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")
    result = thumbnails(bytes(data) + strip, sizes=(256,))

    assert result.decision.method == "chunked"
    assert result.child_memory_peak_bytes < 128 * MIB


def test_empty_and_unsupported() -> None:
    """Nothing is started for an empty file, or for a format that nobody here decodes."""
    for data, name, code in ((b"", "TIFF", "empty_file"), (b"x" * 100, "PSB", "unsupported_feature")):
        with pytest.raises(ContentError) as caught:
            make_thumbnails(CountingSource(data), detection(name), ThumbnailOptions(), lambda: 60.0)
        assert caught.value.code == code


def test_not_what_it_was_called() -> None:
    """Content that is not of the detected format ends in a verdict."""
    for name in ("TIFF", "JPEG", "PNG", "WebP", "GIF", "BMP", "JP2", "AVIF", "HEIC", "PSD"):
        with pytest.raises(ContentError):
            make_thumbnails(CountingSource(b"\0\1\2garbage" * 50), detection(name), ThumbnailOptions(), lambda: 60.0)


@pytest.mark.parametrize("error", [TransientError("throttled", "later"), ContentError("source_changed", "replaced")])
def test_errors_of_the_source_pass_unchanged(error: Exception) -> None:
    """What the source raises is what the caller gets, at the first read or in the middle."""
    data = tiff(np.tile(RGB, (3, 2, 1)), photometric="rgb")
    for at in (1, 4):

        def fail(count: int, at: int = at) -> None:
            if count >= at:
                raise error

        with pytest.raises(type(error)) as caught:
            make_thumbnails(
                CountingSource(data, fail), detected(data), ThumbnailOptions(tiff_threshold_bytes=0), lambda: 60.0
            )
        assert caught.value is error


def test_an_object_that_shrank() -> None:
    """A source that returns fewer bytes than its size promised is noticed."""
    data = tiff(RGB, photometric="rgb")
    source = CountingSource(data)
    source.data = data[: len(data) // 2]
    with pytest.raises(ContentError) as caught:
        make_thumbnails(source, detected(data), ThumbnailOptions(tiff_threshold_bytes=0), lambda: 60.0)

    assert caught.value.code == "truncated"


def test_out_of_time_leaves_no_process() -> None:
    """When the time is up the child is killed, and the work may be tried again."""
    data = tiff(RGB, photometric="rgb")
    before = children()
    started = time.monotonic()

    def left() -> float:
        return 0.6 - (time.monotonic() - started)

    def slow(count: int) -> None:
        time.sleep(0.3 if count > 2 else 0)

    with pytest.raises(TransientError) as caught:
        make_thumbnails(CountingSource(data, lambda count: time.sleep(0.4)), detected(data), ThumbnailOptions(), left)

    assert caught.value.code == "out_of_time"
    assert children() == before


def children() -> set[str]:
    """Process ids of this process's children."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_killed_child_is_out_of_memory() -> None:
    """A child killed from outside, as the kernel does when memory ends, is the world's fault."""
    data = tiff(RGB, photometric="rgb")
    before = children()

    def kill(count: int) -> None:
        if count == 2:
            for pid in all_children() - before:
                os.kill(int(pid), 9)

    with pytest.raises(TransientError) as caught:
        make_thumbnails(
            CountingSource(data, kill), detected(data), ThumbnailOptions(tiff_threshold_bytes=0), lambda: 60.0
        )

    assert caught.value.code == "out_of_memory"


def all_children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set((task / "children").read_text().split())
    return found


def test_memory_limit_of_the_child_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an estimate were wrong, the child runs into its limit and says so, instead of taking the memory."""
    from heavylift.image import child

    # The estimate is believed to be tiny; the limit stays where the budget puts it.
    blinded = "import heavylift.image.render as r;r.whole_decode_bytes=lambda *a,**k:1;"
    monkeypatch.setattr(child, "BOOT", child.BOOT.replace("from importlib", blinded + "from importlib"))
    data = saved(PICTURE.resize((6000, 5000)), "BMP")
    with pytest.raises(TransientError) as caught:
        thumbnails(data, budget_bytes=64 * MIB)

    assert caught.value.code == "out_of_memory"
    assert caught.value.facts["child_memory_peak_bytes"] < 90 * MIB


# --- isolation


def test_environment_of_the_child() -> None:
    """No credential and no endpoint reaches the child."""
    kept = child_environment(
        {
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_SESSION_TOKEN": "x",
            "AWS_ENDPOINT_URL": "x",
            "PATH": "/bin",
            "HOME": "/root",
        }
    )

    assert kept["PATH"] == "/bin"
    assert not {name for name in kept if name.startswith("AWS_")}
    assert "HOME" not in kept


def test_parent_loads_no_decoder(tmp_path: Path) -> None:
    """Neither importing nor making thumbnails loads Pillow, numpy or rawpy into the parent; any folder will do."""
    picture = tmp_path / "a.png"
    picture.write_bytes(saved(SMALL, "PNG"))
    code = f"""
import json, sys
import heavylift.sniff, heavylift.image.thumbnails as t
data = open({str(picture)!r}, "rb").read()
class Source:
    size_bytes = len(data)
    def read(self, offset, length): return data[offset:offset + length]
made = t.make_thumbnails(Source(), heavylift.sniff.detection("PNG"), t.ThumbnailOptions(), lambda: 30.0)
banned = {{"PIL", "numpy", "rawpy", "boto3", "multiprocessing"}}
print(json.dumps([len(made.thumbnails), sorted(banned & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert json.loads(done.stdout) == [3, []]


def test_several_at_once() -> None:
    """Calls from several threads do not disturb each other."""
    data = [saved(Image.new("RGB", (90 + i, 60), (i, 0, 0)), "PNG") for i in range(4)]
    widths: dict[int, int] = {}

    def run(number: int) -> None:
        widths[number] = thumbnails(data[number]).facts.width

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert widths == {number: 90 + number for number in range(4)}
