"""What a DynamoDB request asks for, read from its JSON: which actions on which resources, which items it
writes, what it costs. No I/O here.

Facts: Amazon DynamoDB API reference; "Actions, resources, and condition keys for Amazon DynamoDB"
(a transaction needs the permission of each of its parts); "Capacity unit consumption for write operations".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Item = dict[str, Any]
WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})
_TRANSACTION_ACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
    "Get": "GetItem",
}
WRITE_UNIT_BYTES = 1024  # one write unit covers 1 KB of the larger of old and new item


def permissions(action: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """(IAM action, table name, index name or None) for everything the call needs."""
    if action in ("BatchWriteItem", "BatchGetItem"):
        for table in body.get("RequestItems") or {}:
            yield f"dynamodb:{action}", str(table), None
    elif action in ("TransactWriteItems", "TransactGetItems"):
        for part in body.get("TransactItems") or []:
            for kind, fields in part.items():
                yield f"dynamodb:{_TRANSACTION_ACTIONS.get(kind, kind)}", str(fields.get("TableName")), None
    else:
        yield f"dynamodb:{action}", str(body.get("TableName", "*")), body.get("IndexName")


def written_keys(
    action: str, body: Mapping[str, Any], key_names: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, Item]]:
    """(table, key) of every item that the call may write; ``key_names`` by table."""
    found: list[tuple[str, Item]] = []

    def add(table: str, fields: Mapping[str, Any]) -> None:
        source = fields.get("Key") or fields.get("Item") or {}
        names = key_names.get(table, ())
        if names and all(name in source for name in names):
            found.append((table, {name: source[name] for name in names}))

    if action in ("PutItem", "UpdateItem", "DeleteItem"):
        add(_table_name(body.get("TableName")), body)
    elif action == "BatchWriteItem":
        for table, requests in (body.get("RequestItems") or {}).items():
            for request in requests:
                for fields in request.values():
                    add(_table_name(table), fields)
    elif action == "TransactWriteItems":
        for part in body.get("TransactItems") or []:
            for kind, fields in part.items():
                if kind != "ConditionCheck":
                    add(_table_name(fields.get("TableName")), fields)
    return found


def _table_name(name: object) -> str:
    """A table may be named by its ARN."""
    return str(name).rpartition("/")[2] if str(name).startswith("arn:") else str(name)


def write_units(action: str, size_before: int, size_after: int) -> int:
    """Units of one written item: its larger size in KB, at least one, doubled in a transaction; no indexes."""
    units = max(1, math.ceil(max(size_before, size_after) / WRITE_UNIT_BYTES))
    return units * 2 if action == "TransactWriteItems" else units
