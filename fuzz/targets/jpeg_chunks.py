"""A JPEG chunk of a TIFF and its tables, put together and decoded smaller: of the right size, or left alone."""

from __future__ import annotations

from typing import Any, Final, cast

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.tiff.layout import Picture
from heavylift.tiff.small_jpeg import SmallJpeg

SIDE: Final = 64
END_OF_TABLES: Final = b"\xff\xd9"


def one(data: bytes) -> None:
    cut = data.find(END_OF_TABLES) + len(END_OF_TABLES) if data.startswith(b"T") else 1
    tables, chunk = data[1:cut], data[cut:]
    for photometric, samples in ((1, 1), (2, 3), (6, 3), (5, 4)):
        picture = Picture(
            ifd=cast(Any, None),
            width=SIDE,
            height=SIDE,
            samples=samples,
            bits=8,
            sample_format=1,
            photometric=photometric,
            compression=7,
            planar=1,
            predictor=1,
            orientation=1,
            extra_samples=(),
            subsampling=(1, 1),
            subfile_type=0,
            tiled=True,
            chunk_width=SIDE,
            chunk_height=SIDE,
        )
        for scale in (2, 8):
            decoder = SmallJpeg(picture, tables, scale)
            try:
                with decoding("TIFF"):
                    made = decoder.decode(chunk, (SIDE, SIDE))
            except ContentError:
                continue
            assert made is None or made.size == (SIDE // scale, SIDE // scale), made
