"""Peak memory of pictures and decoded frames, by VmHWM: of the function that hands on, and of the child that decodes.

The store is a file on disk and what is written is counted and dropped, so that both are the function's own.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import jpeg_ls
import numpy as np
import pytest

from tests.heavylift.dicom.made import dataset as written
from tests.heavylift.dicom.made import element, elements, item, meta, us

MB = 1_000_000
FUNCTION = """
import json, os, sys
os.environ.update(AWS_REGION="us-east-1", AWS_LAMBDA_FUNCTION_MEMORY_SIZE="1769", AWS_ACCESS_KEY_ID="a",
    AWS_SECRET_ACCESS_KEY="b", DERIVED_BUCKET="derived", STORE_BUCKET="store", MALLOC_ARENA_MAX="2")
import functions.dicomweb.handler
from heavylift import aws, s3
from heavylift.archives import transfer
from heavylift.dicom import instances, index
from heavylift.dicom.header import scan
from heavylift.dicomweb import decoded, frames, kept, rendered
from heavylift.dicomweb.exchange import Request
from heavylift.dicomweb.negotiation import parse_accept
from heavylift.telemetry import memory_peak_bytes
aws.client("s3")
file = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(file).st_size
class Stored:
    size_bytes, etag = size, "e"
    def __init__(self, tenant, instance): pass
    def read(self, offset, length): return os.pread(file, length, offset)
decoded.StoredFile = Stored
header = scan(Stored("", None).read, size)
instance = instances.instance_of(header, "01K", instances.Identity(size, "e"), 0.0)
index.get_instance = lambda *name: instance
s3.head = lambda *place: None
out = {"written": 0, "parts": 0}
transfer.begin = lambda bucket, key, traffic, media_type: transfer.Upload(bucket, key, "u")
def write(upload, number, data, traffic):
    out["written"] += len(data)
    out["parts"] += 1
    return s3.PartInfo(number, len(data), "e")
transfer.write_part = write
transfer.join = lambda *given: None
request = Request("acme", base="https://api.example", study_uid="1", series_uid="2", instance_uid="3",
    frames=(1,), accept=parse_accept(sys.argv[3]))
answer = {"frames": frames.retrieve, "rendered": rendered.render}[sys.argv[2]](request)
print(json.dumps(out | {"parent": memory_peak_bytes(), "status": answer.status, "bytes": len(answer.body)}))
"""


def run(path: Path, what: str, accept: str) -> dict[str, int]:
    """Bytes and peaks: ``parent``, ``child``."""
    done = subprocess.run(
        [sys.executable, "-c", FUNCTION, str(path), what, accept], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (child,) = [line["child_memory_peak_bytes"] for line in lines if "child_memory_peak_bytes" in line]
    found: dict[str, int] = lines[-1] | {"child": child}
    return found


def radiograph(path: Path, rows: int, columns: int, *, compressed: bool) -> None:
    """One frame of 16 bits."""
    replaced = {0x00280010: us(rows), 0x00280011: us(columns), 0x00280101: us(16), 0x00280102: us(15)}
    parts = [part._replace(value=replaced.get(part.tag, part.value)) for part in elements()]
    samples = (np.add.outer(np.arange(rows), np.arange(columns)) % 4096).astype("<u2")
    if not compressed:
        value, length = samples.tobytes(), None
    else:
        frame = bytes(jpeg_ls.encode(samples))
        value = item(b"") + item(frame + b"\0" * (len(frame) % 2)) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        length = 0xFFFFFFFF
    syntax = "1.2.840.10008.1.2.4.80" if compressed else "1.2.840.10008.1.2.1"
    path.write_bytes(
        meta(syntax) + written(parts) + element(0x7FE00010, b"OB" if compressed else b"OW", value, length=length)
    )


def check(path: Path, what: str, accept: str, rows: int, columns: int) -> None:
    """The function stays below 160 MB, the child far below its budget; what is decoded is written as it comes."""
    radiograph(path, rows, columns, compressed=what == "frames")
    found = run(path, what, accept)

    assert found["parent"] <= 160 * MB
    assert found["child"] <= 75 * MB + 4 * 2 * rows * columns
    if what == "frames":
        size_bytes = 2 * rows * columns
        assert (found["status"], found["written"], found["parts"]) == (307, size_bytes, -(-size_bytes // (8 << 20)))
    else:
        assert (found["status"], found["written"]) == (200, 0)


CASES = [("rendered", "image/jpeg"), ("frames", "application/octet-stream")]
pytestmark = [pytest.mark.memory, pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")]


@pytest.mark.parametrize(("what", "accept"), CASES)
def test_a_radiograph(tmp_path: Path, what: str, accept: str) -> None:
    """10 MB of samples, drawn and decoded."""
    check(tmp_path / "a.dcm", what, accept, 2_400, 2_100)


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(("what", "accept"), CASES)
def test_a_mammogram(tmp_path: Path, what: str, accept: str) -> None:
    """27 MB and 56 MB of them: the function takes no more."""
    check(tmp_path / "a.dcm", what, accept, 4_096, 3_328)
    check(tmp_path / "b.dcm", what, accept, 5_928, 4_728)
