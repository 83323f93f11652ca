"""The supervisor's own listener: queues, the bus, S3's events, and the calls at which functions end. Loopback only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from heavylift_local import bus
from heavylift_local.serving import BadBody, BodyTooLarge, Exchange

if TYPE_CHECKING:
    from heavylift_local.stack import Stack

BODY_BYTES_MAX = 17 * 1024 * 1024  # a batch of messages with its envelope is far smaller


class Internal(Exchange):
    """Where functions reach the queues and the bus, S3 delivers its events, and calls end their callers."""

    def do_POST(self) -> None:
        stack: Stack = self.server.stack  # type: ignore[attr-defined]
        try:
            body = self.read_body(BODY_BYTES_MAX)
        except (BodyTooLarge, BadBody):
            self.reply(413)
            return
        if self.path == stack.event_path:
            try:
                event = json.loads(body)
            except ValueError:
                self.reply(400)
                return
            stack.publish(event)
            self.reply(204)
            return
        if self.path == stack.call_path:
            try:
                caller = str(json.loads(body)["caller"])
            except (ValueError, KeyError, TypeError):
                self.reply(400)
                return
            stack.end_caller(caller)
            self.reply(204)
            return
        caller_name = getattr(self.server, "caller_name", None)
        events = (self.headers.get("X-Amz-Target") or "").startswith(bus.TARGET)
        service = stack.bus if events else stack.queue_service
        status, headers, answer = service.handle(self.headers, body, caller_name)
        self.reply(status, answer, None, headers)
