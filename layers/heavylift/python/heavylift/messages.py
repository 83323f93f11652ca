"""A function fed by a queue: each message alone, with the retry clock and a verdict for every kind of failure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from heavylift import queue, work
from heavylift.errors import TransientError
from heavylift.settings import settings
from heavylift.telemetry import count, logger, memory_peak_bytes, memory_report

RESERVE_MAX_S = 20.0  # work stops this long before the deadline, so that being late is a handled failure


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message in hand: what it says, whose lease it may hold, how long there is."""

    message: queue.Message
    owner: str
    receive_count: int
    timeout_s: float
    seconds_left: Callable[[], float]


def reserve_s(timeout_s: float) -> float:
    """min(20 s, a quarter of the timeout)."""
    return min(RESERVE_MAX_S, timeout_s / 4)


Take = Callable[[Delivery], None]
Handler = Callable[[Mapping[str, Any], Any], Any]


def serve(queue_name: str, take: Take) -> Handler:
    """The Lambda handler of the function that owns ``queue_name``.

    ``take`` does one message and returns when it is settled. TransientError (and anything unexpected) makes the
    message come back after min(900, 15 * 2^(n-1)) s; LeaseLost means that somebody else settles it.
    """
    return _served(queue_name, lambda deliveries: take)


def serve_together(queue_name: str, take_all: Callable[[Sequence[Delivery]], Mapping[str, Exception]]) -> Handler:
    """``serve`` for messages that are settled together: ``take_all`` says by owner why some of them are not."""

    def prepare(deliveries: Sequence[Delivery]) -> Take:
        unsettled = take_all(deliveries)

        def take(delivery: Delivery) -> None:
            if delivery.owner in unsettled:
                raise unsettled[delivery.owner]

        return take

    return _served(queue_name, prepare)


def _parsed(record: SQSRecord) -> queue.Message | queue.UnknownMessage | None:
    try:
        return queue.parse(record.body)
    except queue.UnknownMessage as error:
        return error


def _served(queue_name: str, prepare: Callable[[Sequence[Delivery]], Take]) -> Handler:
    """``prepare`` gets all messages of an event that can be read, and gives what settles each of them."""

    def handler(event: Mapping[str, Any], context: Any) -> Any:
        timeout_s = math.ceil(context.get_remaining_time_in_millis() / 1000)

        def seconds_left() -> float:
            return float(context.get_remaining_time_in_millis()) / 1000 - reserve_s(timeout_s)

        began = time.monotonic()
        deliveries: dict[str, Delivery] = {}
        unread: dict[str, queue.UnknownMessage] = {}
        for record in map(SQSRecord, event["Records"]):
            message = _parsed(record)
            receive_count = int(record.attributes.approximate_receive_count or 1)
            if isinstance(message, queue.UnknownMessage):
                unread[record.message_id] = message
            elif message is not None:
                logger().info("message taken", message_says=repr(message), receive_count=receive_count)
                deliveries[record.message_id] = Delivery(
                    message, record.message_id, receive_count, timeout_s, seconds_left
                )
        take = prepare(tuple(deliveries.values()))

        def one(record: SQSRecord) -> None:
            receive_count = int(record.attributes.approximate_receive_count or 1)
            try:
                if record.message_id in unread:
                    raise unread[record.message_id]
                if record.message_id in deliveries:
                    take(deliveries[record.message_id])
            except work.LeaseLost as error:
                logger().info("somebody else settles this file", code=error.code, reason=error.message)
            except Exception as error:
                delay_s = queue.retry_delay_s(receive_count, settings().time_scale)
                transient = isinstance(error, TransientError)
                count("MessagesFailed", reason=error.code if isinstance(error, TransientError) else "unexpected")
                log = logger().warning if transient else logger().exception
                log("message failed", error=str(error), receive_count=receive_count, comes_back_in_s=delay_s)
                queue.come_back_in(queue_name, record.receipt_handle, delay_s)
                raise

        answer = process_partial_response(
            event=dict(event),
            record_handler=one,
            processor=BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False),
            context=context,
        )
        _tell(event["Records"], began)
        logger().debug("memory", **memory_report())
        return answer

    return handler


def _tell(records: Sequence[Mapping[str, Any]], began: float) -> None:
    """What this call took, and how long the oldest of its new messages had waited. Retries wait because they are told
    to."""
    told = [record.get("attributes") or {} for record in records]
    sent = [
        int(one["SentTimestamp"])
        for one in told
        if one.get("ApproximateReceiveCount") == "1" and "SentTimestamp" in one
    ]
    if sent:
        count("MessageLag", max(0, round(time.time() * 1000) - min(sent)), "Milliseconds")
    count("CallMilliseconds", round((time.monotonic() - began) * 1000), "Milliseconds")
    count("MemoryPeak", memory_peak_bytes(), "Bytes")
