"""The stub scanner: the EICAR test file is infected, everything else is clean, and the form is GuardDuty's."""

from __future__ import annotations

import json
import queue as queues
from types import SimpleNamespace
from typing import Any

import pytest
from moto.events.models import EventPattern

from heavylift import queue, scanning
from heavylift_local import plan, scanner
from heavylift_local.scanner import EICAR, StubScanner
from infra import topology
from tests.doubles import events
from tests.doubles.s3 import FakeS3

BUCKET = "b-staging"


def test_the_test_file_is_the_standards() -> None:
    """68 bytes, as EICAR has them; found behind other bytes, too."""
    assert len(EICAR) == 68
    assert scanner.verdict(EICAR)[0] == scanner.verdict(b"x" * 1000 + EICAR + b"\n")[0] == scanning.INFECTED
    assert scanner.verdict(EICAR[:-1]) == scanner.verdict(b"") == (scanning.CLEAN, [])
    assert scanner.TAG == scanning.TAG


@pytest.mark.parametrize(
    ("body", "expected"), [(b"a,b\n1,2\n", scanning.CLEAN), (EICAR, scanning.INFECTED), (b"", scanning.CLEAN)]
)
def test_an_object_is_tagged_and_told(body: bytes, expected: str) -> None:
    """The event is one that the topology's rule takes and our function reads; it says that a stub made it."""
    s3 = FakeS3((BUCKET,))
    told: queues.SimpleQueue[dict[str, Any]] = queues.SimpleQueue()
    stub = StubScanner(s3, {BUCKET: ("in/",)}, told.put, "us-east-1", "123456789012")  # type: ignore[arg-type]
    stub.start()
    s3.put_object(Bucket=BUCKET, Key="in/t/x", Body=body)
    found = s3.buckets[BUCKET]["in/t/x"]
    stub.see({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}})
    stub.see(events.object_created("another", "in/t/x", 1, "e"))
    stub.see(events.object_created(BUCKET, "dicom/t/x", 1, "e"))
    stub.see(events.object_created(BUCKET, "in/t/gone", 1, "e"))
    stub.see(events.object_created(BUCKET, "in/t/x", len(body), found.etag))
    event = told.get(timeout=10)
    stub.stop()
    message = queue.parse(json.dumps(event))
    (rule,) = topology.SCAN_RULES

    assert isinstance(message, queue.ScanVerdict)
    assert (message.bucket, message.key, message.etag, message.status) == (BUCKET, "in/t/x", found.etag, expected)
    assert found.tags == {scanning.TAG: expected}
    assert EventPattern.load(json.dumps(rule.pattern(BUCKET))).matches_event(event)
    assert "stub" in event["resources"][0]
    assert told.empty()


def test_what_is_scanned_follows_the_setting() -> None:
    """Off by default; a topology of a test's own has nothing to scan."""
    names = {bucket.name: f"x-{bucket.name}" for bucket in topology.BUCKETS}

    for how in ("", "off", " OFF "):
        assert plan.scanned(topology, {"MALWARE_SCAN": how}, names) == {}
        assert plan.rules(topology, {"MALWARE_SCAN": how}) == topology.RULES
    assert plan.scanned(topology, {"MALWARE_SCAN": "strict"}, names) == {"x-staging": ("in/",)}
    assert plan.rules(topology, {"MALWARE_SCAN": "lenient"}) == (*topology.RULES, *topology.SCAN_RULES)
    assert plan.scanned(SimpleNamespace(), {"MALWARE_SCAN": "strict"}, names) == {}
    assert plan.rules(SimpleNamespace(RULES=(1,)), {"MALWARE_SCAN": "strict"}) == (1,)
