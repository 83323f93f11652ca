"""What the API shows of an archive's job and of its members. Pure."""

from __future__ import annotations

import base64
from typing import Any

from heavylift.archives.index import Place
from heavylift.archives.jobs import ArchiveJob, ArchiveStatus
from heavylift.records import iso


def archive_view(job: ArchiveJob) -> dict[str, Any]:
    """GET /v1/archives/{id}. What is not known yet is null where it will be a number, and left out elsewhere."""
    made = job.status in {ArchiveStatus.COMPLETED, ArchiveStatus.EXPIRED}
    shown: dict[str, Any] = {
        "archive_id": job.archive_id,
        "status": job.status.value,
        "final": job.final,
        "name": job.name,
        "package": job.package,
        "on_missing": job.on_missing,
        "requested": dict(job.wanted),
        "size": job.size,
        "members": job.members if job.list_key or made else None,
        "missing": job.missing if job.list_key or made else None,
        "bytes_in": job.bytes_in,
        "bytes_out": job.bytes_out,
        "bytes_through": job.bytes_through,
        "requests": job.requests,
        "parts": job.parts,
        "crc32": job.crc32,
        "progress": {
            "percent": _percent(job),
            "bytes_total": job.bytes_total,
            "bytes_done": job.bytes_done,
            "members_done": job.members_done,
            "parts_done": job.parts_done,
        },
        "reused": job.reused,
        "expires_at": iso(job.expires_at),
        "failure": dict(job.failure) if job.failure and job.status is ArchiveStatus.FAILED else None,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
        "finished_at": iso(job.finished_at),
    }
    optional = ("expires_at", "failure", "finished_at")
    return {name: value for name, value in shown.items() if value is not None or name not in optional}


def _percent(job: ArchiveJob) -> float:
    if job.status in {ArchiveStatus.COMPLETED, ArchiveStatus.EXPIRED}:
        return 100.0
    return round(min(100.0, 100.0 * job.bytes_done / job.bytes_total), 2) if job.bytes_total else 0.0


def member_view(place: Place) -> dict[str, Any]:
    """One member: its number, its name in the archive, its bytes."""
    return {
        "n": place.n,
        "name": place.name,
        "size": place.size,
        "offset": place.offset,
        "crc32": base64.b64encode(place.crc32.to_bytes(4, "big")).decode(),
    }
