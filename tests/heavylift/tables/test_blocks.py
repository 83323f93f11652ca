"""No report depends on how the file was read: blocks, slices, kills."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.heavylift.tables.reading import report_in_slices, report_of, slow_csv

SIZES = (1, 2, 3, 7, 4096)
TABLE_SCHEMA = {
    "fields": [{"name": "a", "type": "integer"}, {"name": "b"}, {"name": "c", "constraints": {"required": True}}],
}
csv_bytes = st.lists(
    st.sampled_from(
        [
            b"a",
            b"1",
            b",",
            b",",
            b'"',
            b'"',
            b'""',
            b"\n",
            b"\n",
            b"\r\n",
            b"\r",
            b"\xc3\xa9",
            b"\xe9",
            b"\0",
            b"1,x,y\n",
        ]
    ),
    max_size=60,
).map(b"".join)
jsonl_bytes = st.lists(
    st.sampled_from(
        [
            b'{"a":1}',
            b"[1,2]",
            b"nul",
            b"\n",
            b"\n",
            b"\r\n",
            b" ",
            b" " * 9,
            b'"\xff"',
            b"\0",
            b'"\xc3\xa9\\n"',
            b"1e999",
            b"[",
            b'{"a":[],"a":1}',
            b"x" * 30,
        ]
    ),
    max_size=40,
).map(b"".join)
json_bytes = st.lists(
    st.sampled_from(
        [b"[", b"]", b"{", b"}", b",", b":", b'"a"', b'"', b"1", b"-", b"0", b".", b"e", b"5", b"true", b"tr",
         b"\\", b"u00e9", b"\n", b" ",
         b"\xc3\xa9", b"\xc3", b"\xff", b"\0", b'"a":1,', b"1,", b"\\ud83d\\ude00", b"\\ud800"]
    ),
    max_size=40,
).map(b"".join)  # fmt: skip
text_bytes = st.lists(
    st.sampled_from([b"line", b"\n", b"\r\n", b"\x07", b"\0", b"\xff", b"\xc3\xa9", b"\x1b"]), max_size=40
).map(b"".join)
HEAD = b"a,b,c\n"
RULE_SETS: list[Any] = [
    None,
    {"max_record_bytes": 20},
    {"max_record_bytes": 9, "max_errors": 1},
    {"max_errors": 2},
    {"formula_cells": "error"},
]


@given(csv_bytes, st.sampled_from([*RULE_SETS, {"schema": TABLE_SCHEMA}, {"unique_keys": ["a", ["b", "c"]]}]))
def test_csv_reads_alike_in_blocks_of_any_size(data: bytes, rules: Any) -> None:
    """The report and the list of errors are the same bytes whatever the size of the blocks."""
    whole = report_of(HEAD + data, "x.csv", rules)
    for size in SIZES:
        assert report_of(HEAD + data, "x.csv", rules, size) == whole


@given(
    jsonl_bytes,
    st.sampled_from(
        [
            None,
            {"max_record_bytes": 8},
            {"max_record_bytes": 8, "max_errors": 1},
            {"unique_keys": ["a"], "duplicate_members": "error"},
            {"schema": {"type": "object"}},
        ]
    ),
)
def test_json_lines_read_alike_in_blocks_of_any_size(data: bytes, rules: Any) -> None:
    """As for CSV."""
    whole = report_of(data, "x.jsonl", rules)
    for size in SIZES:
        assert report_of(data, "x.jsonl", rules, size) == whole


@given(json_bytes, st.sampled_from([None, {"schema": {"type": "array"}}]))
def test_a_json_document_reads_alike_in_blocks_of_any_size(data: bytes, rules: Any) -> None:
    """As for CSV."""
    whole = report_of(data, "x.json", rules)
    for size in SIZES:
        assert report_of(data, "x.json", rules, size) == whole


@given(
    text_bytes,
    st.sampled_from(
        [None, {"max_record_bytes": 6}, {"max_record_bytes": 5, "max_errors": 1}, {"control_characters": "warn"}]
    ),
)
def test_text_reads_alike_in_blocks_of_any_size(data: bytes, rules: Any) -> None:
    """As for CSV."""
    whole = report_of(data, "x.txt", rules)
    for size in SIZES:
        assert report_of(data, "x.txt", rules, size) == whole


@given(st.data(), st.sampled_from(["csv", "jsonl", "json", "txt"]))
def test_a_run_that_was_killed_anywhere_ends_in_the_same_report(data: st.DataObject, kind: str) -> None:
    """Thrown away at any bytes and made anew from its checkpoint, as JSON, a run ends in the same report."""
    source = {"csv": csv_bytes.map(lambda b: HEAD + b), "jsonl": jsonl_bytes, "json": json_bytes, "txt": text_bytes}[
        kind
    ]
    content = data.draw(source)
    rules = data.draw(
        st.sampled_from([None, {"max_record_bytes": 10}, {"unique_keys": ["a"]}] if kind != "json" else [None])
    )
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=6))
    block = data.draw(st.sampled_from([1, 3, 64]))
    expected = report_of(content, f"x.{kind}", rules)

    assert report_in_slices(content, f"x.{kind}", rules, cuts, block) == expected


@settings(max_examples=300)
@given(csv_bytes)
def test_csv_agrees_with_a_machine_that_reads_byte_by_byte(data: bytes) -> None:
    """Rows, their places and what is wrong with them are those of the slow reading."""
    import json

    found = report_of(HEAD + data, "x.csv", {"dialect": {"delimiter": ",", "lineTerminator": "\n"}})
    listed = [json.loads(line) for line in found["all"].splitlines()]
    by_record: dict[int, set[str]] = {}
    for error in listed:
        by_record.setdefault(error["record"], set()).add(error["code"])
    expected = slow_csv(data, 3)

    assert found["records"] == len(expected)
    assert by_record == {n: set(codes) for n, (_, codes) in enumerate(expected, 1) if codes}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "latin-1", "windows-1252"])
@given(text=st.text(st.sampled_from('aé€,"\n1x'), max_size=40), cut=st.integers(0, 80))
def test_other_encodings_are_told_in_their_own_bytes(encoding: str, text: str, cut: int) -> None:
    """Blocks that cut characters, and slices, change nothing; the places lie in the file's own bytes."""
    codec = {"windows-1252": "cp1252"}.get(encoding, encoding)
    data = ("a,b\n" + text).encode(codec, "replace")
    rules = {"encoding": encoding}
    whole = report_of(data, "x.csv", rules)
    for size in (1, 2, 3, 7):
        assert report_of(data, "x.csv", rules, size) == whole
    assert report_in_slices(data, "x.csv", rules, [min(cut, len(data))], 5) == whole
    assert whole["decompressed_bytes"] == len(data)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("size", [1, 7, 4096, 0])
def test_compressed_files_read_as_what_they_hold(pack: Any, size: int) -> None:
    """Several members or frames, in blocks of any size, are one file."""
    first, second = b"a,b\n1,2\n3\n", b"4,5\n" * 5_000
    found = report_of(pack(first) + pack(second), "x.csv.gz", None, size)

    assert (found["records"], found["counts"]) == (5_002, {"missing-cell": 1})
    assert found["decompressed_bytes"] == len(first + second)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_files_that_are_cut_or_followed_by_something_are_broken(pack: Any) -> None:
    """Wherever they are cut; and what is left to read is still judged."""
    data = pack(b"a,b\n" + b"1,2\n" * 300)
    for cut in range(11, len(data)):
        found = report_of(data[:cut], "x.csv.gz")
        assert found["counts"].get("compression-error") == 1, cut
        assert not found["valid"]
    assert report_of(data + b"more", "x.csv.gz")["counts"] == {"compression-error": 1}


def test_larger_files_read_alike_at_the_borders_of_every_block() -> None:
    """Some megabytes with long cells, samples beyond the first megabyte, and few errors."""
    rows = [f'{n},"a ""quoted"" cell\nof {n} lines",{"é" * (n % 50)}\r\n' for n in range(60_000)]
    rows[30_000] = "x,y\r\n"
    rows[45_000] = '1,"' + "long\n" * 20_000 + '",2\r\n'
    data = ("a,b,c\r\n" + "".join(rows)).encode()
    whole = report_of(data)

    assert whole["counts"] == {"missing-cell": 1}
    assert whole["records"] == 60_000
    assert 1_000 < whole["statistics"]["sampled_records"] < 40_000
    for size in (4_096, 65_537, 1 << 20):
        assert report_of(data, block=size) == whole
    assert report_in_slices(data, "x.csv", None, [100_000, 1_500_000, 3_000_001], 50_000) == whole
