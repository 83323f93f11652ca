"""Which files a request means, and what their records say. I/O: reads of the table only.

Records are read a hundred at a time, strongly consistent and without the attributes that no package needs, so that
memory does not grow with their number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heavylift import items, keys, records
from heavylift.archives.entries import Entry, Missing
from heavylift.archives.requests import Request
from heavylift.batches import marks, store
from heavylift.errors import ContentError
from heavylift.ids import member_id
from heavylift.limits import ARCHIVE_FILES_MAX
from heavylift.states import STORED, State

PAGE = 100  # BatchGetItem
_ATTRIBUTES = (
    "file_id",
    "name",
    "relative_path",
    "size",
    "status",
    "created_at",
    "store_etag",
    "store_version_id",
    "checksums",
    "declared_sha256",
    "logical_id",
    "media_type",
    "format",
    "kind",
    "facts",
    "description",
    "data_type",
    "metadata",
)
# What was taken back or never arrived belongs to no document.
_NO_PART = frozenset({State.CANCELLED, State.EXPIRED, State.DELETED})
_NOT_WANTED = frozenset({marks.SKIPPED, marks.DUPLICATE, marks.CANCELLED})

Found = Iterator[Entry | Missing]


def select(tenant: str, request: Request, left_out: Mapping[str, str]) -> Found:
    """Every file that is meant, in the archive's order: as asked for, by number in a batch, by age in a document.

    ``left_out``: file id -> reason, of files that vanished while an archive was built. ContentError ``not_found`` for a
    batch, document or study that is not there, ``too_many_files``. TransientError.
    """
    if request.file_ids:
        found = _of_ids(tenant, request.file_ids)
    elif request.batch_id:
        found = _of_batch(tenant, request.batch_id)
    elif request.logical_id:
        found = _of_document(tenant, request.logical_id)
    else:
        raise ContentError("not_found", "There is no study with this id: nothing here reads DICOM yet.")
    for count, one in enumerate(found):
        if count >= ARCHIVE_FILES_MAX:
            raise ContentError("too_many_files", f"An archive has at most {ARCHIVE_FILES_MAX} files.")
        reason = left_out.get(one.file_id)
        yield one if reason is None else Missing(one.file_id, one.path, reason)


def _of_ids(tenant: str, file_ids: Sequence[str]) -> Found:
    for start in range(0, len(file_ids), PAGE):
        page = file_ids[start : start + PAGE]
        there = _records(tenant, page)
        for file_id in page:
            yield _judged(tenant, there[file_id]) if file_id in there else Missing(file_id, "", "not_found")


def _of_batch(tenant: str, batch_id: str) -> Found:
    if store.find(tenant, batch_id) is None:
        raise ContentError("not_found", "There is no batch with this id.")
    for entries in store.manifest_pages(tenant, batch_id):
        numbers = sorted(entries)
        there = _records(tenant, [member_id(batch_id, n) for n in numbers])
        outcomes: dict[int, str] | None = None
        for n in numbers:
            file_id = member_id(batch_id, n)
            item = there.get(file_id)
            judged = (
                _judged(tenant, item)
                if item
                else Missing(file_id, entries[n].relative_path or entries[n].name, "not_received")
            )
            if isinstance(judged, Missing):
                if outcomes is None:
                    outcomes = store.marks_of(tenant, batch_id, [n // 100])
                if outcomes.get(n, " ")[-1] in _NOT_WANTED:
                    continue  # it is none of the files that are wanted, or there twice
            yield judged


def _of_document(tenant: str, logical_id: str) -> Found:
    start: Mapping[str, str] | None = None
    empty = True
    while True:
        page, start = items.query_keys(
            "logical", records.logical_partition(tenant, logical_id), limit=PAGE, start=start, descending=False
        )
        found = {(item["pk"], item["sk"]): item for item in items.read_many(page, (*_ATTRIBUTES, "pk", "sk"))}
        for key in page:
            item = found.get((key["pk"], key["sk"]))
            if item is None or State(item["status"]) in _NO_PART:
                continue
            empty = False
            yield _judged(tenant, item)
        if start is None:
            break
    if empty:
        raise ContentError("not_found", "There is no file of this document.")


def _records(tenant: str, file_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found = items.read_many([records.item_key(tenant, file_id) for file_id in file_ids], _ATTRIBUTES)
    return {item["file_id"]: item for item in found}


def _judged(tenant: str, item: Mapping[str, Any]) -> Entry | Missing:
    """The entry of a record's item, or why there can be none. Pure."""
    file_id, status = str(item["file_id"]), State(item["status"])
    path = str(item.get("relative_path") or item["name"])
    stored = status in STORED or (status is State.FAILED and item.get("store_etag"))
    if not stored:
        return Missing(file_id, path, status.value)
    if not item.get("store_etag"):
        return Missing(file_id, path, "not_stored")
    checksums = item.get("checksums") or {}
    declared = item.get("declared_sha256")
    return Entry(
        file_id=file_id,
        path=path,
        size=int(item["size"]),
        created_at=float(item.get("created_at", 0)),
        key=keys.store(tenant, file_id),
        etag=str(item["store_etag"]),
        version_id=item.get("store_version_id"),
        crc32=checksums.get("crc32"),
        sha256=_hex_digest(checksums.get("sha256") or declared),
        sha256_proven=bool(checksums.get("sha256") and checksums.get("sha256_proven")),
        logical_id=item.get("logical_id"),
        media_type=item.get("media_type"),
        format=item.get("format"),
        kind=str(item.get("kind", "other")),
        facts=dict(item.get("facts") or {}),
        description=item.get("description"),
        data_type=item.get("data_type"),
        metadata=json.loads(item["metadata"]) if item.get("metadata") else {},
    )


def _hex_digest(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) and len(text) == 64 else None


def vanished(tenant: str, file_ids: Sequence[str]) -> str | None:
    """The first of these files that is not stored any more; None: all are. For a look just before an archive is joined.

    Requests: one a hundred files.
    """
    for start in range(0, len(file_ids), PAGE):
        page = file_ids[start : start + PAGE]
        wanted = [records.item_key(tenant, file_id) for file_id in page]
        found = {item["file_id"]: item for item in items.read_many(wanted, ("file_id", "status", "store_etag"))}
        for file_id in page:
            item = found.get(file_id)
            if item is None or not (
                State(item["status"]) in STORED or (item["status"] == State.FAILED and item.get("store_etag"))
            ):
                return file_id
    return None
