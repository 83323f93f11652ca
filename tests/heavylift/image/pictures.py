"""Generated pictures and a source that counts, for the tests of images."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from heavylift.image.thumbnails import ThumbnailOptions, ThumbnailResult, make_thumbnails
from heavylift.ranges import drive
from heavylift.sniff import Detection, detect

# What a JPEG of quality 85 may change by itself, and what is promised.
PROMISED_DIFFERENCE = 3.0


def scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """An RGB picture with gradients, edges and a little noise, so that a shift, a swap or a flip shows."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 127 + 90 * np.sin(x / (width / 9)) * np.cos(y / (height / 7))
    blue = 255 * y / height
    picture = np.stack([red, green, blue], -1)
    picture[height // 8 : height // 4, width // 8 : width // 3] = (230, 40, 20)
    picture[height // 2 :, : width // 10] = (10, 10, 60)
    picture += generator.normal(0, 3, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    """Written by tifffile."""
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """Written by Pillow."""
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


class CountingSource:
    """Bytes in memory behind the RangeSource protocol; every read is noted."""

    def __init__(self, data: bytes, on_read: Callable[[int], None] | None = None) -> None:
        self.data = data
        self.size_bytes = len(data)
        self.reads: list[tuple[int, int]] = []
        self._on_read = on_read
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        with self._lock:
            self.reads.append((offset, length))
            count = len(self.reads)
        if self._on_read is not None:
            self._on_read(count)
        return self.data[offset : offset + length]

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)


def detected(data: bytes, name: str = "") -> Detection:
    return drive(detect(len(data), name), lambda offset, length: data[offset : offset + length])


def thumbnails(data: bytes, *, seconds: float = 60.0, **options: Any) -> ThumbnailResult:
    return make_thumbnails(CountingSource(data), detected(data), ThumbnailOptions(**options), lambda: seconds)


def difference(jpeg: bytes, reference: Image.Image) -> float:
    """Mean absolute difference from the reference brought to the thumbnail's size by Pillow's LANCZOS."""
    made = Image.open(io.BytesIO(jpeg))
    wanted = reference.resize(made.size, Image.Resampling.LANCZOS).convert(made.mode)
    return float(np.abs(np.asarray(made, dtype=float) - np.asarray(wanted, dtype=float)).mean())
