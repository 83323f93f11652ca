"""What the columns of a sample look like. No I/O here.

Which records are looked at follows from where they lie in the file, so the sample is the same however the file was
read: all of the first 128 KiB, then the first record that begins in each 64 KiB, beyond 4 MiB in each MiB.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from heavylift.tables.bounds import (
    DISTINCT_KEPT,
    FIELD_NAME_LENGTH,
    STATISTICS_COLUMNS,
    STATISTICS_FINE_BYTES,
    STATISTICS_WHOLE_BYTES,
    STATISTICS_WIDE_WINDOW_BYTES,
    STATISTICS_WINDOW_BYTES,
)

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}\Z")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_DATE: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])\Z")
_DATETIME: Final = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?"
    r"(?:Z|[+-][0-2][0-9]:?[0-5][0-9])?\Z"
)
_TRUE_FALSE: Final = frozenset({"true", "false", "True", "False", "TRUE", "FALSE"})
_SHOWN_LENGTH: Final = 40
_HASHED_LENGTH: Final = 2_048


class Column:
    """Types, lengths, extremes and a distinct count of one column's values."""

    __slots__ = ("_hashes", "high", "length_max", "length_min", "low", "nulls", "number_high", "number_low", "types")

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.types: dict[str, int] = dict(state.get("types", {}))
        self.nulls: int = state.get("nulls", 0)
        self.length_min: int | None = state.get("length_min")
        self.length_max: int | None = state.get("length_max")
        self.low: str | None = state.get("low")
        self.high: str | None = state.get("high")
        self.number_low: float | int | None = state.get("number_low")
        self.number_high: float | int | None = state.get("number_high")
        # The smallest hashes seen, as a heap of their negatives: [0] is the greatest of them.
        self._hashes: list[int] = [-number for number in state.get("hashes", ())]
        heapq.heapify(self._hashes)

    def state(self) -> dict[str, Any]:
        return {
            "types": dict(self.types),
            "nulls": self.nulls,
            "length_min": self.length_min,
            "length_max": self.length_max,
            "low": self.low,
            "high": self.high,
            "number_low": self.number_low,
            "number_high": self.number_high,
            "hashes": sorted(-number for number in self._hashes),
        }

    def text(self, value: str) -> None:
        """A cell."""
        if value == "":
            self.nulls += 1
            return
        name, number = _type_of(value)
        self._seen(name, value, number)

    def value(self, value: Any) -> None:
        """A JSON value."""
        if value is None:
            self.nulls += 1
        elif isinstance(value, bool):
            self._seen("boolean", "true" if value else "false", None)
        elif isinstance(value, int):
            self._seen("integer", str(value), value)
        elif isinstance(value, float):
            self._seen("number", repr(value), value)
        elif isinstance(value, str):
            self._seen("string", value, None)
        else:
            name = "array" if isinstance(value, list) else "object"
            self.types[name] = self.types.get(name, 0) + 1

    def _seen(self, name: str, text: str, number: float | int | None) -> None:
        self.types[name] = self.types.get(name, 0) + 1
        length = len(text)
        if self.length_min is None or length < self.length_min:
            self.length_min = length
        if self.length_max is None or length > self.length_max:
            self.length_max = length
        if number is not None:
            if self.number_low is None or number < self.number_low:
                self.number_low = number
            if self.number_high is None or number > self.number_high:
                self.number_high = number
        else:
            shown = text[:_SHOWN_LENGTH]
            if self.low is None or shown < self.low:
                self.low = shown
            if self.high is None or shown > self.high:
                self.high = shown
        if length > _HASHED_LENGTH:  # long texts that are alike at both ends and as long count as one
            text = f"{length} {text[: _HASHED_LENGTH // 2]} {text[-_HASHED_LENGTH // 2 :]}"
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number64 = int.from_bytes(digest, "big")
        kept = self._hashes
        if len(kept) < DISTINCT_KEPT:
            if -number64 not in kept:
                heapq.heappush(kept, -number64)
        elif number64 < -kept[0] and -number64 not in kept:
            heapq.heapreplace(kept, -number64)

    def absorb(self, state: Mapping[str, Any]) -> None:
        """Add the values that another column counted, which came later."""
        other = Column(state)
        self.nulls += other.nulls
        for name, many in other.types.items():
            self.types[name] = self.types.get(name, 0) + many
        self.length_min = _least(self.length_min, other.length_min)
        self.length_max = _most(self.length_max, other.length_max)
        self.low, self.high = _least(self.low, other.low), _most(self.high, other.high)
        self.number_low = _least(self.number_low, other.number_low)
        self.number_high = _most(self.number_high, other.number_high)
        self._hashes = sorted({*self._hashes, *other._hashes})[-DISTINCT_KEPT:]
        heapq.heapify(self._hashes)

    @property
    def distinct(self) -> tuple[int, bool]:
        """(number of different values, whether it is exact): by the k smallest hashes."""
        if len(self._hashes) < DISTINCT_KEPT:
            return len(self._hashes), True
        greatest = -self._hashes[0]
        return round((DISTINCT_KEPT - 1) / (greatest / 2**64)), False

    def to_json(self, name: str) -> dict[str, Any]:
        distinct, exact = self.distinct
        described: dict[str, Any] = {
            "name": name,
            "type": _common_type(self.types),
            "types": dict(sorted(self.types.items())),
            "nulls": self.nulls,
            "distinct": distinct,
            "distinct_exact": exact,
        }
        for label, value in (("length_min", self.length_min), ("length_max", self.length_max)):
            if value is not None:
                described[label] = value
        if self.number_low is not None and described["type"] in ("integer", "number"):
            described["min"], described["max"] = self.number_low, self.number_high
        elif self.low is not None:
            described["min"], described["max"] = self.low, self.high
        return described


class Statistics:
    """The columns of the sampled records, in the order of their first coming."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.sampled: int = state.get("sampled", 0)
        self.before: int = state.get("before", -1)
        self.left_out: int = state.get("left_out", 0)
        self._columns: dict[str, Column] = {name: Column(kept) for name, kept in state.get("columns", ())}
        self.total_columns: int | None = state.get("total_columns")

    def state(self) -> dict[str, Any]:
        return {
            "sampled": self.sampled,
            "before": self.before,
            "left_out": self.left_out,
            "columns": [[name, column.state()] for name, column in self._columns.items()],
            "total_columns": self.total_columns,
        }

    def due(self, offset: int) -> bool:
        """Whether the record that begins at ``offset`` is of the sample; to be asked of every record, in order."""
        due = offset >= self.next_at(offset)
        if due:
            self.before = offset
        return due

    def next_at(self, offset: int) -> int:
        """The records from ``offset`` on that begin below this are not of the sample."""
        if offset < STATISTICS_WHOLE_BYTES:
            return 0
        window = STATISTICS_WINDOW_BYTES if self.before < STATISTICS_FINE_BYTES else STATISTICS_WIDE_WINDOW_BYTES
        return (self.before // window + 1) * window

    def composable(self, state: Mapping[str, Any], offset: int) -> bool:
        """Whether what another pass counted, which knew of no sample before ``offset``, is what this one would count
        from there on: the record there is of the sample, and no column was left out."""
        return self.next_at(offset) <= offset and not state["left_out"]

    def absorb(self, state: Mapping[str, Any]) -> None:
        """Add what another pass counted in the records that follow. Asked before: ``composable``."""
        self.sampled += state["sampled"]
        self.before = max(self.before, state["before"])
        for name, kept in state["columns"]:
            if name in self._columns:
                self._columns[name].absorb(kept)
            elif len(self._columns) < STATISTICS_COLUMNS:
                self._columns[name] = Column(kept)
            else:
                self.left_out += kept["nulls"] + sum(kept["types"].values())

    def label(self, names: Iterable[str]) -> None:
        """The columns of a table, from its header."""
        listed = list(names)
        self.total_columns = len(listed)
        for name in listed[:STATISTICS_COLUMNS]:
            self._columns.setdefault(name, Column())

    def row(self, cells: Iterable[str]) -> None:
        """A sampled row of the labelled table."""
        self.sampled += 1
        for column, cell in zip(self._columns.values(), cells, strict=False):
            column.text(cell)

    def record(self, value: Any) -> None:
        """A sampled JSON record: an object's members are the columns."""
        self.sampled += 1
        if not isinstance(value, dict):
            self._column("").value(value)
            return
        for name, member in value.items():
            self._column(name[:FIELD_NAME_LENGTH]).value(member)

    def _column(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            column = Column()
            if len(self._columns) < STATISTICS_COLUMNS:
                self._columns[name] = column
            else:
                self.left_out += 1
        return column

    def to_json(self) -> dict[str, Any]:
        described: dict[str, Any] = {
            "sampled_records": self.sampled,
            "columns": [column.to_json(name) for name, column in self._columns.items()],
        }
        if self.total_columns is not None:
            described["column_count"] = self.total_columns
        return described


def _least(mine: Any, theirs: Any) -> Any:
    """The lesser of two that may be None; of equals the first."""
    return theirs if mine is None or (theirs is not None and theirs < mine) else mine


def _most(mine: Any, theirs: Any) -> Any:
    return theirs if mine is None or (theirs is not None and theirs > mine) else mine


def _type_of(text: str) -> tuple[str, float | int | None]:
    first = text[0]
    if first in "+-.0123456789" and text.isascii():
        if _INTEGER.match(text):
            return "integer", int(text)
        if _NUMBER.match(text):
            number = float(text)
            if math.isfinite(number):
                return "number", number
        if _DATE.match(text):
            return "date", None
        if _DATETIME.match(text):
            return "datetime", None
    elif text in _TRUE_FALSE:
        return "boolean", None
    return "string", None


def _common_type(types: Mapping[str, int]) -> str:
    """The one type of all values; integers among numbers are numbers, any other mixture is ``string`` or ``mixed``."""
    names = set(types)
    if not names:
        return "null"
    if len(names) == 1:
        return next(iter(names))
    if names == {"integer", "number"}:
        return "number"
    if names == {"date", "datetime"}:
        return "datetime"
    return "mixed" if names & {"array", "object"} else "string"
