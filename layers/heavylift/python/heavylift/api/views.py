"""What the API shows of a record. Pure; presigned URLs are handed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from heavylift.parts import PartPlan, needed_ranges, ranges_of
from heavylift.records import FileRecord, iso
from heavylift.states import FINAL, State

_SHOWS_FAILURE = frozenset({State.FAILED, State.REJECTED, State.COMPLETED_WITH_ERRORS})


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def failure(record: FileRecord) -> dict[str, Any] | None:
    """{"code","message","stage","retryable", numbers…} in the states that have failed; None elsewhere."""
    if record.status not in _SHOWS_FAILURE or not record.failure:
        return None
    return dict(record.failure)


def integrity(record: FileRecord) -> str:
    """``sha256`` when S3 has proven every byte against a digest that the client signed, else ``size_only``."""
    return "sha256" if record.checksum == "sha256" else "size_only"


def checksums(record: FileRecord) -> dict[str, Any]:
    values = {"sha256": record.declared_sha256, "sha256_proven": False, **record.checksums}
    return _without_none(values)


def scan(record: FileRecord) -> dict[str, Any] | None:
    """{"status","at","threats"?}: what a malware scanner said; ``WAITING`` at the gate. None where nobody asked."""
    if record.scan is None:
        return None
    return {name: record.scan[name] for name in ("status", "threats") if name in record.scan} | {
        "at": iso(record.scan["at"])
    }


def dicom(record: FileRecord) -> dict[str, Any] | None:
    """{"outcome", "study_uid"?, "series_uid"?, "sop_uid"?, "warnings"?}; None of files that are not DICOM's."""
    found = record.dicom
    if found is None or not record.final:
        return None
    shown = {name: found[name] for name in ("study_uid", "series_uid", "sop_uid", "warnings") if name in found}
    return {"outcome": found.get("verdict"), **shown}


def _unsized(record: FileRecord, *names: str) -> dict[str, None]:
    """null for what nobody can know of an upload before its bytes are counted."""
    return {} if record.size_known else dict.fromkeys(names)


def upload_summary(record: FileRecord) -> dict[str, Any]:
    """One line of a list."""
    return _without_none(
        {
            "upload_id": record.file_id,
            "file_id": record.file_id,
            "name": record.name,
            "size": record.size,
            "status": record.status.value,
            "final": record.status in FINAL,
            "kind": record.kind,
            "format": record.format,
            "mode": record.mode,
            "part_size": record.part_size or max(record.size, 1),
            "part_count": record.part_count,
            "fingerprint": record.fingerprint,
            "logical_id": record.logical_id,
            "relative_path": record.relative_path,
            "description": record.description,
            "data_type": record.data_type,
            "created_at": iso(record.created_at),
            "updated_at": iso(record.updated_at),
            "expires_at": iso(record.expires_at) if record.status not in FINAL else None,
            "failure": failure(record),
        }
    ) | _unsized(record, "size", "part_size", "part_count")


def received_of(record: FileRecord, listed: Iterable[tuple[int, int]]) -> tuple[list[int], int]:
    """(numbers of whole parts, their bytes) among ``listed`` (number, size)."""
    if record.staged_at is not None or record.stored:
        return list(range(1, record.part_count + 1)), record.size
    if not record.size_known:
        there = list(listed)
        return [number for number, _ in there], sum(size for _, size in there)
    plan = PartPlan(record.size, record.mode, record.part_size, record.part_count)
    whole = [
        (number, size) for number, size in listed if 1 <= number <= plan.part_count and size == plan.length(number)
    ]
    return [number for number, _ in whole], sum(size for _, size in whole)


def upload_status(record: FileRecord, listed: Sequence[tuple[int, int]], now: float) -> dict[str, Any]:
    """GET /v1/uploads/{id}: state, received and needed ranges, bytes, percent, time left."""
    numbers, received_bytes = received_of(record, listed)
    percent = 100.0 if record.size == 0 and numbers else 100.0 * received_bytes / record.size if record.size else 0.0
    elapsed = max(now - record.created_at, 0.001)
    seconds_left = None
    if 0 < received_bytes < record.size and record.status is State.UPLOADING:
        seconds_left = round((record.size - received_bytes) * elapsed / received_bytes, 1)
    return _without_none(
        {
            "upload_id": record.file_id,
            "name": record.name,
            "size": record.size,
            "status": record.status.value,
            "final": record.status in FINAL,
            "kind": record.kind,
            "mode": record.mode,
            "part_size": record.part_size or max(record.size, 1),
            "part_count": record.part_count,
            "received": ranges_of(numbers),
            "needed": needed_ranges(record.part_count, numbers),
            "bytes_received": received_bytes,
            "percent": round(percent, 2),
            "seconds_left": seconds_left,
            "fingerprint": record.fingerprint,
            "checksum": record.checksum,
            "integrity": integrity(record),
            "metadata": dict(record.metadata),
            "description": record.description,
            "data_type": record.data_type,
            "created_at": iso(record.created_at),
            "updated_at": iso(record.updated_at),
            "expires_at": iso(record.expires_at),
            "duration_s": None if record.staged_at is None else round(record.staged_at - record.created_at, 3),
            "failure": failure(record),
        }
    ) | _unsized(record, "size", "percent", "part_size", "part_count", "needed")


def file_view(record: FileRecord, thumbnail_urls: Mapping[int, str], *, gps: bool = False) -> dict[str, Any]:
    """GET /v1/files/{id}: answers from initiate on, also for rejected files. ``gps``: where it was taken, too."""
    facts = {name: value for name, value in (record.facts or {}).items() if gps or name != "gps"}
    thumbnails = [thumbnail(one, thumbnail_urls.get(one["size"])) for one in record.thumbnails]
    return _without_none(
        {
            "file_id": record.file_id,
            "upload_id": record.file_id,
            "name": record.name,
            "size": record.size,
            "status": record.status.value,
            "final": record.status in FINAL,
            "kind": record.kind,
            "format": record.format,
            "media_type": record.media_type,
            **facts,
            "checksums": checksums(record),
            "integrity": integrity(record),
            "failure": failure(record),
            "thumbnails": thumbnails,
            "thumbnail_generated": record.thumbnail_generated,
            "preview_generated": record.preview_generated,
            "decision": dict(record.decision) if record.decision else None,
            "valid": record.report["valid"] if record.report else None,
            "records": record.report["records"] if record.report else None,
            "scan": scan(record),
            "dicom": dicom(record),
            "bytes_read": record.bytes_read,
            "requests": record.requests,
            "stages": {name: dict(values) for name, values in record.stages.items()},
            "logical_id": record.logical_id,
            "relative_path": record.relative_path,
            "description": record.description,
            "data_type": record.data_type,
            "metadata": dict(record.metadata),
            "created_at": iso(record.created_at),
            "updated_at": iso(record.updated_at),
            "finished_at": iso(record.finished_at),
        }
    ) | _unsized(record, "size")


def thumbnail(made: Mapping[str, Any], url: str | None) -> dict[str, Any]:
    """{"size", "width", "height", "placeholder", "provisional", "url"}: a picture of the picture."""
    return {name: made[name] for name in ("size", "width", "height", "placeholder", "provisional")} | {"url": url}


def audit_trail(record: FileRecord, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """GET /v1/files/{id}/events: all events, the oldest first; ``dropped``: how many of them could not be kept."""
    return {
        "items": [{**entry, "at": iso(entry["at"])} for entry in events],
        "dropped": max(0, record.events_dropped + len(record.events) - len(events)),
        "next_token": None,
    }
