"""The calls of a function that makes very many small ones, signed and sent by ourselves instead of by boto3.

``client(service)`` has the same operations, arguments, answers and exceptions as boto3's client of that name, as far as
they are used here; an operation that is not below is boto3's, which is then loaded. Who calls notices only the price: a
call costs a quarter of boto3's processor time, and the function starts without boto3 and its 40 MB.

What boto3 does is done here too: attempts with full jitter (``retried``), time limits, ``AWS_ENDPOINT_URL*``. An answer
that was lost may make a call arrive twice, as with boto3.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from heavylift import credentials, presign
from heavylift.connections import Answer, Pool, Timeouts
from heavylift.direct_s3 import S3
from heavylift.retried import Calls
from heavylift.settings import settings


def possible(environment: Mapping[str, str]) -> bool:
    """Whether calls can be made without boto3: keys in the environment, as Lambda gives them, and no proxy."""
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return "AWS_ACCESS_KEY_ID" in environment and not any(environment.get(name) for name in proxies)


class _Service(NamedTuple):
    """How a service of AWS's JSON protocols is asked. ``variable``: of AWS_ENDPOINT_URL_*."""

    variable: str
    target: str
    version: str = "1.0"


_JSON_SERVICES: Final = {
    "dynamodb": _Service("DYNAMODB", "DynamoDB_20120810"),
    "sqs": _Service("SQS", "AmazonSQS"),
    "events": _Service("EVENTBRIDGE", "AWSEvents", "1.1"),
}
_JSON_OPERATIONS: Final = {
    "dynamodb": {
        "get_item": "GetItem",
        "put_item": "PutItem",
        "update_item": "UpdateItem",
        "delete_item": "DeleteItem",
        "query": "Query",
        "batch_get_item": "BatchGetItem",
        "batch_write_item": "BatchWriteItem",
    },
    "sqs": {"send_message": "SendMessage", "change_message_visibility": "ChangeMessageVisibility"},
    "events": {"put_events": "PutEvents"},
}

Fallback = Callable[[], Any]
"""Makes boto3's client of the same service."""


def client(service: str, *, attempts: int, connect_s: float, read_s: float, fallback: Fallback) -> Any:
    """What stands in for boto3's client of ``service``."""
    calls = Calls(Pool(Timeouts(connect_s, read_s)), attempts)
    return S3(calls, fallback) if service == "s3" else Json(service, calls, fallback)


# --- AWS's JSON protocols ---------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """What JSON has no form for: bytes are base64, times are seconds."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"no JSON for {type(value).__name__}")


class Json:
    """DynamoDB, SQS or EventBridge. Bytes in an answer's items stay base64: ``ddb_json`` reads either."""

    def __init__(self, service: str, calls: Calls, fallback: Fallback) -> None:
        self._name, self._service, self._calls, self._fallback = service, _JSON_SERVICES[service], calls, fallback
        self._operations = _JSON_OPERATIONS[service]

    def __getattr__(self, name: str) -> Any:
        operation = self._operations.get(name)
        if operation is None:
            return getattr(self._fallback(), name)

        def call(**arguments: Any) -> dict[str, Any]:
            return self._call(operation, arguments)

        return call

    def _call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        scheme, host = self._endpoint()
        body = json.dumps(arguments, separators=(",", ":"), default=_plain).encode()
        region, target = settings().region, f"{self._service.target}.{operation}"

        def sign(ts: str) -> Mapping[str, str]:
            known = credentials.from_environment(os.environ)
            return presign.sign_json_request(
                known, region, self._name, host, target, body, ts, version=self._service.version
            )

        answer = self._calls.ask(operation, "POST", scheme, host, "/", sign, body, _json_refused)
        found: dict[str, Any] = json.loads(answer.body) if answer.body else {}
        return found

    def _endpoint(self) -> tuple[str, str]:
        endpoint = os.environ.get(f"AWS_ENDPOINT_URL_{self._service.variable}") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            parts = urlsplit(endpoint)
            return parts.scheme, parts.netloc
        region = settings().region
        return "https", f"{self._name}.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def _json_refused(answer: Answer) -> tuple[str, str] | None:
    if answer.status == 200:
        crc = answer.headers.get("x-amz-crc32")  # DynamoDB's, of the body
        whole = crc is None or not crc.isdecimal() or int(crc) == zlib.crc32(answer.body)
        return None if whole else ("InternalError", "The answer is not the one that was sent.")
    try:
        said = json.loads(answer.body)
        code = str(said.get("__type", "")) or answer.headers.get("x-amzn-errortype", "")
        message = str(said.get("message") or said.get("Message") or "")
    except (ValueError, AttributeError):
        code, message = "", ""
    # SQS has names of its older protocol beside the new ones; boto3 shows those.
    older = answer.headers.get("x-amzn-query-error", "").partition(";")[0]
    return older or code.rpartition("#")[2].partition(":")[0] or str(answer.status), message
