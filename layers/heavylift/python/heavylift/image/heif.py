"""HEIC and AVIF: which item is the picture, how large, how turned, and whether its bytes are all there. No I/O here.

Facts: ISO/IEC 14496-12 4.2 (boxes), 8.11 (meta, iloc, iinf, pitm, iref, iprp); ISO/IEC 23008-12 6.5 (ispe, clap, irot,
imir, pixi, auxC), 6.4 (thumbnails, auxiliary images, grids), A.2.1 (Exif items).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from heavylift.errors import ContentError
from heavylift.image.exif import EXIF_BYTES_MAX, NO_WORDS, CameraWords, words_in
from heavylift.ranges import Range, Reader

TOP_BOXES_MAX: Final = 64
BOXES_MAX: Final = 65_536  # in one box: a grid of a gigapixel has some thousand tiles
META_BYTES_MAX: Final = 8 << 20
ITEMS_MAX: Final = 65_536
EXTENTS_MAX: Final = 262_144
NEEDED_BOXES: Final = frozenset({b"ftyp", b"meta", b"mdat", b"moov"})
PICTURE_ITEMS: Final = frozenset({b"hvc1", b"av01", b"grid", b"iovl", b"iden", b"unci", b"jpeg", b"avc1", b"vvc1"})
CODINGS: Final[dict[bytes, str]] = {b"hvcC": "hevc", b"av1C": "av1", b"avcC": "avc", b"vvcC": "vvc"}
# Anticlockwise quarter turns, then mirrored top to bottom (0) or left to right (1), as Exif says it.
TURNS: Final[dict[tuple[int, int | None], int]] = {
    (0, None): 1,
    (1, None): 8,
    (2, None): 3,
    (3, None): 6,
    (0, 0): 4,
    (1, 0): 5,
    (2, 0): 2,
    (3, 0): 7,
    (0, 1): 2,
    (1, 1): 7,
    (2, 1): 4,
    (3, 1): 5,
}


@dataclass(frozen=True, slots=True)
class HeifPicture:
    """The primary item. Width and height as coded, before it is turned; 0 where the file is no still picture.

    ``shown``: width and height of the part that is shown (its clean aperture), before it is turned.
    ``pictures``: how many stand beside each other, None for a film. ``tiles``: of a grid, 1 for one coded picture.
    """

    width: int
    height: int
    orientation: int
    bits_per_sample: int
    has_alpha: bool
    compression: str | None
    pictures: int | None
    icc_profile: bool
    tiles: int
    words: CameraWords
    shown: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class _Meta:
    primary: int = 0
    types: dict[int, bytes] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    of_item: dict[int, list[int]] = field(default_factory=dict)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    places: dict[int, list[Range]] = field(default_factory=dict)


def read_heif_picture(size_bytes: int) -> Reader[HeifPicture]:
    """The picture of a HEIF file. ContentError ``truncated`` where a box or an item's bytes lie beyond the file.

    ``corrupt``, ``limit_exceeded``. Memory: the meta box, META_BYTES_MAX at most.
    """
    meta: _Meta | None = None
    film = False
    at = 0
    for _ in range(TOP_BOXES_MAX):
        if at + 8 > size_bytes:
            break
        head = yield Range(at, min(16, size_bytes - at))
        kind, body, end = box_of(head, at, size_bytes)
        if end > size_bytes and kind not in NEEDED_BOXES:
            break  # what some cameras append is no box
        if end > size_bytes:
            raise ContentError(
                "truncated",
                f"the file's part {kind!r} ends at {end}, the file at {size_bytes}",
                needed_bytes=end,
                size_bytes=size_bytes,
            )
        if kind == b"meta" and meta is None:
            if end - body > META_BYTES_MAX:
                raise ContentError("limit_exceeded", f"a meta box of {end - body} bytes", limit=META_BYTES_MAX)
            data = yield Range(body, end - body)
            try:
                meta = _read_meta(data)
            except (struct.error, IndexError) as error:
                raise ContentError("corrupt", f"a meta box that does not hold what it says: {error}") from error
        film = film or kind == b"moov"
        at = end
    if meta is None:
        return HeifPicture(0, 0, 1, 8, False, None, None, False, 1, NO_WORDS)
    for place in (place for places in meta.places.values() for place in places):
        if place.end > size_bytes:
            raise ContentError(
                "truncated",
                f"a picture's bytes end at {place.end}, the file at {size_bytes}",
                needed_bytes=place.end,
                size_bytes=size_bytes,
            )
    words = yield from _words(meta)
    return _picture(meta, film, words)


def box_of(head: bytes, at: int, end: int) -> tuple[bytes, int, int]:
    """(kind, first byte of the content, end) of the box at ``at``; ContentError ``corrupt`` for an impossible size."""
    size, kind = struct.unpack_from(">I4s", head)
    body = at + 8
    if size == 1:
        if len(head) < 16:
            raise ContentError("truncated", f"a box at {at} without its size")
        (size,) = struct.unpack_from(">Q", head, 8)
        body = at + 16
    elif size == 0:
        size = end - at
    if size < body - at:
        raise ContentError("corrupt", f"a box of {size} bytes at {at}")
    return kind, body, at + size


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(BOXES_MAX):
        if at + 8 > end:
            return
        kind, body, box_end = box_of(data[at : at + 16], at, end)
        if box_end > end:
            raise ContentError("corrupt", f"part {kind!r} at {at} of a meta box ends at {box_end}, {end} is the end")
        yield kind, body, box_end
        at = box_end
    raise ContentError("limit_exceeded", f"more than {BOXES_MAX} boxes in one", limit=BOXES_MAX)


def _read_meta(data: bytes) -> _Meta:
    meta = _Meta()
    for kind, body, end in _boxes(data, 4, len(data)):
        if kind == b"pitm":
            meta.primary = int.from_bytes(data[body + 4 : body + (8 if data[body] else 6)], "big")
        elif kind == b"iinf":
            _read_infos(data, body, end, meta)
        elif kind == b"iref":
            _read_references(data, body, end, meta)
        elif kind == b"iloc":
            _read_places(data, body, meta)
        elif kind == b"iprp":
            for name, start, stop in _boxes(data, body, end):
                if name == b"ipco":
                    meta.properties = [(each, data[a:b]) for each, a, b in _boxes(data, start, stop)]
                elif name == b"ipma":
                    _read_associations(data, start, meta)
    return meta


def _read_infos(data: bytes, body: int, end: int, meta: _Meta) -> None:
    for kind, at, _ in _boxes(data, body + (8 if data[body] else 6), end):
        version = data[at]
        if kind != b"infe" or version < 2:
            continue
        wide = version > 2
        (item,) = struct.unpack_from(">I" if wide else ">H", data, at + 4)
        start = at + (10 if wide else 8)
        meta.types[item] = data[start : start + 4]
        if data[at + 3] & 1:
            meta.hidden.add(item)


def _read_references(data: bytes, body: int, end: int, meta: _Meta) -> None:
    code, width = (">I", 4) if data[body] else (">H", 2)
    for kind, at, stop in _boxes(data, body + 4, end):
        (source,) = struct.unpack_from(code, data, at)
        (count,) = struct.unpack_from(">H", data, at + width)
        start = at + width + 2
        if start + count * width > stop:
            raise ContentError("corrupt", f"{count} references in {stop - start} bytes")
        targets = struct.unpack_from(f">{count}{code[1]}", data, start)
        meta.references.append((kind, source, targets))


def _read_places(data: bytes, body: int, meta: _Meta) -> None:
    version = data[body]
    sizes = data[body + 4], data[body + 5]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version else 0
    wide = version > 1
    (count,) = struct.unpack_from(">I" if wide else ">H", data, body + 6)
    at = body + (10 if wide else 8)
    if count > ITEMS_MAX or any(size not in (0, 4, 8) for size in (offset_size, length_size, base_size, index_size)):
        raise ContentError("corrupt", f"{count} items at offsets of {offset_size} bytes")

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(data):
            raise ContentError("corrupt", "the list of places ends early")
        value = int.from_bytes(data[at : at + size], "big")
        at += size
        return value

    extents = 0
    for _ in range(count):
        item = number(4 if wide else 2)
        method = number(2) & 15 if version else 0
        number(2)  # data reference
        base = number(base_size)
        places = []
        for _ in range(number(2)):
            extents += 1
            if extents > EXTENTS_MAX:
                raise ContentError("limit_exceeded", f"more than {EXTENTS_MAX} extents", limit=EXTENTS_MAX)
            number(index_size)
            offset, length = number(offset_size), number(length_size)
            if length:
                places.append(Range(base + offset, length))
        if method == 0:  # of the file; 1 is inside the meta box, 2 inside another item
            meta.places[item] = places


def _read_associations(data: bytes, body: int, meta: _Meta) -> None:
    wide_item, wide_index = bool(data[body]), bool(data[body + 3] & 1)
    (count,) = struct.unpack_from(">I", data, body + 4)
    if count > ITEMS_MAX:
        raise ContentError("limit_exceeded", f"{count} items with properties", limit=ITEMS_MAX)
    at = body + 8
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if wide_item else ">H", data, at)
        at += 4 if wide_item else 2
        number = data[at]
        at += 1
        if wide_index:
            indices = [value & 0x7FFF for value in struct.unpack_from(f">{number}H", data, at)]
        else:
            indices = [value & 0x7F for value in struct.unpack_from(f">{number}B", data, at)]
        at += number * (2 if wide_index else 1)
        meta.of_item.setdefault(item, []).extend(indices)


def _properties(meta: _Meta, item: int) -> list[tuple[bytes, bytes]]:
    indices = meta.of_item.get(item, [])
    return [meta.properties[index - 1] for index in indices if 0 < index <= len(meta.properties)]


def _picture(meta: _Meta, film: bool, words: CameraWords) -> HeifPicture:
    width = height = angle = 0
    bits, mirror, compression, profile = 8, None, None, False
    shown: tuple[int, int] | None = None
    tiles = next(
        (targets for kind, source, targets in meta.references if kind == b"dimg" and source == meta.primary), ()
    )
    for kind, data in _properties(meta, meta.primary):
        if kind == b"ispe" and len(data) >= 12:
            width, height = struct.unpack_from(">II", data, 4)
        elif kind == b"clap" and len(data) >= 16:
            wide, wide_by, high, high_by = struct.unpack_from(">IIII", data)
            if wide_by and high_by and wide >= wide_by and high >= high_by:
                shown = (min(wide // wide_by, width), min(high // high_by, height))
        elif kind == b"irot" and data:
            angle = data[0] & 3
        elif kind == b"imir" and data:
            mirror = data[0] & 1
        elif kind == b"pixi" and len(data) > 5:
            bits = data[5]
        elif kind == b"colr":
            profile = profile or data[:4] in (b"prof", b"rICC")
        compression = compression or CODINGS.get(kind)
    if compression is None and tiles:
        compression = next((CODINGS[kind] for kind, _ in _properties(meta, tiles[0]) if kind in CODINGS), None)
    alpha = any(
        kind == b"auxl" and meta.primary in targets and _is_alpha(meta, source)
        for kind, source, targets in meta.references
    )
    return HeifPicture(
        width,
        height,
        TURNS[angle, mirror],
        bits,
        alpha,
        compression,
        None if film else _count(meta),
        profile,
        max(1, len(tiles)),
        words,
        shown or (width, height),
    )


def _is_alpha(meta: _Meta, item: int) -> bool:
    return any(
        kind == b"auxC" and (b":alpha\0" in data or b":auxid:1\0" in data) for kind, data in _properties(meta, item)
    )


def _count(meta: _Meta) -> int:
    """Pictures that are no tile, no thumbnail, no mask and not hidden."""
    parts = {target for kind, _, targets in meta.references if kind == b"dimg" for target in targets}
    parts |= {source for kind, source, _ in meta.references if kind in (b"thmb", b"auxl")}
    shown = {item for item, kind in meta.types.items() if kind in PICTURE_ITEMS}
    return max(1, len(shown - parts - meta.hidden))


def _words(meta: _Meta) -> Reader[CameraWords]:
    """Of the Exif item: four bytes say where in it the TIFF header begins. Nothing where it is broken."""
    for item, kind in meta.types.items():
        places = meta.places.get(item, [])
        if kind != b"Exif" or len(places) != 1 or not 16 <= places[0].length <= EXIF_BYTES_MAX:
            continue
        data = yield places[0]
        start = 4 + int.from_bytes(data[:4], "big")
        return words_in(data[start:]) if start < len(data) else NO_WORDS
    return NO_WORDS
