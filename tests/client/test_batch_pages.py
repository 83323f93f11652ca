"""What goes into a page of the manifest and into a call for URLs."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from heavylift_client.batches import pages
from heavylift_client.batches.pages import Filling, Member
from heavylift_client.plan import MIB


def filled(sizes: Iterable[int], path: str = "a.bin") -> list[int]:
    """How many members each page gets."""
    sizes = list(sizes)
    small = sum(size for size in sizes if size <= 16 * MIB)
    counts, filling = [], Filling(small)
    for n, size in enumerate(sizes):
        filling.add(Member(n, path, size, 0))
        if filling.is_full:
            counts.append(filling.count)
            filling = Filling(small)
    return counts + ([filling.count] if filling.count else [])


def test_two_thousand_files_of_100_kb() -> None:
    """Four pages of whole windows: with as many calls for URLs, begin and complete, ten calls."""
    assert filled([100_000] * 2_000) == [500] * 4


def test_a_hundred_thousand_tiny_files() -> None:
    """Pages as large as the API takes them."""
    assert filled([100] * 100_000) == [5_000] * 20


def test_a_hundred_thousand_files_of_16_mib() -> None:
    """1.6 TB: pages grow, so that the API's thousand suffice."""
    assert len(filled([16 * MIB] * 100_000)) <= 900


def test_files_that_go_up_in_parts_are_not_hashed_for_the_manifest() -> None:
    """They fill a page by number only."""
    assert filled([1 << 40] * 5_001) == [5_000, 1]


def test_long_paths_end_a_page() -> None:
    """A page stays below what Lambda takes."""
    assert max(filled([10] * 5_000, "x" * 4_000)) * 4_000 < pages.PAGE_BODY_BYTES_MAX


@given(st.lists(st.integers(0, 64 * MIB), max_size=300))
def test_every_member_is_on_one_page(sizes: list[int]) -> None:
    """None is left out, none stands twice, no page is empty or too large."""
    counts = filled(sizes)

    assert sum(counts) == len(sizes)
    assert all(1 <= count <= pages.ENTRIES_MAX for count in counts)


@given(st.floats(0, 1e5), st.floats(0.1, 1e4) | st.none(), st.integers(1, 16))
def test_a_window_is_sent_within_a_part_of_its_life(
    files_per_s: float, lives_s: float | None, concurrency: int
) -> None:
    """As many URLs as go up in time, never more than the API signs, never too few to keep all senders busy."""
    size = pages.window_size(files_per_s, lives_s, concurrency)

    assert 2 * concurrency <= size <= pages.WINDOW_MAX
    if lives_s is not None and files_per_s > 0 and size > 2 * concurrency:
        assert size / files_per_s <= lives_s


def test_ids_of_members() -> None:
    """As the API makes them."""
    assert pages.member_id("01B", 7) == "01B-000007"
