"""A folder of DICOM files into heavylift and into Orthanc (Debian's packages), in the same run.

    orthanc   POST /instances over 4 connections: the server as Debian ships it, without plugins and authentication,
              StorageCompression and SyncStorageArea false, its own SQLite index
    ours      presigned PUTs to the local stack's S3 over 4 connections, the batch and its URLs by the gateway, as
              ``heavylift put`` does it; every ten files that are there are one invocation of dicom_ingest, two at
              once. Two processes: S3, and gateway with functions and a table in memory that keeps DynamoDB's
              conditions (``bench/dicom_functions.py``)
    stack     the whole local stack with moto's table and its queues, by ``heavylift put`` (``--stack``; no bar)

Both servers write without fsync, into folders of the same disk, and start empty. Both ends are checked: every instance
is there. The files are CT slices of about 250 elements, 5 studies of 4 series, each with UIDs of its own. Seconds are
from the first byte sent to the last answer; processor time and peak memory (VmHWM) are the servers', peaks of several
processes added up. One JSON line a run, the last with medians and bars.

    python bench/bench_dicom_ingest.py [--edge 256|512] [--files 2000] [--rounds 3] [--zip] [--stack]

``--zip``: all files as one stored ZIP, in one request (orthanc), as one member of a batch in parts (ours).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.bench_dicom_header import made_ct
from bench.servers import ACCESS_KEY, CONNECTIONS, SECRET_KEY, circumstances, peak_bytes
from tests.doubles import events

STUDIES, SERIES = 5, 4
GROUP = 10
URLS = 200  # of a call
SANDBOXES = 2  # as many as processors: Lambda would take more
BARS = {256: 1.5, 512: 1.0}
CPU_BAR, PEAK_BAR, ZIP_PEAK_BAR = 0.5, 0.6, 0.25
BUCKETS = {"staging": "heavylift-staging", "store": "heavylift-store", "derived": "heavylift-derived"}
ROOT_UID = "1.2.826.0.1.3680043.10.1338"
_STUDY, _SERIES, _INSTANCE = "9.9999999991", "9.9999999992", "9.9999999993"


class Files:
    """Slices that share their header's text and their pixels: name, size and bytes of each, without holding them."""

    def __init__(self, count: int, edge: int) -> None:
        whole = made_ct(edge, (f"{ROOT_UID}.{_STUDY}", f"{ROOT_UID}.{_SERIES}", f"{ROOT_UID}.{_INSTANCE}"))
        start = whole.index(b"\xe0\x7f\x10\x00")
        self.header, self.pixels = whole[:start], whole[start : start + 12] + secrets.token_bytes(2 * edge * edge)
        self.count, self.size = count, len(self.header) + len(self.pixels)

    def head(self, n: int) -> bytes:
        """What stands before the pixels of file ``n``."""
        study = n % STUDIES
        series = n // STUDIES % SERIES
        head = self.header
        for pattern, uid in (
            (_STUDY, f"1.{study:010d}"),
            (_SERIES, f"2.{study:05d}{series:05d}"),
            (_INSTANCE, f"3.{n:010d}"),
        ):
            head = head.replace(f"{ROOT_UID}.{pattern}".encode(), f"{ROOT_UID}.{uid}".encode())
        return head

    def pieces(self, n: int) -> tuple[bytes, bytes]:
        return self.head(n), self.pixels

    def zipped(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for n in range(self.count):
                archive.writestr(f"IM{n:05d}", b"".join(self.pieces(n)))


class Line:
    """One kept HTTP connection of the client, the same for both servers: requests whole, answers by their length."""

    def __init__(self, address: str) -> None:
        host = urlsplit(address)
        self.host = host.netloc
        self.sock = socket.create_connection((host.hostname or "", host.port or 80))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: Sequence[bytes], **headers: str) -> tuple[int, bytes]:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.host}", f"content-length: {sum(map(len, body))}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body[0])
        for piece in body[1:]:
            self.sock.sendall(piece)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, rest = got.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(rest) < length:
            rest += self._more()
        return int(head[9:12]), rest

    def _more(self) -> bytes:
        data = self.sock.recv(65_536)
        if not data:
            raise ConnectionError("the server hung up")
        return data


@dataclass
class Side:
    """A rival that serves: its processes, and how it takes files."""

    name: str
    pids: list[int]
    send: Callable[[Files], None]
    send_zip: Callable[[Path, int], None]
    counted: Callable[[], int]
    notes: dict[str, Any] = field(default_factory=dict)


def in_parallel(count: int, work: Callable[[int, Iterator[int]], None]) -> None:
    """``work(lane, numbers)`` over CONNECTIONS threads, the numbers given out in order."""
    numbers = iter(range(count))
    lock = threading.Lock()
    failures: list[Exception] = []

    def given() -> Iterator[int]:
        while True:
            with lock:
                n = next(numbers, None)
            if n is None:
                return
            yield n

    def lane(place: int) -> None:
        try:
            work(place, given())
        except (OSError, RuntimeError, ValueError) as error:
            failures.append(error)

    threads = [threading.Thread(target=lane, args=(place,)) for place in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# --- Orthanc ----------------------------------------------------------------------------------------------------------


@contextmanager
def orthanc(folder: Path) -> Iterator[Side]:
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if program is None:
        raise SystemExit("Orthanc is not installed: apt-get install orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "orthanc.json"
    settings = {
        "Name": "bench",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "StorageCompression": False,
        "SyncStorageArea": False,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [],
    }
    config.write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(config)], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                version = json.load(urllib.request.urlopen(f"{address}/system"))["Version"]
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit((folder / "orthanc.log").read_text()[-2000:])

        def send(files: Files) -> None:
            def work(_: int, numbers: Iterator[int]) -> None:
                line = Line(address)
                for n in numbers:
                    status, body = line.ask("POST", "/instances", files.pieces(n), content_type="application/dicom")
                    if status != 200:
                        raise RuntimeError(f"{status} {body[:300]!r}")

            in_parallel(files.count, work)

        def send_zip(path: Path, _: int) -> None:
            status, body = Line(address).ask("POST", "/instances", [path.read_bytes()])
            if status != 200:
                raise RuntimeError(f"{status} {body[:300]!r}")

        def counted() -> int:
            return int(json.load(urllib.request.urlopen(f"{address}/statistics"))["CountInstances"])

        yield Side("orthanc", [process.pid], send, send_zip, counted, {"version": version})
    finally:
        process.terminate()
        process.wait()


# --- ours -------------------------------------------------------------------------------------------------------------


@contextmanager
def child(command: list[str], **given: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **given)
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        process.terminate()
        process.wait()


class Sandbox:
    """Invocations of dicom_ingest, one after the other."""

    def __init__(self, port: int) -> None:
        self.stream = socket.create_connection(("127.0.0.1", port)).makefile("rw")

    def invoke(self, bodies: list[str]) -> dict[str, Any]:
        self.stream.write(json.dumps(bodies) + "\n")
        self.stream.flush()
        answer: dict[str, Any] = json.loads(self.stream.readline())
        if answer["failed"]:
            raise RuntimeError(f"{answer['failed']} files were not settled")
        return answer


class Ours:
    """The API's client, the sender of forms, and the event source of dicom_ingest."""

    def __init__(self, s3: str, ready: dict[str, Any]) -> None:
        self.s3, self.api, self.token = s3, ready["api"], ready["token"]
        self.sandboxes = [Sandbox(ready["invoke"]) for _ in range(SANDBOXES)]
        self.batch_id = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.api}/v1{path}", data, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def event(self, n: int, size: int) -> str:
        return json.dumps(events.object_created(BUCKETS["staging"], f"dicom/bench/{self.batch_id}/{n}", size, ""))

    def begin(self, total: int, size: int) -> None:
        self.batch_id = self.call("POST", "/batches", {"kind": "dicom", "total": total, "mode": "put"})["batch_id"]
        for page, first in enumerate(range(1, total + 1, 5_000), start=1):
            numbers = range(first, min(first + 5_000, total + 1))
            entries = [{"n": n, "name": f"IM{n:05d}", "size": size} for n in numbers]
            self.call("PUT", f"/batches/{self.batch_id}/manifest/{page}", {"entries": entries})

    def send(self, files: Files) -> None:
        self.begin(files.count, files.size)
        arrived: SimpleQueue[int | None] = SimpleQueue()
        signed: dict[int, dict[str, Any]] = {}
        asking = threading.Lock()

        def signed_for(n: int) -> dict[str, Any]:
            with asking:
                if n not in signed:
                    numbers = list(range(n, min(n + URLS, files.count + 1)))
                    answer = self.call("POST", f"/batches/{self.batch_id}/urls", {"n": numbers})
                    signed.update({one["n"]: one for one in answer["urls"]})
                return signed.pop(n)

        def work(_: int, numbers: Iterator[int]) -> None:
            line = Line(self.s3)
            for n in numbers:
                one = signed_for(n + 1)
                path = one["url"].partition("://")[2].partition("/")[2]
                headers = {name: str(value) for name, value in one["headers"].items()}
                status, body = line.ask("PUT", f"/{path}", files.pieces(n), **headers)
                if status != 200:
                    raise RuntimeError(f"{status} {body[:300]!r}")
                arrived.put(n + 1)

        feeders = [threading.Thread(target=self._feed, args=(arrived, files.size, one)) for one in self.sandboxes]
        for feeder in feeders:
            feeder.start()
        try:
            in_parallel(files.count, work)
        finally:
            for _ in feeders:
                arrived.put(None)
            for feeder in feeders:
                feeder.join()

    def _feed(self, arrived: SimpleQueue[int | None], size: int, sandbox: Sandbox) -> None:
        """Every ten files that are there are one invocation."""
        group: list[str] = []
        while True:
            n = arrived.get()
            if n is not None:
                group.append(self.event(n, size))
            if group and (n is None or len(group) == GROUP):
                sandbox.invoke(group)
                group = []
            if n is None:
                return

    def send_zip(self, path: Path, _: int) -> None:
        from heavylift_client import Client

        with (
            Client(self.api, self.token, concurrency=CONNECTIONS) as client,
            client.upload_batch(path.parent, kind="dicom", wait=False, state_dir=path.parent.parent) as batch,
        ):
            lines = [result.line() for result in batch]
        self.batch_id = lines[0]["batch_id"]
        (one,) = self.call("GET", f"/batches/{self.batch_id}/files")["items"]
        answer = self.sandboxes[0].invoke([self.event(one["n"], path.stat().st_size)])
        while answer["waiting"]:
            answer = self.sandboxes[0].invoke([])
            if self.call("GET", f"/batches/{self.batch_id}")["final"]:
                return

    def counted(self) -> int:
        found = self.call("GET", f"/batches/{self.batch_id}")
        studies = self.call("GET", f"/batches/{self.batch_id}/studies")["items"]
        if not found["final"] or sum(one["instances"] for one in studies) != found["succeeded"]:
            raise RuntimeError(f"the counts are wrong: {found}")
        return int(found["succeeded"])


@contextmanager
def ours(folder: Path) -> Iterator[Side]:
    caller = {"name": "bench", "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    config = {
        "data": str(folder / "s3"),
        "callers": [{**caller, "allow": [{"actions": ["s3:*"], "resources": ["*"]}]}],
        "buckets": [{"name": name, "versioned": use == "store"} for use, name in BUCKETS.items()],
    }
    (folder / "s3.json").write_text(json.dumps(config))
    with child([sys.executable, "-m", "heavylift_local.s3", "--config", str(folder / "s3.json")]) as server:
        assert server.stdout
        s3 = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        told = {"s3": s3, "buckets": BUCKETS, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        told["log"] = str(folder / "functions.log")
        command = [sys.executable, str(Path(__file__).with_name("dicom_functions.py")), json.dumps(told)]
        with child(command, stdin=subprocess.PIPE) as functions:
            assert functions.stdout
            line = functions.stdout.readline()
            if not line:
                raise SystemExit((folder / "functions.log").read_text()[-2000:])
            one = Ours(s3, json.loads(line))
            yield Side("ours", [server.pid, functions.pid], one.send, one.send_zip, one.counted)


# --- runs -------------------------------------------------------------------------------------------------------------


def cpu_s(pids: Sequence[int]) -> list[float]:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return [one.user + one.system for one in times]


def run(side: Side, files: Files, archive: Path | None) -> dict[str, Any]:
    before = cpu_s(side.pids)
    began = time.perf_counter()
    if archive is not None:
        side.send_zip(archive, files.count)
    else:
        side.send(files)
    seconds = time.perf_counter() - began
    spent = [after - start for after, start in zip(cpu_s(side.pids), before, strict=True)]
    found = side.counted()
    if found != files.count:
        raise SystemExit(f"{side.name} has {found} of {files.count} instances")
    return {
        "side": side.name,
        "files_per_s": round(files.count / seconds, 1),
        "cpu_ms_per_file": round(sum(spent) / files.count * 1000, 3),
        "cpu_ms_of_processes": [round(one / files.count * 1000, 3) for one in spent],
        "peak_mb": round(sum(peak_bytes(pid) for pid in side.pids) / 1e6, 1),
        "peaks_mb": [round(peak_bytes(pid) / 1e6, 1) for pid in side.pids],
        **side.notes,
    }


def whole_stack(files: Files, folder: Path) -> dict[str, Any]:
    """``heavylift put`` of a folder to the whole local stack, until every file has its verdict."""
    from heavylift_client import Client
    from heavylift_local.testing import running_stack

    disc = folder / "disc"
    disc.mkdir()
    for n in range(files.count):
        (disc / f"IM{n:05d}").write_bytes(b"".join(files.pieces(n)))
    with running_stack() as stack:
        began = time.perf_counter()
        with (
            Client(stack.api, stack.token(), concurrency=CONNECTIONS) as client,
            client.upload_batch(disc, kind="dicom", state_dir=folder) as batch,
        ):
            done = sum(result.line()["status"] == "completed" for result in batch)
        seconds = time.perf_counter() - began
    if done != files.count:
        raise SystemExit(f"the stack has taken {done} of {files.count} files")
    return {"side": "stack", "files_per_s": round(files.count / seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edge", type=int, default=256, help="pixels of a slice's side: 256 is 137 KB, 512 530 KB")
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zip", action="store_true")
    parser.add_argument("--stack", action="store_true")
    parser.add_argument("--only", choices=("ours", "orthanc"))
    asked = parser.parse_args()
    files = Files(asked.files, asked.edge)
    rivals = [one for one in (orthanc, ours) if asked.only in {None, one.__name__}]
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="heavylift-bench-") as place:
        archive = Path(place) / "zip" / "disc.zip" if asked.zip else None
        if archive is not None:
            archive.parent.mkdir()
            files.zipped(archive)
        for turn in range(asked.rounds):
            for start in rivals if turn % 2 == 0 else reversed(rivals):
                folder = Path(place) / f"{start.__name__}{turn}"
                folder.mkdir()
                with ExitStack() as held:
                    told = run(held.enter_context(start(folder)), files, archive)
                shutil.rmtree(folder)
                print(json.dumps({"bytes": files.size, "zip": asked.zip, **told}), flush=True)
                runs.setdefault(told["side"], []).append(told)
        if asked.stack:
            print(json.dumps({"bytes": files.size, **whole_stack(files, Path(place))}), flush=True)
    if len(runs) == 2:
        print(json.dumps(judged(asked, files, runs)))


def judged(asked: argparse.Namespace, files: Files, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of the ratios of each round, and whether the bars are met."""

    def ratio(name: str) -> float:
        pairs = zip(runs["ours"], runs["orthanc"], strict=True)
        return round(statistics.median(mine[name] / theirs[name] for mine, theirs in pairs), 3)

    speed, spent, peak = ratio("files_per_s"), ratio("cpu_ms_per_file"), ratio("peak_mb")
    if asked.zip:
        bars = {"peak": ZIP_PEAK_BAR}
        met = {"peak": peak <= ZIP_PEAK_BAR}
    else:
        bars = {"files_per_s": BARS.get(asked.edge, 1.0), "cpu": CPU_BAR, "peak": PEAK_BAR}
        met = {"files_per_s": speed >= bars["files_per_s"], "cpu": spent <= CPU_BAR, "peak": peak <= PEAK_BAR}
    return {
        "bench": "dicom_ingest",
        "bytes": files.size,
        "files": files.count,
        "zip": asked.zip,
        "ours_over_orthanc": {"files_per_s": speed, "cpu": spent, "peak": peak},
        "bars": bars,
        "met": met,
        **circumstances(),
    }


if __name__ == "__main__":
    main()
