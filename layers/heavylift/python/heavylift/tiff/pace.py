"""How long a TIFF takes to decode, said before it begins, and the end of a slice of it. Pure functions; seconds.

The speeds are about half of what one Lambda processor was measured at (libtiff 4.7, zlib-ng, jpeg-turbo; decoded
bytes), so that what is promised is kept on a slow day. Reading is counted at what S3 gives over a few connections.
"""

from __future__ import annotations

import math
from typing import Final

from heavylift.errors import ContentError, HeavyliftError
from heavylift.image.duration import check_seconds
from heavylift.tiff import tags
from heavylift.tiff.bands import Path, Shrink, choose_path
from heavylift.tiff.layout import Chunks, Picture, by_pillow, planes_wanted

MB: Final = 1_000_000
READ_MB_S: Final = 80.0
REDUCE_MB_S: Final = 400.0  # averaging; all that uncompressed samples cost
NUMBERS_MB_S: Final = 60.0  # samples that are unpacked here
LZW_STREAM_MB_S: Final = 20.0
DECODE_MB_S: Final[dict[int, float]] = {
    2: 40.0,
    3: 20.0,
    4: 20.0,
    5: 90.0,
    7: 120.0,
    8: 120.0,
    32946: 120.0,
    32773: 300.0,
    34925: 15.0,
    50000: 250.0,
    tags.WEBP: 30.0,
    tags.LERC: 60.0,
    **dict.fromkeys(tags.JPEG_XL, 15.0),
    **dict.fromkeys(tags.JPEG_2000, 8.0),
}


class Paused(HeavyliftError):
    """Time is up; ``checkpoint`` is what to go on from, ``done`` the rows of all planes behind it."""

    def __init__(self, done: int, checkpoint: bytes) -> None:
        super().__init__("out_of_time", f"{done} rows are done; the rest follows.")
        self.done = done
        self.checkpoint = checkpoint


def seconds_for(picture: Picture, stored_bytes: int, decoded_bytes: int) -> float:
    """Reading and decoding go side by side: the slower of both."""
    speed = DECODE_MB_S.get(picture.compression)
    if picture.compression == tags.LZW and choose_path(picture) is Path.LZW:
        speed = LZW_STREAM_MB_S
    seconds = decoded_bytes / (REDUCE_MB_S * MB)
    if speed is not None:
        seconds += decoded_bytes / (speed * MB)
    if not by_pillow(picture):
        seconds += decoded_bytes / (NUMBERS_MB_S * MB)
    return max(seconds, stored_bytes / (READ_MB_S * MB))


def step_seconds(picture: Picture, shrink: Shrink, chunks: Chunks) -> float:
    """The longest step after which the work can stop and go on another time: a band of rows, an inflated strip (its
    coding can be begun at its first byte only), a row of tiles."""
    path = choose_path(picture)
    row = picture.row_bytes(picture.width)
    largest = max(chunks.counts)
    if path in (Path.ROWS, Path.LZW):
        decoded = row * min(shrink.band_rows, picture.height)
        return seconds_for(picture, min(decoded, chunks.stored_bytes), decoded)
    if path is Path.INFLATE:
        return seconds_for(picture, largest, picture.chunk_bytes(0))
    number = picture.across if picture.tiled else max(1, shrink.band_rows // picture.chunk_height)
    return seconds_for(picture, min(number * largest, chunks.stored_bytes), number * picture.chunk_bytes(0))


def picture_seconds(picture: Picture, chunks: Chunks) -> float:
    """The whole picture."""
    return seconds_for(picture, chunks.stored_bytes, _decoded_bytes(picture, chunks))


def _decoded_bytes(picture: Picture, chunks: Chunks) -> int:
    """Bytes that come out of the chunks; of those never written, which are only painted, a fifth."""
    decoded = picture.row_bytes(picture.width) * picture.height * planes_wanted(picture)
    empty = chunks.counts.count(0)
    return int(decoded * (1 - 0.8 * empty / len(chunks.counts)))


def check_time(
    picture: Picture, shrink: Shrink, chunks: Chunks, slice_seconds: float, *, resumable: bool, size_bytes: int
) -> None:
    """ContentError ``too_long_to_decode`` where no slice of ``slice_seconds`` would do, or where the pixels are many
    more than a file of ``size_bytes`` pays for."""
    needed = step_seconds(picture, shrink, chunks) if resumable else picture_seconds(picture, chunks)
    if needed > slice_seconds:
        what = "a piece that must be decoded at once" if resumable else "the picture"
        raise ContentError(
            "too_long_to_decode",
            f"{what} takes about {needed:.0f} s, {slice_seconds:.0f} s are available",
            estimated_seconds=round(needed, 1),
            seconds_allowed=round(slice_seconds, 1),
        )
    # What is coded a thousand to one is decoded fast.
    check_seconds(_decoded_bytes(picture, chunks) / (REDUCE_MB_S * MB), size_bytes, math.inf)
