"""Queues: what a message says, how one is sent, when a failed one comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws
from heavylift.limits import HOP_LIMIT, RETRY_BASE_S, RETRY_MAX_S, THREAT_NAME_LENGTH
from heavylift.settings import settings

MESSAGE_VERSION = 1
SCAN_RESULT = "GuardDuty Malware Protection Object Scan Result"
DOINGS = frozenset({"continue", "chunk", "recount", "handover"})


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """S3 says that an object appeared; it may say so twice, late, out of order or never."""

    bucket: str
    key: str
    size_bytes: int
    etag: str
    version_id: str | None
    sequencer: str


@dataclass(frozen=True, slots=True)
class Continuation:
    """We say that a file's stage is to go on."""

    do: str
    tenant: str
    file_id: str
    attempt: int
    hop: int = 0
    hop_limit: int = HOP_LIMIT
    checkpoint: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ScanVerdict:
    """A malware scanner says what it found in an object; it may say so twice, late, or before anything else."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    status: str
    threats: tuple[str, ...] = ()


Message = ObjectCreated | Continuation | ScanVerdict


class UnknownMessage(ValueError):
    """A message that nobody here wrote: it is left to the dead-letter queue."""


def parse(body: str) -> Message | None:
    """What a message body says; None for one that asks for nothing (S3's test event). UnknownMessage otherwise."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnknownMessage("the body is no JSON") from error
    if not isinstance(message, dict):
        raise UnknownMessage("the body is no JSON object")
    if message.get("Event") == "s3:TestEvent":
        return None
    try:
        if message.get("source") == "aws.s3" and message.get("detail-type") == "Object Created":
            return _object_created(message["detail"])
        if message.get("source") == "aws.guardduty" and message.get("detail-type") == SCAN_RESULT:
            return _scan_verdict(message["detail"])
        if message.get("v") == MESSAGE_VERSION and message.get("do") in DOINGS:
            return _continuation(message)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnknownMessage(f"a field is absent or of another type: {type(error).__name__}") from error
    raise UnknownMessage(f"unknown message v={message.get('v')!r} do={message.get('do')!r}")


def _object_created(detail: Mapping[str, Any]) -> ObjectCreated:
    found = detail["object"]
    # EventBridge gives the key raw; only S3's own notifications are URL-encoded.
    return ObjectCreated(
        _text(detail["bucket"]["name"]),
        _text(found["key"]),
        max(0, int(found.get("size", 0))),
        str(found.get("etag", "")).strip('"'),
        found.get("version-id"),
        str(found.get("sequencer", "")),
    )


def _scan_verdict(detail: Mapping[str, Any]) -> ScanVerdict:
    """``scanStatus`` COMPLETED, SKIPPED or FAILED says how it went; ``scanResultStatus`` what came out."""
    scanned, result = detail["s3ObjectDetails"], detail.get("scanResultDetails") or {}
    threats = result.get("threats") or ()
    return ScanVerdict(
        _text(scanned["bucketName"]),
        _text(scanned["objectKey"]),
        _text(scanned["eTag"]).strip('"'),
        scanned.get("versionId"),
        _text(result.get("scanResultStatus") or "FAILED"),
        tuple(_text(threat["name"])[:THREAT_NAME_LENGTH] for threat in threats),
    )


def _continuation(message: Mapping[str, Any]) -> Continuation:
    return Continuation(
        message["do"],
        _text(message["tenant"]),
        _text(message["id"]),
        int(message.get("attempt", 0)),
        int(message.get("hop", 0)),
        int(message.get("hop_limit", HOP_LIMIT)),
        message.get("checkpoint"),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def body_of(message: Continuation) -> str:
    return json.dumps(
        {
            "v": MESSAGE_VERSION,
            "do": message.do,
            "tenant": message.tenant,
            "id": message.file_id,
            "attempt": message.attempt,
            "hop": message.hop,
            "hop_limit": message.hop_limit,
            "checkpoint": message.checkpoint,
        },
        separators=(",", ":"),
    )


def retry_delay_s(receive_count: int, time_scale: float = 1.0) -> int:
    """min(900, 15 * 2^(n-1)) s after the n-th receive, on the scaled clock; whole seconds, as SQS takes them."""
    exponent = min(max(receive_count, 1) - 1, 16)
    return int(min(RETRY_MAX_S, RETRY_BASE_S * 2**exponent) / time_scale)


def send(queue: str, message: Continuation, *, delay_s: int = 0) -> None:
    """Put a continuation on ``queue``, to be seen in ``delay_s`` seconds. TransientError when SQS does not take it."""
    later = {"DelaySeconds": delay_s} if delay_s else {}
    try:
        aws.client("sqs").send_message(QueueUrl=settings().queue_url(queue), MessageBody=body_of(message), **later)
    except (ClientError, BotoCoreError) as error:
        raise aws.later(error, "send_message") from error


def backlog(queue: str) -> int:
    """About how many messages wait on ``queue`` to be taken up; those in hand are not counted. TransientError."""
    try:
        answer = aws.client("sqs").get_queue_attributes(
            QueueUrl=settings().queue_url(queue), AttributeNames=["ApproximateNumberOfMessages"]
        )
    except (ClientError, BotoCoreError) as error:
        raise aws.later(error, "get_queue_attributes") from error
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def come_back_in(queue: str, receipt_handle: str, seconds: int) -> None:
    """Set one message's visibility; a lost call only means that it comes back later."""
    try:
        aws.client("sqs").change_message_visibility(
            QueueUrl=settings().queue_url(queue), ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
        )
    except (ClientError, BotoCoreError):
        return
