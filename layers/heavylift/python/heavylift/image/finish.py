"""From one decoded picture to all thumbnails: colours to sRGB, orientation, sizes in a cascade, JPEG. Child only.

Everything here works on a picture that is already small, so that colour management costs nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageCms, ImageFile

from heavylift.tiff.bands import fit_within

# Exif 2.3, tag 274: what has to be done to see the picture upright.
_TURNS: Final[dict[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LOW_PERCENTILE: Final = 0.005  # of float and wide integer samples: shown as black
HIGH_PERCENTILE: Final = 0.995  # shown as white
_HISTOGRAM_ROUNDS: Final = 3  # each narrows the percentile to one of 256 bins of the last


@dataclass(frozen=True, slots=True)
class Encoded:
    """One finished thumbnail; ``size`` is the edge that was asked for."""

    size: int
    width: int
    height: int
    jpeg: bytes


def finish(
    image: Image.Image,
    *,
    full_size: tuple[int, int],
    orientation: int,
    icc_profile: bytes | None,
    sizes: tuple[int, ...],
    quality: int,
    pad_color: str | None,
    limits: tuple[float, float] | None = None,
) -> list[Encoded]:
    """All thumbnails from ``image``, the picture at its largest wanted size; ``full_size`` as stored.

    Never enlarged: a picture smaller than a size keeps its own. With ``pad_color`` each is laid on a square of
    exactly its size. Progressive JPEG in sRGB or grey, without metadata.
    """
    image = to_srgb(to_eight_bits(image, limits), icc_profile)
    turn = _TURNS.get(orientation)
    if turn is not None:
        image = image.transpose(turn)
        if orientation >= 5:
            full_size = (full_size[1], full_size[0])
    made: dict[int, Encoded] = {}
    for size in sorted(set(sizes), reverse=True):
        wanted = fit_within(*full_size, size)
        if image.size != wanted:
            image = image.resize(wanted, Image.Resampling.LANCZOS)
        shown = padded(image, size, pad_color) if pad_color else image
        made[size] = Encoded(size, *shown.size, encode(shown, quality))
    return [made[size] for size in sizes]


def padded(image: Image.Image, edge: int, color: str) -> Image.Image:
    """``image`` in the middle of a square of ``edge``."""
    square = Image.new("RGB", (edge, edge), color)
    square.paste(image.convert("RGB"), ((edge - image.width) // 2, (edge - image.height) // 2))
    return square


def encode(image: Image.Image, quality: int) -> bytes:
    """A progressive JPEG, chroma as fine as luma: thin coloured lines of maps and slides survive (a third larger)."""
    out = io.BytesIO()
    # Pillow's buffer for optimised JPEGs is one byte a pixel: noise needs more, and fails ("Suspension not allowed").
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 4 * image.width * image.height + 65_536)
    image.save(out, "JPEG", quality=quality, progressive=True, optimize=True, subsampling=0)
    return out.getvalue()


def profile_fits(mode: str, icc_profile: bytes) -> bool:
    """Whether the profile can be read and is of pictures of this mode (I and F are grey when they are shown)."""
    mode = "L" if mode in ("I", "F") else mode
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    return True


def to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """The picture in sRGB (mode RGB), or grey (mode L). A profile that does not fit is left out."""
    if icc_profile and image.mode in ("L", "RGB", "CMYK", "LAB"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = None
        if converted is not None:
            return converted.convert("L") if image.mode == "L" else converted
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def to_eight_bits(image: Image.Image, limits: tuple[float, float] | None = None) -> Image.Image:
    """Float and 32-bit samples as grey: linear from ``limits``, else from the 0.5th to the 99.5th percentile."""
    if image.mode not in ("F", "I"):
        return image
    if image.mode == "I":
        image = image.convert("F")
    low, high = limits or (percentile(image, LOW_PERCENTILE), percentile(image, HIGH_PERCENTILE))
    if not high > low:
        return Image.new("L", image.size, 0 if high <= 0 else 128)
    factor = 255.0 / (high - low)
    # convert("L") cuts at 0 and 255 and drops the fraction.
    return image.point(lambda value: value * factor + (0.5 - low * factor)).convert("L")


def percentile(image: Image.Image, part: float) -> float:
    """A percentile of a float picture, by histograms that are narrowed in a few rounds."""
    low, high = image.getextrema()
    assert isinstance(low, float)
    assert isinstance(high, float)
    wanted = part * image.width * image.height
    below = 0.0
    for _ in range(_HISTOGRAM_ROUNDS):
        if not high > low:
            break
        bins = image.histogram(extrema=(low, high))
        width = (high - low) / 255  # Pillow puts the highest value alone into the last bin
        for number, count in enumerate(bins):
            if below + count >= wanted or number == 255:
                low, high = low + number * width, low + (number + 1) * width
                break
            below += count
    return (low + high) / 2
