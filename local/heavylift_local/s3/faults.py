"""Failures on demand: latency, errors, connections cut, calls their caller does not survive, a clock that is wrong.

Local stack only, set through the admin path: {"latency_ms": number or {operation: number},
"errors": {operation: [probability, status, code]},
"late_errors": {operation: [probability, code, "before" | "after"]}, "cut_after_bytes", "clock_offset_s", "seed",
"callers": {caller: {the first four}}, "calls": see `heavylift_local.traps`}.
"""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heavylift_local import traps
from heavylift_local.s3.errors import S3Error

# S3 may send 200 and learn only then that it fails (API reference of each): the answer is <Error> in a 200.
LATE = frozenset({"CompleteMultipartUpload", "CopyObject", "UploadPartCopy"})
_OF_CALLERS = frozenset({"latency_ms", "errors", "late_errors", "cut_after_bytes"})


@dataclass(frozen=True, slots=True)
class Faults:
    """*errors*: operation or "*" -> (probability, status, code). *cut_after_bytes*: a body, in or out, ends there.

    *latency_ms*: operation or "*" -> how long a request waits before it is served.

    *late_errors*: operation -> (probability, code, whether it takes effect all the same).
    """

    latency_ms: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, tuple[float, int, str]] = field(default_factory=dict)
    late_errors: Mapping[str, tuple[float, str, bool]] = field(default_factory=dict)
    cut_after_bytes: int | None = None
    clock_offset_s: float = 0
    callers: Mapping[str, "Faults"] = field(default_factory=dict)

    def of(self, caller: str) -> "Faults":
        """What holds for *caller*: its own faults where it has any, else everybody's."""
        return self.callers.get(caller, self)

    def latency_s(self, operation: str) -> float:
        """How long a request of *operation* waits."""
        return self.latency_ms.get(operation, self.latency_ms.get("*", 0.0)) / 1000


class FaultError(ValueError):
    """The document does not describe faults."""


def parse(raw: Mapping[str, Any]) -> Faults:
    """Raises FaultError."""
    return _parse(raw, _OF_CALLERS | {"clock_offset_s", "seed", "callers", "calls"})


def _parse(raw: Mapping[str, Any], known: frozenset[str]) -> Faults:
    if not isinstance(raw, Mapping):
        raise FaultError("wanted an object")
    unknown = set(raw) - known
    if unknown:
        raise FaultError(f"unknown field: {', '.join(sorted(unknown))}")
    cut = raw.get("cut_after_bytes")
    return Faults(
        latency_ms=_latencies(raw.get("latency_ms") or 0),
        errors=dict(_error(name, rule) for name, rule in (raw.get("errors") or {}).items()),
        late_errors=dict(_late(name, rule) for name, rule in (raw.get("late_errors") or {}).items()),
        cut_after_bytes=None if cut is None else int(cut),
        clock_offset_s=float(raw.get("clock_offset_s") or 0),
        callers={str(name): _parse(own, _OF_CALLERS) for name, own in (raw.get("callers") or {}).items()},
    )


def _latencies(raw: object) -> dict[str, float]:
    by_operation = raw if isinstance(raw, Mapping) else {"*": raw}
    if not all(isinstance(ms, int | float) and ms >= 0 for ms in by_operation.values()):
        raise FaultError("latency_ms: a number from 0 on, or one for each operation")
    return {str(operation): float(ms) for operation, ms in by_operation.items()}


def _error(operation: str, rule: object) -> tuple[str, tuple[float, int, str]]:
    if not isinstance(rule, list) or len(rule) != 3:
        raise FaultError(f"{operation}: wanted [probability, status, code]")
    probability, status, code = float(rule[0]), int(rule[1]), str(rule[2])
    if not 0 <= probability <= 1 or not 400 <= status <= 599:
        raise FaultError(f"{operation}: probability 0..1, status 400..599")
    return operation, (probability, status, code)


def _late(operation: str, rule: object) -> tuple[str, tuple[float, str, bool]]:
    if operation not in LATE:
        raise FaultError(f"{operation}: only {', '.join(sorted(LATE))} can fail after a 200")
    if (
        not isinstance(rule, list)
        or len(rule) not in (2, 3)
        or [*rule, traps.BEFORE][2] not in (traps.BEFORE, traps.AFTER)
    ):
        raise FaultError(f"{operation}: wanted [probability, code] or [probability, code, before | after]")
    if not 0 <= float(rule[0]) <= 1:
        raise FaultError(f"{operation}: probability 0..1")
    return operation, (float(rule[0]), str(rule[1]), len(rule) == 3 and rule[2] == traps.AFTER)


class FaultState:
    """The faults now in force, and the calls counted since they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = random.Random()
        self.traps = traps.Traps()
        self.now = Faults()

    def set(self, raw: Mapping[str, Any]) -> None:
        """Raises FaultError; nothing is changed then."""
        faults = parse(raw)
        try:
            calls = traps.parse(raw.get("calls") or {})
        except traps.TrapError as error:
            raise FaultError(str(error)) from None
        with self._lock:
            self.now = faults
            self.traps.set(calls)
            if "seed" in raw:
                self._random.seed(raw["seed"])

    def error(self, caller: str, operation: str) -> S3Error | None:
        """The error this request gets instead of being served, if the dice say so."""
        errors = self.now.of(caller).errors
        rule = errors.get(operation) or errors.get("*")
        if rule is None or not self._hits(rule[0]):
            return None
        return S3Error(rule[2], status=rule[1])

    def late_error(self, caller: str, operation: str) -> tuple[S3Error, bool] | None:
        """The error that goes into a 200, and whether the operation takes effect all the same."""
        rule = self.now.of(caller).late_errors.get(operation)
        if rule is None or not self._hits(rule[0]):
            return None
        return S3Error(rule[1], status=200), rule[2]

    def _hits(self, probability: float) -> bool:
        with self._lock:
            return self._random.random() < probability
