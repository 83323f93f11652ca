"""How far an archive's making is, told as bytes to whoever watches. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift_client.transfers import Hooks


class Meter:
    """Turns what the API says of an archive into steps of a progress bar; never back, and whole at the end."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._total = 0
        self._done = 0

    def saw(self, body: Mapping[str, Any]) -> None:
        """The archive's body, as it is now."""
        progress = body.get("progress") or {}
        total = int(progress.get("bytes_total") or 0)
        if body.get("status") == "completed" and body.get("reused"):
            total = 0  # nothing was built for us
        if total > self._total:
            self._hooks.on_listed(total - self._total)
            self._total = total
        done = self._total if body.get("status") == "completed" else int(progress.get("bytes_done") or 0)
        done = min(done, self._total)
        if done > self._done:
            self._hooks.on_bytes(done - self._done)
            self._done = done
