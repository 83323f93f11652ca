"""Small generated files, and what the world must look like when each has ended."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

from PIL import Image


@dataclass(frozen=True, slots=True)
class Sample:
    """A file for a World; ``served``: whether pictures are made of it."""

    name: str
    data: bytes
    served: bool


@cache
def png(width: int = 40, height: int = 30) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(out, "PNG")
    return out.getvalue()


# Single PUT, one CopyObject, nobody serves it.
TEXT = Sample("notes.txt", b"hello, world\n", served=False)
# 7 parts up, 3 part copies, thumbnails.
PICTURE = Sample("picture.png", png(), served=True)
# 6 parts up, one CopyObject, thumbnails.
SMALL_PICTURE = Sample("small.png", png(3, 3), served=True)
EMPTY = Sample("empty.txt", b"", served=False)
SAMPLES = (TEXT, PICTURE, SMALL_PICTURE, EMPTY)
