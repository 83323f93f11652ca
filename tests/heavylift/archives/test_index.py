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
        source = Source("b", f"k{n}", None, "e") if n else None
        members.append(Member(name, n, 1_763_596_800, n, source, None, f"id-{n}" if n % 3 else None))
    return members


names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=1, max_size=9)


@given(names, st.integers(0, 8), st.integers(1, 9))
def test_any_page_of_places(listed: list[str], first: int, limit: int) -> None:
    """As the layout has them, in two reads beyond the head."""
    members = some([name.rstrip("/") or "x" for name in listed])
    layout = plan(members)
    data = index.build(members, layout.data_offset)
    head = index.head_of(data[: index.HEAD_BYTES])
    reads: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    assert (head.count, head.files) == (len(members), sum(n % 3 > 0 for n in range(len(members))))
    if first >= head.count:
        with pytest.raises(RequestError):
            drive(index.places(head, first, limit), fetch)
        return
    found = drive(index.places(head, first, limit), fetch)
    assert len(reads) <= 2
    assert [one.n for one in found] == list(range(first, min(first + limit, head.count)))
    for one in found:
        assert one.name.encode() == members.name(one.n)
        assert (one.offset, one.size) == (layout.data_offset(one.n), members.sizes[one.n])
        assert one.crc32 == members.crc32(one.n)
        if one.size:
            assert one.range == f"bytes={one.offset}-{one.offset + one.size - 1}"
        else:
            assert one.range is None


@given(st.integers(0, 9), st.sets(st.integers(0, 12), max_size=4))
def test_whether_a_file_is_in_it(count: int, asked: set[int]) -> None:
    """By the ids of files, in one read; members that are none are nobody's."""
    members = some([f"f{n}" for n in range(count)])
    data = index.build(members, plan(members).data_offset)
    head = index.head_of(data[: index.HEAD_BYTES])
    reads: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    found = drive(index.holds_any(head, [f"id-{n}" for n in asked]), fetch)
    assert found == any(n < count and n % 3 for n in asked)
    assert len(reads) <= 1


def test_what_is_no_index() -> None:
    """Other bytes, and members whose CRC-32 is unknown."""
    with pytest.raises(ValueError, match="no index"):
        index.head_of(b"x" * index.HEAD_BYTES)
    members = Members()
    members.append(Member("a", 1, 0, None, Source("b", "k", None, "e")))
    with pytest.raises(ValueError, match="unknown"):
        index.build(members, lambda n: 0)
