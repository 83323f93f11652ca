"""PNG and BMP in bands, down to the pixels: a picture of the right size, or a verdict."""

from __future__ import annotations

import io

from heavylift.errors import ContentError
from heavylift.image.sources import LocalSource
from heavylift.image.streaming import decode_rows, row_layout

PIXELS_MAX = 4_000_000  # of one input: more is refused by estimates, and would only take time here
ROW_BYTES_MAX = 1 << 20


def one(data: bytes) -> None:
    for name in ("PNG", "BMP"):
        try:
            layout = row_layout(name, data)
            if layout is None or layout.pixels > PIXELS_MAX or layout.row_bytes > ROW_BYTES_MAX:
                continue
            whole = decode_rows(LocalSource(io.BytesIO(data), len(data)), name, data, 64, 1)
        except ContentError:
            continue
        assert whole.full_size == (layout.width, layout.height), whole
        assert max(whole.image.size) <= 64, whole
        assert whole.image.mode in ("L", "RGB"), whole
