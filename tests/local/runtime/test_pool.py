"""Functions run as in Lambda: its import path and environment, memory and time as hard limits, warm reuse."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_local import plan
from heavylift_local.runtime import processes
from heavylift_local.runtime.child import PAYLOAD_BYTES_MAX, Launch, Outcome
from heavylift_local.runtime.pool import Fault, Pool

HANDLER = """
import json, os, subprocess, sys, time
print("imported")
CALLS = 0

def handler(event, context):
    global CALLS
    CALLS += 1
    do = event.get("do")
    if do == "raise":
        raise ValueError("no good")
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(event["s"])
    if do == "memory":
        held = bytearray(event["mb"] << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(event.get("s", 0))
    if do == "memory_error":
        raise MemoryError
    if do == "decoder":
        code = "import time; b = bytearray(%d << 20); b[::4096] = b'x' * len(b[::4096]); time.sleep(60)" % event["mb"]
        decoder = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
        with open(event["pidfile"], "w") as out:
            out.write(str(decoder.pid))
        if event.get("leave"):
            os._exit(1)
        decoder.wait()
    if do == "large":
        return "x" * event["bytes"]
    if do == "subprocess":
        code = "import sys, json; print(json.dumps([sys.executable, sys.path]))"
        return json.loads(subprocess.check_output([sys.executable, "-c", code]))
    if do == "import":
        try:
            __import__(event["name"])
        except ImportError as error:
            return str(error)
        return "imported"
    return {"calls": CALLS, "pid": os.getpid(), "path": sys.path, "cwd": os.getcwd(), "environ": dict(os.environ),
            "left_ms": context.get_remaining_time_in_millis(), "memory": context.memory_limit_in_mb,
            "name": context.function_name, "arn": context.invoked_function_arn, "argv": sys.argv[1:]}
"""

Make = Callable[..., Pool]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A pool over ``HANDLER`` (or another source) with a log at tmp_path/f.log."""
    pools: list[Pool] = []

    def made(source: str = HANDLER, memory_mb: int = 128, timeout_s: float = 20, cap: int = 2) -> Pool:
        root = tmp_path / "f"
        root.mkdir(exist_ok=True)
        (root / "handler.py").write_text(source)
        packages = sysconfig.get_path("purelib")
        bootstrap = Path(processes.__file__).with_name("bootstrap.py")
        command = (sys._base_executable, "-I", "-S", "-B", str(bootstrap), "handler.handler")  # type: ignore[attr-defined]
        launch = Launch(
            "f",
            "arn:aws:lambda:us-east-1:000000000000:function:f",
            (*command, str(root), str(plan.REPOSITORY / "layers" / "heavylift" / "python"), packages),
            root,
            {
                "AWS_LAMBDA_FUNCTION_NAME": "f",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
                "PATH": "/usr/bin:/bin",
            },
            memory_mb,
            timeout_s,
            tmp_path / "f.log",
        )
        pool = Pool(launch, cap, processes.Census())
        pools.append(pool)
        return pool

    yield made
    for pool in pools:
        pool.stop()


def run(pool: Pool, **event: Any) -> Outcome:
    return pool.invoke(json.dumps(event).encode())


def answer(outcome: Outcome) -> Any:
    assert outcome.ok, outcome
    return json.loads(outcome.payload)


def gone(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is None or process.state == "Z"


def test_the_handler_sees_lambdas_world(make: Make) -> None:
    """Path order, working directory, environment and context are Lambda's; nothing of this project leaks in."""
    pool = make()
    seen = answer(run(pool))

    root = str(pool.launch.directory)
    packages = sysconfig.get_path("purelib")
    assert seen["path"][:3] == [root, str(plan.REPOSITORY / "layers" / "heavylift" / "python"), packages]
    assert not any(part.endswith(("/local", "/client")) or part == str(plan.REPOSITORY) for part in seen["path"])
    assert seen["cwd"] == root
    allowed = {"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "_X_AMZN_TRACE_ID", "LC_CTYPE"}
    assert set(seen["environ"]) - allowed == set(pool.launch.environment)
    assert (seen["name"], seen["memory"]) == ("f", "128")
    assert seen["arn"].endswith(":function:f")
    assert 0 < seen["left_ms"] <= 20_000


@pytest.mark.parametrize("name", ["heavylift_local", "heavylift_client", "infra", "tests"])
def test_the_projects_other_packages_cannot_be_imported(make: Make, name: str) -> None:
    """A function that needed one of them would fail on AWS: it fails here too."""
    assert answer(run(make(), do="import", name=name)) == f"No module named '{name}'"


def test_the_layer_and_the_runtimes_packages_can_be_imported(make: Make) -> None:
    """/opt/python holds the shared package; boto3 comes with the runtime."""
    pool = make(memory_mb=256)

    assert answer(run(pool, do="import", name="heavylift.errors")) == "imported"
    assert answer(run(pool, do="import", name="boto3")) == "imported"


def test_a_subprocess_gets_the_bare_interpreter(make: Make) -> None:
    """What a handler starts does not find this project by the virtual environment."""
    executable, path = answer(run(make(), do="subprocess"))

    assert executable == sys._base_executable  # type: ignore[attr-defined]
    assert not any(str(plan.REPOSITORY) in part for part in path)


def test_a_child_is_reused_and_logged_as_in_lambda(make: Make, tmp_path: Path) -> None:
    """One import, two invocations, START/END/REPORT around each, the name in the first environment."""
    pool = make()
    first, second = answer(run(pool)), answer(run(pool))
    log = (tmp_path / "f.log").read_text()

    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["pid"] == second["pid"] == pool.pids()[0]
    assert log.count("imported") == 1
    assert log.count("START RequestId: ") == log.count("END RequestId: ") == log.count("REPORT RequestId: ") == 2
    assert log.count("Init Duration: ") == 1
    assert "Memory Size: 128 MB\tMax Memory Used: " in log
    assert b"AWS_LAMBDA_FUNCTION_NAME=f" in processes.environment(first["pid"]).split(b"\0")


def test_an_exception_is_an_error_and_keeps_the_child(make: Make) -> None:
    """Lambda's error object; the same process takes the next event."""
    pool = make()
    before = answer(run(pool))["pid"]
    failed = run(pool, do="raise")
    after = answer(run(pool))

    assert (failed.ok, failed.kind) == (False, "raised")
    error = json.loads(failed.payload)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no good")
    assert (after["pid"], after["calls"]) == (before, 3)


def test_an_exit_is_an_error_and_the_next_event_gets_a_new_child(make: Make) -> None:
    """Runtime.ExitError in Lambda's words."""
    pool = make()
    before = answer(run(pool))["pid"]
    failed = run(pool, do="exit")

    assert json.loads(failed.payload)["errorType"] == "Runtime.ExitError"
    assert json.loads(failed.payload)["errorMessage"].endswith("Runtime exited with error: exit status 3")
    assert answer(run(pool))["pid"] != before


def test_too_much_memory_kills_the_child(make: Make) -> None:
    """The limit is the function's memory; the next event gets a new child and succeeds."""
    pool = make(memory_mb=128)
    fits = run(pool, do="memory", mb=60, s=0.1)
    failed = run(pool, do="memory", mb=400, s=20)

    assert fits.ok
    assert fits.peak_bytes >= 60 << 20
    assert failed.kind == "memory"
    assert json.loads(failed.payload)["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert run(pool).ok


def test_a_decoder_in_its_own_session_counts_and_dies_too(make: Make, tmp_path: Path) -> None:
    """Memory held by what a handler started, wherever it hides in the process tree, is the function's memory."""
    pool = make(memory_mb=128)
    pidfile = tmp_path / "pid"
    failed = run(pool, do="decoder", mb=300, pidfile=str(pidfile))

    assert failed.kind == "memory"
    assert gone(int(pidfile.read_text()))


def test_an_orphan_decoder_does_not_outlive_its_function(make: Make, tmp_path: Path) -> None:
    """The handler's process ends by itself; what it left behind is found and killed."""
    pidfile = tmp_path / "pid"
    failed = run(make(), do="decoder", mb=1, pidfile=str(pidfile), leave=True)

    assert failed.kind == "exit"
    assert gone(int(pidfile.read_text()))


def test_a_timeout_kills_the_child_and_its_decoder(make: Make, tmp_path: Path) -> None:
    """Lambda's sentence, in the answer and in the log."""
    pool = make(timeout_s=0.8)
    pidfile = tmp_path / "pid"
    failed = run(pool, do="decoder", mb=1, pidfile=str(pidfile))

    assert failed.kind == "timeout"
    assert json.loads(failed.payload)["errorMessage"].endswith("Task timed out after 0.80 seconds")
    assert "Task timed out after 0.80 seconds" in (tmp_path / "f.log").read_text()
    assert gone(int(pidfile.read_text()))
    assert run(pool).ok


def test_a_memory_error_costs_the_child(make: Make) -> None:
    """CPython keeps the heap after a MemoryError, so the child is not used again."""
    pool = make()
    before = answer(run(pool))["pid"]
    failed = run(pool, do="memory_error")

    assert json.loads(failed.payload)["errorType"] == "MemoryError"
    assert answer(run(pool))["pid"] != before


def test_an_answer_over_6_mb_is_refused(make: Make) -> None:
    """Function.ResponseSizeTooLarge; up to the limit it passes."""
    pool = make(memory_mb=512)
    passed = run(pool, do="large", bytes=PAYLOAD_BYTES_MAX - 2)
    failed = run(pool, do="large", bytes=PAYLOAD_BYTES_MAX + 2000)

    assert passed.ok
    assert json.loads(failed.payload)["errorType"] == "Function.ResponseSizeTooLarge"
    assert run(pool).ok


def test_a_handler_that_does_not_import_says_why(make: Make) -> None:
    """The runtime's own error, each time, until it is mended."""
    pool = make("import nonexistent_module")
    first, second = run(pool), run(pool)

    assert (first.kind, second.kind) == ("init", "init")
    assert json.loads(first.payload)["errorType"] == "Runtime.ImportModuleError"
    assert "nonexistent_module" in json.loads(second.payload)["errorMessage"]
    assert pool.pids() == []


def test_children_run_side_by_side_up_to_the_cap(make: Make) -> None:
    """Two at once, the third waits for one of them; without patience it is throttled."""
    pool = make(cap=2)
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(run(pool, do="sleep", s=1.0))) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(pool.pids()) < 2:
        time.sleep(0.01)
    throttled = pool.invoke(b"{}", wait_seconds=0.01)
    waited = run(pool)
    for thread in threads:
        thread.join()

    assert [outcome.ok for outcome in outcomes] == [True, True]
    assert throttled.kind == "throttled"
    assert waited.ok
    assert len(pool.pids()) == 2


def test_faults_kill_starve_and_hurry(make: Make) -> None:
    """Each knob has its effect, and is gone when it is cleared."""
    pool = make()
    answer(run(pool))
    pool.fault = Fault(kill=1.0)
    killed = run(pool, do="sleep", s=5)
    pool.fault = Fault(kill_after_ms=20)
    killed_later = run(pool, do="sleep", s=5)
    pool.fault = Fault(timeout_s=0.2)
    timed_out = run(pool, do="sleep", s=5)
    pool.fault = Fault(memory_mb=1)
    starved = run(pool, do="sleep", s=5)
    pool.fault = Fault()

    kinds = [outcome.kind for outcome in (killed, killed_later, timed_out, starved)]
    assert kinds == ["killed", "killed", "timeout", "memory"]
    assert run(pool).ok


def test_a_kill_may_take_back_the_answer(make: Make) -> None:
    """With probability one not even the quickest invocation is answered, though its work is done."""
    pool = make()
    answer(run(pool))
    pool.fault = Fault(kill=1.0)

    assert {run(pool).kind for _ in range(5)} == {"killed"}


def test_kills_come_as_often_as_asked_and_repeatably(make: Make) -> None:
    """The same seed kills the same invocations."""
    pool = make()
    pool.fault = Fault(kill=0.5)

    def kinds(seed: int) -> list[str]:
        pool.reseed(seed)
        return [run(pool).kind for _ in range(8)]

    first = kinds(4)
    assert {"killed", "answered"} == set(first)
    assert kinds(4) == first


def test_stop_leaves_no_process(make: Make) -> None:
    """Busy or idle, every child is gone when stop returns."""
    pool = make()
    answer(run(pool))
    thread = threading.Thread(target=lambda: run(pool, do="sleep", s=30))
    thread.start()
    time.sleep(0.1)
    pids = pool.pids()
    pool.stop()
    thread.join(10)

    assert pids
    assert all(gone(pid) for pid in pids)
    assert not thread.is_alive()


def test_idle_children_are_reaped_after_a_while(make: Make) -> None:
    """Kept for long, not for ever."""
    pool = make()
    pid = answer(run(pool))["pid"]
    pool.reap(3600)
    kept = pool.pids()
    pool.reap(0)

    assert kept == [pid]
    assert pool.pids() == []
    assert gone(pid)


def test_peak_memory_can_be_read_from_outside(make: Make) -> None:
    """VmHWM of the child, after its work."""
    pool = make(memory_mb=256)
    pid = answer(run(pool))["pid"]
    run(pool, do="memory", mb=100)

    assert processes.peak_bytes(pid) >= 100 << 20
    assert pool.state()["memory_peak_bytes"] >= 100 << 20  # type: ignore[operator]
    assert os.getpid() != pid
