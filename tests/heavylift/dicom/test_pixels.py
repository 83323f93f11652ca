"""Decoded and rendered frames, against pydicom's over its own files and over made ones."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import warnings
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image as Pictures
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing, pixel_array
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from heavylift.dicom.dataset import Dataset, read_dataset
from heavylift.dicom.elements import EXPLICIT_LITTLE, PixelElement
from heavylift.dicom.frames import Frame, Shape, native_frame, read_frame
from heavylift.dicom.header import Header
from heavylift.dicom.pixels import Image, Samples, check_memory, decode_frame, image_of, plain_bytes
from heavylift.dicom.render import Look, encode, look_of, to_eight_bits
from heavylift.dicom.syntaxes import Codec, syntax_of
from heavylift.dicom.viewing import Viewport, Window
from heavylift.errors import ContentError, RequestError
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
    """Of the first and the last frame, in every encoding that ships with it; colours as RGB where compressed.

    By the same decoder; JPEG of 12 bits by libjpeg, which rounds otherwise.
    """
    opened = Opened(path.read_bytes())
    frames = opened.image.shape.frames
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in {1, frames}:
            samples, photometric = opened.frame(number)
            plugin = "pillow" if opened.image.syntax.codec is Codec.JPEG else ""
            expected = pixel_array(path, index=number - 1, decoding_plugin=plugin)
            if photometric.startswith("YBR_FULL"):
                samples = convert_color_space(np.ascontiguousarray(samples), "YBR_FULL", "RGB")

            assert samples.shape == expected.shape
            if opened.image.syntax.codec is Codec.JPEG_EXTENDED:
                assert np.abs(samples.astype(int) - expected.astype(int)).max() <= 1
            else:
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
    opened = Opened(path.read_bytes())
    plugin = "pillow" if opened.image.syntax.codec is Codec.JPEG else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pixel_array(path, index=0, decoding_plugin=plugin)

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


def lossless(samples: np.ndarray, bits: int, predictor: int) -> bytes:
    """A lossless JPEG by libjpeg-turbo."""
    colours = "rgb" if samples.ndim == 3 else "grayscale"
    return bytes(
        imagecodecs.jpeg8_encode(
            samples, lossless=True, predictor=predictor, bitspersample=bits, colorspace=colours, outcolorspace=colours
        )
    )


def compressed(uid: str, rows: int, columns: int, samples: int = 1, bits: int = 16, signed: bool = False) -> Image:
    """The image module of frames of a transfer syntax."""
    shape = Shape(rows, columns, samples, 8 if bits <= 8 else 16, 1, "RGB" if samples == 3 else "MONOCHROME2")
    return Image(shape, syntax_of(uid), bits, bits - 1, signed, 0, True, None)


@pytest.mark.parametrize("bits", [2, 7, 8, 9, 10, 12, 13, 15, 16])
@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data")
def test_lossless_jpegs_come_back(bits: int) -> None:
    """Of every depth, by every predictor, grey and RGB; pydicom with libjpeg reads the same of the same frame."""
    chance = np.random.default_rng(bits)
    kind = np.uint8 if bits <= 8 else np.uint16
    judge = get_decoder("1.2.840.10008.1.2.4.57")
    for predictor in range(1, 8):
        shape = (11, 13, 3) if predictor % 2 and bits <= 8 else (11, 13)
        wanted = chance.integers(0, 1 << bits, shape).astype(kind)
        frame = lossless(wanted, bits, predictor)
        image = compressed("1.2.840.10008.1.2.4.57", 11, 13, 3 if len(shape) == 3 else 1, bits)
        samples, _ = decode_frame(frame, image)

        assert np.array_equal(samples, wanted)
        if predictor == 1:
            theirs, _ = judge.as_array(
                encapsulate([frame + b"\0" * (len(frame) % 2)], has_bot=False),
                index=0,
                decoding_plugin="pylibjpeg",
                **judged(image),
            )
            assert np.array_equal(theirs, wanted)


def judged(image: Image) -> dict[str, object]:
    """An image as pydicom wants it told."""
    shape = image.shape
    return {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "photometric_interpretation": shape.photometric,
        "bits_allocated": shape.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": int(image.signed),
        "planar_configuration": 0,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }


def test_lossless_jpegs_of_signed_samples() -> None:
    """What was written as two's complement is read as such, also where fewer bits than sixteen are allocated for."""
    wanted = np.array([[-32768, -1, 0], [1, 2, 32767]], np.int16)
    frame = lossless(wanted.view(np.uint16), 16, 1)
    samples, _ = decode_frame(frame, compressed("1.2.840.10008.1.2.4.70", 2, 3, signed=True))

    assert np.array_equal(samples, wanted)
    few = lossless(np.array([[1, 2, 3]], np.uint8), 8, 1)
    image = compressed("1.2.840.10008.1.2.4.70", 1, 3, bits=12)
    assert decode_frame(few, image)[0].tolist() == [[1, 2, 3]]
    assert decode_frame(few, image)[0].dtype == np.uint16


def test_a_lossless_jpeg_with_restarts() -> None:
    """After whole rows, as the standard has it (10918-1 H.1.1); of others, decoders make pictures that are wrong."""
    wanted = np.array([[100, 101, 103], [99, 98, 100]], np.uint8)
    image = compressed("1.2.840.10008.1.2.4.70", 2, 3, bits=8)

    assert np.array_equal(decode_frame(restarted(wanted, 3), image)[0], wanted)
    with pytest.raises(ContentError):
        decode_frame(restarted(wanted, 2), image)


def restarted(samples: np.ndarray, interval: int) -> bytes:
    """A lossless JPEG of 8 bits by predictor 1, restarted after every ``interval`` samples (10918-1 H.1, H.2).

    Its Huffman table: differences of 0 to 7 bits, each by a code of three bits, but for the last, which has four.
    """
    rows, columns = samples.shape
    table = bytes([0, 0, 7, 1, *([0] * 12), *range(8)])
    codes = {size: f"{size:03b}" for size in range(7)} | {7: "1110"}
    out, bits, flat = b"", "", samples.astype(int).ravel().tolist()
    for place, value in enumerate(flat):
        fresh = place % interval == 0
        if fresh and place:
            out += packed(bits) + bytes([0xFF, 0xD0 + (place // interval - 1) % 8])
            bits = ""
        before = flat[place - 1] if place % columns else flat[place - columns]
        predicted = 128 if fresh else before
        difference = value - predicted
        size = abs(difference).bit_length()
        bits += codes[size]
        if size:
            bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    marked = [
        (0xC4, b"\0" + table),
        (0xC3, struct.pack(">BHHBBBB", 8, rows, columns, 1, 1, 0x11, 0)),
        (0xDD, struct.pack(">H", interval)),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    ]
    head = b"".join(struct.pack(">BBH", 0xFF, code, 2 + len(value)) + value for code, value in marked)
    return b"\xff\xd8" + head + out + packed(bits) + b"\xff\xd9"


def packed(bits: str) -> bytes:
    """Bits as bytes, filled up with ones; an FF is followed by a zero."""
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return data.replace(b"\xff", b"\xff\x00")


def test_frames_as_plain_bytes() -> None:
    """Big endian, words and single bits become what Explicit VR Little Endian has; compressed ones pydicom's array."""
    shape = Shape(1, 3, 1, 16, 1)
    big = Image(shape, syntax_of("1.2.840.10008.1.2.2"), 16, 15, False, 0, False, None)
    assert plain_bytes(b"\0\1\0\2\0\3", big) == b"\1\0\2\0\3\0"
    words = replace(big, shape=replace(shape, bits_allocated=8, word_bytes=2), bits_stored=8, high_bit=7)
    assert plain_bytes(b"\2\1\4\3", words) == b"\1\2\3"
    assert plain_bytes(b"\2\1\4\3", words, 8) == b"\2\3\4"
    single = replace(big, little=True, shape=replace(shape, bits_allocated=1))
    assert plain_bytes(bytes([0b00101000]), single, 3) == bytes([0b101])
    with pytest.raises(ContentError):
        plain_bytes(b"\0\1", big)
    opened = Opened((TEST_FILES / "SC_rgb_rle_2frame.dcm").read_bytes())
    frame = drive(read_frame(opened.pixel, len(opened.data), 2, 2), opened.fetch)
    data = b"".join(opened.fetch(piece.offset, piece.length) for piece in frame.pieces)
    assert plain_bytes(data, opened.image) == pixel_array(TEST_FILES / "SC_rgb_rle_2frame.dcm", index=1).tobytes()


@pytest.mark.parametrize(
    ("viewport", "size", "corner"),
    [
        (Viewport(64, 32), (32, 32), 0),
        (Viewport(256, 300), (256, 256), 0),
        (Viewport(8, 8, enlarging=False), (8, 8), 0),
        (Viewport(300, 300, enlarging=False), (128, 128), 0),
        (Viewport(32, 32, 64, 64), (32, 32), 200),
        (Viewport(128, 128, mirrored=True, upside_down=True), (128, 128), 200),
        (Viewport(10, 10, 100, 0, 5.5, 11), (5, 10), 100),
    ],
)
def test_viewports(viewport: Viewport, size: tuple[int, int], corner: int) -> None:
    """A region, as large as can be in the box; its upper left corner says what was shown."""
    picture = np.zeros((128, 128), np.uint8)
    picture[64:, 64:] = 200
    picture[:64, 64:] = 100
    seen = Pictures.open(io.BytesIO(encode(picture, "image/png", viewport=viewport)))

    assert seen.size == size
    assert abs(int(np.asarray(seen)[0, 0]) - corner) <= 8


def test_a_viewport_beside_the_picture() -> None:
    """There is nothing to show."""
    for wrong in (Viewport(8, 8, 128, 0), Viewport(8, 8, 0, 0, 129, 1), Viewport(8, 8, 0, 127, 1, 2)):
        with pytest.raises(RequestError):
            encode(np.zeros((128, 128), np.uint8), viewport=wrong)


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

    assert pictures < 60
    assert pictures or "jpeg_ls" in name  # CharLS takes none of them


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
