"""Neighbouring strips or tiles as pictures: through libtiff in a small TIFF of their own, or by the coding's own
decoder, or as bytes that are unpacked here. Runs in the child only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.narrow import reducible
from heavylift.tiff import tags
from heavylift.tiff.bands import Group
from heavylift.tiff.layout import Chunks, Picture, channels, is_wide
from heavylift.tiff.rewrap import Field, rewrap

if TYPE_CHECKING:
    from heavylift.tiff.samples import Array, Unpacker

Stored = dict[tuple[int, int], bytearray]


def decoded(tiff: bytes, invert_16: bool) -> Image.Image:
    """A small TIFF in a mode that can be averaged; ``invert_16`` as in ``narrow.reducible``."""
    image = Image.open(io.BytesIO(tiff), formats=["TIFF"])
    image.load()
    return reducible(image, invert_16=invert_16)


class GroupDecoder:
    """Decodes groups of one plane. Chunks that were never written show the background: samples of zero."""

    def __init__(
        self, picture: Picture, chunks: Chunks, fields: Sequence[Field], plane: int, unpacker: Unpacker | None
    ) -> None:
        self._picture, self._chunks, self._fields, self._plane = picture, chunks, fields, plane
        self._first = plane * picture.across * picture.down
        self._unpacker = unpacker
        self._invert = picture.photometric == tags.WHITE_IS_ZERO and picture.bits == 16 and picture.planar == 1

    def decode(self, group: Group, stored: Stored) -> list[Image.Image]:
        """A group's pixels from its chunks as stored, by (offset, length). One picture, or one of each channel."""
        chunks, first = self._chunks, self._first
        keys = [(chunks.offsets[first + i], chunks.counts[first + i]) for i in group.chunks]
        if self._unpacker is not None:
            return self._by_numbers(group, keys, stored, self._unpacker)
        apart = self._picture.compression in tags.PICTURES
        if not apart and all(count for _, count in keys):
            numbers = {key: number for number, key in enumerate(stored)}
            order = [numbers[key] for key in keys]
            size, chunk_size = (group.width, group.height), (self._picture.chunk_width, self._picture.chunk_height)
            data = rewrap(self._picture, self._fields, size, chunk_size, list(stored.values()), order)
            return [decoded(data, self._invert)]
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

    def _places(
        self, group: Group, keys: Sequence[tuple[int, int]]
    ) -> list[tuple[tuple[int, int], tuple[int, int, int, int]]]:
        """Each chunk's key and its box in the group."""
        width, height = self._picture.chunk_width, self._picture.chunk_height
        found = []
        for position, key in enumerate(keys):
            row, column = divmod(position, group.across)
            x, y = column * width, row * height
            found.append((key, (x, y, min(x + width, group.width), min(y + height, group.height))))
        return found

    def _one(self, data: bytearray, size: tuple[int, int]) -> Image.Image:
        chunk_size = (self._picture.chunk_width, self._picture.chunk_height)
        return decoded(rewrap(self._picture, self._fields, size, chunk_size, [data], [0]), self._invert)

    def _picture_chunk(self, data: bytearray, size: tuple[int, int]) -> Image.Image:
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

    def _by_numbers(
        self, group: Group, keys: Sequence[tuple[int, int]], stored: Stored, unpacker: Unpacker
    ) -> list[Image.Image]:
        canvases: list[Image.Image] = []
        for key, box in self._places(group, keys):
            if not key[1]:
                continue
            width, height = box[2] - box[0], box[3] - box[1]
            rows = self._rows(stored[key], height)
            values = unpacker.unpacked(rows, self._picture.chunk_width, reverse=self._picture.compression == tags.NONE)
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

    def _rows(self, data: bytearray, height: int) -> Array:
        """A chunk's bytes as its rows: what libtiff makes of it when it is told that they are grey pixels."""
        import numpy as np

        picture = self._picture
        row_bytes = picture.row_bytes(picture.chunk_width)
        rows = picture.chunk_height if picture.tiled else height
        if picture.compression == tags.NONE:
            return np.frombuffer(data, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
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
        image = Image.open(io.BytesIO(rewrap(grey, fields, size, size, [data], [0])), formats=["TIFF"])
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
