"""The record of an archive's making: its item, its states, and what each step writes. Pure.

``queued -> building -> completed``; side ways ``failed``, ``cancelled``; a completed one is ``expired`` when the time
of its object is over. The item is ``pk = T#<tenant>#A#<archive_id>``, ``sk = A``. Every change raises ``version`` and
is written under the condition that the version read is still there; a worker's writes also carry its lease's ``fence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from heavylift import forms
from heavylift.errors import RequestError
from heavylift.forms import Form
from heavylift.limits import ATTEMPTS_MAX
from heavylift.work import Claim

SORT_KEY = "A"


class ArchiveStatus(StrEnum):
    QUEUED = "queued"  # the request is there, nobody has taken it up
    BUILDING = "building"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # it was completed, and its object is gone


LIVE = frozenset({ArchiveStatus.QUEUED, ArchiveStatus.BUILDING})
GONE = frozenset({ArchiveStatus.FAILED, ArchiveStatus.CANCELLED, ArchiveStatus.EXPIRED})
ANNOUNCED = {
    ArchiveStatus.COMPLETED: "archive.completed",
    ArchiveStatus.FAILED: "archive.failed",
    ArchiveStatus.CANCELLED: "archive.cancelled",
}


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """One archive from its request to its end. Times are seconds since 1970, sizes bytes.

    ``wanted``: what was asked for, {"batch_id" | "logical_id" | "study_uid": id} or {"files": how many}.
    ``list_key``: where the packed list of members lies; with it stand ``members``, ``bytes_total`` (of the members) and
    ``content_sha256``, which names the archive's object. ``plan`` and ``shares`` are the builders': what must not
    change while the upload is open, and what each of several workers has noted. ``left_out``: members that vanished
    while the archive was built, {"file_id","reason"}, which the next list does without (``on_missing: skip``).
    """

    tenant: str
    archive_id: str
    name: str
    status: ArchiveStatus = ArchiveStatus.QUEUED
    version: int = 1
    package: str = "plain"
    on_missing: str = "fail"
    wanted: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    attempt: int = 0
    progress: int = 0
    fence: int = 0
    lease_owner: str | None = None
    lease_until: float = 0.0
    resent_at: float = 0.0
    due_at: float | None = None
    failure: Mapping[str, Any] | None = None
    outbox: tuple[Mapping[str, Any], ...] = ()
    purged_at: float | None = None
    list_key: str | None = None
    content_sha256: str | None = None
    members: int = 0
    missing: int = 0
    left_out: tuple[Mapping[str, Any], ...] = ()
    bytes_total: int = 0
    plan: Mapping[str, Any] = field(default_factory=dict)
    shares: Mapping[str, Any] = field(default_factory=dict)
    s3_upload_id: str | None = None
    parts: int = 0
    parts_done: int = 0
    members_done: int = 0
    bytes_done: int = 0
    size: int | None = None
    crc32: str | None = None
    etag: str | None = None
    reused: bool = False
    bytes_in: int = 0
    bytes_out: int = 0
    requests: int = 0
    memory_peak_bytes: int = 0

    @property
    def final(self) -> bool:
        return self.status not in LIVE

    @property
    def bytes_through(self) -> int:
        """What passed through the functions, the larger way."""
        return max(self.bytes_in, self.bytes_out)


_FORM: Form[ArchiveJob] = Form(ArchiveJob, ArchiveStatus)


def partition(tenant: str, archive_id: str) -> str:
    return f"T#{tenant}#A#{archive_id}"


def item_key(tenant: str, archive_id: str) -> dict[str, str]:
    return {"pk": partition(tenant, archive_id), "sk": SORT_KEY}


def of_partition(text: str) -> tuple[str, str]:
    """(tenant, archive id) of an archive's partition."""
    _, tenant, _, archive_id = text.split("#")
    return tenant, archive_id


def to_item(job: ArchiveJob) -> dict[str, Any]:
    """The whole item as plain values; what is None or empty is left out."""
    key = item_key(job.tenant, job.archive_id)
    return {**key, **_FORM.attributes(job), **forms.due_index(job.archive_id, job.due_at)}


def from_item(item: Mapping[str, Any]) -> ArchiveJob:
    """The job of an item; attributes that we do not know are left alone."""
    return _FORM.record(item)


def changed(job: ArchiveJob, now: float, **values: Any) -> ArchiveJob:
    """The job after a change; the caller writes it under the condition that ``job.version`` is still there."""
    return replace(job, **values, version=job.version + 1, updated_at=now)


# --- leases ---


def may_claim(job: ArchiveJob, owner: str, now: float) -> Claim:
    """Whether the message ``owner`` may work on the job now."""
    if job.final:
        return Claim.DONE
    if job.status is ArchiveStatus.BUILDING and job.lease_until > now and job.lease_owner != owner:
        return Claim.HELD
    if job.attempt >= ATTEMPTS_MAX:
        return Claim.EXHAUSTED
    return Claim.TAKE


def claimed(job: ArchiveJob, owner: str, now: float, lease_s: float, look_again_s: float) -> ArchiveJob:
    """The job as leased by ``owner``: building, with a fence above all earlier ones."""
    return changed(
        job,
        now,
        status=ArchiveStatus.BUILDING,
        started_at=job.started_at or now,
        attempt=job.attempt + 1,
        fence=job.fence + 1,
        lease_owner=owner,
        lease_until=now + lease_s,
        resent_at=0.0,
        due_at=now + look_again_s,
    )


def released(job: ArchiveJob, now: float, done: int, look_again_s: float, **values: Any) -> ArchiveJob:
    """The end of a slice that got as far as ``done``; a slice that got further than any before is no attempt."""
    further = {"attempt": 0, "progress": done} if done > job.progress else {"attempt": max(0, job.attempt - 1)}
    return changed(job, now, **further, lease_owner=None, lease_until=0.0, due_at=now + look_again_s, **values)


def troubled(job: ArchiveJob, failure: Mapping[str, Any], now: float) -> ArchiveJob:
    """A handled failure of one attempt: the lease is free, the reason kept; the fifth one is the end."""
    if job.attempt >= ATTEMPTS_MAX:
        return failed(job, failure, now)
    return changed(job, now, failure=dict(failure), lease_until=0.0)


# --- steps ---


def spent(job: ArchiveJob, now: float, *, bytes_in: int = 0, bytes_out: int = 0, requests: int = 0) -> ArchiveJob:
    """What a worker has read and written since it last said so."""
    return changed(
        job,
        now,
        bytes_in=job.bytes_in + bytes_in,
        bytes_out=job.bytes_out + bytes_out,
        requests=job.requests + requests,
    )


def listed(
    job: ArchiveJob,
    now: float,
    *,
    list_key: str,
    content_sha256: str,
    members: int,
    bytes_total: int,
    missing: int,
    name: str,
) -> ArchiveJob:
    """The list of members is fixed from here on."""
    return changed(
        job,
        now,
        list_key=list_key,
        content_sha256=content_sha256,
        members=members,
        bytes_total=bytes_total,
        missing=missing,
        name=name,
    )


def unlisted(job: ArchiveJob, file_id: str, reason: str, now: float) -> ArchiveJob:
    """Begin again without a member that vanished (``on_missing: skip``). The upload must have been aborted before."""
    return changed(
        job,
        now,
        left_out=(*job.left_out, {"file_id": file_id, "reason": reason}),
        list_key=None,
        content_sha256=None,
        members=0,
        missing=0,
        bytes_total=0,
        plan={},
        shares={},
        s3_upload_id=None,
        parts=0,
        parts_done=0,
        members_done=0,
        bytes_done=0,
        progress=0,
        size=None,
    )


def _ended(job: ArchiveJob, now: float, status: ArchiveStatus, **values: Any) -> ArchiveJob:
    """A final state. It owes the world an announcement, noted by the same write; the fence takes the say from whoever
    still works on it.
    """
    owed = {"type": ANNOUNCED[status], "version": job.version + 1, "at": round(now, 3), "status": status.value}
    return changed(
        job,
        now,
        **{
            "status": status,
            "finished_at": now,
            "fence": job.fence + 1,
            "lease_owner": None,
            "lease_until": 0.0,
            "due_at": now,
            "purged_at": None,
            "shares": {},
            "outbox": (*job.outbox, owed),
            **values,
        },
    )


def completed(
    job: ArchiveJob, now: float, *, size: int, crc32: str, etag: str, expires_at: float, reused: bool = False
) -> ArchiveJob | None:
    """The object is there. ``crc32``: of the whole, base64 as S3 writes it. None when the job has ended before."""
    if job.final:
        return None
    return _ended(
        job,
        now,
        ArchiveStatus.COMPLETED,
        size=size,
        crc32=crc32,
        etag=etag,
        expires_at=expires_at,
        reused=reused,
        failure=None,
        s3_upload_id=None,
        parts_done=job.parts,
        members_done=job.members,
        bytes_done=job.bytes_total,
    )


def failed(job: ArchiveJob, failure: Mapping[str, Any], now: float) -> ArchiveJob:
    """The job cannot be done. ``failure``: {"code","message","stage","retryable", facts…}."""
    if job.final:
        return job
    return _ended(job, now, ArchiveStatus.FAILED, failure=dict(failure))


def cancelled(job: ArchiveJob, now: float) -> ArchiveJob | None:
    """After DELETE; None when it was cancelled before. RequestError ``state_conflict`` once it has ended otherwise."""
    if job.status is ArchiveStatus.CANCELLED:
        return None
    if job.final:
        raise RequestError(
            "state_conflict", f"An archive that is {job.status.value} cannot be cancelled.", status=job.status.value
        )
    return _ended(job, now, ArchiveStatus.CANCELLED)


def expired(job: ArchiveJob, now: float) -> ArchiveJob | None:
    """A completed job whose object's time is over; None for any other. Nobody is told: the time was known."""
    if job.status is not ArchiveStatus.COMPLETED or job.expires_at is None or job.expires_at > now:
        return None
    return changed(job, now, status=ArchiveStatus.EXPIRED, due_at=now, purged_at=None)


def exhausted(job: ArchiveJob) -> dict[str, Any]:
    """The failure of a job whose last attempt ended without a word; the last known reason if there is one."""
    if job.failure:
        return {**job.failure, "retryable": True}
    return {
        "code": "attempts_exhausted",
        "message": f"The archive was tried {job.attempt} times and never ended.",
        "stage": "archive",
        "retryable": True,
        "attempts": job.attempt,
    }
