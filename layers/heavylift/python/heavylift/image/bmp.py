"""An uncompressed BMP in bands: rows are cut out of the file wherever they lie. Child only.

Rows are stored from the bottom to the top, unless the height is negative; each is padded to four bytes. Facts:
BITMAPFILEHEADER, BITMAPINFOHEADER and BITMAPCOREHEADER as Microsoft documents them. Other codings (RLE, bit fields) are
left to Pillow, whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.narrow import Narrowed, reduced_band, reducible
from heavylift.image.rows import RowLayout, shrink_of
from heavylift.image.sources import PictureSource, small_reads
from heavylift.image.whole import Whole
from heavylift.ranges import Fetch, Range
from heavylift.tiff.bands import fit_within

HEAD_BYTES: Final = 54
CORE_HEADER: Final = 12
INFO_HEADERS: Final = frozenset({40, 52, 56, 64, 108, 124})
_RAW_MODES: Final[dict[int, tuple[str, str]]] = {
    1: ("P", "P;1"),
    4: ("P", "P;4"),
    8: ("P", "P"),
    16: ("RGB", "BGR;15"),
    24: ("RGB", "BGR"),
    32: ("RGB", "BGRX"),
}


@dataclass(frozen=True, slots=True)
class BmpForm:
    """How the pixels of an uncompressed BMP are stored; the palette is ``colours`` entries of ``entry_bytes``."""

    width: int
    height: int
    bits: int
    bottom_up: bool
    pixels_at: int
    palette_at: int
    colours: int
    entry_bytes: int

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def read_form(head: bytes) -> BmpForm:
    """The form of a file's first bytes. ContentError ``unsupported_feature`` where rows are not simply rows."""
    if len(head) < HEAD_BYTES or head[:2] != b"BM":
        raise ContentError("unsupported_feature", "a BMP of another kind")
    pixels_at, info = struct.unpack_from("<II", head, 10)
    compression = colours = 0
    if info == CORE_HEADER:
        width, height, planes, bits = struct.unpack_from("<HHHH", head, 18)
    elif info in INFO_HEADERS:
        width, height, planes, bits, compression = struct.unpack_from("<iiHHI", head, 18)
        (colours,) = struct.unpack_from("<I", head, 46)
    else:
        raise ContentError("unsupported_feature", f"a BMP with a header of {info} bytes")
    if planes != 1 or compression or bits not in _RAW_MODES:
        raise ContentError("unsupported_feature", f"a BMP of coding {compression}, {bits} bits, {planes} planes")
    if width <= 0 or height == 0:
        raise ContentError("corrupt", f"BMP of {width} x {height} pixels")
    entries = (colours or 1 << bits) if bits <= 8 else 0
    if entries > 1 << bits:
        raise ContentError("corrupt", f"BMP with {entries} colours in {bits} bits")
    return BmpForm(width, abs(height), bits, height > 0, pixels_at, 14 + info, entries, 3 if info == CORE_HEADER else 4)


def layout_of(form: BmpForm) -> RowLayout:
    return RowLayout("BMP", form.width, form.height, form.row_bytes, 1 if form.bits <= 8 else 4)


def decode_bmp(source: PictureSource, head: bytes, edge: int) -> Whole:
    """The picture fitted into a square of ``edge``. ContentError ``truncated`` where rows lie outside the file."""
    form = read_form(head)
    end = form.pixels_at + form.row_bytes * form.height
    # Some writers leave the padding of the last row out.
    if end - 3 > source.size_bytes:
        raise ContentError("truncated", f"BMP needs {end} bytes, has {source.size_bytes}", needed_bytes=end)
    palette = _palette(small_reads(source, head), form)
    out = fit_within(form.width, form.height, edge)
    shrink = shrink_of(layout_of(form), out)
    narrowed = Narrowed(form.width, form.height, shrink, out)
    spans = [
        (y, min(shrink.band_rows, form.height - y)) for y in range(0, form.height, shrink.band_rows)
    ]  # a few thousand at most: a band holds megabytes
    ranges = [_rows(form, y, rows, source.size_bytes) for y, rows in spans]
    stream = source.stream(ranges)
    mode, raw = _RAW_MODES[form.bits]
    with decoding("BMP"):
        for (_, rows), part in zip(spans, ranges, strict=True):
            data = bytearray(form.row_bytes * rows)
            stream.readinto(memoryview(data)[: part.length])
            size = (form.width, rows)
            band = Image.frombytes(mode, size, bytes(data), "raw", raw, form.row_bytes, -1 if form.bottom_up else 1)
            del data
            if mode == "P":
                band.putpalette(palette)
            narrowed.add(reduced_band(reducible(band), shrink))
        image = narrowed.finish()
    stream.close()
    return Whole(image, (form.width, form.height), image.mode, 1, None)


def _rows(form: BmpForm, y: int, rows: int, size_bytes: int) -> Range:
    """Where the rows from ``y`` of the picture on lie."""
    first = form.height - y - rows if form.bottom_up else y
    start = form.pixels_at + first * form.row_bytes
    return Range(start, min(rows * form.row_bytes, size_bytes - start))


def _palette(fetch: Fetch, form: BmpForm) -> bytes:
    if not form.colours:
        return b""
    stored = fetch(form.palette_at, form.colours * form.entry_bytes)
    if len(stored) < form.colours * form.entry_bytes:
        raise ContentError("truncated", "BMP: the palette ends early")
    entries = (stored[at : at + 3][::-1] for at in range(0, len(stored), form.entry_bytes))
    return b"".join(entries)
