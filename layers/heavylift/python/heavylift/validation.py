"""validate: from an object in staging to a file in the store, or to a verdict.

Every step may be killed, repeated or overtaken: what is done already is recognised by the record or by HEAD.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from heavylift import (
    assembly,
    checking,
    dynamo,
    file_rules,
    keys,
    life,
    plain_checks,
    purging,
    queue,
    rechecking,
    records,
    s3,
    scanning,
    work,
)
from heavylift.batches import members, progress
from heavylift.errors import ContentError, TransientError
from heavylift.ids import member_of
from heavylift.image.facts import inspect_sound
from heavylift.limits import ATTEMPTS_MAX, SNIFF_HEAD_BYTES
from heavylift.magic_opinion import second_opinion
from heavylift.messages import Delivery
from heavylift.promotion import Journal, OutOfTime, Promotion, TargetConflict, promote
from heavylift.ranges import ReadAhead, drive
from heavylift.raw.reading import inspect_raw
from heavylift.records import Change, FileRecord, lease_seconds
from heavylift.retention import GONE
from heavylift.settings import settings
from heavylift.sniff import detect
from heavylift.states import AWAITING_OBJECT, Event, State
from heavylift.telemetry import count, logger, memory_peak_bytes
from heavylift.verdict import Accepted, judge
from heavylift.work import VALIDATE, Claim

# What thumbnail makes something of; every other kind is complete when it is stored.
SERVED_KINDS = frozenset({"image", "raw"})


def take(delivery: Delivery) -> None:
    """Settle one message of the queue ``validate``."""
    found = _record_of(delivery)
    if found is None:
        return
    if found.stored and found.recheck is not None and isinstance(delivery.message, queue.Continuation):
        rechecking.take(found, delivery)
        return
    if found.status is State.SCANNING:
        found = scanning.wait_on(found)
        if found.status is not State.SCANNING or scanning.gate_of(found) is scanning.Gate.WAIT:
            logger().info("a scan is waited for", file_id=found.file_id, status=found.status.value)
            return
    if found.status is State.STAGED and members.withdrawn(found):
        purging.release(found)
        return
    if work.stage_of(found) == work.INGEST.name:
        hand_over(found)
        return
    lease_s = lease_seconds(delivery.timeout_s, settings().time_scale)
    hop = delivery.message.hop if isinstance(delivery.message, queue.Continuation) else 0
    answer, record = work.claim(found.tenant, found.file_id, VALIDATE, delivery.owner, lease_s, hop=hop)
    if answer is Claim.DONE and record.stored:
        _after_fresh(record)
    if answer is not Claim.TAKE:
        _leave_no_upload(record)  # it failed just now, or its worker was killed between the failure and this
        logger().info("nothing to validate", file_id=record.file_id, status=record.status.value, why=answer.value)
        return
    if hop == 0:
        progress.note_arrived(record)
    try:
        _work(record, delivery)
    except ContentError as error:
        _reject(record, error)
    except (TargetConflict, scanning.ScanBroken, file_rules.DefaultRulesWrong) as error:
        failure = work.failure_of(error, VALIDATE.name, retryable=not isinstance(error, TargetConflict))
        work.write(record, Event.FAIL, VALIDATE.name, failure=failure, **_no_upload(record))
    except checking.Unfinished as pause:
        work.hand_on(record, VALIDATE, delivery.message, pause.done)
    except OutOfTime as error:
        _leave_no_upload(work.hand_on(record, VALIDATE, _of_promotion(record, delivery.message), error.parts_done))
    except TransientError as error:
        _leave_no_upload(work.note_trouble(record, VALIDATE, error))
        raise


def _of_promotion(record: FileRecord, message: queue.Message) -> queue.Message:
    """The message without what it says of the checking before: bytes of that are no parts of this."""
    if isinstance(message, queue.Continuation) and record.status is not State.PROMOTING:
        return replace(message, checkpoint=None)
    return message


def _record_of(delivery: Delivery) -> FileRecord | None:
    """The record that a message is about; None: nothing is to be done."""
    message = delivery.message
    if not isinstance(message, queue.ScanVerdict):
        return _awaited(delivery, message)
    record = scanning.record_of(message, lambda verdict: _scanned(verdict, delivery))
    # A verdict says that the object is there, but its own event takes the file up: this one may be early or forged.
    return record if record is not None and record.status in VALIDATE.working else None


def _scanned(verdict: queue.ScanVerdict, delivery: Delivery) -> FileRecord | None:
    parsed = keys.parse_staging(verdict.key)
    if parsed is None:
        return None
    record = dynamo.find(parsed.tenant, parsed.file_id)
    if record is None and member_of(parsed.file_id):
        record = _member(parsed.tenant, parsed.file_id, parsed.lane, delivery)
    return record


def _awaited(delivery: Delivery, message: queue.ObjectCreated | queue.Continuation) -> FileRecord | None:
    """The record that a message is about, one step ahead if the object proves it. None: nothing is to be done."""
    if isinstance(message, queue.Continuation):
        record = dynamo.find(message.tenant, message.file_id)
        return record or _member(message.tenant, message.file_id, None, delivery)
    parsed = keys.parse_staging(message.key)
    if parsed is None:
        members.note_unnamed(message.key)
    record = dynamo.find(parsed.tenant, parsed.file_id) if parsed else None
    if record is None and parsed is not None and member_of(parsed.file_id):
        record = _member(parsed.tenant, parsed.file_id, parsed.lane, delivery)
        if record is None:
            return None
    if record is None or record.key != message.key:
        _unwanted(message, "no record waits for it")
        return None
    if record.status in AWAITING_OBJECT:
        head = s3.head(message.bucket, message.key)
        if head is None:
            return None  # gone again: a cancel was faster
        record = assembly.arrive(record, head, VALIDATE.name)
    if record.status in GONE:
        _unwanted(message, f"its file is {record.status.value}")
        life.update(
            record.tenant,
            record.file_id,
            lambda now: records.note(now, "unawaited_object", time.time(), VALIDATE.name, size=message.size_bytes),
        )
        return None
    return record


def _member(tenant: str, file_id: str, lane: str | None, delivery: Delivery) -> FileRecord | None:
    """The record of a batch's member that had none until its object was there; None for any other file."""
    if member_of(file_id) is None:
        return None
    # Once more than this and the message would lie among the dead; the sweeper finds the object all the same.
    last_try = delivery.receive_count >= ATTEMPTS_MAX or isinstance(delivery.message, queue.Continuation)
    return members.take_up(tenant, file_id, lane, last_try=last_try, by=VALIDATE.name)


def _unwanted(message: queue.ObjectCreated, why: str) -> None:
    logger().warning("an object appeared that nobody waits for; it is deleted", key=message.key, why=why)
    count("UnawaitedObjects")
    s3.delete(message.bucket, message.key)


def _work(record: FileRecord, delivery: Delivery) -> None:
    started = time.monotonic()
    if record.status is State.SCANNING:
        record = scanning.settle(record)
    elif record.status is not State.PROMOTING:
        record = _examine(record, started, delivery.seconds_left)
    if record.status is State.SCANNING:
        logger().info("a scan is waited for", file_id=record.file_id)
        return
    if record.is_dicom:
        work.write(record, None, VALIDATE.name, lease_owner=None, lease_until=0.0, attempt=0)
        hand_over(record)
        return
    head = promote(
        Promotion(
            settings().staging_bucket,
            record.key,
            record.etag or "",
            record.size,
            settings().store_bucket,
            keys.store(record.tenant, record.file_id),
            record.media_type or "application/octet-stream",
            record.file_id,
        ),
        record.store_upload_id,
        Journal(lambda upload_id: _remember(record, upload_id), lambda parts: _found(record, parts)),
        delivery.seconds_left,
    )
    fresh = commit_fresh(record, head, VALIDATE.name)
    count("FilesPromoted", kind=fresh.kind)
    count("BytesStored", fresh.size, "Bytes", kind=fresh.kind)
    _after_fresh(fresh)


def _remember(record: FileRecord, upload_id: str) -> None:
    work.write(record, None, VALIDATE.name, store_upload_id=upload_id or None, progress=0)


def _found(record: FileRecord, parts: int) -> None:
    """A copy that got further before it was cut off has not failed: its attempts are counted anew from there."""
    if parts > record.progress:
        work.write(record, None, VALIDATE.name, progress=parts, attempt=1)


def _no_upload(record: FileRecord) -> dict[str, Any]:
    """Abort the upload that the record remembers, if any; what to write then."""
    if record.store_upload_id is None:
        return {"store_upload_id": None, "progress": 0}
    store_key = keys.store(record.tenant, record.file_id)
    if s3.abort_multipart(settings().store_bucket, store_key, record.store_upload_id):
        return {"store_upload_id": None, "progress": 0}
    logger().warning("parts outlived the abort; the sweeper goes on", file_id=record.file_id)
    return {}


def _leave_no_upload(record: FileRecord) -> None:
    """What failed for good keeps no copied parts; a retry begins the copy anew."""
    if record.status in {State.FAILED, State.REJECTED} and record.store_upload_id:
        work.write(record, None, VALIDATE.name, **_no_upload(record))


def _examine(record: FileRecord, started: float, seconds_left: Callable[[], float]) -> FileRecord:
    """Detect, judge, look into pictures and tables; commit ``promoting`` with what was found. ContentError."""
    head = s3.head(settings().staging_bucket, record.key)
    if head is None:
        raise ContentError("source_expired", "The uploaded object is no longer in staging.")
    if record.etag is not None and head.etag != record.etag:
        raise ContentError("source_changed", "The object in staging is not the one that was proven when it arrived.")
    if head.size_bytes != record.size:
        raise ContentError(
            "size_mismatch",
            f"The file was announced with {record.size} bytes and arrived with {head.size_bytes}.",
            size=head.size_bytes,
            size_expected=record.size,
        )
    scanning.refuse_early(record, head.etag)
    source = s3.ObjectSource(settings().staging_bucket, record.key, record.size, head.etag, head.version_id)
    checksums = members.prove_digest(record, head, source.read)
    fetch = ReadAhead(source.read, record.size, head_bytes=SNIFF_HEAD_BYTES)
    detection = drive(detect(record.size, record.name), fetch)
    if record.size:
        detection = second_opinion(detection, fetch(0, min(SNIFF_HEAD_BYTES, record.size)))
    rules = file_rules.parsed(record)
    accepted = judge(record, detection, file_rules.mismatch_policy(rules))
    facts: dict[str, Any] | None = None
    if accepted.kind == "image":
        facts = asdict(drive(inspect_sound(detection, record.size), fetch))
    elif accepted.kind == "raw":
        facts = asdict(drive(inspect_raw(detection, record.size), fetch))
    checked: checking.Checked | None = None
    if checking.wanted(record, accepted):
        checked = checking.check(record, accepted, detection, head.etag, source, fetch, seconds_left)
        source.traffic.add(requests=checked.requests_before, bytes_in=checked.bytes_before)
    elif rules is not None and record.size:
        checked = plain_checks.check(record, accepted, head.etag, rules)
    elapsed_ms = round((time.monotonic() - started) * 1000)
    logger().info(
        "file accepted",
        file_id=record.file_id,
        format=accepted.format,
        media_type=accepted.media_type,
        requests=source.traffic.requests,
        bytes_read=source.traffic.bytes_in,
    )
    findings = _findings(record, accepted, facts, source, elapsed_ms)
    if accepted.mismatch is not None:
        logger().warning("the content is not what was announced", file_id=record.file_id, reason=accepted.mismatch)
        count("TypeMismatches")
        record = _told(record, accepted.mismatch)
    findings["report"] = checked.report if checked else None
    if checksums is not None:
        findings["checksums"] = checksums
    if scanning.gate_of(record, head.etag) is scanning.Gate.WAIT:
        scanning.read_tag(record)
    return scanning.pass_gate(record, etag=head.etag, progress=0, **findings)


def _told(record: FileRecord, mismatch: str) -> FileRecord:
    """A contradiction that the policy lets pass, in the audit trail; once, however often the file is examined."""

    def decide(current: FileRecord) -> Change | None:
        if current.fence != record.fence or any(entry["event"] == "type_mismatch" for entry in current.events):
            return None
        return records.note(current, "type_mismatch", time.time(), VALIDATE.name, message=mismatch)

    return life.update(record.tenant, record.file_id, decide)


def _findings(
    record: FileRecord, accepted: Accepted, facts: dict[str, Any] | None, source: s3.ObjectSource, elapsed_ms: int
) -> dict[str, Any]:
    stage = {
        "bytes_in": source.traffic.bytes_in,
        "bytes_out": 0,
        "requests": source.traffic.requests + 1,  # the HEAD
        "memory_peak_bytes": memory_peak_bytes(),
        "ms": elapsed_ms,
    }
    return {
        "kind": accepted.kind,
        "format": accepted.format,
        "media_type": accepted.media_type,
        "facts": facts,
        "failure": None,
        "bytes_read": stage["bytes_in"],
        "requests": stage["requests"],
        "stages": {**record.stages, VALIDATE.name: stage},
    }


def _reject(record: FileRecord, error: ContentError) -> None:
    """The file's fault: recorded, the bytes stay in quarantine, the queue goes on."""
    logger().info("file rejected", file_id=record.file_id, code=error.code, facts=error.facts)
    count("FilesRejected", code=error.code)
    failure = work.failure_of(error, VALIDATE.name, retryable=error.code != "source_expired")
    findings = error.findings if isinstance(error, checking.Invalid) else {}
    work.write(record, Event.REJECT, VALIDATE.name, failure=failure, **findings, **_no_upload(record))


def hand_over(record: FileRecord) -> None:
    """DICOM is dicom_ingest's from here on; told twice, its lease lets one worker at it."""
    queue.send(work.INGEST.name, queue.Continuation("handover", record.tenant, record.file_id, record.attempt))


def commit_fresh(record: FileRecord, head: s3.Head, by: str) -> FileRecord:
    """Commit ``fresh`` for a store object that HEAD has proven; validate and the store's event both may."""

    def decide(current: FileRecord) -> Change | None:
        if current.status is not State.PROMOTING:
            if current.stored:
                return None
            raise work.LeaseLost("lease_lost", f"The file is {current.status.value} now.")
        now = time.time()
        checksums = dict(current.checksums)
        for name in ("crc32", "crc64nvme"):
            if value := head.checksums.get(name):
                checksums[name] = value
        return records.transition(
            current,
            Event.STORE,
            now,
            by,
            checksums=checksums,
            store_etag=head.etag,
            store_version_id=head.version_id,
            store_upload_id=None,
            progress=0,
            lease_owner=None,
            lease_until=0.0,
            attempt=0,
            failure=None,
            due_at=now + work.first_look_s(),
        )

    return life.update(record.tenant, record.file_id, decide)


def _after_fresh(record: FileRecord) -> None:
    """Once ``fresh`` is committed: the staging copy goes, and a kind that nobody serves is complete."""
    s3.delete(settings().staging_bucket, record.key)
    finish_unserved(record, VALIDATE.name)


def finish_unserved(record: FileRecord, by: str) -> None:
    """fresh -> completed for a kind that no function makes anything of; whoever sees it first does it."""
    if record.status is not State.FRESH or record.kind in SERVED_KINDS:
        return

    def decide(current: FileRecord) -> Change | None:
        if current.status is not State.FRESH:
            return None
        return records.transition(current, Event.FINISH, time.time(), by)

    life.update(record.tenant, record.file_id, decide)
    count("FilesCompleted", kind=record.kind)


def prove_stored(record: FileRecord, by: str) -> FileRecord:
    """An event of the store that was faster than the commit of ``fresh``: prove the object and make the step."""
    if record.status is not State.PROMOTING:
        return record
    head = s3.head(settings().store_bucket, keys.store(record.tenant, record.file_id))
    if head is None or head.size_bytes != record.size or head.metadata.get("source-etag") != record.etag:
        return record
    return commit_fresh(record, head, by)
