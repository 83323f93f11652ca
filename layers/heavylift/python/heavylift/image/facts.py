"""What a picture is, from its headers and directories alone: no pixel is decoded. No I/O here.

For TIFF this is also the proof of soundness: every strip or tile lies inside the file and is large enough for the
pixels it claims. A file that passes can still be corrupt inside its compressed data; only decoding shows that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from heavylift.errors import ContentError
from heavylift.image import headers
from heavylift.image.estimate import whole_decode_bytes
from heavylift.image.exif import CameraWords, read_exif, words_of
from heavylift.image.headers import PictureHeader
from heavylift.ranges import Reader
from heavylift.sniff import Detection
from heavylift.tiff import tags
from heavylift.tiff.ifd import IFDS_MAX, Directories, Ifd, read_array, read_header, read_ifd, read_integer, walk
from heavylift.tiff.layout import PIXELS_MAX, Picture, check_decodable, main_picture, read_chunks

TIFF_FORMATS: Final = frozenset({"TIFF", "BigTIFF", "SVS", "OME-TIFF"})
LAST_PAGE_CHUNKS_MAX: Final = 4096  # of the last page's: its arrays are then 32 KiB each
# RAW formats that are TIFFs from their first byte on.
TIFF_RAW_FORMATS: Final = frozenset({"DNG", "NEF", "CR2", "ARW", "PEF", "SRW", "3FR", "IIQ", "ORF", "RW2", "RAW"})


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Width and height as stored, before orientation (0: only decoding tells); ``mode`` in Pillow's names.

    ``estimated_memory_bytes``: of decoding the whole picture at once. ``interlaced`` and ``sampled`` as in
    PictureHeader. ``levels``: sizes that the file holds (pyramids, JPEG 2000), the picture itself included.
    ``captured_at``: the camera's clock as ``2024-05-01T12:34:56``, with an offset where the camera knew one. ``gps`` as
    in CameraWords.
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
    make: str | None = None
    model: str | None = None
    captured_at: str | None = None
    gps: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class TiffStructure:
    """A TIFF's directories with the picture it is about, and its facts.

    ``flaw``: what is broken beside that picture, which can be shown all the same.
    """

    facts: ImageFacts
    directories: Directories
    main: Picture
    flaw: ContentError | None = None


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
    reader = headers.READERS.get(detection.format)
    header = headers.UNKNOWN if reader is None else (yield from reader(size_bytes))
    return facts_of_header(detection.format, header, size_bytes)


def inspect_sound(detection: Detection, size_bytes: int) -> Reader[ImageFacts]:
    """As ``inspect``, for whoever decides whether a file is kept: that no decoder here reads it is not its fault."""
    try:
        return (yield from inspect(detection, size_bytes))
    except ContentError as error:
        if error.code != "unsupported_feature":
            raise
    if detection.format in TIFF_FORMATS:
        try:
            return (yield from read_tiff(detection, size_bytes)).facts
        except ContentError as error:
            if error.code != "unsupported_feature":
                raise
    return facts_of_header(detection.format, headers.UNKNOWN, size_bytes)


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
        header.words.make,
        header.words.model,
        header.words.captured_at,
        header.words.gps,
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
    words = yield from _words(directories.pages[0], size_bytes)
    facts = replace(facts, make=words.make, model=words.model, captured_at=words.captured_at, gps=words.gps)
    return TiffStructure(facts, directories, main, (yield from _cut_chain(directories, size_bytes)))


def _words(ifd: Ifd, size_bytes: int) -> Reader[CameraWords]:
    exif = yield from read_exif(ifd.header, ifd, size_bytes)
    return (yield from words_of(ifd, exif, size_bytes))


def _cut_chain(directories: Directories, size_bytes: int) -> Reader[ContentError | None]:
    """``truncated`` where the directory of a further page, or the last page's pixels, lie beyond the file's end."""
    last = directories.pages[-1]
    if len(directories.pages) > 1:
        cut = yield from _cut_page(last, size_bytes)
        if cut is not None:
            return cut
    if directories.complete or not last.next_offset or len(directories.pages) >= IFDS_MAX:
        return None
    if last.next_offset in {ifd.offset for ifd in (*directories.pages, *directories.sub_ifds)}:
        return None
    try:
        yield from read_ifd(last.header, last.next_offset, size_bytes)
    except ContentError as error:
        return error if error.code == "truncated" else None
    return None


def _subfile_type(ifd: Ifd, size_bytes: int) -> Reader[int]:
    try:
        value = yield from read_integer(ifd, tags.NEW_SUBFILE_TYPE, size_bytes, 0)
    except ContentError:
        return 0
    return value


def _cut_page(ifd: Ifd, size_bytes: int) -> Reader[ContentError | None]:
    """A cut file lacks its end, and what lies there is the last page's. Of many pieces only the first are looked at."""
    for starts, lengths in (
        (tags.STRIP_OFFSETS, tags.STRIP_BYTE_COUNTS),
        (tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS),
    ):
        try:
            offsets = yield from read_array(ifd, starts, size_bytes, LAST_PAGE_CHUNKS_MAX)
            counts = yield from read_array(ifd, lengths, size_bytes, LAST_PAGE_CHUNKS_MAX)
        except ContentError as error:
            return error if error.code == "truncated" else None
        end = max((sum(pair) for pair in zip(offsets, counts, strict=False) if pair[1]), default=0)
        if end > size_bytes:
            return ContentError(
                "truncated",
                f"the last page's pixels end at {end}, the file at {size_bytes}",
                needed_bytes=end,
                size_bytes=size_bytes,
            )
    return None


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
