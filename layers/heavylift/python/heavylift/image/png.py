"""A PNG in bands: inflated as it comes, unfiltered by Pillow a band at a time, every checksum looked at. Child only.

A row's filter reaches back one row only. So a band is handed to Pillow's own zip decoder, which undoes the filters in
C, as a small stream of stored blocks that begins with the last row of the band before it. Memory: see
``rows.rows_decode_bytes``. Interlaced files are not stored in rows: those are decoded whole.

Facts: PNG 3rd edition 5 (chunks), 7.3 (filters), 11.2 and 11.3 (IHDR, PLTE, tRNS, iCCP), RFC 1950 and 1951.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.narrow import Narrowed, reduced_band, reducible
from heavylift.image.rows import RowLayout, shrink_of
from heavylift.image.sources import ByteStream, PictureSource, small_reads
from heavylift.image.whole import ICC_BYTES_MAX, Whole
from heavylift.ranges import Fetch, Range
from heavylift.tiff.bands import fit_within

FIRST_CHUNK: Final = 33  # behind the signature and IHDR
CHUNKS_MAX: Final = 256  # up to the first IDAT
SMALL_CHUNK_BYTES_MAX: Final = 1 << 20  # of chunks that are looked into, and of those skipped behind the pixels
PIECE_BYTES: Final = 256 << 10
SAMPLES: Final[dict[int, int]] = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Filters work on bytes: a pixel of so many bytes is unfiltered as any Pillow mode of as many.
_BYTE_MODES: Final[dict[int, str]] = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Pixels of 6 and 8 bytes come twice, their high and their low bytes, because Pillow keeps 8 bits of 16.
_WIDE_MODES: Final[dict[int, str]] = {6: "RGB", 8: "RGBA"}


@dataclass(frozen=True, slots=True)
class PngForm:
    """How the pixels of a PNG are stored."""

    width: int
    height: int
    bits: int
    colour: int

    @property
    def row_bytes(self) -> int:
        return (self.width * SAMPLES[self.colour] * self.bits + 7) // 8

    @property
    def unit(self) -> int:
        """Bytes back to the byte that a filter compares with."""
        return max(1, SAMPLES[self.colour] * self.bits // 8)


@dataclass(frozen=True, slots=True)
class _Before:
    """What stands before the pixels."""

    form: PngForm
    palette: bytes
    transparency: bytes
    icc_profile: bytes | None
    pixels_at: int  # the first IDAT


def read_form(head: bytes) -> PngForm:
    """IHDR of a file's first bytes. ContentError ``corrupt`` where it is none, ``unsupported_feature``: interlaced."""
    if len(head) < FIRST_CHUNK or head[12:16] != b"IHDR":
        raise ContentError("corrupt", "PNG without IHDR")
    width, height, bits, colour, method, filters, interlace = struct.unpack_from(">IIBBBBB", head, 16)
    allowed = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.get(colour, ())
    if not width or not height or bits not in allowed or method or filters or interlace > 1:
        raise ContentError("corrupt", f"PNG of colour type {colour}, {bits} bits, {width} x {height} pixels")
    if zlib.crc32(head[12:29]) != int.from_bytes(head[29:33], "big"):
        raise ContentError("corrupt", "PNG: IHDR does not match its checksum")
    if interlace:
        raise ContentError("unsupported_feature", "an interlaced PNG is not stored in rows")
    return PngForm(width, height, bits, colour)


def layout_of(form: PngForm) -> RowLayout:
    return RowLayout("PNG", form.width, form.height, form.row_bytes, 1 if SAMPLES[form.colour] == 1 else 4)


def decode_png(source: PictureSource, head: bytes, edge: int, orientation: int) -> Whole:
    """The picture fitted into a square of ``edge``; ``head``: the file's first bytes, IHDR at least.

    ContentError ``truncated`` or ``corrupt``: rows that are missing, a checksum that does not match, no end.
    """
    form = read_form(head)
    before = _read_before(small_reads(source, head), source.size_bytes, form)
    out = fit_within(form.width, form.height, edge)
    shrink = shrink_of(layout_of(form), out)
    narrowed = Narrowed(form.width, form.height, shrink, out)
    with decoding("PNG"):
        for band in _bands(source, before, shrink.band_rows):
            narrowed.add(reduced_band(reducible(band), shrink))
        image = narrowed.finish()
    return Whole(image, (form.width, form.height), image.mode, orientation, before.icc_profile)


def _read_before(fetch: Fetch, size_bytes: int, form: PngForm) -> _Before:
    palette, transparency, icc_profile = b"", b"", None
    at = FIRST_CHUNK
    for _ in range(CHUNKS_MAX):
        if at + 12 > size_bytes:
            break
        length, name = struct.unpack(">I4s", fetch(at, 8))
        if name == b"IDAT":
            if form.colour == 3 and not palette:
                raise ContentError("corrupt", "PNG with a palette that is missing")
            return _Before(form, palette, transparency, icc_profile, at)
        if name in (b"PLTE", b"tRNS", b"iCCP"):
            if length > SMALL_CHUNK_BYTES_MAX or at + 12 + length > size_bytes:
                raise ContentError("corrupt", f"PNG: {name.decode()} of {length} bytes")
            data = fetch(at + 8, length + 4)
            if zlib.crc32(name + data[:length]) != int.from_bytes(data[length:], "big"):
                raise ContentError("corrupt", f"PNG: {name.decode()} does not match its checksum")
            data = data[:length]
            if name == b"PLTE":
                palette = data[: len(data) // 3 * 3][:768]
            elif name == b"tRNS":
                transparency = data[:256]
            else:
                icc_profile = _profile(data)
        at += 12 + length
    raise ContentError("truncated", "PNG without pixels", size_bytes=size_bytes)


def _profile(data: bytes) -> bytes | None:
    """The profile of an iCCP chunk: a name, a method, a deflate stream. None where it is broken."""
    name, _, rest = data.partition(b"\0")
    if len(name) > 79 or rest[:1] != b"\0":
        return None
    try:
        profile = zlib.decompressobj().decompress(rest[1:], ICC_BYTES_MAX + 1)
    except zlib.error:
        return None
    return profile if 0 < len(profile) <= ICC_BYTES_MAX else None


class _Pixels:
    """The inflated bytes of all IDAT chunks, in one stream over the rest of the file."""

    def __init__(self, stream: ByteStream, at: int, size_bytes: int) -> None:
        self._stream = stream
        self._left = size_bytes - at  # of the file
        self._chunk_left = 0
        self._crc = 0
        self._name = b""
        self._inflate = zlib.decompressobj()
        self._tail = b""
        self._next_chunk()

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise ContentError("truncated", f"PNG ends {count - self._left} bytes early", missing=count - self._left)
        data = bytearray(count)
        self._stream.readinto(memoryview(data))
        self._left -= count
        return bytes(data)

    def _next_chunk(self) -> None:
        length, name = struct.unpack(">I4s", self._take(8))
        self._name, self._chunk_left, self._crc = name, length, zlib.crc32(name)

    def _stored(self) -> bytes:
        """Some bytes of the present IDAT; b"" where no IDAT follows."""
        while not self._chunk_left:
            if self._name != b"IDAT":
                return b""
            self._end_chunk()
            self._next_chunk()
        if self._name != b"IDAT":
            return b""
        data = self._take(min(PIECE_BYTES, self._chunk_left))
        self._chunk_left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        return data

    def _end_chunk(self) -> None:
        stored = int.from_bytes(self._take(4), "big")
        if stored != self._crc and self._name[:1].isupper():  # chunks that no picture depends on may be broken
            raise ContentError("corrupt", f"PNG: {self._name.decode('latin-1')} does not match its checksum")

    def read(self, count: int) -> bytes:
        """Exactly ``count`` inflated bytes. ContentError ``truncated`` where there are fewer."""
        pieces: list[bytes] = []
        missing = count
        while missing:
            if not self._tail:
                self._tail = self._stored()
                exhausted = not self._tail
            else:
                exhausted = False
            piece = self._inflate.decompress(self._tail, missing)
            self._tail = self._inflate.unconsumed_tail
            if not piece and not self._tail and (exhausted or self._inflate.eof):
                raise ContentError("truncated", f"PNG: the pixels end {missing} bytes early", missing=missing)
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """Behind the last row: the stream's checksum and the file's end. ContentError where one is wrong or missing."""
        while not self._inflate.eof:
            tail = self._tail or self._stored()
            if self._inflate.decompress(tail, 1):
                break  # more rows than declared: ignored, as every decoder does
            self._tail = self._inflate.unconsumed_tail
            if not tail:
                raise ContentError("truncated", "PNG: the pixels' stream has no end")
        for _ in range(CHUNKS_MAX):
            if self._name == b"IEND":
                return
            if self._name != b"IDAT" and self._chunk_left > min(self._left, SMALL_CHUNK_BYTES_MAX):
                self._beyond()
                return
            while self._chunk_left:
                data = self._take(min(PIECE_BYTES, self._chunk_left))
                self._crc = zlib.crc32(data, self._crc)
                self._chunk_left -= len(data)
            self._end_chunk()
            self._next_chunk()

    def _beyond(self) -> None:
        """A long chunk behind the pixels is not read, but must be there."""
        if self._chunk_left + 4 > self._left:
            raise ContentError("truncated", f"PNG: a chunk of {self._chunk_left} bytes ends beyond the file")


def _bands(source: PictureSource, before: _Before, band_rows: int) -> Iterator[Image.Image]:
    form = before.form
    stream = source.stream([Range(before.pixels_at, source.size_bytes - before.pixels_at)])
    pixels = _Pixels(stream, before.pixels_at, source.size_bytes)
    last = b""
    for y in range(0, form.height, band_rows):
        rows = min(band_rows, form.height - y)
        unfiltered, last = _unfiltered(form, last, pixels.read(rows * (form.row_bytes + 1)), rows)
        yield _picture(before, unfiltered, rows)
    pixels.finish()
    stream.close()


def _unfiltered(form: PngForm, last: bytes, filtered: bytes, rows: int) -> tuple[Image.Image, bytes]:
    """A band's bytes without filters, as a picture of bytes (of high bytes where pixels are wide), and its last row."""
    store = zlib.compressobj(0)
    pieces = [store.compress(b"\0" + last)] if last else []
    pieces += [store.compress(filtered), store.flush()]
    del filtered
    blocks = b"".join(pieces)
    del pieces
    width = form.row_bytes // form.unit
    size = (width, rows + bool(last))
    if form.unit in _BYTE_MODES:
        mode = _BYTE_MODES[form.unit]
        image = Image.frombytes(mode, size, blocks, "zip", (mode, 0))
        bottom = image.crop((0, size[1] - 1, *size)).tobytes()
    else:
        mode = _WIDE_MODES[form.unit]
        low = Image.frombytes(mode, size, blocks, "zip", (mode + ";16L", 0)).crop((0, size[1] - 1, *size)).tobytes()
        image = Image.frombytes(mode, size, blocks, "zip", (mode + ";16B", 0))
        both = bytearray(2 * len(low))
        both[0::2], both[1::2] = image.crop((0, size[1] - 1, *size)).tobytes(), low
        bottom = bytes(both)
    return (image.crop((0, 1, *size)) if last else image), bottom


def _picture(before: _Before, band: Image.Image, rows: int) -> Image.Image:
    """A band of bytes in the mode that it is a picture of; 16 bits by their high byte."""
    form = before.form
    if form.bits < 8:
        mode, raw = ("P", f"P;{form.bits}") if form.colour == 3 else ("L", f"L;{form.bits}")
        if form.colour == 0 and form.bits == 1:
            mode, raw = "1", "1"
        band = Image.frombytes(mode, (form.width, rows), band.tobytes(), "raw", raw)
    elif form.bits == 16 and form.colour == 0:
        band = band.getchannel(0)
    elif form.bits == 16 and form.colour == 4:
        band = Image.merge("LA", (band.getchannel(0), band.getchannel(2)))
    if form.colour == 3:
        band.putpalette(before.palette)
    if before.transparency and form.bits <= 8:
        band.info["transparency"] = _transparent(form, before.transparency)
    return band


def _transparent(form: PngForm, stored: bytes) -> bytes | int | tuple[int, ...]:
    """tRNS as Pillow wants it: a palette's alphas, or the one grey or colour that is not there."""
    if form.colour == 3:
        return stored
    values = [stored[at] for at in range(1, len(stored), 2)]  # 16 bits each, of which the lower eight count
    if form.colour == 0 and values:
        return values[0] * 255 // ((1 << form.bits) - 1)
    return tuple(values[:3]) if len(values) >= 3 else ()
