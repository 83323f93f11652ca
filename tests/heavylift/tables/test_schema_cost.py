"""Schemas whose references multiply are refused before they cost anything."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.tables.rules import RulesError, parse_rules
from heavylift.tables.schema_cost import CHECKS_MAX, check_cost


def laughs(levels: int, how: str = "allOf") -> dict[str, Any]:
    """Each definition names the one before twice."""
    defs: dict[str, Any] = {"a0": {"type": "integer"}}
    for n in range(1, levels):
        two = [{"$ref": f"#/$defs/a{n - 1}"}, {"$ref": f"#/$defs/a{n - 1}"}]
        defs[f"a{n}"] = {how: two}
    return {"$defs": defs, "$ref": f"#/$defs/a{levels - 1}"}


@pytest.mark.parametrize("how", ["allOf", "anyOf", "oneOf"])
def test_multiplied_references(how: str) -> None:
    """Ten levels are a thousand checks; thirty would be a billion."""
    parse_rules({"schema": laughs(10, how)})
    with pytest.raises(RulesError, match="references multiply"):
        parse_rules({"schema": laughs(30, how)})


def test_by_anchors_and_ids() -> None:
    """However the definitions are named."""
    schema = laughs(30)
    for name, one in schema["$defs"].items():
        one["$anchor"] = name
        for two in one.get("allOf", ()):
            two["$ref"] = two["$ref"].replace("#/$defs/", "#")
    with pytest.raises(RulesError, match="references multiply"):
        check_cost(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"properties": {"children": {"items": {"$ref": "#"}}, "left": {"$ref": "#"}, "right": {"$ref": "#"}}},
        {"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]},
        {"allOf": [{"$ref": "#/$defs/none"}, {"$ref": "https://example.com/x"}, True, False], "not": {}},
        {"properties": {f"p{n}": {"type": "string", "maxLength": n} for n in range(2_000)}},
        {"if": {"$ref": "#/then"}, "then": {"enum": list(range(1_000))}, "dependentSchemas": {"a": {"minimum": 1}}},
        True,
        {},
    ],
)
def test_what_schemas_are_like(schema: Any) -> None:
    """Loops, trees, wide objects: none is refused for its cost."""
    check_cost(schema)


def test_nested_too_deeply() -> None:
    """A verdict, and no crash of the interpreter."""
    schema: dict[str, Any] = {}
    for _ in range(3_000):
        schema = {"not": schema}
    with pytest.raises(RulesError):
        check_cost(schema)
    assert CHECKS_MAX >= 10_000
