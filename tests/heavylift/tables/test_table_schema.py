"""Table Schema: which cells are of a type, which constraints hold, which columns a header may have.

Texts from the standard's own descriptions of its types (Data Package 2.0, "Table Schema"), and what traps parsers.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.heavylift.tables.reading import report_of

TYPES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    # a field, cells that are of its type, cells that are not
    "integer": (
        {},
        ["0", "-7", "+7", "007", "12345678901234567890"],
        ["1.0", "1e3", "1_000", " 1", "1 ", "", "x", "١٢", "0x1", "--1"],
    ),
    "integer not bare": ({"bareNumber": False}, ["€ 95", "95%", "95"], ["x", "%"]),
    "integer grouped": ({"groupChar": ","}, ["1,000", "1,000,000", "7"], ["x", "1.5"]),
    "number": (
        {},
        ["0", "-1.5", ".5", "5.", "1e5", "1E-5", "NaN", "INF", "-INF"],
        ["1,5", "x", " 1", "1_0", "٣", "0x1p3"],
    ),
    "number decimal comma": ({"decimalChar": ",", "groupChar": "."}, ["1,5", "1.000,5", "7"], ["1,5,5", "x"]),
    "boolean": ({}, ["true", "false", "True", "FALSE", "1", "0"], ["yes", "2", "tRuE", ""]),
    "boolean by words": ({"trueValues": ["ja"], "falseValues": ["nein"]}, ["ja", "nein"], ["true", "Ja"]),
    "string": ({}, ["", "x", "é", " "], []),
    "string email": ({"format": "email"}, ["a@b.co", "x.y+z@q.example"], ["a", "a@", "@b", "a b@c.de"]),
    "string uri": (
        {"format": "uri"},
        ["https://example.com/x?y#z", "mailto:a@b.co", "urn:x:y"],
        ["x", "example.com", "http://", "a b:c"],
    ),
    "string uuid": (
        {"format": "uuid"},
        ["123e4567-e89b-12d3-a456-426614174000"],
        ["123e4567", "123e4567-e89b-12d3-a456-42661417400g"],
    ),
    "string binary": ({"format": "binary"}, ["", "aGVsbG8="], ["aGVsbG8", "a b="]),
    "date": (
        {},
        ["2024-02-29", "0001-01-01"],
        ["2023-02-29", "2024-13-01", "20240102", "2024-W01-1", "2024-1-2", "2024-01-02T00:00:00", "٢٠٢٤-01-02"],
    ),
    "date pattern": ({"format": "%d.%m.%Y"}, ["29.02.2024"], ["2024-02-29", "30.02.2024"]),
    "time": ({}, ["00:00:00", "23:59:59", "12:00:00.5", "12:00:00Z"], ["24:00:00", "12:60:00", "12:00", "noon"]),
    "datetime": (
        {},
        ["2024-02-29T12:00:00Z", "2024-02-29T12:00:00", "2024-02-29T12:00:00.123+02:00"],
        ["2024-02-29 12:00:00", "2024-02-30T12:00:00Z", "2024-02-29", "2024-02-29T25:00:00Z"],
    ),
    "year": ({}, ["2024", "0001", "-0044"], ["24", "20240", "x"]),
    "yearmonth": ({}, ["2024-02", "0001-12"], ["2024-13", "2024-2", "2024"]),
    "duration": ({}, ["P1Y", "P1Y2M3DT4H5M6S", "PT0.5S", "-P1D"], ["P", "1Y", "PT", "P1S", "P1.5Y"]),
    "object": ({}, ["{}", '{"a": [1]}'], ["[]", "1", "{", "null"]),
    "array": ({}, ["[]", "[1, {}]"], ["{}", "x", "[1"]),
    "list": ({}, ["a,b", "", "a"], []),
    "list of integers": ({"itemType": "integer", "delimiter": ";"}, ["1;2;3"], ["1;x", "1,2"]),
    "geopoint": ({}, ["90.50, 45.50", "-180,-90"], ["181,0", "0,91", "1", "a,b"]),
    "geopoint array": ({"format": "array"}, ["[90.5, 45.5]"], ["90.5,45.5", "[1]", "[1,2,3]"]),
    "geopoint object": ({"format": "object"}, ['{"lon": 90.5, "lat": 45.5}'], ['{"lon": 1}', "[1,2]"]),
    "geojson": ({}, ['{"type": "Point", "coordinates": [1, 2]}'], ["[]", "x"]),
    "any": ({}, ["", "x", "1"], []),
}


def cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def verdicts(field: dict[str, Any], cells: list[str], **schema: Any) -> list[str | None]:
    """The code of each cell's fault, each in a row of its own; ``missingValues`` none, so that "" is a text."""
    rules = {"schema": {"fields": [{"name": "a", **field}, {"name": "z"}], "missingValues": [], **schema}}
    data = "a,z\n" + "".join(f"{cell(text)},z\n" for text in cells)
    report = report_of(data.encode(), "a.csv", rules)
    found = {error["record"]: error["code"] for error in report["errors"]}
    return [found.get(number) for number in range(1, len(cells) + 1)]


@pytest.mark.parametrize("what", TYPES)
def test_cells_of_each_type(what: str) -> None:
    """Good ones are good, and each other one is a type-error."""
    field, good, bad = TYPES[what]
    field = {"type": what.split()[0], **field}

    assert dict(zip(good, verdicts(field, good), strict=True)) == dict.fromkeys(good)
    assert dict(zip(bad, verdicts(field, bad), strict=True)) == dict.fromkeys(bad, "type-error")


CONSTRAINTS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "minLength": ({"constraints": {"minLength": 2}}, ["ab", "éü", "😀😀"], ["a", "😀"]),
    "maxLength": ({"constraints": {"maxLength": 2}}, ["", "ab"], ["abc"]),
    "minimum": ({"type": "integer", "constraints": {"minimum": 5}}, ["5", "6"], ["4", "-9"]),
    "maximum of numbers": (
        {"type": "number", "constraints": {"maximum": 0.1}},
        ["0.1", "0.10000", "-INF"],
        ["0.10001", "INF"],
    ),
    "exclusiveMinimum": ({"type": "number", "constraints": {"exclusiveMinimum": "5"}}, ["5.001"], ["5", "5.0"]),
    "exclusiveMaximum of dates": (
        {"type": "date", "constraints": {"exclusiveMaximum": "2024-01-01"}},
        ["2023-12-31"],
        ["2024-01-01"],
    ),
    "pattern": ({"constraints": {"pattern": "[A-Z]{2}[0-9]+"}}, ["AB1"], ["AB", "xAB1", "AB1x", "AB1\n"]),
    "enum": ({"type": "integer", "constraints": {"enum": [1, "2"]}}, ["1", "02"], ["3"]),
    "enum of texts": ({"constraints": {"enum": ["a", "b"]}}, ["a"], ["A", ""]),
    "jsonSchema": ({"type": "object", "constraints": {"jsonSchema": {"required": ["a"]}}}, ['{"a": 1}'], ["{}"]),
    "categories": ({"categories": ["x", {"value": "y", "label": "Y"}]}, ["x", "y"], ["z"]),
}


@pytest.mark.parametrize("what", CONSTRAINTS)
def test_constraints(what: str) -> None:
    """Those within hold, those beyond are a constraint-error that names the field, the cell and the limit."""
    field, good, bad = CONSTRAINTS[what]

    assert verdicts(field, good) == [None] * len(good)
    assert verdicts(field, bad) == ["constraint-error"] * len(bad)


def test_missing_values() -> None:
    """They are of every type and break no constraint but ``required``; a field's own list takes the schema's place."""
    field = {"type": "integer", "constraints": {"minimum": 5}}

    assert verdicts(field, ["", "NA", "4"], missingValues=["", "NA"]) == [None, None, "constraint-error"]
    assert verdicts({**field, "missingValues": ["-"]}, ["-", "NA"], missingValues=["NA"]) == [None, "type-error"]
    required = {"type": "integer", "constraints": {"required": True}}
    assert verdicts(required, ["", "1"], missingValues=[""]) == ["constraint-error", None]


@pytest.mark.parametrize(
    ("match", "header", "codes"),
    [
        ("exact", "id,name", []),
        ("exact", "name,id", ["incorrect-label", "incorrect-label"]),
        ("exact", "id", ["missing-label"]),
        ("exact", "id,name,more", ["extra-label"]),
        ("equal", "name,id", []),
        ("equal", "id,more", ["extra-label", "missing-label"]),
        ("subset", "more,name,id", []),
        ("subset", "name", ["missing-label"]),
        ("superset", "name", []),
        ("superset", "name,more", ["extra-label"]),
        ("partial", "more,name", []),
        ("partial", "more,less", ["missing-label"]),
    ],
)
def test_headers_and_how_they_are_held_to_the_fields(match: str, header: str, codes: list[str]) -> None:
    """By place or by name, with or without more; cells are judged by the field that has their column's name."""
    rules = {"schema": {"fieldsMatch": match, "fields": [{"name": "id", "type": "integer"}, {"name": "name"}]}}
    row = ",".join("7" if label == "id" else "x" for label in header.split(","))
    report = report_of(f"{header}\n{row}\n".encode(), "a.csv", rules)
    named = sorted(error["code"] for error in report["errors"] if error["code"].endswith("-label"))

    assert named == sorted(codes)
    assert report["valid"] == (not codes)


def test_keys() -> None:
    """A primary key is there and comes once; unique keys once, a missing one never counts as the same."""
    fields = [{"name": "id"}, {"name": "mail", "constraints": {"unique": True}}]
    rules = {"schema": {"fields": fields, "primaryKey": "id", "missingValues": [""]}}
    data = b"id,mail\n1,a\n1,b\n,c\n2,a\n3,\n4,\n"
    report = report_of(data, "a.csv", rules)

    assert [(error["code"], error["record"]) for error in report["errors"]] == [
        ("primary-key", 2),
        ("primary-key", 3),
        ("unique-error", 4),
    ]
