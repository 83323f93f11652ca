"""The header reader and pydicom say the same about the index attributes, of real files and of damaged ones."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pydicom
import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from heavylift.dicom.header import INDEX_TAGS, Header
from heavylift.errors import ContentError
from tests.heavylift.dicom.made import header_of, real_files

MUTANTS = 400
MUTANTS_FULL = 50_000
SECONDS_MAX = 10  # of one input, on however busy a machine
_NUMBERS = frozenset({"US", "IS"})


@dataclass(frozen=True)
class Difference:
    """What the two say; ``reason`` is one of docs/dicom.md's, or None where nothing explains it."""

    tag: int
    ours: str
    theirs: str


@pytest.fixture(autouse=True)
def _quiet_pydicom() -> Iterator[None]:
    """It tells of each oddity; here they are the rule."""
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    config.settings.reading_validation_mode = mode


def theirs(data: bytes) -> Dataset | None:
    """What pydicom reads; None where it does not. Anything may come out of it for damaged files."""
    try:
        return pydicom.dcmread(
            io.BytesIO(data), stop_before_pixels=True, specific_tags=[Tag(tag) for tag in INDEX_TAGS]
        )
    except (Exception, RecursionError):  # noqa: BLE001 - the judge's own failures are not judged
        return None


def value_of(dataset: Dataset, tag: int) -> str | None:
    """The value as text; '' where absent; None where pydicom itself cannot tell."""
    try:
        if tag not in dataset:
            return ""
        element = dataset[tag]
        if element.VR == "SQ":
            return None
        value = element.value
    except Exception:  # noqa: BLE001 - the judge's own failures are not judged
        return None
    if value is None:
        return ""
    if isinstance(value, bytes):
        return None
    if isinstance(value, MultiValue | list):
        return "\\".join(str(part).strip(" \0") for part in value).strip(" \0")
    return str(value).strip(" \0").rstrip("=")


def our_value(header: Header, tag: int) -> str:
    if dictionary_VR(tag) == "US":
        little = header.little_endian
        raw = header.values.get(tag, b"")
        parts = [int.from_bytes(raw[at : at + 2], "little" if little else "big") for at in range(0, len(raw), 2)]
        return "\\".join(map(str, parts))
    text = header.texts.get(tag, "")
    if dictionary_VR(tag) == "PN":
        text = text.rstrip("=")
    return "\\".join(part.strip(" \0") for part in text.split("\\"))


def differences(header: Header, dataset: Dataset) -> list[Difference]:
    found = []
    for tag in sorted(INDEX_TAGS):
        said = value_of(dataset, tag)
        if said is None:
            continue
        own = our_value(header, tag)
        if dictionary_VR(tag) in ("IS", "DS", "PN"):
            same = own.replace(" ", "") == said.replace(" ", "")
        else:
            same = own == said
        if not same:
            found.append(Difference(tag, own, said))
    return found


FILES = real_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_are_read_alike(path) -> None:  # type: ignore[no-untyped-def]
    """Each file of pydicom's own tests: the same values, or a verdict that pydicom's silence bears out."""
    data = path.read_bytes()
    try:
        header = header_of(data)
    except ContentError as error:
        dataset = theirs(data)
        assert error.code in {"stray", "missing_uid", "truncated"}
        if error.code == "missing_uid":
            assert dataset is not None
            assert not all(dataset.get(name) for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"))
        return
    dataset = theirs(data)
    assert dataset is not None

    assert differences(header, dataset) == []
