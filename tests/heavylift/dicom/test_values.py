"""Values of single elements."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.dicom.values import UID_LENGTH_MAX, decimals, integer, uid_text, valid_uid


@given(st.one_of(st.text(alphabet="0123.", max_size=70), st.text(max_size=10)))
def test_uids_are_digits_between_dots(text: str) -> None:
    """By the standard's grammar, but for leading zeros, which are common."""
    expected = re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is not None and len(text) <= UID_LENGTH_MAX

    assert valid_uid(text) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"1.2.3\0", "1.2.3"), (b" 1.2 ", "1.2"), (b"1.2\\3.4", "1.2"), (b"", ""), (b"\xff", "ÿ"), (b"\0\0", "")],
)
def test_uids_lose_their_padding(value: bytes, text: str) -> None:
    """Of several values the first."""
    assert uid_text(value) == text


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((b"12", 12), (b" -3 ", -3), (b"+7\0", 7), (b"4\\5", 4), (b"1.0", 1), (b"", None), (b"1A", None)),
        *((b"1_000", None), (b"1e3", None), (b"\xb2", None), (b"9" * 13, 9_999_999_999_999)),
    ],
)
def test_integer_strings(value: bytes, number: int | None) -> None:
    """What is no integer is none."""
    assert integer(value) == number


@pytest.mark.parametrize(
    ("value", "numbers"),
    [(b"1\\2.5 ", (1.0, 2.5)), (b"-1e3", (-1000.0,)), (b"nan", ()), (b"1\\x", ()), (b"", ()), (b"1\\" * 99, ())],
)
def test_decimal_strings(value: bytes, numbers: tuple[float, ...]) -> None:
    """All of them, or none."""
    assert decimals(value) == numbers
