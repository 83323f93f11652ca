"""Counting files for the statistics: marks of the hours that changed, and the recount that the sweeper runs.

Whoever changes what is counted marks the file's hour; the recount counts each marked hour anew from the records and
folds it into its day, month and total. Sums are written, never added to, so that a repeat changes nothing, and a run
costs what changed, not what is stored. Why no file is missed:

* A mark is removed only if nobody has marked the hour since the recount read it (its number and its token are the
  same), and only if it was made ``SETTLE_S`` before the count began. So it may be made after the change, or up to a
  function's timeout before it, and the index that names the hour's files has that long to show a new one.
* While a file of the hour has not ended its mark stays. What ends a file marks its hour again.
* An hour's item and the sums above it are written under the condition that the version that was read before the count
  is still there: a run that slept through its successor changes nothing.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from heavylift import items, records, statistics
from heavylift.errors import HeavyliftError
from heavylift.settings import settings
from heavylift.statistics import NOTHING, Counts
from heavylift.telemetry import logger

MARK_SHARDS = 4  # an item takes 1 000 writes a second; so many files of one tenant and hour may end in each
# Longer than a function of the API lives after it has made a mark, and than an index needs to show a new item.
SETTLE_S = 300.0
MARKS_PAGE = 100
FILES_PAGE = 1_000  # ten BatchGetItem calls: well below a second
OPEN_KEPT_MAX = 1_000  # 30 KB of ids; an hour with more open files is read whole each time
STATE = {"pk": "T#_#SWEEP", "sk": "STATISTICS"}


def mark(tenant: str, file_id: str) -> None:
    """Say that what is counted of this file has just changed, or will have within the minute. TransientError."""
    mark_all(tenant, (file_id,))


def mark_all(tenant: str, file_ids: Iterable[str]) -> None:
    """``mark`` for the files of one call: a write for each hour among them, not for each file."""
    hours = {statistics.hour_of(file_id): file_id for file_id in file_ids}
    for hour, file_id in hours.items():
        shard = zlib.crc32(file_id.encode()) % MARK_SHARDS
        items.touch(_mark_key(shard, f"{tenant}#{hour}"), token=os.urandom(8).hex(), at=time.time())


def _mark_partition(shard: int) -> str:
    return f"T#_#DIRTY#{shard}"


def _mark_key(shard: int, name: str) -> dict[str, str]:
    return {"pk": _mark_partition(shard), "sk": name}


class _Overtaken(Exception):
    """Another run wrote what we were about to write."""


@dataclass(frozen=True, slots=True)
class _Count:
    """How far the count of one hour has come; kept between pages, so that a run that ends goes on in the next."""

    name: str
    """``<tenant>#<hour>``, the marks' sort key."""
    began: float
    marks: Mapping[str, list[Any]]
    """By shard: number, token and time of each mark, read before anything was counted."""
    versions: Mapping[str, int]
    """Of the items to be written, read before anything was counted: 0 = not there."""
    closed: Counts = NOTHING
    open: Counts = NOTHING
    open_ids: tuple[str, ...] | None = ()
    """None: too many to be named."""
    start: Mapping[str, str] | None = None

    @property
    def tenant(self) -> str:
        return self.name.partition("#")[0]

    @property
    def hour(self) -> str:
        return self.name.partition("#")[2]

    @property
    def counts(self) -> Counts:
        return self.closed + self.open

    @property
    def settled(self) -> bool:
        settle_s = SETTLE_S / settings().time_scale
        return all(self.began - made_at >= settle_s for _, _, made_at in self.marks.values())

    def with_files(self, files: Iterable[Mapping[str, Any]]) -> _Count:
        closed, opened, ids = self.closed, self.open, self.open_ids
        for file in files:
            if statistics.is_open(file):
                opened += statistics.count(file)
                ids = None if ids is None or len(ids) == OPEN_KEPT_MAX else (*ids, file["file_id"])
            else:
                closed += statistics.count(file)
        return replace(self, closed=closed, open=opened, open_ids=ids)

    def as_item(self) -> dict[str, Any]:
        return {**asdict(self), "closed": self.closed.as_item(), "open": self.open.as_item()}


def _from_item(item: Mapping[str, Any]) -> _Count:
    ids = item["open_ids"]
    return _Count(
        **{
            **item,
            "closed": statistics.from_item(item["closed"]),
            "open": statistics.from_item(item["open"]),
            "open_ids": None if ids is None else tuple(ids),
        }
    )


@dataclass(slots=True)
class _Round:
    """One way through all marks, over as many runs as it takes; kept in the table."""

    version: int
    """Of the item that keeps it: a run that slept through its successor neither goes on nor turns it back."""
    as_of: float | None
    began: float
    shard: int = 0
    after: str = ""
    whole: bool = True
    """Whether every mark so far was counted."""
    count: _Count | None = None

    def keep(self) -> bool:
        """Write down how far it has come; False when another run has taken over."""
        place = {"began": self.began, "shard": self.shard, "after": self.after, "whole": self.whole}
        count = None if self.count is None else self.count.as_item()
        return self._write(as_of=self.as_of, round={**place, "count": count})

    def end(self) -> bool:
        """Write down that every mark had its turn; False when another run has taken over."""
        return self._write(as_of=self.began if self.whole else self.as_of)

    def _write(self, **values: Any) -> bool:
        self.version += 1
        return _written({**STATE, "version": self.version, "ran_at": time.time(), **values})


def _round() -> _Round:
    found = items.read_many([STATE])
    state = found[0] if found else {}
    version, as_of, place = state.get("version", 0), state.get("as_of"), state.get("round")
    if not place:
        return _Round(version, as_of, time.time())
    count = place["count"]
    return _Round(version, as_of, **{**place, "count": None if count is None else _from_item(count)})


def _written(item: Mapping[str, Any]) -> bool:
    """Write an item whose ``version`` follows the one that was read; False when somebody else was first."""
    # Our own write may have arrived before: botocore sends again what was not answered.
    return items.put_version(item) or items.read_many([{"pk": item["pk"], "sk": item["sk"]}]) == [items.as_stored(item)]


def recount(seconds_left: Callable[[], float]) -> dict[str, int]:
    """One run: bring the marked hours up to date. Stops in time; the next run goes on where this one stopped.

    The answer: ``hours`` counted, ``files`` read, hours ``postponed`` (the next round counts them), and ``rounds``
    ended (1: the statistics are as of this run; 0: there was not time enough).
    """
    done = {"hours": 0, "files": 0, "postponed": 0, "rounds": 0}
    way = _round()
    seen: set[str] = set()  # an hour's marks lie in several shards
    while way.shard < MARK_SHARDS:
        marks, following = items.read_page(_mark_partition(way.shard), after=way.after, limit=MARKS_PAGE)
        for name in (found["sk"] for found in marks):
            if name not in seen:
                if seconds_left() <= 0 or not _bring_up_to_date(name, way, seconds_left, done):
                    way.keep()
                    return done
                seen.add(name)
            way.after, way.count = name, None
        if not following:
            way.shard, way.after = way.shard + 1, ""
    done["rounds"] = int(way.end())
    return done


def _bring_up_to_date(name: str, way: _Round, seconds_left: Callable[[], float], done: dict[str, int]) -> bool:
    """Count one hour; False when the time is up in the middle of it."""
    try:
        if not _count_hour(name, way, seconds_left, done):
            return False
        done["hours"] += 1
    except (HeavyliftError, ClientError, _Overtaken) as error:
        # Its marks stay. The hours behind it get their turn, but the statistics are not as of this round.
        logger().warning("could not count an hour now", hour=name, error=type(error).__name__, exc_info=True)
        done["postponed"] += 1
        way.whole = False
    return True


def _count_hour(name: str, way: _Round, seconds_left: Callable[[], float], done: dict[str, int]) -> bool:
    if way.count is None or way.count.name != name:
        begun, known, stored = _begin(name)
        if not begun.marks:
            return True  # another run was here
        if known is not None and known["marks"] == dict(begun.marks):
            _look_again(begun, known, stored, done)
            return True
        way.count = begun
    count = way.count
    low, high = statistics.id_range(count.hour)
    while True:
        keys, start = items.keys_between(
            "list", records.list_partition(count.tenant), low, high, limit=FILES_PAGE, start=count.start
        )
        files = items.read_many(keys, statistics.FIELDS)
        done["files"] += len(files)
        count = replace(count.with_files(files), start=start)
        if start is None:
            break
        way.count = count
        if not way.keep() or seconds_left() <= 0:
            return False
    _settle(count, _publish(count))
    return True


def _begin(name: str) -> tuple[_Count, Mapping[str, Any] | None, Counts]:
    """Everything that must be known before the count begins, the item of open files, and the counts so far."""
    began = time.time()
    tenant, _, hour = name.partition("#")
    partition = statistics.partition(tenant)
    mark_keys = [_mark_key(shard, name) for shard in range(MARK_SHARDS)]
    sums = [statistics.hour_key(hour), *(sum_key for sum_key, _ in statistics.folds(hour))]
    wanted = [*mark_keys, *({"pk": partition, "sk": sort_key} for sort_key in (*sums, statistics.open_key(hour)))]
    found = {(item["pk"], item["sk"]): item for item in items.read_many(wanted)}
    marks = {
        str(shard): [item["seq"], item["token"], item["at"]]
        for shard, key in enumerate(mark_keys)
        if (item := found.get((key["pk"], key["sk"])))
    }
    versions = {sort_key: found.get((partition, sort_key), {}).get("version", 0) for sort_key in sums}
    stored = statistics.from_item(found.get((partition, sums[0]), {}))
    return _Count(name, began, marks, versions), found.get((partition, statistics.open_key(hour))), stored


def _look_again(begun: _Count, known: Mapping[str, Any], stored: Counts, done: dict[str, int]) -> None:
    """Nobody marked the hour since it was counted whole: only its open files can count for something else."""
    files = items.read_many([records.item_key(begun.tenant, file_id) for file_id in known["ids"]], statistics.FIELDS)
    done["files"] += len(files)
    count = replace(begun, closed=statistics.from_item(known["closed"])).with_files(files)
    version = known["version"]
    if version != begun.versions[statistics.hour_key(begun.hour)] or count.counts != stored:
        version = _publish(count)  # it counts for something else, or a run died between the hour and its sums
    elif set(count.open_ids or ()) == set(known["ids"]):
        return
    _settle(count, version)


def _publish(count: _Count) -> int:
    """Write the hour, then each sum that it is part of, the smallest first. The hour's new version."""
    partition = statistics.partition(count.tenant)
    version = _write(partition, statistics.hour_key(count.hour), count.counts, count.versions)
    for sort_key, prefix in statistics.folds(count.hour):
        parts = items.read_all(partition, prefix=prefix)
        _write(partition, sort_key, statistics.add_up(map(statistics.from_item, parts)), count.versions)
    return version


def _write(partition: str, sort_key: str, counts: Counts, versions: Mapping[str, int]) -> int:
    version = versions[sort_key] + 1
    if not _written({"pk": partition, "sk": sort_key, "version": version, **counts.as_item()}):
        raise _Overtaken(sort_key)
    return version


def _settle(count: _Count, version: int) -> None:
    """Remove the marks of an hour that has come to rest; of one that has not, remember what is still open.

    ``version``: of the hour's item when all its sums held it. Where it has another one, a run died between the two.
    """
    if not count.settled or count.open_ids is None:
        return
    key = {"pk": statistics.partition(count.tenant), "sk": statistics.open_key(count.hour)}
    if count.open_ids:
        items.put(
            {
                **key,
                "marks": dict(count.marks),
                "version": version,
                "closed": count.closed.as_item(),
                "ids": list(count.open_ids),
            }
        )
        return
    items.delete(key)
    for shard, (number, token, _) in count.marks.items():
        items.delete_unchanged(_mark_key(int(shard), count.name), seq=number, token=token)


def read(tenant: str) -> dict[str, Any]:
    """GET /v1/stats: eventually consistent, as of the last round that ended."""
    partition = statistics.partition(tenant)
    total_key = {"pk": partition, "sk": statistics.TOTAL}
    found = {item["pk"]: item for item in items.read_many([STATE, total_key], consistent=False)}
    as_of = found.get(STATE["pk"], {}).get("as_of")
    if as_of is None:
        return statistics.view(NOTHING, {}, None)
    low, high = statistics.week_range(as_of)
    hours = items.read_all(partition, low=low, high=high, consistent=False)
    return statistics.view(
        statistics.from_item(found.get(partition, {})),
        {item["sk"]: statistics.from_item(item) for item in hours},
        as_of,
    )
