"""The guard ends what carries its mark, and only that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift_local import guard
from heavylift_local.runtime import processes

SLEEP = "import time; time.sleep(600)"
# A process that shrugs off SIGTERM and has a child without the mark.
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], env={{}}, start_new_session=True);"
    "print(child.pid, flush=True); time.sleep(600)"
)


def gone(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is None or process.state == "Z"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    all_started: list[subprocess.Popen[bytes]] = []
    yield all_started
    for process in all_started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_marked_processes_and_all_below_them_end(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Also one that stands still, one that ignores SIGTERM, and its child with an empty environment elsewhere."""
    mark = f"MARK={tmp_path}"
    marked = {**os.environ, "MARK": str(tmp_path)}
    plain = subprocess.Popen([sys.executable, "-c", SLEEP], env=marked)
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], env=marked, stdout=subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, "MARK": f"{tmp_path}x"})
    below = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, "MARK": f"{tmp_path}/below"})
    started += [plain, stubborn, other, below]
    below.send_signal(signal.SIGSTOP)
    assert stubborn.stdout is not None
    child = int(stubborn.stdout.readline())

    guard.sweep(mark.encode(), grace_s=0.3)

    assert gone(plain.pid)
    assert gone(below.pid)
    assert gone(stubborn.pid)
    assert gone(child)
    assert not gone(other.pid)


def test_the_guard_waits_for_the_end_of_its_input_and_cleans_up(tmp_path: Path) -> None:
    """While the pipe is open nothing happens; then files and folders go."""
    folder, file = tmp_path / "folder", tmp_path / "file"
    (folder / "deep").mkdir(parents=True)
    file.write_text("x")
    command = [sys.executable, "-I", "-S", guard.__file__, f"MARK={tmp_path}"]
    process = subprocess.Popen(
        [*command, "--remove", str(folder), "--unlink", str(file), "--unlink", str(tmp_path / "absent")],
        stdin=subprocess.PIPE,
    )
    time.sleep(0.3)
    before = process.poll(), folder.exists(), file.exists()
    process.communicate(timeout=30)

    assert before == (None, True, True)
    assert (process.returncode, folder.exists(), file.exists()) == (0, False, False)
