"""What an archive costs, counted at the S3 server: bytes through the function, requests, and its memory.

The worker is a process of its own with what its function imports; the server is the local stack's, strict as S3.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.s3 import testing

pytestmark = pytest.mark.xdist_group("archive-traffic")
MB, GB = 10**6, 10**9
PEAK_BYTES_MAX = 150 * MB
KEY = "archives/t/a.zip"
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Yard:
    """A server, its buckets, and members that share a few objects."""

    endpoint: str
    folder: Path
    pid: int

    @cached_property
    def s3(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=testing.ACCESS_KEY,
            aws_secret_access_key=testing.SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )

    def members(self, sizes: list[int], *, known: bool = True) -> list[list[Any]]:
        """Of equal size share an object; unknown ones have no CRC-32 in S3 either."""
        made: dict[int, list[Any]] = {0: [None, None, 0]}
        for size in sorted(set(sizes) - {0}):
            body = self.body(size)
            algorithm = "CRC32" if known else "CRC64NVME"
            put = self.s3.put_object(Bucket="store", Key=f"o/{size}", Body=body, ChecksumAlgorithm=algorithm)
            made[size] = [f"o/{size}", put["ETag"].strip('"'), zlib.crc32(body) if known else None]
        return [[f"a folder/ordner ü/{n:06d}.bin", size, *made[size]] for n, size in enumerate(sizes)]

    @staticmethod
    def body(size: int) -> bytes:
        block = random.Random(size).randbytes(min(size, MB))
        return (block * (size // len(block) + 1))[:size] if block else b""

    def counted(self) -> dict[str, int]:
        answer = testing.send(f"{self.endpoint}/_local/counters", headers={"x-local-token": testing.ADMIN_TOKEN})
        rows = json.loads(answer.body).get("developer", {})
        return {
            "in": sum(row["bytes_out"] for row in rows.values()),
            "out": sum(row["bytes_in"] for row in rows.values()),
            "requests": sum(row["requests"] for row in rows.values()),
        }

    def send_faults(self, faults: dict[str, Any]) -> None:
        token = {"x-local-token": testing.ADMIN_TOKEN}
        testing.send(f"{self.endpoint}/_local/faults", "PUT", json.dumps(faults).encode(), token)

    def document(self, members: list[list[Any]], **more: Any) -> Path:
        path = self.folder / "job.json"
        path.write_text(json.dumps({"members": members, "key": KEY, **more}))
        return path

    def start(self, document: Path, stderr: int | None = None) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": testing.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": testing.SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MALLOC_ARENA_MAX": "2",
        }
        command = [sys.executable, "-m", "tests.heavylift.archives.child", str(document)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def run(self, members: list[list[Any]], **more: Any) -> dict[str, Any]:
        """What the worker says of itself, and what the server counted."""
        before = self.counted()
        with self.start(self.document(members, **more)) as process:
            said, _ = process.communicate()
        assert process.returncode == 0
        after = self.counted()
        return {**json.loads(said), **{name: after[name] - before[name] for name in after}}

    def archive(self) -> bytes:
        body: bytes = self.s3.get_object(Bucket="derived", Key=KEY)["Body"].read()
        return body

    def left_over(self) -> list[str]:
        uploads = self.s3.list_multipart_uploads(Bucket="derived").get("Uploads", [])
        objects = self.s3.list_objects_v2(Bucket="derived").get("Contents", [])
        return [one["Key"] for one in (*uploads, *objects) if one["Key"] != KEY]


@contextmanager
def running(folder: Path) -> Iterator[Yard]:
    process, port = testing.start_process(folder, buckets=[{"name": "store"}, {"name": "derived"}])
    try:
        yield Yard(f"http://127.0.0.1:{port}", folder, process.pid)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """One server for all tests here: to start one takes longer than most of them."""
    with running(tmp_path_factory.mktemp("yard")) as made:
        yield made


@pytest.fixture
def yard(shared: Yard) -> Iterator[Yard]:
    """The server with nothing in it, and without faults."""
    yield shared
    shared.send_faults({})
    for bucket in ("store", "derived"):
        for one in shared.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            shared.s3.abort_multipart_upload(Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"])
        for one in shared.s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            shared.s3.delete_object(Bucket=bucket, Key=one["Key"])


def check(yard: Yard, sizes: list[int], *, known: bool = True, **more: Any) -> dict[str, Any]:
    """The promised bytes and memory, the right archive, nothing else left; what was measured."""
    found = yard.run(yard.members(sizes, known=known), **more)
    small = sum(size for size in sizes if size < 5.3 * MB)
    middle = sum(size for size in sizes if 5.3 * MB <= size < 100 * MB)
    large = sum(sizes) - small - middle
    records = 250 * len(sizes)  # headers and directory
    promised = 6 * MB + records + small + 0.001 * middle + 0.02 * large

    assert found["outcome"] == "Done", found
    # Documents of S3's own (lists, answers) count on the wire; they are not object data.
    assert found["in"] <= promised + 400 * found["requests"]
    assert found["out"] <= promised + 400 * found["requests"]
    assert found["bytes_in"] <= promised
    assert found["bytes_out"] <= promised
    assert found["peak_bytes"] <= PEAK_BYTES_MAX, found
    assert yard.left_over() == []
    if sum(sizes) < GB:
        with zipfile.ZipFile(io.BytesIO(yard.archive())) as archive:
            assert len(sizes) > 10_000 or archive.testzip() is None
            assert [one.file_size for one in archive.infolist()] == sizes
            for one in archive.infolist()[:: max(1, len(sizes) // 7)]:
                assert archive.read(one) == yard.body(one.file_size)
    return found


@pytest.mark.parametrize(
    ("sizes", "known"),
    [
        ([8 * MB] * 12, True),
        ([8 * MB, 6 * MB] * 3, False),
        ([105 * MB] + [200_000, 0] * 15 + [6 * MB], True),
        ([500_000, 30] * 80, True),
        ([], True),
    ],
    ids=["chained", "unknown", "large and small", "small", "none"],
)
def test_bytes_through_the_function(yard: Yard, sizes: list[int], known: bool) -> None:
    """6 MB and 20 MB a GB of members above 100 MB, 1 MB a GB from 5.3 MB on, each way; smaller ones once."""
    check(yard, sizes, known=known)


def test_memory_does_not_grow_with_members(yard: Yard) -> None:
    """A hundred thousand members, their directory of 12 MB among them, within 150 MB."""
    check(yard, [0] * 100_000)


def test_killed_and_resumed(yard: Yard) -> None:
    """kill -9 again and again: the bytes of a run that nobody disturbed, and nothing left that it does not know."""
    sizes = [6 * MB, 300_000, 7 * MB, 0, 5_300_000] * 4
    members = yard.members(sizes)
    yard.run(members)
    expected = yard.archive()
    yard.s3.delete_object(Bucket="derived", Key=KEY)
    yard.send_faults({"latency_ms": 20})
    for _ in range(2):
        before = yard.counted()["requests"]
        with yard.start(yard.document(members)) as process:
            deadline = time.monotonic() + 60
            while process.poll() is None and yard.counted()["requests"] < before + 25:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    yard.send_faults({})
    found = yard.run(members)

    assert found["outcome"] == "Done"
    assert yard.archive() == expected
    assert all(key.startswith("work/") for key in yard.left_over())


def test_a_disk_that_takes_no_more(yard: Yard) -> None:
    """The server cannot write: the worker ends with the world's fault and no archive; later it goes on."""
    members = yard.members([300_000] * 40)
    before = resource.prlimit(yard.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(yard.pid, resource.RLIMIT_FSIZE, (2 * MB, before[1]))
    with yard.start(yard.document(members), stderr=subprocess.PIPE) as process:
        _, said = process.communicate()
    resource.prlimit(yard.pid, resource.RLIMIT_FSIZE, before)

    assert process.returncode == 1
    assert "TransientError: aws_unavailable" in said
    assert yard.run(members)["outcome"] == "Done"
    assert yard.left_over() == []


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    "sizes",
    [
        [random.Random(n).randrange(6 * MB, 10 * MB) // 100_000 * 100_000 for n in range(200)],
        [200_000] * 1_000 + [300 * MB, 300 * MB, 300 * MB, 700 * MB],
        [2_000] * 100_000,
        [500_000] * 2_000,
        [25 * MB] * 1_000,
        [0, 5 << 20, (5 << 20) - 1, (5 << 20) + 1, 10 << 20, 64 << 20, (64 << 20) + 1] * 20,
    ],
    ids=["200 x 8 MB", "mix", "100,000 x 2 KB", "2,000 x 500 KB", "1,000 x 25 MB", "marks"],
)
def test_full_size(yard: Yard, sizes: list[int]) -> None:
    """The promises at the sizes that they are made for."""
    check(yard, sizes)


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_costs_grow_with_parts_not_with_bytes(yard: Yard) -> None:
    """Four times the bytes of large members: no byte more through the function, requests by their parts."""
    one = yard.run(yard.members([600 * MB] * 2))
    yard.s3.delete_object(Bucket="derived", Key=KEY)
    four = yard.run(yard.members([2_400 * MB] * 2))

    assert four["bytes_out"] <= one["bytes_out"] + 100
    assert four["requests"] - one["requests"] == four["parts"] - one["parts"]
