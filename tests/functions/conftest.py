"""The functions on the double of DynamoDB and on moto's: two judges of every expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import moto
import pytest

from infra import topology
from tests.doubles.world import World


@pytest.fixture(scope="session")
def moto_dynamodb() -> Iterator[Any]:
    """One client for all tests: making one takes longer than most of them."""
    with moto.mock_aws():
        yield boto3.client(
            "dynamodb", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
        )


def make_table(client: Any) -> None:
    table = topology.TABLE
    names = {
        table.partition_key,
        table.sort_key,
        *(key for index in table.indexes for key in (index.partition_key, index.sort_key)),
    }

    def schema(partition: str, sort: str) -> list[dict[str, str]]:
        return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]

    client.create_table(
        TableName=table.name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in sorted(names)],
        KeySchema=schema(table.partition_key, table.sort_key),
        GlobalSecondaryIndexes=[
            {
                "IndexName": index.name,
                "KeySchema": schema(index.partition_key, index.sort_key),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
            for index in table.indexes
        ],
    )


@pytest.fixture(params=["double", "moto"])
def desk(request: pytest.FixtureRequest, worlds: Callable[..., World]) -> Iterator[World]:
    """A world on the double's table, and one on moto's."""
    if request.param == "double":
        yield worlds()
        return
    client = request.getfixturevalue("moto_dynamodb")
    make_table(client)
    yield worlds(client)
    client.delete_table(TableName=topology.TABLE.name)
