"""DynamoDB in memory, for fault tests: the expressions that heavylift writes, and the limits that DynamoDB sets.

Limits as in the Amazon DynamoDB developer guide, "Quotas" and "Data types": partition keys up to 2 048 bytes and sort
keys up to 1 024 (of indexes too, and never empty), items up to 400 KB, numbers of 38 digits, 32 levels of nesting,
attribute names of at least one character.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.doubles.answers import refusal

KEY_BYTES_MAX = {"pk": 2048, "sk": 1024}


def _invalid(message: str) -> Exception:
    return refusal("ValidationException", 400, "DynamoDB", message)


def _number(text: str) -> str:
    """The text as DynamoDB gives it back: no exponent, no trailing zeros."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise _invalid(f"no number: {text}") from None
    if not number.is_finite():
        raise _invalid(f"no finite number: {text}")
    digits = number.normalize().as_tuple().digits
    if len(digits) > 38 or not (number == 0 or Decimal("1e-130") <= abs(number) < Decimal("1e126")):
        raise _invalid(f"a number has at most 38 digits: {text}")
    plain = format(number.normalize(), "f")
    return "0" if number == 0 else plain


def _checked(attribute: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    if depth > 32:
        raise _invalid("nested deeper than 32 levels")
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            value.encode()
            return {"S": value}
        case "N":
            return {"N": _number(value)}
        case "L":
            return {"L": [_checked(item, depth + 1) for item in value]}
        case "M":
            if "" in value:
                raise _invalid("an attribute name has at least one character")
            return {"M": {name: _checked(item, depth + 1) for name, item in value.items()}}
        case "BOOL" | "NULL" | "B":
            return {kind: value}
    raise _invalid(f"unknown type {kind}")


def _bytes_of(attribute: Mapping[str, Any]) -> int:
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            return len(value) // 2 + 2
        case "B":
            return len(value)
        case "L":
            return 3 + sum(1 + _bytes_of(item) for item in value)
        case "M":
            return 3 + sum(len(name.encode()) + 1 + _bytes_of(item) for name, item in value.items())
    return 1


Key = tuple[str, str]


class FakeTable:
    """One table with keys ``pk`` and ``sk`` and keys-only indexes ``<name>_pk``, ``<name>_sk``."""

    def __init__(self, indexes: tuple[str, ...]) -> None:
        self.indexes = indexes
        self.items: dict[Key, dict[str, Any]] = {}

    def _take(self, item: Mapping[str, Any]) -> dict[str, Any]:
        taken = {name: _checked(value) for name, value in item.items()}
        keys = {"pk", "sk", *(f"{name}_{end}" for name in self.indexes for end in ("pk", "sk"))}
        for name in keys & taken.keys():
            text = taken[name].get("S")
            if not text or len(text.encode()) > KEY_BYTES_MAX[name[-2:]]:
                raise _invalid(f"{name} must be a string of 1 to {KEY_BYTES_MAX[name[-2:]]} bytes")
        if sum(len(name.encode()) + _bytes_of(value) for name, value in taken.items()) > 400 * 1024:
            raise _invalid("Item size has exceeded the maximum allowed size")
        return taken

    @staticmethod
    def _key(key: Mapping[str, Any]) -> Key:
        return key["pk"]["S"], key["sk"]["S"]

    def get_item(self, *, TableName: str, Key: Mapping[str, Any], ConsistentRead: bool) -> dict[str, Any]:
        found = self.items.get(self._key(Key))
        return {"Item": copy.deepcopy(found)} if found else {}

    def put_item(
        self, *, TableName: str, Item: Mapping[str, Any], ConditionExpression: str | None = None
    ) -> dict[str, Any]:
        assert ConditionExpression in {None, "attribute_not_exists(pk)"}
        taken = self._take(Item)
        if ConditionExpression and self._key(taken) in self.items:
            raise refusal("ConditionalCheckFailedException", 400, "PutItem")
        self.items[self._key(taken)] = taken
        return {}

    def batch_write_item(self, *, RequestItems: Mapping[str, list[Any]]) -> dict[str, Any]:
        ((_, requests),) = RequestItems.items()
        if not 1 <= len(requests) <= 25:
            raise _invalid("BatchWriteItem takes 1 to 25 requests")
        taken = [self._take(request["PutRequest"]["Item"]) for request in requests]
        for item in taken:
            self.items[self._key(item)] = item
        return {"UnprocessedItems": {}}

    def batch_get_item(self, *, RequestItems: Mapping[str, Any]) -> dict[str, Any]:
        ((table, wanted),) = RequestItems.items()
        keys = [self._key(key) for key in wanted["Keys"]]
        if not 1 <= len(keys) <= 100 or len(set(keys)) != len(keys):
            raise _invalid("BatchGetItem takes 1 to 100 different keys")
        found = [copy.deepcopy(self.items[key]) for key in reversed(keys) if key in self.items]
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def update_item(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        UpdateExpression: str,
        ConditionExpression: str,
        ExpressionAttributeNames: Mapping[str, str],
        ExpressionAttributeValues: Mapping[str, Any],
    ) -> dict[str, Any]:
        names, values = dict(ExpressionAttributeNames), dict(ExpressionAttributeValues)
        assert ConditionExpression == "#version = :expected"
        item = copy.deepcopy(self.items.get(self._key(Key), {}))
        if _checked(values.pop(":expected")) != item.get(names.pop("#version")):
            raise refusal("ConditionalCheckFailedException", 400, "UpdateItem")
        matched = re.fullmatch(r"SET (.+?)(?: REMOVE (.+))?", UpdateExpression)
        assert matched is not None
        for assignment in matched[1].split(", "):
            name, value = assignment.split(" = ")
            item[names.pop(name)] = values.pop(value)
        for name in matched[2].split(", ") if matched[2] else ():
            item.pop(names.pop(name), None)
        if names or values:
            raise _invalid("unused expression attributes")
        self.items[self._key(Key)] = self._take(item)
        return {}

    def query(
        self,
        *,
        TableName: str,
        IndexName: str,
        KeyConditionExpression: str,
        ExpressionAttributeNames: Mapping[str, str],
        ExpressionAttributeValues: Mapping[str, Any],
        Limit: int,
        ScanIndexForward: bool,
        ExclusiveStartKey: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        assert IndexName in self.indexes
        assert Limit >= 1
        partition_name, sort_name = ExpressionAttributeNames["#p"], f"{IndexName}_sk"
        partition = ExpressionAttributeValues[":p"]["S"]
        if not partition or len(partition.encode()) > KEY_BYTES_MAX["pk"]:
            raise _invalid("a partition key has 1 to 2048 bytes")
        ceiling = None
        if KeyConditionExpression != "#p = :p":
            assert KeyConditionExpression == "#p = :p AND #s <= :s"
            assert ExpressionAttributeNames["#s"] == sort_name
            ceiling = ExpressionAttributeValues[":s"]["S"]

        def place(item: Mapping[str, Any]) -> tuple[str, str, str]:
            return item[sort_name]["S"], item["pk"]["S"], item["sk"]["S"]

        found = [
            item
            for item in self.items.values()
            if item.get(partition_name) == {"S": partition} and (ceiling is None or item[sort_name]["S"] <= ceiling)
        ]
        found.sort(key=place, reverse=not ScanIndexForward)
        if ExclusiveStartKey:
            start = place(ExclusiveStartKey)
            found = [item for item in found if (place(item) > start if ScanIndexForward else place(item) < start)]
        page = found[:Limit]
        kept = ("pk", "sk", partition_name, sort_name)
        answer: dict[str, Any] = {"Items": [{name: item[name] for name in kept} for item in page]}
        if len(page) == Limit:
            answer["LastEvaluatedKey"] = answer["Items"][-1]
        return answer

    def scan(
        self,
        *,
        TableName: str,
        Limit: int,
        FilterExpression: str,
        ProjectionExpression: str,
        ExpressionAttributeNames: Mapping[str, str],
        ExpressionAttributeValues: Mapping[str, Any],
        ExclusiveStartKey: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        assert FilterExpression == "#sk = :file"
        names = [ExpressionAttributeNames[name] for name in ProjectionExpression.split(", ")]
        keys = sorted(self.items)
        if ExclusiveStartKey:
            start = self._key(ExclusiveStartKey)
            keys = [key for key in keys if key > start]
        page = keys[:Limit]
        items = [self.items[key] for key in page if self.items[key]["sk"] == ExpressionAttributeValues[":file"]]
        answer: dict[str, Any] = {"Items": [{name: item[name] for name in names if name in item} for item in items]}
        if len(page) == Limit:
            answer["LastEvaluatedKey"] = {"pk": {"S": page[-1][0]}, "sk": {"S": page[-1][1]}}
        return answer
