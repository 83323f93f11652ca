"""Facts from headers, with Pillow as the judge."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.facts import ImageFacts, inspect
from heavylift.image.headers import READERS, exif_orientation
from heavylift.ranges import ReadAhead, drive
from heavylift.sniff import detection
from tests.heavylift.image.pictures import detected, saved

CODES = {"truncated", "corrupt", "unsupported_feature", "limit_exceeded"}


def inspected(data: bytes, format_name: str = "") -> ImageFacts:
    def fetch(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= len(data)
        return data[offset : offset + length]

    return drive(inspect(detection(format_name) if format_name else detected(data), len(data)), fetch)


FORMATS = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"),
    "GIF": ("P",),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "P", "RGB"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(("format_name", "mode"), [(name, mode) for name, modes in FORMATS.items() for mode in modes])
def test_size_and_mode_are_pillows(format_name: str, mode: str) -> None:
    """Width, height and mode are those with which Pillow opens the file."""
    image = Image.linear_gradient("L").resize((123, 45))
    image = image.convert("RGB").quantize(200) if mode == "P" else image.convert(mode)
    data = saved(image, format_name)
    judge = Image.open(io.BytesIO(data))
    facts = inspected(data)

    assert (facts.width, facts.height) == judge.size
    if format_name != "WEBP" or mode == "RGB":
        assert facts.mode == judge.mode


@pytest.mark.parametrize(("options", "interlaced", "sampled"), [({}, False, 1.5), ({"progressive": True}, True, 1.5)])
def test_jpeg_details(options: dict[str, bool], interlaced: bool, sampled: float) -> None:
    """Progressive and subsampled JPEGs are told, for their decoder keeps all coefficients."""
    facts = inspected(saved(Image.new("RGB", (64, 64)), "JPEG", **options))
    assert (facts.interlaced, facts.sampled) == (interlaced, sampled)
    full = inspected(saved(Image.new("RGB", (64, 64)), "JPEG", subsampling=0, **options))
    assert full.sampled == 3.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
def test_orientation(format_name: str, orientation: int) -> None:
    """The orientation of Exif is found."""
    exif = Image.Exif()
    exif[274] = orientation

    assert inspected(saved(Image.new("RGB", (9, 9)), format_name, exif=exif)).orientation == orientation


def test_animations_are_counted_where_the_header_tells() -> None:
    """An animated PNG tells its frames; GIF and WebP do not at their beginning."""
    frames = [Image.new("RGB", (9, 9), (i, i, i)) for i in (0, 90, 180)]
    assert inspected(saved(frames[0], "PNG", save_all=True, append_images=frames[1:])).pages == 3
    assert inspected(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])).pages is None
    assert inspected(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])).pages is None


def test_few_requests() -> None:
    """The facts of a photograph with a large profile cost one or two requests."""
    data = saved(Image.new("RGB", (900, 900)), "JPEG", icc_profile=bytes(60_000), exif=Image.Exif().tobytes())
    reads = []

    def fetch(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    facts = drive(inspect(detection("JPEG"), len(data)), ReadAhead(fetch, len(data)))

    assert facts.width == 900
    assert len(reads) <= 2


@pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCB])
def test_processes_nobody_decodes(marker: int) -> None:
    """Lossless and arithmetic JPEG are unsupported."""
    data = saved(Image.new("RGB", (9, 9)), "JPEG").replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    with pytest.raises(ContentError) as caught:
        inspected(data)

    assert caught.value.code == "unsupported_feature"


def test_more_pixels_than_bytes() -> None:
    """A PNG that claims more than deflate can expand, and a BMP shorter than its pixels, are truncated."""
    png = bytearray(saved(Image.new("RGB", (9, 9)), "PNG"))
    png[16:24] = (30_000).to_bytes(4, "big") * 2
    bmp = bytearray(saved(Image.new("RGB", (9, 9)), "BMP"))
    bmp[18:26] = (5_000).to_bytes(4, "little") * 2
    for data in (png, bmp):
        with pytest.raises(ContentError) as caught:
            inspected(bytes(data))
        assert caught.value.code == "truncated"


def test_too_many_pixels() -> None:
    """More pixels than the limit are refused by the limit's name."""
    jp2 = bytearray(saved(Image.new("RGB", (9, 9)), "JPEG2000"))
    at = jp2.find(b"\xff\x4f\xff\x51") + 8
    jp2[at : at + 8] = b"\x7f\xff\xff\xff" * 2
    with pytest.raises(ContentError) as caught:
        inspected(bytes(jp2))

    assert caught.value.code == "limit_exceeded"


def test_formats_without_a_reader_have_unknown_size() -> None:
    """Where the header is not read here, the size is 0 and the decoder finds out."""
    assert inspected(b"\xff\x0a" + bytes(30), "JXL").width == 0


def test_raw_files_name_their_largest_picture() -> None:
    """Of a camera file's directories the largest picture counts, with the orientation of the first."""
    import numpy as np
    import tifffile

    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        version = (50706, 1, 4, (1, 4, 0, 0), True)
        turned = (274, 3, 1, 6, True)
        writer.write(
            np.zeros((40, 60, 3), np.uint8),
            photometric="rgb",
            subfiletype=1,
            subifds=1,
            extratags=[version, turned],
            metadata=None,
        )
        writer.write(np.zeros((4000, 6000), np.uint16), photometric="cfa", metadata=None)
    facts = inspected(out.getvalue())

    assert (facts.format, facts.width, facts.height, facts.orientation) == ("DNG", 6000, 4000, 6)


SAMPLES = {
    name: saved(Image.linear_gradient("L").convert("RGB"), pillow)
    for name, pillow in (("JPEG", "JPEG"), ("PNG", "PNG"), ("GIF", "GIF"), ("WebP", "WEBP"), ("BMP", "BMP"))
} | {"JP2": saved(Image.linear_gradient("L"), "JPEG2000"), "AVIF": saved(Image.linear_gradient("L"), "AVIF")}


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8),
    st.integers(0, 100),
)
def test_damage_gives_facts_or_a_code(name: str, changes: list[tuple[int, int]], keep_percent: int) -> None:
    """Damaged and shortened headers give facts or a ContentError with a promised code, by reads inside the file."""
    data = bytearray(SAMPLES[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    code = None
    try:
        inspected(bytes(data[: max(1, len(data) * keep_percent // 100)]), name)
    except ContentError as error:
        code = error.code

    assert code in CODES | {None}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(READERS)), st.binary(min_size=1, max_size=300))
def test_garbage_gives_facts_or_a_code(name: str, data: bytes) -> None:
    """Random bytes under every format's reader: nothing but ContentError."""
    try:
        inspected(data, name)
    except ContentError as error:
        code = error.code
        assert code in CODES


@given(st.binary(max_size=200))
def test_exif_never_raises(data: bytes) -> None:
    """Any Exif block has an orientation between 1 and 8."""
    assert 1 <= exif_orientation(data) <= 8
