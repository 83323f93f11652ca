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
from heavylift.image.narrow import Narrowed, over_white, reduced_band, reducible, stacked
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


def reduce_tiff(
    source: PictureSource, picture: Picture, chunks: Chunks, shrink: Shrink, out: tuple[int, int]
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
            _add_groups(narrowed, source, picture, chunks, shrink, fields, plane)
        else:
            _add_rows(narrowed, source, picture, chunks, shrink, fields, plane)
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
            narrowed.add(reduced_band(band, shrink))
    close()


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

    def refill() -> None:
        nonlocal tail, stored_left
        if not tail and stored_left:
            piece = memoryview(scratch)[: min(stored_left, INFLATE_INPUT_BYTES)]
            stream.readinto(piece)
            stored_left -= len(piece)
            tail = bytes(piece)

    def finish_strip() -> None:
        """Read on to the stream's checksum, which zlib compares by itself; what follows is passed over."""
        nonlocal tail, stored_left
        while inflater is not None and not inflater.eof:
            refill()
            if not tail or inflater.decompress(tail, 1):  # no end mark, or more rows than declared: tolerated
                break
            tail = inflater.unconsumed_tail
        _skip(stream, stored_left, scratch)
        stored_left = 0

    def fill(view: memoryview) -> None:
        nonlocal inflater, tail, stored_left, rows_left
        while view:
            if not rows_left:
                finish_strip()
                index = next(strips)
                rows_left = picture.chunk_bytes(index)
                stored_left, tail = chunks.counts[index], b""
                inflater = zlib.decompressobj() if stored_left else None
            take = min(rows_left, len(view))
            if inflater is None:
                view[:take] = bytes(take)
                got = take
            else:
                refill()
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

    def close() -> None:
        with decoding("TIFF"):
            finish_strip()
        stream.close()

    return guarded, close


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
) -> None:
    first = plane * picture.across * picture.down

    def wanted() -> Iterator[Range]:
        for group in groups(picture, shrink):
            yield from group_ranges(group, chunks, first)

    stream = source.stream(wanted())
    row: Image.Image | None = None
    carry: Image.Image | None = None
    for group in groups(picture, shrink):
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
            reduced = reduced_band(band, shrink)
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
