"""The verdict: content decides, names and claims may only contradict it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import ContentError
from heavylift.limits import GIB, REFUSED_MEDIA_TYPES, TYPES
from heavylift.records import FileRecord
from heavylift.sniff import Detection
from heavylift.states import State
from heavylift.verdict import Accepted, judge


def record_of(name: str = "a", size: int = 100, **values: Any) -> FileRecord:
    return FileRecord("t", "f", name, size, State.VALIDATING, **values)


PNG = Detection("image", "PNG", "image/png")
TEXT = Detection("text", "Text", "text/plain")
CSV = Detection("table", "CSV", "text/csv")
DNG = Detection("raw", "DNG", "image/x-adobe-dng")
OTHER = Detection("other", "Unknown", "application/octet-stream")
XLSX = Detection("other", "XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
PDF = Detection("other", "PDF", "application/pdf")
ZIP = Detection("archive", "ZIP", "application/zip")
GZIP = Detection("archive", "gzip", "application/gzip")
TARRED = Detection("archive", "gzip", "application/gzip", inner="tar")
PACKED_CSV = Detection("table", "gzip", "application/gzip", inner="CSV")


def verdict(record: FileRecord, detection: Detection) -> str:
    try:
        judge(record, detection)
    except ContentError as error:
        return error.code
    return "accepted"


@pytest.mark.parametrize(
    ("record", "detection", "expected"),
    [
        (record_of("a.png"), PNG, "accepted"),
        (record_of("a.jpg"), PNG, "accepted"),  # another picture than its name says is a picture all the same
        (record_of("a.tif"), DNG, "accepted"),  # RAW files are often called so
        (record_of("a.tif"), TEXT, "type_mismatch"),
        (record_of("a.tif"), OTHER, "type_mismatch"),
        (record_of("a", declared_type="image/tiff"), TEXT, "type_mismatch"),
        (record_of("a", declared_kind="image"), TEXT, "type_mismatch"),
        (record_of("a.txt"), PNG, "type_mismatch"),
        (record_of("a.txt", declared_type="text/plain"), PNG, "type_mismatch"),
        (record_of("a.dcm"), PNG, "type_mismatch"),
        (record_of("a.bin"), OTHER, "accepted"),
        (record_of("a.png", size=0), OTHER, "empty_file"),
        (record_of("a.dcm", size=0), OTHER, "empty_file"),
        (record_of("a.txt", size=0), OTHER, "accepted"),
        (record_of("a.png", size=3 * GIB), PNG, "too_large_for_type"),
        (record_of("a.png", size=2 * GIB), PNG, "accepted"),
    ],
)
def test_verdicts(record: FileRecord, detection: Detection, expected: str) -> None:
    """One case each."""
    assert verdict(record, detection) == expected


CONTRADICTIONS = {
    "a sheet that is called a table": (record_of("a.csv"), XLSX, True),
    "a sheet that is declared a table": (record_of("a", declared_type="text/csv"), XLSX, True),
    "a picture that is called JSON": (record_of("a.json"), PNG, True),
    "an archive that is called text": (record_of("a.txt"), ZIP, True),
    "a tar in gzip that is called a table": (record_of("a.csv"), TARRED, True),
    "a table in gzip": (record_of("a.csv"), PACKED_CSV, False),
    "something in gzip that is declared a table": (record_of("a.gz", declared_type="text/csv"), GZIP, False),
    "a table that is called text": (record_of("a.txt"), CSV, False),
    "text that is called a table": (record_of("a.csv"), TEXT, False),
    "a document that is declared an archive": (record_of("a", declared_type="application/zip"), PDF, True),
    "a sheet that is declared an archive": (record_of("a", declared_type="application/zip"), XLSX, False),
    "a tar in gzip that is declared a tar": (record_of("a", declared_type="application/x-tar"), TARRED, False),
    "a tar where its name promises a table": (record_of("a.csv.gz"), TARRED, True),
    "binary data where its name promises JSON": (record_of("a.json.gz"), GZIP, True),
    "a table where its name promises JSON": (record_of("a.json.gz"), PACKED_CSV, False),
    "binary data in gzip": (record_of("backup.gz"), GZIP, False),
    "an archive's name alone": (record_of("a.zip"), PDF, False),
    "a document's name alone": (record_of("a.pdf"), TEXT, False),
    "a document that nobody knows": (record_of("a", declared_type="application/pdf"), OTHER, False),
    "a type without a rule": (record_of("a", declared_type="x/y"), XLSX, False),
    "text that is called a picture": (record_of("a.png"), TEXT, True),
    "a picture that is called another": (record_of("a.png"), DNG, False),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradictions_and_their_policy(what: str) -> None:
    """``error``: a verdict. ``warn``: the content decides, and the sentence is kept. ``allow``: the content decides."""
    record, detection, contradicts = CONTRADICTIONS[what]
    warned, allowed = judge(record, detection, "warn"), judge(record, detection, "allow")

    assert verdict(record, detection) == ("type_mismatch" if contradicts else "accepted")
    assert (warned.mismatch is not None) == contradicts
    assert allowed.mismatch is None
    assert (warned.kind, warned.format) == (allowed.kind, allowed.format)
    if contradicts:
        assert (allowed.kind, allowed.format) == (detection.kind, detection.format)
        assert {detection.format, detection.inner} & set((warned.mismatch or "").rstrip(".").replace(",", "").split())


def test_no_policy_lets_programs_in() -> None:
    """Refused is refused."""
    with pytest.raises(ContentError, match="type_refused"):
        judge(record_of("a.csv"), Detection("other", "Executable", "application/x-executable", "executable"), "allow")


@pytest.mark.parametrize("media_type", sorted(REFUSED_MEDIA_TYPES))
def test_what_would_run_is_refused(media_type: str) -> None:
    """By its class or by its media type: refused, whatever it is called."""
    for name in ("a.png", "a.txt", "a"):
        assert verdict(record_of(name), Detection("other", "X", media_type)) == "type_refused"
    assert verdict(record_of("a"), Detection("other", "X", "x/y", refused="a program")) == "type_refused"


def test_among_texts_the_client_knows_best() -> None:
    """One column of CSV looks like text; a picture never becomes a table by declaration."""
    assert judge(record_of("a.csv"), TEXT) == Accepted("table", "CSV", "text/csv")
    assert judge(record_of("a", declared_type="application/x-ndjson"), TEXT).format == "JSONL"
    assert judge(record_of("a.txt"), CSV) == Accepted("text", "Text", "text/plain")
    assert judge(record_of("a"), CSV) == Accepted("table", "CSV", "text/csv")
    assert judge(record_of("a.csv"), OTHER).format == "CSV"  # a NUL in it, and it looks like nothing
    assert judge(record_of("a", declared_kind="table"), OTHER).kind == "table"
    assert judge(record_of("a.txt"), OTHER).kind == "other"  # nobody promised anything
    assert judge(record_of("a.txt"), replace(OTHER, nearly_text=True)).kind == "text"
    assert judge(record_of("a.txt", declared_type="text/plain"), OTHER).kind == "text"


@given(
    st.sampled_from([rule.media_type for rule in TYPES] + ["", "x/y", "image/tiff; a=b", "IMAGE/PNG"]),
    st.sampled_from(["a", "a.tif", "a.csv", "a.dcm", "a.html", "x.png.txt", "\u202egnp"]),
    st.sampled_from([None, "image", "raw", "table", "other", "dicom"]),
    st.sampled_from([PNG, TEXT, CSV, DNG, OTHER]),
    st.integers(0, 1 << 45),
)
def test_every_file_has_a_verdict(
    media_type: str, name: str, kind: str | None, detection: Detection, size: int
) -> None:
    """Accepted with kind, format and type, or one of four codes; nothing else is raised."""
    record = record_of(name, size, declared_type=media_type or None, declared_kind=kind)

    assert verdict(record, detection) in {
        "accepted", "empty_file", "type_mismatch", "too_large_for_type", "type_refused",
    }  # fmt: skip
