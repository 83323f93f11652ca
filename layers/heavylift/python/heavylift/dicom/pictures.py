"""One frame of a file as a picture: from ranges of the object to JPEG or PNG. Format readers; no I/O here.

``read_image`` reads what a file says of its frames, ``read_one`` fetches one frame's bytes, ``draw`` decodes and
renders them; ``samples_of`` gives them as plain samples instead. They are steps, so that strangers' frames can be
decoded in a child that fetches nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from heavylift.dicom import syntaxes
from heavylift.dicom.dataset import Dataset, read_dataset
from heavylift.dicom.frames import Extended, Frame, native_frame, read_frame
from heavylift.dicom.header import EXTENDED_LENGTHS, EXTENDED_OFFSETS, Header
from heavylift.dicom.pixels import Image, check_memory, decode_frame, image_of, plain_bytes
from heavylift.dicom.render import Look, encode, look_of, to_eight_bits
from heavylift.dicom.viewing import QUALITY, Viewport, Window
from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader, drive

PIECE_BYTES: Final = 16 << 20  # of a frame, asked for at once
INFLATED_AT_ONCE: Final = 4 << 20
DEFLATED_BYTES_MAX: Final = 64 << 20  # of a deflated file, inflated: it can only be read from its beginning


@dataclass(frozen=True, slots=True)
class Picture:
    """All that drawing one frame takes."""

    image: Image
    look: Look
    data: bytes
    skip_bits: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose frames can be taken one after the other. ``inflated``: the dataset of a deflated file."""

    header: Header
    dataset: Dataset
    image: Image
    inflated: bytes = b""


def read_image(header: Header) -> Reader[Opened]:
    """The image module and what else the file that ``header`` was read of (to its pixel data) says of its frames.

    ContentError ``unsupported_feature`` where there are no pixels; and those of the header and the image module.
    """
    pixel = header.pixel_data
    if pixel is None:
        raise ContentError("unsupported_feature", "the instance has no pixel data")
    inflated = b""
    if header.transfer_syntax_uid == syntaxes.DEFLATED:
        inflated = yield from inflate(header)
        dataset = drive(
            read_dataset(0, len(inflated), header.encoding), lambda offset, length: inflated[offset : offset + length]
        )
    else:
        dataset = yield from read_dataset(header.dataset_offset, header.size_bytes, header.encoding)
    return Opened(header, dataset, image_of(dataset, pixel, header.transfer_syntax_uid), inflated)


def read_data(opened: Opened, number: int, budget_bytes: int) -> Reader[tuple[bytes, int]]:
    """The stored bytes of frame ``number``, and how many bits of the frame before they begin with.

    RequestError ``not_found``; ContentError ``too_large_to_decode`` before the frame is fetched, where decoding it
    would take more than ``budget_bytes``; and those of the frames.
    """
    check_memory(opened.image, budget_bytes)
    frame = yield from find_frame(opened.header, opened.image, number)
    if opened.header.transfer_syntax_uid == syntaxes.DEFLATED:
        return b"".join(opened.inflated[piece.offset : piece.end] for piece in frame.pieces), frame.skip_bits
    if frame.size_bytes > budget_bytes:
        raise ContentError(
            "too_large_to_decode", f"a frame of {frame.size_bytes} compressed bytes", frame_bytes=frame.size_bytes
        )
    return (yield from _fetch(frame)), frame.skip_bits


def read_one(opened: Opened, number: int, budget_bytes: int) -> Reader[Picture]:
    """Frame ``number``, to be drawn. Errors as in ``read_data``; ContentError ``corrupt`` without its palette."""
    data, skip_bits = yield from read_data(opened, number, budget_bytes)
    return Picture(opened.image, look_of(opened.dataset, opened.image, number), data, skip_bits)


def read_picture(header: Header, number: int, budget_bytes: int) -> Reader[Picture]:
    """``read_image`` and ``read_one`` of it."""
    opened = yield from read_image(header)
    return (yield from read_one(opened, number, budget_bytes))


def find_frame(header: Header, image: Image, number: int) -> Reader[Frame]:
    """Where frame ``number`` lies. Errors as in ``frames``."""
    pixel = header.pixel_data
    assert pixel is not None
    if pixel.length is not None:
        return native_frame(pixel.offset, pixel.length, image.shape, number)
    offsets, lengths = header.values.get(EXTENDED_OFFSETS), header.values.get(EXTENDED_LENGTHS)
    extended = Extended(offsets, lengths) if offsets and lengths else None
    return (
        yield from read_frame(
            pixel, header.size_bytes, number, image.shape.frames, extended=extended, little=header.little_endian
        )
    )


def _fetch(frame: Frame) -> Reader[bytes]:
    parts = []
    for piece in frame.pieces:
        for start in range(piece.offset, piece.end, PIECE_BYTES):
            parts.append((yield Range(start, min(PIECE_BYTES, piece.end - start))))
    return b"".join(parts)


def inflate(header: Header) -> Generator[Range, bytes, bytes]:
    """The whole dataset of a deflated file. ContentError ``corrupt``, ``truncated``, ``limit_exceeded``."""
    inflater = zlib.decompressobj(-15)
    out = bytearray()
    for start in range(header.dataset_offset, header.size_bytes, INFLATED_AT_ONCE):
        data = yield Range(start, min(INFLATED_AT_ONCE, header.size_bytes - start))
        while data and not inflater.eof:
            try:
                out += inflater.decompress(data, INFLATED_AT_ONCE)
            except zlib.error:
                raise ContentError("corrupt", "the deflated dataset is broken") from None
            if len(out) > DEFLATED_BYTES_MAX:
                raise ContentError(
                    "limit_exceeded",
                    f"a deflated dataset of more than {DEFLATED_BYTES_MAX} bytes",
                    limit_bytes=DEFLATED_BYTES_MAX,
                )
            data = inflater.unconsumed_tail
    if not inflater.eof:
        raise ContentError("truncated", "the deflated dataset has no end", size_bytes=header.size_bytes)
    return bytes(out)


def draw(
    picture: Picture,
    media_type: str = "image/jpeg",
    *,
    window: Window | None = None,
    edge: int | None = None,
    quality: int = QUALITY,
    viewport: Viewport | None = None,
) -> bytes:
    """The picture's JPEG or PNG. ContentError as in ``decode_frame``."""
    samples, photometric = decode_frame(picture.data, picture.image, skip_bits=picture.skip_bits)
    shown = to_eight_bits(samples, photometric, picture.image, picture.look, window)
    return encode(shown, media_type, edge=edge, quality=quality, viewport=viewport)


def samples_of(opened: Opened, data: bytes, skip_bits: int) -> bytes:
    """A frame as Explicit VR Little Endian has it. ContentError as in ``decode_frame``.

    Of a compressed frame: pydicom's array, row after row, colours by pixel and as RGB. Native ones stay as they are
    but for the order of their bytes, and begin at a byte.
    """
    return plain_bytes(data, opened.image, skip_bits)


def dataset_of(header: Header) -> Reader[Dataset]:
    """The whole dataset of a file, for metadata; of a deflated one too, whose long values then have no range."""
    if header.transfer_syntax_uid != syntaxes.DEFLATED:
        return (yield from read_dataset(header.dataset_offset, header.size_bytes, header.encoding))
    inflated = yield from inflate(header)
    return drive(
        read_dataset(0, len(inflated), header.encoding), lambda offset, length: inflated[offset : offset + length]
    )
