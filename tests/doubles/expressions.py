"""DynamoDB's expressions, as far as heavylift writes them; what is not understood is refused, never guessed.

Grammar as in the Amazon DynamoDB developer guide, "Condition and filter expressions, operators, and functions",
"Update expressions" and "Key condition expressions": every ``#name`` and ``:value`` that is given must be used, every
one that is used must be given. Attributes are top-level ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from tests.doubles.answers import refusal

Item = Mapping[str, Any]
_TOKEN = re.compile(r"\s*(?:(<>|<=|>=|[=<>(),+-])|([#:]?[A-Za-z0-9_]+))")
# Names that need no ``#``: our own keys. For any other, DynamoDB's list of reserved words would have to be known.
_PLAIN = frozenset({"pk", "sk"})


def _invalid(message: str) -> Exception:
    return refusal("ValidationException", 400, "DynamoDB", message)


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            raise _invalid(f"Syntax error in expression at {text[at:]!r}")
        found.append(matched[1] or matched[2])
        at = matched.end()
    return found


class Names:
    """``ExpressionAttributeNames`` and ``ExpressionAttributeValues`` of one call, and which of them were used."""

    def __init__(self, names: Mapping[str, str] | None, values: Mapping[str, Any] | None) -> None:
        for given in (names, values):
            if given is not None and not given:
                raise _invalid("ExpressionAttributeNames and ExpressionAttributeValues must not be empty")
        self._names, self._values = dict(names or {}), dict(values or {})
        self._used: set[str] = set()

    def name(self, token: str) -> str:
        if token.startswith(":"):
            raise _invalid(f"an attribute is expected, not the value {token}")
        if token.startswith("#"):
            self._used.add(token)
            if token not in self._names:
                raise _invalid(f"An expression attribute name used is not defined: {token}")
            return self._names[token]
        if token not in _PLAIN:
            raise _invalid(f"An attribute is written by a #name here: {token}")
        return token

    def value(self, token: str) -> dict[str, Any]:
        self._used.add(token)
        if token not in self._values:
            raise _invalid(f"An expression attribute value used is not defined: {token}")
        given: dict[str, Any] = self._values[token]
        return given

    def all_used(self) -> None:
        unused = (self._names.keys() | self._values.keys()) - self._used
        if unused:
            raise _invalid(f"Value provided in expression unused: {sorted(unused)}")


class _Reader:
    def __init__(self, text: str) -> None:
        self._left = _tokens(text)

    def peek(self) -> str:
        return self._left[0] if self._left else ""

    def take(self, expected: str | None = None) -> str:
        token = self._left.pop(0) if self._left else ""
        if not token or (expected is not None and token.upper() != expected):
            raise _invalid(f"Syntax error: {token!r} where {expected or 'something'} is expected")
        return token

    def word(self, word: str) -> bool:
        """Take the keyword if it comes next."""
        if self.peek().upper() == word:
            self._left.pop(0)
            return True
        return False

    def end(self) -> None:
        if self._left:
            raise _invalid(f"Syntax error at {self._left}")


Test = Callable[[Item], bool]


def _order(attribute: Any) -> tuple[str, Any]:
    ((kind, value),) = attribute.items()
    if kind not in {"S", "N", "B"}:
        raise _invalid(f"operand type {kind} has no order")
    return kind, {"S": lambda: value.encode(), "N": lambda: Decimal(value), "B": lambda: bytes(value)}[kind]()


def same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return False
    if one.keys() == other.keys() == {"N"}:
        return bool(Decimal(one["N"]) == Decimal(other["N"]))
    return bool(one == other)


def _compare(operator: str, one: Any, other: Any) -> bool:
    if operator == "=":
        return same(one, other)
    if operator == "<>":
        return not same(one, other)
    if one is None or other is None:
        return False
    (kind, left), (other_kind, right) = _order(one), _order(other)
    if kind != other_kind:
        return False
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])


def condition(text: str, names: Names) -> Test:
    """A ConditionExpression or FilterExpression as a test of an item ({} where there is none)."""
    reader = _Reader(text)
    test = _either(reader, names)
    reader.end()
    return test


def _either(reader: _Reader, names: Names) -> Test:
    tests = [_both(reader, names)]
    while reader.word("OR"):
        tests.append(_both(reader, names))
    return lambda item: any(test(item) for test in tests)


def _both(reader: _Reader, names: Names) -> Test:
    tests = [_one(reader, names)]
    while reader.word("AND"):
        tests.append(_one(reader, names))
    return lambda item: all(test(item) for test in tests)


def _one(reader: _Reader, names: Names) -> Test:
    if reader.word("NOT"):
        inverted = _one(reader, names)
        return lambda item: not inverted(item)
    if reader.word("("):
        inside = _either(reader, names)
        reader.take(")")
        return inside
    function = reader.peek().lower()
    if function in {"attribute_exists", "attribute_not_exists"}:
        reader.take()
        reader.take("(")
        name = names.name(reader.take())
        reader.take(")")
        return (lambda item: name in item) if function == "attribute_exists" else (lambda item: name not in item)
    if function == "begins_with":
        reader.take()
        reader.take("(")
        name = names.name(reader.take())
        reader.take(",")
        prefix = names.value(reader.take())
        reader.take(")")
        return lambda item: "S" in item.get(name, {}) and item[name]["S"].startswith(prefix["S"])
    left = _operand(reader, names)
    if reader.word("BETWEEN"):
        low = _operand(reader, names)
        reader.take("AND")
        high = _operand(reader, names)
        return lambda item: _compare(">=", left(item), low(item)) and _compare("<=", left(item), high(item))
    if reader.word("IN"):
        reader.take("(")
        choices = [_operand(reader, names)]
        while reader.word(","):
            choices.append(_operand(reader, names))
        reader.take(")")
        return lambda item: any(same(left(item), choice(item)) for choice in choices)
    operator = reader.take()
    if operator not in {"=", "<>", "<", "<=", ">", ">="}:
        raise _invalid(f"Syntax error at {operator!r}")
    right = _operand(reader, names)
    return lambda item: _compare(operator, left(item), right(item))


def _operand(reader: _Reader, names: Names) -> Callable[[Item], Any]:
    token = reader.take()
    if token.startswith(":"):
        value = names.value(token)
        return lambda item: value
    name = names.name(token)
    return lambda item: item.get(name)


def key_condition(text: str, names: Names, partition: str, sort: str) -> tuple[str, Test]:
    """The partition's value and a test of the sort key: ``p = :p`` and at most one condition on the sort key."""
    reader = _Reader(text)
    value = _key_equals(reader, names, partition, 2048)
    if not reader.peek():
        return value, lambda item: True
    reader.take("AND")
    test = _sort_test(reader, names, sort)
    reader.end()
    return value, test


def _key_value(reader: _Reader, names: Names, bytes_max: int) -> str:
    token = reader.take()
    given = names.value(token)
    if given.keys() != {"S"} or not given["S"] or len(given["S"].encode()) > bytes_max:
        raise _invalid(f"{token}: a key is a string of 1 to {bytes_max} bytes")
    text: str = given["S"]
    return text


def _key_name(reader: _Reader, names: Names, expected: str) -> None:
    if names.name(reader.take()) != expected:
        raise _invalid(f"Query condition missed key schema element: {expected}")


def _key_equals(reader: _Reader, names: Names, name: str, bytes_max: int) -> str:
    _key_name(reader, names, name)
    reader.take("=")
    return _key_value(reader, names, bytes_max)


def _sort_test(reader: _Reader, names: Names, sort: str) -> Test:
    if reader.word("BEGINS_WITH"):
        reader.take("(")
        _key_name(reader, names, sort)
        reader.take(",")
        prefix = _key_value(reader, names, 1024)
        reader.take(")")
        return lambda item: item[sort]["S"].startswith(prefix)
    _key_name(reader, names, sort)
    if reader.word("BETWEEN"):
        low = _key_value(reader, names, 1024)
        reader.take("AND")
        high = _key_value(reader, names, 1024)
        if low.encode() > high.encode():
            raise _invalid("The BETWEEN operator requires upper bound to be greater than or equal to lower bound")
        return lambda item: low.encode() <= item[sort]["S"].encode() <= high.encode()
    operator = reader.take()
    if operator not in {"=", "<", "<=", ">", ">="}:
        raise _invalid(f"Invalid operator used in KeyConditionExpression: {operator}")
    bound = _key_value(reader, names, 1024)
    return lambda item: _compare(operator, item[sort], {"S": bound})


def projection(text: str, names: Names) -> list[str]:
    found = [names.name(one.strip()) for one in text.split(",")]
    if len(set(found)) != len(found):
        raise _invalid("Two document paths overlap with each other")
    return found


def update(text: str, names: Names, before: Item, checked: Callable[[Any], Any]) -> dict[str, Any]:
    """The item after an UpdateExpression: SET (also ``if_not_exists``, ``+``, ``-``), REMOVE, ADD of numbers."""
    reader, after, touched = _Reader(text), dict(before), []
    seen: set[str] = set()
    while reader.peek():
        clause = reader.take().upper()
        if clause not in {"SET", "REMOVE", "ADD"} or clause in seen:
            raise _invalid(f"Invalid UpdateExpression: {clause}")
        seen.add(clause)
        while True:
            name = names.name(reader.take())
            touched.append(name)
            if clause == "SET":
                reader.take("=")
                after[name] = checked(_assigned(reader, names, before))
            elif clause == "REMOVE":
                after.pop(name, None)
            else:
                amount = names.value(reader.take())
                if amount.keys() != {"N"} or before.get(name, {"N": "0"}).keys() != {"N"}:
                    raise _invalid("ADD takes numbers")
                after[name] = checked(_sum(before.get(name, {"N": "0"}), amount, 1))
            if not reader.word(","):
                break
    if len(set(touched)) != len(touched):
        raise _invalid("Two document paths overlap with each other")
    if {"pk", "sk"} & set(touched):
        raise _invalid("Cannot update attribute: it is part of the key")
    return after


def _assigned(reader: _Reader, names: Names, before: Item) -> Any:
    result = _assigned_operand(reader, names, before)
    while reader.peek() in {"+", "-"}:
        sign = 1 if reader.take() == "+" else -1
        result = _sum(result, _assigned_operand(reader, names, before), sign)
    return result


def _assigned_operand(reader: _Reader, names: Names, before: Item) -> Any:
    token = reader.take()
    if token.startswith(":"):
        return names.value(token)
    if token == "if_not_exists":
        reader.take("(")
        name = names.name(reader.take())
        reader.take(",")
        default = _assigned_operand(reader, names, before)
        reader.take(")")
        return before.get(name, default)
    name = names.name(token)
    if name not in before:
        raise _invalid("The provided expression refers to an attribute that does not exist in the item")
    return before[name]


def _sum(one: Any, other: Any, sign: int) -> dict[str, Any]:
    if one.keys() != {"N"} or other.keys() != {"N"}:
        raise _invalid("An operand in the update expression has an incorrect data type")
    return {"N": format(Decimal(one["N"]) + sign * Decimal(other["N"]), "f")}
