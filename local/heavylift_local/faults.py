"""The document of ``PUT /_local/faults``, read strictly: a misspelt fault must not silently do nothing. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from heavylift_local.events import EventFault
from heavylift_local.runtime.pool import Fault, KillAt
from heavylift_local.traps import AFTER, BEFORE, NUMBER_MAX, Trap

# Every field of the document that this module reads; the S3 server reads its own.
API_FIELDS = frozenset({"latency_ms", "down_s"})
EVENT_FIELDS = frozenset({"copies", "reverse", "drop", "seed"})
FUNCTION_FIELDS = frozenset({"kill", "kill_after_ms", "kill_at", "every", "timeout_s", "memory_mb"})
S3_FIELDS = frozenset({"latency_ms", "errors", "cut_after_bytes", "seed"})
_KILL_AT = re.compile(r"(s3|dynamodb|sqs|events)\.([A-Z][A-Za-z0-9]{1,60}):([0-9]{1,7})(:before|:after)?")


class FaultError(ValueError):
    """The document asks for something that is not known."""


@dataclass(frozen=True, slots=True)
class ApiFault:
    latency_ms: float = 0.0
    down_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults; the S3 part is the S3 server's own document."""

    s3: Mapping[str, Any] = field(default_factory=dict)
    api: ApiFault = field(default_factory=ApiFault)
    events: EventFault = field(default_factory=EventFault)
    functions: Mapping[str, Fault] = field(default_factory=dict)
    seed: int = 0


def _number(fields: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise FaultError(f"{name} is a number from {least:g} to {most:g}")
    return value


def _known(fields: object, names: Set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(fields, dict):
        raise FaultError(f"{where} is an object")
    unknown = sorted(set(fields) - names)
    if unknown:
        raise FaultError(f"{where} does not know {', '.join(unknown)}; it knows {', '.join(sorted(names))}")
    return fields


def parse(document: object, function_names: set[str]) -> Faults:
    """The faults of a document; an empty object is none at all. Raises FaultError."""
    top = _known(document, {"s3", "api", "events", "functions", "seed"}, "faults")
    api = _known(top.get("api", {}), API_FIELDS, "api")
    events = _known(top.get("events", {}), EVENT_FIELDS, "events")
    functions = _known(top.get("functions", {}), {"*", *function_names}, "functions")
    return Faults(
        s3=_known(top.get("s3", {}), set(top.get("s3", {})), "s3"),
        api=ApiFault(_number(api, "latency_ms", 0, 0, 600_000), _number(api, "down_s", 0, 0, 86_400)),
        events=EventFault(
            copies=int(_number(events, "copies", 1, 1, 100)),
            reverse=bool(events.get("reverse", False)),
            drop=_number(events, "drop", 0, 0, 1),
            seed=int(_number(events, "seed", 0, 0, 2**63)),
        ),
        functions={name: _function(fields, name) for name, fields in functions.items()},
        seed=int(_number(top, "seed", 0, 0, 2**63)),
    )


def _function(raw: object, name: str) -> Fault:
    fields = _known(raw, FUNCTION_FIELDS, f"functions.{name}")
    after = _number(fields, "kill_after_ms", 0, 0, 900_000) if "kill_after_ms" in fields else None
    timeout_s = _number(fields, "timeout_s", 1, 0.01, 900) if "timeout_s" in fields else None
    memory_mb = int(_number(fields, "memory_mb", 128, 1, 10_240)) if "memory_mb" in fields else None
    kill_at = _kill_at(fields, f"functions.{name}")
    return Fault(_number(fields, "kill", 0, 0, 1), after, timeout_s, memory_mb, kill_at)


def _kill_at(fields: Mapping[str, Any], where: str) -> KillAt | None:
    """``"s3.UploadPart:3"``: at the third call, which is not carried out; ``:after`` = it is, but not answered."""
    every = fields.get("every", False)
    if not isinstance(every, bool) or ("every" in fields and "kill_at" not in fields):
        raise FaultError(f"{where}.every is true or false, beside kill_at")
    if "kill_at" not in fields:
        return None
    found = _KILL_AT.fullmatch(str(fields["kill_at"]))
    if found is None or not 1 <= int(found[3]) <= NUMBER_MAX:
        raise FaultError(
            f'{where}.kill_at is SERVICE.OPERATION:NUMBER, as "s3.UploadPart:3", "dynamodb.UpdateItem:2" or '
            '"sqs.SendMessage:1:after"'
        )
    return KillAt(found[1], found[2], Trap(int(found[3]), AFTER if found[4] == ":after" else BEFORE, every))


def traps(faults: Faults, functions: Iterable[str], service: str) -> dict[tuple[str, str], Trap]:
    """The kills at calls of one service, by (function, operation)."""
    found: dict[tuple[str, str], Trap] = {}
    for name in functions:
        fault = faults.functions.get(name) or faults.functions.get("*")
        if fault is not None and fault.kill_at is not None and fault.kill_at.service == service:
            found[name, fault.kill_at.operation] = fault.kill_at.trap
    return found


def calls_document(found: Mapping[tuple[str, str], Trap]) -> dict[str, Any]:
    """``{caller: {operation: ...}}``, as the services are told."""
    document: dict[str, dict[str, Any]] = {}
    for (caller, operation), trap in found.items():
        document.setdefault(caller, {})[operation] = trap.as_json()
    return document
