"""JPEGs inside other files: their true size, and the camera's words in their Exif block. No I/O here.

Facts: ITU T.81 annex B; Exif 2.32 4.5.4 (an Exif block is a TIFF of its own).
"""

from __future__ import annotations

from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import NO_WORDS, CameraWords, read_words, within
from heavylift.image.headers import PictureHeader, read_jpeg
from heavylift.ranges import Range, Reader

READS_MAX: Final = 160  # up to the frame header of a preview: an Exif block, MakerNotes, profiles
SEGMENTS_LOOKED_AT: Final = 8  # for the Exif block, which stands first or second


def read_frame(offset: int, length: int, size_bytes: int) -> Reader[PictureHeader]:
    """The frame header of the JPEG at ``offset``: baseline, extended or progressive.

    ContentError: outside the file, no JPEG, or one that no preview is (lossless: sensor data).
    """
    if offset + length > size_bytes:
        raise ContentError(
            "truncated",
            f"a JPEG at {offset} of {length} bytes, file of {size_bytes}",
            offset=offset,
            length=length,
            size_bytes=size_bytes,
        )
    if length < 64 or (yield Range(offset, 2)) != b"\xff\xd8":
        raise ContentError("corrupt", f"no JPEG begins at {offset}", offset=offset)
    header = yield from within(read_jpeg(length), offset, READS_MAX)
    if header.bits_per_sample != 8:
        raise ContentError("unsupported_feature", f"a JPEG of {header.bits_per_sample} bits a sample")
    return header


def read_precision(offset: int, length: int) -> Reader[int]:
    """Bits a sample of the JPEG at ``offset``, lossless ones too; 0 where no frame header is found near its front."""
    at = offset + 2
    for _ in range(SEGMENTS_LOOKED_AT):
        if at + 10 > offset + length:
            break
        head = yield Range(at, 10)
        if head[0] != 0xFF:
            break
        if 0xC0 <= head[1] <= 0xCF and head[1] not in (0xC4, 0xC8, 0xCC):
            return head[4]
        at += 2 + int.from_bytes(head[2:4], "big")
    return 0


def read_jpeg_words(offset: int, length: int) -> Reader[CameraWords]:
    """What the Exif block of the JPEG at ``offset`` says. Nothing where there is none."""
    at = offset + 2
    for _ in range(SEGMENTS_LOOKED_AT):
        if at + 10 > offset + length:
            break
        head = yield Range(at, 10)
        if head[0] != 0xFF or head[1] in (0xDA, 0xD9):
            break
        segment = int.from_bytes(head[2:4], "big")
        if segment < 2:
            break
        if head[1] == 0xE1 and segment > 16 and head[4:10] == b"Exif\0\0":
            return (yield from within(read_words(min(segment - 8, offset + length - at - 10)), at + 10))
        at += 2 + segment
    return NO_WORDS
