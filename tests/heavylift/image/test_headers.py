"""Facts from headers, with Pillow as the judge."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.exif import words_in
from heavylift.image.facts import ImageFacts, inspect
from heavylift.image.headers import READERS
from heavylift.ranges import ReadAhead, drive
from heavylift.sniff import detection
from tests.heavylift.image.cameras import CAPTURED_AT, MAKE, MODEL, PLACE, box, children, exif, heic
from tests.heavylift.image.pictures import detected, saved


def psd(width: int = 40, height: int = 30, coding: int = 0, camera: bytes = b"", version: int = 1) -> bytes:
    """A flattened PSD or PSB: header, resources, no layers, planes."""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", version, 3, height, width, 8, 3)
    name = struct.pack(">4sHBx", b"8BIM", 1005, 0) + struct.pack(">I", 3) + bytes(4)
    resources = name + struct.pack(">4sHBx", b"8BIM", 1058, 0) + struct.pack(">I", len(camera)) + camera
    layers = bytes(8 if version == 2 else 4)
    return (
        head
        + bytes(4)
        + struct.pack(">I", len(resources))
        + resources
        + layers
        + struct.pack(">H", coding)
        + bytes(width * height * 3)
    )


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


SAMPLES = {
    name: saved(Image.linear_gradient("L").convert("RGB"), pillow)
    for name, pillow in (("JPEG", "JPEG"), ("PNG", "PNG"), ("GIF", "GIF"), ("WebP", "WEBP"), ("BMP", "BMP"))
} | {
    "JP2": saved(Image.linear_gradient("L"), "JPEG2000"),
    "AVIF": saved(Image.linear_gradient("L"), "AVIF"),
    "HEIC": heic(Image.linear_gradient("L"), exif=exif(6).tobytes()),
    "PSD": psd(camera=exif(6).tobytes()),
}


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
    assert 0 <= words_in(data).orientation <= 8


# --- what cameras say, in every format


WITH_EXIF = {
    "JPEG": lambda image, block: saved(image, "JPEG", exif=block),
    "PNG": lambda image, block: saved(image, "PNG", exif=block),
    "WebP": lambda image, block: saved(image, "WEBP", exif=block),
    "AVIF": lambda image, block: saved(image, "AVIF", exif=block),
    "HEIC": lambda image, block: heic(image, exif=block),
    "TIFF": lambda image, block: saved(image, "TIFF", exif=block),
    "PSD": lambda image, block: psd(*image.size, camera=block),
}


@pytest.mark.parametrize("name", WITH_EXIF)
def test_the_cameras_words(name: str) -> None:
    """Make, model, clock, place and orientation, wherever the format keeps them."""
    data = WITH_EXIF[name](Image.linear_gradient("L").resize((64, 48)).convert("RGB"), exif(6).tobytes())
    facts = inspected(data)

    assert facts.format == name
    assert (facts.make, facts.model, facts.captured_at, facts.gps) == (MAKE, MODEL, CAPTURED_AT, PLACE)
    # libheif turns the picture itself: its facts are those of the upright one.
    wanted = (48, 64, 1) if name == "HEIC" else (64, 48, 6)
    assert (facts.width, facts.height, facts.orientation) == wanted


def test_places_that_are_none() -> None:
    """A place off the Earth, one without a letter, or of too few numbers is none."""
    for change in ({2: (95.0, 0.0, 0.0)}, {1: ""}, {4: (11.0,)}):
        block = exif()
        block.get_ifd(0x8825).update(change)
        assert words_in(block.tobytes()).gps is None
    block = exif()
    for tag in (5, 6):
        del block.get_ifd(0x8825)[tag]
    assert words_in(block.tobytes()).gps == {name: PLACE[name] for name in ("latitude", "longitude")}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["HEIC", "AVIF"])
def test_turned_heif_files(name: str, orientation: int) -> None:
    """irot and imir: an AVIF's facts are as coded, a HEIC's as its decoder shows it."""
    picture = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    facts = inspected(WITH_EXIF[name](picture, exif(orientation).tobytes()))
    upright = (48, 64) if orientation >= 5 else (64, 48)

    if name == "HEIC":
        assert (facts.width, facts.height, facts.orientation) == (*upright, 1)
    else:
        assert (facts.width, facts.height, facts.orientation) == (64, 48, orientation)


def test_details_of_heif() -> None:
    """Alpha, coding, pages and profile of HEIC and AVIF."""
    plain = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    picture = plain.convert("RGBA")
    picture.putalpha(77)
    assert [inspected(heic(each)).mode for each in (picture, plain)] == ["RGBA", "RGB"]
    assert [inspected(saved(each, "AVIF")).mode for each in (picture, plain)] == ["RGBA", "RGB"]
    assert [inspected(data).compression for data in (heic(plain), saved(plain, "AVIF"))] == ["hevc", "av1"]
    film = saved(plain, "AVIF", save_all=True, append_images=[plain.rotate(90, expand=False)])
    assert [inspected(data).pages for data in (heic(plain), film)] == [1, None]


def test_a_heif_that_is_cut() -> None:
    """Cut anywhere, an item's bytes or a box lie beyond the end: truncated; appended bytes that are no box are not."""
    for data in (SAMPLES["HEIC"], SAMPLES["AVIF"]):
        for percent in (30, 60, 90, 99):
            with pytest.raises(ContentError) as caught:
                inspected(data[: len(data) * percent // 100])
            assert caught.value.code == "truncated"
        assert inspected(data + b"\xff\xff\xff\xffSEFT and more").width > 0


def test_bounds_of_heif() -> None:
    """A meta box of a gigabyte, one that does not hold what it says, and one without the picture it names."""
    data = SAMPLES["HEIC"]
    at = next(at for kind, at, _ in children(data, 0, len(data)) if kind == b"meta")
    ftyp = data[:at]
    for body, code in ((bytes(9 << 20), "limit_exceeded"), (bytes(4) + box(b"iloc", bytes(6)), "corrupt")):
        with pytest.raises(ContentError) as caught:
            inspected(ftyp + box(b"meta", body), "HEIC")
        assert caught.value.code == code
    assert inspected(ftyp + box(b"meta", bytes(4)), "HEIC").width == 0


# --- what is missing, told by numbers


def test_headers_that_claim_more_than_the_file_holds() -> None:
    """A JPEG whose blocks could not be coded in so few bytes, a WebP, PSD or JP2 longer than the file: truncated."""
    jpeg = bytearray(saved(Image.linear_gradient("L"), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\x00\xff\x00"
    whole = {"JPEG": bytes(jpeg), "WebP": SAMPLES["WebP"][:-2], "PSD": psd()[:-1], "JP2": SAMPLES["JP2"][:-1]}
    for name, data in whole.items():
        with pytest.raises(ContentError) as caught:
            inspected(data, name)
        assert caught.value.code == "truncated", name


def test_codings_of_psd() -> None:
    """The flattened picture's coding, in PSD and PSB."""
    codings = [(0, "none"), (1, "packbits")]
    assert [inspected(psd(coding=coding)).compression for coding, _ in codings] == [name for _, name in codings]
    assert inspected(psd(version=2)).format == "PSB"
    assert inspected(psd(version=2)).width == 40
