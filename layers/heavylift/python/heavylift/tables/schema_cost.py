"""How often a JSON Schema may look at one value: references that refer to references multiply. Pure.

Thirty definitions that each name the one before twice are a kilobyte and ask for a billion checks of every record, and
no validator of schemas stops at that. Counted are the checks of one value if nothing is refused early.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from heavylift.tables.rules import RulesError

CHECKS_MAX: Final = 100_000  # real schemas stay below a few thousand; a record then takes milliseconds
_DEPTH_MAX: Final = 400  # of subschemas inside each other, references followed


def check_cost(schema: Any, rule: str = "schema") -> None:
    """RulesError where one value could be looked at more than CHECKS_MAX times."""
    names = _anchors(schema)
    known: dict[int, int] = {}
    under_way: set[int] = set()

    def cost(node: Any, depth: int) -> int:
        if not isinstance(node, Mapping):
            return 1
        if id(node) in known:
            return known[id(node)]
        if id(node) in under_way:
            return 1  # it ends with the value, or at once: a reference to itself alone is a loop that is no check
        if depth > _DEPTH_MAX:
            raise RulesError(rule, f"more than {_DEPTH_MAX} subschemas stand inside each other")
        under_way.add(id(node))
        total = 1
        for part in _same_place(node, schema, names):
            total += cost(part, depth + 1)
            if total > CHECKS_MAX:
                raise RulesError(
                    rule, f"its references multiply: one value would be checked more than {CHECKS_MAX} times"
                )
        deepest = max((cost(part, depth + 1) for part in _below(node)), default=1)
        under_way.discard(id(node))
        known[id(node)] = max(total, deepest)
        return known[id(node)]

    cost(schema, 0)


_LISTS: Final = ("allOf", "anyOf", "oneOf")
_ONES: Final = ("not", "if", "then", "else")
_CHILDREN: Final = (
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)


def _same_place(node: Mapping[str, Any], root: Any, names: Mapping[str, Any]) -> Iterator[Any]:
    """What looks at the very value that ``node`` looks at."""
    for name in _LISTS:
        value = node.get(name)
        yield from value if isinstance(value, list) else ()
    for name in _ONES:
        if name in node:
            yield node[name]
    value = node.get("dependentSchemas")
    yield from value.values() if isinstance(value, Mapping) else ()
    for name in ("$ref", "$dynamicRef"):
        if isinstance(node.get(name), str):
            yield _target(node[name], root, names)


def _below(node: Mapping[str, Any]) -> Iterator[Any]:
    """What looks at members and elements of the value, and what waits to be referred to."""
    for name in _CHILDREN:
        if name in node:
            yield node[name]
    for name in ("properties", "patternProperties", "$defs", "definitions"):
        value = node.get(name)
        yield from value.values() if isinstance(value, Mapping) else ()
    value = node.get("prefixItems")
    yield from value if isinstance(value, list) else ()


def _target(reference: str, root: Any, names: Mapping[str, Any]) -> Any:
    """Where a reference leads inside the schema; True (one check) where it leads elsewhere, which is refused anyway."""
    fragment = reference.rpartition("#")[2] if "#" in reference else reference
    if reference in names:
        return names[reference]
    if fragment in names:
        return names[fragment]
    if not reference.startswith("#"):
        return True
    found = root
    for step in unquote(fragment).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return True
    return found


def _anchors(schema: Any) -> dict[str, Any]:
    """Subschemas by their ``$anchor``, ``$dynamicAnchor`` and ``$id``."""
    found: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            for name in ("$anchor", "$dynamicAnchor", "$id"):
                if isinstance(node.get(name), str):
                    found.setdefault(node[name], node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found
