"""Rules are checked themselves, and each of them is effective."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.tables.rules import NAMES, Rules, RulesError, canonical, parse_rules
from tests.heavylift.tables.reading import report_of

TABLE = b"id,name\n1,one\n2,=two\n2,three\n"
LINES = b'{"id": 1, "a": 1, "a": 2}\n{"id": 1}\n'

# name -> (a value that makes the good file bad, the code of its fault, the file, its name)
EFFECTS: dict[str, tuple[Any, str, bytes, str]] = {
    "max_file_size": (10, "byte-count", TABLE, "a.csv"),
    "allowed_formats": (["jsonl"], "type-mismatch", TABLE, "a.csv"),
    "min_records": (4, "row-count", TABLE, "a.csv"),
    "max_records": (2, "row-count", TABLE, "a.csv"),
    "max_record_bytes": (6, "record-too-long", TABLE, "a.csv"),
    "encoding": ("utf-16", "encoding-error", TABLE, "a.csv"),
    "unique_keys": (["id"], "unique-error", TABLE, "a.csv"),
    "duplicate_members": ("error", "duplicate-key", LINES, "a.jsonl"),
    "formula_cells": ("error", "formula-cell", TABLE, "a.csv"),
    "schema": ({"fields": [{"name": "id"}, {"name": "name", "type": "integer"}]}, "type-error", TABLE, "a.csv"),
    "dialect": ({"header": False}, "type-error", TABLE, "a.csv"),
    "control_characters": ("error", "control-character", b"a\x01b\n", "a.txt"),
    "type_mismatch": ("error", "type-mismatch", b'{"a": 1}\n{"a": 2}\n', "a.csv"),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_each_rule_is_effective(name: str) -> None:
    """The file is good without it (or by its mildest value), and has that fault with it."""
    value, code, data, file_name = EFFECTS[name]
    rules: dict[str, Any] = {name: value}
    mild: dict[str, Any] = {"control_characters": {"control_characters": "allow"}}.get(name, {})
    if name == "dialect":
        mild = {"schema": {"fieldsMatch": "partial", "fields": [{"name": "id", "type": "integer"}]}}
        rules |= mild
    if name == "type_mismatch":
        mild = {"type_mismatch": "allow"}
    without, found = report_of(data, file_name, mild), report_of(data, file_name, rules)

    assert code not in without["counts"]
    assert found["counts"].get(code), found["counts"]
    assert not found["valid"]


def test_tolerance_is_a_number_or_a_share() -> None:
    """max_errors and max_error_rate: so many and no more."""
    data = b"a,b\n" + b"1,2\n" * 8 + b"1\n" * 2
    verdicts = {
        str(rules): report_of(data, "a.csv", rules)["valid"]
        for rules in ({}, {"max_errors": 1}, {"max_errors": 2}, {"max_error_rate": 0.19}, {"max_error_rate": 0.2})
    }

    assert list(verdicts.values()) == [False, False, True, False, True]


def test_every_rule_is_here() -> None:
    assert EFFECTS.keys() | {"max_errors", "max_error_rate"} == set(NAMES)


WRONG: list[tuple[Any, str]] = [
    ([], "rules"),
    ("x", "rules"),
    ({"min_recrods": 1}, "min_recrods"),
    ({"max_file_size": -1}, "max_file_size"),
    ({"max_file_size": 1.5}, "max_file_size"),
    ({"max_file_size": True}, "max_file_size"),
    ({"max_file_size": "1"}, "max_file_size"),
    ({"min_records": 3, "max_records": 2}, "min_records"),
    ({"max_record_bytes": 0}, "max_record_bytes"),
    ({"max_record_bytes": 1 << 30}, "max_record_bytes"),
    ({"max_errors": -1}, "max_errors"),
    ({"max_error_rate": 1.1}, "max_error_rate"),
    ({"max_error_rate": "0.1"}, "max_error_rate"),
    ({"max_error_rate": float("nan")}, "max_error_rate"),
    ({"allowed_formats": []}, "allowed_formats"),
    ({"allowed_formats": "csv"}, "allowed_formats"),
    ({"allowed_formats": ["cvs"]}, "allowed_formats"),
    ({"allowed_formats": [1]}, "allowed_formats"),
    ({"encoding": "ebcdic"}, "encoding"),
    ({"encoding": 8}, "encoding"),
    ({"unique_keys": []}, "unique_keys"),
    ({"unique_keys": [[]]}, "unique_keys"),
    ({"unique_keys": [1]}, "unique_keys"),
    ({"unique_keys": [f"k{n}" for n in range(9)]}, "unique_keys"),
    ({"duplicate_members": "no"}, "duplicate_members"),
    ({"formula_cells": None, "control_characters": 1}, "control_characters"),
    ({"type_mismatch": "off"}, "type_mismatch"),
    ({"schema": []}, "schema"),
    ({"schema": {"type": "nonsense"}}, "schema"),
    ({"schema": {"$ref": "file:///etc/passwd"}}, "schema"),
    ({"schema": {"$ref": "http://127.0.0.1:1/x"}}, "schema"),
    ({"schema": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "schema"),
    ({"schema": {"pattern": "(?=a)b"}}, "schema"),
    ({"schema": {"fields": []}}, "schema"),
    ({"schema": {"fields": [{"name": ""}]}}, "schema"),
    ({"schema": {"fields": [{"name": "a"}, {"name": "a"}]}}, "schema"),
    ({"schema": {"fields": [{"name": "a", "type": "int"}]}}, "schema"),
    ({"schema": {"fields": [{"name": "a", "constraints": {"pattern": "(a+)+(?!b)"}}]}}, "schema"),
    ({"schema": {"fields": [{"name": "a", "type": "integer", "constraints": {"minimum": "x"}}]}}, "schema"),
    ({"schema": {"fields": [{"name": "a"}], "primaryKey": ["b"]}}, "schema"),
    ({"schema": {"fields": [{"name": "a"}], "foreignKeys": []}}, "schema"),
    ({"schema": {"fields": [{"name": "a"}], "fieldsMatch": "some"}}, "schema"),
    ({"dialect": {"delimiter": ""}}, "dialect"),
    ({"dialect": {"delimiter": ",,"}}, "dialect"),
    ({"dialect": {"delimiter": "é"}}, "dialect"),
    ({"dialect": {"delimiter": '"'}}, "dialect"),
    ({"dialect": {"escapeChar": "\\"}}, "dialect"),
    ({"dialect": {"doubleQuote": False}}, "dialect"),
    ({"dialect": {"lineTerminator": ";"}}, "dialect"),
    ({"dialect": {"header": "yes"}}, "dialect"),
]


@pytest.mark.parametrize(("rules", "name"), WRONG, ids=[json.dumps(rules)[:60] for rules, _ in WRONG])
def test_wrong_rules_are_named(rules: Any, name: str) -> None:
    """The name of the wrong one, and a sentence that begins with it."""
    with pytest.raises(RulesError) as caught:
        parse_rules(rules)

    assert (caught.value.code, caught.value.facts["rule"]) == ("invalid_rules", name)
    assert caught.value.message.startswith(f"{name}: ")
    assert len(caught.value.message) < 600


def test_none_is_no_rule() -> None:
    """A rule that is null is as if it were not there; but it is another text."""
    assert parse_rules(None) == parse_rules({}) == Rules()
    assert parse_rules({"min_records": None}).min_records is None


def test_names_of_formats_and_encodings_are_taken_as_people_write_them() -> None:
    assert parse_rules(
        {"allowed_formats": ["CSV", ".tsv", "application/json; charset=utf-8", "NDJSON"]}
    ).allowed_formats == (
        "CSV",
        "TSV",
        "JSON",
        "JSONL",
    )
    assert parse_rules({"encoding": "UTF_8"}).encoding == "utf-8"
    assert parse_rules({"encoding": "ISO-8859-1"}).encoding == "latin-1"
    assert parse_rules({"unique_keys": "id"}).unique_keys == (("id",),)


@given(st.dictionaries(st.sampled_from(["min_records", "max_records", "max_errors"]), st.integers(0, 5)), st.randoms())
def test_the_digest_is_of_the_meaning(rules: dict[str, int], chance: Any) -> None:
    """The order of members and blanks are nothing; every value is something. The report shows it."""
    turned = list(rules.items())
    chance.shuffle(turned)
    if rules.get("min_records", 0) > rules.get("max_records", 9):
        return
    first, second = parse_rules(rules), parse_rules(json.loads(json.dumps(dict(turned), indent=3)))

    assert first.sha256 == second.sha256
    assert report_of(TABLE, "a.csv", rules)["rules_sha256"] == first.sha256
    assert (canonical(rules) == b"{}") == (first.sha256 == Rules().sha256)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*NAMES, "x"]), JSON_VALUES, max_size=4))
def test_any_json_is_rules_or_a_sentence(value: dict[str, Any]) -> None:
    """Nothing but RulesError, whatever somebody sends."""
    with contextlib.suppress(RulesError):
        parse_rules(value)
