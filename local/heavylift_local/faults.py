"""The document of ``PUT /_local/faults``, read strictly: a misspelt fault must not silently do nothing. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heavylift_local.events import EventFault
from heavylift_local.runtime.pool import Fault


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


def _known(fields: object, names: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(fields, dict):
        raise FaultError(f"{where} is an object")
    unknown = sorted(set(fields) - names)
    if unknown:
        raise FaultError(f"{where} does not know {', '.join(unknown)}; it knows {', '.join(sorted(names))}")
    return fields


def parse(document: object, function_names: set[str]) -> Faults:
    """The faults of a document; an empty object is none at all. Raises FaultError."""
    top = _known(document, {"s3", "api", "events", "functions", "seed"}, "faults")
    api = _known(top.get("api", {}), {"latency_ms", "down_s"}, "api")
    events = _known(top.get("events", {}), {"copies", "reverse", "drop", "seed"}, "events")
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
    fields = _known(raw, {"kill", "kill_after_ms", "timeout_s", "memory_mb"}, f"functions.{name}")
    after = _number(fields, "kill_after_ms", 0, 0, 900_000) if "kill_after_ms" in fields else None
    timeout_s = _number(fields, "timeout_s", 1, 0.01, 900) if "timeout_s" in fields else None
    memory_mb = int(_number(fields, "memory_mb", 128, 1, 10_240)) if "memory_mb" in fields else None
    return Fault(_number(fields, "kill", 0, 0, 1), after, timeout_s, memory_mb)
