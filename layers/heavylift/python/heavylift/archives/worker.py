"""archive: a request becomes an archive. One message is one slice of one worker's part.

The worker that holds the job's lease finds the members, begins the upload and sends for help where the work is long;
helpers (``chunk``) have no lease, for whatever they do twice has the same bytes. Whoever makes the last part joins all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from heavylift import keys, queue, s3
from heavylift.archives import ends, index, jobs, preparing, selection, store, transfer
from heavylift.archives.building import (
    Construction,
    Continue,
    Done,
    Elsewhere,
    Failed,
    Journal,
    Outcome,
    Progress,
    build,
)
from heavylift.archives.jobs import ArchiveJob
from heavylift.archives.layout import Layout
from heavylift.archives.members import Members
from heavylift.archives.parts import MemberFault, Workplace
from heavylift.archives.preparing import Standing
from heavylift.errors import ContentError, HeavyliftError, TransientError
from heavylift.limits import ARCHIVE_LEFT_OUT_MAX
from heavylift.messages import Delivery
from heavylift.records import lease_seconds
from heavylift.s3 import Traffic
from heavylift.settings import settings
from heavylift.telemetry import count, logger, memory_peak_bytes
from heavylift.work import Claim, LeaseLost, failure_of, following, look_again_s

STAGE = store.STAGE
# What a member's end is called in the job's failure, and whether ``on_missing: skip`` does without the member.
_LEFT_OUT = frozenset({"source_missing", "source_changed", "source_frozen"})
VANISHED = "The file was deleted while the archive was built."


def take(delivery: Delivery) -> None:
    """Settle one message of the queue ``archive``."""
    message = delivery.message
    if isinstance(message, queue.Continuation) and message.do == "chunk":
        _help(delivery, message)
        return
    job = _asked_for(message)
    if job is None or job.final:
        return
    lease_s = lease_seconds(delivery.timeout_s, settings().time_scale)
    answer, job = store.claim(job.tenant, job.archive_id, delivery.owner, lease_s)
    if answer is not Claim.TAKE:
        logger().info("nothing to build", archive_id=job.archive_id, status=job.status.value, why=answer.value)
        if job.final:
            ends.settle(job)
        return
    try:
        _lead(job, delivery)
    except ContentError as error:
        ends.settle(preparing.fail(job, error))
    except TransientError as error:
        failure = _failure(error)
        after = store.write(job, lambda current, now: jobs.troubled(current, failure, now))
        if after.final:
            ends.settle(after)
        raise


def _asked_for(message: queue.Message) -> ArchiveJob | None:
    if isinstance(message, queue.Continuation):
        return store.find(message.tenant, message.file_id)
    parsed = keys.parse_archive_request(message.key) if isinstance(message, queue.ObjectCreated) else None
    if parsed is None:
        logger().warning("no archive is asked for by this", message_says=repr(message))
        return None
    return preparing.take_up(*parsed)


def _failure(error: HeavyliftError) -> dict[str, Any]:
    return failure_of(error, STAGE, retryable=True)


# --- whoever holds the lease ---


def _lead(job: ArchiveJob, delivery: Delivery) -> None:
    message, listed_before = delivery.message, job.list_key is not None
    try:
        job = preparing.prepare(job, delivery.seconds_left)
    except preparing.Unfinished as pause:
        _hand_on(job, message, pause.done)
        return
    # The turn comes first: whoever had it until now has left an archive, or has not.
    if not store.take_turn(job):
        _wait(job)
        return
    standing = preparing.standing(job)
    if standing is not None and standing.lasts:
        _have(job, standing, message, listed_before)
        return
    site = _Site(job, delivery, fenced=True)
    # Sent again by the sweeper, this worker also does what others should have done.
    share = 0 if _checkpoint(message).get("share") == 0 else None
    outcome = site.build(
        share, shares=int(job.plan.get("shares", 1)), replaces=None if standing is None else standing.etag
    )
    match outcome:
        case Continue(done):
            _hand_on(site.job, message, done, share=0 if site.sent else share)
        case Elsewhere():
            store.write(
                site.job, lambda current, now: jobs.released(current, now, current.progress + 1, look_again_s(STAGE))
            )
        case Failed() as failed:
            _give_up(site.job, site.members, failed, message)
        case Done():
            _finish(site.job)


def _wait(job: ArchiveJob) -> None:
    """Another job makes this very archive. Whoever ends it wakes this one; the look behind the release is for an end
    that came just before it.
    """
    logger().info("another job makes this archive", archive_id=job.archive_id)
    store.write(job, lambda current, now: jobs.released(current, now, current.progress, look_again_s(STAGE)))
    if store.turn_is_free(job):
        store.wake(job)


def _have(job: ArchiveJob, standing: Standing, message: queue.Message, listed_before: bool) -> None:
    """The archive is there. What was deleted since this job's list was made is in no archive that it ends with."""
    if listed_before:
        members = preparing.load_members(job)
        gone = selection.vanished(job.tenant, members)
        if gone is not None:
            _give_up(job, members, Failed("source_missing", VANISHED, gone), message)
            return
    ends.settle(preparing.complete(job, standing, reused=job.s3_upload_id is None))


def _finish(job: ArchiveJob) -> None:
    """The archive is there: the job says so, and what its making needed goes."""
    while not job.final:
        standing = preparing.standing(job)
        if standing is None:
            raise TransientError("aws_unavailable", "The archive cannot be seen yet.")
        try:
            job = preparing.complete(job, standing, reused=False)
        except LeaseLost:
            job = store.get(job.tenant, job.archive_id)
    ends.settle(job)


def _give_up(job: ArchiveJob, members: Members, failed: Failed, message: queue.Message) -> None:
    """The job fails by the member's name; or goes on without that member, where that was asked for."""
    error = _named(members, failed)
    file_id = members.file_id(failed.n) if failed.n is not None else None
    skip = job.on_missing == "skip" and failed.code in _LEFT_OUT and file_id is not None
    if not skip or len(job.left_out) >= ARCHIVE_LEFT_OUT_MAX:
        raise error
    key = keys.archive(job.tenant, job.content_sha256 or "")
    if job.s3_upload_id and not s3.abort_multipart(settings().derived_bucket, key, job.s3_upload_id):
        raise TransientError("aws_unavailable", "Parts outlived the abort of their upload.")
    logger().info("a member is left out", archive_id=job.archive_id, file_id=file_id, code=failed.code)
    store.end_turn(job)
    job = store.write(job, lambda current, now: jobs.unlisted(current, file_id or "", failed.code, now))
    _hand_on(job, message, int(_checkpoint(message).get("done", 0)) + 1)


def _named(members: Members, failed: Failed) -> ContentError:
    if failed.n is None:
        return ContentError(failed.code, failed.message)
    name = members.name(failed.n).decode()
    facts = {"member": name} | ({"file_id": file_id} if (file_id := members.file_id(failed.n)) else {})
    return ContentError(failed.code, f"{name}: {failed.message}", **facts)


# --- slices ---


def _checkpoint(message: queue.Message) -> Mapping[str, Any]:
    return (message.checkpoint or {}) if isinstance(message, queue.Continuation) else {}


def _following(message: queue.Message, job: ArchiveJob, do: str, done: int, **kept: Any) -> queue.Continuation:
    """The message that goes on behind ``done`` units of work. HeavyliftError ``no_progress`` as for files."""
    kept = {name: value for name, value in kept.items() if value is not None}
    return following(message, do, job.tenant, job.archive_id, job.attempt, done, **kept)


def _hand_on(job: ArchiveJob, message: queue.Message, done: int, share: int | None = None) -> None:
    """End a slice: the lease is free in the same write as the checkpoint, then the continuation is sent."""
    try:
        continuation = _following(message, job, "continue", done, share=share)
    except HeavyliftError as error:
        failure = _failure(error)
        ends.settle(store.write(job, lambda current, now: jobs.failed(current, failure, now)))
        return
    store.write(job, lambda current, now: jobs.released(current, now, done, look_again_s(STAGE)))
    queue.send(STAGE, continuation)


# --- whoever helps ---


def _help(delivery: Delivery, message: queue.Continuation) -> None:
    """One slice of a share. Without a lease: what is done twice has the same bytes."""
    job = store.find(message.tenant, message.file_id)
    share = int(_checkpoint(message).get("share", 0))
    if job is None or job.final or job.list_key is None or not job.s3_upload_id:
        return  # over, or begun anew: then others are asked
    site = _Site(job, delivery, fenced=False)
    outcome = site.build(share, shares=int(_checkpoint(message).get("shares", 1)))
    match outcome:
        case Continue(done):
            shares = _checkpoint(message).get("shares")
            queue.send(STAGE, _following(message, job, "chunk", done, share=share, shares=shares))
        case Failed() as failed:
            logger().info("a helper found a fault", archive_id=job.archive_id, code=failed.code, n=failed.n)
            if job.on_missing == "skip" and failed.code in _LEFT_OUT:
                store.wake(job)  # who has the lease comes to the same verdict, and it alone may go on without a member
            else:
                ends.settle(preparing.fail(job, _named(site.members, failed)))
        case Done():
            _finish(store.get(job.tenant, job.archive_id))
        case Elsewhere():
            return


class _Site:
    """One worker's slice: the members in memory, what it tells the job, what it spends."""

    def __init__(self, job: ArchiveJob, delivery: Delivery, *, fenced: bool) -> None:
        self.job = job
        self.members = preparing.load_members(job)
        self.sent = False
        self._delivery = delivery
        self._fenced = fenced
        self._bucket = settings().derived_bucket

    def build(self, share: int | None, *, shares: int = 1, replaces: str | None = None) -> Outcome:
        """A slice of building; what it read and wrote is noted whatever becomes of it."""
        job, traffic, started = self.job, Traffic(), time.monotonic()
        construction = Construction(
            self._bucket,
            keys.archive(job.tenant, job.content_sha256 or ""),
            Workplace(self._bucket, keys.work_prefix(job.tenant, job.archive_id)),
            job.s3_upload_id,
            share,
            shares,
            bool(job.plan.get("shares")),
            replaces,
        )
        journal = Journal(self._learnt, self._remember, self._forget, self._help_wanted, self._progress, self._joining)
        try:
            outcome = build(construction, self.members, journal, traffic, self._delivery.seconds_left)
        finally:
            self._spent(traffic, started)
        logger().info("slice of an archive", archive_id=job.archive_id, share=share, outcome=type(outcome).__name__)
        return outcome

    def _change(self, decide: Callable[[ArchiveJob, float], ArchiveJob | None]) -> None:
        if self._fenced:
            self.job = store.write(self.job, decide)
            return

        def living(current: ArchiveJob) -> ArchiveJob | None:
            if current.final or current.list_key != self.job.list_key:
                raise LeaseLost("lease_lost", f"The archive is {current.status.value}, or is begun anew.")
            return decide(current, time.time())

        self.job = store.update(self.job.tenant, self.job.archive_id, living)

    # --- what a builder tells ---

    def _learnt(self, members: Members) -> None:
        """CRC-32s were found: the list is written anew, for whoever comes next."""
        key = keys.work(self.job.tenant, self.job.archive_id, f"{self.job.fence}-members-learnt-{self.job.version}")
        s3.put_bytes(self._bucket, key, members.pack(), media_type="application/octet-stream")
        self._change(lambda current, now: jobs.changed(current, now, list_key=key))

    def _remember(self, upload_id: str) -> None:
        self._change(lambda current, now: jobs.changed(current, now, s3_upload_id=upload_id))

    def _forget(self, upload_id: str) -> None:
        def decide(current: ArchiveJob, now: float) -> ArchiveJob | None:
            if current.s3_upload_id != upload_id:
                return None  # it goes on in another one already
            return jobs.changed(current, now, s3_upload_id=None, plan={})

        self._change(decide)

    def _help_wanted(self, shares: int) -> None:
        """Others are asked to help, once; a message too many does no harm."""
        for share in range(1, shares):
            checkpoint = {"done": 0, "stalls": 0, "share": share, "shares": shares}
            queue.send(
                STAGE, queue.Continuation("chunk", self.job.tenant, self.job.archive_id, 0, checkpoint=checkpoint)
            )
        self._change(lambda current, now: jobs.changed(current, now, plan={"shares": shares}))
        self.sent = True

    def _progress(self, far: Progress) -> None:
        def decide(current: ArchiveJob, now: float) -> ArchiveJob:
            return jobs.changed(
                current,
                now,
                parts=far.parts,
                parts_done=max(current.parts_done, far.parts_done),
                bytes_done=max(current.bytes_done, far.bytes_done),
                members_done=max(current.members_done, far.members_done),
            )

        self._change(decide)

    def _joining(self, layout: Layout) -> None:
        """Nothing that was deleted meanwhile is joined. Beside the archive, and before it: where each member lies."""
        gone = selection.vanished(self.job.tenant, layout.members)
        if gone is not None:
            raise MemberFault(gone, "source_missing", VANISHED)
        body = index.build(layout.members, layout.data_offset)
        key = keys.archive_index(self.job.tenant, self.job.content_sha256 or "")
        s3.put_bytes(self._bucket, key, body, media_type="application/octet-stream")

    def _spent(self, traffic: Traffic, started: float) -> None:
        peak = memory_peak_bytes()
        count("ArchiveMilliseconds", round((time.monotonic() - started) * 1000), "Milliseconds")
        count("ArchiveMemoryPeak", peak, "Bytes")

        def decide(current: ArchiveJob) -> ArchiveJob:
            noted = jobs.spent(
                current,
                time.time(),
                bytes_in=traffic.bytes_in,
                bytes_out=traffic.bytes_out,
                requests=traffic.requests,
            )
            return jobs.changed(
                current,
                noted.updated_at,
                bytes_in=noted.bytes_in,
                bytes_out=noted.bytes_out,
                requests=noted.requests,
                memory_peak_bytes=max(current.memory_peak_bytes, peak),
            )

        transfer.quietly(lambda: store.update(self.job.tenant, self.job.archive_id, decide))
