"""A batch's member that needs an upload of its own: the same one, however often it is asked for."""

from __future__ import annotations

from dataclasses import replace

from heavylift import intake, keys, s3
from heavylift.api.bodies import FileEntry
from heavylift.api.caller import Caller
from heavylift.batches import members, model, store
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch
from heavylift.errors import RequestError
from heavylift.ids import is_ulid, member_id
from heavylift.records import FileRecord
from heavylift.settings import settings


def open_member(caller: Caller, entry: FileEntry, max_part_size: int | None, now: float) -> FileRecord:
    """The record of the member's upload, written; the one that is there already if there is one.

    RequestError ``invalid_body``, ``not_found``, ``state_conflict``, ``batch_expired``, ``not_in_manifest``,
    ``size_mismatch``, and those of any upload.
    """
    if entry.batch_id is None or entry.n is None:
        raise RequestError("invalid_body", "A file of a batch needs both, batch_id and n.")
    batch = store.find(caller.tenant, entry.batch_id) if is_ulid(entry.batch_id) else None
    if batch is None:
        raise RequestError("not_found", "There is no batch with this id.")
    there = store.members_of(caller.tenant, batch.batch_id, [entry.n]).get(entry.n)
    if there is None or there.s3_upload_id is None:
        model.must_be_open(batch, now)
    listed = store.entry(caller.tenant, batch.batch_id, entry.n)
    if listed is None:
        raise RequestError("not_in_manifest", f"The manifest does not name a file {entry.n}.", n=entry.n)
    if listed.size != entry.size:
        raise RequestError(
            "size_mismatch",
            f"The manifest announces file {entry.n} with {listed.size} bytes, not {entry.size}.",
            n=entry.n,
            size=listed.size,
        )
    if there is not None:
        return there
    return _begin(_planned(caller, batch, listed, entry, max_part_size, now))


def _planned(
    caller: Caller, batch: Batch, listed: Entry, entry: FileEntry, max_part_size: int | None, now: float
) -> FileRecord:
    """What the client says of the file, and of the batch where it says nothing."""
    wanted = entry.model_copy(
        update={
            "name": listed.name,
            "relative_path": listed.relative_path or entry.relative_path,
            "kind": entry.kind or (None if batch.kind == "other" else batch.kind),
            "sha256": entry.sha256 or listed.sha256,
            "rules": entry.rules if entry.rules is not None else batch.rules,
            "metadata": {**batch.metadata, **entry.metadata},
        }
    )
    file_id = member_id(batch.batch_id, listed.n)
    record = intake.plan_upload(
        wanted,
        tenant=caller.tenant,
        user=caller.user,
        file_id=file_id,
        now=now,
        max_part_size=max_part_size,
        settings=settings(),
    )
    expires_at = min(record.expires_at, batch.expires_at)
    return replace(
        record,
        lane=batch.lane,
        key=keys.staging(batch.lane, caller.tenant, file_id),
        expires_at=expires_at,
        due_at=min(record.due_at or expires_at, expires_at),
    )


def _begin(record: FileRecord) -> FileRecord:
    """Write the record with its upload, unless a twin was first: then ours goes and the twin's is given."""
    mine = with_upload(record) if record.mode == "multipart" else record
    if not store.put_member(mine):
        batch_id, _, number = record.file_id.partition("-")
        there = store.members_of(record.tenant, batch_id, [int(number)])[int(number)]
        if mine.s3_upload_id and mine.s3_upload_id != there.s3_upload_id:
            s3.abort_multipart(settings().staging_bucket, mine.key, mine.s3_upload_id)
        return there
    if members.withdrawn(mine):
        if mine.s3_upload_id:
            s3.abort_multipart(settings().staging_bucket, mine.key, mine.s3_upload_id)
        raise RequestError("state_conflict", "The batch was cancelled at the same moment.", status="cancelled")
    return mine


def with_upload(record: FileRecord) -> FileRecord:
    """The record with a new multipart upload in staging. TransientError."""
    upload_id = s3.create_multipart(
        settings().staging_bucket,
        record.key,
        checksum="SHA256" if record.checksum == "sha256" else None,
        metadata={"file-id": record.file_id},
    )
    return replace(record, s3_upload_id=upload_id)
