"""Messages are kept or deleted by Lambda's rules, loops are cut, clocks do not overlap."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from heavylift_local.runtime import lineage
from heavylift_local.runtime.child import Outcome
from heavylift_local.sources import QueueSource, Schedule, failed_ids, record
from heavylift_local.sqs.queue import Message, Queue


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (None, set()),
        ("", set()),
        ({}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, {"a"}),
        ({"batchItemFailures": [{"itemIdentifier": "x"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{}]}, {"a", "b"}),
        ({"batchItemFailures": "a"}, {"a", "b"}),
        ([1], {"a", "b"}),
        ("text", {"a", "b"}),
    ],
)
def test_what_stays_in_the_queue(answer: Any, kept: set[str]) -> None:
    """Named failures stay; a broken report keeps the whole batch."""
    outcome = Outcome("r", True, json.dumps(answer).encode(), "answered")

    assert failed_ids(outcome, ["a", "b"]) == kept


def test_an_error_keeps_the_batch() -> None:
    """A crash, a timeout or an exception deletes nothing, and neither does an answer that is no JSON."""
    assert failed_ids(Outcome("r", False, b"{}", "timeout"), ["a", "b"]) == {"a", "b"}
    assert failed_ids(Outcome("r", True, b"not json", "answered"), ["a", "b"]) == {"a", "b"}


def test_a_record_has_lambdas_shape() -> None:
    """Names and cases as in AWS's example event."""
    queue = Queue("q", 30, 1e6)
    queue.send(Message("body", {"k": {"DataType": "String", "StringValue": "v"}}, "Root=1-x", "sender"))
    [message] = queue.receive()
    made = record(message, "arn:aws:sqs:us-east-1:000000000000:q", "us-east-1")

    assert set(made) == {
        "messageId", "receiptHandle", "body", "attributes", "messageAttributes",
        "md5OfBody", "eventSource", "eventSourceARN", "awsRegion",
    }  # fmt: skip
    assert set(made["attributes"]) == {
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
        "AWSTraceHeader",
    }
    assert made["messageAttributes"]["k"]["stringValue"] == "v"


class FakePool:
    """Remembers events and answers as told."""

    def __init__(self, answer: Any = None, ok: bool = True) -> None:
        self.launch = type("L", (), {"name": "f"})()
        self.events: list[Any] = []
        self.traces: list[lineage.Trace] = []
        self.outcome = Outcome("r", ok, json.dumps(answer).encode(), "answered" if ok else "raised")

    def invoke(self, payload: bytes, trace: lineage.Trace) -> Outcome:
        self.events.append(json.loads(payload))
        self.traces.append(trace)
        return self.outcome


def source(pool: FakePool, queue: Queue, allowed: bool = False, batch: int = 10) -> QueueSource:
    return QueueSource(pool, queue, "arn", "us-east-1", batch, 0.0, 1, allowed)  # type: ignore[arg-type]


def chain(hops: int) -> str:
    trace = lineage.fresh()
    for _ in range(hops):
        trace, _ = lineage.enter(trace, "f")
    return trace.header()


@pytest.mark.parametrize(
    ("hops", "allowed", "delivered"), [(15, False, 1), (16, False, 0), (16, True, 1), (99, True, 1)]
)
def test_the_seventeenth_invocation_of_a_chain_is_stopped(hops: int, allowed: bool, delivered: int) -> None:
    """Sixteen pass; the next message goes to the dead letters unless the function may recurse."""
    dead = Queue("dead", 30, 1e6)
    queue = Queue("q", 30, 1e6, dead, 5)
    queue.send(Message("m", trace_header=chain(hops)))
    pool = FakePool()

    source(pool, queue, allowed).deliver(queue.receive())

    assert len(pool.events) == delivered
    assert dead.depth()["visible"] == 1 - delivered
    assert sum(queue.depth().values()) == 0


def test_a_partial_failure_deletes_the_rest() -> None:
    """One of three comes back after its visibility, two are gone."""
    queue = Queue("q", 0.05, 1e6)
    for body in "abc":
        queue.send(Message(body))
    messages = queue.receive(10)
    pool = FakePool({"batchItemFailures": [{"itemIdentifier": messages[1].id}]})

    source(pool, queue).deliver(messages)

    assert [m.body for m in queue.receive(10, wait_s=5)] == ["b"]


def test_pollers_batch_what_waits() -> None:
    """A waiting backlog is handed over in batches of the wanted size."""
    queue = Queue("q", 30, 1e6)
    for number in range(7):
        queue.send(Message(str(number)))
    pool = FakePool()
    poller = source(pool, queue, batch=5)
    poller.start()
    until = time.monotonic() + 10
    while sum(queue.depth().values()) and time.monotonic() < until:
        time.sleep(0.01)
    queue.close()
    poller.stop()

    assert [len(event["Records"]) for event in pool.events] == [5, 2]


def test_a_schedule_never_overlaps_itself() -> None:
    """A run that takes longer than its period delays the next one."""
    running = threading.Lock()
    runs: list[bool] = []

    def act() -> None:
        free = running.acquire(blocking=False)
        runs.append(free)
        time.sleep(0.03)
        if free:
            running.release()

    schedule = Schedule("s", 0.01, 0.0, act)
    schedule.start()
    until = time.monotonic() + 10
    while len(runs) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    schedule.stop()

    assert len(runs) >= 4
    assert all(runs)
