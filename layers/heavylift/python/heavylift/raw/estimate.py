"""What developing sensor data takes, in bytes and seconds, said before anything is copied. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError

MIB: Final = 1 << 20
BASE_BYTES: Final = 48 * MIB  # the child with LibRaw, numpy and Pillow loaded, and the finished thumbnails
# Bytes a sensor pixel while LibRaw develops at half size: the sensor data, a quarter of the pixels in four colours
# of 16 bits, and the picture. At full size every pixel has the four colours.
HALF_BYTES_A_PIXEL: Final = 5.2
FULL_BYTES_A_PIXEL: Final = 12.0
COLOUR_BYTES_A_PIXEL: Final = 19.0  # where every pixel has its colours already, LibRaw keeps them all
LIBRAW_BYTES_MAX: Final = (1 << 31) - 1  # LibRaw opens no larger file
LIBRAW_SIDE_MAX: Final = 65_535
COPY_BYTES_MAX: Final = 1 << 30  # of a file copied to the function's own disk; its size is in infra/topology.py
COPY_SPARE_BYTES: Final = 32 * MIB  # of the disk, left free
COPY_BYTES_A_SECOND: Final = 40e6  # four ranges in flight, a slow day
SECONDS_A_PIXEL: Final = 250e-9  # lossless JPEG unpacked and developed on one slow core
SECONDS_BASE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Development:
    """An estimate: memory of the child, seconds of copying and developing, and whether half size is enough."""

    memory_bytes: int
    seconds: float
    half: bool


def develop_bytes(width: int, height: int, mode: str = "CFA", *, half: bool = True) -> int:
    """Peak memory of developing ``width`` x ``height`` sensor pixels."""
    each = COLOUR_BYTES_A_PIXEL if mode == "RGB" else HALF_BYTES_A_PIXEL if half else FULL_BYTES_A_PIXEL
    return int(BASE_BYTES + each * width * height)


def plan_development(
    size_bytes: int,
    width: int,
    height: int,
    mode: str,
    *,
    big_tiff: bool,
    edge: int,
    budget_bytes: int,
    seconds_left: float,
    disk_free_bytes: int,
) -> Development:
    """How sensor data would be developed. ContentError ``too_large_to_decode`` or ``too_long_to_decode`` where not.

    Width and height of 0: the file does not say, and the child's limit is all that protects.
    """
    half = max(width, height) >= 2 * edge or not width
    memory = develop_bytes(width, height, mode, half=half)
    seconds = SECONDS_BASE + size_bytes / COPY_BYTES_A_SECOND + SECONDS_A_PIXEL * width * height
    if size_bytes > COPY_BYTES_MAX:
        raise _refused(f"the file has {size_bytes} bytes, {COPY_BYTES_MAX} can be copied", size_bytes, COPY_BYTES_MAX)
    if size_bytes + COPY_SPARE_BYTES > disk_free_bytes:
        raise _refused(
            f"the file has {size_bytes} bytes, {disk_free_bytes} are free for a copy", size_bytes, disk_free_bytes
        )
    if size_bytes > LIBRAW_BYTES_MAX or big_tiff:
        raise _refused("the decoder opens no BigTIFF and no file over 2 GiB", size_bytes, LIBRAW_BYTES_MAX)
    if max(width, height) > LIBRAW_SIDE_MAX:
        raise _refused(
            f"sensor data of {width} x {height}, {LIBRAW_SIDE_MAX} a side", max(width, height), LIBRAW_SIDE_MAX
        )
    if memory > budget_bytes:
        raise _refused(
            f"developing needs about {memory // MIB} MiB, the budget is {budget_bytes // MIB} MiB",
            memory,
            budget_bytes,
        )
    if seconds > seconds_left:
        raise ContentError(
            "too_long_to_decode",
            f"developing needs about {seconds:.0f} s, {max(0.0, seconds_left):.0f} s are left",
            estimated_seconds=round(seconds, 1),
            seconds_left=round(max(0.0, seconds_left), 1),
        )
    return Development(memory, seconds, half)


def _refused(message: str, needed: int, limit: int) -> ContentError:
    return ContentError("too_large_to_decode", message, needed=needed, limit=limit)
