"""The scanning gate: nothing is promoted before a malware scanner has spoken (setting ``MALWARE_SCAN``).

Verdicts are GuardDuty's. They come as events, twice, late, before anything else or never, and each is about bytes: an
ETag. So a verdict is kept with the record whenever it comes, and counts for these bytes only; the object's tag, which
GuardDuty writes too, stands in for an event that was lost. Whether the gate opens is decided by one conditional write
on the newest record, so that of a verdict and a worker that comes to the gate at the same moment one sees the other.

Facts: Amazon GuardDuty User Guide, "Monitoring S3 object scans with Amazon EventBridge", "Monitoring S3 object scan
status", "Monitoring S3 object scans with GuardDuty managed tags" (read 2026-11).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from heavylift import life, queue, records, s3, stored_threats, work
from heavylift.errors import ContentError, HeavyliftError
from heavylift.limits import SCAN_LOOK_S, SCAN_WAIT_S, THREATS_KEPT
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import Event, State
from heavylift.telemetry import count, logger
from heavylift.work import VALIDATE

TAG: Final = "GuardDutyMalwareScanStatus"
WAITING: Final = "WAITING"
CLEAN, INFECTED, UNSUPPORTED = "NO_THREATS_FOUND", "THREATS_FOUND", "UNSUPPORTED"
# Of two verdicts on the same bytes the graver one stands, and any finding stands over a scan that did not work.
_WEIGHT: Final[Mapping[str, int]] = {INFECTED: 4, CLEAN: 3, UNSUPPORTED: 2, "ACCESS_DENIED": 1, "FAILED": 1}


class Gate(Enum):
    OPEN = "open"
    WAIT = "wait"  # no verdict yet
    REFUSE = "refuse"  # the file's fault
    BROKEN = "broken"  # the scanner did not do its work


def is_on() -> bool:
    return settings().malware_scan != "off"


def gate_of(record: FileRecord, etag: str | None = None) -> Gate:
    """What the verdict that is known of these bytes (the record's own) means. Pure but for the setting."""
    if not is_on():
        return Gate.OPEN
    scan = record.scan
    if scan is None or scan["status"] == WAITING or scan["etag"] != (etag or record.etag):
        return Gate.WAIT
    if scan["status"] == CLEAN:
        return Gate.OPEN
    if scan["status"] == UNSUPPORTED:
        return Gate.OPEN if settings().malware_scan == "lenient" else Gate.REFUSE
    return Gate.REFUSE if scan["status"] == INFECTED else Gate.BROKEN


def is_infected(record: FileRecord) -> bool:
    """Whether a scanner has found a threat in the record's own bytes, however late."""
    scan = record.scan
    return scan is not None and scan["status"] == INFECTED and scan["etag"] == record.etag


def heard(message: queue.ScanVerdict, record: FileRecord) -> FileRecord:
    """Keep a verdict with its record, if it is about the bytes that are there; the record after it. TransientError."""
    if record.etag != message.etag:
        head = s3.head(settings().staging_bucket, record.key)
        other_version = head and message.version_id and head.version_id and head.version_id != message.version_id
        if head is None or head.etag != message.etag or other_version:
            logger().info("a scan of other bytes is left alone", file_id=record.file_id, status=message.status)
            count("ScansOfOtherBytes")
            return record
    return _noted(record, message.status, message.etag, message.threats)


def _noted(record: FileRecord, status: str, etag: str, threats: tuple[str, ...] = ()) -> FileRecord:
    status = status if status in _WEIGHT else "FAILED"

    def decide(current: FileRecord) -> Change | None:
        known = current.scan
        same_bytes = known is not None and known["etag"] == etag and known["status"] != WAITING
        if known is not None and same_bytes and _WEIGHT[known["status"]] >= _WEIGHT[status]:
            return None
        now = time.time()
        scan: dict[str, Any] = {"status": status, "etag": etag, "at": round(now, 3)}
        if threats:
            scan["threats"] = list(threats[:THREATS_KEPT])
        state = current.status.value
        entry = {"at": scan["at"], "event": "scan_verdict", "from": state, "to": state, "by": "scanner"}
        audit, overflow = records.with_event(current, {**entry, "status": status})
        return replace(records.change(current, now, scan=scan, **audit), overflow=overflow)

    after = life.update(record.tenant, record.file_id, decide)
    if status == INFECTED and after.stored and after.etag == etag:
        stored_threats.note(after.tenant, after.file_id)
        logger().error("a threat was found in a file that is stored", file_id=after.file_id)
        count("ThreatsAfterPromotion")
    return after


def read_tag(record: FileRecord) -> FileRecord:
    """As ``heard``, by the object's tag, where no event has come. A scan that failed may be repeated: it is no word.

    The tag is nobody's but the scanner's: what clients sign has no tags, and S3 takes no header that was not signed.
    """
    status = s3.tags(settings().staging_bucket, record.key).get(TAG)
    if status not in (CLEAN, INFECTED, UNSUPPORTED) or record.etag is None:
        return record
    head = s3.head(settings().staging_bucket, record.key)
    if head is None or head.etag != record.etag:
        return record
    return _noted(record, status, record.etag)


def pass_gate(record: FileRecord, **findings: Any) -> FileRecord:
    """The write that ends the examination: ``promoting``, or ``scanning`` without a lease. ContentError, ScanBroken."""

    etag = findings.get("etag", record.etag)

    def decide(current: FileRecord) -> Change | None:
        gate = gate_of(current, etag)
        if gate is Gate.WAIT:
            now = time.time()
            since = {"status": WAITING, "etag": etag, "at": round(now, 3)}
            idle = {"lease_owner": None, "lease_until": 0.0, "attempt": 0, "resent_at": 0.0, "due_at": now + _look_s()}
            return work.fenced(current, record, Event.SCAN, VALIDATE.name, scan=since, **idle, **findings)
        _refuse(current, gate)
        return work.fenced(current, record, Event.PROMOTE, VALIDATE.name, **findings)

    return life.update(record.tenant, record.file_id, decide)


class ScanBroken(HeavyliftError):
    """The scanner could not do its work: ours or the world's to mend, and tried again by a person."""


def refuse_early(record: FileRecord, etag: str) -> None:
    """Nobody reads bytes any further that a scanner has refused already. ContentError."""
    gate = gate_of(record, etag)
    if gate is Gate.REFUSE:
        _refuse(record, gate)


def _refuse(record: FileRecord, gate: Gate) -> None:
    """Raise what keeps the gate shut."""
    scan = record.scan or {}
    if gate is Gate.REFUSE and scan["status"] == INFECTED:
        count("FilesInfected")
        threats = [str(name) for name in scan.get("threats", ())]
        named = f": {', '.join(threats)}" if threats else ""
        raise ContentError(
            "malware_found",
            f"The malware scanner found {max(1, len(threats))} threat(s){named}. The file is never served.",
            threats=max(1, len(threats)),
        )
    if gate is Gate.REFUSE:
        raise ContentError(
            "not_scannable",
            f"The malware scanner cannot look into this file of {record.size} bytes (encrypted, too large, or too "
            "deeply packed), and files that were not scanned are not kept.",
            size=record.size,
        )
    if gate is Gate.BROKEN:
        raise ScanBroken("scan_failed", f"The malware scanner reported {scan['status']}.", scan_status=scan["status"])


def settle(record: FileRecord) -> FileRecord:
    """For a worker that holds a record in ``scanning``: open the gate by the verdict that is there. As pass_gate."""
    return pass_gate(record, progress=0)


def wait_on(record: FileRecord) -> FileRecord:
    """A file that waits at the gate was looked at: read the tag, give it time, or end the waiting. TransientError.

    After six hours without a verdict it is ``failed``; POST …/retry waits anew, and takes a verdict that came late.
    """
    if gate_of(record) is not Gate.WAIT:
        return record
    now = time.time()
    began = float((record.scan or {}).get("at", now))
    if record.due_at is None or record.due_at <= now or record.resent_at:
        record = read_tag(record)
        if gate_of(record) is not Gate.WAIT:
            return record
    wait_s = SCAN_WAIT_S / settings().time_scale

    def decide(current: FileRecord) -> Change | None:
        if current.status is not State.SCANNING or gate_of(current) is not Gate.WAIT:
            return None
        if now - began >= wait_s:
            error = ScanBroken(
                "scan_timeout", f"No verdict of the malware scanner within {wait_s:.0f} s.", seconds=round(wait_s)
            )
            failure = work.failure_of(error, VALIDATE.name, retryable=True)
            return records.transition(current, Event.FAIL, now, VALIDATE.name, failure=failure)
        if current.resent_at == 0.0 and current.attempt == 0:
            return None  # an event more of the upload changes nothing
        return records.change(
            current, now, resent_at=0.0, attempt=0, due_at=min(now + _look_s(), max(began + wait_s, now))
        )

    return life.update(record.tenant, record.file_id, decide)


def _look_s() -> float:
    return SCAN_LOOK_S / settings().time_scale


def kept_for_retry(record: FileRecord) -> Mapping[str, Any] | None:
    """What stays of a scan when the file is tried again: findings do, a scan that failed or never came does not."""
    return record.scan if record.scan and record.scan["status"] in (CLEAN, INFECTED, UNSUPPORTED) else None


def record_of(message: queue.ScanVerdict, find: Callable[[queue.ScanVerdict], FileRecord | None]) -> FileRecord | None:
    """The record that a verdict is about, with the verdict; None for an object that is none of ours."""
    record = find(message) if message.bucket == settings().staging_bucket else None
    if record is None or record.key != message.key:
        logger().warning("a scan of an object that has no record", key=message.key, status=message.status)
        count("ScansOfUnknownObjects")
        return None
    return heard(message, record)
