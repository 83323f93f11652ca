"""JSON as RFC 8259 has it: taken, refused with the place, or decided where the RFC leaves it open.

The texts are judged twice: the standard library's parser has to agree on what is JSON, before the validator is asked.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.tables.scan import Scanner
from tests.heavylift.tables.reading import report_of
from tests.vectors.json_texts import BAD, BAD_BYTES, GOOD, MARK, OPEN


def is_json(text: str) -> bool:
    """By the standard library, without the constants that it takes on top."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def faults(report: dict[str, Any]) -> list[dict[str, Any]]:
    """But for the remark that the content looks like another format."""
    return [error for error in report["errors"] if error["code"] != "type-mismatch"]


def marked(text: str) -> tuple[bytes, int]:
    before, _, after = text.partition(MARK)
    return (before + after).encode(), len(before.encode())


def test_there_are_enough() -> None:
    assert len(GOOD) > 100
    assert len(BAD) > 150
    assert all(text.count(MARK) == 1 for text in BAD.values())


@pytest.mark.parametrize("block", [0, 1, 3])
def test_what_is_json_is_taken(block: int) -> None:
    """Alone, as a line, inside another value; in blocks of any size."""
    for name, text in GOOD.items():
        assert is_json(text), name
        for data in (text, f"[{text}]", f'{{"é": {text}}}'):
            assert report_of(data.encode(), "a.json", block=block)["valid"], name
            if "\n" not in data and "\r" not in data:
                assert report_of(data.encode(), "a.jsonl", block=block)["valid"], name


@pytest.mark.parametrize("name", BAD)
def test_what_is_none_is_refused_at_its_place(name: str) -> None:
    """The byte, the line and the column; in a document, on a line among good ones, and by both of our parsers."""
    data, at = marked(BAD[name])
    assert not is_json(data.decode())
    column = len(data[:at].decode()) + 1

    (found,) = faults(report_of(data, "a.json"))
    assert (found["code"], found["byte_offset"], found["line"], found["column"]) == ("invalid-json", at, 1, column)
    before = b"\n\r\n"
    scanned = Scanner()
    broken = scanned.feed(before + data) or scanned.end()
    (found,) = faults(report_of(before + data, "a.json"))
    assert broken is not None
    assert (found["byte_offset"], found["line"], found["column"]) == (len(before) + at, 3, column)
    assert broken.at == len(before) + at
    if b"\n" not in data:
        lines = b"{}\r\n" + data + b"\n[]\n"
        report = report_of(lines, "a.jsonl")
        (found,) = faults(report)
        assert (report["records"], report["bad_records"], found["line"], found["record"]) == (3, 1, 2, 2)
        assert (found["code"], found["byte_offset"], found["column"]) == ("invalid-json", 4 + at, column)


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bytes_that_are_no_text(name: str) -> None:
    """The first of them is the place, in every block size."""
    data, at = BAD_BYTES[name]
    code = "nul-byte" if b"\0" in data else "encoding-error"
    for block in (0, 1, 2):
        for file_name in ("a.json", "a.jsonl"):
            first = report_of(data, file_name, block=block)["errors"][0]
            assert (first["code"], first["byte_offset"], first["line"]) == (code, at, 1), file_name


@pytest.mark.parametrize("name", OPEN)
def test_freedoms_are_decided(name: str) -> None:
    """The same verdict as a document and as a line, and a code of its own where a limit is the reason."""
    data, code = OPEN[name]
    for file_name in ("a.json", "a.jsonl"):
        found = faults(report_of(data, file_name))
        assert [error["code"] for error in found[:1]] == ([code] if code else []), file_name
