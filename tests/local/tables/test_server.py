"""The tables' process: what was answered is kept through kill -9, and each caller does only what it may."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from heavylift_local.testing import call


class Tables:
    def __init__(self, folder: Path, time_scale: float = 1) -> None:
        self.config = folder / "config.json"
        self.config.write_text(
            json.dumps(
                {
                    "data": str(folder / "tables"),
                    "region": "us-east-1",
                    "account": "000000000000",
                    "admin_token": "secret",
                    "time_scale": time_scale,
                    "tables": [
                        {
                            "name": "t",
                            "partition_key": "pk",
                            "sort_key": "sk",
                            "ttl_attribute": "ttl",
                            "indexes": [{"name": "list", "partition_key": "list_pk", "sort_key": "list_sk"}],
                        }
                    ],
                    "callers": [
                        {"name": "all", "access_key": "AKALL", "grants": [{"actions": ["*"], "resources": ["*"]}]},
                        {
                            "name": "reader",
                            "access_key": "AKREAD",
                            "grants": [{"actions": ["dynamodb:GetItem"], "resources": ["table"]}],
                        },
                    ],
                }
            )
        )
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heavylift_local.tables", "--config", str(self.config)], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{json.loads(self.process.stdout.readline())['port']}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def counts(self, caller: str = "all") -> dict[str, Any]:
        found = call("GET", f"{self.url}/_local/counters", headers={"x-local-token": "secret"})
        return {name.removeprefix("dynamodb."): row for name, row in found.get(caller, {}).items()}

    def client(self, key: str = "AKALL") -> Any:
        return boto3.client(
            "dynamodb",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    made = Tables(tmp_path)
    yield made
    made.stop()


def key(name: str) -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"S": name}}


def test_what_was_answered_survives_kill_9(tables: Tables) -> None:
    """Puts, updates, deletes, batches and transactions; a refused condition changes nothing."""
    db = tables.client()
    db.put_item(TableName="t", Item={**key("a"), "b": {"B": b"\0\xff"}, "list_pk": {"S": "L"}, "list_sk": {"S": "1"}})
    db.put_item(TableName="t", Item=key("gone"))
    db.delete_item(TableName="t", Key=key("gone"))
    db.update_item(
        TableName="t",
        Key=key("a"),
        UpdateExpression="SET m = :m",
        ExpressionAttributeValues={":m": {"M": {"x": {"L": [{"BOOL": True}, {"NULL": True}]}}}},
    )
    db.batch_write_item(RequestItems={"t": [{"PutRequest": {"Item": key("b")}}]})
    db.transact_write_items(TransactItems=[{"Put": {"TableName": "t", "Item": key("c")}}])
    with pytest.raises(db.exceptions.ConditionalCheckFailedException):
        db.put_item(TableName="t", Item=key("a"), ConditionExpression="attribute_not_exists(pk)")
    before = db.scan(TableName="t")["Items"]
    tables.stop()
    tables.start()
    db = tables.client()

    assert sorted(db.scan(TableName="t")["Items"], key=str) == sorted(before, key=str)
    assert {item["sk"]["S"] for item in before} == {"a", "b", "c"}
    found = db.query(
        TableName="t",
        IndexName="list",
        KeyConditionExpression="list_pk = :p",
        ExpressionAttributeValues={":p": {"S": "L"}},
    )["Items"]
    assert [item["sk"]["S"] for item in found] == ["a"]


def test_callers_have_rights_and_counts(tables: Tables) -> None:
    """A reader cannot write, a stranger can do nothing, and everybody's calls are counted."""
    tables.client().put_item(TableName="t", Item={**key("a"), "v": {"S": "x" * 2000}})
    reader = tables.client("AKREAD")
    reader.get_item(TableName="t", Key=key("a"))
    with pytest.raises(ClientError) as not_allowed:
        reader.put_item(TableName="t", Item=key("b"))
    with pytest.raises(ClientError) as not_allowed_in_parts:
        reader.transact_write_items(TransactItems=[{"Put": {"TableName": "t", "Item": key("b")}}])
    with pytest.raises(ClientError) as not_known:
        tables.client("AKNOBODY").get_item(TableName="t", Key=key("a"))
    counts = call("GET", f"{tables.url}/_local/counters", headers={"x-local-token": "secret"})

    assert not_allowed.value.response["Error"]["Code"] == "AccessDeniedException"
    assert not_allowed_in_parts.value.response["Error"]["Code"] == "AccessDeniedException"
    assert not_known.value.response["Error"]["Code"] == "UnrecognizedClientException"
    assert counts["all"]["dynamodb.PutItem"]["write_units"] == 2
    assert counts["reader"]["dynamodb.GetItem"]["requests"] == 1


def test_counts_are_not_for_everybody(tables: Tables) -> None:
    """The stack's own token opens them."""
    from heavylift_local.testing import CallFailed

    with pytest.raises(CallFailed) as refused:
        call("GET", f"{tables.url}/_local/counters")

    assert refused.value.status == 403


def test_of_many_writers_with_one_condition_one_wins(tables: Tables) -> None:
    """Check and write are one step."""
    from concurrent.futures import ThreadPoolExecutor

    db = tables.client()

    def write(number: int) -> bool:
        try:
            db.put_item(
                TableName="t",
                Item={**key("race"), "n": {"N": str(number)}},
                ConditionExpression="attribute_not_exists(pk)",
            )
        except db.exceptions.ConditionalCheckFailedException:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(write, range(16))) == 1


def test_units_are_those_of_dynamodb(tables: Tables) -> None:
    """Index entries, refused conditions, transactions and batches; reads by what was looked at, not what came back."""
    db = tables.client()
    indexed = {"list_pk": {"S": "L"}, "list_sk": {"S": "1"}}
    large = {**key("large"), "v": {"S": "x" * 5000}}

    def cost(operation: str, unit: str, **arguments: Any) -> float:
        before = tables.counts().get(operation, {}).get(unit, 0)
        method = "".join("_" + c.lower() if c.isupper() else c for c in operation).lstrip("_")
        with contextlib.suppress(ClientError):
            getattr(db, method)(**arguments)
        return tables.counts()[operation].get(unit, 0) - before

    def put(item: Any, **more: Any) -> float:
        return cost("PutItem", "write_units", TableName="t", Item=item, **more)

    assert put(key("a")) == 1
    assert put({**key("a"), **indexed}) == 2
    assert put({**key("a"), **indexed, "v": {"S": "y"}}) == 1
    assert put({**key("a"), **indexed, "list_sk": {"S": "2"}}) == 3
    assert put(large) == 5
    assert put(key("large"), ConditionExpression="attribute_not_exists(pk)") == 5
    assert put(key("nothing"), ConditionExpression="attribute_exists(pk)") == 1
    assert put({"pk": {"S": "p"}}) == 0  # not valid
    transaction = [
        {"Put": {"TableName": "t", "Item": {**key("b"), **indexed}}},
        {"ConditionCheck": {"TableName": "t", "Key": key("large"), "ConditionExpression": "attribute_exists(pk)"}},
    ]
    assert cost("TransactWriteItems", "write_units", TransactItems=transaction) == 2 + 1 + 10
    puts = [{"PutRequest": {"Item": key("c")}}, {"DeleteRequest": {"Key": key("large")}}]
    assert cost("BatchWriteItem", "write_units", RequestItems={"t": puts}) == 1 + 5
    db.put_item(TableName="t", Item={**large, "n": {"N": "1"}})
    assert cost("GetItem", "read_units", TableName="t", Key=key("large"), ProjectionExpression="pk") == 1
    assert cost("GetItem", "read_units", TableName="t", Key=key("large"), ConsistentRead=True) == 2
    assert cost("BatchGetItem", "read_units", RequestItems={"t": {"Keys": [key("a"), key("large")]}}) == 1.5
    wanted = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "p"}}}
    assert cost("Query", "read_units", TableName="t", **wanted) == 1
    filtered = {
        "KeyConditionExpression": "pk = :p",
        "FilterExpression": "v = :v",
        "ExpressionAttributeValues": {":p": {"S": "p"}, ":v": {"S": "none"}},
    }
    assert cost("Query", "read_units", TableName="t", ConsistentRead=True, **filtered) == 2
    assert cost("Scan", "read_units", TableName="t", ProjectionExpression="pk") == 1
    assert cost("Scan", "read_units", TableName="t", Select="COUNT") == 1


def test_items_past_their_time_go_late(tmp_path: Path) -> None:
    """On the scaled clock; not those of the future, without a number, or older than five years; for good."""
    tables = Tables(tmp_path, time_scale=1_000_000)
    try:
        db, now = tables.client(), int(time.time())
        moments = {"past": now - 60, "future": now + 3600, "ancient": now - 6 * 365 * 86_400}
        for name, moment in moments.items():
            db.put_item(TableName="t", Item={**key(name), "ttl": {"N": str(moment)}})
        db.put_item(TableName="t", Item={**key("text"), "ttl": {"S": str(now - 60)}})

        def left() -> set[str]:
            return {item["sk"]["S"] for item in db.scan(TableName="t")["Items"]}

        deadline = time.monotonic() + 30
        while "past" in left() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left() == {"future", "ancient", "text"}
        tables.stop()
        tables.start()
        db = tables.client()
        assert left() == {"future", "ancient", "text"}
    finally:
        tables.stop()


def test_nothing_goes_early(tables: Tables) -> None:
    """Unscaled, DynamoDB takes days: an item just past its time is still there, and readers must filter it."""
    db = tables.client()
    db.put_item(TableName="t", Item={**key("past"), "ttl": {"N": str(int(time.time()) - 60)}})
    time.sleep(1.5)
    assert "Item" in db.get_item(TableName="t", Key=key("past"))
