"""The table: reads, conditional writes and queries. One of the few modules that touch the world."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heavylift import items, records
from heavylift.errors import RequestError, TransientError
from heavylift.records import Change, FileRecord

CHANGE_TRIES = 8  # two dozen concurrent writers of one record settle well within this


class StaleRecord(TransientError):
    """The record was changed by somebody else between our read and our write."""

    def __init__(self, file_id: str) -> None:
        super().__init__("record_changed", f"The record of {file_id} was changed at the same moment.", file_id=file_id)


def find(tenant: str, file_id: str) -> FileRecord | None:
    """The record, strongly consistent; None when there is none."""
    item = items.get(records.item_key(tenant, file_id))
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
    items.put_new([records.to_item(record) for record in new])


def commit(change: Change) -> FileRecord:
    """Write a change under its condition and return the record after it. StaleRecord when somebody was first."""
    record = change.record
    key = records.item_key(record.tenant, record.file_id)
    if not items.change(key, change.sets, change.removes, version=change.version_expected):
        raise StaleRecord(record.file_id)
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
    return items.delete_unchanged(records.item_key(record.tenant, record.file_id), version=record.version)


def _stored(record: FileRecord) -> dict[str, Any]:
    """The record's item as it comes back from the table: lists for tuples, whole numbers for 7.0."""
    return items.as_stored(records.to_item(record))


def get_many(keys: Sequence[Mapping[str, str]], *, consistent: bool = False) -> list[FileRecord]:
    """Records of the given item keys in their order; the absent ones are left out."""
    found = {(item["pk"], item["sk"]): item for item in items.read_many(keys, consistent=consistent)}
    return [records.from_item(found[key["pk"], key["sk"]]) for key in keys if (key["pk"], key["sk"]) in found]


_secret: list[bytes] = []


def sealing_key() -> bytes:
    """The key that seals page tokens and tickets: one item of the table, made by whoever needs it first, kept by the
    process.
    """
    found = known_sealing_key()
    if found is None:
        items.put({**records.SEALING_KEY, "secret": os.urandom(32)}, only_new=True)
        found = known_sealing_key()
    if found is None:
        raise TransientError("aws_unavailable", "The sealing key could not be read back.")
    return found


def known_sealing_key() -> bytes | None:
    """The same for whoever only opens what was sealed; None when nothing ever was."""
    if not _secret:
        item = items.get(records.SEALING_KEY)
        if item is None:
            return None
        _secret.append(item["secret"])
    return _secret[0]
