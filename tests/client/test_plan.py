from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_client import plan as plans
from heavylift_client.errors import AnswerError

MIB = 1 << 20


@given(st.integers(0, 10**15), st.integers(1, 5 << 30))
def test_parts_tile_the_file(size: int, part_size: int) -> None:
    """Part after part covers every byte once, or the plan is refused for its number of parts."""
    try:
        plan = plans.plan_parts(size, part_size, None)
    except AnswerError:
        assert -(-size // part_size) > 10_000
        return

    assert 1 <= plan.part_count <= 10_000
    position = 0
    for number in {1, 2, plan.part_count // 2, plan.part_count - 1, plan.part_count} & set(
        range(1, plan.part_count + 1)
    ):
        part = plan.part(number)
        assert part.offset == (number - 1) * plan.part_size
        position = max(position, part.offset + part.size)
    assert position == size


@pytest.mark.parametrize(("size", "part_size", "count"), [(10, 5, 3), (10, 5, 1), (0, None, 2), (10, -1, None)])
def test_an_answer_that_does_not_tile_is_refused(size: int, part_size: int | None, count: int | None) -> None:
    """A part count that contradicts the part size never becomes a plan."""
    with pytest.raises(AnswerError):
        plans.plan_parts(size, part_size, count)


@pytest.mark.parametrize(("size", "part_size", "count"), [(0, None, 1), (0, 0, 0), (0, 16 * MIB, 1), (5, 16 * MIB, 1)])
def test_one_part_for_a_small_file(size: int, part_size: int | None, count: int | None) -> None:
    """However the server writes it, a small or empty file is one part of its own size."""
    plan = plans.plan_parts(size, part_size, count)

    assert plan.part(1) == plans.Part(1, 0, size)
    with pytest.raises(AnswerError):
        plan.part(2)


@given(st.sets(st.integers(1, 500)))
def test_ranges_are_read_back(numbers: set[int]) -> None:
    """Ranges name exactly their numbers, in order."""
    ranges = [[n, n] for n in numbers]

    assert sorted(numbers) == plans.expand(ranges, 500)


@pytest.mark.parametrize(
    "ranges", [None, "1-3", [[1]], [[0, 1]], [[2, 1]], [[1, 11]], [[1, True]], ["12"], 5, [[1, 2, 3]]]
)
def test_ranges_that_are_none(ranges: object) -> None:
    """Anything but ranges within the parts is refused."""
    with pytest.raises(AnswerError):
        plans.expand(ranges, 10)


def record(**changes: Any) -> dict[str, Any]:
    """An open session of 25 bytes in parts of 10, two of them there."""
    made: dict[str, Any] = {
        "status": "uploading",
        "mode": "multipart",
        "size": 25,
        "part_size": 10,
        "part_count": 3,
        "received": [[1, 1], [3, 3]],
        "parts": [
            {"part_number": 1, "size": 10, "sha256": "one"},
            {"part_number": 3, "size": 5, "sha256": "three"},
        ],
    }
    return made | changes


def test_an_open_session_can_be_joined() -> None:
    """Its plan and the digests of what it has."""
    fit = plans.joinable(record(), 25)

    assert fit is not None
    plan, received = fit
    assert plan == plans.PartPlan(25, 10, 3)
    assert [(r.part.number, r.part.offset, r.part.size, r.sha256) for r in received] == [
        (1, 0, 10, "one"),
        (3, 20, 5, "three"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "completed"},
        {"status": "cancelled"},
        {"mode": "single"},
        {"size": 26},
        {"part_count": 2},
        {"parts": [{"part_number": 1, "size": 9, "sha256": "one"}]},
        {"parts": [{"part_number": 1, "size": 10, "sha256": None}]},
        {"parts": [{"part_number": 4, "size": 10, "sha256": "x"}]},
        {"parts": [{"size": 10, "sha256": "x"}]},
        {"parts": []},
        {"received": "all"},
    ],
)
def test_a_session_that_does_not_fit_is_left_alone(changes: dict[str, Any]) -> None:
    """Another size, another state, a part of another size or without a digest: no part would be skipped safely."""
    assert plans.joinable(record(**changes), 25) is None


@given(st.integers(1, 5 << 30), st.integers(1, 64))
def test_working_ahead_is_bounded(part_size: int, concurrency: int) -> None:
    """Enough for every connection, and no more than 64 parts or two a connection."""
    ahead = plans.parts_ahead(part_size, concurrency)

    assert 2 * concurrency <= ahead <= max(64, 2 * concurrency)


def test_a_group_is_full_at_200_files_or_256_mib_or_2_mb_of_body() -> None:
    """Each of the three limits closes a group by itself."""
    small = plans.Weight(1, 100)

    assert not plans.group_is_full([small] * 199)
    assert plans.group_is_full([small] * 200)
    assert plans.group_is_full([plans.Weight(16 * MIB, 100)] * 16)
    assert plans.group_is_full([plans.Weight(1, 1_500_000)], plans.Weight(1, 600_000))
    assert not plans.group_is_full([], plans.Weight(1, 3_000_000))


@given(st.lists(st.integers(), min_size=2))
def test_halves(items: list[int]) -> None:
    """Both are shorter than the whole and make it up."""
    first, second = plans.halves(items)

    assert [*first, *second] == items
    assert 0 < len(first) < len(items)


@given(st.integers(0, 1000), st.integers(1, 50), st.sets(st.integers(0, 20)))
def test_what_is_still_to_fetch(size: int, chunk: int, done: set[int]) -> None:
    """Chunks tile the object; those that are there and sound are left out."""
    every = list(plans.chunks(size, chunk))
    have = {offset: 7 for offset, _ in every if offset // chunk in done}
    broken = {offset for offset in have if offset % 2}
    todo = plans.still_to_fetch(size, chunk, have, lambda offset, _: offset not in broken)

    assert sum(length for _, length in every) == size
    assert todo == [piece for piece in every if piece[0] not in have or piece[0] in broken]


@given(st.integers(0, 48 * 1024**4))
def test_a_download_has_at_most_10_000_chunks(size: int) -> None:
    """So that its journal stays short for any object S3 can hold."""
    chunk = plans.download_chunk_size(size)

    assert chunk >= 16 * MIB
    assert chunk % MIB == 0
    assert -(-size // chunk) <= 10_000
