"""A whole dataset up to its pixel data: every element, sequences with their items. A format reader; no I/O here.

For metadata, rendering and de-identification; the index needs only ``header``. Values longer than ``keep_bytes`` are
not fetched at the top level, only their places are kept, so a private block of 100 MB costs nothing. Facts: PS3.5
chapter 7, 6.2.2 (UN), PS3.6 (the dictionary of VRs, taken from pydicom where an element does not carry its own).

Bounds: DATASET_BYTES_MAX fetched, ELEMENTS_MAX elements, DEPTH_MAX nested sequences. Memory: the bytes fetched, and
about 200 bytes an element.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_VR

from heavylift.dicom import charsets
from heavylift.dicom.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_BIG,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_TAGS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
)
from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader

DATASET_BYTES_MAX: Final = 32 << 20  # the functional groups of 10,000 frames are about 20 MB
ELEMENTS_MAX: Final = 500_000
DEPTH_MAX: Final = 16  # sequences inside each other, as in ``elements``
WINDOW_BYTES: Final = 65_536
KEEP_BYTES: Final = 1 << 20  # palettes and ICC profiles are shorter


@dataclass(slots=True)
class Element:
    """One element. ``value`` None: too long to be kept. ``items``: of a sequence. Offsets are of the object.

    ``offset``, ``length``: of the value; ``start``: of the element's own first byte, ``end``: after all of it.
    """

    tag: int
    vr: str
    start: int
    offset: int
    length: int
    end: int
    value: bytes | None = None
    items: tuple[Dataset, ...] = ()


@dataclass(slots=True)
class Dataset:
    """Elements by tag, in the order of the file. ``codecs``: of its text, inherited by its items (PS3.5 7.5.3)."""

    encoding: Encoding
    codecs: tuple[str, ...]
    elements: dict[int, Element] = field(default_factory=dict)

    def text(self, tag: int) -> str:
        """The value as text without padding; '' where absent."""
        element = self.elements.get(tag)
        if element is None or not element.value:
            return ""
        return charsets.decode(element.value.rstrip(b" \0"), self.codecs).strip(" \0")

    def value(self, tag: int) -> bytes:
        """The value as stored; b"" where absent or too long."""
        element = self.elements.get(tag)
        return element.value or b"" if element is not None else b""

    def unsigned(self, tag: int) -> int | None:
        """The first number of 16 bits."""
        value = self.value(tag)[:2]
        return int.from_bytes(value, "little" if self.encoding.little else "big") if value else None

    def items(self, tag: int) -> tuple[Dataset, ...]:
        """The items of a sequence; () where absent."""
        element = self.elements.get(tag)
        return element.items if element is not None else ()


class _Hand:
    """The bytes in hand: one stretch of the object, which grows while something in it is being read."""

    def __init__(self, total: int, keep_bytes: int) -> None:
        self.total = total
        self.keep_bytes = keep_bytes
        self.data = b""
        self.base = 0
        self.pinned = 0  # from here on nothing may be dropped
        self.fetched = 0
        self.elements = 0

    def bring(self, at: int, length: int) -> Reader[int]:
        """Have ``length`` bytes from ``at`` in hand; where ``at`` lies in ``data``. ContentError ``truncated``."""
        if at + length > self.total:
            raise ContentError(
                "truncated", f"an element ends at {at + length}, the data at {self.total}", size_bytes=self.total
            )
        end = self.base + len(self.data)
        if not self.base <= at <= at + length <= end:
            keep = self.data[at - self.base :] if self.base <= at <= end else b""
            start = at + len(keep)
            want = min(max(WINDOW_BYTES, length - len(keep)), self.total - start)
            self.fetched += want
            if self.fetched > DATASET_BYTES_MAX:
                raise ContentError(
                    "limit_exceeded", f"a header of more than {DATASET_BYTES_MAX} bytes", limit_bytes=DATASET_BYTES_MAX
                )
            self.data = keep + (yield Range(start, want))
            self.base = at
        return at - self.base

    def count(self) -> None:
        """One more element."""
        self.elements += 1
        if self.elements > ELEMENTS_MAX:
            raise ContentError("limit_exceeded", f"more than {ELEMENTS_MAX} elements", limit=ELEMENTS_MAX)


def read_dataset(start: int, end: int, encoding: Encoding, *, keep_bytes: int = KEEP_BYTES) -> Reader[Dataset]:
    """The dataset from byte ``start`` to its pixel data, or to byte ``end``.

    ContentError ``truncated``, ``corrupt``, ``limit_exceeded``.
    """
    hand = _Hand(end, keep_bytes)
    dataset, _ = yield from _read_elements(hand, start, end, encoding, (charsets.DEFAULT,), 0)
    return dataset


def _ends_beyond(end: int, limit: int) -> ContentError:
    return ContentError("truncated", f"an element ends at {end}, the data at {limit}", data_end=end, size_bytes=limit)


_Elements = Generator[Range, bytes, tuple[Dataset, int]]


def _read_elements(
    hand: _Hand, at: int, end: int | None, encoding: Encoding, codecs: tuple[str, ...], depth: int
) -> _Elements:
    """Elements from ``at`` to ``end``, or to an item's delimiter; and the first byte after them."""
    if depth > DEPTH_MAX:
        raise ContentError("limit_exceeded", f"sequences nested deeper than {DEPTH_MAX} levels", limit=DEPTH_MAX)
    dataset = Dataset(encoding, codecs)
    limit = hand.total if end is None else end
    while at < limit:
        if limit - at < 8:
            p = yield from hand.bring(at, limit - at)
            if any(hand.data[p : p + limit - at]):
                raise ContentError("truncated", "the data end within an element", size_bytes=hand.total)
            return dataset, limit
        p = yield from hand.bring(at, 8)
        raw, length = encoding.two(hand.data, p)
        tag = encoding.raw(raw)
        if tag == ITEM_END:
            return dataset, at + 8
        vr, value_at, length, inner = yield from _read_head(hand, at, tag, encoding, dataset)
        if tag in PIXEL_TAGS and depth == 0:
            return dataset, at
        hand.count()
        element = Element(tag, vr, at, value_at, length, value_at + length)
        if vr == "SQ" or length == UNDEFINED:
            yield from _read_items(hand, element, inner, dataset.codecs, depth)
        else:
            if element.end > limit:
                raise ContentError(
                    "truncated", f"an element ends at {element.end}, the data at {limit}", size_bytes=limit
                )
            if length <= hand.keep_bytes or depth:
                p = yield from hand.bring(value_at, length)
                element.value = hand.data[p : p + length]
        if tag == 0x00080005 and element.value is not None:
            dataset.codecs = charsets.codecs_of(element.value.strip(b" \0"))[0]
        dataset.elements[tag] = element
        at = element.end
    return dataset, at


def _read_head(
    hand: _Hand, at: int, tag: int, encoding: Encoding, dataset: Dataset
) -> Generator[Range, bytes, tuple[str, int, int, Encoding]]:
    """VR, place and length of a value, and the encoding of what lies in it."""
    p = at - hand.base
    if not encoding.explicit:
        return dictionary_vr(tag, dataset), at + 8, encoding.two(hand.data, p)[1], encoding
    letters = hand.data[p + 4 : p + 6]
    length = encoding.one(hand.data, p)[2]
    if letters in SHORT_VRS:
        return letters.decode("ascii"), at + 8, length, encoding
    if letters in LONG_VRS or (b"AA" <= letters <= b"ZZ" and not length and at + 12 <= hand.total):
        p = yield from hand.bring(at, 12)
        length = encoding.long_length(hand.data, p + 8)[0]
        vr = letters.decode("ascii") if letters in LONG_VRS else "UN"
        if vr == "UN":
            known = dictionary_vr(tag, dataset)
            inner = IMPLICIT_LITTLE if encoding.little else IMPLICIT_BIG
            return known, at + 12, length, inner
        return vr, at + 12, length, encoding
    if b"AA" <= letters <= b"ZZ":
        return "UN", at + 8, length, encoding
    implicit = IMPLICIT_LITTLE if encoding.little else IMPLICIT_BIG
    return dictionary_vr(tag, dataset), at + 8, encoding.two(hand.data, p)[1], implicit


def _read_items(hand: _Hand, element: Element, encoding: Encoding, codecs: tuple[str, ...], depth: int) -> Reader[None]:
    """The items of a sequence, or fragments; of undefined or defined length."""
    at = element.offset
    end = None if element.length == UNDEFINED else at + element.length
    if end is not None and end > hand.total:
        raise ContentError("truncated", f"a sequence ends at {end}, the data at {hand.total}", size_bytes=hand.total)
    items: list[Dataset] = []
    pieces: list[bytes] = []
    while end is None or at < end:
        p = yield from hand.bring(at, 8)
        raw, length = encoding.two(hand.data, p)
        tag = encoding.raw(raw)
        if tag == SEQUENCE_END and end is None:
            at += 8
            break
        if tag != ITEM:
            raise ContentError("corrupt", "a sequence holds something that is not an item", offset=at)
        hand.count()
        if element.vr != "SQ" and element.vr != "UN":
            if length == UNDEFINED:
                raise ContentError("corrupt", "a fragment has no length", offset=at)
            p = yield from hand.bring(at + 8, length)
            pieces.append(hand.data[p : p + length])
            at += 8 + length
            continue
        inner = yield from _item_encoding(hand, at + 8, length, encoding)
        item_end = None if length == UNDEFINED else at + 8 + length
        if item_end is not None and item_end > (hand.total if end is None else end):
            raise ContentError("truncated", f"an item ends at {item_end}, its sequence before", size_bytes=hand.total)
        dataset, at = yield from _read_elements(hand, at + 8, item_end, inner, codecs, depth + 1)
        items.append(dataset)
    element.end = at
    element.length = at - element.offset
    element.items = tuple(items)
    if element.vr not in ("SQ", "UN"):
        element.value = b"".join(pieces)
    elif items or element.length == 0 or element.vr == "UN":
        element.vr = "SQ"


def _item_encoding(hand: _Hand, at: int, length: int, encoding: Encoding) -> Generator[Range, bytes, Encoding]:
    """Explicit items may hold implicit elements; the first element tells."""
    if not encoding.explicit or length < 8 or at + 8 > hand.total:
        return encoding
    p = yield from hand.bring(at, 8)
    if encoding.raw(encoding.two(hand.data, p)[0]) == ITEM_END:
        return encoding
    if all(0x40 < letter < 0x5B for letter in hand.data[p + 4 : p + 6]):
        return EXPLICIT_LITTLE if encoding.little else EXPLICIT_BIG
    return IMPLICIT_LITTLE if encoding.little else IMPLICIT_BIG


_AMBIGUOUS: Final = {"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}


def dictionary_vr(tag: int, dataset: Dataset) -> str:
    """The VR of an element that does not carry it: by the dictionary; UN where that does not know it."""
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = str(dictionary_VR(tag))
    except KeyError:
        return "UN"
    if vr == "US or SS":
        return "SS" if dataset.unsigned(0x00280103) == 1 else "US"
    return _AMBIGUOUS.get(vr, vr)
