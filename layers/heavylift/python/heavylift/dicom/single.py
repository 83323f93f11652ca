"""Files that have a record before dicom_ingest sees them: uploads by themselves, large members, files handed over.

They live as any file does: a lease, a fenced write for every step (``work``), several slices where a copy takes long.
What they are and where they belong is found as for small members; here are the parts that both ways share, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from heavylift import assembly, life, purging, queue, records, retention, s3, work
from heavylift.batches import members, progress
from heavylift.dicom import (
    bundles,
    counts,
    expanding,
    header,
    index,
    instances,
    recounting,
    rewriting,
    settling,
    verdicts,
)
from heavylift.dicom.header import Header
from heavylift.dicom.instances import Instance, Study
from heavylift.dicom.settling import Copied, Placed
from heavylift.dicom.verdicts import Judged, Verdict
from heavylift.errors import ContentError, TransientError
from heavylift.ids import member_of
from heavylift.limits import COPY_OBJECT_MAX, TYPES
from heavylift.messages import Delivery
from heavylift.promotion import Journal, OutOfTime, TargetConflict, promote
from heavylift.records import FileRecord, lease_seconds
from heavylift.retention import GONE
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, Event, State
from heavylift.telemetry import count, logger, memory_peak_bytes
from heavylift.work import INGEST, Claim

NAME = INGEST.name
_SIZE_MAX = next(rule.size_max for rule in TYPES if rule.kind == "dicom")
_INDEXES = ("list", "status", "fingerprint", "logical")
_OF_STAGING = ("etag", "staged_at", "user")  # of the bytes that are gone; and its batch knows whose it is


# --- what both ways share ---


def with_mismatch(instance: Instance, found: Header, study: Study | None) -> Instance:
    """The instance with a warning where its study is known as another patient's."""
    if study is None or study.patient_id == found.patient_id[: instances.TEXT_LENGTH_MAX]:
        return instance
    return replace(instance, warnings=tuple(sorted({*instance.warnings, "other_patient"})))


def proven(record: FileRecord, head: s3.Head, source: s3.ObjectSource) -> dict[str, Any]:
    """The checksums to record of an object whose size and digest are as announced.

    ContentError ``size_mismatch``, ``sha256_mismatch``.
    """
    if record.size_known and head.size_bytes != record.size:
        raise ContentError(
            "size_mismatch",
            f"The file was announced with {record.size} bytes and arrived with {head.size_bytes}.",
            size=head.size_bytes,
            size_expected=record.size,
        )
    known = dict(assembly.staged_values(record, head, 0.0)["checksums"])
    checked = members.prove_digest(replace(record, checksums=known), head, source.read)
    return dict(checked) if checked is not None else known


def described(placed: Placed) -> dict[str, Any]:
    """What the record keeps of a verdict: words and UIDs, nothing of the patient."""
    judged, instance = placed.judged, placed.instance
    values: dict[str, Any] = {"verdict": judged.verdict, "mark": judged.mark}
    if instance is not None:
        values |= {
            "study_uid": instance.study_uid,
            "series_uid": instance.series_uid,
            "sop_uid": instance.sop_uid,
        }
    if judged.warnings:
        values["warnings"] = list(judged.warnings)
    if placed.stored_as is not None:
        values["stored_as"] = placed.stored_as
    return {**values, **dict(judged.facts)}


def failure_of(judged: Judged) -> dict[str, Any]:
    return {"code": judged.verdict, "message": judged.message, "stage": NAME, "retryable": True, **dict(judged.facts)}


def status_of(placed: Placed) -> State:
    """The state in which a verdict leaves its file."""
    if placed.copied is not None:
        return State.COMPLETED_WITH_ERRORS if placed.judged.verdict == Verdict.CONFLICT.value else State.COMPLETED
    return State.COMPLETED if placed.judged.verdict == Verdict.DUPLICATE.value else State.REJECTED


def verdict_of(record: FileRecord, placed: Placed, found: Header | None, now: float) -> FileRecord:
    """The one record of a small member, written when all is known of it. Pure but for the clocks' settings."""
    status = status_of(placed)
    copied = placed.copied
    checksums = {**record.checksums, **({"crc32": copied.crc32} if copied and copied.crc32 else {})}
    event = {"at": round(now, 3), "event": "judge", "from": "", "to": status.value, "by": NAME}
    ended = replace(
        record,
        status=status,
        kind="dicom",
        mode="single",
        part_size=0,  # readers know it from the size: a single PUT has one part
        checksum="sha256" if checksums.get("sha256_proven") else "none",
        declared_kind=None,
        declared_sha256=None if checksums.get("sha256") else record.declared_sha256,
        checksums=checksums,
        format="DICOM" if found is not None else None,
        media_type=settling.MEDIA_TYPE if found is not None else None,
        store_etag=copied.etag if copied else None,
        store_version_id=copied.version_id if copied else None,
        dicom=described(placed),
        failure=failure_of(placed.judged) if status is not State.COMPLETED else None,
        events=(event,),
        metadata={},
        rules=None,
        logical_id=None,
        staged_at=round(now, 3),
        updated_at=round(now, 3),
        finished_at=round(now, 3),
    )
    return replace(ended, due_at=retention.next_look(ended, life.clocks()))


_DEFAULTS = {f.name: f.default for f in fields(FileRecord) if f.default is not MISSING}
_KEPT = frozenset({"version", "lane"})


def compact_item(record: FileRecord) -> dict[str, Any]:
    """The record's item without what a reader fills in by itself; a stored member is in no list of all files.

    Two thousand stored members in three indexes would cost 6 000 write units more than their items; they are found by
    their batch, by their study and by id. What has failed is listed.
    """
    item = {
        name: value
        for name, value in records.to_item(record).items()
        if name in _KEPT or name not in _DEFAULTS or value != _DEFAULTS[name]
    }
    if record.stored and record.status is State.COMPLETED:
        for name in (*_OF_STAGING, *(f"{index}_{end}" for index in _INDEXES for end in ("pk", "sk"))):
            item.pop(name, None)
    return item


# --- the way of files with a record ---


def unwanted(delivery: Delivery) -> None:
    """An object that nobody waits for is deleted."""
    message = delivery.message
    if isinstance(message, queue.ObjectCreated):
        logger().warning("an object appeared that nobody waits for; it is deleted", key=message.key)
        count("UnawaitedObjects")
        s3.delete(message.bucket, message.key)


def take(delivery: Delivery, record: FileRecord | None, tenant: str, file_id: str) -> None:
    """Settle one message about a file with a record of its own (None: nobody has ever heard of the file)."""
    found = _awaited(delivery, record)
    if found is None:
        return
    if found.status is State.STAGED and members.withdrawn(found):
        purging.release(found)
        return
    lease_s = lease_seconds(delivery.timeout_s, settings().time_scale)
    hop = delivery.message.hop if isinstance(delivery.message, queue.Continuation) else 0
    answer, leased = work.claim(tenant, file_id, INGEST, delivery.owner, lease_s, hop=hop)
    if answer is not Claim.TAKE:
        _after_end(leased)
        logger().info("nothing to take in", file_id=file_id, status=leased.status.value, why=answer.value)
        return
    if hop == 0:
        progress.note_arrived(leased)
    try:
        _work(leased, delivery)
    except ContentError as error:
        _reject(leased, verdicts.refused(error))
    except TargetConflict as error:
        failure = work.failure_of(error, NAME, retryable=False)
        work.write(leased, Event.FAIL, NAME, failure=failure, **_no_upload(leased))
    except OutOfTime as error:
        _leave_no_upload(work.hand_on(leased, INGEST, delivery.message, error.parts_done))
    except expanding.Unfinished as pause:
        work.hand_on(leased, INGEST, delivery.message, pause.done)
    except TransientError as error:
        _leave_no_upload(work.note_trouble(leased, INGEST, error))
        raise


def _awaited(delivery: Delivery, record: FileRecord | None) -> FileRecord | None:
    """The record, one step ahead if the object proves it; None when nothing is to be done."""
    message = delivery.message
    arrived = isinstance(message, queue.ObjectCreated)
    if record is None or (isinstance(message, queue.ObjectCreated) and message.key != record.key):
        unwanted(delivery)
        return None
    if record.status in AWAITING_OBJECT:
        head = s3.head(settings().staging_bucket, record.key)
        if head is None:
            return None
        record = assembly.arrive(record, head, NAME)
    if record.status in GONE:
        if arrived:
            unwanted(delivery)
        return None
    if work.stage_of(record) != NAME:
        _after_end(record)
        return None
    return record


def _after_end(record: FileRecord) -> None:
    """What a worker that was killed has left of a file that is stored."""
    if record.status is State.FRESH and record.is_dicom:
        record = _end(record)
    forget_leftovers(record)
    if record.stored:
        s3.delete(settings().staging_bucket, record.key)
    _leave_no_upload(record)


def forget_leftovers(record: FileRecord) -> None:
    """Delete what a killed worker may have left of a file that has ended without an object of its own."""
    if not record.final or record.dicom is None or record.store_etag is not None:
        return
    settling.withdraw(record.store_key)
    if record.dicom.get("verdict") == Verdict.EXPANDED.value:
        expanding.forget_pieces(record, int(record.dicom.get("members", 0)))


def _work(record: FileRecord, delivery: Delivery) -> None:
    started = time.monotonic()
    head = s3.head(settings().staging_bucket, record.key)
    if head is None:
        raise ContentError("source_expired", "The uploaded object is no longer in staging.")
    if record.etag is not None and head.etag != record.etag:
        raise ContentError("source_changed", "The object in staging is not the one that was proven when it arrived.")
    source = s3.ObjectSource(settings().staging_bucket, record.key, head.size_bytes, head.etag, head.version_id)
    first: list[bytes] = []

    def fetch(offset: int, length: int) -> bytes:
        data = source.read(offset, length)
        if offset == 0:
            first.append(data[: bundles.HEAD_BYTES])
        return data

    checksums = proven(record, head, source)
    rewritten = None
    try:
        if rewriting.wanted(record.tenant, record.metadata):
            rewritten = rewriting.rewrite(fetch, head.size_bytes, head.etag, record.tenant)
        found = rewritten.header if rewritten else header.scan(fetch, head.size_bytes)
    except ContentError as error:
        kind = bundles.kind_of(first[0]) if first and error.code in bundles.MAY_BE else None
        if kind is None or member_of(record.file_id) is None:
            raise
        members_of = expanding.take_apart(record, kind, source, delivery)
        if members_of is not None:
            _resolve(record, Placed(verdicts.expanded(members_of)), {})
            expanding.forget_pieces(record, members_of)
        return
    if record.size > _SIZE_MAX:
        raise ContentError(
            "too_large_for_type",
            f"A DICOM file may have {_SIZE_MAX} bytes, this one has {record.size}.",
            size=record.size,
        )
    stage = {
        "bytes_in": source.traffic.bytes_in,
        "bytes_out": 0,
        "requests": source.traffic.requests + 1,
        "memory_peak_bytes": memory_peak_bytes(),
        "ms": round((time.monotonic() - started) * 1000),
    }
    findings = {
        "kind": "dicom",
        "format": "DICOM",
        "media_type": settling.MEDIA_TYPE,
        "etag": head.etag,
        "checksums": checksums,
        "failure": None,
        "bytes_read": stage["bytes_in"],
        "requests": stage["requests"],
        "stages": {**record.stages, NAME: stage},
    }
    values: dict[str, Any] = {}
    record = work.write(record, None if record.status is State.PROMOTING else Event.PROMOTE, NAME, **findings)
    if rewritten is not None:
        values = rewriting.nameless(record, rewritten.size_bytes)
        instance = rewriting.instance_of(rewritten, record.file_id)
        place = rewriting.Place(source.bucket, source.key, source.etag)
        copy = lambda: rewritten.store(record.store_key, record.file_id, place)  # noqa: E731
    else:
        instance = instances.instance_of(found, record.file_id, settling.identity_of(head), time.time())
        copy = lambda: _copy(record, delivery)  # noqa: E731
    _settle(record, _place(record, instance, found, delivery, copy), values)


def _place(
    record: FileRecord, instance: Instance, found: Header, delivery: Delivery, copy: Callable[[], Copied]
) -> Placed:
    """Into the index, as small members go; ``ingest`` has the same order for ten files together."""
    tenant, now = record.tenant, time.time()
    member = member_of(record.file_id)
    name = (instance.study_uid, instance.series_uid, instance.sop_uid)
    known = index.look(tenant, [name], [(member[0], name[0])] if member else [])
    instance = with_mismatch(instance, found, known.studies.get(name[0]))
    if member is not None and not known.noted:
        index.note_batch_study(tenant, member[0], name[0])
    placed = settling.known_already(tenant, instance, known.instances.get(name))
    if placed is not None:
        if delivery.receive_count > 1 or record.attempt > 1:
            settling.withdraw(record.store_key)
        return placed
    if name[0] not in known.studies:
        index.add_study(tenant, instances.study_of(found, now))
    series = instances.series_of(found)
    marked = counts.must_mark_before(known.series.get(name[:2]), now, settings().time_scale)
    if marked:
        index.mark(tenant, series)
    placed = settling.place(tenant, instance, copy)
    there, studies = index.look_again(tenant, [name[:2]])
    if counts.must_mark_after(there.get(name[:2])):
        index.mark(tenant, series)
        marked = True
    if name[0] not in studies:
        index.add_study(tenant, instances.study_of(found, now))
    if marked or delivery.receive_count > 1:
        recounting.ask(tenant, [name[:2]])
    return placed


def _copy(record: FileRecord, delivery: Delivery) -> Copied:
    plan = settling.promotion_of(
        record.tenant, record.file_id, record.key, record.etag or "", record.size, record.store_key
    )
    if record.size <= COPY_OBJECT_MAX:
        return settling.copy_small(plan)
    journal = Journal(
        lambda upload_id: _remember(record, upload_id),
        lambda parts: _got_further(record, parts),
    )
    head = promote(plan, record.store_upload_id, journal, delivery.seconds_left)
    return Copied(head.etag, head.version_id, head.checksums.get("crc32"))


def _remember(record: FileRecord, upload_id: str) -> None:
    work.write(record, None, NAME, store_upload_id=upload_id or None, progress=0)


def _got_further(record: FileRecord, parts: int) -> None:
    if parts > record.progress:
        work.write(record, None, NAME, progress=parts, attempt=1)


def _settle(record: FileRecord, placed: Placed, values: Mapping[str, Any]) -> None:
    """``values``: what the record is to say besides, at its end."""
    status = status_of(placed)
    if placed.copied is None:
        if status is State.REJECTED:
            _reject(record, placed.judged, placed)
        else:
            _resolve(record, placed, values)
        return
    copied = placed.copied
    flawed = status is State.COMPLETED_WITH_ERRORS
    known = values.get("checksums", record.checksums)
    checksums = {**known, **({"crc32": copied.crc32} if copied.crc32 else {})}
    record = work.write(
        record,
        Event.STORE,
        NAME,
        **{**values, "checksums": checksums},
        store_etag=copied.etag,
        store_version_id=copied.version_id,
        store_upload_id=None,
        progress=0,
        dicom=described(placed),
        failure=failure_of(placed.judged) if flawed else None,
    )
    count("DicomFiles", verdict=placed.judged.verdict)
    record = _end(record)
    s3.delete(settings().staging_bucket, record.key)


def _end(record: FileRecord) -> FileRecord:
    """fresh -> completed: of DICOM nothing is made before somebody asks for it."""
    if (record.dicom or {}).get("verdict") == Verdict.CONFLICT.value:
        record = work.write(record, Event.PROCESS, NAME)
        return work.write(record, Event.FINISH_WITH_ERRORS, NAME)
    return work.write(record, Event.FINISH, NAME)


def _resolve(record: FileRecord, placed: Placed, values: Mapping[str, Any]) -> None:
    """It needs no object of its own: a duplicate, or a bundle whose members are files."""
    count("DicomFiles", verdict=placed.judged.verdict)
    record = work.write(
        record,
        Event.RESOLVE,
        NAME,
        dicom=described(placed),
        failure=None,
        lease_owner=None,
        lease_until=0.0,
        **values,
        **_no_upload(record),
    )
    s3.delete(settings().staging_bucket, record.key)


def _reject(record: FileRecord, judged: Judged, placed: Placed | None = None) -> None:
    """The file's fault: recorded, the bytes stay in quarantine, the queue goes on."""
    logger().info("file rejected", file_id=record.file_id, code=judged.verdict)
    count("DicomFiles", verdict=judged.verdict)
    work.write(
        record,
        Event.REJECT,
        NAME,
        failure=failure_of(judged),
        dicom=described(placed or Placed(judged)),
        **_no_upload(record),
    )


def _no_upload(record: FileRecord) -> dict[str, Any]:
    """Abort the copy that the record remembers, if any; what to write then."""
    if record.store_upload_id is None or s3.abort_multipart(
        settings().store_bucket, record.store_key, record.store_upload_id
    ):
        return {"store_upload_id": None, "progress": 0}
    logger().warning("parts outlived the abort; the sweeper goes on", file_id=record.file_id)
    return {}


def _leave_no_upload(record: FileRecord) -> None:
    if record.status in {State.FAILED, State.REJECTED} and record.store_upload_id:
        work.write(record, None, NAME, **_no_upload(record))
