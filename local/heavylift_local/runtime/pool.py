"""The children of one function: at most ``cap`` at a time, the warmest reused first."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from heavylift_local.runtime import lineage, processes
from heavylift_local.runtime.child import Child, Invocation, Launch, Outcome, error_payload
from heavylift_local.traps import Trap

IDLE_SECONDS_MAX = 15 * 60  # long enough for an outside check to read a child's peak after its work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KillAt:
    """The call of a service at which a function ends."""

    service: str
    operation: str
    trap: Trap


@dataclass(frozen=True, slots=True)
class Fault:
    """What a test wants to go wrong with a function."""

    kill: float = 0.0
    kill_after_ms: float | None = None
    timeout_s: float | None = None
    memory_mb: int | None = None
    kill_at: KillAt | None = None


@dataclass(slots=True)
class Tally:
    """Counts since the start, for the page."""

    invocations: int = 0
    errors: int = 0
    cold_starts: int = 0
    last_ms: float = 0.0
    usual_ms: float = 50.0
    peak_bytes: int = 0


class Pool:
    """Invokes one function; thread-safe."""

    def __init__(self, launch: Launch, cap: int, census: processes.Census, seed: int = 0) -> None:
        self.launch = launch
        self.cap = cap
        self._census = census
        self._condition = threading.Condition()
        self._idle: list[Child] = []
        self._children: set[Child] = set()
        self._reserved = 0
        self._stopped = False
        self._random = random.Random(seed)
        self.fault = Fault()
        self.tally = Tally()

    def reseed(self, seed: int) -> None:
        self._random = random.Random(seed)

    def invoke(self, payload: bytes, trace: lineage.Trace | None = None, wait_seconds: float = 3600.0) -> Outcome:
        """Runs one event; waits up to ``wait_seconds`` for a free child, then the outcome is ``throttled``."""
        inside, _ = lineage.enter(trace or lineage.fresh(), self.launch.name)
        child = self._acquire(time.monotonic() + wait_seconds)
        if child is None:
            return Outcome("", False, error_payload("TooManyRequestsException", "Rate Exceeded."), "throttled")
        outcome: Outcome | None = None
        try:
            fault = self.fault
            memory_mb = fault.memory_mb or self.launch.memory_mb
            timeout_s = fault.timeout_s or self.launch.timeout_s
            outcome = child.wait_ready(memory_mb)
            if outcome is not None and outcome.kind == "init_timeout":
                # Lambda initialises once more, now within the invocation's own time.
                self._release(child, None)
                child = self._acquire(time.monotonic() + wait_seconds) or child
                outcome = child.wait_ready(memory_mb, timeout_s) if child.alive else outcome
            if outcome is None:
                outcome = child.invoke(
                    Invocation(
                        payload,
                        inside.header(),
                        timeout_s,
                        memory_mb,
                        self._kill_after(fault),
                        fault.kill_after_ms is None,
                    )
                )
            return outcome
        finally:
            self._release(child, outcome)

    def prewarm(self) -> None:
        """Starts one child if there is none, and waits until it is ready."""
        with self._condition:
            if self._children or self._reserved or self._stopped:
                return
        child = self._acquire(time.monotonic())
        if child is not None:
            failure = child.wait_ready(self.launch.memory_mb)
            if failure is not None:
                logger.warning("%s does not start: %s", self.launch.name, failure.payload.decode(errors="replace"))
            self._release(child, None)

    def reap(self, idle_seconds: float = IDLE_SECONDS_MAX) -> None:
        """Ends the children that had nothing to do for so long."""
        now = time.monotonic()
        with self._condition:
            old = [child for child in self._idle if now - child.idle_since > idle_seconds]
            for child in old:
                self._idle.remove(child)
                self._children.discard(child)
        for child in old:
            child.close()

    def kill_busy(self) -> int:
        """Kills every child that is at work, with all it started; returns when they are gone, how many.

        A function's children share its credentials, so a call tells the function and not the child: in a test
        that needs one victim, one invocation runs at a time.
        """
        with self._condition:
            busy = [child for child in self._children if child not in self._idle]
        for child in busy:
            child.kill_by_fault()
        return len(busy)

    def stop(self) -> None:
        """Kills all children, busy or not."""
        with self._condition:
            self._stopped = True
            children = list(self._children)
            self._children.clear()
            self._idle.clear()
            self._condition.notify_all()
        for child in children:
            child.close()

    def pids(self) -> list[int]:
        with self._condition:
            return sorted(child.pid for child in self._children)

    def state(self) -> Mapping[str, object]:
        with self._condition:
            children = list(self._children)
            busy = len(children) - len(self._idle)
        self.tally.peak_bytes = max([self.tally.peak_bytes, *(child.peak_bytes() for child in children)])
        return {
            "pids": sorted(child.pid for child in children),
            "busy": max(0, busy),
            "cap": self.cap,
            "memory_mb": self.launch.memory_mb,
            "timeout_s": self.launch.timeout_s,
            "memory_peak_bytes": self.tally.peak_bytes,
            "invocations": self.tally.invocations,
            "errors": self.tally.errors,
            "cold_starts": self.tally.cold_starts,
            "last_ms": round(self.tally.last_ms, 2),
        }

    def _kill_after(self, fault: Fault) -> float | None:
        """When in the invocation the axe falls, in seconds: any moment of its usual length, or at its very end."""
        if fault.kill_after_ms is not None and self._random.random() < (fault.kill or 1.0):
            return fault.kill_after_ms / 1000
        if fault.kill_after_ms is None and self._random.random() < fault.kill:
            return self._random.random() * self.tally.usual_ms / 1000
        return None

    def _acquire(self, until: float) -> Child | None:
        """An idle child, a new one, or None when ``until`` has passed."""
        with self._condition:
            while True:
                if self._stopped:
                    return None
                while self._idle:
                    child = self._idle.pop()
                    if child.alive:
                        return child
                    self._children.discard(child)
                    self._discard_later(child)
                if len(self._children) + self._reserved < self.cap:
                    self._reserved += 1
                    break
                remaining = until - time.monotonic()
                if remaining <= 0:
                    return None
                self._condition.wait(remaining)
        try:
            child = Child(self.launch, self._census)
        finally:
            with self._condition:
                self._reserved -= 1
        with self._condition:
            stopped = self._stopped
            if not stopped:
                self._children.add(child)
                self.tally.cold_starts += 1
        if stopped:
            child.close()
            return None
        return child

    def _release(self, child: Child, outcome: Outcome | None) -> None:
        alive = child.alive and (outcome is None or outcome.kind not in ("init", "too_large"))
        peak = child.peak_bytes() if alive else 0
        with self._condition:
            if outcome is not None:
                self.tally.invocations += 1
                self.tally.errors += not outcome.ok
                self.tally.last_ms = outcome.duration_ms
                if outcome.ok:
                    self.tally.usual_ms += (outcome.duration_ms - self.tally.usual_ms) * 0.5
                self.tally.peak_bytes = max(self.tally.peak_bytes, peak, 0 if alive else outcome.peak_bytes)
            if alive and not self._stopped:
                self._idle.append(child)
            else:
                self._children.discard(child)
            self._condition.notify()
        if not alive:
            child.close()

    @staticmethod
    def _discard_later(child: Child) -> None:
        threading.Thread(target=child.close, daemon=True).start()
