"""The index of a finished archive: any member's place by three small reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.archives import index
from heavylift.archives.layout import plan
from heavylift.archives.members import Member, Members, Source
from heavylift.errors import RequestError
from heavylift.ranges import drive


def some(names: list[str]) -> Members:
    members = Members()
    for n, name in enumerate(names):
        members.append(Member(name, n, 1_763_596_800, n, Source("b", f"k{n}", None, "e") if n else None))
    return members


names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=1, max_size=9)


@given(names, st.integers(0, 8), st.integers(1, 9))
def test_any_page_of_places(listed: list[str], first: int, limit: int) -> None:
    """As the layout has them, in two reads beyond the head."""
    members = some([name.rstrip("/") or "x" for name in listed])
    layout = plan(members)
    data = index.build(members, layout.data_offset)
    count = index.count_of(data[: index.HEAD_BYTES])
    reads: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    assert count == len(members)
    if first >= count:
        with pytest.raises(RequestError):
            drive(index.places(count, first, limit), fetch)
        return
    found = drive(index.places(count, first, limit), fetch)
    assert len(reads) <= 2
    assert [one.n for one in found] == list(range(first, min(first + limit, count)))
    for one in found:
        assert one.name.encode() == members.name(one.n)
        assert (one.offset, one.size) == (layout.data_offset(one.n), members.sizes[one.n])
        assert one.crc32 == members.crc32(one.n)
        if one.size:
            assert one.range == f"bytes={one.offset}-{one.offset + one.size - 1}"
        else:
            assert one.range is None


def test_what_is_no_index() -> None:
    """Other bytes, and members whose CRC-32 is unknown."""
    with pytest.raises(ValueError, match="no index"):
        index.count_of(b"x" * index.HEAD_BYTES)
    members = Members()
    members.append(Member("a", 1, 0, None, Source("b", "k", None, "e")))
    with pytest.raises(ValueError, match="unknown"):
        index.build(members, lambda n: 0)
