"""Our side of bench_dicom_ingest in one process: the local gateway, its functions, dicom_ingest and the table.

In place of DynamoDB stands the test double of it (``tests.doubles.table``): a table in this process's memory that
keeps DynamoDB's conditions, keys and limits. Its memory and its time count as ours. Queues and the bus take what they
are given and do nothing. S3 is the local stack's own, over HTTP.

Run by the bench with a JSON document; it says {"api", "token", "invoke"} when it is ready, and ends with its standard
input. A line of JSON messages on a connection to the port ``invoke`` is one invocation of dicom_ingest; its answer is a
line too. An empty list delivers what the functions have sent to their own queue. Each connection is a sandbox: its
invocations follow each other.
"""

from __future__ import annotations

import base64
import ctypes
import importlib
import json
import marshal
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from heavylift import aws  # noqa: E402
from heavylift.api import table_requests  # noqa: E402
from heavylift_local.gateway.authorizer import Authorizer  # noqa: E402
from heavylift_local.gateway.routing import Router  # noqa: E402
from heavylift_local.gateway.server import Gateway  # noqa: E402
from heavylift_local.runtime.child import Outcome  # noqa: E402
from infra import topology  # noqa: E402
from tests.doubles import events  # noqa: E402
from tests.doubles.table import FakeTable  # noqa: E402

TENANT = "bench"
ACCOUNT = "123456789012"
NO_LIMIT = str(10**9)
M_ARENA_MAX = -8  # glibc mallopt(3)


def environment(buckets: Mapping[str, str]) -> dict[str, str]:
    """What the topology tells its functions, with this bench's names."""
    known = {f"{{bucket:{name}}}": physical for name, physical in buckets.items()}
    known |= {"{table}": topology.TABLE.name, "{bus}": "default"}
    known |= {f"{{queue:{one.name}{end}}}": one.name + end for one in topology.QUEUES for end in ("", "-dlq")}
    told = [topology.ENVIRONMENT, *(function.environment for function in topology.FUNCTIONS)]
    return {name: known[value] for one in told for name, value in one.items()}


def handler_of(function: str) -> Callable[[dict[str, Any], Any], Any]:
    handler: Callable[[dict[str, Any], Any], Any] = importlib.import_module(f"functions.{function}.handler").handler
    return handler


Key = tuple[str, str]


class Partition(MutableMapping[Key, dict[str, Any]]):
    """Items in a few hundred bytes each."""

    def __init__(self) -> None:
        self.packed: dict[Key, bytes] = {}

    def __getitem__(self, key: Key) -> dict[str, Any]:
        item: dict[str, Any] = marshal.loads(self.packed[key])
        return item

    def __setitem__(self, key: Key, item: dict[str, Any]) -> None:
        self.packed[key] = marshal.dumps(item)

    def __delitem__(self, key: Key) -> None:
        del self.packed[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)


class Items(Partition):
    """The table's items, also by partition: the double looks at every item that it has for a query."""

    def __init__(self) -> None:
        super().__init__()
        self.partitions: dict[str, Partition] = {}

    def __setitem__(self, key: Key, item: dict[str, Any]) -> None:
        super().__setitem__(key, item)
        self.partitions.setdefault(key[0], Partition()).packed[key] = self.packed[key]

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        del self.partitions[key[0]].packed[key]


class Table:
    """The double, one call at a time; a query sees its own partition only."""

    def __init__(self) -> None:
        self.double = FakeTable(tuple(index.name for index in topology.TABLE.indexes))
        self.everything = Items()
        self.double.items = self.everything  # type: ignore[assignment]
        self.lock = threading.Lock()
        self.calls: dict[str, int] = {}

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self.lock:
                self.calls[operation] = self.calls.get(operation, 0) + 1
                if operation == "query" and "IndexName" not in arguments:
                    partition = arguments["ExpressionAttributeValues"][":p"]["S"]
                    self.double.items = self.everything.partitions.get(partition, Partition())
                try:
                    return getattr(self.double, operation)(**arguments)
                finally:
                    self.double.items = self.everything

        return call


class Queues:
    """Keeps what the functions send to themselves."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:
        self.bodies.append(MessageBody)
        return {}

    def change_message_visibility(self, **_: Any) -> dict[str, Any]:
        return {}


class Bus:
    """Takes every event."""

    def put_events(self, *, Entries: list[Any]) -> dict[str, Any]:
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in Entries]}


def serve(config: Mapping[str, Any]) -> None:
    if hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)  # as the local S3: thirty threads must not have a heap each
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.open(config["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(environment(config["buckets"]))
    os.environ.update(
        {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "POWERTOOLS_METRICS_NAMESPACE": "heavylift",
            "AWS_ENDPOINT_URL_S3": config["s3"],
            "AWS_ACCESS_KEY_ID": config["access_key"],
            "AWS_SECRET_ACCESS_KEY": config["secret_key"],
            "AWS_LAMBDA_FUNCTION_NAME": "dicom_ingest",
            "RATE_LIMIT_FILES_PER_MINUTE": NO_LIMIT,
            "RATE_LIMIT_CALLS_PER_MINUTE": NO_LIMIT,
        }
    )
    table, queues = Table(), Queues()
    stands = {"dynamodb": table, "sqs": queues, "events": Bus()}
    real = aws.client
    aws.client = lambda service: stands.get(service) or real(service)
    table_requests._post = lambda *asked: _signer_reads(table, *asked)  # type: ignore[assignment]

    def invoke(function: str, event: dict[str, Any], wait_seconds: float) -> Outcome:
        answer = handler_of(function)(event, events.Context(function, 29))
        return Outcome("1", True, json.dumps(answer).encode(), "answered")

    authorizer = Authorizer("bench" * 8)
    gateway = Gateway(0, ACCOUNT, ROOT / "web", ())
    gateway.start(Router(topology.FUNCTIONS), authorizer, invoke, lambda *_: (404, {}, {}))
    token = authorizer.mint(TENANT, "bench", ["heavylift/read", "heavylift/write", "heavylift/admin"])
    handler_of("dicom_ingest")

    class Sandbox(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                bodies = json.loads(line)
                if not bodies:
                    bodies, queues.bodies = queues.bodies, []
                failed = sum(_ingest(bodies[start : start + 10]) for start in range(0, len(bodies), 10))
                answer = {"failed": failed, "waiting": len(queues.bodies), "calls": table.calls}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sandbox)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    print(json.dumps({"api": gateway.url, "token": token, "invoke": port}), file=answers)
    sys.stdin.read()
    server.shutdown()
    gateway.stop()


def _ingest(bodies: list[str]) -> int:
    """One invocation with up to ten messages; how many of them were not settled."""
    messages = [
        {"body": body, "messageId": f"m{n}", "receiptHandle": f"r{n}", "queue": "dicom_ingest"}
        for n, body in enumerate(bodies)
    ]
    answer = handler_of("dicom_ingest")(events.sqs(*messages), events.Context("dicom_ingest", 120, 512))
    return len(answer["batchItemFailures"])


def _signer_reads(table: Table, scheme: str, host: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """sign's own requests to the table."""
    asked = json.loads(body)
    operation = headers["x-amz-target"].rpartition(".")[2]
    if operation == "BatchGetItem":
        answer = table.batch_get_item(RequestItems=asked["RequestItems"])
    else:
        answer = table.get_item(TableName=asked["TableName"], Key=asked["Key"], ConsistentRead=True)
    return 200, json.dumps(answer, default=lambda value: base64.b64encode(value).decode()).encode()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
