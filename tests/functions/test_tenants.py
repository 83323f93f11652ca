"""Everything is isolated by tenant: proven over every route of the topology, those of later days included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift import settings as settings_module
from infra import topology
from tests.doubles import events
from tests.doubles.batches import BatchClient, sign_reads
from tests.doubles.samples import PICTURE
from tests.doubles.world import World, handler_of

ROUTES = [(function.name, route) for function in topology.FUNCTIONS for route in function.routes]
ID_ROUTES = [(name, route) for name, route in ROUTES if "{id}" in route.path]
OPEN = [(name, route) for name, route in ROUTES if route.scope is None and "{ticket}" not in route.path]
CLOSED = [(name, route) for name, route in ROUTES if route.scope is not None]


def label(value: Any) -> str:
    return f"{value.method} {value.path}" if isinstance(value, topology.Route) else str(value)


@pytest.fixture(autouse=True)
def sign_reads_the_same_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """sign's own HTTP requests, answered by the world's table."""
    sign_reads(world, monkeypatch)


def ask(name: str, route: topology.Route, file_id: str, tenant: str | None, **more: Any) -> tuple[int, dict[str, Any]]:
    path = {"id": file_id, "n": "1", "size": "256", "page": "1", "frames": "1", "place": "pixeldata"}
    path |= dict.fromkeys(("study", "series", "instance"), "1.2.3")
    used = {key: value for key, value in path.items() if "{" + key + "}" in route.path}
    body: dict[str, Any] = {
        "sign": {"parts": [{"part_number": 1, "sha256": "A" * 43 + "="}], "n": [1]},
        "initiate": {"entries": [{"n": 1, "name": "a.txt", "size": 1}]},
    }.get(name, {})
    event = events.http(route.method, route.path, path=used, body=body, tenant=tenant, **more)
    answer = handler_of(name)(event, events.Context(name, 29))
    return answer["statusCode"], {**json.loads(answer["body"] or "{}"), "_headers": answer["headers"]}


def stored(world: World) -> str:
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    assert world.complete(file_id)[0] == 200
    world.pump()
    return file_id


def test_there_are_routes_to_try() -> None:
    """The generated tests below are not empty."""
    assert len(ID_ROUTES) >= 10
    assert {name for name, _ in ID_ROUTES} == {"initiate", "sign", "complete", "sessions"}


@pytest.mark.parametrize("when", ["open", "stored"])
@pytest.mark.parametrize(("name", "route"), ID_ROUTES, ids=label)
def test_another_tenants_id_is_a_404(world: World, name: str, route: topology.Route, when: str) -> None:
    """On every route with an id: the same 404 as for an id that never was, nothing changed, nothing asked of S3."""
    file_id = stored(world) if when == "stored" else world.initiate(PICTURE.name, PICTURE.data)
    before = json.dumps(sorted(world.table.items.items()), default=str)
    world.gate.restart()
    status, body = ask(name, route, file_id, "globex")
    unknown_status, unknown = ask(name, route, "01JD2Z3NDEKTSV4RRFFQ69G5FA", "globex")

    assert (status, body["code"]) == (404, "not_found")
    assert body["_headers"]["content-type"] == "application/problem+json"
    assert (status, body["detail"], body["code"]) == (unknown_status, unknown["detail"], unknown["code"])
    assert file_id not in json.dumps({key: value for key, value in body.items() if key != "instance"})
    assert json.dumps(sorted(world.table.items.items()), default=str) == before
    assert {call.service for call in world.gate.calls} <= {"dynamodb"}
    assert world.queues.messages == []


@pytest.mark.parametrize(("name", "route"), [one for one in ID_ROUTES if "batches" in one[1].path], ids=label)
def test_another_tenants_batch_is_a_404(world: World, name: str, route: topology.Route) -> None:
    """The same for a batch and what belongs to it."""
    client = BatchClient(world, {1: ("secret.txt", b"secret")})
    client.begin()
    client.list()
    before = json.dumps(sorted(world.table.items.items()), default=str)
    world.gate.restart()
    status, body = ask(name, route, client.batch_id, "globex")
    unknown_status, unknown = ask(name, route, "01JD2Z3NDEKTSV4RRFFQ69G5FA", "globex")

    assert (status, body["code"]) == (404, "not_found")
    assert (status, body["detail"]) == (unknown_status, unknown["detail"])
    assert json.dumps(sorted(world.table.items.items()), default=str) == before
    assert {call.service for call in world.gate.calls} <= {"dynamodb"}
    upload = {"files": [{"name": "secret.txt", "size": 6, "batch_id": client.batch_id, "n": 1}]}
    _, answer = world.call("initiate", "POST", "/v1/uploads", body=upload, tenant="globex")
    assert answer["uploads"][0]["problem"]["code"] == "not_found"
    _, listed = world.call("sessions", "GET", "/v1/files", query={"batch_id": client.batch_id}, tenant="globex")
    assert listed["items"] == []


@pytest.mark.parametrize(("name", "route"), ID_ROUTES, ids=label)
@pytest.mark.parametrize(
    "file_id",
    ["x", "..", "01JD2Z3NDEKTSV4RRFFQ69G5FA#F", "01jd2z3ndektsv4rrffq69g5fa", "%2e%2e", '"<script>', "é", " "],
)
def test_what_is_no_id_is_a_404(world: World, name: str, route: topology.Route, file_id: str) -> None:
    """A problem, not a gateway's message and not a crash; the table is not even asked."""
    world.gate.restart()
    status, body = ask(name, route, file_id, "acme")

    assert (status, body["code"]) == (404, "not_found")
    assert body["_headers"]["content-type"] == "application/problem+json"
    assert world.gate.calls == []


@pytest.mark.parametrize(("name", "route"), CLOSED, ids=label)
@pytest.mark.parametrize("tenant", [None, "", "ACME", "a#b", "../acme", "x" * 64])
def test_no_usable_tenant_is_a_403(world: World, name: str, route: topology.Route, tenant: str | None) -> None:
    """A token without tenant sees nothing at all."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.gate.restart()
    status, body = ask(name, route, file_id, tenant)

    assert (status, body["code"]) == (403, "no_tenant")
    assert world.gate.calls == []


@pytest.mark.parametrize(("name", "route"), CLOSED, ids=label)
def test_the_tenant_is_the_tokens_alone(
    world: World, name: str, route: topology.Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant in the query, the headers, or a claim of another name changes nothing; TENANT_CLAIM does."""
    file_id = stored(world)
    plain = ask(name, route, file_id, "globex", query={"tenant": "acme"}, claims={"custom:tenant": "acme"})
    assert plain[0] in {404, 200, 201, 204, 406, 415, 422}
    assert file_id not in json.dumps({key: value for key, value in plain[1].items() if key != "instance"})
    monkeypatch.setenv("TENANT_CLAIM", "org")
    settings_module.settings.cache_clear()
    assert ask(name, route, file_id, "acme")[1].get("code") == "no_tenant"
    assert ask(name, route, file_id, "globex", claims={"org": "acme"})[1].get("code") != "no_tenant"


@pytest.mark.parametrize(("name", "route"), OPEN, ids=label)
def test_open_routes_show_nobodys_data(world: World, name: str, route: topology.Route) -> None:
    """What needs no token holds no id, no name and no count."""
    file_id = stored(world)
    status, body = ask(name, route, file_id, None)

    assert status == 200
    text = json.dumps(body)
    assert file_id not in text
    assert "acme" not in text


def test_every_key_of_the_table_begins_with_a_tenant(world: World) -> None:
    """After a whole life: each partition key, of the table and its indexes, begins T#<tenant>#; ours is T#_#."""
    stored(world)
    world.sweep()
    world.call("sessions", "GET", "/v1/uploads", query={"limit": "1"})
    for item in world.table.items.values():
        for name, value in item.items():
            if name == "pk" or name.endswith("_pk"):
                assert value["S"].startswith(("T#acme#", "T#_#"))
