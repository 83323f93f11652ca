"""How long a decode takes, said before it begins: what cannot be done in time, and bombs, are refused by numbers. Pure.

Figures are seconds of one slow core, a little high; memory is ``heavylift.image.estimate``'s.
"""

from __future__ import annotations

from typing import Final

from heavylift.errors import ContentError

# Measured over pictures of 12 to 108 megapixels, times two: Lambda's core is slower than a desk's.
SECONDS_A_PIXEL: Final[dict[str, float]] = {
    "JPEG": 8e-9,
    "PNG": 40e-9,
    "WebP": 40e-9,
    "AVIF": 40e-9,
    "HEIC": 60e-9,
    "GIF": 20e-9,
    "BMP": 10e-9,
    "PSD": 15e-9,
    "JXL": 100e-9,
    "JP2": 250e-9,
    "J2K": 250e-9,
}
PROGRESSIVE_FACTOR: Final = 3.0  # of a JPEG that is stored in passes
# A file pays with its weight: an honest picture of a minute has many megabytes, a bomb a few.
BOMB_SECONDS: Final = 15.0
BOMB_SECONDS_A_BYTE: Final = 1e-6


def whole_decode_seconds(format_name: str, pixels: int, *, interlaced: bool = False, shrink: int = 1) -> float:
    """Of decoding a whole picture. ``shrink``: of JPEG 2000, which decodes only what it shows; a JPEG decodes all."""
    seconds = pixels * SECONDS_A_PIXEL.get(format_name, 20e-9)
    if format_name in ("JP2", "J2K"):
        return seconds / shrink**2
    return seconds * PROGRESSIVE_FACTOR if format_name == "JPEG" and interlaced else seconds


def check_seconds(seconds: float, stored_bytes: int, seconds_left: float) -> None:
    """ContentError ``too_long_to_decode`` where a decode would outlast the time, or takes more than the file weighs."""
    allowed = BOMB_SECONDS + BOMB_SECONDS_A_BYTE * stored_bytes
    left = max(0.0, seconds_left)
    if seconds <= min(allowed, left):
        return
    reason = f"{left:.0f} s are left" if left <= allowed else f"a file of {stored_bytes} bytes is given {allowed:.0f} s"
    raise ContentError(
        "too_long_to_decode",
        f"decoding needs about {seconds:.0f} s, {reason}",
        estimated_seconds=round(seconds, 1),
        seconds_allowed=round(min(allowed, left), 1),
    )
