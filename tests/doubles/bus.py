"""EventBridge in memory: it judges entries as the local bus does, keeps them, and refuses some when told to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heavylift_local import bus
from tests.doubles.answers import refusal

BUS = "default"


@dataclass(frozen=True, slots=True)
class Put:
    """An event that was taken."""

    type: str
    source: str
    at: float
    detail: Mapping[str, Any]


class FakeBus:
    def __init__(self) -> None:
        self.taken: list[Put] = []
        self.calls: list[int] = []
        """Entries of each call."""
        self.failing: list[str | None] = []
        """The verdicts on the next entries, first come first: an ErrorCode, or None for one that is judged."""

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        wire = [
            {**entry, "Time": entry["Time"].timestamp()} if isinstance(entry.get("Time"), datetime) else entry
            for entry in Entries
        ]
        self.calls.append(len(wire))
        why = bus.refusal(wire)
        if why is not None:
            raise refusal("ValidationException", 400, "PutEvents", why)
        assert {entry.get("EventBusName", BUS) for entry in wire} == {BUS}
        results = [self._take(entry) for entry in wire]
        return {"FailedEntryCount": sum("ErrorCode" in one for one in results), "Entries": results}

    def _take(self, entry: dict[str, Any]) -> dict[str, str]:
        code = self.failing.pop(0) if self.failing else None
        if code is not None:
            return {"ErrorCode": code, "ErrorMessage": "as told"}
        error = bus.verdict(entry)
        if error is not None:
            return error
        self.taken.append(
            Put(entry["DetailType"], entry["Source"], entry.get("Time", 0.0), json.loads(entry["Detail"]))
        )
        return {"EventId": f"e{len(self.taken)}"}
