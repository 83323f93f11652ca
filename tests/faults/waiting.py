"""Waiting for a stack under faults: answers, ends, quiet queues, empty buckets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from heavylift_local.testing import RunningStack
from soak.errands import patiently
from tests.interop.conftest import Desk


def well(desk: Desk, file_id: str, seconds: float) -> dict[str, Any]:
    """The record once it ended well; what failed for the world's reasons is retried as a user would."""
    deadline = time.monotonic() + seconds
    while True:
        record = patiently(lambda: desk.call("GET", f"/v1/files/{file_id}"))
        if record["status"] == "failed" and record["failure"]["retryable"]:
            patiently(lambda: desk.call("POST", f"/v1/uploads/{file_id}/retry", {}))
        elif record["final"]:
            return dict(record)
        assert time.monotonic() < deadline, record
        time.sleep(0.2)


def settled(stack: RunningStack, seconds: float) -> None:
    """Nothing waits, nothing is in hand."""
    deadline = time.monotonic() + seconds
    while True:
        queues = stack.state()["queues"].values()
        if not any(one["visible"] or one["in_flight"] or one["delayed"] for one in queues):
            return
        assert time.monotonic() < deadline, stack.state()["queues"]
        time.sleep(0.2)


def open_uploads(desk: Desk) -> list[tuple[str, str, str]]:
    """(bucket, key, upload id) of every multipart upload that is neither complete nor aborted."""
    found = []
    for bucket in ("staging", "store", "derived"):
        uploads = desk.s3().list_multipart_uploads(Bucket=desk.bucket(bucket)).get("Uploads", [])
        found += [(desk.bucket(bucket), one["Key"], one["UploadId"]) for one in uploads]
    return found


def eventually_empty(probe: Callable[[], list[Any]], seconds: float) -> list[Any]:
    deadline = time.monotonic() + seconds
    while (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found
