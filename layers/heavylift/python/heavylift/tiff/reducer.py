"""A TIFF of any size as a small picture, band by band, with Pillow. Runs in the child only.

Each band is decoded, averaged over cells (``Image.reduce``), narrowed to the wanted width by LANCZOS and kept as
rows of that width; the last LANCZOS makes the wanted height. Pillow's own resize works in the same two passes, so
without cells the result is Pillow's to the bit.

Memory: the wanted width x the reduced height, one band as stored and as decoded. See ``image.estimate``. The work
may stop between two bands: what is kept then is a checkpoint (``tiff.checkpoint``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageChops

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.narrow import Narrowed, over_white, reduced_band, stacked
from heavylift.image.sources import PictureSource
from heavylift.ranges import Range, drive
from heavylift.tiff import tags
from heavylift.tiff.bands import Path, Shrink, choose_path, group_ranges, groups
from heavylift.tiff.checkpoint import Kept, packed, plan_of, unpacked
from heavylift.tiff.chunks import GroupBytes, GroupDecoder, decoded
from heavylift.tiff.deflate import ZSTD, raw_frame
from heavylift.tiff.layout import Chunks, Picture, by_pillow, channels, is_wide, planes_wanted
from heavylift.tiff.pace import Paused
from heavylift.tiff.rewrap import Field, read_fields, rewrap
from heavylift.tiff.rows import Place, open_rows

if TYPE_CHECKING:
    from heavylift.tiff.samples import Unpacker

Band = list[Image.Image]  # one picture, or one of each channel
Bands = Generator[Band, None, None]


def never(done: int) -> bool:
    """Go on to the end."""
    return False


def raw_mode(picture: Picture) -> tuple[str, str] | None:
    """Pillow's mode and raw mode for uncompressed samples that its unpackers read as they lie; None for others."""
    if picture.sample_format != 1 or picture.fill_order != 1:
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
    source: PictureSource,
    picture: Picture,
    chunks: Chunks,
    shrink: Shrink,
    out: tuple[int, int],
    *,
    limits: tuple[float, float] | None = None,
    checkpoint: bytes | bytearray | None = None,
    pause: Callable[[int], bool] = never,
) -> Image.Image:
    """The picture at ``out`` pixels, in mode L, RGB, CMYK, LAB or F; alpha is laid over white.

    ``limits``: the samples that mean black and white, where wide ones have any. ``checkpoint``: what an earlier call
    left, of no effect where it is of another plan. ``pause(rows done)`` is asked after every band; Paused where it
    says so. ContentError where the bytes do not decode. Every byte is read once.
    """
    return _Reduction(source, picture, chunks, shrink, out, limits, pause).run(checkpoint)


class _Reduction:
    def __init__(
        self,
        source: PictureSource,
        picture: Picture,
        chunks: Chunks,
        shrink: Shrink,
        out: tuple[int, int],
        limits: tuple[float, float] | None,
        pause: Callable[[int], bool],
    ) -> None:
        self._source, self._picture, self._chunks = source, picture, chunks
        self._shrink, self._out, self._limits, self._pause = shrink, out, limits, pause
        self._fields: Sequence[Field] = drive(read_fields(picture, source.size_bytes), source.fetch)
        self._carry: Band = []  # rows that wait for the next band
        self._place = Place()  # where the next band begins

    def run(self, checkpoint: bytes | bytearray | None) -> Image.Image:
        picture, plan = self._picture, plan_of(self._picture, self._shrink, self._out)
        kept = unpacked(checkpoint, plan) if checkpoint else None
        planes: list[Image.Image] = kept.finished if kept else []
        for plane in range(kept.plane if kept else 0, planes_wanted(picture)):
            narrowed = [
                Narrowed(picture.width, picture.height, self._shrink, self._out) for _ in range(channels(picture))
            ]
            self._place, self._carry = Place(), []
            if kept is not None:
                self._place, self._carry = kept.place, kept.carry
                for channel, (images, finished) in zip(narrowed, kept.rows, strict=True):
                    channel.restore(images, finished)
                kept = None
            with closing(self._bands(plane)) as bands:
                for band in bands:
                    for channel, image in zip(narrowed, band, strict=True):
                        channel.add(image)
                    done = plane * picture.height + self._place.y
                    if self._place.y < picture.height and self._pause(done):
                        rows = [(channel.rows(), int(channel.begun)) for channel in narrowed]
                        raise Paused(done, packed(Kept(plane, self._place, planes, rows, self._carry), plan))
            planes += [channel.finish() for channel in narrowed]
        return merged(planes, picture, self._limits)

    def _bands(self, plane: int) -> Bands:
        """Averaged bands of the picture's width, from the present place on; ``_place`` is behind each."""
        if choose_path(self._picture) is Path.CHUNKS:
            return self._group_bands(plane)
        return self._row_bands(plane)

    # --- rows: uncompressed strips, and coded strips that are decoded as they come

    def _row_bands(self, plane: int) -> Bands:
        picture, shrink = self._picture, self._shrink
        rows = open_rows(self._source, picture, self._chunks, plane, self._place)
        row_bytes = picture.row_bytes(picture.width)
        buffer = bytearray(row_bytes * min(shrink.band_rows, picture.height))
        make = self._row_maker(plane)
        for y in range(self._place.y, picture.height, shrink.band_rows):
            count = min(shrink.band_rows, picture.height - y)
            view = memoryview(buffer)[: count * row_bytes]
            rows.fill(view)
            if y + count == picture.height:
                rows.close()  # what is left of the last strip is proven before its rows are shown
            with decoding("TIFF"):
                band = [reduced_band(image, shrink) for image in make(view, count)]
            self._place = rows.place(y + count)
            yield band

    def _row_maker(self, plane: int) -> Callable[[memoryview, int], Band]:
        """From rows as stored, uncompressed, to pictures."""
        picture, width = self._picture, self._picture.width
        plain = picture.compression == tags.NONE or picture.predictor == 1
        mode = raw_mode(picture) if plain else None
        invert = _inverted_16(picture)
        if mode is None and not by_pillow(picture):
            import numpy as np

            unpacker = self._unpacker()

            def by_numbers(view: memoryview, count: int) -> Band:
                stored = np.frombuffer(view, np.uint8).reshape(count, -1)
                values = unpacker.unpacked(stored, width, reverse=picture.compression == tags.NONE)
                return unpacker.images(values, plane)

            return by_numbers

        averaged = (self._shrink.across, self._shrink.down) != (1, 1)  # else the picture itself is kept
        canvas: Image.Image | None = None

        def by_raw_mode(view: memoryview, count: int) -> Band:
            nonlocal canvas
            assert mode is not None
            if mode in (("L", "L"), ("CMYK", "CMYK")):
                # The bytes as they lie, not copied: they are done with before the next rows come.
                image = Image.frombuffer(mode[0], (width, count), cast(bytearray, view), "raw", mode[1], 0, 1)
                return [image if averaged else image.copy()]
            # Unpacked into the same picture each time, where it is averaged before the next rows come.
            if canvas is None or canvas.height != count or not averaged:
                canvas = Image.new(mode[0], (width, count), None)
            canvas.frombytes(view, "raw", mode[1])
            return [ImageChops.invert(canvas) if invert else canvas]

        def by_libtiff(view: memoryview, count: int) -> Band:
            # Undoing predictors is libtiff's work too: the rows travel in a coding that does not compress.
            data = bytes(view) if plain else raw_frame(view)
            size = (width, count)
            coding = tags.NONE if plain else ZSTD
            fields = [field for field in self._fields if field.tag != tags.FILL_ORDER or picture.compression == coding]
            return [decoded(rewrap(picture, fields, size, size, [data], [0], compression=coding), invert)]

        return by_libtiff if mode is None else by_raw_mode

    # --- chunks: whole strips and tiles

    def _group_bands(self, plane: int) -> Bands:
        picture, chunks, shrink = self._picture, self._chunks, self._shrink
        first = plane * picture.across * picture.down
        start = self._place.y

        def wanted() -> Iterator[Range]:
            for group in groups(picture, shrink, start):
                yield from group_ranges(group, chunks, first)

        unpacker = None if by_pillow(picture) else self._unpacker()
        decoder = GroupDecoder(picture, chunks, self._fields, plane, unpacker, shrink)
        # What is left to average where the decoder has made the pictures smaller.
        left = replace(shrink, across=shrink.across // decoder.scale, down=shrink.down // decoder.scale)
        stream = self._source.stream(wanted())
        together = GroupBytes(self._fields, reuse=picture.compression != tags.NONE)  # else they are pixels already
        row: Band = []
        for group in groups(picture, shrink, start):
            stored = together.read(group_ranges(group, chunks, first), stream)
            last = group.y + group.height == picture.height
            with decoding("TIFF"):
                band = decoder.decode(group, stored, together)
                stored.clear()
                if shrink.carry:
                    band = self._carried(band, last=last)
                reduced = [reduced_band(image, left) for image in band]
                del band
                if group.width < picture.width:
                    if not row:
                        width = -(-picture.width // shrink.across)
                        row = [Image.new(image.mode, (width, image.height)) for image in reduced]
                    for whole, image in zip(row, reduced, strict=True):
                        whole.paste(image, (group.x // shrink.across, 0))
                    if group.x + group.width < picture.width:
                        continue
                    reduced, row = row, []
            self._place = Place(group.y + group.height)
            if reduced:
                yield reduced
        stream.close()

    def _carried(self, band: Band, *, last: bool) -> Band:
        """The band with the rows that were left of the one before, without those that do not fill a cell."""
        if self._carry:
            band = [stacked([before, image]) for before, image in zip(self._carry, band, strict=True)]
            self._carry = []
        width, height = band[0].size
        whole = height // self._shrink.down * self._shrink.down
        if last or whole == height:
            return band
        self._carry = [image.crop((0, whole, width, height)) for image in band]
        return [image.crop((0, 0, width, whole)) for image in band] if whole else []

    def _unpacker(self) -> Unpacker:
        from heavylift.tiff.samples import Unpacker, read_palette

        palette = drive(read_palette(self._picture, self._source.size_bytes), self._source.fetch)
        return Unpacker(self._picture, palette)


def _inverted_16(picture: Picture) -> bool:
    """WhiteIsZero in 16 bits, which Pillow does not turn round as it does for 8 bits."""
    return picture.photometric == tags.WHITE_IS_ZERO and picture.bits == 16 and picture.planar == 1


def merged(planes: list[Image.Image], picture: Picture, limits: tuple[float, float] | None = None) -> Image.Image:
    """Small planes or channels as one picture."""
    wide = is_wide(picture) and not by_pillow(picture)
    if wide and (len(planes) > 1 or picture.photometric == tags.WHITE_IS_ZERO):
        from heavylift.tiff.samples import shown

        return shown(planes, picture, limits)
    if picture.planar == 1:
        return planes[0]
    if picture.photometric == tags.SEPARATED:
        return Image.merge("CMYK", planes[:4])
    if picture.photometric == tags.YCBCR:
        return Image.merge("YCbCr", planes[:3]).convert("RGB")
    if picture.photometric in (tags.CIELAB, tags.ICCLAB):
        return Image.merge("LAB", planes[:3])
    if picture.photometric == tags.PALETTE:
        raise ContentError("unsupported_feature", "a palette in separate planes")
    if picture.photometric == tags.WHITE_IS_ZERO:
        planes = [ImageChops.invert(planes[0]), *planes[1:]]
    colours = 3 if picture.photometric == tags.RGB else 1
    if len(planes) > colours:
        parts = planes[: colours + 1]
        image = Image.merge("RGBA" if colours == 3 else "LA", parts)
        if picture.extra_samples[0] == 1:
            image = Image.frombytes("RGBa" if colours == 3 else "La", image.size, image.tobytes())
        return over_white(image)
    return planes[0] if colours == 1 else Image.merge("RGB", planes[:3])
