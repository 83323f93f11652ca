"""One worker in a process of its own, as its function would be: an archive of members that a JSON document names.

``python -m tests.heavylift.archives.child FILE`` with {"members": [[name, size, key, etag, crc32 or null], …],
"key", "params": {…}, "seconds"}; key null: an empty member. Prints one JSON line of what it did and held.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import heavylift.archives.worker  # noqa: F401 - what the function imports is in its memory, too
from heavylift.archives.building import Construction, Continue, Done, Journal, build
from heavylift.archives.layout import Params
from heavylift.archives.members import Member, Members, Source
from heavylift.archives.parts import Workplace
from heavylift.s3 import Traffic
from heavylift.telemetry import memory_peak_bytes

PLACE = Workplace("derived", "work/t/01ARZ3NDEKTSV4RRFFQ69G5FAV/")


def seconds_until(ends: float) -> float:
    return ends - time.monotonic()


def main(document: dict[str, Any]) -> dict[str, Any]:
    base = memory_peak_bytes()
    members = Members()
    for name, size, key, etag, crc32 in document["members"]:
        source = Source("store", key, None, etag) if key else None
        members.append(Member(name, size, 1_763_596_800, crc32, source))
    document["members"] = None
    upload: list[str] = []
    learnt: list[int] = []

    def nothing(given: object) -> None:
        return

    def forget(given: str) -> None:
        upload.clear()

    journal = Journal(lambda one: learnt.append(1), upload.append, forget, nothing, nothing, nothing)
    traffic, started, slices = Traffic(), time.monotonic(), 0
    while True:
        slices += 1
        ends = time.monotonic() + float(document.get("seconds", 250))
        job = Construction("derived", document["key"], PLACE, upload[-1] if upload else None)
        left = partial(seconds_until, ends)
        outcome = build(job, members, journal, traffic, left, Params(**document.get("params", {})))
        if not isinstance(outcome, Continue):
            break
    return {
        "outcome": type(outcome).__name__,
        "crc32": outcome.crc32 if isinstance(outcome, Done) else str(outcome),
        "size": outcome.size_bytes if isinstance(outcome, Done) else 0,
        "parts": outcome.parts if isinstance(outcome, Done) else 0,
        "slices": slices,
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
        "requests": traffic.requests,
        "base_bytes": base,
        "peak_bytes": memory_peak_bytes(),
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time(), 2),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
