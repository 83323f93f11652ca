"""How a record lies in an item of the table, what a change of it writes, and when the sweeper looks at it. Pure.

Files, batches and archives are such records: frozen dataclasses with ``status`` and ``version``, one item each, of
which every change makes the next version.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Generic, TypeVar

from heavylift.limits import DUE_SHARDS

Record = TypeVar("Record")
# What clients send as free JSON is kept as its text: DynamoDB would refuse its empty names, numbers of more than 38
# digits and nesting below 32 levels, and would change the numbers that it takes.
JSON_TEXT = frozenset({"metadata", "rules"})


class Form(Generic[Record]):
    """A field is an attribute of the same name; what is None or empty is left out."""

    def __init__(self, record: type[Any], status: type[StrEnum]) -> None:
        self._record, self._status = record, status
        self.names = frozenset(f.name for f in fields(record))
        self._tuples = frozenset(f.name for f in fields(record) if f.default == ())

    def attributes(self, record: Record) -> dict[str, Any]:
        """The fields as plain values; keys and indexes are not among them."""
        values: dict[str, Any] = {"v": 1}
        for f in fields(self._record):
            value = getattr(record, f.name)
            if value is None or value in ((), {}):
                continue
            if f.name in JSON_TEXT:
                value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            values[f.name] = value.value if isinstance(value, StrEnum) else value
        return values

    def record(self, item: Mapping[str, Any]) -> Record:
        """The record of an item; attributes that we do not know are left alone."""
        values = {name: value for name, value in item.items() if name in self.names}
        values["status"] = self._status(values["status"])
        for name in JSON_TEXT & values.keys():
            values[name] = json.loads(values[name])
        for name in self._tuples & values.keys():
            values[name] = tuple(values[name])
        found: Record = self._record(**values)
        return found


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What to set and what to remove to make one item of the other."""
    sets = {name: value for name, value in after.items() if before.get(name) != value}
    return sets, tuple(sorted(before.keys() - after.keys()))


def due_partition(shard: int) -> str:
    """Of the pseudo-tenant ``_``, which no token can name."""
    return f"T#_#DUE#{shard}"


def due_sort_key(due_at: float, owner_id: str = "") -> str:
    return f"{int(due_at * 1000):014d}#{owner_id}"


def due_index(owner_id: str, due_at: float | None) -> dict[str, str]:
    """The attributes that put a record into the sweeper's sparse index; none where nothing is due."""
    if due_at is None:
        return {}
    shard = zlib.crc32(owner_id.encode()) % DUE_SHARDS
    return {"due_pk": due_partition(shard), "due_sk": due_sort_key(due_at, owner_id)}
