"""Query parameters of downloads and lists, and the two ways to answer with a signed link. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from heavylift.errors import RequestError
from heavylift.records import iso

CONTENT_TTL_MAX_S = 3_600  # content links may live longer than other signatures: a download manager's patience


def number(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    """A whole number from 1 to ``maximum``. RequestError ``invalid_parameter``."""
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= maximum:
        raise RequestError("invalid_parameter", f"{name} must be a number from 1 to {maximum}.", parameter=name)
    return int(text)


def flag(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A parameter that is true or false. RequestError ``invalid_parameter``."""
    text = query.get(name, str(default)).lower()
    if text not in {"true", "false"}:
        raise RequestError("invalid_parameter", f"{name} must be true or false.", parameter=name)
    return text == "true"


def link(url: str, expires_s: int, query: Mapping[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """A redirect, or with ``redirect=false`` the link as JSON."""
    if not flag(query, "redirect", default=True):
        return 200, {"url": url, "expires_at": iso(time.time() + expires_s)}, {}
    return 307, {}, {"location": url}
