"""What is kept of a picture between two slices of work: the small rows made so far and where to go on. Child only.

A checkpoint belongs to one plan (level, cells, size); with another one it is worth nothing and is left aside.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Final

from PIL import Image

from heavylift.tiff.bands import Shrink
from heavylift.tiff.layout import Picture
from heavylift.tiff.rows import Place

MAGIC: Final = b"HLP1"
_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Kept:
    """``finished``: planes that are done. ``rows``: what each channel of the present plane keeps (``Narrowed.rows``,
    and how many of these pictures are finished rows). ``carry``: rows that wait for the next band."""

    plane: int
    place: Place
    finished: list[Image.Image]
    rows: list[tuple[list[Image.Image], int]]
    carry: list[Image.Image]


def plan_of(picture: Picture, shrink: Shrink, out: tuple[int, int]) -> dict[str, Any]:
    """What a checkpoint must agree with."""
    return {
        "level": picture.ifd.offset,
        "size": [picture.width, picture.height],
        "out": list(out),
        "shrink": asdict(shrink),
    }


def packed(kept: Kept, plan: dict[str, Any]) -> bytes:
    """The checkpoint's bytes. Memory: its pictures once more, compressed."""
    blobs: list[bytes] = []

    def stored(image: Image.Image) -> list[Any]:
        blobs.append(zlib.compress(image.tobytes(), 1))
        return [image.mode, *image.size, len(blobs[-1])]

    head = {
        "plan": plan,
        "plane": kept.plane,
        "place": asdict(kept.place),
        "finished": [stored(image) for image in kept.finished],
        "rows": [[[stored(image) for image in images], finished] for images, finished in kept.rows],
        "carry": [stored(image) for image in kept.carry],
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([MAGIC, _LENGTH.pack(len(text)), text, *blobs])


def unpacked(data: bytes | bytearray, plan: dict[str, Any]) -> Kept | None:
    """The checkpoint, or None where it is not of this plan, or not whole."""
    view = memoryview(data)
    at = len(MAGIC) + _LENGTH.size
    if bytes(view[: len(MAGIC)]) != MAGIC or len(view) < at:
        return None
    (length,) = _LENGTH.unpack(view[len(MAGIC) : at])
    try:
        head = json.loads(bytes(view[at : at + length]))
    except ValueError:
        return None
    if head["plan"] != plan:
        return None
    at += length

    def loaded(described: list[Any]) -> Image.Image:
        nonlocal at
        mode, width, height, stored = described
        raw = zlib.decompress(view[at : at + stored])
        at += stored
        return Image.frombytes(mode, (width, height), raw)

    try:
        finished = [loaded(one) for one in head["finished"]]
        rows = [([loaded(one) for one in images], count) for images, count in head["rows"]]
        carry = [loaded(one) for one in head["carry"]]
    except (zlib.error, ValueError):
        return None
    return Kept(head["plane"], Place(**head["place"]), finished, rows, carry)
