"""What calls cost: sizes, index entries, conditions and transactions as DynamoDB's manual counts them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.tables import calls, units

TABLE = units.Keys(("pk", "sk"))
INDEXES = (units.Keys(("list_pk", "list_sk")), units.Keys(("due_pk", "due_sk")))
KEY = {"pk": {"S": "p"}, "sk": {"S": "s"}}


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "grüße"}, 7),
        ({"N": "0"}, 1),
        ({"N": "12345"}, 4),
        ({"N": "-12345"}, 5),
        ({"N": "1500000"}, 2),
        ({"B": b"abc"}, 3),
        ({"B": base64.b64encode(b"abc").decode()}, 3),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["a", "bc"]}, 3),
        ({"L": [{"S": "ab"}, {"BOOL": True}]}, 3 + 2 + 2 + 1),
        ({"M": {"ab": {"S": "c"}}}, 3 + 1 + 2 + 1),
    ],
)
def test_sizes_of_values(value: dict, size: int) -> None:
    """One byte for two digits and one more, three for a collection, one for each of its elements."""
    assert units.value_size(value) == size
    assert units.item_size({"name": value}) == 4 + size


def entry(part: str) -> dict:
    return {"list_pk": {"S": "L"}, "list_sk": {"S": part}}


@pytest.mark.parametrize(
    ("before", "after", "cost"),
    [
        (None, KEY, 1),
        (None, {**KEY, "v": {"S": "x" * 1025}}, 2),
        ({**KEY, "v": {"S": "x" * 3000}}, KEY, 3),
        ({**KEY, "v": {"S": "x" * 3000}}, None, 3),
        (None, {**KEY, **entry("1")}, 2),
        ({**KEY, **entry("1")}, None, 2),
        ({**KEY, **entry("1")}, {**KEY, **entry("2")}, 3),
        ({**KEY, **entry("1")}, {**KEY, **entry("1"), "v": {"S": "y"}}, 1),
        (None, {**KEY, "list_pk": {"S": "L"}}, 1),
        (None, {**KEY, **entry("1"), "due_pk": {"S": "D"}, "due_sk": {"S": "1"}}, 3),
    ],
)
def test_a_write_costs_its_item_and_every_index_entry(before: dict | None, after: dict | None, cost: int) -> None:
    """The larger size in KB; an entry that appears or goes is one write, a moved one two, an unchanged one none."""
    assert units.written(before, after, TABLE, INDEXES) == cost


def test_transactions_and_refused_conditions() -> None:
    """Twice the item in a transaction; a false condition costs what is there, at least one."""
    large = {**KEY, "v": {"S": "x" * 3000}}
    assert units.written(None, KEY, TABLE, (), transaction=True) == 2
    assert units.refused(None) == 1
    assert units.refused(large) == 3
    assert units.refused(large, transaction=True) == 6


def test_reads_cost_half_when_they_may_be_old() -> None:
    """4 KB a unit, each item rounded up by itself; nothing found costs as much as something small."""
    assert units.read_units([0], consistent=False) == 0.5
    assert units.read_units([4097], consistent=True) == 2
    assert units.read_units([100, 100], consistent=False) == 1
    assert units.read_units([100], consistent=False, transaction=True) == 2


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_no_number_is_larger_than_21_bytes(number: object) -> None:
    """And none is free."""
    assert 1 <= units.number_size(str(number)) <= 21


def test_every_item_that_a_call_names_is_found() -> None:
    """Put, update, get, batches and transactions; a condition check and a read write nothing."""
    names = {"t": ("pk", "sk")}
    item = {**KEY, "v": {"N": "1"}}
    written, read = calls.Touched("t", KEY), calls.Touched("t", KEY, writes=False)
    arn = "arn:aws:dynamodb:r:a:table/t"
    transaction = [
        {"Put": {"TableName": "t", "Item": item}},
        {"Delete": {"TableName": "t", "Key": KEY}},
        {"ConditionCheck": {"TableName": "t", "Key": KEY}},
    ]
    batch = {"t": [{"PutRequest": {"Item": item}}, {"DeleteRequest": {"Key": KEY}}]}
    consistent = calls.Touched("t", KEY, writes=False, consistent=True)

    assert calls.touched("PutItem", {"TableName": "t", "Item": item}, names) == [written]
    assert calls.touched("UpdateItem", {"TableName": arn, "Key": KEY}, names) == [written]
    assert calls.touched("BatchWriteItem", {"RequestItems": batch}, names) == [written] * 2
    assert calls.touched("TransactWriteItems", {"TransactItems": transaction}, names) == [written, written, read]
    assert calls.touched("GetItem", {"TableName": "t", "Key": KEY, "ConsistentRead": True}, names) == [consistent]
    assert calls.touched("BatchGetItem", {"RequestItems": {"t": {"Keys": [KEY, KEY]}}}, names) == [read] * 2
    assert calls.touched("Query", {"TableName": "t"}, names) == []


def test_what_a_filtered_query_looked_at_can_be_asked_for() -> None:
    """Without filter and projection, with only the names and values that the key condition uses."""
    asked = calls.evaluated(
        {
            "TableName": "t",
            "KeyConditionExpression": "#p = :p",
            "FilterExpression": "#pq = :pq",
            "ProjectionExpression": "a",
            "ExpressionAttributeNames": {"#p": "pk", "#pq": "x"},
            "ExpressionAttributeValues": {":p": {"S": "1"}, ":pq": {"S": "2"}},
        },
        7,
    )
    assert asked == {
        "TableName": "t",
        "KeyConditionExpression": "#p = :p",
        "ExpressionAttributeNames": {"#p": "pk"},
        "ExpressionAttributeValues": {":p": {"S": "1"}},
        "Limit": 7,
    }
