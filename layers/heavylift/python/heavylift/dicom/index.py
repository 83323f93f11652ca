"""The index in the table: instances put once, series marked, studies written. One of the few that touch the world.

Every read here is strongly consistent but for the lists by index. Errors: TransientError for what a retry may mend.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift import ddb_json, items, records
from heavylift.dicom import instances as model
from heavylift.dicom.counts import SWEEP_AFTER_S
from heavylift.dicom.instances import Instance, Series, Study
from heavylift.errors import TransientError
from heavylift.forms import due_index
from heavylift.ids import new_ulid
from heavylift.limits import TOMBSTONE_DAYS
from heavylift.settings import settings

PUT_TRIES = 4
STUDY_OF_BATCH = "S#"

SeriesName = tuple[str, str]
InstanceName = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """What the index holds of the names that were asked for."""

    instances: Mapping[InstanceName, Instance]
    series: Mapping[SeriesName, Series]
    studies: Mapping[str, Study]
    noted: frozenset[SeriesName]
    """(batch, study) that the batches know of."""


def look(tenant: str, names: Iterable[InstanceName], of_batches: Iterable[tuple[str, str]] = ()) -> Known:
    """Instances, their series and studies, and whether batches know their studies: one call for ten instances."""
    wanted = set(names)
    keys = [model.instance_key(tenant, *name) for name in wanted]
    keys += [model.series_key(tenant, *name) for name in {name[:2] for name in wanted}]
    keys += [model.study_key(tenant, study_uid) for study_uid in {name[0] for name in wanted}]
    keys += [_batch_study_key(tenant, *pair) for pair in set(of_batches)]
    instances: dict[InstanceName, Instance] = {}
    series: dict[SeriesName, Series] = {}
    studies: dict[str, Study] = {}
    noted: set[SeriesName] = set()
    for item in items.read_many(keys) if keys else ():
        kind = item["pk"].split("#")[2]
        if kind == "SE":
            found = model.instance_from(item)
            instances[found.study_uid, found.series_uid, found.sop_uid] = found
        elif kind == "B":
            noted.add((records.batch_of(item["pk"])[1], item["sk"].removeprefix(STUDY_OF_BATCH)))
        elif item["sk"] == model.STUDY_SORT_KEY:
            study = model.study_from(item)
            studies[study.study_uid] = study
        else:
            one = model.series_from(item)
            series[one.study_uid, one.series_uid] = one
    return Known(instances, series, studies, frozenset(noted))


# --- instances ---


def put(tenant: str, instance: Instance) -> Instance | None:
    """Put an instance if nobody has its UIDs: None when it stands there now, else the one that was first."""
    for _ in range(PUT_TRIES):
        if items.put(model.instance_item(tenant, instance), only_new=True):
            return None
        there = get_instance(tenant, instance.study_uid, instance.series_uid, instance.sop_uid)
        if there is not None:
            return None if there.file_id == instance.file_id else there
    raise TransientError("record_changed", "An instance came and went at the same moment.")


def get_instance(tenant: str, study_uid: str, series_uid: str, sop_uid: str) -> Instance | None:
    item = items.get(model.instance_key(tenant, study_uid, series_uid, sop_uid))
    return model.instance_from(item) if item else None


def replace_instance(tenant: str, before: Instance, after: Instance) -> bool:
    """Put ``after`` in the place of ``before``; False when that is not there any more."""
    item = model.instance_item(tenant, after)
    return items.put_if(item, "f", equal=before.file_id)


def put_other(tenant: str, instance: Instance) -> None:
    """Keep an instance beside the one that has its UIDs."""
    items.put(model.instance_item(tenant, instance, other=True))


def remove(tenant: str, name: InstanceName, file_id: str) -> bool:
    """Delete an instance if it is this file's; False when it is not there or another's."""
    return items.delete_unchanged(model.instance_key(tenant, *name), f=file_id)


def remove_other(tenant: str, name: InstanceName, file_id: str) -> None:
    study_uid, series_uid, sop_uid = name
    items.delete({"pk": model.others_partition(tenant, study_uid, series_uid), "sk": f"{sop_uid}#{file_id}"})


def instances_of(tenant: str, study_uid: str, series_uid: str, *, after: str = "") -> Iterator[Instance]:
    """The instances of a series by SOP instance UID, beyond ``after``; a page of a megabyte in hand."""
    partition = model.series_partition(tenant, study_uid, series_uid)
    while True:
        page, after = items.read_page(partition, after=after)
        yield from map(model.instance_from, page)
        if not after:
            return


def instances_page(
    tenant: str, study_uid: str, series_uid: str, *, after: str = "", limit: int
) -> tuple[list[Instance], str]:
    """One page of a series' instances, and where to go on ("" = the last)."""
    partition = model.series_partition(tenant, study_uid, series_uid)
    page, following = items.read_page(partition, after=after, limit=limit)
    return [model.instance_from(item) for item in page], following


def count(tenant: str, study_uid: str, series_uid: str) -> int:
    """How many instances a series has, by counting their items."""
    partition = model.series_partition(tenant, study_uid, series_uid)
    counted, start = 0, None
    while True:
        extra: dict[str, Any] = {"ExclusiveStartKey": start} if start else {}
        answer = items.on_table(
            "query",
            KeyConditionExpression="pk = :p",
            ExpressionAttributeValues={":p": {"S": partition}},
            ConsistentRead=True,
            Select="COUNT",
            **extra,
        )
        counted += int(answer["Count"])
        start = answer.get("LastEvaluatedKey")
        if not start:
            return counted


# --- series ---


def get_series(tenant: str, study_uid: str, series_uid: str) -> Series | None:
    item = items.get(model.series_key(tenant, study_uid, series_uid))
    return model.series_from(item) if item else None


def look_again(tenant: str, names: Iterable[SeriesName]) -> tuple[dict[SeriesName, Series], set[str]]:
    """Series by name, and the UIDs of those studies of theirs that are there: one call, after instances were put."""
    wanted = set(names)
    keys = [model.series_key(tenant, *name) for name in wanted]
    keys += [model.study_key(tenant, study_uid) for study_uid in {name[0] for name in wanted}]
    found = items.read_many(keys)
    series = [model.series_from(item) for item in found if item["sk"] != model.STUDY_SORT_KEY]
    there = {model.study_from(item).study_uid for item in found if item["sk"] == model.STUDY_SORT_KEY}
    return {(one.study_uid, one.series_uid): one for one in series}, there


def mark(tenant: str, series: Series, *, described: bool = True) -> None:
    """Say that instances of a series change: before, and where ``counts`` asks for it after that.

    Makes the series' item where there is none; ``described``: with what ``series`` says of it, also where a series
    without instances was stripped of that.
    """
    now = time.time()
    kept: dict[str, Any] = model.series_attributes(tenant, series) if described else {}
    kept |= {"series_id": series.series_id or new_ulid(now)} if described else {}
    kept |= due_index(f"{series.study_uid}#{series.series_uid}"[:128], now + SWEEP_AFTER_S / settings().time_scale)
    names = {f"#k{place}": name for place, name in enumerate(kept)}
    values = {f":k{place}": ddb_json.encode(value) for place, value in enumerate(kept.values())}
    sets = ", ".join(f"#k{place} = if_not_exists(#k{place}, :k{place})" for place in range(len(kept)))
    items.on_table(
        "update_item",
        Key=ddb_json.encode_item(model.series_key(tenant, series.study_uid, series.series_uid)),
        UpdateExpression=f"SET #at = :at, {sets} REMOVE #ttl{', #stripped' if described else ''} ADD #mark :one",
        ExpressionAttributeNames={
            **names,
            "#at": "marked_at",
            "#mark": "mark_seq",
            "#ttl": "ttl",
            **({"#stripped": "stripped"} if described else {}),
        },
        ExpressionAttributeValues={**values, ":at": ddb_json.encode(round(now, 3)), ":one": {"N": "1"}},
    )


def claim(tenant: str, series: Series) -> bool:
    """Say that a count for the mark that ``series`` shows begins; False when there is a newer mark."""
    return _under_mark(tenant, series, "SET #s = :s", {"#s": "claim_seq"}, {})


def settle(tenant: str, series: Series, instances: int, size_bytes: int, json_key: str | None) -> bool:
    """Write what was counted for the mark that ``series`` shows; False when there is a newer mark."""
    names = {
        "#s": "done_seq",
        "#n": "instances",
        "#b": "bytes",
        "#j": "json_key",
        "#p": "due_pk",
        "#k": "due_sk",
    }
    values = {":n": instances, ":b": size_bytes}
    write = "SET #s = :s, #n = :n, #b = :b"
    if json_key is None:
        return _under_mark(tenant, series, write + " REMOVE #j, #p, #k", names, values)
    return _under_mark(tenant, series, write + ", #j = :j REMOVE #p, #k", names, {**values, ":j": json_key})


def note_thumbnail(tenant: str, series: Series, key: str) -> bool:
    """Say which thumbnail stands for the series as ``series`` shows it; False when there is a newer mark."""
    names = {"#t": "thumbnail", "#m": "thumbnail_mark"}
    return _under_mark(tenant, series, "SET #t = :t, #m = :s", names, {":t": key})


def strip(tenant: str, series: Series) -> bool:
    """Settle a series for which no instance was counted, and forget what described it; False: there is a newer mark.

    It stays due, until what was made of it is gone too (``rest``). What is left goes by itself when no write of today
    can be under way any more.
    """
    removed = {f"#r{place}": name for place, name in enumerate(model.STRIPPED_OF)}
    names = {"#s": "done_seq", "#n": "instances", "#b": "bytes", "#e": "stripped", "#t": "ttl", **removed}
    write = f"SET #s = :s, #n = :n, #b = :n, #e = :e, #t = :t REMOVE {', '.join(removed)}"
    return _under_mark(
        tenant, series, write, names, {":n": 0, ":e": True, ":t": math.ceil(time.time() + TOMBSTONE_DAYS * 86_400)}
    )


def rest(tenant: str, series: Series) -> bool:
    """Say that nothing of a stripped series is left to be done; False when there is a newer mark."""
    return _under_mark(tenant, series, "REMOVE #p, #k", {"#p": "due_pk", "#k": "due_sk"}, {})


def _under_mark(tenant: str, series: Series, write: str, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    return items.write_if(
        "update_item",
        Key=ddb_json.encode_item(model.series_key(tenant, series.study_uid, series.series_uid)),
        UpdateExpression=write,
        ConditionExpression="#mark = :s",
        ExpressionAttributeNames={**names, "#mark": "mark_seq"},
        ExpressionAttributeValues={
            ":s": ddb_json.encode(series.mark_seq),
            **{name: ddb_json.encode(value) for name, value in values.items()},
        },
    )


# --- studies ---


def add_study(tenant: str, study: Study) -> None:
    """Write a study; the one that is there already stays as it is."""
    items.put(model.study_item(tenant, study), only_new=True)


def get_study(tenant: str, study_uid: str) -> Study | None:
    item = items.get(model.study_key(tenant, study_uid))
    return model.study_from(item) if item else None


def remove_study(tenant: str, study_uid: str) -> None:
    items.delete(model.study_key(tenant, study_uid))


def read_study(tenant: str, study_uid: str) -> tuple[Study | None, list[Series]]:
    """A study and its series, in one query for most."""
    study: Study | None = None
    series: list[Series] = []
    for item in items.read_all(model.study_partition(tenant, study_uid)):
        if item["sk"] == model.STUDY_SORT_KEY:
            study = model.study_from(item)
        else:
            series.append(model.series_from(item))
    return study, series


# --- the studies of a batch ---


def _batch_study_key(tenant: str, batch_id: str, study_uid: str) -> dict[str, str]:
    return {"pk": records.batch_partition(tenant, batch_id), "sk": STUDY_OF_BATCH + study_uid}


def note_batch_study(tenant: str, batch_id: str, study_uid: str) -> None:
    """Say that files of a batch belong to a study; the first time is kept."""
    items.put({**_batch_study_key(tenant, batch_id, study_uid), "at": round(time.time(), 3)}, only_new=True)


def studies_of_batch(tenant: str, batch_id: str) -> list[tuple[str, float]]:
    """(study, when its first file was seen) of a batch, by study UID."""
    found = items.read_all(records.batch_partition(tenant, batch_id), prefix=STUDY_OF_BATCH)
    return [(item["sk"].removeprefix(STUDY_OF_BATCH), float(item["at"])) for item in found]
