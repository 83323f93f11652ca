"""Where the frames of an image lie, as ranges of its object. Format readers (generators); no I/O here.

Facts: PS3.5 8.2 (native), A.4 (encapsulated: Basic Offset Table, fragments), PS3.3 C.7.6.3.1.8 (Extended Offset
Table). A native frame is one range (1-bit frames may begin within a byte). An encapsulated frame is found by the
extended table, else the basic one; without a table every fragment's header is looked at, and where there are more
fragments than frames a fragment that ends with an end-of-image marker ends a frame, as pydicom does it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from heavylift.dicom.elements import ITEM, SEQUENCE_END, UNDEFINED, PixelElement
from heavylift.errors import ContentError, RequestError
from heavylift.ranges import Range, Reader

AHEAD_BYTES: Final = 4 << 20  # a frame up to this length is asked for whole where its place is known: one request
FRAMES_MAX: Final = 1_000_000  # an hour of video at 250 images a second; their offsets are 8 MB
FRAGMENTS_MAX: Final = 100_000  # looked at one by one where no table says where frames begin
WINDOW_BYTES: Final = 65_536  # what is read at a fragment's header: small fragments that follow come with it
END_OF_IMAGE: Final = b"\xff\xd9"  # JPEG, JPEG-LS and JPEG 2000 alike
END_BYTES: Final = 10  # the marker, and padding behind it


@dataclass(frozen=True, slots=True)
class Shape:
    """The measures of native frames: PS3.3 C.7.6.3."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    frames: int
    photometric: str = "MONOCHROME2"
    word_bytes: int = 1  # 2: bytes in big-endian words (OW), which can only be swapped in pairs

    @property
    def frame_bits(self) -> int:
        """Bits of one frame; YBR_FULL_422 and its kin keep two chrominances for two pixels."""
        samples = 2 if self.samples == 3 and self.photometric in _HALVED else self.samples
        return self.rows * self.columns * samples * self.bits_allocated


_HALVED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its bytes are those of ``pieces``, joined. ``skip_bits``: at its begin, of the frame before."""

    pieces: tuple[Range, ...]
    skip_bits: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.length for piece in self.pieces)


def check_number(number: int, frames: int) -> None:
    """RequestError ``not_found`` where there is no frame of this number; they are counted from 1 (PS3.18 10.4.1)."""
    if not 1 <= number <= frames:
        raise RequestError("not_found", f"There is no frame {number}; the instance has {frames}.", frames=frames)


def native_frame(offset: int, length: int, shape: Shape, number: int) -> Frame:
    """Frame ``number`` of native pixel data of ``length`` bytes at ``offset`` (of a deflated file: once inflated).

    RequestError ``not_found``; ContentError ``truncated`` where the pixel data are too short for it.
    """
    check_number(number, shape.frames)
    if shape.frame_bits == 0:
        raise ContentError("corrupt", "the image has no rows, columns or bits")
    start = shape.frame_bits * (number - 1)
    end = start + shape.frame_bits
    if end > length * 8:
        raise ContentError(
            "truncated", f"frame {number} ends at bit {end} of {length} bytes of pixel data", data_bytes=length
        )
    word = shape.word_bytes
    first, last = start // 8 // word * word, min(-(-end // 8 // word) * word, length)
    return Frame((Range(offset + first, last - first),), start - first * 8)


@dataclass(frozen=True, slots=True)
class Extended:
    """The Extended Offset Table: (7FE0,0001) offsets and (7FE0,0002) lengths, as stored (64-bit numbers)."""

    offsets: bytes
    lengths: bytes


def read_frame(
    pixel: PixelElement,
    size_bytes: int,
    number: int,
    frames: int,
    *,
    extended: Extended | None = None,
    little: bool = True,
) -> Reader[Frame]:
    """Frame ``number`` of encapsulated pixel data: two or three small ranges where a table leads to it.

    RequestError ``not_found``; ContentError ``truncated``, ``corrupt``, ``limit_exceeded``.
    """
    found = yield from read_some(pixel, size_bytes, (number,), frames, extended=extended, little=little)
    return found[0]


def read_some(
    pixel: PixelElement,
    size_bytes: int,
    numbers: Sequence[int],
    frames: int,
    *,
    extended: Extended | None = None,
    little: bool = True,
    window_bytes: int = WINDOW_BYTES,
    ahead_bytes: int = 0,
) -> Reader[tuple[Frame, ...]]:
    """The frames ``numbers`` of encapsulated pixel data, in that order; the table is read once. Errors as above.

    For a caller that keeps what was read last: ``window_bytes``, what is asked for at least; ``ahead_bytes``: where a
    frame's place is known, and it is no longer than this, all of it is asked for. The only frame begins right behind
    its table: that is asked for too.
    """
    for number in numbers:
        check_number(number, frames)
    hand = _Hand(size_bytes, little, window_bytes, ahead_bytes)
    if frames == 1:
        hand.expect(pixel.offset, size_bytes)
    first, offsets = yield from _read_table(hand, pixel.offset, frames)
    if extended is not None and len(extended.offsets) >= 8 * frames <= len(extended.lengths):
        return tuple(_by_extended(extended, first, number, size_bytes, little) for number in numbers)
    if len(offsets) == frames:
        found = []
        for number in numbers:
            start, end = first + offsets[number - 1], first + offsets[number] if number < frames else None
            hand.expect(start, end if end is not None else size_bytes)
            found.append(Frame((yield from _fragments(hand, start, end))))
        return tuple(found)
    everyone = yield from _frames_by_fragments(hand, first, frames)
    for number in numbers:
        check_number(number, len(everyone))
    return tuple(everyone[number - 1] for number in numbers)


def _by_extended(extended: Extended, first: int, number: int, size_bytes: int, little: bool) -> Frame:
    start, length = (_wide(table, number - 1, little) for table in (extended.offsets, extended.lengths))
    if first + start + 8 + length > size_bytes:
        raise _beyond(first + start + 8 + length, size_bytes)
    return Frame((Range(first + start + 8, length),))


def read_frames(
    pixel: PixelElement,
    size_bytes: int,
    frames: int,
    *,
    extended: Extended | None = None,
    little: bool = True,
) -> Reader[tuple[Frame, ...]]:
    """All frames of encapsulated pixel data, in order. Errors as in ``read_frame``. Memory: about 200 bytes a frame."""
    hand = _Hand(size_bytes, little)
    first, offsets = yield from _read_table(hand, pixel.offset, frames)
    if extended is not None and len(extended.offsets) >= 8 * frames <= len(extended.lengths):
        return tuple(_by_extended(extended, first, number, size_bytes, little) for number in range(1, frames + 1))
    if len(offsets) == frames:
        ends: list[int | None] = [first + offset for offset in offsets[1:]]
        found = []
        for start, end in zip(offsets, [*ends, None], strict=True):
            found.append(Frame((yield from _fragments(hand, first + start, end))))
        return tuple(found)
    return (yield from _frames_by_fragments(hand, first, frames))


def _wide(table: bytes, index: int, little: bool) -> int:
    return int.from_bytes(table[8 * index : 8 * index + 8], "little" if little else "big")


def _beyond(end: int, size_bytes: int) -> ContentError:
    return ContentError(
        "truncated", f"a frame ends at {end}, the file at {size_bytes}", data_end=end, size_bytes=size_bytes
    )


class _Hand:
    """The bytes read last, and item headers out of them."""

    def __init__(self, size_bytes: int, little: bool, window_bytes: int = WINDOW_BYTES, ahead_bytes: int = 0) -> None:
        self._size = size_bytes
        self._window = window_bytes
        self._ahead = ahead_bytes
        self._expected = 0
        self._head = struct.Struct("<HHI" if little else ">HHI").unpack
        self._data = b""
        self._base = 0

    def expect(self, at: int, end: int) -> None:
        """All up to ``end`` is going to be wanted, from ``at`` on; too much of it is not asked for at once."""
        self._expected = end if end - at <= self._ahead else 0

    def bytes_at(self, at: int, length: int) -> Reader[bytes]:
        """``length`` bytes from ``at``. ContentError ``truncated`` beyond the file's end."""
        if at + length > self._size:
            raise _beyond(at + length, self._size)
        if not self._base <= at <= at + length <= self._base + len(self._data):
            self._base = at
            self._data = yield Range(at, min(max(length, self._window, self._expected - at), self._size - at))
        return self._data[at - self._base : at - self._base + length]

    def item(self, at: int) -> Reader[tuple[int, int]]:
        """Tag and length of the item at ``at``; anything but an item or the delimiter is ``corrupt``."""
        group, element, length = self._head((yield from self.bytes_at(at, 8)))
        tag = group << 16 | element
        if tag != SEQUENCE_END and (tag != ITEM or length == UNDEFINED):
            raise ContentError("corrupt", "the encapsulated pixel data hold something that is no fragment", offset=at)
        if tag == ITEM and at + 8 + length > self._size:
            raise _beyond(at + 8 + length, self._size)
        return tag, length


def _read_table(hand: _Hand, at: int, frames: int) -> Reader[tuple[int, tuple[int, ...]]]:
    """The first fragment's place, and the Basic Offset Table: one offset a frame, or nothing that is of use."""
    if frames > FRAMES_MAX:
        raise ContentError("limit_exceeded", f"{frames} frames, {FRAMES_MAX} allowed", frames=frames, limit=FRAMES_MAX)
    tag, length = yield from hand.item(at)
    first = at + 8 + length
    if tag != ITEM:
        raise ContentError("corrupt", "the encapsulated pixel data have no offset table", offset=at)
    if length != 4 * frames:
        return first, ()
    table = yield from hand.bytes_at(at + 8, length)
    offsets = struct.unpack(f"<{frames}I", table)
    sound = offsets[0] == 0 and all(a < b for a, b in pairwise(offsets))
    # Of more than 4 GiB the 32-bit offsets wrap around, and some writers leave zeros.
    return first, offsets if sound else ()


def _fragments(hand: _Hand, at: int, end: int | None) -> Reader[tuple[Range, ...]]:
    """The fragments from ``at`` to ``end``, or to the delimiter."""
    pieces: list[Range] = []
    while end is None or at < end:
        tag, length = yield from hand.item(at)
        if tag == SEQUENCE_END:
            break
        if len(pieces) == FRAGMENTS_MAX:
            raise _too_many()
        pieces.append(Range(at + 8, length))
        at += 8 + length
    if not pieces:
        raise ContentError("corrupt", "a frame has no fragment", offset=at)
    return tuple(pieces)


def _too_many() -> ContentError:
    return ContentError("limit_exceeded", f"more than {FRAGMENTS_MAX} fragments", limit=FRAGMENTS_MAX)


def _frames_by_fragments(hand: _Hand, first: int, frames: int) -> Reader[tuple[Frame, ...]]:
    """Frames without a table."""
    pieces = yield from _fragments(hand, first, None)
    if len(pieces) == frames:
        return tuple(Frame((piece,)) for piece in pieces)
    if frames == 1:
        return (Frame(pieces),)
    if len(pieces) < frames:
        raise ContentError(
            "truncated", f"{len(pieces)} fragments for {frames} frames", fragments=len(pieces), frames=frames
        )
    found: list[Frame] = []
    parts: list[Range] = []
    for piece in pieces:
        parts.append(piece)
        tail = min(END_BYTES, piece.length)
        if END_OF_IMAGE in (yield from hand.bytes_at(piece.end - tail, tail)):
            found.append(Frame(tuple(parts)))
            parts = []
    if parts:
        found.append(Frame(tuple(parts)))
    if len(found) < frames:
        raise ContentError(
            "corrupt", f"the ends of {len(found)} of {frames} frames were found", found=len(found), frames=frames
        )
    return tuple(found[:frames])


def read_end(pixel: PixelElement, size_bytes: int, *, little: bool = True) -> Reader[int]:
    """The first byte after the pixel data. ContentError ``truncated``, ``corrupt``, ``limit_exceeded``.

    Encapsulated: one small range where nothing follows them, else fragment after fragment.
    """
    if pixel.length is not None:
        if pixel.offset + pixel.length > size_bytes:
            raise _beyond(pixel.offset + pixel.length, size_bytes)
        return pixel.offset + pixel.length
    mark = struct.pack("<HHI" if little else ">HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
    if size_bytes >= pixel.offset + 16:
        tail = yield Range(size_bytes - 8, 8)
        if tail == mark:
            return size_bytes
    hand = _Hand(size_bytes, little)
    at = pixel.offset
    for _ in range(FRAGMENTS_MAX):
        tag, length = yield from hand.item(at)
        at += 8
        if tag == SEQUENCE_END:
            return at
        at += length
        if at == size_bytes:
            return at
    raise _too_many()
