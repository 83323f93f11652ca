"""moto's DynamoDB behind a door that knows the callers, counts them, and writes every change to a journal.

One lock around each call: moto's tables are plain dicts, and a condition must be checked and written as
one. Calls hold the interpreter lock for their whole length anyway, so nothing is lost by it.
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler
from werkzeug.serving import make_server as make_wsgi_server
from werkzeug.test import Client

from heavylift_local.access import Caller, Callers, Denied, Grant
from heavylift_local.tables import calls, journal

BODY_BYTES_MAX = 17 * 1024 * 1024  # DynamoDB takes 16 MiB (BatchWriteItem)
TARGET = "DynamoDB_20120810."

logger = logging.getLogger(__name__)
Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 300

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line a call would double the cost of the call."""


def make_server(service: TableService, port: int) -> BaseWSGIServer:
    """The service on 127.0.0.1; port 0 takes a free one."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    return make_wsgi_server("127.0.0.1", port, service, threaded=True, request_handler=_Handler)


class TableService:
    """A WSGI application."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._region, self._account = config["region"], config["account"]
        self._admin_token = config["admin_token"]
        self._lock = threading.Lock()
        self._callers = Callers(
            tuple(
                Caller(
                    c["name"],
                    c["access_key"],
                    tuple(Grant(tuple(g["actions"]), tuple(g["resources"])) for g in c["grants"]),
                )
                for c in config["callers"]
            ),
            self._account,
        )
        self._key_names: dict[str, tuple[str, ...]] = {}
        for table in config["tables"]:
            self._create(table)
        path = Path(config["data"]) / "journal.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._load(path)
        self._journal = journal.Journal(path)

    def close(self) -> None:
        with self._lock:
            self._journal.close()

    def _create(self, table: Mapping[str, Any]) -> None:
        names = [table["partition_key"], table["sort_key"]]
        self._key_names[table["name"]] = (table["partition_key"], table["sort_key"])
        indexes = []
        for index in table["indexes"]:
            names += [index["partition_key"], index["sort_key"]]
            indexes.append(
                {
                    "IndexName": index["name"],
                    "KeySchema": _key_schema(index["partition_key"], index["sort_key"]),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            )
        self._call(
            "CreateTable",
            {
                "TableName": table["name"],
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": _key_schema(table["partition_key"], table["sort_key"]),
                "AttributeDefinitions": [
                    {"AttributeName": name, "AttributeType": "S"} for name in dict.fromkeys(names)
                ],
                **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
            },
        )
        ttl = {"Enabled": True, "AttributeName": table["ttl_attribute"]}
        self._call("UpdateTimeToLive", {"TableName": table["name"], "TimeToLiveSpecification": ttl})

    def _call(self, action: str, body: Mapping[str, Any]) -> None:
        """A control-plane call of our own, past the door."""
        answer = Client(self._moto).post(
            "/",
            data=json.dumps(body),
            headers={
                "X-Amz-Target": TARGET + action,
                "Content-Type": "application/x-amz-json-1.0",
                "Authorization": f"AWS4-HMAC-SHA256 Credential=local/20260101/{self._region}/dynamodb/aws4_request",
            },
        )
        if answer.status_code != 200:
            raise RuntimeError(f"{action} refused: {answer.get_data(as_text=True)}")

    def _load(self, path: Path) -> None:
        items = journal.latest(path)
        for (table, _), item in items.items():
            if table in self._key_names:
                self._table(table).put_item(item, overwrite=True)
        journal.compact(path, items)

    def _table(self, name: str) -> Any:
        return dynamodb_backends[self._account][self._region].tables[name]

    def _item(self, table: str, key: journal.Item) -> Any:
        """moto's item for the key, or None."""
        hash_name, range_name = self._key_names[table]
        return self._table(table).get_item(DynamoType(key[hash_name]), DynamoType(key[range_name]))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), BODY_BYTES_MAX))
        if path == "/_local/counters":
            return self._counters(environ, start_response)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        caller = None
        try:
            caller = self._callers.of(environ.get("HTTP_AUTHORIZATION"))
            status, headers, answer, units = self._answer(caller.name, target, body, environ)
        except Denied as denied:
            status, units = f"{denied.status} Denied", 0
            answer = json.dumps(
                {"__type": f"com.amazon.coral.service#{denied.code}", "Message": str(denied), "message": str(denied)}
            ).encode()
            headers = [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(answer)))]
        if caller is not None:
            operation = f"dynamodb.{target[len(TARGET) :]}" if target.startswith(TARGET) else target
            self._callers.count(caller.name, operation, len(body), len(answer), units)
        start_response(status, headers)
        return [answer]

    def _answer(
        self, caller: str, target: str, body: bytes, environ: Environ
    ) -> tuple[str, list[tuple[str, str]], bytes, int]:
        if not target.startswith(TARGET):
            if target.startswith("AWSEvents."):
                self._callers.check(caller, "events:" + target.partition(".")[2], "bus")
                return (*self._forward(environ, body), 0)
            raise Denied("UnknownOperationException", f"The local tables do not know {target[:80]!r}")
        action = target[len(TARGET) :]
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            raise Denied("SerializationException", "The request is no JSON") from None
        for permission, _, index in calls.permissions(action, request):
            self._callers.check(caller, permission, f"table/index/{index}" if index else "table")
        with self._lock:
            if action not in calls.WRITES:
                return (*self._forward(environ, body), 0)
            touched = calls.written_keys(action, request, self._key_names)
            sizes = [_size(self._item(table, key)) for table, key in touched]
            answer = self._forward(environ, body)
            units = 0
            for (table, key), before in zip(touched, sizes, strict=True):
                item = self._item(table, key)
                units += calls.write_units(action, before, _size(item))
                if answer[0].startswith("200"):
                    self._journal.append(table, key, item.to_json()["Attributes"] if item is not None else None)
            return (*answer, units)

    def _forward(self, environ: Environ, body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        inner = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        captured: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            captured[:] = [status, headers]
            return lambda _: None

        answer = b"".join(self._moto(inner, start))
        return captured[0], captured[1], answer

    def _counters(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_X_LOCAL_TOKEN") != self._admin_token:
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        answer = json.dumps(self._callers.counts()).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]


def _key_schema(partition_key: str, sort_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition_key, "KeyType": "HASH"},
        {"AttributeName": sort_key, "KeyType": "RANGE"},
    ]


def _size(item: Any) -> int:
    return 0 if item is None else int(item.size())
