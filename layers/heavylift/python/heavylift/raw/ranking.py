"""Which preview to try next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from heavylift.raw.model import JPEG, Preview

# A preview this much of the wanted edge is taken before sensor data are copied and developed; 1024 of 1200 is.
ENOUGH: Final = 0.8
# Looking into another preview costs a request and 32 KiB: it must promise more.
WORTH_A_LOOK_BYTES: Final = 256 << 10


def choose(previews: Sequence[Preview], edge: int) -> Preview | None:
    """The preview to look at or to decode next: the fewest bytes of those large enough, else the largest.

    A preview of unknown size comes first where it could be the better one; once looked at, it is asked about again
    with its size. None where there are none.
    """
    large = [each for each in previews if each.long_side >= edge]
    best = min(large, key=_cost, default=None)
    unknown = [each for each in previews if not each.width]
    if best is None:
        # Nothing known is large enough: what is not known may be, the longest most likely.
        if unknown:
            return max(unknown, key=lambda each: each.length)
        return max(previews, key=lambda each: (each.width * each.height, -_cost(each)), default=None)
    promising = [each for each in unknown if each.length + WORTH_A_LOOK_BYTES < best.length]
    return max(promising, key=lambda each: each.length, default=best)


def enough(preview: Preview, edge: int) -> bool:
    """Whether a preview makes a good picture of ``edge`` pixels."""
    return preview.long_side >= ENOUGH * edge


def _cost(preview: Preview) -> int:
    """Bytes to read: strips are raw pixels at most."""
    return preview.length if preview.coding == JPEG else 3 * preview.width * preview.height


def upright(orientation: int, preview: tuple[int, int], sensor: tuple[int, int]) -> int:
    """The orientation to give a preview: 1 where it stands upright already.

    A quarter turn swaps the sides. A preview that lies as the sensor does not (portrait beside landscape) has been
    turned by the camera.
    """
    if orientation < 5 or not all((*preview, *sensor)):
        return orientation
    lies = preview[0] > preview[1], sensor[0] > sensor[1]
    square = preview[0] == preview[1] or sensor[0] == sensor[1]
    return orientation if square or lies[0] == lies[1] else 1
