"""Which files a request means, and what their records say. I/O: reads of the table only.

Records are read a hundred at a time, strongly consistent and without the attributes that no package needs, so that
memory does not grow with their number. Of a study the instances of one series are held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from heavylift import items, records, scanning
from heavylift.archives.entries import Entry, Missing
from heavylift.archives.members import Members
from heavylift.archives.requests import Request
from heavylift.batches import marks, store
from heavylift.dicom import index, prebuilt
from heavylift.errors import ContentError
from heavylift.ids import member_id
from heavylift.limits import ARCHIVE_FILES_MAX
from heavylift.records import FileRecord
from heavylift.states import State

PAGE = 100  # BatchGetItem
LOOKS_AT_ONCE = 4  # 100 000 files within some seconds
_LOOKED_AT = ("tenant", "file_id", "name", "size", "status", "etag", "store_etag", "scan")
_ATTRIBUTES = (
    "tenant",
    "file_id",
    "lane",
    "dicom",
    "name",
    "relative_path",
    "size",
    "status",
    "created_at",
    "etag",
    "scan",
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
        found = _of_study(tenant, request.study_uid or "")
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


def _of_study(tenant: str, study_uid: str) -> Found:
    """The files of a study's instances, series by series, each in the order in which viewers show it."""
    _, series = index.read_study(tenant, study_uid)
    empty = True
    for one in sorted(series, key=lambda one: (one.number is None, one.number or 0, one.series_uid)):
        instances = prebuilt.in_order(list(index.instances_of(tenant, study_uid, one.series_uid)))
        empty = empty and not instances
        yield from _of_ids(tenant, [instance.file_id for instance in instances])
    if empty:
        raise ContentError("not_found", "There is no study with this id.")


def _records(tenant: str, file_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found = items.read_many([records.item_key(tenant, file_id) for file_id in file_ids], _ATTRIBUTES)
    return {item["file_id"]: item for item in found}


def _judged(tenant: str, item: Mapping[str, Any]) -> Entry | Missing:
    """The entry of a record's item, or why there can be none. Pure."""
    record = records.from_item(item)
    path = record.relative_path or record.name
    if not _is_stored(record):
        return Missing(record.file_id, path, "not_stored" if record.stored else record.status.value)
    if scanning.is_infected(record):
        return Missing(record.file_id, path, "malware_found")
    checksums = record.checksums
    return Entry(
        file_id=record.file_id,
        path=path,
        size=record.size,
        created_at=record.created_at,
        key=record.content_key,
        etag=record.store_etag or "",
        version_id=record.store_version_id,
        crc32=checksums.get("crc32"),
        sha256=_hex_digest(checksums.get("sha256") or record.declared_sha256),
        sha256_proven=bool(checksums.get("sha256") and checksums.get("sha256_proven")),
        logical_id=record.logical_id,
        media_type=record.media_type,
        format=record.format,
        kind=record.kind,
        facts=dict(record.facts or {}),
        description=record.description,
        data_type=record.data_type,
        metadata=dict(record.metadata),
    )


def _is_stored(record: FileRecord) -> bool:
    """Whether its bytes can be copied: also those of a file of which nothing could be made."""
    return (record.stored or record.status is State.FAILED) and record.store_etag is not None


def _hex_digest(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) and len(text) == 64 else None


def vanished(tenant: str, members: Members) -> int | None:
    """The first member whose file is not stored any more, or no longer served; None: all are. For a look just before an
    archive is joined, so that what was deleted or found infected while it was built is in no archive. TransientError.

    Requests: one a hundred files, some at once.
    """
    pages = [range(start, min(start + PAGE, len(members))) for start in range(0, len(members), PAGE)]
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        return next((n for n in pool.map(lambda page: _vanished(tenant, members, page), pages) if n is not None), None)


def _vanished(tenant: str, members: Members, page: range) -> int | None:
    of_files = {n: file_id for n in page if (file_id := members.file_id(n)) is not None}
    wanted = [records.item_key(tenant, file_id) for file_id in of_files.values()]
    found = {item["file_id"]: item for item in items.read_many(wanted, _LOOKED_AT)} if wanted else {}
    for n, file_id in of_files.items():
        record = records.from_item(found[file_id]) if file_id in found else None
        if record is None or not _is_stored(record) or scanning.is_infected(record):
            return n
    return None
