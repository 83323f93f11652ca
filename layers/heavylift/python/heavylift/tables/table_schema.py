"""Table Schema (Data Package 2.0): fields, types and constraints, compiled to checks. Pure.

A cell's check answers a bool and remembers what it took (a bounded set), so that repeated values cost one look-up. Only
a refused row is asked for reasons. Patterns run in linear time, by the engine of jsonschema-rs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson

from heavylift.tables.json_schema import compile_schema
from heavylift.tables.rules import RulesError

Cast = Callable[[str], Any]  # the value of a cell; ValueError: it is none of this type
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

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,4000}\Z")  # int() refuses more digits
_PLAIN_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?\Z")
_BOUNDS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_NUMBER: Final = re.compile(r"(?:[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|-?INF|NaN)\Z", re.IGNORECASE)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?\Z")
_DATETIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?\Z"
)
_YEAR: Final = re.compile(r"-?[0-9]{4}\Z")
_YEARMONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])\Z")
_DURATION: Final = re.compile(
    r"-?P(?=.)(?:[0-9]+Y)?(?:[0-9]+M)?(?:[0-9]+D)?(?:T(?=.)(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+(?:\.[0-9]+)?S)?)?\Z"
)
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)*\Z")
_FRACTION_MAX: Final = 6  # digits of a second that datetime holds; the rest changes no verdict


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
            return [("type-error", f"{_shown(text)} is no {self.type}.")]
        return [
            ("constraint-error", f"{_shown(text)} breaks the constraint {name} {_shown(self.limits.get(name))}.")
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

        return known, self._between(good)

    def _between(self, exact: Callable[[str], bool]) -> Callable[[str], object]:
        """As ``exact``, faster for numbers that lie well between their limits: rounding to a double keeps order."""
        if self.type != "number" or self.shape is None or not {name for name, _ in self.checks} <= _BOUNDS:
            return exact
        low, high = float("-inf"), float("inf")
        for name, limit in self.limits.items():
            if name in ("minimum", "exclusiveMinimum"):
                low = max(low, float(limit))
            elif name in ("maximum", "exclusiveMaximum"):
                high = min(high, float(limit))
        shape, missing = _PLAIN_NUMBER.match, self.missing

        def good(text: str) -> bool:
            if shape(text) and low < float(text) < high and text not in missing:
                return True
            return exact(text)

        return good


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
    missing = _texts("missingValues", value.get("missingValues", [""]))
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


def _texts(name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise RulesError("schema", f"{name} is a list")
    plain: list[Any] = [one.get("value") if isinstance(one, dict) else one for one in value]
    if not all(isinstance(one, str) for one in plain):
        raise RulesError("schema", f"{name} is a list of texts")
    return frozenset(plain)


def _field(value: Any, number: int, missing: frozenset[str]) -> Field:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or not value["name"]:
        raise RulesError("schema", f"field {number} has no name")
    label = f"field {value['name']!r}"
    for name in value:
        if name not in _FIELD_NAMES:
            raise RulesError("schema", f"{label}: {name} is no property of a field")
    kind = value.get("type", "any")
    form = value.get("format", "default")
    if not isinstance(kind, str) or kind not in _CASTS:
        raise RulesError("schema", f"{label}: the type {_shown(kind)} is unknown; there are {', '.join(_CASTS)}")
    if not isinstance(form, str):
        raise RulesError("schema", f"{label}: format is a text")
    cast = _CASTS[kind](value, form, label)
    if "missingValues" in value:
        missing = _texts("missingValues", value["missingValues"])
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
        allowed = _texts("categories", value["categories"])
        checks.append(("categories", lambda text, _value: text in allowed))
    shape = {"integer": _INTEGER, "number": _NUMBER, "duration": _DURATION, "yearmonth": _YEARMONTH}.get(kind)
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
                "schema", f"{label}: the pattern {_shown(limit)} is none that runs in linear time"
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
        raise RulesError("schema", f"{label}: {name} {_shown(limit)} is no value of this type") from None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return f"“{text[:60]}{'…' if len(text) > 60 else ''}”"


# --- types ---------------------------------------------------------------------------------------------------


def _string(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default":
        return lambda text: text
    if form == "email":
        return lambda text: _matched(_EMAIL, text)
    if form == "uri":
        return _uri
    if form == "uuid":
        return lambda text: _matched(_UUID, text)
    if form == "binary":
        return _binary
    raise RulesError("schema", f"{label}: format {form!r} is none of default, email, uri, uuid, binary")


_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def _matched(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.match(text):
        raise ValueError(text)
    return text


def _uri(text: str) -> str:
    parts = urlsplit(text)
    if not parts.scheme or not (parts.netloc or parts.path) or " " in text:
        raise ValueError(text)
    return text


def _binary(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(text) from None
    return text


def _bare(text: str) -> str:
    """Without what stands around a number where bareNumber is false: a currency, a percent sign."""
    found = re.search(r"[+-]?[0-9.].*[0-9.]|[0-9]", text)
    if not found:
        raise ValueError(text)
    return found.group()


def _integer(value: Mapping[str, Any], form: str, label: str) -> Cast:
    group, bare = value.get("groupChar"), value.get("bareNumber", True)

    def cast(text: str) -> int:
        if not bare:
            text = _bare(text)
        if group:
            text = text.replace(group, "")
        if not _INTEGER.match(text):
            raise ValueError(text)
        return int(text)

    return cast


def _number(value: Mapping[str, Any], form: str, label: str) -> Cast:
    group, bare, point = value.get("groupChar"), value.get("bareNumber", True), value.get("decimalChar", ".")

    def cast(text: str) -> Decimal:
        if not bare:
            text = _bare(text)
        if group:
            text = text.replace(group, "")
        if point != ".":
            if "." in text:
                raise ValueError(text)
            text = text.replace(point, ".")
        if not _NUMBER.match(text):
            raise ValueError(text)
        return Decimal(text)

    return cast


def _boolean(value: Mapping[str, Any], form: str, label: str) -> Cast:
    true = _texts("trueValues", value.get("trueValues", ["true", "True", "TRUE", "1"]))
    false = _texts("falseValues", value.get("falseValues", ["false", "False", "FALSE", "0"]))

    def cast(text: str) -> bool:
        if text in true:
            return True
        if text in false:
            return False
        raise ValueError(text)

    return cast


def _strptime(form: str, label: str) -> Callable[[str], datetime]:
    if "%" not in form:
        raise RulesError("schema", f"{label}: format is default, any or a pattern like %d/%m/%Y")

    def cast(text: str) -> datetime:
        if not text.isascii():
            raise ValueError(text)
        return datetime.strptime(text, form)

    return cast


def _iso(text: str) -> str:
    """As fromisoformat wants it: no more digits of a second than it holds."""
    return re.sub(rf"(\.[0-9]{{{_FRACTION_MAX}}})[0-9]+", r"\1", text)


def _date(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default" or form == "any":
        return lambda text: date.fromisoformat(_matched(_DATE, text))
    pattern = _strptime(form, label)
    return lambda text: pattern(text).date()


def _time(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default" or form == "any":
        return lambda text: time.fromisoformat(_iso(_matched(_TIME, text))).replace(tzinfo=None)
    pattern = _strptime(form, label)
    return lambda text: pattern(text).time()


def _datetime(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form == "default" or form == "any":
        # A time without a zone is taken for UTC where it is compared.
        def cast(text: str) -> datetime:
            moment = datetime.fromisoformat(_iso(_matched(_DATETIME, text)))
            return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta())

        return cast
    return _strptime(form, label)


def _year(value: Mapping[str, Any], form: str, label: str) -> Cast:
    return lambda text: int(_matched(_YEAR, text))


def _yearmonth(value: Mapping[str, Any], form: str, label: str) -> Cast:
    return lambda text: _matched(_YEARMONTH, text)


def _duration(value: Mapping[str, Any], form: str, label: str) -> Cast:
    return lambda text: _matched(_DURATION, text)


def _json_of(wanted: type, name: str) -> Callable[[Mapping[str, Any], str, str], Cast]:
    def make(value: Mapping[str, Any], form: str, label: str) -> Cast:
        def cast(text: str) -> Any:
            found = orjson.loads(text.encode("utf-8", "surrogatepass"))
            if not isinstance(found, wanted):
                raise ValueError(text)
            return found

        return cast

    return make


def _list(value: Mapping[str, Any], form: str, label: str) -> Cast:
    delimiter = value.get("delimiter", ",")
    item = value.get("itemType", "string")
    if item not in _CASTS or not isinstance(delimiter, str) or not delimiter:
        raise RulesError("schema", f"{label}: delimiter is a text and itemType a type")
    cast = _CASTS[item]({}, "default", label)
    return lambda text: [cast(part) for part in text.split(delimiter)]


def _geopoint(value: Mapping[str, Any], form: str, label: str) -> Cast:
    if form not in ("default", "array", "object"):
        raise RulesError("schema", f"{label}: format {form!r} is none of default, array, object")

    def cast(text: str) -> tuple[Decimal, Decimal]:
        if form == "default":
            parts: Any = [part.strip() for part in text.split(",")]
        else:
            found = orjson.loads(text.encode("utf-8", "surrogatepass"))
            parts = (
                [found["lon"], found["lat"]]
                if form == "object" and isinstance(found, dict) and {"lon", "lat"} <= found.keys()
                else found
            )
        if not isinstance(parts, list) or len(parts) != 2:
            raise ValueError(text)
        lon, lat = (Decimal(_matched(_NUMBER, str(part))) for part in parts)
        if not (-180 <= lon <= 180 and -90 <= lat <= 90):
            raise ValueError(text)
        return lon, lat

    return cast


_CASTS: Final[Mapping[str, Callable[[Mapping[str, Any], str, str], Cast]]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "object": _json_of(dict, "object"),
    "array": _json_of(list, "array"),
    "list": _list,
    "datetime": _datetime,
    "date": _date,
    "time": _time,
    "year": _year,
    "yearmonth": _yearmonth,
    "duration": _duration,
    "geopoint": _geopoint,
    "geojson": _json_of(dict, "geojson"),
    "any": lambda value, form, label: lambda text: text,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Fields bound to the columns of one header; None: a column that the schema says nothing of."""

    columns: tuple[Field | None, ...]

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
