"""Lost, repeated and reversed events, killed functions, a failing S3, all at once: no file is lost or doubled."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.testing import CallFailed, RunningStack, running_stack
from tests.interop.conftest import Desk, write_tiff

pytestmark = pytest.mark.xdist_group("chaos")
TIME_SCALE = 600
FILES_FULL = 30
FAULTS = {
    "events": {"copies": 3, "reverse": True, "drop": 0.3, "seed": 4},
    "functions": {"*": {"kill": 0.2}},
    "s3": {"errors": {"*": [0.05, 503, "SlowDown"]}, "seed": 4},
    "seed": 4,
}


def patiently(action: Callable[[], Any], seconds: float = 60) -> Any:
    """A request again while the API answers 5xx: a killed function is no answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except CallFailed as failed:
            if failed.status < 500 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def send(desk: Desk, path: Path) -> str:
    """Uploads by the real client, again until it is in; the file's id."""
    for _ in range(40):
        with desk.client(concurrency=2) as client:
            result = client.put(path, wait=False)
        if result.file_id is not None and result.failure is None:
            return str(result.file_id)
        time.sleep(0.2)
    raise AssertionError(result)


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


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("files", "seconds"), [(5, 180), pytest.param(FILES_FULL, 1800, marks=pytest.mark.full)])
def test_nothing_is_lost_and_nothing_twice(tmp_path: Path, files: int, seconds: float) -> None:
    """All end completed: one store version each, three thumbnails a picture, nothing staged, no part left behind."""
    rng = random.Random(1)
    picture = write_tiff(tmp_path / "source.tif", 1400, 1000).read_bytes()
    paths: list[Path] = []
    for number in range(files):
        kind = ("picture", "large", "other")[number % 3]
        data = {"picture": picture, "large": picture * 5, "other": rng.randbytes(3000)}[kind]
        path = tmp_path / f"{number:02d}-{kind}.{'bin' if kind == 'other' else 'tif'}"
        path.write_bytes(data + number.to_bytes(2, "big"))
        paths.append(path)
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": str(TIME_SCALE)}) as stack:
        desk = Desk(stack, stack.token("chaos"), "chaos")
        stack.faults(FAULTS)
        ids = {}
        for path in paths:
            ids[send(desk, path)] = path
        records = {file_id: well(desk, file_id, seconds) for file_id in ids}
        stack.faults({})
        settled(stack, 120)
        patiently(lambda: stack.invoke("sweep", {}))
        pictures = {file_id for file_id, path in ids.items() if path.suffix == ".tif"}

        assert {record["status"] for record in records.values()} == {"completed"}
        versions = desk.s3().list_object_versions(Bucket=desk.bucket("store"))
        assert sorted(one["Key"] for one in versions["Versions"]) == sorted(f"files/chaos/{one}" for one in ids)
        assert "DeleteMarkers" not in versions
        sizes = {one["Key"].rpartition("/")[2]: one["Size"] for one in versions["Versions"]}
        assert sizes == {file_id: path.stat().st_size for file_id, path in ids.items()}
        for file_id in ids:
            wanted = 3 if file_id in pictures else 0
            assert len(desk.keys("derived", f"thumbnails/chaos/{file_id}")) == wanted, ids[file_id]
        assert eventually_empty(lambda: desk.keys("staging", ""), 30) == []
        # A session whose answer was lost waits for its client; what no record knows is aborted by the sweeper.
        for abandoned in desk.call("GET", "/v1/uploads?status=uploading")["items"]:
            desk.call("DELETE", f"/v1/uploads/{abandoned['upload_id']}")
        assert eventually_empty(lambda: open_uploads(desk), 60) == []
        assert desk.keys("derived", "work/") == []
        # Whatever was killed: each end was told, under one id.
        told = {(one["detail"]["file_id"], one["detail-type"]) for one in stack.local("GET", "bus")["events"]}
        assert {(file_id, "file.completed") for file_id in ids} <= told
