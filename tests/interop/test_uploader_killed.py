"""The uploader dies half way and is run again: it goes on, with the same bytes, and never joins other ones."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heavylift_local.testing import RunningStack, running_stack
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("stack")
MIB = 1024 * 1024
PART = 16 * MIB
CONCURRENCY = 2
SIZE = 10 * PART + 12_345


@pytest.fixture(scope="module")
def slow_stack():
    """A stack whose S3 takes its time, so that there is a half way."""
    if os.environ.get("HEAVYLIFT_S3_ENDPOINT"):
        pytest.skip("only the embedded S3 can be told to be slow")
    with running_stack() as stack:
        stack.faults({"s3": {"latency_ms": 250}})
        yield stack


def _command(desk: Desk, path: Path) -> subprocess.Popen:
    heavylift = str(Path(sys.executable).with_name("heavylift"))
    command = [heavylift, "put", str(path), "--json", "--concurrency", str(CONCURRENCY)]
    env = {**os.environ, "HEAVYLIFT_API": desk.stack.api, "HEAVYLIFT_TOKEN": desk.token}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _kill_half_way(desk: Desk, path: Path, parts: int = 3) -> dict:
    """Start an upload, kill -9 it once so many parts are in; what the API says of it then."""
    process = _command(desk, path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for one in desk.call("GET", "/v1/uploads?status=uploading")["items"]:
            status = desk.call("GET", f"/v1/uploads/{one['upload_id']}")
            if status["bytes_received"] >= parts * PART:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                time.sleep(1)  # what was in flight has arrived or is lost
                return desk.call("GET", f"/v1/uploads/{one['upload_id']}")
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def _run(desk: Desk, path: Path) -> dict:
    out, errors = (process := _command(desk, path)).communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(out)


def _desk(stack: RunningStack, tenant: str) -> Desk:
    return Desk(stack, stack.token(tenant), tenant)


def _stored_sha256(desk: Desk, file_id: str) -> str:
    body = desk.s3().get_object(Bucket=desk.bucket("store"), Key=f"files/{desk.tenant}/{file_id}")["Body"]
    return hashlib.sha256(body.read()).hexdigest()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same folder", "another folder"])
def test_running_again_sends_only_what_was_lost(slow_stack: RunningStack, tmp_path: Path, elsewhere: bool) -> None:
    """At most concurrency x part size is sent twice; the stored object is the file."""
    desk = _desk(slow_stack, "again-elsewhere" if elsewhere else "again")
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(SIZE))
    before = _kill_half_way(desk, path)
    if elsewhere:
        (tmp_path / "moved").mkdir()
        path = path.rename(tmp_path / "moved" / "renamed.bin")
    line = _run(desk, path)
    assert line["upload_id"] == before["upload_id"]
    assert line["status"] == "completed"
    assert line["bytes_resumed"] >= before["bytes_received"]
    assert line["bytes_sent"] + line["bytes_resumed"] == SIZE
    received_by_store = desk.stack.counters()["client"]["s3.UploadPart"]["bytes_in"]
    assert received_by_store <= (2 if elsewhere else 1) * (SIZE + CONCURRENCY * PART)
    assert _stored_sha256(desk, line["file_id"]) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_moments(slow_stack: RunningStack, tmp_path: Path, seed: int) -> None:
    """One to three kills of one upload, wherever they fall: the bytes are the file's, and each kill costs at most
    concurrency x part size."""
    desk = _desk(slow_stack, f"random-{seed}")
    chance = random.Random(seed)
    path = tmp_path / "data.bin"
    path.write_bytes(chance.randbytes(SIZE))
    sent_before = desk.stack.counters().get("client", {}).get("s3.UploadPart", {}).get("bytes_in", 0)
    moments = sorted(chance.sample(range(7), chance.randint(1, 3)))
    upload_ids = set()
    for parts in moments:
        left = _kill_half_way(desk, path, parts)
        if left["status"] != "uploading":  # the kill came when all was sent: then it ends well by itself
            file_id = left["upload_id"]
            assert desk.wait_final(file_id)["status"] == "completed"
            assert _stored_sha256(desk, file_id) == hashlib.sha256(path.read_bytes()).hexdigest()
            return
        upload_ids.add(left["upload_id"])
    line = _run(desk, path)
    assert upload_ids == {line["upload_id"]}
    assert line["bytes_sent"] + line["bytes_resumed"] == SIZE
    assert _stored_sha256(desk, line["file_id"]) == hashlib.sha256(path.read_bytes()).hexdigest()
    sent = desk.stack.counters()["client"]["s3.UploadPart"]["bytes_in"] - sent_before
    assert sent <= SIZE + len(moments) * CONCURRENCY * PART


def test_a_file_changed_in_the_middle_is_not_joined_to_old_parts(slow_stack: RunningStack, tmp_path: Path) -> None:
    """Bytes that the fingerprint does not see have changed: the received part differs, so a new session begins."""
    desk = _desk(slow_stack, "changed")
    data = bytearray(os.urandom(SIZE))
    path = tmp_path / "data.bin"
    path.write_bytes(data)
    before = _kill_half_way(desk, path)
    first = before["received"][0][0]
    at = (first - 1) * PART + PART // 2 + 777  # between the fingerprint's blocks
    data[at] ^= 0xFF
    path.write_bytes(data)
    line = _run(desk, path)
    assert line["status"] == "completed"
    assert line["upload_id"] != before["upload_id"]
    assert _stored_sha256(desk, line["file_id"]) == hashlib.sha256(data).hexdigest()
