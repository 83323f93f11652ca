"""Server-made ids: ULIDs that sort by time, and the patterns that nothing else matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.ids import FILE_ID_PATTERN, ULID_PATTERN, is_file_id, is_tenant, new_ulid, ulid_ms, ulid_prefix

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(st.floats(0, 2**47 / 1000))
def test_a_ulid_holds_its_moment(now: float) -> None:
    """26 characters of Crockford's alphabet whose first ten are the milliseconds."""
    ulid = new_ulid(now)
    milliseconds = 0
    for character in ulid[:10]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(character)

    assert ULID_PATTERN.fullmatch(ulid)
    assert milliseconds == int(now * 1000)
    assert is_file_id(ulid)


def test_ulids_sort_by_time_and_do_not_repeat() -> None:
    """Later ids are greater; within one millisecond they differ by chance."""
    ordered = [new_ulid(second) for second in range(0, 10**9, 10**7)]
    assert ordered == sorted(ordered)
    assert len({new_ulid(1.0) for _ in range(1_000)}) == 1_000


@given(st.text(max_size=40))
def test_only_ids_are_ids(text: str) -> None:
    """Any other text is none: no newline, no lower case, no foreign digit."""
    looks = re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}(-[0-9]{6})?", text, re.ASCII) is not None

    assert is_file_id(text) is looks


@pytest.mark.parametrize("tail", ["", "-000001", "-999999"])
def test_a_batch_member_has_its_number(tail: str) -> None:
    """<batch_id>-<n as 6 digits>."""
    assert is_file_id(new_ulid() + tail)


@pytest.mark.parametrize("tail", ["\n", "-1", "-1234567", "-00000\u0661", "-", "/x", "-000001\n"])
def test_what_is_almost_an_id(tail: str) -> None:
    """Close is not enough."""
    assert not is_file_id(new_ulid() + tail)
    assert not FILE_ID_PATTERN.fullmatch(new_ulid() + tail)


@pytest.mark.parametrize("name", ["a", "acme", "0", "a-b-c", "x" * 63])
def test_tenants(name: str) -> None:
    """Small letters, digits, dashes."""
    assert is_tenant(name)


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a/b", "a#b", "x" * 64, "é", "a\n", "٣", None, 5, ["a"], True])
def test_no_tenants(name: object) -> None:
    """Nothing that could leave its place in a key; nothing that is no text."""
    assert not is_tenant(name)


@given(st.integers(0, 2**48 - 1))
def test_an_id_tells_its_time(milliseconds: int) -> None:
    """To the millisecond; of a batch's file the batch's; all ids of a millisecond begin alike."""
    made = new_ulid((milliseconds + 0.5) / 1000)

    assert ulid_ms(made) == ulid_ms(made + "-000001") == milliseconds
    assert made.startswith(ulid_prefix(milliseconds))
