"""The items of archives in the table. One of the few modules that touch the world."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from heavylift import announcements, bus, items, queue, work
from heavylift.archives import jobs
from heavylift.archives.jobs import ArchiveJob
from heavylift.errors import RequestError, TransientError
from heavylift.telemetry import count, logger
from heavylift.work import Claim, LeaseLost

CHANGE_TRIES = 12  # a job's workers write to one item, each a few times a slice
STAGE = "archive"
CONTENT_NOTED_S = 30 * 86_400  # longer than any upload stays open; the table forgets it by itself


def find(tenant: str, archive_id: str) -> ArchiveJob | None:
    """The job, strongly consistent; None when there is none."""
    item = items.get(jobs.item_key(tenant, archive_id))
    return jobs.from_item(item) if item else None


def get(tenant: str, archive_id: str) -> ArchiveJob:
    """The job. RequestError ``not_found``: the same for an unknown id and another tenant's."""
    job = find(tenant, archive_id)
    if job is None:
        raise RequestError("not_found", "There is no archive with this id.")
    return job


def create(job: ArchiveJob) -> ArchiveJob:
    """Write a job; the one that is there already if somebody was first."""
    if items.put(jobs.to_item(job), only_new=True):
        count("ArchivesBegun", package=job.package)
        return job
    return get(job.tenant, job.archive_id)


def update(tenant: str, archive_id: str, decide: Callable[[ArchiveJob], ArchiveJob | None]) -> ArchiveJob:
    """``items.settle`` for a job: the job after it. Whoever ends one also tells the world.

    ``decide`` gives None (or the job itself) to leave it.
    """

    def decided(current: ArchiveJob) -> ArchiveJob | None:
        wanted = decide(current)
        return None if wanted is current else wanted

    job, ours = items.settle(
        archive_id,
        lambda: get(tenant, archive_id),
        decided,
        lambda before, after: items.change_over(jobs.to_item(before), jobs.to_item(after)),
        after=lambda job: job,
        item_of=jobs.to_item,
        tries=CHANGE_TRIES,
    )
    return _told(job) if ours else job


def _told(job: ArchiveJob) -> ArchiveJob:
    """After a write of ours: what the job owes the bus goes there; what fails now the sweeper does."""
    if not job.final or not job.outbox:
        return job
    logger().info("archive ended", archive_id=job.archive_id, status=job.status.value, failure=job.failure)
    count("ArchivesEnded", status=job.status.value)
    try:
        return announce(job)
    except TransientError as error:
        logger().warning("the sweeper will announce this archive", archive_id=job.archive_id, code=error.code)
        return job


def announce(job: ArchiveJob) -> ArchiveJob:
    """Put what ``outbox`` holds on the bus and clear it. TransientError: it stays there, due for the sweeper."""
    bus.put([announcements.archive_event(job, owed) for owed in job.outbox])
    told = {owed["version"] for owed in job.outbox}

    def decide(current: ArchiveJob) -> ArchiveJob | None:
        left = tuple(owed for owed in current.outbox if owed["version"] not in told)
        return None if left == current.outbox else jobs.changed(current, time.time(), outbox=left)

    return update(job.tenant, job.archive_id, decide)


# --- which jobs make the same archive ---


def _content_partition(tenant: str, content_sha256: str) -> str:
    return f"T#{tenant}#AD#{content_sha256}"


def note_content(job: ArchiveJob, content_sha256: str) -> None:
    """Say that ``job`` makes the archive of this content, before anything of that lies in S3."""
    items.put(
        {
            "pk": _content_partition(job.tenant, content_sha256),
            "sk": job.archive_id,
            "ttl": math.ceil(time.time() + CONTENT_NOTED_S),
        }
    )


def jobs_of_content(tenant: str, content_sha256: str) -> list[ArchiveJob]:
    """Every job that makes, or made, the archive of this content in the last weeks."""
    noted = items.read_all(_content_partition(tenant, content_sha256))
    found = items.read_many([jobs.item_key(tenant, one["sk"]) for one in noted])
    return [jobs.from_item(item) for item in found]


# --- whose turn it is ---


def _turn_key(tenant: str, content_sha256: str) -> dict[str, str]:
    return {"pk": f"T#{tenant}#AT#{content_sha256}", "sk": "T"}


def take_turn(job: ArchiveJob) -> bool:
    """Whether ``job`` builds the archive of its content now. Of the jobs that want the same archive one does, the
    others wait; one that has not come back for as long as the sweeper waits for it has had its turn.
    """
    key = _turn_key(job.tenant, job.content_sha256 or "")
    for attempt in range(CHANGE_TRIES):
        held, now = items.get(key), time.time()
        if held is not None and held["archive_id"] != job.archive_id and held["until"] > now:
            return False
        turn = {
            **key,
            "archive_id": job.archive_id,
            "until": now + work.look_again_s(STAGE),
            "version": 1 + (held["version"] if held else 0),
            "ttl": math.ceil(now + CONTENT_NOTED_S),
        }
        if items.put_version(turn):
            return True
        time.sleep(0.01 * attempt)
    raise items.Stale(job.archive_id)


def turn_is_free(job: ArchiveJob) -> bool:
    """Whether ``job`` could have the turn now."""
    held = items.get(_turn_key(job.tenant, job.content_sha256 or ""))
    return held is None or held["until"] <= time.time()


def end_turn(job: ArchiveJob) -> None:
    """Give the turn back, if it is ``job``'s, and wake who waits for it; killed in between, the sweeper wakes them."""
    if job.content_sha256 is None:
        return
    key = _turn_key(job.tenant, job.content_sha256)
    held = items.get(key)
    if held is None or held["archive_id"] != job.archive_id or not held["until"]:
        return
    items.change(key, {"until": 0, "version": held["version"] + 1}, (), version=held["version"])
    for other in jobs_of_content(job.tenant, job.content_sha256):
        if not other.final and other.archive_id != job.archive_id:
            wake(other)


# --- a worker's part ---


def claim(tenant: str, archive_id: str, owner: str, lease_s: float) -> tuple[Claim, ArchiveJob]:
    """Take the lease if it is free: (TAKE, the job as leased), or why not. RequestError ``not_found``."""
    seen: list[Claim] = []

    def decide(job: ArchiveJob) -> ArchiveJob | None:
        now = time.time()
        answer = jobs.may_claim(job, owner, now)
        seen.append(answer)
        if answer is Claim.EXHAUSTED:
            return jobs.failed(job, jobs.exhausted(job), now)
        if answer is not Claim.TAKE:
            return None
        return jobs.claimed(job, owner, now, lease_s, work.look_again_s(STAGE))

    job = update(tenant, archive_id, decide)
    return seen[-1], job


def write(held: ArchiveJob, decide: Callable[[ArchiveJob, float], ArchiveJob | None]) -> ArchiveJob:
    """A fenced write of whoever holds ``held``'s lease: ``decide(current, now)``; the job after it. LeaseLost."""

    def fenced(current: ArchiveJob) -> ArchiveJob | None:
        if current.fence != held.fence:
            raise LeaseLost("lease_lost", f"The archive is {current.status.value}, and somebody else's now.")
        return decide(current, time.time())

    return update(held.tenant, held.archive_id, fenced)


def set_fields(held: ArchiveJob, **values: Any) -> ArchiveJob:
    """``write`` of some fields."""
    return write(held, lambda current, now: jobs.changed(current, now, **values))


def wake(job: ArchiveJob) -> None:
    """Tell the function to take a job up whose event may have been lost."""
    queue.send(STAGE, queue.Continuation("continue", job.tenant, job.archive_id, job.attempt))
