"""One child process of a function and the Runtime API endpoint that only it talks to.

A child serves one invocation at a time. The thread that invokes is also its watchdog: it looks at memory,
clock and liveness until the answer is there, and kills the child's whole family when a limit is passed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heavylift_local.runtime import processes
from heavylift_local.serving import BadBody, BodyTooLarge, Exchange, LoopbackServer

PAYLOAD_BYTES_MAX = 6 * 1024 * 1024  # synchronous response payload, AWS Lambda quotas
ASYNC_PAYLOAD_BYTES_MAX = 1024 * 1024  # asynchronous event, raised from 256 KB in 2025
POLL_FIRST_S, POLL_S = 0.005, 0.015  # how often a busy child is looked at
INIT_SECONDS_MAX = 10.0  # AWS Lambda developer guide, "Lambda execution environment lifecycle"
STORAGE_LOOK_S = 0.25  # adding up a folder costs more than looking at memory
VERSION = "$LATEST"


@dataclass(frozen=True, slots=True)
class Launch:
    """How a function's children are started."""

    name: str
    arn: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    memory_mb: int
    timeout_s: float
    log: Path
    ephemeral_mb: int = 512
    temporary: Path | None = None
    """Where each child gets a folder of its own, its /tmp; None leaves TMPDIR as it is in ``environment``."""
    init_seconds_max: float = INIT_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class Invocation:
    payload: bytes
    trace: str
    timeout_s: float
    memory_mb: int
    kill_after_s: float | None = None
    kill_at_end: bool = False
    """A kill that comes after the answer still takes it back: the work is done, nobody learns of it."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an invocation: the payload is the function's own answer, or Lambda's error object."""

    request_id: str
    ok: bool
    payload: bytes
    kind: str
    """answered, raised (by the handler), init, exit, memory, storage, timeout, killed (by a fault), too_large,
    throttled"""
    duration_ms: float = 0.0
    peak_bytes: int = 0


def error_payload(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


class _RuntimeApi(Exchange):
    """/2018-06-01/runtime of one child; the server carries it as ``child``."""

    timeout = None  # the long poll for the next event may last hours

    @property
    def child(self) -> Child:
        return self.server.child  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        if self.path != "/2018-06-01/runtime/invocation/next":
            self.reply_json(404, {"errorMessage": "no such resource", "errorType": "InvalidRequest"})
            return
        invocation, deadline_ms = self.child.take_next()
        if invocation is None:
            self.close_connection = True
            return
        self.reply(
            200,
            invocation.payload,
            headers={
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": self.child.launch.arn,
                "Lambda-Runtime-Trace-Id": invocation.trace,
            },
        )

    def do_POST(self) -> None:
        prefix, _, kind = self.path.rpartition("/")
        try:
            body = self.read_body(PAYLOAD_BYTES_MAX + 1024)
        except BodyTooLarge as error:
            self.child.answered(prefix.rpartition("/")[2], False, self._too_large(error), "too_large")
            self.reply_json(413, {"errorMessage": "Request Entity Too Large", "errorType": "RequestEntityTooLarge"})
            return
        except BadBody:
            return
        if self.path == "/2018-06-01/runtime/init/error":
            self.child.init_failed(body)
        elif kind in ("response", "error") and prefix.startswith("/2018-06-01/runtime/invocation/"):
            self.child.answered(prefix.rpartition("/")[2], kind == "response", body, "raised")
        else:
            self.reply_json(404, {"errorMessage": "no such resource", "errorType": "InvalidRequest"})
            return
        self.reply_json(202, {"status": "OK"})

    @staticmethod
    def _too_large(error: BodyTooLarge) -> bytes:
        return error_payload(
            "Function.ResponseSizeTooLarge",
            f"Response payload size ({error.args[0]} bytes) exceeded maximum allowed payload size "
            f"({PAYLOAD_BYTES_MAX} bytes).",
        )


class Child:
    """A started process; ``wait_ready``, then any number of ``invoke``, then ``close``."""

    def __init__(self, launch: Launch, census: processes.Census) -> None:
        self.launch = launch
        self.idle_since = time.monotonic()
        self._census = census
        self._condition = threading.Condition()
        self._next: Invocation | None = None
        self._deadline_ms = 0
        self._asked = False  # the runtime asked for its first event: initialisation is over
        self._closed = False
        self._answer: tuple[str, bool, bytes, str] | None = None
        self._init_error: bytes | None = None
        self._server = LoopbackServer(_RuntimeApi)
        self._server.child = self  # type: ignore[attr-defined]
        self._server.start(f"runtime-api-{launch.name}")
        self._log = open(launch.log, "ab", buffering=0)  # noqa: SIM115 - lives as long as the child
        self._started = time.monotonic()
        self._init_ms: float | None = None
        self._ready = False
        self._last_peak = 0
        self._killed_by_fault = False
        day = time.strftime("%Y/%m/%d", time.gmtime())
        stream = f"{day}/[{VERSION}]{uuid.uuid4().hex}"
        self._folder: Path | None = None
        if launch.temporary is not None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"{launch.name}-", dir=launch.temporary))
        self._frozen = False
        self._marker = f"AWS_LAMBDA_LOG_STREAM_NAME={stream}".encode()
        self._process = subprocess.Popen(
            launch.command,
            cwd=launch.directory,
            env={
                **launch.environment,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.port}",
                "AWS_LAMBDA_LOG_STREAM_NAME": stream,
                **({"TMPDIR": str(self._folder)} if self._folder is not None else {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._closed and self._process.poll() is None

    def peak_bytes(self) -> int:
        """VmHWM of the process itself."""
        return processes.peak_bytes(self.pid)

    # Called by the Runtime API's threads.

    def take_next(self) -> tuple[Invocation | None, int]:
        with self._condition:
            self._asked = True
            self._condition.notify_all()
            if self._next is None and not self._closed:
                # It has sent its request and waits for the answer: no moment is safer.
                self._signal(signal.SIGSTOP)
                self._frozen = True
            while self._next is None and not self._closed:
                self._condition.wait()
            invocation, self._next = self._next, None
            return invocation, self._deadline_ms

    def _signal(self, number: int) -> None:
        """To the child and what it started in its own session."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # it is gone, or not yet the leader of its group

    def answered(self, request_id: str, ok: bool, payload: bytes, kind: str) -> None:
        with self._condition:
            self._answer = (request_id, ok, payload, "answered" if ok else kind)
            self._condition.notify_all()

    def init_failed(self, payload: bytes) -> None:
        with self._condition:
            self._init_error = payload
            self._condition.notify_all()

    # Called by whoever invokes.

    def wait_ready(self, memory_mb: int, seconds_max: float | None = None) -> Outcome | None:
        """None when the runtime has imported the handler and asks for work; else why it never will."""
        limit_s = self.launch.init_seconds_max if seconds_max is None else seconds_max
        until = self._started + limit_s
        while True:
            with self._condition:
                if self._asked:
                    if not self._ready:
                        self._ready = True
                        self._init_ms = (time.monotonic() - self._started) * 1000
                    return None
                self._condition.wait(POLL_S)
                if self._asked:
                    continue
                failure = self._init_error
            held = self._census.private_bytes(self.pid)
            if failure is not None:
                return Outcome("", False, failure, "init")
            if self._process.poll() is not None:
                return self._failed("", "init")
            if held > memory_mb * 1024 * 1024:
                self.kill()
                return self._failed("", "memory")
            if time.monotonic() > until:
                self.kill()
                self._write(f"INIT_REPORT Init Duration: {limit_s * 1000:.2f} ms\tPhase: init\tStatus: timeout\n")
                message = f"Task timed out after {limit_s:.2f} seconds"
                return Outcome("", False, error_payload("Sandbox.Timedout", message), "init_timeout")

    def invoke(self, invocation: Invocation) -> Outcome:
        """Runs one event to its end. After a kill the child is dead: ask ``alive``."""
        request_id = invocation.request_id
        self._write(f"START RequestId: {request_id} Version: {VERSION}\n")
        started = time.monotonic()
        deadline = started + invocation.timeout_s
        with self._condition:
            self._answer = None
            self._next = invocation
            self._deadline_ms = int((time.time() + invocation.timeout_s) * 1000)
            if self._frozen:
                self._signal(signal.SIGCONT)
                self._frozen = False
            self._condition.notify_all()
        limit_bytes = invocation.memory_mb * 1024 * 1024
        kill_at = None if invocation.kill_after_s is None else started + invocation.kill_after_s
        peak = 0
        pause = POLL_FIRST_S
        outcome: Outcome | None = None
        storage_at = started + STORAGE_LOOK_S
        while outcome is None:
            with self._condition:
                if self._answer is None:
                    self._condition.wait(pause)
                answer = self._answer
            pause = POLL_S
            if answer is not None and answer[0] == request_id:
                _, ok, payload, kind = answer
                if kill_at is not None and invocation.kill_at_end:
                    self.kill()
                    outcome = self._failed(request_id, "killed")
                else:
                    outcome = Outcome(request_id, ok, payload, kind)
                break
            now = time.monotonic()
            held = self._census.private_bytes(self.pid)
            peak = max(peak, held)
            if self._process.poll() is not None:
                # It ended by itself, but decoders that it started may live on.
                self.kill()
                outcome = self._failed(request_id, "killed" if self._killed_by_fault else "exit")
            elif held > limit_bytes:
                self.kill()
                outcome = self._failed(request_id, "memory")
            elif now >= storage_at and self._stored_bytes() > self.launch.ephemeral_mb * 1024 * 1024:
                self.kill()
                outcome = self._failed(request_id, "storage")
            elif now > deadline:
                self.kill()
                message = f"Task timed out after {invocation.timeout_s:.2f} seconds"
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
                self._write(f"{stamp}Z {request_id} {message}\n\n")
                payload = error_payload("Sandbox.Timedout", f"RequestId: {request_id} Error: {message}")
                outcome = Outcome(request_id, False, payload, "timeout")
            elif kill_at is not None and now >= kill_at:
                self.kill()
                outcome = self._failed(request_id, "killed")
            if now >= storage_at:
                storage_at = time.monotonic() + STORAGE_LOOK_S
        duration_ms = (time.monotonic() - started) * 1000
        peak = max(peak, self._last_peak if not self.alive else processes.private_bytes(self.pid))
        self._report(invocation, duration_ms, peak)
        if outcome.kind == "raised" and _is_memory_error(outcome.payload):
            # CPython does not hand the heap back after a MemoryError: the next event would fail as well.
            self.kill()
        self.idle_since = time.monotonic()
        return Outcome(request_id, outcome.ok, outcome.payload, outcome.kind, duration_ms, peak)

    def kill(self) -> None:
        """SIGKILL for the whole family; returns when all are gone."""
        self._last_peak = max(self._last_peak, processes.private_bytes(self.pid))
        processes.kill_family(self.pid, self._marker)
        self._process.wait()

    def kill_by_fault(self) -> None:
        """As ``kill``, called by another thread than the one that invokes."""
        self._killed_by_fault = True
        self.kill()

    def close(self) -> None:
        """The end of the child, its endpoint and its log handle; may be called twice."""
        with self._condition:
            if self._closed:
                return
            self._closed = True
            self._condition.notify_all()
        if self._process.poll() is None:
            self.kill()
        self._server.stop()
        self._log.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _stored_bytes(self) -> int:
        """What lies in the child's /tmp, in blocks that are really there."""
        if self._folder is None:
            return 0
        total = 0
        for folder, _, files in os.walk(self._folder):
            for name in files:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                except OSError:
                    continue  # removed meanwhile
        return total

    def _exit_message(self) -> str:
        code = self._process.poll()
        if code is not None and code < 0:
            name = "killed" if code == -signal.SIGKILL else signal.Signals(-code).name
            return f"Runtime exited with error: signal: {name}"
        if code:
            return f"Runtime exited with error: exit status {code}"
        return "Runtime exited without providing a reason"

    def _failed(self, request_id: str, kind: str) -> Outcome:
        """The outcome of a child that is dead, as Lambda words it, in the log too."""
        message = f"RequestId: {request_id} Error: {self._exit_message()}"
        self._write(f"{message}\nRuntime.ExitError\n")
        return Outcome(request_id, False, error_payload("Runtime.ExitError", message), kind)

    def _report(self, invocation: Invocation, duration_ms: float, peak: int) -> None:
        init = ""
        if self._init_ms is not None:
            init, self._init_ms = f"\tInit Duration: {self._init_ms:.2f} ms", None
        self._write(
            f"END RequestId: {invocation.request_id}\n"
            f"REPORT RequestId: {invocation.request_id}\tDuration: {duration_ms:.2f} ms\t"
            f"Billed Duration: {int(duration_ms) + 1} ms\tMemory Size: {invocation.memory_mb} MB\t"
            f"Max Memory Used: {-(-peak // (1024 * 1024))} MB{init}\n"
        )

    def _write(self, text: str) -> None:
        """The platform's own lines, in the function's log; one write each, so lines of siblings do not mix."""
        try:
            self._log.write(text.encode())
        except ValueError:
            pass  # closed: the stack is being stopped


def _is_memory_error(payload: bytes) -> bool:
    try:
        return json.loads(payload).get("errorType") == "MemoryError"
    except (ValueError, AttributeError):
        return False
