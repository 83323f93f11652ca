"""Plans: how a picture is cut into bands."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from heavylift.tiff import tags
from heavylift.tiff.bands import (
    CHUNK_DECODED_BYTES_MAX,
    Path,
    choose_path,
    choose_shrink,
    fit_within,
    group_ranges,
    groups,
    held_pixel_bytes,
    strip_ranges,
)
from heavylift.tiff.ifd import Header, Ifd
from heavylift.tiff.layout import Chunks, Picture


def a_picture(width: int, height: int, chunk_width: int, chunk_height: int, **changes: object) -> Picture:
    values: dict[str, object] = {
        "ifd": Ifd(Header("<", False, 42, 8), 8, {}, 0),
        "width": width,
        "height": height,
        "samples": 3,
        "bits": 8,
        "sample_format": 1,
        "photometric": tags.RGB,
        "compression": 8,
        "planar": 1,
        "predictor": 1,
        "orientation": 1,
        "extra_samples": (),
        "subsampling": (2, 2),
        "subfile_type": 0,
        "tiled": chunk_width != width,
        "chunk_width": chunk_width,
        "chunk_height": chunk_height,
    }
    return Picture(**(values | changes))  # type: ignore[arg-type]


sides = st.integers(1, 5000)


@given(sides, sides, st.integers(1, 1300))
def test_fit_is_pillows_thumbnail(width: int, height: int, edge: int) -> None:
    """The wanted size is the one that Pillow's own thumbnail gives."""
    image = Image.new("1", (width, height))
    image.thumbnail((edge, edge))

    assert fit_within(width, height, edge) == image.size


@given(
    sides, sides, st.integers(1, 700), st.integers(1, 700), st.booleans(), st.integers(1, 1200), st.integers(8, 3000)
)
def test_groups_tile_the_picture(
    width: int, height: int, chunk_width: int, chunk_height: int, tiled: bool, edge: int, chunk_edge: int
) -> None:
    """Every chunk belongs to one group, groups cover every pixel once, and bands end at cells' edges."""
    assume(width // chunk_width < 300)
    assume(height // chunk_height < 1000)
    picture = a_picture(width, height, chunk_width if tiled else width, min(chunk_height, height), tiled=tiled)
    assume(choose_path(picture) is Path.CHUNKS)
    shrink = choose_shrink(picture, *fit_within(width, height, edge), chunk_edge=chunk_edge)
    seen: list[int] = []
    area = 0
    for group in groups(picture, shrink):
        seen += group.chunks
        area += group.width * group.height
        assert group.x + group.width <= width
        assert group.y + group.height <= height
        if group.x + group.width < width:
            assert (group.x + group.width) % shrink.across == 0
        if group.y + group.height < height and not shrink.carry:
            assert (group.y + group.height) % shrink.down == 0

    assert sorted(seen) == list(range(picture.across * picture.down))
    assert area == width * height


@given(
    st.integers(1, 200_000),
    st.integers(1, 200_000),
    st.integers(1, 2000),
    st.integers(1, 1200),
    st.integers(64, 4096),
    st.sampled_from([1, 8]),
)
def test_bands_stay_within_their_budget(
    width: int, height: int, strip_rows: int, edge: int, chunk_edge: int, compression: int
) -> None:
    """A band holds at most the square of the chunk edge, unless a single row or strip is larger; and cells never
    exceed half the scale, so that LANCZOS always has its share."""
    strip_rows = min(strip_rows, height)
    picture = a_picture(width, height, width, strip_rows, compression=compression)
    out = fit_within(width, height, edge)
    shrink = choose_shrink(picture, *out, chunk_edge=chunk_edge)
    least = strip_rows if choose_path(picture) is Path.CHUNKS else 1
    rows_max = max(least, min(chunk_edge, chunk_edge**2 // width))

    assert 1 <= shrink.band_rows <= rows_max
    assert shrink.across <= max(1.0, width / out[0] / 2)
    assert shrink.rows_to_one <= max(1.0, height / out[1] / 2)
    if not shrink.carry and shrink.band_rows < height:
        assert shrink.band_rows % shrink.down == 0
    if choose_path(picture) is Path.CHUNKS:
        assert shrink.band_rows % strip_rows == 0


def test_smaller_chunk_edge_means_smaller_bands() -> None:
    """TIFF_CHUNK_SIZE has its effect."""
    picture = a_picture(30_000, 22_500, 30_000, 64, compression=tags.NONE)

    assert [choose_shrink(picture, 1200, 900, chunk_edge=edge).band_rows for edge in (2048, 1024, 512)] == [60, 24, 8]


def test_paths() -> None:
    """Uncompressed strips by rows, huge deflate and LZW strips as streams, everything else by chunks."""
    assert choose_path(a_picture(5000, 5000, 5000, 5000, compression=tags.NONE)) is Path.ROWS
    assert choose_path(a_picture(5000, 5000, 5000, 5000)) is Path.INFLATE
    assert choose_path(a_picture(5000, 5000, 5000, 16)) is Path.CHUNKS
    assert choose_path(a_picture(5000, 5000, 5000, 5000, compression=tags.LZW)) is Path.LZW
    assert choose_path(a_picture(5000, 5000, 5000, 5000, compression=tags.ZSTD)) is Path.CHUNKS
    assert choose_path(a_picture(5000, 5000, 512, 512, compression=tags.NONE)) is Path.CHUNKS
    subsampled = a_picture(500, 500, 500, 500, compression=tags.NONE, photometric=tags.YCBCR)
    assert choose_path(subsampled) is Path.CHUNKS
    edge_case = a_picture(CHUNK_DECODED_BYTES_MAX // 4, 2, CHUNK_DECODED_BYTES_MAX // 4, 1)
    assert choose_path(edge_case) is Path.CHUNKS


@pytest.mark.parametrize(
    ("changes", "size"), [({}, 4), ({"samples": 1, "photometric": 1}, 1), ({"bits": 16}, 6), ({"planar": 2}, 1)]
)
def test_held_pixel_bytes(changes: dict[str, object], size: int) -> None:
    """A pixel's bytes are the larger of stored and decoded."""
    assert held_pixel_bytes(a_picture(10, 10, 10, 10, **changes)) == size


def test_ranges_of_a_group() -> None:
    """A group's ranges are sorted, each once, without the chunks that were never written."""
    picture = a_picture(100, 40, 100, 10)
    chunks = Chunks(array("I", [500, 100, 500, 0]), array("I", [50, 60, 50, 0]))
    (group,) = groups(picture, choose_shrink(picture, 100, 40))

    assert [(want.offset, want.length) for want in group_ranges(group, chunks, 0)] == [(100, 60), (500, 50)]


def test_ranges_of_strips() -> None:
    """Uncompressed strips are cut to what their rows need; one never written has no place."""
    picture = a_picture(100, 25, 100, 10, compression=tags.NONE)
    chunks = Chunks(array("I", [8, 0, 9000]), array("I", [4000, 0, 1500]))

    assert [(want.offset, want.length) for want in strip_ranges(picture, chunks, 0)] == [
        (8, 3000),
        (-1, 3000),
        (9000, 1500),
    ]
