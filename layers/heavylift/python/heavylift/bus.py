"""The bus: events of ours for whoever listens. One of the few modules that touch the world.

At least once: who puts an event and cannot know whether it arrived puts it again, under the same id.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws
from heavylift.announcements import BusEvent
from heavylift.errors import TransientError
from heavylift.settings import settings

SOURCE = "heavylift"
ENTRIES_MAX = 10  # PutEvents: entries of a call (Amazon EventBridge API reference)
# PutEvents' limit of a call's entries together was 256 KB for years and is 1 MB in newer editions of the reference;
# the smaller one holds in every region.
CALL_BYTES_MAX = 256 * 1024
TIME_BYTES = 14  # what a time counts for (EventBridge user guide, "Calculating PutEvents event entry size")
TRIES = 4
PAUSE_S = 0.1  # doubled from try to try
# The codes of an entry that may be taken the next time ("PutEventsResultEntry" in the API reference).
_RETRYABLE = frozenset({"InternalFailure", "InternalException", "ThrottlingException", "ServiceUnavailable"})

Entry = Mapping[str, Any]


def put(events: Sequence[BusEvent]) -> None:
    """Put events on the bus, ten a call. TransientError ``aws_unavailable`` when not all of them were taken.

    What EventBridge took is not put again by this call; the caller, who knows only that something is missing, puts
    all of them again.
    """
    for group in grouped([_entry(event) for event in events]):
        _put_group(group)


def _entry(event: BusEvent) -> Entry:
    return {
        "Time": datetime.fromtimestamp(event.at, UTC),
        "Source": SOURCE,
        "DetailType": event.type,
        "Detail": json.dumps(event.detail, ensure_ascii=False, separators=(",", ":")),
        "EventBusName": settings().event_bus_name,
    }


def entry_bytes(entry: Entry) -> int:
    """An entry's size as EventBridge counts it."""
    return TIME_BYTES + sum(len(str(entry[name]).encode()) for name in ("Source", "DetailType", "Detail"))


def grouped(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries in order, in calls within PutEvents' limits. An entry that is too large goes alone."""
    group: list[Entry] = []
    size = 0
    for entry in entries:
        more = entry_bytes(entry)
        if group and (len(group) == ENTRIES_MAX or size + more >= CALL_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append(entry)
        size += more
    if group:
        yield group


def _put_group(group: list[Entry]) -> None:
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            answer = aws.client("events").put_events(Entries=group)
        except (ClientError, BotoCoreError) as error:
            raise aws.later(error, "put_events") from error
        refused = [
            (entry, str(result.get("ErrorCode")))
            for entry, result in zip(group, answer["Entries"], strict=True)
            if result.get("ErrorCode")
        ]
        if not refused:
            return
        group, codes = [entry for entry, _ in refused], sorted({code for _, code in refused})
        if not _RETRYABLE.issuperset(codes):
            break
    raise TransientError(
        "aws_unavailable",
        f"EventBridge did not take {len(group)} event(s): {', '.join(codes)}.",
        aws_code=", ".join(codes),
        doing="put_events",
    )
