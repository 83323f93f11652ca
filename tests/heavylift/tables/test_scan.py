"""The JSON scanner: orjson's language and orjson's places, in pieces of any size."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.tables.scan import Break, Scanner, duplicate_members, scan

TOKENS = [
    "[", "]", "{", "}", ",", ":", '"a"', '"', "1", "-", "0", ".", "e", "+", "5", "true", "fals", "false", "null",
    "\\", "\\u00e9", "\\n", "\n", " ", "é", "1e99", "1e999", "-0", "01", '"a":1,', "1,", "\t", "x",
    '"\\ud83d\\ude00"', '"\\ud800"', '"\\ud83d\\u0041"', '"\\udc00"',
]  # fmt: skip
texts = st.lists(st.sampled_from(TOKENS), max_size=14).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def asked(text: bytes) -> tuple[int, bool] | None:
    """(byte, whether it is a matter of range) where orjson refuses, or None."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return len(text.decode()[: error.pos].encode()), "infinity" in error.msg
    return None


@settings(max_examples=1_000)
@given(texts)
def test_orjson_and_the_scanner_agree(text: str) -> None:
    """Whether a text is JSON, and at which byte it is not."""
    data = text.encode()
    found, expected = scan(data), asked(data)

    assert (found is None) == (expected is None)
    if found is not None and expected is not None and text.strip():
        assert (found.at, found.code == "number-out-of-range") == expected


@given(values, st.integers(0, 2))
def test_json_of_any_shape_is_taken(value: object, indent: int) -> None:
    """What json writes is JSON, with blanks or without."""
    assert scan(json.dumps(value, indent=indent or None).encode()) is None


@given(texts, st.integers(1, 9))
def test_pieces_and_checkpoints_change_nothing(text: str, size: int) -> None:
    """A scanner that is made anew from its state before each piece finds the same."""
    data = text.encode()
    scanner, found = Scanner(), None
    for at in range(0, len(data), size):
        scanner = Scanner(json.loads(json.dumps(scanner.state())))
        found = scanner.feed(data[at : at + size])
        if found:
            break

    assert (found or scanner.end()) == scan(data)


@pytest.mark.parametrize("depth", [1, 2, 1_023, 1_024])
def test_nesting_up_to_the_limit_is_taken(depth: int) -> None:
    assert scan(b"[" * depth + b"]" * depth) is None
    assert scan(b'{"a":' * depth + b"1" + b"}" * depth) is None


@pytest.mark.parametrize(("opener", "at"), [(b"[", 1_024), (b'{"a":', 5_120)])
def test_deeper_nesting_is_refused_at_its_first_byte(opener: bytes, at: int) -> None:
    """Whatever follows: 200,000 levels take no more memory than 1,025."""
    found = scan(opener * 200_000)

    assert found == Break(at, "nesting-too-deep", "More than 1024 levels of nesting.")


@pytest.mark.parametrize("number", ["2" * 309, "1" + "0" * 400, "-" + "9" * 310, "1e309", "-1E+400"])
def test_numbers_that_no_double_holds_are_refused(number: str) -> None:
    found = scan(f"[{number}]".encode())

    assert found is not None
    assert (found.code, found.at) == ("number-out-of-range", 1)


@pytest.mark.parametrize("number", ["1" * 308, "1e308", "1e-999", "0." + "0" * 500 + "1", "-0", "-0.0e+5"])
def test_other_numbers_are_taken(number: str) -> None:
    assert scan(number.encode()) is None


def test_members_are_the_same_when_their_names_without_escapes_are() -> None:
    """RFC 8259, 8.3; names in other objects are other names."""
    text = rb'{"a":{"a":1,"b":[{"a":2},"a",{"a":3}]},"\u0061":4,"c":"a","b":5}'

    assert duplicate_members(text) == [(39, "a")]
