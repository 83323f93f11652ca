"""Which preview is tried next, and how it is turned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import ContentError
from heavylift.raw.estimate import COPY_BYTES_MAX, plan_development
from heavylift.raw.model import JPEG, Preview
from heavylift.raw.ranking import choose, upright

MIB = 1 << 20
PREVIEWS = st.lists(
    st.tuples(st.integers(1, 6000), st.integers(1, 6000), st.integers(64, 20_000_000), st.booleans()), max_size=8
)


def decided(listed: list[tuple[int, int, int, bool]], edge: int) -> Preview | None:
    """Ask until a preview is chosen whose size is known, telling each asked-about preview's size."""
    true = {at: (width, height) for at, (width, height, _, _) in enumerate(listed)}
    left = [
        Preview(JPEG, "", at, length, *((width, height) if known else (0, 0)), checked=known)
        for at, (width, height, length, known) in enumerate(listed)
    ]
    for _ in range(2 * len(listed) + 1):
        chosen = choose(left, edge)
        if chosen is None or chosen.checked:
            return chosen
        width, height = true[chosen.offset]
        left[left.index(chosen)] = replace(chosen, width=width, height=height, checked=True)
    raise AssertionError("it asks for ever")


@given(PREVIEWS, st.integers(100, 3000))
def test_the_smallest_that_is_large_enough(listed: list[tuple[int, int, int, bool]], edge: int) -> None:
    """Nothing large enough is cheaper by more than a look into it costs; else the largest of all is chosen."""
    chosen = decided(listed, edge)
    large = [length for width, height, length, _ in listed if max(width, height) >= edge]

    if not listed:
        assert chosen is None
    elif large:
        assert chosen is not None
        assert chosen.long_side >= edge
        assert chosen.length <= min(large) + (256 << 10)
    else:
        assert chosen is not None
        assert chosen.width * chosen.height == max(width * height for width, height, _, _ in listed)


@pytest.mark.parametrize(
    ("orientation", "preview", "sensor", "wanted"),
    [
        (6, (1600, 1200), (6000, 4000), 6),
        (6, (1200, 1600), (6000, 4000), 1),
        (8, (1200, 1600), (4000, 6000), 8),
        (3, (1200, 1600), (6000, 4000), 3),
        (6, (1200, 1200), (6000, 4000), 6),
        (6, (1600, 1200), (0, 0), 6),
    ],
)
def test_a_preview_that_the_camera_turned(
    orientation: int, preview: tuple[int, int], sensor: tuple[int, int], wanted: int
) -> None:
    """A quarter turn is not applied to a preview that stands upright beside sensor data that lie."""
    assert upright(orientation, preview, sensor) == wanted


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, None),
        ({"size_bytes": COPY_BYTES_MAX + 1, "disk_free_bytes": 1 << 40}, "too_large_to_decode"),
        ({"disk_free_bytes": 60 * MIB}, "too_large_to_decode"),
        ({"big_tiff": True}, "too_large_to_decode"),
        ({"width": 70_000, "height": 10}, "too_large_to_decode"),
        ({"width": 20_000, "height": 16_000}, "too_large_to_decode"),
        ({"mode": "RGB", "width": 12_000}, "too_large_to_decode"),
        ({"seconds_left": 5.0}, "too_long_to_decode"),
    ],
)
def test_what_is_developed(changed: dict[str, object], code: str | None) -> None:
    """Bytes to copy, disk, LibRaw's own limits, memory and seconds: each alone refuses."""
    asked: dict[str, object] = {
        "size_bytes": 50 * MIB,
        "width": 6000,
        "height": 4000,
        "mode": "CFA",
        "big_tiff": False,
        "edge": 1200,
        "budget_bytes": 824 * MIB,
        "seconds_left": 800.0,
        "disk_free_bytes": 1 << 30,
    } | changed
    if code is None:
        assert plan_development(**asked).half  # type: ignore[arg-type]
        return
    with pytest.raises(ContentError) as caught:
        plan_development(**asked)  # type: ignore[arg-type]
    assert caught.value.code == code
