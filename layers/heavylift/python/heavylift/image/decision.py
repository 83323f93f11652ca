"""Whole or in bands: one pure decision, with its reason in words.

"standard": the picture is decoded at once. "chunked": band by band, in memory that does not grow with the file.
When in doubt, chunked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from heavylift.errors import ContentError

MIB: Final = 1 << 20
# Up to this much a whole decode is not worth avoiding; above it the promise of 128 MiB would break.
STANDARD_BYTES_MAX: Final = 96 * MIB


@dataclass(frozen=True, slots=True)
class Decision:
    """``method``: standard or chunked; ``reason`` in words; the estimate is that of the method chosen."""

    method: str
    reason: str
    estimated_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What the decision rests on. ``chunked_bytes``: estimate of decoding in bands, None where the format cannot."""

    size_bytes: int
    whole_bytes: int
    chunked_bytes: int | None
    budget_bytes: int
    threshold_bytes: int
    chunking: bool = True


def _mb(size: int) -> str:
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"


def decide(choice: Choice) -> Decision:
    """The method for a picture. ContentError ``too_large_to_decode`` where neither fits the budget."""
    whole, banded, budget = choice.whole_bytes, choice.chunked_bytes, choice.budget_bytes
    whole_fits = whole <= budget
    if banded is not None and choice.chunking and banded <= budget:
        if choice.size_bytes > choice.threshold_bytes:
            reason = f"file of {_mb(choice.size_bytes)}, over the threshold of {_mb(choice.threshold_bytes)}"
            return Decision("chunked", reason, banded)
        if not whole_fits:
            return Decision("chunked", f"whole it would take {_mb(whole)}, the budget is {_mb(budget)}", banded)
        if whole > STANDARD_BYTES_MAX:
            return Decision("chunked", f"whole it would take {_mb(whole)}, in bands {_mb(banded)}", banded)
        return Decision("standard", f"whole it takes {_mb(whole)} of {_mb(budget)}", whole)
    if whole_fits:
        if banded is None:
            reason = f"this format is decoded as a whole: {_mb(whole)} of {_mb(budget)}"
        elif not choice.chunking:
            reason = f"decoding in bands is switched off; whole it takes {_mb(whole)} of {_mb(budget)}"
        else:
            reason = f"in bands it would take {_mb(banded)}; whole it takes {_mb(whole)} of {_mb(budget)}"
        return Decision("standard", reason, whole)
    needed = whole if banded is None or not choice.chunking else min(whole, banded)
    raise ContentError(
        "too_large_to_decode",
        f"decoding needs about {_mb(needed)}, the budget is {_mb(budget)}",
        estimated_memory_bytes=needed,
        budget_bytes=budget,
    )
