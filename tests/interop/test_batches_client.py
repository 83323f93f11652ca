"""Folders by the real command, against the running stack: whole, under faults, and killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from heavylift_local.testing import RunningStack, running_stack
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("batches")
MIB = 1024 * 1024
CONCURRENCY = 3
PART = 16 * MIB


@pytest.fixture(scope="module")
def own_stack() -> Iterator[RunningStack]:
    """A stack whose faults are nobody else's."""
    if os.environ.get("HEAVYLIFT_S3_ENDPOINT"):
        pytest.skip("only the embedded S3 can be told to fail")
    with running_stack() as stack:
        yield stack


@pytest.fixture
def own_desk(own_stack: RunningStack, request: pytest.FixtureRequest) -> Iterator[Desk]:
    tenant = "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    own_stack.faults({})
    yield Desk(own_stack, own_stack.token(tenant), tenant)
    own_stack.faults({})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, tables, text, hidden and empty files, and one that goes up in parts."""
    root = tmp_path / "in"
    (root / "sub" / "deep").mkdir(parents=True)
    for n in range(6):
        Image.new("RGB", (40 + n, 30), (n * 30, 90, 120)).save(root / f"{n}.jpg")
    (root / "sub" / "table.csv").write_text("id,name\n1,a\n2,b\n")
    (root / "sub" / "deep" / "ü 😀.txt").write_text("text\n")
    (root / ".hidden").write_text("also text\n")
    chance = random.Random(7)
    for n in range(12):
        (root / "sub" / f"{n:02d}.bin").write_bytes(b"\x01\x02" + chance.randbytes(3_000 + n))
    (root / "large.bin").write_bytes(b"\x01\x02" + chance.randbytes(33 * MIB))
    (root / "loop").symlink_to(root)
    return root


def files_of(root: Path) -> dict[str, str]:
    """relative path -> SHA-256 of every regular file."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def for_clients(faults: dict[str, Any]) -> dict[str, Any]:
    """Faults of S3 for whoever uses a presigned URL; the functions have a good day."""
    return {"s3": {"callers": {"client": faults}}}


def start(desk: Desk, root: Path, state: Path, *options: str) -> subprocess.Popen[str]:
    heavylift = str(Path(sys.executable).with_name("heavylift"))
    command = [heavylift, "put", str(root), "--json", "--concurrency", str(CONCURRENCY), *options]
    env = {**os.environ, "HEAVYLIFT_API": desk.stack.api, "HEAVYLIFT_TOKEN": desk.token, "XDG_STATE_HOME": str(state)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of the files and the batch's, of a command that ended well."""
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors + out[-2000:]
    *files, batch = map(json.loads, out.splitlines())
    return files, batch


def check(desk: Desk, root: Path, files: list[dict[str, Any]], batch: dict[str, Any]) -> None:
    """Every file of the folder is an object of the store with its bytes, in one batch that ended well."""
    wanted = files_of(root)
    assert {line["relative_path"] for line in files} == set(wanted)
    assert {line["status"] for line in files} == {"completed"}
    assert (batch["status"], batch["total"], batch["succeeded"]) == ("completed", len(wanted), len(wanted))
    for line in files:
        assert line["batch_id"] == batch["batch_id"]
        assert line["upload_id"] == line["file_id"]
        body = desk.s3().get_object(Bucket=desk.bucket("store"), Key=f"files/{desk.tenant}/{line['file_id']}")["Body"]
        assert hashlib.sha256(body.read()).hexdigest() == wanted[line["relative_path"]]
    assert desk.keys("staging", f"in/{desk.tenant}/") == []
    assert (
        not desk.s3().list_multipart_uploads(Bucket=desk.bucket("staging"), Prefix=f"in/{desk.tenant}/").get("Uploads")
    )


def test_a_folder_by_the_command(own_desk: Desk, folder: Path, tmp_path: Path) -> None:
    """Every regular file arrives as it was; kinds are told by content; a small file's SHA-256 is proven."""
    files, batch = end(start(own_desk, folder, tmp_path / "state"))
    check(own_desk, folder, files, batch)
    kinds = {line["relative_path"]: line["kind"] for line in files}
    assert (kinds["0.jpg"], kinds["sub/table.csv"], kinds[".hidden"]) == ("image", "table", "text")
    small = next(line for line in files if line["relative_path"] == "0.jpg")
    record = own_desk.call("GET", f"/v1/files/{small['file_id']}")
    assert record["checksums"]["sha256"] == files_of(folder)["0.jpg"]
    assert record["checksums"]["sha256_proven"] is True


def test_a_rejected_member(own_desk: Desk, tmp_path: Path) -> None:
    """A program among the files is refused with its reason; exit status 1; the others are completed."""
    root = tmp_path / "in"
    root.mkdir()
    (root / "tool.exe").write_bytes(b"MZ" + bytes(1_000))
    (root / "text.txt").write_text("text\n")
    process = start(own_desk, root, tmp_path / "state")
    out, errors = process.communicate(timeout=180)
    text, refused, batch = map(json.loads, out.splitlines())

    assert process.returncode == 1, errors
    assert batch["status"] == "completed_with_errors"
    assert text["status"] == "completed"
    assert (refused["relative_path"], refused["status"]) == ("tool.exe", "rejected")
    assert refused["failure"]["code"]


def test_a_store_that_fails_now_and_then(own_desk: Desk, folder: Path, tmp_path: Path) -> None:
    """Every fifth PUT is answered 503, some parts are cut, and the API is away for a while: all arrives, once."""
    own_desk.stack.faults(
        {
            **for_clients({"errors": {"PutObject": [0.2, 503, "SlowDown"], "UploadPart": [0.2, 503, "SlowDown"]}}),
            "api": {"down_s": 2},
        }
    )
    files, batch = end(start(own_desk, folder, tmp_path / "state"))
    own_desk.stack.faults({})
    check(own_desk, folder, files, batch)


@pytest.fixture(scope="module")
def hasty_stack() -> Iterator[RunningStack]:
    """A stack whose URLs live two seconds."""
    if os.environ.get("HEAVYLIFT_S3_ENDPOINT"):
        pytest.skip("only the embedded S3 can be told to fail")
    with running_stack(env={"SIGNATURE_TTL_SECONDS": "2"}) as stack:
        yield stack


FAULTS: dict[str, dict[str, Any]] = {
    "slow": {"latency_ms": 400},
    "token over": {"errors": {"PutObject": [0.2, 400, "ExpiredToken"], "UploadPart": [0.3, 400, "ExpiredToken"]}},
    "busy": {"errors": {"PutObject": [0.05, 503, "SlowDown"], "UploadPart": [0.3, 503, "SlowDown"]}},
    "cut": {"cut_after_bytes": 2_500},
}


@pytest.mark.parametrize(
    "fault", [fault if fault == "token over" else pytest.param(fault, marks=pytest.mark.full) for fault in FAULTS]
)
def test_urls_that_live_two_seconds(hasty_stack: RunningStack, folder: Path, tmp_path: Path, fault: str) -> None:
    """And a slow store, tokens that end, 503s, connections cut in the middle of every body for a while: all arrives
    once, and no upload is left open."""
    tenant = "h-" + hashlib.sha256(fault.encode()).hexdigest()[:12]
    desk = Desk(hasty_stack, hasty_stack.token(tenant), tenant)
    desk.stack.faults(for_clients(FAULTS[fault]))
    try:
        process = start(desk, folder, tmp_path / "state")
        if fault == "cut":
            time.sleep(4)
            desk.stack.faults({})
        files, batch = end(process)
    finally:
        desk.stack.faults({})
    check(desk, folder, files, batch)


def killed(desk: Desk, folder: Path, state: Path, seed: int) -> None:
    """kill -9 at random moments, then run again: the bytes are the folder's, what was on the wire goes twice."""
    chance = random.Random(seed)
    desk.stack.faults(for_clients({"latency_ms": 30}))
    before = desk.stack.counters().get("client", {})
    moments = [chance.uniform(0.3, 2.0) for _ in range(3)]
    kills = 0
    while True:
        process = start(desk, folder, state)
        if not moments:
            desk.stack.faults({})
            break
        try:
            process.wait(timeout=moments.pop())
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            time.sleep(0.3)  # what was on the wire arrives or is lost
    files, batch = end(process)
    check(desk, folder, files, batch)
    after = desk.stack.counters()["client"]
    sent = sum(_moved(after, name) - _moved(before, name) for name in ("s3.PutObject", "s3.UploadPart"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    assert sent <= size + kills * CONCURRENCY * PART


def _moved(counters: dict[str, Any], name: str) -> int:
    return int(counters.get(name, {}).get("bytes_in", 0))


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_killed_with_9_and_run_again(own_desk: Desk, folder: Path, tmp_path: Path, seed: int) -> None:
    """Up to three kills of a seed; tests/client/test_batch_resume.py has the same against a fake."""
    killed(own_desk, folder, tmp_path / "state", seed)
