"""Failures on demand: latency, errors by operation, cuts, callers that end. Local only, set through the admin path."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heavylift_local import traps
from heavylift_local.s3.errors import S3Error


@dataclass(frozen=True, slots=True)
class Faults:
    """*errors*: operation or "*" -> (probability, status, code). *cut_after_bytes*: a body, in or out, ends there."""

    latency_ms: float = 0
    errors: Mapping[str, tuple[float, int, str]] = field(default_factory=dict)
    cut_after_bytes: int | None = None
    clock_offset_s: float = 0


class FaultError(ValueError):
    """The document does not describe faults."""


def parse(raw: Mapping[str, Any]) -> Faults:
    unknown = set(raw) - {"latency_ms", "errors", "cut_after_bytes", "seed", "calls"}
    if unknown:
        raise FaultError(f"unknown field: {', '.join(sorted(unknown))}")
    errors: dict[str, tuple[float, int, str]] = {}
    for operation, rule in (raw.get("errors") or {}).items():
        if not isinstance(rule, list) or len(rule) != 3:
            raise FaultError(f"{operation}: wanted [probability, status, code]")
        probability, status, code = float(rule[0]), int(rule[1]), str(rule[2])
        if not 0 <= probability <= 1 or not 400 <= status <= 599:
            raise FaultError(f"{operation}: probability 0..1, status 400..599")
        errors[operation] = (probability, status, code)
    cut = raw.get("cut_after_bytes")
    return Faults(float(raw.get("latency_ms") or 0), errors, None if cut is None else int(cut))


class FaultState:
    """The faults now in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = random.Random()
        self.now = Faults()
        self.traps = traps.Traps()

    def set(self, raw: Mapping[str, Any]) -> None:
        faults = parse(raw)
        self.traps.set(traps.parse(raw.get("calls") or {}))
        with self._lock:
            self.now = faults
            if "seed" in raw:
                self._random.seed(raw["seed"])

    def error(self, operation: str) -> S3Error | None:
        """The error this request gets instead of being served, if the dice say so."""
        rule = self.now.errors.get(operation) or self.now.errors.get("*")
        if rule is None:
            return None
        probability, status, code = rule
        with self._lock:
            hit = self._random.random() < probability
        return S3Error(code, status=status) if hit else None
