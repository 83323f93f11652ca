"""Defects planted in a table are found where they were planted; what only looks odd is taken."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from tests.heavylift.tables.reading import report_of

SCHEMA: dict[str, Any] = {
    "schema": {
        "fields": [
            {"name": "id", "type": "integer"},
            {"name": "naïve", "type": "string"},
            {"name": "when", "type": "date"},
        ]
    }
}
HEADER = "id,naïve,when"
# What is done to the row "N,“é”,2026-01-02": (the row, its fault's code, the place in the row in characters from 0, the
# column's number, whether the row goes on to the next line).
DEFECTS: dict[str, tuple[str, str, int, int]] = {
    "stray quote": ('7,é"x,2026-01-02', "stray-quote", 3, 2),
    "text after a quote": ('7,"é"x,2026-01-02', "text-after-quote", 5, 2),
    "short row": ("7,é", "missing-cell", 3, 3),
    "long row": ("7,é,2026-01-02,more", "extra-cell", 15, 4),
    "wrong integer": ("7x,é,2026-01-02", "type-error", 0, 1),
    "wrong date": ("7,é,2026-13-02", "type-error", 4, 3),
    "NUL": ("7,é\0,2026-01-02", "nul-byte", 3, 2),
    "bad UTF-8": ("7,é\udcff,2026-01-02", "encoding-error", 3, 2),
    "blank row": ("", "blank-row", 0, 0),
}


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def rows_around(number: int, total: int = 9) -> tuple[list[str], list[str]]:
    """Good rows, some of them over two lines, before and behind the ``number``-th place."""
    rows = [f'{n},"é\nü",2026-01-0{n + 1}' if n % 3 == 0 else f"{n},é,2026-01-0{n + 1}" for n in range(total)]
    return rows[:number], rows[number:]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("number", [0, 4, 8])
@pytest.mark.parametrize("what", DEFECTS)
def test_each_defect_at_its_place(what: str, number: int, newline: str) -> None:
    """Code, line, record, byte and column; one fault, and the rows around it are good."""
    row, code, at, column_number = DEFECTS[what]
    before, after = rows_around(number)
    text_before = "".join(line + newline for line in (HEADER, *before)).replace(
        "\n", newline if newline == "\r" else "\n"
    )
    text_after = "".join(newline + line for line in after).replace("\n", newline if newline == "\r" else "\n")
    if what == "blank row" and not after:
        text_after = newline + "9,é,2026-01-09"
    data = encoded(text_before + row + text_after)
    breaks = "\r" if newline == "\r" else "\n"
    report = report_of(data, "a.csv", SCHEMA)

    assert [error["code"] for error in report["errors"]] == [code], report["errors"]
    (error,) = report["errors"]
    assert error["byte_offset"] == len(encoded(text_before + row[:at]))
    assert error["line"] == text_before.count(breaks) + 1
    assert error["record"] == number + 1
    if column_number:
        assert (error["column"], error.get("field_number", column_number)) == (at + 1, column_number)
    assert (report["bad_records"], report["valid"]) == (1, False)


def test_an_unclosed_quote_is_told_where_it_opens() -> None:
    """Line, byte and column of the quote; reading goes on at the next line."""
    data = f'{HEADER}\n1,é,2026-01-01\n2,"é,2026-01-02\n3,é,2026-01-03\n'.encode()
    report = report_of(data, "a.csv", SCHEMA)
    error = report["errors"][0]

    assert (error["code"], error["line"], error["column"]) == ("unterminated-quote", 3, 3)
    assert error["byte_offset"] == data.index(b'"')
    assert report["records"] == 3


@pytest.mark.parametrize(
    ("header", "code", "column"),
    [("id,id,when", "duplicate-label", 4), ("id,,when", "blank-label", 4), ("id,naïve,id", "duplicate-label", 10)],
)
def test_defects_of_the_header(header: str, code: str, column: int) -> None:
    """Line 1, the byte and the column of the label."""
    report = report_of(f"{header}\n1,é,2026-01-01\n".encode(), "a.csv")
    (error,) = report["errors"]

    assert (error["code"], error["line"], error["column"]) == (code, 1, column)
    assert error["byte_offset"] == len(header[: column - 1].encode())
    assert not report["valid"]


def test_all_defects_in_one_file() -> None:
    """Each is found once, however they stand together: the codes in the order of the rows."""
    for order in itertools.islice(itertools.permutations(sorted(DEFECTS)), 0, 40_000, 4_001):
        rows = [HEADER, "0,é,2026-01-01"]
        for name in order:
            rows += [DEFECTS[name][0], "1,é,2026-01-01"]
        report = report_of(encoded("\n".join(rows)), "a.csv", SCHEMA)
        assert [error["code"] for error in report["errors"]] == [DEFECTS[name][1] for name in order]
        assert (report["records"], report["bad_records"]) == (2 * len(order) + 1, len(order))


TAKEN: dict[str, tuple[bytes, int, dict[str, Any]]] = {
    "quotes": (b'a,b\n"x, ""y""",2\n', 1, {}),
    "embedded newlines": (b'a,b\n"x\ny\r\nz",2\n"\n",3\n', 2, {}),
    "LF": (b"a,b\n1,2\n3,4\n", 2, {}),
    "CRLF": (b"a,b\r\n1,2\r\n3,4\r\n", 2, {}),
    "CR": (b"a,b\r1,2\r3,4\r", 2, {}),
    "no newline at the end": (b"a,b\n1,2\n3,4", 2, {}),
    "byte order mark": (b"\xef\xbb\xbfa,b\n1,2\n", 1, {}),
    "byte order mark and a quoted label": (b'\xef\xbb\xbf"a",b\n1,2\n', 1, {}),
    "empty last line": (b"a,b\n1,2\n\n", 1, {}),
    "empty last line CRLF": (b"a,b\r\n1,2\r\n\r\n", 1, {}),
    "one column": (b"a\n1\n2\n3\n", 3, {}),
    "one column with empty values": (b"a\n1\n\n3\n", 3, {}),
    "header alone": (b"a,b\n", 0, {}),
    "empty cells": (b"a,b,c\n,,\n,,\n", 2, {}),
    "ten thousand columns": (",".join(f"c{n}" for n in range(10_000)).encode() + b"\n" + b"," * 9_999 + b"\n", 1, {}),
    "latin-1": ("größe,b\nä,ö\nÿ,\xa0\n".encode("latin-1"), 2, {"encoding": "latin-1"}),
    "windows-1252": ("a,b\n€,“x”\n".encode("cp1252"), 1, {"encoding": "windows-1252"}),
    "utf-16": ("a,b\né,😀\n".encode("utf-16"), 1, {"encoding": "utf-16"}),
    "semicolons": (b"a;b\n1,5;2\n2,5;3\n", 2, {}),
    "tabs": (b"a\tb\n1,5\t2\n2,5\t3\n", 2, {}),
    "another quote": (b"a,b\n'x, y',2\n", 1, {"dialect": {"quoteChar": "'"}}),
    "blanks around": (b"a, b\n 1 , 2\n", 1, {"dialect": {"delimiter": ","}}),
    "long cell": (b"a,b\n" + b"x" * 300_000 + b",2\n", 1, {}),
    "characters of all lengths": ("a,b\nü,€\n😀,x\n".encode(), 2, {}),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_only_looks_odd_is_taken(what: str) -> None:
    """With the right number of records."""
    data, records, rules = TAKEN[what]
    report = report_of(data, "a.csv", rules)

    assert (report["valid"], report["records"], report["errors"]) == (True, records, [])


def test_latin_1_without_being_told_is_named_byte_by_byte() -> None:
    """UTF-8 is the rule; the places say which bytes to look at."""
    data = "größe,b\nä,2\n3,ö\n".encode("latin-1")
    report = report_of(data, "a.csv")

    offsets = [error["byte_offset"] for error in report["errors"]]
    assert {error["code"] for error in report["errors"]} == {"encoding-error"}
    assert {error["line"] for error in report["errors"]} == {1, 2, 3}
    assert set(offsets) <= {n for n, byte in enumerate(data) if byte > 127}
    assert offsets == sorted(set(offsets))


def test_a_thousand_random_tables_of_good_cells() -> None:
    """Written as RFC 4180 says, whatever is in the cells: nothing is found."""
    chance = Random(4180)
    for _ in range(1_000):
        width, newline = chance.randint(2, 5), chance.choice(["\n", "\r\n"])
        rows = [[f"c{n}" for n in range(width)]]
        rows += [
            ["".join(chance.choices('ab",;\t\n é😀', k=chance.randint(0, 6))) for _ in range(width)]
            for _ in range(chance.randint(0, 6))
        ]
        text = newline.join(",".join(_written(cell) for cell in row) for row in rows) + newline
        report = report_of(text.encode(), "a.csv", {"dialect": {"delimiter": ","}})
        assert (report["valid"], report["records"]) == (True, len(rows) - 1), text


def _written(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') else cell
