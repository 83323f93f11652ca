"""A running stack for tests, the demo and benchmarks: the real command as a subprocess, gone at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

STOP_SECONDS_MAX = 30.0


class CallFailed(Exception):
    """An answer that is no success: ``status`` and ``body`` (decoded JSON, or text)."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body = status, body


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that is ready. Calls raise CallFailed."""

    process: subprocess.Popen[bytes]
    ready: Mapping[str, Any]

    @property
    def api(self) -> str:
        return str(self.ready["api"])

    @property
    def s3(self) -> str:
        return str(self.ready["s3"])

    @property
    def pids(self) -> dict[str, int]:
        return dict(self.ready["pids"])

    @property
    def data(self) -> Path:
        return Path(self.ready["data"])

    def token(self, tenant: str | None = "demo", user: str = "developer", scope: str | None = None) -> str:
        """A token; a tenant of None leaves the claim out, a scope of None grants all."""
        query = {"tenant": tenant or "", "user": user, **({"scope": scope} if scope is not None else {})}
        return str(self.local("GET", f"token?{urlencode(query)}")["token"])

    def faults(self, document: Mapping[str, Any]) -> None:
        """Replaces all faults; ``{}`` clears them."""
        self.local("PUT", "faults", document)

    def state(self) -> dict[str, Any]:
        return dict(self.local("GET", "state"))

    def counters(self) -> dict[str, Any]:
        return dict(self.local("GET", "counters"))

    def invoke(self, function: str, event: object) -> Any:
        """Runs a function now; its answer. CallFailed when the function itself failed."""
        return self.local("POST", f"invoke/{function}", event)

    def local(self, method: str, path: str, body: object | None = None) -> Any:
        return call(method, f"{self.api}/_local/{path}", body)

    def request(self, method: str, path: str, body: object | None = None, token: str | None = None) -> Any:
        """A call to the API with a token (the ready line's by default)."""
        return call(method, self.api + path, body, {"authorization": f"Bearer {token or self.ready['token']}"})


def call(method: str, url: str, body: object | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """A JSON call; the decoded answer. CallFailed for 4xx, 5xx and for a function's error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            content = answer.read()
            failed = answer.headers.get("x-amz-function-error")
    except urllib.error.HTTPError as error:
        raise CallFailed(error.code, _decoded(error.read())) from None
    if failed:
        raise CallFailed(200, _decoded(content))
    return _decoded(content)


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content.decode(errors="replace")


@contextmanager
def running_stack(
    data_dir: Path | None = None, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
) -> Iterator[RunningStack]:
    """``heavylift up`` on free ports. ``env`` is added to this process's environment.

    Its discovery entry goes to a folder of its own, so that stacks of parallel tests do not find each other.
    """
    with tempfile.TemporaryDirectory(prefix="heavylift-test-") as scratch:
        runtime = Path(scratch) / "run"
        runtime.mkdir(mode=0o700)
        errors = Path(scratch) / "stderr"
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), **(env or {})}
        command = [sys.executable, "-m", "heavylift_local", "up", "--json", *args]
        if data_dir is not None:
            command += ["--data", str(data_dir)]
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env=environment
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait(STOP_SECONDS_MAX)
                raise RuntimeError(f"heavylift up ended with {process.returncode}: {errors.read_text()[-3000:]}")
            yield RunningStack(process, json.loads(line))
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
