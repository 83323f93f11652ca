"""The items of batches in the table. One of the few modules that touch the world."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from heavylift import counting, ddb_json, dynamo, items, records
from heavylift.batches import manifest, marks, model
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch
from heavylift.errors import RequestError
from heavylift.ids import member_id
from heavylift.limits import CHANGE_TRIES
from heavylift.records import FileRecord
from heavylift.states import State

PARALLEL = 16  # a page of 5 000 entries is 51 items: about four round trips
MEMBERS_PAGE = 100  # records in hand at once: up to 100 times metadata and rules


# --- the batch ---
def find(tenant: str, batch_id: str) -> Batch | None:
    """The batch, strongly consistent; None when there is none."""
    item = items.get(model.item_key(tenant, batch_id))
    return model.from_item(item) if item else None


def get(tenant: str, batch_id: str) -> Batch:
    """The batch. RequestError ``not_found``: the same for an unknown id and another tenant's."""
    batch = find(tenant, batch_id)
    if batch is None:
        raise RequestError("not_found", "There is no batch with this id.")
    return batch


def create(batch: Batch) -> bool:
    """Write a batch; False when it is there already (a repeated call chose the same id)."""
    return items.put(model.to_item(batch), only_new=True)


def update(tenant: str, batch_id: str, decide: Callable[[Batch], Batch | None]) -> tuple[Batch, bool]:
    """``items.settle`` for a batch: the batch, and whether we changed it."""
    return items.settle(
        batch_id,
        lambda: get(tenant, batch_id),
        decide,
        lambda before, after: items.change_over(model.to_item(before), model.to_item(after)),
        after=lambda batch: batch,
        item_of=model.to_item,
    )


def _items(tenant: str, batch_id: str, sort_keys: Sequence[str]) -> list[dict[str, Any]]:
    """Items of the batch's partition, read at the same time; absent ones are left out."""
    if not sort_keys:
        return []
    with ThreadPoolExecutor(min(PARALLEL, len(sort_keys))) as pool:
        found = pool.map(lambda sort_key: items.get(model.item_key(tenant, batch_id, sort_key)), sort_keys)
        return [item for item in found if item]


# --- the manifest ---
def _manifest_item(tenant: str, batch_id: str, hundred: int) -> dict[str, Any] | None:
    return items.get(model.item_key(tenant, batch_id, manifest.sort_key(hundred)))


def entry(tenant: str, batch_id: str, n: int) -> Entry | None:
    """What the manifest says of member ``n``, strongly consistent; None when it does not name it."""
    item = _manifest_item(tenant, batch_id, manifest.hundred_of(n))
    return manifest.unpack(item["entries"]).get(n) if item else None


def entries_of(tenant: str, batch_id: str, hundreds: Iterable[int]) -> dict[int, Entry]:
    """The entries of some hundreds, by number."""
    items = _items(tenant, batch_id, [manifest.sort_key(hundred) for hundred in hundreds])
    return {n: entry for item in items for n, entry in manifest.unpack(item["entries"]).items()}


def entries_listed(tenant: str, batch_id: str, hundred: int) -> int:
    """How many entries a hundred has."""
    item = _manifest_item(tenant, batch_id, hundred)
    return int(item["count"]) if item else 0


def top_number(tenant: str, batch_id: str) -> int:
    """The highest number that the manifest names; -1 when it names none."""
    answer = items.on_table(
        "query",
        KeyConditionExpression="#p = :p AND #s BETWEEN :first AND :last",
        ExpressionAttributeNames={"#p": "pk", "#s": "sk"},
        ExpressionAttributeValues={
            ":p": {"S": records.batch_partition(tenant, batch_id)},
            ":first": {"S": "M#"},
            ":last": {"S": "M#~"},
        },
        ConsistentRead=True,
        ScanIndexForward=False,
        Limit=1,
    )
    found = [manifest.unpack(ddb_json.decode_item(item)["entries"]) for item in answer["Items"]]
    return max((n for entries in found for n in entries), default=-1)


def keep_entries(tenant: str, batch_id: str, new: Sequence[Entry]) -> None:
    """Write entries into the manifest's items. RequestError ``manifest_conflict``, ``invalid_body``.

    The conflicts of all items are looked for before the first is written.
    """
    groups = list(manifest.by_hundred(new).items())

    def changed(group: tuple[int, list[Entry]]) -> tuple[dict[str, Any], int | None] | None:
        """The item to write and the version that it replaces; None when nothing is new."""
        hundred, added = group
        item = _manifest_item(tenant, batch_id, hundred)
        merged = manifest.merge(manifest.unpack(item["entries"]) if item else {}, added)
        if merged is None:
            return None
        version = int(item["version"]) if item else None
        wanted = {
            **model.item_key(tenant, batch_id, manifest.sort_key(hundred)),
            "entries": manifest.pack(merged.values()),
            "count": len(merged),
            "version": (version or 0) + 1,
        }
        return wanted, version

    def keep(planned: tuple[tuple[int, list[Entry]], tuple[dict[str, Any], int | None] | None]) -> None:
        group, wanted = planned
        for attempt in range(CHANGE_TRIES):
            if wanted is None:
                return
            item, version = wanted
            new = version is None
            kept = items.put(item, only_new=True) if new else items.put_if(item, "version", equal=version)
            if kept:
                return
            time.sleep(0.01 * attempt)  # another page shares this hundred
            wanted = changed(group)
        raise items.Stale(batch_id)

    with ThreadPoolExecutor(min(PARALLEL, len(groups))) as pool:
        planned = list(pool.map(changed, groups))
        list(pool.map(keep, zip(groups, planned, strict=True)))


def manifest_pages(tenant: str, batch_id: str, after: int = -1) -> Iterator[dict[int, Entry]]:
    """The manifest, a hundred at a time in order, from the hundred of ``after`` on."""
    first = manifest.sort_key(manifest.hundred_of(max(after, 0)))
    for item in _query(tenant, batch_id, first, "M#~"):
        yield manifest.unpack(item["entries"])


# --- marks ---
def raise_mark(tenant: str, batch_id: str, n: int, mark: str) -> tuple[bool, dict[int, str]]:
    """Set a member's mark unless a higher one is there: whether it was set, and the hundred's marks before.

    A write whose answer was lost is sent again by itself and finds its own mark: then it was not set now.
    """
    key = model.item_key(tenant, batch_id, marks.sort_key(manifest.hundred_of(n)))
    try:
        answer = items.on_table(
            "update_item",
            Key=ddb_json.encode_item(key),
            UpdateExpression="SET #n = :m",
            ConditionExpression="attribute_not_exists(#n) OR #n < :m",
            ExpressionAttributeNames={"#n": marks.name_of(n)},
            ExpressionAttributeValues={":m": ddb_json.encode(mark)},
            ReturnValues="ALL_OLD",
        )
    except ClientError as error:
        if not items.condition_failed(error):
            raise
        return False, marks.of_item(items.get(key) or key)
    return True, marks.of_item({**key, **ddb_json.decode_item(answer.get("Attributes") or {})})


def raise_marks(tenant: str, batch_id: str, hundred: int, new: Mapping[int, str]) -> tuple[set[int], dict[int, str]]:
    """``raise_mark`` for members of one hundred in one write: those whose mark was set, and the hundred's marks before.

    Where one of them has a higher mark already, they are set one by one.
    """
    key = model.item_key(tenant, batch_id, marks.sort_key(hundred))
    names = {f"#n{place}": marks.name_of(n) for place, n in enumerate(new)}
    values = {f":m{place}": ddb_json.encode(mark) for place, mark in enumerate(new.values())}
    try:
        answer = items.on_table(
            "update_item",
            Key=ddb_json.encode_item(key),
            UpdateExpression="SET " + ", ".join(f"#n{place} = :m{place}" for place in range(len(new))),
            ConditionExpression=" AND ".join(
                f"(attribute_not_exists(#n{place}) OR #n{place} < :m{place})" for place in range(len(new))
            ),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_OLD",
        )
    except ClientError as error:
        if not items.condition_failed(error):
            raise
        first: dict[int, str] = {}
        raised: set[int] = set()
        for n, mark in new.items():
            was_set, before = raise_mark(tenant, batch_id, n, mark)
            first = before if not first else {**before, **{m: first[m] for m in first if m in before}}
            if was_set:
                raised.add(n)
        return raised, {n: mark for n, mark in first.items() if n not in raised or mark != new[n]}
    return set(new), marks.of_item({**key, **ddb_json.decode_item(answer.get("Attributes") or {})})


def add_marks(tenant: str, batch_id: str, hundred: int, numbers: Iterable[int], mark: str) -> None:
    """Give ``mark`` to those members of a hundred that have none."""
    names = {f"#{name}": name for name in map(marks.name_of, numbers)}
    items.on_table(
        "update_item",
        Key=ddb_json.encode_item(model.item_key(tenant, batch_id, marks.sort_key(hundred))),
        UpdateExpression="SET " + ", ".join(f"{name} = if_not_exists({name}, :m)" for name in names),
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={":m": ddb_json.encode(mark)},
    )


def mark_pages(tenant: str, batch_id: str) -> Iterator[dict[int, str]]:
    """All marks, a hundred at a time in order, strongly consistent."""
    for item in _query(tenant, batch_id, "C#", "C#~"):
        yield marks.of_item(item)


def marks_of(tenant: str, batch_id: str, hundreds: Iterable[int]) -> dict[int, str]:
    """The marks of some hundreds."""
    items = _items(tenant, batch_id, [marks.sort_key(hundred) for hundred in hundreds])
    return {n: mark for item in items for n, mark in marks.of_item(item).items()}


# --- objects that were refused ---
def note_stray(tenant: str, batch_id: str, number: int | None, code: str, limit: int) -> None:
    """Keep why an object was deleted, for the batch's errors; the first ``limit`` numbers are kept.

    None: its key has no number.
    """
    key = model.item_key(tenant, batch_id, "X")
    if len(strays(tenant, batch_id)) >= limit:
        return
    items.on_table(
        "update_item",
        Key=ddb_json.encode_item(key),
        UpdateExpression="SET #n = if_not_exists(#n, :c)",
        ExpressionAttributeNames={"#n": "n" if number is None else f"n{number:06d}"},
        ExpressionAttributeValues={":c": ddb_json.encode(code)},
    )


def strays(tenant: str, batch_id: str) -> dict[int | None, str]:
    """Number -> why its object was deleted."""
    item = items.get(model.item_key(tenant, batch_id, "X")) or {}
    return {
        int(name[1:]) if name[1:] else None: code
        for name, code in item.items()
        if name[0] == "n" and (name[1:].isdigit() or name == "n")
    }


def forget(batch: Batch, seconds_left: Callable[[], float]) -> bool:
    """Delete a batch's own items, itself last; its members' records have an end of their own. False: time is up."""
    for first, last in (("C#", "C#~"), ("M#", "M#~"), ("X", "X")):
        for item in _query(batch.tenant, batch.batch_id, first, last):
            if seconds_left() <= 0:
                return False
            items.delete(model.item_key(batch.tenant, batch.batch_id, str(item["sk"])))
    return items.delete_unchanged(model.item_key(batch.tenant, batch.batch_id), version=batch.version)


# --- members ---
def put_member(record: FileRecord) -> bool:
    """Write a member's record if there is none yet; False when there is."""
    counting.mark(record.tenant, record.file_id)
    return items.put(records.to_item(record), only_new=True)


def members_of(tenant: str, batch_id: str, numbers: Iterable[int]) -> dict[int, FileRecord]:
    """The records of some members, strongly consistent; those without one are left out."""
    keys = [records.item_key(tenant, member_id(batch_id, n)) for n in numbers]
    return {int(record.file_id.partition("-")[2]): record for record in dynamo.get_many(keys, consistent=True)}


def verdicts_of(tenant: str, batch_id: str, numbers: Iterable[int]) -> dict[int, str]:
    """The marks that members' own records call for, strongly consistent; of those that have ended only."""
    keys = [records.item_key(tenant, member_id(batch_id, n)) for n in numbers]
    found = items.read_many(keys, ("file_id", "status", "version", "dicom"))
    outcomes = {
        int(one["file_id"].partition("-")[2]): (one, marks.outcome_of(State(one["status"]), one.get("dicom")))
        for one in found
    }
    return {n: marks.mark_of(one.get("version", 1), outcome) for n, (one, outcome) in outcomes.items() if outcome}


def member_page(
    tenant: str, batch_id: str, after: str | None = None, limit: int = MEMBERS_PAGE
) -> tuple[list[FileRecord], str | None]:
    """One page of members' records by number, behind the sort key ``after``; where the next begins (None = the end)."""
    items, following = _query_page(tenant, batch_id, "F#", "F#~", after, limit)
    return [records.from_item(item) for item in items], following


def _query_page(
    tenant: str, batch_id: str, first: str, last: str, after: str | None, limit: int | None
) -> tuple[list[dict[str, Any]], str | None]:
    partition = records.batch_partition(tenant, batch_id)
    extra: dict[str, Any] = {"Limit": limit} if limit else {}
    if after is not None:
        extra["ExclusiveStartKey"] = ddb_json.encode_item({"pk": partition, "sk": after})
    answer = items.on_table(
        "query",
        KeyConditionExpression="#p = :p AND #s BETWEEN :first AND :last",
        ExpressionAttributeNames={"#p": "pk", "#s": "sk"},
        ExpressionAttributeValues={":p": {"S": partition}, ":first": {"S": first}, ":last": {"S": last}},
        ConsistentRead=True,
        **extra,
    )
    following: Mapping[str, Any] | None = answer.get("LastEvaluatedKey")
    return [ddb_json.decode_item(item) for item in answer["Items"]], following["sk"]["S"] if following else None


def _query(tenant: str, batch_id: str, first: str, last: str) -> Iterator[dict[str, Any]]:
    """Items of the batch's partition in order, a megabyte in hand at a time."""
    after: str | None = None
    while True:
        items, after = _query_page(tenant, batch_id, first, last, after, None)
        yield from items
        if after is None:
            return
