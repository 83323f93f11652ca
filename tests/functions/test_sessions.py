"""sessions: status, lists whose page tokens cannot be forged, downloads, statistics."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heavylift import dynamo, keys
from heavylift.api import page_token, sessions
from heavylift.states import State
from tests.doubles.s3 import sha256_base64
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import DERIVED, STAGING, World

DATA = bytes(range(101))  # 7 parts of 16 bytes in a World


def get(world: World, route: str, *, query: dict[str, str] | None = None, **path: str) -> tuple[int, dict[str, Any]]:
    tenant = path.pop("tenant", "acme")
    return world.call("sessions", "GET", route, path=path, query=query, tenant=tenant)


def test_an_upload_under_way(desk: World) -> None:
    """Received and needed ranges are complements; bytes, percent and time left follow them."""
    file_id = desk.initiate("a.bin", DATA, metadata={"a": 1})
    for number in (1, 2, 7):
        desk.put_part(file_id, number, DATA)
    desk.clock.advance(37)
    status, body = get(desk, "/v1/uploads/{id}", id=file_id)

    assert status == 200
    assert (body["received"], body["needed"]) == ([[1, 2], [7, 7]], [[3, 6]])
    assert body["bytes_received"] == 37
    assert body["percent"] == 36.63
    assert body["seconds_left"] == pytest.approx(64, abs=0.2)
    assert (body["status"], body["final"], body["mode"], body["part_size"], body["part_count"]) == (
        "uploading", False, "multipart", 16, 7,
    )  # fmt: skip
    assert (body["metadata"], body["integrity"]) == ({"a": 1}, "sha256")
    assert "parts" not in body
    assert "duration_s" not in body
    _, shown = get(desk, "/v1/uploads/{id}", id=file_id, query={"parts": "true"})
    assert shown["parts"] == [
        {"part_number": n, "size": 16 if n < 7 else 5, "sha256": sha256_base64(DATA[(n - 1) * 16 : n * 16])}
        for n in (1, 2, 7)
    ]


def test_a_part_of_another_size_is_needed(world: World) -> None:
    """What complete would refuse is not shown as received."""
    file_id = world.initiate("a.bin", DATA, checksum="none")
    record = world.record(file_id)
    for number, size in ((1, 16), (2, 15), (8, 5)):
        world.s3.upload_part(
            Bucket=STAGING, Key=record.key, UploadId=record.s3_upload_id or "", PartNumber=number, Body=bytes(size)
        )
    _, body = get(world, "/v1/uploads/{id}", id=file_id)

    assert (body["received"], body["needed"], body["bytes_received"]) == ([[1, 1]], [[2, 7]], 16)
    assert body["integrity"] == "size_only"


def test_an_upload_that_has_ended(world: World) -> None:
    """All received, 100 percent, how long it took; S3 is not asked any more."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    world.clock.advance(10)
    world.complete(file_id)
    world.pump()
    world.gate.restart()
    _, body = get(world, "/v1/uploads/{id}", id=file_id)

    assert (body["received"], body["needed"], body["percent"]) == ([[1, 7]], [], 100.0)
    assert body["duration_s"] == pytest.approx(10, abs=0.1)
    assert (body["status"], body["final"]) == ("completed", True)
    assert {call.service for call in world.gate.calls} == {"dynamodb"}


def test_one_part(world: World) -> None:
    """GET …/parts/{n}: what S3 has, and whether it is what the caller means, in either form of the digest."""
    file_id = world.initiate("a.bin", DATA)
    world.put_part(file_id, 2, DATA)
    route = "/v1/uploads/{id}/parts/{n}"
    digest = sha256(DATA[16:32])
    _, body = get(world, route, id=file_id, n="2")
    assert (body["part_number"], body["size"], body["sha256"]) == (2, 16, base64.b64encode(digest.digest()).decode())
    assert "matches" not in body
    spaced = base64.b64encode(digest.digest()).decode().replace("+", " ")  # a + that nobody encoded
    for text in (digest.hexdigest(), spaced):
        assert get(world, route, id=file_id, n="2", query={"sha256": text})[1]["matches"] is True
    assert get(world, route, id=file_id, n="2", query={"sha256": "0" * 64})[1]["matches"] is False
    assert get(world, route, id=file_id, n="2", query={"sha256": "x"})[1]["code"] == "invalid_body"
    status, problem = get(world, route, id=file_id, n="3")
    assert (status, problem["code"]) == (404, "part_not_received")
    for n in ("0", "8", "x", "-1", "1.0", "999999999999", "\u0662"):
        assert get(world, route, id=file_id, n=n)[1]["code"] == "part_number_out_of_range"
    world.s3.uploads.clear()
    assert get(world, route, id=file_id, n="2")[1]["code"] == "part_not_received"


# --- lists ---
FINGERPRINT = "v1:" + "ab" * 32


def populate(world: World) -> list[str]:
    """Twelve uploads, oldest first: kinds, fingerprints and logical ids in turn."""
    ids = []
    for n in range(12):
        entry: dict[str, Any] = {"kind": "table" if n % 2 else "image"}
        if n % 3 == 0:
            entry["fingerprint"] = FINGERPRINT
        if n % 4 == 0:
            entry["metadata"] = {"logical_id": "lot 7"}
        ids.append(world.initiate(f"f {n:02d}.bin", DATA, **entry))
        world.clock.advance(1)
    return ids


def pages(world: World, query: dict[str, str], limit: int, route: str = "/v1/uploads") -> list[str]:
    """All items of a list, page by page."""
    found: list[str] = []
    token: str | None = None
    for _ in range(40):
        more = {"next_token": token} if token else {}
        status, body = get(world, route, query={**query, "limit": str(limit), **more})
        assert status == 200, body
        assert len(body["items"]) <= limit
        found += [item["upload_id"] for item in body["items"]]
        token = body["next_token"]
        if token is None:
            return found
    raise AssertionError("a list without end")


@pytest.mark.parametrize("limit", [1, 5, 12, 100])
@pytest.mark.parametrize("route", ["/v1/uploads", "/v1/files"])
def test_lists_page_without_gap_or_repeat(desk: World, limit: int, route: str) -> None:
    """Every file once, the newest first, whatever the page size; another tenant's list is empty."""
    ids = populate(desk)

    assert pages(desk, {}, limit, route) == ids[::-1]
    assert get(desk, route, tenant="globex") == (200, {"items": [], "next_token": None})


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_filters_narrow(desk: World, limit: int) -> None:
    """Each filter alone, and two together, page as the whole list does."""
    ids = populate(desk)[::-1]
    by = {ids[11 - n]: n for n in range(12)}
    cases: list[tuple[dict[str, str], Any]] = [
        ({"kind": "table"}, lambda n: n % 2 == 1),
        ({"fingerprint": FINGERPRINT}, lambda n: n % 3 == 0),
        ({"logical_id": "lot 7"}, lambda n: n % 4 == 0),
        ({"logical_id": "f"}, lambda n: n % 4),
        ({"status": "uploading"}, lambda n: True),
        ({"status": "completed"}, lambda n: False),
        ({"status": "uploading", "kind": "image", "fingerprint": FINGERPRINT}, lambda n: n % 6 == 0),
        ({"batch_id": ids[3]}, lambda n: False),
    ]
    for query, wanted in cases:
        assert pages(desk, query, limit) == [one for one in ids if wanted(by[one])], query


def test_groups_of_states(desk: World) -> None:
    """failed includes rejected, fresh includes completed; each exact state finds itself alone."""
    ids = {state: desk.initiate("f.bin", DATA) for state in State}
    for state, file_id in ids.items():
        desk.set(file_id, status=state)
    for state in State:
        expected = {ids[state]}
        if state is State.FAILED:
            expected |= {ids[State.REJECTED]}
        if state is State.FRESH:
            expected |= {ids[State.COMPLETED], ids[State.COMPLETED_WITH_ERRORS]}
        assert set(pages(desk, {"status": state.value}, 50)) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "-1"},
        {"limit": "ten"},
        {"limit": ""},
        {"limit": "\u0665"},
        {"limit": "9" * 5_000},
        {"kind": "movie"},
        {"batch_id": "x"},
        {"status": "lost"},
        {"fingerprint": "v1:x"},
        {"fingerprint": "x" * 3_000},
    ],
    ids=lambda query: ascii(str(query))[:40],
)
def test_parameters_that_mean_nothing(desk: World, query: dict[str, str]) -> None:
    """422 with the parameter's name; never a 500, never a 503."""
    status, body = get(desk, "/v1/uploads", query=query)

    assert (status, body["code"]) == (422, "invalid_parameter")
    assert body["parameter"] in query


def test_a_logical_id_of_any_length_finds_its_files(desk: World) -> None:
    """Longer than DynamoDB's key, it is cut the same way on both sides."""
    name = "\U0001f4a9" * 1_000
    file_id = desk.initiate("a.bin", DATA, metadata={"logical_id": name})

    assert pages(desk, {"logical_id": name}, 5) == [file_id]


def test_a_filter_that_leaves_much_out_goes_on_in_the_next_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading is bounded: a page may be short or empty while next_token says that there is more."""
    monkeypatch.setattr(sessions, "LIST_PAGES_MAX", 2)
    ids = populate(world)
    world.set(ids[0], kind="text")
    status, body = get(world, "/v1/uploads", query={"limit": "1", "kind": "text"})

    assert (status, body["items"]) == (200, [])
    assert body["next_token"]
    assert pages(world, {"kind": "text"}, 1) == [ids[0]]


def test_a_token_belongs_to_its_tenant_and_filters(desk: World) -> None:
    """Given to another tenant, another filter, or another list, it is refused."""
    populate(desk)
    _, body = get(desk, "/v1/uploads", query={"limit": "2", "kind": "image"})
    token = body["next_token"]
    good = {"limit": "2", "kind": "image", "next_token": token}
    assert get(desk, "/v1/uploads", query=good)[0] == 200
    assert get(desk, "/v1/uploads", query={**good, "limit": "50"})[0] == 200
    for query, tenant in (
        (good, "globex"),
        ({**good, "kind": "table"}, "acme"),
        ({**good, "status": "uploading"}, "acme"),
        ({"next_token": token}, "acme"),
    ):
        status, problem = get(desk, "/v1/uploads", query=query, tenant=tenant)
        assert (status, problem["code"]) == (400, "invalid_next_token")


def test_no_flipped_bit_passes(world: World) -> None:
    """Any one bit of a token's bytes, any one character of its text: refused."""
    populate(world)
    token = get(world, "/v1/uploads", query={"limit": "2"})[1]["next_token"]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for position in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[position // 8] ^= 1 << position % 8
        text = base64.urlsafe_b64encode(flipped).decode().rstrip("=")
        assert get(world, "/v1/uploads", query={"limit": "2", "next_token": text})[0] == 400
    for position in range(len(token)):
        for other in "A_":
            text = token[:position] + other + token[position + 1 :]
            if text != token:
                assert get(world, "/v1/uploads", query={"limit": "2", "next_token": text})[0] == 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(min_size=1, max_size=60), st.binary(min_size=1, max_size=80).map(lambda raw: quote(raw))))
def test_no_made_up_token_passes(world: World, token: str) -> None:
    """Whatever anybody sends: 400 invalid_next_token."""
    status, body = get(world, "/v1/uploads", query={"next_token": token})

    assert (status, body["code"]) == (400, "invalid_next_token")


@given(st.binary(min_size=1), st.text(), st.dictionaries(st.text(), st.text(), max_size=4))
def test_tokens_round_trip(secret: bytes, scope: str, key: dict[str, str]) -> None:
    """unseal opens exactly what seal closed, under the same scope and secret only."""
    from heavylift.errors import RequestError

    token = page_token.seal(secret, scope, key)
    assert page_token.unseal(secret, scope, token) == key
    for other_secret, other_scope, text in (
        (secret + b"x", scope, token),
        (secret, scope + "x", token),
        (secret, scope, token + "="),
        (secret, scope, token + "A"),
        (secret, scope, " " + token),
    ):
        with pytest.raises(RequestError):
            page_token.unseal(other_secret, other_scope, text)


def test_two_functions_make_one_sealing_key(desk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is first makes it; a second sandbox, started at the same moment, seals with the same."""
    first = dynamo.sealing_key()
    monkeypatch.setattr(dynamo, "_secret", [])
    assert dynamo.sealing_key() == first
    assert len(first) == 32


# --- files ---
def stored(world: World, name: str = PICTURE.name, data: bytes = PICTURE.data) -> str:
    file_id = world.initiate(name, data)
    world.put(file_id, data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    world.pump()
    return file_id


def test_a_files_facts(desk: World) -> None:
    """The contract's fields, with presigned thumbnails, checksums, costs and stages."""
    file_id = stored(desk)
    status, body = get(desk, "/v1/files/{id}", id=file_id)

    assert status == 200
    assert (body["file_id"], body["upload_id"], body["status"], body["final"]) == (file_id, file_id, "completed", True)
    assert (body["kind"], body["format"], body["media_type"]) == ("image", "PNG", "image/png")
    assert (body["width"], body["height"], body["mode"]) == (40, 30, "RGB")
    assert [one["size"] for one in body["thumbnails"]] == [256, 512, 1200]
    for one in body["thumbnails"]:
        assert set(one) == {"size", "width", "height", "placeholder", "provisional", "url"}
        assert one["url"].startswith(f"https://{DERIVED}.example/thumbnails/acme/{file_id}/")
        assert one["url"].endswith("X-Amz-Expires=900")
    assert (body["thumbnail_generated"], body["preview_generated"]) == (True, True)
    assert body["decision"]["method"] == "whole"
    assert body["checksums"]["crc32"]
    assert (body["bytes_read"], body["requests"]) == (101, 2)
    assert set(body["stages"]) == {"validate", "thumbnail"}
    assert {"bytes_in", "bytes_out", "requests", "memory_peak_bytes", "ms"} <= set(body["stages"]["validate"])
    assert "failure" not in body


def test_a_file_answers_from_initiate_on(world: World) -> None:
    """Before any byte has come, and after a verdict."""
    file_id = world.initiate("a.png", b"no picture")
    assert get(world, "/v1/files/{id}", id=file_id)[1]["status"] == "created"
    world.put(file_id, b"no picture")
    world.pump()
    body = get(world, "/v1/files/{id}", id=file_id)[1]

    assert (body["status"], body["final"], body["thumbnails"]) == ("rejected", True, [])
    assert (body["failure"]["code"], body["failure"]["stage"]) == ("type_mismatch", "validate")
    assert isinstance(body["failure"]["message"], str)
    assert body["failure"]["retryable"] is True


def test_the_audit_trail(world: World) -> None:
    """Each step once, in order, with time and actor; what no longer fits the record is kept and read all the same."""
    file_id = stored(world)
    body = get(world, "/v1/files/{id}/events", id=file_id)[1]
    assert [entry["event"] for entry in body["items"]] == [
        "initiate", "assemble", "arrive", "validate", "promote", "store", "process", "finish",
    ]  # fmt: skip
    assert body["items"][0]["at"] == "2025-11-20T00:00:00.000Z"
    assert [entry["by"] for entry in body["items"]][:3] == ["user-1", "complete", "complete"]
    for _ in range(20):
        assert world.retry(file_id, force=True)[0] == 202
        world.pump()
    body = get(world, "/v1/files/{id}/events", id=file_id)[1]
    assert [entry["event"] for entry in body["items"]][8:] == ["retry_processing", "process", "finish"] * 20
    assert body["dropped"] == 0
    assert len(world.record(file_id).events) < 48
    # An object that was lost is not hidden.
    del world.s3.buckets[DERIVED][keys.audit("acme", file_id, 0)]
    body = get(world, "/v1/files/{id}/events", id=file_id)[1]
    assert (len(body["items"]), body["dropped"]) == (52, 16)


def test_a_download(world: World) -> None:
    """307 to a signed GET that says what the file is called, or 200 with the URL for pages."""
    file_id = stored(world)
    answer = world.answer("sessions", "GET", "/v1/files/{id}/content", path={"id": file_id})
    assert answer["statusCode"] == 307
    assert answer["headers"]["location"].startswith("https://heavylift-store.example/files/acme/")
    status, body = get(world, "/v1/files/{id}/content", id=file_id, query={"redirect": "false", "ttl": "3600"})
    assert status == 200
    assert body["url"].endswith("X-Amz-Expires=3600")
    assert body["expires_at"] == "2025-11-20T01:00:00.000Z"
    for ttl in ("0", "3601", "x", "-1", "", "9" * 5_000):
        status, body = get(world, "/v1/files/{id}/content", id=file_id, query={"ttl": ttl})
        assert (status, body["code"], body["parameter"]) == (422, "invalid_parameter", "ttl")


@pytest.mark.parametrize("state", list(State))
def test_what_can_be_downloaded(world: World, state: State) -> None:
    """What is in the store: fresh and later, and what failed after promotion."""
    file_id = stored(world)
    world.set(file_id, status=state)
    status, body = get(world, "/v1/files/{id}/content", id=file_id, query={"redirect": "false"})
    if state in {State.FRESH, State.PROCESSING, State.COMPLETED, State.COMPLETED_WITH_ERRORS, State.FAILED}:
        assert status == 200
    else:
        assert (status, body["code"], body["status"]) == (409, "not_stored", 409)
    world.set(file_id, store_etag=None)
    if state is State.FAILED:
        assert get(world, "/v1/files/{id}/content", id=file_id)[0] == 409


def test_thumbnails(world: World) -> None:
    """By size: 307 or the URL; a size that is not there names those that are."""
    file_id = stored(world)
    route = "/v1/files/{id}/thumbnails/{size}"
    answer = world.answer("sessions", "GET", route, path={"id": file_id, "size": "512"})
    assert answer["statusCode"] == 307
    assert "-512.jpg?" in answer["headers"]["location"]
    assert get(world, route, id=file_id, size="256", query={"redirect": "false"})[0] == 200
    for size in ("1", "big", "512.0", "0512"):
        status, body = get(world, route, id=file_id, size=size)
        assert (status, body["code"], body["sizes"]) == (404, "no_thumbnail", [256, 512, 1200])


def test_a_list_with_pictures_reads_no_more(world: World) -> None:
    """``thumbnail=true``: the smallest picture of each line, by the same calls as the list without."""
    pictured = [stored(world) for _ in range(3)]
    plain = stored(world, "a.bin", b"\0\1\2 nothing to see")
    seen = []
    for query in ({}, {"thumbnail": "true"}):
        world.gate.restart()
        status, body = get(world, "/v1/files", query=query)
        assert status == 200
        seen.append(([call.operation for call in world.gate.calls], {one["file_id"]: one for one in body["items"]}))
    (calls, bare), (same_calls, lines) = seen

    assert calls == same_calls
    assert not any("thumbnail" in line for line in bare.values())
    assert "thumbnail" not in lines[plain]
    for file_id in pictured:
        assert lines[file_id]["thumbnail"]["size"] == 256
        assert f"/{file_id}/" in lines[file_id]["thumbnail"]["url"]
    assert get(world, "/v1/files", query={"thumbnail": "yes"})[1]["code"] == "invalid_parameter"


# --- statistics ---
def test_statistics(desk: World) -> None:
    """As of the last sweep; before the first, zero and as_of null; another tenant has its own."""
    assert get(desk, "/v1/stats")[1] == {
        "as_of": None, "active_uploads": 0, "active_bytes": 0, "average_bytes_per_s": 0, "uploads_today": 0,
        "uploads_week": 0, "total": 0, "succeeded": 0, "failed": 0, "bytes_total": 0, "bytes_average": 0,
    }  # fmt: skip
    old = stored(desk, TEXT.name, TEXT.data)
    desk.clock.advance(2 * 86_400)
    picture = desk.initiate(PICTURE.name, PICTURE.data)
    desk.clock.advance(10)
    desk.put(picture, PICTURE.data)
    assert desk.complete(picture)[0] == 200
    desk.pump()
    rejected = desk.initiate("x.png", b"text")
    desk.put(rejected, b"text")
    desk.pump()
    desk.initiate("open.bin", bytes(200))
    desk.call("initiate", "POST", "/v1/uploads", body={"files": [{"name": "g", "size": 1}]}, tenant="globex")
    desk.sweep()
    stats = get(desk, "/v1/stats")[1]

    assert stats.pop("as_of").startswith("2025-11-22T00:00:1")
    assert stats.pop("average_bytes_per_s") == pytest.approx((13 + 101 + 4) / 10, abs=1)
    assert stats == {
        "active_uploads": 1,
        "active_bytes": 200,
        "uploads_today": 3,
        "uploads_week": 4,
        "total": 4,
        "succeeded": 2,
        "failed": 1,
        "bytes_total": 13 + 101 + 4 + 200,
        "bytes_average": round((13 + 101 + 4 + 200) / 4),
    }
    assert get(desk, "/v1/stats", tenant="globex")[1]["total"] == 1
    assert desk.status(old) == "completed"
