"""Samples to a picture of eight bits, as a viewer shows them, and its JPEG or PNG. Pure functions; no I/O here.

The grey pipeline of PS3.4 N.2: stored values, modality (rescale or table), values of interest (window or table), the
inverse for MONOCHROME1. Facts: PS3.3 C.11.1 (modality), C.11.2 (windows: LINEAR, LINEAR_EXACT, SIGMOID), C.7.6.3.1.5
(palettes), C.7.6.3.1.2 (YBR), C.7.6.16 (functional groups: what they say of a frame goes before the rest).

Memory: the picture in eight bits, and a band of rows in floating point, BAND_BYTES of ``pixels``.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from heavylift.dicom.dataset import Dataset
from heavylift.dicom.pixels import BAND_BYTES, Image, Samples
from heavylift.dicom.values import decimals
from heavylift.dicom.viewing import QUALITY, Viewport, Window
from heavylift.errors import ContentError, RequestError

Eight = NDArray[np.uint8]

TABLE_ENTRIES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Table:
    """Entry n stands for the value ``first + n``; values outside take the table's ends. ``bits``: of an entry."""

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def apply(self, values: Samples) -> NDArray[np.uint16]:
        """The entries of ``values``."""
        indices = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        found: NDArray[np.uint16] = self.entries[indices]
        return found


@dataclass(frozen=True, slots=True)
class Look:
    """How a frame wants to be seen."""

    slope: float = 1.0
    intercept: float = 0.0
    modality_table: Table | None = None
    window: Window | None = None
    voi_table: Table | None = None
    inverse: bool = False
    palette: tuple[Table, Table, Table] | None = None
    padding: int | None = None


def look_of(dataset: Dataset, image: Image, number: int = 1) -> Look:
    """What a header says about frame ``number``; the first window where it offers several."""
    places = [dataset]
    per_frame = dataset.items(0x52009230)
    groups = [*dataset.items(0x52009229)[:1], *per_frame[number - 1 : number]]
    for group in groups:  # later places win
        for tag in (0x00289145, 0x00289132):  # pixel value transformation, frame VOI
            places.extend(group.items(tag)[:1])
    slope, intercept, window = 1.0, 0.0, None
    for place in places:
        if found := decimals(place.value(0x00281053)):
            slope, intercept = found[0], (decimals(place.value(0x00281052)) or (0.0,))[0]
        centers, widths = decimals(place.value(0x00281050)), decimals(place.value(0x00281051))
        if centers and widths:
            window = Window(centers[0], widths[0], place.text(0x00281056) or "LINEAR")
    photometric = image.shape.photometric
    modality = dataset.items(0x00283000)
    voi = dataset.items(0x00283010)
    shape = dataset.text(0x20500020)
    signed_values = image.signed or slope < 0 or intercept < 0
    padding = dataset.value(0x00280120)[:2]
    return Look(
        slope=slope or 1.0,
        intercept=intercept,
        modality_table=_table(modality[0], 0x00283002, 0x00283006, image.signed) if modality else None,
        window=window if window is not None and window.usable else None,
        voi_table=_table(voi[0], 0x00283002, 0x00283006, signed_values) if voi else None,
        inverse=(photometric == "MONOCHROME1") != (shape == "INVERSE" and photometric != "MONOCHROME1"),
        palette=_palette(dataset) if photometric == "PALETTE COLOR" else None,
        padding=int.from_bytes(padding, "little" if dataset.encoding.little else "big", signed=image.signed)
        if padding
        else None,
    )


def _words(value: bytes, little: bool, signed: bool = False) -> NDArray[np.int64]:
    return np.frombuffer(value[: len(value) // 2 * 2], ("<" if little else ">") + ("i2" if signed else "u2")).astype(
        np.int64
    )


def _table(dataset: Dataset, descriptor_tag: int, data_tag: int, signed: bool) -> Table | None:
    """A table of PS3.3 C.11.1.1.1; None where it is empty or makes no sense."""
    little = dataset.encoding.little
    descriptor = _words(dataset.value(descriptor_tag), little)
    data = dataset.value(data_tag)
    if len(descriptor) != 3 or not data:
        return None
    count = int(descriptor[0]) or TABLE_ENTRIES_MAX
    first = int(_words(dataset.value(descriptor_tag), little, signed)[1])
    bits = int(descriptor[2])
    if len(data) >= 2 * count:
        entries = _words(data[: 2 * count], little)
    elif len(data) >= count:
        entries = np.frombuffer(data[:count], "u1").astype(np.int64)  # two entries of eight bits in a word
    else:
        return None
    if not 8 <= bits <= 16:
        bits = 16
    if bits == 16 and entries.max(initial=0) < 256:
        bits = 8  # entries of eight bits that are said to have sixteen, as some writers do
    return Table(first, entries.astype(np.uint16), bits)


def _palette(dataset: Dataset) -> tuple[Table, Table, Table]:
    """The three palettes, plain or segmented. ContentError ``corrupt`` where one is missing."""
    tables = []
    for n in range(3):
        table = _table(dataset, 0x00281101 + n, 0x00281201 + n, False)
        if table is None:
            table = _segmented(dataset, 0x00281101 + n, 0x00281221 + n)
        if table is None:
            raise ContentError("corrupt", "a palette image has no palette")
        tables.append(table)
    red, green, blue = tables
    return red, green, blue


def _segmented(dataset: Dataset, descriptor_tag: int, data_tag: int) -> Table | None:
    """A table in segments (PS3.3 C.7.9.2): discrete, linear, and copies of earlier ones."""
    little = dataset.encoding.little
    descriptor, words = _words(dataset.value(descriptor_tag), little), _words(dataset.value(data_tag), little)
    if len(descriptor) != 3 or not len(words):
        return None
    entries: list[int] = []
    count = int(descriptor[0]) or TABLE_ENTRIES_MAX
    if not _expand(words.tolist(), 0, len(words), entries, count, 0) or len(entries) != count:
        return None
    return Table(
        int(descriptor[1]), np.array(entries, np.uint16), int(descriptor[2]) if descriptor[2] in (8, 16) else 16
    )


def _expand(words: list[int], at: int, end: int, entries: list[int], count_max: int, depth: int) -> bool:
    """Append what the segments in ``words[at:end]`` stand for; False where they make no sense."""
    while at + 1 < end and len(entries) <= count_max:
        kind, length = words[at], words[at + 1]
        at += 2
        if kind == 0:
            entries.extend(words[at : at + length])
            at += length
        elif kind == 1 and entries and at < end:
            before, after = entries[-1], words[at]
            entries.extend(round(before + (after - before) * step / length) for step in range(1, length + 1))
            at += 1
        elif kind == 2 and at + 1 < end and depth == 0:
            start = (words[at] | words[at + 1] << 16) // 2
            stop = start
            for _ in range(length):  # so many segments are repeated
                if stop + 1 >= len(words) or words[stop] > 1:
                    return False
                stop += 2 + (words[stop + 1] if words[stop] == 0 else 1)
            if not _expand(words, start, stop, entries, count_max, depth + 1):
                return False
            at += 2
        else:
            return False
    return len(entries) <= count_max


def to_eight_bits(samples: Samples, photometric: str, image: Image, look: Look, window: Window | None = None) -> Eight:
    """The picture as it is shown: (rows, columns) grey or (rows, columns, 3) RGB.

    ``window``: instead of the file's own window or table.
    """
    out: Eight
    if look.palette is not None and samples.ndim == 2:
        out = np.empty((*samples.shape, 3), np.uint8)
        for band in _bands(samples):
            for channel, table in enumerate(look.palette):
                found = table.apply(samples[band])
                out[band, :, channel] = found >> (table.bits - 8) if table.bits > 8 else found
        return out
    if samples.ndim == 3:
        out = np.empty(samples.shape, np.uint8)
        shift = max(0, image.bits_stored - 8)
        for band in _bands(samples):
            colours = samples[band] >> shift if shift else samples[band]
            out[band] = _rgb(colours) if photometric.startswith("YBR_FULL") else colours
        return out
    chosen = window if window is not None and window.usable else look.window
    voi = None if window is not None else look.voi_table
    if chosen is None and voi is None:
        chosen = _whole_range(samples, look)
    out = np.empty(samples.shape, np.uint8)
    for band in _bands(samples):
        values = _modality(samples[band], look)
        if voi is not None:
            shown = voi.apply(values) * (255.0 / (2**voi.bits - 1))
        else:
            assert chosen is not None
            shown = _windowed(values, chosen)
        grey = np.rint(np.nan_to_num(shown)).astype(np.uint8)
        out[band] = 255 - grey if look.inverse else grey
    return out


def _bands(samples: Samples) -> list[slice]:
    """Rows that together are small enough to be computed with in floating point."""
    row_bytes = max(1, samples[0].size * 24)  # values, indices and results, eight bytes each
    step = max(1, BAND_BYTES // row_bytes)
    return [slice(start, start + step) for start in range(0, samples.shape[0], step)]


def _modality(values: Samples, look: Look) -> NDArray[np.float64]:
    if look.modality_table is not None:
        return look.modality_table.apply(values).astype(np.float64)
    return values.astype(np.float64) * look.slope + look.intercept


def _windowed(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """0 to 255 by a window: PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if window.function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1) * 255
    if width == 1:
        return np.where(values <= center - 0.5, 0.0, 255.0)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def _whole_range(samples: Samples, look: Look) -> Window:
    """The window from the darkest to the brightest sample, for images that bring none; padding does not count."""
    real = samples[samples != look.padding] if look.padding is not None else samples
    if real.dtype.kind == "f":
        real = real[np.isfinite(real)]
    if not real.size:
        return Window(0, 1, "LINEAR_EXACT")
    ends = _modality(np.array([real.min(), real.max()]), look)
    if look.modality_table is not None:
        ends = _modality(real, look)
    low, high = float(ends.min()), float(ends.max())
    if not math.isfinite(high - low):
        return Window(0, 1, "LINEAR_EXACT")
    return Window((low + high) / 2, (high - low) or 1.0, "LINEAR_EXACT")


def _rgb(colours: Samples) -> NDArray[np.float64]:
    """YBR_FULL to RGB: PS3.3 C.7.6.3.1.2."""
    luminance = colours[..., 0].astype(np.float64)
    blue, red = colours[..., 1].astype(np.float64) - 128, colours[..., 2].astype(np.float64) - 128
    out = np.empty(colours.shape, np.float64)
    out[..., 0] = luminance + 1.402 * red
    out[..., 1] = luminance - 0.344136 * blue - 0.714136 * red
    out[..., 2] = luminance + 1.772 * blue
    return np.rint(np.clip(out, 0, 255))


def encode(
    picture: Eight,
    media_type: str = "image/jpeg",
    *,
    edge: int | None = None,
    quality: int = QUALITY,
    viewport: Viewport | None = None,
) -> bytes:
    """JPEG or PNG, without metadata. ``edge``: shrunk to fit into such a square, never enlarged.

    RequestError ``invalid_parameter`` where the viewport's region lies outside of the picture.
    """
    drawn = Pictures.fromarray(picture)
    if viewport is not None:
        drawn = _seen_through(drawn, viewport)
    elif edge is not None and max(drawn.size) > edge:
        scale = edge / max(drawn.size)
        size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
        drawn = drawn.resize(size, Pictures.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    if media_type == "image/png":
        drawn.save(out, "PNG", compress_level=4)
    else:
        drawn.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _seen_through(drawn: Pictures.Image, viewport: Viewport) -> Pictures.Image:
    left, top = viewport.left, viewport.top
    across = drawn.width - left if viewport.across is None else viewport.across
    down = drawn.height - top if viewport.down is None else viewport.down
    if across <= 0 or down <= 0 or left + across > drawn.width or top + down > drawn.height:
        raise RequestError(
            "invalid_parameter",
            f"The viewport's region lies outside of the image, which has {drawn.width} x {drawn.height} pixels.",
            columns=drawn.width,
            rows=drawn.height,
        )
    scale = min(viewport.width / across, viewport.height / down)
    if not viewport.enlarging:
        scale = min(scale, 1.0)
    size = (
        min(viewport.width, max(1, round(across * scale))),
        min(viewport.height, max(1, round(down * scale))),
    )
    column, row = math.floor(left), math.floor(top)
    drawn = drawn.crop((column, row, math.ceil(left + across), math.ceil(top + down)))
    box = (left - column, top - row, left - column + across, top - row + down)
    if size != drawn.size or box != (0, 0, *drawn.size):
        drawn = drawn.resize(size, Pictures.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if viewport.mirrored:
        drawn = drawn.transpose(Pictures.Transpose.FLIP_LEFT_RIGHT)
    if viewport.upside_down:
        drawn = drawn.transpose(Pictures.Transpose.FLIP_TOP_BOTTOM)
    return drawn
