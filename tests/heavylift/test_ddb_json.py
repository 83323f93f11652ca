"""Attribute values: judged by boto3's own serializer."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from heavylift import ddb_json
from heavylift.states import State

numbers = st.one_of(
    st.integers(-(10**37), 10**37), st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100)
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), numbers, st.binary(max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def for_boto3(value: Any) -> Any:
    """Floats are Decimals to boto3."""
    match value:
        case bool() | None | str() | bytes() | int():
            return value
        case float():
            return Decimal(repr(value))
        case list():
            return [for_boto3(item) for item in value]
    return {name: for_boto3(item) for name, item in value.items()}


def plain(value: Any) -> Any:
    """boto3's values as ours."""
    match value:
        case Decimal():
            return int(value) if str(value).lstrip("-").isdigit() else float(value)
        case Binary():
            return bytes(value)
        case list():
            return [plain(item) for item in value]
        case dict():
            return {name: plain(item) for name, item in value.items()}
    return value


@given(values)
def test_encoding_means_the_same_to_boto3(value: Any) -> None:
    """boto3 reads what we write as the same value, and writes the same types for it."""
    ours = ddb_json.encode(value)
    theirs = TypeSerializer().serialize(for_boto3(value))

    assert plain(TypeDeserializer().deserialize(ours)) == value
    assert ddb_json.decode(theirs) == value
    assert ddb_json.decode(ours) == value


@given(st.dictionaries(st.text(min_size=1), values, max_size=5))
def test_items_round_trip_over_json(item: dict[str, Any]) -> None:
    """Over the wire bytes are base64: what sign reads from the HTTP answer is what was written."""

    def wire(attribute: Any) -> Any:
        if isinstance(attribute, bytes):
            return base64.b64encode(attribute).decode()
        raise TypeError

    answer = json.loads(json.dumps(ddb_json.encode_item(item), default=wire))

    assert ddb_json.decode_item(answer) == item


def test_numbers_keep_their_kind() -> None:
    """Whole numbers come back as int, others as float, as DynamoDB writes them."""
    for text, value in {"5": 5, "-7": -7, "0": 0, "1.5": 1.5, "-0.25": -0.25, "1E+3": 1000.0, "1e-7": 1e-7}.items():
        decoded = ddb_json.decode({"N": text})
        assert decoded == value
        assert type(decoded) is type(value)


def test_states_are_written_as_text() -> None:
    """A state is its value."""
    assert ddb_json.encode(State.FRESH) == {"S": "fresh"}
    assert type(ddb_json.encode(State.FRESH)["S"]) is str


@pytest.mark.parametrize("value", [object(), {1, 2}, Decimal(1), 1j])
def test_other_types_are_refused(value: Any) -> None:
    """What has no attribute value is a TypeError, not a guess."""
    with pytest.raises(TypeError):
        ddb_json.encode(value)


def test_unknown_attribute_types_are_refused() -> None:
    """Sets are none of ours."""
    with pytest.raises(ValueError, match="SS"):
        ddb_json.decode({"SS": ["a"]})
