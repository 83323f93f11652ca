"""The record of an archive's making: its steps, its leases, and the item that it is kept in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heavylift import items
from heavylift.archives import jobs
from heavylift.archives.jobs import GONE, LIVE, ArchiveJob, ArchiveStatus
from heavylift.errors import RequestError
from heavylift.limits import ATTEMPTS_MAX
from heavylift.work import Claim

ID = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
FAILURE = {"code": "member_missing", "message": "scan.tif is gone.", "stage": "archive", "retryable": False}
MADE: dict[str, Any] = {"size": 10, "crc32": "AAAAAA==", "etag": "e-1", "expires_at": 700.0}


def a_job(status: ArchiveStatus = ArchiveStatus.QUEUED, **fields: Any) -> ArchiveJob:
    return ArchiveJob("acme", ID, "scan.zip", status, wanted={"logical_id": "scan"}, created_at=1.0, **fields)


def taken(job: ArchiveJob, owner: str = "m1", now: float = 10.0) -> ArchiveJob:
    return jobs.claimed(job, owner, now, lease_s=330.0, look_again_s=2_250.0)


def test_an_item_is_its_job() -> None:
    """Also after the table has made lists of tuples and whole numbers of 7.0; what is empty is left out."""
    job = a_job(
        ArchiveStatus.BUILDING,
        version=3,
        due_at=12.5,
        plan={"layout": "direct", "glue": 8},
        shares={"0": [1, 2]},
        left_out=({"file_id": ID, "reason": "gone"},),
        outbox=({"type": "archive.failed", "version": 3, "at": 1.5, "status": "failed"},),
    )
    item = items.as_stored(jobs.to_item(job))

    assert jobs.from_item(item) == job
    assert jobs.of_partition(item["pk"]) == ("acme", ID)
    assert "failure" not in item
    assert item["due_sk"].endswith(ID)
    assert "due_pk" not in jobs.to_item(a_job())


def test_the_way_of_a_job() -> None:
    """Queued, building, completed: each step raises the version, each lease the fence."""
    job = a_job()
    first = taken(job)
    slice_end = jobs.released(first, 20.0, done=5, look_again_s=9.0)
    second = taken(slice_end, "m2", 21.0)
    done = jobs.completed(replace(second, parts=7, members=4, bytes_total=9), 30.0, **MADE)

    assert done is not None
    assert [one.status for one in (job, first, slice_end, second, done)] == [
        ArchiveStatus.QUEUED, ArchiveStatus.BUILDING, ArchiveStatus.BUILDING, ArchiveStatus.BUILDING,
        ArchiveStatus.COMPLETED,
    ]  # fmt: skip
    assert [one.version for one in (job, first, slice_end, second, done)] == [1, 2, 3, 4, 5]
    assert first.fence < second.fence < done.fence
    assert (first.started_at, second.started_at) == (10.0, 10.0)
    assert (done.parts_done, done.members_done, done.bytes_done) == (7, 4, 9)
    assert done.outbox[0]["type"] == "archive.completed"
    assert done.outbox[0]["version"] == done.version
    assert jobs.completed(done, 31.0, **MADE) is None


def test_who_may_work_on_a_job() -> None:
    """Another message waits for the lease's end; the same one takes over; five attempts are enough."""
    job = taken(a_job())

    assert jobs.may_claim(a_job(), "m2", 0.0) is Claim.TAKE
    assert jobs.may_claim(job, "m2", 20.0) is Claim.HELD
    assert jobs.may_claim(job, "m1", 20.0) is Claim.TAKE
    assert jobs.may_claim(job, "m2", 341.0) is Claim.TAKE
    assert jobs.may_claim(replace(job, attempt=ATTEMPTS_MAX), "m1", 20.0) is Claim.EXHAUSTED
    assert jobs.may_claim(jobs.failed(job, FAILURE, 5.0), "m1", 20.0) is Claim.DONE


def test_attempts_count_only_where_nothing_was_gained() -> None:
    """A slice that got further clears them; one that only paused gives its own back; the fifth is the end."""
    job = replace(taken(a_job()), attempt=4, progress=5)

    assert jobs.released(job, 1.0, done=6, look_again_s=1.0).attempt == 0
    assert jobs.released(job, 1.0, done=5, look_again_s=1.0).attempt == 3
    assert jobs.troubled(job, FAILURE, 1.0).status is ArchiveStatus.BUILDING
    last = jobs.troubled(replace(job, attempt=ATTEMPTS_MAX), FAILURE, 1.0)
    assert (last.status, last.failure) == (ArchiveStatus.FAILED, FAILURE)


def test_the_end_takes_the_say_from_every_worker() -> None:
    """A cancelled or failed job has a fence above any lease, nothing of its shares, and something to tell."""
    held = replace(taken(a_job()), shares={"0": 1})
    for ended in (jobs.cancelled(held, 5.0), jobs.failed(held, FAILURE, 5.0)):
        assert ended is not None
        assert ended.fence > held.fence
        assert (ended.lease_owner, ended.shares, ended.due_at) == (None, {}, 5.0)
        assert ended.outbox[0]["type"] == f"archive.{ended.status}"


@pytest.mark.parametrize("status", sorted(ArchiveStatus))
def test_what_an_end_allows(status: ArchiveStatus) -> None:
    """Only a live job is cancelled; only a completed one expires, and not before its time."""
    job = a_job(status, expires_at=7.0)
    if status in LIVE:
        assert jobs.cancelled(job, 1.0) is not None
        assert not job.final
    elif status is ArchiveStatus.CANCELLED:
        assert jobs.cancelled(job, 1.0) is None
    else:
        with pytest.raises(RequestError) as refused:
            jobs.cancelled(job, 1.0)
        assert refused.value.code == "state_conflict"
    assert (jobs.expired(job, 7.0) is not None) == (status is ArchiveStatus.COMPLETED)
    assert jobs.expired(job, 6.9) is None
    assert LIVE.isdisjoint(GONE)
    if job.final:
        assert jobs.failed(job, FAILURE, 1.0) is job


def test_a_member_that_vanished_is_left_out_and_all_begins_anew() -> None:
    """The list, the plan and the counts go; what passed through stays."""
    job = a_job(
        ArchiveStatus.BUILDING, list_key="work/x", members=9, parts=3, parts_done=2, s3_upload_id="u", plan={"a": 1},
        bytes_in=5, progress=2,
    )  # fmt: skip
    again = jobs.unlisted(job, "f1", "deleted", 4.0)

    assert again.left_out == ({"file_id": "f1", "reason": "deleted"},)
    assert (again.list_key, again.s3_upload_id, again.plan, again.members) == (None, None, {}, 0)
    assert (again.bytes_in, again.progress) == (5, 0)


def test_the_last_reason_of_a_job_that_never_ended() -> None:
    """What broke it last, if anything did."""
    assert jobs.exhausted(a_job(failure=FAILURE)) == {**FAILURE, "retryable": True}
    assert jobs.exhausted(a_job(attempt=5))["code"] == "attempts_exhausted"


def test_bytes_through_is_the_larger_way() -> None:
    """Counted over all slices."""
    job = jobs.spent(jobs.spent(a_job(), 1.0, bytes_in=5, bytes_out=1, requests=2), 2.0, bytes_in=1, bytes_out=9)

    assert (job.bytes_in, job.bytes_out, job.requests, job.bytes_through) == (6, 10, 2, 10)
