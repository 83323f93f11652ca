"""The gateway over HTTP: limits, CORS, routes, authorizer, integration; and the page and the knobs beside them.

Facts: API Gateway developer guide, "Quotas for configuring and running an HTTP API" (10 MB payload,
10,240 bytes of request line and headers, 30 s integration timeout) and "Configure CORS for HTTP APIs".
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

from heavylift_local.faults import ApiFault
from heavylift_local.gateway import payload
from heavylift_local.gateway.authorizer import Authorizer, Forbidden, Unauthorized
from heavylift_local.gateway.pages import Origins, page
from heavylift_local.gateway.routing import Router
from heavylift_local.runtime.child import PAYLOAD_BYTES_MAX, Outcome
from heavylift_local.serving import BadBody, BodyTooLarge, Exchange, LoopbackServer

BODY_BYTES_MAX = 10 * 1024 * 1024
HEAD_BYTES_MAX = 10_240
INTEGRATION_SECONDS_MAX = 30.0
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

logger = logging.getLogger(__name__)


class Invoke(Protocol):
    """Runs a function synchronously; ``throttled`` when no child came free in time."""

    def __call__(self, function: str, event: dict[str, Any], wait_seconds: float) -> Outcome: ...


class LocalApi(Protocol):
    """What is behind ``/_local/``: (method, path after it, query, body) -> (status, JSON value, headers)."""

    def __call__(
        self, method: str, path: str, query: Mapping[str, list[str]], body: bytes
    ) -> tuple[int, object, Mapping[str, str]]: ...


class Gateway:
    """Owns the listening socket from the start; answers when ``start`` is called."""

    def __init__(self, port: int, account: str, web: Path, cors_origins: tuple[str, ...]) -> None:
        self.account, self.web, self.cors_origins = account, web, cors_origins
        self.fault = ApiFault()
        self.down_until = 0.0
        self.page_origins = Origins()
        self.router: Router
        self.authorizer: Authorizer
        self.invoke: Invoke
        self.local: LocalApi
        self.executor = ThreadPoolExecutor(64, "integration")
        self.server = LoopbackServer(_Handler, port)
        self.server.gateway = self  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def origins(self) -> tuple[str, ...]:
        """Under which names the page itself is served."""
        return (self.url, f"http://localhost:{self.server.port}")

    def start(self, router: Router, authorizer: Authorizer, invoke: Invoke, local: LocalApi) -> None:
        self.router, self.authorizer, self.invoke, self.local = router, authorizer, invoke, local
        self.server.start("gateway")

    def stop(self) -> None:
        self.server.stop()
        self.executor.shutdown(wait=False, cancel_futures=True)

    def set_fault(self, fault: ApiFault) -> None:
        self.fault = fault
        self.down_until = time.monotonic() + fault.down_s


class _Handler(Exchange):
    @property
    def gateway(self) -> Gateway:
        return self.server.gateway  # type: ignore[attr-defined,no-any-return]

    def _serve(self) -> None:
        head_bytes = len(self.raw_requestline) + sum(len(k) + len(v) + 4 for k, v in self.headers.items())
        if head_bytes > HEAD_BYTES_MAX:
            self.send_error(431)
            return
        try:
            body = self.read_body(BODY_BYTES_MAX)
        except BodyTooLarge:
            self._drain_a_little()
            self._message(413, "Request Entity Too Large")
            return
        except BadBody:
            self._message(400, "Bad Request")
            return
        path, query = payload.split_target(self.path)
        if path.startswith("/_local/"):
            self._local(path, query, body)
            return
        if not self._up():
            self.close_connection = True
            return
        if self.command in ("GET", "HEAD") and self._static(path):
            return
        if self.command == "OPTIONS" and self.gateway.cors_origins and self.headers.get("Origin"):
            self._preflight()
            return
        self._integrate(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve
    # A method that no route has is a 404 too, as an HTTP API answers it.
    do_TRACE = do_CONNECT = do_QUERY = do_PROPFIND = do_LINK = do_UNLINK = _serve

    def _static(self, path: str) -> bool:
        found = page(self.gateway.web, path, self.gateway.page_origins)
        if found is None:
            return False
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **found.headers}
        self.reply(200, found.content, found.content_type, headers)
        return True

    def _up(self) -> bool:
        """The API faults: late, or not there at all."""
        if time.monotonic() < self.gateway.down_until:
            return False
        if self.gateway.fault.latency_ms:
            time.sleep(self.gateway.fault.latency_ms / 1000)
        return True

    def _drain_a_little(self) -> None:
        """Most clients read no answer before they have sent everything; a reset would hide the 413 from them."""
        self.connection.settimeout(0.5)
        try:
            left = 2 * BODY_BYTES_MAX
            while left > 0 and (taken := self.rfile.read1(65_536)):  # type: ignore[attr-defined]
                left -= len(taken)
        except OSError:
            pass

    def _integrate(self, path: str, body: bytes) -> None:
        gateway = self.gateway
        target = gateway.router.find(self.command, path)
        if target is None:
            self._message(404, "Not Found")
            return
        jwt = None
        if target.scope is not None:
            try:
                jwt = gateway.authorizer.authorize(self.headers.get("Authorization"), target.scope)
            except Unauthorized as refused:
                detail = "" if not self.headers.get("Authorization") else ' error="invalid_token"'
                logger.debug("401: %s", refused)
                self._message(401, "Unauthorized", {"www-authenticate": f'Bearer scope="" {detail}'.strip()})
                return
            except Forbidden as refused:
                challenge = f'Bearer scope="{refused}" error="insufficient_scope"'
                self._message(403, "Forbidden", {"www-authenticate": challenge})
                return
        request = payload.Request(
            self.command,
            self.path,
            tuple(self.headers.items()),
            body,
            str(self.client_address[0]),
            self.request_version,
            self.gateway.server.port,
        )
        event = payload.event(request, target.route_key, target.parameters, gateway.account, jwt)
        # Lambda's limit for a synchronous event; base64 makes it 4.5 MB of binary body.
        if len(event.get("body", "")) + HEAD_BYTES_MAX > PAYLOAD_BYTES_MAX:
            self._message(413, "Request Entity Too Large")
            return
        invoked = gateway.executor.submit(gateway.invoke, target.function, event, INTEGRATION_SECONDS_MAX)
        try:
            outcome = invoked.result(INTEGRATION_SECONDS_MAX)
        except FutureTimeout:
            self._message(503, "Service Unavailable")
            return
        if outcome.kind == "throttled":
            self._message(503, "Service Unavailable")
            return
        try:
            if not outcome.ok:
                raise payload.BadResponse(outcome.payload.decode(errors="replace"))
            answer = payload.response(outcome.payload)
        except payload.BadResponse as error:
            logger.warning("%s: %s", target.route_key, error)
            self._message(500, "Internal Server Error")
            return
        headers = {**answer.headers, **self._cors(), "apigw-requestid": str(event["requestContext"]["requestId"])}
        self.reply(answer.status, answer.body, None, headers, answer.cookies)

    def _message(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """What the gateway says by itself."""
        identifier = {"apigw-requestid": secrets.token_urlsafe(11) + "="}
        self.reply_json(status, {"message": text}, {**(headers or {}), **self._cors(), **identifier})

    def _cors(self) -> dict[str, str]:
        origin = self.headers.get("Origin") if getattr(self, "headers", None) else None
        allowed = self.gateway.cors_origins
        if not origin or not ("*" in allowed or origin in allowed):
            return {}
        return {
            "access-control-allow-origin": "*" if "*" in allowed else origin,
            "access-control-expose-headers": "location,retry-after,warning",
            "vary": "Origin",
        }

    def _preflight(self) -> None:
        headers = self._cors()
        if headers:
            headers |= {
                "access-control-allow-methods": "GET,POST,PUT,DELETE",
                "access-control-allow-headers": "authorization,content-type,idempotency-key,accept",
                "access-control-max-age": "600",
            }
        self.reply(204, headers=headers)

    def _local(self, path: str, query: str, body: bytes) -> None:
        """The stack's own knobs: for this machine's programs and the page, never for a foreign web site.

        A name of this machine in Host stops DNS rebinding; no foreign Origin stops a form or a fetch from
        another site, which the browser would send without asking.
        """
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host") or ""
        origin = self.headers.get("Origin")
        foreign = self.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        if host.lower() not in LOCAL_HOSTS or foreign or (origin is not None and origin not in self.gateway.origins):
            self._message(403, "Forbidden")
            return
        status, value, headers = self.gateway.local(
            self.command, path.removeprefix("/_local/"), parse_qs(query, keep_blank_values=True), body
        )
        self.reply_json(status, value, {"Cache-Control": "no-store", **headers})
