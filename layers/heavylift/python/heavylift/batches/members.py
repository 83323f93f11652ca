"""Members: from an entry of the manifest to the record of a file, and then a life as any other.

A small member has no record before its object's event: validate takes it up here, with what the manifest and the batch
say of it, and only while the batch lives. The record is written before the batch is looked at once more, and a cancel
writes the batch before it looks for records: one of the two sees the other, so that no member outlives its batch.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from heavylift import assembly, intake, keys, life, records, s3, work
from heavylift.batches import model, store
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch, BatchStatus
from heavylift.errors import ContentError, RequestError, TransientError
from heavylift.ids import is_tenant, is_ulid, member_id, member_of
from heavylift.limits import BATCH_LIST_MAX, MIB, rule_for_extension
from heavylift.logical import logical_id
from heavylift.parts import plan_parts
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import Event, State
from heavylift.telemetry import count, logger


def lane_of(kind: str) -> str:
    """The staging lane of a batch's files."""
    return intake.lane_of(kind, settings())


def prefix_of(batch: Batch) -> str:
    """Where the batch's clients put their bytes: ``<lane>/<tenant>/<batch_id>/``."""
    return keys.staging(batch.lane, batch.tenant, member_id(batch.batch_id, 0)).rpartition("/")[0] + "/"


def announced(batch: Batch, entry: Entry) -> FileRecord:
    """The record that a member would have: what the manifest and the batch say of it. Pure."""
    file_id = member_id(batch.batch_id, entry.n)
    plan = plan_parts(entry.size, part_size_min=settings().part_size_min_bytes, part_size_max=None)
    hint = rule_for_extension(entry.name)
    return FileRecord(
        tenant=batch.tenant,
        file_id=file_id,
        name=entry.name,
        size=entry.size,
        status=State.CREATED,
        kind=hint.kind if hint and batch.kind == "other" else batch.kind,
        mode=plan.mode,
        part_size=plan.part_size,
        part_count=plan.part_count,
        lane=batch.lane,
        key=keys.staging(batch.lane, batch.tenant, file_id),
        declared_kind=None if batch.kind == "other" else batch.kind,
        declared_sha256=entry.sha256,
        user=batch.user,
        logical_id=logical_id(entry.name, dict(batch.metadata)),
        relative_path=entry.relative_path,
        metadata=batch.metadata,
        rules=batch.rules,
        created_at=batch.created_at,
        updated_at=batch.created_at,
        expires_at=batch.expires_at,
    )


def arrived(batch: Batch, entry: Entry, head: s3.Head, now: float, by: str) -> FileRecord:
    """The first record of a small member: ``staged``, with what HEAD has proven of its object. Pure."""
    record = announced(batch, entry)
    proven = head.checksums.get("sha256") is not None
    event = {"at": round(now, 3), "event": Event.ARRIVE.value, "from": "", "to": State.STAGED.value, "by": by}
    return replace(
        record,
        status=State.STAGED,
        checksum="sha256" if proven else "none",
        updated_at=now,
        due_at=now + work.first_look_s(),
        events=(event,),
        **assembly.staged_values(record, head, now),
    )


def take_up(tenant: str, file_id: str, lane: str | None, *, last_try: bool, by: str) -> FileRecord | None:
    """The record of a member that has an object and no record yet; None: nothing is to be done.

    ``lane``: as the object's key has it, None when nobody knows. An object that nobody waits for is deleted and told
    in the batch's errors. TransientError ``not_listed_yet``: its page of the manifest may still come (but on the last
    try it is left to the sweeper, which finds every object in staging that has no record).
    """
    batch_id, n = member_of(file_id) or ("", 0)
    batch = store.find(tenant, batch_id)
    entry = store.entry(tenant, batch_id, n)  # after the batch: its count of entries is never ahead of this
    head = None
    if batch is not None and lane in {None, batch.lane}:
        head = s3.head(settings().staging_bucket, keys.staging(batch.lane, tenant, file_id))
        if head is None:
            return None  # gone again: a twin or a cancel was faster
    if not awaits(batch, entry, tenant, file_id, lane, last_try=last_try):
        return None
    assert batch is not None
    assert entry is not None
    assert head is not None
    record = arrived(batch, entry, head, time.time(), by)
    if not store.put_member(record):
        return store.members_of(tenant, batch_id, [n]).get(n)
    logger().info("member taken up", file_id=file_id, size=head.size_bytes)
    return record


def awaits(
    batch: Batch | None, entry: Entry | None, tenant: str, file_id: str, lane: str | None, *, last_try: bool
) -> bool:
    """Whether a batch waits for the object of a member that has no record; else the object is deleted, and told.

    TransientError ``not_listed_yet``, but on the last try: see ``take_up``.
    """
    _, n = member_of(file_id) or ("", 0)
    if batch is None or lane not in {None, batch.lane}:
        _refuse(None, keys.staging(lane or "in", tenant, file_id), n, "no batch waits for it")
        return False
    key = keys.staging(batch.lane, tenant, file_id)
    if batch.final:
        _refuse(batch, key, n, f"batch_{batch.status.value}" if entry else "not_in_manifest")
        return False
    if entry is not None:
        return True
    if batch.status is BatchStatus.OPEN and batch.unlisted:
        if last_try:
            return False
        raise TransientError("not_listed_yet", "The manifest does not name this file yet.", file_id=file_id)
    _refuse(batch, key, n, "not_in_manifest")
    return False


def withdrawn(record: FileRecord) -> bool:
    """Whether the batch of a record that is about to be worked on has gone meanwhile; then the member is cancelled.

    What it left in S3 is the caller's to delete. Never for a file by itself.
    """
    member = member_of(record.file_id)
    if member is None:
        return False
    batch = store.find(record.tenant, member[0])
    if batch is not None and batch.status not in model.GONE:
        return False
    cancelled(record, "batch")
    return True


def cancelled(record: FileRecord, by: str) -> FileRecord:
    """The member after it was cancelled; one that is beyond cancelling is left alone."""

    def decide(current: FileRecord) -> Change | None:
        if current.final:
            return None
        return records.transition(current, Event.CANCEL, time.time(), by)

    try:
        return life.update(record.tenant, record.file_id, decide)
    except RequestError as error:
        logger().info("a member is beyond cancelling", file_id=record.file_id, status=error.facts.get("status"))
        return record


def note_unnamed(key: str) -> None:
    """An object under a batch's prefix whose name is no number: told in the batch's errors. Its name stays unsaid."""
    pieces = key.split("/")
    if len(pieces) >= 4 and is_tenant(pieces[1]) and is_ulid(pieces[2]) and store.find(pieces[1], pieces[2]):
        store.note_stray(pieces[1], pieces[2], None, "no_number", BATCH_LIST_MAX)


def _refuse(batch: Batch | None, key: str, n: int, code: str) -> None:
    logger().warning("an object appeared that no batch waits for; it is deleted", key=key, why=code)
    count("UnawaitedObjects")
    if batch is not None:
        store.note_stray(batch.tenant, batch.batch_id, n, code, BATCH_LIST_MAX)
    s3.delete(settings().staging_bucket, key)


def prove_digest(record: FileRecord, head: s3.Head, read: Callable[[int, int], bytes]) -> dict[str, object] | None:
    """That a member's bytes have the SHA-256 that the manifest announces: the checksums to record; None: as before.

    A form may come without a digest that S3 checks; then the bytes, 16 MiB at most, are read here once.
    ContentError ``sha256_mismatch``. Memory: 1 MiB.
    """
    if record.declared_sha256 is None or record.mode != "single" or member_of(record.file_id) is None:
        return None
    proven = head.checksums.get("sha256")
    if proven:
        found = b64decode(proven).hex()
    else:
        digest = sha256()
        for offset in range(0, record.size, MIB):
            digest.update(read(offset, min(MIB, record.size - offset)))
        found = digest.hexdigest()
    if found != record.declared_sha256:
        raise ContentError(
            "sha256_mismatch",
            "The file has another SHA-256 than the manifest announces.",
            sha256=found,
            sha256_expected=record.declared_sha256,
        )
    return {**record.checksums, "sha256": found, "sha256_proven": True}
