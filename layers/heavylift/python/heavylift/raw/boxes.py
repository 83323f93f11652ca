"""Canon CR3: an ISO base media file with JPEGs in three places. No I/O here.

Facts: ISO/IEC 14496-12 chapter 4 (boxes, 64-bit sizes) and 8 (moov, trak, stsd, stsz, co64). Canon publishes nothing
of its own boxes; CMT1, CMT2 and CMT4 (TIFF blocks of directory 0, Exif and GPS), THMB, PRVW and the CRAW sample entry
are as ExifTool's and the canon_cr3 project's descriptions say. What is found is a candidate only: it must be a JPEG.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import EXIF_IFD, NO_WORDS, CameraWords, read_gps, within, words_of
from heavylift.ranges import Range, Reader
from heavylift.raw.estimate import develop_bytes
from heavylift.raw.model import JPEG, NOTES_MAX, PREVIEWS_MAX, Preview, RawFacts, RawStructure
from heavylift.tiff import tags
from heavylift.tiff.ifd import parse_header, read_ifd, read_integer

DEPTH_MAX: Final = 8
BOXES_MAX: Final = 200  # in one box; real files have 10
BOXES_ALL_MAX: Final = 800
CANON: Final = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")  # inside moov: CMT1..4, THMB
CANON_PREVIEW: Final = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")  # beside moov: PRVW
_DESCENDED: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})


@dataclass(slots=True)
class _Track:
    width: int = 0
    height: int = 0
    offset: int = 0
    length: int = 0


@dataclass(slots=True)
class _Found:
    previews: list[Preview] = field(default_factory=list)
    tracks: list[_Track] = field(default_factory=list)
    blocks: dict[bytes, Range] = field(default_factory=dict)
    data: list[Range] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    boxes: int = 0


def read_cr3(size_bytes: int) -> Reader[RawStructure]:
    """The structure of a CR3: small reads, all but PRVW's near the front. Broken boxes end the walk and are noted."""
    found = _Found()
    yield from _boxes(0, size_bytes, b"", 0, size_bytes, found)
    words = NO_WORDS
    width = height = 0
    for name in (b"CMT1", b"CMT2"):
        block = found.blocks.get(name)
        if block is None:
            continue
        try:
            more, block_width, block_height = yield from within(_block(block.length), block.offset)
        except ContentError as error:
            found.notes.append(f"{name.decode()}: {error.message}")
            continue
        words = CameraWords(
            words.make or more.make,
            words.model or more.model,
            # CMT2 is the Exif directory: its date is when the picture was taken, CMT1's when it was written.
            more.captured_at or words.captured_at,
            words.orientation or more.orientation,
        )
        width, height = width or block_width, height or block_height
    for number, track in enumerate(found.tracks):
        if track.offset and track.length:
            found.previews.append(Preview(JPEG, f"track {number + 1}", track.offset, track.length))
        if track.width * track.height > width * height:
            width, height = track.width, track.height
    gps = yield from _place(found)
    facts = RawFacts(
        width,
        height,
        "CFA",
        14 if found.tracks else 0,
        "CR3",
        "crx",
        None,
        words.orientation or 1,
        develop_bytes(width, height) if width and height else 0,
        make=words.make,
        model=words.model,
        captured_at=words.captured_at,
        gps=gps,
    )
    return RawStructure(
        facts,
        tuple(found.previews[:PREVIEWS_MAX]),
        words.orientation,
        data=tuple(found.data),
        notes=tuple(found.notes[:NOTES_MAX]),
    )


def _place(found: _Found) -> Reader[dict[str, float] | None]:
    """CMT4's directory is the GPS directory itself."""
    block = found.blocks.get(b"CMT4")
    if block is None:
        return None

    def read() -> Reader[dict[str, float] | None]:
        header = parse_header((yield Range(0, min(16, block.length))))
        ifd = yield from read_ifd(header, header.first_ifd, block.length)
        return (yield from read_gps(ifd, block.length))

    try:
        return (yield from within(read(), block.offset))
    except ContentError:
        return None


def _block(size_bytes: int) -> Reader[tuple[CameraWords, int, int]]:
    """A TIFF block: its first directory is directory 0 or the Exif directory itself."""
    header = parse_header((yield Range(0, min(16, size_bytes))))
    ifd = yield from read_ifd(header, header.first_ifd, size_bytes)
    words = yield from words_of(ifd, None if EXIF_IFD in ifd.entries else ifd, size_bytes)
    width = yield from read_integer(ifd, tags.IMAGE_WIDTH, size_bytes, 0)
    height = yield from read_integer(ifd, tags.IMAGE_LENGTH, size_bytes, 0)
    return words, max(0, width), max(0, height)


def _boxes(at: int, end: int, parent: bytes, depth: int, size_bytes: int, found: _Found) -> Reader[None]:
    for _ in range(BOXES_MAX):
        if at + 8 > end:
            return
        found.boxes += 1
        if found.boxes > BOXES_ALL_MAX:
            found.notes.append(f"more than {BOXES_ALL_MAX} boxes")
            return
        head = yield Range(at, min(32, end - at))
        size, kind = struct.unpack_from(">I4s", head)
        body = at + 8
        if size == 1:
            if len(head) < 16:
                return
            (size,) = struct.unpack_from(">Q", head, 8)
            body = at + 16
        elif size == 0:
            size = end - at
        if size < body - at:
            found.notes.append(f"a box of {size} bytes at {at}")
            return
        box_end = at + size
        if depth == 0 and kind == b"mdat":
            found.data.append(Range(body, size - (body - at)))
        elif box_end > end:
            found.notes.append(f"box {kind!r} at {at} ends at {box_end}, {end} is the end")
            if depth == 0:
                found.data.append(Range(at, size))
        box_end = min(box_end, end)
        try:
            yield from _box(kind, head[body - at :], body, box_end, parent, depth, size_bytes, found)
        except (ContentError, struct.error) as error:
            found.notes.append(f"box {kind!r} at {at}: {error}")
        at = box_end
    found.notes.append(f"more than {BOXES_MAX} boxes in one")


def _box(
    kind: bytes, start: bytes, body: int, end: int, parent: bytes, depth: int, size_bytes: int, found: _Found
) -> Reader[None]:
    if kind in _DESCENDED and depth < DEPTH_MAX:
        if kind == b"trak":
            found.tracks.append(_Track())
        yield from _boxes(body, end, kind, depth + 1, size_bytes, found)
    elif kind == b"uuid" and start[:16] == CANON and depth < DEPTH_MAX:
        yield from _boxes(body + 16, end, CANON, depth + 1, size_bytes, found)
    elif kind == b"uuid" and start[:16] == CANON_PREVIEW:
        yield from _boxes(body + 24, end, CANON_PREVIEW, depth + 1, size_bytes, found)
    elif parent == CANON and kind in (b"CMT1", b"CMT2", b"CMT4"):
        found.blocks.setdefault(kind, Range(body, end - body))
    elif parent == CANON and kind == b"THMB" and body + 16 <= end:
        width, height, length = struct.unpack(">HHI", (yield Range(body + 4, 8)))
        found.previews.append(Preview(JPEG, "THMB", body + 16, length, width, height))
    elif parent == CANON_PREVIEW and kind == b"PRVW" and body + 16 <= end:
        width, height, _, length = struct.unpack(">HHHI", (yield Range(body + 6, 10)))
        found.previews.append(Preview(JPEG, "PRVW", body + 16, length, width, height))
    elif parent == b"stbl" and found.tracks and body + 12 <= end:
        yield from _sample_table(kind, body, end, found.tracks[-1])


def _sample_table(kind: bytes, body: int, end: int, track: _Track) -> Reader[None]:
    """Size, place and length of a track's first sample: a CR3's tracks have one."""
    if kind == b"stsd" and body + 8 + 36 <= end:
        entry = yield Range(body + 8, 36)
        if entry[4:8] == b"CRAW":
            track.width, track.height = struct.unpack_from(">HH", entry, 32)
    elif kind == b"stsz":
        size, count = struct.unpack(">II", (yield Range(body + 4, 8)))
        if size == 0 and count and body + 16 <= end:
            (size,) = struct.unpack(">I", (yield Range(body + 12, 4)))
        track.length = size if count else 0
    elif kind == b"co64" and body + 16 <= end:
        count, offset = struct.unpack(">IQ", (yield Range(body + 4, 12)))
        track.offset = offset if count else 0
    elif kind == b"stco":
        count, offset = struct.unpack(">II", (yield Range(body + 4, 8)))
        track.offset = offset if count else 0
