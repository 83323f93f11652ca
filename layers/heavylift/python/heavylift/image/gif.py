"""How many frames a GIF has, by walking over its blocks. No I/O here: the file is given.

Facts: GIF89a, sections 17 to 27: blocks of data are chains of at most 255 bytes, ended by an empty one.
"""

from __future__ import annotations

import io
from typing import IO, Final

from heavylift.errors import ContentError

# Counting reads the whole file, where the first frame alone is shown: no more than this is read for a number.
COUNTED_BYTES_MAX: Final = 16 << 20
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def count_frames(file: IO[bytes]) -> int:
    """The frames of the GIF that ``file`` is at the start of. ContentError ``truncated`` or ``corrupt``."""
    head = _exactly(file, 13)
    _skip_colours(file, head[10])
    frames = 0
    while True:
        kind = _exactly(file, 1)[0]
        if kind == _TRAILER:
            return frames
        if kind == _IMAGE:
            frames += 1
            _skip_colours(file, _exactly(file, 9)[8])
        elif kind != _EXTENSION:
            raise ContentError("corrupt", f"a GIF block of kind {kind}")
        _exactly(file, 1)  # the size of the first codes; the kind of extension
        while length := _exactly(file, 1)[0]:
            file.seek(length, io.SEEK_CUR)


def _skip_colours(file: IO[bytes], flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, io.SEEK_CUR)


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ContentError("truncated", "a GIF without an end")
    return data
