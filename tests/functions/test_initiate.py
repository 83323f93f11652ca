"""initiate: sessions for up to 200 files, what a body must look like, and names that are labels and nothing else."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heavylift.limits import GIB, MIB, OBJECT_SIZE_MAX, TYPES
from tests.doubles.bodies import NASTY_NAMES
from tests.doubles.world import STAGING, World

ROUTE = "/v1/uploads"
DIGEST = sha256(b"a")
BASE64 = base64.b64encode(DIGEST.digest()).decode()


def initiate(world: World, *files: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any]]:
    return world.call("initiate", "POST", ROUTE, body={"files": list(files), **more})


def test_two_hundred_files_a_call(desk: World) -> None:
    """A session each, in the order asked for; records and multipart uploads exist when the answer goes out."""
    files = [{"client_id": str(n), "name": f"f{n}.bin", "size": n * 2} for n in range(200)]
    status, body = initiate(desk, *files)

    assert status == 201
    assert [one["client_id"] for one in body["uploads"]] == [str(n) for n in range(200)]
    assert len({one["upload_id"] for one in body["uploads"]}) == 200
    for n, one in enumerate(body["uploads"]):
        record = desk.record(one["upload_id"])
        assert record.size == n * 2
        assert record.status.value == ("uploading" if one["mode"] == "multipart" else "created")
        assert (record.s3_upload_id in desk.s3.uploads) is (one["mode"] == "multipart")
        assert one["part_count"] == record.part_count
        assert one["expires_at"].startswith("2025-11-27T")
    assert {upload.checksum for upload in desk.s3.uploads.values()} == {"SHA256"}


def test_a_record_of_a_hundred_percent(desk: World) -> None:
    """Everything that a client may say of a file comes back where the API shows it."""
    entry = {
        "client_id": "c1",
        "name": "Slide 0012.tif",
        "size": 5,
        "type": "image/tiff",
        "kind": "image",
        "fingerprint": "v1:" + "a" * 64,
        "checksum": "sha256",
        "sha256": DIGEST.hexdigest(),
        "relative_path": "study/Slide 0012.tif",
        "rules": {"schema": {"properties": {"": {"maximum": 10**60, "minimum": 1e-300}}}},
        "data_type": "scan",
        "description": "a slide",
        "metadata": {"logical_id": "slide", "deep": [[[1.5, None, {"": True}]]], "big": 10**60, "tiny": 1e-300},
        "unknown": "of a later version",
    }
    status, body = initiate(desk, entry)
    assert status == 201
    (one,) = body["uploads"]
    _, shown = desk.call("sessions", "GET", "/v1/uploads/{id}", path={"id": one["upload_id"]})
    _, file = desk.call("sessions", "GET", "/v1/files/{id}", path={"id": one["upload_id"]})

    assert shown["metadata"] == file["metadata"] == entry["metadata"]
    assert (shown["name"], shown["description"], shown["data_type"]) == ("Slide 0012.tif", "a slide", "scan")
    assert (file["relative_path"], file["logical_id"], file["kind"]) == ("study/Slide 0012.tif", "slide", "image")
    assert file["checksums"] == {"sha256": DIGEST.hexdigest(), "sha256_proven": False}
    assert desk.record(one["upload_id"]).rules == entry["rules"]
    assert desk.record(one["upload_id"]).user == "user-1"


def test_a_small_file_with_its_digest_gets_its_url_at_once(world: World) -> None:
    """put: URL, headers, expiry; digest, length and if-none-match are signed, in either form of the digest."""
    for given_digest in (DIGEST.hexdigest(), BASE64):
        _, body = initiate(world, {"name": "a", "size": 1, "sha256": given_digest})
        put = body["uploads"][0]["put"]

        assert put["headers"] == {"if-none-match": "*", "x-amz-checksum-sha256": BASE64}
        query = parse_qs(urlsplit(put["url"]).query)
        assert query["X-Amz-SignedHeaders"] == ["content-length;host;if-none-match;x-amz-checksum-sha256"]
        assert query["X-Amz-Expires"] == ["900"]
        assert put["expires_at"] == "2025-11-20T00:15:00.000Z"


def test_a_small_file_without_a_digest_has_to_ask_sign(world: World) -> None:
    """No digest, no URL, unless the session does without digests."""
    _, body = initiate(world, {"name": "a", "size": 1}, {"name": "b", "size": 1, "checksum": "none"})

    assert "put" not in body["uploads"][0]
    assert body["uploads"][1]["put"]["headers"] == {"if-none-match": "*"}


def test_an_upload_without_digests_declares_none_to_s3(world: World) -> None:
    """S3 would refuse parts without the digest that was declared."""
    initiate(world, {"name": "a", "size": 1_000, "checksum": "none"})

    assert [upload.checksum for upload in world.s3.uploads.values()] == [None]


def test_problems_are_inside_a_201(world: World) -> None:
    """One file that cannot be taken does not stop the others; the problem names what is wrong with it."""
    status, body = initiate(
        world,
        {"client_id": "ok", "name": "a.tif", "size": 1_000},
        {"client_id": "html", "name": "a.html", "size": 10, "type": "text/HTML; charset=utf-8"},
        {"client_id": "huge", "name": "a.bin", "size": OBJECT_SIZE_MAX + 1},
        {"client_id": "jpeg", "name": "a.jpg", "size": 3 * GIB, "type": "image/jpeg"},
        {"client_id": "digest", "name": "a", "size": 1, "sha256": "Z" * 64},
        {"client_id": "too", "name": "b.bin", "size": 10},
    )

    assert status == 201
    got = {one["client_id"]: one.get("problem", {}).get("code") for one in body["uploads"]}
    assert got == {
        "ok": None,
        "html": "type_not_allowed",
        "huge": "size_not_allowed",
        "jpeg": "size_not_allowed",
        "digest": "invalid_body",
        "too": None,
    }
    for one in body["uploads"]:
        assert ("problem" in one) is ("upload_id" not in one)
    assert len(world.s3.uploads) == 1
    assert len([key for key in world.table.items if key[1] == "F"]) == 2


@pytest.mark.parametrize("rule", TYPES, ids=lambda rule: rule.media_type)
def test_each_types_limit(world: World, rule: Any) -> None:
    """A declared type's size limit: at it, taken; above it, a problem that names the limit."""
    _, body = initiate(
        world,
        {"name": "a", "size": rule.size_max, "type": rule.media_type},
        {"name": "a", "size": rule.size_max + 1, "type": rule.media_type},
    )
    taken, refused = body["uploads"]

    assert "problem" not in taken
    assert (refused["problem"]["code"], refused["problem"]["size_max"]) == ("size_not_allowed", rule.size_max)
    assert world.record(taken["upload_id"]).kind == rule.kind


def test_max_part_size_is_honoured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client can hold bounds its parts."""
    from heavylift import parts

    monkeypatch.setattr(parts, "MIB", MIB)
    _, body = initiate(world, {"name": "a", "size": GIB}, max_part_size=32 * MIB)

    assert (body["uploads"][0]["part_size"], body["uploads"][0]["part_count"]) == (32 * MIB, 32)


@pytest.mark.parametrize("name", NASTY_NAMES, ids=lambda name: ascii(name[:12]))
def test_any_name_is_a_label(desk: World, name: str) -> None:
    """Kept and shown as it is, never in a key; list, file and download live with it."""
    from tests.doubles.samples import TEXT

    status, body = initiate(desk, {"name": name, "size": len(TEXT.data), "relative_path": name})
    assert status == 201
    file_id = body["uploads"][0]["upload_id"]
    assert desk.record(file_id).key == f"in/acme/{file_id}"
    assert desk.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})[1]["name"] == name
    items = desk.call("sessions", "GET", "/v1/uploads")[1]["items"]
    assert [item["name"] for item in items] == [name]
    logical_id = items[0].get("logical_id")
    if logical_id:
        found = desk.call("sessions", "GET", "/v1/files", query={"logical_id": logical_id})[1]["items"]
        assert [item["upload_id"] for item in found] == [file_id]
    desk.put(file_id, TEXT.data)
    desk.pump()
    status, answer = desk.call(
        "sessions", "GET", "/v1/files/{id}/content", path={"id": file_id}, query={"redirect": "false"}
    )
    if desk.status(file_id) == "completed":
        assert status == 200
        assert answer["url"].startswith("https://")
    else:
        assert desk.status(file_id) == "rejected"  # announced as a picture, and is text


def test_half_a_surrogate_pair_becomes_the_replacement_character(desk: World) -> None:
    """JSON can write what UTF-8 cannot; the name is kept readable, the file taken."""
    raw = '{"files":[{"name":"a\\ud800b","size":1,"metadata":{"k\\udfff":"\\ud83d\\ude00\\ud83d"}}]}'
    status, body = desk.call("initiate", "POST", ROUTE, raw_body=raw)

    assert status == 201
    record = desk.record(body["uploads"][0]["upload_id"])
    assert record.name == "a\ufffdb"
    assert record.metadata == {"k\ufffd": "\U0001f600\ufffd"}


BROKEN: list[tuple[str, Any]] = [
    ("no files", {}),
    ("files is no list", {"files": {}}),
    ("no file", {"files": []}),
    ("201 files", {"files": [{"name": "a", "size": 1}] * 201}),
    ("no name", {"files": [{"size": 1}]}),
    ("empty name", {"files": [{"name": "", "size": 1}]}),
    ("5,001 characters", {"files": [{"name": "x" * 5_001, "size": 1}]}),
    ("name is a number", {"files": [{"name": 5, "size": 1}]}),
    ("no size", {"files": [{"name": "a"}]}),
    ("negative size", {"files": [{"name": "a", "size": -1}]}),
    ("size is text", {"files": [{"name": "a", "size": "1"}]}),
    ("size is a fraction", {"files": [{"name": "a", "size": 1.5}]}),
    ("size is true", {"files": [{"name": "a", "size": True}]}),
    ("unknown kind", {"files": [{"name": "a", "size": 1, "kind": "movie"}]}),
    ("unknown checksum", {"files": [{"name": "a", "size": 1, "checksum": "md5"}]}),
    ("fingerprint of no version", {"files": [{"name": "a", "size": 1, "fingerprint": "a" * 64}]}),
    ("metadata is a list", {"files": [{"name": "a", "size": 1, "metadata": []}]}),
    ("metadata over 16 KiB", {"files": [{"name": "a", "size": 1, "metadata": {"k": "x" * 16_384}}]}),
    ("metadata is infinite", {"files": [{"name": "a", "size": 1, "metadata": {"k": float("inf")}}]}),
    ("rules over 64 KiB", {"files": [{"name": "a", "size": 1, "rules": {"k": "x" * 65_536}}]}),
    ("parts too small", {"files": [{"name": "a", "size": 1}], "max_part_size": 5 * MIB - 1}),
    ("one good, one bad", {"files": [{"name": "a", "size": 1}, {"name": "b"}]}),
]


@pytest.mark.parametrize(("why", "body"), BROKEN, ids=[why for why, _ in BROKEN])
def test_a_body_that_breaks_the_schema_is_422_as_a_whole(world: World, why: str, body: Any) -> None:
    """Nothing is stored, nothing opened; each defect is named by its place."""
    raw = json.dumps(body).replace("Infinity", "1e999")
    answer = world.answer("initiate", "POST", ROUTE, raw_body=raw)
    problem = json.loads(answer["body"])

    assert (answer["statusCode"], problem["code"]) == (422, "invalid_body"), why
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert problem["instance"] == ROUTE
    assert "errors" in problem or "infinite" in why
    assert world.table.items == {}
    assert world.s3.uploads == {}


@pytest.mark.parametrize("raw", ["{", "files", '{"files":[NaN]}', '{"files":Infinity}', "[" * 100_000, "'x'"])
def test_no_json_is_a_400(world: World, raw: str) -> None:
    """And so is what Python's reader would take but RFC 8259 does not."""
    status, body = world.call("initiate", "POST", ROUTE, raw_body=raw)

    assert (status, body["code"]) == (400, "not_json")


@pytest.mark.parametrize("depth", [30, 100, 150, 250, 900])
def test_nesting_is_kept_or_refused(desk: World, depth: int) -> None:
    """Deep metadata is kept whole or is a 422; never a 500, never a 503."""
    raw = '{"files":[{"name":"a","size":1,"metadata":{"k":' + "[" * depth + "]" * depth + "}}]}"
    status, body = desk.call("initiate", "POST", ROUTE, raw_body=raw)

    assert status in ({201} if depth <= 100 else {201, 422, 400}), body
    if status == 201:
        shown = desk.call("sessions", "GET", "/v1/files/{id}", path={"id": body["uploads"][0]["upload_id"]})[1]
        assert json.dumps(shown["metadata"]["k"]) == "[" * depth + "]" * depth


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.fixed_dictionaries({"name": json_values, "size": json_values}, optional={"metadata": json_values}))
def test_any_entry_is_taken_or_named_a_problem(world: World, entry: dict[str, Any]) -> None:
    """No entry makes anything but a 201, or a 422; what was taken is shown unchanged."""
    status, body = world.call("initiate", "POST", ROUTE, body={"files": [entry]})

    assert status in {201, 422}, body
    if status == 201 and "upload_id" in body["uploads"][0]:
        shown = world.call("sessions", "GET", "/v1/files/{id}", path={"id": body["uploads"][0]["upload_id"]})[1]
        assert shown["name"] == entry["name"].encode("utf-8", "replace").decode("utf-8")
        assert shown["metadata"] == entry.get("metadata", {})


def test_s3_down_is_each_files_problem(world: World) -> None:
    """S3 refuses one CreateMultipartUpload: that file has a retryable problem, the others their sessions."""
    from tests.doubles.answers import refusal

    def around(call: Any, run: Any) -> Any:
        if call.operation == "create_multipart_upload" and len(world.s3.uploads) == 1:
            raise refusal("SlowDown", 503, "CreateMultipartUpload")
        return run()

    world.gate.around = around
    status, body = initiate(world, *({"name": f"{n}", "size": 1_000} for n in range(2)))

    assert status == 201
    problems = [one["problem"] for one in body["uploads"] if "problem" in one]
    assert [(problem["code"], problem["status"], problem["retryable"]) for problem in problems] == [
        ("aws_unavailable", 503, True)
    ]


def test_nothing_of_the_client_is_in_s3s_metadata(world: World) -> None:
    """Names live in the table; the object knows its id only."""
    initiate(world, {"name": "secret patient.tif", "size": 1_000, "metadata": {"a": "b"}})

    (upload,) = world.s3.uploads.values()
    assert set(upload.metadata) == {"file-id"}
    assert upload.bucket == STAGING
