"""A TIFF of any size as a small picture, band by band, with Pillow. Runs in the child only.

Each band is decoded, averaged over cells (``Image.reduce``), narrowed to the wanted width by LANCZOS and kept as
rows of that width; the last LANCZOS makes the wanted height. Pillow's own resize works in the same two passes, so
without cells the result is Pillow's to the bit.

Memory: the wanted width x the reduced height, one band as stored and as decoded. See ``image.estimate``.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from PIL import Image, ImageChops

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.sources import ByteStream, PictureSource
from heavylift.ranges import Range, drive
from heavylift.tiff import tags
from heavylift.tiff.bands import (
    Group,
    Path,
    Shrink,
    choose_path,
    group_ranges,
    groups,
    strip_ranges,
)
from heavylift.tiff.layout import Chunks, Picture
from heavylift.tiff.rewrap import Field, read_fields, rewrap

INFLATE_INPUT_BYTES: Final = 256 << 10
Check = Callable[[], None]
"""Called once a band: raises where the time is up."""


def raw_mode(picture: Picture) -> tuple[str, str] | None:
    """Pillow's mode and raw mode for uncompressed samples that its unpackers read as they lie; None for others."""
    if picture.sample_format != 1 or tags.FILL_ORDER in picture.ifd.entries:
        return None
    big = picture.ifd.header.order == ">"
    order = "B" if big else "L"
    grey_16 = "L;16B" if big else "L;16"  # the high byte
    if picture.planar == 2:
        # One plane at a time, as grey.
        return {8: ("L", "L"), 16: ("L", grey_16)}.get(picture.bits)
    key = (picture.photometric, picture.samples, picture.bits)
    if not picture.extra_samples:
        plain = {
            (0, 1, 8): ("L", "L;I"),
            (1, 1, 8): ("L", "L"),
            (0, 1, 16): ("L", grey_16),
            (1, 1, 16): ("L", grey_16),
            (2, 3, 8): ("RGB", "RGB"),
            (2, 3, 16): ("RGB", f"RGB;16{order}"),
            (5, 4, 8): ("CMYK", "CMYK"),
            (5, 4, 16): ("CMYK", f"CMYK;16{order}"),
        }
        if picture.photometric == tags.SEPARATED and tags.INK_SET in picture.ifd.entries:
            return None
        return plain.get(key)
    if len(picture.extra_samples) == 1 and picture.photometric == tags.RGB and picture.samples == 4:
        letter = {0: "X", 1: "a", 2: "A"}.get(picture.extra_samples[0])
        if letter == "X":
            return {8: ("RGB", "RGBX"), 16: ("RGB", f"RGBX;16{order}")}.get(picture.bits)
        if letter:
            return {8: ("RGBA", f"RGB{letter}"), 16: ("RGBA", f"RGB{letter};16{order}")}.get(picture.bits)
    return None


def reducible(image: Image.Image, *, invert_16: bool = False) -> Image.Image:
    """The same picture in a mode that ``Image.reduce`` takes: 16-bit grey by its high byte, palette as RGB.

    ``invert_16``: WhiteIsZero in 16 bits, which Pillow does not turn round as it does for 8 bits.
    """
    mode = image.mode
    if mode == "1":
        return image.convert("L")
    if mode in ("P", "PA"):
        has_alpha = mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if has_alpha else "RGB")
    if mode.startswith("I;16"):
        raw = "L;16B" if mode == "I;16B" else "L;16"
        image = Image.frombytes("L", image.size, image.tobytes(), "raw", raw)
        return ImageChops.invert(image) if invert_16 else image
    if mode == "YCbCr":
        return image.convert("RGB")
    return image


def over_white(image: Image.Image) -> Image.Image:
    """A picture without its alpha, laid over white; others as they are."""
    if image.mode in ("RGBA", "LA"):
        image = image.convert("RGBa" if image.mode == "RGBA" else "La")
    if image.mode not in ("RGBa", "La"):
        return image
    *colours, alpha = image.split()
    white = ImageChops.invert(alpha)
    bands = [ImageChops.add(band, white) for band in colours]
    return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)


class Narrowed:
    """Rows of the wanted width, collected top to bottom; ``finish`` gives the small picture."""

    def __init__(self, width: int, height: int, shrink: Shrink, out: tuple[int, int]) -> None:
        self._width = width
        self._height = height
        self._shrink = shrink
        self._out = out
        self._rows = -(-height // shrink.rows_to_one)
        self._image: Image.Image | None = None
        self._at = 0
        self._pending: list[Image.Image] = []

    def add(self, reduced: Image.Image) -> None:
        """Full-width rows, each the average of ``across`` x ``down`` pixels."""
        exact = self._width / self._shrink.across
        if reduced.width != self._out[0] or exact != reduced.width:
            box = (0, 0, exact, reduced.height)
            reduced = reduced.resize((self._out[0], reduced.height), Image.Resampling.LANCZOS, box)
        if self._shrink.stack > 1:
            self._pending.append(reduced)
            self._stack(last=False)
        else:
            self._keep(reduced)

    def _stack(self, *, last: bool) -> None:
        rows = sum(image.height for image in self._pending)
        whole = rows if last else rows // self._shrink.stack * self._shrink.stack
        if not whole:
            return
        joined = stacked(self._pending)
        self._pending = [joined.crop((0, whole, joined.width, rows))] if whole < rows else []
        self._keep(joined.crop((0, 0, joined.width, whole)).reduce((1, self._shrink.stack)))

    def _keep(self, rows: Image.Image) -> None:
        if self._image is None:
            self._image = Image.new(rows.mode, (self._out[0], self._rows))
        self._image.paste(rows, (0, self._at))
        self._at += rows.height

    def finish(self) -> Image.Image:
        if self._pending:
            self._stack(last=True)
        assert self._image is not None
        exact = self._height / self._shrink.rows_to_one
        if exact == self._out[1]:
            return self._image
        return self._image.resize(self._out, Image.Resampling.LANCZOS, (0, 0, self._out[0], exact))


def stacked(images: Sequence[Image.Image]) -> Image.Image:
    """The images one below the other."""
    if len(images) == 1:
        return images[0]
    joined = Image.new(images[0].mode, (images[0].width, sum(image.height for image in images)))
    y = 0
    for image in images:
        joined.paste(image, (0, y))
        y += image.height
    return joined


def reduce_tiff(
    source: PictureSource, picture: Picture, chunks: Chunks, shrink: Shrink, out: tuple[int, int], check: Check
) -> Image.Image:
    """The picture at ``out`` pixels, in mode L, RGB, CMYK, LAB, I or F; alpha is laid over white.

    ContentError where the bytes do not decode. Every byte is read once.
    """
    fields = drive(read_fields(picture, source.size_bytes), source.fetch)
    path = choose_path(picture)
    planes = []
    for plane in range(picture.planes if picture.colour_samples != 1 else 1):
        narrowed = Narrowed(picture.width, picture.height, shrink, out)
        if path is Path.CHUNKS:
            _add_groups(narrowed, source, picture, chunks, shrink, fields, plane, check)
        else:
            _add_rows(narrowed, source, picture, chunks, shrink, fields, plane, check)
        planes.append(narrowed.finish())
    return planes[0] if picture.planar == 1 else merged(planes, picture)


def merged(planes: list[Image.Image], picture: Picture) -> Image.Image:
    """Separate planes as one picture."""
    if len(planes) == 1:
        return planes[0]
    if any(plane.mode != "L" for plane in planes):
        raise ContentError("unsupported_feature", f"separate planes of mode {planes[0].mode}")
    colours = picture.colour_samples
    if picture.photometric == tags.SEPARATED and colours >= 4:
        return Image.merge("CMYK", planes[:4])
    if picture.photometric not in (tags.RGB, tags.YCBCR) or colours < 3:
        raise ContentError("unsupported_feature", f"separate planes, photometric {picture.photometric}")
    if picture.photometric == tags.YCBCR:
        return Image.merge("YCbCr", planes[:3]).convert("RGB")
    if picture.has_alpha and len(planes) > 3:
        mode = "RGBa" if picture.extra_samples[0] == 1 else "RGBA"
        return over_white(Image.merge(mode, planes[:4]))
    return Image.merge("RGB", planes[:3])


# --- rows: uncompressed strips, and deflate strips inflated as they come ---------------------------------------


def _add_rows(
    narrowed: Narrowed,
    source: PictureSource,
    picture: Picture,
    chunks: Chunks,
    shrink: Shrink,
    fields: Sequence[Field],
    plane: int,
    check: Check,
) -> None:
    fill: Callable[[memoryview], None]
    if choose_path(picture) is Path.ROWS:
        fill, close = _strip_filler(source, picture, chunks, plane)
        coding = tags.NONE
        mode = raw_mode(picture)
    else:
        fill, close = _inflate_filler(source, picture, chunks, plane)
        coding = tags.NONE if picture.predictor == 1 else 8
        mode = raw_mode(picture) if picture.predictor == 1 else None
    row_bytes = picture.row_bytes(picture.width)
    buffer = bytearray(row_bytes * min(shrink.band_rows, picture.height))
    invert = picture.photometric == tags.WHITE_IS_ZERO and picture.bits == 16 and picture.planar == 1
    for y in range(0, picture.height, shrink.band_rows):
        check()
        rows = min(shrink.band_rows, picture.height - y)
        view = memoryview(buffer)[: rows * row_bytes]
        fill(view)
        size = (picture.width, rows)
        with decoding("TIFF"):
            if mode is not None:
                band = Image.frombuffer(mode[0], size, cast(bytearray, view), "raw", mode[1], 0, 1)
                if invert:
                    band = ImageChops.invert(band)
            else:
                # Undoing predictors is libtiff's work too: the rows travel as deflate that does not compress.
                data = bytes(view) if coding == tags.NONE else zlib.compress(view, 0)
                band = _decoded(rewrap(picture, fields, size, size, [data], [0], compression=coding), invert)
            narrowed.add(_reduced(band, shrink))
    close()


def _reduced(band: Image.Image, shrink: Shrink) -> Image.Image:
    if band.mode == "RGBA":
        band = band.convert("RGBa")
    elif band.mode == "LA":
        band = band.convert("La")
    if (shrink.across, shrink.down) != (1, 1):
        band = band.reduce((shrink.across, shrink.down))
    return over_white(band)


def _decoded(tiff: bytes, invert_16: bool) -> Image.Image:
    image = Image.open(io.BytesIO(tiff), formats=["TIFF"])
    image.load()
    return reducible(image, invert_16=invert_16)


def _strip_filler(
    source: PictureSource, picture: Picture, chunks: Chunks, plane: int
) -> tuple[Callable[[memoryview], None], Callable[[], None]]:
    """Rows as they lie in uncompressed strips. Strips that were never written give zeros."""
    stream: ByteStream = source.stream(want for want in strip_ranges(picture, chunks, plane) if want.offset >= 0)
    counts = chunks.counts
    if all(counts[plane * picture.down : (plane + 1) * picture.down]):
        return stream.readinto, stream.close
    lengths = strip_ranges(picture, chunks, plane)
    present, left = True, 0

    def fill(view: memoryview) -> None:
        nonlocal present, left
        while view:
            if not left:
                strip = next(lengths)
                present, left = strip.offset >= 0, strip.length
            take = min(left, len(view))
            if present:
                stream.readinto(view[:take])
            else:
                view[:take] = bytes(take)
            left -= take
            view = view[take:]

    return fill, stream.close


def _inflate_filler(
    source: PictureSource, picture: Picture, chunks: Chunks, plane: int
) -> tuple[Callable[[memoryview], None], Callable[[], None]]:
    """Rows from deflate strips, inflated as far as the caller's buffer and no further; zeros for strips not written."""
    indices = range(plane * picture.down, (plane + 1) * picture.down)
    stream = source.stream(Range(chunks.offsets[i], chunks.counts[i]) for i in indices if chunks.counts[i])
    strips = iter(indices)
    scratch = bytearray(INFLATE_INPUT_BYTES)
    inflater: zlib._Decompress | None = None
    tail = b""
    stored_left = rows_left = 0

    def fill(view: memoryview) -> None:
        nonlocal inflater, tail, stored_left, rows_left
        while view:
            if not rows_left:
                if stored_left:  # bytes after the strip's last row
                    _skip(stream, stored_left, scratch)
                index = next(strips)
                rows_left = picture.chunk_bytes(index)
                stored_left, tail = chunks.counts[index], b""
                inflater = zlib.decompressobj() if stored_left else None
            take = min(rows_left, len(view))
            if inflater is None:
                view[:take] = bytes(take)
                got = take
            else:
                if not tail and stored_left:
                    piece = memoryview(scratch)[: min(stored_left, INFLATE_INPUT_BYTES)]
                    stream.readinto(piece)
                    stored_left -= len(piece)
                    tail = bytes(piece)
                out = inflater.decompress(tail, take)
                tail = inflater.unconsumed_tail
                got = len(out)
                view[:got] = out
                if not got and not tail and (inflater.eof or not stored_left):
                    raise ContentError(
                        "truncated", f"a deflate strip ends {rows_left} bytes early", missing_bytes=rows_left
                    )
            rows_left -= got
            view = view[got:]

    def guarded(view: memoryview) -> None:
        with decoding("TIFF"):
            fill(view)

    return guarded, stream.close


def _skip(stream: ByteStream, count: int, scratch: bytearray) -> None:
    while count:
        take = min(count, len(scratch))
        stream.readinto(memoryview(scratch)[:take])
        count -= take


# --- chunks: whole strips and tiles, through libtiff -----------------------------------------------------------


def _add_groups(
    narrowed: Narrowed,
    source: PictureSource,
    picture: Picture,
    chunks: Chunks,
    shrink: Shrink,
    fields: Sequence[Field],
    plane: int,
    check: Check,
) -> None:
    first = plane * picture.across * picture.down

    def wanted() -> Iterator[Range]:
        for group in groups(picture, shrink):
            yield from group_ranges(group, chunks, first)

    stream = source.stream(wanted())
    row: Image.Image | None = None
    carry: Image.Image | None = None
    for group in groups(picture, shrink):
        check()
        stored = {}
        for want in group_ranges(group, chunks, first):
            data = bytearray(want.length)
            stream.readinto(memoryview(data))
            stored[(want.offset, want.length)] = data
        with decoding("TIFF"):
            band = _decode_group(picture, group, chunks, first, stored, fields)
            stored.clear()
            if shrink.carry:
                if carry is not None:
                    band = stacked([carry, band])
                whole = band.height // shrink.down * shrink.down
                if group.y + group.height < picture.height:
                    carry = band.crop((0, whole, band.width, band.height)) if whole < band.height else None
                    band = band.crop((0, 0, band.width, whole)) if whole < band.height else band
                    if not whole:
                        continue
            reduced = _reduced(band, shrink)
            del band
            if group.width == picture.width:
                narrowed.add(reduced)
                continue
            if row is None:
                row = Image.new(reduced.mode, (-(-picture.width // shrink.across), reduced.height))
            row.paste(reduced, (group.x // shrink.across, 0))
            if group.x + group.width == picture.width:
                narrowed.add(row)
                row = None
    stream.close()


def _decode_group(
    picture: Picture,
    group: Group,
    chunks: Chunks,
    first: int,
    stored: dict[tuple[int, int], bytearray],
    fields: Sequence[Field],
) -> Image.Image:
    """A group's pixels. Chunks that were never written are left out and show the background."""
    keys = [(chunks.offsets[first + i], chunks.counts[first + i]) for i in group.chunks]
    numbers = {key: number for number, key in enumerate(stored)}
    invert = picture.photometric == tags.WHITE_IS_ZERO and picture.bits == 16 and picture.planar == 1
    chunk_size = (picture.chunk_width, picture.chunk_height)
    if all(count for _, count in keys):
        order = [numbers[key] for key in keys]
        tiff = rewrap(picture, fields, (group.width, group.height), chunk_size, list(stored.values()), order)
        return _decoded(tiff, invert)
    canvas: Image.Image | None = None
    for position, key in enumerate(keys):
        if not key[1]:
            continue
        row, column = divmod(position, group.across)
        x, y = column * picture.chunk_width, row * picture.chunk_height
        size = (min(picture.chunk_width, group.width - x), min(picture.chunk_height, group.height - y))
        part = _decoded(rewrap(picture, fields, size, chunk_size, [stored[key]], [0]), invert)
        if canvas is None:
            canvas = background(part.mode, (group.width, group.height), picture)
        canvas.paste(part, (x, y))
    return canvas or background(_empty_mode(picture), (group.width, group.height), picture)


def _empty_mode(picture: Picture) -> str:
    """The mode that a chunk of this picture would have come in."""
    if picture.planar == 2 or picture.samples == 1:
        if picture.photometric == tags.PALETTE:
            return "RGB"
        if picture.sample_format == 3:
            return "F"
        return "L" if picture.bits <= 16 and picture.sample_format == 1 else "I"
    if picture.photometric == tags.SEPARATED:
        return "CMYK"
    if picture.photometric == tags.CIELAB:
        return "LAB"
    if picture.samples_together == 2:
        return "LA" if picture.has_alpha else "L"
    return "RGBA" if picture.has_alpha else "RGB"


def background(mode: str, size: tuple[int, int], picture: Picture) -> Image.Image:
    """What sparse chunks show: samples of zero, which is white where zero is white."""
    white = picture.photometric == tags.WHITE_IS_ZERO and picture.planar == 1
    return Image.new(mode, size, 255 if white and mode == "L" else 0)
