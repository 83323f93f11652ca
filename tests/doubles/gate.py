"""A gate before every AWS call: what passes is written down, and a test may stop, repeat or interrupt any call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ConnectionClosedError

from tests.doubles.answers import refusal

# What AWS refuses a sound request with, after botocore's own tries: (code, status). One of them, by the call's number.
REFUSALS = (
    ("SlowDown", 503),
    ("ThrottlingException", 400),
    ("ExpiredToken", 400),
    ("InternalError", 500),
    ("RequestTimeTooSkewed", 403),
    ("ServiceUnavailable", 503),
    ("ExpiredTokenException", 400),
    ("ProvisionedThroughputExceededException", 400),
)


class Killed(BaseException):
    """The sandbox is gone: no handler may catch this, no line after it runs."""


@dataclass(frozen=True, slots=True)
class Call:
    number: int
    service: str
    operation: str
    arguments: dict[str, Any]


Around = Callable[[Call, Callable[[], Any]], Any]


class Gate:
    """``client`` stands in for ``heavylift.aws.client``; calls are numbered from 1."""

    def __init__(self, services: dict[str, Any]) -> None:
        self._services = services
        self._lock = threading.Lock()
        self.atomic = threading.RLock()
        self.calls: list[Call] = []
        self.around: Around | None = None

    def client(self, service: str) -> Any:
        return _Face(self, service, self._services[service])

    def restart(self, around: Around | None = None) -> None:
        """Forget the calls so far and count from 1 again."""
        self.calls, self.around = [], around

    def pass_through(self, service: str, operation: str, arguments: dict[str, Any], run: Callable[[], Any]) -> Any:
        with self._lock:
            call = Call(len(self.calls) + 1, service, operation, arguments)
            self.calls.append(call)
        return run() if self.around is None else self.around(call, run)


class _Face:
    def __init__(self, gate: Gate, service: str, double: Any) -> None:
        self._gate, self._service, self._double = gate, service, double

    def _carried_out(self, method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """One call at a time, as each is atomic on AWS: a condition and its write are not parted by another thread."""
        with self._gate.atomic:
            return method(**arguments)

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        method = getattr(self._double, operation)
        if operation == "generate_presigned_url":  # no call: it is computed here
            return method  # type: ignore[no-any-return]

        def call(**arguments: Any) -> Any:
            return self._gate.pass_through(
                self._service, operation, arguments, lambda: self._carried_out(method, arguments)
            )

        return call


def kill_before(number: int) -> Around:
    """The sandbox dies before call ``number`` leaves it; later calls of its threads die too."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number >= number:
            raise Killed(f"before call {number}: {call.operation}")
        return run()

    return around


def kill_after(number: int) -> Around:
    """The call arrives, but nobody is left to read its answer."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number > number:
            raise Killed(f"after call {number}")
        if call.number == number:
            run()
            raise Killed(f"after call {number}: {call.operation}")
        return run()

    return around


def lose_answer(number: int) -> Around:
    """The call arrives, its answer does not, and botocore has given up."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.number == number:
            raise ConnectionClosedError(endpoint_url="https://aws.example")
        return answer

    return around


def repeat(number: int) -> Around:
    """The call arrives, its answer is lost, and botocore sends it again by itself."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number == number:
            run()
        return run()

    return around


def refuse(number: int) -> Around:
    """The call is not carried out: AWS is too busy, the role's token has run out, or the clock is wrong."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number == number:
            code, status = REFUSALS[number % len(REFUSALS)]
            raise refusal(code, status, call.operation)
        return run()

    return around


DISTURBANCES = (kill_before, kill_after, lose_answer, repeat, refuse)
