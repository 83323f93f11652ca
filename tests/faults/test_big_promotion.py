"""A large file under a short deadline, killed at random calls: the right bytes and CRC-32 in the store, once.

The judges are outside: SHA-256 over a download by boto3, zlib's CRC-32 over the bytes as they were generated, S3's own
listings of versions and uploads.
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from heavylift_local.testing import RunningStack, running_stack
from tests.faults.waiting import eventually_empty, open_uploads, settled, well
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("big promotion")
MIB = 1024 * 1024
STAMP_EVERY = 4096
# The calls of a promotion: how often each is made at most in one invocation, and its weight among the kills.
CALLS = {
    "s3.UploadPartCopy": (12, 4),
    "s3.ListParts": (1, 1),
    "s3.HeadObject": (2, 1),
    "s3.CreateMultipartUpload": (1, 1),
    "s3.CompleteMultipartUpload": (1, 1),
    "dynamodb.GetItem": (3, 1),
    "dynamodb.UpdateItem": (2, 2),
    "sqs.SendMessage": (1, 1),
}


def random_traps(seed: int, count: int) -> tuple[str, ...]:
    rng = random.Random(seed)
    operations = rng.choices(list(CALLS), [weight for _, weight in CALLS.values()], k=count)
    return tuple(f"{one}:{rng.randint(1, CALLS[one][0])}{rng.choice(('', ':after'))}" for one in operations)


@dataclass(frozen=True, slots=True)
class Case:
    """``copy_ms``: how long S3 takes for each part copy; ``trap_s``: a trap that has not snapped by then never will."""

    size: int
    timeout_s: float
    copy_ms: int
    traps: tuple[str, ...]
    time_scale: int
    trap_s: float
    patience_s: float


SMALL = Case(
    330 * MIB,
    timeout_s=4,
    copy_ms=1_200,
    traps=(
        "s3.UploadPartCopy:2",
        "s3.ListParts:1:after",
        "s3.UploadPartCopy:1:after",
        "s3.CompleteMultipartUpload:1:after",
    ),
    time_scale=450,
    trap_s=10,
    patience_s=120,
)
# Visibility 20 s, so that a slice is rarely overtaken by its own message.
FULL = Case(
    10_000_000_000,
    timeout_s=20,
    copy_ms=9_000,
    traps=random_traps(4, 40),
    time_scale=90,
    trap_s=30,
    patience_s=3_000,
)


@dataclass(frozen=True, slots=True)
class Written:
    sha256: str
    crc32: str


def write_stamped(path: Path, size: int) -> Written:
    """Random bytes in which every page carries its own number, so that no part can stand in another's place."""
    block = np.frombuffer(np.random.default_rng(10).bytes(64 * MIB), np.uint8).reshape(-1, STAMP_EVERY).copy()
    sha, crc, written = hashlib.sha256(), 0, 0
    with path.open("wb") as out:
        while written < size:
            pages = np.arange(written // STAMP_EVERY, written // STAMP_EVERY + len(block), dtype=">u8")
            block[:, :8] = pages.view(np.uint8).reshape(-1, 8)
            piece = block.reshape(-1)[: min(block.size, size - written)].data
            out.write(piece)
            sha.update(piece)
            crc = zlib.crc32(piece, crc)
            written += len(piece)
    return Written(sha.hexdigest(), base64.b64encode(crc.to_bytes(4, "big")).decode())


def downloaded_sha256(desk: Desk, key: str) -> str:
    sha = hashlib.sha256()
    body = desk.s3().get_object(Bucket=desk.bucket("store"), Key=key)["Body"]
    for piece in body.iter_chunks(4 * MIB):
        sha.update(piece)
    return sha.hexdigest()


@dataclass(frozen=True, slots=True)
class Trapper:
    """Sets one trap after another for validate."""

    stack: RunningStack
    case: Case

    def arm(self, trap: str | None) -> None:
        slow = {"callers": {"validate": {"latency_ms": {"UploadPartCopy": self.case.copy_ms}}}}
        function = {"timeout_s": self.case.timeout_s, **({"kill_at": trap} if trap else {})}
        self.stack.faults({"s3": slow, "functions": {"validate": function}})

    def died(self) -> int:
        return int(self.stack.state()["functions"]["validate"]["errors"])

    def run(self, ended: Callable[[], bool]) -> list[str]:
        """The traps that snapped until the file ended or there were no more; the first one is armed already."""
        snapped: list[str] = []
        before = 0
        for trap, following in zip(self.case.traps, (*self.case.traps[1:], None), strict=True):
            deadline = time.monotonic() + self.case.trap_s
            while self.died() == before and time.monotonic() < deadline:
                if ended():
                    return snapped
                time.sleep(0.05)
            snapped += [trap] if self.died() > before else []
            before = self.died()
            self.arm(following)
        return snapped


def calls_of_validate(stack: RunningStack) -> dict[str, int]:
    return {name: counted["requests"] for name, counted in stack.counters().get("validate", {}).items()}


@pytest.mark.timeout(5_400)
@pytest.mark.parametrize("case", [SMALL, pytest.param(FULL, marks=pytest.mark.full)], ids=["small", "full"])
def test_a_large_file_killed_at_random_calls(tmp_path: Path, case: Case) -> None:
    """One version with the generated bytes, their CRC-32 in the record, no upload left, nothing in staging."""
    path = tmp_path / "large.bin"
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": str(case.time_scale)}) as stack:
        desk = Desk(stack, stack.token("large"), "large")
        trapper = Trapper(stack, case)
        trapper.arm(case.traps[0])
        try:
            written = write_stamped(path, case.size)
            with desk.client() as client:
                file_id = str(client.put(path, wait=False).file_id)
        finally:
            path.unlink(missing_ok=True)
        started = time.monotonic()
        killed = trapper.run(lambda: bool(desk.call("GET", f"/v1/files/{file_id}")["final"]))
        trapper.arm(None)
        record = well(desk, file_id, case.patience_s)
        seconds = time.monotonic() - started
        stack.faults({})
        settled(stack, 120)
        validate, calls = stack.state()["functions"]["validate"], calls_of_validate(stack)
        print(
            f"\n{case.size / 1e6:.0f} MB in {seconds:.0f} s: {validate['invocations']} invocations, "
            f"{calls.get('sqs.SendMessage', 0)} continuations, {len(killed)} kills ({', '.join(killed)}), "
            f"peak {validate['memory_peak_bytes'] / MIB:.0f} MiB, calls {calls}"
        )

        assert killed, "nothing was tried"
        assert record["status"] == "completed"
        assert record["checksums"]["crc32"] == written.crc32
        [version] = desk.s3().list_object_versions(Bucket=desk.bucket("store"))["Versions"]
        assert (version["Key"], version["Size"]) == (f"files/large/{file_id}", case.size)
        assert downloaded_sha256(desk, version["Key"]) == written.sha256
        assert eventually_empty(lambda: open_uploads(desk), 60) == []
        assert eventually_empty(lambda: desk.keys("staging", ""), 30) == []
