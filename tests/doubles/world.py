"""The functions and what is around them, in this process: a table, buckets, queues, a bus, a clock that a test moves.

S3's events go through the topology's rules into the queues; ``pump`` hands messages to the very handlers. A sandbox
that is killed leaves its message hidden until its visibility ends, as on AWS.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from heavylift import aws, ddb_json, dynamo, keys, limits, parts, promotion, records, thumbnailing
from heavylift import settings as settings_module
from heavylift.api import complete as api_complete
from heavylift.api import health
from heavylift.api.companion import end as companion_end
from heavylift.api.companion import sign as companion_sign
from heavylift.image.decision import Decision
from heavylift.image.facts import ImageFacts
from heavylift.image.thumbnails import Thumbnail, ThumbnailResult
from heavylift.records import FileRecord
from infra import topology
from tests.doubles import contract, events
from tests.doubles.bus import BUS, FakeBus
from tests.doubles.gate import Gate, Killed
from tests.doubles.queues import FakeQueues, Message
from tests.doubles.s3 import FakeS3, Object, crc32_base64, sha256_base64
from tests.doubles.table import FakeTable

STAGING, STORE, DERIVED = "heavylift-staging", "heavylift-store", "heavylift-derived"
BUCKETS = {"staging": STAGING, "store": STORE, "derived": DERIVED}
START = 1_763_596_800.0
SWEEP_S = 900.0  # the schedule


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        self.now += 1e-5  # two looks at a clock never show the same
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def fake_thumbnails(
    source: Any, detection: Any, options: Any, seconds_left: Callable[[], float], checkpoint: bytes | None = None
) -> ThumbnailResult:
    """Pictures without a decoder: every byte is read, the JPEGs say which object they are of."""
    body = b"".join(source.read(offset, 64) for offset in range(0, source.size_bytes, 64))
    facts = ImageFacts(40, 30, "RGB", 8, detection.format, None, 1, 1, 3600)
    decision = Decision("whole", "it is small", 3600)
    digest = sha256_base64(body)
    made = tuple(
        Thumbnail(size, 40, 30, False, False, f"jpeg {size} of {digest}".encode()) for size in (256, 512, 1200)
    )
    return ThumbnailResult(facts, decision, made, 1 << 20, 5)


class World:
    """Made by the fixture ``world``; sizes are small: single PUTs up to 64 bytes, parts of 16, copies of 50."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dynamodb: Any = None) -> None:
        """``dynamodb``: a client of another judge (moto) in place of the double."""
        self.clock = Clock()
        self.s3 = FakeS3(tuple(BUCKETS.values()), versioned=(STORE,))
        self.table = FakeTable(tuple(index.name for index in topology.TABLE.indexes))
        visibility = {queue.name: float(queue.visibility_s) for queue in topology.QUEUES}
        self.queues = FakeQueues(self.clock, visibility, topology.QUEUES[0].receive_count_max)
        self.dynamodb = dynamodb or self.table
        self.bus = FakeBus()
        self.gate = Gate({"s3": self.s3, "dynamodb": self.dynamodb, "sqs": self.queues, "events": self.bus})
        self.thumbnails: Callable[..., ThumbnailResult] = fake_thumbnails
        self.handled: list[tuple[str, str]] = []
        self.context_left: float | None = None
        for name, value in environment().items():
            monkeypatch.setenv(name, value)
        for name in topology.SETTINGS:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PART_SIZE_MIN", "5")
        self.skew_s = 0.0  # by how much the clocks of functions are wrong; the queues' is right
        monkeypatch.setattr("time.time", lambda: self.clock() + self.skew_s)
        monkeypatch.setattr("time.sleep", lambda seconds: self.clock.advance(seconds))
        monkeypatch.setattr(aws, "client", self.gate.client)
        monkeypatch.setattr(aws, "prober", self.gate.client)
        monkeypatch.setattr(health, "_kept", [])
        monkeypatch.setattr(dynamo, "_secret", [])
        monkeypatch.setattr(companion_sign, "_secret", [])
        monkeypatch.setattr(settings_module, "S3_PART_SIZE_MIN", 5)
        monkeypatch.setattr(parts, "MIB", 1)
        monkeypatch.setattr(parts, "SINGLE_PUT_MAX", 64)
        monkeypatch.setattr(parts, "S3_PART_SIZE_MIN", 5)
        monkeypatch.setattr(promotion, "MIB", 1)
        monkeypatch.setattr(promotion, "COPY_OBJECT_MAX", 100)
        monkeypatch.setattr(promotion, "COPY_PART_SIZE", 50)
        monkeypatch.setattr(api_complete, "COMPLETE_WAIT_S", 0)
        monkeypatch.setattr(companion_end, "COMPLETE_WAIT_S", 0)
        monkeypatch.setattr(thumbnailing, "make_thumbnails", lambda *given: self.thumbnails(*given))
        settings_module.settings.cache_clear()

    # --- the API ---
    def call(self, function: str, method: str, route: str, **given: Any) -> tuple[int, dict[str, Any]]:
        """(status, body) of a function's handler for an HTTP event."""
        answer = self.answer(function, method, route, **given)
        return answer["statusCode"], json.loads(answer["body"])

    def answer(self, function: str, method: str, route: str, **given: Any) -> dict[str, Any]:
        """The handler's whole answer."""
        answered: dict[str, Any] = handler_of(function)(
            events.http(method, route, **given), events.Context(function, 29)
        )
        return answered

    def initiate(self, name: str, data: bytes, **entry: Any) -> str:
        status, body = self.call(
            "initiate", "POST", "/v1/uploads", body={"files": [{"name": name, "size": len(data), **entry}]}
        )
        assert status == 201, body
        file_id: str = body["uploads"][0]["upload_id"]
        return file_id

    def put(self, file_id: str, data: bytes) -> None:
        """The client's PUTs: single, or all parts."""
        record = self.record(file_id)
        if record.mode == "single":
            self.s3.put_object(
                Bucket=STAGING, Key=record.key, Body=data, ChecksumSHA256=sha256_base64(data), IfNoneMatch="*"
            )
            return
        for number in range(1, record.part_count + 1):
            self.put_part(file_id, number, data)

    def put_part(self, file_id: str, number: int, data: bytes) -> None:
        record = self.record(file_id)
        piece = data[(number - 1) * record.part_size : number * record.part_size]
        digest = sha256_base64(piece) if record.checksum == "sha256" else None
        self.s3.upload_part(
            Bucket=STAGING,
            Key=record.key,
            UploadId=record.s3_upload_id or "",
            PartNumber=number,
            Body=piece,
            ChecksumSHA256=digest,
        )

    def complete(self, file_id: str, **body: Any) -> tuple[int, dict[str, Any]]:
        return self.call("complete", "POST", "/v1/uploads/{id}/complete", path={"id": file_id}, body=body)

    def cancel(self, file_id: str) -> tuple[int, dict[str, Any]]:
        return self.call("complete", "DELETE", "/v1/uploads/{id}", path={"id": file_id})

    def retry(self, file_id: str, **body: Any) -> tuple[int, dict[str, Any]]:
        return self.call("complete", "POST", "/v1/uploads/{id}/retry", path={"id": file_id}, body=body)

    def record(self, file_id: str, tenant: str = "acme") -> FileRecord:
        key = ddb_json.encode_item(records.item_key(tenant, file_id))
        answer = self.dynamodb.get_item(TableName=topology.TABLE.name, Key=key, ConsistentRead=True)
        return records.from_item(ddb_json.decode_item(answer["Item"]))

    def status(self, file_id: str) -> str:
        return self.record(file_id).status.value

    def set(self, file_id: str, **values: Any) -> FileRecord:
        """Write fields of a record behind everybody's back."""
        change = records.change(self.record(file_id), self.clock(), **values)
        item = ddb_json.encode_item(records.to_item(change.record))
        self.dynamodb.put_item(TableName=topology.TABLE.name, Item=item)
        return change.record

    # --- events and messages ---
    def announce(self, *, copies: int = 1, reverse: bool = False) -> int:
        """Hand S3's new objects to the queues of the rules; how many messages that made."""
        new = [(bucket, key, made) for bucket, key, made in self.s3.created if not made.announced]
        for _, _, made in new:
            made.announced = True
        sent = 0
        for bucket, key, made in reversed(new) if reverse else new:
            for rule in topology.RULES:
                if BUCKETS[rule.bucket] == bucket and key.startswith(rule.prefix):
                    for _ in range(copies):
                        self.queues.send_message(
                            QueueUrl=queue_url(rule.queue), MessageBody=self.event_body(bucket, key, made)
                        )
                        sent += 1
        return sent

    def scanned(self, file_id: str, status: str = "NO_THREATS_FOUND", **said: Any) -> None:
        """GuardDuty's verdict on what lies in staging under this file's key (``etag``: on other bytes)."""
        key = said.pop("key", None) or self.record(file_id).key
        found = self.s3.buckets[STAGING].get(key)
        etag = said.pop("etag", None) or (found.etag if found else self.record(file_id).etag)
        body = json.dumps(events.scan_result(STAGING, key, etag, status, **said))
        self.queues.send_message(QueueUrl=queue_url("validate"), MessageBody=body)

    def gate_on(self, monkeypatch: pytest.MonkeyPatch, how: str = "strict") -> None:
        """The scanning gate, for the rest of the test."""
        monkeypatch.setenv("MALWARE_SCAN", how)
        settings_module.settings.cache_clear()

    @staticmethod
    def event_body(bucket: str, key: str, made: Object) -> str:
        return json.dumps(events.object_created(bucket, key, len(made.body), made.etag, made.version_id))

    def deliver(self, message: Message, seconds: float | None = None) -> bool:
        """One message to its function; whether it was settled (and so is deleted). Killed passes through."""
        function = next(f for f in topology.FUNCTIONS if f.source and f.source.queue == message.queue)
        event = events.sqs(
            {
                "body": message.body,
                "messageId": message.message_id,
                "receiptHandle": message.receipt_handle,
                "receive_count": message.receive_count,
                "queue": message.queue,
            }
        )
        context = events.Context(function.name, seconds or function.timeout_s, function.memory_mb)
        # A test may set ``context_left`` while the handler runs: that much time is left from then on.
        context.left = lambda: self.context_left
        self.handled.append((message.queue, message.message_id))
        answer = handler_of(function.name)(event, context)
        settled = not answer["batchItemFailures"]
        if settled:
            self.queues.delete(message)
        return settled

    def pump(self, *, copies: int = 1, reverse: bool = False, rounds: int = 200, wait: bool = True) -> None:
        """Deliver until nothing is left, moving the clock to the next visible message; kills cost their message."""
        for _ in range(rounds):
            self.announce(copies=copies, reverse=reverse)
            message = self.queues.receive(newest_first=reverse)
            if message is None:
                hidden = [m.visible_at for m in self.queues.messages]
                if not hidden or not wait:
                    return
                self.clock.now = max(self.clock.now, min(hidden) + 0.001)
                continue
            try:
                self.deliver(message)
            except Killed:
                self.gate.around = None
        raise AssertionError(f"{rounds} deliveries and no end: {self.queues.messages[:3]}")

    def sweep(self, seconds: float = 300) -> dict[str, int]:
        done: dict[str, int] = handler_of("sweep")(events.event("scheduled"), events.Context("sweep", seconds))
        return done

    def sweep_until_quiet(self, *, days: float = 8, rounds: int = 100) -> None:
        """The clock goes on, the schedule runs, messages are delivered, until nothing is due for ``days``."""
        end = self.clock.now + days * 86_400
        for _ in range(rounds):
            self.pump()
            due = [
                float(item["due_at"]["N"])
                for (_, sk), item in self.table.items.items()
                if sk == "F" and "due_at" in item
            ]
            if not due or min(due) > end:
                return
            self.clock.now = max(self.clock.now + SWEEP_S, min(due) + 0.01)
            self.sweep()
        raise AssertionError(f"the sweeper finds no end: {sorted(due)[:3]} at {self.clock.now}")

    # --- what must hold at the end ---
    def check_stored(self, file_id: str, data: bytes, status: str = "completed", *, orphan_uploads: int = 0) -> None:
        """One object in the store with these bytes, made once; staging empty; the record says so."""
        record = self.record(file_id)
        assert record.status.value == status, record
        # What a kill kept from being announced stays due, and nothing else does.
        assert (record.due_at is None) == (record.outbox == ())
        assert self.s3.buckets[STAGING] == {}
        key = keys.store("acme", file_id)
        assert list(self.s3.buckets[STORE]) == [key]
        assert self.s3.buckets[STORE][key].body == data
        assert self.s3.versions_made[STORE, key] == 1
        assert record.store_etag == self.s3.buckets[STORE][key].etag
        assert record.checksums["crc32"] == crc32_base64(data)
        assert len(self.s3.uploads) <= orphan_uploads, self.s3.uploads
        shown = {picture["key"] for picture in record.thumbnails}
        there = {key for key in self.s3.buckets[DERIVED] if key.startswith("thumbnails/")}
        assert shown <= there

    @contextmanager
    def hook(self, around: Callable[..., Any]) -> Iterator[None]:
        self.gate.restart(around)
        try:
            yield
        finally:
            self.gate.around = None


def queue_url(name: str) -> str:
    return f"https://sqs.us-east-1.amazonaws.com/123456789012/{name}"


def environment() -> dict[str, str]:
    """What the topology tells a function, with this world's names."""
    known = {f"{{bucket:{name}}}": physical for name, physical in BUCKETS.items()}
    known["{table}"] = topology.TABLE.name
    known["{bus}"] = BUS
    names = [name for queue in topology.QUEUES for name in (queue.name, f"{queue.name}-dlq")]
    known.update({f"{{queue:{name}}}": queue_url(name) for name in names})
    told = [topology.ENVIRONMENT, *(function.environment for function in topology.FUNCTIONS)]
    return {
        **{name: known[value] for one in told for name, value in one.items()},
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "POWERTOOLS_METRICS_NAMESPACE": "heavylift",
        "LOG_LEVEL": "INFO",
    }


def handler_of(function: str) -> Callable[[dict[str, Any], Any], Any]:
    module = importlib.import_module(f"functions.{function}.handler")

    def handler(event: dict[str, Any], context: Any) -> Any:
        answer = module.handler(event, context)
        if "routeKey" in event:
            contract.check(event, answer)
        return answer

    return handler


def visibility_s(queue: str) -> float:
    return float(limits.QUEUE_VISIBILITY_S[queue])
