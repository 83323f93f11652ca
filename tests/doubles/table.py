"""DynamoDB in memory, for fault tests: the calls that heavylift makes, and the limits that DynamoDB sets.

Limits as in the Amazon DynamoDB developer guide, "Quotas" and "Data types": partition keys up to 2 048 bytes and sort
keys up to 1 024 (of indexes too, and never empty), items up to 400 KB, numbers of 38 digits, 32 levels of nesting,
attribute names of at least one character.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.doubles import expressions
from tests.doubles.answers import refusal
from tests.doubles.expressions import Names

KEY_BYTES_MAX = {"pk": 2048, "sk": 1024}
PAGE_BYTES_MAX = 1 << 20  # of one answer to Query


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


def _item_bytes(item: Mapping[str, Any]) -> int:
    return sum(len(name.encode()) + _bytes_of(value) for name, value in item.items())


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
        if _item_bytes(taken) > 400 * 1024:
            raise _invalid("Item size has exceeded the maximum allowed size")
        return taken

    @staticmethod
    def _key(key: Mapping[str, Any]) -> Key:
        return key["pk"]["S"], key["sk"]["S"]

    def get_item(self, *, TableName: str, Key: Mapping[str, Any], ConsistentRead: bool = False) -> dict[str, Any]:
        found = self.items.get(self._key(Key))
        return {"Item": copy.deepcopy(found)} if found else {}

    def _conditional(self, operation: str, key: Key, condition: str | None, names: Names) -> dict[str, Any]:
        """The item before the write ({} for none), its condition held."""
        before = self.items.get(key, {})
        holds = condition is None or expressions.condition(condition, names)(before)
        names.all_used()
        if not holds:
            raise refusal("ConditionalCheckFailedException", 400, operation)
        return before

    def put_item(
        self,
        *,
        TableName: str,
        Item: Mapping[str, Any],
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        taken = self._take(Item)
        names = Names(ExpressionAttributeNames, ExpressionAttributeValues)
        self._conditional("PutItem", self._key(taken), ConditionExpression, names)
        self.items[self._key(taken)] = taken
        return {}

    def delete_item(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        names = Names(ExpressionAttributeNames, ExpressionAttributeValues)
        self._conditional("DeleteItem", self._key(Key), ConditionExpression, names)
        self.items.pop(self._key(Key), None)
        return {}

    def batch_write_item(self, *, RequestItems: Mapping[str, list[Any]]) -> dict[str, Any]:
        ((_, requests),) = RequestItems.items()
        if not 1 <= len(requests) <= 25:
            raise _invalid("BatchWriteItem takes 1 to 25 requests")
        writes: dict[Key, dict[str, Any] | None] = {}
        for request in requests:
            ((kind, fields),) = request.items()
            taken = self._take(fields["Item"]) if kind == "PutRequest" else None
            key = self._key(taken if taken is not None else fields["Key"])
            if key in writes:
                raise _invalid("Provided list of item keys contains duplicates")
            writes[key] = taken
        for key, taken in writes.items():
            if taken is None:
                self.items.pop(key, None)
            else:
                self.items[key] = taken
        return {"UnprocessedItems": {}}

    def batch_get_item(self, *, RequestItems: Mapping[str, Any]) -> dict[str, Any]:
        ((table, wanted),) = RequestItems.items()
        unknown = wanted.keys() - {"Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"}
        if unknown:
            raise _invalid(f"no such arguments: {sorted(unknown)}")
        keys = [self._key(key) for key in wanted["Keys"]]
        if not 1 <= len(keys) <= 100 or len(set(keys)) != len(keys):
            raise _invalid("BatchGetItem takes 1 to 100 different keys")
        names = Names(wanted.get("ExpressionAttributeNames"), None)
        kept = _kept(wanted.get("ProjectionExpression"), names)
        names.all_used()
        found = [copy.deepcopy(kept(self.items[key])) for key in reversed(keys) if key in self.items]
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def update_item(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        UpdateExpression: str,
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ReturnValues: str = "NONE",
    ) -> dict[str, Any]:
        names = Names(ExpressionAttributeNames, ExpressionAttributeValues)
        key = self._key(Key)
        after = expressions.update(UpdateExpression, names, self.items.get(key, {}), _checked)
        self._conditional("UpdateItem", key, ConditionExpression, names)
        taken = self._take({**after, "pk": {"S": key[0]}, "sk": {"S": key[1]}})
        before = self.items.get(key, {})
        self.items[key] = taken
        match ReturnValues:
            case "NONE":
                return {}
            case "ALL_NEW":
                return {"Attributes": copy.deepcopy(taken)}
            case "ALL_OLD":
                return {"Attributes": copy.deepcopy(before)} if before else {}
        raise _invalid(f"no such ReturnValues here: {ReturnValues}")

    def query(
        self,
        *,
        TableName: str,
        KeyConditionExpression: str,
        ExpressionAttributeValues: Mapping[str, Any],
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        IndexName: str | None = None,
        Limit: int | None = None,
        ScanIndexForward: bool = True,
        ConsistentRead: bool = False,
        Select: str | None = None,
        ProjectionExpression: str | None = None,
        FilterExpression: str | None = None,
        ExclusiveStartKey: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Indexes hold keys only and are never read consistently; a page ends after ``Limit`` items or 1 MB."""
        if IndexName is not None and IndexName not in self.indexes:
            raise _invalid(f"The table does not have the specified index: {IndexName}")
        if IndexName is not None and ConsistentRead:
            raise _invalid("Consistent reads are not supported on global secondary indexes")
        if Limit is not None and Limit < 1:
            raise _invalid("Limit must be at least 1")
        if Select not in {None, "COUNT"} or (Select and ProjectionExpression):
            raise _invalid(f"Select {Select} is not understood here")
        partition_name, sort_name = (f"{IndexName}_pk", f"{IndexName}_sk") if IndexName else ("pk", "sk")
        names = Names(ExpressionAttributeNames, ExpressionAttributeValues)
        partition, in_range = expressions.key_condition(KeyConditionExpression, names, partition_name, sort_name)
        passes = expressions.condition(FilterExpression, names) if FilterExpression else lambda item: True
        kept = _kept(ProjectionExpression, names)
        names.all_used()

        def place(item: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
            # Keys are ordered by the bytes of their UTF-8.
            return item[sort_name]["S"].encode(), item["pk"]["S"].encode(), item["sk"]["S"].encode()

        keys = tuple(dict.fromkeys(("pk", "sk", partition_name, sort_name)))
        found = [
            {name: item[name] for name in keys} if IndexName else item
            for item in self.items.values()
            if item.get(partition_name) == {"S": partition} and sort_name in item and in_range(item)
        ]
        found.sort(key=place, reverse=not ScanIndexForward)
        if ExclusiveStartKey is not None:
            if ExclusiveStartKey.keys() != set(keys) or ExclusiveStartKey[partition_name] != {"S": partition}:
                raise _invalid("The provided starting key is invalid")
            start = place(ExclusiveStartKey)
            found = [item for item in found if (place(item) > start if ScanIndexForward else place(item) < start)]
        page, size = [], 0
        for item in found:
            page.append(item)
            size += _item_bytes(item)
            if len(page) == Limit or size >= PAGE_BYTES_MAX:
                break
        # DynamoDB gives a key to go on from whenever a page is full, even if nothing is behind it.
        more = len(page) < len(found) or len(page) == Limit
        answered = [copy.deepcopy(kept(item)) for item in page if passes(item)]
        answer: dict[str, Any] = {"Count": len(answered), "ScannedCount": len(page)}
        if Select is None:
            answer["Items"] = answered
        if more:
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in keys}
        return answer


def _kept(text: str | None, names: Names) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What a ProjectionExpression leaves of an item."""
    if text is None:
        return dict
    wanted = expressions.projection(text, names)
    return lambda item: {name: item[name] for name in wanted if name in item}
