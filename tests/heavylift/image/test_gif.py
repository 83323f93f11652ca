"""Frames of a GIF: as many as Pillow counts, and a word where there is no end."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.gif import count_frames
from tests.heavylift.image.pictures import saved, scene, thumbnails

PICTURE = Image.fromarray(scene(120, 90))
MORE = [PICTURE.rotate(turn) for turn in (30, 60, 90)]
ANIMATED = saved(PICTURE, "GIF", save_all=True, append_images=MORE, loop=0, comment=b"four" * 100)


@pytest.mark.parametrize("data", [saved(PICTURE, "GIF"), ANIMATED, saved(PICTURE.convert("1"), "GIF")])
def test_as_pillow_counts(data: bytes) -> None:
    """One frame and several, comments and loops between them."""
    with Image.open(io.BytesIO(data)) as opened:
        assert count_frames(io.BytesIO(data)) == opened.n_frames


def test_the_record_has_them() -> None:
    """The number stands in the facts; a file that is cut behind its first frame has none."""
    assert thumbnails(ANIMATED, sizes=(64,)).facts.pages == 4
    assert thumbnails(saved(PICTURE, "GIF"), sizes=(64,)).facts.pages == 1
    cut = thumbnails(ANIMATED[:-100], sizes=(64,))
    assert cut.facts.pages is None
    assert cut.failure is not None


@given(st.integers(0, len(ANIMATED) - 1), st.integers(0, 255))
def test_damage_is_a_verdict(place: int, value: int) -> None:
    """A changed byte gives a number or a ContentError, and an end."""
    data = bytearray(ANIMATED)
    data[place] = value
    code = None
    try:
        assert count_frames(io.BytesIO(data)) >= 0
    except ContentError as error:
        code = error.code
    assert code in (None, "truncated", "corrupt")
