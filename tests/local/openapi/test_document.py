"""The OpenAPI description: valid, complete, the committed file, and in step with the code that it is made from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import openapi_spec_validator
import pytest

from heavylift.api import problems
from heavylift.api.complete import CompleteBody
from heavylift_local.openapi import as_text, codes_of, codes_table, document, with_codes_table
from heavylift_local.openapi.operations import OPERATIONS
from infra import topology
from tests.doubles import contract

ROOT = Path(__file__).parents[3]
DOCUMENT = document()
ROUTES = {
    f"{route.method} {route.path}": route
    for function in topology.FUNCTIONS
    for route in function.routes
    if route.path.startswith("/v1/")  # the facade under /s3 is Companion's contract, not ours
}


def operation(route: str) -> dict[str, Any]:
    method, _, path = route.partition(" ")
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def test_an_independent_validator_finds_nothing() -> None:
    """OpenAPI 3.1 by openapi-spec-validator."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(DOCUMENT)


def test_the_committed_file_is_up_to_date() -> None:
    """What the code says is what a reader of the repository finds."""
    same = (ROOT / "docs/openapi.json").read_text(encoding="utf-8") == as_text()
    assert same, "write it anew: python -m heavylift_local.openapi"


def test_the_command_writes_the_same(tmp_path: Path) -> None:
    """From any process, in the same order."""
    target = tmp_path / "made.json"
    subprocess.run(
        [sys.executable, "-m", "heavylift_local.openapi", str(target)], check=True, cwd=tmp_path, timeout=120
    )
    assert target.read_text(encoding="utf-8") == as_text()


def test_every_route_is_described() -> None:
    """Those of the topology, and none that it has not."""
    described = {f"{method.upper()} {path}" for path, one in DOCUMENT["paths"].items() for method in one}

    assert described == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_says_who_may_call_it(route: str) -> None:
    """The scope is the topology's."""
    scope = ROUTES[route].scope
    assert operation(route)["security"] == ([{"jwt": [scope]}] if scope else [])


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_describes_its_path(route: str) -> None:
    """Every parameter of the path, and no other."""
    named = [one["name"] for one in operation(route).get("parameters", []) if one["in"] == "path"]
    assert named == re.findall(r"{(\w+)}", route)


@pytest.mark.parametrize("route", ROUTES)
def test_posts_that_make_something_take_a_key(route: str) -> None:
    """Idempotency-Key for the POSTs of initiate and complete; sign writes nothing, and DICOMweb's may be repeated."""
    takes = any(one["name"] == "Idempotency-Key" for one in operation(route).get("parameters", []))
    assert takes is (route.startswith("POST") and operation(route)["x-function"] not in {"sign", "dicomweb"})


def test_every_code_of_the_api_is_some_routes() -> None:
    """But those that stand inside an answer, as a file's own problem, and those of Companion's routes."""
    inside = {"type_not_allowed", "not_in_manifest", "size_mismatch", "multipart_required"}
    listed = {code for one in OPERATIONS.values() for code in codes_of(one)}
    others = {code for code in problems.STATUS if code.startswith("ticket_")}

    assert listed <= problems.STATUS.keys()
    assert problems.STATUS.keys() - listed - others == inside


GUIDE = (ROOT / "docs/api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("route", ROUTES)
def test_the_guide_has_every_route(route: str) -> None:
    """docs/api.md names it in its first table, its query's parameters somewhere."""
    table = GUIDE.partition("\n## ")[0]
    assert re.search(rf"`{re.escape(route)}(\?[^`]*)?`", table), route
    for parameter in operation(route).get("parameters", []):
        if parameter["in"] == "query":
            assert re.search(rf"\b{parameter['name']}\b", GUIDE), parameter["name"]


def test_the_guide_names_no_route_that_is_none() -> None:
    """Neither in its tables nor in its examples."""
    named = set(re.findall(r"\b((?:GET|POST|PUT|DELETE) /v1/[^\s`?]*)", GUIDE))
    assert named
    for one in named:
        shape = re.sub(r"/01J…[^/]*", "/{id}", one)
        assert shape in ROUTES, one


def test_the_guides_table_of_codes_is_up_to_date() -> None:
    """Which route refuses by which code."""
    assert with_codes_table(GUIDE) == GUIDE, "write it anew: python -m heavylift_local.openapi"
    assert codes_table() in GUIDE


def test_the_guide_has_every_code() -> None:
    """Explained in docs/errors.md, named here."""
    for code in {code for one in OPERATIONS.values() for code in codes_of(one)}:
        assert f"`{code}`" in GUIDE, code


def test_operation_ids_are_names() -> None:
    """Different, and usable by a generator of clients."""
    ids = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]+", one) for one in ids)


def test_nothing_is_described_that_nobody_uses() -> None:
    """Every component is referred to."""
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_bodies_come_from_the_models() -> None:
    """A field of a model is a field of the description."""
    described = DOCUMENT["components"]["schemas"]["CompleteBody"]["properties"]
    assert described.keys() == CompleteBody.model_fields.keys()


EXAMPLE = {"upload_id": "01KAF8Z400W3RYVKE83BB3HAFH", "status": "staged", "size": 1}


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        ({**EXAMPLE, "other": 1}, "application/json", 200),
        ({**EXAMPLE, "status": "lost"}, "application/json", 200),
        ({"status": "staged", "size": 1}, "application/json", 200),
        (EXAMPLE, "text/plain", 200),
        (EXAMPLE, "application/json", 418),
        (problems.body(problems.RequestError("no_thumbnail", "m")), "application/problem+json", 404),
        ({**problems.body(problems.RequestError("not_found", "m")), "status": 409}, "application/problem+json", 404),
    ],
)
def test_the_tests_own_judge_refuses(body: dict[str, Any], media_type: str, status: int) -> None:
    """A field too many or too few, another value, type or status, another route's code."""
    event = {"routeKey": "POST /v1/uploads/{id}/complete"}
    answer = {"statusCode": status, "headers": {"content-type": media_type}, "body": json.dumps(body)}
    with pytest.raises(AssertionError):
        contract.check(event, answer)
    good = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(EXAMPLE)}
    contract.check(event, good)


def test_the_tests_own_judge_refuses_what_lambda_cannot_answer() -> None:
    """6 MB."""
    body = json.dumps({**EXAMPLE, "upload_id": "0" * (6 << 20)})
    with pytest.raises(AssertionError):
        contract.check(
            {"routeKey": "POST /v1/uploads/{id}/complete"},
            {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body},
        )


@pytest.mark.parametrize(
    "digest", ["A" * 43 + "=", "A" * 43 + "B", "A" * 42 + "B=", "", "=" * 44, "é" * 44, "A" * 64, "g" * 64, "A" * 44]
)
def test_digests_are_described_as_they_are_taken(digest: str) -> None:
    """The pattern of the description and the validator agree."""
    from heavylift.api.bodies import ManifestBody, parse

    schema = {
        "$ref": "#/components/schemas/ManifestBody",
        "components": {"schemas": DOCUMENT["components"]["schemas"]},
    }
    body = {"entries": [{"n": 1, "name": "a", "size": 1, "sha256": digest}]}
    described = jsonschema_rs.Draft202012Validator(schema).is_valid(body)
    try:
        parse(ManifestBody, body)
        taken = True
    except problems.RequestError:
        taken = False
    assert taken is described
