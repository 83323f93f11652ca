"""Uploads over loopback: ``heavylift put`` against the AWS CLI and s3transfer, to the same server in the same run.

    large   one file of 1 GiB: ours in 64 MiB parts with the SHA-256 of each signed into its URL, planned, signed and
            completed through the API; the rivals with their defaults (8 MiB parts, CRC), straight to S3
    small   2,000 files of 100 KB: ours as a batch with a SHA-256 each; the CLI as ``cp --recursive``, s3transfer with
            one TransferManager for all files

The server is the local stack without events, so that nothing is processed meanwhile. Each client is a process of its
own, started by the clock and ended by it: imports, planning and proof are in the seconds. Rounds are interleaved, in
turning order. Processor time says more than the clock where others share the machine. Peak memory is the process's
``VmHWM``. API calls are counted in the client, without those that read a status. One JSON line a run, one with medians
and ratios a case.

    python bench/bench_upload.py [--rounds 7] [--mib 1024] [--files 2000] [--case large] [--case small]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from servers import MIB, circumstances, client, peak_bytes

from heavylift_local.testing import RunningStack, running_stack

SMALL_BYTES = 100_000
LOOK_S = 0.02  # between two looks at a process's peak; VmHWM only grows, so that little is missed
OURS, AWS_CLI, S3TRANSFER = "heavylift", "aws-cli", "s3transfer"

# The command as it is, with a count of its calls on stderr.
OUR_PROGRAM = """
import sys
from heavylift_client import api, cli
methods, call = [], api.Api.call
def counted(self, method, path, **how):
    methods.append(method)
    return call(self, method, path, **how)
api.Api.call = counted
status = cli.main(sys.argv[1:])
print(sum(1 for method in methods if method != "GET"), file=sys.stderr)
sys.exit(status)
"""

S3TRANSFER_PROGRAM = """
import os, sys
import boto3
from botocore.config import Config
from s3transfer.manager import TransferConfig, TransferManager
source, bucket, prefix, endpoint = sys.argv[1:]
config = Config(s3={"addressing_style": "path"}, max_pool_connections=10)
s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
paths = [os.path.join(source, name) for name in sorted(os.listdir(source))] if os.path.isdir(source) else [source]
with TransferManager(s3, TransferConfig()) as manager:
    for future in [manager.upload(path, bucket, prefix + os.path.basename(path)) for path in paths]:
        future.result()
"""


@dataclass(frozen=True)
class Bench:
    """The running server, and a place for files."""

    stack: RunningStack
    scratch: Path

    @property
    def bucket(self) -> str:
        return str(self.stack.ready["buckets"]["staging"])

    def environment(self, turn: str) -> dict[str, str]:
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": str(self.stack.ready["s3_access_key"]),
            "AWS_SECRET_ACCESS_KEY": str(self.stack.ready["s3_secret_key"]),
            "AWS_DEFAULT_REGION": str(self.stack.ready["region"]),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "HEAVYLIFT_API": self.stack.api,
            "HEAVYLIFT_TOKEN": self.stack.token(),
            "XDG_STATE_HOME": str(self.scratch / "state" / turn),
        }

    def command(self, name: str, source: Path) -> list[str]:
        if name == OURS:
            return [sys.executable, "-c", OUR_PROGRAM, "put", str(source), "--no-wait", "--json"]
        if name == AWS_CLI:
            program = shutil.which("aws", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
            if program is None:
                raise SystemExit("the AWS CLI is not installed; leave it out with --client")
            target = f"s3://{self.bucket}/rival/{'' if source.is_dir() else source.name}"
            recursive = ["--recursive"] if source.is_dir() else []
            quiet = ["--only-show-errors", "--no-progress"]
            return [program, "--endpoint-url", self.stack.s3, "s3", "cp", *recursive, *quiet, str(source), target]
        return [sys.executable, "-c", S3TRANSFER_PROGRAM, str(source), self.bucket, "rival/", self.stack.s3]

    def run(self, name: str, source: Path, turn: str) -> dict[str, float]:
        """One upload by one client: seconds, peak memory, API calls."""
        environment, command = self.environment(turn), self.command(name, source)
        server_cpu_s = cpu_s(self.stack.pids["s3"])
        with (self.scratch / "out").open("wb") as out, (self.scratch / "errors").open("wb") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=errors)
            peak = 0
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                peak = max(peak, peak_bytes(process.pid))
                time.sleep(LOOK_S)
            seconds = time.perf_counter() - started
        if ended[1] != 0:
            raise SystemExit(f"{name} failed: {(self.scratch / 'errors').read_text()[-2000:]}")
        calls = int((self.scratch / "errors").read_text().split()[-1]) if name == OURS else 0
        server_cpu_s = cpu_s(self.stack.pids["s3"]) - server_cpu_s
        self.empty()
        return {
            "seconds": round(seconds, 3),
            "peak_bytes": peak,
            "api_calls": calls,
            "client_cpu_s": round(ended[2].ru_utime + ended[2].ru_stime, 2),
            "server_cpu_s": round(server_cpu_s, 2),
        }

    def empty(self) -> None:
        """Throw away what was stored, so that the disk does not fill up and every run begins alike."""
        s3 = client(self.stack.s3, str(self.stack.ready["s3_access_key"]), str(self.stack.ready["s3_secret_key"]))
        while found := s3.list_objects_v2(Bucket=self.bucket).get("Contents"):
            keys = [{"Key": one["Key"]} for one in found]
            s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_folder(size: int) -> str | None:
    """A folder in memory with room for ``size`` bytes, so that clients are compared and not a disk; else None."""
    try:
        return "/dev/shm" if shutil.disk_usage("/dev/shm").free > size else None
    except OSError:
        return None


def large_file(folder: Path, options: argparse.Namespace) -> tuple[Path, int]:
    path = folder / "large.bin"
    with path.open("wb") as out:
        for _ in range(options.mib):
            out.write(os.urandom(MIB))
    return path, options.mib * MIB


def small_files(folder: Path, options: argparse.Namespace) -> tuple[Path, int]:
    path = folder / "small"
    path.mkdir()
    chance = random.Random(1)
    for number in range(options.files):
        (path / f"{number:05d}.bin").write_bytes(chance.randbytes(SMALL_BYTES))
    return path, options.files * SMALL_BYTES


CASES: dict[str, Callable[[Path, argparse.Namespace], tuple[Path, int]]] = {"large": large_file, "small": small_files}


def measure(bench: Bench, case: str, options: argparse.Namespace) -> None:
    source, size = CASES[case](bench.scratch, options)
    clients = options.client or [OURS, AWS_CLI, S3TRANSFER]
    for name in clients:  # not counted: cold functions, a cold page cache
        bench.run(name, source, f"{case}-warm")
    results: dict[str, list[dict[str, float]]] = {name: [] for name in clients}
    for number in range(options.rounds):
        turn = number % len(clients)
        for name in clients[turn:] + clients[:turn]:
            result = bench.run(name, source, f"{case}-{number}")
            results[name].append(result)
            said = {"bench": "upload", "case": case, "client": name, "round": number + 1, "bytes": size}
            print(json.dumps({**said, **result}), flush=True)
    summary: dict[str, object] = {"bench": "upload", "case": case, "summary": True, "bytes": size}
    for name, runs in results.items():
        seconds = [run["seconds"] for run in runs]
        summary[name] = {
            "seconds": statistics.median(seconds),
            "seconds_min_max": [min(seconds), max(seconds)],
            "peak_mb": round(statistics.median(run["peak_bytes"] for run in runs) / 1e6, 1),
            "api_calls": max(run["api_calls"] for run in runs),
            "client_cpu_s": statistics.median(run["client_cpu_s"] for run in runs),
            "server_cpu_s": statistics.median(run["server_cpu_s"] for run in runs),
        }
        if name != OURS and OURS in results:
            ratios = [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(runs, results[OURS], strict=True)]
            summary[f"times_as_fast_as_{name}"] = {
                "median": round(statistics.median(ratios), 2),
                "min_max": [round(min(ratios), 2), round(max(ratios), 2)],
            }
    print(json.dumps({**summary, "rounds": options.rounds, **circumstances()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="may be repeated; all by default")
    parser.add_argument("--client", action="append", choices=(OURS, AWS_CLI, S3TRANSFER), help="may be repeated")
    parser.add_argument("--folder", help="for source and server; in memory by default, where that is large enough")
    options = parser.parse_args()
    place = options.folder or memory_folder(4 * options.mib * MIB + 4 * options.files * SMALL_BYTES)
    with tempfile.TemporaryDirectory(prefix="heavylift-bench-", dir=place) as folder:
        scratch = Path(folder)
        with running_stack(data_dir=scratch / "data", args=("--no-events",)) as stack:
            for case in options.case or sorted(CASES):
                measure(Bench(stack, scratch), case, options)


if __name__ == "__main__":
    main()
