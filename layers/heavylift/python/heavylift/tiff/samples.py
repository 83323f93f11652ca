"""Samples that Pillow does not unpack: from a row's bytes to pictures that can be averaged. Child only; numpy.

10-, 12- or 14-bit integers, wide, signed, half and double precision samples, colour of more than 16 bits, 16-bit
palettes and Lab, any number of extra samples. Unsigned samples of up to 16 bits become 8 bits (their highest eight);
all others become float channels of their own, which are scaled together when the picture is small (``shown``).

Facts: TIFF 6.0 sections 4 to 6 and 14 (horizontal differencing), 18 to 23; Adobe Photoshop TIFF Technical Note 3
(floating point predictor). Memory: the rows as stored, as numbers and as pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from heavylift.errors import ContentError
from heavylift.image.finish import HIGH_PERCENTILE, LOW_PERCENTILE
from heavylift.image.narrow import over_white
from heavylift.ranges import Reader
from heavylift.tiff import tags
from heavylift.tiff.ifd import read_integers
from heavylift.tiff.layout import Picture, by_pillow, channels, colours, is_wide
from heavylift.tiff.rows import REVERSED

Array = NDArray[Any]


def read_palette(picture: Picture, size_bytes: int) -> Reader[Array | None]:
    """The colour map as rows of red, green and blue in 8 bits; None for other pictures. ContentError ``corrupt``."""
    if picture.photometric != tags.PALETTE or by_pillow(picture):
        return None
    entries = 1 << picture.bits
    values = yield from read_integers(picture.ifd, tags.COLOR_MAP, size_bytes, 3 << 16)
    if len(values) < 3 * entries:
        raise ContentError("corrupt", f"a colour map of {len(values)} numbers, {3 * entries} needed")
    table = np.array(values[: 3 * entries], np.uint16).reshape(3, entries).T
    return np.ascontiguousarray(table >> 8).astype(np.uint8)


class Unpacker:
    """Turns stored rows of one picture into images: modes L, LA, RGB, RGBA, RGBa, La, CMYK, LAB, or F each."""

    def __init__(self, picture: Picture, palette: Array | None) -> None:
        self._picture = picture
        self._palette = palette

    def unpacked(self, rows: Array, width: int, *, reverse: bool = False) -> Array:
        """``rows`` (uint8, row by row as stored) as numbers of shape (rows, width, samples together), native order.

        ``reverse``: the bits of each byte are still the wrong way round. The predictor is undone.
        """
        picture = self._picture
        if reverse and picture.fill_order == 2:
            rows = np.frombuffer(REVERSED, np.uint8)[rows]
        samples = picture.samples_together
        if picture.bits not in (8, 16, 32, 64):
            return _bits(rows, picture.bits, width * samples).reshape(len(rows), width, samples)
        if picture.predictor == 3:
            return _float_differences(rows, picture, width)
        kind = "f" if picture.sample_format == 3 and picture.predictor == 1 else _letter(picture)
        size = picture.bits // 8
        used = rows[:, : width * samples * size]
        values = np.ascontiguousarray(used).view(f"{picture.ifd.header.order}{kind}{size}")
        values = values.reshape(len(rows), width, samples).astype(f"={kind}{size}", copy=False)
        if picture.predictor == 2:
            values = np.add.accumulate(values, axis=1, dtype=values.dtype)
            if picture.sample_format == 3:
                values = values.view(f"=f{size}")
        return values

    def images(self, values: Array, plane: int) -> list[Image.Image]:
        """The numbers as pictures. Of one plane of several: its samples in grey."""
        picture = self._picture
        if is_wide(picture):
            return self._floats(values, plane)
        if picture.photometric == tags.CIELAB and picture.sample_format == 3:
            return [self._lab(_eight_of_lab(values, plane if picture.planar == 2 else None), plane)]
        eight = _eight(values, picture.bits)
        if picture.photometric == tags.CIELAB:
            return [self._lab(eight, plane)]
        if picture.planar == 2:
            return [Image.fromarray(np.ascontiguousarray(eight[:, :, 0]))]
        if picture.photometric == tags.PALETTE:
            assert self._palette is not None
            return [Image.fromarray(self._palette[values[:, :, 0]])]
        many = colours(picture)
        parts = [Image.fromarray(np.ascontiguousarray(eight[:, :, n])) for n in range(min(many, eight.shape[2]))]
        if picture.photometric == tags.WHITE_IS_ZERO:
            parts = [ImageChops.invert(parts[0])]
        if picture.has_alpha and many in (1, 3) and picture.photometric != tags.ICCLAB:
            alpha = Image.fromarray(np.ascontiguousarray(eight[:, :, many]))
            mode = {1: "LA", 3: "RGBA"}[many]
            if picture.extra_samples[0] == 1:
                mode = {1: "La", 3: "RGBa"}[many]
            return [over_white(_merged(mode, [*parts, alpha]))]
        mode = "LAB" if picture.photometric == tags.ICCLAB else {1: "L", 3: "RGB", 4: "CMYK"}[many]
        return [parts[0] if many == 1 else Image.merge(mode, parts)]

    def _lab(self, eight: Array, plane: int) -> Image.Image:
        """Lab with a and b shifted so that they can be averaged, as Pillow keeps them."""
        if self._picture.planar == 2:
            grey = eight[:, :, 0]
            return Image.fromarray(np.ascontiguousarray(grey if plane == 0 else grey ^ 0x80))
        bands = [eight[:, :, 0], eight[:, :, 1] ^ 0x80, eight[:, :, 2] ^ 0x80]
        return Image.merge("LAB", [Image.fromarray(np.ascontiguousarray(band)) for band in bands])

    def _floats(self, values: Array, plane: int) -> list[Image.Image]:
        picture = self._picture
        numbers = values.astype(np.float32)
        numbers[~np.isfinite(numbers)] = 0
        if picture.planar == 2:
            # Of alpha, its part of what means opaque; colours are multiplied by it when all are small.
            full = alpha_full(picture) if plane == colours(picture) else 1.0
            return [Image.fromarray(np.ascontiguousarray(numbers[:, :, 0]) / np.float32(full))]
        many = colours(picture)
        if picture.has_alpha:
            alpha = numbers[:, :, many] / alpha_full(picture)
            np.clip(alpha, 0, 1, out=alpha)
            if picture.extra_samples[0] == 2:
                numbers[:, :, :many] *= alpha[:, :, None]
            numbers[:, :, many] = alpha
        return [Image.fromarray(np.ascontiguousarray(numbers[:, :, n])) for n in range(channels(picture))]


def _letter(picture: Picture) -> str:
    # Signed and unsigned differences are the same bits; a and b of Lab are shifted as unsigned ones.
    return "i" if picture.sample_format == 2 and picture.photometric != tags.CIELAB else "u"


def alpha_full(picture: Picture) -> float:
    """The sample that means opaque."""
    if picture.sample_format == 3:
        return 1.0
    return float((1 << (picture.bits - (picture.sample_format == 2))) - 1)


def _merged(mode: str, parts: list[Image.Image]) -> Image.Image:
    """Image.merge, which does not know pictures that were multiplied by their alpha."""
    merged = Image.merge(mode.upper(), parts)
    if mode.isupper():
        return merged
    return Image.frombytes(mode, merged.size, merged.tobytes())


def _eight(values: Array, bits: int) -> Array:
    """Unsigned samples in 8 bits: their highest eight, or scaled up where they have fewer."""
    if bits > 8:
        return (values >> (bits - 8)).astype(np.uint8)
    if bits == 8:
        return values.view(np.uint8)
    return (values.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)


def _eight_of_lab(values: Array, plane: int | None) -> Array:
    """Lab in floats, L from 0 to 100, as it lies in files of eight bits: a and b in two's complement."""
    numbers = np.nan_to_num(values.astype(np.float32))
    light = np.clip(numbers[:, :, :1] * np.float32(2.55) + np.float32(0.5), 0, 255).astype(np.uint8)
    if plane == 0:
        return np.asarray(light)
    colour = (
        np.clip(np.rint(numbers[:, :, 1:3] if plane is None else numbers), -128, 127).astype(np.int8).view(np.uint8)
    )
    made: Array = colour if plane is not None else np.concatenate([light, colour], axis=2)
    return made


def _bits(rows: Array, bits: int, count: int) -> Array:
    """Numbers of 1 to 16 bits, the highest bit first: eight of them lie in ``bits`` bytes."""
    groups = -(-count // 8)
    padded = np.zeros((len(rows), groups * bits + 2), np.uint8)
    have = min(rows.shape[1], groups * bits)
    padded[:, :have] = rows[:, :have]
    out = np.empty((len(rows), groups, 8), np.uint16)
    for number in range(8):
        first, shift = divmod(number * bits, 8)
        span = groups * bits - first
        window = np.zeros((len(rows), groups), np.uint32)
        for byte in range(3):  # 7 bits of the first byte and 16 of the number lie in three
            part = padded[:, first + byte : first + byte + span : bits][:, :groups]
            window[:, : part.shape[1]] |= part.astype(np.uint32) << (16 - 8 * byte)
        out[:, :, number] = (window >> (24 - shift - bits)) & ((1 << bits) - 1)
    return out.reshape(len(rows), -1)[:, :count]


def _float_differences(rows: Array, picture: Picture, width: int) -> Array:
    """Undo predictor 3: bytes are differences, and lie by their weight, the highest first."""
    samples, size = picture.samples_together, picture.bits // 8
    used = rows[:, : width * samples * size].reshape(len(rows), -1, samples)
    summed = np.add.accumulate(used, axis=1, dtype=np.uint8).reshape(len(rows), size, width * samples)
    values = np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">f{size}")
    return values.reshape(len(rows), width, samples).astype(f"=f{size}")


def shown(planes: list[Image.Image], picture: Picture, limits: tuple[float, float] | None) -> Image.Image:
    """Small float channels as one picture in 8 bits, alpha over white: all colours by one range.

    The range is ``limits`` (SMinSampleValue, SMaxSampleValue), else the 0.5th to the 99.5th percentile of all colours
    together, transparent pixels left out.
    """
    many = colours(picture)
    values = np.stack([np.asarray(plane, np.float32) for plane in planes[:many]], axis=2)
    alpha: Array | None = None
    if picture.has_alpha and len(planes) > many:
        alpha = np.clip(np.asarray(planes[many], np.float32), 0, 1)[:, :, None]
        if picture.planar == 1 or picture.extra_samples[0] == 1:
            values = np.divide(values, alpha, out=np.zeros_like(values), where=alpha > 1e-6)
    if limits is None:
        counted = values if alpha is None or not (alpha > 0.5).any() else values[alpha[:, :, 0] > 0.5]
        low, high = np.quantile(counted, (LOW_PERCENTILE, HIGH_PERCENTILE))
        limits = (float(low), float(high))
    low, high = limits
    scaled = (
        np.clip((values - low) / (high - low), 0, 1) if high > low else np.full_like(values, 0.5 if high > 0 else 0)
    )
    if picture.photometric == tags.WHITE_IS_ZERO:
        scaled = 1 - scaled
    if alpha is not None:
        scaled = scaled * alpha + (1 - alpha)
    eight = (scaled * 255 + 0.5).astype(np.uint8)
    parts = [Image.fromarray(np.ascontiguousarray(eight[:, :, n])) for n in range(many)]
    return parts[0] if many == 1 else Image.merge({3: "RGB", 4: "CMYK"}[many], parts)
