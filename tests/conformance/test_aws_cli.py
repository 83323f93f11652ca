"""The AWS CLI with its default settings: the s3 commands people script with, and s3api."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.target import MIB, Target

Run = Callable[..., str]


@pytest.fixture
def aws(target: Target, tmp_path: Path) -> Run:
    """Runs `aws …`, gives what it printed; *status* is the exit code that is wanted."""
    home = tmp_path / "home"
    home.mkdir()
    program = Path(sys.executable).parent / "aws"

    def run(*arguments: str, status: int = 0, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            [sys.executable, str(program), *arguments],
            env=target.environment(home),
            input=stdin,
            capture_output=True,
            timeout=120,
        )
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == status, text
        return text

    return run


def test_copy_move_list_remove(aws: Run, s3: Any, bucket: str, tmp_path: Path) -> None:
    """cp up (in parts) and down, mv, ls, rm, and a stream through a pipe."""
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(9 * MIB))
    aws("s3", "cp", str(big), f"s3://{bucket}/in/big.bin")
    assert s3.head_object(Bucket=bucket, Key="in/big.bin")["ETag"].endswith('-2"')
    aws("s3", "mv", f"s3://{bucket}/in/big.bin", f"s3://{bucket}/moved/b ü.bin")
    aws("s3", "cp", f"s3://{bucket}/moved/b ü.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    aws("s3", "cp", "-", f"s3://{bucket}/piped", stdin=b"from a pipe")
    assert aws("s3", "cp", f"s3://{bucket}/piped", "-") == "from a pipe"
    listed = aws("s3", "ls", f"s3://{bucket}", "--recursive", "--summarize")
    assert "moved/b ü.bin" in listed
    assert "Total Objects: 2" in listed
    aws("s3", "rm", f"s3://{bucket}", "--recursive")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_sync(aws: Run, bucket: str, tmp_path: Path) -> None:
    """A tree up, a second time nothing, a change, a deletion, and down again."""
    tree = tmp_path / "tree"
    for name in ("a.txt", "sub/b +%.txt", "sub/deep/c.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
        os.utime(tree / name, (1e9, 1e9))  # S3's times are whole seconds: what was written just now looks newer
    here = f"s3://{bucket}/tree"
    assert aws("s3", "sync", str(tree), here).count("upload:") == 3
    assert aws("s3", "sync", str(tree), here) == ""
    (tree / "a.txt").unlink()
    (tree / "sub/deep/c.txt").write_text("longer than it was")
    changed = aws("s3", "sync", "--delete", str(tree), here)
    assert (changed.count("upload:"), changed.count("delete:")) == (1, 1)
    aws("s3", "sync", here, str(tmp_path / "down"))
    assert {p.relative_to(tmp_path / "down").as_posix() for p in (tmp_path / "down").rglob("*") if p.is_file()} == {
        "sub/b +%.txt",
        "sub/deep/c.txt",
    }


def test_buckets(aws: Run, bucket: str) -> None:
    """mb, ls, rb; a bucket with something in it stays."""
    aws("s3", "mb", f"s3://{bucket}-more")
    assert f"{bucket}-more" in aws("s3", "ls")
    aws("s3", "cp", "-", f"s3://{bucket}-more/k", stdin=b"x")
    assert "BucketNotEmpty" in aws("s3", "rb", f"s3://{bucket}-more", status=1)
    aws("s3", "rb", f"s3://{bucket}-more", "--force")


def test_s3api(aws: Run, bucket: str, tmp_path: Path) -> None:
    """A multipart upload by hand, with SHA-256; a presigned URL; what is refused says why."""
    (tmp_path / "part").write_bytes(b"part")
    common = ("--bucket", bucket, "--key", "k")
    begun = json.loads(aws("s3api", "create-multipart-upload", *common, "--checksum-algorithm", "SHA256"))
    upload = ("--upload-id", begun["UploadId"])
    sent = json.loads(
        aws(
            *("s3api", "upload-part", *common, *upload, "--part-number", "1", "--body", str(tmp_path / "part")),
            *("--checksum-algorithm", "SHA256"),
        )
    )
    parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"], "ChecksumSHA256": sent["ChecksumSHA256"]}]}
    done = json.loads(
        aws("s3api", "complete-multipart-upload", *common, *upload, "--multipart-upload", json.dumps(parts))
    )
    assert done["ChecksumSHA256"].endswith("-1")
    assert "NoSuchKey" in aws("s3api", "get-object", "--bucket", bucket, "--key", "no", str(tmp_path / "x"), status=255)
