"""``/_local/``: the stack's own knobs, for this machine's tools, its page and its tests. Not part of the product's API.

GET token?tenant=&user=&scope=   {"token"}           GET state      functions, queues, processes
PUT faults {...}                 {} (see below)      GET counters   calls by caller
POST invoke/<function> {event}   the function's answer; header x-amz-function-error when it failed
POST adopt {"path","tenant"}     a file on this disk becomes a stored object
GET openapi.json                 the description of the API, as docs/openapi.json
GET bus?after=N                  {"events": what was put on the bus, the N+1st and on, "last": go on after this one}

Faults; every document replaces the one before, an empty object clears:
{"s3": the S3 server's own (heavylift_local.s3.faults), "seed",
 "api": {"latency_ms", "down_s"}, "events": {"copies", "reverse", "drop", "seed"},
 "functions": {NAME or "*": {"kill": probability, "kill_after_ms", "timeout_s", "memory_mb",
   "kill_at": "s3.UploadPart:3" (also dynamodb.*, sqs.*, events.*; ":after" = it took effect), "every": each n-th}}}
A call tells the function, not the child: kill_at ends every child of the function that is at work.

Counters: {caller: {"s3.GetObject": {"requests","bytes_in","bytes_out"}, "dynamodb.PutItem": {…,"write_units"},
"dynamodb.Query": {…,"read_units"}, "sqs.SendMessage": {…}, "events.PutEvents": {…}}};
callers are ``client`` and each function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heavylift_local import faults
from heavylift_local.adopt import AdoptError, adopt
from heavylift_local.gateway.authorizer import TENANT

if TYPE_CHECKING:
    from heavylift_local.stack import Stack

Answer = tuple[int, object, Mapping[str, str]]
Query = Mapping[str, list[str]]


def _problem(status: int, message: str) -> Answer:
    return status, {"message": message}, {}


def _last(query: Query, name: str) -> str | None:
    return query[name][-1] if name in query else None


class LocalEndpoints:
    """The answers; one instance per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __call__(self, method: str, path: str, query: Query, body: bytes) -> Answer:
        name, _, rest = path.partition("/")
        if (method, name) == ("POST", "invoke") and rest:
            return self._invoke(rest, body)
        known = {
            ("GET", "token"): lambda: self._token(query),
            ("GET", "state"): lambda: (200, self._stack.state(), {}),
            ("GET", "counters"): self._counters,
            ("PUT", "faults"): lambda: self._faults(body),
            ("POST", "adopt"): lambda: self._adopt(body),
            ("GET", "bus"): lambda: self._bus(query),
            ("GET", "openapi.json"): self._openapi,
        }
        answer = known.get((method, name)) if not rest else None
        return answer() if answer is not None else _problem(404, "Not Found")

    def _token(self, query: Query) -> Answer:
        from heavylift_local.stack import DEMO_TENANT, DEMO_USER

        tenant = _last(query, "tenant")
        tenant = DEMO_TENANT if tenant is None else tenant or None
        if tenant is not None and not TENANT.fullmatch(tenant):
            return _problem(400, "a tenant is [a-z0-9][a-z0-9-]{0,62}")
        scope = _last(query, "scope")
        user = _last(query, "user") or DEMO_USER
        return 200, {"token": self._stack.token(tenant, user, None if scope is None else scope.split())}, {}

    def _bus(self, query: Query) -> Answer:
        after = _last(query, "after") or "0"
        if not (after.isascii() and after.isdecimal() and len(after) <= 18):
            return _problem(400, "after is the number of an event, 0 or more")
        return 200, self._stack.bus.events(int(after)), {}

    def _openapi(self) -> Answer:
        from heavylift_local import openapi  # the models of all bodies: a stack starts faster without

        return 200, openapi.document(self._stack.topology), {}

    def _counters(self) -> Answer:
        try:
            return 200, self._stack.counters(), {}
        except OSError as error:
            return _problem(502, str(error))

    def _faults(self, body: bytes) -> Answer:
        try:
            wanted = faults.parse(json.loads(body or b"{}"), set(self._stack.pools))
        except ValueError as error:
            return _problem(400, str(error))
        try:
            self._stack.set_faults(wanted)
        except faults.FaultError as error:
            return _problem(400, str(error))
        except OSError as error:
            return _problem(400, f"s3: {error}")
        return 200, {}, {}

    def _invoke(self, function: str, body: bytes) -> Answer:
        try:
            event: Any = json.loads(body or b"{}")
        except ValueError:
            return _problem(400, "the event is no JSON")
        if function not in self._stack.pools:
            return _problem(404, f"no function {function[:80]!r}")
        outcome = self._stack.invoke(function, event)
        headers = {} if outcome.ok else {"x-amz-function-error": "Unhandled"}
        try:
            return 200, json.loads(outcome.payload or b"null"), headers
        except ValueError:
            return _problem(502, "the function's answer is no JSON")

    def _adopt(self, body: bytes) -> Answer:
        try:
            wanted = json.loads(body)
            path, tenant = str(wanted["path"]), str(wanted["tenant"])
        except (ValueError, KeyError, TypeError):
            return _problem(400, 'adopt takes {"path","tenant"}')
        if not TENANT.fullmatch(tenant):
            return _problem(400, "a tenant is [a-z0-9][a-z0-9-]{0,62}")
        try:
            return 201, adopt(self._stack, path, tenant), {}
        except AdoptError as error:
            return _problem(400, str(error))
