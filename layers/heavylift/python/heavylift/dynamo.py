"""The table: reads, conditional writes and queries. One of the few modules that touch the world."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from heavylift import items, records
from heavylift.errors import RequestError, TransientError
from heavylift.records import Change, FileRecord


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
    """Write a change under its condition and return the record after it. Stale when somebody was first."""
    if not _write(change):
        raise items.Stale(change.record.file_id)
    return change.record


def _write(change: Change) -> bool:
    key = records.item_key(change.record.tenant, change.record.file_id)
    return items.change(key, change.sets, change.removes, version=change.version_expected)


def update(
    tenant: str,
    file_id: str,
    decide: Callable[[FileRecord], Change | None],
    before: Callable[[Change], None] = lambda change: None,
) -> tuple[FileRecord, bool]:
    """``items.settle`` for a file: the record, and whether we changed it.

    ``before`` does what must be done before a change is written.
    """

    def write(record: FileRecord, change: Change) -> bool:
        before(change)
        return _write(change)

    return items.settle(
        file_id,
        lambda: get(tenant, file_id),
        decide,
        write,
        after=lambda change: change.record,
        item_of=records.to_item,
    )


def remove(record: FileRecord) -> bool:
    """Delete the item if it is still at this version; False when somebody changed it."""
    return items.delete_unchanged(records.item_key(record.tenant, record.file_id), version=record.version)


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
