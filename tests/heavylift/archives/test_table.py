"""The package's table: any CSV reader gets back what was written, and no spreadsheet finds a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.archives import table
from tests.heavylift.archives.sinks import an_entry

CONTROLS = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), 127]))


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


printing = st.characters(exclude_characters=CONTROLS + "\ufffe\uffff", exclude_categories=["Cs"])


@given(st.lists(st.text(alphabet=printing), min_size=1, max_size=4))
def test_every_text_comes_back(texts: list[str]) -> None:
    """But for the apostrophe in front of what would be a formula: one is taken away."""
    (found,) = read("x," + table.line(texts))

    assert [cell[1:] if cell.startswith("'") else cell for cell in found[1:]] == texts


@given(st.text(max_size=8))
def test_no_cell_is_a_formula(text: str) -> None:
    """Nothing that a spreadsheet would run, whatever stands before it."""
    (found,) = read(table.line(["x", text]))
    start = found[1].lstrip()[:1]

    assert start not in {"=", "+", "@", "＝", "＋", "－", "＠"}
    assert start != "-" or float(found[1]) < 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "true"),
        (7, "7"),
        (-2.5, "-2.5"),
        ("-2.5", "-2.5"),
        ("-2+3", "'-2+3"),
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("  @x", "'  @x"),
        ("'quoted", "''quoted"),
        ('say "a", b', '"say ""a"", b"'),
        ("two\nlines", '"two\nlines"'),
        (["a", 1], '"[""a"",1]"'),
        ({"k": "v"}, '"{""k"":""v""}"'),
        ("a\x00b\ud800", "a\ufffdb\ufffd"),
    ],
)
def test_one_cell(value: Any, written: str) -> None:
    """Quoted only where it must be (RFC 4180)."""
    assert table.cell(value) == written


def test_metadata_have_a_column_each() -> None:
    """All keys of all files, by name; where they are too many, one column for all."""
    columns = table.Columns()
    first, second = an_entry(0, "a", metadata={"b": 1, "a": "x"}), an_entry(1, "b", metadata={"c": None})
    for entry in (first, second):
        columns.note(entry.metadata)
    header, one, two = read(columns.header() + columns.row(first, "a", "0") + columns.row(second, "b", "0"))

    assert header[-3:] == ["metadata.a", "metadata.b", "metadata.c"]
    assert (one[-3:], two[-3:]) == (["x", "1", ""], ["", "", ""])
    columns.note({str(n): n for n in range(table.KEYS_MAX)})
    header, one = read(columns.header() + columns.row(first, "a", "0"))
    assert (header[-1], one[-1]) == ("metadata", '{"b":1,"a":"x"}')
    assert len(header) == len(one)


def test_lines_end_as_the_standard_says() -> None:
    """CR LF, the last one too."""
    assert table.missing_header() == "file_id,original_name,reason\r\n"
