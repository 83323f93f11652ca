"""The table's items as plain values, below the records: reads, ranges, conditional writes. I/O.

Every refusal that a retry may mend is a TransientError; ``False`` is a condition that does not hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, ddb_json, forms
from heavylift.errors import TransientError
from heavylift.limits import CHANGE_TRIES
from heavylift.settings import settings

BATCH_WRITE_MAX = 25  # BatchWriteItem's own limit, which emulators do not always enforce
BATCH_WRITE_TRIES = 6
BATCH_GET_MAX = 100
BATCH_GET_TRIES = 6  # answers in a row without any item: throttled

Key = Mapping[str, str]
Record = TypeVar("Record")
Wanted = TypeVar("Wanted")


def call(operation: str, **arguments: Any) -> Any:
    """One call of DynamoDB. TransientError for an answer that a retry may mend, ClientError for any other refusal."""
    try:
        return getattr(aws.client("dynamodb"), operation)(**arguments)
    except ClientError as error:
        if aws.is_later(error):
            raise aws.later(error, operation) from error
        raise
    except BotoCoreError as error:
        raise aws.later(error, operation) from error


def on_table(operation: str, **arguments: Any) -> Any:
    """``call`` on our table."""
    return call(operation, TableName=settings().table_name, **arguments)


def condition_failed(error: ClientError) -> bool:
    return aws.error_code(error) == "ConditionalCheckFailedException"


def write_if(operation: str, **arguments: Any) -> bool:
    """A conditional write; False when its condition does not hold."""
    try:
        on_table(operation, **arguments)
    except ClientError as error:
        if condition_failed(error):
            return False
        raise
    return True


def get(key: Key, *, consistent: bool = True) -> dict[str, Any] | None:
    """The item's plain values; None when there is none."""
    answer = on_table("get_item", Key=ddb_json.encode_item(key), ConsistentRead=consistent)
    return ddb_json.decode_item(answer["Item"]) if "Item" in answer else None


def read_many(keys: Sequence[Key], names: Sequence[str] = (), *, consistent: bool = True) -> list[dict[str, Any]]:
    """The items of different keys, in no order; the absent ones are left out. ``names``: these attributes only."""
    wanted: dict[str, Any] = {"ConsistentRead": consistent}
    if names:
        attributes = {f"#a{number}": name for number, name in enumerate(names)}
        wanted |= {"ProjectionExpression": ", ".join(attributes), "ExpressionAttributeNames": attributes}
    table = settings().table_name
    found: list[dict[str, Any]] = []
    for start in range(0, len(keys), BATCH_GET_MAX):
        page = [ddb_json.encode_item(key) for key in keys[start : start + BATCH_GET_MAX]]
        waiting: Any = {table: {"Keys": page, **wanted}}
        tries_without_item = 0
        while waiting:
            answer = call("batch_get_item", RequestItems=waiting)
            items = answer["Responses"].get(table, [])
            waiting = answer.get("UnprocessedKeys")
            found.extend(ddb_json.decode_item(item) for item in items)
            if items:
                tries_without_item = 0  # 16 MB a call: large items come in several answers
            elif waiting:
                tries_without_item += 1
                if tries_without_item == BATCH_GET_TRIES:
                    raise TransientError("aws_unavailable", "DynamoDB did not give all items.")
                time.sleep(0.05 * 2**tries_without_item)
    return found


def read_page(
    partition: str,
    *,
    prefix: str = "",
    low: str = "",
    high: str = "",
    after: str = "",
    limit: int | None = None,
    consistent: bool = True,
) -> tuple[list[dict[str, Any]], str]:
    """One page of a partition's items by their sort keys, and the sort key to go on behind ("" = the last page).

    All of them, those that begin with ``prefix``, or those from ``low`` to ``high``. A page has 1 MB at most.
    """
    condition, values = "pk = :p", {":p": {"S": partition}}
    if prefix:
        condition += " AND begins_with(sk, :low)"
        values[":low"] = {"S": prefix}
    elif low:
        condition += " AND sk BETWEEN :low AND :high"
        values |= {":low": {"S": low}, ":high": {"S": high}}
    extra: dict[str, Any] = {"Limit": limit} if limit else {}
    if after:
        extra["ExclusiveStartKey"] = {"pk": {"S": partition}, "sk": {"S": after}}
    answer = on_table(
        "query",
        KeyConditionExpression=condition,
        ExpressionAttributeValues=values,
        ConsistentRead=consistent,
        **extra,
    )
    following = answer.get("LastEvaluatedKey")
    return [ddb_json.decode_item(item) for item in answer["Items"]], following["sk"]["S"] if following else ""


def read_all(partition: str, *, prefix: str = "", low: str = "", high: str = "", consistent: bool = True) -> list[Any]:
    """All pages of ``read_page``; for ranges that are known to be small."""
    found, after = read_page(partition, prefix=prefix, low=low, high=high, consistent=consistent)
    while after:
        more, after = read_page(partition, prefix=prefix, low=low, high=high, after=after, consistent=consistent)
        found += more
    return found


def query_keys(
    index: str,
    partition: str,
    *,
    limit: int,
    start: Key | None = None,
    descending: bool = True,
    sort_key_max: str | None = None,
) -> tuple[list[dict[str, str]], dict[str, str] | None]:
    """One page of an index: the items' keys, and where the next page starts (None = this was the last)."""
    condition, names = "#p = :p", {"#p": f"{index}_pk"}
    values = {":p": {"S": partition}}
    if sort_key_max is not None:
        condition += " AND #s <= :s"
        names["#s"] = f"{index}_sk"
        values[":s"] = {"S": sort_key_max}
    extra: dict[str, Any] = {"ExclusiveStartKey": ddb_json.encode_item(start)} if start else {}
    answer = on_table(
        "query",
        IndexName=index,
        KeyConditionExpression=condition,
        ExpressionAttributeNames=names,
        ExpressionAttributeValues=values,
        Limit=limit,
        ScanIndexForward=not descending,
        **extra,
    )
    keys = [{"pk": item["pk"]["S"], "sk": item["sk"]["S"]} for item in answer["Items"]]
    following = answer.get("LastEvaluatedKey")
    return keys, ddb_json.decode_item(following) if following else None


def keys_between(
    index: str, partition: str, low: str, high: str, *, limit: int, start: Key | None = None
) -> tuple[list[dict[str, str]], dict[str, str] | None]:
    """One page of an index from ``low`` to ``high``: the items' keys, and where to go on (None = the last page)."""
    extra: dict[str, Any] = {"ExclusiveStartKey": ddb_json.encode_item(start)} if start else {}
    answer = on_table(
        "query",
        IndexName=index,
        KeyConditionExpression="#p = :p AND #s BETWEEN :low AND :high",
        ExpressionAttributeNames={"#p": f"{index}_pk", "#s": f"{index}_sk"},
        ExpressionAttributeValues={":p": {"S": partition}, ":low": {"S": low}, ":high": {"S": high}},
        Limit=limit,
        **extra,
    )
    keys = [{"pk": item["pk"]["S"], "sk": item["sk"]["S"]} for item in answer["Items"]]
    following = answer.get("LastEvaluatedKey")
    return keys, ddb_json.decode_item(following) if following else None


def touch(key: Key, **values: Any) -> None:
    """Set attributes and raise ``seq`` by one, in one write. Arriving twice, ``seq`` has risen twice: never back."""
    names = {f"#s{number}": name for number, name in enumerate(values)}
    on_table(
        "update_item",
        Key=ddb_json.encode_item(key),
        UpdateExpression=f"SET {', '.join(f'{name} = :{name[1:]}' for name in names)} ADD #seq :one",
        ExpressionAttributeNames={**names, "#seq": "seq"},
        ExpressionAttributeValues={
            ":one": {"N": "1"},
            **{f":{name[1:]}": ddb_json.encode(values[attribute]) for name, attribute in names.items()},
        },
    )


def put(item: Mapping[str, Any], *, only_new: bool = False) -> bool:
    """Write a whole item over whatever is there. False when ``only_new`` and there is one."""
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"} if only_new else {}
    return write_if("put_item", Item=ddb_json.encode_item(item), **condition)


def put_if(item: Mapping[str, Any], attribute: str, *, equal: Any = None, below: float | None = None) -> bool:
    """Write a whole item if it is not there yet, or if its ``attribute`` is ``equal`` to or ``below`` a value.

    With ``equal`` the item must be there. False when the condition does not hold.
    """
    return write_if(
        "put_item",
        Item=ddb_json.encode_item(item),
        ConditionExpression="#a = :v" if below is None else "attribute_not_exists(pk) OR #a < :v",
        ExpressionAttributeNames={"#a": attribute},
        ExpressionAttributeValues={":v": ddb_json.encode(equal if below is None else below)},
    )


def put_new(new: Sequence[Mapping[str, Any]]) -> None:
    """Write whole items that nobody else can know yet, in as few calls as can be."""
    requests = [{"PutRequest": {"Item": ddb_json.encode_item(item)}} for item in new]
    for start in range(0, len(requests), BATCH_WRITE_MAX):
        waiting = {settings().table_name: requests[start : start + BATCH_WRITE_MAX]}
        for attempt in range(BATCH_WRITE_TRIES):
            waiting = call("batch_write_item", RequestItems=waiting).get("UnprocessedItems") or {}
            if not waiting:
                break
            time.sleep(0.05 * 2**attempt)
        else:
            raise TransientError("aws_unavailable", "DynamoDB did not take all new items.")


def put_version(item: Mapping[str, Any]) -> bool:
    """Write an item whose ``version`` follows the one that must be there (1: none must). False when it is not."""
    version = item["version"]
    if version == 1:
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
    else:
        condition = {
            "ConditionExpression": "#version = :before",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":before": ddb_json.encode(version - 1)},
        }
    return write_if("put_item", Item=ddb_json.encode_item(item), **condition)


def change(key: Key, sets: Mapping[str, Any], removes: Sequence[str], *, version: int) -> bool:
    """Set and remove attributes of an item that is still at ``version``; False when it is not."""
    names = {"#version": "version"}
    values: dict[str, Any] = {":expected": ddb_json.encode(version)}
    assignments = []
    for number, (name, value) in enumerate(sorted(sets.items())):
        names[f"#s{number}"] = name
        values[f":s{number}"] = ddb_json.encode(value)
        assignments.append(f"#s{number} = :s{number}")
    removals = [f"#r{number}" for number in range(len(removes))]
    names.update(zip(removals, removes, strict=True))
    return write_if(
        "update_item",
        Key=ddb_json.encode_item(key),
        UpdateExpression=f"SET {', '.join(assignments)}" + (f" REMOVE {', '.join(removals)}" if removals else ""),
        ConditionExpression="#version = :expected",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues=values,
    )


def change_over(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Make one item of the other by writing what differs; False when it is no longer at the version of ``before``."""
    sets, removes = forms.difference(before, after)
    return change({"pk": before["pk"], "sk": before["sk"]}, sets, removes, version=before["version"])


class Stale(TransientError):
    """Somebody else changed the record between our read and our write, again and again."""

    def __init__(self, owner_id: str) -> None:
        super().__init__("record_changed", f"The record of {owner_id} was changed at the same moment.", id=owner_id)


def settle(
    owner_id: str,
    read: Callable[[], Record],
    decide: Callable[[Record], Wanted | None],
    write: Callable[[Record, Wanted], bool],
    *,
    after: Callable[[Wanted], Record],
    item_of: Callable[[Record], Mapping[str, Any]],
    tries: int = CHANGE_TRIES,
) -> tuple[Record, bool]:
    """Read, decide, write; again from the start when somebody was first. The record, and whether we changed it.

    ``decide`` gets the fresh record and says what is wanted of it, None to leave it; ``after`` is the record that this
    makes; ``write`` is False when somebody was first. What they raise passes through. A write that arrived although
    its answer was lost is recognised as our own: nothing is decided twice. Stale after so many ``tries``.
    """
    wanted: Wanted | None = None
    for attempt in range(tries):
        record = read()
        if wanted is not None and _same(item_of(after(wanted)), item_of(record)):
            return record, True
        wanted = decide(record)
        if wanted is None:
            return record, False
        if write(record, wanted):
            return after(wanted), True
        time.sleep(0.01 * attempt)
    raise Stale(owner_id)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["version"] == other["version"] and as_stored(one) == as_stored(other))


def as_stored(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as it comes back from the table: lists for tuples, whole numbers for 7.0."""
    return ddb_json.decode_item(ddb_json.encode_item(item))


def delete(key: Key) -> None:
    """Delete an item; one that is not there is deleted already."""
    on_table("delete_item", Key=ddb_json.encode_item(key))


def delete_unchanged(key: Key, **values: Any) -> bool:
    """Delete an item if it still has these values; False when it has not, or is gone."""
    return write_if(
        "delete_item",
        Key=ddb_json.encode_item(key),
        ConditionExpression=" AND ".join(f"#a{number} = :a{number}" for number in range(len(values))),
        ExpressionAttributeNames={f"#a{number}": name for number, name in enumerate(values)},
        ExpressionAttributeValues={
            f":a{number}": ddb_json.encode(value) for number, value in enumerate(values.values())
        },
    )
