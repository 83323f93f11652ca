"""The part plan: how a file is cut, which ranges are there, which are wanted. No I/O here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heavylift.errors import RequestError
from heavylift.limits import (
    GIB,
    MIB,
    OBJECT_SIZE_MAX,
    PART_COUNT_MAX,
    PART_COUNT_PLANNED_MAX,
    S3_PART_SIZE_MAX,
    S3_PART_SIZE_MIN,
    SINGLE_PUT_MAX,
)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Equal parts of ``part_size`` bytes, the last one shorter; ``mode`` is ``single`` or ``multipart``."""

    size_bytes: int
    mode: str
    part_size: int
    part_count: int

    def length(self, number: int) -> int:
        """Bytes of part ``number`` (from 1). RequestError ``part_number_out_of_range``."""
        if not 1 <= number <= self.part_count:
            raise RequestError(
                "part_number_out_of_range",
                f"This upload has parts 1 to {self.part_count}; {number} is not one of them.",
                part_number=number,
                part_count=self.part_count,
            )
        return min(self.part_size, self.size_bytes - (number - 1) * self.part_size)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def plan_parts(size_bytes: int, *, part_size_min: int = S3_PART_SIZE_MIN, part_size_max: int | None = None) -> PartPlan:
    """How a file of ``size_bytes`` is uploaded.

    One PUT up to 16 MiB; parts of 16 MiB below 1 GiB, 64 MiB below 64 GiB, then 128 MiB, and never more
    than 9 000 of them while 5 GiB a part allows it. ``part_size_max`` (what a client can hold) is honoured
    from 5 MiB on, as long as 10 000 parts suffice. RequestError ``size_not_allowed``.
    """
    if size_bytes < 0 or size_bytes > OBJECT_SIZE_MAX:
        raise RequestError(
            "size_not_allowed",
            f"A file may have 0 to {OBJECT_SIZE_MAX} bytes, this one has {size_bytes}.",
            size=size_bytes,
            size_max=OBJECT_SIZE_MAX,
        )
    if size_bytes <= SINGLE_PUT_MAX and (part_size_max is None or size_bytes <= max(part_size_max, S3_PART_SIZE_MIN)):
        return PartPlan(size_bytes, "single", max(size_bytes, 1), 1)
    part_size = 16 * MIB if size_bytes < GIB else 64 * MIB if size_bytes < 64 * GIB else 128 * MIB
    part_size = max(part_size, part_size_min)
    if part_size_max is not None:
        part_size = min(part_size, max(part_size_max, S3_PART_SIZE_MIN))
    part_size = max(part_size, _round_up(-(-size_bytes // PART_COUNT_PLANNED_MAX), MIB))
    if part_size > S3_PART_SIZE_MAX:
        part_size = _round_up(-(-size_bytes // PART_COUNT_MAX), MIB)
    return PartPlan(size_bytes, "multipart", part_size, -(-size_bytes // part_size))


def ranges_of(numbers: Iterable[int]) -> list[list[int]]:
    """Sorted, closed ranges: 1, 2, 3, 7 -> [[1, 3], [7, 7]]."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges


def needed_ranges(part_count: int, received: Iterable[int]) -> list[list[int]]:
    """The ranges of 1..part_count that ``received`` leaves open."""
    there = ranges_of(n for n in received if 1 <= n <= part_count)
    needed, following = [], 1
    for first, last in there:
        if first > following:
            needed.append([following, first - 1])
        following = last + 1
    if following <= part_count:
        needed.append([following, part_count])
    return needed
