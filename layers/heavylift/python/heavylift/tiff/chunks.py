"""Neighbouring strips or tiles as pictures: through libtiff in a small TIFF of their own, or by the coding's own
decoder, or as bytes that are unpacked here. Runs in the child only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from PIL import Image, TiffImagePlugin

from heavylift.errors import ContentError
from heavylift.image.narrow import reducible
from heavylift.image.sources import ByteStream
from heavylift.ranges import Range
from heavylift.tiff import tags
from heavylift.tiff.bands import CHUNK_DECODED_BYTES_MAX, Group, Shrink, held_pixel_bytes, jpeg_scale
from heavylift.tiff.deflate import ZSTD, fill_raw_frame, inflate, raw_frame_bytes
from heavylift.tiff.layout import Chunks, Picture, channels, is_wide
from heavylift.tiff.numbers import lerc_packing, numbers
from heavylift.tiff.rewrap import Field, Frame, frame, rewrap
from heavylift.tiff.small_jpeg import SmallJpeg

if TYPE_CHECKING:
    from heavylift.tiff.samples import Array, Unpacker

Key = tuple[int, int]  # a chunk's offset and length
Stored = dict[Key, memoryview]
Box = tuple[int, int, int, int]

# Modes that are all there is to a decoded picture: no palette, nothing that stands for transparent.
_PLAIN_MODES: Final = frozenset({"L", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "F"})
# Loaded, so that Pillow does not look for it among all of its plugins (30 ms).
_TIFF: Final = [TiffImagePlugin.TiffImageFile.format]
_HEAD_BYTES: Final = 64 << 10  # of a small TIFF's beside its fields' values: more than 4,000 chunks have
_CANVASES_MAX: Final = 2  # regular groups, and those at the right edge


def decoded(tiff: bytes, invert_16: bool) -> Image.Image:
    """A small TIFF in a mode that can be averaged; ``invert_16`` as in ``narrow.reducible``."""
    image = Image.open(io.BytesIO(tiff), formats=_TIFF)
    image.load()
    return reducible(image, invert_16=invert_16)


class GroupBytes:
    """A group's chunks as stored, one behind the other in the order of the file, with room for a TIFF's head.

    ``reuse``: the next group's take their place; else each group's bytes stay as long as somebody looks at them.
    """

    def __init__(self, fields: Sequence[Field], *, reuse: bool) -> None:
        self._fields_bytes = sum(len(field.value) for field in fields)
        self._reuse = reuse
        self._buffer = bytearray()
        self._room = self._end = 0

    def read(self, ranges: Sequence[Range], stream: ByteStream) -> Stored:
        """The chunks of ``ranges``, which the stream gives next, by offset and length."""
        # Two arrays of four bytes a chunk, however often the group shows it, and fifteen entries.
        room = _HEAD_BYTES + self._fields_bytes
        end = room + sum(want.length for want in ranges)
        if len(self._buffer) < end or not self._reuse:
            self._buffer = bytearray(end)
        self._room, self._end = room, end
        view, at, stored = memoryview(self._buffer), room, {}
        stream.readinto(view[room:end])
        for want in ranges:
            stored[(want.offset, want.length)] = view[at : at + want.length]
            at += want.length
        return stored

    def behind(self, head: bytes) -> memoryview | None:
        """``head`` and the chunks as one file; None where there is no room for it."""
        start = self._room - len(head)
        if start < 0:
            return None
        self._buffer[start : self._room] = head
        return memoryview(self._buffer)[start : self._end]


class _SmallTiffs:
    """Decodes small TIFFs that differ in nothing but their size and their chunks' bytes.

    Pillow opens the first one, which tells how to call its decoder for the others: straight into a picture that was
    there before, where ``reuse`` says that its pixels are done with when the next one comes.
    """

    def __init__(self, invert_16: bool, *, reuse: bool) -> None:
        self._invert, self._reuse = invert_16, reuse
        self._how: tuple[str, Any] | None = None
        self._canvases: dict[tuple[int, int], Image.Image] = {}

    def decode(self, tiff: bytes | memoryview, size: tuple[int, int]) -> Image.Image:
        if self._how is None:
            image = Image.open(io.BytesIO(tiff), formats=_TIFF)
            plain = image.mode in _PLAIN_MODES and image.palette is None and "transparency" not in image.info
            if plain and len(image.tile) == 1 and image.tile[0][0] == "libtiff" and image.size == size:
                self._how = (image.mode, image.tile[0][3])
            image.load()
            return reducible(image, invert_16=self._invert)
        mode, arguments = self._how
        canvas = self._canvases.get(size) or Image.new(mode, size, None)
        if self._reuse:
            if len(self._canvases) >= _CANVASES_MAX and size not in self._canvases:
                self._canvases.clear()
            self._canvases[size] = canvas
        canvas.frombytes(tiff, "libtiff", arguments)
        return canvas


class GroupDecoder:
    """Decodes groups of one plane, for an average over the cells of ``shrink``.

    ``scale``: the pictures come that much smaller than the group already. Chunks that were never written show the
    background: samples of zero.
    """

    def __init__(
        self,
        picture: Picture,
        chunks: Chunks,
        fields: Sequence[Field],
        plane: int,
        unpacker: Unpacker | None,
        shrink: Shrink,
    ) -> None:
        self._picture, self._chunks, self._fields, self._plane = picture, chunks, fields, plane
        self._first = plane * picture.across * picture.down
        self._unpacker = unpacker
        self._invert = picture.photometric == tags.WHITE_IS_ZERO and picture.bits == 16 and picture.planar == 1
        self._tiffs = _SmallTiffs(self._invert, reuse=(shrink.across, shrink.down) != (1, 1))
        self._deflated = picture.compression in tags.DEFLATE and picture.fill_order == 1
        self._frames: dict[tuple[int, int], Frame] = {}
        self._buffer = bytearray()
        self._lerc_packing = lerc_packing(fields, picture.ifd.header.order)
        tables = next((field.value for field in fields if field.tag == tags.JPEG_TABLES), b"")
        self.scale = jpeg_scale(picture, shrink)
        self._small = None if self.scale == 1 else SmallJpeg(picture, tables, self.scale)

    def decode(self, group: Group, stored: Stored, together: GroupBytes) -> list[Image.Image]:
        """A group's pixels from its chunks as stored; they lie ``together``. One picture, or one of each channel.

        They are overwritten by the next group's where the cells are larger than a pixel.
        """
        chunks, first = self._chunks, self._first
        keys = [(chunks.offsets[first + i], chunks.counts[first + i]) for i in group.chunks]
        if self._unpacker is not None:
            return self._by_numbers(group, keys, stored, self._unpacker)
        if self._small is not None:
            return [self._smaller(group, keys, stored)]
        apart = self._picture.compression in tags.PICTURES
        if not apart and all(count for _, count in keys):
            size = (group.width, group.height)
            if self._deflated:
                return [self._tiffs.decode(self._inflated(group, keys, stored), size)]
            numbers = {key: number for number, key in enumerate(stored)}
            order = [numbers[key] for key in keys]
            chunk_size = (self._picture.chunk_width, self._picture.chunk_height)
            lengths = [length for _, length in stored]
            head = frame(self._picture, self._fields, size, chunk_size, lengths, order).head
            tiff = together.behind(head) or b"".join([head, *stored.values()])
            return [self._tiffs.decode(tiff, size)]
        canvas: Image.Image | None = None
        for key, box in self._places(group, keys):
            if not key[1]:
                continue
            size = (box[2] - box[0], box[3] - box[1])
            part = self._picture_chunk(stored[key], size) if apart else self._one(stored[key], size)
            if canvas is None:
                canvas = background(part.mode, (group.width, group.height), self._picture)
            canvas.paste(part, box)
        return [canvas or background(empty_mode(self._picture), (group.width, group.height), self._picture)]

    def _inflated(self, group: Group, keys: Sequence[Key], stored: Stored) -> memoryview:
        """A group's deflated chunks as a TIFF of raw frames; overwritten by the next one."""
        size = (group.width, group.height)
        picture = self._picture
        made = self._frames.get(size)
        if made is None:
            lengths = [raw_frame_bytes(picture.chunk_bytes(self._first + i)) for i in group.chunks]
            chunk_size = (picture.chunk_width, picture.chunk_height)
            made = frame(picture, self._fields, size, chunk_size, lengths, range(len(lengths)), compression=ZSTD)
            self._frames[size] = made
        if len(self._buffer) < made.size_bytes:
            self._buffer = bytearray(made.size_bytes)
        view = memoryview(self._buffer)[: made.size_bytes]
        view[: len(made.head)] = made.head
        ends = (*made.starts[1:], made.size_bytes)
        for key, start, end in zip(keys, made.starts, ends, strict=True):
            data = stored[key]
            fill_raw_frame(view[start:end], lambda place, data=data: inflate(data, place))  # type: ignore[misc]
        return view

    def _smaller(self, group: Group, keys: Sequence[Key], stored: Stored) -> Image.Image:
        """A group of JPEG chunks at 1/``scale``."""
        small, scale = self._small, self.scale
        assert small is not None
        whole = (-(-group.width // scale), -(-group.height // scale))
        canvas = background(small.mode, whole, self._picture)
        for key, box in self._places(group, keys):
            if not key[1]:
                continue
            size = (box[2] - box[0], box[3] - box[1])
            part = small.decode(stored[key], size)
            if part is None:
                if size[0] * size[1] * held_pixel_bytes(self._picture) > CHUNK_DECODED_BYTES_MAX:
                    # What was planned for is the small picture.
                    raise ContentError("unsupported_feature", f"a JPEG of {size} pixels that cannot be made smaller")
                part = self._one(stored[key], size).reduce(scale)
            canvas.paste(part, (box[0] // scale, box[1] // scale))
        return canvas

    def _places(self, group: Group, keys: Sequence[Key]) -> list[tuple[Key, Box]]:
        """Each chunk's key and its box in the group."""
        width, height = self._picture.chunk_width, self._picture.chunk_height
        found = []
        for position, key in enumerate(keys):
            row, column = divmod(position, group.across)
            x, y = column * width, row * height
            found.append((key, (x, y, min(x + width, group.width), min(y + height, group.height))))
        return found

    def _one(self, data: memoryview, size: tuple[int, int]) -> Image.Image:
        chunk_size = (self._picture.chunk_width, self._picture.chunk_height)
        return decoded(rewrap(self._picture, self._fields, size, chunk_size, [data], [0]), self._invert)

    def _picture_chunk(self, data: memoryview, size: tuple[int, int]) -> Image.Image:
        """A chunk that is a WebP or a JPEG 2000 of its own."""
        picture = self._picture
        format_name = "WEBP" if picture.compression == tags.WEBP else "JPEG2000"
        image: Image.Image = Image.open(io.BytesIO(data), formats=[format_name])
        whole = (picture.chunk_width, picture.chunk_height)
        fits = size[0] <= image.width <= whole[0] and size[1] <= image.height <= whole[1]
        if not fits:
            raise ContentError("corrupt", f"a chunk of {image.size} pixels, {size} to {whole} needed")
        image.load()
        if picture.compression == 33003:  # the samples are YCbCr, and the stream does not know it
            image = Image.frombytes("YCbCr", image.size, image.convert("RGB").tobytes())
        image = reducible(image)
        mode = empty_mode(picture)
        if image.mode == "RGBA" and mode == "RGB":
            image = image.convert("RGB")
        return image if image.size == size else image.crop((0, 0, *size))

    # --- samples that Pillow does not unpack

    def _by_numbers(self, group: Group, keys: Sequence[Key], stored: Stored, unpacker: Unpacker) -> list[Image.Image]:
        canvases: list[Image.Image] = []
        for key, box in self._places(group, keys):
            if not key[1]:
                continue
            width, height = box[2] - box[0], box[3] - box[1]
            if self._picture.compression in tags.OF_NUMBERS:
                values = numbers(self._picture, self._lerc_packing, stored[key], height)
            else:
                rows = self._rows(stored[key], height)
                reverse = self._picture.compression == tags.NONE
                values = unpacker.unpacked(rows, self._picture.chunk_width, reverse=reverse)
            parts = unpacker.images(values[:height, :width], self._plane)
            if len(keys) == 1:
                return parts
            if not canvases:
                canvases = [background(part.mode, (group.width, group.height), self._picture) for part in parts]
            for canvas, part in zip(canvases, parts, strict=True):
                canvas.paste(part, box)
        if canvases:
            return canvases
        mode = "F" if is_wide(self._picture) else empty_mode(self._picture)
        return [background(mode, (group.width, group.height), self._picture) for _ in range(channels(self._picture))]

    def _rows(self, data: memoryview, height: int) -> Array:
        """A chunk's bytes as its rows: what libtiff makes of it when it is told that they are grey pixels."""
        import numpy as np

        picture = self._picture
        row_bytes = picture.row_bytes(picture.chunk_width)
        rows = picture.chunk_height if picture.tiled else height
        if picture.compression == tags.NONE:
            return np.frombuffer(data, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
        if self._deflated:
            made = np.empty((rows, row_bytes), np.uint8)
            inflate(data, made.data.cast("B"))
            return made
        grey = replace(
            picture,
            width=row_bytes,
            chunk_width=row_bytes,
            samples=1,
            bits=8,
            sample_format=1,
            photometric=tags.BLACK_IS_ZERO,
            planar=1,
            extra_samples=(),
            tiled=False,
        )
        fields = [field for field in self._fields if field.tag == tags.FILL_ORDER]
        size = (row_bytes, rows)
        image = Image.open(io.BytesIO(rewrap(grey, fields, size, size, [data], [0])), formats=_TIFF)
        return np.asarray(image)


def empty_mode(picture: Picture) -> str:
    """The mode that a chunk of this picture would have come in."""
    if picture.planar == 2 or picture.samples == 1:
        if picture.photometric == tags.PALETTE:
            return "RGB"
        if picture.sample_format == 3:
            return "F"
        return "L"
    if picture.photometric == tags.PALETTE:
        return "RGBA" if picture.has_alpha else "RGB"
    if picture.photometric == tags.SEPARATED:
        return "CMYK"
    if picture.photometric in (tags.CIELAB, tags.ICCLAB):
        return "LAB"
    if picture.photometric in (tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO):
        return "LA" if picture.has_alpha else "L"
    return "RGBA" if picture.has_alpha or (not picture.extra_samples and picture.samples == 4) else "RGB"


def background(mode: str, size: tuple[int, int], picture: Picture) -> Image.Image:
    """What sparse chunks show: samples of zero, which is white where zero is white."""
    white = picture.photometric == tags.WHITE_IS_ZERO and picture.planar == 1
    return Image.new(mode, size, 255 if white and mode == "L" else 0)
