"""The two servers that run in processes of their own, S3 and the tables: start, wait, start again, stop."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heavylift_local.plan import write_private

READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 5.0
RESTARTS_MAX, RESTART_WINDOW_S = 20, 60.0  # more deaths than this in a minute is a fault, not an accident

logger = logging.getLogger(__name__)


class WorkerError(Exception):
    """A server does not start, or keeps dying."""


class Worker:
    """``python -m MODULE --config FILE``, which prints one JSON line with its port when it serves.

    When it dies it is started again on the same port: both servers keep everything on disk.
    """

    def __init__(self, name: str, module: str, config: Mapping[str, Any], folder: Path, environment: Mapping[str, str]):
        self.name, self._module = name, module
        self._config = dict(config)
        self._config_path = folder / "config" / f"{name}.json"
        self._log_path = folder / "logs" / f"{name}.log"
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._deaths: list[float] = []
        self.failed = threading.Event()
        self.port = 0
        self.ports: dict[str, int] = {}
        """Further ports by name, where a server has them."""

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Starts the process and returns at once."""
        write_private(self._config_path, self._config)
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-m", self._module, "--config", str(self._config_path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Returns when the server serves; raises WorkerError."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = _read_line(self._process.stdout.fileno(), READY_SECONDS_MAX)
        try:
            ready = json.loads(line)
            self.port = int(ready["port"])
            self.ports = dict(ready.get("ports") or {})
        except (ValueError, KeyError, TypeError):
            tail = self._log_path.read_bytes()[-2000:].decode(errors="replace")
            raise WorkerError(f"{self.name} did not start: {tail or line!r}") from None
        self._config["port"] = self.port
        if self.ports:
            self._config["own_ports"] = self.ports

    def watch(self) -> None:
        """Keeps the server alive from now on; ``failed`` is set when that is hopeless."""
        threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True).start()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            assert self._process is not None
            code = self._process.wait()
            if self._stopping.is_set():
                return
            now = time.monotonic()
            self._deaths = [moment for moment in self._deaths if now - moment < RESTART_WINDOW_S] + [now]
            logger.error("%s ended with %s; starting it again", self.name, code)
            if len(self._deaths) > RESTARTS_MAX:
                self.failed.set()
                return
            self._close_pipe()
            try:
                self.launch()
                self.wait_ready()
            except WorkerError as error:
                logger.error("%s", error)
                if self._process is not None:
                    self._process.kill()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when the process is gone."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                logger.warning("%s does not stop; killing it", self.name)
                process.kill()
                process.wait()
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()


def _read_line(descriptor: int, seconds_max: float) -> bytes:
    """The first line from a pipe, or what came before its end or the time ran out."""
    until = time.monotonic() + seconds_max
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while b"\n" not in data:
            remaining = until - time.monotonic()
            if remaining <= 0 or not selector.select(remaining):
                break
            part = os.read(descriptor, 4096)
            if not part:
                break
            data += part
    return data.partition(b"\n")[0]
