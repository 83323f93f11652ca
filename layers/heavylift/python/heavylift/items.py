"""The table's items as plain values, below the records: batches of reads, ranges, conditional writes. I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, ddb_json
from heavylift.errors import TransientError
from heavylift.settings import settings

BATCH_GET_MAX = 100
BATCH_GET_TRIES = 6  # answers in a row without any item: throttled

Key = Mapping[str, str]


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


def _if(operation: str, **arguments: Any) -> bool:
    """A conditional write; False when its condition does not hold."""
    try:
        call(operation, TableName=settings().table_name, **arguments)
    except ClientError as error:
        if aws.error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


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
    answer = call(
        "query",
        TableName=settings().table_name,
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


def keys_between(
    index: str, partition: str, low: str, high: str, *, limit: int, start: Key | None = None
) -> tuple[list[dict[str, str]], dict[str, str] | None]:
    """One page of an index from ``low`` to ``high``: the items' keys, and where to go on (None = the last page)."""
    extra: dict[str, Any] = {"ExclusiveStartKey": ddb_json.encode_item(start)} if start else {}
    answer = call(
        "query",
        TableName=settings().table_name,
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
    call(
        "update_item",
        TableName=settings().table_name,
        Key=ddb_json.encode_item(key),
        UpdateExpression=f"SET {', '.join(f'{name} = :{name[1:]}' for name in names)} ADD #seq :one",
        ExpressionAttributeNames={**names, "#seq": "seq"},
        ExpressionAttributeValues={
            ":one": {"N": "1"},
            **{f":{name[1:]}": ddb_json.encode(values[attribute]) for name, attribute in names.items()},
        },
    )


def put(item: Mapping[str, Any]) -> None:
    """Write a whole item over whatever is there."""
    call("put_item", TableName=settings().table_name, Item=ddb_json.encode_item(item))


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
    return _if("put_item", Item=ddb_json.encode_item(item), **condition)


def as_stored(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as it comes back from the table: lists for tuples, whole numbers for 7.0."""
    return ddb_json.decode_item(ddb_json.encode_item(item))


def delete(key: Key) -> None:
    """Delete an item; one that is not there is deleted already."""
    call("delete_item", TableName=settings().table_name, Key=ddb_json.encode_item(key))


def delete_unchanged(key: Key, **values: Any) -> bool:
    """Delete an item if it still has these values; False when it has not, or is gone."""
    return _if(
        "delete_item",
        Key=ddb_json.encode_item(key),
        ConditionExpression=" AND ".join(f"#a{number} = :a{number}" for number in range(len(values))),
        ExpressionAttributeNames={f"#a{number}": name for number, name in enumerate(values)},
        ExpressionAttributeValues={
            f":a{number}": ddb_json.encode(value) for number, value in enumerate(values.values())
        },
    )
