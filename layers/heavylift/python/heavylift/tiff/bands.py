"""How a TIFF's pixels are cut into bands that fit a small memory, and how far each band is shrunk at once.

Pure functions over numbers; no I/O here. A band is decoded, averaged over cells of ``across`` x ``down`` pixels
(``Image.reduce``), narrowed to the wanted width by LANCZOS, and only those rows are kept: memory is the wanted
width times the reduced height, whatever the file's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from heavylift.ranges import Range
from heavylift.tiff import tags
from heavylift.tiff.layout import Chunks, Picture, by_pillow, channels

BAND_BYTES: Final = 8 << 20  # decoded; larger bands gain no speed (measured), smaller ones cost calls
CHUNK_EDGE: Final = 2048
# A chunk that decodes to more than this is not held whole where it can be streamed: with its stored bytes, libtiff's
# copy and the interpreter it still stays below 128 MiB.
CHUNK_DECODED_BYTES_MAX: Final = 16 << 20
# What is left to LANCZOS after the box filter, at least. Against LANCZOS alone the mean difference is then 0.3 of 255
# for pictures and at most 2.5 for dithered ones; 3 or 4 instead cost a fifth more time and change it little (measured).
LANCZOS_SHARE: Final = 2
# A side is never averaged to fewer cells: the last one is partly empty, which shows where there are few.
CELLS_MIN: Final = 64


class Path(Enum):
    """How the bytes of a picture become bands."""

    ROWS = "rows"  # uncompressed strips: any number of rows, cut wherever wanted
    INFLATE = "inflate"  # deflate strips too large to hold: inflated row by row
    LZW = "lzw"  # LZW strips too large to hold: decoded between their Clear codes
    CHUNKS = "chunks"  # whole strips or tiles, handed to libtiff in a small TIFF of their own


@dataclass(frozen=True, slots=True)
class Shrink:
    """Cells of ``across`` x ``down`` pixels become one; then ``stack`` rows become one.

    ``band_rows``: rows of a band (strips), a tile row (tiles). ``columns``: tiles side by side in a band.
    ``carry``: bands do not end at a cell's edge, the rest of one is put before the next.
    """

    across: int
    down: int
    stack: int
    band_rows: int
    columns: int = 1
    carry: bool = False

    @property
    def rows_to_one(self) -> int:
        return self.down * self.stack


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring chunks decoded together: their place in the picture and their numbers, row by row."""

    x: int
    y: int
    width: int
    height: int
    across: int  # chunks side by side
    chunks: tuple[int, ...]


def fit_within(width: int, height: int, edge: int) -> tuple[int, int]:
    """The size of a picture fitted into a square of ``edge``, never enlarged.

    Of the two whole numbers next to the short side, the one that keeps the shape best: what Pillow's
    ``thumbnail`` gives, so that results can be compared pixel by pixel.
    """
    if width <= edge and height <= edge:
        return width, height
    aspect = width / height
    if aspect <= 1:
        return _nearest(edge * aspect, lambda n: abs(aspect - n / edge)), edge
    return edge, _nearest(edge / aspect, lambda n: abs(aspect - edge / n) if n else 0.0)


def _nearest(value: float, error: object) -> int:
    assert callable(error)
    return max(min(math.floor(value), math.ceil(value), key=error), 1)


def pixel_bytes(picture: Picture) -> int:
    """Bytes of one decoded pixel as Pillow stores it."""
    if channels(picture) > 1:
        return 4 * channels(picture)
    if picture.samples_together == 1 and picture.photometric != tags.PALETTE:
        return 1 if picture.bits <= 8 else 4
    return 4


def held_pixel_bytes(picture: Picture) -> int:
    """The larger of a pixel's bytes as stored (uncompressed) and as decoded."""
    return max(pixel_bytes(picture), -(-picture.samples_together * picture.bits // 8))


def choose_path(picture: Picture) -> Path:
    if picture.compression == tags.NONE and not picture.tiled and not picture.subsampled:
        return Path.ROWS
    decoded = picture.chunk_width * picture.chunk_height * held_pixel_bytes(picture)
    if decoded <= CHUNK_DECODED_BYTES_MAX or picture.tiled or picture.subsampled:
        return Path.CHUNKS
    if picture.compression in tags.DEFLATE:
        return Path.INFLATE
    return Path.LZW if picture.compression == tags.LZW else Path.CHUNKS


def choose_shrink(
    picture: Picture, out_width: int, out_height: int, *, chunk_edge: int = CHUNK_EDGE, band_bytes: int = BAND_BYTES
) -> Shrink:
    """Cells and bands for one picture: a band holds at most ``chunk_edge`` squared pixels and ``band_bytes`` decoded
    (but always one row, strip or tile), and no more than ``chunk_edge`` rows where rows can be chosen."""
    cells = _cells(picture.width, picture.height, out_width, out_height)
    if picture.compression == tags.JPEG:
        cells = _halves(cells)
    if not by_pillow(picture) or picture.tiled:
        band_bytes //= 2  # unpacked by numpy: as stored, as numbers and as pictures; tiles: more gains no speed
    pixels_max = max(1, min(chunk_edge * chunk_edge, band_bytes // held_pixel_bytes(picture)))
    if picture.tiled:
        return _shrink_tiles(picture, cells, pixels_max)
    rows_max = max(1, min(chunk_edge, pixels_max // picture.width))
    if choose_path(picture) is Path.CHUNKS:
        if picture.down == 1:  # one band, which no cell reaches beyond
            return Shrink(cells[0], cells[1], 1, picture.chunk_height)
        return _shrink_strips(picture.chunk_height, cells, rows_max)
    return _shrink_rows(cells, rows_max)


def shrink_rows(width: int, height: int, out_width: int, out_height: int) -> Shrink:
    """Cells and slabs for a picture that is already decoded, four bytes a pixel."""
    cells = _cells(width, height, out_width, out_height)
    return _shrink_rows(cells, max(1, BAND_BYTES // (4 * width)))


def _cells(width: int, height: int, out_width: int, out_height: int) -> tuple[int, int]:
    """The largest cells allowed, across and down."""

    def cell(side: int, out_side: int) -> int:
        return max(1, min(int(side / out_side / LANCZOS_SHARE), side // CELLS_MIN))

    return cell(width, out_width), cell(height, out_height)


def _halves(cells: tuple[int, int]) -> tuple[int, int]:
    """Cells that a JPEG's transform can make: whole numbers of the largest of 8, 4 and 2 pixels that they hold."""
    step = next((step for step in (8, 4, 2) if step <= min(cells)), 1)
    return cells[0] // step * step, cells[1] // step * step


def jpeg_scale(picture: Picture, shrink: Shrink) -> int:
    """By how much JPEG chunks can be made smaller while they are decoded, before they are averaged: 8, 4, 2 or 1."""
    known = {tags.WHITE_IS_ZERO: 1, tags.BLACK_IS_ZERO: 1, tags.RGB: 3, tags.YCBCR: 3, tags.SEPARATED: 4}
    if picture.compression != tags.JPEG or picture.bits != 8 or picture.fill_order != 1 or shrink.carry:
        return 1
    if picture.planar == 1 and known.get(picture.photometric) != picture.samples:
        return 1
    sides: tuple[int, ...] = (shrink.across, shrink.down)
    if picture.tiled:
        sides += (picture.chunk_width, picture.chunk_height)
    elif picture.down > 1:
        sides += (picture.chunk_height,)  # chunks begin where cells do
    return next((scale for scale in (8, 4, 2) if not any(side % scale for side in sides)), 1)


def _shrink_rows(cells: tuple[int, int], rows_max: int) -> Shrink:
    across, cell = cells
    if cell <= rows_max:
        return Shrink(across, cell, 1, rows_max // cell * cell)
    return Shrink(across, rows_max, cell // rows_max, rows_max)


def _shrink_strips(strip_rows: int, cells: tuple[int, int], rows_max: int) -> Shrink:
    across, cell = cells
    strips_max = max(1, rows_max // strip_rows)
    # Best: cells that end where strips end, at most a third smaller than wished for.
    for down in range(cell, max(1, cell * 2 // 3) - 1, -1):
        step = down // math.gcd(down, strip_rows)
        if step <= strips_max:
            return Shrink(across, down, 1, strips_max // step * step * strip_rows)
    if strip_rows <= cell:  # cells higher than a band may be: averaged in two steps
        strips = max(1, min(strips_max, cell // strip_rows))
        down = strips * strip_rows
        return Shrink(across, down, max(1, cell // down), down)
    return Shrink(across, cell, 1, strips_max * strip_rows, carry=True)


def _largest_divisor(number: int, limit: int) -> int:
    return next(n for n in range(min(number, limit), 0, -1) if number % n == 0)


def _shrink_tiles(picture: Picture, cells: tuple[int, int], pixels_max: int) -> Shrink:
    across, cell = cells
    down = _largest_divisor(picture.chunk_height, cell)
    columns = max(1, pixels_max // (picture.chunk_width * picture.chunk_height))
    return Shrink(
        _largest_divisor(picture.chunk_width, across),
        down,
        max(1, cell // down),
        picture.chunk_height,
        min(columns, picture.across),
    )


def groups(picture: Picture, shrink: Shrink, first_y: int = 0) -> Iterator[Group]:
    """The groups of one plane, left to right and top to bottom. They tile the picture from row ``first_y`` on, at
    which a row of groups begins."""
    strips = shrink.band_rows // picture.chunk_height if not picture.tiled else 1
    for row in range(first_y // picture.chunk_height, picture.down, strips):
        y = row * picture.chunk_height
        height = min(strips * picture.chunk_height, picture.height - y)
        rows = range(row, min(picture.down, row + strips))
        for column in range(0, picture.across, shrink.columns):
            x = column * picture.chunk_width
            columns = range(column, min(picture.across, column + shrink.columns))
            yield Group(
                x,
                y,
                min(len(columns) * picture.chunk_width, picture.width - x),
                height,
                len(columns),
                tuple(i * picture.across + j for i in rows for j in columns),
            )


def group_ranges(group: Group, chunks: Chunks, first_chunk: int) -> list[Range]:
    """The byte ranges of a group in the order of the file, each once; chunks never written have none.

    ``first_chunk`` is the number of the plane's first chunk.
    """
    found = {
        (chunks.offsets[first_chunk + i], chunks.counts[first_chunk + i])
        for i in group.chunks
        if chunks.counts[first_chunk + i]
    }
    return [Range(offset, count) for offset, count in sorted(found)]


def strip_ranges(picture: Picture, chunks: Chunks, plane: int, first_y: int = 0) -> Iterator[Range]:
    """The byte ranges of a plane's uncompressed strips, top to bottom, cut to the bytes that their rows need.

    From row ``first_y`` on. A strip that was never written comes as Range(-1, n): n zero bytes that are not in the
    file.
    """
    skipped, rows = divmod(first_y, picture.chunk_height)
    skip = rows * picture.row_bytes(picture.width)
    for index in range(plane * picture.down + skipped, (plane + 1) * picture.down):
        need = picture.chunk_bytes(index) - skip
        yield Range(chunks.offsets[index] + skip if chunks.counts[index] else -1, need)
        skip = 0
