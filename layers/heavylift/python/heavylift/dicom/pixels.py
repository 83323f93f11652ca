"""One frame's bytes to samples: native by numpy, compressed by pydicom's decoders. Pure functions; no I/O here.

Facts: PS3.3 C.7.6.3 (image pixel module), PS3.5 8.1 and 8.2 (how samples lie in words, compressed syntaxes). What a
frame needs in memory is estimated from its measures alone, before anything is decoded. A decoder may crash its process
or run wild on a made file, so whoever serves strangers' files calls this module in a child.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heavylift.dicom.codestreams import size_of, tells_size
from heavylift.dicom.dataset import Dataset
from heavylift.dicom.elements import PixelElement
from heavylift.dicom.frames import END_BYTES, END_OF_IMAGE, Shape
from heavylift.dicom.syntaxes import Codec, Syntax, syntax_of
from heavylift.dicom.values import integer
from heavylift.errors import ContentError

Samples = NDArray[Any]

DIMENSION_MAX: Final = 65_535  # US
_PIXEL_DATA: Final = 0x7FE00010
_FLOATS: Final = {0x7FE00008: "f4", 0x7FE00009: "f8"}
_GREY: Final = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOURS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
# Decoded bytes that a decoder holds beside its result, for each sample: OpenJPEG and libjpeg work in 32 bits.
_WORK_BYTES: Final[dict[Codec, int]] = {
    Codec.NATIVE: 0,
    Codec.RLE: 8,
    Codec.JPEG: 3,
    Codec.JPEG_LS: 4,
    Codec.JPEG_EXTENDED: 12,
    Codec.JPEG_LOSSLESS: 12,
    Codec.JPEG_2000: 12,
    Codec.HTJ2K: 12,
}


# pylibjpeg-rle is not among them: it panics over damaged segments, and its exception is no Exception.
_PLUGINS: Final[dict[Codec, str]] = {
    Codec.JPEG: "pillow",
    Codec.JPEG_EXTENDED: "pillow",
    Codec.JPEG_LS: "pyjpegls",
    Codec.JPEG_2000: "pylibjpeg",
    Codec.HTJ2K: "pylibjpeg",
    Codec.RLE: "pydicom",
}
# A frame that is cut becomes a picture with zeros at its end unless its end is looked for.
_ENDED: Final = frozenset({Codec.JPEG_LS, Codec.JPEG_LOSSLESS, Codec.JPEG_EXTENDED})


@dataclass(frozen=True, slots=True)
class Image:
    """What the pixels of an instance are. ``photometric``: of the stored frames."""

    shape: Shape
    syntax: Syntax
    bits_stored: int
    high_bit: int
    signed: bool
    planar: int
    little: bool
    float_type: str | None

    @property
    def stored_bytes(self) -> int:
        """Bytes of one frame's samples, uncompressed, each in whole bytes."""
        shape = self.shape
        return shape.rows * shape.columns * shape.samples * max(1, shape.bits_allocated // 8)

    @property
    def estimated_memory_bytes(self) -> int:
        """What decoding and rendering one frame takes at most, beside the libraries themselves.

        The frame's bytes, the samples, a corrected copy of them, the decoder's own, eight bits a sample three times
        (rendered, Pillow's, encoded) and a band in floating point.
        """
        samples = self.shape.rows * self.shape.columns * self.shape.samples
        work = _WORK_BYTES.get(self.syntax.codec, 12) * samples
        rendered = self.shape.rows * self.shape.columns * (1 if self.shape.photometric.startswith("MONO") else 3)
        return 3 * self.stored_bytes + work + 3 * rendered + BAND_BYTES


BAND_BYTES: Final = 16 << 20  # of rows in floating point, while they become eight bits


def image_of(dataset: Dataset, pixel: PixelElement, transfer_syntax_uid: str, *, vr: str = "") -> Image:
    """The image module of a header. ContentError ``corrupt``, ``unsupported_feature``."""
    rows, columns = dataset.unsigned(0x00280010) or 0, dataset.unsigned(0x00280011) or 0
    samples = dataset.unsigned(0x00280002) or 1
    float_type = _FLOATS.get(pixel.tag)
    bits = dataset.unsigned(0x00280100) or (int(float_type[1]) * 8 if float_type else 0)
    stored = dataset.unsigned(0x00280101) or bits
    high = dataset.unsigned(0x00280102)
    photometric = dataset.text(0x00280004) or "MONOCHROME2"
    frames = max(1, integer(dataset.value(0x00280008)) or 1)
    if not rows or not columns or not bits or stored > bits:
        raise ContentError("corrupt", "the image has no rows, columns or bits", rows=rows, columns=columns, bits=bits)
    if (samples == 1) != (photometric in _GREY) or (samples == 3) != (photometric in _COLOURS):
        raise ContentError("unsupported_feature", f"{samples} samples a pixel of {_told(photometric)}", samples=samples)
    if float_type is None and bits not in (1, 8, 16, 32):
        raise ContentError("unsupported_feature", f"{bits} bits allocated", bits=bits)
    swapped = bits == 8 and (vr or pixel.vr) == "OW" and not dataset.encoding.little
    shape = Shape(rows, columns, samples, bits, frames, photometric, 2 if swapped else 1)
    return Image(
        shape=shape,
        syntax=syntax_of(transfer_syntax_uid or "1.2.840.10008.1.2"),
        bits_stored=stored,
        high_bit=high if high is not None and stored <= high + 1 <= bits else stored - 1,
        signed=dataset.unsigned(0x00280103) == 1,
        planar=dataset.unsigned(0x00280006) or 0,
        little=dataset.encoding.little,
        float_type=float_type,
    )


def _told(photometric: str) -> str:
    """A photometric interpretation as it may stand in a message: only defined terms are told."""
    known = _GREY | _COLOURS | {"YBR_PARTIAL_420", "YBR_PARTIAL_422", "HSV", "ARGB", "CMYK"}
    return photometric if photometric in known else "another photometric interpretation"


def check_memory(image: Image, budget_bytes: int) -> None:
    """ContentError ``too_large_to_decode`` where the estimate exceeds the budget."""
    estimate = image.estimated_memory_bytes
    if estimate > budget_bytes:
        raise ContentError(
            "too_large_to_decode",
            f"a frame of {image.shape.columns} x {image.shape.rows} needs about {estimate} bytes, "
            f"{budget_bytes} are there",
            estimated_memory_bytes=estimate,
            budget_bytes=budget_bytes,
        )


def decode_frame(data: bytes, image: Image, *, skip_bits: int = 0) -> tuple[Samples, str]:
    """The samples of one frame, (rows, columns) or (rows, columns, 3), and their photometric interpretation.

    Colours come out as RGB, or as YBR_FULL where they were native. ContentError ``truncated``, ``corrupt``,
    ``unsupported_feature``. Memory: ``Image.estimated_memory_bytes``.
    """
    if image.syntax.codec is Codec.NATIVE:
        return _decode_native(data, image, skip_bits)
    return _decode_compressed(data, image)


def _decode_native(data: bytes, image: Image, skip_bits: int) -> tuple[Samples, str]:
    shape = image.shape
    wanted = _check_length(data, shape, skip_bits)
    count = shape.rows * shape.columns
    if shape.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, "u1", wanted), bitorder="little")
        return bits[skip_bits : skip_bits + count].reshape(shape.rows, shape.columns), shape.photometric
    order = "<" if image.little else ">"
    if image.float_type is not None:
        floats = np.frombuffer(data, order + image.float_type, count)
        return floats.reshape(shape.rows, shape.columns), shape.photometric
    if shape.word_bytes == 2:
        even = len(data) // 2 * 2
        data = np.frombuffer(data[:even], ">u2").astype("<u2").tobytes() + data[even:]
    kind = ("i" if image.signed else "u") + str(shape.bits_allocated // 8)
    stored = shape.samples
    if shape.samples == 3 and shape.frame_bits == count * 2 * shape.bits_allocated:
        stored = 2
    flat = np.frombuffer(data, order + kind, count * stored, skip_bits // 8)
    flat = _used_bits(flat, image)
    if stored == 2:
        return _spread_chrominance(flat, shape), "YBR_FULL"
    if shape.samples == 1:
        return flat.reshape(shape.rows, shape.columns), shape.photometric
    if image.planar:
        return flat.reshape(3, shape.rows, shape.columns).transpose(1, 2, 0), shape.photometric
    return flat.reshape(shape.rows, shape.columns, 3), shape.photometric


def _check_length(data: bytes, shape: Shape, skip_bits: int) -> int:
    """The bytes that a native frame takes. ContentError ``truncated``."""
    wanted = (skip_bits + shape.frame_bits + 7) // 8
    if len(data) < wanted:
        raise ContentError(
            "truncated",
            f"a frame needs {wanted} bytes, {len(data)} are there",
            wanted_bytes=wanted,
            got_bytes=len(data),
        )
    return wanted


def plain_bytes(data: bytes, image: Image, skip_bits: int = 0) -> bytes:
    """One frame as little-endian samples, each in the bytes that it is allocated. Errors as in ``decode_frame``.

    A native frame keeps its order of samples (planes, chrominances for two pixels); its bytes are swapped, and single
    bits moved to the begin of a byte. A decoded one has its colours by pixel.
    """
    if image.syntax.codec is not Codec.NATIVE:
        samples, _ = decode_frame(data, image)
        return np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).tobytes()
    shape = image.shape
    _check_length(data, shape, skip_bits)
    count = (shape.frame_bits + 7) // 8
    if shape.bits_allocated == 1:
        if not skip_bits:
            return data[:count]
        bits = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
        return np.packbits(bits[skip_bits : skip_bits + shape.frame_bits], bitorder="little").tobytes()
    if image.little:
        return data[:count]
    word = max(shape.word_bytes, shape.bits_allocated // 8)
    padded = data + b"\0" * (-len(data) % word)
    start = skip_bits // 8  # a frame of odd length may begin within a word
    return np.frombuffer(padded, f">u{word}").astype(f"<u{word}").tobytes()[start : start + count]


def _used_bits(flat: Samples, image: Image) -> Samples:
    """Samples without what lies in their unused bits (old overlays), their sign extended."""
    allocated = image.shape.bits_allocated
    if image.bits_stored == allocated:
        return flat
    native = flat.astype(flat.dtype.newbyteorder("="))
    return native << (allocated - 1 - image.high_bit) >> (allocated - image.bits_stored)


def _spread_chrominance(flat: Samples, shape: Shape) -> Samples:
    """YBR_FULL_422: Y1 Y2 Cb Cr for each two pixels (PS3.3 C.7.6.3.1.2)."""
    if shape.columns % 2:
        raise ContentError("corrupt", "YBR_FULL_422 with an odd number of columns", columns=shape.columns)
    quads = flat.reshape(-1, 4)
    out = np.empty((len(quads) * 2, 3), flat.dtype)
    out[0::2, 0], out[1::2, 0] = quads[:, 0], quads[:, 1]
    out[0::2, 1] = out[1::2, 1] = quads[:, 2]
    out[0::2, 2] = out[1::2, 2] = quads[:, 3]
    return out.reshape(shape.rows, shape.columns, 3)


def _decode_compressed(data: bytes, image: Image) -> tuple[Samples, str]:
    from pydicom.encaps import encapsulate  # costs a tenth of a second; native frames need none of it
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(image.syntax.uid)
    except NotImplementedError:
        raise _undecodable(image) from None
    plugin = _plugin(decoder, image)
    if plugin is None:
        raise _undecodable(image)
    shape = image.shape
    options: dict[str, Any] = {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "photometric_interpretation": shape.photometric,
        "bits_allocated": shape.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": int(image.signed),
        "planar_configuration": image.planar,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "decoding_plugin": plugin,
    }
    if tells_size(image.syntax.codec) and size_of(data, image.syntax.codec) != (
        shape.columns,
        shape.rows,
        shape.samples,
    ):
        raise ContentError("corrupt", f"a {image.syntax.codec} frame has another size than the image, or none")
    if image.syntax.codec in _ENDED and END_OF_IMAGE not in data[-END_BYTES:]:
        raise ContentError("corrupt", f"a {image.syntax.codec} frame has no end")  # its decoder would make one up
    try:
        samples, facts = decoder.as_array(encapsulate([data], has_bot=False), index=0, **options)
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error):
        # RuntimeError: no plugin could; the others come from what a damaged frame makes a plugin do. What they say
        # is not told, for it may quote values of the file.
        raise ContentError("corrupt", f"a frame is no {image.syntax.codec} picture that can be decoded") from None
    return samples, str(facts.get("photometric_interpretation", shape.photometric))


def _plugin(decoder: Any, image: Image) -> str | None:
    """Which of pydicom's plugins decodes the frame: always the same one, whatever else is installed. None: none."""
    from heavylift.dicom import jpegs

    codec = image.syntax.codec
    if codec is Codec.JPEG_LOSSLESS or (codec is Codec.JPEG_EXTENDED and image.bits_stored > 8):
        return jpegs.PLUGIN if jpegs.add_to(decoder) else None
    wanted = _PLUGINS.get(codec)
    return wanted if wanted in decoder.available_plugins else None


def _undecodable(image: Image) -> ContentError:
    return ContentError(
        "unsupported_feature",
        f"pictures of the transfer syntax {image.syntax.uid if image.syntax.codec is not Codec.UNKNOWN else 'given'} "
        f"({image.syntax.codec}) cannot be decoded here",
        codec=str(image.syntax.codec),
    )
