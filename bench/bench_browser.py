"""The upload engine of web/engine against an unmodified Uppy, both in Chromium against one local stack. JSON lines.

    large   one file of 1 GiB: ours in parts, each with its SHA-256 signed; Uppy with its defaults (parts of 5 MiB, one
            after another)
    small   2,000 files of 100 KB: ours as a batch of forms with a SHA-256 each; Uppy with its defaults

The stack runs without events and answers each call of the API 60 ms late. Files are picked from the disk, as a person
picks them; page and API are of two origins. The clock runs in the page, from the call that adds the files until all
bytes are in S3 and, of ours, proven. Every run has a fresh page; rounds are interleaved, in turning order. ``cpu_s`` is
the processor time of all processes of the browser, ``page_mb`` the most that its page process held beyond what it held
before, ``long_tasks`` the tasks of the page's thread above 50 ms. Each run's bytes at S3 are counted.

    python bench/bench_browser.py [--rounds 3] [--mib 1024] [--files 2000] [--case large] [--case small]
                                  [--latency-ms 60] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench_upload import memory_folder
from servers import MIB, circumstances, client

from heavylift_local.testing import RunningStack, running_stack

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' browser and Uppy
from tests.web.chromium import Browser, chromium
from tests.web.engine_site import site
from tests.web.uppy.build import bundle

SMALL_BYTES = 100_000
UPPY = "6"
LOOK_S = 0.1
UNLIMITED = {"RATE_LIMIT_FILES_PER_MINUTE": "0", "RATE_LIMIT_CALLS_PER_MINUTE": "0"}
OURS, RIVAL = "heavylift", "uppy"
OUR_RUN = """
const [options, which, done] = arguments;
const uploader = page.begin(options);
const began = performance.now();
page.add(which).then(async ({ files, batch }) => {
  await (batch ? batch.finished : Promise.all(files.map((file) => file.finished)));
  const seconds = (performance.now() - began) / 1000;
  await new Promise((resolve) => setTimeout(resolve, 200));
  const bad = files.filter((file) => file.state !== "done").map((file) => `${file.name}: ${file.error?.code}`);
  done({ seconds, bad, long_tasks: page.tasks });
}).catch((error) => done({ bad: [String(error)] }));
"""
# Uppy's page of the tests makes its files' metadata from what it is told; what was picked lies in its input.
THEIR_RUN = """
const [endpoint, done] = arguments;
const tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => Math.round(one.duration))))
  .observe({ type: "longtask" });
const files = [...document.querySelector("input").files].map(({ name, size }) => ({ name, size, seed: 1 }));
const began = performance.now();
upload(endpoint, files).then(({ errors, done: uploaded, version }) => {
  const bad = uploaded.length === files.length ? errors : [...errors, `${uploaded.length} of ${files.length}`];
  done({ seconds: (performance.now() - began) / 1000, bad, long_tasks: tasks, version });
}, (error) => done({ bad: [String(error)] }));
"""


@dataclass
class Watch:
    """Processor time and memory of a browser, looked at from outside while it works."""

    profile: Path
    peaks: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    cpu_first: dict[int, float] = field(default_factory=dict)
    watching: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        for pid, command in family(self.profile):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                # A process that comes to be while it is watched has all of its time from this run.
                self.cpu_first.setdefault(pid, 0.0 if self.watching else cpu_s)
                self.cpu[pid] = cpu_s
                if "--type=renderer" in command:
                    held = anonymous_bytes(pid)
                    self.first.setdefault(pid, held)
                    self.peaks[pid] = max(held, self.peaks.get(pid, 0))
            except (OSError, StopIteration):
                continue
        self.watching = True

    def run(self) -> None:
        while not self.over.wait(LOOK_S):
            self.look()

    def told(self) -> dict[str, float]:
        grown = max((peak - self.first[pid] for pid, peak in self.peaks.items()), default=0)
        cpu_s = sum(cpu - self.cpu_first[pid] for pid, cpu in self.cpu.items())
        return {"cpu_s": round(cpu_s, 1), "page_mb": round(grown / 1e6, 1)}


def anonymous_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def family(profile: Path) -> Iterator[tuple[int, str]]:
    """(pid, command) of the browser with this profile and all that it started."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[pid] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    mine = {pid for pid, command in commands.items() if f"--user-data-dir={profile}" in command}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    yield from ((pid, commands[pid]) for pid in mine if pid in commands)


@contextmanager
def watched(profile: Path) -> Iterator[Watch]:
    watch = Watch(profile)
    watch.look()
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.over.set()
        thread.join()


@dataclass(frozen=True)
class Bench:
    """The running server, its web site and a browser."""

    stack: RunningStack
    origin: str
    browser: Browser
    profile: Path

    def run(self, name: str, case: str, source: Path) -> dict[str, object]:
        """One upload by one client in a fresh page."""
        self.browser.open(f"{self.origin}/" if name == OURS else f"{self.origin}/uppy-{case}")
        ready = "typeof window.page === 'object'" if name == OURS else "typeof window.upload === 'function'"
        while not self.browser.get(ready):
            time.sleep(0.05)
        folder = source.is_dir()
        chosen = "#folder" if folder and name == OURS else "input"
        self.browser.pick(chosen, source)
        wanted = sum(1 for _ in source.iterdir()) if folder else 1
        while self.browser.get(f"document.querySelector('{chosen}').files.length") != wanted:
            time.sleep(0.05)
        calls = self.calls()
        with watched(self.profile) as watch:
            result = self.upload(name, folder)
        watch.look()
        if result["bad"]:
            raise SystemExit(f"{name}: {result['bad'][:5]}")
        stored = self.stored()
        size = sum(one.stat().st_size for one in ([source] if source.is_file() else source.iterdir()))
        if stored != size:
            raise SystemExit(f"{name}: {stored} bytes are at S3, {size} were sent")
        long_tasks = [ms for ms in result["long_tasks"] if ms > 50]
        return {
            "seconds": round(result["seconds"], 2),
            **watch.told(),
            "s3_requests": self.calls() - calls,
            "long_tasks": len(long_tasks),
            "longest_task_ms": max(long_tasks, default=0),
        }

    def upload(self, name: str, folder: bool) -> dict[str, object]:
        if name == OURS:
            options = {"api": self.stack.api, "token": self.stack.token(), "follow": False}
            return self.browser.run(OUR_RUN, options, "folder" if folder else "files", seconds=1_800)
        endpoint = self.stack.request("POST", "/v1/companion-tickets", {})["endpoint"]
        return self.browser.run(THEIR_RUN, endpoint, seconds=1_800)

    def calls(self) -> int:
        return sum(
            one["requests"] for name, one in self.stack.counters().get("client", {}).items() if name[:3] == "s3."
        )

    def stored(self) -> int:
        """Bytes at S3, which are thrown away, so that every run begins alike."""
        s3 = client(self.stack.s3, str(self.stack.ready["s3_access_key"]), str(self.stack.ready["s3_secret_key"]))
        bucket, size = str(self.stack.ready["buckets"]["staging"]), 0
        while found := s3.list_objects_v2(Bucket=bucket).get("Contents"):
            size += sum(one["Size"] for one in found)
            s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": one["Key"]} for one in found], "Quiet": True})
        return size


def large_file(folder: Path, options: argparse.Namespace) -> Path:
    path = folder / "large.bin"
    with path.open("wb") as out:
        for _ in range(options.mib):
            out.write(os.urandom(MIB))
    return path


def small_files(folder: Path, options: argparse.Namespace) -> Path:
    path = folder / "small"
    path.mkdir()
    chance = random.Random(1)
    for number in range(options.files):
        (path / f"{number:05d}.bin").write_bytes(chance.randbytes(SMALL_BYTES))
    return path


CASES: dict[str, Callable[[Path, argparse.Namespace], Path]] = {"large": large_file, "small": small_files}


def measure(bench: Bench, case: str, source: Path, options: argparse.Namespace) -> None:
    results: dict[str, list[dict[str, object]]] = {OURS: [], RIVAL: []}
    names = list(results)
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            result = bench.run(name, case, source)
            results[name].append(result)
            print(
                json.dumps({"bench": "browser", "case": case, "client": name, "round": number + 1, **result}),
                flush=True,
            )
    summary: dict[str, object] = {"bench": "browser", "case": case, "summary": True, "rounds": options.rounds}
    for name, runs in results.items():
        summary[name] = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
    ratios = [ours["seconds"] / theirs["seconds"] for ours, theirs in zip(results[OURS], results[RIVAL], strict=True)]
    summary["ratio"] = {
        "median": round(statistics.median(ratios), 2),
        "min_max": [round(min(ratios), 2), round(max(ratios), 2)],
    }
    print(json.dumps({**summary, "latency_ms": options.latency_ms, **circumstances()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--latency-ms", type=int, default=60, help="of each call of the API")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="may be repeated; all by default")
    parser.add_argument("--folder", help="for source and server; in memory by default, where that is large enough")
    options = parser.parse_args()
    place = options.folder or memory_folder(4 * options.mib * MIB + 4 * options.files * SMALL_BYTES)
    script = bundle(UPPY).read_bytes()
    pages = {
        "/uppy.js": (script, "text/javascript; charset=utf-8"),
        **{
            f"/uppy-{case}": (
                f'<!doctype html><title>Uppy</title><input type="file" {choice}>'
                '<script type="module" src="/uppy.js"></script>'.encode(),
                "text/html; charset=utf-8",
            )
            for case, choice in (("large", ""), ("small", "webkitdirectory"))
        },
    }
    hosts = ""
    with (
        tempfile.TemporaryDirectory(prefix="heavylift-bench-", dir=place) as folder,
        site(lambda: hosts, pages.get) as origin,
    ):
        environment = {"HEAVYLIFT_CORS_ORIGINS": origin, **UNLIMITED}
        with running_stack(data_dir=Path(folder) / "data", env=environment, args=("--no-events",)) as stack:
            hosts = f"{stack.api} {stack.s3}"
            stack.faults({"api": {"latency_ms": options.latency_ms}})
            profile = Path(folder) / "profile"
            with chromium(profile) as browser:
                for case in options.case or sorted(CASES):
                    source = CASES[case](Path(folder), options)
                    measure(Bench(stack, origin, browser, profile), case, source, options)


if __name__ == "__main__":
    main()
