"""Range readers, plans and the read-ahead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import ContentError
from heavylift.ranges import Range, ReadAhead, Reader, answered_by, coalesce, drive

wanted_ranges = st.lists(st.builds(Range, st.integers(0, 5000), st.integers(0, 900)), max_size=30)


def two_reads() -> Reader[bytes]:
    first = yield Range(0, 4)
    second = yield Range(10, 4)
    return first + second


def test_drive_answers_every_range() -> None:
    """A reader gets exactly what it asked for, whatever more the fetch returns."""
    data = bytes(range(100))

    assert drive(two_reads(), lambda offset, length: data[offset:]) == data[:4] + data[10:14]


def test_drive_notices_short_reads() -> None:
    """A range that the object cannot fill is the file's fault, with the numbers."""
    with pytest.raises(ContentError) as caught:
        drive(two_reads(), lambda offset, length: b"123456789012"[offset : offset + length])

    assert caught.value.code == "truncated"
    assert caught.value.facts == {"wanted_bytes": 4, "offset": 10, "got_bytes": 2}


def test_answered_by_asks_only_beyond_the_head() -> None:
    """Ranges inside the head cost no request."""
    data = bytes(range(100))
    asked = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append(offset)
        return data[offset : offset + length]

    assert drive(answered_by(data[:12], two_reads()), fetch) == data[:4] + data[10:14]
    assert asked == [10]


@given(wanted_ranges, st.integers(1, 2000), st.integers(0, 200))
def test_coalesce_keeps_every_byte_in_order(wanted: list[Range], request_bytes: int, gap_bytes_max: int) -> None:
    """The pieces of all requests put together are the wanted ranges put together, in requests of bounded size."""
    expected = [position for want in wanted for position in range(want.offset, want.end)]
    actual = []
    for request in coalesce(wanted, request_bytes=request_bytes, gap_bytes_max=gap_bytes_max):
        assert 0 < request.range.length <= request_bytes + gap_bytes_max
        for start, length in request.pieces:
            assert start >= 0
            assert start + length <= request.range.length
            actual += range(request.range.offset + start, request.range.offset + start + length)

    assert actual == expected


def test_coalesce_joins_neighbours_and_cuts_long_ranges() -> None:
    """1000 rows of 1000 bytes, one behind the other, are fetched in pieces of the request size."""
    requests = list(coalesce((Range(i * 1000, 1000) for i in range(1000)), request_bytes=400_000))

    assert [request.range.length for request in requests] == [400_000, 400_000, 200_000]
    assert all(len(request.pieces) == 1 for request in requests)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300)), max_size=40), st.integers(1, 500))
def test_read_ahead_gives_the_same_bytes(reads: list[tuple[int, int]], block_bytes: int) -> None:
    """Small reads through blocks equal plain slices, also across and past the end."""
    data = bytes(i * 7 % 251 for i in range(2500))
    ahead = ReadAhead(
        lambda offset, length: data[offset : offset + length],
        len(data),
        head_bytes=100,
        block_bytes=block_bytes,
        blocks_max=3,
    )
    for offset, length in reads:
        assert ahead(offset, length) == data[offset : offset + length]


def test_read_ahead_saves_requests() -> None:
    """A hundred neighbouring reads of the head are one request."""
    requests = []

    def fetch(offset: int, length: int) -> bytes:
        requests.append((offset, length))
        return bytes(length)

    ahead = ReadAhead(fetch, 1_000_000)
    for offset in range(100):
        ahead(offset * 10, 10)

    assert requests == [(0, 65_536)]
