"""Seconds said before a decode: in time, and in proportion to what the file weighs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import ContentError
from heavylift.image.duration import BOMB_SECONDS, SECONDS_A_PIXEL, check_seconds, whole_decode_seconds
from heavylift.image.thumbnails import OTHER_FORMATS
from heavylift.sniff import MEDIA_TYPES

MEGAPIXEL = 1_000_000


def test_every_format_has_its_figure() -> None:
    """Each format that is decoded whole, but HEIF, which is HEIC by another name."""
    assert OTHER_FORMATS - SECONDS_A_PIXEL.keys() <= {"HEIF"}
    assert SECONDS_A_PIXEL.keys() <= MEDIA_TYPES.keys()


def test_what_makes_a_decode_longer() -> None:
    """More pixels, passes of a JPEG; a JPEG 2000 that is made smaller takes less."""
    jpeg = whole_decode_seconds("JPEG", 100 * MEGAPIXEL)
    assert 0.3 < jpeg < 3
    assert whole_decode_seconds("JPEG", 100 * MEGAPIXEL, interlaced=True) == 3 * jpeg
    assert whole_decode_seconds("JPEG", 100 * MEGAPIXEL, shrink=8) == jpeg
    assert whole_decode_seconds("JP2", 64 * MEGAPIXEL, shrink=8) == whole_decode_seconds("JP2", MEGAPIXEL)


@given(st.floats(0, 1000), st.integers(0, 1 << 32), st.floats(-5, 1000))
def test_refused_where_either_limit_is_passed(seconds: float, stored_bytes: int, left: float) -> None:
    """Allowed exactly where both the time left and the file's weight cover it; the verdict has both numbers."""
    allowed = min(max(0.0, left), BOMB_SECONDS + stored_bytes / 1e6)
    if seconds <= allowed:
        check_seconds(seconds, stored_bytes, left)
        return
    with pytest.raises(ContentError) as caught:
        check_seconds(seconds, stored_bytes, left)
    assert caught.value.code == "too_long_to_decode"
    assert caught.value.facts == {"estimated_seconds": round(seconds, 1), "seconds_allowed": round(allowed, 1)}
