"""LocalStack's S3 as a second server for the same suite, in an environment of its own (requirements/localstack.lock).

Its web server listens on every interface whatever it is told, so one line of the installed copy is changed before the
first start (`python -m tests.conformance.localstack patch VENV`), and a started server that listens anywhere but on
the loopback interface is stopped at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-localstack"
READY_SECONDS = 120  # 10 s on an idle machine
AS_SHIPPED = "endpoints.TCP4ServerEndpoint(reactor, host_and_port.port)"
ON_LOOPBACK = "endpoints.TCP4ServerEndpoint(reactor, host_and_port.port, interface=host_and_port.host)"


def patch(venv: Path) -> None:
    """Make the installed server honour the host it is given. Raises RuntimeError when it is not the known release."""
    found = list(venv.glob("lib/python*/site-packages/localstack/runtime/server/twisted.py"))
    if len(found) != 1:
        raise RuntimeError(f"no LocalStack in {venv}")
    text = found[0].read_text(encoding="utf-8")
    if ON_LOOPBACK in text:
        return
    if text.count(AS_SHIPPED) != 1:
        raise RuntimeError(f"{found[0]} is not the file that this patch knows")
    found[0].write_text(text.replace(AS_SHIPPED, ON_LOOPBACK), encoding="utf-8")


def listening(pid: int) -> set[str]:
    """Addresses that *pid* or a child of it accepts connections on."""
    process = psutil.Process(pid)
    found = set()
    for one in (process, *process.children(recursive=True)):
        found |= {c.laddr.ip for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/_localstack/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(directory: Path, venv: Path = VENV) -> Iterator[tuple[str, int]]:
    """(endpoint, pid) of a LocalStack with S3 alone and its data under *directory*.

    Raises RuntimeError when it does not start, or listens on anything but 127.0.0.1 (it is stopped then).
    """
    port = _free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "SERVICES": "s3",
        "EAGER_SERVICE_LOADING": "0",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_VOLUME_DIR": str(directory / "volume"),
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "SKIP_INFRA_DOWNLOADS": "1",
        "DNS_ADDRESS": "0",
        "S3_SKIP_SIGNATURE_VALIDATION": "0",
    }
    endpoint = f"http://127.0.0.1:{port}"
    log = (directory / "localstack.log").open("wb")
    process = subprocess.Popen(
        [str(venv / "bin/python"), "-m", "localstack.runtime.main"],
        env=environment,
        cwd=directory,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        addresses: set[str] = set()
        while not addresses or not _ready(endpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"LocalStack did not start: {(directory / 'localstack.log').read_text()[-2000:]}")
            addresses = listening(process.pid)
            if addresses - {"127.0.0.1"}:
                raise RuntimeError(f"LocalStack listens on {addresses}: not on the loopback interface alone")
            time.sleep(0.05)
        yield endpoint, process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def run_with(command: list[str]) -> int:
    """Run *command* while a LocalStack is up, its ``{endpoint}`` filled in, with credentials that LocalStack takes."""
    with tempfile.TemporaryDirectory(prefix="heavylift-localstack-") as folder, running(Path(folder)) as (endpoint, _):
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        filled = [word.replace("{endpoint}", endpoint) for word in command]
        return subprocess.run(filled, env={**os.environ, **keys}, check=False).returncode


if __name__ == "__main__":
    if sys.argv[1] == "patch":
        patch(Path(sys.argv[2]))
    else:
        sys.exit(run_with(sys.argv[2:]))
