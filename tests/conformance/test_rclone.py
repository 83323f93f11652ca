"""rclone as Debian packages it: another implementation of the protocol (Go), with other habits than AWS's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.target import MIB, REGION, Target

Run = Callable[..., bytes]
PROGRAM = shutil.which("rclone")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="rclone is not installed (tests/system_packages.sh)")


@pytest.fixture
def rclone(target: Target, tmp_path: Path) -> Run:
    """Runs `rclone …` with a remote called `s3:` and default settings otherwise."""
    environment = {
        **target.environment(tmp_path),
        "RCLONE_CONFIG": str(tmp_path / "none.conf"),
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENV_AUTH": "true",
        "RCLONE_CONFIG_S3_REGION": REGION,
        "RCLONE_CONFIG_S3_ENDPOINT": target.endpoint,
    }

    def run(*arguments: str, status: int = 0) -> bytes:
        assert PROGRAM is not None
        done = subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, timeout=120)
        assert done.returncode == status, done.stderr.decode()
        return done.stdout

    return run


def _tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_copy_check_and_back(rclone: Run, bucket: str, tmp_path: Path) -> None:
    """A tree with a multipart file goes up, is checked by hash, listed with its times, and comes back."""
    source = tmp_path / "in"
    for name, size in (("small.txt", 10), ("empty", 0), ("dir/b +%ü.bin", 12 * MIB)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(os.urandom(size))
    remote = f"s3:{bucket}/tree"
    rclone("copy", "--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", str(source), remote)
    rclone("check", str(source), remote)
    listed = {row["Path"]: row for row in json.loads(rclone("lsjson", "-R", "--hash", "--files-only", remote))}
    assert {name: row["Size"] for name, row in listed.items()} == {k: len(v) for k, v in _tree(source).items()}
    assert len(listed["dir/b +%ü.bin"]["Hashes"]["md5"]) == 32  # from the metadata that it keeps for parted files
    rclone("copy", remote, str(tmp_path / "out"))
    assert _tree(tmp_path / "out") == _tree(source)


def test_sync_cat_and_delete(rclone: Run, s3: Any, bucket: str, tmp_path: Path) -> None:
    """sync deletes what is gone, cat reads a range, copies on the server, purge empties."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "a").write_bytes(b"0123456789")
    (source / "b").write_bytes(b"b")
    remote = f"s3:{bucket}"
    rclone("sync", str(source), remote)
    (source / "b").unlink()
    rclone("sync", str(source), remote)
    assert [row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a"]
    assert rclone("cat", "--offset", "3", "--count", "4", f"{remote}/a") == b"3456"
    rclone("copyto", f"{remote}/a", f"{remote}/c")
    rclone("moveto", f"{remote}/c", f"{remote}/d/e f")
    assert rclone("cat", f"{remote}/d/e f") == b"0123456789"
    rclone("purge", f"{remote}/d")
    rclone("delete", remote)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
