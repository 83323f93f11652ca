"""A few chunks of a TIFF as a small TIFF of their own, so that libtiff decodes a region without the file.

The chunks' bytes are untouched, and so is their byte order: 16-bit samples under the wrong mark become noise.
No I/O here. Facts: TIFF 6.0 section 2; entries sorted by tag, values over 4 bytes behind the directory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError
from heavylift.ranges import Reader
from heavylift.tiff import tags
from heavylift.tiff.ifd import TYPE_SIZES, read_bytes
from heavylift.tiff.layout import Picture

# Fields without which the samples cannot be decoded or mean something else.
_KEPT: Final = (
    tags.FILL_ORDER,
    tags.T4_OPTIONS,
    tags.T6_OPTIONS,
    tags.PREDICTOR,
    tags.COLOR_MAP,
    tags.INK_SET,
    tags.EXTRA_SAMPLES,
    tags.SAMPLE_FORMAT,
    tags.JPEG_TABLES,
    tags.YCBCR_COEFFICIENTS,
    tags.YCBCR_SUBSAMPLING,
    tags.REFERENCE_BLACK_WHITE,
)
_OF_ALL_SAMPLES: Final = frozenset(_KEPT[4:7]) | frozenset(_KEPT[9:])  # meaningless for one plane of several
_SHORT: Final = 3
_LONG: Final = 4


@dataclass(frozen=True, slots=True)
class Field:
    """A field to copy: the value's bytes as stored, in the file's byte order."""

    tag: int
    type: int
    count: int
    value: bytes


def read_fields(picture: Picture, size_bytes: int) -> Reader[tuple[Field, ...]]:
    """The fields of a picture's directory that its chunks need: at most a few hundred KiB."""
    fields = []
    for tag in (*_KEPT, *((tags.LERC_PARAMETERS,) if picture.compression == tags.LERC else ())):
        entry = picture.ifd.entries.get(tag)
        if entry is None or entry.type not in TYPE_SIZES:
            continue
        if picture.planar == 2 and tag in _OF_ALL_SAMPLES:
            continue
        if picture.planar == 2 and tag == tags.SAMPLE_FORMAT:
            value = struct.pack(picture.ifd.header.order + "H", picture.sample_format)
            fields.append(Field(tag, _SHORT, 1, value))
            continue
        value = yield from read_bytes(entry, size_bytes)
        if entry.type in (16, 17, 18):
            raise ContentError("unsupported_feature", f"tag {tag} as 8-byte integers", tag=tag)
        fields.append(Field(tag, entry.type, entry.count, value))
    return tuple(fields)


@dataclass(frozen=True, slots=True)
class Frame:
    """The beginning of a small TIFF: header, directory and values, and where in the file each chunk has its place."""

    head: bytes
    starts: tuple[int, ...]
    size_bytes: int


def frame(
    picture: Picture,
    fields: Sequence[Field],
    size: tuple[int, int],
    chunk_size: tuple[int, int],
    lengths: Sequence[int],
    order: Sequence[int],
    *,
    compression: int | None = None,
) -> Frame:
    """A classic TIFF of ``size`` pixels, without its chunks: chunk i is the one of ``lengths[order[i]]`` bytes.

    ``compression`` where the chunks' coding differs from the file's. The directory comes first, so that it lies at the
    same place in all TIFFs of as many chunks.
    """
    mark = picture.ifd.header.order
    together = picture.samples_together
    coding = picture.compression if compression is None else compression

    def short(*values: int) -> bytes:
        return struct.pack(f"{mark}{len(values)}H", *values)

    def long(*values: int) -> bytes:
        return struct.pack(f"{mark}{len(values)}I", *values)

    places = bytes(4 * len(order))  # filled in when it is known how long the directory is
    entries = [
        Field(tags.IMAGE_WIDTH, _LONG, 1, long(size[0])),
        Field(tags.IMAGE_LENGTH, _LONG, 1, long(size[1])),
        Field(tags.BITS_PER_SAMPLE, _SHORT, together, short(*[picture.bits] * together)),
        Field(tags.COMPRESSION, _SHORT, 1, short(coding)),
        Field(tags.PHOTOMETRIC, _SHORT, 1, short(1 if picture.planar == 2 else picture.photometric)),
        Field(tags.SAMPLES_PER_PIXEL, _SHORT, 1, short(together)),
        Field(tags.PLANAR_CONFIGURATION, _SHORT, 1, short(1)),
    ]
    counts = long(*(lengths[i] for i in order))
    if picture.tiled:
        entries += [
            Field(tags.TILE_WIDTH, _LONG, 1, long(chunk_size[0])),
            Field(tags.TILE_LENGTH, _LONG, 1, long(chunk_size[1])),
            Field(tags.TILE_OFFSETS, _LONG, len(order), places),
            Field(tags.TILE_BYTE_COUNTS, _LONG, len(order), counts),
        ]
    else:
        entries += [
            Field(tags.ROWS_PER_STRIP, _LONG, 1, long(chunk_size[1])),
            Field(tags.STRIP_OFFSETS, _LONG, len(order), places),
            Field(tags.STRIP_BYTE_COUNTS, _LONG, len(order), counts),
        ]
    entries += [field for field in fields if not (field.tag == tags.PREDICTOR and coding == tags.NONE)]
    entries.sort(key=lambda field: field.tag)

    behind_at = 8 + 2 + 12 * len(entries) + 4
    end = behind_at + sum(len(entry.value) + len(entry.value) % 2 for entry in entries if len(entry.value) > 4)
    starts = []
    for length in lengths:
        starts.append(end)
        end += length
    offsets = long(*(starts[i] for i in order))

    directory, behind = [short(len(entries))], []
    for entry in entries:
        value = offsets if entry.tag in (tags.TILE_OFFSETS, tags.STRIP_OFFSETS) else entry.value
        directory.append(struct.pack(f"{mark}HHI", entry.tag, entry.type, entry.count))
        if len(value) <= 4:
            directory.append(value.ljust(4, b"\0"))
        else:
            directory.append(long(behind_at))
            value += b"\0" * (len(value) % 2)
            behind.append(value)
            behind_at += len(value)
    head = (b"II" if mark == "<" else b"MM") + struct.pack(f"{mark}HI", 42, 8)
    return Frame(b"".join([head, *directory, bytes(4), *behind]), tuple(starts), end)


def rewrap(
    picture: Picture,
    fields: Sequence[Field],
    size: tuple[int, int],
    chunk_size: tuple[int, int],
    chunks: Sequence[bytes | bytearray | memoryview],
    order: Sequence[int],
    *,
    compression: int | None = None,
) -> bytes:
    """A classic TIFF of ``size`` pixels whose chunk i is ``chunks[order[i]]``; ``compression`` as in ``frame``.

    Memory: one copy of the chunks' bytes.
    """
    lengths = [len(chunk) for chunk in chunks]
    made = frame(picture, fields, size, chunk_size, lengths, order, compression=compression)
    return b"".join([made.head, *chunks])
