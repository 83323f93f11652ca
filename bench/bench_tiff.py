"""Large TIFFs to thumbnails: the reducer against vipsthumbnail, pyvips and Pillow, on local files and over S3.

Per picture and round, each in a process of its own, interleaved. ``ours`` is the function's way (a reading parent and
a decoding child), ``reducer`` the same code in one process on the file with the child's allocator settings; both make
256, 512 and 1200 px. vipsthumbnail and pyvips make the 1200 px alone, Pillow too, by ``thumbnail``. pyvips is left out
unless --pyvips names a Python that has it; vipsthumbnail, and pictures in tiles, unless libvips is on the path.

``--s3`` reads from the local stack's S3 through a proxy that adds --latency-ms to every request and lets each
connection have --connection-mb-s: ours over ranges, the rival by boto3's parallel download (--rival-connections) to a
file and vipsthumbnail of it.

    python bench/bench_tiff.py [--pictures strips,deflate-tiles,...] [--rounds 3] [--megabytes 2000] [--s3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench_raw import command, server
from PIL import Image
from servers import ACCESS_KEY, SECRET_KEY, circumstances

from heavylift.image.child import ALLOCATOR

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MIB = 1 << 20
OURS = """
import json, os, resource, sys, time
started = time.monotonic()
from heavylift.image.render import peak_bytes
from heavylift.image.thumbnails import ThumbnailOptions, make_thumbnails
from heavylift.ranges import drive
from heavylift.sniff import detect
where, threads = sys.argv[1], int(sys.argv[2])
if where == "s3":
    from heavylift import s3
    source = s3.ObjectSource("bench", sys.argv[3], int(sys.argv[4]), sys.argv[5])
else:
    class Source:
        def __init__(self, path):
            self.fd = os.open(path, os.O_RDONLY)
            self.size_bytes = os.fstat(self.fd).st_size
            self.bytes = self.requests = 0
        def read(self, offset, length):
            self.bytes += length
            self.requests += 1
            return os.pread(self.fd, length, offset)
    source = Source(sys.argv[3])
found = drive(detect(source.size_bytes), source.read)
made = make_thumbnails(source, found, ThumbnailOptions(), lambda: 3600.0)
assert len(made.thumbnails) == 3
if len(sys.argv) > 6:
    open(sys.argv[6], "wb").write(made.thumbnails[2].jpeg)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
traffic = getattr(source, "traffic", None)
print(json.dumps({"seconds": time.monotonic() - started, "cpu_s": sum(u.ru_utime + u.ru_stime for u in used),
    "peak_mb": peak_bytes() / 2**20, "child_peak_mb": made.child_memory_peak_bytes / 2**20,
    "method": made.decision.method, "requests": traffic.requests if traffic else source.requests,
    "bytes_read": traffic.bytes_in if traffic else source.bytes}))
"""
REDUCER = """
import json, resource, sys, time
started = time.monotonic()
from heavylift.image.facts import read_tiff
from heavylift.image.finish import finish
from heavylift.image.render import peak_bytes
from heavylift.image.sources import LocalSource
from heavylift.ranges import drive
from heavylift.sniff import detect
from heavylift.tiff.bands import choose_shrink, fit_within
from heavylift.tiff.layout import choose_level, read_chunks
from heavylift.tiff.reducer import reduce_tiff
import os
file = open(sys.argv[1], "rb", buffering=0)
size = os.fstat(file.fileno()).st_size
source = LocalSource(file, size)
found = drive(detect(size), source.fetch)
structure = drive(read_tiff(found, size), source.fetch)
level = drive(choose_level(structure.main, structure.directories, 1200, size), source.fetch)
chunks = drive(read_chunks(level, size), source.fetch)
out = fit_within(level.width, level.height, 1200)
image = reduce_tiff(source, level, chunks, choose_shrink(level, *out), out)
made = finish(image, full_size=(level.width, level.height), orientation=1, icc_profile=None,
    sizes=(256, 512, 1200), quality=85, pad_color=None)
open(sys.argv[2], "wb").write(made[2].jpeg)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.monotonic() - started, "cpu_s": used.ru_utime + used.ru_stime,
    "peak_mb": peak_bytes() / 2**20}))
"""
PILLOW = """
import json, resource, sys, time
started = time.monotonic()
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
image = Image.open(sys.argv[1])
image.thumbnail((1200, 1200), Image.Resampling.LANCZOS)
image.convert("RGB").save(sys.argv[2], "JPEG", quality=85)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.monotonic() - started, "cpu_s": used.ru_utime + used.ru_stime,
    "peak_mb": int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024}))
"""
PYVIPS = """
import json, os, resource, sys, time
started = time.monotonic()
import pyvips
pyvips.cache_set_max(0)
image = pyvips.Image.thumbnail(sys.argv[1], 1200)
image.write_to_file(sys.argv[2] + "[Q=85]")
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.monotonic() - started, "cpu_s": used.ru_utime + used.ru_stime,
    "peak_mb": int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024}))
"""
# In a small process of its own: a peak by wait4 begins with that of the process which started the command.
WATCH = """
import json, os, subprocess, sys, time
started = time.monotonic()
child = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
if status:
    sys.exit(f"ended with {os.waitstatus_to_exitcode(status)}")
print(json.dumps({"seconds": time.monotonic() - started, "cpu_s": used.ru_utime + used.ru_stime,
    "peak_mb": used.ru_maxrss / 1024}))
"""
DOWNLOAD = """
import json, resource, subprocess, sys, tempfile, time
started = time.monotonic()
import boto3
from boto3.s3.transfer import TransferConfig
with tempfile.NamedTemporaryFile(suffix=".tif") as file:
    boto3.client("s3").download_fileobj("bench", sys.argv[1], file,
        Config=TransferConfig(max_concurrency=int(sys.argv[3])))
    file.flush()
    downloaded = time.monotonic() - started
    subprocess.run(["vipsthumbnail", file.name, "-s", "1200", "-o", sys.argv[2] + "[Q=85]"], check=True)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"seconds": time.monotonic() - started, "download_s": downloaded,
    "cpu_s": sum(u.ru_utime + u.ru_stime for u in used), "peak_mb": max(u.ru_maxrss for u in used) / 1024}))
"""


# --- pictures


def band(width: int, top: int, rows: int) -> np.ndarray:
    """Rows of a picture with waves and noise, which deflate brings to about 60 %."""
    rng = np.random.default_rng(top)
    x = np.arange(width, dtype=np.float32)[None, :, None]
    y = np.arange(top, top + rows, dtype=np.float32)[:, None, None]
    phase = np.array([0, 1.1, 2.3], np.float32)
    wave = 128 + 100 * np.sin(x / 901 + phase) * np.cos(y / 733 - phase)
    noise = rng.integers(-10, 10, (rows, width, 1), dtype=np.int16)
    return np.clip(wave + noise, 0, 255).astype(np.uint8)


PICTURES = {
    "strips": "RGB in strips, uncompressed",
    "cmyk": "CMYK in strips, uncompressed",
    "rgb16": "RGB of 16 bits in strips, uncompressed",
    "deflate-strip": "RGB in one deflate strip",
    "lzw-strip": "RGB in one LZW strip",
    "deflate-tiles": "RGB in deflate tiles",
    "lzw-tiles": "RGB in LZW tiles",
    "jpeg-tiles": "RGB in JPEG tiles",
    "pyramid": "RGB in a pyramid of JPEG tiles",
}
NEED_VIPS = frozenset({"deflate-tiles", "lzw-tiles", "jpeg-tiles", "pyramid"})


def write(name: str, path: Path, megabytes: int) -> None:
    """A picture of about so many megabytes before compression. Coded ones are made by vips from an uncompressed one."""
    import tifffile

    kind = name if name in ("strips", "cmyk", "rgb16") else "strips"
    pixel = {"strips": 3, "cmyk": 4, "rgb16": 6}[kind]
    side = int((megabytes * 1e6 / pixel) ** 0.5)
    width, height = (side * 4 // 3, side * 3 // 4) if name in ("strips", "cmyk", "rgb16") else (side, side)
    samples = 4 if kind == "cmyk" else 3

    def strips() -> Iterator[np.ndarray]:
        for top in range(0, height, 128):
            rows = band(width, top, min(128, height - top))
            if kind == "cmyk":
                rows = np.concatenate([255 - rows, rows[:, :, :1] // 4], axis=2)
            yield rows.astype(np.uint16) * 257 if kind == "rgb16" else rows

    target = path if kind == name else path.with_suffix(".raw.tif")
    tifffile.imwrite(
        target,
        strips(),
        shape=(height, width, samples),
        dtype=np.uint16 if kind == "rgb16" else np.uint8,
        photometric="separated" if kind == "cmyk" else "rgb",
        rowsperstrip=128,
        bigtiff=megabytes > 4000,
    )
    if kind == name:
        return
    if name.endswith("-strip"):
        _one_strip(name, target, path)
    else:
        options = {
            "deflate-tiles": "compression=deflate,predictor=horizontal,tile,tile-width=256,tile-height=256",
            "lzw-tiles": "compression=lzw,predictor=horizontal,tile,tile-width=256,tile-height=256",
            "jpeg-tiles": "compression=jpeg,Q=85,tile,tile-width=256,tile-height=256",
            "pyramid": "compression=jpeg,Q=85,tile,tile-width=256,tile-height=256,pyramid",
        }[name]
        subprocess.run(["vips", "copy", str(target), f"{path}[{options},bigtiff]"], check=True)
    target.unlink()


def _one_strip(name: str, source: Path, path: Path) -> None:
    """One strip for the whole image: by Pillow for LZW, by a compressor fed row by row for deflate."""
    Image.MAX_IMAGE_PIXELS = None
    if name == "lzw-strip":
        with Image.open(source) as image:
            image.save(path, compression="tiff_lzw", tiffinfo={278: image.height})
        return
    import zlib

    import tifffile

    from tests.heavylift.tiff.written import Layout
    from tests.heavylift.tiff.written import write as write_fields

    with tifffile.TiffFile(source) as file:
        page = file.pages[0]
        height, width = page.shape[:2]
        coder, pieces = zlib.compressobj(6), []
        for top in range(0, height, 128):
            rows = band(width, top, min(128, height - top))
            coded = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
            pieces.append(coder.compress(np.ascontiguousarray(coded)))
        pieces.append(coder.flush())
    shape = np.broadcast_to(np.uint8(0), (height, width, 3))
    layout = Layout(photometric=2, compression="deflate", predictor=2, rows=height)
    path.write_bytes(write_fields(shape, layout, [b"".join(pieces)]))


# --- running


def run(arguments: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else done.returncode}
    result: dict[str, Any] = json.loads(done.stdout)
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}


def run_vipsthumbnail(path: Path, out: Path, threads: int) -> dict[str, Any]:
    """The command itself, watched from outside."""
    environment = {**os.environ, "VIPS_CONCURRENCY": str(threads)}
    command_line = ["vipsthumbnail", str(path), "-s", "1200", "-o", f"{out}[Q=85]"]
    return run([sys.executable, "-I", "-S", "-c", WATCH, *command_line], environment)


class SlowProxy:
    """A TCP proxy to a server: each connection has ``rate`` bytes a second towards the client."""

    def __init__(self, port: int, rate: float) -> None:
        self._target, self._rate = port, rate
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, self._rate), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, rate: float | None) -> None:
        buffer, ready_at = bytearray(256 << 10), time.monotonic()
        view = memoryview(buffer)
        try:
            while got := source.recv_into(buffer):
                target.sendall(view[:got])
                if rate:
                    ready_at = max(ready_at, time.monotonic() - 0.005) + got / rate
                    time.sleep(max(0.0, ready_at - time.monotonic()))
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._socket.close()


@contextmanager
def slow_server(folder: Path, latency_ms: float, rate: float) -> Iterator[tuple[str, str]]:
    """(endpoint for commands, slow endpoint for clients). The proxy is a process of its own."""
    with server(folder) as endpoint:
        command(endpoint, "PUT", "faults", {"latency_ms": {"GetObject": latency_ms}})
        port = int(endpoint.rsplit(":", 1)[1])
        proxy = subprocess.Popen(
            [sys.executable, __file__, "--proxy", f"{port},{rate}"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert proxy.stdout is not None
            yield endpoint, f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait()


def local(arguments: argparse.Namespace, name: str, path: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    out = folder / "out.jpg"
    yield "ours", run([sys.executable, "-c", OURS, "file", "1", str(path)])
    yield "reducer", run([sys.executable, "-c", REDUCER, str(path), str(out)], {**os.environ, **ALLOCATOR})
    if shutil.which("vipsthumbnail"):
        yield "vipsthumbnail", run_vipsthumbnail(path, out, arguments.threads)
    if arguments.pyvips:
        environment = {**os.environ, "VIPS_CONCURRENCY": str(arguments.threads)}
        yield "pyvips", run([arguments.pyvips, "-c", PYVIPS, str(path), str(out)], environment)
    if arguments.pillow:
        yield "pillow", run([sys.executable, "-c", PILLOW, str(path), str(out)])


def over_s3(
    arguments: argparse.Namespace, path: Path, folder: Path, slow: str, stored: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": slow,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "thumbnail",
        "TMPDIR": str(folder),
    }
    size, etag = str(path.stat().st_size), stored["etag"].strip('"')
    yield "ours", run([sys.executable, "-c", OURS, "s3", "1", path.name, size, etag], environment)
    rival = [sys.executable, "-c", DOWNLOAD, path.name, str(folder / "out.jpg"), str(arguments.rival_connections)]
    yield "download", run(rival, environment)


def summary(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and the reducer (over S3: ours) as a part of each rival's, per round: median, least, most."""
    found: dict[str, Any] = {}
    for who, results in measured.items():
        good = [result for result in results if "failed" not in result]
        if not good:
            found[who] = results[0]
            continue
        fields = [field for field, value in good[0].items() if isinstance(value, int | float)]
        found[who] = {field: round(statistics.median(each[field] for each in good), 3) for field in fields}
        if who == "ours":
            continue
        mine = measured.get("reducer", measured["ours"])
        if who == "reducer":
            continue
        for field in ("seconds", "cpu_s", "peak_mb"):
            ratios = [a[field] / b[field] for a, b in zip(mine, results, strict=True) if "failed" not in b]
            found[f"{field}_of_{who}"] = [round(f(ratios), 3) for f in (statistics.median, min, max)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", default=",".join(PICTURES))
    parser.add_argument("--megabytes", type=int, default=2000, help="of uncompressed pictures")
    parser.add_argument("--coded-megabytes", type=int, default=1200, help="of coded ones, before coding")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of libvips; ours decodes in one")
    parser.add_argument("--pyvips", default="", help="a Python with pyvips")
    parser.add_argument("--pillow", action="store_true")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--connection-mb-s", type=float, default=50.0)
    parser.add_argument("--rival-connections", type=int, default=10)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--proxy", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.proxy:
        port, rate = arguments.proxy.split(",")
        proxy = SlowProxy(int(port), float(rate))
        print(proxy.port, flush=True)
        signal.sigwait({signal.SIGTERM})
        return
    shared = {"bench": "tiff", **circumstances()}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        for name in arguments.pictures.split(","):
            path = folder / f"{name}.tif"
            plain = name in ("strips", "cmyk", "rgb16")
            if shutil.which("vips") is None and name in NEED_VIPS:
                print(json.dumps({**shared, "picture": name, "skipped": "vips is not installed, which makes it"}))
                continue
            write(name, path, arguments.megabytes if plain else arguments.coded_megabytes)
            described = {**shared, "picture": name, "file_mb": round(path.stat().st_size / 1e6)}
            measure(arguments, described, name, path, folder)
            path.unlink()


def measure(arguments: argparse.Namespace, described: dict[str, Any], name: str, path: Path, folder: Path) -> None:
    measured: dict[str, list[dict[str, Any]]] = {}

    def note(number: int, who: str, result: dict[str, Any]) -> None:
        measured.setdefault(who, []).append(result)
        print(json.dumps({**described, "who": who, "round": number, **result}), flush=True)

    # Into the page cache, for everybody; not by this process, whose size its children's peaks would begin with.
    subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)
    if not arguments.s3:
        for number in range(arguments.rounds):
            for who, result in local(arguments, name, path, folder):
                note(number, who, result)
    else:
        data = folder / "s3"
        data.mkdir(exist_ok=True)
        with slow_server(data, arguments.latency_ms, arguments.connection_mb_s * 1e6) as (endpoint, slow):
            adopted = {
                "bucket": "bench",
                "key": path.name,
                "path": str(path),
                "content_type": "image/tiff",
                "metadata": {},
            }
            stored = command(endpoint, "POST", "adopt", adopted)
            for number in range(arguments.rounds):
                for who, result in over_s3(arguments, path, folder, slow, stored):
                    note(number, who, result)
        shutil.rmtree(data, ignore_errors=True)
    print(json.dumps({**described, "s3": arguments.s3, "summary": True, **summary(measured)}), flush=True)


if __name__ == "__main__":
    main()
