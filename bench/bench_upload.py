"""1 GiB in 64 MiB parts over loopback: the local stack's S3 and, in the same run, moto's server.

Both get the same parts by the same uploader (presigned URLs, SHA-256 of each part sent along, 4 connections), once in
turn per round. What differs is what the servers do: ours checks signature, length and digest and keeps bytes on disk,
moto keeps them in memory and checks nothing. Prints one JSON line a run and one with the medians.

    python bench/bench_upload.py [--mib 1024] [--rounds 3]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

MIB = 1024 * 1024
PART_SIZE = 64 * MIB
CONNECTIONS = 4


@dataclass(frozen=True)
class Part:
    number: int
    offset: int
    length: int
    sha256: str


def parts_of(path: Path) -> list[Part]:
    size = path.stat().st_size
    parts = []
    with path.open("rb") as source:
        for number, offset in enumerate(range(0, size, PART_SIZE), start=1):
            length = min(PART_SIZE, size - offset)
            digest = hashlib.sha256(source.read(length)).digest()
            parts.append(Part(number, offset, length, base64.b64encode(digest).decode()))
    return parts


def put(path: Path, part: Part, url: str, headers: dict[str, str]) -> str:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=120)
    with path.open("rb") as source:
        source.seek(part.offset)
        connection.putrequest("PUT", f"{address.path}?{address.query}", skip_accept_encoding=True)
        for name, value in {**headers, "content-length": str(part.length)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.sock.sendfile(source, part.offset, part.length)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"part {part.number}: {answer.status} {body[:300]!r}")
    return answer.headers["ETag"]


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def call(method: str, url: str, token: str, body: object = None) -> dict:
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def run_heavylift(path: Path, parts: list[Part]) -> dict:
    from heavylift_local.testing import running_stack

    with running_stack(args=("--no-events",)) as stack:
        token = stack.token()
        entry = {"client_id": "1", "name": path.name, "size": path.stat().st_size}
        started = time.perf_counter()
        opened = call("POST", f"{stack.api}/v1/uploads", token, {"files": [entry]})["uploads"][0]
        assert opened["part_size"] == PART_SIZE, opened
        upload = f"{stack.api}/v1/uploads/{opened['upload_id']}"
        wanted = [{"part_number": part.number, "sha256": part.sha256} for part in parts]
        signed = {one["part_number"]: one for one in call("POST", f"{upload}/parts", token, {"parts": wanted})["parts"]}
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda p: put(path, p, signed[p.number]["url"], signed[p.number]["headers"]), parts))
        sent = time.perf_counter()
        call("POST", f"{upload}/complete", token, {})
        done = time.perf_counter()
        return {
            "server": "heavylift up",
            "upload_s": sent - started,
            "complete_s": done - sent,
            "peak_bytes": peak_bytes(stack.pids["s3"]),
        }


@contextmanager
def moto_server() -> Iterator[tuple[str, int]]:
    program = (
        "import sys, threading\n"
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "server.start()\n"
        "print(server.get_host_and_port()[1], flush=True)\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def run_moto(path: Path, parts: list[Part]) -> dict:
    import boto3
    from botocore.config import Config

    with moto_server() as (endpoint, pid):
        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="bench",
            aws_secret_access_key="bench-secret",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        s3.create_bucket(Bucket="bench")
        started = time.perf_counter()
        upload_id = s3.create_multipart_upload(Bucket="bench", Key="k", ChecksumAlgorithm="SHA256")["UploadId"]

        def send(part: Part) -> str:
            parameters = {
                "Bucket": "bench",
                "Key": "k",
                "UploadId": upload_id,
                "PartNumber": part.number,
                "ChecksumSHA256": part.sha256,
            }
            url = s3.generate_presigned_url("upload_part", Params=parameters)
            return put(path, part, url, {"x-amz-checksum-sha256": part.sha256})

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            etags = list(pool.map(send, parts))
        sent = time.perf_counter()
        listed = [
            {"PartNumber": p.number, "ETag": e, "ChecksumSHA256": p.sha256} for p, e in zip(parts, etags, strict=True)
        ]
        s3.complete_multipart_upload(Bucket="bench", Key="k", UploadId=upload_id, MultipartUpload={"Parts": listed})
        done = time.perf_counter()
        return {
            "server": "moto",
            "upload_s": sent - started,
            "complete_s": done - sent,
            "peak_bytes": peak_bytes(pid),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = options.mib * MIB
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    runners: list[Callable[[Path, list[Part]], dict]] = [run_heavylift, run_moto]
    results: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory(prefix="heavylift-bench-") as folder:
        path = Path(folder) / "data.bin"
        with path.open("wb") as out:
            for _ in range(options.mib):
                out.write(os.urandom(MIB))
        parts = parts_of(path)
        for number in range(options.rounds):
            for run in runners if number % 2 == 0 else reversed(runners):
                result = run(path, parts)
                result["mib_per_s"] = round(size / MIB / result["upload_s"], 1)
                results.setdefault(result["server"], []).append(result)
                print(json.dumps({"bench": "upload", "bytes": size, "round": number + 1, **result}), flush=True)
    ours, theirs = results["heavylift up"], results["moto"]

    def median(runs: list[dict], name: str) -> float:
        return statistics.median(run[name] for run in runs)

    ratios = [a["mib_per_s"] / b["mib_per_s"] for a, b in zip(ours, theirs, strict=True)]
    print(
        json.dumps(
            {
                "bench": "upload",
                "summary": True,
                "bytes": size,
                "rounds": options.rounds,
                "mib_per_s": median(ours, "mib_per_s"),
                "rival_mib_per_s": median(theirs, "mib_per_s"),
                "ratio_median": round(statistics.median(ratios), 2),
                "ratio_min_max": [round(min(ratios), 2), round(max(ratios), 2)],
                "peak_mb": round(median(ours, "peak_bytes") / 1e6, 1),
                "rival_peak_mb": round(median(theirs, "peak_bytes") / 1e6, 1),
                "complete_s": round(median(ours, "complete_s"), 3),
                "rival_complete_s": round(median(theirs, "complete_s"), 3),
                "commit": commit,
                "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
                "date": datetime.now(UTC).date().isoformat(),
            }
        )
    )


if __name__ == "__main__":
    main()
