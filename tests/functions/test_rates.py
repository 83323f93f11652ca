"""Rate limits: what a tenant may begin within a minute of real time, counted by one write a call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heavylift import settings as settings_module
from tests.doubles.world import World

Limit = Callable[..., None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Limit]:
    """Sets the limits of this test."""

    def set_limits(files: int = 0, calls: int = 0, scale: float = 1.0) -> None:
        monkeypatch.setenv("RATE_LIMIT_FILES_PER_MINUTE", str(files))
        monkeypatch.setenv("RATE_LIMIT_CALLS_PER_MINUTE", str(calls))
        monkeypatch.setenv("HEAVYLIFT_TIME_SCALE", str(scale))
        settings_module.settings.cache_clear()

    yield set_limits
    settings_module.settings.cache_clear()


def initiate(world: World, files: int, **more: Any) -> dict[str, Any]:
    body = {"files": [{"name": f"{n}.txt", "size": 1} for n in range(files)]}
    return world.answer("initiate", "POST", "/v1/uploads", body=body, **more)


def begin(world: World, **more: Any) -> dict[str, Any]:
    return world.answer("initiate", "POST", "/v1/batches", body={"total": 5}, **more)


def writes(world: World) -> int:
    return len([call for call in world.gate.calls if "#RATE" in str(call.arguments)])


def test_files_of_a_minute(desk: World, limit: Limit) -> None:
    """So many over all calls; one more is a 429 problem that says when the next minute begins; others go on."""
    limit(files=10)
    assert [initiate(desk, 4)["statusCode"] for _ in range(2)] == [201, 201]
    refused = initiate(desk, 3)
    problem = json.loads(refused["body"])

    assert (refused["statusCode"], problem["code"], problem["retryable"]) == (429, "rate_limited", True)
    assert refused["headers"]["content-type"] == "application/problem+json"
    assert problem["files_per_minute"] == 10
    assert 1 <= int(refused["headers"]["retry-after"]) <= 60
    assert initiate(desk, 2)["statusCode"] == 201  # what was refused was not counted
    assert initiate(desk, 1)["statusCode"] == 429
    assert initiate(desk, 1, tenant="globex")["statusCode"] == 201
    desk.clock.advance(int(refused["headers"]["retry-after"]))
    assert initiate(desk, 10)["statusCode"] == 201


def test_calls_of_a_minute(world: World, limit: Limit) -> None:
    """Uploads and batches count together."""
    limit(calls=3)
    assert [initiate(world, 1)["statusCode"], begin(world)["statusCode"], initiate(world, 1)["statusCode"]] == [201] * 3
    assert begin(world)["statusCode"] == 429
    assert initiate(world, 1)["statusCode"] == 429
    assert begin(world, tenant="globex")["statusCode"] == 201


def test_a_call_above_the_limit_passes_alone(world: World, limit: Limit) -> None:
    """Otherwise it would never pass."""
    limit(files=2)
    assert initiate(world, 5)["statusCode"] == 201
    assert initiate(world, 1)["statusCode"] == 429
    world.clock.advance(60)
    assert initiate(world, 1)["statusCode"] == 201
    assert initiate(world, 5)["statusCode"] == 429


def test_a_minute_is_a_minute(world: World, limit: Limit) -> None:
    """A scaled clock changes nothing."""
    limit(calls=1, scale=60)
    world.clock.advance(60 - world.clock.now % 60)
    assert initiate(world, 1)["statusCode"] == 201
    world.clock.advance(50)
    assert initiate(world, 1)["statusCode"] == 429
    world.clock.advance(10)
    assert initiate(world, 1)["statusCode"] == 201


def test_zero_is_no_limit_and_no_write(world: World, limit: Limit) -> None:
    """Off, nothing is counted."""
    limit()
    assert [initiate(world, 20)["statusCode"] for _ in range(20)] == [201] * 20
    assert begin(world)["statusCode"] == 201
    assert writes(world) == 0


def test_one_write_a_call_and_none_for_reading(world: World) -> None:
    """With the limits that are the default; completing, cancelling and reading count nothing."""
    _, body = world.call("initiate", "POST", "/v1/uploads", body={"files": [{"name": "a", "size": 1}] * 200})
    assert writes(world) == 1
    file_id = body["uploads"][0]["upload_id"]
    for function, method, route in (
        ("sessions", "GET", "/v1/uploads/{id}"),
        ("sessions", "GET", "/v1/files"),
        ("complete", "POST", "/v1/uploads/{id}/complete"),
        ("complete", "DELETE", "/v1/uploads/{id}"),
    ):
        world.call(function, method, route, path={"id": file_id})
    assert writes(world) == 1


def test_what_is_refused_frees_its_idempotency_key(world: World, limit: Limit) -> None:
    """The same request, sent again when there is room, makes its session; a repeat of it counts nothing."""
    limit(files=1)
    key = {"idempotency-key": "k"}
    assert initiate(world, 1)["statusCode"] == 201
    assert initiate(world, 1, headers=key)["statusCode"] == 429
    world.clock.advance(60)
    first = initiate(world, 1, headers=key)
    again = initiate(world, 1, headers=key)

    assert (first["statusCode"], again["statusCode"]) == (201, 201)
    assert json.loads(first["body"])["uploads"][0]["upload_id"] == json.loads(again["body"])["uploads"][0]["upload_id"]


def test_counts_expire(world: World) -> None:
    """An hour later the table may remove them."""
    initiate(world, 1)
    ((_, item),) = [one for one in world.table.items.items() if one[0][0] == "T#acme#RATE"]

    assert float(item["ttl"]["N"]) == pytest.approx(world.clock.now + 3_600, abs=2)
