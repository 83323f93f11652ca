"""Rules as somebody sends them: taken, or refused by the name of the wrong one; and what is taken reads a file."""

from __future__ import annotations

import json

from heavylift.tables.planning import plan_for
from heavylift.tables.rules import NAMES, RulesError, parse_rules
from heavylift.tables.run import Run

TABLE = b"id,name\n1,one\n2,=two\n2\n\n"
LINES = b'{"id": 1, "name": [null, "x"]}\n{"id": 1, "id": 2}\n[]\n{\n'


def one(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        rules = parse_rules(value)
    except RulesError as error:
        if error.code != "invalid_rules" or not isinstance(error.facts["rule"], str):
            raise AssertionError(error.facts) from error
        return
    assert set(value or ()) <= set(NAMES)
    for name, text in (("a.csv", TABLE), ("a.jsonl", LINES), ("a.json", LINES), ("a.txt", TABLE)):
        announced = {"a.csv": "CSV", "a.jsonl": "JSONL", "a.json": "JSON", "a.txt": "Text"}[name]
        try:
            run = Run(plan_for(text, False, name, announced, rules, None), rules, len(text))
        except RulesError:
            continue  # a schema of the other kind, or a dialect that the file's own separator contradicts
        run.feed(text)
        run.end()
        report = run.report({})
        assert report["rules_sha256"] == rules.sha256
        json.dumps(report)
