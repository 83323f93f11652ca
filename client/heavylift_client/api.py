"""The heavylift API over HTTP: JSON in, JSON out, tried again while the world is at fault."""

from __future__ import annotations

import json
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_client import verdict
from heavylift_client.backoff import Clock, http_date, pause_s, retry_after_s
from heavylift_client.errors import AnswerError, ClientError, NetworkError, Stopped
from heavylift_client.transport import Reply, Transport, take_apart

USER_AGENT = "heavylift-client/0.1"
# A function that crashes on a request will crash on it again; the gateway's own 502..504 are about time.
CRASH_TRIES_MAX = 6
# Said only once the world has been away for so long that a person wonders.
NOTICE_AFTER_S = 2.0

# What the gateway says by status alone: its answers are {"message"} without a code.
GATEWAY_CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    429: "too_many_requests",
    500: "internal_error",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
}

Notice = Callable[[str], None]
"""Takes a sentence for the person who waits."""


class ApiError(ClientError):
    """The API refused: ``status``, the problem's stable ``code``, a sentence, the whole ``body``."""

    def __init__(self, status: int, code: str, message: str, body: Any = None) -> None:
        super().__init__(code, message)
        self.status = status
        self.body = body

    @property
    def is_missing_route(self) -> bool:
        """The gateway knows no such route: this server does not have that part (yet)."""
        return self.status == 404 and not (isinstance(self.body, dict) and "code" in self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx of the API. ``server_now`` is the server's clock (seconds since the epoch) or None."""

    status: int
    body: Any
    headers: Mapping[str, str]
    server_now: float | None
    asked_at: float


def error_of(reply: Reply) -> ApiError:
    """The problem that an answer states: RFC 9457 from a function, ``{"message"}`` from the gateway."""
    try:
        body = json.loads(reply.body) if reply.body else None
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    code = fields.get("code") or GATEWAY_CODES.get(reply.status) or f"http_{reply.status}"
    message = fields.get("detail") or fields.get("title") or fields.get("message") or "the API gave no reason"
    return ApiError(reply.status, str(code), str(message), body)


def may_succeed_later(error: ApiError, tries: int, failing_s: float, patience_s: float) -> bool:
    """Whether the same call is worth another try. Pure; ``tries`` counts those that failed, this one included."""
    if error.status == 500:
        return tries < CRASH_TRIES_MAX and failing_s < patience_s
    if error.status == 409:
        # Our own earlier try with the same Idempotency-Key is still being answered.
        return error.code in ("idempotency_in_flight", "in_flight", "request_in_flight") and failing_s < patience_s
    return verdict.worlds_fault(error.status) and failing_s < patience_s


class Api:
    """Calls of one tenant's API. Thread-safe.

    ``token`` is a string or a function that returns one (called again after a 401, once per call).
    ``patience_s``: how long a call goes on while the API is away or overloaded.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str],
        transport: Transport,
        *,
        patience_s: float = 900.0,
        clock: Clock | None = None,
        stop: threading.Event | None = None,
        notice: Notice | None = None,
    ) -> None:
        take_apart(url)
        self._base = url.rstrip("/")
        self._token = token
        self._transport = transport
        self._clock = clock or Clock()
        self._stop = stop or threading.Event()
        self._notice = notice
        self._away = False
        self.patience_s = patience_s

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        once: bool = False,
        key: str | None = None,
    ) -> Answer:
        """One call, tried again with full jitter while the world is at fault.

        ``once`` adds an Idempotency-Key, so that a repeat of a lost answer does nothing twice; ``key`` is one
        that an earlier process may have used.
        Raises ApiError, NetworkError (patience ran out), AnswerError, Stopped.
        """
        url = self._base + path
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            url += "?" + urllib.parse.urlencode(given, errors="replace")
        headers = {"accept": "application/json, application/problem+json", "user-agent": USER_AGENT}
        payload = b""
        if body is not None:
            payload = json.dumps(body, separators=(",", ":")).encode()
            headers["content-type"] = "application/json"
        if once or key is not None:
            headers["idempotency-key"] = key or str(uuid.uuid4())
        tries, since, renewed = 0, self._clock.now(), False
        while True:
            headers["authorization"] = f"Bearer {self._bearer()}"
            asked_at = self._clock.now()
            wanted: float | None = None
            failure: ClientError
            try:
                reply = self._transport.request(method, url, headers, payload)
            except NetworkError as error:
                failure, again = error, asked_at - since < self.patience_s
                failing = f"the API does not answer: {error.message}"
            else:
                if 200 <= reply.status < 300:
                    self._back()
                    return self._understood(reply, asked_at)
                failure = error_of(reply)
                failing = f"the API answers {reply.status} {failure.code}"
                if reply.status == 401 and callable(self._token) and not renewed:
                    renewed = True
                    continue
                again = may_succeed_later(failure, tries + 1, asked_at - since, self.patience_s)
                wanted = retry_after_s(reply.headers.get("retry-after"), self._clock.wall())
            if self._stop.is_set():
                raise Stopped
            if not again:
                raise failure
            delay = pause_s(tries, self._clock.random(), wanted)
            self._trouble(failing, asked_at - since + delay)
            if self._clock.pause(self._stop, delay):
                raise Stopped
            tries += 1

    def _bearer(self) -> str:
        return self._token() if callable(self._token) else self._token

    def _understood(self, reply: Reply, asked_at: float) -> Answer:
        try:
            body = json.loads(reply.body) if reply.body else None
        except ValueError:
            raise AnswerError(f"the API answered {reply.status} with a body that is no JSON") from None
        return Answer(reply.status, body, reply.headers, http_date(reply.headers.get("date")), asked_at)

    def _trouble(self, words: str, failing_s: float) -> None:
        if self._notice and not self._away and failing_s >= NOTICE_AFTER_S:
            self._away = True
            self._notice(f"{words}; trying again for up to {self.patience_s:g} s")

    def _back(self) -> None:
        if self._notice and self._away:
            self._away = False
            self._notice("the API answers again")


def segment(value: str) -> str:
    """An id as one path segment."""
    return urllib.parse.quote(value.encode("utf-8", "replace"), safe="")
