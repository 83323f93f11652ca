"""RAW files that are TIFFs: DNG, NEF, CR2, ARW, PEF, ORF, RW2, SRW, 3FR, IIQ. No I/O here.

Facts: TIFF 6.0; TIFF/EP (ISO 12234-2) for SubIFDs and the tags of sensor data; DNG 1.7 chapters 2 to 4 (previews
are directories with NewSubfileType 1 or 65537, masks and depth maps are not pictures, the orientation of directory 0
is that of all); Exif 2.32 for tags 513 and 514; ExifTool's tag tables for CR2 (0xC640), RW2 (0x2E, 2 to 7, 0x118).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import MAKER_NOTE, CameraWords, integer, read_exif, words_of
from heavylift.ranges import Reader
from heavylift.raw.estimate import develop_bytes
from heavylift.raw.jpeg import read_precision
from heavylift.raw.maker_notes import JPEG_LENGTH, JPEG_START, read_maker_note
from heavylift.raw.model import JPEG, NOTES_MAX, PREVIEWS_MAX, STRIPS, Preview, RawFacts, RawStructure
from heavylift.tiff import tags
from heavylift.tiff.ifd import (
    IFDS_MAX,
    TAG_ARRAY_BYTES_MAX,
    Header,
    Ifd,
    read_array,
    read_header,
    read_ifd,
    read_integers,
)

DEPTH_MAX: Final = 3  # SubIFDs of SubIFDs; real files have one level, some two
CR2_SLICES: Final = 0xC640
RW2_JPEG: Final = 0x2E
RW2_SENSOR: Final = (2, 3)  # width, height of the sensor
RW2_BORDERS: Final = (4, 5, 6, 7)  # top, left, bottom, right of the picture on it
RW2_BITS: Final = 10
RW2_DATA_OFFSET: Final = 0x118
SENSOR_CODINGS: Final = frozenset({34713, 32767, 65535, 32770, 32769, 65000})  # Nikon, Sony, Pentax, Samsung, Kodak
LOSSY_JPEG: Final = 34892
JPEG_XL: Final = 52546
_PREVIEW_COLOURS: Final = frozenset({tags.BLACK_IS_ZERO, tags.RGB, tags.YCBCR})


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory with what decides what it is about; -1 and 0 for fields that are absent."""

    name: str
    ifd: Ifd
    subfile: int
    width: int
    height: int
    compression: int
    photometric: int
    orientation: int

    @property
    def mask(self) -> bool:
        return bool(self.subfile & 4)

    @property
    def sensor(self) -> bool:
        return (
            self.photometric in (tags.CFA, tags.LINEAR_RAW)
            or self.compression in SENSOR_CODINGS
            or CR2_SLICES in self.ifd.entries
        )


def read_tiff_raw(format_name: str, size_bytes: int) -> Reader[RawStructure]:
    """The structure of a TIFF-based RAW file, in a handful of reads behind ``ReadAhead``.

    ContentError ``truncated``, ``corrupt``, ``limit_exceeded`` where the first directory cannot be read. Whatever is
    broken behind it is left out and noted.
    """
    header = yield from read_header(size_bytes)
    notes: list[str] = []
    directories = yield from _walk(header, size_bytes, notes)
    root = directories[0]
    exif = yield from read_exif(header, root.ifd, size_bytes)
    words = yield from words_of(root.ifd, exif, size_bytes)
    sensor = _sensor(format_name, directories)
    previews: list[Preview] = []
    for directory in directories:
        if not directory.mask:
            holds_sensor = directory.sensor or directory is sensor
            previews += yield from _previews_of(format_name, directory, holds_sensor, size_bytes, notes)
    note = None if exif is None else exif.entries.get(MAKER_NOTE)
    if note is not None:
        found = yield from read_maker_note(note, header.order, size_bytes)
        previews += [found] if found else []
    facts = yield from _facts(format_name, sensor, root, words, size_bytes)
    return RawStructure(
        facts,
        _distinct(previews),
        words.orientation,
        sensor.ifd if sensor else None,
        notes=tuple(notes[:NOTES_MAX]),
    )


def _distinct(previews: list[Preview]) -> tuple[Preview, ...]:
    """Two directories may point to the same picture; the one that knows its size counts."""
    kept: dict[int, Preview] = {}
    for preview in previews:
        known = kept.get(preview.offset)
        if known is None or (not known.width and preview.width):
            kept[preview.offset] = preview
    return tuple(kept.values())[:PREVIEWS_MAX]


def _walk(header: Header, size_bytes: int, notes: list[str]) -> Reader[list[_Directory]]:
    """Directory 0, the chain behind it and all SubIFDs: each once, at most IFDS_MAX, near ones in one read.

    What is known to be ahead is read in the order of the file, so that directories next to each other share a read.
    """
    seen: set[int] = set()
    found: list[_Directory] = []
    ahead: list[tuple[int, int, str]] = [(header.first_ifd, 0, "IFD 0")]
    while ahead:
        ahead.sort()
        offset, depth, name = ahead.pop(0)
        if offset in seen:
            notes.append(f"{name} at {offset}: seen before")
            continue
        if len(seen) >= IFDS_MAX:
            notes.append(f"more than {IFDS_MAX} directories")
            break
        seen.add(offset)
        try:
            ifd = yield from read_ifd(header, offset, size_bytes)
        except ContentError as error:
            if not found:
                raise
            notes.append(f"{name}: {error.message}")
            continue
        found.append((yield from _describe(name, ifd, size_bytes)))
        if ifd.next_offset:
            ahead.append((ifd.next_offset, depth, _following(name)))
        if depth < DEPTH_MAX and tags.SUB_IFDS in ifd.entries:
            try:
                subs = yield from read_integers(ifd, tags.SUB_IFDS, size_bytes, IFDS_MAX)
            except ContentError as error:
                notes.append(f"SubIFDs of {name}: {error.message}")
                subs = ()
            ahead += [(sub, depth + 1, f"SubIFD {number} of {name}") for number, sub in enumerate(subs)]
    return found


def _following(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return f"IFD {int(rest) + 1}" if kind == "IFD" else f"the one after {name}"[:120]


def _describe(name: str, ifd: Ifd, size_bytes: int) -> Reader[_Directory]:
    subfile = yield from integer(ifd, tags.NEW_SUBFILE_TYPE, size_bytes)
    width = yield from integer(ifd, tags.IMAGE_WIDTH, size_bytes)
    height = yield from integer(ifd, tags.IMAGE_LENGTH, size_bytes)
    compression = yield from integer(ifd, tags.COMPRESSION, size_bytes, -1)
    photometric = yield from integer(ifd, tags.PHOTOMETRIC, size_bytes, -1)
    orientation = yield from integer(ifd, tags.ORIENTATION, size_bytes)
    if not 1 <= orientation <= 8:
        orientation = 0
    return _Directory(name, ifd, subfile, max(0, width), max(0, height), compression, photometric, orientation)


def _sensor(format_name: str, directories: list[_Directory]) -> _Directory | None:
    """The directory of the sensor data: the largest that is no reduced version of another."""
    if format_name in ("RW2", "ORF"):
        return directories[0]
    sensors = [each for each in directories if each.sensor and not each.mask]
    if format_name == "CR2" and not sensors:
        sensors = [each for each in directories if each.name == "IFD 3"]
    whole = [each for each in sensors if not each.subfile & 1 and each.subfile & 0xFFFF != 16] or sensors
    return max(whole, key=lambda each: each.width * each.height, default=None)


def _previews_of(
    format_name: str, directory: _Directory, holds_sensor: bool, size_bytes: int, notes: list[str]
) -> Reader[list[Preview]]:
    ifd, name = directory.ifd, directory.name
    found: list[Preview] = []
    if format_name == "RW2" and RW2_JPEG in ifd.entries:
        entry = ifd.entries[RW2_JPEG]
        if entry.inline is None and entry.size_bytes:
            found.append(Preview(JPEG, "JpgFromRaw", entry.offset, entry.size_bytes))
    start = yield from integer(ifd, JPEG_START, size_bytes)
    length = yield from integer(ifd, JPEG_LENGTH, size_bytes)
    coded = directory.compression in (tags.OLD_JPEG, tags.JPEG) and not holds_sensor
    size = (directory.width, directory.height) if coded else (0, 0)
    if start > 0 and length > 0:
        found.append(Preview(JPEG, name, start, length, *size, orientation=directory.orientation))
        return found
    if holds_sensor or directory.width == 0 or directory.height == 0:
        return found
    if directory.compression == JPEG_XL:
        notes.append(f"{name}: a JPEG XL of {directory.width} x {directory.height}, passed over")
        return found
    strips = ifd.entries.get(tags.STRIP_OFFSETS)
    jpeg = directory.compression in (tags.OLD_JPEG, tags.JPEG, LOSSY_JPEG)
    if directory.photometric not in _PREVIEW_COLOURS and not (jpeg and directory.photometric == -1):
        return found  # palettes, masks, depths: no pictures of what the camera saw
    if jpeg and strips is not None and strips.count == 1 and tags.JPEG_TABLES not in ifd.entries:
        start = yield from integer(ifd, tags.STRIP_OFFSETS, size_bytes)
        length = yield from integer(ifd, tags.STRIP_BYTE_COUNTS, size_bytes)
        if start > 0 and length > 0:
            size = (directory.width, directory.height)
            found.append(Preview(JPEG, name, start, length, *size, orientation=directory.orientation))
    elif (
        directory.compression in tags.DECODABLE
        and (directory.subfile & 1 or directory.photometric != tags.BLACK_IS_ZERO)
        and format_name != "CR2"  # a CR2's are sensor values, unprocessed
    ):
        preview = Preview(STRIPS, name, ifd.offset, 0, directory.width, directory.height, directory.orientation, ifd)
        found.append(preview)
    return found


def _facts(
    format_name: str, sensor: _Directory | None, root: _Directory, words: CameraWords, size_bytes: int
) -> Reader[RawFacts]:
    width = height = bits = 0
    compression: str | None = None
    mode = "CFA"
    if sensor is not None:
        width, height = sensor.width, sensor.height
        bits = yield from integer(sensor.ifd, tags.BITS_PER_SAMPLE, size_bytes)
        if sensor.compression >= 0:
            compression = tags.COMPRESSION_NAMES.get(sensor.compression, str(sensor.compression))
        if sensor.photometric == tags.LINEAR_RAW:
            samples = yield from integer(sensor.ifd, tags.SAMPLES_PER_PIXEL, size_bytes, 1)
            mode = "L" if samples == 1 else "RGB"
        if format_name == "CR2" and not bits:
            start = yield from integer(sensor.ifd, tags.STRIP_OFFSETS, size_bytes)
            length = yield from integer(sensor.ifd, tags.STRIP_BYTE_COUNTS, size_bytes)
            if 0 < start < start + length <= size_bytes:
                bits = yield from read_precision(start, length)
    if format_name == "RW2":
        width, height, bits = yield from _rw2_size(root.ifd, size_bytes)
    if not (width and height):
        width, height = words.pixel_width, words.pixel_height
    if not (width and height) and format_name == "CR2":
        width, height = root.width, root.height
    return RawFacts(
        width,
        height,
        mode,
        bits if 0 < bits <= 64 else 0,
        format_name,
        compression,
        None,
        words.orientation or 1,
        develop_bytes(width, height, mode) if width and height else 0,
        make=words.make,
        model=words.model,
        captured_at=words.captured_at,
        gps=words.gps,
    )


def _rw2_size(ifd: Ifd, size_bytes: int) -> Reader[tuple[int, int, int]]:
    values = []
    for tag in (*RW2_SENSOR, *RW2_BORDERS, RW2_BITS):
        values.append((yield from integer(ifd, tag, size_bytes)))
    width, height, top, left, bottom, right, bits = values
    if 0 <= left < right <= width and 0 <= top < bottom <= height:
        return right - left, bottom - top, bits
    return max(0, width), max(0, height), bits


def check_sensor(format_name: str, ifd: Ifd, size_bytes: int) -> Reader[None]:
    """The strips or tiles of the sensor data lie inside the file, and a DNG's uncompressed ones hold all its pixels.

    ContentError ``truncated`` where they do not.

    Memory: 2 to 8 bytes a chunk and array, at most 2 x TAG_ARRAY_BYTES_MAX.
    """
    at = yield from integer(ifd, RW2_DATA_OFFSET, size_bytes)
    if at and ifd.header.magic == 0x55:
        if at >= size_bytes:
            raise _outside(1, 1, size_bytes)
        return
    for offsets_tag, counts_tag in (
        (tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS),
        (tags.STRIP_OFFSETS, tags.STRIP_BYTE_COUNTS),
    ):
        if offsets_tag not in ifd.entries:
            continue
        offsets = yield from read_array(ifd, offsets_tag, size_bytes, TAG_ARRAY_BYTES_MAX // 8)
        counts = yield from read_array(ifd, counts_tag, size_bytes, TAG_ARRAY_BYTES_MAX // 8)
        if len(counts) == len(offsets):
            outside = sum(1 for pair in zip(offsets, counts, strict=True) if pair[1] and sum(pair) > size_bytes)
        else:
            outside = sum(1 for offset in offsets if offset >= size_bytes)
        if outside:
            raise _outside(outside, len(offsets), size_bytes)
        # Makers say 16 bits of samples that they pack; DNG says how many there are.
        if format_name == "DNG" and len(counts) == len(offsets):
            yield from _check_pixels(ifd, sum(counts), size_bytes)


def _check_pixels(ifd: Ifd, stored_bytes: int, size_bytes: int) -> Reader[None]:
    if (yield from integer(ifd, tags.COMPRESSION, size_bytes, 1)) != tags.NONE:
        return
    width = yield from integer(ifd, tags.IMAGE_WIDTH, size_bytes)
    height = yield from integer(ifd, tags.IMAGE_LENGTH, size_bytes)
    samples = yield from integer(ifd, tags.SAMPLES_PER_PIXEL, size_bytes, 1)
    bits = yield from integer(ifd, tags.BITS_PER_SAMPLE, size_bytes, 1)
    needed = (width * samples * bits + 7) // 8 * height
    if stored_bytes < needed:
        raise ContentError(
            "truncated",
            f"sensor data of {width} x {height} pixels need {needed} bytes, {stored_bytes} are stored",
            needed_bytes=needed,
            stored_bytes=stored_bytes,
        )


def _outside(outside: int, chunks: int, size_bytes: int) -> ContentError:
    return ContentError(
        "truncated",
        f"{outside} of {chunks} pieces of the sensor data lie outside the file of {size_bytes} bytes",
        chunks_outside=outside,
        chunks=chunks,
        size_bytes=size_bytes,
    )
