"""Idempotency-Key: one request's work is done once, whatever is repeated, killed half-way or sent twice at a time."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from heavylift import queue
from heavylift.limits import IDEMPOTENCY_DAYS, IDEMPOTENCY_LEASE_S
from infra import topology
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed
from tests.doubles.samples import PICTURE
from tests.doubles.world import STAGING, World

Worlds = Callable[[], World]
by_disturbance = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
DIGEST = base64.b64encode(sha256(b"a").digest()).decode()
FILES = {
    "files": [
        {"client_id": "small", "name": "a.txt", "size": 1, "sha256": DIGEST},
        {"client_id": "large", "name": "b.bin", "size": 1_000},
        {"client_id": "bad", "name": "c.html", "size": 1, "type": "text/html"},
        {"client_id": "larger", "name": "d.bin", "size": 2_000},
    ]
}
BATCH = {"kind": "other", "total": 3}


def post(
    world: World, function: str, route: str, body: Any, key: str | None = "k1", file_id: str = "", **more: Any
) -> tuple[int, dict[str, Any]]:
    answer = answer_of(world, function, route, body, key, file_id, **more)
    return answer["statusCode"], json.loads(answer["body"])


def answer_of(
    world: World, function: str, route: str, body: Any, key: str | None, file_id: str = "", **more: Any
) -> dict[str, Any]:
    path = {"id": file_id} if file_id else None
    headers = {"idempotency-key": key} if key is not None else None
    return world.answer(function, "POST", route, body=body, path=path, headers=headers, **more)


def initiate(world: World, body: Any = FILES, key: str | None = "k1", **more: Any) -> tuple[int, dict[str, Any]]:
    return post(world, "initiate", "/v1/uploads", body, key, **more)


def begin(world: World, body: Any = BATCH, key: str | None = "k1", **more: Any) -> tuple[int, dict[str, Any]]:
    return post(world, "initiate", "/v1/batches", body, key, **more)


def ids_of(body: dict[str, Any]) -> dict[str, str | None]:
    return {one["client_id"]: one.get("upload_id") for one in body["uploads"]}


def records_in(world: World) -> set[str]:
    return {pk.rpartition("#")[2] for pk, sk in world.table.items if sk == "F"}


def rows_in(world: World) -> list[dict[str, Any]]:
    return [item for (pk, _), item in world.table.items.items() if pk.endswith("#IDEM")]


def check_once(world: World, body: dict[str, Any]) -> None:
    """One session for each file that could be taken, and one upload in S3 for each large one."""
    assert [one["client_id"] for one in body["uploads"]] == ["small", "large", "bad", "larger"]
    assert records_in(world) == {one["upload_id"] for one in body["uploads"] if "upload_id" in one}
    assert body["uploads"][2]["problem"]["code"] == "type_not_allowed"
    for one in body["uploads"]:
        if one.get("mode") == "multipart":
            assert world.record(one["upload_id"]).s3_upload_id in world.s3.uploads


def test_a_repeat_makes_nothing_and_signs_anew(desk: World) -> None:
    """The same ids and plan, with a URL of its own that lives as long as any."""
    status, first = initiate(desk)
    uploads = dict(desk.s3.uploads)
    desk.clock.advance(3_600)
    again_status, again = initiate(desk)

    assert (status, again_status) == (201, 201)
    assert ids_of(again) == ids_of(first)
    assert dict(desk.s3.uploads) == uploads
    assert again["uploads"][0]["put"]["url"] != first["uploads"][0]["put"]["url"]
    assert again["uploads"][0]["put"]["expires_at"] > first["uploads"][0]["put"]["expires_at"]
    for one, other in zip(first["uploads"], again["uploads"], strict=True):
        assert {name: value for name, value in one.items() if name != "put"} == {
            name: value for name, value in other.items() if name != "put"
        }


def test_ids_sort_in_the_order_asked_for(world: World) -> None:
    """What one call makes lies in the lists as the caller named it."""
    _, body = initiate(world, {"files": [{"name": f"{n}.txt", "size": n} for n in range(50)]}, key=None)
    ids = [one["upload_id"] for one in body["uploads"]]

    assert ids == sorted(set(ids))


def test_the_row_holds_no_url_and_no_name(world: World) -> None:
    """A hash of the request and the ids: nothing that signs, nothing of the files."""
    initiate(world, key="secret-key")
    (row,) = rows_in(world)

    assert set(row) == {"pk", "sk", "request", "ids", "began", "token", "lease_until", "done", "ttl"}
    text = json.dumps(row)
    assert "http" not in text
    assert "a.txt" not in text
    assert "secret-key" not in text


def test_without_a_key_nothing_is_kept(world: World) -> None:
    """Two calls, two sets of sessions, no row."""
    _, first = initiate(world, key=None)
    _, second = initiate(world, key=None)

    assert not {*ids_of(first).values()} - {None} & {*ids_of(second).values()}
    assert len(records_in(world)) == 6
    assert rows_in(world) == []


@pytest.mark.parametrize(
    ("function", "route", "body"),
    [
        ("initiate", "/v1/uploads", {"files": [{"name": "other", "size": 1}]}),
        ("initiate", "/v1/batches", BATCH),
    ],
)
def test_the_same_key_with_another_request_is_422(world: World, function: str, route: str, body: Any) -> None:
    """Another body, or another route; nothing is made of it, and the first request's repeat still works."""
    _, first = initiate(world)
    before = len(world.table.items)
    status, problem = post(world, function, route, body)

    assert (status, problem["code"], problem["retryable"]) == (422, "idempotency_key_reused", False)
    assert len(world.table.items) == before
    assert ids_of(initiate(world)[1]) == ids_of(first)


def test_the_same_json_in_other_words_is_the_same_request(world: World) -> None:
    """White space and the order of members say nothing."""
    _, first = initiate(world)
    raw = json.dumps({"files": [dict(reversed(one.items())) for one in FILES["files"]]}, indent=3)
    event_body = world.answer("initiate", "POST", "/v1/uploads", raw_body=raw, headers={"idempotency-key": "k1"})

    assert ids_of(json.loads(event_body["body"])) == ids_of(first)


def test_keys_belong_to_tenant_and_user(world: World) -> None:
    """The same text of another tenant, or of another user, is another key."""
    found = [initiate(world)[1], initiate(world, tenant="globex")[1], initiate(world, user="user-2")[1]]

    assert len({one for body in found for one in ids_of(body).values() if one}) == 9


@pytest.mark.parametrize("key", ["", "  ", "x" * 256])
def test_a_key_that_is_none_is_422(world: World, key: str) -> None:
    """Empty or longer than 255 characters; nothing is made."""
    status, problem = initiate(world, key=key)

    assert (status, problem["code"], problem["parameter"]) == (422, "invalid_parameter", "Idempotency-Key")
    assert records_in(world) == set()


@pytest.mark.parametrize("key", ["x" * 255, "é" * 255, "\ud800", '"quoted"', "a\tb"])
def test_any_text_is_a_key(world: World, key: str) -> None:
    """A key is opaque."""
    assert ids_of(initiate(world, key=key)[1]) == ids_of(initiate(world, key=key)[1])


def test_an_expired_row_counts_as_none(desk: World) -> None:
    """Every read looks at the time itself: the table removes expired items days later."""
    _, first = initiate(desk)
    desk.clock.advance(IDEMPOTENCY_DAYS * 86_400 + 2)
    status, second = initiate(desk)

    assert status == 201
    assert not {*ids_of(first).values()} - {None} & {*ids_of(second).values()}


def test_a_request_that_has_to_change_frees_its_key(desk: World) -> None:
    """A 409 of complete, mended by the missing parts, is asked again under the same key."""
    file_id = desk.initiate(PICTURE.name, PICTURE.data)
    route = "/v1/uploads/{id}/complete"
    assert post(desk, "complete", route, {}, "c", file_id)[1]["code"] == "parts_missing"
    desk.put(file_id, PICTURE.data)
    assert post(desk, "complete", route, {"parts": []}, "c", file_id)[0] == 200
    assert post(desk, "complete", route, {"parts": []}, "c", file_id)[0] == 200
    assert post(desk, "complete", route, {}, "c", file_id)[1]["code"] == "idempotency_key_reused"


def killed(call: Callable[..., tuple[int, Any]], *given: Any) -> tuple[int, Any]:
    try:
        return call(*given)
    except Killed:
        return 0, None


def later(world: World, act: Callable[..., tuple[int, dict[str, Any]]], *arguments: Any) -> dict[str, Any]:
    """The answer of a repeat. Where the first call could not give its key back, the key's lease has to pass first."""
    status, body = act(world, *arguments)
    if status == 409:
        assert body["code"] == "idempotency_in_flight"
        world.clock.advance(IDEMPOTENCY_LEASE_S + 1)
        status, body = act(world, *arguments)
    assert status < 300, body
    return body


def calls_of(worlds: Worlds, act: Callable[[World], object]) -> int:
    world = worlds()
    act(world)
    return len(world.gate.calls)


@by_disturbance
def test_initiate_disturbed_at_any_call_makes_each_session_once(
    worlds: Worlds, disturb: Callable[[int], Around]
) -> None:
    """Killed before or after any call, or with its answer lost: the repeat makes what is missing, and no second one."""
    total = calls_of(worlds, initiate)
    assert total > 6
    for number in range(1, total + 1):
        world = worlds()
        world.gate.restart(disturb(number))
        status, body = killed(initiate, world)
        world.gate.around = None
        if status != 201:
            made = records_in(world)
            body = later(world, initiate)
            assert made <= records_in(world)
        if any(one.get("problem", {}).get("code") == "aws_unavailable" for one in body["uploads"]):
            body = later(world, initiate)  # a file that S3 did not take: the repeat takes it
        check_once(world, body)
        assert ids_of(later(world, initiate)) == ids_of(body)
        # What a kill left open in S3 belongs to no record, and goes.
        world.clock.advance(901)
        world.sweep()
        assert len(world.s3.uploads) == 2
        check_once(world, initiate(world)[1])


@by_disturbance
def test_a_batch_disturbed_at_any_call_is_begun_once(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """The same for POST /v1/batches, and its policy is for the same batch."""
    total = calls_of(worlds, begin)
    for number in range(1, total + 1):
        world = worlds()
        world.gate.restart(disturb(number))
        status, body = killed(begin, world)
        world.gate.around = None
        if status != 201:
            world.clock.advance(IDEMPOTENCY_LEASE_S + 1)
            status, body = begin(world)
        assert status == 201, body
        assert [pk for pk, sk in world.table.items if sk == "B"] == [f"T#acme#B#{body['batch_id']}"]
        again = later(world, begin)
        assert again["batch_id"] == body["batch_id"]
        assert again["policy"]["fields"]["key"] == body["policy"]["fields"]["key"]


@by_disturbance
def test_retry_disturbed_at_any_call_is_one_retry(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """The file is looked at again once, ends once more, and a late repeat does not start it a third time."""

    def rejected(world: World) -> str:
        file_id = world.initiate("x.png", b"text")
        world.put(file_id, b"text")
        world.pump()
        assert world.status(file_id) == "rejected"
        return file_id

    def retry(world: World, file_id: str) -> tuple[int, dict[str, Any]]:
        return post(world, "complete", "/v1/uploads/{id}/retry", {}, "r", file_id)

    world = worlds()
    file_id = rejected(world)
    world.gate.restart()
    retry(world, file_id)
    total = len(world.gate.calls)
    for number in range(1, total + 1):
        world = worlds()
        file_id = rejected(world)
        world.gate.restart(disturb(number))
        status, _ = killed(retry, world, file_id)
        world.gate.around = None
        if status != 202:
            world.clock.advance(IDEMPOTENCY_LEASE_S + 1)
            assert retry(world, file_id)[0] == 202
        world.pump()
        world.clock.advance(3_600)
        assert retry(world, file_id) == (202, {"upload_id": file_id, "status": "rejected"})
        world.pump()
        events = [entry["event"] for entry in world.record(file_id).events]
        assert events.count("retry_validation") == 1
        assert events.count("reject") == 2


@by_disturbance
def test_complete_disturbed_at_any_call_joins_once(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """complete is the same however often it is asked; the key changes nothing of that."""

    def prepared(world: World) -> str:
        file_id = world.initiate(PICTURE.name, PICTURE.data)
        world.put(file_id, PICTURE.data)
        world.gate.restart()
        return file_id

    def complete(world: World, file_id: str) -> tuple[int, dict[str, Any]]:
        return post(world, "complete", "/v1/uploads/{id}/complete", {}, "c", file_id)

    world = worlds()
    complete(world, prepared(world))
    for number in range(1, len(world.gate.calls) + 1):
        world = worlds()
        file_id = prepared(world)
        world.gate.restart(disturb(number))
        status, _ = killed(complete, world, file_id)
        world.gate.around = None
        if status != 200:
            world.clock.advance(IDEMPOTENCY_LEASE_S + 1)
            status, body = complete(world, file_id)
            assert status == 200, body
        assert world.s3.versions_made[STAGING, f"in/acme/{file_id}"] == 1
        assert later(world, complete, file_id)["status"] == "staged"


def meanwhile(number: int, act: Callable[[], Any], found: list[Any]) -> Around:
    """Before call ``number`` goes out, ``act`` runs through; its result is put into ``found``."""
    lock = threading.Lock()
    begun: list[int] = []

    def around(call: Call, run: Callable[[], Any]) -> Any:
        with lock:
            mine = call.number == number and not begun
            if mine:
                begun.append(number)
        if mine:
            found.append(act())
        return run()

    return around


def test_two_at_once_are_one(worlds: Worlds) -> None:
    """While the first is at work, at any of its calls, the second is 409 with Retry-After; then it is a repeat."""
    total = calls_of(worlds, initiate)
    seen = set()
    for number in range(1, total + 1):
        world = worlds()
        inner: list[dict[str, Any]] = []
        act = functools.partial(answer_of, world, "initiate", "/v1/uploads", FILES, "k1")
        world.gate.restart(meanwhile(number, act, inner))
        status, body = initiate(world)
        world.gate.around = None
        other = json.loads(inner[0]["body"])
        seen.add((inner[0]["statusCode"], status))
        if inner[0]["statusCode"] == 409:
            assert other["code"] == "idempotency_in_flight"
            assert other["retryable"] is True
            assert int(inner[0]["headers"]["retry-after"]) >= 1
        if status == 201:
            check_once(world, body)
        assert len(world.s3.uploads) == 2
        assert ids_of(initiate(world)[1]) == ids_of(body if status == 201 else other)
    assert (409, 201) in seen


def test_a_run_that_slept_through_its_lease_makes_nothing_twice(worlds: Worlds) -> None:
    """Stopped at any call past its lease and taken over, it goes on: both answer with the same sessions."""

    def late(world: World) -> tuple[int, dict[str, Any]]:
        world.clock.advance(IDEMPOTENCY_LEASE_S + 1)
        return initiate(world)

    total = calls_of(worlds, initiate)
    for number in range(2, total + 1):
        world = worlds()
        inner: list[Any] = []
        world.gate.restart(meanwhile(number, functools.partial(late, world), inner))
        status, body = initiate(world)
        world.gate.around = None
        assert (status, inner[0][0]) == (201, 201)
        assert ids_of(body) == ids_of(inner[0][1])
        check_once(world, body)
        world.clock.advance(901)
        world.sweep()
        assert len(world.s3.uploads) == 2


def test_a_repeat_shows_what_became_of_it(world: World) -> None:
    """Files that were sent or cancelled meanwhile get no URL any more."""
    _, first = initiate(world)
    small = ids_of(first)["small"]
    assert small is not None
    world.cancel(small)
    _, again = initiate(world)

    assert ids_of(again) == ids_of(first)
    assert "put" in first["uploads"][0]
    assert "put" not in again["uploads"][0]


def test_a_lost_message_of_a_retry_is_sent_by_its_repeat(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the transition and the message, the repeat sends it: the sweeper need not."""
    file_id = world.initiate("x.png", b"text")
    world.put(file_id, b"text")
    world.pump()
    sent: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(queue, "send", lambda *given: (_ for _ in ()).throw(Killed("before the message")))
        assert killed(post, world, "complete", "/v1/uploads/{id}/retry", {}, "r", file_id)[0] == 0
    assert world.status(file_id) == "staged"
    world.clock.advance(IDEMPOTENCY_LEASE_S + 1)
    monkeypatch.setattr(queue, "send", lambda *given: sent.append(given))
    assert post(world, "complete", "/v1/uploads/{id}/retry", {}, "r", file_id)[0] == 202
    assert [name for name, _ in sent] == ["validate"]


def test_what_a_key_costs(world: World) -> None:
    """Two writes of the table a call, whatever its size; a call without a key has none of them."""
    initiate(world)
    with_key = [call for call in world.gate.calls if call.operation == "update_item" and "#IDEM" in str(call.arguments)]
    world.gate.restart()
    initiate(world, key=None)

    assert len(with_key) == 2
    assert not [call for call in world.gate.calls if "#IDEM" in str(call.arguments)]


def test_the_tables_ttl_removes_rows(world: World) -> None:
    """The attribute is the table's, in whole seconds, a day ahead."""
    initiate(world)
    (row,) = rows_in(world)

    assert float(row[topology.TABLE.ttl_attribute]["N"]) == pytest.approx(world.clock.now + 86_400, abs=2)
    assert "." not in row["ttl"]["N"]
