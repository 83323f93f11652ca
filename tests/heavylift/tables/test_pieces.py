"""Files read in pieces by many: the report is that of one who reads from the beginning to the end, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.tables import run, tally
from heavylift.tables.run import Run
from tests.heavylift.tables.reading import report_in_pieces, report_of
from tests.heavylift.tables.test_blocks import HEAD, TABLE_SCHEMA, csv_bytes, jsonl_bytes, text_bytes

RULES: dict[str, list[Any]] = {
    "csv": [
        None,
        {"schema": TABLE_SCHEMA},
        {"max_errors": 1},
        {"max_record_bytes": 15},
        {"unique_keys": ["a"]},
        {"formula_cells": "warn"},
        {"dialect": {"delimiter": ",", "quoteChar": None}},
        {"dialect": {"delimiter": ",", "header": False, "lineTerminator": "\r"}},
        {"dialect": {"delimiter": ",", "commentChar": "#"}},
    ],
    "jsonl": [
        None,
        {"max_errors": 1},
        {"max_record_bytes": 8},
        {"schema": {"type": "object"}},
        {"duplicate_members": "warn"},
        {"unique_keys": ["a"]},
    ],
    "txt": [None, {"max_record_bytes": 6}, {"control_characters": "warn"}, {"max_errors": 2}],
}
CONTENT = {"csv": csv_bytes.map(lambda data: HEAD + data), "jsonl": jsonl_bytes, "txt": text_bytes}
kinds = st.sampled_from(sorted(CONTENT))


@pytest.fixture
def absorbed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where findings of pieces were taken up."""
    places: list[int] = []
    real = Run.absorb

    def noted(run: Run, start: int, findings: Any) -> bool:
        taken = real(run, start, findings)
        if taken:
            places.append(start)
        return taken

    monkeypatch.setattr(Run, "absorb", noted)
    return places


@settings(max_examples=150)
@given(st.data(), kinds, st.sampled_from([1, 2, 3, 7, 16]))
def test_pieces_of_any_size_make_the_same_report(data: st.DataObject, kind: str, size: int) -> None:
    """Whatever is wrong with the file, however small the pieces, whichever findings are lost, wherever it is killed."""
    content, rules = data.draw(CONTENT[kind]), data.draw(st.sampled_from(RULES[kind]))
    expected = report_of(content, f"x.{kind}", rules)
    lost = data.draw(st.sets(st.integers(0, 20)))
    killed = data.draw(st.sets(st.integers(0, 20), max_size=3))
    found = report_in_pieces(
        content, f"x.{kind}", rules, size, block=5, lost=lost.__contains__, killed=killed.__contains__
    )
    assert found == expected


def table(rows: int) -> bytes:
    """Cells with quotes, line breaks and texts that are CSV themselves."""
    row = '{0},"a ""quoted"" cell\nof {0}","x,y,z\n{0},2,3\n"\r\n'
    return ("a,b,c\r\n" + "".join(row.format(n) for n in range(rows))).encode()


def lines(records: int) -> bytes:
    return b"".join(b'{"a":%d,"b":"%s"}\n' % (n, b"x" * (n % 90)) for n in range(records))


FILES = {
    "good.csv": (table(9_000), None),
    "typed.csv": (table(3_000), {"schema": TABLE_SCHEMA}),
    "bad.csv": (table(1_000) + b'1,st"ray,3\n5\n' + table(1_500)[7:] + b'7,"open,8\n' + table(3_000)[7:], None),
    "stops.csv": (table(1_000) + b"1\n" * 3_000 + table(100)[7:], {"max_errors": 2_000}),
    "rate.csv": (table(12_000) + b"1\n" * 900 + table(10)[7:], {"max_error_rate": 0.05}),
    "good.jsonl": (lines(9_000), None),
    "bad.jsonl": (lines(2_000) + b"\n{\n" + lines(3_000) + b"\n", {"schema": {"required": ["a"]}}),
    "wide.jsonl": (b"".join(b'{"k%d":1}\n' % (n // 20) for n in range(15_000)), None),
    "many.txt": (b"line \x07\n" * 12_000, None),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("workers", "size"), [(1, 65_536), (2, 40_001), (32, 65_536)])
def test_larger_files_are_the_same_by_any_number_of_workers(
    name: str, workers: int, size: int, absorbed: list[int]
) -> None:
    """Pieces of 64 KiB and of a length that fits nothing; most of what others found is taken up."""
    content, rules = FILES[name]
    found = report_in_pieces(content, name, rules, size, block=16_384, workers=workers)

    assert json.dumps(found) == json.dumps(report_of(content, name, rules))
    if name.startswith("good") and size == 65_536:  # others cut the windows of the sample
        assert len(absorbed) >= len(content) // size - 1


def test_a_kill_at_every_piece_changes_nothing() -> None:
    """The run is made anew from its checkpoint before each piece; every second one's findings are lost."""
    content, rules = FILES["bad.csv"]
    found = report_in_pieces(
        content, "bad.csv", rules, 4_096, block=1_000, lost=lambda n: n % 2 == 0, killed=lambda n: True
    )

    assert found == report_of(content, "bad.csv", rules)


def test_floods_of_errors_are_taken_up_when_the_list_is_full(
    absorbed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece lists fewer errors than the report: it is read again while the report's list has room."""
    monkeypatch.setattr(run, "ERRORS_OF_PIECE", 10)
    monkeypatch.setattr(tally, "ERRORS_LISTED", 450)
    content = b"a,b\n" + b"1\n" * 4_000
    found = report_in_pieces(content, "x.csv", None, 1_024)

    assert found == report_of(content, "x.csv")
    assert found["errors_listed"] == 450
    assert absorbed[:2] == [1_024, 2_048]


def test_cells_that_hold_csv_are_never_mistaken_for_rows(absorbed: list[int]) -> None:
    """Every second piece begins inside a cell whose lines are rows as good as the table's own."""
    cell = "".join(f"{n},x,y\n" for n in range(400))
    content = ("a,b,c\n" + "".join(f'{n},"{cell}",z\n' for n in range(200))).encode()
    found = report_in_pieces(content, "x.csv", None, 8_192, workers=2)

    assert found == report_of(content, "x.csv")
    assert found["records"] == 200
    assert len(absorbed) > 20  # beyond 128 KiB only those that begin with a window of the sample
