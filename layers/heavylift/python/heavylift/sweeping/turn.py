"""Whose turn it is to sweep, and where the last run stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from heavylift import items
from heavylift.ids import new_ulid
from heavylift.settings import settings

# A run says that it lives at least every half of this; one that was killed keeps the next one out no longer.
TURN_S = 120.0
TURN_MIN_S = 10.0  # on a scaled clock too, a page of work must fit in
_TURN = {"pk": "T#_#SWEEP", "sk": "TURN"}
_PLACES = {"pk": "T#_#SWEEP", "sk": "PLACES"}


def _turn_s() -> float:
    return max(TURN_MIN_S, TURN_S / settings().time_scale)


@dataclass(slots=True)
class Turn:
    """The right to sweep, as long as it is kept."""

    owner: str
    until: float

    def keep(self) -> bool:
        """Say that this run lives; False when another one has taken over."""
        now = time.time()
        if self.until - now > _turn_s() / 2:
            return True
        until = now + _turn_s()
        if not items.put_if({**_TURN, "owner": self.owner, "until": until}, "owner", equal=self.owner):
            return False
        self.until = until
        return True

    def give_back(self) -> None:
        """Let the next run begin at once."""
        items.put_if({**_TURN, "owner": self.owner, "until": 0}, "owner", equal=self.owner)


def take() -> Turn | None:
    """The turn, or None while another run is at work."""
    now = time.time()
    mine = Turn(new_ulid(), now + _turn_s())
    taken = items.put_if({**_TURN, "owner": mine.owner, "until": mine.until}, "until", below=now)
    return mine if taken else None


def places() -> dict[str, Any]:
    """Where each listing goes on: by its name the last key that was looked at; absent = from the start."""
    return dict((items.get(_PLACES) or {}).get("places") or {})


def keep_places(at: dict[str, Any]) -> None:
    """A run that is killed before this looks at the same keys once more: harmless."""
    items.put({**_PLACES, "places": at})
