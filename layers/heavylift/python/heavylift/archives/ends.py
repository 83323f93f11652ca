"""What an archive's end leaves to be done: nothing of its making stays, and at its time nothing of it at all. I/O.

The job is written first, then its uploads and objects go; killed in between, the sweeper goes on. They go once more
when no worker's lease can be alive. The archive itself is shared by all jobs of the same members: it goes when its own
time is over, whoever's job ends.
"""

from __future__ import annotations

import time

from heavylift import items, keys, purging, s3
from heavylift.archives import jobs, store
from heavylift.archives.jobs import GONE, ArchiveJob, ArchiveStatus
from heavylift.limits import ANNOUNCE_AGAIN_S, ATTEMPTS_MAX, PURGE_AGAIN_S, TOMBSTONE_DAYS
from heavylift.settings import settings
from heavylift.telemetry import count
from heavylift.work import look_again_s

DAY_S = 86_400


def cancel(tenant: str, archive_id: str) -> ArchiveJob:
    """DELETE: the job first, then all that was made for it. RequestError ``not_found``, ``state_conflict``."""
    job = store.update(tenant, archive_id, lambda job: jobs.cancelled(job, time.time()))
    if job.purged_at is None:
        job = settle(job)
    count("ArchivesCancelled")
    return job


def clear(job: ArchiveJob) -> bool:
    """Delete everything that only this job's making needed; False when an upload outlived its abort. Repeatable."""
    bucket, clean = settings().derived_bucket, True
    if job.content_sha256:
        key = keys.archive(job.tenant, job.content_sha256)
        if job.s3_upload_id:
            clean = s3.abort_multipart(bucket, key, job.s3_upload_id)
    prefix = keys.work_prefix(job.tenant, job.archive_id)
    after: tuple[str, str] | None = None
    while True:
        page, after = s3.list_uploads(bucket, prefix, after=after)
        for one in page:
            clean = s3.abort_multipart(bucket, one.key, one.upload_id or "") and clean
        if after is None:
            break
    purging.delete_under(bucket, prefix)
    s3.delete(bucket, keys.archive_request(job.tenant, job.archive_id))
    if job.status in {ArchiveStatus.FAILED, ArchiveStatus.CANCELLED} and job.content_sha256:
        _clear_unowned(job.tenant, job.content_sha256)
    return clean


def _clear_unowned(tenant: str, content_sha256: str) -> None:
    """An archive that was joined in the moment in which its job ended, and its index, unless another job has them."""
    now = time.time()
    for job in store.jobs_of_content(tenant, content_sha256):
        made = job.status is ArchiveStatus.COMPLETED and (job.expires_at or 0) > now
        if made or not job.final:
            return
    _delete_archive(tenant, content_sha256)


def _delete_archive(tenant: str, content_sha256: str) -> None:
    for key in (keys.archive(tenant, content_sha256), keys.archive_index(tenant, content_sha256)):
        s3.delete(settings().derived_bucket, key)


def settle(job: ArchiveJob) -> ArchiveJob:
    """Clear up after a job that has ended, and write down that it was done; else it stays due."""
    store.end_turn(job)
    if not clear(job):
        return job

    def decide(current: ArchiveJob) -> ArchiveJob | None:
        if current.status is not job.status:
            return None
        now = time.time()
        after = jobs.changed(current, now, purged_at=now)
        due_at = current.due_at if current.outbox else next_look(after)
        return jobs.changed(current, now, purged_at=now, due_at=due_at)

    return store.update(job.tenant, job.archive_id, decide)


def _ended_at(job: ArchiveJob) -> float:
    if job.status is ArchiveStatus.EXPIRED:
        return job.expires_at or job.updated_at
    return job.finished_at or job.updated_at


def next_look(job: ArchiveJob) -> float | None:
    """When the sweeper is to look at a job that has ended and owes no announcement. Pure."""
    ended = _ended_at(job)
    if job.purged_at is None:
        return ended
    last = ended + PURGE_AGAIN_S / settings().time_scale
    if job.purged_at < last:
        return last
    if job.status is ArchiveStatus.COMPLETED:
        return job.expires_at
    return ended + TOMBSTONE_DAYS * DAY_S


def duty(job: ArchiveJob, now: float) -> str:
    """What a job needs now: announce, clear, expire, forget, fail, resend or nothing. Pure."""
    if job.outbox:
        return "announce" if now - float(job.outbox[0]["at"]) >= ANNOUNCE_AGAIN_S / settings().time_scale else "nothing"
    if not job.final:
        if job.due_at is None or job.due_at > now or job.lease_until > now:
            return "nothing"
        return "fail" if job.attempt >= ATTEMPTS_MAX else "resend"
    if job.status is ArchiveStatus.COMPLETED and job.expires_at is not None and job.expires_at <= now:
        return "expire"
    due = next_look(job)
    if due is None or due > now:
        return "nothing"
    if job.purged_at is None or job.purged_at < _ended_at(job) + PURGE_AGAIN_S / settings().time_scale:
        return "clear"
    return "forget" if job.status in GONE else "nothing"


def settle_due(tenant: str, archive_id: str) -> str:
    """What the sweeper does for a job that is due; what was done. HeavyliftError: the job stays due."""
    job = store.find(tenant, archive_id)
    if job is None:
        return "nothing"
    what = duty(job, time.time())
    match what:
        case "announce":
            job = store.announce(job)
            if job.final and job.purged_at is None:
                settle(job)  # whoever ended it was killed before that, too
        case "clear":
            settle(job)
        case "expire":
            _expire(job)
        case "forget":
            items.delete_unchanged(jobs.item_key(tenant, archive_id), version=job.version)
        case "fail":
            _fail(job)
        case "resend":
            _resend(job)
    return what


def _fail(job: ArchiveJob) -> None:
    def decide(current: ArchiveJob) -> ArchiveJob | None:
        now = time.time()
        return jobs.failed(current, jobs.exhausted(current), now) if duty(current, now) == "fail" else None

    after = store.update(job.tenant, job.archive_id, decide)
    if after.final:
        settle(after)


def _resend(job: ArchiveJob) -> None:
    """The next look first, then the message. Sent again to a job that nobody took up since, it counts as an attempt."""
    wanted = False

    def decide(current: ArchiveJob) -> ArchiveJob | None:
        nonlocal wanted
        now = time.time()
        wanted = duty(current, now) == "resend"
        if not wanted:
            return None
        silent = current.status is ArchiveStatus.QUEUED or current.resent_at > 0
        due_at = now + look_again_s(store.STAGE)
        return jobs.changed(current, now, due_at=due_at, resent_at=now, attempt=current.attempt + silent)

    current = store.update(job.tenant, job.archive_id, decide)
    if wanted:
        store.wake(current)


def _expire(job: ArchiveJob) -> None:
    """The archive goes unless it was made anew since; then the job says that it is over."""
    drop_old(job.tenant, job.content_sha256 or "")
    settle(store.update(job.tenant, job.archive_id, lambda current: jobs.expired(current, time.time())))


def drop_old(tenant: str, content_sha256: str) -> bool:
    """Delete an archive whose time is over, with its index; whether it was. TransientError."""
    bucket, key = settings().derived_bucket, keys.archive(tenant, content_sha256)
    page, _ = s3.list_objects(bucket, key, limit=1)
    at = next((one.at for one in page if one.key == key), None)
    if at is not None and at + settings().archive_days * DAY_S > time.time() + 1:
        return False
    _delete_archive(tenant, content_sha256)
    return True
