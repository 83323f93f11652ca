"""What a DynamoDB request asks for, read from its JSON: which actions on which resources, which items it
reads and writes. No I/O here.

Facts: Amazon DynamoDB API reference; "Actions, resources, and condition keys for Amazon DynamoDB"
(a transaction needs the permission of each of its parts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
READS = frozenset({"GetItem", "BatchGetItem", "TransactGetItems", "Query", "Scan"})


@dataclass(frozen=True, slots=True)
class Touched:
    """An item that a call names by its key."""

    table: str
    key: Item
    writes: bool = True
    """False for a read, and for a transaction's condition check."""
    consistent: bool = False


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


def touched(action: str, body: Mapping[str, Any], key_names: Mapping[str, tuple[str, ...]]) -> list[Touched]:
    """Every item that the call names, in its order; ``key_names`` by table. Query and Scan name none."""
    found: list[Touched] = []

    def add(table: object, fields: Mapping[str, Any], *, writes: bool = True, consistent: bool = False) -> None:
        name = table_name(table)
        names = key_names.get(name, ())
        if names and all(key in fields for key in names):
            found.append(Touched(name, {key: fields[key] for key in names}, writes, consistent))

    def of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return fields.get("Key") or fields.get("Item") or {}

    if action in ("PutItem", "UpdateItem", "DeleteItem"):
        add(body.get("TableName"), of(body))
    elif action == "GetItem":
        add(body.get("TableName"), of(body), writes=False, consistent=bool(body.get("ConsistentRead")))
    elif action == "BatchWriteItem":
        for table, requests in (body.get("RequestItems") or {}).items():
            for request in requests:
                for fields in request.values():
                    add(table, of(fields))
    elif action == "BatchGetItem":
        for table, wanted in (body.get("RequestItems") or {}).items():
            for key in wanted.get("Keys") or []:
                add(table, key, writes=False, consistent=bool(wanted.get("ConsistentRead")))
    elif action in ("TransactWriteItems", "TransactGetItems"):
        for part in body.get("TransactItems") or []:
            for kind, fields in part.items():
                add(fields.get("TableName"), of(fields), writes=kind not in ("ConditionCheck", "Get"))
    return found


def evaluated(body: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The Query or Scan that returns, whole and unfiltered, the ``count`` items that another one looked at."""
    kept = ("TableName", "IndexName", "KeyConditionExpression", "ExclusiveStartKey", "ScanIndexForward")
    wanted: dict[str, Any] = {name: body[name] for name in (*kept, "ConsistentRead") if name in body}
    condition = str(body.get("KeyConditionExpression", ""))
    for field in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
        used = {
            n: v for n, v in (body.get(field) or {}).items() if re.search(re.escape(n) + r"(?![A-Za-z0-9_])", condition)
        }
        if used:
            wanted[field] = used
    return {**wanted, "Limit": max(1, count)}


def table_name(name: object) -> str:
    """A table may be named by its ARN."""
    return str(name).rpartition("/")[2] if str(name).startswith("arn:") else str(name)
