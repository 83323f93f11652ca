"""What a picture is, from its headers and directories alone: no pixel is decoded. No I/O here.

For TIFF this is also the proof of soundness: every strip or tile lies inside the file and is large enough for the
pixels it claims. A file that passes can still be corrupt inside its compressed data; only decoding shows that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.image import headers
from heavylift.image.estimate import whole_decode_bytes
from heavylift.image.headers import PictureHeader
from heavylift.ranges import Reader
from heavylift.sniff import Detection
from heavylift.tiff import tags
from heavylift.tiff.ifd import Directories, Ifd, read_header, read_integer, walk
from heavylift.tiff.layout import PIXELS_MAX, Picture, check_decodable, main_picture, read_chunks, read_picture

TIFF_FORMATS: Final = frozenset({"TIFF", "BigTIFF", "SVS", "OME-TIFF"})
# RAW formats that are TIFFs from their first byte on.
TIFF_RAW_FORMATS: Final = frozenset({"DNG", "NEF", "CR2", "ARW", "PEF", "SRW", "3FR", "IIQ", "ORF", "RW2", "RAW"})


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Width and height as stored, before orientation (0: only decoding tells); ``mode`` in Pillow's names.

    ``estimated_memory_bytes``: of decoding the whole picture at once. ``interlaced`` and ``sampled`` as in
    PictureHeader. ``levels``: sizes that the file holds (pyramids, JPEG 2000), the picture itself included.
    """

    width: int
    height: int
    mode: str
    bits_per_sample: int
    format: str
    compression: str | None
    pages: int | None
    orientation: int
    estimated_memory_bytes: int
    interlaced: bool = False
    sampled: float = 1.0
    levels: int = 1


@dataclass(frozen=True, slots=True)
class TiffStructure:
    """A TIFF's directories with the picture it is about, and its facts."""

    facts: ImageFacts
    directories: Directories
    main: Picture


def inspect(detection: Detection, size_bytes: int) -> Reader[ImageFacts]:
    """A picture's facts. Small reads at scattered offsets: run it behind ``ReadAhead``.

    ContentError ``empty_file``, ``truncated``, ``corrupt``, ``unsupported_feature``, ``limit_exceeded``.
    Memory: for TIFF 4 to 16 bytes a strip or tile.
    """
    if size_bytes == 0:
        raise ContentError("empty_file", "the file is empty", size_bytes=0)
    if detection.format in TIFF_FORMATS:
        structure = yield from read_tiff(detection, size_bytes)
        check_decodable(structure.main)
        yield from read_chunks(structure.main, size_bytes)
        return structure.facts
    if detection.format in TIFF_RAW_FORMATS:
        return (yield from _inspect_raw(detection, size_bytes))
    reader = headers.READERS.get(detection.format)
    header = headers.UNKNOWN if reader is None else (yield from reader(size_bytes))
    return facts_of_header(detection.format, header, size_bytes)


def facts_of_header(format_name: str, header: PictureHeader, size_bytes: int) -> ImageFacts:
    """The facts of a picture that is not a TIFF. ContentError ``limit_exceeded`` over PIXELS_MAX."""
    pixels = header.width * header.height
    if pixels > PIXELS_MAX:
        raise ContentError("limit_exceeded", f"{pixels} pixels, {PIXELS_MAX} allowed", pixels=pixels, limit=PIXELS_MAX)
    estimate = whole_decode_bytes(
        format_name,
        header.width,
        header.height,
        header.mode,
        size_bytes,
        interlaced=header.interlaced,
        sampled=header.sampled,
    )
    return ImageFacts(
        header.width,
        header.height,
        header.mode,
        header.bits_per_sample,
        format_name,
        header.compression,
        header.pages,
        header.orientation,
        estimate,
        header.interlaced,
        header.sampled,
        header.levels,
    )


def read_tiff(detection: Detection, size_bytes: int) -> Reader[TiffStructure]:
    """Directories, main picture and facts of a TIFF; chunk arrays are left to whoever needs them."""
    header = yield from read_header(size_bytes)
    directories = yield from walk(header, size_bytes)
    main = yield from main_picture(directories, size_bytes)
    pages, levels = 0, 1
    for ifd in directories.pages:
        subfile = yield from _subfile_type(ifd, size_bytes)
        if subfile & 0b101 == 0:
            pages += 1
        elif subfile & 0b101 == 1 and ifd.offset != main.ifd.offset:
            levels += 1
    for ifd in directories.sub_ifds:
        subfile = yield from _subfile_type(ifd, size_bytes)
        levels += subfile & 0b101 == 1
    facts = tiff_facts(detection.format, main, size_bytes, max(1, pages) if directories.complete else None, levels)
    return TiffStructure(facts, directories, main)


def _subfile_type(ifd: Ifd, size_bytes: int) -> Reader[int]:
    try:
        value = yield from read_integer(ifd, tags.NEW_SUBFILE_TYPE, size_bytes, 0)
    except ContentError:
        return 0
    return value


def tiff_mode(picture: Picture) -> str:
    """The picture's mode in Pillow's names."""
    if picture.photometric == tags.PALETTE:
        return "P"
    if picture.photometric == tags.SEPARATED:
        return "CMYK"
    if picture.photometric == tags.CIELAB:
        return "LAB"
    if picture.samples >= 3 and picture.photometric in (tags.RGB, tags.YCBCR):
        return "RGBA" if picture.has_alpha else "RGB"
    if picture.has_alpha:
        return "LA"
    if picture.sample_format == 3:
        return "F"
    if picture.bits == 1:
        return "1"
    if picture.bits <= 8:
        return "L"
    return "I;16" if picture.bits <= 16 and picture.sample_format == 1 else "I"


def tiff_facts(format_name: str, picture: Picture, size_bytes: int, pages: int | None, levels: int) -> ImageFacts:
    """The facts of a TIFF's picture."""
    mode = tiff_mode(picture)
    return ImageFacts(
        width=picture.width,
        height=picture.height,
        mode=mode,
        bits_per_sample=picture.bits,
        format=format_name,
        compression=tags.COMPRESSION_NAMES.get(picture.compression, str(picture.compression)),
        pages=pages,
        orientation=picture.orientation,
        estimated_memory_bytes=whole_decode_bytes(
            format_name,
            picture.width,
            picture.height,
            mode,
            # Uncompressed strips are read one by one; libtiff wants the whole file.
            0 if picture.compression == tags.NONE else size_bytes,
            turned=picture.orientation != 1,
        ),
        levels=levels,
    )


def _inspect_raw(detection: Detection, size_bytes: int) -> Reader[ImageFacts]:
    """The largest picture named by a camera file's directories. What cannot be read is left at 0."""
    unknown = facts_of_header(detection.format, headers.UNKNOWN, size_bytes)
    try:
        header = yield from read_header(size_bytes)
        directories = yield from walk(header, size_bytes)
    except ContentError:
        return unknown
    best: Picture | None = None
    for ifd in (*directories.pages, *directories.sub_ifds):
        try:
            picture = yield from read_picture(ifd, size_bytes)
        except ContentError:
            continue
        if best is None or picture.width * picture.height > best.width * best.height:
            best = picture
    if best is None:
        return unknown
    facts = tiff_facts(detection.format, best, size_bytes, None, 1)
    try:
        orientation = yield from read_integer(directories.pages[0], tags.ORIENTATION, size_bytes, 1)
    except ContentError:
        orientation = 1
    return ImageFacts(
        facts.width,
        facts.height,
        "",
        facts.bits_per_sample,
        detection.format,
        facts.compression,
        None,
        orientation if 1 <= orientation <= 8 else 1,
        facts.estimated_memory_bytes,
    )
