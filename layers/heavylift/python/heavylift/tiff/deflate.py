"""Deflated chunks: inflated by libdeflate, twice as fast as libtiff does it by zlib. Child only.

Predictors, bit depths and byte orders stay libtiff's work, so what is inflated goes on to it in a coding that it only
copies: a ZSTD frame of raw blocks (RFC 8878, sections 3.1.1 and 3.1.1.2), which is 12 bytes and 3 for each 128 KiB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from heavylift.errors import ContentError

ZSTD: Final = 50000  # the TIFF compression that raw frames are read as
_MAGIC: Final = 0xFD2FB528
_SINGLE_SEGMENT: Final = 0b1010_0000  # the content's size in four bytes, no window, no checksum, no dictionary
_HEAD: Final = struct.Struct("<IBI")
_BLOCK_BYTES_MAX: Final = 128 << 10
_BLOCK_HEAD_BYTES: Final = 3


def raw_frame_bytes(content_bytes: int) -> int:
    """The length of a raw frame."""
    return _HEAD.size + _BLOCK_HEAD_BYTES * max(1, -(-content_bytes // _BLOCK_BYTES_MAX)) + content_bytes


def fill_raw_frame(frame: memoryview, put: Callable[[memoryview], None]) -> None:
    """Make ``frame``, of ``raw_frame_bytes`` bytes, a frame of the content that ``put`` writes where it is told to."""
    blocks = max(1, -(-(len(frame) - _HEAD.size) // (_BLOCK_BYTES_MAX + _BLOCK_HEAD_BYTES)))
    content = len(frame) - _HEAD.size - _BLOCK_HEAD_BYTES * blocks
    _HEAD.pack_into(frame, 0, _MAGIC, _SINGLE_SEGMENT, content)
    first = _HEAD.size + _BLOCK_HEAD_BYTES
    put(frame[first : first + content])
    # The content lies behind the first block's head; the other blocks move to make room for theirs, the last one first.
    for block in range(blocks - 1, -1, -1):
        start = block * _BLOCK_BYTES_MAX
        length = min(_BLOCK_BYTES_MAX, content - start)
        at = first + start + block * _BLOCK_HEAD_BYTES
        if block:
            frame[at : at + length] = frame[first + start : first + start + length]
        last = block == blocks - 1
        frame[at - _BLOCK_HEAD_BYTES : at] = (length << 3 | last).to_bytes(3, "little")


def raw_frame(content: bytes | bytearray | memoryview) -> bytearray:
    """A frame of ``content``, which is copied."""
    frame = bytearray(raw_frame_bytes(len(content)))

    def put(view: memoryview) -> None:
        view[:] = content

    fill_raw_frame(memoryview(frame), put)
    return frame


@lru_cache(maxsize=1)
def _libdeflate() -> tuple[Callable[..., Any], type[Exception]] | None:
    """imagecodecs' function, loaded with the first chunk; None where it is not installed."""
    try:
        from imagecodecs import DeflateError, deflate_decode
    except ImportError:
        return None
    return deflate_decode, DeflateError


def inflate(stored: bytes | memoryview, view: memoryview) -> None:
    """Fill ``view`` from a zlib stream. ContentError ``truncated``; zlib.error where the bytes do not decode.

    As elsewhere a stream may go on behind the bytes that are wanted, and may lack its end mark.
    """
    fast = _libdeflate()
    if fast is not None:
        decode, error = fast
        try:
            if len(decode(stored, out=view)) == len(view):
                return
        except error:
            pass  # libdeflate knows whole streams only; zlib tells what this one is
    inflater = zlib.decompressobj()
    out = inflater.decompress(stored, len(view))
    if len(out) < len(view):
        missing = len(view) - len(out)
        raise ContentError("truncated", f"a deflated chunk ends {missing} bytes early", missing_bytes=missing)
    view[:] = out
    tail = inflater.unconsumed_tail
    while tail and not inflater.eof and not inflater.decompress(tail, 1):  # to the checksum, which zlib compares
        tail = inflater.unconsumed_tail
