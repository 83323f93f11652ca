"""JPEG lossless and JPEG of 12 bits for pydicom: a decoding plugin over libjpeg-turbo, from imagecodecs. No I/O here.

pydicom asks a plugin for a frame's bytes and does the rest: signs, planes, colours. Facts: ISO/IEC 10918-1 Annex H
(lossless), PS3.5 8.2.1. Where imagecodecs is not installed these two are ``unsupported_feature``.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from pydicom.pixels.decoders.base import Decoder

from heavylift.errors import ContentError

PLUGIN: Final = "heavylift"
_UIDS: Final = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
# pydicom asks for this of every plugin, by this name.
DECODER_DEPENDENCIES: Final = dict.fromkeys(_UIDS, ("imagecodecs>=2025.3.30",))


def is_available(uid: str) -> bool:
    """Whether frames of this transfer syntax can be decoded here."""
    return uid in _UIDS and find_spec("imagecodecs") is not None


def add_to(decoder: Decoder) -> bool:
    """Make the decoder know this plugin; False where there is none for its transfer syntax."""
    if PLUGIN not in decoder.available_plugins and is_available(decoder.UID):
        decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    return PLUGIN in decoder.available_plugins


def decode_frame(src: bytes, runner: Any) -> bytes:
    """The samples of one frame, each in as many bytes as the image allocates, colours by pixel and as they are stored.

    ``runner``: pydicom's, which knows the image. ContentError ``corrupt``.
    """
    import numpy as np
    from imagecodecs import Jpeg8Error, jpeg8_decode

    # Named the same on both sides, so that nothing is converted: what the colours are the image says, not the JPEG.
    colours = "rgb" if runner.samples_per_pixel == 3 else "grayscale"
    try:
        samples = jpeg8_decode(src, colorspace=colours, outcolorspace=colours)
    except Jpeg8Error:
        raise ContentError("corrupt", "a JPEG frame that cannot be decoded") from None
    runner.set_option("planar_configuration", 0)
    container = np.dtype(f"<u{max(1, runner.bits_allocated // 8)}")
    return np.ascontiguousarray(samples, container).tobytes()
