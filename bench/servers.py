"""What the benchmarks share: servers in processes of their own, parts of a file over presigned URLs, peak memory."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MIB = 1024 * 1024
PART_SIZE = 64 * MIB
CONNECTIONS = 4
ACCESS_KEY, SECRET_KEY = "bench", "bench-secret"


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
    """Send one part, the kernel copying it from the file; returns the ETag."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=300)
    with path.open("rb") as source:
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


def random_file(path: Path, mib: int) -> None:
    with path.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(MIB))


def peak_bytes(pid: int) -> int:
    """The most memory the process ever held: VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def client(endpoint: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, read_timeout=300),
    )


@contextmanager
def own_server(folder: Path) -> Iterator[tuple[str, int]]:
    """(endpoint, pid) of the local stack's S3 alone."""
    config = folder / "s3.json"
    caller = {
        "name": "bench",
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "allow": [{"actions": ["s3:*"], "resources": ["*"]}],
    }
    config.write_text(json.dumps({"data": str(folder / "data"), "callers": [caller]}))
    process = subprocess.Popen(
        [sys.executable, "-m", "heavylift_local.s3", "--config", str(config)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


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


def circumstances() -> dict[str, str]:
    """Which commit, on what, when."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
    }
