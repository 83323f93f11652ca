"""SQS in memory: visibility, receive counts, a dead-letter queue after ``receive_count_max`` receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.doubles.answers import refusal


@dataclass(slots=True)
class Message:
    message_id: str
    queue: str
    body: str
    visible_at: float
    receive_count: int = 0

    @property
    def receipt_handle(self) -> str:
        return f"{self.message_id}/{self.receive_count}"


class FakeQueues:
    def __init__(self, now: Callable[[], float], visibility_s: dict[str, float], receive_count_max: int = 5) -> None:
        self._now, self._visibility_s, self._receive_count_max = now, visibility_s, receive_count_max
        self.messages: list[Message] = []
        self.dead: list[Message] = []
        self._count = 0

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:
        self._count += 1
        queue = QueueUrl.rsplit("/", 1)[-1]
        assert queue in self._visibility_s
        assert 0 <= DelaySeconds <= 900
        self.messages.append(Message(f"m{self._count}", queue, MessageBody, self._now() + DelaySeconds))
        return {"MessageId": f"m{self._count}"}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        assert AttributeNames == ["ApproximateNumberOfMessages"]
        queue, now = QueueUrl.rsplit("/", 1)[-1], self._now()
        if queue.removesuffix("-dlq") not in self._visibility_s:
            raise refusal("AWS.SimpleQueueService.NonExistentQueue", 400, "GetQueueAttributes")
        if queue.endswith("-dlq"):
            dead = sum(f"{message.queue}-dlq" == queue for message in self.dead)
            return {"Attributes": {"ApproximateNumberOfMessages": str(dead)}}
        visible = sum(message.queue == queue and message.visible_at <= now for message in self.messages)
        return {"Attributes": {"ApproximateNumberOfMessages": str(visible)}}

    def change_message_visibility(self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> dict[str, Any]:
        assert isinstance(VisibilityTimeout, int)
        assert 0 <= VisibilityTimeout <= 43_200
        for message in self.messages:
            if message.receipt_handle == ReceiptHandle:
                message.visible_at = self._now() + VisibilityTimeout
        return {}

    def receive(self, *, newest_first: bool = False) -> Message | None:
        """The next visible message; one that was received too often goes to the dead."""
        for message in sorted(self.messages, key=lambda m: int(m.message_id[1:]), reverse=newest_first):
            if message.visible_at > self._now():
                continue
            if message.receive_count >= self._receive_count_max:
                self.messages.remove(message)
                self.dead.append(message)
                continue
            message.receive_count += 1
            message.visible_at = self._now() + self._visibility_s[message.queue]
            return message
        return None

    def delete(self, message: Message) -> None:
        if message in self.messages:
            self.messages.remove(message)
