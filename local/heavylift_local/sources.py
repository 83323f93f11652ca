"""What starts functions without a request: the queues they consume and the clock."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from heavylift_local.runtime import lineage
from heavylift_local.runtime.child import Outcome
from heavylift_local.runtime.pool import Pool
from heavylift_local.sqs.queue import Message, Queue, ReceiptInvalid

LONG_POLL_S = 20.0
ERROR_PAUSE_S = 0.2  # after an outcome that consumed nothing, so that a broken function does not spin

logger = logging.getLogger(__name__)


def record(message: Message, arn: str, region: str) -> dict[str, Any]:
    """One SQS message as Lambda hands it to a function (AWS Lambda developer guide, "Using Lambda with Amazon SQS")."""
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt,
        "body": message.body,
        "attributes": message.system_attributes(),
        "messageAttributes": {
            name: {
                "stringValue": value.get("StringValue"),
                "binaryValue": value.get("BinaryValue"),
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value.get("DataType"),
            }
            for name, value in message.attributes.items()
        },
        "md5OfBody": message.md5_of_body(),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": region,
    }


def failed_ids(outcome: Outcome, sent: list[str]) -> set[str]:
    """The messages to keep after an invocation, by Lambda's rules for ReportBatchItemFailures.

    An absent, null or empty list is success. An error, an answer that is no JSON object, or an item
    identifier that is empty or not of this batch keeps them all.
    """
    everything = set(sent)
    if not outcome.ok:
        return everything
    try:
        answer = json.loads(outcome.payload or b"null")
    except ValueError:
        return everything
    if answer is None or answer == "":
        return set()
    if not isinstance(answer, dict):
        return everything
    failures = answer.get("batchItemFailures")
    if not failures:
        return set()
    if not isinstance(failures, list):
        return everything
    failed = {item.get("itemIdentifier") if isinstance(item, dict) else None for item in failures}
    return failed & everything if failed <= everything else everything  # type: ignore[return-value]


class QueueSource:
    """Feeds one queue to one function by as many pollers as the function may have children for it."""

    def __init__(
        self,
        pool: Pool,
        queue: Queue,
        arn: str,
        region: str,
        batch_size: int,
        batch_window_s: float,
        pollers: int,
        recursion_allowed: bool,
    ) -> None:
        self._pool, self._queue, self._arn, self._region = pool, queue, arn, region
        self._batch_size, self._batch_window_s = batch_size, batch_window_s
        self._recursion_allowed = recursion_allowed
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._poll, name=f"poll-{queue.name}-{n}", daemon=True) for n in range(pollers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when the pollers are gone; close the queue and stop the pool first."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(5)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                messages = self._receive()
                if messages and not self._stopping.is_set():
                    self.deliver(messages)
                elif not messages:
                    self._stopping.wait(0.01)
            except Exception:
                logger.exception("delivery from %s failed", self._queue.name)
                self._stopping.wait(ERROR_PAUSE_S)

    def _receive(self) -> list[Message]:
        messages = self._queue.receive(min(10, self._batch_size), LONG_POLL_S)
        until = time.monotonic() + self._batch_window_s
        while messages and len(messages) < self._batch_size and not self._stopping.is_set():
            wanted = min(10, self._batch_size - len(messages))
            more = self._queue.receive(wanted, max(0.0, until - time.monotonic()))
            messages += more
            if not more:
                break
        return messages

    def deliver(self, messages: list[Message]) -> Outcome | None:
        """One invocation; deletes what it is done with. None when the recursion guard refused it."""
        trace = lineage.deepest([message.trace_header for message in messages], self._pool.launch.name)
        _, hops = lineage.enter(trace, self._pool.launch.name)
        if hops > lineage.HOPS_MAX and not self._recursion_allowed:
            logger.error("recursive loop of %s stopped after %d invocations", self._pool.launch.name, hops - 1)
            for message in messages:
                self._queue.to_dead_letters(message.receipt or "")
            return None
        receipts = {message.id: message.receipt or "" for message in messages}
        event = {"Records": [record(message, self._arn, self._region) for message in messages]}
        outcome = self._pool.invoke(json.dumps(event).encode(), trace)
        kept = failed_ids(outcome, list(receipts))
        for message_id, receipt in receipts.items():
            if message_id not in kept:
                try:
                    self._queue.delete(receipt)
                except ReceiptInvalid:
                    pass
        if outcome.kind == "throttled":
            for receipt in receipts.values():
                self._show_again(receipt)
        return outcome

    def _show_again(self, receipt: str) -> None:
        """A message nobody looked at goes back at once, as Lambda's pollers do on throttling."""
        try:
            self._queue.change_visibility(receipt, 0)
        except ReceiptInvalid:
            pass


def scheduled_event(rule: str, region: str, account: str) -> dict[str, Any]:
    """What an EventBridge schedule sends."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{account}:rule/{rule}"],
        "detail": {},
    }


def retry_delays(scale: float) -> tuple[float, float]:
    """How long Lambda waits before it invokes again what failed asynchronously: one minute, then two.

    AWS Lambda developer guide, "How Lambda handles errors and retries with asynchronous invocation".
    """
    return 60.0 / scale, 120.0 / scale


class Schedule:
    """Runs ``action`` after ``first_s``, then every ``period_s`` from start to start; never twice at once."""

    def __init__(self, name: str, period_s: float, first_s: float, action: Callable[[], object]) -> None:
        self._period_s, self._first_s, self._action = period_s, first_s, action
        self._name = name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"schedule-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        due = time.monotonic() + self._first_s
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._period_s, time.monotonic())
            try:
                self._action()
            except Exception:
                logger.exception("schedule %s failed", self._name)
