"""How a DICOM file begins: preamble, file meta information, encoding; and a deflated dataset as it is inflated.

Everything that ``header`` needs to know before it walks the dataset. No I/O here. Facts: PS3.10 7.1 (preamble, file
meta information), PS3.5 Annex A (encodings, A.5 for deflated ones).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from heavylift.dicom import syntaxes
from heavylift.dicom.classify import stray_kind
from heavylift.dicom.elements import (
    ENDLESS,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_BIG,
    IMPLICIT_LITTLE,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    WINDOW_BYTES,
    Encoding,
    Walk,
    Walked,
    walk,
)
from heavylift.dicom.values import uid_text
from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader

INFLATED_BYTES_MAX: Final = 8 << 20  # of a deflated dataset's header
META_BYTES_MAX: Final = 1 << 20  # file meta information; only private information in it is ever long


@dataclass(slots=True)
class Start:
    """What stands before the dataset, and the bytes in hand."""

    offset: int  # of the dataset
    window: bytes
    base: int
    preamble: bytes | None
    transfer_syntax_uid: str
    media_class_uid: str
    warnings: set[str]


def truncated(message: str, size_bytes: int) -> ContentError:
    """The file ends before its content does."""
    return ContentError("truncated", message, size_bytes=size_bytes)


def read_start(head: bytes, size_bytes: int) -> Reader[Start]:
    """Preamble and file meta information (always explicit VR little endian; its length element is not trusted)."""
    start = Start(0, head, 0, None, "", "", set())
    if head[128:132] == b"DICM":
        start.preamble, start.offset = head[:128], 132
    elif head[:4] == b"DICM":
        start.offset = 4
        start.warnings.add("preamble_missing")
    elif _begins_with_element(head):
        start.warnings.add("preamble_missing")
    else:
        stray = stray_kind(head)
        if stray is not None:
            raise ContentError("stray", "the file is no DICOM file but something else", stray=stray)
        raise ContentError("not_dicom", "the file begins with no DICOM prefix and no DICOM element")
    unpack = EXPLICIT_LITTLE.one
    first = start.offset
    while True:
        p = start.offset - start.base
        if p + 12 > len(start.window):
            yield from _bring(start, size_bytes)
            p = 0
            if len(start.window) < 8:
                raise truncated("the file ends within its file meta information", size_bytes)
        raw, _, length = unpack(start.window, p)
        if raw & 0xFFFF != 2:
            if raw not in _DELIMITERS or start.window[p + 4 : p + 8] != bytes(4):
                return start
            start.warnings.add("stray_delimiter")
            start.offset += 8
            continue
        letters = start.window[p + 4 : p + 6]
        if letters in SHORT_VRS:
            value = p + 8
        elif letters in LONG_VRS:
            if p + 12 > len(start.window):
                raise truncated("the file ends within its file meta information", size_bytes)
            (length,) = EXPLICIT_LITTLE.long_length(start.window, p + 8)
            value = p + 12
        else:
            start.warnings.add("meta_without_vr")
            (length,) = EXPLICIT_LITTLE.long_length(start.window, p + 4)
            value = p + 8
        end = start.base + value + length
        if end > size_bytes or end - first > META_BYTES_MAX:
            raise truncated("an element of the file meta information reaches beyond the file", size_bytes)
        if raw in _META_TAGS:
            if value + length > len(start.window):
                yield from _bring(start, size_bytes)
                continue
            text = uid_text(start.window[value : value + length])
            if raw == _META_TRANSFER_SYNTAX:
                start.transfer_syntax_uid = text
            else:
                start.media_class_uid = text
        start.offset = end


# As read in little endian: (0002,0010) and (0002,0002).
_META_TRANSFER_SYNTAX: Final = EXPLICIT_LITTLE.raw(0x00020010)
_DELIMITERS: Final = frozenset({EXPLICIT_LITTLE.raw(ITEM_END), EXPLICIT_LITTLE.raw(SEQUENCE_END)})
_META_TAGS: Final = frozenset({_META_TRANSFER_SYNTAX, EXPLICIT_LITTLE.raw(0x00020002)})


def _bring(start: Start, size_bytes: int) -> Reader[None]:
    """The window from ``start.offset`` on; it may be empty at the end of the object."""
    if start.offset < size_bytes and start.base < start.offset:
        start.window = yield Range(start.offset, min(WINDOW_BYTES, size_bytes - start.offset))
    elif start.base < start.offset:
        start.window = b""
    start.base = start.offset


def _begins_with_element(head: bytes) -> bool:
    """A dataset without preamble: its first element is of group 2 or 8, in either byte order."""
    if len(head) < 8:
        return False
    group, element = _TWO_SHORTS_LITTLE(head)
    if group in (2, 8) and element < 0x200:
        return True
    group, element = _TWO_SHORTS_BIG(head)
    return bool(group == 8 and element < 0x200)


_TWO_SHORTS_LITTLE: Final = struct.Struct("<HH").unpack_from
_TWO_SHORTS_BIG: Final = struct.Struct(">HH").unpack_from


def find_encoding(start: Start, size_bytes: int) -> Reader[Encoding]:
    """How the dataset is written: by its transfer syntax, corrected by what its first element looks like."""
    if start.offset - start.base + 8 > len(start.window):
        yield from _bring(start, size_bytes)
    yield from _skip_commands(start, size_bytes)
    return _encoding_of(start.transfer_syntax_uid, start.window[start.offset - start.base :][:8], start.warnings)


def _skip_commands(start: Start, size_bytes: int) -> Reader[None]:
    """Pass over a command set (group 0, implicit VR), which some systems leave before the dataset."""
    for _ in range(64):
        p = start.offset - start.base
        if p + 8 > len(start.window):
            yield from _bring(start, size_bytes)
            p = 0
        if len(start.window) - p < 8 or start.window[p : p + 2] != b"\0\0":
            return
        (length,) = IMPLICIT_LITTLE.long_length(start.window, p + 4)
        if start.offset + 8 + length > size_bytes:
            return
        start.warnings.add("command_set")
        start.offset += 8 + length


def _encoding_of(transfer_syntax_uid: str, first: bytes, warnings: set[str]) -> Encoding:
    if len(first) < 8:
        return EXPLICIT_LITTLE
    explicit_found = all(0x40 < letter < 0x5B for letter in first[4:6])
    little = transfer_syntax_uid != syntaxes.EXPLICIT_BIG
    if not transfer_syntax_uid:
        warnings.add("transfer_syntax_missing")
        explicit_said = explicit_found
        little = not (explicit_found and _TWO_SHORTS_LITTLE(first)[0] >= 0x400 > _TWO_SHORTS_BIG(first)[0])
    else:
        explicit_said = transfer_syntax_uid != syntaxes.IMPLICIT_LITTLE
        if little and _TWO_SHORTS_LITTLE(first)[0] == 0x0800 and _TWO_SHORTS_BIG(first)[1] < 0x200:
            warnings.add("encoding_differs")
            little = False
    if explicit_found != explicit_said:
        warnings.add("encoding_differs")
    if little:
        return EXPLICIT_LITTLE if explicit_found else IMPLICIT_LITTLE
    return EXPLICIT_BIG if explicit_found else IMPLICIT_BIG


# --- deflated datasets ------------------------------------------------------------------------------------------


def walk_deflated(
    start: Start, size_bytes: int, tags: frozenset[int]
) -> Generator[Range, bytes, tuple[Walked, Encoding]]:
    """Walk a deflated dataset (PS3.5 A.5) as it is inflated, a window at a time and never beyond INFLATED_BYTES_MAX.

    ContentError ``corrupt`` where the stream is broken, ``limit_exceeded`` where the header does not end in time.
    """
    flow = _Inflated(start, size_bytes)
    first = yield from flow.bring(0, WINDOW_BYTES)
    encoding = _encoding_of(start.transfer_syntax_uid, first[:8], start.warnings)
    walker: Walk = walk(first, 0, 0, ENDLESS if len(first) == WINDOW_BYTES else len(first), encoding, tags, 1 << 20)
    try:
        want = next(walker)
        while True:
            want = walker.send((yield from flow.bring(want.offset, want.length)))
    except StopIteration as done:
        walked: Walked = done.value
    pixel = walked.pixel
    if pixel is None:
        walked.truncated = walked.truncated or flow.cut_short
    elif pixel.length is not None and (yield from flow.ends_before(pixel.offset + pixel.length)):
        raise truncated("the deflated pixel data have no end", size_bytes)
    return walked, encoding


class _Inflated:
    """The inflated bytes of a dataset, forwards only."""

    def __init__(self, start: Start, size_bytes: int) -> None:
        self._inflater = zlib.decompressobj(-15)
        self._input = start.window[start.offset - start.base :]
        self._next = start.base + len(start.window)
        self._size = size_bytes
        self._data = b""
        self._base = 0

    @property
    def cut_short(self) -> bool:
        """The file's bytes are used up, and the stream has not ended."""
        return not self._inflater.eof and not self._input and self._next >= self._size

    def ends_before(self, end: int) -> Generator[Range, bytes, bool]:
        """Whether the inflated bytes are fewer than ``end``; looked at only where that takes no further range."""
        if self._next < self._size or end > INFLATED_BYTES_MAX:
            return False
        reached = self._base + len(self._data)
        while reached < end:
            piece = yield from self._more()
            if not piece:
                return True
            reached += len(piece)
        return False

    def bring(self, offset: int, length: int) -> Generator[Range, bytes, bytes]:
        """``length`` inflated bytes from ``offset``, fewer where the stream ends."""
        while self._base + len(self._data) < offset + length:
            if offset + length > INFLATED_BYTES_MAX + WINDOW_BYTES:
                raise ContentError(
                    "limit_exceeded",
                    f"the header lies beyond {INFLATED_BYTES_MAX} inflated bytes",
                    limit_bytes=INFLATED_BYTES_MAX,
                )
            piece = yield from self._more()
            if not piece:
                break
            keep = max(0, offset - self._base)
            self._base += min(keep, len(self._data) + len(piece))
            self._data = (self._data + piece)[keep:]
        return self._data[max(0, offset - self._base) :][:length]

    def _more(self) -> Generator[Range, bytes, bytes]:
        """The next inflated bytes, at most a window of them; b"" at the end of the stream, or of the file."""
        while not self._inflater.eof:
            if not self._input:
                if self._next >= self._size:
                    return b""
                length = min(WINDOW_BYTES, self._size - self._next)
                self._input = yield Range(self._next, length)
                self._next += length
            try:
                piece = self._inflater.decompress(self._input, WINDOW_BYTES)
            except zlib.error:
                raise ContentError("corrupt", "the deflated dataset is broken") from None
            self._input = self._inflater.unconsumed_tail
            if piece:
                return piece
        return b""
