"""SQS's JSON protocol for the calls that functions and tools make; everything else is refused.

Callers are known by their access key and may do what the topology allows them. Facts: Amazon SQS API
reference (actions, quotas, error codes) and botocore's service model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from heavylift_local.access import Callers, Denied
from heavylift_local.sqs.queue import VISIBILITY_SECONDS_MAX, Message, Queue, ReceiptInvalid
from heavylift_local.traps import AFTER, BEFORE, Sprung, Traps

MESSAGE_BYTES_MAX = 1024 * 1024  # one message, and the sum of a batch (SQS quotas, raised from 256 KiB in 2025)
BATCH_MAX = 10
WAIT_SECONDS_MAX = 20
DELAY_SECONDS_MAX = 900
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Refused(Exception):
    """An error answer: the code of the query protocol, the shape of the JSON protocol, a sentence."""

    def __init__(self, code: str, message: str, shape: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.shape, self.status = code, shape or code.rpartition(".")[2], status


def _invalid(message: str) -> Refused:
    return Refused("InvalidParameterValue", message)


class QueueService:
    """All queues of the stack, by name; ``url`` is where the service listens."""

    def __init__(self, queues: Mapping[str, Queue], callers: Callers, url: str, region: str, account: str) -> None:
        self.queues = dict(queues)
        self.url, self.region, self.account = url, region, account
        self._callers = callers
        self.traps = Traps()
        self.spring: Callable[[Sprung], object] = lambda sprung: None
        """Ends the caller; set by the supervisor, which is in this process."""
        self._by_physical = {queue.name: queue for queue in self.queues.values()}

    def queue_url(self, queue: Queue) -> str:
        return f"{self.url}/{self.account}/{queue.name}"

    def arn(self, queue: Queue) -> str:
        return f"arn:aws:sqs:{self.region}:{self.account}:{queue.name}"

    def handle(
        self, headers: Mapping[str, str], body: bytes, caller_name: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One call: status, headers and body of its answer. ``caller_name``: see Callers.of."""
        action = (headers.get("X-Amz-Target") or "").removeprefix("AmazonSQS.")
        caller = None
        try:
            caller = self._callers.of(headers.get("Authorization"), caller_name)
            sprung = self.traps.arrived(caller.name, action)
            if sprung is not None and sprung.when == BEFORE:
                self.spring(sprung)
                raise Refused("InternalError", "The caller was ended by a fault.", status=500)
            answer = self._dispatch(action, caller.name, body, headers)
            if sprung is not None and sprung.when == AFTER:
                self.spring(sprung)
            status, extra = 200, {}
        except Denied as denied:
            answer = {"__type": f"com.amazonaws.sqs#{denied.code}", "message": str(denied)}
            status, extra = denied.status, {"x-amzn-query-error": f"{denied.code};Sender"}
        except Refused as refused:
            answer = {"__type": f"com.amazonaws.sqs#{refused.shape}", "message": str(refused)}
            status, extra = refused.status, {"x-amzn-query-error": f"{refused.code};Sender"}
        payload = json.dumps(answer).encode() if answer is not None else b""
        if caller is not None:
            self._callers.count(caller.name, f"sqs.{action}", len(body), len(payload))
        return status, {"Content-Type": "application/x-amz-json-1.0", **extra}, payload

    def _dispatch(self, action: str, caller: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any] | None:
        handler: Callable[..., dict[str, Any] | None] | None = getattr(self, f"_do_{action}", None)
        if not action.isalnum() or handler is None:
            raise Refused("InvalidAction", f"The action {action[:80]!r} is not valid for this endpoint.")
        try:
            parameters = json.loads(body or b"{}")
        except ValueError:
            raise Refused("SerializationException", "The request is no JSON.") from None
        if not isinstance(parameters, dict):
            raise Refused("SerializationException", "The request is no JSON object.")
        queue = self._queue(action, parameters)
        permission = "sqs:" + action.removesuffix("Batch")
        self._callers.check(caller, permission, f"queue:{self._logical(queue)}" if queue else "queue:*")
        return handler(parameters, queue, caller, headers)

    def _queue(self, action: str, parameters: Mapping[str, Any]) -> Queue | None:
        if action == "ListQueues":
            return None
        if action == "GetQueueUrl":
            name = str(parameters.get("QueueName", ""))
        else:
            if not parameters.get("QueueUrl"):
                raise Refused("MissingParameter", "The request must contain the parameter QueueUrl.")
            name = str(parameters["QueueUrl"]).rstrip("/").rpartition("/")[2]
        queue = self._by_physical.get(name)
        if queue is None:
            raise Refused(
                "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.", "QueueDoesNotExist"
            )
        return queue

    def _logical(self, queue: Queue) -> str:
        return next(name for name, other in self.queues.items() if other is queue)

    # Actions: (parameters, queue, caller, headers) -> answer.

    def _do_ListQueues(self, parameters: Any, queue: Any, caller: str, headers: Any) -> dict[str, Any]:
        prefix = str(parameters.get("QueueNamePrefix", ""))
        return {"QueueUrls": [self.queue_url(q) for q in self.queues.values() if q.name.startswith(prefix)]}

    def _do_GetQueueUrl(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> dict[str, Any]:
        return {"QueueUrl": self.queue_url(queue)}

    def _do_GetQueueAttributes(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> dict[str, Any]:
        depth = queue.depth()
        attributes = {
            "QueueArn": self.arn(queue),
            "ApproximateNumberOfMessages": str(depth["visible"]),
            "ApproximateNumberOfMessagesNotVisible": str(depth["in_flight"]),
            "ApproximateNumberOfMessagesDelayed": str(depth["delayed"]),
            "VisibilityTimeout": str(int(queue.visibility_s)),
            "MessageRetentionPeriod": str(int(queue.retention_s)),
        }
        if queue.dead_letters is not None:
            policy = {"deadLetterTargetArn": self.arn(queue.dead_letters), "maxReceiveCount": queue.receive_count_max}
            attributes["RedrivePolicy"] = json.dumps(policy)
        wanted = parameters.get("AttributeNames") or []
        return {"Attributes": {k: v for k, v in attributes.items() if "All" in wanted or k in wanted}}

    def _do_PurgeQueue(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> None:
        queue.purge()

    def _do_SendMessage(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> dict[str, Any]:
        message, delay_s = self._message(parameters, caller, headers)
        queue.send(message, delay_s)
        return _sent(message)

    def _do_SendMessageBatch(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> dict[str, Any]:
        entries = _entries(parameters)
        if sum(len(str(entry.get("MessageBody", "")).encode()) for entry in entries) > MESSAGE_BYTES_MAX:
            raise Refused(
                "AWS.SimpleQueueService.BatchRequestTooLong",
                f"Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes.",
            )

        def send(entry: Any) -> dict[str, Any]:
            message, delay_s = self._message(entry, caller, headers)
            queue.send(message, delay_s)
            return _sent(message)

        return _each(entries, send)

    def _do_ReceiveMessage(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> dict[str, Any]:
        count = _integer(parameters, "MaxNumberOfMessages", 1, 1, BATCH_MAX)
        wait_s = _integer(parameters, "WaitTimeSeconds", 0, 0, WAIT_SECONDS_MAX)
        visibility = parameters.get("VisibilityTimeout")
        if visibility is not None:
            visibility = _integer(parameters, "VisibilityTimeout", 0, 0, VISIBILITY_SECONDS_MAX)
        wanted = [
            *(parameters.get("AttributeNames") or []),
            *(parameters.get("MessageSystemAttributeNames") or []),
        ]
        wanted_attributes = parameters.get("MessageAttributeNames") or []
        messages = []
        for message in queue.receive(count, wait_s, visibility):
            found: dict[str, Any] = {
                "MessageId": message.id,
                "ReceiptHandle": message.receipt,
                "MD5OfBody": message.md5_of_body(),
                "Body": message.body,
            }
            system = {k: v for k, v in message.system_attributes().items() if "All" in wanted or k in wanted}
            if system:
                found["Attributes"] = system
            attributes = {k: v for k, v in message.attributes.items() if {"All", ".*", k} & set(wanted_attributes)}
            if attributes:
                found["MessageAttributes"] = attributes
                found["MD5OfMessageAttributes"] = Message("", attributes).md5_of_attributes()
            messages.append(found)
        return {"Messages": messages} if messages else {}

    def _do_DeleteMessage(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> None:
        _delete(queue, parameters)

    def _do_DeleteMessageBatch(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> dict[str, Any]:
        return _each(_entries(parameters), lambda entry: _delete(queue, entry) or {})

    def _do_ChangeMessageVisibility(self, parameters: Any, queue: Queue, caller: str, headers: Any) -> None:
        _change_visibility(queue, parameters)

    def _do_ChangeMessageVisibilityBatch(
        self, parameters: Any, queue: Queue, caller: str, headers: Any
    ) -> dict[str, Any]:
        return _each(_entries(parameters), lambda entry: _change_visibility(queue, entry) or {})

    def _message(self, fields: Mapping[str, Any], caller: str, headers: Mapping[str, str]) -> tuple[Message, float]:
        body = fields.get("MessageBody")
        if not isinstance(body, str) or not body:
            raise Refused("MissingParameter", "The request must contain the parameter MessageBody.")
        attributes = fields.get("MessageAttributes") or {}
        size = len(body.encode()) + sum(len(k) + len(json.dumps(v)) for k, v in attributes.items())
        if size > MESSAGE_BYTES_MAX:
            raise _invalid(
                f"One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} bytes."
            )
        delay_s = _integer(fields, "DelaySeconds", 0, 0, DELAY_SECONDS_MAX)
        system = fields.get("MessageSystemAttributes") or {}
        trace = (system.get("AWSTraceHeader") or {}).get("StringValue") or headers.get("X-Amzn-Trace-Id")
        return Message(body, attributes, trace, caller), delay_s


def _sent(message: Message) -> dict[str, Any]:
    answer = {"MessageId": message.id, "MD5OfMessageBody": message.md5_of_body()}
    if message.attributes:
        answer["MD5OfMessageAttributes"] = message.md5_of_attributes() or ""
    return answer


def _delete(queue: Queue, fields: Mapping[str, Any]) -> None:
    try:
        queue.delete(str(fields.get("ReceiptHandle", "")))
    except ReceiptInvalid:
        raise Refused("ReceiptHandleIsInvalid", "The input receipt handle is invalid.") from None


def _change_visibility(queue: Queue, fields: Mapping[str, Any]) -> None:
    if "VisibilityTimeout" not in fields:
        raise Refused("MissingParameter", "The request must contain the parameter VisibilityTimeout.")
    seconds = _integer(fields, "VisibilityTimeout", 0, 0, VISIBILITY_SECONDS_MAX)
    try:
        queue.change_visibility(str(fields.get("ReceiptHandle", "")), seconds)
    except ReceiptInvalid:
        raise _invalid(
            "Value for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available "
            "for visibility timeout change."
        ) from None


def _integer(fields: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _invalid(
            f"Value {str(value)[:40]} for parameter {name} is invalid. Reason: Must be between {least} and {most}, "
            "if provided."
        )
    return value


def _entries(parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = parameters.get("Entries")
    if not isinstance(entries, list) or not entries:
        raise Refused("AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > BATCH_MAX:
        raise Refused(
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {BATCH_MAX}. You have sent {len(entries)}.",
        )
    ids = [str(entry.get("Id", "")) for entry in entries]
    for entry_id in ids:
        if not _ENTRY_ID.fullmatch(entry_id):
            raise Refused(
                "AWS.SimpleQueueService.InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long.",
            )
    if len(set(ids)) != len(ids):
        raise Refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Id repeated.")
    return entries


def _each(entries: list[Mapping[str, Any]], act: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **act(entry)})
        except Refused as refused:
            failed.append({"Id": entry["Id"], "Code": refused.code, "Message": str(refused), "SenderFault": True})
    return {"Successful": done, **({"Failed": failed} if failed else {})}
