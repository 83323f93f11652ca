"""A de-identified copy of a file: a new header around the pixel data, which are copied as they are. No I/O here.

The Basic Application Level Confidentiality Profile of PS3.15 Annex E: ``basic_profile`` says what is done to which
attribute, this module does it. The result is a list of pieces, new bytes and ranges of the source, in their order, so
that nobody holds the file. UIDs and the patient become keyed digests: the same for the same key, so files of one study
stay one study, today and in a year, and nobody without the key can tell what they were.

Pixels are not looked at. What is burned into them stays; ``burned_in`` says where that must be feared.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from heavylift.dicom import syntaxes
from heavylift.dicom.basic_profile import CODES
from heavylift.dicom.dataset import Dataset, Element, read_dataset
from heavylift.dicom.elements import EXPLICIT_LITTLE, ITEM, ITEM_END, LONG_VRS, SEQUENCE_END, UNDEFINED, Encoding
from heavylift.dicom.frames import read_end
from heavylift.dicom.header import Header
from heavylift.errors import ContentError
from heavylift.ranges import Range, Reader

Piece = bytes | Range

# What is done where the table leaves a choice: the strictest that keeps every kind of object valid.
DECISIONS: Final[dict[str, str]] = {"Z/D": "D", "X/Z": "Z", "X/D": "D", "X/Z/D": "D", "X/Z/U*": "U"}
METHOD: Final = b"PS3.15 2026c Basic Application Confidentiality Profile"
IMPLEMENTATION_UID: Final = "2.25.120403526512398571836105749201385716402"
DERIVED_ROOT: Final = "2.25."  # UIDs from 128 bits: PS3.5 B.2
STANDARD_ROOT: Final = "1.2.840.10008."  # classes, syntaxes: they mean the same for everybody

_DUMMIES: Final[dict[str, bytes]] = {
    "DA": b"19000101",
    "TM": b"000000",
    "DT": b"19000101000000",
    "AS": b"000Y",
    "IS": b"0",
    "DS": b"0",
    "AE": b"ANONYMIZED",
    "UR": b"about:blank",
    "US": bytes(2),
    "SS": bytes(2),
    "UL": bytes(4),
    "SL": bytes(4),
    "FL": bytes(4),
    "AT": bytes(4),
    "OF": bytes(4),
    "OL": bytes(4),
    "FD": bytes(8),
    "SV": bytes(8),
    "UV": bytes(8),
    "OD": bytes(8),
    "OV": bytes(8),
    "OB": bytes(2),
    "OW": bytes(2),
    "UN": bytes(2),
}
_DUMMY_TEXT: Final = b"ANONYMIZED"
_PATIENT: Final = frozenset({0x00100010, 0x00100020})
_REMOVED: Final = 0x00120062
_METHOD: Final = 0x00120063
_METHOD_CODES: Final = 0x00120064
_TIMES: Final = 0x00280303
# Modalities whose pictures are known to carry the patient's name (PS3.15 E.1.1, clean pixel data option).
_BURNING: Final = frozenset({"US", "SC", "XA", "RF", "ES", "XC", "OT", "DOC", "IVUS", "OP"})


@dataclass(frozen=True, slots=True)
class Copy:
    """What the copy is made of, in order. ``burned_in``: its pixels may say who the patient is."""

    pieces: tuple[Piece, ...]
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    burned_in: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of the copy."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in self.pieces)


def derived_uid(uid: str, key: bytes) -> str:
    """The UID that stands for ``uid`` in copies made with ``key``; those of the standard stand for themselves."""
    if uid.startswith(STANDARD_ROOT) or not uid:
        return uid
    digest = hmac.digest(key, b"uid\0" + uid.encode("latin-1"), hashlib.sha256)
    return DERIVED_ROOT + str(int.from_bytes(digest[:16], "big"))


def action_of(tag: int) -> str:
    """K kept, X removed, Z emptied, D a dummy, U another UID."""
    group = tag >> 16
    if group & 1 or 0x5000 <= group <= 0x50FF:  # private attributes, and curves
        return "X"
    if 0x6000 <= group <= 0x60FF and tag & 0xFFFF in (0x3000, 0x4000):  # overlay data and comments
        return "X"
    code = CODES.get(tag, "K")
    return DECISIONS.get(code, code)


def deidentify(header: Header, key: bytes) -> Reader[Copy]:
    """The de-identified copy of the file that ``header`` was read of (to its pixel data).

    ContentError as in ``read_dataset``, and ``unsupported_feature`` for deflated files. Memory: the header twice.
    """
    if header.transfer_syntax_uid == syntaxes.DEFLATED:
        raise ContentError("unsupported_feature", "a deflated file cannot be copied range by range")
    dataset = yield from read_dataset(header.dataset_offset, header.size_bytes, header.encoding)
    patient = b"ANON-" + hmac.digest(
        key, b"patient\0" + dataset.value(0x00100020) + b"\0" + dataset.value(0x00100021), hashlib.sha256
    ).hex()[:12].encode("ascii")
    pieces: list[Piece] = [_meta(header, key)]
    pieces.extend(_clean(dataset, _Rules(key, patient, everything=False), top=True))
    pixel = header.pixel_data
    if pixel is not None:
        start = max((element.end for element in dataset.elements.values()), default=header.dataset_offset)
        end = yield from read_end(pixel, header.size_bytes, little=header.little_endian)
        pieces.append(Range(start, end - start))
    said = header.burned_in_annotation
    return Copy(
        pieces=tuple(_joined(pieces)),
        sop_instance_uid=derived_uid(header.sop_instance_uid, key),
        study_instance_uid=derived_uid(header.study_instance_uid, key),
        series_instance_uid=derived_uid(header.series_instance_uid, key),
        burned_in=said == "YES" or (said != "NO" and header.modality in _BURNING),
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """``everything``: inside a sequence that becomes a dummy, every text and every number is one."""

    key: bytes
    patient: bytes
    everything: bool


def _clean(dataset: Dataset, rules: _Rules, *, top: bool = False) -> Iterable[Piece]:
    """The dataset's elements, each kept, changed or left away; ascending."""
    encoding = dataset.encoding
    done: dict[int, list[Piece]] = {}
    for tag, element in dataset.elements.items():
        if not tag & 0xFFFF:
            continue  # group lengths would be wrong
        done[tag] = _treated(element, encoding, rules)
    if top:
        done[_REMOVED] = [_encoded(_REMOVED, "CS", b"YES", encoding)]
        done[_METHOD] = [_encoded(_METHOD, "LO", METHOD, encoding)]
        done[_METHOD_CODES] = [_sequence(_METHOD_CODES, [_method_code(encoding)], encoding)]
        done[_TIMES] = [_encoded(_TIMES, "CS", b"REMOVED", encoding)]
    for tag in sorted(done):
        yield from done[tag]


def _treated(element: Element, encoding: Encoding, rules: _Rules) -> list[Piece]:
    action = action_of(element.tag)
    if action == "X":
        return []
    if action == "K" and rules.everything and element.vr != "CS" and not _is_code(element.tag):
        action = "D"
    if element.vr == "SQ":
        if action == "Z":
            return [_encoded(element.tag, "SQ", b"", encoding)]
        inner = _Rules(rules.key, rules.patient, rules.everything or action == "D")
        return _items(element, encoding, inner)
    if action == "K":
        return [Range(element.start, element.end - element.start)]
    if element.tag in _PATIENT:
        return [_encoded(element.tag, element.vr, rules.patient, encoding)]
    if action == "U" or (element.vr == "UI" and action == "D"):
        uids = (element.value or b"").decode("latin-1").split("\\")
        value = "\\".join(derived_uid(uid.strip(" \0"), rules.key) for uid in uids).encode("latin-1")
        return [_encoded(element.tag, "UI", value, encoding)]
    if action == "Z":
        return [_encoded(element.tag, element.vr, b"", encoding)]
    return [_encoded(element.tag, element.vr, _DUMMIES.get(element.vr, _DUMMY_TEXT), encoding)]


def _is_code(tag: int) -> bool:
    """Coded concepts (PS3.3 section 8): what is meant, never who."""
    return tag in (0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00080119, 0x00080120)


def _items(element: Element, encoding: Encoding, rules: _Rules) -> list[Piece]:
    """A sequence with its items cleaned; as it is where nothing in it changes."""
    cleaned = [list(_joined(_clean(item, rules))) for item in element.items]
    unchanged = all(
        sum(piece.length for piece in pieces if isinstance(piece, Range)) == _content_bytes(item)
        and not any(isinstance(piece, bytes) for piece in pieces)
        for item, pieces in zip(element.items, cleaned, strict=True)
    )
    if unchanged:
        return [Range(element.start, element.end - element.start)]
    order = "<" if encoding.little else ">"
    # In explicit VR, UN is the one VR whose items are implicit (PS3.5 6.2.2).
    implicit_inside = encoding.explicit and any(not item.encoding.explicit for item in element.items)
    out: list[Piece] = [_head(element.tag, "UN" if implicit_inside else "SQ", UNDEFINED, encoding)]
    for item, pieces in zip(element.items, cleaned, strict=True):
        # An item keeps its own encoding, for its kept elements are copied as they are.
        item_order = "<" if item.encoding.little else ">"
        out.append(_pair(ITEM, UNDEFINED, item_order))
        out.extend(pieces)
        out.append(_pair(ITEM_END, 0, item_order))
    out.append(_pair(SEQUENCE_END, 0, order))
    return out


def _content_bytes(item: Dataset) -> int:
    return sum(element.end - element.start for element in item.elements.values())


def _joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Neighbours as one piece."""
    last: Piece | None = None
    for piece in pieces:
        if isinstance(piece, bytes) and isinstance(last, bytes):
            last += piece
        elif isinstance(piece, Range) and isinstance(last, Range) and last.end == piece.offset:
            last = Range(last.offset, last.length + piece.length)
        else:
            if last is not None:
                yield last
            last = piece
    if last is not None:
        yield last


# --- writing elements: PS3.5 chapter 7 ----------------------------------------------------------------------------


def _pair(tag: int, length: int, order: str) -> bytes:
    return struct.pack(order + "HHI", tag >> 16, tag & 0xFFFF, length)


def _head(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    order = "<" if encoding.little else ">"
    if not encoding.explicit:
        return _pair(tag, length, order)
    code = vr.encode("ascii")
    start = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + code
    if code in LONG_VRS:
        return start + b"\0\0" + struct.pack(order + "I", length)
    return start + struct.pack(order + "H", length)


def _encoded(tag: int, vr: str, value: bytes, encoding: Encoding) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    return _head(tag, vr, len(value), encoding) + value


def _sequence(tag: int, items: list[bytes], encoding: Encoding) -> bytes:
    order = "<" if encoding.little else ">"
    value = b"".join(_pair(ITEM, len(item), order) + item for item in items)
    return _head(tag, "SQ", len(value), encoding) + value


def _method_code(encoding: Encoding) -> bytes:
    """PS3.16 CID 7050."""
    return (
        _encoded(0x00080100, "SH", b"113100", encoding)
        + _encoded(0x00080102, "SH", b"DCM", encoding)
        + _encoded(0x00080104, "LO", b"Basic Application Confidentiality Profile", encoding)
    )


def _meta(header: Header, key: bytes) -> bytes:
    """Preamble and file meta information, all of it new: PS3.10 7.1."""
    syntax = header.transfer_syntax_uid or _syntax_as_found(header)
    elements = (
        _encoded(0x00020001, "OB", b"\0\1", EXPLICIT_LITTLE)
        + _encoded(0x00020002, "UI", header.sop_class_uid.encode("latin-1"), EXPLICIT_LITTLE)
        + _encoded(0x00020003, "UI", derived_uid(header.sop_instance_uid, key).encode("latin-1"), EXPLICIT_LITTLE)
        + _encoded(0x00020010, "UI", syntax.encode("latin-1"), EXPLICIT_LITTLE)
        + _encoded(0x00020012, "UI", IMPLEMENTATION_UID.encode("latin-1"), EXPLICIT_LITTLE)
        + _encoded(0x00020013, "SH", b"HEAVYLIFT", EXPLICIT_LITTLE)
    )
    return (
        bytes(128) + b"DICM" + _encoded(0x00020000, "UL", struct.pack("<I", len(elements)), EXPLICIT_LITTLE) + elements
    )


def _syntax_as_found(header: Header) -> str:
    if not header.explicit_vr:
        return syntaxes.IMPLICIT_LITTLE
    return syntaxes.EXPLICIT_LITTLE if header.little_endian else syntaxes.EXPLICIT_BIG
