"""CSV by any rules: one report, however the bytes are cut, and places that lie inside the file.

The first byte picks the rules, the second the size of the pieces.
"""

from __future__ import annotations

from typing import Any

from heavylift.tables.planning import plan_for
from heavylift.tables.rules import parse_rules
from heavylift.tables.run import Run

_SCHEMA = {
    "fields": [
        {"name": "a", "type": "integer", "constraints": {"minimum": 3}},
        {"name": "b", "type": "date"},
        {"name": "c", "type": "number", "constraints": {"required": True}},
    ],
    "fieldsMatch": "partial",
    "primaryKey": "a",
}
_RULES: tuple[Any, ...] = (
    None,
    {"schema": _SCHEMA},
    {"unique_keys": [["a", "b"]], "max_errors": 2},
    {"max_record_bytes": 16, "formula_cells": "error", "max_errors": 4},
    {"dialect": {"delimiter": ";", "quoteChar": "'", "commentChar": "#"}},
    {"dialect": {"header": False, "lineTerminator": "\r"}},
    {"encoding": "latin-1"},
    {"encoding": "utf-16"},
)


def one(data: bytes) -> None:
    rules, step, content = _RULES[sum(data[:1]) % len(_RULES)], 1 + sum(data[1:2]), data[2:]
    whole = _report(content, rules, max(1, len(content)))
    assert whole == _report(content, rules, step), step
    for error in whole["errors"]:
        assert 1 <= error["line"] <= whole["lines"] + 1, error
        assert 0 <= error["byte_offset"] <= len(content), error


def _report(content: bytes, rules: Any, step: int) -> dict[str, Any]:
    parsed = parse_rules(rules)
    run = Run(plan_for(content, False, "a.csv", "CSV", parsed, None), parsed, len(content))
    for at in range(0, len(content), step):
        run.feed(content[at : at + step])
    run.end()
    return run.report({})
