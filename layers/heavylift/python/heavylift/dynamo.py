"""The table: reads, conditional writes and queries. One of the few modules that touch the world."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, ddb_json, records
from heavylift.errors import RequestError, TransientError
from heavylift.records import Change, FileRecord
from heavylift.settings import settings

CHANGE_TRIES = 8  # two dozen concurrent writers of one record settle well within this
BATCH_WRITE_MAX = 25  # BatchWriteItem's own limit, which emulators do not always enforce
BATCH_GET_MAX = 100
BATCH_GET_TRIES = 6  # answers in a row without any item: throttled


class StaleRecord(TransientError):
    """The record was changed by somebody else between our read and our write."""

    def __init__(self, file_id: str) -> None:
        super().__init__("record_changed", f"The record of {file_id} was changed at the same moment.", file_id=file_id)


def _call(operation: str, **arguments: Any) -> Any:
    try:
        return getattr(aws.client("dynamodb"), operation)(TableName=settings().table_name, **arguments)
    except ClientError as error:
        if aws.is_later(error):
            raise aws.later(error, operation) from error
        raise
    except BotoCoreError as error:
        raise aws.later(error, operation) from error


def get_item(key: Mapping[str, str], *, consistent: bool = True) -> dict[str, Any] | None:
    """The item's plain values; None when there is none."""
    answer = _call("get_item", Key=ddb_json.encode_item(key), ConsistentRead=consistent)
    return ddb_json.decode_item(answer["Item"]) if "Item" in answer else None


def find(tenant: str, file_id: str) -> FileRecord | None:
    """The record, strongly consistent; None when there is none."""
    item = get_item(records.item_key(tenant, file_id))
    return records.from_item(item) if item else None


def get(tenant: str, file_id: str) -> FileRecord:
    """The record. RequestError ``not_found``: the same for an unknown id and another tenant's."""
    record = find(tenant, file_id)
    if record is None:
        raise unknown()
    return record


def unknown() -> RequestError:
    return RequestError("not_found", "There is no upload or file with this id.")


def put_new(new: Sequence[FileRecord]) -> None:
    """Write records that nobody else can know yet (their ids are fresh)."""
    requests = [{"PutRequest": {"Item": ddb_json.encode_item(records.to_item(record))}} for record in new]
    table = settings().table_name
    for start in range(0, len(requests), BATCH_WRITE_MAX):
        waiting = {table: requests[start : start + BATCH_WRITE_MAX]}
        for attempt in range(6):
            try:
                answer = aws.client("dynamodb").batch_write_item(RequestItems=waiting)
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError) and not aws.is_later(error):
                    raise
                raise aws.later(error, "batch_write_item") from error
            waiting = answer.get("UnprocessedItems") or {}
            if not waiting:
                break
            time.sleep(0.05 * 2**attempt)
        else:
            raise TransientError("aws_unavailable", "DynamoDB did not take all new records.")


def commit(change: Change) -> FileRecord:
    """Write a change under its condition and return the record after it. StaleRecord when somebody was first."""
    names = {"#version": "version"}
    values: dict[str, Any] = {":expected": ddb_json.encode(change.version_expected)}
    sets, removes = [], []
    for number, (name, value) in enumerate(sorted(change.sets.items())):
        names[f"#s{number}"] = name
        values[f":s{number}"] = ddb_json.encode(value)
        sets.append(f"#s{number} = :s{number}")
    for number, name in enumerate(change.removes):
        names[f"#r{number}"] = name
        removes.append(f"#r{number}")
    expression = f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else "")
    record = change.record
    try:
        aws.client("dynamodb").update_item(
            TableName=settings().table_name,
            Key=ddb_json.encode_item(records.item_key(record.tenant, record.file_id)),
            UpdateExpression=expression,
            ConditionExpression="#version = :expected",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )
    except ClientError as error:
        if aws.error_code(error) == "ConditionalCheckFailedException":
            raise StaleRecord(record.file_id) from error
        if aws.is_later(error):
            raise aws.later(error, "update_item") from error
        raise
    except BotoCoreError as error:
        raise aws.later(error, "update_item") from error
    return record


def update(
    tenant: str,
    file_id: str,
    decide: Callable[[FileRecord], Change | None],
    before: Callable[[Change], None] = lambda change: None,
) -> tuple[FileRecord, bool]:
    """Read, decide, write; again from the start when somebody was first. The record, and whether we changed it.

    ``decide`` gets the fresh record and returns the change, or None to leave it; ``before`` does what must be done
    before that change is written. Whatever they raise passes through. A write that arrived although its answer was
    lost is recognised as our own: nothing is decided twice.
    """
    wanted: Change | None = None
    for attempt in range(CHANGE_TRIES):
        record = get(tenant, file_id)
        if wanted is not None and wanted.record.version == record.version and _stored(wanted.record) == _stored(record):
            return record, True
        wanted = decide(record)
        if wanted is None:
            return record, False
        before(wanted)
        try:
            return commit(wanted), True
        except StaleRecord:
            time.sleep(0.01 * attempt)
    raise StaleRecord(file_id)


def remove(record: FileRecord) -> bool:
    """Delete the item if it is still at this version; False when somebody changed it."""
    try:
        _call(
            "delete_item",
            Key=ddb_json.encode_item(records.item_key(record.tenant, record.file_id)),
            ConditionExpression="#version = :expected",
            ExpressionAttributeNames={"#version": "version"},
            ExpressionAttributeValues={":expected": ddb_json.encode(record.version)},
        )
    except ClientError as error:
        if aws.error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


def _stored(record: FileRecord) -> dict[str, Any]:
    """The record's item as it comes back from the table: lists for tuples, whole numbers for 7.0."""
    return ddb_json.decode_item(ddb_json.encode_item(records.to_item(record)))


def get_many(keys: Sequence[Mapping[str, str]], *, consistent: bool = False) -> list[FileRecord]:
    """Records of the given item keys in their order; the absent ones are left out."""
    found: dict[tuple[str, str], FileRecord] = {}
    table = settings().table_name
    for start in range(0, len(keys), BATCH_GET_MAX):
        asked: dict[str, Any] = {"Keys": [ddb_json.encode_item(key) for key in keys[start : start + BATCH_GET_MAX]]}
        waiting: Any = {table: {**asked, "ConsistentRead": True} if consistent else asked}
        tries_without_item = 0
        while waiting:
            try:
                answer = aws.client("dynamodb").batch_get_item(RequestItems=waiting)
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError) and not aws.is_later(error):
                    raise
                raise aws.later(error, "batch_get_item") from error
            if answer["Responses"].get(table):
                tries_without_item = 0  # 16 MB a call: large items come in several answers
            elif answer.get("UnprocessedKeys"):
                tries_without_item += 1
                if tries_without_item == BATCH_GET_TRIES:
                    raise TransientError("aws_unavailable", "DynamoDB did not give all records.")
                time.sleep(0.05 * 2**tries_without_item)
            for item in answer["Responses"].get(table, []):
                plain = ddb_json.decode_item(item)
                found[plain["pk"], plain["sk"]] = records.from_item(plain)
            waiting = answer.get("UnprocessedKeys")
    return [found[key["pk"], key["sk"]] for key in keys if (key["pk"], key["sk"]) in found]


def query_keys(
    index: str,
    partition: str,
    *,
    limit: int,
    start: Mapping[str, str] | None = None,
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
    answer = _call(
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


def put_item(item: Mapping[str, Any], *, only_new: bool = False) -> bool:
    """Write a whole item that is no file record. False when ``only_new`` and it exists already."""
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"} if only_new else {}
    try:
        _call("put_item", Item=ddb_json.encode_item(item), **condition)
    except ClientError as error:
        if aws.error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


def put_if(item: Mapping[str, Any], attribute: str, *, equal: Any = None, below: float | None = None) -> bool:
    """Write a whole item if it is not there yet, or if its ``attribute`` is ``equal`` to or ``below`` a value.

    With ``equal`` the item must be there. False when the condition does not hold.
    """
    condition = "#a = :v" if below is None else "attribute_not_exists(pk) OR #a < :v"
    try:
        _call(
            "put_item",
            Item=ddb_json.encode_item(item),
            ConditionExpression=condition,
            ExpressionAttributeNames={"#a": attribute},
            ExpressionAttributeValues={":v": ddb_json.encode(equal if below is None else below)},
        )
    except ClientError as error:
        if aws.error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


_SECRET_KEY = {"pk": "T#_#CONFIG", "sk": "HMAC"}
_secret: list[bytes] = []


def sealing_key() -> bytes:
    """The key that seals page tokens: one item of the table, made by whoever needs it first, kept by the process."""
    if not _secret:
        item = get_item(_SECRET_KEY)
        if item is None:
            put_item({**_SECRET_KEY, "secret": os.urandom(32)}, only_new=True)
            item = get_item(_SECRET_KEY)
        if item is None:
            raise TransientError("aws_unavailable", "The sealing key could not be read back.")
        _secret.append(item["secret"])
    return _secret[0]
