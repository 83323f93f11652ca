"""Thumbnails of camera RAW files in S3: by embedded previews over ranges, against downloading first.

The local stack's S3 with --latency-ms added to every request; DNGs of --mb megabytes (sparse, uncompressed sensor
data, previews of 1024 and 6000 pixels behind them), adopted as objects. Per size and round, each in a process of its
own: ours (thumbnails of 256, 512 and 1200 px as the function makes them) and the rival (boto3's parallel download to
a file, rawpy.extract_thumb, Pillow's draft and thumbnail to the same sizes). Over 2 GB the rival is left out: LibRaw
opens no such file. Prints a JSON line each, and one with the medians and ratios a size.

    python bench/bench_raw.py [--mb 60,600,1800,80000] [--rounds 3] [--latency-ms 20]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import ACCESS_KEY, SECRET_KEY, circumstances

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
ADMIN = "bench-admin"
LIBRAW_MB_MAX = 2147
OURS = """
import json, sys, time
started = time.monotonic()
from heavylift import s3
from heavylift.image.thumbnails import ThumbnailOptions
from heavylift.raw.thumbnails import make_raw_thumbnails
from heavylift.sniff import detection
from heavylift.telemetry import memory_peak_bytes
key, size, etag = sys.argv[1], int(sys.argv[2]), sys.argv[3]
source = s3.ObjectSource("bench", key, size, etag)
made = make_raw_thumbnails(source, detection("DNG"), ThumbnailOptions(), lambda: 600.0)
assert made.failure is None and len(made.result.thumbnails) == 3
print(json.dumps({"seconds": round(time.monotonic() - started, 3), "requests": source.traffic.requests,
    "bytes_read": source.traffic.bytes_in, "peak_mb": round(memory_peak_bytes() / 1e6, 1),
    "child_peak_mb": round(made.result.child_memory_peak_bytes / 1e6, 1)}))
"""
RIVAL = """
import io, json, os, resource, sys, tempfile, time
started = time.monotonic()
import boto3, rawpy
from PIL import Image
key, size = sys.argv[1], int(sys.argv[2])
client = boto3.client("s3")
requests = []
client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request.url) or None)
with tempfile.NamedTemporaryFile(suffix=".dng") as file:
    client.download_fileobj("bench", key, file)
    file.flush()
    downloaded = time.monotonic() - started
    with rawpy.imread(file.name) as raw:
        thumb = raw.extract_thumb()
    picture = Image.open(io.BytesIO(thumb.data))
    picture.draft("RGB", (2400, 2400))
    made = []
    for edge in (1200, 512, 256):
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85, progressive=True)
        made.append(out.getvalue())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": round(time.monotonic() - started, 3), "download_s": round(downloaded, 3),
    "requests": len(requests), "bytes_read": size, "peak_mb": round(peak / 1e6, 1)}))
"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The endpoint of the local stack's S3, which takes commands too."""
    config = folder / "s3.json"
    caller = {
        "name": "bench",
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "allow": [{"actions": ["s3:*"], "resources": ["*"]}],
    }
    document = {
        "data": str(folder / "data"),
        "callers": [caller],
        "buckets": [{"name": "bench"}],
        "admin_token": ADMIN,
    }
    config.write_text(json.dumps(document))
    process = subprocess.Popen(
        [sys.executable, "-m", "heavylift_local.s3", "--config", str(config)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def command(endpoint: str, method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{endpoint}/_local/{path}", json.dumps(document).encode(), {"x-local-token": ADMIN}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        decoded: dict[str, Any] = json.loads(answer.read())
    return decoded


def write_dng(path: Path, megabytes: int) -> None:
    """A DNG of about so many megabytes whose sensor data are a hole in the file."""
    from tests.heavylift.raw import raws

    size_bytes = megabytes * 1_000_000
    big = size_bytes > 4_000_000_000
    width = height = math.isqrt(size_bytes // 2) // 2 * 2  # LibRaw takes sides up to 65,535 pixels
    sensor = raws.cfa_directory(width, height, b"", big=big)
    previews = [
        raws.preview(1024, 768, big=big, gap=2 * width * height),
        raws.preview(6000, 4500, big=big),
    ]
    raws.Writer(big=big).write_sparse(raws.dng(previews, big=big, sensor=sensor), path)


def run(program: str, endpoint: str, folder: Path, *arguments: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TMPDIR": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", default="60,600,1800,80000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    arguments = parser.parse_args()
    shared = {"bench": "raw", "latency_ms": arguments.latency_ms, **circumstances()}
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as endpoint:
        folder = Path(name)
        command(endpoint, "PUT", "faults", {"latency_ms": arguments.latency_ms})
        for megabytes in (int(value) for value in arguments.mb.split(",")):
            path = folder / f"{megabytes}.dng"
            write_dng(path, megabytes)
            stored = command(
                endpoint,
                "POST",
                "adopt",
                {
                    "bucket": "bench",
                    "key": path.name,
                    "path": str(path),
                    "content_type": "image/x-adobe-dng",
                    "metadata": {},
                },
            )
            size, etag = str(path.stat().st_size), stored["etag"].strip('"')
            measured: dict[str, list[dict[str, Any]]] = {"ours": [], "rival": []}
            for number in range(arguments.rounds):
                for who, program in (("ours", OURS), ("rival", RIVAL)):
                    if who == "rival" and megabytes > LIBRAW_MB_MAX:
                        continue
                    result = run(program, endpoint, folder, path.name, size, etag)
                    measured[who].append(result)
                    print(json.dumps({**shared, "mb": megabytes, "who": who, "round": number, **result}), flush=True)
            print(json.dumps({**shared, "mb": megabytes, "summary": True, **summary(measured)}), flush=True)
            path.unlink()


def summary(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and ours as a part of the rival's."""
    found: dict[str, Any] = {}
    for who, results in measured.items():
        if results:
            for field in ("seconds", "requests", "bytes_read", "peak_mb"):
                found[f"{who}_{field}"] = statistics.median(result[field] for result in results)
    if measured["rival"]:
        found["seconds_ratio"] = round(found["ours_seconds"] / found["rival_seconds"], 3)
        found["bytes_ratio"] = round(found["ours_bytes_read"] / found["rival_bytes_read"], 4)
    return found


if __name__ == "__main__":
    main()
