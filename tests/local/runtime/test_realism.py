"""Each trait of the runtime that can be tested: storage, freezing, initialisation, environment, limits."""

from __future__ import annotations

import ast
import json
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heavylift_local import plan
from heavylift_local.runtime import processes
from heavylift_local.runtime.child import PAYLOAD_BYTES_MAX, Launch, Outcome
from heavylift_local.runtime.pool import Pool
from heavylift_local.runtime.realism import REALISM
from heavylift_local.sources import retry_delays
from heavylift_local.stack import Stack

TESTS = Path(__file__).resolve().parents[1]
FORBIDDEN = ("multiprocessing", "concurrent.futures.process", "concurrent.futures.ProcessPoolExecutor")

HANDLER = """
import mmap, os, shutil, sqlite3, tempfile, threading, time
from pathlib import Path
TICKS = [0]

def tick():
    while True:
        TICKS[0] += 1
        time.sleep(0.005)

threading.Thread(target=tick, daemon=True).start()
HERE = Path(__file__).parent
KEPT = tempfile.mkdtemp()
Path(KEPT, "old").write_text("x")

def attempt(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0

def handler(event, context):
    do = event.get("do")
    if do == "write":
        elsewhere, tmp = event["elsewhere"], tempfile.gettempdir()
        fd = os.open(elsewhere, os.O_RDONLY)
        return {
            "inside": [
                attempt(lambda: Path(tmp, "a").write_text("x")),
                attempt(lambda: os.rename(tmp + "/a", tmp + "/b")),
                attempt(lambda: os.chmod(tmp + "/b", 0o600)),
                attempt(lambda: shutil.rmtree(KEPT)),
                attempt(lambda: open("/dev/null", "w").close()),
                attempt(lambda: open(HERE / "handler.py").close()),
                attempt(lambda: sqlite3.connect(tmp + "/db").close()),
            ],
            "outside": [
                attempt(lambda: Path(elsewhere, "a").write_text("x")),
                attempt(lambda: os.open("a", os.O_WRONLY | os.O_CREAT, dir_fd=fd)),
                attempt(lambda: open(HERE / "handler.py", "r+")),
                attempt(lambda: os.mkdir(elsewhere + "/d")),
                attempt(lambda: os.remove(elsewhere + "/there")),
                attempt(lambda: os.remove("there", dir_fd=fd)),
                attempt(lambda: os.rename(tmp + "/b", elsewhere + "/b")),
                attempt(lambda: os.symlink("x", elsewhere + "/l")),
                attempt(lambda: os.truncate(elsewhere + "/there", 0)),
                attempt(lambda: os.chmod(elsewhere + "/there", 0o777)),
                attempt(lambda: open("/tmp/heavylift-not-mine", "w")),
                attempt(lambda: shutil.rmtree(elsewhere)),
                attempt(lambda: sqlite3.connect(elsewhere + "/db")),
            ],
            "tmp": tmp,
        }
    if do == "fill":
        with open(tempfile.gettempdir() + "/large", "wb") as out:
            for _ in range(event["mb"]):
                out.write(b"x" * (1 << 20))
            out.flush()
            time.sleep(event.get("s", 0))
    if do == "data":
        held = []
        try:
            for _ in range(400):
                held.append(mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        except OSError as error:
            return [error.errno, len(held)]
    return {"ticks": TICKS[0], "pid": os.getpid(), "tmp": tempfile.gettempdir(), "environ": dict(os.environ)}
"""

Make = Callable[..., Pool]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A pool over ``HANDLER`` or another source, with a temporary folder as a stack gives it."""
    pools: list[Pool] = []

    def made(source: str = HANDLER, **more: Any) -> Pool:
        root = tmp_path / "f"
        root.mkdir(exist_ok=True)
        (root / "handler.py").write_text(source)
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        bootstrap = Path(processes.__file__).with_name("bootstrap.py")
        command = (sys._base_executable, "-I", "-S", "-B", str(bootstrap), "handler.handler")  # type: ignore[attr-defined]
        environment = {
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(scratch),
        }
        given = {"memory_mb": 128, "timeout_s": 20.0, "ephemeral_mb": 512, **more}
        launch = Launch(
            "f",
            "arn:aws:lambda:us-east-1:000000000000:function:f",
            (*command, str(root), str(plan.REPOSITORY / "layers/heavylift/python"), sysconfig.get_path("purelib")),
            root,
            environment,
            log=tmp_path / "f.log",
            temporary=scratch,
            **given,
        )
        pool = Pool(launch, 1, processes.Census())
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


def test_the_file_system_is_read_only_but_for_tmp(make: Make, tmp_path: Path) -> None:
    """EROFS for opens and changes elsewhere, also by a folder's descriptor; nothing there has changed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there").write_text("x")
    found = answer(run(make(), do="write", elsewhere=str(elsewhere)))

    assert found["inside"] == [0] * 7
    assert found["outside"] == [30] * 13  # EROFS
    assert Path(found["tmp"]).parent == tmp_path / "scratch"
    assert [path.name for path in elsewhere.iterdir()] == ["there"]
    assert (elsewhere / "there").read_text() == "x"


def test_too_much_temporary_data_kills_the_child(make: Make, tmp_path: Path) -> None:
    """Over the ephemeral storage it ends; its folder goes with it; the next event gets a new child."""
    pool = make(ephemeral_mb=8)
    fits = run(pool, do="fill", mb=4)
    before = answer(run(pool))["tmp"]
    failed = run(pool, do="fill", mb=12, s=20)

    assert fits.ok
    assert failed.kind == "storage"
    assert not Path(before).exists()
    assert answer(run(pool))["tmp"] != before
    pool.stop()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_idle_child_stands_still(make: Make) -> None:
    """Its threads do nothing between two events, its memory can be read all the while, and it goes on at the next."""
    pool = make()
    pid = answer(run(pool))["pid"]
    deadline = time.monotonic() + 10
    while (process := processes.read_process(pid)) and process.state != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process is not None
    assert process.state == "T"
    cpu = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[11:13]
    time.sleep(0.3)
    assert Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[11:13] == cpu
    assert processes.peak_bytes(pid) > 1 << 20
    again = answer(run(pool))
    assert again["pid"] == pid


def test_an_init_over_its_limit_is_tried_again_in_the_invocations_time(make: Make, tmp_path: Path) -> None:
    """The first try is cut off and logged; the second may take as long as the function's time-out."""
    slow = "import time\ntime.sleep(1.0)\ndef handler(event, context):\n    return 'there'\n"
    outcome = run(make(slow, init_seconds_max=0.2, timeout_s=30.0))
    never = run(make(slow, init_seconds_max=0.2, timeout_s=0.4))

    assert answer(outcome) == "there"
    assert not never.ok
    assert json.loads(never.payload)["errorType"] == "Sandbox.Timedout"
    assert "INIT_REPORT Init Duration: 200.00 ms\tPhase: init\tStatus: timeout" in (tmp_path / "f.log").read_text()


def test_the_data_segment_has_a_limit_of_its_own(make: Make) -> None:
    """Where the watchdog does not look (memory that is mapped and not used) RLIMIT_DATA ends it."""
    errno, mapped = answer(run(make(), do="data"))

    assert errno == 12  # ENOMEM
    assert mapped * 16 <= 128 + 512


# AWS Lambda developer guide, "Defined runtime environment variables": those of a Python function.
DOCUMENTED = {
    *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV"),
    *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
    *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
    *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API"),
    *("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LANG", "PATH", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "TZ"),
}
LEFT_OUT = {"AWS_ACCESS_KEY", "LD_LIBRARY_PATH"}  # an old alias; it would hide this machine's libraries
BY_THE_RUNTIME = {"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "_X_AMZN_TRACE_ID"}  # a child's, an event's
OURS = {
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_EVENTBRIDGE"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"),
    *("TMPDIR", "HEAVYLIFT_TIME_SCALE"),
}


def test_the_environment_is_the_documented_one(tmp_path: Path) -> None:
    """What Lambda documents, what the topology says, and a short list of our own; nothing of the developer's."""
    topology = plan.load_topology(plan.REPOSITORY / "infra" / "topology.py")
    function = topology.function("validate")
    urls = {queue.name: "http://q" for queue in topology.QUEUES}
    environment = plan.function_environment(
        topology,
        function,
        plan.Names(plan.bucket_names(topology), "t", urls),
        plan.new_key(temporary=True),
        plan.Endpoints("s3", "db", "sqs", "events"),
        {"HOME": "/root", "AWS_PROFILE": "mine", "LOG_LEVEL": "DEBUG"},
        tmp_path,
        1.0,
        tmp_path,
        tmp_path,
    )
    settings = {*topology.ENVIRONMENT, *function.environment, *topology.SETTINGS}
    settings |= set(topology.LIBRARY_ENVIRONMENT)
    powertools = {name for name in environment if name.startswith("POWERTOOLS_")}
    platform = set(environment) - settings - powertools - OURS

    assert platform == DOCUMENTED - LEFT_OUT - BY_THE_RUNTIME
    assert environment["LOG_LEVEL"] == "DEBUG"


def test_the_runtime_sets_the_rest(make: Make) -> None:
    """The endpoint, the log stream and the trace are in the handler's environment."""
    environment = answer(run(make()))["environ"]

    assert set(environment) >= BY_THE_RUNTIME


def test_nothing_needs_shared_memory() -> None:
    """No module of the layer or of a function imports what wants /dev/shm, which Lambda has not."""
    found = []
    for root in (plan.REPOSITORY / "layers" / "heavylift" / "python", plan.REPOSITORY / "functions"):
        sources = sorted(root.rglob("*.py"))
        assert sources
        for path in sources:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                found += [
                    (path.name, name)
                    for name in names
                    if any(name == bad or name.startswith(bad + ".") for bad in FORBIDDEN)
                ]
    assert found == []


def test_events_have_a_largest_size() -> None:
    """6 MB by hand, and refused before a child is asked."""
    asked: list[bytes] = []
    pool = SimpleNamespace(invoke=lambda payload, wait_seconds: asked.append(payload) or "ran")
    stack = SimpleNamespace(pools={"f": pool})
    largest = "x" * (PAYLOAD_BYTES_MAX - 2)

    assert Stack.invoke(stack, "f", largest) == "ran"  # type: ignore[arg-type]
    refused = Stack.invoke(stack, "f", largest + "x")  # type: ignore[arg-type]
    assert (refused.ok, refused.kind, len(asked)) == (False, "too_large", 1)
    assert json.loads(refused.payload)["errorType"] == "RequestTooLargeException"


@pytest.mark.parametrize(("failures", "runs"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_a_failed_schedule_is_tried_twice_more(failures: int, runs: int) -> None:
    """The same event, after one minute and after two on the scaled clock; then it is dropped."""
    events: list[Any] = []
    waited: list[float] = []

    def invoke(name: str, event: Any, bytes_max: int = 0) -> Outcome:
        events.append(event)
        return Outcome("", len(events) > failures, b"{}", "answered" if len(events) > failures else "raised")

    stopped = SimpleNamespace(is_set=lambda: False, wait=lambda seconds: waited.append(seconds) or False)
    stack = SimpleNamespace(invoke=invoke, _stopped=stopped, scale=10.0, region="us-east-1")
    Stack._run_schedule(stack, "sweep")  # type: ignore[arg-type]

    assert events == [events[0]] * runs
    assert waited == list(retry_delays(10.0))[: runs - 1] == [6.0, 12.0][: runs - 1]


def test_every_named_test_of_the_table_exists() -> None:
    """A trait that claims a test has one."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")}
    for trait in REALISM:
        if trait.test is not None:
            file, _, name = trait.test.partition("::")
            assert f"def {name}" in sources[file], trait
    assert len({trait.name for trait in REALISM}) == len(REALISM)


def test_a_kill_from_elsewhere_is_a_fault(make: Make) -> None:
    """``kill_busy`` ends the child at work, and only that; the invocation is told so."""
    pool = make("import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n")
    answer(run(pool))
    assert pool.kill_busy() == 0
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(pool, s=20)))
    thread.start()
    deadline = time.monotonic() + 10
    while pool.state()["busy"] != 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.kill_busy() == 1
    thread.join(10)

    assert [outcome.kind for outcome in outcomes] == ["killed"]
    assert run(pool).ok
    assert os.getpid() not in pool.pids()
