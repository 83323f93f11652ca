"""A picture decoded at once, with Pillow. Child only."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Final, cast

from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from heavylift.errors import ContentError
from heavylift.image.decoding import decoding
from heavylift.image.duration import check_seconds, whole_decode_seconds
from heavylift.image.facts import TIFF_FORMATS
from heavylift.image.gif import COUNTED_BYTES_MAX, count_frames
from heavylift.image.headers import read_jpeg_xl
from heavylift.image.narrow import Narrowed, reduced_band, shrink_image
from heavylift.image.sources import PictureSource, RangeFile, small_reads
from heavylift.ranges import drive
from heavylift.tiff.bands import LANCZOS_SHARE, fit_within, shrink_rows

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
# Of the formats that Pillow does not load beforehand.
PLUGINS: Final = {
    "TIFF": "TiffImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "PSD": "PsdImagePlugin",
}
HEIF_FORMATS: Final = frozenset({"HEIC", "HEIF"})  # by libheif
GIF_END: Final = b"\x00;"  # the end of a picture's data, then the trailer
J2K_END: Final = b"\xff\xd9"
END_BYTES: Final = 1024  # a file's end is looked for in so many
ICC_BYTES_MAX: Final = 4 << 20
GIF_READ_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Whole:
    """A decoded picture at its largest wanted size, and what its file says about it.

    ``flaw``: what is broken beside the picture, which can be shown all the same. ``pages``: 0 where the decoder does
    not count them.
    """

    image: Image.Image
    full_size: tuple[int, int]
    mode: str
    orientation: int
    icc_profile: bytes | None
    flaw: ContentError | None = None
    pages: int = 0


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
    Image.MAX_IMAGE_PIXELS = None  # the estimate decides, not a constant
    if format_name in HEIF_FORMATS:
        return _decode_heif(source, format_name, edge, allowed, head, seconds_left)
    if format_name == "JXL":
        return _decode_jxl(source, edge, allowed, head, seconds_left)
    if plugins is None:
        raise ContentError("unsupported_feature", f"no decoder for {format_name} yet", format=format_name)
    unknown = "unsupported_feature" if format_name in TIFF_FORMATS or format_name == "PSD" else "corrupt"
    module = PLUGINS.get(plugins[0])
    if module is not None:  # else Pillow looks for it among all that it has (30 ms)
        import_module(f"PIL.{module}")
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
        pages = int(getattr(image, "n_frames", 0)) if format_name in ("WebP", "AVIF") else 0
    if format_name == "GIF" and source.size_bytes <= COUNTED_BYTES_MAX:
        try:
            pages = count_frames(cast(IO[bytes], io.BufferedReader(RangeFile(source, head), GIF_READ_BYTES)))
        except ContentError:
            pages = 0  # what follows the first frame is broken, which is told by the missing end
    return Whole(
        picture,
        full_size,
        mode,
        orientation if orientation in range(1, 9) else 1,
        _profile(icc_profile),
        _missing_end(source, format_name, head),
        pages,
    )


def _profile(icc_profile: object) -> bytes | None:
    return icc_profile if isinstance(icc_profile, bytes) and len(icc_profile) <= ICC_BYTES_MAX else None


def _missing_end(source: PictureSource, format_name: str, head: bytes) -> ContentError | None:
    """``truncated`` where a file whose decoder is content with less does not end as its format ends.

    Pillow reads the first frame of a GIF and no further; OpenJPEG makes a picture of any beginning.
    """
    wanted = {"GIF": GIF_END, "JP2": J2K_END, "J2K": J2K_END}.get(format_name)
    if wanted is None:
        return None
    source.stream([]).close()
    start = max(0, source.size_bytes - END_BYTES)
    tail = head[start:] if source.size_bytes <= len(head) else source.fetch(start, END_BYTES)
    ends = tail.rstrip(b"\0").endswith(wanted) if format_name == "GIF" else wanted in tail
    if ends:
        return None
    return ContentError("truncated", f"the {format_name} has no end; its first picture is shown as far as it goes")


def _decode_heif(
    source: PictureSource,
    format_name: str,
    edge: int,
    allowed: Callable[[tuple[int, int], str], None],
    head: bytes,
    seconds_left: float,
) -> Whole:
    """By libheif, which turns the picture upright itself. Loaded here only: nothing else needs it."""
    try:
        import pi_heif
    except ImportError as error:
        raise ContentError("unsupported_feature", f"no decoder for {format_name} here", format=format_name) from error
    for name, value in (("DECODE_THREADS", 1), ("THUMBNAILS", False), ("DEPTH_IMAGES", False), ("AUX_IMAGES", False)):
        setattr(pi_heif.options, name, value)
    with decoding(format_name):
        file = pi_heif.HeifFile(RangeFile(source, head))
        primary = file[file.primary_index]
        full_size: tuple[int, int] = primary.size
        mode: str = primary.mode
    allowed(full_size, mode)
    check_seconds(whole_decode_seconds(format_name, full_size[0] * full_size[1]), source.size_bytes, seconds_left)
    with decoding(format_name):
        out = fit_within(*full_size, edge)
        icc_profile = primary.info.get("icc_profile")
        pixels, stride = primary.data, primary.stride
        if primary.size != full_size:
            raise ContentError("corrupt", f"{format_name} of {full_size} decodes to {primary.size} pixels")
        # In slabs, so that the picture is not held once as libheif's and once as Pillow's.
        picture = _shrink_in_memory(memoryview(pixels), stride, full_size, mode, out)
    return Whole(picture, full_size, mode, 1, _profile(icc_profile))


def _decode_jxl(
    source: PictureSource,
    edge: int,
    allowed: Callable[[tuple[int, int], str], None],
    head: bytes,
    seconds_left: float,
) -> Whole:
    """By libjxl, which turns the picture upright itself; the first frame. Loaded here only, as libheif is."""
    try:
        from imagecodecs import jpegxl_decode
    except ImportError as error:
        raise ContentError("unsupported_feature", "no decoder for JPEG XL here", format="JXL") from error
    import numpy as np

    header = drive(read_jpeg_xl(source.size_bytes), small_reads(source, head))
    full_size = (header.width, header.height)
    allowed(full_size, header.mode)
    check_seconds(whole_decode_seconds("JXL", full_size[0] * full_size[1]), source.size_bytes, seconds_left)
    with decoding("JPEG XL"):
        stored = RangeFile(source, head).readall()
        pixels = jpegxl_decode(stored, index=0, numthreads=1)
        del stored
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.ndim != 3 or (pixels.shape[1], pixels.shape[0]) != full_size:
            raise ContentError("corrupt", f"JPEG XL of {full_size} pixels decodes to {pixels.shape}")
        out = fit_within(*full_size, edge)
        shrink = shrink_rows(*full_size, *out)
        narrowed = Narrowed(*full_size, shrink, out)
        samples = pixels.shape[2]
        mode = {1: "L", 2: "LA", 3: "RGB"}.get(samples, "RGBA")
        for y in range(0, full_size[1], shrink.band_rows):
            rows = pixels[y : y + shrink.band_rows, :, : len(mode)]
            if rows.dtype.kind == "f":
                rows = np.nan_to_num(rows.astype(np.float32)).clip(0, 1) * 255 + 0.5
            elif rows.dtype.itemsize > 1:
                rows = rows >> 8
            slab = Image.fromarray(
                np.ascontiguousarray(rows.astype(np.uint8).squeeze(2) if samples == 1 else rows.astype(np.uint8)), mode
            )
            narrowed.add(reduced_band(slab, shrink))
    return Whole(narrowed.finish(), full_size, mode, 1, None, pages=header.pages or 0)


def _shrink_in_memory(
    pixels: memoryview, stride: int, size: tuple[int, int], mode: str, out: tuple[int, int]
) -> Image.Image:
    """A picture at ``out`` pixels from rows of ``stride`` bytes in memory, a slab at a time."""
    width, height = size
    shrink = shrink_rows(width, height, *out)
    narrowed = Narrowed(width, height, shrink, out)
    for y in range(0, height, shrink.band_rows):
        rows = min(height - y, shrink.band_rows)
        slab = Image.frombytes(mode, (width, rows), pixels[y * stride : (y + rows) * stride], "raw", mode, stride)
        narrowed.add(reduced_band(slab, shrink))
    return narrowed.finish()
