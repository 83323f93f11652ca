"""Every knob of the local stack, each with a test that sees its effect; a knob without one fails here."""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from heavylift_local import commands, faults, plan
from heavylift_local.s3 import faults as s3_faults
from heavylift_local.testing import CallFailed, RunningStack, running_stack

pytestmark = pytest.mark.xdist_group("knobs")
TESTS = Path(__file__).resolve().parents[1]
TIME_SCALE = 60
RULED_EVENTS_S = 30

# Where each knob's effect is seen: a test of this file, or FILE::TEST below tests/.
SEEN = {
    "faults.s3.latency_ms": "test_s3_takes_its_time",
    "faults.s3.errors": "test_s3_errors_come_as_often_as_asked",
    "faults.s3.seed": "test_s3_errors_come_as_often_as_asked",
    "faults.s3.cut_after_bytes": "test_s3_cuts_bodies",
    "faults.s3.calls": "test_a_function_ends_at_a_named_call",
    "faults.s3.late_errors": "local/s3/",
    "faults.s3.clock_offset_s": "local/s3/",
    "faults.s3.callers": "local/s3/",
    "faults.api.latency_ms": "test_the_api_takes_its_time",
    "faults.api.down_s": "test_the_api_is_down_for_a_while",
    "faults.events.copies": "test_events_are_copied",
    "faults.events.reverse": "test_events_change_places",
    "faults.events.drop": "test_events_are_lost_repeatably",
    "faults.events.seed": "test_events_are_lost_repeatably",
    "faults.functions.kill": "test_kills_are_as_frequent_as_asked_and_repeatable",
    "faults.functions.kill_after_ms": "test_a_kill_after_a_while",
    "faults.functions.kill_at": "test_a_function_ends_at_a_named_call",
    "faults.functions.every": "test_a_function_ends_at_every_nth_call",
    "faults.functions.timeout_s": "test_less_time",
    "faults.functions.memory_mb": "test_less_memory",
    "faults.seed": "test_kills_are_as_frequent_as_asked_and_repeatable",
    "up --port": "local/test_stack.py::test_a_port_that_is_taken_is_an_error",
    "up --data": "local/test_stack.py::test_a_folder_keeps_objects_items_messages_and_tokens",
    "up --json": "local/test_stack.py::test_the_ready_line_names_everything",
    "up --no-events": "local/test_stack.py::test_no_events_processes_nothing",
    "up --access-log": "test_the_access_log_has_a_line_for_each_request",
    "up --s3-endpoint": "local/test_external.py::test_files_go_through_another_s3_to_completed",
    "HEAVYLIFT_TIME_SCALE": "test_clocks_run_faster",
    "HEAVYLIFT_S3_ENDPOINT": "test_the_endpoint_may_come_from_the_environment",
    "HEAVYLIFT_CORS_ORIGINS": "test_other_origins_may_call_the_api",
    "HEAVYLIFT_LOG_LEVEL": "test_the_log_says_more_when_asked",
    "HEAVYLIFT_API": "local/test_stack.py::test_the_running_stack_can_be_found",
    "SIGNATURE_TTL_SECONDS": "interop/test_round_trip.py::test_an_expired_url_is_refused_and_stores_nothing",
}

TOPOLOGY = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("base_topology", {base!r})
base = importlib.util.module_from_spec(spec)
sys.modules["base_topology"] = base
spec.loader.exec_module(base)
from base_topology import *

QUEUES = (Queue("seen", visibility_s=600), Queue("sent", visibility_s=600))
RULES = (Rule("in", "staging", "in/", "seen"),)
FUNCTIONS = (
    Function("caller", 256, 20, (), (
        Allow(("s3:PutObject", "s3:GetObject", "s3:ListBucket"), ("staging", "staging/*")),
        Allow(("dynamodb:*",), ("table",)),
        Allow(("sqs:SendMessage",), ("queue:sent",)),
        Allow(("events:PutEvents",), ("bus",)),
    ), routes=(Route("GET", "/v1/open", None),)),
)
ENVIRONMENT = {{"BUCKET": "{{bucket:staging}}", "TABLE_NAME": "{{table}}", "SENT_URL": "{{queue:sent}}"}}
"""

HANDLER = """
import os, time
import boto3
from botocore.config import Config
CONFIG = Config(retries={"total_max_attempts": 1})
S3, DB, SQS, BUS = (boto3.client(name, config=CONFIG) for name in ("s3", "dynamodb", "sqs", "events"))

def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "mb" in event:
        held = bytearray(event["mb"] << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(event["hold"])
    for number in range(1, event.get("parts", 0) + 1):
        S3.upload_part(Bucket=os.environ["BUCKET"], Key=event["key"], UploadId=event["upload_id"],
                       PartNumber=number, Body=b"part")
    for _ in range(event.get("updates", 0)):
        DB.update_item(TableName=os.environ["TABLE_NAME"], Key={"pk": {"S": event["key"]}, "sk": {"S": "n"}},
                       UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": {"N": "1"}})
    for _ in range(event.get("sends", 0)):
        SQS.send_message(QueueUrl=os.environ["SENT_URL"], MessageBody=event["key"])
    for _ in range(event.get("puts", 0)):
        BUS.put_events(Entries=[{"Source": "test", "DetailType": event["key"], "Detail": "{}"}])
    return {"done": True}
"""


@pytest.fixture(scope="module")
def args(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("knobs")
    base = plan.REPOSITORY / "infra" / "topology.py"
    (folder / "topology.py").write_text(TOPOLOGY.format(base=str(base)))
    (folder / "caller").mkdir()
    (folder / "caller" / "handler.py").write_text(HANDLER)
    return ["--topology", str(folder / "topology.py"), "--functions", str(folder)]


@dataclasses.dataclass(frozen=True)
class Bench:
    """A stack whose events nobody consumes, so that a test can look at them itself."""

    running: RunningStack
    log: Path

    def client(self, service: str) -> Any:
        ready = self.running.ready
        endpoints = {"s3": self.running.s3, **self.running.state()["endpoints"]}
        return boto3.client(
            service,
            endpoint_url=endpoints[service],
            region_name=ready["region"],
            aws_access_key_id=ready["s3_access_key"],
            aws_secret_access_key=ready["s3_secret_key"],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def put(self, *keys: str) -> None:
        for key in keys:
            self.client("s3").put_object(Bucket=self.running.ready["buckets"]["staging"], Key=key, Body=b"x")

    def received(self, queue: str, count: int, seconds: float = RULED_EVENTS_S) -> list[str]:
        """Bodies, or keys of events, until there are ``count`` (and none more in half a second)."""
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=f"heavylift-{queue}")["QueueUrl"]
        found: list[str] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                body = message["Body"]
                found.append(json.loads(body)["detail"]["object"]["key"] if queue == "seen" else body)
            if len(found) >= count and not answer.get("Messages"):
                break
        return found

    def do(self, **event: Any) -> str:
        """How an invocation of the function ended: done, or its error's type and message."""
        try:
            self.running.invoke("caller", event)
        except CallFailed as failed:
            return f"{failed.body['errorType']} {failed.body['errorMessage']}"
        return "done"


@pytest.fixture(scope="module")
def running(args: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    log = tmp_path_factory.mktemp("log") / "access.jsonl"
    environment = {
        "HEAVYLIFT_TIME_SCALE": str(TIME_SCALE),
        "HEAVYLIFT_CORS_ORIGINS": "https://page.example",
        "HEAVYLIFT_LOG_LEVEL": "INFO",
        "HEAVYLIFT_S3_ENDPOINT": "",
    }
    with running_stack(env=environment, args=[*args, "--access-log", str(log)]) as stack:
        bench = Bench(stack, log)
        assert bench.do() == "done"
        yield bench


@pytest.fixture
def bench(running: Bench) -> Iterator[Bench]:
    running.running.faults({})
    yield running
    running.running.faults({})


# The table.


def known_knobs() -> set[str]:
    """Everything that can be set, read from what reads it."""
    found = {f"faults.api.{name}" for name in faults.API_FIELDS}
    found |= {f"faults.events.{name}" for name in faults.EVENT_FIELDS}
    found |= {f"faults.functions.{name}" for name in faults.FUNCTION_FIELDS}
    found |= {f"faults.s3.{field.name}" for field in dataclasses.fields(s3_faults.Faults)}
    found |= {"faults.s3.calls", "faults.s3.seed", "faults.seed", "SIGNATURE_TTL_SECONDS"}
    parser = argparse.ArgumentParser()
    commands.add_arguments("up", parser)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    found |= {f"up {action.option_strings[-1]}" for action in shown}
    for source in Path(commands.__file__).parent.rglob("*.py"):
        found |= set(re.findall(r"HEAVYLIFT_[A-Z0-9_]+", source.read_text(encoding="utf-8")))
    return found - {"HEAVYLIFT_TOKEN", "HEAVYLIFT_RUN_FULL"}


def test_every_knob_has_a_test_that_sees_its_effect() -> None:
    """None is missing from the table, none is there twice or gone, and every test that it names exists."""
    assert known_knobs() == set(SEEN)
    here = Path(__file__).read_text(encoding="utf-8")
    for knob, where in SEEN.items():
        file, _, name = where.partition("::")
        if file.endswith("/"):
            field = knob.rpartition(".")[2]
            assert any(field in path.read_text(encoding="utf-8") for path in (TESTS / file).glob("test_*.py")), knob
        elif name:
            assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), knob
        else:
            assert f"def {where}(" in here, knob


# S3.


def elapsed(action: Callable[[], Any]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def test_s3_takes_its_time(bench: Bench) -> None:
    """Each request at least as long as asked."""
    bench.running.faults({"s3": {"latency_ms": 300}})
    assert elapsed(lambda: bench.put("other/a")) >= 0.3


def test_s3_errors_come_as_often_as_asked(bench: Bench) -> None:
    """The operation, the status and the code that were asked for; the same seed fails the same calls."""
    s3, bucket = bench.client("s3"), bench.running.ready["buckets"]["derived"]

    def outcomes() -> list[str]:
        bench.running.faults({"s3": {"errors": {"PutObject": [0.5, 503, "SlowDown"]}, "seed": 3}})
        found = []
        for _ in range(12):
            try:
                s3.put_object(Bucket=bucket, Key="e", Body=b"")
                found.append("")
            except s3.exceptions.ClientError as error:
                found.append(
                    f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
                )
            s3.list_objects_v2(Bucket=bucket)
        return found

    first = outcomes()
    assert set(first) == {"", "503 SlowDown"}
    assert outcomes() == first


def test_s3_cuts_bodies(bench: Bench) -> None:
    """The connection ends after so many bytes, in either direction; nothing is stored of what was cut."""
    s3, bucket = bench.client("s3"), bench.running.ready["buckets"]["derived"]
    s3.put_object(Bucket=bucket, Key="whole", Body=bytes(200_000))
    bench.running.faults({"s3": {"cut_after_bytes": 100_000}})
    with pytest.raises(Exception, match=r"(?i)connection|incomplete|broken|closed|reset"):
        s3.get_object(Bucket=bucket, Key="whole")["Body"].read()
    with pytest.raises(Exception, match=r"(?i)connection|incomplete|broken|closed|reset"):
        s3.put_object(Bucket=bucket, Key="cut", Body=bytes(200_000))
    bench.running.faults({})
    assert "cut" not in {one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]}


# The API.


def get(bench: Bench, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Any:
    connection = http.client.HTTPConnection(urlsplit(bench.running.api).netloc, timeout=60)
    try:
        connection.request(method, path, None, headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_the_api_takes_its_time(bench: Bench) -> None:
    """Each request at least as long as asked."""
    bench.running.faults({"api": {"latency_ms": 300}})
    assert elapsed(lambda: get(bench, "/v1/open")) >= 0.3


def test_the_api_is_down_for_a_while(bench: Bench) -> None:
    """No answer at all; afterwards all is well without being told."""
    bench.running.faults({"api": {"down_s": 1.5}})
    with pytest.raises(http.client.RemoteDisconnected):
        get(bench, "/v1/open")
    time.sleep(1.6)
    assert get(bench, "/v1/open").status == 200


def test_other_origins_may_call_the_api(bench: Bench) -> None:
    """The origin that was named gets CORS headers, another none."""
    allowed = get(bench, "/v1/open", {"Origin": "https://page.example"})
    foreign = get(bench, "/v1/open", {"Origin": "https://other.example"})

    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    assert "access-control-allow-origin" not in foreign.headers


# Events.


def test_events_are_copied(bench: Bench) -> None:
    """Three deliveries of one object."""
    bench.running.faults({"events": {"copies": 3}})
    bench.put("in/copied")
    assert bench.received("seen", 3) == ["in/copied"] * 3


def test_events_change_places(bench: Bench) -> None:
    """What comes close together arrives backwards; nothing is lost."""
    bench.running.faults({"events": {"reverse": True}})
    s3, bucket = bench.client("s3"), bench.running.ready["buckets"]["staging"]
    keys = [f"in/r{number}" for number in range(6)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    found = bench.received("seen", 6)

    assert sorted(found) == keys
    assert found != keys


def test_events_are_lost_repeatably(bench: Bench) -> None:
    """Some of them, and with the same seed the same ones."""
    runs = []
    for name in ("a", "b"):
        bench.running.faults({"events": {"drop": 0.5, "seed": 5}})
        bench.put(*(f"in/{name}{number}" for number in range(10)))
        bench.running.faults({})
        bench.put(f"in/{name}-end")
        found: list[str] = []
        while f"in/{name}-end" not in found:
            found += bench.received("seen", 1)
        runs.append([key.removeprefix(f"in/{name}") for key in found])

    assert 1 < len(runs[0]) < 11
    assert sorted(runs[0]) == sorted(runs[1])


# Functions.


def test_kills_are_as_frequent_as_asked_and_repeatable(bench: Bench) -> None:
    """Some invocations end, and with the same seed the same ones."""
    runs = []
    for _ in range(2):
        bench.running.faults({"functions": {"caller": {"kill": 0.5}}, "seed": 11})
        runs.append([bench.do() == "done" for _ in range(6)])

    assert set(runs[0]) == {True, False}
    assert runs[0] == runs[1]


def test_a_kill_after_a_while(bench: Bench) -> None:
    """In the middle of its work, as a crash of the sandbox."""
    bench.running.faults({"functions": {"*": {"kill_after_ms": 200}}})
    assert bench.do(sleep=20).startswith("Runtime.ExitError")


def test_less_time(bench: Bench) -> None:
    """Lambda's sentence with the time that was given."""
    bench.running.faults({"functions": {"caller": {"timeout_s": 0.3}}})
    assert bench.do(sleep=20).endswith("Task timed out after 0.30 seconds")


def test_less_memory(bench: Bench) -> None:
    """What fits the function's own memory does not fit the fault's."""
    assert bench.do(mb=60, hold=0) == "done"
    bench.running.faults({"functions": {"caller": {"memory_mb": 80}}})
    assert bench.do(mb=60, hold=20).startswith("Runtime.ExitError")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("service", ["s3.UploadPart", "dynamodb.UpdateItem", "sqs.SendMessage", "events.PutEvents"])
def test_a_function_ends_at_a_named_call(bench: Bench, service: str, after: bool) -> None:
    """The calls before it took effect, it itself only when asked so, none after it; and it happens once."""
    s3, bucket = bench.client("s3"), bench.running.ready["buckets"]["staging"]
    key = f"{service}-{after}"
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    work = {"key": key, "upload_id": upload, **dict.fromkeys(("parts", "updates", "sends", "puts"), 5)}
    services = {"s3": "parts", "dynamodb": "updates", "sqs": "sends", "events": "puts"}
    wanted = services[service.partition(".")[0]]
    event = {name: value for name, value in work.items() if name in (wanted, "key", "upload_id")}
    bench.running.faults({"functions": {"caller": {"kill_at": f"{service}:3" + (":after" if after else "")}}})
    died = bench.do(**event)

    def effects() -> int:
        if wanted == "parts":
            return len(s3.list_parts(Bucket=bucket, Key=key, UploadId=upload).get("Parts", []))
        if wanted == "updates":
            table = bench.running.state()["table"]
            found = bench.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": key}, "sk": {"S": "n"}})
            return int(found.get("Item", {}).get("n", {}).get("N", 0))
        if wanted == "puts":
            return [event["detail-type"] for event in bench.running.local("GET", "bus")["events"]].count(key)
        return bench.received("sent", 1, 2).count(key)

    assert died.startswith("Runtime.ExitError")
    assert effects() == (3 if after else 2)
    assert bench.do(**event) == "done"


def test_a_function_ends_at_every_nth_call(bench: Bench) -> None:
    """Counted on over the kills: at the third, the sixth, the ninth call; cleared, never again."""
    bench.running.faults({"functions": {"*": {"kill_at": "dynamodb.UpdateItem:3", "every": True}}})
    outcomes = [bench.do(key="every", updates=3) == "done" for _ in range(3)]
    bench.running.faults({})

    assert outcomes == [False, False, False]
    assert bench.do(key="every", updates=9) == "done"


def test_another_functions_or_operations_calls_do_not_count(bench: Bench) -> None:
    """The trap is of one operation of one function."""
    bench.running.faults({"functions": {"caller": {"kill_at": "dynamodb.PutItem:1"}}})
    table = bench.running.state()["table"]
    bench.client("dynamodb").put_item(TableName=table, Item={"pk": {"S": "by client"}, "sk": {"S": "n"}})
    assert bench.do(key="others", updates=2) == "done"


# The stack.


def test_the_access_log_has_a_line_for_each_request(bench: Bench) -> None:
    """Caller, operation, key, status, bytes; whole lines of JSON."""
    bench.put("other/logged")
    deadline = time.monotonic() + 20
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:  # a line is written after its answer
        lines = [json.loads(line) for line in bench.log.read_text().splitlines()]
        found = [one for one in lines if one["key"] == "other/logged"]
    [line] = found

    assert (line["caller"], line["operation"], line["status"]) == ("client", "PutObject", 200)
    assert line["bytes_in"] >= 1


def test_clocks_run_faster(bench: Bench) -> None:
    """The queues' visibility and what the functions are told."""
    sqs = bench.client("sqs")
    url = sqs.get_queue_url(QueueName="heavylift-seen")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    assert attributes["VisibilityTimeout"] == str(600 // TIME_SCALE)
    [pid, *_] = bench.running.state()["functions"]["caller"]["pids"]
    assert f"HEAVYLIFT_TIME_SCALE={TIME_SCALE}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_the_log_says_more_when_asked(bench: Bench) -> None:
    """INFO tells of each lost event."""
    bench.running.faults({"events": {"drop": 1}})
    bench.put("in/told")
    log = bench.running.data / "logs" / "up.log"
    deadline = time.monotonic() + 20
    while "dropped by a fault" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "dropped by a fault" in log.read_text()


def test_the_endpoint_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the option's default; empty means none."""
    for given, wanted in (("http://127.0.0.1:9", "http://127.0.0.1:9"), ("", None)):
        monkeypatch.setenv("HEAVYLIFT_S3_ENDPOINT", given)
        parser = argparse.ArgumentParser()
        commands.add_arguments("up", parser)
        assert parser.parse_args([]).s3_endpoint == wanted
