"""Archives built inside S3 against libraries that stream them: the same members, the same S3, in the same run.

    mix    1,000 members of about 206 KB and 4 of 300, 300, 300 and 700 MB: 1.8 GB
    small  2,000 members of 500 KB: 1 GB
    large  4 members of 300, 300, 300 and 700 MB: 1.6 GB (ours also twice that: what grows with bytes and what not)

Ours is the builder as its function runs it, one worker. stream-zip and zipstream-ng store the members, too; each reads
one member after the other as it needs them, in 1 MiB pieces, and what it makes goes into parts of 8 MiB, two of them on
their way at once, of which no checksum is asked. stream-zip is given sizes and CRC-32s, so that it writes no data
descriptors.

The S3 is the local stack's, in a process of its own; every request waits --latency-ms before it is served. Bytes and
requests are counted there. Each contender is a process of its own, timed from after its imports to its last answer;
processor time and peak memory (``VmHWM``) are the process's. One JSON line a run, one with medians and ratios a case.
The rivals come from --rivals PYTHON, an interpreter that has them and boto3; by itself one is made by venv and pip in a
temporary folder.

    python bench/bench_archive.py [--rounds 3] [--latency-ms 30] [--case mix] [--case small] [--case large] [--scale 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import venv
import zipfile
import zlib
from pathlib import Path
from typing import Any

from servers import MIB, circumstances, client

from heavylift_local.s3 import testing

OURS, STREAM_ZIP, ZIPSTREAM_NG = "heavylift", "stream-zip", "zipstream-ng"
RIVALS = ("stream-zip", "zipstream-ng", "boto3")
KB, MB = 1_000, 1_000_000
LARGE = (300 * MB, 300 * MB, 300 * MB, 700 * MB)
DISTINCT = 40  # small objects that differ; members share them

OUR_PROGRAM = """
import heavylift.archives.worker
from heavylift.archives.building import Construction, Done, Journal, build
from heavylift.archives.members import Member, Members, Source
from heavylift.archives.parts import Workplace
from heavylift.s3 import Traffic

def run(wanted):
    members = Members()
    for name, size, key, etag, crc32 in wanted:
        members.append(Member(name, size, 1_763_596_800, crc32, Source("store", key, None, etag)))
    nothing = lambda given: None
    journal = Journal(nothing, nothing, nothing, nothing, nothing, nothing)
    job = Construction("derived", KEY, Workplace("derived", "work/t/a/"))
    made = build(job, members, journal, Traffic(), lambda: 3_000.0)
    assert isinstance(made, Done), made
"""

RIVAL_PROGRAM = """
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
import boto3
from botocore.config import Config

config = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], config=config)
PART = 8 * 1024 * 1024

def member(key):
    body = s3.get_object(Bucket="store", Key=key)["Body"]
    while piece := body.read(1024 * 1024):
        yield piece

def store(pieces):
    upload = s3.create_multipart_upload(Bucket="derived", Key=KEY)["UploadId"]
    parts, waiting, pool = [], deque(), ThreadPoolExecutor(2)
    def put(number, data):
        made = s3.upload_part(Bucket="derived", Key=KEY, UploadId=upload, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": made["ETag"]}
    def send(data):
        if len(waiting) == 2:
            parts.append(waiting.popleft().result())
        waiting.append(pool.submit(put, len(parts) + len(waiting) + 1, bytes(data)))
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PART:
            send(held[:PART])
            del held[:PART]
    send(held)
    parts += [one.result() for one in waiting]
    s3.complete_multipart_upload(Bucket="derived", Key=KEY, UploadId=upload, MultipartUpload={"Parts": parts})
"""

STREAM_ZIP_PROGRAM = (
    RIVAL_PROGRAM
    + """
from datetime import datetime
from stream_zip import NO_COMPRESSION_32, NO_COMPRESSION_64, stream_zip

def run(wanted):
    def members():
        for name, size, key, etag, crc32 in wanted:
            method = NO_COMPRESSION_64 if size >= 0xFFFFFFFF else NO_COMPRESSION_32
            yield name, datetime(2025, 11, 20), 0o100644, method(size, crc32), member(key)
    store(stream_zip(members(), chunk_size=1024 * 1024))
"""
)

ZIPSTREAM_NG_PROGRAM = (
    RIVAL_PROGRAM
    + """
import zipstream

def run(wanted):
    made = zipstream.ZipStream(compress_type=zipstream.ZIP_STORED)
    for name, size, key, etag, crc32 in wanted:
        made.add(member(key), name)
    store(made)
"""
)

MEASURED = """
import json, sys, time
KEY = "archives/t/" + sys.argv[2]
wanted = json.load(open(sys.argv[1]))
began, busy = time.monotonic(), time.process_time()
run(wanted)
seconds, busy = time.monotonic() - began, time.process_time() - busy
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": round(seconds, 2), "cpu_s": round(busy, 2), "peak_bytes": peak}))
"""
PROGRAMS = {OURS: OUR_PROGRAM, STREAM_ZIP: STREAM_ZIP_PROGRAM, ZIPSTREAM_NG: ZIPSTREAM_NG_PROGRAM}


def sizes_of(case: str, scale: float) -> list[int]:
    small = [200 * KB + 300 * (n % DISTINCT) for n in range(int(1_000 * scale))]
    large = [int(size * scale) for size in LARGE]
    cases = {
        "mix": small + large,
        "small": [500 * KB] * int(2_000 * scale),
        "large": large,
        "large x 2": [2 * size for size in large],
    }
    return cases[case]


class Store:
    """Objects for members of any size; each is put once."""

    def __init__(self, endpoint: str) -> None:
        self._s3 = client(endpoint, testing.ACCESS_KEY, testing.SECRET_KEY)
        self._made: dict[tuple[int, int], list[Any]] = {}
        self._block = random.Random(1).randbytes(4 * MIB)

    def members(self, sizes: list[int]) -> list[list[Any]]:
        return [
            [f"a folder/member {n:06d}.bin", size, *self._object(size, n % DISTINCT if size < MB else 0)]
            for n, size in enumerate(sizes)
        ]

    def _object(self, size: int, number: int) -> list[Any]:
        made = self._made.get((size, number))
        if made is None:
            key, first = f"o/{size}-{number}", number.to_bytes(4)
            body = (first + self._block * (size // len(self._block) + 1))[:size]
            etag = self._s3.put_object(Bucket="store", Key=key, Body=body, ChecksumAlgorithm="CRC32")["ETag"].strip('"')
            made = self._made[size, number] = [key, etag, zlib.crc32(body)]
        return made

    def check(self, key: str, members: list[list[Any]], folder: Path) -> None:
        """The archive is one, with these members; gone afterwards."""
        file = folder / "archive.zip"
        self._s3.download_file("derived", key, str(file))
        with zipfile.ZipFile(file) as archive:
            found = [(one.filename, one.file_size, one.CRC) for one in archive.infolist()]
            assert found == [(name, size, crc32) for name, size, _, _, crc32 in members]
            assert archive.testzip() is None
        file.unlink()

    def forget(self, key: str) -> None:
        self._s3.delete_object(Bucket="derived", Key=key)


def rivals_python(given: str | None, folder: Path) -> str:
    if given:
        return given
    venv.create(folder / "rivals", with_pip=True)
    python = str(folder / "rivals" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *RIVALS], check=True, stdout=sys.stderr)
    return python


def counted(endpoint: str) -> dict[str, int]:
    answer = testing.send(f"{endpoint}/_local/counters", headers={"x-local-token": testing.ADMIN_TOKEN})
    rows = json.loads(answer.body).get("developer", {}).values()
    return {
        "bytes_in": sum(row["bytes_out"] for row in rows),  # the server's out is the contender's in
        "bytes_out": sum(row["bytes_in"] for row in rows),
        "requests": sum(row["requests"] for row in rows),
    }


def run(contender: str, python: str, endpoint: str, document: Path, key: str) -> dict[str, Any]:
    before = counted(endpoint)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": testing.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": testing.SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MALLOC_ARENA_MAX": "2",  # as the function is told
    }
    program = PROGRAMS[contender] + MEASURED
    ended = subprocess.run(
        [python, "-c", program, str(document), key], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{contender}: {ended.stderr[-2000:]}")
    after = counted(endpoint)
    return {**json.loads(ended.stdout), **{name: after[name] - before[name] for name in after}}


def measure(case: str, options: argparse.Namespace, store: Store, python: str, endpoint: str, folder: Path) -> None:
    members = store.members(sizes_of(case, options.scale))
    document = folder / "members.json"
    document.write_text(json.dumps(members))
    contenders = [OURS] if case == "large x 2" else list(PROGRAMS)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    faults = lambda ms: testing.send(  # noqa: E731
        f"{endpoint}/_local/faults",
        "PUT",
        json.dumps({"latency_ms": ms} if ms else {}).encode(),
        {"x-local-token": testing.ADMIN_TOKEN},
    )
    for number in range(options.rounds):
        for place in range(len(contenders)):
            contender = contenders[(number + place) % len(contenders)]
            key = f"{number}-{contender}.zip"
            faults(options.latency_ms)
            found = run(contender, sys.executable if contender == OURS else python, endpoint, document, key)
            faults(0)
            if number == 0:
                store.check(f"archives/t/{key}", members, folder)
            store.forget(f"archives/t/{key}")
            runs[contender].append(found)
            print(json.dumps({"case": case, "contender": contender, "round": number, **found}), flush=True)
    medians = {
        name: {what: statistics.median(one[what] for one in found) for what in found[0]} for name, found in runs.items()
    }
    print(
        json.dumps(
            {
                "case": case,
                "members": len(members),
                "bytes": sum(member[1] for member in members),
                "latency_ms": options.latency_ms,
                "medians": medians,
                "times_faster_than": {
                    name: round(medians[name]["seconds"] / medians[OURS]["seconds"], 2)
                    for name in contenders
                    if name != OURS
                },
                **circumstances(),
            }
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--case", action="append", choices=("mix", "small", "large"))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rivals", metavar="PYTHON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = rivals_python(options.rivals, folder)
        process, port = testing.start_process(folder, buckets=[{"name": "store"}, {"name": "derived"}])
        try:
            endpoint = f"http://127.0.0.1:{port}"
            store = Store(endpoint)
            for case in options.case or ("mix", "small", "large"):
                measure(case, options, store, python, endpoint, folder)
                if case == "large":
                    measure("large x 2", options, store, python, endpoint, folder)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
