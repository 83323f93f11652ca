"""Decoded and rendered frames, against pydicom's over its own files and over made ones."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pictures
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing, pixel_array
from pydicom.pixels.processing import convert_color_space

from heavylift.dicom.dataset import Dataset, read_dataset
from heavylift.dicom.elements import EXPLICIT_LITTLE, PixelElement
from heavylift.dicom.frames import Frame, native_frame, read_frame
from heavylift.dicom.header import Header
from heavylift.dicom.pixels import Image, Samples, check_memory, decode_frame, image_of
from heavylift.dicom.render import Look, Window, encode, look_of, to_eight_bits
from heavylift.errors import ContentError
from heavylift.ranges import drive
from tests.heavylift.dicom.made import TEST_FILES, Element, dataset, header_of, item, us
from tests.heavylift.dicom.test_agreement import time_limit

LIMIT_BYTES = 400_000


# A broken frame, a header whose JPEG data begin with zeros, a frame cut at a false delimiter, a number of frames "1A".
NOT_PYDICOMS = {"JPEG-lossy.dcm", "SC_rgb_jpeg.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "badVR.dcm"}


def readable(path: Path) -> bool:
    """With pixels, with all UIDs, and small enough for many decoders in a row."""
    data = path.read_bytes()
    if path.name in NOT_PYDICOMS:
        return False
    if len(data) > LIMIT_BYTES or data[128:132] != b"DICM":
        return False
    try:
        header = header_of(data, to_pixel_data=True)
    except ContentError:
        return False
    return header.pixel_data is not None and header.transfer_syntax_uid != "1.2.840.10008.1.2.1.99"


FILES = sorted(filter(readable, TEST_FILES.glob("*.dcm")))


class Opened:
    """A file's header, image module and frames."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header: Header = header_of(data, to_pixel_data=True)
        pixel = self.header.pixel_data
        assert pixel is not None
        self.pixel: PixelElement = pixel
        self.dataset: Dataset = drive(
            read_dataset(self.header.dataset_offset, len(data), self.header.encoding), self.fetch
        )
        self.image: Image = image_of(self.dataset, pixel, self.header.transfer_syntax_uid)

    def fetch(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def frame(self, number: int) -> tuple[Samples, str]:
        frames = self.image.shape.frames
        frame: Frame
        if self.pixel.length is None:
            frame = drive(read_frame(self.pixel, len(self.data), number, frames), self.fetch)
        else:
            frame = native_frame(self.pixel.offset, self.pixel.length, self.image.shape, number)
        data = b"".join(self.fetch(piece.offset, piece.length) for piece in frame.pieces)
        return decode_frame(data, self.image, skip_bits=frame.skip_bits)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_samples_are_pydicoms(path: Path) -> None:
    """Of the first and the last frame, in every encoding that ships with it; colours as RGB where compressed."""
    opened = Opened(path.read_bytes())
    frames = opened.image.shape.frames
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in {1, frames}:
            samples, photometric = opened.frame(number)
            expected = pixel_array(path, index=number - 1)
            if photometric.startswith("YBR_FULL"):
                samples = convert_color_space(np.ascontiguousarray(samples), "YBR_FULL", "RGB")

            assert samples.shape == expected.shape
            assert np.array_equal(samples, expected)


def shown(opened: Opened, number: int = 1, window: Window | None = None) -> np.ndarray:
    samples, photometric = opened.frame(number)
    look = look_of(opened.dataset, opened.image, number)
    return to_eight_bits(samples, photometric, opened.image, look, window)


def to_scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values.astype(float) - low) / ((high - low) or 1) * 255)


def near(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """To one grey level: rounding differs."""
    return ours.shape == theirs.shape and int(np.abs(ours.astype(int) - theirs.astype(int)).max()) <= 1


GREY = [path for path in FILES if Opened(path.read_bytes()).image.shape.photometric.startswith("MONOCHROME")]


@pytest.mark.parametrize("path", GREY, ids=lambda path: path.name)
def test_grey_pictures_are_pydicoms(path: Path) -> None:
    """Modality and window by the file, or its whole range where it has none."""
    opened = Opened(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path)
        values = apply_modality_lut(pixel_array(path, index=0), theirs)
        if "WindowWidth" in theirs:
            wide = np.array([-1e9, 1e9, *np.asarray(values, float).ravel()])
            windowed = apply_windowing(wide, theirs, index=0)
            expected = to_scale(windowed[2:].reshape(values.shape), windowed[0], windowed[1])
        else:
            expected = to_scale(values, values.min(), values.max())
    if opened.image.shape.photometric == "MONOCHROME1":
        expected = 255 - expected

    assert near(shown(opened), expected)


def test_palettes_are_pydicoms() -> None:
    """Sixteen bits an entry, shown as eight."""
    path = TEST_FILES / "examples_palette.dcm"
    theirs = pydicom.dcmread(path)
    expected = apply_color_lut(theirs.pixel_array, theirs)

    assert near(shown(Opened(path.read_bytes())), expected >> 8 if expected.dtype == np.uint16 else expected)


@pytest.mark.parametrize(
    "name", ["SC_ybr_full_422_uncompressed.dcm", "examples_ybr_color.dcm", "SC_rgb_jpeg_dcmtk.dcm"]
)
def test_colours_are_pydicoms(name: str) -> None:
    """Whatever they were stored as."""
    path = TEST_FILES / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pixel_array(path, index=0)

    assert near(shown(Opened(path.read_bytes())), expected)


def made(bits: int, stored: int, signed: bool, values: list[int], more: list[Element], photometric: bytes) -> Opened:
    """A picture of one row a value, twice; little endian, with what else the header says."""
    kind = {8: "b" if signed else "B", 16: "h" if signed else "H", 32: "i" if signed else "I"}[bits]
    mask = (1 << bits) - 1
    pixels = b"".join(struct.pack("<" + kind.upper(), value & mask & ((1 << stored) - 1)) * 2 for value in values)
    parts = [
        Element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        Element(0x00080018, b"UI", b"1.2.3\0"),
        Element(0x0020000D, b"UI", b"1.2.4\0"),
        Element(0x0020000E, b"UI", b"1.2.5\0"),
        Element(0x00280002, b"US", us(1)),
        Element(0x00280004, b"CS", photometric),
        Element(0x00280010, b"US", us(len(values))),
        Element(0x00280011, b"US", us(2)),
        Element(0x00280100, b"US", us(bits)),
        Element(0x00280101, b"US", us(stored)),
        Element(0x00280102, b"US", us(stored - 1)),
        Element(0x00280103, b"US", us(int(signed))),
        *more,
        Element(0x7FE00010, b"OW", pixels),
    ]
    from tests.heavylift.dicom.made import meta

    return Opened(meta("1.2.840.10008.1.2.1") + dataset(parts))


def pydicoms(opened: Opened) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(opened.data))


@pytest.mark.parametrize("photometric", [b"MONOCHROME2 ", b"MONOCHROME1 "])
@pytest.mark.parametrize("function", [b"LINEAR", b"LINEAR_EXACT", b"SIGMOID "])
@pytest.mark.parametrize(
    ("bits", "stored", "signed"), [(8, 8, False), (16, 12, False), (16, 12, True), (16, 16, True), (32, 32, False)]
)
def test_windows_are_pydicoms(bits: int, stored: int, signed: bool, function: bytes, photometric: bytes) -> None:
    """Each function over signed and unsigned samples, unused bits among them."""
    values = [-2048, -1000, -1, 0, 1, 39, 40, 41, 200, 2000] if signed else [0, 1, 39, 40, 41, 100, 200, 255]
    more = [Element(0x00281050, b"DS", b"40"), Element(0x00281051, b"DS", b"80"), Element(0x00281056, b"CS", function)]
    opened = made(
        bits,
        stored,
        signed,
        values,
        [*more, Element(0x00281052, b"DS", b"0 "), Element(0x00281053, b"DS", b"1 ")],
        photometric,
    )
    theirs = pydicoms(opened)
    stored_values = theirs.pixel_array
    wide = np.array([-1e7, 1e7, *stored_values.ravel().astype(float)])
    windowed = apply_windowing(apply_modality_lut(wide, theirs), theirs)
    expected = to_scale(windowed[2:].reshape(stored_values.shape), windowed[0], windowed[1])

    assert near(shown(opened), 255 - expected if photometric.startswith(b"MONOCHROME1") else expected)


def sequence(tag: int, inner: list[Element]) -> Element:
    return Element(tag, b"SQ", item(dataset(inner)))


def test_a_table_of_values_of_interest_is_applied() -> None:
    """As pydicom does it; a window asked for goes before it."""
    entries = struct.pack("<8H", 0, 10, 200, 400, 600, 800, 1000, 1023)
    table = sequence(
        0x00283010, [Element(0x00283002, b"US", struct.pack("<3H", 8, 2, 10)), Element(0x00283006, b"OW", entries)]
    )
    opened = made(16, 12, False, list(range(12)), [table], b"MONOCHROME2 ")
    theirs = pydicoms(opened)

    assert near(shown(opened), to_scale(apply_voi_lut(theirs.pixel_array, theirs), 0, 1023))
    assert shown(opened, window=Window(6, 2))[0, 0] == 0


def test_a_modality_table_is_applied() -> None:
    """Before the window."""
    entries = struct.pack("<4H", 100, 200, 300, 500)
    table = sequence(
        0x00283000,
        [
            Element(0x00283002, b"US", struct.pack("<3H", 4, 1, 16)),
            Element(0x00283006, b"OW", entries),
            Element(0x00283004, b"LO", b"HU"),
        ],
    )
    opened = made(16, 12, False, [0, 1, 2, 3, 4, 5], [table], b"MONOCHROME2 ")
    theirs = pydicoms(opened)
    values = apply_modality_lut(theirs.pixel_array, theirs)

    assert near(shown(opened), to_scale(values, values.min(), values.max()))


def test_functional_groups_go_before_the_rest() -> None:
    """What a multi-frame image says of one frame."""
    inner = sequence(0x00289132, [Element(0x00281050, b"DS", b"4 "), Element(0x00281051, b"DS", b"2 ")])
    groups = Element(0x52009230, b"SQ", item(dataset([])) + item(dataset([inner])))
    more = [groups, Element(0x00281050, b"DS", b"8 "), Element(0x00281051, b"DS", b"2 ")]
    opened = made(16, 12, False, list(range(12)), more, b"MONOCHROME2 ")

    assert look_of(opened.dataset, opened.image, 1).window == Window(8, 2)
    assert look_of(opened.dataset, opened.image, 2).window == Window(4, 2)


def test_padding_does_not_stretch_the_range() -> None:
    """Where no window is given."""
    opened = made(
        16, 16, True, [-32768, 0, 50, 100], [Element(0x00280120, b"SS", struct.pack("<h", -32768))], b"MONOCHROME2 "
    )

    assert shown(opened)[:, 0].tolist() == [0, 0, 128, 255]


def test_segmented_palettes() -> None:
    """Discrete, linear and repeated segments (PS3.3 C.7.9.2)."""
    discrete, linear = [0, 2, 0, 1000], [1, 3, 4000]
    repeated = [2, 1, 0, 0]
    words = [*discrete, *linear, *repeated]
    more = []
    for n in range(3):
        more += [
            Element(0x00281101 + n, b"US", struct.pack("<3H", 7, 0, 16)),
            Element(0x00281221 + n, b"OW", struct.pack(f"<{len(words)}H", *words)),
        ]
    opened = made(8, 8, False, list(range(7)), more, b"PALETTE COLOR ")
    theirs = pydicoms(opened)

    assert near(shown(opened), apply_color_lut(theirs.pixel_array, theirs) >> 8)


def bits_image(frames: int, pixels: bytes) -> Image:
    parts = [
        *(Element(0x00280002, b"US", us(1)), Element(0x00280004, b"CS", b"MONOCHROME2 ")),
        *(
            Element(0x00280008, b"IS", str(frames).encode()),
            Element(0x00280010, b"US", us(3)),
            Element(0x00280011, b"US", us(3)),
        ),
        *(Element(0x00280100, b"US", us(1)), Element(0x00280101, b"US", us(1)), Element(0x00280102, b"US", us(0))),
    ]
    raw = dataset(parts)
    found = drive(read_dataset(0, len(raw), EXPLICIT_LITTLE), lambda offset, length: raw[offset : offset + length])
    return image_of(found, PixelElement(0x7FE00010, "OB", 0, len(pixels)), "1.2.840.10008.1.2.1")


def test_frames_of_single_bits() -> None:
    """Nine bits each, so that frames begin within bytes."""
    wanted = np.arange(45).reshape(5, 3, 3) % 2
    pixels = np.packbits(wanted.ravel().astype(np.uint8), bitorder="little").tobytes()
    image = bits_image(5, pixels)
    for number in range(1, 6):
        frame = native_frame(0, len(pixels), image.shape, number)
        piece = frame.pieces[0]
        samples, _ = decode_frame(pixels[piece.offset : piece.end], image, skip_bits=frame.skip_bits)

        assert np.array_equal(samples, wanted[number - 1])


def test_floating_point_pixels() -> None:
    """Parametric maps: the whole range is shown; what is no number does not decide it."""
    values = np.array([[0.0, 0.5], [1.0, np.nan]], "<f4")
    parts = [Element(0x00280002, b"US", us(1)), Element(0x00280004, b"CS", b"MONOCHROME2 ")]
    parts += [Element(0x00280010, b"US", us(2)), Element(0x00280011, b"US", us(2)), Element(0x00280100, b"US", us(32))]
    raw = dataset(parts)
    found = drive(read_dataset(0, len(raw), EXPLICIT_LITTLE), lambda offset, length: raw[offset : offset + length])
    image = image_of(found, PixelElement(0x7FE00008, "OF", 0, 16), "1.2.840.10008.1.2.1")
    samples, photometric = decode_frame(values.tobytes(), image)

    assert to_eight_bits(samples, photometric, image, Look())[0].tolist() == [0, 128]


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_pictures_are_encoded_and_shrunk(media_type: str) -> None:
    """Into the square that was asked for, never enlarged."""
    opened = Opened((TEST_FILES / "CT_small.dcm").read_bytes())
    picture = shown(opened)
    small = Pictures.open(io.BytesIO(encode(picture, media_type, edge=64)))
    same = Pictures.open(io.BytesIO(encode(picture, media_type, edge=1000)))

    assert (small.size, same.size) == ((64, 64), (128, 128))
    assert small.get_format_mimetype() == media_type
    if media_type == "image/png":
        assert np.array_equal(np.asarray(same), picture)


def test_a_frame_that_needs_too_much_is_refused_before_it_is_decoded() -> None:
    """By its measures alone."""
    opened = made(16, 12, False, [1], [], b"MONOCHROME2 ")
    check_memory(opened.image, 20 << 20)
    with pytest.raises(ContentError) as caught:
        check_memory(opened.image, 16 << 20)

    assert caught.value.code == "too_large_to_decode"


COMPRESSED = [
    "JPGExtended.dcm",
    "JPEG2000.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_changed_bytes_of_frames_cost_no_more_than_the_frame(name: str) -> None:
    """Sizes that a damaged frame claims are not believed, so no decoder takes gigabytes or minutes for 4 KB."""
    opened = Opened((TEST_FILES / name).read_bytes())
    frame = drive(read_frame(opened.pixel, len(opened.data), 1, opened.image.shape.frames), opened.fetch)
    data = b"".join(opened.fetch(piece.offset, piece.length) for piece in frame.pieces)
    pictures = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(60):
            chance = random.Random(f"{name} {number}")
            damaged = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(data) if chance.random() < 0.5 else min(200, len(data)))
                damaged[at : at + 2] = chance.choice((b"\xff\xff", chance.randbytes(2), b"\0", b""))
            with time_limit(), contextlib.suppress(ContentError):
                decode_frame(bytes(damaged), opened.image)
                pictures += 1

    assert 0 < pictures < 60


@pytest.mark.parametrize("name", COMPRESSED)
def test_damaged_frames_are_the_files_fault(name: str) -> None:
    """A picture, or a verdict; no decoder's own exception comes through."""
    opened = Opened((TEST_FILES / name).read_bytes())
    frame = drive(read_frame(opened.pixel, len(opened.data), 1, opened.image.shape.frames), opened.fetch)
    data = b"".join(opened.fetch(piece.offset, piece.length) for piece in frame.pieces)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cut in (b"", data[:1], data[:20], b"\0" * len(data)):
            with pytest.raises(ContentError):
                decode_frame(cut, opened.image)


@pytest.mark.parametrize(
    ("tag", "value", "code"),
    [
        (0x00280010, us(0), "corrupt"),
        (0x00280100, us(24), "unsupported_feature"),
        (0x00280002, us(4), "unsupported_feature"),
        (0x00280004, b"CMYK", "unsupported_feature"),
    ],
)
def test_images_that_make_no_sense(tag: int, value: bytes, code: str) -> None:
    """Refused in words."""
    parts = {
        part.tag: part
        for part in [
            Element(0x00280002, b"US", us(1)),
            Element(0x00280004, b"CS", b"MONOCHROME2 "),
            Element(0x00280010, b"US", us(2)),
            Element(0x00280011, b"US", us(2)),
            Element(0x00280100, b"US", us(16)),
            Element(0x00280101, b"US", us(12)),
        ]
    }
    parts[tag] = parts[tag]._replace(value=value)
    raw = dataset(list(parts.values()))
    found = drive(read_dataset(0, len(raw), EXPLICIT_LITTLE), lambda offset, length: raw[offset : offset + length])
    with pytest.raises(ContentError) as caught:
        image_of(found, PixelElement(0x7FE00010, "OW", 0, 8), "1.2.840.10008.1.2.1")

    assert caught.value.code == code
