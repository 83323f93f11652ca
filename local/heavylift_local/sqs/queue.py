"""A standard queue: visibility, delays, receive counts, redrive to a dead-letter queue.

Receiving costs the same whatever the backlog is. Facts: Amazon SQS developer guide ("visibility timeout",
"dead-letter queues", "long polling") and API reference.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import itertools
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

VISIBILITY_SECONDS_MAX = 43_200  # 12 hours, SQS quotas


@dataclass(slots=True)
class Message:
    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace_header: str | None = None
    sender: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent_at: float = field(default_factory=time.time)
    first_received_at: float | None = None
    receive_count: int = 0
    visible_at: float = 0.0  # monotonic
    receipt: str | None = None  # of the latest receive; None = not in flight

    def system_attributes(self) -> dict[str, str]:
        values = {
            "ApproximateReceiveCount": str(self.receive_count),
            "SentTimestamp": str(int(self.sent_at * 1000)),
            "SenderId": self.sender,
            "ApproximateFirstReceiveTimestamp": str(int((self.first_received_at or self.sent_at) * 1000)),
        }
        if self.trace_header:
            values["AWSTraceHeader"] = self.trace_header
        return values

    def md5_of_body(self) -> str:
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest()

    def md5_of_attributes(self) -> str | None:
        """SQS's digest over the attributes by name: length-prefixed name and type, a kind byte, the value."""
        if not self.attributes:
            return None
        digest = hashlib.md5(usedforsecurity=False)

        def add(value: bytes) -> None:
            digest.update(struct.pack(">I", len(value)) + value)

        for name in sorted(self.attributes):
            attribute = self.attributes[name]
            add(name.encode())
            add(attribute["DataType"].encode())
            if attribute["DataType"].startswith("Binary"):
                digest.update(b"\x02")
                add(base64.b64decode(attribute["BinaryValue"]))
            else:
                digest.update(b"\x01")
                add(attribute["StringValue"].encode())
        return digest.hexdigest()


class ReceiptInvalid(Exception):
    """The receipt handle belongs to no message in flight."""


class Queue:
    """One queue; thread-safe. ``dead_letters`` takes what was received more than ``receive_count_max`` times."""

    def __init__(
        self,
        name: str,
        visibility_s: float,
        retention_s: float,
        dead_letters: Queue | None = None,
        receive_count_max: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.visibility_s = visibility_s
        self.retention_s = retention_s
        self.dead_letters = dead_letters
        self.receive_count_max = receive_count_max
        self._clock = clock
        self._condition = threading.Condition()
        self._messages: dict[str, Message] = {}
        self._ready: deque[str] = deque()
        self._timers: list[tuple[float, int, str]] = []  # (visible_at, order, message id)
        self._order = itertools.count()
        self._closed = False
        self.changes = 0

    def send(self, message: Message, delay_s: float = 0.0) -> None:
        with self._condition:
            self._put(message, delay_s)
            self._condition.notify()

    def _put(self, message: Message, delay_s: float = 0.0) -> None:
        self.changes += 1
        self._messages[message.id] = message
        message.receipt = None
        if delay_s > 0:
            self._hide(message, delay_s)
        else:
            message.visible_at = self._clock()
            self._ready.append(message.id)

    def _hide(self, message: Message, seconds: float) -> None:
        message.visible_at = self._clock() + seconds
        heapq.heappush(self._timers, (message.visible_at, next(self._order), message.id))

    def receive(self, count_max: int = 1, wait_s: float = 0.0, visibility_s: float | None = None) -> list[Message]:
        """Up to ``count_max`` visible messages, now hidden for the visibility; waits for the first one."""
        until = self._clock() + wait_s
        hidden_s = self.visibility_s if visibility_s is None else visibility_s
        with self._condition:
            while not self._closed:
                received = self._take(count_max, hidden_s)
                if received:
                    return received
                now = self._clock()
                if now >= until:
                    return []
                wake = min(until, self._timers[0][0]) if self._timers else until
                self._condition.wait(max(0.001, wake - now))
            return []

    def _take(self, count_max: int, hidden_s: float) -> list[Message]:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            visible_at, _, message_id = heapq.heappop(self._timers)
            message = self._messages.get(message_id)
            # A changed visibility leaves the old timer behind; only the latest counts.
            if message is not None and message.visible_at == visible_at:
                message.receipt = None
                self._ready.append(message_id)
        received: list[Message] = []
        while self._ready and len(received) < count_max:
            message = self._messages.get(self._ready.popleft())
            if message is None:
                continue
            self.changes += 1
            if time.time() - message.sent_at > self.retention_s:
                del self._messages[message.id]
                continue
            limit = self.receive_count_max
            if limit is not None and self.dead_letters is not None and message.receive_count >= limit:
                del self._messages[message.id]
                self.dead_letters.send(message)
                continue
            message.receive_count += 1
            message.first_received_at = message.first_received_at or time.time()
            message.receipt = f"{message.id}#{uuid.uuid4().hex}"
            if hidden_s <= 0:
                message.visible_at = now
                self._ready.append(message.id)
            else:
                self._hide(message, hidden_s)
            # A copy: the message itself gets a new receipt when it comes back while this one is still held.
            received.append(replace(message))
        return received

    def delete(self, receipt: str) -> None:
        """Forgets the message if the receipt is its latest; a stale one changes nothing. Raises ReceiptInvalid."""
        message_id, separator, _ = receipt.partition("#")
        if not separator:
            raise ReceiptInvalid(receipt)
        with self._condition:
            message = self._messages.get(message_id)
            if message is not None and message.receipt == receipt:
                del self._messages[message_id]
                self.changes += 1

    def change_visibility(self, receipt: str, seconds: float) -> None:
        """Hides the message for ``seconds`` from now; 0 shows it at once. Raises ReceiptInvalid when not in flight."""
        with self._condition:
            message = self._messages.get(receipt.partition("#")[0])
            if message is None or message.receipt != receipt:
                raise ReceiptInvalid(receipt)
            self.changes += 1
            if seconds <= 0:
                message.receipt = None
                message.visible_at = self._clock()
                self._ready.append(message.id)
                self._condition.notify()
            else:
                self._hide(message, seconds)
                # A waiting receiver may have set its alarm for later than this message's new time.
                self._condition.notify_all()

    def to_dead_letters(self, receipt: str) -> None:
        """What Lambda does with a message it refuses to deliver: out of the queue, into its dead-letter queue."""
        with self._condition:
            message = self._messages.get(receipt.partition("#")[0])
            if message is None or message.receipt != receipt:
                return
            del self._messages[message.id]
            self.changes += 1
        if self.dead_letters is not None:
            self.dead_letters.send(message)

    def purge(self) -> None:
        with self._condition:
            self.changes += 1
            self._messages.clear()
            self._ready.clear()
            self._timers.clear()

    def close(self) -> None:
        """Wakes every waiting receiver with nothing; no more messages are handed out."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def depth(self) -> dict[str, int]:
        """Messages by state: visible, in_flight (received), delayed (sent for later)."""
        with self._condition:
            now = self._clock()
            visible = in_flight = delayed = 0
            for message in self._messages.values():
                if message.visible_at <= now:
                    visible += 1
                elif message.receipt is not None:
                    in_flight += 1
                else:
                    delayed += 1
            return {"visible": visible, "in_flight": in_flight, "delayed": delayed}

    def dump(self) -> list[dict[str, Any]]:
        """Every message as JSON values. In-flight ones come back visible: who held them is gone."""
        with self._condition:
            now = self._clock()
            return [
                {
                    "id": message.id,
                    "body": message.body,
                    "attributes": dict(message.attributes),
                    "trace_header": message.trace_header,
                    "sender": message.sender,
                    "sent_at": message.sent_at,
                    "first_received_at": message.first_received_at,
                    "receive_count": message.receive_count,
                    "delay_s": max(0.0, message.visible_at - now) if message.receipt is None else 0.0,
                }
                for message in self._messages.values()
            ]

    def load(self, dumped: Iterable[Mapping[str, Any]]) -> None:
        for fields in dumped:
            values = dict(fields)
            delay_s = float(values.pop("delay_s", 0.0))
            self.send(Message(**values), delay_s)
