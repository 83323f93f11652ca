"""Calls that their caller does not survive: counted by caller and operation, sprung at the wanted one.

No I/O but `tell`.

The document is the same for every service: ``{"calls": {CALLER: {OPERATION: SPEC}}}`` with SPEC a number n, or
``{"number": n, "when": "before" | "after", "every": bool}``. Counting starts when the document is set. At the
n-th call the service tells the supervisor and waits; "before" means that the call is never carried out, "after"
that it took effect and nobody learns of it.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

BEFORE, AFTER = "before", "after"
NUMBER_MAX = 1_000_000
TELL_SECONDS_MAX = 30.0  # killing a family takes milliseconds; a busy machine may need more


class TrapError(ValueError):
    """The document asks for something that is not known."""


@dataclass(frozen=True, slots=True)
class Trap:
    """The ``number``-th call, or each multiple of it."""

    number: int
    when: str = BEFORE
    every: bool = False

    def springs_at(self, count: int) -> bool:
        return count % self.number == 0 if self.every else count == self.number

    def as_json(self) -> dict[str, Any]:
        return {"number": self.number, "when": self.when, "every": self.every}


def parse(calls: object) -> dict[tuple[str, str], Trap]:
    """Traps by (caller, operation). Raises TrapError."""
    if not isinstance(calls, Mapping):
        raise TrapError("calls is an object: {caller: {operation: number}}")
    traps: dict[tuple[str, str], Trap] = {}
    for caller, operations in calls.items():
        if not isinstance(operations, Mapping):
            raise TrapError(f"calls.{caller} is an object: {{operation: number}}")
        for operation, spec in operations.items():
            traps[str(caller), str(operation)] = _trap(spec, f"calls.{caller}.{operation}")
    return traps


def _trap(spec: object, where: str) -> Trap:
    fields: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {"number": spec}
    if set(fields) - {"number", "when", "every"}:
        raise TrapError(f"{where} knows number, when and every")
    number, when, every = fields.get("number"), fields.get("when", BEFORE), fields.get("every", False)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= NUMBER_MAX:
        raise TrapError(f"{where}: the number of a call is 1 to {NUMBER_MAX}")
    if when not in (BEFORE, AFTER) or not isinstance(every, bool):
        raise TrapError(f"{where}: when is before or after, every is true or false")
    return Trap(number, when, every)


@dataclass(frozen=True, slots=True)
class Sprung:
    caller: str
    operation: str
    number: int
    when: str


class Traps:
    """The traps now set, and the calls counted since; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traps: dict[tuple[str, str], Trap] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def set(self, traps: Mapping[tuple[str, str], Trap]) -> None:
        with self._lock:
            self._traps = dict(traps)
            self._counts = {}

    def arrived(self, caller: str, operation: str) -> Sprung | None:
        """Counts one call; what springs at it, if anything."""
        key = (caller, operation)
        with self._lock:
            trap = self._traps.get(key)
            if trap is None:
                return None
            self._counts[key] = count = self._counts.get(key, 0) + 1
        return Sprung(caller, operation, count, trap.when) if trap.springs_at(count) else None


def tell(sink: str, sprung: Sprung) -> bool:
    """POSTs it to the supervisor; True when the caller is dead by now."""
    url = urlsplit(sink)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TELL_SECONDS_MAX)
    body = json.dumps({"caller": sprung.caller, "operation": sprung.operation, "number": sprung.number})
    try:
        connection.request("POST", url.path or "/", body.encode(), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return 200 <= answer.status < 300
