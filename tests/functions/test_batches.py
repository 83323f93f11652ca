"""Batches through the real handlers: from the first call to the last verdict, and every refusal on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from heavylift import settings as settings_module
from tests.doubles.batches import BatchClient, counts_of, sign_reads
from tests.doubles.gate import Call
from tests.doubles.samples import SMALL_PICTURE, png
from tests.doubles.world import STAGING, STORE, World

TEXT = b"hello, batch\n"


def texts(number: int, first: int = 1) -> dict[int, tuple[str, bytes]]:
    return {n: (f"note-{n}.txt", b"text %d\n" % n) for n in range(first, first + number)}


def begun(world: World, files: dict[int, tuple[str, bytes]], **body: Any) -> BatchClient:
    client = BatchClient(world, files)
    assert client.begin(**body)[0] == 201
    client.list()
    return client


def test_a_batch_of_every_kind(desk: World) -> None:
    """Small files by form, a large one by its own upload, a bad one among them: each ends, the batch ends once."""
    files = {
        1: ("a.txt", TEXT),
        2: ("b.csv", b"a,b\n1,2\n"),
        3: ("empty.txt", b""),
        4: ("bad.png", b"not a picture"),
        5: ("large.png", png()),
        6: (SMALL_PICTURE.name, SMALL_PICTURE.data),
    }
    client = begun(desk, files)
    client.send()
    desk.pump(copies=2)

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert view["final"] is True
    assert counts_of(view) == {
        "total": 6, "received": 6, "processed": 6, "succeeded": 5, "failed": 1, "skipped": 0, "duplicates": 0,
    }  # fmt: skip
    assert [(error["n"], error["code"], error["file_id"]) for error in view["errors"]] == [
        (4, "type_mismatch", client.file_id(4))
    ]
    assert view["warnings"] == []
    verdicts = client.verdicts()
    assert {n: line["verdict"] for n, line in verdicts.items()} == {
        1: "completed", 2: "completed", 3: "completed", 4: "rejected", 5: "completed", 6: "completed",
    }  # fmt: skip
    assert [kind for kind, _ in client.told()] == ["batch.completed"]
    assert set(desk.s3.buckets[STORE]) == {f"files/acme/{client.file_id(n)}" for n in (1, 2, 3, 5, 6)}
    assert set(desk.s3.buckets[STAGING]) == {client.key(4)}  # in quarantine
    # Closing a batch that has ended changes nothing.
    assert counts_of(client.complete()[1]) == counts_of(view)
    assert [kind for kind, _ in client.told()] == ["batch.completed"]


def test_counts_are_exact_at_every_look(world: World) -> None:
    """After each delivery: what the batch says is what the files' own records say."""
    client = begun(world, {**texts(7), 8: ("bad.png", b"text")})
    client.send()
    world.announce(copies=2)
    looks = 0
    while (message := world.queues.receive()) is not None:
        world.deliver(message)
        world.announce()
        states = [world.status(client.file_id(n)) for n in client.files if world_has(world, client.file_id(n))]
        view = client.look()
        assert view["received"] == len(states)
        assert view["succeeded"] == states.count("completed")
        assert view["failed"] == states.count("rejected")
        assert view["final"] is (view["processed"] == 8)
        looks += 1
    assert looks > 8
    assert client.look()["status"] == "completed_with_errors"


def world_has(world: World, file_id: str) -> bool:
    from heavylift import records

    key = records.item_key("acme", file_id)
    return (key["pk"], key["sk"]) in world.table.items


def test_the_end_needs_no_complete_and_no_sweeper(world: World) -> None:
    """When every file that was announced has its verdict, the batch has ended."""
    client = begun(world, texts(3))
    client.send()
    world.pump()

    assert client.look()["status"] == "completed"
    assert client.look()["message"] == "All 3 files processed."
    assert [kind for kind, _ in client.told()] == ["batch.completed"]


def test_completed_without_some(world: World) -> None:
    """What never arrived has failed and says so; what is on its way is waited for."""
    client = begun(world, texts(5))
    client.post(1)
    client.post(2)
    _, view = client.complete()
    assert view["status"] == "processing"
    assert (view["failed"], view["processed"]) == (3, 3)
    world.pump()

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert counts_of(view) == {
        "total": 5, "received": 2, "processed": 5, "succeeded": 2, "failed": 3, "skipped": 0, "duplicates": 0,
    }  # fmt: skip
    assert [(error["n"], error["code"], error["name"]) for error in view["errors"]] == [
        (n, "not_received", f"note-{n}.txt") for n in (3, 4, 5)
    ]
    assert client.verdicts()[3]["verdict"] == "failed"


def test_a_late_file_is_taken_while_the_batch_lives(world: World) -> None:
    """It was given up, and arrives before the end: its verdict counts. After the end it is deleted and told."""
    client = begun(world, texts(3))
    client.post(1)
    client.complete()
    client.post(2)
    world.announce(reverse=True)
    world.pump()

    view = client.look()
    assert (view["succeeded"], view["failed"]) == (2, 1)
    client.post(3)
    world.pump()
    view = client.look()
    assert (view["succeeded"], view["failed"]) == (2, 1)
    assert [(error["n"], error["code"]) for error in view["errors"]] == [
        (3, "not_received"),
        (3, "batch_completed_with_errors"),
    ]
    assert world.s3.buckets[STAGING] == {}


def test_files_that_were_never_listed(world: World) -> None:
    """total says five, the manifest names two: three have failed once the batch is completed."""
    client = BatchClient(world, texts(2))
    client.begin(total=5)
    client.list()
    client.send()
    world.pump()
    assert client.look()["final"] is False
    _, view = client.complete()

    assert view["status"] == "completed_with_errors"
    assert counts_of(view)["failed"] == 3
    assert [(error["code"], error["number"]) for error in view["errors"]] == [("not_listed", 3)]


def test_an_empty_batch_can_be_completed(world: World) -> None:
    """Nothing was listed, nothing was sent: all have failed."""
    client = BatchClient(world, texts(2))
    client.begin()
    _, view = client.complete()

    assert (view["status"], view["failed"], view["final"]) == ("completed_with_errors", 2, True)


def test_a_file_is_faster_than_its_page(world: World) -> None:
    """Pages and uploads race: nothing is lost, nothing is refused."""
    client = BatchClient(world, texts(4))
    client.begin()
    client.list([1, 2], page=1)
    client.send()
    world.pump(wait=False)
    assert client.look()["received"] == 2
    client.list([3, 4], page=2)
    world.pump()

    assert client.look()["status"] == "completed"
    assert client.look()["errors"] == []


def test_a_page_that_never_comes(world: World) -> None:
    """Messages give up before they are dead letters; the object is told as soon as the batch is closed."""
    client = BatchClient(world, texts(2))
    client.begin()
    client.list([1])
    client.send()
    world.pump()
    assert world.queues.dead == []
    client.complete()
    world.clock.advance(7_200)
    world.sweep()
    world.pump()

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert {error["code"] for error in view["errors"]} == {"not_listed", "not_in_manifest"}
    assert world.s3.buckets[STAGING] == {}


def test_objects_that_no_manifest_names(world: World) -> None:
    """They are deleted and told, with their number; the batch does not wait for them."""
    client = begun(world, texts(2))
    world.s3.put_object(Bucket=STAGING, Key=client.key(7), Body=b"stray")
    world.s3.put_object(Bucket=STAGING, Key="in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA/1", Body=b"no batch")
    for name in ("007", "holiday.jpg", "a/1"):
        world.s3.put_object(Bucket=STAGING, Key=f"in/acme/{client.batch_id}/{name}", Body=b"no number")
    world.pump()
    assert world.s3.buckets[STAGING] == {}
    client.send()
    world.pump()

    view = client.look()
    assert view["status"] == "completed"
    assert [(error.get("n"), error["code"]) for error in view["errors"]] == [
        (7, "not_in_manifest"),
        (None, "no_number"),
    ]
    assert "holiday" not in str(view)


def test_another_size_or_digest_than_announced(world: World) -> None:
    """Rejected with its code; S3's proof and our own reading find it alike."""
    from hashlib import sha256

    files = texts(4)
    client = BatchClient(world, files)
    client.begin()
    entries = client.entries()
    for entry in entries[1:]:
        entry["sha256"] = sha256(files[entry["n"]][1]).hexdigest()
    assert client.put_page(1, entries)[0] == 200
    client.post(1, b"another size altogether")
    client.post(2, b"text X\n", digest=True)
    client.post(3, b"text X\n")
    client.post(4)
    world.pump()

    verdicts = client.verdicts()
    assert [(verdicts[n]["verdict"], verdicts[n].get("code")) for n in sorted(verdicts)] == [
        ("rejected", "size_mismatch"),
        ("rejected", "sha256_mismatch"),
        ("rejected", "sha256_mismatch"),
        ("completed", None),
    ]
    record = world.record(client.file_id(4))
    assert record.checksums["sha256"] == sha256(files[4][1]).hexdigest()
    assert record.checksums["sha256_proven"] is True


def test_a_retry_takes_the_verdict_back(world: World) -> None:
    """The batch is under way again, and ends again when the file has."""
    client = begun(world, {1: ("bad.png", b"text"), 2: ("a.txt", TEXT)})
    client.send()
    world.pump()
    assert client.look()["failed"] == 1
    assert world.retry(client.file_id(1), force=True)[0] == 202
    view = client.look()
    assert (view["status"], view["processed"], view["final"]) == ("processing", 1, False)
    world.pump()

    view = client.look()
    assert (view["status"], view["processed"], view["failed"]) == ("completed_with_errors", 2, 1)
    assert [kind for kind, _ in client.told()] == ["batch.completed", "batch.completed"]
    assert len({id for _, id in client.told()}) == 2


def test_a_deleted_file_keeps_its_verdict(world: World) -> None:
    """Deleting a file of the store changes no count of its batch."""
    client = begun(world, texts(2))
    client.send()
    world.pump()
    before = counts_of(client.look())
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": client.file_id(1)})

    assert counts_of(client.look()) == before
    assert client.look()["final"] is True


def test_a_member_that_is_cancelled_is_skipped(world: World) -> None:
    """Cancelled by itself, its batch goes on without it."""
    client = begun(world, {**texts(1), 2: ("large.png", png())})
    _, upload = client.begin_upload(2)
    assert world.cancel(upload["upload_id"])[0] == 200
    client.post(1)
    world.pump()

    view = client.look()
    assert (view["status"], view["succeeded"], view["skipped"]) == ("completed", 1, 1)


def test_a_cancelled_batch_is_forgotten_after_90_days(world: World) -> None:
    """With all that was kept of it: manifest, marks, strays, its members' records; until then it can be looked at."""
    client = begun(world, texts(3))
    client.post(1)
    world.pump()
    world.s3.put_object(Bucket=STAGING, Key=client.key(7), Body=b"stray")
    world.pump()
    assert client.cancel()[0] == 200

    def kept() -> set[str]:
        return {sk for pk, sk in world.table.items if pk.endswith(f"#B#{client.batch_id}")}

    assert kept() >= {"B", "C#0000", "M#0000", "X"}
    for _ in range(3):
        world.clock.advance(29 * 86_400)
        world.sweep()
    assert client.look()["status"] == "cancelled"
    for _ in range(2):
        world.clock.advance(3 * 86_400)
        world.sweep()
    assert {sk[:1] for sk in kept()} == {"F"}  # the file that became one of the store's before the cancel
    assert world.call("sessions", "GET", "/v1/batches/{id}", path={"id": client.batch_id})[0] == 404


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"total": 0}, "total"),
        ({"total": 100_001}, "total"),
        ({"total": "5"}, "total"),
        ({}, "total"),
        ({"total": 1, "kind": "movie"}, "kind"),
        ({"total": 1, "mode": "tus"}, "mode"),
        ({"total": 1, "facility": "x" * 201}, "facility"),
        ({"total": 1, "metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"total": 1, "rules": []}, "rules"),
    ],
)
def test_what_is_no_batch(world: World, body: dict[str, Any], at: str) -> None:
    """422, naming the place; nothing is written."""
    status, problem = world.call("initiate", "POST", "/v1/batches", body=body)

    assert (status, problem["code"]) == (422, "invalid_body")
    assert problem["errors"][0]["at"] == at
    assert not any(sk == "B" for _, sk in world.table.items)


def test_the_facility_is_the_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the token names one, a body may repeat it and not change it; FACILITY_CLAIM names the claim."""

    def begin(facility: str | None, claims: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        body = {"kind": "other", "total": 1, **({"facility": facility} if facility else {})}
        return world.call("initiate", "POST", "/v1/batches", body=body, claims=claims)

    def shown(answer: tuple[int, dict[str, Any]]) -> Any:
        path = {"id": answer[1]["batch_id"]}
        return world.call("sessions", "GET", "/v1/batches/{id}", path=path)[1].get("facility")

    assert shown(begin("north", {})) == "north"
    assert shown(begin(None, {})) is None
    assert shown(begin(None, {"facility": "south"})) == "south"
    assert shown(begin("south", {"facility": "south"})) == "south"
    status, problem = begin("north", {"facility": "south"})
    assert (status, problem["code"]) == (403, "facility_not_allowed")
    assert begin(None, {"facility": ["a", "b"]})[1]["code"] == "facility_not_allowed"
    monkeypatch.setenv("FACILITY_CLAIM", "custom:clinic")
    settings_module.settings.cache_clear()
    assert shown(begin("north", {"facility": "south"})) == "north"
    assert shown(begin(None, {"custom:clinic": "east"})) == "east"


@pytest.mark.parametrize(
    ("page", "entries", "status", "code"),
    [
        ("x", [{"n": 1, "name": "a", "size": 1}], 422, "invalid_parameter"),
        ("-1", [{"n": 1, "name": "a", "size": 1}], 422, "invalid_parameter"),
        ("1000", [{"n": 1, "name": "a", "size": 1}], 422, "invalid_parameter"),
        ("1", [], 422, "invalid_body"),
        ("1", None, 422, "invalid_body"),
        ("1", [{"n": 1, "name": "a"}], 422, "invalid_body"),
        ("1", [{"n": -1, "name": "a", "size": 1}], 422, "invalid_body"),
        ("1", [{"n": 1_000_000, "name": "a", "size": 1}], 422, "invalid_body"),
        ("1", [{"n": 1, "name": "", "size": 1}], 422, "invalid_body"),
        ("1", [{"n": 1, "name": "a", "size": -1}], 422, "invalid_body"),
        ("1", [{"n": 1, "name": "a", "size": 1, "sha256": "0a"}], 422, "invalid_body"),
        ("1", [{"n": 1, "name": "a", "size": 1}] * 2, 422, "invalid_body"),
        ("1", [{"n": n, "name": "a", "size": 1} for n in range(4)], 409, "manifest_full"),
        ("1", [{"n": n, "name": "a", "size": 1} for n in range(5_001)], 422, "invalid_body"),
        ("2", [{"n": 9, "name": "other", "size": 1}], 409, "manifest_conflict"),
        ("1", [{"n": 9, "name": "first", "size": 1}], 409, "manifest_conflict"),
    ],
)
def test_what_is_no_page(world: World, page: str, entries: Any, status: int, code: str) -> None:
    """Nothing of it is kept; what was there stays."""
    client = BatchClient(world, texts(3))
    client.begin()
    assert client.put_page(2, [{"n": 9, "name": "first", "size": 1}])[0] == 200
    answered, problem = world.call(
        "initiate",
        "PUT",
        "/v1/batches/{id}/manifest/{page}",
        path={"id": client.batch_id, "page": page},
        body={"entries": entries},
    )

    assert (answered, problem["code"]) == (status, code)
    assert [(n, line["name"]) for n, line in client.verdicts().items()] == [(9, "first")]


def test_a_page_again(desk: World) -> None:
    """The same content, in any order or as a bare list, changes nothing and writes nothing."""
    client = BatchClient(desk, texts(250))
    client.begin()
    entries = client.entries()
    assert client.put_page(0, entries)[1]["listed"] == 250
    desk.gate.restart()
    assert client.put_page(0, entries[::-1])[1] == {
        "batch_id": client.batch_id, "page": 0, "entries": 250, "listed": 250, "total": 250,
    }  # fmt: skip
    path = {"id": client.batch_id, "page": "0"}
    assert desk.call("initiate", "PUT", "/v1/batches/{id}/manifest/{page}", path=path, body=entries)[0] == 200
    assert {call.operation for call in desk.gate.calls} == {"get_item"}
    assert len(client.verdicts()) == 250


def test_a_large_manifest_is_few_requests(world: World) -> None:
    """5 000 entries: 50 items, each read and written once, and the batch."""
    client = BatchClient(world, texts(5_000, first=0))
    client.begin()
    world.gate.restart()
    client.list()
    counts = Counter(call.operation for call in world.gate.calls if call.service == "dynamodb")
    assert counts["put_item"] == 50
    assert counts["get_item"] <= 54
    assert counts["update_item"] == 1
    assert max(sum(map(len, map(str, item.values()))) for item in world.table.items.values()) < 40_000


def test_work_per_member_is_a_constant(worlds: Callable[[], World]) -> None:
    """DynamoDB calls of a member's message: the same whether the batch has ten files or more than a hundred."""

    def calls(number: int) -> tuple[float, int]:
        world = worlds()
        client = begun(world, texts(number))
        client.send()
        world.announce()
        each = []
        while (message := world.queues.receive()) is not None:
            world.gate.restart()
            world.deliver(message)
            each.append(sum(call.service == "dynamodb" for call in world.gate.calls))
        assert client.look()["status"] == "completed"
        return sum(each) / number, max(each)

    few, most_of_few = calls(10)
    many, most_of_many = calls(130)
    assert many <= few
    assert most_of_many <= most_of_few
    assert most_of_few <= 26


def test_a_member_with_an_upload_of_its_own(desk: World) -> None:
    """The same session however often it is asked for; only what the manifest announces."""
    client = begun(desk, {1: ("large.png", png()), 2: ("a.txt", TEXT)}, metadata={"case": "7"})
    status, first = client.begin_upload(1, client_id="x")
    assert (status, first["upload_id"], first["mode"]) == (201, client.file_id(1), "multipart")
    assert client.begin_upload(1, client_id="x") == (201, first)
    assert len(desk.s3.uploads) == 1
    assert desk.record(client.file_id(1)).metadata == {"case": "7"}
    for entry, code in (
        ({"n": 3}, "not_in_manifest"),
        ({"size": 5}, "size_mismatch"),
        ({"batch_id": "01JD2Z3NDEKTSV4RRFFQ69G5FA"}, "not_found"),
        ({"batch_id": "x"}, "not_found"),
        ({"n": None}, "invalid_body"),
        ({"batch_id": None}, "invalid_body"),
    ):
        assert client.begin_upload(1, **entry)[1]["problem"]["code"] == code, entry
    client.complete()
    assert client.begin_upload(2)[1]["problem"]["code"] == "state_conflict"


def test_a_file_answers_from_the_manifest_on(world: World) -> None:
    """GET /v1/files/{id} before any byte has arrived: what was announced; an unlisted number is unknown."""
    client = begun(world, {7: ("scan 7.tif", b"x" * 20)}, kind="image", metadata={"case": "7"})
    get = lambda file_id: world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})  # noqa: E731
    status, body = get(client.file_id(7))

    assert status == 200
    assert {name: body[name] for name in ("file_id", "name", "size", "status", "final", "kind", "metadata")} == {
        "file_id": client.file_id(7), "name": "scan 7.tif", "size": 20, "status": "created", "final": False,
        "kind": "image", "metadata": {"case": "7"},
    }  # fmt: skip
    assert get(client.file_id(8))[0] == 404


def test_a_batchs_files_are_a_list(desk: World) -> None:
    """GET /v1/files?batch_id= has those that have arrived, by number, and pages as lists do; other filters hold."""
    client = begun(desk, {**texts(5), 6: ("bad.png", b"text")})
    desk.initiate("other.txt", b"x")
    client.send()
    desk.pump()
    found: list[int] = []
    query = {"batch_id": client.batch_id, "limit": "2"}
    while True:
        _, body = desk.call("sessions", "GET", "/v1/files", query=query)
        found += [int(item["file_id"][-6:]) for item in body["items"]]
        if not body["next_token"]:
            break
        query["next_token"] = body["next_token"]
    assert found == [1, 2, 3, 4, 5, 6]
    _, body = desk.call("sessions", "GET", "/v1/files", query={"batch_id": client.batch_id, "status": "failed"})
    assert [item["name"] for item in body["items"]] == ["bad.png"]


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf"])
def test_no_time_to_wait(world: World, wait: str) -> None:
    """A number of seconds, or 422."""
    client = begun(world, texts(1))
    path = {"id": client.batch_id}
    status, body = world.call("sessions", "GET", "/v1/batches/{id}", path=path, query={"wait": wait})
    assert (status, body["code"]) == (422, "invalid_parameter")


def test_waiting(world: World) -> None:
    """Until it has ended, 25 s at most; with the files of a small batch inside."""
    client = begun(world, texts(2))
    began = world.clock.now
    view = client.look(wait="9999")
    assert 25 <= world.clock.now - began < 27
    assert [line["verdict"] for line in view["files"]] == [None, None]
    client.send()

    def around(call: Call, run: Any) -> Any:
        world.gate.around = None
        world.pump()
        return run()

    world.gate.around = around
    began = world.clock.now
    view = client.look(wait="20")
    assert view["final"] is True
    assert world.clock.now - began < 5
    assert [line["verdict"] for line in view["files"]] == ["completed", "completed"]
    assert "files" not in client.look()


def test_rules_kind_and_metadata_are_the_batchs(world: World) -> None:
    """A member's record has what the batch was begun with; a declared kind is held against the content."""
    client = begun(world, texts(1), kind="image", rules={"max_file_size": 5}, metadata={"logical_id": "lot 9"})
    client.send()
    world.pump()
    record = world.record(client.file_id(1))

    assert (record.rules, record.metadata, record.logical_id) == (
        {"max_file_size": 5},
        {"logical_id": "lot 9"},
        "lot 9",
    )
    assert record.failure is not None
    assert record.failure["code"] == "type_mismatch"


def test_signed_urls_and_fresh_policies_go_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """sign reads what initiate wrote."""
    sign_reads(world, monkeypatch)
    client = begun(world, texts(3), mode="put")
    assert "policy" not in client.begun
    path = {"id": client.batch_id}
    status, body = world.call("sign", "POST", "/v1/batches/{id}/urls", path=path, body={"n": [1, 2, 3, 4]})
    assert status == 200
    assert [("url" in one, one.get("problem", {}).get("code")) for one in body["urls"]] == [
        (True, None), (True, None), (True, None), (False, "not_in_manifest"),
    ]  # fmt: skip
    assert client.key(2) in body["urls"][1]["url"]
    status, body = world.call("sign", "POST", "/v1/batches/{id}/policy", path=path, body={})
    assert status == 200
    assert body["fields"]["key"] == f"in/acme/{client.batch_id}/${{filename}}"
