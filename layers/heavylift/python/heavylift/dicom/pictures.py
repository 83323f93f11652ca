"""One frame of a file as a picture: from ranges of the object to JPEG or PNG. Format readers; no I/O here.

``read_picture`` fetches the header and one frame's bytes, ``draw`` decodes and renders them. They are two steps, so
that strangers' frames can be decoded in a child that fetches nothing.
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
from heavylift.dicom.pixels import Image, check_memory, decode_frame, image_of
from heavylift.dicom.render import QUALITY, Look, Window, encode, look_of, to_eight_bits
from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader, drive

PIECE_BYTES: Final = 4 << 20
DEFLATED_BYTES_MAX: Final = 64 << 20  # of a deflated file, inflated: it can only be read from its beginning


@dataclass(frozen=True, slots=True)
class Picture:
    """All that drawing one frame takes."""

    image: Image
    look: Look
    data: bytes
    skip_bits: int


def read_picture(header: Header, number: int, budget_bytes: int) -> Reader[Picture]:
    """Frame ``number`` of the file that ``header`` was read of (to its pixel data).

    RequestError ``not_found``; ContentError ``too_large_to_decode`` before the frame is fetched, where drawing it
    would take more than ``budget_bytes``; ``unsupported_feature`` where there are no pixels; and those of the header,
    the frames and the image module.
    """
    pixel = header.pixel_data
    if pixel is None:
        raise ContentError("unsupported_feature", "the instance has no pixel data")
    inflated = b""
    if header.transfer_syntax_uid == syntaxes.DEFLATED:
        inflated = yield from _inflate(header)
        dataset = drive(
            read_dataset(0, len(inflated), header.encoding), lambda offset, length: inflated[offset : offset + length]
        )
    else:
        dataset = yield from read_dataset(header.dataset_offset, header.size_bytes, header.encoding)
    image = image_of(dataset, pixel, header.transfer_syntax_uid)
    check_memory(image, budget_bytes)
    frame = yield from find_frame(header, image, number)
    if header.transfer_syntax_uid == syntaxes.DEFLATED:
        data = b"".join(inflated[piece.offset : piece.end] for piece in frame.pieces)
    else:
        if frame.size_bytes > budget_bytes:
            raise ContentError(
                "too_large_to_decode", f"a frame of {frame.size_bytes} compressed bytes", frame_bytes=frame.size_bytes
            )
        data = yield from _fetch(frame)
    return Picture(image, look_of(dataset, image, number), data, frame.skip_bits)


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


def _inflate(header: Header) -> Generator[Range, bytes, bytes]:
    """The whole dataset of a deflated file. ContentError ``corrupt``, ``truncated``, ``limit_exceeded``."""
    inflater = zlib.decompressobj(-15)
    out = bytearray()
    for start in range(header.dataset_offset, header.size_bytes, PIECE_BYTES):
        data = yield Range(start, min(PIECE_BYTES, header.size_bytes - start))
        while data and not inflater.eof:
            try:
                out += inflater.decompress(data, PIECE_BYTES)
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
) -> bytes:
    """The picture's JPEG or PNG. ContentError as in ``decode_frame``."""
    samples, photometric = decode_frame(picture.data, picture.image, skip_bits=picture.skip_bits)
    shown = to_eight_bits(samples, photometric, picture.image, picture.look, window)
    return encode(shown, media_type, edge=edge, quality=quality)


def dataset_of(header: Header) -> Reader[Dataset]:
    """The whole dataset of a file, for metadata; of a deflated one too, whose long values then have no range."""
    if header.transfer_syntax_uid != syntaxes.DEFLATED:
        return (yield from read_dataset(header.dataset_offset, header.size_bytes, header.encoding))
    inflated = yield from _inflate(header)
    return drive(
        read_dataset(0, len(inflated), header.encoding), lambda offset, length: inflated[offset : offset + length]
    )
