"""How a picture is asked for: a window of values, a viewport. Values only; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUALITY: Final = 90  # of JPEG: grey values of soft tissue lie close together


@dataclass(frozen=True, slots=True)
class Window:
    """Values of interest: ``function`` LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"

    @property
    def usable(self) -> bool:
        """Whether its width makes sense: PS3.3 C.11.2.1.2 and C.11.2.1.3."""
        return self.width >= 1 if self.function == "LINEAR" else self.width > 0


@dataclass(frozen=True, slots=True)
class Viewport:
    """PS3.18 8.3.5.1.3: a region of the picture, as large as can be in ``width`` x ``height``, its shape kept.

    ``left``, ``top``: of the region; ``across``, ``down``: its measures, None for all up to the picture's edge. Pixels
    of the picture, fractions allowed. ``enlarging``: a region that is smaller than the viewport is made larger.
    """

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    across: float | None = None
    down: float | None = None
    mirrored: bool = False
    upside_down: bool = False
    enlarging: bool = True
