"""Exif blocks and HEIF files for the tests: what cameras write beside pictures."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

MAKE, MODEL = "Heavy Optics", "Lifter 80"
CAPTURED_AT = "2024-05-01T12:34:56+02:00"
PLACE = {"latitude": 48.1371083, "longitude": -11.5753822, "altitude_m": -519.5}


def exif(orientation: int | None = None, *, place: bool = True) -> Image.Exif:
    """Make, model, the camera's clock, and a place in degrees, minutes and seconds."""
    block = Image.Exif()
    block[271], block[272] = MAKE, MODEL
    if orientation is not None:
        block[274] = orientation
    block.get_ifd(0x8769).update({36867: "2024:05:01 12:34:56", 36881: "+02:00"})
    if place:
        block.get_ifd(0x8825).update(
            {1: "N", 2: (48.0, 8.0, 13.59), 3: "W", 4: (11.0, 34.0, 31.376), 5: b"\1", 6: 519.5}
        )
    return block


def heic(image: Image.Image, **options: Any) -> bytes:
    """Written by libheif with x265, at its fastest."""
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, format="HEIF", enc_params={"preset": "ultrafast"}, **options)
    return out.getvalue()


def heic_of_ten_bits(image: Image.Image, quality: int = 95) -> bytes:
    """The same colours in samples of ten bits."""
    wide = np.asarray(image.convert("RGB")).astype(np.uint16) * 257
    out = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=image.size, data=wide.tobytes()).save(out, quality=quality)
    return out.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def children(data: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """(kind, start, end) of the boxes between two bytes of a file."""
    found = []
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, at, at + size))
        at += size
    return found
