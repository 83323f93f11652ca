"""Starting, serving and ending the decoding child. The only module of this package that touches processes.

``subprocess`` with pipes, because Lambda has no /dev/shm and so no multiprocessing. The child gets no credentials,
its own session, and is killed by its own group's id.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from heavylift.errors import ContentError, RequestError, TransientError
from heavylift.image.channel import FRAME_BYTES_MAX, HEADER, decode_ranges
from heavylift.image.prefetch import CONNECTIONS, IN_FLIGHT_BYTES, Prefetcher
from heavylift.ranges import Fetch

BOOT: Final = (
    "import json,sys;sys.path[:]=json.loads(sys.argv[1]);"
    "from importlib import import_module;import_module(sys.argv[2]).main()"
)
RENDER: Final = "heavylift.image.render"
# Nothing of the parent's environment but what loading libraries needs. The function's name is kept so that the
# child's memory can be told from outside as that function's; it opens nothing.
KEPT_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "AWS_LAMBDA_FUNCTION_NAME")
# glibc: bands are freed and taken again all the time; from the heap that costs nothing, by mmap every page faults
# anew (2 GB TIFF: 0.08 s of system time against 1.15 s, the same peak). 32 MiB is the largest threshold it takes.
ALLOCATOR: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",  # numpy's: threads that nobody needs cost half of its import
}
PIPE_BYTES: Final = 1 << 20  # Linux's limit for ordinary users; the default of 64 KiB means many wake-ups
POLL_SECONDS: Final = 0.25  # how often the remaining time is looked at
STDERR_BYTES_KEPT: Final = 4096
_F_SETPIPE_SZ: Final = 1031


@dataclass(slots=True)
class Outcome:
    """What a child sent back."""

    facts: dict[str, Any] | None = None
    decision: dict[str, Any] | None = None
    thumbnails: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    memory_peak_bytes: int = 0
    ms: int = 0
    flaw: ContentError | None = None  # what is broken beside the picture
    checkpoint: bytearray = field(default_factory=bytearray)
    paused_at: int | None = None  # rows that are done, where the work is not


def child_environment(environment: dict[str, str]) -> dict[str, str]:
    kept = {name: environment[name] for name in KEPT_ENVIRONMENT if name in environment}
    return kept | ALLOCATOR


def search_path() -> list[str]:
    """This process's module path, usable from any folder."""
    return [os.path.abspath(entry) for entry in sys.path]


class Child:
    """A decoding child; a context manager that leaves no process behind.

    ``checkpoint``: sent behind the job, where there is one. ``entry``: the module whose ``main`` it runs.
    ``pass_fds``: descriptors that it inherits. ``take``: gets what it makes piece by piece, in place of the outcome.
    """

    def __init__(
        self,
        job: dict[str, Any],
        fetch: Fetch,
        seconds_left: Callable[[], float],
        *,
        checkpoint: bytes | memoryview = b"",
        entry: str = RENDER,
        pass_fds: tuple[int, ...] = (),
        connections: int = CONNECTIONS,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
        take: Callable[[dict[str, Any], bytes], None] | None = None,
    ) -> None:
        self._seconds_left = seconds_left
        self._take = take
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", BOOT, json.dumps(search_path()), entry],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=child_environment(dict(os.environ)),
            cwd="/",
            start_new_session=True,
            pass_fds=pass_fds,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        self._enlarge_pipe()
        self._write_lock = threading.Lock()
        self._stderr = b""
        self._prefetcher = Prefetcher(
            fetch, self._send_data, self.kill, connections=connections, in_flight_bytes=in_flight_bytes
        )
        self._out_of_time = False
        try:
            self._send(b"J", json.dumps(job | {"parent": os.getpid()}).encode())
            if checkpoint:
                self._send(b"K", checkpoint)
        except OSError:
            pass  # it ended already; serve() finds out why

    def _enlarge_pipe(self) -> None:
        import fcntl

        for fd in (self._in,):
            try:
                fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                pass  # not allowed here; slower, not wrong

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        self._prefetcher.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                pass

    def kill(self) -> None:
        """End the child and whatever it may have started, by its own group."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()

    def _send(self, kind: bytes, payload: bytes | memoryview) -> None:
        with self._write_lock:
            for part in (HEADER.pack(kind, len(payload)), payload):
                view = memoryview(part)
                while view:
                    view = view[os.write(self._in, view) :]

    def _send_data(self, data: bytes) -> None:
        self._send(b"D", data)

    # --- serving

    def serve(self) -> Outcome:
        """Answer the child's questions until it is done. Raises ContentError or TransientError as it ended."""
        outcome = Outcome()
        buffer = bytearray()
        done = False
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            selector.register(self._err, selectors.EVENT_READ)
            open_pipes = 2
            while open_pipes:
                left = self._seconds_left()
                if left <= 0 and not done:
                    self._out_of_time = True
                    self.kill()
                events = selector.select(min(POLL_SECONDS, max(0.01, left)))
                for key, _ in events:
                    piece = os.read(key.fd, 1 << 16)
                    if not piece:
                        selector.unregister(key.fd)
                        open_pipes -= 1
                    elif key.fd == self._err:
                        self._stderr = (self._stderr + piece)[-STDERR_BYTES_KEPT:]
                    else:
                        buffer += piece
                        done = self._frames(buffer, outcome) or done
        self._process.wait()
        if not done:
            raise self._end(outcome)
        return outcome

    def _frames(self, buffer: bytearray, outcome: Outcome) -> bool:
        """Take whole frames off the buffer; True after the last."""
        while len(buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(buffer)
            if length > FRAME_BYTES_MAX:
                raise RuntimeError(f"the decoding child sent a frame of {length} bytes")
            if len(buffer) < HEADER.size + length:
                break
            payload = bytes(memoryview(buffer)[HEADER.size : HEADER.size + length])
            del buffer[: HEADER.size + length]
            if kind == b"R":
                self._prefetcher.ask(decode_ranges(payload))
            elif kind == b"F":
                told = json.loads(payload)
                outcome.facts, outcome.decision = told["facts"], told["decision"]
            elif kind == b"T":
                head_length = int.from_bytes(payload[:4], "big")
                head = json.loads(payload[4 : 4 + head_length])
                if self._take is not None:
                    self._take(head, payload[4 + head_length :])
                else:
                    outcome.thumbnails.append((head, payload[4 + head_length :]))
            elif kind == b"Z":
                told = json.loads(payload)
                outcome.memory_peak_bytes, outcome.ms = told["memory_peak_bytes"], told["ms"]
                flaw = told.get("flaw")
                outcome.flaw = ContentError(flaw["code"], flaw["message"], **flaw["facts"]) if flaw else None
                return True
            elif kind == b"C":
                outcome.checkpoint += payload
            elif kind == b"P":
                told = json.loads(payload)
                outcome.memory_peak_bytes, outcome.paused_at = told["memory_peak_bytes"], told["done"]
                return True
            elif kind == b"X":
                raise self._told_error(json.loads(payload), outcome)
            else:
                raise RuntimeError(f"the decoding child sent a frame {kind!r}")
        return False

    def _told_error(self, told: dict[str, Any], outcome: Outcome) -> Exception:
        if self._prefetcher.error is not None:
            return self._source_error()
        facts = told["facts"] | {"child_memory_peak_bytes": told["memory_peak_bytes"]}
        if outcome.facts is not None:
            facts |= {name: outcome.facts[name] for name in ("width", "height")}
        if told["type"] == "ContentError":
            return ContentError(told["code"], told["message"], **facts)
        if told["type"] == "RequestError":
            return RequestError(told["code"], told["message"], **told["facts"])
        return TransientError(told["code"], told["message"], **facts)

    def _source_error(self) -> Exception:
        error = self._prefetcher.error
        assert isinstance(error, Exception)
        return error

    def _end(self, outcome: Outcome) -> Exception:
        """Why a child ended without a last word."""
        if self._prefetcher.error is not None:
            return self._source_error()
        code = self._process.returncode
        if self._out_of_time or code == -signal.SIGXCPU:
            return TransientError("out_of_time", "decoding was stopped before the deadline")
        if code == -signal.SIGKILL:
            return TransientError("out_of_memory", "the decoder was killed", signal=int(signal.SIGKILL))
        if code < 0:
            name = signal.Signals(-code).name
            return ContentError("corrupt", f"the decoder crashed on this file ({name})", signal=-code)
        tail = self._stderr.decode("utf-8", "replace").strip()
        return RuntimeError(f"the decoding child ended with status {code}: {tail[-1000:]}")
