"""Table Schema (Data Package 2.0): fields, types and constraints, compiled to checks. Pure.

A cell's check answers a bool and remembers what it took (a bounded set), so that repeated values cost one look-up. Only
a refused row is asked for reasons. Patterns run in linear time, by the engine of jsonschema-rs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import InvalidOperation
from typing import Any, Final, cast

import orjson

from heavylift.tables.field_types import CASTS, DURATION, INTEGER, NUMBER, YEARMONTH, Cast, shown, texts
from heavylift.tables.json_schema import compile_schema
from heavylift.tables.rules import RulesError

MEMO_MAX: Final = 4_096  # accepted texts remembered per column
_MEMO_LENGTH: Final = 64

_SCHEMA_NAMES: Final = (
    "fields",
    "missingValues",
    "primaryKey",
    "uniqueKeys",
    "fieldsMatch",
    "$schema",
    "name",
    "title",
    "description",
    "homepage",
    "version",
    "contributors",
    "keywords",
    "examples",
)
_FIELD_NAMES: Final = (
    "name",
    "type",
    "format",
    "constraints",
    "title",
    "description",
    "example",
    "examples",
    "rdfType",
    "missingValues",
    "categories",
    "categoriesOrdered",
    "trueValues",
    "falseValues",
    "bareNumber",
    "groupChar",
    "decimalChar",
    "delimiter",
    "itemType",
)
_CONSTRAINTS: Final = (
    "required",
    "unique",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "pattern",
    "enum",
    "jsonSchema",
)
FIELDS_MATCH: Final = ("exact", "equal", "subset", "superset", "partial")

_PLAIN_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?\Z")
_BOUNDS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})


@dataclass(frozen=True, slots=True)
class Field:
    """One column's rules. ``cast`` answers the value or raises ValueError."""

    name: str
    type: str
    missing: frozenset[str]
    cast: Cast
    required: bool = False
    unique: bool = False
    checks: tuple[tuple[str, Callable[[str, Any], bool]], ...] = ()  # (constraint, holds(text, value))
    textual: bool = False  # any text is of its type
    limits: Mapping[str, Any] = field(default_factory=dict)
    shape: re.Pattern[str] | None = None  # decides alone whether a text is of the type

    def faults(self, text: str) -> list[tuple[str, str]]:
        """(code, message) of everything that is wrong with a cell."""
        if text in self.missing:
            return [("constraint-error", f"{self.name} is required.")] if self.required else []
        try:
            value = self.cast(text)
        except (ValueError, InvalidOperation, OverflowError):
            return [("type-error", f"{shown(text)} is no {self.type}.")]
        return [
            ("constraint-error", f"{shown(text)} breaks the constraint {name} {shown(self.limits.get(name))}.")
            for name, holds in self.checks
            if not holds(text, value)
        ]

    def check(self) -> tuple[set[str], Callable[[str], object]] | None:
        """(texts known to be good, whether another one is); None: every cell is good."""
        if self.textual and not self.required and not self.checks:
            return None
        known: set[str] = set() if self.required else set(self.missing)
        missing, required, cast = self.missing, self.required, self.cast
        if self.shape is not None and not self.checks and not any(map(self.shape.match, missing)):
            return known, self.shape.match
        holds = tuple(one for _, one in self.checks)
        space = MEMO_MAX

        def good(text: str) -> bool:
            nonlocal space
            if text in missing:
                return not required
            try:
                value = cast(text)
            except (ValueError, InvalidOperation, OverflowError):
                return False
            for one in holds:
                if not one(text, value):
                    return False
            if space and len(text) <= _MEMO_LENGTH:
                space -= 1
                known.add(text)
            return True

        return known, good

    def column_check(self) -> Callable[[Collection[str]], bool] | None:
        """As ``check``, for many cells at once; None: every cell is good."""
        made = self.check()
        if made is None:
            return None
        known, good = made

        def all_good(cells: Collection[str]) -> bool:
            return all(map(good, set(cells).difference(known)))

        # What is hardly ever there twice is looked at as it comes.
        if (quick := self._between()) is not None:
            return lambda cells: quick(cells) or all_good(cells)
        if self.shape is not None and good == self.shape.match:
            return lambda cells: all(map(good, cells)) or all_good(cells)
        return all_good

    def _between(self) -> Callable[[Collection[str]], bool] | None:
        """Whether all numbers lie well between their limits: rounding to a double keeps order. False: ask again."""
        if self.type != "number" or self.shape is None or not {name for name, _ in self.checks} <= _BOUNDS:
            return None
        low, high = float("-inf"), float("inf")
        for name, limit in self.limits.items():
            if name in ("minimum", "exclusiveMinimum"):
                low = max(low, float(limit))
            elif name in ("maximum", "exclusiveMaximum"):
                high = min(high, float(limit))
        plain, missing = _PLAIN_NUMBER.match, self.missing

        def inside(cells: Collection[str]) -> bool:
            if not all(map(plain, cells)) or not missing.isdisjoint(cells):
                return False
            numbers = list(map(float, cells))
            return low < min(numbers) and max(numbers) < high

        return inside


@dataclass(frozen=True, slots=True)
class TableSchema:
    fields: tuple[Field, ...]
    match: str = "exact"
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()


def parse_table_schema(value: Any) -> TableSchema:
    """RulesError where something is not as the standard has it, or not supported."""
    for name in value:
        if name == "foreignKeys":
            raise RulesError("schema", "foreignKeys are not supported: they need another file")
        if name not in _SCHEMA_NAMES:
            raise RulesError("schema", f"{name} is no property of a Table Schema")
    missing = texts("missingValues", value.get("missingValues", [""]))
    match = value.get("fieldsMatch", "exact")
    match = match[0] if isinstance(match, list) and len(match) == 1 else match
    if match not in FIELDS_MATCH:
        raise RulesError("schema", f"fieldsMatch is one of {', '.join(FIELDS_MATCH)}")
    fields = tuple(_field(one, number, missing) for number, one in enumerate(value["fields"], 1))
    names = [one.name for one in fields]
    if not fields:
        raise RulesError("schema", "fields is empty")
    if len(set(names)) < len(names):
        raise RulesError("schema", "two fields have the same name")
    primary = _key("primaryKey", value.get("primaryKey", []), names)
    listed = value.get("uniqueKeys", [])
    if not isinstance(listed, list):
        raise RulesError("schema", "uniqueKeys is a list of lists of names")
    unique = tuple(_key("uniqueKeys", one, names) for one in listed)
    singles = tuple((one.name,) for one in fields if one.unique)
    return TableSchema(fields, match, primary, unique + singles)


def _key(name: str, value: Any, names: Sequence[str]) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise RulesError("schema", f"{name} is a name or a list of names")
    for part in parts:
        if part not in names:
            raise RulesError("schema", f"{name} names {part!r}, which is no field")
    return tuple(parts)


def _field(value: Any, number: int, missing: frozenset[str]) -> Field:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or not value["name"]:
        raise RulesError("schema", f"field {number} has no name")
    label = f"field {value['name']!r}"
    for name in value:
        if name not in _FIELD_NAMES:
            raise RulesError("schema", f"{label}: {name} is no property of a field")
    kind = value.get("type", "any")
    form = value.get("format", "default")
    if not isinstance(kind, str) or kind not in CASTS:
        raise RulesError("schema", f"{label}: the type {shown(kind)} is unknown; there are {', '.join(CASTS)}")
    if not isinstance(form, str):
        raise RulesError("schema", f"{label}: format is a text")
    cast = CASTS[kind](value, form, label)
    if "missingValues" in value:
        missing = texts("missingValues", value["missingValues"])
    constraints = value.get("constraints", {})
    if not isinstance(constraints, Mapping):
        raise RulesError("schema", f"{label}: constraints is an object")
    checks: list[tuple[str, Callable[[str, Any], bool]]] = []
    for name, limit in constraints.items():
        if name not in _CONSTRAINTS:
            raise RulesError(
                "schema", f"{label}: the constraint {name} is unknown; there are {', '.join(_CONSTRAINTS)}"
            )
        if name in ("required", "unique"):
            if not isinstance(limit, bool):
                raise RulesError("schema", f"{label}: {name} is true or false")
            continue
        checks.append((name, _constraint(name, limit, cast, label)))
    if "categories" in value:
        allowed = texts("categories", value["categories"])
        checks.append(("categories", lambda text, _value: text in allowed))
    shape = {"integer": INTEGER, "number": NUMBER, "duration": DURATION, "yearmonth": YEARMONTH}.get(kind)
    return Field(
        value["name"],
        kind,
        missing,
        cast,
        bool(constraints.get("required", False)),
        bool(constraints.get("unique", False)),
        tuple(checks),
        kind in ("any", "string") and form == "default",
        dict(constraints),
        shape if set(value) <= {"name", "type", "constraints", "title", "description"} else None,
    )


def _constraint(name: str, limit: Any, cast: Cast, label: str) -> Callable[[str, Any], bool]:
    if name in ("minLength", "maxLength"):
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise RulesError("schema", f"{label}: {name} is a whole number")
        if name == "minLength":
            return lambda text, value: len(value if isinstance(value, list | dict) else text) >= limit
        return lambda text, value: len(value if isinstance(value, list | dict) else text) <= limit
    if name == "pattern":
        if not isinstance(limit, str):
            raise RulesError("schema", f"{label}: pattern is a text")
        try:
            matcher = compile_schema({"pattern": f"^(?:{limit})$"})
        except RulesError:
            raise RulesError(
                "schema", f"{label}: the pattern {shown(limit)} is none that runs in linear time"
            ) from None
        return lambda text, _value: bool(matcher.is_valid(text)) and not text.endswith("\n")
    if name == "jsonSchema":
        validator = compile_schema(limit)
        return lambda _text, value: bool(validator.is_valid(value))
    if name == "enum":
        if not isinstance(limit, list) or not limit:
            raise RulesError("schema", f"{label}: enum is a list")
        allowed = [_limit_value(one, cast, name, label) for one in limit]
        try:
            return (lambda known: lambda _text, value: value in known)(frozenset(allowed))
        except TypeError:
            return lambda _text, value: value in allowed
    bound = _limit_value(limit, cast, name, label)
    if name == "minimum":
        return lambda _text, value: bool(value >= bound)
    if name == "maximum":
        return lambda _text, value: bool(value <= bound)
    if name == "exclusiveMinimum":
        return lambda _text, value: bool(value > bound)
    return lambda _text, value: bool(value < bound)


def _limit_value(limit: Any, cast: Cast, name: str, label: str) -> Any:
    """A limit as the schema has it, or as a cell would."""
    try:
        if isinstance(limit, bool):
            return cast("true" if limit else "false")
        return cast(limit if isinstance(limit, str) else orjson.dumps(limit).decode())
    except (ValueError, InvalidOperation, TypeError):
        raise RulesError("schema", f"{label}: {name} {shown(limit)} is no value of this type") from None


@dataclass(frozen=True, slots=True)
class Plan:
    """Fields bound to the columns of one header; None: a column that the schema says nothing of."""

    columns: tuple[Field | None, ...]

    def checks(self, index: int) -> bool:
        """Whether anything is asked of a column's cells."""
        one = self.columns[index] if index < len(self.columns) else None
        return one is not None and one.check() is not None

    def row_check(self) -> Callable[[list[str]], bool] | None:
        """Whether all cells of a row are good, as one function; None: all rows are.

        Written out as one expression: a loop over the columns would cost more than the checks.
        """
        names: dict[str, Any] = {}
        terms = []
        for index, one in enumerate(self.columns):
            made = one.check() if one is not None else None
            if made is not None:
                names[f"known{index}"], names[f"good{index}"] = made
                terms.append(f"(row[{index}] in known{index} or good{index}(row[{index}]))")
        if not terms:
            return None
        # Nested expressions have a limit; rows of thousands of checked columns take them in groups.
        groups = [terms[at : at + _GROUP] for at in range(0, len(terms), _GROUP)]
        for number, group in enumerate(groups):
            names[f"group{number}"] = eval("lambda row: " + " and ".join(group), names)
        if len(groups) == 1:
            return cast("Callable[[list[str]], bool]", names["group0"])
        parts = [names[f"group{number}"] for number in range(len(groups))]
        return lambda row: all(part(row) for part in parts)

    def columns_check(self) -> Callable[[Iterable[list[str]]], bool] | None:
        """As ``row_check``, for many rows of the same width at once."""
        made = [(index, one.column_check()) for index, one in enumerate(self.columns) if one is not None]
        checks = [(index, check) for index, check in made if check is not None]
        if not checks:
            return None

        def good(rows: Iterable[list[str]]) -> bool:
            cells = list(zip(*rows, strict=True))
            return all(check(cells[index]) for index, check in checks)

        return good


_GROUP: Final = 64


def bind(schema: TableSchema, header: Sequence[str] | None, width: int) -> tuple[Plan, list[tuple[str, str, int]]]:
    """The plan for a header (None: the file has none) and what is wrong with it: (code, message, column)."""
    fields = schema.fields
    faults: list[tuple[str, str, int]] = []
    if header is None:
        columns = (*fields[:width], *([None] * (width - len(fields))))
        return Plan(columns), faults
    names = {one.name: one for one in fields}
    if schema.match == "exact":
        for index, (label, one) in enumerate(zip(header, fields, strict=False)):
            if label != one.name:
                faults.append(("incorrect-label", f"The schema calls this column {one.name!r}.", index))
        for one in fields[len(header) :]:
            faults.append(("missing-label", f"There is no column {one.name!r}.", len(header)))
        for index in range(len(fields), len(header)):
            faults.append(("extra-label", "The schema has no such field.", index))
        columns = (*fields[: len(header)], *([None] * (len(header) - len(fields))))
        return Plan(columns), faults
    there = [label for label in header if label in names]
    absent = [one.name for one in fields if one.name not in header]
    extra = [index for index, label in enumerate(header) if label not in names]
    if schema.match in ("equal", "subset"):  # subset: the data has all fields of the schema, and may have more
        faults += [("missing-label", f"There is no column {name!r}.", len(header)) for name in absent]
    if schema.match in ("equal", "superset"):  # superset: the schema has all columns of the data, and may have more
        faults += [("extra-label", "The schema has no such field.", index) for index in extra]
    if schema.match == "partial" and not there:
        faults.append(("missing-label", "None of the schema's fields is there.", 0))
    return Plan(tuple(names.get(label) for label in header)), faults
