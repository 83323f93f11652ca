"""The fault document is read strictly."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift_local import faults
from heavylift_local.events import EventFault
from heavylift_local.runtime.pool import Fault


def test_an_empty_document_is_no_fault() -> None:
    """``{}`` clears everything."""
    assert faults.parse({}, {"thumbnail"}) == faults.Faults()


def test_every_part_is_understood() -> None:
    """The S3 part is passed on as it is."""
    parsed = faults.parse(
        {
            "s3": {"latency_ms": 5},
            "api": {"latency_ms": 10, "down_s": 1},
            "events": {"copies": 3, "reverse": True, "drop": 0.3, "seed": 1},
            "functions": {"*": {"kill": 0.1}, "thumbnail": {"timeout_s": 2, "memory_mb": 200, "kill_after_ms": 5}},
        },
        {"thumbnail"},
    )

    assert parsed.s3 == {"latency_ms": 5}
    assert parsed.api == faults.ApiFault(10, 1)
    assert parsed.events == EventFault(3, True, 0.3, 1)
    assert parsed.functions == {"*": Fault(kill=0.1), "thumbnail": Fault(0, 5, 2, 200)}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"s4": {}},
        {"s3": []},
        {"api": {"latency": 1}},
        {"api": {"latency_ms": -1}},
        {"api": {"latency_ms": True}},
        {"events": {"copies": "3"}},
        {"events": {"drop": 2}},
        {"functions": {"nobody": {}}},
        {"functions": {"thumbnail": {"kil": 1}}},
        {"functions": {"thumbnail": {"memory_mb": 0}}},
    ],
)
def test_what_is_not_known_is_refused(document: Any) -> None:
    """A misspelt fault must not look like a passed test."""
    with pytest.raises(faults.FaultError):
        faults.parse(document, {"thumbnail"})
