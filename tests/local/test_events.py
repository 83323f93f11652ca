"""The hub delivers every event by the rules; faults copy, drop and turn them round."""

from __future__ import annotations

import json
import time
from typing import Any

from heavylift_local import plan
from heavylift_local.events import EventFault, EventHub, target


def event(bucket: str, key: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": key,
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}},
    }


class Hub:
    """The project's own rules over lists."""

    def __init__(self) -> None:
        topology: Any = plan.load_topology(plan.REPOSITORY / "infra" / "topology.py")
        self.got: dict[str, list[str]] = {}
        names = plan.bucket_names(topology)

        def sink(queue: str) -> Any:
            return lambda body: self.got.setdefault(queue, []).append(json.loads(body)["detail"]["object"]["key"])

        self.hub = EventHub([target(rule, names[rule.bucket], sink(rule.queue)) for rule in topology.RULES])


def test_one_rule_takes_each_object() -> None:
    """A lane's event reaches its own queue and no other; other prefixes and buckets reach none."""
    made = Hub()
    for bucket, key in [
        ("heavylift-staging", "in/t/1"),
        ("heavylift-store", "files/t/2"),
        ("heavylift-store", "in/t/3"),
        ("heavylift-staging", "other/t/4"),
        ("heavylift-derived", "thumbnails/t/5"),
        ("foreign", "in/t/6"),
    ]:
        made.hub.publish(event(bucket, key))
    made.hub.stop()

    assert made.got == {"validate": ["in/t/1"], "thumbnail": ["files/t/2"]}


def test_an_event_that_no_rule_asks_for_takes_no_part_in_the_faults() -> None:
    """Lost and kept events are the same ones, whatever else is on the bus."""
    kept: list[list[str]] = []
    for foreign in (0, 3):
        made = Hub()
        made.hub.set_fault(EventFault(drop=0.5, seed=7))
        for number in range(20):
            for _ in range(foreign):
                made.hub.publish_if_wanted({**event("heavylift-staging", "in/t/no"), "source": "heavylift"})
            made.hub.publish_if_wanted(event("heavylift-staging", f"in/t/{number}"))
        made.hub.stop()
        kept.append(made.got["validate"])

    assert kept[0] == kept[1]
    assert 0 < len(kept[0]) < 20


def test_the_body_is_the_event_itself() -> None:
    """EventBridge hands SQS the event as the message's body."""
    bodies: list[str] = []
    topology: Any = plan.load_topology(plan.REPOSITORY / "infra" / "topology.py")
    hub = EventHub([target(topology.RULES[0], "b", bodies.append)])
    sent = event("b", "in/t/ü 1+2")
    hub.publish(sent)
    hub.stop()

    assert [json.loads(body) for body in bodies] == [sent]


def test_copies_and_reversal() -> None:
    """Each event three times, the newest first."""
    made = Hub()
    made.hub.set_fault(EventFault(copies=3, reverse=True))
    for number in range(3):
        made.hub.publish(event("heavylift-staging", f"in/t/{number}"))
    until = time.monotonic() + 10
    while len(made.got.get("validate", [])) < 9 and time.monotonic() < until:
        time.sleep(0.01)
    made.hub.stop()

    assert made.got["validate"] == ["in/t/2"] * 3 + ["in/t/1"] * 3 + ["in/t/0"] * 3


def test_drops_are_repeatable() -> None:
    """The same seed loses the same events."""

    def run(seed: int) -> list[str]:
        made = Hub()
        made.hub.set_fault(EventFault(drop=0.5, seed=seed))
        for number in range(50):
            made.hub.publish(event("heavylift-staging", f"in/t/{number}"))
        made.hub.stop()
        return made.got["validate"]

    assert run(1) == run(1) != run(2)
    assert 5 < len(run(1)) < 45


def test_held_events_are_delivered_at_the_end() -> None:
    """S3 was told they are accepted: a stop must not lose them."""
    made = Hub()
    made.hub.set_fault(EventFault(reverse=True))
    made.hub.publish(event("heavylift-staging", "in/t/1"))
    made.hub.stop()

    assert made.got == {"validate": ["in/t/1"]}
