"""The DICOM JSON model of a dataset: PS3.18 Annex F. Pure functions; no I/O here.

Text is UTF-8 whatever the file's character set was, so Specific Character Set says ISO_IR 192. Groups 0000 and 0002 and
group lengths are left away (F.2.2). Values of bytes are inline up to INLINE_BYTES_MAX, else a BulkDataURI, which the
caller makes from the element's place.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any, Final

from heavylift.dicom import charsets
from heavylift.dicom.dataset import Dataset, Element
from heavylift.dicom.values import integer

INLINE_BYTES_MAX: Final = 1024  # of base64 in metadata that a viewer loads for every instance of a series
BulkUri = Callable[[Element], str]

_TEXTS: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UC", "UI"})
_LONG_TEXTS: Final = frozenset({"LT", "ST", "UT", "UR"})
_DECODED: Final = frozenset({"LO", "SH", "UC", "LT", "ST", "UT", "PN"})
_NUMBERS: Final = {"FL": "f", "FD": "d", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_BYTES: Final = {"OB": 1, "UN": 1, "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def json_model(dataset: Dataset, bulk_uri: BulkUri) -> dict[str, Any]:
    """``{"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}, …}``, ascending.

    Numbers that break their VR's rules stay text, as the model allows.
    """
    model = {}
    for tag in sorted(dataset.elements):
        if tag >> 16 in (0x0000, 0x0002) or not tag & 0xFFFF:
            continue
        model[f"{tag:08X}"] = _attribute(dataset.elements[tag], dataset, bulk_uri)
    return model


def _attribute(element: Element, dataset: Dataset, bulk_uri: BulkUri) -> dict[str, Any]:
    vr = element.vr
    if vr == "SQ":
        items = [json_model(item, bulk_uri) for item in element.items]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if element.value is None or (vr in _BYTES and element.length > INLINE_BYTES_MAX):
        return {"vr": vr, "BulkDataURI": bulk_uri(element)}
    if not element.value:
        return {"vr": vr}
    if vr in _BYTES:
        return {"vr": vr, "InlineBinary": base64.b64encode(_little(element.value, vr, dataset)).decode("ascii")}
    if element.tag == 0x00080005:
        return {"vr": vr, "Value": ["ISO_IR 192"]}
    values = _values(vr, element.value, dataset)
    return {"vr": vr, "Value": values} if any(value is not None for value in values) else {"vr": vr}


def _little(value: bytes, vr: str, dataset: Dataset) -> bytes:
    """Bytes of words in little endian, which the model demands."""
    width = _BYTES[vr]
    if dataset.encoding.little or width == 1 or len(value) % width:
        return value
    return b"".join(value[at : at + width][::-1] for at in range(0, len(value), width))


def _values(vr: str, value: bytes, dataset: Dataset) -> list[Any]:
    order = "<" if dataset.encoding.little else ">"
    if vr in _NUMBERS:
        width = struct.calcsize(_NUMBERS[vr])
        count = len(value) // width
        return [_finite(number) for number in struct.unpack(f"{order}{count}{_NUMBERS[vr]}", value[: count * width])]
    if vr == "AT":
        halves = struct.unpack(f"{order}{len(value) // 4 * 2}H", value[: len(value) // 4 * 4])
        return [f"{group:04X}{element:04X}" for group, element in zip(halves[::2], halves[1::2], strict=True)]
    codecs = dataset.codecs if vr in _DECODED else (charsets.DEFAULT,)
    text = charsets.decode(value.rstrip(b" \0"), codecs)
    if vr in _LONG_TEXTS:
        return [text.rstrip(" \0") or None]
    parts = [part.strip(" \0") for part in text.split("\\")]
    if vr == "PN":
        return [_name(part) for part in parts]
    if vr == "IS":
        return [_integer(part) for part in parts]
    if vr == "DS":
        return [_decimal(part) for part in parts]
    return [part or None for part in parts]


def _finite(number: float) -> float | str:
    """JSON has no NaN and no infinities; the model takes text for numbers."""
    return number if isinstance(number, int) or math.isfinite(number) else str(number)


def _name(text: str) -> dict[str, str] | None:
    groups = {name: group.rstrip(" \0") for name, group in zip(_GROUPS, text.split("="), strict=False) if group.strip()}
    return groups or None


def _integer(text: str) -> int | str | None:
    number = integer(text.encode())
    return number if number is not None else text or None


def _decimal(text: str) -> float | str | None:
    try:
        number = float(text)
    except ValueError:
        return text or None
    return number if math.isfinite(number) and "_" not in text else text
