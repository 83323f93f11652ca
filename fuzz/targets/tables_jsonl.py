"""JSON lines by any rules: one report, however the bytes are cut, and the verdicts of json and orjson.

The first byte picks the rules, the second the size of the pieces.
"""

from __future__ import annotations

from typing import Any

import orjson

from heavylift.tables.planning import plan_for
from heavylift.tables.rules import parse_rules
from heavylift.tables.run import Run

_RULES: tuple[Any, ...] = (
    None,
    {"schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 2}}}},
    {"unique_keys": ["a", "/b/0"], "duplicate_members": "error"},
    {"max_record_bytes": 9, "max_errors": 3},
)


def one(data: bytes) -> None:
    choice, step, content = sum(data[:1]) % len(_RULES), 1 + sum(data[1:2]), data[2:]
    whole = _report(content, _RULES[choice], max(1, len(content)))
    assert whole == _report(content, _RULES[choice], step), step
    for error in whole["errors"]:
        assert 1 <= error["line"] <= whole["lines"] + 1, error
        assert 0 <= error["byte_offset"] <= len(content), error
    if choice == 0 and content[:2] not in (b"\xff\xfe", b"\xfe\xff") and content[:4] != b"\0\0\xfe\xff":
        body = content.removeprefix(b"\xef\xbb\xbf")
        lines = body.split(b"\n")
        if not lines[-1].strip(b" \t\r"):
            last = lines.pop()
            if last and lines:
                lines.append(last)  # a last line of blanks is one, if it is not the only thing there
        wrong = sum(1 for line in lines if not _is_json(line))
        assert abs(whole["bad_records"] - wrong) <= 1, (whole["bad_records"], wrong)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _report(content: bytes, rules: Any, step: int) -> dict[str, Any]:
    parsed = parse_rules(rules)
    run = Run(plan_for(content, False, "a.jsonl", "JSONL", parsed, None), parsed, len(content))
    for at in range(0, len(content), step):
        run.feed(content[at : at + step])
    run.end()
    return run.report({})
