"""From full-size bands to a small picture: averaging, narrowing, and the modes that can be averaged. Child only.

Each band is averaged over cells (``Image.reduce``), narrowed to the wanted width by LANCZOS and kept as rows of that
width; the last LANCZOS makes the wanted height. Pillow's own resize works in the same two passes, so without cells
the result is Pillow's to the bit. Memory: the wanted width x the reduced height, and one band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageChops

from heavylift.tiff.bands import Shrink, shrink_rows

# Rows narrowed together: LANCZOS computes its weights for every call, which shows below this many (measured).
NARROWED_ROWS: Final = 64


def reducible(image: Image.Image, *, invert_16: bool = False) -> Image.Image:
    """The same picture in a mode that ``Image.reduce`` takes: 16-bit grey by its high byte, palette as RGB.

    ``invert_16``: WhiteIsZero in 16 bits, which Pillow does not turn round as it does for 8 bits.
    """
    mode = image.mode
    if mode in ("1", "L", "RGB") and image.info.get("transparency") is not None:
        return image.convert("RGBA" if mode == "RGB" else "LA")  # one grey or colour stands for nothing
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
        self._wide: list[Image.Image] = []  # rows that wait to be narrowed
        self._pending: list[Image.Image] = []

    def add(self, reduced: Image.Image) -> None:
        """Full-width rows, each the average of ``across`` x ``down`` pixels."""
        self._wide.append(reduced)
        if sum(image.height for image in self._wide) >= NARROWED_ROWS:
            self._narrow()

    def _narrow(self) -> None:
        if not self._wide:
            return
        reduced, self._wide = stacked(self._wide), []
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

    def rows(self) -> list[Image.Image]:
        """All that is kept: the finished rows, and those that wait to be averaged."""
        self._narrow()
        kept = [] if self._image is None else [self._image.crop((0, 0, self._out[0], self._at))]
        return [*kept, *self._pending]

    def restore(self, images: list[Image.Image], finished: int) -> None:
        """Go on from what ``rows`` gave; ``finished``: how many of the pictures are finished rows (0 or 1)."""
        for image in images[:finished]:
            self._keep(image)
        self._pending = list(images[finished:])

    @property
    def begun(self) -> bool:
        return self._image is not None

    def finish(self) -> Image.Image:
        self._narrow()
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


def finite(image: Image.Image) -> Image.Image:
    """A float picture whose samples that are no numbers, or infinite, are 0: one of them would spread over its rows.

    The average over all shows whether there is any; numpy is loaded only then.
    """
    average = image.reduce(image.size).getpixel((0, 0))
    if isinstance(average, float) and math.isfinite(average):
        return image
    import numpy as np

    values = np.array(image)
    values[~np.isfinite(values)] = 0
    return Image.fromarray(values)


def reduced_band(band: Image.Image, shrink: Shrink) -> Image.Image:
    """A band averaged over its cells, alpha laid over white."""
    if band.mode == "F":
        band = finite(band)
    if band.mode == "RGBA":
        band = band.convert("RGBa")
    elif band.mode == "LA":
        band = band.convert("La")
    if (shrink.across, shrink.down) != (1, 1):
        band = band.reduce((shrink.across, shrink.down))
    return over_white(band)


def shrink_image(image: Image.Image, out: tuple[int, int], *, invert_16: bool = False) -> Image.Image:
    """A decoded picture at ``out`` pixels, in mode L, RGB, CMYK, LAB, I or F, alpha laid over white.

    In slabs, so that a change of mode never doubles the picture. ``invert_16`` as in ``reducible``.
    """
    width, height = image.size
    shrink = shrink_rows(width, height, *out)
    narrowed = Narrowed(width, height, shrink, out)
    for y in range(0, height, shrink.band_rows):
        slab = image.crop((0, y, width, min(height, y + shrink.band_rows)))
        narrowed.add(reduced_band(reducible(slab, invert_16=invert_16), shrink))
    return narrowed.finish()
