"""How long pictures take, by estimate: what is refused, and what goes on over slices."""

from __future__ import annotations

from array import array

import pytest

from heavylift.errors import ContentError
from heavylift.tiff import tags
from heavylift.tiff.bands import choose_shrink
from heavylift.tiff.layout import Chunks, Picture
from heavylift.tiff.pace import check_time, picture_seconds, step_seconds
from tests.heavylift.tiff.test_bands import a_picture

GB = 1_000_000_000


def chunks(picture: Picture, stored_bytes: int) -> Chunks:
    count = picture.chunk_count
    return Chunks(array("Q", [8] * count), array("Q", [stored_bytes // count] * count))


def refused(picture: Picture, stored_bytes: int, slice_seconds: float, *, resumable: bool = True) -> bool:
    shrink = choose_shrink(picture, 1200, 1200)
    try:
        check_time(
            picture,
            shrink,
            chunks(picture, stored_bytes),
            slice_seconds,
            resumable=resumable,
            size_bytes=stored_bytes,
        )
    except ContentError as error:
        return error.code == "too_long_to_decode" and error.facts["estimated_seconds"] > error.facts["seconds_allowed"]
    return False


BIG = (130_000, 130_000)  # 50 GB


@pytest.mark.parametrize(
    ("picture", "stored", "expected"),
    [
        (a_picture(*BIG, BIG[0], 64, compression=tags.NONE), 50 * GB, False),
        (a_picture(*BIG, BIG[0], BIG[1], compression=tags.NONE), 50 * GB, False),
        (a_picture(*BIG, 256, 256), 25 * GB, False),
        (a_picture(*BIG, BIG[0], 64), 25 * GB, False),
        (a_picture(*BIG, BIG[0], BIG[1], compression=tags.LZW), 25 * GB, False),
        (a_picture(*BIG, BIG[0], BIG[1]), 25 * GB, True),  # one deflate strip
        (a_picture(20_000, 20_000, 20_000, 20_000), GB, False),
    ],
    ids=["strips", "one strip", "deflate tiles", "deflate strips", "one LZW strip", "one deflate strip", "a small one"],
)
def test_what_goes_on_over_slices_of_30_seconds(picture: Picture, stored: int, expected: bool) -> None:
    """50 GB are taken wherever the work can stop in between; one deflate strip of that size is not."""
    assert refused(picture, stored, 22.5) is expected


def test_without_slices_the_whole_counts() -> None:
    """What must be done in one call is measured as a whole."""
    picture = a_picture(*BIG, 256, 256)

    assert refused(picture, 25 * GB, 60.0, resumable=False)
    assert not refused(picture, 25 * GB, 3_600.0, resumable=False)


def test_a_bomb_does_not_pay_for_its_pixels() -> None:
    """20 GB of pixels in 20 MB are refused, 10 GB in 200 MB are not."""
    bomb, map_of_few_colours = a_picture(82_000, 82_000, 256, 256), a_picture(58_000, 58_000, 256, 256)

    assert refused(bomb, 20_000_000, 900.0)
    assert not refused(map_of_few_colours, 200_000_000, 900.0)


def test_chunks_that_were_never_written_cost_little() -> None:
    """A sparse picture is mostly painted."""
    picture = a_picture(20_000, 20_000, 256, 256)
    full, sparse = chunks(picture, GB), chunks(picture, GB)
    for index in range(len(sparse.counts) - 10):
        sparse.counts[index] = 0

    assert picture_seconds(picture, sparse) < picture_seconds(picture, full) / 3


def test_a_step_is_never_longer_than_the_picture() -> None:
    """Whatever the coding and the layout."""
    for compression in (1, 2, 5, 7, 8, 32773, 34925, 50000, 50001, 34712):
        for layout in ((5_000, 16), (5_000, 4_000), (256, 256)):
            picture = a_picture(5_000, 4_000, *layout, compression=compression)
            known = chunks(picture, 30_000_000)
            shrink = choose_shrink(picture, 1200, 960)
            assert 0 < step_seconds(picture, shrink, known) <= 1.3 * picture_seconds(picture, known)
