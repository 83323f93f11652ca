"""New rules for a file that is stored already: a new report and a new ``valid`` on its record; its state stays.

``POST …/retry`` with rules writes the wish into the record (``recheck``) and sends validate a message. The work has a
lease of its own in that field, because the record's lease may be thumbnail's; what holds it is told apart by its fence,
as everywhere. A wish that comes later takes the place of one that is under way. What is lost the sweeper sends again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heavylift import checking, file_rules, keys, life, plain_checks, queue, records, retention, s3, wishes, work
from heavylift.errors import ContentError, HeavyliftError, TransientError
from heavylift.limits import ATTEMPTS_MAX, SNIFF_HEAD_BYTES
from heavylift.messages import Delivery
from heavylift.ranges import ReadAhead, drive
from heavylift.records import Change, FileRecord, lease_seconds
from heavylift.settings import settings
from heavylift.sniff import detect
from heavylift.telemetry import count, logger
from heavylift.verdict import Accepted
from heavylift.work import VALIDATE


def take(record: FileRecord, delivery: Delivery) -> None:
    """One message's part of the work. TransientError: the message comes back by the retry clock."""
    held = _claim(record, delivery)
    if held is None:
        logger().info("nothing to check again", file_id=record.file_id)
        return
    try:
        report = _report(held, delivery)
    except checking.Unfinished as pause:
        _hand_on(held, delivery, pause.done)
    except TransientError as error:
        _free(held, error)
        raise
    except (ContentError, file_rules.DefaultRulesWrong) as error:
        _end(held, failure=error)
    else:
        _end(held, report=report)


def _claim(record: FileRecord, delivery: Delivery) -> FileRecord | None:
    """The record with its lease taken; None where there is nothing to do, or somebody is at it."""
    mine: list[bool] = []
    lease_s = lease_seconds(delivery.timeout_s, settings().time_scale)

    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        found = current.recheck
        mine[:] = [False]
        if found is None or not current.stored:
            return None
        if float(found.get("until", 0)) > now and found.get("owner") != delivery.owner:
            return None
        if int(found["attempt"]) >= ATTEMPTS_MAX:
            error = HeavyliftError("attempts_exhausted", f"It was tried {found['attempt']} times and never ended.")
            return _ended(current, now, failure=error)
        mine[:] = [True]
        taken = {
            "owner": delivery.owner,
            "until": now + lease_s,
            "fence": int(found["fence"]) + 1,
            "attempt": int(found["attempt"]) + 1,
        }
        return _changed(current, now, **taken)

    after = life.update(record.tenant, record.file_id, decide)
    return after if mine[-1] else None


def _report(record: FileRecord, delivery: Delivery) -> Mapping[str, Any]:
    """What the record keeps of the new report. As ``checking.check``."""
    bucket, key = settings().store_bucket, keys.store(record.tenant, record.file_id)
    source = s3.ObjectSource(bucket, key, record.size, record.store_etag or "", record.store_version_id)
    accepted = Accepted(record.kind, record.format or "Unknown", record.media_type or "application/octet-stream")
    rules = file_rules.parsed(record)
    try:
        if accepted.kind not in checking.KINDS:
            assert rules is not None  # whoever wished had rules
            return plain_checks.check(record, accepted, source.etag, rules).report
        fetch = ReadAhead(source.read, record.size, head_bytes=SNIFF_HEAD_BYTES)
        detection = drive(detect(record.size, record.name), fetch)
        # A slice goes on from the checkpoint of this wish; the record's own progress is another work's.
        state = replace(record, progress=int((record.recheck or {}).get("progress", 0)))
        return checking.check(state, accepted, detection, source.etag, source, fetch, delivery.seconds_left).report
    except checking.Invalid as error:
        found: Mapping[str, Any] = error.findings["report"]
        return found


def _hand_on(record: FileRecord, delivery: Delivery, done: int) -> None:
    try:
        following = work.next_slice(delivery.message, record, done)
    except HeavyliftError as error:
        _end(record, failure=error)
        return
    before = record.recheck or {}
    further = 0 if done > int(before.get("progress", 0)) else int(before["attempt"]) - 1
    _write(record, lambda current, now: _changed(current, now, attempt=further, progress=done, until=0.0))
    queue.send(VALIDATE.name, following)


def _free(record: FileRecord, error: HeavyliftError) -> None:
    """A handled failure of one attempt; the fifth one is the end of the wish."""
    if int((record.recheck or {})["attempt"]) >= ATTEMPTS_MAX:
        _end(record, failure=error)
    else:
        _write(record, lambda current, now: _changed(current, now, until=0.0))


def _end(record: FileRecord, *, report: Mapping[str, Any] | None = None, failure: HeavyliftError | None = None) -> None:
    _write(record, lambda current, now: _ended(current, now, report=report, failure=failure))
    count("FilesCheckedAgain", valid=str(bool(report and report["valid"])).lower())


def _write(record: FileRecord, make: Any) -> None:
    """A fenced write of the worker that holds the wish; one that a later wish has replaced writes nothing."""

    def decide(current: FileRecord) -> Change | None:
        if not current.stored or (current.recheck or {}).get("fence") != (record.recheck or {}).get("fence"):
            return None
        change: Change = make(current, time.time())
        return change

    life.update(record.tenant, record.file_id, decide)


def _changed(record: FileRecord, now: float, **values: Any) -> Change:
    due = {"due_at": now + work.look_again_s(VALIDATE.name)} if record.final and not record.outbox else {}
    return records.change(record, now, recheck={**(record.recheck or {}), **values}, **due)


def _ended(
    record: FileRecord,
    now: float,
    *,
    report: Mapping[str, Any] | None = None,
    failure: HeavyliftError | None = None,
) -> Change:
    """The wish is done with: the report, or in the audit trail why there is none; the one before stays then."""
    facts: dict[str, Any] = {"code": failure.code, "message": failure.message} if failure is not None else {}
    values: dict[str, Any] = {"recheck": None}
    if report is not None:
        values["report"] = report
        facts = {"valid": bool(report["valid"]), "rules_sha256": report["rules_sha256"]}
    after = replace(record, recheck=None)
    if record.final and not record.outbox:
        values["due_at"] = retention.next_look(after, life.clocks())
    event = "rechecked" if failure is None else "recheck_failed"
    audit, overflow = wishes.told(record, event, now, VALIDATE.name, **facts)
    return replace(records.change(record, now, **values, **audit), overflow=overflow)
