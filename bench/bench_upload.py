"""1 GiB in 64 MiB parts over loopback: the local stack's S3 and, in the same run, moto's server.

Both get the same parts by the same uploader (presigned URLs, SHA-256 of each part sent along, 4 connections), once in
turn per round. What differs is what the servers do: ours checks signature, length and digest and keeps bytes on disk,
moto keeps them in memory and checks nothing. Prints one JSON line a run and one with the medians.

    python bench/bench_upload.py [--mib 1024] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servers import (
    CONNECTIONS,
    MIB,
    PART_SIZE,
    Part,
    circumstances,
    client,
    moto_server,
    parts_of,
    peak_bytes,
    put,
    random_file,
)


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


def run_moto(path: Path, parts: list[Part]) -> dict:
    with moto_server() as (endpoint, pid):
        s3 = client(endpoint)
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
    runners: list[Callable[[Path, list[Part]], dict]] = [run_heavylift, run_moto]
    results: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory(prefix="heavylift-bench-") as folder:
        path = Path(folder) / "data.bin"
        random_file(path, options.mib)
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
                **circumstances(),
            }
        )
    )


if __name__ == "__main__":
    main()
