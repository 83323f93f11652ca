"""Transfer syntaxes: how a dataset and its pixels are encoded. Constants of PS3.5 Annex A and PS3.6 Annex A. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"

DICOMDIR_CLASS: Final = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage


class Codec(StrEnum):
    """What the pixel data are compressed with."""

    NATIVE = "native"
    JPEG = "jpeg"  # baseline, 8 bits
    JPEG_EXTENDED = "jpeg-extended"  # 12 bits, or 8
    JPEG_LOSSLESS = "jpeg-lossless"
    JPEG_LS = "jpeg-ls"
    JPEG_2000 = "jpeg-2000"
    HTJ2K = "htj2k"
    RLE = "rle"
    DEFLATED_FRAMES = "deflated-frames"
    JPEG_XL = "jpeg-xl"
    VIDEO = "video"
    ELSEWHERE = "elsewhere"  # JPIP, SMPTE: the pixels are not in the file
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Syntax:
    """One transfer syntax. ``media_type``: of a frame as stored (PS3.18 table 8.7.3-4)."""

    uid: str
    codec: Codec
    media_type: str
    lossy: bool = False

    @property
    def native(self) -> bool:
        """The pixel data are plain samples."""
        return self.codec is Codec.NATIVE


_OCTETS: Final = "application/octet-stream"
_JPEG: Final = "image/jpeg"
_TABLE: Final[tuple[Syntax, ...]] = (
    Syntax(IMPLICIT_LITTLE, Codec.NATIVE, _OCTETS),
    Syntax(EXPLICIT_LITTLE, Codec.NATIVE, _OCTETS),
    Syntax("1.2.840.10008.1.2.1.98", Codec.NATIVE, _OCTETS),  # encapsulated uncompressed: plain samples in fragments
    Syntax(DEFLATED, Codec.NATIVE, _OCTETS),
    Syntax(EXPLICIT_BIG, Codec.NATIVE, _OCTETS),
    Syntax("1.2.840.10008.1.2.4.50", Codec.JPEG, _JPEG, lossy=True),
    Syntax("1.2.840.10008.1.2.4.51", Codec.JPEG_EXTENDED, _JPEG, lossy=True),
    Syntax("1.2.840.10008.1.2.4.57", Codec.JPEG_LOSSLESS, _JPEG),
    Syntax("1.2.840.10008.1.2.4.70", Codec.JPEG_LOSSLESS, _JPEG),
    Syntax("1.2.840.10008.1.2.4.80", Codec.JPEG_LS, "image/jls"),
    Syntax("1.2.840.10008.1.2.4.81", Codec.JPEG_LS, "image/jls", lossy=True),
    Syntax("1.2.840.10008.1.2.4.90", Codec.JPEG_2000, "image/jp2"),
    Syntax("1.2.840.10008.1.2.4.91", Codec.JPEG_2000, "image/jp2", lossy=True),
    Syntax("1.2.840.10008.1.2.4.92", Codec.JPEG_2000, "image/jpx"),
    Syntax("1.2.840.10008.1.2.4.93", Codec.JPEG_2000, "image/jpx", lossy=True),
    Syntax("1.2.840.10008.1.2.4.94", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.4.95", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.4.100", Codec.VIDEO, "video/mpeg", lossy=True),
    Syntax("1.2.840.10008.1.2.4.100.1", Codec.VIDEO, "video/mpeg", lossy=True),
    Syntax("1.2.840.10008.1.2.4.101", Codec.VIDEO, "video/mpeg", lossy=True),
    Syntax("1.2.840.10008.1.2.4.101.1", Codec.VIDEO, "video/mpeg", lossy=True),
    *(
        Syntax(f"1.2.840.10008.1.2.4.{number}", Codec.VIDEO, "video/mp4", lossy=True)
        for number in ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1", "107", "108")
    ),
    Syntax("1.2.840.10008.1.2.4.110", Codec.JPEG_XL, "image/jxl"),
    Syntax("1.2.840.10008.1.2.4.111", Codec.JPEG_XL, "image/jxl", lossy=True),
    Syntax("1.2.840.10008.1.2.4.112", Codec.JPEG_XL, "image/jxl", lossy=True),
    Syntax("1.2.840.10008.1.2.4.201", Codec.HTJ2K, "image/jphc"),
    Syntax("1.2.840.10008.1.2.4.202", Codec.HTJ2K, "image/jphc"),
    Syntax("1.2.840.10008.1.2.4.203", Codec.HTJ2K, "image/jphc", lossy=True),
    Syntax("1.2.840.10008.1.2.4.204", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.4.205", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.5", Codec.RLE, "image/dicom-rle"),
    Syntax("1.2.840.10008.1.2.7.1", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.7.2", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.7.3", Codec.ELSEWHERE, _OCTETS),
    Syntax("1.2.840.10008.1.2.8.1", Codec.DEFLATED_FRAMES, "application/x-deflate"),
)
SYNTAXES: Final[dict[str, Syntax]] = {syntax.uid: syntax for syntax in _TABLE}


def syntax_of(uid: str) -> Syntax:
    """The syntax of a UID; one that this table does not know has the codec UNKNOWN."""
    return SYNTAXES.get(uid) or Syntax(uid, Codec.UNKNOWN, _OCTETS)
