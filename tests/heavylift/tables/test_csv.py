"""CSV: planted defects, each by line, byte and column; dialects, encodings and widths that are right."""

from __future__ import annotations

from typing import Any

import pytest

from tests.heavylift.tables.reading import report_of

PLANTED = (
    b"id,name,n\n"  # line 1
    b"1,good,10\n"
    b"2,short\n"  # 3
    b"3,long,30,more\n"  # 4
    b'4,"after"x,40\n'  # 5
    b"5,caf\xe9,50\n"  # 6
    b"6,type,sixty\n"  # 7
    b'7,st"ray,70\n'  # 8
    b"8,n\x00l,80\n"  # 9
    b"9,good,90\n"
    b'10,"never ends,100\n'  # 11
    b"11,good,110\n"
)
SCHEMA = {"fields": [{"name": "id", "type": "integer"}, {"name": "name"}, {"name": "n", "type": "integer"}]}


def test_eight_planted_defects_are_all_found() -> None:
    """With line, byte and column; the rows around them are good, and those after an endless quote are read."""
    found = report_of(PLANTED, rules={"schema": SCHEMA})
    places = [
        (error["code"], error["line"], error["record"], error["byte_offset"], error["column"])
        for error in found["errors"]
    ]
    lines = PLANTED.split(b"\n")
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]

    assert places == [
        ("missing-cell", 3, 2, starts[2] + 7, 8),
        ("extra-cell", 4, 3, starts[3] + 10, 11),
        ("text-after-quote", 5, 4, starts[4] + 9, 10),
        ("encoding-error", 6, 5, starts[5] + 5, 6),
        ("type-error", 7, 6, starts[6] + 7, 8),
        ("stray-quote", 8, 7, starts[7] + 4, 5),
        ("nul-byte", 9, 8, starts[8] + 3, 4),
        ("unterminated-quote", 11, 10, starts[10] + 3, 4),
    ]
    assert (found["records"], found["bad_records"], found["valid"]) == (11, 8, False)
    assert [error.get("field") for error in found["errors"]] == ["n", None, "name", None, "n", "name", None, "name"]


def test_a_name_that_comes_twice_in_the_header_is_found() -> None:
    """So is a column without one; both are faults of the file, not of a record."""
    found = report_of(b"a,b,a,\n1,2,3,4\n")

    assert [(error["code"], error["byte_offset"], error["column"]) for error in found["errors"]] == [
        ("duplicate-label", 4, 5),
        ("blank-label", 6, 7),
    ]
    assert (found["records"], found["bad_records"]) == (1, 0)


@pytest.mark.parametrize(
    ("data", "records", "lines", "delimiter"),
    [
        (b"a,b\n1,2\n", 1, 2, ","),
        (b"a,b\n1,2", 1, 2, ","),
        (b"a,b\r\n1,2\r\n", 1, 2, ","),
        (b"a,b\r1,2\r3,4\r", 2, 3, ","),
        (b"a,b\r1,2\r3,4", 2, 3, ","),
        (b"\xef\xbb\xbfa;b\n1;2\n", 1, 2, ";"),
        (b"a\tb\n1\t2\n", 1, 2, "\t"),
        (b"a|b\n1|2\n3|4\n", 2, 3, "|"),
        (b'a,b\n"1\n2","3,""4"""\n', 1, 3, ","),
        (b'"a,b","c"\n"1\r\n2",3\n', 1, 3, ","),
        (b"only\n1\n\n2\n", 3, 4, ","),
        (b"only\n1\n2\n\n", 3, 4, ","),
        (b"a,b\n1,2\n\n", 1, 3, ","),
        (b"a,b\n", 0, 1, ","),
        (b"", 0, 0, ","),
        (b"a,b\n,\n", 1, 2, ","),
        ("ä,ö\n1,日本語\n".encode(), 1, 2, ","),
        (b'a,b\n"",""\n', 1, 2, ","),
    ],
)
def test_tables_as_programs_write_them_are_right(data: bytes, records: int, lines: int, delimiter: str) -> None:
    found = report_of(data)

    assert (found["valid"], found["counts"]) == (True, {})
    assert (found["records"], found["lines"], found["dialect"]["delimiter"]) == (records, lines, delimiter)


@pytest.mark.parametrize("width", [1, 2, 64, 65, 10_000, 16_384])
def test_tables_of_any_width_are_read(width: int) -> None:
    """Good rows are good, and of ragged ones is said how wide they are."""
    names = ",".join(f"c{n}" for n in range(width))
    row = ",".join("1" for _ in range(width))
    found = report_of(f"{names}\n{row}\n{row},x\n{row}\n".encode(), rules={"dialect": {"delimiter": ","}})

    assert (found["records"], found["counts"]) == (3, {"extra-cell": 1})
    assert found["errors"][0]["field_number"] == width + 1


def test_more_columns_than_any_program_writes_are_refused() -> None:
    found = report_of(b"," * 16_384 + b"\n1\n")

    assert (found["counts"], found["stopped_by"]) == ({"too-many-columns": 1}, "too_many_columns")


def test_a_file_in_latin_1_is_read_where_the_rules_say_so() -> None:
    """Without that every letter beyond ASCII is an error: a table must not change its letters on the way."""
    data = "näme,b\nJosé,é\n".encode("latin-1")

    assert report_of(data, rules={"encoding": "latin-1"})["valid"]
    assert report_of(data)["counts"] == {"encoding-error": 3}


def test_utf_16_is_refused_unless_the_rules_have_it_read() -> None:
    data = "a,b\n1,é\n2\n".encode("utf-16")
    refused = report_of(data)
    found = report_of(data, rules={"encoding": "utf-16"})

    assert (refused["counts"], refused["valid"], refused["records"]) == ({"encoding-error": 1}, False, 0)
    assert (found["counts"], found["warnings"], found["encoding"]) == ({"missing-cell": 1}, {"bom": 1}, "utf-16-le")
    assert found["errors"][0]["byte_offset"] == 2 + 2 * len("a,b\n1,é\n2")


def test_a_row_of_more_than_its_bytes_is_told_and_passed_over() -> None:
    """The rows around it are good; a quote in it that never ends takes one line, not the rest of the file."""
    rules = {"max_record_bytes": 20}
    plain = report_of(b"a,b\n1,2\n" + b"x" * 100 + b",1\n3,4\n", rules=rules)
    quoted = report_of(b'a,b\n1,2\n3,"open\n5,6\n7,8\n9,10\n11,12\n', rules=rules)

    assert (plain["counts"], plain["records"]) == ({"record-too-long": 1}, 3)
    assert plain["errors"][0]["byte_offset"] == 8
    assert (quoted["counts"], quoted["records"], quoted["bad_records"]) == ({"record-too-long": 1}, 6, 1)


def test_lines_of_quotes_cost_no_more_than_their_length() -> None:
    """Rows that each leave a quote open do not make the file be read again and again."""
    found = report_of(b"a,b\n" + b'x","\n' * 20_000, rules={"max_record_bytes": 1_000})

    assert not found["valid"]
    assert found["lines"] == 20_001


@pytest.mark.parametrize(
    ("rules", "valid", "stopped"),
    [
        ({}, False, None),
        ({"max_errors": 3}, True, None),
        ({"max_errors": 2}, False, "max_errors"),
        ({"max_error_rate": 0.5}, True, None),
        ({"max_error_rate": 0.2}, False, None),
        ({"max_errors": 3, "max_error_rate": 0.2}, False, None),
    ],
)
def test_errors_in_records_are_taken_up_to_a_number_or_a_share(
    rules: dict[str, Any], valid: bool, stopped: str | None
) -> None:
    """Three bad records of ten."""
    found = report_of(b"a,b\n" + b"1,2\n" * 7 + b"1\n" * 3, rules=rules)

    assert (found["valid"], found["stopped_by"]) == (valid, stopped)


def test_an_error_rate_stops_a_long_file_early() -> None:
    """After ten thousand records, at the next bad one."""
    found = report_of(b"a,b\n" + b"1,2\n1\n" * 30_000, rules={"max_error_rate": 0.1}, block=65_536)

    assert (found["stopped_by"], found["records"], found["complete"]) == ("max_error_rate", 10_000, False)


@pytest.mark.parametrize(
    ("rules", "counts"),
    [
        ({"min_records": 2}, {}),
        ({"min_records": 3}, {"row-count": 1}),
        ({"max_records": 1}, {"row-count": 1}),
        ({"max_file_size": 12}, {}),
        ({"max_file_size": 11}, {"byte-count": 1}),
        ({"allowed_formats": ["csv"]}, {}),
        ({"allowed_formats": ["jsonl", "text/plain"]}, {"type-mismatch": 1}),
        ({"unique_keys": ["a"]}, {"unique-error": 1}),
        ({"unique_keys": [["a", "b"]]}, {}),
        ({"unique_keys": ["c"]}, {"missing-label": 1}),
    ],
)
def test_rules_for_the_whole_file(rules: dict[str, Any], counts: dict[str, int]) -> None:
    assert report_of(b"a,b\n1,2\n1,3\n", rules=rules)["counts"] == counts


def test_formulas_are_warned_of_or_refused_as_the_rules_say() -> None:
    """Numbers with a sign are no formulas; the data is never changed."""
    data = b'a,b\n=1+1,-5\n+x,-1.5e3\n@SUM,"\t="\n'

    assert report_of(data)["counts"] == {}
    assert report_of(data, rules={"formula_cells": "warn"})["warnings"] == {"formula-cell": 4}
    assert report_of(data, rules={"formula_cells": "error"})["counts"] == {"formula-cell": 4}


def test_a_key_that_is_kept_apart_by_a_delimiter_is_another_key() -> None:
    """('a', 'b,c') and ('a,b', 'c') differ."""
    data = b'x,y\na,"b,c"\n"a,b",c\na,"b,c"\n'

    assert report_of(data, rules={"unique_keys": [["x", "y"]]})["counts"] == {"unique-error": 1}


def test_statistics_describe_the_columns() -> None:
    rows = "".join(f"{n},{n * 0.5},name{n % 7},2024-01-{n % 28 + 1:02}\n" for n in range(1_000))
    columns = report_of(("id,x,name,day\n" + rows + ",,,\n").encode())["statistics"]["columns"]

    assert [(c["name"], c["type"], c["nulls"], c["min"], c["max"]) for c in columns] == [
        ("id", "integer", 1, 0, 999),
        ("x", "number", 1, 0.0, 499.5),
        ("name", "string", 1, "name0", "name6"),
        ("day", "date", 1, "2024-01-01", "2024-01-28"),
    ]
    assert (columns[2]["distinct"], columns[2]["distinct_exact"]) == (7, True)
    assert 800 < columns[0]["distinct"] < 1_200


@pytest.mark.parametrize(
    ("dialect", "data", "records"),
    [
        ({"delimiter": ";"}, b"a;b\n1,5;2\n", 1),
        ({"quoteChar": "'"}, b"a,b\n'1,''\"',2\n", 1),
        ({"quoteChar": None}, b'a,b\n1",x"y\n', 1),
        ({"header": False}, b"1,2\n3,4\n", 2),
        ({"commentChar": "#"}, b"# about, this, file\na,b\n1,2\n#,\n3,4\n", 2),
        ({"lineTerminator": "\r"}, b"a,b\r1,2\r3,4\r", 2),
    ],
)
def test_a_dialect_of_the_rules_is_followed(dialect: dict[str, Any], data: bytes, records: int) -> None:
    found = report_of(data, rules={"dialect": dialect})

    assert (found["counts"], found["records"]) == ({}, records)
