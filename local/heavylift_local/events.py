"""The event hub: S3's events go through the topology's rules into queues, as EventBridge delivers them.

At least once and in no order: that is what EventBridge promises, so tests may ask for copies, losses and
reversals.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

REVERSE_WINDOW_S = 0.3  # events that come this close together change places

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EventFault:
    copies: int = 1
    reverse: bool = False
    drop: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A rule realised: a pattern over physical names, and where its events go."""

    rule: str
    pattern: Any
    send: Callable[[str], None]


def target(rule: Any, bucket_name: str, send: Callable[[str], None]) -> Target:
    from moto.events.models import EventPattern  # 30 MB that whoever needs an EventFault alone does not pay

    return Target(rule.name, EventPattern.load(json.dumps(rule.pattern(bucket_name))), send)


class EventHub:
    """Thread-safe. ``publish`` returns when the event is in every queue it belongs to, or held for a fault."""

    def __init__(self, targets: list[Target]) -> None:
        self._targets = targets
        self._fault = EventFault()
        self._random = random.Random(0)
        self._condition = threading.Condition()
        self._held: list[Mapping[str, Any]] = []
        self._held_since = 0.0
        self._stopped = False
        self._thread = threading.Thread(target=self._release_held, name="events", daemon=True)
        self._thread.start()

    def set_fault(self, fault: EventFault) -> None:
        with self._condition:
            self._fault = fault
            self._random = random.Random(fault.seed)
            self._condition.notify()

    def publish_if_wanted(self, event: Mapping[str, Any]) -> None:
        """An event that no rule asks for goes nowhere, and takes no part in the faults either."""
        if any(to.pattern.matches_event(event) for to in self._targets):
            self.publish(event)

    def publish(self, event: Mapping[str, Any]) -> None:
        with self._condition:
            fault = self._fault
            if fault.drop and self._random.random() < fault.drop:
                logger.info("dropped by a fault: %s", event.get("id"))
                return
            if fault.reverse:
                if not self._held:
                    self._held_since = time.monotonic()
                self._held.extend([event] * fault.copies)
                self._condition.notify()
                return
        for _ in range(fault.copies):
            self._deliver(event)

    def _deliver(self, event: Mapping[str, Any]) -> None:
        body = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        for to in self._targets:
            if to.pattern.matches_event(event):
                to.send(body)

    def _release_held(self) -> None:
        while True:
            with self._condition:
                while not self._stopped and not self._held:
                    self._condition.wait()
                if self._stopped:
                    return
                remaining = self._held_since + REVERSE_WINDOW_S - time.monotonic()
                if remaining > 0 and self._fault.reverse:
                    self._condition.wait(remaining)
                    continue
                held, self._held = self._held, []
            for event in reversed(held):
                self._deliver(event)

    def stop(self) -> None:
        """Held events are delivered: they were accepted."""
        with self._condition:
            held, self._held = self._held, []
            self._stopped = True
            self._condition.notify()
        for event in reversed(held):
            self._deliver(event)
        self._thread.join(5)
