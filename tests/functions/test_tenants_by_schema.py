"""Nobody reaches another tenant's things with a request that the OpenAPI description allows: every route, every body.

``test_tenants`` tries each route with one body; here schemathesis makes them from the description, batches included.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heavylift_local.openapi import document
from tests.doubles import events
from tests.doubles.batches import BatchClient, sign_reads
from tests.doubles.samples import PICTURE
from tests.doubles.world import World, handler_of

SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = {
    f"{method.upper()} {path}": (path, method.upper(), one["x-function"])
    for path, methods in document()["paths"].items()
    for method, one in methods.items()
    if one["x-function"] != "dicomweb"  # its ids are UIDs: test_dicomweb tries each path with another tenant's
}
WITH_ID = [route for route, (path, _, _) in OPERATIONS.items() if "{id}" in path]
MAKING = [route for route, (path, method, _) in OPERATIONS.items() if "{id}" not in path and method == "POST"]
READING = [route for route, (path, method, _) in OPERATIONS.items() if "{id}" not in path and method != "POST"]
FEW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def theirs(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Ids of acme's: an open upload, a file that is stored, a batch with a manifest and one of its files."""
    sign_reads(world, monkeypatch)
    stored = world.initiate(PICTURE.name, PICTURE.data)
    world.put(stored, PICTURE.data)
    assert world.complete(stored)[0] == 200
    world.pump()
    client = BatchClient(world, {1: ("secret.txt", b"secret"), 2: (PICTURE.name, PICTURE.data)})
    client.begin()
    client.list()
    _, member = client.begin_upload(2)
    return {
        "upload": world.initiate("open.bin", PICTURE.data),
        "file": stored,
        "batch": client.batch_id,
        "member": member["upload_id"],
        "silent member": client.file_id(1),
    }


def send(route: str, case: Any, tenant: str, file_id: str = "") -> tuple[int, dict[str, Any]]:
    path, method, function = OPERATIONS[route]
    parameters = {name: str(value) for name, value in (case.path_parameters or {}).items()}
    if file_id:
        parameters["id"] = file_id
    query = {name: str(value) for name, value in (case.query or {}).items()}
    if "wait" in query:
        query["wait"] = "0"
    event = events.http(
        method,
        path,
        path=parameters,
        query=query,
        raw_body=None if case.body is NOTHING else json.dumps(case.body),
        tenant=tenant,
        headers={name.lower(): str(value) for name, value in (case.headers or {}).items()},
    )
    answer = handler_of(function)(event, events.Context(function, 29))
    return answer["statusCode"], json.loads(answer["body"] or "{}")


NOTHING = schemathesis.core.NOT_SET


def of_acme(world: World) -> str:
    """All that is acme's: items of the table, objects, uploads, messages."""
    items = {key: item for key, item in world.table.items.items() if key[0].startswith("T#acme#")}
    objects = {bucket: sorted(found) for bucket, found in world.s3.buckets.items()}
    return json.dumps(
        [sorted(items.items()), objects, sorted(world.s3.uploads), len(world.queues.messages)], default=str
    )


def strategy_of(route: str) -> Any:
    path, method, _ = OPERATIONS[route]
    return SCHEMA[path][method].as_strategy()


def test_there_are_routes_to_try() -> None:
    """The generated tests below are not empty, and the description has every route."""
    assert len(WITH_ID) >= 15
    assert {function for _, _, function in OPERATIONS.values()} == {"initiate", "sign", "complete", "sessions"}


@pytest.mark.parametrize("route", WITH_ID)
def test_another_tenants_id_is_unknown(world: World, theirs: dict[str, str], route: str) -> None:
    """Seen, signed, completed, cancelled, tried again, deleted, listed: 404, and nothing of acme's has changed."""
    before = of_acme(world)

    @FEW
    @given(strategy_of(route), st.sampled_from(sorted(theirs.values())))
    def check(case: Any, file_id: str) -> None:
        status, body = send(route, case, "globex", file_id)
        # The one thing that a schema cannot say of a body, which is looked at before anything else.
        if body["detail"] != "A number stands twice on this page.":
            assert (status, body["code"]) == (404, "not_found"), body
        assert "secret" not in json.dumps(body)

    check()
    assert of_acme(world) == before


@pytest.mark.parametrize("route", [route for route in MAKING if "companion" not in route])
def test_nothing_is_made_within_another_tenants(world: World, theirs: dict[str, str], route: str) -> None:
    """Whatever is begun, also with acme's ids inside, is globex's own or a problem."""
    before = of_acme_alone(world)

    @FEW
    @given(strategy_of(route))
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("files"), list):
            for entry in case.body["files"]:
                entry["batch_id"], entry["n"] = theirs["batch"], 1
        if isinstance(case.body, dict) and isinstance(case.body.get("file_ids"), list):
            case.body["file_ids"] = [theirs["file"]]
        if isinstance(case.body, dict) and isinstance(case.body.get("batch_id"), str) and "total" not in case.body:
            case.body["batch_id"] = theirs["batch"]
        status, body = send(route, case, "globex")
        # Nothing to be archived is globex's; with on_missing skip the job will say so.
        assert status in ({202, 404, 422} if route == "POST /v1/archives" else {201, 422}), body
        for one in body.get("uploads", []):
            assert one["problem"]["code"] == "not_found"

    check()
    assert of_acme_alone(world) == before


def of_acme_alone(world: World) -> str:
    items = {key: item for key, item in world.table.items.items() if key[0].startswith("T#acme#")}
    return json.dumps(sorted(items.items()), default=str)


@pytest.mark.parametrize("route", READING)
def test_lists_and_clean_up_are_the_tenants_own(world: World, theirs: dict[str, str], route: str) -> None:
    """With any filter, acme's ids among them: nothing of acme's is shown, counted or deleted."""
    before = of_acme(world)

    @FEW
    @given(strategy_of(route))
    def check(case: Any) -> None:
        case.query = {name: value for name, value in (case.query or {}).items() if name != "next_token"}
        if "batch_id" in case.query:
            case.query["batch_id"] = theirs["batch"]
        status, body = send(route, case, "globex")
        assert status in {200, 503}, body
        text = json.dumps(body)
        assert not any(one in text for one in theirs.values())
        assert body.get("items", []) == []
        assert body.get("deleted", 0) == 0
        assert body.get("total", 0) == 0

    check()
    assert of_acme(world) == before
