"""moto's DynamoDB behind a door that knows the callers, counts what they use, and writes every change to a journal.

One lock around each call: moto's tables are plain dicts, and a condition must be checked and written as
one. Calls hold the interpreter lock for their whole length anyway, so nothing is lost by it.

moto looks at every item of the table for a Query of an index: with 10,000 items a page of 50 takes 0.1 to 0.4 s
on a busy 2-core machine, where GetItem and PutItem take 2 to 5 ms whatever the size of the table.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
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
from heavylift_local.tables import calls, journal, units
from heavylift_local.traps import AFTER, BEFORE, TrapError, Traps, parse, tell

BODY_BYTES_MAX = 17 * 1024 * 1024  # DynamoDB takes 16 MiB (BatchWriteItem)
TARGET = "DynamoDB_20120810."
TTL_LATE_S = 48 * 3600  # DynamoDB: "typically within a few days", once "within 48 hours"; divided by the time scale
TTL_EVERY_S = 3600.0
TTL_AGE_SECONDS_MAX = 5 * 365 * 86_400  # an older date is taken for a mistake and the item stays

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
        self._indexes: dict[str, dict[str, units.Keys]] = {}
        self._ttl_names: dict[str, str] = {}
        self._scale = float(config.get("time_scale") or 1)
        self._call_sink: str | None = config.get("call_sink")
        self.traps = Traps()
        self.caller_of_port: dict[str, str] = {}
        """Callers that share one key are told apart by the port they were given."""
        self._stopping = threading.Event()
        for table in config["tables"]:
            self._create(table)
        path = Path(config["data"]) / "journal.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._load(path)
        self._journal = journal.Journal(path)

    def start(self) -> None:
        """Items past their time to live go from now on, as late as they do on AWS."""
        threading.Thread(target=self._expire_for_ever, name="ttl", daemon=True).start()

    def close(self) -> None:
        self._stopping.set()
        with self._lock:
            self._journal.close()

    def _create(self, table: Mapping[str, Any]) -> None:
        names = [table["partition_key"], table["sort_key"]]
        self._key_names[table["name"]] = (table["partition_key"], table["sort_key"])
        self._ttl_names[table["name"]] = table["ttl_attribute"]
        self._indexes[table["name"]] = {
            index["name"]: units.Keys((index["partition_key"], index["sort_key"])) for index in table["indexes"]
        }
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

    def _call(self, action: str, body: Mapping[str, Any]) -> Any:
        """A call of our own, past the door."""
        answer = Client(self._moto).post(
            "/",
            data=journal.encode_request(body),
            headers={
                "X-Amz-Target": TARGET + action,
                "Content-Type": "application/x-amz-json-1.0",
                "Authorization": f"AWS4-HMAC-SHA256 Credential=local/20260101/{self._region}/dynamodb/aws4_request",
            },
        )
        if answer.status_code != 200:
            raise RuntimeError(f"{action} refused: {answer.get_data(as_text=True)}")
        return json.loads(answer.get_data() or b"null")

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

    def _json(self, table: str, key: journal.Item) -> journal.Item | None:
        """The item as it stands now, its values no longer moto's own."""
        item = self._item(table, key)
        return None if item is None else journal.decode(journal.encode(item.to_json()["Attributes"]))

    def _expire_for_ever(self) -> None:
        while not self._stopping.wait(max(1.0, TTL_EVERY_S / self._scale)):
            try:
                self.expire(time.time() - TTL_LATE_S / self._scale)
            except Exception:
                logger.exception("the time to live was not looked after")

    def expire(self, before: float) -> int:
        """Deletes what ended before that moment; how many items."""
        gone = 0
        for name, attribute in self._ttl_names.items():
            with self._lock:
                keys = self._key_names[name]
                ended = [
                    {key: item.attrs[key].to_json() for key in keys}
                    for item in list(self._table(name).all_items())
                    if attribute in item.attrs and _ended(item.attrs[attribute], before)
                ]
                for key in ended:
                    self._call("DeleteItem", {"TableName": name, "Key": key})
                    self._journal.append(name, key, None)
                gone += len(ended)
        return gone

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), BODY_BYTES_MAX))
        if path.startswith("/_local/"):
            return self._admin(environ, path.removeprefix("/_local/"), body, start_response)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        caller = None
        used: dict[str, float] = {}
        try:
            caller = self._callers.of(
                environ.get("HTTP_AUTHORIZATION"), self.caller_of_port.get(environ.get("SERVER_PORT", ""))
            )
            status, headers, answer, used = self._answer(caller.name, target, body, environ)
        except Denied as denied:
            status = f"{denied.status} Denied"
            answer = json.dumps(
                {"__type": f"com.amazon.coral.service#{denied.code}", "Message": str(denied), "message": str(denied)}
            ).encode()
            headers = [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(answer)))]
        if caller is not None:
            operation = f"dynamodb.{target[len(TARGET) :]}" if target.startswith(TARGET) else target
            self._callers.count(caller.name, operation, len(body), len(answer), used)
        start_response(status, headers)
        return [answer]

    def _answer(
        self, caller: str, target: str, body: bytes, environ: Environ
    ) -> tuple[str, list[tuple[str, str]], bytes, dict[str, float]]:
        if not target.startswith(TARGET):
            raise Denied("UnknownOperationException", f"The local tables do not know {target[:80]!r}")
        action = target[len(TARGET) :]
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            raise Denied("SerializationException", "The request is no JSON") from None
        for permission, _, index in calls.permissions(action, request):
            self._callers.check(caller, permission, f"table/index/{index}" if index else "table")
        sprung = self.traps.arrived(caller, action)
        if sprung is not None and sprung.when == BEFORE and self._tell(sprung):
            raise Denied("InternalServerError", "The caller was ended by a fault", 500)
        with self._lock:
            answer = self._carry_out(action, request, environ, body)
        if sprung is not None and sprung.when == AFTER:
            self._tell(sprung)
        return answer

    def _tell(self, sprung: Any) -> bool:
        return self._call_sink is not None and tell(self._call_sink, sprung)

    def _carry_out(
        self, action: str, request: Mapping[str, Any], environ: Environ, body: bytes
    ) -> tuple[str, list[tuple[str, str]], bytes, dict[str, float]]:
        """The answer and what it cost; the caller holds the lock."""
        named = calls.touched(action, request, self._key_names)
        if action not in calls.WRITES:
            answer = self._forward(environ, body)
            if action in calls.READS and answer[0].startswith("200"):
                return (*answer, {"read_units": self._read_units(action, request, named, answer[2])})
            return (*answer, {})
        before = [self._json(one.table, one.key) for one in named]
        answer = self._forward(environ, body)
        transaction = action == "TransactWriteItems"
        if not answer[0].startswith("200"):
            # A refused condition has cost its reading; what was never looked at has cost nothing.
            looked_at = b"ConditionalCheckFailed" in answer[2] or b"TransactionCanceled" in answer[2]
            cost = sum(units.refused(item, transaction=transaction) for item in before) if looked_at else 0
            return (*answer, {"write_units": cost} if cost else {})
        cost = 0
        for one, old in zip(named, before, strict=True):
            if not one.writes:
                cost += units.refused(old, transaction=transaction)
                continue
            new = self._json(one.table, one.key)
            table, indexes = units.Keys(self._key_names[one.table]), tuple(self._indexes[one.table].values())
            cost += units.written(old, new, table, indexes, transaction=transaction)
            self._journal.append(one.table, one.key, new)
        return (*answer, {"write_units": cost})

    def _read_units(self, action: str, request: Mapping[str, Any], named: list[calls.Touched], answer: bytes) -> float:
        if action not in ("Query", "Scan"):
            transaction = action == "TransactGetItems"
            return sum(
                units.read_units(
                    [units.item_size(item) if (item := self._json(one.table, one.key)) is not None else 0],
                    consistent=one.consistent,
                    transaction=transaction,
                )
                for one in named
            )
        found = json.loads(answer)
        items = found.get("Items") or []
        # What counts is what was looked at: more than what a filter, a projection or a count gave back.
        if any(name in request for name in ("FilterExpression", "ProjectionExpression", "Select")):
            items = self._call(action, calls.evaluated(request, int(found.get("ScannedCount") or 0))).get("Items") or []
        return units.read_units(
            [sum(units.item_size(item) for item in items)], consistent=bool(request.get("ConsistentRead"))
        )

    def _forward(self, environ: Environ, body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        inner = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        captured: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            captured[:] = [status, headers]
            return lambda _: None

        answer = b"".join(self._moto(inner, start))
        return captured[0], captured[1], answer

    def _admin(self, environ: Environ, name: str, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
        """GET counters · PUT faults {"calls"}; for the supervisor, with its token."""
        status, value = "404 Not Found", {"message": "no such local route"}
        call = f"{environ.get('REQUEST_METHOD')} {name}"
        if environ.get("HTTP_X_LOCAL_TOKEN") != self._admin_token:
            status, value = "403 Forbidden", {"message": "wrong or missing x-local-token"}
        elif call == "GET counters":
            status, value = "200 OK", self._callers.counts()  # type: ignore[assignment]
        elif call == "PUT faults":
            try:
                self.traps.set(parse(json.loads(body or b"{}").get("calls") or {}))
                status, value = "200 OK", {}
            except (TrapError, ValueError, AttributeError) as error:
                status, value = "400 Bad Request", {"message": str(error)}
        answer = json.dumps(value).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]


def _ended(value: Any, before: float) -> bool:
    """Whether a TTL attribute, a number of seconds, lies before that moment and is no mistake."""
    try:
        moment = float(value.value) if value.type == "N" else None
    except ValueError:
        return False
    return moment is not None and before - TTL_AGE_SECONDS_MAX < moment < before


def _key_schema(partition_key: str, sort_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition_key, "KeyType": "HASH"},
        {"AttributeName": sort_key, "KeyType": "RANGE"},
    ]
