"""Lambda's recursion guard: how often a function stands in the chain of requests that led to this event.

Lambda keeps the count in the trace header, as ``Lineage=<hash of the function>:<count>|...``; SDKs copy
the header from ``_X_AMZN_TRACE_ID`` to every call, SQS keeps it as the message's ``AWSTraceHeader``, and
the invocation after the sixteenth is stopped unless the function is set to allow recursion
(AWS Lambda developer guide, "Use Lambda recursive loop detection"; the field's form as seen in public
reports of 2023). No I/O here.
"""

from __future__ import annotations

import secrets
import time
import zlib
from dataclasses import dataclass
from urllib.parse import unquote

HOPS_MAX = 16  # invocations of one function in one chain; the next is stopped


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace header: the root id and the invocations counted so far, by function hash."""

    root: str
    counts: tuple[tuple[str, int], ...] = ()

    def header(self) -> str:
        """The value for Lambda-Runtime-Trace-Id."""
        lineage = "|".join(f"{name}:{count}" for name, count in self.counts)
        return f"Root={self.root};Parent={secrets.token_hex(8)};Sampled=0" + (f";Lineage={lineage}" if lineage else "")


def fresh() -> Trace:
    """The start of a chain."""
    return Trace(f"1-{int(time.time()):08x}-{secrets.token_hex(12)}")


def parse(header: str | None) -> Trace:
    """The trace of a header; what cannot be read starts a new chain, as a missing header does."""
    fields = dict(part.strip().partition("=")[::2] for part in unquote(header or "").split(";") if "=" in part)
    root = fields.get("Root")
    if not root:
        return fresh()
    counts = []
    for entry in fields.get("Lineage", "").split("|"):
        name, _, count = entry.rpartition(":")
        if name and count.isascii() and count.isdigit():
            counts.append((name, int(count)))
    return Trace(root, tuple(counts))


def function_hash(name: str) -> str:
    return f"{zlib.crc32(name.encode()):08x}"


def enter(trace: Trace, function: str) -> tuple[Trace, int]:
    """The trace inside one more invocation of ``function``, and how many of them the chain has now."""
    key = function_hash(function)
    counts = dict(trace.counts)
    counts[key] = counts.get(key, 0) + 1
    return Trace(trace.root, tuple(counts.items())), counts[key]


def deepest(headers: list[str | None], function: str) -> Trace:
    """The trace of a batch: that of the message whose chain holds ``function`` most often."""
    traces = [parse(header) for header in headers] or [fresh()]
    return max(traces, key=lambda trace: dict(trace.counts).get(function_hash(function), 0))
