"""What a file must be like: the envelope of rules, checked itself. Pure.

    {"min_records": 1, "max_error_rate": 0.01, "schema": {...}}

``schema`` is a JSON Schema (2020-12) for JSON and JSON lines and a Table Schema (Data Package 2.0) for CSV, told apart
by its list ``fields``; ``dialect`` is a Table Dialect.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.tables.bounds import RECORD_BYTES, UNIQUE_SETS

FORMATS: Final = ("CSV", "TSV", "JSONL", "JSON", "Text")
ENCODINGS: Final = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "windows-1252")
_ENCODING_NAMES: Final = {
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "ascii": "utf-8",
    "us-ascii": "utf-8",
    "utf16": "utf-16",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "cp1252": "windows-1252",
}
_FORMAT_NAMES: Final = {
    "csv": "CSV",
    "text/csv": "CSV",
    "tsv": "TSV",
    "text/tab-separated-values": "TSV",
    "jsonl": "JSONL",
    "ndjson": "JSONL",
    "application/x-ndjson": "JSONL",
    "application/jsonl": "JSONL",
    "json": "JSON",
    "application/json": "JSON",
    "text": "Text",
    "txt": "Text",
    "text/plain": "Text",
}
_PRESENT: Final = ("error", "warn", "allow")
_OTHER_KINDS: Final = ("format", "type")


class RulesError(HeavyliftError):
    """The rules themselves are wrong; ``facts`` has ``rule``, the name of the wrong one."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__("invalid_rules", f"{rule}: {message}", rule=rule)


@dataclass(frozen=True, slots=True)
class Rules:
    """See docs/validation.md. None: not limited; ``type_mismatch``: as the deployment has it."""

    max_file_size: int | None = None
    allowed_formats: tuple[str, ...] | None = None
    min_records: int | None = None
    max_records: int | None = None
    max_record_bytes: int = RECORD_BYTES
    max_errors: int | None = None
    max_error_rate: float | None = None
    encoding: str | None = None
    unique_keys: tuple[tuple[str, ...], ...] = ()
    duplicate_members: str = "allow"
    formula_cells: str = "allow"
    control_characters: str = "error"
    type_mismatch: str | None = None
    schema: Mapping[str, Any] | bool | None = None
    dialect: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = hashlib.sha256(b"{}").hexdigest()

    @property
    def errors_tolerated(self) -> float:
        """How many errors in records a valid file may have."""
        if self.max_errors is not None:
            return self.max_errors
        return 0 if self.max_error_rate is None else math.inf

    @property
    def is_table_schema(self) -> bool:
        return isinstance(self.schema, Mapping) and isinstance(self.schema.get("fields"), list)


NAMES: Final = tuple(f.name for f in fields(Rules) if f.name != "sha256")


def canonical(value: Any) -> bytes:
    """One text for equal JSON values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def parse_rules(value: Any) -> Rules:
    """The rules of a JSON value (None: no rules). RulesError."""
    if value is None:
        return Rules()
    if not isinstance(value, Mapping):
        raise RulesError("rules", f"an object is wanted, not {_kind(value)}")
    unknown = sorted(str(name) for name in value if name not in NAMES)
    if unknown:
        raise RulesError(unknown[0], f"there is no such rule; there are {', '.join(NAMES)}")
    given: dict[str, Any] = {}
    for name, wanted in value.items():
        if wanted is None:
            continue
        given[name] = _PARSERS[name](name, wanted)
    low, high = given.get("min_records"), given.get("max_records")
    if low is not None and high is not None and low > high:
        raise RulesError("min_records", f"{low} is more than max_records, {high}")
    try:
        digest = hashlib.sha256(canonical(value)).hexdigest()
    except (TypeError, ValueError, RecursionError):
        raise RulesError("rules", "this is no JSON") from None
    rules = Rules(**given, sha256=digest)
    _check_schema(rules)
    return rules


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RulesError(name, f"a whole number from 0 is wanted, not {_shown(value)}")
    return value


def _record_bytes(name: str, value: Any) -> int:
    if not 1 <= _count(name, value) <= RECORD_BYTES:
        raise RulesError(name, f"1 to {RECORD_BYTES} is wanted, not {value}")
    return int(value)


def _rate(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise RulesError(name, f"a number from 0 to 1 is wanted, not {_shown(value)}")
    return float(value)


def _formats(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise RulesError(name, "a list of format names is wanted")
    known = []
    for one in value:
        plain = one.lower().lstrip(".").split(";")[0].strip()
        if plain not in _FORMAT_NAMES and plain not in _other_formats():
            raise RulesError(name, f"{_shown(one)} is the name of no format, no media type and no extension")
        # Formats that are no tables are allowed or not by their own name.
        known.append(_FORMAT_NAMES.get(plain, plain))
    return tuple(dict.fromkeys(known))


@cache
def _other_formats() -> frozenset[str]:
    """Names, media types and extensions of all that can be told by content."""
    from heavylift.limits import TYPES
    from heavylift.sniff import MEDIA_TYPES

    names = {one.lower() for one in MEDIA_TYPES} | {media_type for _, media_type in MEDIA_TYPES.values()}
    for rule in TYPES:
        names |= {rule.media_type, *rule.extensions, *(one.lower() for one in rule.formats)}
    return frozenset(names)


def _encoding(name: str, value: Any) -> str:
    plain = value.lower().replace("_", "-") if isinstance(value, str) else ""
    found = _ENCODING_NAMES.get(plain, plain)
    if found not in ENCODINGS:
        raise RulesError(name, f"one of {', '.join(ENCODINGS)} is wanted, not {_shown(value)}")
    return found


def _keys(name: str, value: Any) -> tuple[tuple[str, ...], ...]:
    """``"id"``, ``["id", "email"]`` (each by itself) or ``[["first", "last"]]`` (together)."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given:
        raise RulesError(name, "a list of names, or of lists of names, is wanted")
    keys = []
    for one in given:
        parts = [one] if isinstance(one, str) else one
        if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
            raise RulesError(name, "a list of names, or of lists of names, is wanted")
        keys.append(tuple(parts))
    if len(keys) > UNIQUE_SETS:
        raise RulesError(name, f"at most {UNIQUE_SETS} keys are kept apart")
    return tuple(keys)


def _presence(name: str, value: Any) -> str:
    if value not in _PRESENT:
        raise RulesError(name, f"one of {', '.join(_PRESENT)} is wanted, not {_shown(value)}")
    return str(value)


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RulesError(name, f"an object is wanted, not {_kind(value)}")
    return value


def _schema(name: str, value: Any) -> Mapping[str, Any] | bool:
    return value if isinstance(value, bool) else _object(name, value)


_PARSERS: Final[Mapping[str, Any]] = {
    "max_file_size": _count,
    "allowed_formats": _formats,
    "min_records": _count,
    "max_records": _count,
    "max_record_bytes": _record_bytes,
    "max_errors": _count,
    "max_error_rate": _rate,
    "encoding": _encoding,
    "unique_keys": _keys,
    "duplicate_members": _presence,
    "formula_cells": _presence,
    "control_characters": _presence,
    "type_mismatch": _presence,
    "schema": _schema,
    "dialect": _object,
}


def _check_schema(rules: Rules) -> None:
    """What is wrong with a schema or a dialect is said before a file is read."""
    from heavylift.tables.dialect import parse_dialect

    parse_dialect(rules.dialect, "CSV")
    if rules.schema is None:
        return
    if rules.is_table_schema:
        from heavylift.tables.table_schema import parse_table_schema

        parse_table_schema(rules.schema)
    else:
        from heavylift.tables.json_schema import compile_schema
        from heavylift.tables.schema_cost import check_cost

        check_cost(rules.schema)
        compile_schema(rules.schema)


def _kind(value: Any) -> str:
    for types, words in (
        ((bool,), "true or false"),
        ((int, float), "a number"),
        ((str,), "a text"),
        ((list, tuple), "a list"),
    ):
        if isinstance(value, types):
            return words
    return "null" if value is None else "an object"


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | bool) else _kind(value)
