"""Whose turn it is, said by the type of the error.

``RequestError``   the caller's fault: answered with a 4xx, never retried.
``ContentError``   the file's fault: recorded against that file, never retried.
``TransientError`` the world's fault: the message comes back after the retry clock.
Anything else is ours: it crashes, lands in the dead-letter queue and raises an alarm.

Each carries a stable ``code``, a sentence for people and the numbers as keyword facts. A message never
holds a patient's data or a presigned URL. HTTP status codes live in ``heavylift.api.problems`` alone.
"""

from __future__ import annotations

from typing import Any


class HeavyliftError(Exception):
    """Base of all expected failures: ``code`` is stable, ``message`` is a sentence, ``facts`` are JSON values."""

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RequestError(HeavyliftError):
    """The caller's fault."""


class ContentError(HeavyliftError):
    """The file's fault."""


class TransientError(HeavyliftError):
    """The world's fault; the same work may succeed later."""
