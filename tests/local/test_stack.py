"""``heavylift up`` as a whole, with small functions of its own: from a request to the dead letters and down again."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from heavylift_local import discovery
from heavylift_local.runtime import processes
from heavylift_local.testing import CallFailed, RunningStack, running_stack

# One stack serves most tests of this file.
pytestmark = pytest.mark.xdist_group("local-stack")

TOPOLOGY = """
import importlib.util
spec = importlib.util.spec_from_file_location("base_topology", {base!r})
base = importlib.util.module_from_spec(spec)
import sys
sys.modules["base_topology"] = base
spec.loader.exec_module(base)
from base_topology import *

QUEUES = (Queue("work", visibility_s=1, receive_count_max=3), Queue("loop", visibility_s=30))
RULES = (Rule("in", "staging", "in/", "work"),)
TABLE_ALL = Allow(("dynamodb:*",), ("table",))
FUNCTIONS = (
    Function("echo", 128, 3, (), (Allow(("s3:PutObject",), ("staging/in/*",)), TABLE_ALL), routes=(
        Route("POST", "/v1/echo/{{id}}"), Route("GET", "/v1/echo/{{id}}", READ), Route("GET", "/v1/open", None),
        Route("GET", "/v1/picture", None))),
    Function("work", 192, 20, (), (TABLE_ALL,), source=Source("work", batch_size=10, concurrency_max=2)),
    Function("loop", 192, 20, (), (TABLE_ALL, Allow(("sqs:SendMessage",), ("queue:loop",))), source=Source("loop")),
    Function("tick", 128, 20, (), (TABLE_ALL,), schedule_minutes=15, concurrency_reserved=1),
)
ENVIRONMENT = {{"BUCKET": "{{bucket:staging}}", "TABLE_NAME": "{{table}}", "LOOP_URL": "{{queue:loop}}"}}
"""

NOTE = """
import json, os, time, urllib.error, urllib.request

def call(url, target, body):
    service = "sqs" if "SQS" in target else "dynamodb"
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0",
               "X-Amzn-Trace-Id": os.environ.get("_X_AMZN_TRACE_ID", ""),
               "Authorization": "AWS4-HMAC-SHA256 Credential=%s/20260101/%s/%s/aws4_request"
               % (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_REGION"], service)}
    return urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()

def note(name):
    item = {"pk": {"S": "notes"}, "sk": {"S": "%s %.6f" % (name, time.time())}}
    call(os.environ["AWS_ENDPOINT_URL_DYNAMODB"], "DynamoDB_20120810.PutItem",
         {"TableName": os.environ["TABLE_NAME"], "Item": item})
"""

HANDLERS = {
    "echo": """
import time
def handler(event, context):
    if event["routeKey"] == "GET /v1/picture":
        return {"statusCode": 200, "isBase64Encoded": True, "body": "iVBORw==", "cookies": ["a=1", "b=2"],
                "headers": {"content-type": "image/png"}}
    query = event.get("queryStringParameters") or {}
    if "raise" in query:
        raise RuntimeError("secret detail")
    if "sleep" in query:
        time.sleep(float(query["sleep"]))
    return event
""",
    "work": NOTE
    + """
def handler(event, context):
    failures = []
    for record in event["Records"]:
        key = json.loads(record["body"])["detail"]["object"]["key"]
        if key.endswith("crash"):
            os._exit(1)
        note(key)
        if key.endswith("bad"):
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}
""",
    "loop": NOTE
    + """
def handler(event, context):
    note("loop")
    call(os.environ["AWS_ENDPOINT_URL_SQS"], "AmazonSQS.SendMessage",
         {"QueueUrl": os.environ["LOOP_URL"], "MessageBody": "again"})
""",
    "tick": NOTE
    + """
def handler(event, context):
    if "put" in event:
        try:
            call(os.environ["AWS_ENDPOINT_URL_EVENTBRIDGE"], "AWSEvents.PutEvents",
                 {"Entries": [{"Source": "test", "DetailType": event["put"], "Detail": "{}"}]})
        except urllib.error.HTTPError as error:
            return {"refused": error.code}
    note("tick " + event.get("detail-type", "by hand"))
    return {"ticked": True}
""",
}


@pytest.fixture(scope="module")
def args(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What makes ``up`` run the small functions."""
    folder = tmp_path_factory.mktemp("stack")
    base = Path(__file__).resolve().parents[2] / "infra" / "topology.py"
    (folder / "topology.py").write_text(TOPOLOGY.format(base=str(base)))
    for name, source in HANDLERS.items():
        (folder / name).mkdir()
        (folder / name / "handler.py").write_text(source)
    return ["--topology", str(folder / "topology.py"), "--functions", str(folder)]


@pytest.fixture(scope="module")
def stack(args: list[str]) -> Iterator[RunningStack]:
    with running_stack(args=args) as running:
        yield running


def client(stack: RunningStack, service: str) -> Any:
    endpoints = {"s3": stack.s3, **stack.state()["endpoints"]}
    return boto3.client(
        service,
        endpoint_url=endpoints[service],
        region_name=stack.ready["region"],
        aws_access_key_id=stack.ready["s3_access_key"],
        aws_secret_access_key=stack.ready["s3_secret_key"],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def notes(stack: RunningStack) -> list[str]:
    """What the functions wrote, in order."""
    table = stack.state()["table"]
    items = client(stack, "dynamodb").query(
        TableName=table, KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": "notes"}}
    )["Items"]
    return [item["sk"]["S"].rpartition(" ")[0] for item in items]


def eventually(probe: Callable[[], Any], wanted: Any, seconds: float = 30) -> Any:
    """``probe()`` as soon as it is ``wanted``, else its last value."""
    end = time.monotonic() + seconds
    while (value := probe()) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    return value


def raw(stack: RunningStack, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> Any:
    """(status, headers, body) without any client's help."""
    connection = http.client.HTTPConnection(urlsplit(stack.api).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def gone(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is None or process.state == "Z"


# The ready line and the gateway.


def test_the_ready_line_names_everything(stack: RunningStack) -> None:
    """Addresses on loopback, keys, buckets, and the process of every server."""
    assert stack.ready["ready"] is True
    assert stack.ready["page"] == stack.api + "/"
    assert {urlsplit(stack.ready[name]).hostname for name in ("api", "page", "s3")} == {"127.0.0.1"}
    assert set(stack.ready["buckets"]) == {"staging", "store", "derived"}
    assert {"up", "s3", "moto"} <= set(stack.pids)
    assert stack.pids["up"] == stack.process.pid
    assert not any(gone(pid) for pid in stack.pids.values())


def test_the_ready_lines_keys_open_the_buckets(stack: RunningStack) -> None:
    """All three exist and belong to this account."""
    found = client(stack, "s3").list_buckets()["Buckets"]

    assert {bucket["Name"] for bucket in found} == set(stack.ready["buckets"].values())


def test_a_request_reaches_its_function_with_its_claims(stack: RunningStack) -> None:
    """Payload 2.0: route key, parameters, claims of the token."""
    token = stack.token("acme", "jo", "heavylift/write heavylift/read")
    event = stack.request("POST", "/v1/echo/a%20b?x=1&x=2", {"hello": 1}, token)

    assert event["version"] == "2.0"
    assert event["routeKey"] == "POST /v1/echo/{id}"
    assert event["pathParameters"] == {"id": "a b"}
    assert event["queryStringParameters"] == {"x": "1,2"}
    assert json.loads(event["body"]) == {"hello": 1}
    assert event["requestContext"]["authorizer"]["jwt"]["claims"]["tenant"] == "acme"
    assert event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] == "jo"
    assert event["requestContext"]["authorizer"]["jwt"]["scopes"] == ["heavylift/write", "heavylift/read"]


def test_a_binary_answer_with_cookies(stack: RunningStack) -> None:
    """Base64 is decoded, every cookie is a header of its own."""
    status, headers, body = raw(stack, "GET", "/v1/picture")

    assert (status, body, headers["content-type"]) == (200, base64.b64decode("iVBORw=="), "image/png")
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]


def test_what_the_gateway_refuses(stack: RunningStack) -> None:
    """Its own answers are {"message"}: 401, 403, 404, 413, 431, 500."""
    read_only = stack.token("acme", "jo", "heavylift/read")
    good = bearer(stack.ready["token"])
    large = b"x" * (10 * 1024 * 1024 + 1)
    cases = {
        "no token": (raw(stack, "GET", "/v1/echo/1"), 401, "Unauthorized"),
        "bad token": (raw(stack, "GET", "/v1/echo/1", bearer("x.y.z")), 401, "Unauthorized"),
        "no scope": (raw(stack, "POST", "/v1/echo/1", bearer(read_only)), 403, "Forbidden"),
        "no route": (raw(stack, "GET", "/v1/nothing", good), 404, "Not Found"),
        "no method": (raw(stack, "DELETE", "/v1/echo/1", good), 404, "Not Found"),
        "body": (raw(stack, "POST", "/v1/echo/1", good, large), 413, "Request Entity Too Large"),
        "event": (raw(stack, "POST", "/v1/echo/1", good, large[: 6 * 1024 * 1024]), 413, "Request Entity Too Large"),
        "head": (raw(stack, "GET", "/v1/open", {"x": "y" * 10_240}), 431, "Request Header Fields Too Large"),
        "error": (raw(stack, "GET", "/v1/echo/1?raise=1", good), 500, "Internal Server Error"),
    }

    found = {name: (answer[0], json.loads(answer[2])) for name, (answer, _, _) in cases.items()}
    assert found == {name: (status, {"message": text}) for name, (_, status, text) in cases.items()}


def test_an_open_route_needs_no_token(stack: RunningStack) -> None:
    """A route without authorizer has no claims either."""
    status, _, body = raw(stack, "GET", "/v1/open")

    assert status == 200
    assert "authorizer" not in json.loads(body)["requestContext"]


def test_a_timeout_is_an_internal_error_and_the_next_request_succeeds(stack: RunningStack) -> None:
    """The function's 3 s end its child, not the service."""
    status, _, body = raw(stack, "GET", "/v1/echo/1?sleep=30", bearer(stack.ready["token"]))

    assert (status, json.loads(body)) == (500, {"message": "Internal Server Error"})
    assert stack.request("GET", "/v1/echo/1")["routeKey"] == "GET /v1/echo/{id}"


def test_a_connection_serves_many_requests(stack: RunningStack) -> None:
    """Keep-alive, also after an error."""
    connection = http.client.HTTPConnection(urlsplit(stack.api).netloc, timeout=30)
    statuses = []
    connection.connect()
    socket = connection.sock
    for path in ("/v1/open", "/v1/nothing", "/v1/open"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    same = connection.sock is socket
    connection.close()

    assert statuses == [200, 404, 200]
    assert same


def test_the_page_is_served_at_the_root(stack: RunningStack) -> None:
    """HTML, and no way out of the web folder."""
    status, headers, _ = raw(stack, "GET", "/")
    outside, _, _ = raw(stack, "GET", "/web/..%2fREADME.md")

    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert outside == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_the_knobs_are_closed_to_foreign_pages(stack: RunningStack, headers: dict[str, str]) -> None:
    """A rebound name, a foreign origin, a cross-site fetch: no token for them."""
    assert raw(stack, "GET", "/_local/token", headers)[0] == 403


def test_the_page_itself_may_use_the_knobs(stack: RunningStack) -> None:
    """Its own origin, by either name of this machine."""
    port = urlsplit(stack.api).port
    for host in ("127.0.0.1", "localhost"):
        origin = f"http://{host}:{port}"
        headers = {"Host": f"{host}:{port}", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert raw(stack, "GET", "/_local/token", headers)[0] == 200


# Events, queues, schedules.


def test_an_object_becomes_a_message_becomes_an_invocation(stack: RunningStack) -> None:
    """S3 -> rule -> queue -> function -> table; other prefixes start nothing."""
    s3 = client(stack, "s3")
    s3.put_object(Bucket=stack.ready["buckets"]["staging"], Key="other/t/x", Body=b"x")
    s3.put_object(Bucket=stack.ready["buckets"]["staging"], Key="in/t/ü 1+2 ok", Body=b"x")

    assert eventually(lambda: notes(stack).count("in/t/ü 1+2 ok"), 1) == 1
    assert not any(note.startswith("other/") for note in notes(stack))
    assert eventually(lambda: stack.state()["queues"]["work"]["in_flight"], 0) == 0


def test_a_failing_message_is_tried_three_times_and_ends_in_the_dead_letters(stack: RunningStack) -> None:
    """It alone: its neighbours in the batch are done once. A crash counts as a failure of the whole batch."""
    before = stack.state()["queues"]["work"]["dlq"]
    s3 = client(stack, "s3")
    for name in ("1 fine", "2 bad", "3 fine"):
        s3.put_object(Bucket=stack.ready["buckets"]["staging"], Key=f"in/t/{name}", Body=b"x")
    dead = eventually(lambda: stack.state()["queues"]["work"]["dlq"] - before, 1)
    seen = notes(stack)

    assert dead == 1
    assert {name: seen.count(f"in/t/{name}") for name in ("1 fine", "2 bad", "3 fine")} == {
        "1 fine": 1,
        "2 bad": 3,
        "3 fine": 1,
    }


def test_a_crashing_function_loses_no_message(stack: RunningStack) -> None:
    """The message returns after its visibility until it is a dead letter."""
    before = stack.state()["queues"]["work"]["dlq"]
    client(stack, "s3").put_object(Bucket=stack.ready["buckets"]["staging"], Key="in/t/crash", Body=b"x")

    assert eventually(lambda: stack.state()["queues"]["work"]["dlq"] - before, 1) == 1


def test_a_loop_is_stopped_after_sixteen_invocations(stack: RunningStack) -> None:
    """The chain is carried by the trace header through the queue; the message ends in the dead letters."""
    sqs = client(stack, "sqs")
    url = sqs.get_queue_url(QueueName="heavylift-loop")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="start")

    assert eventually(lambda: stack.state()["queues"]["loop"]["dlq"], 1) == 1
    assert notes(stack).count("loop") == 16


def test_the_schedule_runs_soon_and_by_hand(stack: RunningStack) -> None:
    """Once by the clock after the start, and now on demand with its answer."""
    assert eventually(lambda: notes(stack).count("tick Scheduled Event"), 1) == 1
    before = notes(stack).count("tick by hand")
    assert stack.invoke("tick", {}) == {"ticked": True}
    assert notes(stack).count("tick by hand") == before + 1


def test_event_faults_copy_events(stack: RunningStack) -> None:
    """Three deliveries of one object; cleared, one."""
    s3 = client(stack, "s3")
    stack.faults({"events": {"copies": 3, "reverse": True}})
    s3.put_object(Bucket=stack.ready["buckets"]["staging"], Key="in/t/thrice", Body=b"x")
    thrice = eventually(lambda: notes(stack).count("in/t/thrice"), 3)
    stack.faults({})
    s3.put_object(Bucket=stack.ready["buckets"]["staging"], Key="in/t/once", Body=b"x")

    assert thrice == 3
    assert eventually(lambda: notes(stack).count("in/t/once"), 1) == 1


def test_unknown_faults_are_refused(stack: RunningStack) -> None:
    """With a sentence that names what is known."""
    with pytest.raises(CallFailed) as refused:
        stack.faults({"functions": {"echo": {"kil": 1}}})

    assert refused.value.status == 400
    assert "kill" in refused.value.body["message"]


def test_function_and_api_faults(stack: RunningStack) -> None:
    """A killed child is a 500, an API that is down gives no answer at all; cleared, all is well."""
    stack.faults({"functions": {"echo": {"kill_after_ms": 0}}})
    killed, _, _ = raw(stack, "GET", "/v1/echo/1?sleep=2", bearer(stack.ready["token"]))
    stack.faults({"api": {"down_s": 60}})
    with pytest.raises(http.client.RemoteDisconnected):
        raw(stack, "GET", "/v1/open")
    stack.faults({})

    assert killed == 500
    assert raw(stack, "GET", "/v1/open")[0] == 200


def test_functions_do_only_what_the_topology_allows(stack: RunningStack) -> None:
    """A function's own keys write its own prefix and nothing else."""
    for pid in stack.state()["functions"]["echo"]["pids"]:
        environ = dict(e.split("=", 1) for e in processes.environment(pid).decode().split("\0") if "=" in e)
        s3 = boto3.client(
            "s3",
            endpoint_url=environ["AWS_ENDPOINT_URL_S3"],
            region_name=environ["AWS_REGION"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=environ["AWS_SESSION_TOKEN"],
        )
        s3.put_object(Bucket=environ["BUCKET"], Key="in/t/by function ok", Body=b"x")
        with pytest.raises(s3.exceptions.ClientError) as refused:
            s3.put_object(Bucket=environ["BUCKET"], Key="elsewhere", Body=b"x")
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
        break
    else:
        pytest.fail("echo has no child")


def test_calls_are_counted_by_caller(stack: RunningStack) -> None:
    """The tools' calls under ``client``, each function's under its name."""
    client(stack, "s3").put_object(Bucket=stack.ready["buckets"]["derived"], Key="x", Body=b"12345")
    stack.invoke("tick", {})
    counts = stack.counters()

    assert counts["client"]["s3.PutObject"]["bytes_in"] >= 5
    assert counts["tick"]["dynamodb.PutItem"]["write_units"] >= 1


def test_what_is_put_on_the_bus_can_be_read(stack: RunningStack) -> None:
    """Whole events, from any place on, and all of them in the log; a function without the right puts none."""
    bus = client(stack, "events")
    start = stack.local("GET", "bus")["last"]
    entries = [{"Source": "test", "DetailType": f"t{n}", "Detail": json.dumps({"n": n})} for n in range(3)]
    put = bus.put_events(Entries=entries)
    shown = stack.local("GET", f"bus?after={start}")
    refused = stack.invoke("tick", {"put": "an event"})

    assert put["FailedEntryCount"] == 0
    assert [event["id"] for event in shown["events"]] == [entry["EventId"] for entry in put["Entries"]]
    assert [(event["detail-type"], event["detail"]) for event in shown["events"]] == [
        (f"t{n}", {"n": n}) for n in range(3)
    ]
    assert shown["events"][0].keys() == {
        "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
    }  # fmt: skip
    assert shown["last"] == start + 3
    assert stack.local("GET", f"bus?after={start + 2}")["events"] == shown["events"][2:]
    assert stack.local("GET", f"bus?after={start + 3}") == {"events": [], "last": start + 3}
    assert [json.loads(line) for line in (stack.data / "logs" / "bus.jsonl").open()][-3:] == shown["events"]
    assert refused == {"refused": 400}
    assert stack.counters()["client"]["events.PutEvents"]["requests"] == 1
    assert raw(stack, "GET", "/_local/bus", {"Origin": "https://evil.example"})[0] == 403
    for after in ("-1", "x", "1e3"):
        assert raw(stack, "GET", f"/_local/bus?after={after}")[0] == 400


def test_the_state_shows_functions_and_queues(stack: RunningStack) -> None:
    """Children by pid with their peak, invocations, errors; depths."""
    stack.request("GET", "/v1/echo/1")
    state = stack.state()
    echo = state["functions"]["echo"]

    assert echo["invocations"] >= 1
    assert echo["memory_peak_bytes"] > 1 << 20
    for pid in echo["pids"]:
        assert b"AWS_LAMBDA_FUNCTION_NAME=echo" in processes.environment(pid).split(b"\0")
    assert set(state["queues"]["work"]) == {"visible", "in_flight", "delayed", "dlq"}


# Down, and up again.


def descendants(stack: RunningStack) -> set[int]:
    below = set(processes.family(stack.process.pid, processes.snapshot())) | set(stack.pids.values())
    return below | {pid for f in stack.state()["functions"].values() for pid in f["pids"]}


def test_sigterm_leaves_no_process_and_no_file(args: list[str], tmp_path: Path) -> None:
    """Exit 0; without --data the folder is gone, with it nothing lies beside it; stdout was one line."""
    for data in (None, tmp_path / "data"):
        with running_stack(data, args=args) as stack:
            eventually(lambda: stack.state()["functions"]["echo"]["cold_starts"], 1)
            pids, folder = descendants(stack), stack.data
            stack.process.send_signal(signal.SIGTERM)
            rest = stack.process.communicate(timeout=30)[0]

            assert stack.process.returncode == 0
            assert rest == b""
            assert [pid for pid in pids if not gone(pid)] == []
            assert folder.exists() == (data is not None)
            assert not (folder / "run.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert list((tmp_path / "data").glob("tmp/*")) == []


def test_sigkill_takes_the_children_along(args: list[str]) -> None:
    """Nobody outlives a killed supervisor: servers, idle and busy functions; its temporary folder goes too."""
    with running_stack(args=args) as stack:
        subprocess.Popen(
            [sys.executable, "-c", f"import urllib.request as u; u.urlopen({stack.api + '/v1/open?sleep=2.5'!r})"],
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: stack.state()["functions"]["echo"]["busy"], 1, 10)
        pids, folder = descendants(stack), stack.data
        stack.process.kill()
        stack.process.wait()

        assert len(pids) >= 5
        assert eventually(lambda: [pid for pid in pids if not gone(pid)], []) == []
        assert eventually(folder.exists, False) is False


def test_a_folder_keeps_objects_items_messages_and_tokens(args: list[str], tmp_path: Path) -> None:
    """A second run with the same folder goes on where the first ended."""
    data = tmp_path / "data"
    with running_stack(data, args=[*args, "--no-events"]) as stack:
        client(stack, "s3").put_object(Bucket=stack.ready["buckets"]["store"], Key="files/t/x", Body=b"kept")
        client(stack, "dynamodb").put_item(TableName="heavylift", Item={"pk": {"S": "p"}, "sk": {"S": "s"}})
        sqs = client(stack, "sqs")
        url = sqs.get_queue_url(QueueName="heavylift-work")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="kept")
        token = stack.ready["token"]
        with pytest.raises(RuntimeError, match="another stack uses"), running_stack(data, args=args):
            pass
    with running_stack(data, args=[*args, "--no-events"]) as stack:
        body = client(stack, "s3").get_object(Bucket=stack.ready["buckets"]["store"], Key="files/t/x")["Body"].read()
        item = client(stack, "dynamodb").get_item(TableName="heavylift", Key={"pk": {"S": "p"}, "sk": {"S": "s"}})

        assert body == b"kept"
        assert "Item" in item
        assert stack.state()["queues"]["work"]["visible"] == 1
        assert stack.request("GET", "/v1/echo/1", token=token)["version"] == "2.0"


def test_a_killed_server_comes_back_on_its_port(args: list[str]) -> None:
    """S3 and the tables keep everything on disk, so a kill -9 costs a moment."""
    with running_stack(args=args) as stack:
        s3, db = client(stack, "s3"), client(stack, "dynamodb")
        s3.put_object(Bucket=stack.ready["buckets"]["store"], Key="k", Body=b"kept")
        db.put_item(TableName="heavylift", Item={"pk": {"S": "p"}, "sk": {"S": "s"}})
        for name in ("s3", "moto"):
            os.kill(stack.pids[name], signal.SIGKILL)
        again = eventually(
            lambda: all(stack.state()["pids"][name] != stack.pids[name] for name in ("s3", "moto")), True
        )

        def kept() -> bytes:
            try:
                db.get_item(TableName="heavylift", Key={"pk": {"S": "p"}, "sk": {"S": "s"}})["Item"]
                return bytes(s3.get_object(Bucket=stack.ready["buckets"]["store"], Key="k")["Body"].read())
            except Exception:  # noqa: BLE001 - not yet there again
                return b""

        assert again
        assert eventually(kept, b"kept") == b"kept"


def test_no_events_processes_nothing(args: list[str]) -> None:
    """Objects are stored, functions answer requests, nothing else happens."""
    with running_stack(args=[*args, "--no-events"]) as stack:
        client(stack, "s3").put_object(Bucket=stack.ready["buckets"]["staging"], Key="in/t/x", Body=b"x")
        stack.invoke("tick", {})
        time.sleep(1.5)

        assert notes(stack) == ["tick by hand"]
        assert stack.state()["queues"]["work"]["visible"] == 0


def test_the_running_stack_can_be_found(args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its user's programs, while it runs; ``token`` asks it; nothing is found afterwards."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("HEAVYLIFT_API", raising=False)
    command = [sys.executable, "-m", "heavylift_local", "token", "--tenant", "acme", "--user", "jo"]
    with running_stack(args=args, env={"XDG_RUNTIME_DIR": str(runtime)}) as stack:
        found = discovery.running()
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

        assert found is not None
        assert found["api"] == stack.api
        context = stack.request("GET", "/v1/echo/1", token=printed.strip())["requestContext"]
        claims = context["authorizer"]["jwt"]["claims"]
        assert (claims["tenant"], claims["sub"]) == ("acme", "jo")
    assert discovery.running() is None
    assert list(runtime.iterdir()) == []
    assert subprocess.run(command, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--s3-endpoint", "http://127.0.0.1:9"], 2),
        (["--port", "70000"], 2),
        (["--topology", "/nonexistent.py"], 2),
    ],
)
def test_what_cannot_be_started_says_so(arguments: list[str], status: int) -> None:
    """A sentence on stderr, nothing on stdout, no process left."""
    done = subprocess.run(
        [sys.executable, "-m", "heavylift_local", "up", *arguments], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("heavylift up: ")


def test_a_port_that_is_taken_is_an_error(stack: RunningStack) -> None:
    """The message names the port; what had been started is gone again."""
    port = str(urlsplit(stack.api).port)
    done = subprocess.run(
        [sys.executable, "-m", "heavylift_local", "up", "--port", port], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert port in done.stderr
