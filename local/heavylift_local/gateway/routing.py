"""Which function answers a request. No I/O here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    function: str
    route_key: str
    scope: str | None
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    method: str
    segments: tuple[str, ...]
    function: str
    scope: str | None
    path: str

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """Path parameters, still encoded, or None. ``{name+}`` at the end takes all that is left, at least one."""
        found: dict[str, str] = {}
        for position, pattern in enumerate(self.segments):
            if pattern.startswith("{") and pattern.endswith("+}"):
                rest = segments[position:]
                if not rest or rest == [""]:
                    return None
                return {**found, pattern[1:-2]: "/".join(rest)}
            if position >= len(segments):
                return None
            if pattern.startswith("{"):
                if not segments[position]:
                    return None
                found[pattern[1:-1]] = segments[position]
            elif pattern != segments[position]:
                return None
        return found if len(segments) == len(self.segments) else None

    @property
    def rank(self) -> tuple[int, ...]:
        """The most specific route wins: literal before parameter before greedy, segment by segment."""
        return tuple(2 if s.endswith("+}") else 1 if s.startswith("{") else 0 for s in self.segments)


class Router:
    """The routes of all functions of a topology."""

    def __init__(self, functions: Iterable[Any]) -> None:
        self._entries = sorted(
            (
                _Entry(route.method, tuple(route.path.split("/")[1:]), function.name, route.scope, route.path)
                for function in functions
                for route in function.routes
            ),
            key=lambda entry: entry.rank,
        )

    def find(self, method: str, path: str) -> Target | None:
        """The target for a path that is still percent-encoded; an encoded slash is no separator."""
        segments = path.split("/")[1:]
        for entry in self._entries:
            if entry.method not in (method, "ANY"):
                continue
            parameters = entry.match(segments)
            if parameters is not None:
                return Target(entry.function, f"{entry.method} {entry.path}", entry.scope, parameters)
        return None
