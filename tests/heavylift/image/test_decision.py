"""Standard or chunked: one decision, its reason, its refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import ContentError
from heavylift.image.decision import STANDARD_BYTES_MAX, Choice, decide

MIB = 1 << 20
SMALL = Choice(
    size_bytes=10 * MIB, whole_bytes=60 * MIB, chunked_bytes=50 * MIB, budget_bytes=824 * MIB, threshold_bytes=50 * MIB
)


@pytest.mark.parametrize(
    ("changes", "method", "words"),
    [
        ({}, "standard", "60 MiB of 824 MiB"),
        ({"size_bytes": 50 * MIB}, "standard", "60 MiB"),
        ({"size_bytes": 50 * MIB + 1}, "chunked", "over the threshold of 50 MiB"),
        ({"whole_bytes": STANDARD_BYTES_MAX + 1}, "chunked", "in bands"),
        ({"whole_bytes": 900 * MIB}, "chunked", "the budget is 824 MiB"),
        ({"budget_bytes": 55 * MIB}, "chunked", "the budget is 55 MiB"),
        ({"chunked_bytes": None}, "standard", "as a whole"),
        ({"chunked_bytes": None, "size_bytes": 1 << 40}, "standard", "as a whole"),
        ({"chunked_bytes": 900 * MIB, "size_bytes": 60 * MIB}, "standard", "in bands it would take 900 MiB"),
        ({"chunking": False, "size_bytes": 1 << 40, "whole_bytes": 700 * MIB}, "standard", "switched off"),
    ],
)
def test_method_and_reason(changes: dict[str, int], method: str, words: str) -> None:
    """Each rule decides as documented, and names its numbers."""
    decision = decide(replace(SMALL, **changes))

    assert decision.method == method
    assert words in decision.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"chunked_bytes": None, "whole_bytes": 825 * MIB},
        {"chunked_bytes": 825 * MIB, "whole_bytes": 825 * MIB},
        {"chunking": False, "whole_bytes": 825 * MIB},
    ],
)
def test_refusal(changes: dict[str, int]) -> None:
    """Where nothing fits, the refusal names what was needed and what there is."""
    with pytest.raises(ContentError) as caught:
        decide(replace(SMALL, **changes))

    assert caught.value.code == "too_large_to_decode"
    assert caught.value.facts == {"estimated_memory_bytes": 825 * MIB, "budget_bytes": 824 * MIB}


amounts = st.integers(1, 4000 * MIB)


@given(amounts, amounts, st.none() | amounts, amounts, amounts, st.booleans())
def test_never_over_the_budget(
    size: int, whole: int, chunked: int | None, budget: int, threshold: int, chunking: bool
) -> None:
    """Whatever is decided fits the budget; bands are never chosen where there are none or they are switched off;
    a refusal means that nothing fits."""
    try:
        decision = decide(Choice(size, whole, chunked, budget, threshold, chunking))
    except ContentError:
        assert whole > budget
        assert chunked is None or not chunking or chunked > budget
        return
    assert decision.estimated_memory_bytes <= budget
    if decision.method == "chunked":
        assert chunked is not None
        assert chunking
    else:
        assert decision.method == "standard"
    assert decision.reason
