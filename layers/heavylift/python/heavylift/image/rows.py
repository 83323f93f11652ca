"""Pictures that are stored row by row, PNG and BMP: read and narrowed in bands. Pure; the decoders are the child's.

No decoder of ours holds such a picture whole: memory is one band and the rows of the wanted width, whatever the size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from heavylift.image.estimate import BASE_BYTES, HEADROOM
from heavylift.tiff.bands import BAND_BYTES, Shrink, shrink_rows

# Copies of a band's stored bytes that are held at once: PNG as inflated, as stored blocks and their pieces being
# joined; BMP as read and as Pillow's own copy.
COPIES: Final[dict[str, int]] = {"PNG": 3, "BMP": 2}
# Seconds of one slow core (measured: 7 and 3 ns for PNG of photographs, 1 and 3 for BMP; Lambda's core is slower).
SECONDS_A_STORED_BYTE: Final[dict[str, float]] = {"PNG": 14e-9, "BMP": 2e-9}
SECONDS_A_PIXEL: Final = 5e-9


@dataclass(frozen=True, slots=True)
class RowLayout:
    """``row_bytes``: of a row as stored, inflated; ``decoded_pixel_bytes``: of a pixel as Pillow keeps the band."""

    format: str
    width: int
    height: int
    row_bytes: int
    decoded_pixel_bytes: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def seconds(self) -> float:
        """What decoding takes, estimated."""
        return self.row_bytes * self.height * SECONDS_A_STORED_BYTE[self.format] + self.pixels * SECONDS_A_PIXEL


def shrink_of(layout: RowLayout, out: tuple[int, int]) -> Shrink:
    """Cells and bands: a band holds at most BAND_BYTES as stored and as decoded, but always one row."""
    shrink = shrink_rows(layout.width, layout.height, *out)
    rows_max = max(1, BAND_BYTES // max(1, layout.row_bytes))
    if shrink.band_rows <= rows_max:
        return shrink
    if shrink.down <= rows_max:
        return replace(shrink, band_rows=rows_max // shrink.down * shrink.down)
    return replace(shrink, down=rows_max, stack=shrink.down * shrink.stack // rows_max, band_rows=rows_max)


def rows_decode_bytes(layout: RowLayout, out: tuple[int, int]) -> int:
    """Peak memory of decoding in bands: base, one band as stored and as decoded, the rows kept."""
    shrink = shrink_of(layout, out)
    rows = min(shrink.band_rows, layout.height)
    # The band twice: as decoded, and in the mode that is averaged; 16 bits come as two pictures of 8.
    band = COPIES[layout.format] * layout.row_bytes * rows + 2 * layout.decoded_pixel_bytes * layout.width * rows
    reduced = 4 * -(-layout.width // shrink.across) * -(-rows // shrink.down)
    kept = 4 * out[0] * -(-layout.height // shrink.rows_to_one) + 8 * out[0] * out[1]
    return int((BASE_BYTES + band + reduced + kept) * HEADROOM)
