"""A step in a file's life, with what it owes the world.

Before the write: audit events that no longer fit the record are kept as an object. After a write that ended the file:
its hour is marked for the statistics, its verdict in its batch, and the announcement goes to the bus. What a kill
leaves undone stands in the record's ``outbox``, and the sweeper does it: at least once, under the same event id.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from heavylift import announcements, bus, counting, dynamo, items, keys, records, retention, s3
from heavylift.batches import progress
from heavylift.errors import TransientError
from heavylift.limits import ANNOUNCE_AGAIN_S, AUDIT_EVENTS_MOVED, PURGE_AGAIN_S
from heavylift.records import Change, FileRecord
from heavylift.retention import DAY_S, Clocks
from heavylift.settings import settings
from heavylift.telemetry import logger


def clocks() -> Clocks:
    """The waiting times of this deployment."""
    scale = settings().time_scale
    return Clocks(
        quarantine_s=settings().quarantine_days * DAY_S,
        announce_again_s=ANNOUNCE_AGAIN_S / scale,
        purge_again_s=PURGE_AGAIN_S / scale,
    )


def update(tenant: str, file_id: str, decide: Callable[[FileRecord], Change | None]) -> FileRecord:
    """Read, decide, write; then do what the record owes, if it was we who ended it. See ``dynamo.update``."""

    def decided(current: FileRecord) -> Change | None:
        change = decide(current)
        if change is not None and current.final and not change.record.final:
            # Tried again: its hour may be at rest, and no end will mark it soon. Before the write, so that no kill
            # comes between.
            counting.mark(tenant, file_id)
        return change

    record, changed = dynamo.update(tenant, file_id, decided, before=_keep_overflow)
    if changed and record.final and record.outbox:
        try:
            record = announce(record)
        except TransientError as error:
            logger().warning("the sweeper will announce this file", file_id=file_id, code=error.code)
    return record


def announce(record: FileRecord) -> FileRecord:
    """Do what ``outbox`` holds and clear it. TransientError: it stays there, due for the sweeper."""
    counting.mark(record.tenant, record.file_id)
    progress.note_verdict(record)
    bus.put([announcements.file_event(record, owed) for owed in record.outbox])
    told = {owed["version"] for owed in record.outbox}

    def decide(current: FileRecord) -> Change | None:
        left = tuple(owed for owed in current.outbox if owed["version"] not in told)
        if left == current.outbox:
            return None
        values: dict[str, Any] = {"outbox": left}
        if current.final and not left:
            values["due_at"] = retention.next_look(current, clocks())
        return records.change(current, time.time(), **values)

    clear = decide(record)
    try:
        # The common case needs no second read: nobody else writes to a file that has just ended.
        return dynamo.commit(clear) if clear is not None else record
    except items.Stale:
        return dynamo.update(record.tenant, record.file_id, decide)[0]


def _keep_overflow(change: Change) -> None:
    """The events that leave the item go to an object first; written twice it holds the same bytes."""
    if not change.overflow:
        return
    record = change.record
    s3.put_bytes(
        settings().derived_bucket,
        keys.audit(record.tenant, record.file_id, record.events_dropped - len(change.overflow)),
        json.dumps(list(change.overflow), ensure_ascii=False, separators=(",", ":"), default=float).encode(),
        media_type="application/json",
    )


def audit_trail(record: FileRecord) -> list[Mapping[str, Any]]:
    """All audit events, the oldest first: those kept as objects, then those of the item."""
    events: list[Mapping[str, Any]] = []
    for first in range(0, record.events_dropped, AUDIT_EVENTS_MOVED):
        body = s3.read_small(settings().derived_bucket, keys.audit(record.tenant, record.file_id, first))
        events.extend(json.loads(body) if body is not None else [])
    return [*events, *record.events]
