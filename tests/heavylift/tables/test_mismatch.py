"""What a file is called and what it is: read as announced; where that fails and it looks like another, said so."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from heavylift.tables import validate_file
from tests.heavylift.tables.reading import report_of

JSONL = b'{"id": 1, "name": "one"}\n{"id": 2, "name": "two"}\n'
CSV = b"id,name\n1,one\n2,two\n"
DOCUMENT = b'{\n  "id": 1,\n  "names": ["one", "two"]\n}\n'


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (JSONL, "a.csv", True),
        (JSONL, "a.tsv", True),
        (DOCUMENT, "a.csv", True),
        (CSV, "a.jsonl", True),
        (CSV, "a.json", True),
        (JSONL, "a.json", True),
        (JSONL, "a.txt", False),  # it is text: it parses
        (CSV, "a.txt", False),
        (CSV.replace(b",", b"\t"), "a.csv", False),
        (CSV.replace(b"2,two", b"2"), "a.csv", False),
        (JSONL + b"{\n", "a.jsonl", False),
        (b"id\n1\n2\n", "a.csv", False),
        (b"1\n2\n", "a.jsonl", False),
        (b"[1, 2]\n", "a.jsonl", False),
    ],
)
def test_the_announcement_wins_if_it_parses(data: bytes, name: str, told: bool) -> None:
    """Else the report names the mismatch beside the errors, once, as a fault of the file."""
    report = report_of(data, name)

    assert report["counts"].get("type-mismatch", 0) == told
    if told:
        assert not report["valid"]
        assert any(e["code"] == "type-mismatch" and "looks like" in e["message"] for e in report["errors"])


@pytest.mark.parametrize(
    ("policy", "fault", "warning"), [(None, 1, 1), ("error", 1, 1), ("warn", 0, 1), ("allow", 0, 0)]
)
def test_the_policy_is_a_rule(policy: str | None, fault: int, warning: int) -> None:
    """A warning stays a warning; the file's other errors stay what they are."""
    rules: dict[str, Any] = {} if policy is None else {"type_mismatch": policy}
    report = report_of(JSONL, "a.csv", rules)

    assert report["counts"].get("type-mismatch", 0) == fault
    assert report["warnings"].get("unlike-name", 0) == warning
    assert not report["valid"]


def sheet() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("[Content_Types].xml", "xl/workbook.xml"):
            archive.writestr(name, "<x/>")
    return out.getvalue()


BINARY = {
    "XLSX": sheet(),
    "PDF": b"%PDF-1.7\n" + bytes(200),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "Parquet": b"PAR1" + bytes(99) + b"PAR1",
    "OLE2": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
}


@pytest.mark.parametrize("what", BINARY)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.txt", "a"])
def test_what_is_known_to_be_something_else_is_not_read(tmp_path: Path, what: str, name: str) -> None:
    """One fault with the format's name, instead of a thousand about its bytes."""
    (tmp_path / name).write_bytes(BINARY[what])
    report = validate_file(tmp_path / name)

    assert report["counts"] == {"type-mismatch": 1}
    assert what in report["errors"][0]["message"]
    assert (report["valid"], report["complete"], report["records"]) == (False, False, 0)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("what", BINARY)
def test_nor_is_what_is_packed(tmp_path: Path, what: str, pack: Any) -> None:
    """The same for what is inside."""
    (tmp_path / "a.csv.gz").write_bytes(pack(BINARY[what]))
    report = validate_file(tmp_path / "a.csv.gz")

    assert report["counts"] == {"type-mismatch": 1}
    assert report["errors"][0]["message"].startswith("Inside the ")
    assert what in report["errors"][0]["message"]


def test_a_nul_makes_no_other_format(tmp_path: Path) -> None:
    """Bytes that look like nothing are read as what they are called."""
    (tmp_path / "a.csv").write_bytes(b"id,name\n1,o\0ne\n")
    (tmp_path / "a.txt").write_bytes(b"hello\0 world\n")

    assert validate_file(tmp_path / "a.csv")["counts"] == {"nul-byte": 1}
    assert validate_file(tmp_path / "a.txt")["counts"] == {"nul-byte": 1}


@pytest.mark.parametrize("allowed", [["xml"], ["application/xml"], ["text"]])
def test_xml_is_text_and_has_a_name(allowed: list[str]) -> None:
    """allowed_formats may say either."""
    assert report_of(b'<?xml version="1.0"?>\n<a/>\n', "a.xml", {"allowed_formats": allowed})["valid"]
    assert not report_of(b'<?xml version="1.0"?>\n<a/>\n', "a.xml", {"allowed_formats": ["csv"]})["valid"]
