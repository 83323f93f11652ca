"""Events as AWS shapes them, from tests/events/*.json with a test's own values."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

FOLDER = Path(__file__).parent.parent / "events"


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text()


def event(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(_text(name))
    return value


def http(
    method: str,
    route: str,
    *,
    path: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    body: Any = None,
    raw_body: str | None = None,
    tenant: str | None = "acme",
    user: str = "user-1",
    claims: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """An HTTP API event of payload format 2.0 for ``route`` (``/v1/uploads/{id}``)."""
    made = event("http_api_v2")
    raw_path = route
    for name, value in (path or {}).items():
        raw_path = raw_path.replace("{" + name + "}", value)
    made["routeKey"] = made["requestContext"]["routeKey"] = f"{method} {route}"
    made["rawPath"] = made["requestContext"]["http"]["path"] = raw_path
    made["requestContext"]["http"]["method"] = method
    made["pathParameters"] = dict(path or {})
    if query:
        made["queryStringParameters"] = dict(query)
        made["rawQueryString"] = urlencode(query)
    if tenant is None and claims is None:
        del made["requestContext"]["authorizer"]
    else:
        known = made["requestContext"]["authorizer"]["jwt"]["claims"]
        known.update({"tenant": tenant, "sub": user})
        known.update(claims or {})
        if tenant is None:
            del known["tenant"]
    made["headers"].update(headers or {})
    made["body"] = raw_body if raw_body is not None else None if body is None else json.dumps(body)
    return made


def object_created(
    bucket: str, key: str, size: int, etag: str, version_id: str | None = None, *, sequencer: str = "617f08299329d189"
) -> dict[str, Any]:
    made = event("s3_object_created")
    made["resources"] = [f"arn:aws:s3:::{bucket}"]
    made["detail"]["bucket"]["name"] = bucket
    made["detail"]["object"] = {"key": key, "size": size, "etag": etag, "sequencer": sequencer}
    if version_id:
        made["detail"]["object"]["version-id"] = version_id
    return made


def scan_result(
    bucket: str,
    key: str,
    etag: str,
    status: str = "NO_THREATS_FOUND",
    *,
    threats: tuple[str, ...] = (),
    version_id: str | None = None,
) -> dict[str, Any]:
    """GuardDuty's verdict on an object."""
    made = event("guardduty_scan_result")
    went = {"UNSUPPORTED": "SKIPPED", "ACCESS_DENIED": "SKIPPED", "FAILED": "FAILED"}.get(status, "COMPLETED")
    made["detail"]["scanStatus"] = went
    scanned = {"bucketName": bucket, "objectKey": key, "eTag": etag, "s3Throttled": False}
    made["detail"]["s3ObjectDetails"] = scanned | ({"versionId": version_id} if version_id else {})
    named = [{"name": name} for name in threats] or None
    made["detail"]["scanResultDetails"] = {"scanResultStatus": status, "threats": named}
    return made


def sqs(*records: dict[str, Any]) -> dict[str, Any]:
    """An SQS event; each record gives body, messageId, receiptHandle, receive_count, queue."""
    made = event("sqs")
    pattern = made["Records"][0]
    made["Records"] = []
    for record in records:
        one = copy.deepcopy(pattern)
        one["body"], one["messageId"], one["receiptHandle"] = (
            record["body"],
            record["messageId"],
            record["receiptHandle"],
        )
        one["attributes"]["ApproximateReceiveCount"] = str(record.get("receive_count", 1))
        one["eventSourceARN"] = f"arn:aws:sqs:us-east-1:123456789012:{record.get('queue', 'validate')}"
        made["Records"].append(one)
    return made


class Context:
    """A Lambda context: ``seconds`` left, unless ``left`` says otherwise after the start."""

    def __init__(self, function: str, seconds: float, memory_mb: int = 1769) -> None:
        self.function_name, self.memory_limit_in_mb = function, str(memory_mb)
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}"
        self.aws_request_id = "52fdfc07-2182-154f-163f-5f0f9a621d72"
        self.log_group_name, self.log_stream_name = f"/aws/lambda/{function}", "stream"
        self.seconds = seconds
        self.left: Callable[[], float | None] = lambda: None
        self._asked = False

    def get_remaining_time_in_millis(self) -> int:
        left = self.left() if self._asked else None  # the first question is for the whole timeout
        self._asked = True
        return int((self.seconds if left is None else left) * 1000)
