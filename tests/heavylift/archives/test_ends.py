"""What an archive's end leaves to be done, and when the sweeper does it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heavylift.archives import ends
from heavylift.archives.jobs import ArchiveJob, ArchiveStatus
from heavylift.limits import ANNOUNCE_AGAIN_S, ATTEMPTS_MAX, PURGE_AGAIN_S, TOMBSTONE_DAYS
from heavylift.s3 import Listed
from heavylift.sweeping import archives as sweeping

ID = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
DAY = 86_400
OWED: Any = ({"type": "archive.failed", "version": 2, "at": 100.0, "status": "failed"},)


def a_job(status: ArchiveStatus = ArchiveStatus.FAILED, **fields: Any) -> ArchiveJob:
    return ArchiveJob("acme", ID, "a.zip", status, **{"finished_at": 1_000.0, **fields})


def test_a_living_job() -> None:
    """Nothing while it is leased or not due; sent again then, and failed after the last attempt."""
    job = a_job(ArchiveStatus.BUILDING, due_at=500.0)

    assert ends.duty(job, 499.0) == "nothing"
    assert ends.duty(replace(job, lease_until=600.0), 501.0) == "nothing"
    assert ends.duty(job, 501.0) == "resend"
    assert ends.duty(replace(job, attempt=ATTEMPTS_MAX), 501.0) == "fail"
    assert ends.duty(replace(job, due_at=None), 501.0) == "nothing"


def test_an_announcement_comes_first() -> None:
    """But not before whoever ended it has had his time."""
    job = a_job(outbox=OWED)

    assert ends.duty(job, 100.0 + ANNOUNCE_AGAIN_S - 1) == "nothing"
    assert ends.duty(job, 100.0 + ANNOUNCE_AGAIN_S) == "announce"


@pytest.mark.parametrize("status", [ArchiveStatus.FAILED, ArchiveStatus.CANCELLED, ArchiveStatus.EXPIRED])
def test_what_is_gone_is_cleared_twice_and_then_forgotten(status: ArchiveStatus) -> None:
    """At once, when no lease can be alive any more, and after ninety days."""
    job = a_job(status, expires_at=1_000.0)
    again, over = 1_000.0 + PURGE_AGAIN_S, 1_000.0 + TOMBSTONE_DAYS * DAY

    assert (ends.duty(job, 1_000.0), ends.next_look(job)) == ("clear", 1_000.0)
    once = replace(job, purged_at=1_001.0)
    assert (ends.duty(once, again - 1), ends.duty(once, again), ends.next_look(once)) == ("nothing", "clear", again)
    twice = replace(job, purged_at=again + 1)
    assert (ends.duty(twice, over - 1), ends.duty(twice, over), ends.next_look(twice)) == ("nothing", "forget", over)


def test_a_completed_job_expires() -> None:
    """Its leftovers are cleared like any other's; it stays until its object's time is over."""
    job = a_job(ArchiveStatus.COMPLETED, expires_at=9e6, purged_at=1_001.0 + PURGE_AGAIN_S)

    assert ends.next_look(job) == 9e6
    assert (ends.duty(job, 9e6 - 1), ends.duty(job, 9e6)) == ("nothing", "expire")


def test_what_becomes_of_a_request() -> None:
    """A young one waits for its event; one without a job is taken up; one that is done goes."""
    found = Listed("requests/acme/x.json", at=100.0)
    done = a_job(purged_at=1_001.0)

    assert sweeping.request_fate(found, None, 110.0, 60.0) == "keep"
    assert sweeping.request_fate(found, None, 161.0, 60.0) == "take_up"
    assert sweeping.request_fate(found, a_job(ArchiveStatus.BUILDING), 9e9, 60.0) == "keep"
    assert sweeping.request_fate(found, a_job(), 9e9, 60.0) == "keep"
    assert sweeping.request_fate(found, done, 9e9, 60.0) == "delete"


def test_what_becomes_of_an_upload() -> None:
    """One that a living job remembers stays, and a young one, which it may be about to remember."""
    upload = Listed("archives/acme/x.zip", at=100.0, upload_id="u1")

    assert sweeping.upload_fate(upload, ["u1"], 9e9, 60.0) == "keep"
    assert sweeping.upload_fate(upload, [None, "u2"], 150.0, 60.0) == "keep"
    assert sweeping.upload_fate(upload, [None, "u2"], 161.0, 60.0) == "abort"
