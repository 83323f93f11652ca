"""Companion's routes over the doubles: their shapes, whose uploads they reach, and what a fault leaves behind."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from heavylift import aws, dynamo, tickets
from heavylift import settings as settings_module
from heavylift.tickets import Ticket
from infra import topology
from tests.doubles.batches import sign_reads
from tests.doubles.companion import BASE, OWNER, UPLOAD, Companion, cut
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed, kill_after, kill_before
from tests.doubles.samples import PICTURE
from tests.doubles.world import DERIVED, STAGING, World

Worlds = Callable[[], World]
DATA = b"one line of text\n" * 9
ROUTES = [key for key in OWNER if BASE in key]
GARBLED = ["", "x", "A" * 90, "..", "é", '"<script>', "a b", "=", "A" * 9_000]


@pytest.fixture(autouse=True)
def sign_reads_the_same_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_reads(world, monkeypatch)


@pytest.fixture
def companion(world: World) -> Companion:
    return Companion(world)


def seen(world: World, file_id: str) -> dict[str, Any]:
    status, body = world.call("sessions", "GET", "/v1/uploads/{id}", path={"id": file_id})
    assert status == 200, body
    return body


def finished(world: World, file_id: str) -> dict[str, Any]:
    status, body = world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})
    assert status == 200, body
    return body


# --- tickets ---


def test_a_ticket_is_an_address(world: World, companion: Companion) -> None:
    """The API's own origin, a path of URL-safe letters, and its end: 12 hours unless a shorter time is asked for."""
    answer = companion.renew()
    split = urlsplit(answer["endpoint"])

    assert set(answer) == {"endpoint", "expires_at"}
    assert split.scheme == "https"
    assert split.path.startswith("/s3/t/")
    assert companion.ticket.replace("-", "").replace("_", "").isalnum()
    sealed = tickets.unseal(dynamo.sealing_key(), companion.ticket, world.clock.now)
    assert sealed == Ticket("acme", "user-1", sealed.expires_at)
    assert 12 * 3600 - 1 <= sealed.expires_at - world.clock.now <= 12 * 3600
    companion.renew(ttl=60)
    assert tickets.unseal(dynamo.sealing_key(), companion.ticket, world.clock.now).expires_at <= world.clock.now + 60


@pytest.mark.parametrize("body", [{"ttl": 43_201}, {"ttl": 59}, {"ttl": "60"}, {"ttl": 60.5}, []])
def test_no_ticket_lives_longer(world: World, body: Any) -> None:
    """Nor is anything else taken for a time."""
    assert world.call("initiate", "POST", "/v1/companion-tickets", body=body)[0] == 422


def ask(companion: Companion, route: str, upload: dict[str, Any], ticket: str | None = None) -> dict[str, Any]:
    """Any of the routes, with all that it needs."""
    path = {"uploadId": upload["uploadId"], "partNumber": "1", "ticket": ticket or companion.ticket}
    query = {"key": upload["key"], "filename": "a.txt", "partNumbers": "1"}
    body = {"filename": "a.txt", "type": "", "parts": [{"PartNumber": 1, "ETag": "x"}]}
    return companion.answer(route, path=path, query=query, body=body)


def refused(answer: dict[str, Any], status: int) -> None:
    body = json.loads(answer["body"])
    assert (answer["statusCode"], set(body)) == (status, {"error"})
    assert isinstance(body["error"], str)
    assert body["error"]
    assert answer["headers"]["content-type"] == "application/json"


def test_there_are_routes_to_try() -> None:
    """The generated tests below are not empty, and cover every function that has such routes."""
    assert len(ROUTES) == 7
    assert {OWNER[route] for route in ROUTES} == {"initiate", "sign", "complete"}
    assert all(
        route in [f"{one.method} {one.path}" for f in topology.FUNCTIONS for one in f.routes] for route in ROUTES
    )


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("ticket", GARBLED[1:])
def test_what_is_no_ticket_is_a_401(companion: Companion, route: str, ticket: str) -> None:
    """In Companion's shape; nothing is asked of S3 and nothing is written."""
    upload = companion.create()
    companion.world.gate.restart()
    refused(ask(companion, route, upload, ticket), 401)
    assert companion.world.gate.calls == []


@pytest.mark.parametrize("route", ROUTES)
def test_forged_expired_and_foreign_tickets(world: World, companion: Companion, route: str) -> None:
    """Sealed by another key, for another purpose, or out of time: 401. Another user or tenant: 403 for his upload."""
    upload = companion.create()
    now = int(world.clock.now)
    good = Ticket("acme", "user-1", now + 60)
    secret = dynamo.sealing_key()
    bare = json.dumps(["acme", "user-1", now + 60], separators=(",", ":")).encode()
    forged = [
        tickets.seal(b"0" * 32, good),
        tickets.seal(secret, replace(good, expires_at=now - 1)),
        base64.urlsafe_b64encode(bytes(32) + bare).decode().rstrip("="),
        base64.urlsafe_b64encode(bare).decode().rstrip("="),
        companion.ticket + "=",
        companion.ticket + "A",
        companion.ticket[:-1],
    ]
    for ticket in forged:
        refused(ask(companion, route, upload, ticket), 401)
    before = json.dumps(sorted(world.table.items.items()), default=str)
    for other in (replace(good, user="user-2"), replace(good, tenant="globex"), replace(good, user="")):
        if "{uploadId}" in route:
            refused(ask(companion, route, upload, tickets.seal(secret, other)), 403)
            assert json.dumps(sorted(world.table.items.items()), default=str) == before
    assert list(world.s3.uploads)


def test_before_the_first_ticket_no_ticket_opens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no key yet: 401, and nobody makes one."""
    sealed = tickets.seal(bytes(32), Ticket("acme", "user-1", int(world.clock.now) + 60))
    companion = Companion.__new__(Companion)
    companion.world, companion.ticket = world, sealed
    for route in ROUTES:
        refused(ask(companion, route, {"uploadId": "01JD2Z3NDEKTSV4RRFFQ69G5FA", "key": "k"}), 401)
    assert world.table.items == {}


@pytest.mark.parametrize("route", [route for route in ROUTES if "{uploadId}" in route])
def test_a_ticket_reaches_its_own_uploads_only(world: World, companion: Companion, route: str) -> None:
    """Unknown ids, uploads of a token, forms, and another key in the query: one answer, which tells nothing apart."""
    upload = companion.create()
    plain = world.initiate(PICTURE.name, PICTURE.data)
    form = companion.params()["fields"]["key"]
    strange: list[dict[str, Any]] = [
        {"uploadId": "01JD2Z3NDEKTSV4RRFFQ69G5FA", "key": upload["key"]},
        {"uploadId": plain, "key": world.record(plain).key},
        {"uploadId": form.rpartition("/")[2], "key": form},
        {"uploadId": upload["uploadId"], "key": "in/acme/other"},
        {"uploadId": upload["uploadId"].lower(), "key": upload["key"]},
        {"uploadId": world.record(upload["uploadId"]).s3_upload_id, "key": upload["key"]},
        {"uploadId": "../" + upload["uploadId"], "key": upload["key"]},
    ]
    told = set()
    for one in strange:
        answer = ask(companion, route, one)
        refused(answer, 403)
        told.add(answer["body"])
    assert len(told) == 1
    assert world.status(plain) == world.status(upload["uploadId"]) == "uploading"


@given(data=st.data())
def test_no_bit_of_a_ticket_may_change(data: st.DataObject) -> None:
    """Whatever is changed, cut or added: another text never opens. Judged by a second reading of the rule."""
    secret = data.draw(st.binary(min_size=1, max_size=40))
    ticket = Ticket(
        data.draw(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)),
        data.draw(st.text(max_size=40)),
        data.draw(st.integers(0, 2**40)),
    )
    sealed = tickets.seal(secret, ticket)
    assert tickets.unseal(secret, sealed, ticket.expires_at - 1) == ticket
    raw = bytearray(sealed.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 6))
    changed = raw.decode()[: data.draw(st.integers(0, len(raw)))] + data.draw(
        st.sampled_from(["", "A", "=", "-", "\n"])
    )
    if changed != sealed:
        with pytest.raises(tickets.RequestError) as caught:
            tickets.unseal(secret, changed, 0)
        assert caught.value.code == "ticket_invalid"
        assert changed[40:60] not in caught.value.message or len(changed) < 41
    with pytest.raises(tickets.RequestError) as late:
        tickets.unseal(secret, sealed, ticket.expires_at)
    assert late.value.code == "ticket_expired"


def test_every_single_bit() -> None:
    """Of the bytes below the text, one after another: none may flip."""
    sealed = tickets.seal(b"k", Ticket("acme", "u", 100))
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(tickets.RequestError):
            tickets.unseal(b"k", base64.urlsafe_b64encode(bytes(flipped)).decode().rstrip("="), 0)


def test_page_tokens_are_no_tickets(world: World, companion: Companion) -> None:
    """The same key seals both; what is sealed for the one never opens the other."""
    from heavylift.api import page_token

    plain = ["acme", "user-1", 2**40]
    for scope in ("companion ticket 1", "acme", "companion ticket 1\0"):
        sealed = page_token.seal(dynamo.sealing_key(), scope, {"pk": json.dumps(plain), "sk": "x"})
        refused(ask(companion, ROUTES[0], {"uploadId": "x", "key": "y"}, sealed), 401)
    with pytest.raises(tickets.RequestError):
        page_token.unseal(dynamo.sealing_key(), "acme", companion.ticket)


def test_no_ticket_is_logged(
    world: World, companion: Companion, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither when all is well, nor in a refusal, nor in a crash with its traceback."""
    upload = companion.create()
    for route in ROUTES:
        ask(companion, route, upload)
        ask(companion, route, upload, companion.ticket[:-2] + "AA")

    def breaks(call: Call, run: Any) -> Any:
        raise RuntimeError("a fault of ours")

    def denies(call: Call, run: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "Any")

    for around in (breaks, denies):
        world.gate.around = around
        for route in ROUTES:
            if OWNER[route] != "sign":
                refused(ask(companion, route, upload), 500)
    logged = capsys.readouterr()
    text = logged.out + logged.err + caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert '"route":"GET /s3/t/{ticket}/s3/multipart/{uploadId}/batch"' in text
    assert "a fault of ours" in text
    assert companion.ticket not in text
    assert companion.ticket[40:70] not in text
    assert "X-Amz-Signature" not in text


# --- one form ---


def test_params_is_a_form_for_one_key(world: World, companion: Companion) -> None:
    """Companion's keys; a concrete key, 201, the file's type, and a policy that allows no other size, key or type."""
    form = companion.params(
        "scan.tif", type="image/tiff", **{"metadata[patient]": "none", "metadata[name]": "scan.tif"}
    )

    assert set(form) == {"method", "url", "fields", "expires"}
    assert (form["method"], form["expires"]) == ("POST", 900)
    fields = form["fields"]
    assert fields["success_action_status"] == "201"
    assert fields["content-type"] == "image/tiff"
    assert not {"file", "redirect", "success_action_redirect"} & set(fields)
    file_id = fields["key"].rpartition("/")[2]
    assert fields["key"] == f"in/acme/{file_id}"
    conditions = json.loads(base64.b64decode(fields["policy"]))["conditions"]
    assert ["content-length-range", 0, 5 * 1024**3] in conditions
    assert {"key": fields["key"]} in conditions
    assert {"content-type": "image/tiff"} in conditions
    record = world.record(file_id)
    assert (record.mode, record.checksum, record.size_known, record.by_ticket) == ("single", "none", False, True)
    assert dict(record.metadata) == {"patient": "none"}


def test_a_form_is_bounded_by_the_type_and_the_deployment(
    companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller of the two; what cannot be a header's value is sent as bytes of no type."""

    def sizes(type: str) -> Any:
        policy = json.loads(base64.b64decode(companion.params(type=type)["fields"]["policy"]))
        return next(one[2] for one in policy["conditions"] if isinstance(one, list))

    assert sizes("image/png") == 2 * 1024**3
    monkeypatch.setenv("MAX_FILE_SIZE", "1000")
    settings_module.settings.cache_clear()
    assert sizes("image/png") == sizes("") == 1000
    assert companion.params(type="tëxt/plain")["fields"]["content-type"] == "application/octet-stream"
    assert companion.params(type="")["fields"]["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("data", [DATA, b"", PICTURE.data])
def test_a_form_becomes_a_file(world: World, companion: Companion, data: bytes) -> None:
    """Its size is what arrived; it is proven by its size only, and says so. A second event changes nothing."""
    name = PICTURE.name if data == PICTURE.data else "a.txt"
    form = companion.params(name)
    file_id = form["fields"]["key"].rpartition("/")[2]
    waiting = seen(world, file_id)
    assert (waiting["size"], waiting["percent"], waiting["bytes_received"]) == (None, None, 0)
    assert finished(world, file_id)["size"] is None
    companion.post(form, data)
    world.pump(copies=2)

    world.check_stored(file_id, data)
    file = finished(world, file_id)
    assert (file["size"], file["status"], file["integrity"]) == (len(data), "completed", "size_only")
    assert file["checksums"]["sha256_proven"] is False
    assert seen(world, file_id)["percent"] == 100.0


def test_a_form_whose_event_is_lost_is_found(world: World, companion: Companion) -> None:
    """By the sweeper, as any other single file."""
    file_id = companion.post(companion.params(), DATA)
    for _, _, made in world.s3.created:
        made.announced = True
    world.sweep_until_quiet()
    world.check_stored(file_id, DATA)


def test_a_form_that_nobody_sends_expires(world: World, companion: Companion) -> None:
    """After the session's days, leaving nothing; the event tells no size, for nobody knows one."""
    file_id = companion.params()["fields"]["key"].rpartition("/")[2]
    world.sweep_until_quiet(days=9)
    assert world.status(file_id) == "expired"
    (told,) = [one for one in world.bus.taken if one.type == "file.expired"]
    assert "size" not in told.detail


# --- parts ---


def test_an_upload_in_parts(world: World, companion: Companion) -> None:
    """Create, sign, list, complete: each as Companion answers it; then a file as any other."""
    upload = companion.create("notes.txt", "text/plain", metadata={"project": "x", "relativePath": "a/notes.txt"})
    assert set(upload) == {"key", "uploadId", "bucket"}
    assert upload["bucket"] == STAGING
    assert upload["key"] == f"in/acme/{upload['uploadId']}"

    status, signed = companion.sign(upload, 1)
    assert (status, set(signed), signed["expires"]) == (200, {"url", "expires"}, 900)
    told = parse_qs(urlsplit(signed["url"]).query)
    assert told["X-Amz-SignedHeaders"] == ["host"], "no length: nobody knows it"
    assert told["partNumber"] == ["1"]
    assert told["uploadId"] == [world.record(upload["uploadId"]).s3_upload_id]
    status, batch = companion.of_upload(f"GET {UPLOAD}/batch", upload, query={"partNumbers": "1,2,10000"})
    assert (status, set(batch), list(batch["presignedUrls"])) == (200, {"presignedUrls"}, ["1", "2", "10000"])

    pieces = cut(DATA, 16)
    said = companion.put(upload, pieces[:-1])
    shown = seen(world, upload["uploadId"])
    assert (shown["size"], shown["percent"], shown["needed"], shown["part_count"]) == (None, None, None, None)
    assert shown["bytes_received"] == 16 * (len(pieces) - 1)
    assert shown["received"] == [[1, len(pieces) - 1]]
    said = companion.put(upload, pieces)
    status, listed = companion.list(upload)
    assert status == 200
    assert listed == [{**one, "Size": len(piece)} for one, piece in zip(said, pieces, strict=True)]
    assert all(one["ETag"].startswith('"') and one["ETag"].endswith('"') for one in listed)

    status, done = companion.complete(upload, said)
    assert (status, set(done)) == (200, {"location", "key", "bucket"})
    assert done["location"].endswith("/" + upload["key"])
    assert urlsplit(done["location"]).scheme == "https"
    world.pump()
    world.check_stored(upload["uploadId"], DATA)
    file = finished(world, upload["uploadId"])
    assert (file["size"], file["integrity"], file["relative_path"]) == (len(DATA), "size_only", "a/notes.txt")
    assert file["metadata"] == {"project": "x"}
    assert companion.complete(upload, said) == (200, done)


def test_all_pages_of_parts(world: World, companion: Companion) -> None:
    """S3 lists a thousand at a time; Uppy reads one answer. Numbers and sizes are numbers."""
    upload = companion.create()
    pieces = cut(bytes(2_105), 1)
    companion.put(upload, pieces)
    status, listed = companion.list(upload)
    assert (status, [one["PartNumber"] for one in listed]) == (200, list(range(1, 2_106)))
    assert {type(one["Size"]) for one in listed} == {int}


@pytest.mark.parametrize("quoted", [True, False])
def test_etags_with_and_without_quotes(world: World, companion: Companion, quoted: bool) -> None:
    """Version 6 takes them off, version 5 leaves them on."""
    upload = companion.create()
    said = companion.put(upload, [DATA])
    said[0]["ETag"] = said[0]["ETag"].strip('"') if not quoted else said[0]["ETag"]
    assert companion.complete(upload, said)[0] == 200
    world.pump()
    world.check_stored(upload["uploadId"], DATA)


def test_complete_believes_s3_alone(world: World, companion: Companion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing parts, other bytes, two cuts in one file, too many bytes: refused, and the upload stays open."""
    upload = companion.create(type="application/octet-stream")
    said = companion.put(upload, cut(DATA, 16))

    def fails(status: int, parts: Any) -> None:
        got, body = companion.complete(upload, parts)
        assert (got, set(body)) == (status, {"error"})
        assert world.status(upload["uploadId"]) == "uploading"

    fails(409, [*said, {"PartNumber": len(said) + 1, "ETag": '"x"'}])
    fails(409, said[:-1])
    fails(409, [{**said[0], "ETag": '"0123"'}, *said[1:]])
    for wrong in (
        [],
        {},
        None,
        [{"PartNumber": 0, "ETag": "x"}],
        [{"PartNumber": "1", "ETag": "x"}],
        [{"ETag": "x"}],
        [1],
    ):
        fails(400, wrong)
    s3_upload_id = world.record(upload["uploadId"]).s3_upload_id or ""
    other = world.s3.upload_part(
        Bucket=STAGING, Key=upload["key"], UploadId=s3_upload_id, PartNumber=2, Body=b"of another cut of the file"
    )["ETag"]
    fails(409, [said[0], {"PartNumber": 2, "ETag": other}, *said[2:]])
    companion.put(upload, cut(DATA, 16))
    monkeypatch.setenv("MAX_FILE_SIZE", str(len(DATA) - 1))
    settings_module.settings.cache_clear()
    fails(413, said)
    assert companion.sign(upload, 2)[0] == 413
    monkeypatch.delenv("MAX_FILE_SIZE")
    settings_module.settings.cache_clear()
    assert companion.complete(upload, said)[0] == 200
    world.pump()
    world.check_stored(upload["uploadId"], DATA)


def test_a_picture_too_large_for_its_type_is_refused_at_complete(
    companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of types counts as if the size had been declared."""
    from heavylift import intake
    from heavylift.limits import TypeRule

    upload = companion.create("a.png", "image/png")
    said = companion.put(upload, [DATA])
    monkeypatch.setattr(intake, "rule_for_media_type", lambda _: TypeRule("image/png", "image", ("PNG",), 10))
    status, body = companion.complete(upload, said)
    assert (status, "10 are taken" in body["error"]) == (413, True)


def test_what_s3_refuses_is_open_again(world: World, companion: Companion) -> None:
    """Parts below 5 MiB, say: the size is unknown as before, the client may send other parts."""
    upload = companion.create()
    said = companion.put(upload, cut(DATA, 16))

    def refuses(call: Call, run: Any) -> Any:
        if call.operation == "complete_multipart_upload":
            raise ClientError({"Error": {"Code": "EntityTooSmall"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "C")
        return run()

    world.gate.around = refuses
    assert companion.complete(upload, said)[0] == 409
    world.gate.around = None
    record = world.record(upload["uploadId"])
    assert (record.status.value, record.size, record.size_known, record.part_count) == ("uploading", 0, False, 0)
    companion.abort(upload)
    assert world.s3.uploads == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"filename": "", "type": "x"}, 400),
        ({"filename": "a", "type": 5}, 400),
        ({"filename": "a", "type": None}, 400),
        ({"filename": ["a"], "type": "x"}, 400),
        ({"filename": "a", "type": "x", "metadata": "m"}, 400),
        ({"filename": "a", "type": "x", "metadata": {"k": "v" * 17_000}}, 400),
        ({"filename": "a.html", "type": "text/html; charset=utf-8"}, 400),
        ([], 400),
    ],
)
def test_bad_requests_are_400(world: World, companion: Companion, body: Any, status: int) -> None:
    """Companion's status for them all, and no session for any."""
    answer = companion.answer(f"POST {BASE}/multipart", body=body)
    refused(answer, status)
    if isinstance(body, dict) and not isinstance(body.get("metadata"), str):
        query = {name: value for name, value in body.items() if isinstance(value, str)}
        if "filename" not in query or query.get("type", "").startswith("text/html"):
            refused(companion.answer(f"GET {BASE}/params", query=query), status)
    assert world.s3.uploads == {}
    refused(companion.answer(f"POST {BASE}/multipart", raw_body="{"), 400)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "1.5", "x", "", "²", "1e3", "000001"])
def test_part_numbers(companion: Companion, number: str) -> None:
    """1 to 10,000, in digits."""
    upload = companion.create()
    assert companion.of_upload(f"GET {UPLOAD}/batch", upload, query={"partNumbers": f"1,{number}"})[0] == 400
    if number:
        assert companion.sign(upload, number)[0] == 400


def test_a_batch_of_urls_is_bounded(companion: Companion) -> None:
    """A thousand a call, as everywhere; none asked for is no number."""
    upload = companion.create()
    thousand = ",".join(str(n) for n in range(1, 1_001))
    status, body = companion.of_upload(f"GET {UPLOAD}/batch", upload, query={"partNumbers": thousand})
    assert (status, len(body["presignedUrls"])) == (200, 1_000)
    assert companion.of_upload(f"GET {UPLOAD}/batch", upload, query={"partNumbers": thousand + ",1001"})[0] == 400
    assert companion.of_upload(f"GET {UPLOAD}/batch", upload)[0] == 400


def test_names_are_labels(world: World, companion: Companion) -> None:
    """The end of a very long one is kept; half a surrogate pair, nulls and Uppy's own fields harm nobody."""
    upload = companion.create("x" * 6_000 + ".tif", "", metadata={"a": None, "name": "n", "type": "t", "k": "\ud800"})
    record = world.record(upload["uploadId"])
    assert len(record.name) == 5_000
    assert record.name.endswith(".tif")
    assert dict(record.metadata) == {"k": "\ufffd"}
    file_id = companion.params("a.txt", **{"metadata[relativePath]": "null"})["fields"]["key"].rpartition("/")[2]
    assert world.record(file_id).relative_path is None


# --- giving up, and the end of time ---


def test_abort_leaves_nothing(world: World, companion: Companion) -> None:
    """{} however often; no parts, no object; its URLs are refused from then on. A file that is there stays."""
    upload = companion.create()
    said = companion.put(upload, [DATA])
    for _ in range(2):
        assert companion.abort(upload) == (200, {})
    assert world.status(upload["uploadId"]) == "cancelled"
    assert world.s3.uploads == {}
    assert companion.sign(upload, 1)[0] == 409
    assert companion.complete(upload, said)[0] == 409
    assert companion.list(upload)[0] == 410
    second = companion.create()
    companion.complete(second, companion.put(second, [DATA]))
    assert companion.abort(second)[0] == 409
    world.pump()
    world.check_stored(second["uploadId"], DATA)
    assert companion.abort(second)[0] == 409


def test_sessions_expire_as_any_other(world: World, companion: Companion) -> None:
    """Seven days; a ticket of today does not open it any more, and nothing is left."""
    upload = companion.create()
    companion.put(upload, cut(DATA, 16))
    world.clock.advance(7 * 86_400 + 1)
    companion.renew()
    assert companion.sign(upload, 1)[0] == 410
    world.sweep_until_quiet()
    assert world.status(upload["uploadId"]) == "expired"
    assert world.s3.uploads == {}
    assert companion.sign(upload, 1)[0] == 410
    assert companion.abort(upload) == (200, {})


def test_a_token_sees_and_cancels_what_a_ticket_began(world: World, companion: Companion) -> None:
    """The owner's other page: status, one part, joining, cancelling. Only signing stays with the ticket."""
    upload = companion.create()
    companion.put(upload, cut(DATA, 16))
    file_id = upload["uploadId"]
    status, body = world.call(
        "sign", "POST", "/v1/uploads/{id}/parts", path={"id": file_id}, body={"parts": [{"part_number": 1}]}
    )
    assert (status, body["code"]) == (409, "state_conflict")
    status, part = world.call("sessions", "GET", "/v1/uploads/{id}/parts/{n}", path={"id": file_id, "n": "2"})
    assert (status, part["size"]) == (200, 16)
    for number in ("0", "10001"):
        found = world.call("sessions", "GET", "/v1/uploads/{id}/parts/{n}", path={"id": file_id, "n": number})
        assert found[0] == 400
    status, listed = world.call("sessions", "GET", "/v1/uploads")
    assert listed["items"][0]["size"] is None
    assert world.complete(file_id)[0] == 200
    world.pump()
    world.check_stored(file_id, DATA)
    other = companion.create()
    companion.put(other, [DATA])
    assert world.cancel(other["uploadId"])[0] == 200
    assert companion.sign(other, 1)[0] == 409


def test_a_busy_tenant_waits(world: World, companion: Companion, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limit as for other uploads; 429 with a time to wait, in Companion's shape."""
    monkeypatch.setenv("RATE_LIMIT_FILES_PER_MINUTE", "1")
    settings_module.settings.cache_clear()
    companion.create()
    answer = companion.answer(f"GET {BASE}/params", query={"filename": "a"})
    refused(answer, 429)
    assert 1 <= int(answer["headers"]["retry-after"]) <= 60


def test_trouble_of_the_worlds_is_a_503(world: World, companion: Companion) -> None:
    """To be asked again, with a time to wait."""
    upload = companion.create()
    world.gate.around = lambda call, run: (_ for _ in ()).throw(
        ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, call.operation)
    )
    for route in (f"GET {BASE}/params", f"GET {UPLOAD}"):
        answer = ask(companion, route, upload)
        refused(answer, 503)
        assert answer["headers"]["retry-after"]
    assert aws.is_later(ClientError({"Error": {"Code": "SlowDown"}}, "x"))


# --- faults ---


def joined(world: World) -> tuple[Companion, dict[str, Any], list[dict[str, Any]]]:
    companion = Companion(world)
    upload = companion.create()
    return companion, upload, companion.put(upload, cut(DATA, 16))


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda one: one.__name__)
def test_complete_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Disturbed at any call: asked again, or left to the sweeper, it ends as one file with these bytes."""
    world = worlds()
    companion, upload, said = joined(world)
    world.gate.restart()
    assert companion.complete(upload, said)[0] == 200
    total = len(world.gate.calls)
    assert total >= 7
    for number in range(1, total + 1):
        for again in (True, False):
            world = worlds()
            companion, upload, said = joined(world)
            world.gate.restart(disturb(number))
            begun = True
            try:
                begun = companion.complete(upload, said)[0] < 400
            except Killed:
                begun = world.status(upload["uploadId"]) != "uploading"
            world.gate.around = None
            if again or not begun:
                world.clock.advance(60)
                assert companion.complete(upload, said)[0] == 200, (number, again)
            world.sweep_until_quiet(days=1)
            world.check_stored(upload["uploadId"], DATA)
            record = world.record(upload["uploadId"])
            assert (record.size, record.part_size, record.part_count) == (len(DATA), 16, len(said))


@pytest.mark.parametrize("route", ["params", "create", "abort"])
def test_beginnings_and_ends_leave_no_orphan(worlds: Worlds, route: str) -> None:
    """Killed at any call: whatever is left in S3 is gone within two sweeps, or belongs to a record."""

    def act(companion: Companion, upload: dict[str, Any]) -> None:
        {"params": companion.params, "create": companion.create, "abort": lambda: companion.abort(upload)}[route]()

    world = worlds()
    companion, upload, _ = joined(world)
    world.gate.restart()
    act(companion, upload)
    for number in range(1, len(world.gate.calls) + 1):
        for disturb in (kill_before, kill_after):
            world = worlds()
            companion, upload, _ = joined(world)
            world.gate.restart(disturb(number))
            with contextlib.suppress(Killed):  # after its last call nobody notices
                act(companion, upload)
            world.gate.around = None
            if route == "abort":
                assert companion.abort(upload) == (200, {})
            world.sweep_until_quiet(days=9)
            world.clock.advance(900)
            world.sweep()
            assert world.s3.uploads == {}
            assert world.s3.buckets[STAGING] == {}


def test_a_lost_answer_heals_by_resuming(world: World) -> None:
    """What was joined still lists its parts, so that Uppy's retry sends none again and completes: 200."""
    companion, upload, said = joined(world)
    _, before = companion.list(upload)
    assert companion.complete(upload, said)[0] == 200
    assert companion.list(upload) == (200, before)
    world.pump()
    assert companion.list(upload) == (200, before)
    assert companion.complete(upload, before)[0] == 200
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": upload["uploadId"]})
    assert companion.list(upload)[0] == 410
    assert world.s3.buckets[DERIVED] == {}


def test_still_joining_is_a_202_of_the_same_shape(world: World) -> None:
    """S3 takes its time: Uppy reads response.ok, and somebody of ours finishes."""
    companion, upload, said = joined(world)

    def slow(call: Call, run: Any) -> Any:
        if call.operation == "complete_multipart_upload":
            raise Killed("still at it")
        return run()

    world.gate.around = slow
    with pytest.raises(Killed):
        companion.complete(upload, said)
    world.gate.around = None
    status, body = companion.complete(upload, said)
    assert (status, set(body)) == (202, {"location", "key", "bucket"})
    world.sweep_until_quiet(days=1)
    world.check_stored(upload["uploadId"], DATA)


def test_a_join_that_failed_for_good_may_be_tried_again(world: World) -> None:
    """After the last attempt: retry opens it, its size unknown again, and complete counts anew what is there."""
    companion, upload, said = joined(world)

    def down(call: Call, run: Any) -> Any:
        if call.operation == "complete_multipart_upload":
            raise ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "C")
        return run()

    world.gate.around = down
    assert companion.complete(upload, said)[0] == 503
    assert seen(world, upload["uploadId"])["size"] == len(DATA), "it is measured once it is joined"
    for _ in range(8):
        world.clock.advance(900)
        world.sweep()
    world.gate.around = None
    assert world.status(upload["uploadId"]) == "failed"
    assert companion.complete(upload, said)[0] == 409, "no page is told that all is well"
    assert world.retry(upload["uploadId"])[0] == 202
    assert seen(world, upload["uploadId"])["size"] is None
    more = companion.put(upload, [*cut(DATA, 16), b"more"])
    assert companion.complete(upload, more)[0] == 409, "a longer part than the last of the first cut"
    last = world.s3.uploads[world.record(upload["uploadId"]).s3_upload_id or ""].parts
    del last[len(more)]
    assert companion.complete(upload, said)[0] == 200
    world.pump()
    world.check_stored(upload["uploadId"], DATA)
