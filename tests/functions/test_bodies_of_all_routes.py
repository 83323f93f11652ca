"""Whatever a caller sends, to any route: an answer as described, and never a fault of ours.

``World`` holds every answer to the OpenAPI description (tests/doubles/contract.py): status, code, fields.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import topology
from tests.doubles import events
from tests.doubles.batches import BatchClient, sign_reads
from tests.doubles.samples import PICTURE
from tests.doubles.world import World, handler_of

ROUTES = [
    (function.name, route)
    for function in topology.FUNCTIONS
    for route in function.routes
    # DICOMweb's bodies and queries are its own: test_dicomweb, test_stow.
    if route.path.startswith("/v1/") and function.name != "dicomweb"
]
WRITES = [(name, route) for name, route in ROUTES if route.method in {"POST", "PUT"}]
QUERIED = [(name, route) for name, route in ROUTES if route.method in {"GET", "DELETE"}]
MEMBERS = (
    "files", "parts", "entries", "n", "name", "size", "sha256", "part_number", "checksum", "rules", "metadata", "kind",
    "total", "mode", "facility", "force", "batch_id", "client_id", "fingerprint", "max_part_size", "ttl",
    "relative_path", "type",
)  # fmt: skip
PARAMETERS = (
    "parts", "sha256", "status", "kind", "fingerprint", "batch_id", "logical_id", "limit", "next_token", "hours_old",
    "redirect", "ttl", "disposition", "wait", "tenant",
)  # fmt: skip
WORDS = ("", "sha256", "none", "post", "image", "true", "failed", "0", "-1", "1e400", "nan", "A" * 43 + "=", "\x00")
SETTINGS = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)
texts = st.sampled_from(WORDS) | st.text(max_size=40)


def label(value: Any) -> str:
    return f"{value.method} {value.path}" if isinstance(value, topology.Route) else str(value)


@pytest.fixture
def ids(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Ids of things that exist, by the kind of path: their routes get past the look-up."""
    sign_reads(world, monkeypatch)
    client = BatchClient(world, {1: ("a.txt", b"a"), 2: ("b.txt", b"b")})
    client.begin()
    client.list([1])
    return {"batches": client.batch_id, "uploads": world.initiate(PICTURE.name, PICTURE.data), "files": ""}


def send(name: str, route: topology.Route, ids: dict[str, str], **given: Any) -> tuple[int, dict[str, Any]]:
    kind = route.path.split("/")[2]
    path = {"id": ids.get(kind) or ids["uploads"], "n": "1", "size": "256", "page": "1"}
    used = {key: value for key, value in path.items() if "{" + key + "}" in route.path}
    encoded = given.pop("encoded", None)
    event = events.http(route.method, route.path, path={**used, **given.pop("path", {})}, **given)
    if encoded is not None:
        event["body"], event["isBase64Encoded"] = encoded, True
    answer = handler_of(name)(event, events.Context(name, 29))
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize(("name", "route"), WRITES, ids=label)
def test_any_json_is_answered(world: World, ids: dict[str, str], name: str, route: topology.Route) -> None:
    """No 5xx, and what is refused is refused as described."""

    @SETTINGS
    @given(json_values)
    def check(body: Any) -> None:
        assert send(name, route, ids, body=body)[0] < 500

    check()


@pytest.mark.parametrize(("name", "route"), WRITES, ids=label)
def test_any_bytes_are_answered(world: World, ids: dict[str, str], name: str, route: topology.Route) -> None:
    """Other media types arrive in base64; what is no JSON is 400 whatever its type says, what is no base64 too."""

    @SETTINGS
    @given(st.binary(max_size=60) | st.sampled_from([b"\xff\xfe{}", b"[" * 100_000, b'{"a":NaN}', b"--x\r\n"]))
    def check(raw: bytes) -> None:
        status, body = send(name, route, ids, encoded=base64.b64encode(raw).decode())
        assert status < 500
        try:
            json.loads(raw.decode())
        except (ValueError, RecursionError):
            if raw.strip():
                assert (status, body["code"]) == (400, "not_json")

    check()
    assert send(name, route, ids, encoded="no base64!")[1]["code"] == "not_json"


@pytest.mark.parametrize(("name", "route"), WRITES, ids=label)
@pytest.mark.parametrize("raw", ["{", "nul", '{"a":NaN}', "\ud800", '"\\ud800"', "[" * 200_000, "1e400", "{} {}"])
def test_texts_that_are_no_body(world: World, ids: dict[str, str], name: str, route: topology.Route, raw: str) -> None:
    """400 or 422, never a crash, however deep or odd."""
    status, body = send(name, route, ids, raw_body=raw)
    assert (status, body["code"]) in {(400, "not_json"), (422, "invalid_body")}


@pytest.mark.parametrize(("name", "route"), QUERIED, ids=label)
def test_any_query_is_answered(world: World, ids: dict[str, str], name: str, route: topology.Route) -> None:
    """No 5xx for any value of any parameter."""

    @SETTINGS
    @given(st.dictionaries(st.sampled_from(PARAMETERS), texts, max_size=4))
    def check(query: dict[str, str]) -> None:
        status, _ = send(name, route, ids, query={**query, "wait": "0"} if "wait" in query else query)
        assert status < 500

    check()


@pytest.mark.parametrize(("name", "route"), [one for one in ROUTES if "{" in one[1].path], ids=label)
def test_any_path_is_answered(world: World, ids: dict[str, str], name: str, route: topology.Route) -> None:
    """Numbers and sizes of a path that are none are the caller's fault."""
    named = [one for one in ("id", "n", "size", "page") if "{" + one + "}" in route.path]

    @SETTINGS
    @given(st.dictionaries(st.sampled_from(named), texts.filter(bool), min_size=1))
    def check(path: dict[str, str]) -> None:
        assert send(name, route, ids, path=path, body={})[0] < 500

    check()


def found_once() -> Iterator[Any]:
    """(function, method, path, what is given, status, code): each was a fault once, or was taken and should not be."""
    sign, batch, upload = "sign", "/v1/batches/{id}", "/v1/uploads/{id}"
    digest = "A" * 43 + "="
    yield sign, "POST", f"{batch}/policy", {"body": {"checksum": {}}}, 422, "invalid_body"
    yield sign, "POST", f"{batch}/policy", {"body": {"checksum": []}}, 422, "invalid_body"
    yield sign, "POST", f"{batch}/urls", {"body": {"n": [1.5]}}, 422, "invalid_body"
    yield sign, "POST", f"{batch}/urls", {"body": {"n": [True]}}, 422, "invalid_body"
    yield sign, "POST", f"{batch}/urls", {"body": {"n": [1.0, 1]}}, 200, None
    part = {"part_number": 1, "sha256": digest}
    yield sign, "POST", f"{upload}/parts", {"body": {"parts": [{**part, "size": False}]}}, 422, "part_size_mismatch"
    yield sign, "POST", f"{upload}/parts", {"body": {"parts": [{**part, "size": []}]}}, 422, "part_size_mismatch"
    yield sign, "POST", f"{upload}/parts", {"body": {"parts": [{**part, "part_number": 1.0}]}}, 200, None
    # Base64 has more than one text for 32 bytes; S3 compares the text.
    other = {**part, "sha256": "A" * 42 + "B="}
    yield sign, "POST", f"{upload}/parts", {"body": {"parts": [other]}}, 422, "invalid_body"
    yield "complete", "POST", f"{upload}/complete", {"body": {"parts": [other]}}, 422, "invalid_body"
    yield "complete", "POST", f"{batch}/complete", {"raw_body": "null"}, 422, "invalid_body"
    yield "complete", "DELETE", "/v1/uploads", {"query": {"hours_old": "1e308"}}, 200, None
    yield "complete", "DELETE", "/v1/uploads", {"query": {"hours_old": "1e309"}}, 422, "invalid_parameter"
    yield "sessions", "GET", upload, {"query": {"parts": "1"}}, 422, "invalid_parameter"
    yield "sessions", "GET", "/v1/files", {"query": {"status": ""}}, 422, "invalid_parameter"
    yield "sessions", "GET", "/v1/files", {"query": {"kind": ""}}, 422, "invalid_parameter"
    yield "sessions", "GET", "/v1/files", {"query": {"batch_id": ""}}, 422, "invalid_parameter"
    yield "sessions", "GET", "/v1/files", {"query": {"fingerprint": ""}}, 422, "invalid_parameter"
    yield "sessions", "GET", "/v1/files", {"query": {"logical_id": "", "next_token": ""}}, 200, None
    twice = {"entries": [{"n": 1, "name": "a", "size": 1}] * 2}
    yield "initiate", "PUT", f"{batch}/manifest/{{page}}", {"body": twice}, 422, "invalid_body"
    yield "initiate", "POST", "/v1/uploads", {"body": {"files": [{"name": "a", "size": 5.0}]}}, 201, None
    yield "initiate", "POST", "/v1/uploads", {"body": {"files": [{"name": "a", "size": 5.5}]}}, 422, "invalid_body"
    yield "initiate", "POST", "/v1/uploads", {"body": {"files": [{"name": "a", "size": True}]}}, 422, "invalid_body"


@pytest.mark.parametrize(("name", "method", "path", "sent", "status", "code"), list(found_once()))
def test_found_by_generated_requests(
    world: World, ids: dict[str, str], name: str, method: str, path: str, sent: Any, status: int, code: str | None
) -> None:
    """And fixed."""
    answered, body = send(name, topology.Route(method, path), ids, **sent)

    assert (answered, body.get("code")) == (status, code), body


def test_a_link_that_is_neither_is_refused(world: World) -> None:
    """redirect and disposition have two values each."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    world.complete(file_id)
    world.pump()
    for query in ({"redirect": "no"}, {"disposition": "here"}, {"ttl": "0"}, {"ttl": "3601"}):
        status, body = world.call("sessions", "GET", "/v1/files/{id}/content", path={"id": file_id}, query=query)
        assert (status, body["code"]) == (422, "invalid_parameter")
