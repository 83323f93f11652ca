"""What others are told of a file's, a batch's or an archive's end: the events that we put on the bus. No I/O here.

Each is described in docs/events.md and by a JSON Schema in docs/events/; within version 1 fields are only added.
An event never holds a presigned URL, free metadata or a patient's data. File names of DICOM files are often made
of the patient's name, so a file that is DICOM, or of which nobody knows yet what it is, gives no label at all:
neither its name nor its ``client_id`` nor its ``logical_id``, which is made of the name where none was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heavylift import keys
from heavylift.api.views import checksums
from heavylift.limits import NAME_LENGTH_MAX, rule_for_extension, rule_for_format, rule_for_media_type
from heavylift.records import FileRecord, iso
from heavylift.settings import Settings, settings
from heavylift.states import FINAL, State

if TYPE_CHECKING:  # jobs know what they owe the bus, which is told here
    from heavylift.archives.jobs import ArchiveJob

DETAIL_VERSION = 1
MESSAGE_LENGTH_MAX = 1_000  # a sentence; keeps ten events of the longest names far below one call's limit

# Both ways of being complete are one type: who waits wants to hear of either, and ``status`` tells them apart. Files:
# ``records.ANNOUNCED``.
BATCH_TYPES: Mapping[str, str] = {
    "completed": "batch.completed",
    "completed_with_errors": "batch.completed",
    "cancelled": "batch.cancelled",
    "expired": "batch.expired",
}
BATCH_TOTALS = ("total", "received", "processed", "succeeded", "failed", "skipped", "duplicates")
_WITH_FAILURE = frozenset({State.COMPLETED_WITH_ERRORS, State.REJECTED, State.FAILED})
_WITH_OBJECT = frozenset({State.COMPLETED, State.COMPLETED_WITH_ERRORS, State.FAILED})


@dataclass(frozen=True, slots=True)
class BusEvent:
    """One event: its detail-type, the id by which receivers know a copy, when it happened (seconds since 1970)."""

    type: str
    id: str
    at: float
    detail: Mapping[str, Any]


def file_event(record: FileRecord, entry: Mapping[str, Any], config: Settings | None = None) -> BusEvent:
    """The event of an outbox entry {"type","version","at","status"}: the record's version and status of that moment.

    The record may have gone on since (a retry, a deletion): then the event still tells of its own moment, and what
    is known no more (the reason of a failure that was tried again) is left out. The id stays the same.
    """
    config = settings() if config is None else config
    status, version, at = State(entry["status"]), int(entry["version"]), float(entry["at"])
    batch, dash, number = record.file_id.partition("-")
    event_id = f"{record.file_id}-{version}"
    facts = record.facts or {}
    detail = {
        "version": DETAIL_VERSION,
        "id": event_id,
        "at": iso(at),
        "store_bucket": config.store_bucket,
        "tenant": record.tenant,
        "user": _cut(record.user) or None,
        "file_id": record.file_id,
        "batch_id": batch if dash else None,
        "n": int(number) if dash else None,
        "record_version": version,
        "status": status.value,
        "final": status in FINAL,
        **_labels(record),
        "kind": record.kind,
        "format": record.format,
        "media_type": record.media_type,
        "size": record.size if record.size_known else None,
        "width": _whole(facts.get("width")),
        "height": _whole(facts.get("height")),
        "checksums": checksums(record),
        "failure": _failure(record) if status in _WITH_FAILURE and record.status is status else None,
        "object": _object(record, config) if status in _WITH_OBJECT else None,
        "thumbnails": _thumbnails(record, config) if status in _WITH_OBJECT else None,
        "created_at": iso(record.created_at),
    }
    return BusEvent(
        str(entry["type"]), event_id, at, {name: value for name, value in detail.items() if value is not None}
    )


def batch_event(
    *,
    tenant: str,
    batch_id: str,
    kind: str,
    status: str,
    version: int,
    at: float,
    totals: Mapping[str, int],
    created_at: float | None = None,
    config: Settings | None = None,
) -> BusEvent:
    """The event of a batch's end; KeyError for a status that is no end, or for a number that is missing.

    ``totals``: those of ``BATCH_TOTALS``, as in GET /v1/batches/{id}. ``version`` is the batch's own count of changes:
    the same end has the same id, however often it is told.
    """
    config = settings() if config is None else config
    event_id = f"{batch_id}-{version}"
    detail = {
        "version": DETAIL_VERSION,
        "id": event_id,
        "at": iso(at),
        "store_bucket": config.store_bucket,
        "tenant": tenant,
        "batch_id": batch_id,
        "record_version": version,
        "status": status,
        "final": True,
        "kind": kind,
        "totals": {name: int(totals[name]) for name in BATCH_TOTALS},
        "created_at": iso(created_at),
    }
    return BusEvent(
        BATCH_TYPES[status], event_id, at, {name: value for name, value in detail.items() if value is not None}
    )


def archive_event(job: ArchiveJob, entry: Mapping[str, Any], config: Settings | None = None) -> BusEvent:
    """The event of an archive's end: an outbox entry {"type","version","at","status"} of its job.

    Neither its name nor what its failure says in words is told: both are made of files' names. The file that a
    failure is about is told by its id.
    """
    config = settings() if config is None else config
    version, at, status = int(entry["version"]), float(entry["at"]), str(entry["status"])
    event_id = f"{job.archive_id}-{version}"
    made = status == "completed"
    failure = job.failure if status == "failed" and job.status == "failed" else None
    detail = {
        "version": DETAIL_VERSION,
        "id": event_id,
        "at": iso(at),
        "store_bucket": config.store_bucket,
        "tenant": job.tenant,
        "user": _cut(job.user) or None,
        "archive_id": job.archive_id,
        "record_version": version,
        "status": status,
        "final": True,
        "package": job.package,
        "members": job.members if made else None,
        "missing": job.missing if made else None,
        "size": job.size if made else None,
        "crc32": job.crc32 if made else None,
        "failure": _archive_failure(failure) if failure else None,
        "object": _archive_object(job, config) if made and job.status == "completed" else None,
        "expires_at": iso(job.expires_at) if made else None,
        "created_at": iso(job.created_at),
    }
    return BusEvent(
        str(entry["type"]), event_id, at, {name: value for name, value in detail.items() if value is not None}
    )


def _archive_failure(failure: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "code": str(failure.get("code", "")),
        "stage": str(failure.get("stage", "")),
        "retryable": bool(failure.get("retryable", False)),
    }
    return {**told, "file_id": str(failure["file_id"])} if failure.get("file_id") else told


def _archive_object(job: ArchiveJob, config: Settings) -> dict[str, str]:
    """Where the archive is, for receivers that may read the derived bucket."""
    return {
        "bucket": config.derived_bucket,
        "key": keys.archive(job.tenant, job.content_sha256 or ""),
        "etag": job.etag or "",
    }


def _may_be_dicom(record: FileRecord) -> bool:
    """Whether the content is DICOM, was said to be, or nothing says what it is.

    A file that was rejected is known by its failure only: what it was announced as was wrong.
    """
    known = (
        rule_for_format(record.format or ""),
        rule_for_media_type(record.declared_type or ""),
        rule_for_media_type(record.media_type or ""),
        rule_for_media_type(str((record.failure or {}).get("detected", ""))),
        rule_for_extension(record.name),
    )
    kinds = {record.kind, record.declared_kind, record.lane, *(rule.kind for rule in known if rule)}
    return "dicom" in kinds or (record.format is None and kinds <= {"other", "in", None})


def _labels(record: FileRecord) -> dict[str, str | None]:
    if _may_be_dicom(record):
        return {}
    return {
        "name": _cut(record.name, NAME_LENGTH_MAX),
        "client_id": _cut(record.client_id) or None,
        "logical_id": _cut(record.logical_id) or None,
    }


def _failure(record: FileRecord) -> dict[str, Any] | None:
    found = record.failure
    if not found:
        return None
    return {
        "code": str(found.get("code", "")),
        "message": _cut(str(found.get("message", "")), MESSAGE_LENGTH_MAX),
        "stage": str(found.get("stage", "")),
        "retryable": bool(found.get("retryable", False)),
    }


def _object(record: FileRecord, config: Settings) -> dict[str, Any] | None:
    """Where the bytes are, for receivers that may read the store; None when they are not there (any more)."""
    if not record.store_etag or record.status is State.DELETED:
        return None
    found = {
        "bucket": config.store_bucket,
        "key": record.store_key,
        "version_id": record.store_version_id,
        "etag": record.store_etag,
    }
    return {name: value for name, value in found.items() if value is not None}


def _thumbnails(record: FileRecord, config: Settings) -> list[dict[str, Any]] | None:
    if record.status is State.DELETED:
        return None
    return [
        {
            "size": int(picture["size"]),
            "width": int(picture["width"]),
            "height": int(picture["height"]),
            "placeholder": bool(picture.get("placeholder", False)),
            "bucket": config.derived_bucket,
            "key": str(picture["key"]),
        }
        for picture in record.thumbnails
    ]


def _cut(text: str | None, length_max: int = MESSAGE_LENGTH_MAX) -> str:
    """At most ``length_max`` characters; what was cut off shows as an ellipsis."""
    text = text or ""
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
