"""DynamoDB by a signed request of our own. Stdlib and heavylift only: boto3 alone would cost the signing routes ten
times their cold start.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from heavylift import credentials, ddb_json, presign
from heavylift.errors import TransientError
from heavylift.settings import Settings

_TRIES = 3
BATCH_GET_MAX = 100  # keys of one BatchGetItem (Amazon DynamoDB API reference)
BATCH_GET_TRIES = 6  # answers in a row without any item: throttled

_connections: dict[tuple[str, str], http.client.HTTPConnection] = {}


def _post(scheme: str, host: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """One POST over the kept connection; an idle one that the other side has closed is opened anew."""
    connection = _connections.get((scheme, host))
    if connection is None:
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = _connections[scheme, host] = kind(host, timeout=3)
    try:
        connection.request("POST", "/", body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        _connections.pop((scheme, host), None)
        raise


def ask(operation: str, arguments: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    """The answer to one read. TransientError when the table does not answer; RuntimeError when it refuses."""
    body = json.dumps(arguments).encode()
    scheme, host = credentials.dynamodb_endpoint(config.region, os.environ)
    for attempt in range(_TRIES):
        headers = presign.sign_json_request(
            credentials.from_environment(os.environ),
            config.region,
            "dynamodb",
            host,
            f"DynamoDB_20120810.{operation}",
            body,
            presign.timestamp(time.time()),
        )
        try:
            status, answer = _post(scheme, host, headers, body)
        except (OSError, http.client.HTTPException):
            status, answer = 503, b""
        if status == 200:
            found: dict[str, Any] = json.loads(answer)
            return found
        if status < 500 and b"Throttl" not in answer and b"ThroughputExceeded" not in answer:
            raise RuntimeError(f"DynamoDB refused {operation} with {status}")
        time.sleep(0.05 * 2**attempt)
    raise TransientError("aws_unavailable", "DynamoDB did not answer a read.")


def get_item(key: Mapping[str, str], names: Sequence[str], config: Settings) -> dict[str, Any] | None:
    """Some attributes of an item, strongly consistent; None when there is none."""
    placeholders = {f"#n{number}": name for number, name in enumerate(names)}
    answer = ask(
        "GetItem",
        {
            "TableName": config.table_name,
            "Key": ddb_json.encode_item(key),
            "ConsistentRead": True,
            "ProjectionExpression": ",".join(placeholders),
            "ExpressionAttributeNames": placeholders,
        },
        config,
    )
    item = answer.get("Item")
    return None if item is None else ddb_json.decode_item(item)


def get_items(keys: Sequence[Mapping[str, str]], config: Settings) -> list[dict[str, Any]]:
    """Whole items, strongly consistent, in any order; the absent ones are left out. TransientError."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(keys), BATCH_GET_MAX):
        wanted = [ddb_json.encode_item(key) for key in keys[start : start + BATCH_GET_MAX]]
        waiting: Any = {config.table_name: {"Keys": wanted, "ConsistentRead": True}}
        tries_without_item = 0
        while waiting:
            answer = ask("BatchGetItem", {"RequestItems": waiting}, config)
            items = (answer.get("Responses") or {}).get(config.table_name, [])
            found.extend(ddb_json.decode_item(item) for item in items)
            waiting = answer.get("UnprocessedKeys")
            tries_without_item = 0 if items else tries_without_item + 1
            if waiting and tries_without_item == BATCH_GET_TRIES:
                raise TransientError("aws_unavailable", "DynamoDB did not give all items.")
            if waiting and not items:
                time.sleep(0.05 * 2**tries_without_item)
    return found
