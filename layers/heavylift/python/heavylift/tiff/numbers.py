"""Chunks whose coding gives numbers, not bytes: LERC and JPEG XL, by imagecodecs. Child only; numpy.

Facts: Esri's LERC specification and its TIFF extension (tag 50674: version, and 0, 1 deflate or 2 ZSTD around the
coded bytes); the registered TIFF compressions 50002 and 52546.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from heavylift.errors import ContentError
from heavylift.tiff import tags
from heavylift.tiff.layout import Picture
from heavylift.tiff.rewrap import Field

if TYPE_CHECKING:
    from heavylift.tiff.samples import Array

_SLACK_BYTES: Final = 64 << 10  # a header, tables and masks beside the numbers themselves
_DEFLATE, _ZSTD = 1, 2


def lerc_packing(fields: Sequence[Field], order: str) -> int:
    """How the coded bytes of LERC are compressed once more; 0: not at all."""
    for field in fields:
        if field.tag == tags.LERC_PARAMETERS and len(field.value) >= 8:
            return int(struct.unpack_from(f"{order}2I", field.value)[1])
    return 0


def numbers(picture: Picture, packing: int, stored: memoryview, height: int) -> Array:
    """A chunk as numbers of shape (rows, chunk width, samples together), ``height`` rows of it at least.

    ContentError ``unsupported_feature``, ``corrupt``; the library's own RuntimeErrors.
    """
    import numpy as np

    rows = picture.chunk_height if picture.tiled else height
    decoded_bytes = rows * picture.row_bytes(picture.chunk_width)
    try:
        made = np.asarray(_decoded(picture, packing, stored, decoded_bytes + decoded_bytes // 8 + _SLACK_BYTES))
    except MemoryError as error:  # what is needed was estimated: the chunk claims to be larger
        raise ContentError("corrupt", f"a chunk that claims more numbers than {rows} rows have") from error
    if made.ndim == 2:
        made = made[:, :, None]
    kind = {1: "u", 2: "i", 3: "f"}[picture.sample_format]
    right = made.dtype.kind == kind and made.dtype.itemsize * 8 == picture.bits
    shape = (picture.chunk_width, picture.samples_together)
    if made.ndim != 3 or (made.shape[1], made.shape[2]) != shape or not right:
        raise ContentError("corrupt", f"a chunk of {made.shape} numbers of {made.dtype}, {(rows, *shape)} needed")
    if not height <= made.shape[0] <= picture.chunk_height:
        raise ContentError("corrupt", f"a chunk of {made.shape[0]} rows, {height} needed")
    return made


def _decoded(picture: Picture, packing: int, stored: memoryview, bytes_max: int) -> Any:
    try:
        if picture.compression in tags.JPEG_XL:
            from imagecodecs import jpegxl_decode

            return jpegxl_decode(bytes(stored), index=0, numthreads=1, keeporientation=True)
        from imagecodecs import lerc_decode, zstd_decode
    except ImportError as error:
        name = tags.COMPRESSION_NAMES[picture.compression]
        raise ContentError("unsupported_feature", f"no decoder for {name} here", format=name) from error
    if packing == _DEFLATE:
        inflater = zlib.decompressobj()
        data: bytes | bytearray = inflater.decompress(stored, bytes_max)
        if not inflater.eof:
            raise ContentError("corrupt", "LERC that is compressed: its deflate stream is cut or too long")
    elif packing == _ZSTD:
        data = zstd_decode(bytes(stored), out=bytes_max)
    elif packing:
        raise ContentError("unsupported_feature", f"LERC compressed by {packing}", packing=packing)
    else:
        data = bytes(stored)
    return lerc_decode(data)
