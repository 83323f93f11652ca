"""The largest sessions and the largest answers: plans, signatures, bytes of an answer, work per upload.

The real limits here, not the small world's; no byte of these files is ever sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from botocore.config import Config

from heavylift import limits, parts, presign
from heavylift import settings as settings_module
from heavylift.limits import GIB, MIB, OBJECT_SIZE_MAX, TIB
from heavylift.records import FileRecord
from tests.doubles.batches import BatchClient, sign_reads
from tests.doubles.contract import ANSWER_BYTES_MAX
from tests.doubles.world import STAGING, World
from tests.heavylift.test_presign import botocores, frozen

TOKEN = "IQoJb3JpZ2luX2VjE" + "Ab+/9=xyz" * 110
LONG = '\x01🗝\\"' * 1_250  # 5 000 characters, each of which JSON escapes
DIGEST = base64.b64encode(hashlib.sha256(b"a").digest()).decode()


@pytest.fixture
def large(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with the limits as they are, and a role's token of a thousand characters."""
    monkeypatch.setattr(parts, "MIB", MIB)
    monkeypatch.setattr(parts, "SINGLE_PUT_MAX", limits.SINGLE_PUT_MAX)
    monkeypatch.setattr(parts, "S3_PART_SIZE_MIN", limits.S3_PART_SIZE_MIN)
    monkeypatch.setattr(settings_module, "S3_PART_SIZE_MIN", limits.S3_PART_SIZE_MIN)
    monkeypatch.delenv("PART_SIZE_MIN")
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    settings_module.settings.cache_clear()
    sign_reads(world, monkeypatch)
    return world


def bytes_of(answer: dict[str, Any]) -> int:
    return len(json.dumps(answer).encode())


def sign(world: World, file_id: str, numbers: Any, **more: Any) -> dict[str, Any]:
    body = {"parts": [{"part_number": number, "sha256": digest_of(number), **more} for number in numbers]}
    return world.answer("sign", "POST", "/v1/uploads/{id}/parts", path={"id": file_id}, body=body)


def digest_of(number: int) -> str:
    return base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()


def open_upload(world: World, size: int, **more: Any) -> dict[str, Any]:
    body = {"files": [{"name": "a.bin", "size": size}], **more}
    status, answer = world.call("initiate", "POST", "/v1/uploads", body=body)
    assert status == 201
    found: dict[str, Any] = answer["uploads"][0]
    return found


def check_signatures(world: World, opened: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """First, middle and last part: the URL that botocore makes for the same moment, with their own length."""
    record = world.record(opened["upload_id"])
    count = opened["part_count"]
    numbers = sorted({1, 2, count // 2, count - 1, count})
    monkeypatch.setattr(presign, "timestamp", lambda now: "20251120T010203Z")
    answer = sign(world, record.file_id, numbers)
    assert answer["statusCode"] == 200, answer["body"]
    client = botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        aws_session_token=TOKEN,
        config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
    )
    sent = 0
    for number, part in zip(numbers, json.loads(answer["body"])["parts"], strict=True):
        length = min(opened["part_size"], size - (number - 1) * opened["part_size"])
        sent += length
        with frozen():
            expected = botocores(
                client,
                "upload_part",
                {
                    "Bucket": STAGING,
                    "Key": record.key,
                    "UploadId": record.s3_upload_id,
                    "PartNumber": number,
                    "ChecksumSHA256": digest_of(number),
                    "ContentLength": length,
                },
                900,
            )
        assert part["url"] == expected
        assert part["headers"] == {"x-amz-checksum-sha256": digest_of(number)}
    # What lies between is whole parts.
    assert sent + (count - len(numbers)) * opened["part_size"] == size


@pytest.mark.parametrize(
    ("size", "part_mib", "count"),
    [
        (80 * 10**9, 128, 597),
        (80 * GIB, 128, 640),
        (5 * 10**12, 530, 8_997),
        (5 * TIB, 583, 8_993),
        (OBJECT_SIZE_MAX - 1, 5_120, 10_000),
        (OBJECT_SIZE_MAX, 5_120, 10_000),
    ],
)
def test_the_largest_sessions(
    large: World, monkeypatch: pytest.MonkeyPatch, size: int, part_mib: int, count: int
) -> None:
    """80 GB, 5 TB, 48.8 TiB: the plan, and the first and last signatures as botocore makes them."""
    opened = open_upload(large, size)

    assert (opened["mode"], opened["part_size"], opened["part_count"]) == ("multipart", part_mib * MIB, count)
    check_signatures(large, opened, size, monkeypatch)
    status, shown = large.call("sessions", "GET", "/v1/uploads/{id}", path={"id": opened["upload_id"]})
    assert (status, shown["needed"], shown["size"]) == (200, [[1, count]], size)


def test_one_byte_above_is_refused(large: World) -> None:
    """10 000 parts of 5 GiB are all that S3 joins."""
    problem = open_upload(large, OBJECT_SIZE_MAX + 1)["problem"]

    assert (problem["code"], problem["size_max"]) == ("size_not_allowed", OBJECT_SIZE_MAX)
    assert large.s3.uploads == {}


@pytest.mark.parametrize(
    ("size", "most", "part_size", "count"),
    [
        (GIB, 32 * MIB, 32 * MIB, 32),
        (80 * GIB, 32 * MIB, 32 * MIB, 2_560),
        (9_000 * 32 * MIB, 32 * MIB, 32 * MIB, 9_000),
        (10 * MIB, 5 * MIB, 5 * MIB, 2),
        (5 * TIB, 32 * MIB, 583 * MIB, 8_993),  # what S3 takes goes before what a client can hold
    ],
)
def test_what_a_client_can_hold(large: World, size: int, most: int, part_size: int, count: int) -> None:
    """max_part_size bounds parts as long as there are not too many of them."""
    opened = open_upload(large, size, max_part_size=most)

    assert (opened["part_size"], opened["part_count"]) == (part_size, count)


def test_a_thousand_signed_parts(large: World) -> None:
    """The most that a call signs, with a long token and long numbers, is far below Lambda's limit."""
    opened = open_upload(large, OBJECT_SIZE_MAX)
    answer = sign(large, opened["upload_id"], range(9_001, 10_001))
    found = json.loads(answer["body"])["parts"]

    assert answer["statusCode"] == 200
    assert [part["part_number"] for part in found] == list(range(9_001, 10_001))
    assert len({part["url"] for part in found}) == 1_000
    assert all(len(part["url"]) > 1_000 for part in found)
    assert bytes_of(answer) < 0.75 * ANSWER_BYTES_MAX
    assert sign(large, opened["upload_id"], range(1, 1_002))["statusCode"] == 422


def test_two_hundred_files(large: World) -> None:
    """The most that a call begins, each with its signed PUT and the longest id of the client's."""
    files = [
        {"name": LONG, "relative_path": LONG, "size": n, "sha256": digest_of(n), "client_id": "\x01" * 200}
        for n in range(200)
    ]
    answer = large.answer("initiate", "POST", "/v1/uploads", body={"files": files})
    found = json.loads(answer["body"])["uploads"]

    assert answer["statusCode"] == 201
    assert len({one["put"]["url"] for one in found}) == 200
    assert bytes_of(answer) < 0.75 * ANSWER_BYTES_MAX


def test_two_hundred_problems(large: World) -> None:
    """Problems quote what was sent no longer than it may be."""
    files = [{"name": LONG, "size": 1, "type": "text/html;" + "\x01" * 190, "client_id": LONG[:200]}] * 200
    answer = large.answer("initiate", "POST", "/v1/uploads", body={"files": files})

    assert answer["statusCode"] == 201
    assert bytes_of(answer) < 0.75 * ANSWER_BYTES_MAX


def test_five_hundred_signed_files(large: World) -> None:
    """The most that a call signs for a batch."""
    client = BatchClient(large, {n: (f"{n}.txt", b"x" * n) for n in range(1, 501)})
    client.begin(mode="put")
    client.list()
    answer = large.answer(
        "sign", "POST", "/v1/batches/{id}/urls", path={"id": client.batch_id}, body={"n": list(range(1, 501))}
    )

    assert len(json.loads(answer["body"])["urls"]) == 500
    assert bytes_of(answer) < 0.75 * ANSWER_BYTES_MAX


@pytest.mark.parametrize("filters", [{}, {"status": "created"}, {"logical_id": "L"}], ids=lambda one: "".join(one))
def test_a_page_of_the_longest_labels_ends_early(world: World, filters: dict[str, str]) -> None:
    """Seventy lines would be 11 MB: the page is shorter, the next goes on behind it, none is lost or twice."""
    entry = {"size": 1, "name": LONG, "relative_path": LONG, "description": LONG[:2_000], "data_type": LONG[:2_000]}
    made: list[str] = []
    for _ in range(3):
        body = {"files": [{**entry, "metadata": {"logical_id": "L"}}] * 24}
        made += [one["upload_id"] for one in world.call("initiate", "POST", "/v1/uploads", body=body)[1]["uploads"]]
    seen: list[str] = []
    query = {**filters, "limit": "100"}
    pages = 0
    while True:
        answer = world.answer("sessions", "GET", "/v1/files", query=query)
        assert bytes_of(answer) < ANSWER_BYTES_MAX
        shown = json.loads(answer["body"])
        seen += [line["file_id"] for line in shown["items"]]
        pages += 1
        if shown["next_token"] is None:
            break
        query["next_token"] = shown["next_token"]

    assert seen == sorted(made, reverse=True)
    assert pages == 2


def test_a_batch_of_the_longest_labels(large: World) -> None:
    """Its pages end early, its errors and the files inside are as many as fit."""
    client = BatchClient(large, dict.fromkeys(range(1, 101), (LONG, b"")))
    client.begin()
    entries = [{"n": n, "name": LONG, "size": 0, "relative_path": LONG} for n in client.files]
    assert client.put_page(1, entries)[0] == 200
    assert client.complete()[0] == 200
    answer = large.answer("sessions", "GET", "/v1/batches/{id}", path={"id": client.batch_id}, query={"wait": "1"})
    shown = json.loads(answer["body"])

    assert bytes_of(answer) < ANSWER_BYTES_MAX
    assert (shown["failed"], 1 <= len(shown["errors"]) < 100) == (100, True)
    lines: list[int] = []
    query = {"limit": "100"}
    while True:
        page = large.answer("sessions", "GET", "/v1/batches/{id}/files", path={"id": client.batch_id}, query=query)
        assert bytes_of(page) < ANSWER_BYTES_MAX
        body = json.loads(page["body"])
        lines += [line["n"] for line in body["items"]]
        if body["next_token"] is None:
            break
        query["next_token"] = body["next_token"]
    assert lines == list(range(1, 101))


def test_ten_thousand_received_parts(large: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part with its digest, and every second one missing, fit into an answer."""
    opened = open_upload(large, OBJECT_SIZE_MAX)
    record = large.record(opened["upload_id"])
    upload = large.s3.uploads[record.s3_upload_id or ""]
    template_of(large, upload, record, range(1, 10_001, 2), monkeypatch)
    answer = large.answer("sessions", "GET", "/v1/uploads/{id}", path={"id": record.file_id}, query={"parts": "true"})
    shown = json.loads(answer["body"])

    assert len(shown["parts"]) == 5_000
    assert len(shown["needed"]) == 5_000
    assert bytes_of(answer) < 0.75 * ANSWER_BYTES_MAX
    refused = large.answer("complete", "POST", "/v1/uploads/{id}/complete", path={"id": record.file_id}, body={})
    assert json.loads(refused["body"])["missing"] == shown["needed"]


def template_of(world: World, upload: Any, record: FileRecord, numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that S3 says it has: their sizes are told, no byte is there."""
    from heavylift import assembly, s3

    listed = [s3.PartInfo(number, record.part_size, '"e"', digest_of(number)) for number in numbers]
    monkeypatch.setattr(assembly, "list_parts", lambda _: listed)


def counts_of_hmacs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts hashes begun while signing."""
    counted: Counter[str] = Counter()
    plain = hashlib.sha256

    def counting(*given: Any, **named: Any) -> Any:
        counted["sha256"] += 1
        return plain(*given, **named)

    monkeypatch.setattr(presign, "sha256", counting)
    return counted


def test_signing_costs_what_is_signed(large: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes begun do not grow with the parts of a call at all, nor with those of the file; URLs one a part."""
    small, huge = open_upload(large, GIB), open_upload(large, OBJECT_SIZE_MAX)
    begun = {}
    for name, opened, number in (("small", small, 16), ("huge", huge, 16), ("many", huge, 1_000)):
        sign(large, opened["upload_id"], [1])
        with monkeypatch.context() as patch:
            counted = counts_of_hmacs(patch)
            answer = sign(large, opened["upload_id"], range(1, number + 1))
            begun[name] = counted["sha256"]
        assert len(json.loads(answer["body"])["parts"]) == number

    assert begun["small"] == begun["huge"] == begun["many"] <= 8


def life(world: World, count: int) -> Counter[str]:
    """Calls of the table from initiate to the last byte of a file of so many parts, and until it is stored."""
    data = b"x" * (16 * count if count > 1 else 10)
    world.gate.restart()
    file_id = world.initiate("a.bin", data)
    world.put(file_id, data)
    if count > 1:
        assert world.record(file_id).part_count == count
        assert world.complete(file_id)[0] == 200
    return Counter(call.operation for call in world.gate.calls if call.service == "dynamodb")


def test_work_of_the_table_does_not_grow_with_the_parts(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 1 000 and 10 000 parts: the same calls of the table for a multipart upload, and few."""
    found = {}
    for count in (1, 10, 1_000, 10_000):
        world = worlds()
        monkeypatch.setattr(parts, "SINGLE_PUT_MAX", 12)
        monkeypatch.setattr(parts, "PART_COUNT_PLANNED_MAX", 10_000)
        found[count] = life(world, count)

    assert found[10] == found[1_000] == found[10_000]
    assert sum(found[10_000].values()) <= 10
    assert sum(found[1].values()) <= sum(found[10].values())


def test_urls_end_with_their_sessions(large: World) -> None:
    """A URL is never promised for longer than its upload lives."""
    opened = open_upload(large, GIB)
    large.clock.advance(7 * 86_400 - 100)
    (part,) = json.loads(sign(large, opened["upload_id"], [1])["body"])["parts"]

    assert int(parse_qs(urlsplit(part["url"]).query)["X-Amz-Expires"][0]) <= 100
