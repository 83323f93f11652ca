"""That a stored file is to be checked again: the wish in its record. ``rechecking`` fulfils it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from heavylift import records, work
from heavylift.records import Change, FileRecord

WISHED: Final = "recheck"


def wish(record: FileRecord, rules: Mapping[str, Any], now: float, by: str) -> Change:
    """Write new rules of a stored file, and that they are to be applied . Pure but for the clocks."""
    before = record.recheck or {}
    values: dict[str, Any] = {
        "rules": rules,
        "recheck": {"at": round(now, 3), "fence": int(before.get("fence", 0)) + 1, "attempt": 0, "progress": 0},
    }
    if record.final and not record.outbox:
        values["due_at"] = now + work.first_look_s()
    audit, overflow = told(record, WISHED, now, by)
    return replace(records.change(record, now, **values, **audit), overflow=overflow)


def told(
    record: FileRecord, event: str, now: float, by: str, **facts: Any
) -> tuple[dict[str, Any], tuple[Mapping[str, Any], ...]]:
    """An audit event that is no transition, as ``records.with_event`` gives it."""
    state = record.status.value
    entry = {"at": round(now, 3), "event": event, "from": state, "to": state, "by": by}
    return records.with_event(record, {**entry, **facts})
