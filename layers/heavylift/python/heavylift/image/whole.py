"""A picture decoded at once, with Pillow. Child only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final, cast

from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.duration import check_seconds, whole_decode_seconds
from heavylift.image.facts import TIFF_FORMATS
from heavylift.image.narrow import shrink_image
from heavylift.image.sources import PictureSource, RangeFile
from heavylift.tiff.bands import LANCZOS_SHARE, fit_within

PILLOW_FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "TIFF": ("TIFF",),
    "BigTIFF": ("TIFF",),
    "SVS": ("TIFF",),
    "OME-TIFF": ("TIFF",),
    "JPEG": ("JPEG",),  # not MPO: the first picture is the one that counts
    "PNG": ("PNG",),
    "WebP": ("WEBP",),
    "GIF": ("GIF",),
    "BMP": ("BMP",),
    "JP2": ("JPEG2000",),
    "J2K": ("JPEG2000",),
    "AVIF": ("AVIF",),
    "PSD": ("PSD",),
}
ICC_BYTES_MAX: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Whole:
    """A decoded picture at its largest wanted size, and what its file says about it."""

    image: Image.Image
    full_size: tuple[int, int]
    mode: str
    orientation: int
    icc_profile: bytes | None


def draft_shrink(format_name: str, width: int, height: int, edge: int, levels: int = 1) -> int:
    """By how much a picture may be made smaller while it is decoded; twice the wanted size stays for LANCZOS.

    JPEG: 1, 2, 4 or 8, by the size of its transform. JPEG 2000: a power of two, by the ``levels`` of the file.
    """
    steps = {"JPEG": 3, "JP2": levels - 1, "J2K": levels - 1}.get(format_name, 0)
    out_width, out_height = fit_within(width, height, edge)
    scale = min(width // (LANCZOS_SHARE * out_width), height // (LANCZOS_SHARE * out_height))
    return 1 << max(0, min(steps, scale.bit_length() - 1))


def decode_whole(
    source: PictureSource,
    format_name: str,
    edge: int,
    allowed: Callable[[tuple[int, int], str], None],
    *,
    head: bytes = b"",
    levels: int = 1,
    interlaced: bool = False,
    seconds_left: float = math.inf,
    invert_16: bool = False,
) -> Whole:
    """The first picture of a file, fitted into a square of ``edge``.

    ``allowed(size, mode)`` is asked between header and pixels, and raises where the memory would not do.
    ``head``: the file's first bytes where they are at hand. ``levels`` and ``interlaced`` as in ImageFacts.
    ContentError where the bytes do not decode, or would not within ``seconds_left``.
    """
    plugins = PILLOW_FORMATS.get(format_name)
    if plugins is None:
        raise ContentError("unsupported_feature", f"no decoder for {format_name} yet", format=format_name)
    Image.MAX_IMAGE_PIXELS = None  # the estimate decides, not a constant
    unknown = "unsupported_feature" if format_name in TIFF_FORMATS or format_name == "PSD" else "corrupt"
    with decoding(format_name, unknown=unknown):
        image = Image.open(cast(IO[bytes], RangeFile(source, head)), formats=plugins)
        full_size, mode = image.size, image.mode
    allowed(full_size, mode)
    with decoding(format_name):
        icc_profile = image.info.get("icc_profile")
        # Pillow turns a TIFF upright while it loads it.
        orientation = 1 if format_name in TIFF_FORMATS else image.getexif().get(274, 1)
        out = fit_within(*full_size, edge)
        shrink = draft_shrink(format_name, *full_size, edge, levels)
        if format_name not in TIFF_FORMATS:
            pixels = full_size[0] * full_size[1]
            seconds = whole_decode_seconds(format_name, pixels, interlaced=interlaced, shrink=shrink)
            check_seconds(seconds, source.size_bytes, seconds_left)
        if format_name == "JPEG":
            image.draft(image.mode, (full_size[0] // shrink, full_size[1] // shrink))
        elif shrink > 1:
            cast(Jpeg2KImageFile, image).reduce = shrink.bit_length() - 1
        image.load()
        if format_name in TIFF_FORMATS:
            full_size = image.size
            out = fit_within(*full_size, edge)
        picture = shrink_image(image, out, invert_16=invert_16)
    if not isinstance(icc_profile, bytes) or len(icc_profile) > ICC_BYTES_MAX:
        icc_profile = None
    return Whole(picture, full_size, mode, orientation if orientation in range(1, 9) else 1, icc_profile)
