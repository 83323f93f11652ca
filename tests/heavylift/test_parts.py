"""The part plan: golden figures, limits, and what every plan keeps."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heavylift.errors import RequestError
from heavylift.limits import (
    GIB,
    MIB,
    OBJECT_SIZE_MAX,
    PART_COUNT_MAX,
    S3_PART_SIZE_MAX,
    S3_PART_SIZE_MIN,
    SINGLE_PUT_MAX,
)
from heavylift.parts import PartPlan, needed_ranges, plan_parts, ranges_of

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "part_plan.json").read_text())["cases"]
sizes = st.one_of(
    st.integers(0, OBJECT_SIZE_MAX),
    st.integers(0, 2 * GIB),
    st.builds(
        lambda limit, off: min(max(limit + off, 0), OBJECT_SIZE_MAX),
        st.sampled_from([SINGLE_PUT_MAX, GIB, 64 * GIB, 9_000 * 128 * MIB, 45_000 * GIB, OBJECT_SIZE_MAX]),
        st.integers(-2, 2),
    ),
)
maxima = st.one_of(st.none(), st.integers(S3_PART_SIZE_MIN, S3_PART_SIZE_MAX))


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['size']}-{case.get('max_part_size', '')}")
def test_vectors_shared_with_the_browser_client(case: dict[str, Any]) -> None:
    """Each vector's size gives its mode, part size and count, or its problem."""
    if "problem" in case:
        with pytest.raises(RequestError) as refused:
            plan_parts(case["size"], part_size_max=case.get("max_part_size"))
        assert refused.value.code == case["problem"]
        return
    plan = plan_parts(case["size"], part_size_max=case.get("max_part_size"))

    assert (plan.mode, plan.part_size, plan.part_count) == (case["mode"], case["part_size"], case["part_count"])


def test_the_vectors_hold_every_limit_and_its_neighbours() -> None:
    """Nobody removes a limit from the shared numbers unnoticed."""
    there = {case["size"] for case in VECTORS}
    for limit in (SINGLE_PUT_MAX, GIB, 64 * GIB, 9_000 * 128 * MIB, 45_000 * GIB, OBJECT_SIZE_MAX):
        assert {limit - 1, limit, limit + 1} <= there


@pytest.mark.parametrize(
    ("size", "part_mib", "count"),
    [
        (GIB - 1, 16, 64),
        (GIB, 64, 16),
        (80 * 10**9, 128, 597),
        (10**12, 128, 7_451),
        (5 * 10**12, 530, 8_997),
        (45_000 * GIB, 5_120, 9_000),
        (45_000 * GIB + 1, 4_609, 9_998),
        (50_000 * GIB, 5_120, 10_000),
    ],
)
def test_golden_figures(size: int, part_mib: int, count: int) -> None:
    """The figures that were worked out by hand."""
    plan = plan_parts(size)

    assert (plan.mode, plan.part_size, plan.part_count) == ("multipart", part_mib * MIB, count)


@given(sizes, maxima)
@example(SINGLE_PUT_MAX, S3_PART_SIZE_MIN)
@example(OBJECT_SIZE_MAX, S3_PART_SIZE_MIN)
def test_parts_tile_the_file(size: int, part_size_max: int | None) -> None:
    """The parts are the file, no byte twice or never; their count and sizes are such as S3 takes."""
    plan = plan_parts(size, part_size_max=part_size_max)

    assert 1 <= plan.part_count <= PART_COUNT_MAX
    assert (plan.part_count - 1) * plan.part_size + plan.length(plan.part_count) == size
    assert 0 <= plan.length(plan.part_count) <= plan.part_size
    if plan.part_count > 1:
        assert plan.length(1) == plan.length(plan.part_count - 1) == plan.part_size
        assert S3_PART_SIZE_MIN <= plan.part_size <= S3_PART_SIZE_MAX
        assert plan.length(plan.part_count) >= 1
    assert plan.mode == ("single" if plan.part_count == 1 and size <= SINGLE_PUT_MAX else "multipart")
    if part_size_max is not None and size <= 9_000 * (part_size_max // MIB) * MIB:
        assert max(plan.length(1), plan.length(plan.part_count)) <= part_size_max


@given(sizes, st.integers(0, 6 * GIB))
def test_a_deployers_minimum_never_breaks_s3s_limits(size: int, part_size_min: int) -> None:
    """PART_SIZE_MIN raises part sizes and nothing else."""
    plan = plan_parts(size, part_size_min=min(max(part_size_min, S3_PART_SIZE_MIN), S3_PART_SIZE_MAX))

    assert 1 <= plan.part_count <= PART_COUNT_MAX
    assert plan.part_size <= S3_PART_SIZE_MAX
    if plan.part_count > 1:
        assert plan.part_size >= min(part_size_min, S3_PART_SIZE_MAX // 2)


@pytest.mark.parametrize("size", [-1, OBJECT_SIZE_MAX + 1, 10**30])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    """Less than nothing and more than S3 holds: size_not_allowed with the limit."""
    with pytest.raises(RequestError) as refused:
        plan_parts(size)

    assert refused.value.code == "size_not_allowed"
    assert refused.value.facts["size_max"] == OBJECT_SIZE_MAX


@pytest.mark.parametrize("number", [0, -1, 65, 10_001])
def test_part_numbers_out_of_range_are_refused(number: int) -> None:
    """Only 1 to part_count are parts."""
    with pytest.raises(RequestError) as refused:
        plan_parts(GIB - 1).length(number)

    assert refused.value.code == "part_number_out_of_range"
    assert refused.value.facts["part_count"] == 64


part_sets = st.integers(1, 300).flatmap(
    lambda count: st.tuples(st.just(count), st.sets(st.integers(-3, count + 3), max_size=320))
)


@given(part_sets)
def test_needed_is_the_complement_of_received(case: tuple[int, set[int]]) -> None:
    """received and needed together are 1..part_count, each number once; ranges are sorted, closed and apart."""
    count, received = case
    inside = {number for number in received if 1 <= number <= count}
    there, needed = ranges_of(inside), needed_ranges(count, received)

    def numbers(ranges: list[list[int]]) -> list[int]:
        return [number for first, last in ranges for number in range(first, last + 1)]

    assert numbers(there) == sorted(inside)
    assert sorted(numbers(there) + numbers(needed)) == list(range(1, count + 1))
    for ranges in (there, needed):
        assert all(first <= last for first, last in ranges)
        assert all(earlier[1] + 1 < later[0] for earlier, later in itertools.pairwise(ranges))


def test_ranges_as_the_api_shows_them() -> None:
    """The example of the contract."""
    received = [*range(1, 58), 60]

    assert ranges_of(reversed(received)) == [[1, 57], [60, 60]]
    assert needed_ranges(60, received) == [[58, 59]]
    assert needed_ranges(3, []) == [[1, 3]]
    assert needed_ranges(3, [1, 2, 3]) == []


def test_an_empty_file_has_one_empty_part() -> None:
    """length() of the only part of nothing is 0."""
    assert plan_parts(0) == PartPlan(0, "single", 1, 1)
    assert plan_parts(0).length(1) == 0
