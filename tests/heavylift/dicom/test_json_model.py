"""The DICOM JSON model: pydicom's to_json_dict says the same of every file it ships."""

from __future__ import annotations

import base64
import io
import json
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest

from heavylift.dicom.dataset import DEPTH_MAX, Dataset, Element, read_dataset
from heavylift.dicom.elements import EXPLICIT_LITTLE
from heavylift.dicom.header import read_elements
from heavylift.dicom.json_model import json_model
from heavylift.errors import ContentError
from heavylift.ranges import drive
from tests.heavylift.dicom.made import UNDEFINED, delimiter, element, item, real_files


def dataset_of(data: bytes) -> Dataset:
    def fetch(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    elements = drive(read_elements(len(data)), fetch)
    return drive(read_dataset(elements.start.offset, len(data), elements.encoding), fetch)


def place(element: Element) -> str:
    return f"bulk/{element.offset}/{element.length}"


def plain(model: dict[str, Any]) -> dict[str, Any]:
    """A model without what the two write differently, and mean the same."""
    found = {}
    for tag, attribute in model.items():
        if tag == "00080005" or int(tag, 16) & 0xFFFF == 0 or int(tag[:4], 16) & 1 or int(tag, 16) >= 0x7FE00000:
            continue
        values = attribute.get("Value")
        if attribute["vr"] == "SQ":
            values = [plain(item) for item in values or []]
        elif attribute["vr"] == "PN":
            values = [{name: text.strip() for name, text in (value or {}).items()} for value in values or []]
        elif attribute["vr"] in ("DS", "FL", "FD"):
            values = [value if value is None else float(value) for value in values or []]
        elif attribute["vr"] == "IS":
            values = [value if value in (None, "") else int(value) for value in values or []]
        elif values is not None:
            values = [value.strip() if isinstance(value, str) else value for value in values]
        kept = [value for value in values or [] if value not in (None, "", {})]
        found[tag] = {"vr": attribute["vr"], "values": kept or None, "inline": attribute.get("InlineBinary") or None}
    return found


def is_image(path: Path) -> bool:
    """DICOMDIRs are strays; what is deflated is inflated by whoever reads it; one file has no end."""
    return "DICOMDIR" not in path.name and path.name not in {"image_dfl.dcm", "rtplan_truncated.dcm"}


@pytest.mark.parametrize("path", list(filter(is_image, real_files())), ids=lambda path: path.name)
def test_pydicom_says_the_same(path: Path) -> None:
    """VRs, values, names, sequences; private elements, whose VRs pydicom knows by a dictionary, apart."""
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        own = json_model(dataset_of(data), place)
        try:
            expected = theirs.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "")
        except (ValueError, TypeError):  # a value that breaks its VR's rules; here it stays text
            assert "badVR" in path.name
            return
    json.dumps(own, allow_nan=False)

    assert plain(own) == plain(expected)


def test_bytes_inline_and_elsewhere() -> None:
    """Short values are in the model, long ones have a place; words are in little endian."""
    data = element(0x00281201, b"OW", b"\1\2") + element(0x00281202, b"OW", bytes(2000))
    dataset = drive(read_dataset(0, len(data), EXPLICIT_LITTLE), lambda offset, length: data[offset : offset + length])

    assert json_model(dataset, place) == {
        "00281201": {"vr": "OW", "InlineBinary": base64.b64encode(b"\1\2").decode()},
        "00281202": {"vr": "OW", "BulkDataURI": "bulk/26/2000"},
    }


def test_a_long_value_is_never_fetched() -> None:
    """100 MB of private data cost one more range."""
    head = element(0x00291010, b"OB", b"", length=100 << 20)
    tail = element(0x00400244, b"DA", b"20240229")
    total = len(head) + (100 << 20) + len(tail)
    asked = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append(length)
        return (head if offset == 0 else b"").ljust(length, b"\0") if offset < len(head) else tail

    dataset = drive(read_dataset(0, total, EXPLICIT_LITTLE), fetch)

    assert dataset.text(0x00400244) == "20240229"
    assert sum(asked) < 70_000


def test_a_file_whose_values_break_their_rules() -> None:
    """Numbers that are none stay text, which the model allows; nothing fails."""
    data = (
        element(0x00200013, b"IS", b"1A") + element(0x00281050, b"DS", b"4,5\\NaN ") + element(0x00181310, b"US", b"\1")
    )
    dataset = drive(read_dataset(0, len(data), EXPLICIT_LITTLE), lambda offset, length: data[offset : offset + length])
    model = json_model(dataset, place)

    assert model["00200013"]["Value"] == ["1A"]
    assert model["00281050"]["Value"] == ["4,5", "NaN"]
    assert model["00181310"] == {"vr": "US"}


def test_depth_is_limited() -> None:
    """Sequences inside each other, deeper than anything real."""
    inner = b""
    for _ in range(DEPTH_MAX + 2):
        inner = element(0x00081110, b"SQ", item(inner, undefined=True) + delimiter(), length=UNDEFINED)
    with pytest.raises(ContentError) as caught:
        drive(read_dataset(0, len(inner), EXPLICIT_LITTLE), lambda offset, length: inner[offset : offset + length])

    assert caught.value.code == "limit_exceeded"
