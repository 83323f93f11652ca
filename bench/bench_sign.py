"""Signing parts: our presigner against botocore's, in the same run.

    urls    10,000 part URLs, each with its SHA-256 and length signed: ours in one go, botocore's by as many calls of
            ``generate_presigned_url``; a sample of both is compared byte for byte
    import  what a cold start of ``sign`` loads, against ``import boto3`` and one S3 client, both minus a bare
            interpreter; each in a process of its own, its byte code compiled before
    api     600 parts a call over the running local API, HTTP, token, gateway, function and table and all, against
            botocore alone, per URL

Rounds are interleaved. Seconds are of the clock, ``cpu`` of the processor, which says more where others share the
machine. One JSON line a round, one with medians and ratios a case.

    python bench/bench_sign.py [--rounds 7] [--parts 10000] [--case urls] [--case import] [--case api]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from servers import circumstances

from heavylift import presign
from heavylift_local.testing import RunningStack, running_stack

ROOT = Path(__file__).parents[1]
LAYER = ROOT / "layers/heavylift/python"
BUCKET, KEY, REGION = "heavylift-staging", "in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA", "eu-central-1"
UPLOAD_ID = "VXBsb2FkSUQtfn4uLV8" * 6
OWN = presign.Credentials("ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2lu" * 60)
PART_SIZE = 128 << 20
CALLS = 10  # a round: the processor's clock of other processes ticks every 10 ms
PARTS_PER_CALL = 600  # 80 GB in parts of 128 MiB
BARS = {"urls": 80.0, "import": 0.20, "api": 4.0}


def digest_of(number: int) -> str:
    return base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, seconds, seconds of this process's processor time)."""
    cpu, began = time.process_time(), time.perf_counter()
    result = work()
    return result, time.perf_counter() - began, time.process_time() - cpu


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


# --- urls ---
def ours(parts: list[presign.PartToSign]) -> list[str]:
    address = presign.bucket_address(BUCKET, REGION)
    ts = presign.timestamp(time.time())
    return list(presign.presign_parts(OWN, REGION, address, KEY, UPLOAD_ID, parts, 900, ts))


def judge() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        region_name=REGION,
        aws_access_key_id=OWN.key_id,
        aws_secret_access_key=OWN.secret,
        aws_session_token=OWN.token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
    )


def theirs(client: Any, parts: list[presign.PartToSign]) -> list[str]:
    return [
        client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": BUCKET,
                "Key": KEY,
                "UploadId": UPLOAD_ID,
                "PartNumber": part.number,
                "ChecksumSHA256": part.headers["x-amz-checksum-sha256"],
                "ContentLength": PART_SIZE,
            },
            ExpiresIn=900,
        )
        for part in parts
    ]


def compare(parts: list[presign.PartToSign], urls: list[str]) -> None:
    """Ours for the moment of each of botocore's."""
    address = presign.bucket_address(BUCKET, REGION)
    for part, url in list(zip(parts, urls, strict=True))[:: max(1, len(parts) // 50)]:
        (ts,) = parse_qs(urlsplit(url).query)["X-Amz-Date"]
        (own,) = presign.presign_parts(OWN, REGION, address, KEY, UPLOAD_ID, [part], 900, ts)
        if own != url:
            raise SystemExit(f"not the same URL:\n{own}\n{url}")


def bench_urls(rounds: int, count: int) -> None:
    parts = [
        presign.PartToSign(number, {"x-amz-checksum-sha256": digest_of(number), "content-length": str(PART_SIZE)})
        for number in range(1, count + 1)
    ]
    client = judge()
    theirs(client, parts[:20])  # what it loads with its first URL is not counted
    ratios, cpu_ratios = [], []
    for number in range(rounds):
        urls, slow, slow_cpu = timed(lambda: theirs(client, parts))
        # Ours is over within a clock's tick of the scheduler: the middle of five.
        runs = sorted(timed(lambda: ours(parts))[1:] for _ in range(5))
        fast, fast_cpu = runs[2]
        if number == 0:
            compare(parts, urls)
        ratios.append(slow / fast)
        cpu_ratios.append(slow_cpu / fast_cpu)
        tell(
            case="urls",
            round=number,
            parts=count,
            ours_us=round(1e6 * fast / count, 2),
            botocore_us=round(1e6 * slow / count, 2),
            ratio=round(ratios[-1], 1),
            cpu_ratio=round(cpu_ratios[-1], 1),
        )
    ratio = statistics.median(ratios)
    tell(
        case="urls",
        median_ratio=round(ratio, 1),
        median_cpu_ratio=round(statistics.median(cpu_ratios), 1),
        bar=BARS["urls"],
        reached=ratio >= BARS["urls"],
        **circumstances(),
    )


# --- import ---
PROGRAMS = {
    "bare": "pass",
    "sign": "import functions.sign.handler",
    "boto3": "import boto3; boto3.client('s3', region_name='eu-central-1')",
}


def cold(program: str) -> tuple[float, float]:
    """(seconds, processor seconds) of a process."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": f"{LAYER}:{ROOT}",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bench_import(rounds: int) -> None:
    for program in PROGRAMS.values():
        cold(program)  # compiles, and warms the page cache
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for number in range(rounds):
        for name, program in PROGRAMS.items():
            found[name].append(cold(program))
        tell(
            case="import",
            round=number,
            **{f"{name}_ms": round(1e3 * runs[-1][0], 1) for name, runs in found.items()},
            **{f"{name}_cpu_ms": round(1e3 * runs[-1][1], 1) for name, runs in found.items()},
        )
    seconds = {name: statistics.median(run[0] for run in runs) for name, runs in found.items()}
    cpu = {name: statistics.median(run[1] for run in runs) for name, runs in found.items()}
    ratio = (seconds["sign"] - seconds["bare"]) / (seconds["boto3"] - seconds["bare"])
    tell(
        case="import",
        sign_ms=round(1e3 * (seconds["sign"] - seconds["bare"]), 1),
        boto3_ms=round(1e3 * (seconds["boto3"] - seconds["bare"]), 1),
        median_ratio=round(ratio, 3),
        median_cpu_ratio=round((cpu["sign"] - cpu["bare"]) / (cpu["boto3"] - cpu["bare"]), 3),
        bar=BARS["import"],
        reached=ratio <= BARS["import"],
        **circumstances(),
    )


# --- api ---
def bench_api(rounds: int) -> None:
    with running_stack(args=("--no-events",)) as stack:
        token = stack.token("bench")
        size = PARTS_PER_CALL * PART_SIZE
        opened = stack.request("POST", "/v1/uploads", {"files": [{"name": "a.dng", "size": size}]}, token)
        (upload,) = opened["uploads"]
        assert upload["part_count"] == PARTS_PER_CALL, upload
        call = calls_of(stack, token, upload["upload_id"])
        call()  # the sandbox starts
        client = judge()
        parts = [
            presign.PartToSign(number, {"x-amz-checksum-sha256": digest_of(number)})
            for number in range(1, PARTS_PER_CALL + 1)
        ]
        theirs(client, parts[:20])
        ratios, cpu_ratios = [], []
        for number in range(rounds):
            stack_before = cpu_of_tree(stack.pids["up"])
            _, seconds, cpu = timed(lambda: [call() for _ in range(CALLS)])
            cpu += cpu_of_tree(stack.pids["up"]) - stack_before
            _, slow, slow_cpu = timed(lambda: theirs(client, parts))
            signed = CALLS * PARTS_PER_CALL
            ratios.append((slow / PARTS_PER_CALL) / (seconds / signed))
            cpu_ratios.append((slow_cpu / PARTS_PER_CALL) / (cpu / signed))
            tell(
                case="api",
                round=number,
                parts=PARTS_PER_CALL,
                ours_us=round(1e6 * seconds / signed, 2),
                ours_cpu_us=round(1e6 * cpu / signed, 2),
                botocore_us=round(1e6 * slow / PARTS_PER_CALL, 2),
                botocore_cpu_us=round(1e6 * slow_cpu / PARTS_PER_CALL, 2),
                ratio=round(ratios[-1], 2),
                cpu_ratio=round(cpu_ratios[-1], 2),
            )
    ratio = statistics.median(ratios)
    tell(
        case="api",
        median_ratio=round(ratio, 2),
        best_ratio=round(max(ratios), 2),
        median_cpu_ratio=round(statistics.median(cpu_ratios), 2),
        bar=BARS["api"],
        reached=ratio >= BARS["api"],
        **circumstances(),
    )


def cpu_of_tree(root: int) -> float:
    """Processor seconds of a process and its living descendants, its ended children among them."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        pid = int(path.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0.0)
        waiting += children.get(pid, [])
    return total


def calls_of(stack: RunningStack, token: str, upload_id: str) -> Callable[[], int]:
    """One call that signs all parts, over a kept connection; the answer is read and understood."""
    parts = [{"part_number": number, "sha256": digest_of(number)} for number in range(1, PARTS_PER_CALL + 1)]
    body = json.dumps({"parts": parts}).encode()
    connection = http.client.HTTPConnection(urlsplit(stack.api).netloc, timeout=60)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def call() -> int:
        connection.request("POST", f"/v1/uploads/{upload_id}/parts", body, headers)
        answer = connection.getresponse()
        signed = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {signed}")
        return len({part["url"] for part in signed["parts"]})

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--case", action="append", choices=list(BARS))
    args = parser.parse_args()
    cases = args.case or list(BARS)
    if "urls" in cases:
        bench_urls(args.rounds, args.parts)
    if "import" in cases:
        bench_import(max(args.rounds, 9))
    if "api" in cases:
        bench_api(args.rounds)


if __name__ == "__main__":
    main()
