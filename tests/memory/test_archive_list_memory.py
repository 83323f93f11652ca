"""Peak memory of whoever makes an archive's list: names, METS, table and manifests of very many files."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# The table and S3 answer by rule: nothing of theirs is in this process but what the function asks for.
CHILD = """
import json, sys, time
from heavylift.archives import jobs, preparing, selection, store
from heavylift.archives.members import Members
from heavylift import s3
import boto3, heavylift.validation  # what a worker's process has loaded

count, package = int(sys.argv[1]), sys.argv[2]
ids = ["01JD2Z3NDEKTSV4RRFFQ69G5FA-%06d" % n for n in range(count)]
metadata = json.dumps({"project": "x" * 50, "operator": "someone", "box": 7})

def item(key):
    n = int(key["sk"][2:])
    return {
        "tenant": "acme", "file_id": ids[n], "name": "IMG_%06d (copy).DNG" % n, "size": 1000 + n, "status": "completed",
        "relative_path": "roll %d/\u00dcn\u00efcode folder/IMG_%06d (copy).DNG" % (n // 500, n),
        "created_at": 1763596800.5, "store_etag": "%032x-3" % n, "store_version_id": "%032x" % (n * 7),
        "media_type": "image/x-adobe-dng", "format": "DNG", "kind": "raw", "facts": {"width": 8000, "height": 6000},
        "checksums": {"crc32": "AAAAAA==", "sha256": "%064x" % n, "sha256_proven": bool(n % 2)},
        "logical_id": "roll %d" % (n // 500), "metadata": metadata,
    }

kept = {}
def put_bytes(bucket, key, body, **more):
    kept["list"] = body
    return s3.Stored("e", None, {})
def put_file(bucket, key, file, **more):
    kept[key] = more["size_bytes"]
    return s3.Stored("e", None, {})
selection.items.read_many = lambda keys, names=(): [item(key) for key in keys]
s3.put_bytes, s3.put_file = put_bytes, put_file
s3.read_small = lambda *given, **more: json.dumps({"file_ids": ids, "package": package}).encode()
store.note_content = lambda *given: None
store.write = lambda job, decide: decide(job, 1.0)
job = jobs.ArchiveJob("acme", "01JD2Z3NDEKTSV4RRFFQ69G5FB", "x.zip", package=package, fence=1)
began = time.process_time()
after = preparing.prepare(job, lambda: 200.0)
seconds = time.process_time() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
assert after.members > count, after
print(json.dumps({"peak": int(peak.split()[1]) * 1024, "cpu_s": seconds, "list": len(kept["list"])}))
"""
pytestmark = [
    pytest.mark.memory,
    pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's"),
]


def peak_bytes(count: int, package: str) -> int:
    run = subprocess.run([sys.executable, "-c", CHILD, str(count), package], capture_output=True, text=True, check=True)
    print(run.stdout.splitlines()[-1])
    return int(json.loads(run.stdout.splitlines()[-1])["peak"])


def test_a_list_takes_little_memory() -> None:
    """A bag of 3 000 files: 90 MB in a process of its own, libraries among them."""
    assert peak_bytes(3_000, "bagit") <= 95_000_000


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("package", ["plain", "bagit"])
def test_the_list_of_the_largest_archive(package: str) -> None:
    """100 000 files: the function's 150 MB suffice."""
    assert peak_bytes(100_000, package) <= 150_000_000
