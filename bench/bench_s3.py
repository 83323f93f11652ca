"""The local stack's S3 against moto's server and, where .venv-localstack is there, LocalStack: in the same run.

Per round each server gets the same work from the same client, in turn and in a process of its own, data on the same
disk: an upload of --mib in 64 MiB parts over 4 connections, with the SHA-256 of each part and without; their
completion; 16 ranges of 64 KiB; the whole object; a CopyObject of it; 4 UploadPartCopy of 64 MiB; --puts small objects
of 100 KB. Prints one JSON line a server and round, and one with the medians and ratios.

    python bench/bench_s3.py [--mib 1024] [--rounds 3] [--puts 2000] [--servers own,moto,localstack]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from servers import (
    CONNECTIONS,
    MIB,
    PART_SIZE,
    Part,
    circumstances,
    client,
    moto_server,
    own_server,
    parts_of,
    peak_bytes,
    put,
    random_file,
)

ROOT = Path(__file__).resolve().parents[1]
SMALL_BYTES = 100_000
RANGES, RANGE_BYTES = 16, 64 * 1024


@contextmanager
def running(name: str, folder: Path) -> Iterator[tuple[str, int]]:
    if name == "own":
        with own_server(folder) as found:
            yield found
    elif name == "moto":
        with moto_server() as found:
            yield found
    else:
        sys.path.insert(0, str(ROOT))
        from tests.conformance import localstack

        with localstack.running(folder) as found:
            yield found


def upload(s3: Any, path: Path, parts: list[Part], key: str, *, digests: bool) -> tuple[float, float]:
    """(seconds to send, seconds to complete)."""
    began = time.perf_counter()
    more = {"ChecksumAlgorithm": "SHA256"} if digests else {}
    where = {"Bucket": "bench", "Key": key}
    where["UploadId"] = s3.create_multipart_upload(**where, **more)["UploadId"]

    def send(part: Part) -> dict[str, Any]:
        extra = {"ChecksumSHA256": part.sha256} if digests else {}
        url = s3.generate_presigned_url("upload_part", Params={**where, "PartNumber": part.number, **extra})
        headers = {"x-amz-checksum-sha256": part.sha256} if digests else {}
        return {"PartNumber": part.number, "ETag": put(path, part, url, headers), **extra}

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        listed = list(pool.map(send, parts))
    sent = time.perf_counter()
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": listed})
    return sent - began, time.perf_counter() - sent


def read(url: str, headers: dict[str, str] | None = None) -> int:
    """Bytes of the answer, read and dropped."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=300)
    connection.request("GET", f"{address.path}?{address.query}", headers=headers or {})
    answer = connection.getresponse()
    if answer.status not in (200, 206):
        raise RuntimeError(f"{answer.status} {answer.read(300)!r}")
    size = 0
    buffer = bytearray(MIB)
    while got := answer.readinto(buffer):
        size += got
    connection.close()
    return size


def small_puts(s3: Any, count: int) -> float:
    body = os.urandom(SMALL_BYTES)
    urls = [
        s3.generate_presigned_url("put_object", Params={"Bucket": "bench", "Key": f"small/{n}"}) for n in range(count)
    ]

    def send(mine: list[str]) -> None:
        connection = http.client.HTTPConnection(urlsplit(mine[0]).netloc, timeout=120)
        for url in mine:
            address = urlsplit(url)
            connection.request("PUT", f"{address.path}?{address.query}", body)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} for a small object")
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(send, [urls[n::CONNECTIONS] for n in range(CONNECTIONS)]))
    return time.perf_counter() - began


def measure(name: str, folder: Path, path: Path, parts: list[Part], puts: int) -> dict[str, Any]:
    size = path.stat().st_size
    result: dict[str, Any] = {"server": name}
    with running(name, folder) as (endpoint, pid):
        s3 = client(endpoint, *(("test", "test") if name == "localstack" else ()))
        s3.create_bucket(Bucket="bench")
        for label, digests in (("sha256", True), ("plain", False)):
            sending, completing = upload(s3, path, parts, label, digests=digests)
            result[f"upload_{label}_mib_per_s"] = round(size / MIB / sending, 1)
            result[f"complete_{label}_s"] = round(completing, 3)
            result[f"whole_{label}_mib_per_s"] = round(size / MIB / (sending + completing), 1)
        result["peak_upload_mb"] = round(peak_bytes(pid) / 1e6, 1)
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "bench", "Key": "sha256"})
        began = time.perf_counter()
        for number in range(RANGES):
            first = number * (size - RANGE_BYTES) // RANGES
            assert read(url, {"range": f"bytes={first}-{first + RANGE_BYTES - 1}"}) == RANGE_BYTES
        result["ranges_s"] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()
        assert read(url) == size
        result["get_mib_per_s"] = round(size / MIB / (time.perf_counter() - began), 1)
        began = time.perf_counter()
        s3.copy_object(Bucket="bench", Key="copy", CopySource="bench/sha256")
        result["copy_s"] = round(time.perf_counter() - began, 3)
        where = {"Bucket": "bench", "Key": "parts"}
        where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
        began = time.perf_counter()
        for number in range(4):
            first = number * PART_SIZE % size
            span = f"bytes={first}-{min(first + PART_SIZE, size) - 1}"
            s3.upload_part_copy(**where, PartNumber=number + 1, CopySource="bench/sha256", CopySourceRange=span)
        result["part_copies_s"] = round(time.perf_counter() - began, 3)
        result["small_puts_per_s"] = round(puts / small_puts(s3, puts), 1)
        result["peak_mb"] = round(peak_bytes(pid) / 1e6, 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--puts", type=int, default=2000)
    parser.add_argument("--servers", default="", help="own,moto,localstack (default: all that are there)")
    options = parser.parse_args()
    there = (ROOT / ".venv-localstack/.ready").exists()
    names = [n for n in options.servers.split(",") if n] or ["own", "moto", *(["localstack"] if there else [])]
    if unknown := set(names) - {"own", "moto", "localstack"}:
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="heavylift-bench-") as folder:
        path = Path(folder) / "data.bin"
        random_file(path, options.mib)
        parts = parts_of(path)
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    result = measure(name, Path(own), path, parts, options.puts)
                results[name].append(result)
                print(json.dumps({"bench": "s3", "mib": options.mib, "round": number + 1, **result}), flush=True)
    fields = [field for field in results[names[0]][0] if field != "server"]
    medians = {name: {f: statistics.median(run[f] for run in runs) for f in fields} for name, runs in results.items()}
    ratios: dict[str, dict[str, Any]] = {}
    for rival in names:
        if rival == "own" or "own" not in names:
            continue
        pairs = list(zip(results["own"], results[rival], strict=True))
        ratios[rival] = {"peak": round(medians["own"]["peak_mb"] / medians[rival]["peak_mb"], 3)}
        for field in ("upload_sha256", "whole_sha256", "upload_plain", "whole_plain"):
            each = [a[f"{field}_mib_per_s"] / b[f"{field}_mib_per_s"] for a, b in pairs]
            ratios[rival][field] = [round(value, 2) for value in (statistics.median(each), min(each), max(each))]
    summary = {"bench": "s3", "summary": True, "mib": options.mib, "rounds": options.rounds, "medians": medians}
    print(json.dumps({**summary, "ratios": ratios, **circumstances()}))


if __name__ == "__main__":
    main()
