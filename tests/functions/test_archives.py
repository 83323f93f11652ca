"""Archives from the request to the download: over the very handlers, with every end that they can have."""

from __future__ import annotations

import csv
import errno
import io
import json
import zlib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from heavylift import items
from heavylift.archives import jobs, preparing
from heavylift.archives.jobs import ArchiveStatus
from tests.doubles import dicom, events
from tests.doubles.archives import ask, check_clean, derived, drop, job_of, look, made, opened, stored
from tests.doubles.batches import BatchClient
from tests.doubles.gate import Call, Killed, kill_after, kill_before
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import DERIVED, World, handler_of

UNKNOWN = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
DAY = 86_400


def a_text(n: int) -> bytes:
    return f"file number {n}\n".encode()


@pytest.fixture
def ids(world: World) -> list[str]:
    """Three files of one document, one of them empty."""
    return [
        stored(world, "scan_1.txt", a_text(1), metadata={"box": 7, "note": "=1+1"}),
        stored(world, "scan_2.txt", a_text(2)),
        stored(world, "scan_3.bin", b""),
    ]


def rows(archive: Any, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read(name).decode(), newline="")))


def test_an_archive_of_files(world: World, ids: list[str]) -> None:
    """202 with a job; then the files with METS and table under safe names, proven, and nothing of the making left."""
    status, asked = ask(world, file_ids=ids, name="Box 7")
    assert status == 202
    assert (asked["status"], asked["final"], asked["name"]) == ("queued", False, "Box 7.zip")
    assert asked["requested"] == {"files": 3}
    world.pump()
    body = look(world, asked["archive_id"])
    archive = opened(world, asked["archive_id"])

    assert (body["status"], body["final"], body["package"]) == ("completed", True, "plain")
    assert archive.namelist() == ["scan_1.txt", "scan_2.txt", "scan_3.bin", "scan_mets.xml", "scan_metadata.csv"]
    assert archive.read("scan_2.txt") == a_text(2)
    table = rows(archive, "scan_metadata.csv")
    assert [row["file_id"] for row in table] == ids
    assert (table[0]["metadata.box"], table[0]["metadata.note"]) == ("7", "'=1+1")
    job = job_of(world, asked["archive_id"])
    data = world.s3.buckets[DERIVED][f"archives/acme/{job.content_sha256}.zip"].body
    assert (body["size"], b64decode(body["crc32"])) == (len(data), zlib.crc32(data).to_bytes(4))
    assert (body["members"], body["missing"], body["progress"]["percent"]) == (5, 0, 100.0)
    assert body["bytes_through"] == max(body["bytes_in"], body["bytes_out"]) > 0
    assert "failure" not in body
    check_clean(world)


@pytest.mark.parametrize("package", ["plain", "bagit"])
def test_an_archive_of_a_document(world: World, ids: list[str], package: str) -> None:
    """By its logical id: files that come later are in the next one, those of another document in none."""
    stored(world, "other_1.txt", a_text(9))
    first = made(world, logical_id="scan", package=package)
    assert (first["status"], first["name"]) == ("completed", "scan.zip")
    folder = "scan/data/objects/" if package == "bagit" else ""
    names = opened(world, first["archive_id"]).namelist()
    assert [name for name in names if name.startswith(f"{folder}scan_") and "m" not in name[len(folder) + 5 :]] == [
        f"{folder}scan_1.txt", f"{folder}scan_2.txt", f"{folder}scan_3.bin",
    ]  # fmt: skip
    stored(world, "scan_4.txt", a_text(4))
    second = made(world, logical_id="scan", package=package)

    assert second["members"] == first["members"] + 1
    assert job_of(world, second["archive_id"]).content_sha256 != job_of(world, first["archive_id"]).content_sha256


def test_the_same_files_are_the_same_archive(world: World, ids: list[str]) -> None:
    """Asked for again, by whatever name: at once, not built again; with less than a day of its life left it is."""
    first = made(world, file_ids=ids)
    again = made(world, logical_id="scan", name="x")
    key = f"archives/acme/{job_of(world, first['archive_id']).content_sha256}.zip"

    assert (first["reused"], again["reused"]) == (False, True)
    assert (again["crc32"], again["size"], again["expires_at"]) == (
        first["crc32"], first["size"], first["expires_at"],
    )  # fmt: skip
    assert derived(world, "archives/") == [key.replace(".zip", ".index"), key]
    assert world.s3.versions_made[DERIVED, key] == 1
    before = world.s3.buckets[DERIVED][key].body
    world.clock.advance(6.1 * DAY)
    late = made(world, file_ids=ids)
    assert (late["status"], late["reused"]) == ("completed", False)
    assert world.s3.versions_made[DERIVED, key] == 2
    assert world.s3.buckets[DERIVED][key].body == before
    assert late["expires_at"] > first["expires_at"]
    check_clean(world)


def test_an_archive_of_a_batch(world: World) -> None:
    """By number; what is none of the wanted files is left out, what failed is missing."""
    client = BatchClient(world, {n: (f"sub/{n}.txt", a_text(n)) for n in (1, 2, 3)})
    client.begin()
    client.list()
    status, refused = ask(world, batch_id=client.batch_id)
    assert (status, refused["code"]) == (409, "state_conflict")
    for n in (1, 2):
        client.post(n)
    world.pump()
    client.complete()
    status, asked = ask(world, batch_id=client.batch_id)
    assert status == 202
    world.pump()
    failed = look(world, asked["archive_id"])
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "member_missing")
    assert failed["failure"]["member"].endswith("3.txt")
    body = made(world, batch_id=client.batch_id, on_missing="skip")
    archive = opened(world, body["archive_id"])

    assert (body["status"], body["missing"], body["name"]) == ("completed", 1, f"{client.batch_id}.zip")
    assert [archive.read(name) for name in archive.namelist()[:2]] == [a_text(1), a_text(2)]
    assert rows(archive, f"{client.batch_id}_missing.csv")[0]["reason"] == "not_received"


@pytest.mark.parametrize("package", ["plain", "bagit"])
def test_an_archive_of_a_study(world: World, package: str) -> None:
    """By series and instance, whatever order they came in; a file that is there twice is in it once."""
    files = dicom.folder(2, 2, 3)
    files = dict(enumerate([*list(files.values())[::-1], files[1]], start=1))
    client = dicom.sent(world, files)
    dicom.pump(world)
    client.complete()
    _, listed = world.call("sessions", "GET", "/v1/batches/{id}/studies", path={"id": client.batch_id})
    uid = next(one["study_uid"] for one in listed["items"] if one["study_uid"].endswith(".1"))
    status, asked = ask(world, study_uid=uid, package=package)
    assert (status, asked["name"]) == (202, f"{uid}.zip")
    dicom.pump(world)
    body = look(world, asked["archive_id"])
    assert (body["status"], body["missing"]) == ("completed", 0), body
    archive = opened(world, asked["archive_id"])
    start = f"{uid}/data/objects/" if package == "bagit" else ""
    assert [archive.read(name) for name in archive.namelist()[:6]] == [
        dicom.dicom(1, series, number) for series in (1, 2) for number in (1, 2, 3)
    ]
    assert all(name.startswith(start) for name in archive.namelist()[:6])
    check_clean(world)


def test_what_can_be_said_at_once(world: World, ids: list[str]) -> None:
    """Unknown files, another tenant's, files that are not stored, documents and studies that nobody knows."""
    waiting = world.initiate("late.txt", a_text(5))
    theirs = world.call("initiate", "POST", "/v1/uploads", body={"files": [{"name": "a", "size": 1}]}, tenant="globex")
    for body, status, code in (
        ({"file_ids": [*ids, UNKNOWN]}, 404, "not_found"),
        ({"file_ids": [theirs[1]["uploads"][0]["upload_id"]]}, 404, "not_found"),
        ({"file_ids": [ids[0], waiting]}, 409, "not_stored"),
        ({"logical_id": "nobody"}, 404, "not_found"),
        ({"batch_id": UNKNOWN}, 404, "not_found"),
        ({"study_uid": "1.2.840.1"}, 404, "not_found"),
        ({"study_uid": "1#2"}, 422, "invalid_body"),
        ({}, 422, "invalid_body"),
        ({"file_ids": ids, "logical_id": "scan"}, 422, "invalid_body"),
        ({"file_ids": []}, 422, "invalid_body"),
        ({"file_ids": ["../x"]}, 422, "invalid_body"),
        ({"file_ids": ids, "package": "rar"}, 422, "invalid_body"),
    ):
        found_status, found = ask(world, **body)
        assert (found_status, found["code"]) == (status, code), body
    assert derived(world, "requests/") == []


def test_a_missing_file_fails_the_job_or_is_reported(world: World, ids: list[str]) -> None:
    """By its name; with on_missing skip the report inside the package names it instead."""
    waiting = world.initiate("late.txt", a_text(5))
    body = made(world, file_ids=[*ids, waiting, UNKNOWN], on_missing="skip")
    report = rows(opened(world, body["archive_id"]), "scan_missing.csv")

    assert [(row["file_id"], row["original_name"], row["reason"]) for row in report] == [
        (waiting, "late.txt", "created"), (UNKNOWN, "", "not_found"),
    ]  # fmt: skip
    drop(world, UNKNOWN, {"file_ids": [*ids, waiting]})
    world.pump()
    failed = look(world, UNKNOWN)
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "member_missing")
    assert "late.txt" in failed["failure"]["message"]
    assert failed["failure"]["file_id"] == waiting
    assert made(world, file_ids=[waiting], on_missing="skip")["failure"]["code"] == "nothing_to_archive"
    check_clean(world)


# --- bags ---


def test_a_bags_digests(world: World) -> None:
    """A single PUT's is proven by S3; one that its uploader declared is named; one nobody told is read, and kept."""
    proven = stored(world, "doc_1.txt", a_text(1))
    long = b"".join(a_text(n) for n in range(20))
    unknown = stored(world, "doc_2.txt", long)
    assert "sha256" not in world.record(unknown).checksums
    body = made(world, file_ids=[proven, unknown], package="bagit")
    archive = opened(world, body["archive_id"])

    assert body["status"] == "completed", body
    assert len(archive.read("doc/manifest-sha256.txt").splitlines()) == 2
    assert b"Declared-SHA-256" not in archive.read("doc/bag-info.txt")
    assert world.record(unknown).checksums["sha256_proven"] is True
    assert body["bytes_in"] >= len(long)
    declared = stored(world, "doc_3.txt", long)
    world.set(declared, declared_sha256=world.record(unknown).checksums["sha256"])
    archive = opened(world, made(world, file_ids=[declared], package="bagit")["archive_id"])
    assert b"Declared-SHA-256: data/objects/doc_3.txt\n" in archive.read("doc/bag-info.txt")


def test_a_bag_of_a_file_that_is_too_large_to_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """no_sha256, by its name; as a plain package it goes."""
    monkeypatch.setattr("heavylift.archives.preparing.DIGEST_READ_MAX", 100)
    file_id = stored(world, "huge_1.txt", b"x" * 200)
    failed = made(world, file_ids=[file_id], package="bagit")

    assert (failed["status"], failed["failure"]["code"]) == ("failed", "no_sha256")
    assert failed["failure"]["member"] == "huge_1.txt"
    assert made(world, file_ids=[file_id])["status"] == "completed"
    check_clean(world)


def test_digests_take_as_many_slices_as_they_need(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice keeps what it found; none reads a file twice."""
    files = [stored(world, f"doc_{n}.txt", bytes([65 + n]) * 200) for n in range(3)]
    monkeypatch.setattr("heavylift.archives.preparing.READ_BYTES_PER_S", 1e-9)
    world.gate.restart()
    body = made(world, file_ids=files, package="bagit")
    reads = [call.arguments["Key"] for call in world.gate.calls if call.operation == "get_object"]

    assert body["status"] == "completed", body
    for file_id in files:
        assert reads.count(f"files/acme/{file_id}") == 2  # its digest, and its bytes into the archive


@pytest.mark.parametrize("limit", ["preparing.DISK_BYTES_MAX", "entries.SPOOL_BYTES_MAX"])
def test_metadata_that_are_too_many(world: World, ids: list[str], monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """The archive fails in words, and nothing is left."""
    monkeypatch.setattr(f"heavylift.archives.{limit}", 10)
    assert made(world, file_ids=ids)["failure"]["code"] == "too_much_metadata"
    check_clean(world)


def test_a_disk_that_is_full(world: World, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words; any other trouble of the disk is tried again."""
    troubles = [errno.EIO, errno.ENOSPC]
    plain = preparing.packages.make

    def make(*given: Any, **more: Any) -> Any:
        if troubles:
            raise OSError(troubles.pop(0), "as told")
        return plain(*given, **more)

    monkeypatch.setattr(preparing.packages, "make", make)
    failed = made(world, file_ids=ids)
    assert (failed["failure"]["code"], troubles) == ("too_much_metadata", [])
    assert made(world, file_ids=ids)["status"] == "completed"
    check_clean(world)


def test_what_is_made_may_be_large(world: World, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """METS, table and manifest as objects of their own instead of in the list: the same archive."""
    first = made(world, file_ids=ids, package="bagit")
    for key in derived(world, "archives/"):
        del world.s3.buckets[DERIVED][key]
    monkeypatch.setattr("heavylift.archives.preparing.INLINE_MAX", 10)
    second = made(world, file_ids=ids, package="bagit")

    assert (second["status"], second["crc32"], second["size"]) == ("completed", first["crc32"], first["size"])
    check_clean(world)


# --- requests as objects ---


def test_a_request_may_just_be_dropped(world: World, ids: list[str]) -> None:
    """The key says whose it is and by which id it is watched; files of another tenant are not found there."""
    drop(world, UNKNOWN, {"file_ids": ids[:1]})
    world.pump()
    assert look(world, UNKNOWN)["status"] == "completed"
    assert opened(world, UNKNOWN).namelist()[0] == "scan_1.txt"
    other = "01JD2Z3NDEKTSV4RRFFQ69G5FB"
    drop(world, other, {"file_ids": ids[:1]}, tenant="globex")
    world.pump()
    failed = look(world, other, tenant="globex")
    assert failed["failure"]["reason"] == "not_found"
    check_clean(world)


@pytest.mark.parametrize(
    ("body", "word"),
    [(b"no json", "JSON"), ({"file_ids": ["files/acme/x"]}, "file_ids"), ({"keys": ["files/acme/x"]}, "none")],
)
def test_a_request_that_breaks_the_rules(world: World, body: Any, word: str) -> None:
    """Its archive has failed with words; the next event of it changes nothing."""
    drop(world, UNKNOWN, body)
    world.pump(copies=2)
    failed = look(world, UNKNOWN)

    assert (failed["status"], failed["failure"]["code"]) == ("failed", "invalid_request")
    assert word in failed["failure"]["message"]
    assert world.queues.dead == []
    check_clean(world)


@pytest.mark.parametrize("key", ["requests/acme/monthly.json", "requests/x.json", f"requests/ACME/{UNKNOWN}.json"])
def test_a_request_under_a_name_that_says_nothing(world: World, key: str) -> None:
    """It is nobody's; nothing is built and no message comes back."""
    world.s3.put_object(Bucket=DERIVED, Key=key, Body=b"{}")
    world.pump()

    assert world.queues.messages == world.queues.dead == []
    assert derived(world, "archives/") == []


# --- downloads ---


def test_the_download(world: World, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed link with the name for the browser (RFC 6266); 307 by itself, JSON where that is asked for."""
    signed: list[dict[str, Any]] = []
    plain = world.s3.generate_presigned_url

    def sign(operation: str, *, Params: dict[str, Any], ExpiresIn: int) -> str:
        signed.append(Params | {"ttl": ExpiresIn})
        return plain(operation, Params=Params, ExpiresIn=ExpiresIn)

    monkeypatch.setattr(world.s3, "generate_presigned_url", sign)
    body = made(world, file_ids=ids, name="Kiste Nr. 7 – „rot“")
    route, path = "/v1/archives/{id}/content", {"id": body["archive_id"]}
    answer = world.answer("sessions", "GET", route, path=path)
    status, link = world.call("sessions", "GET", route, path=path, query={"redirect": "false", "ttl": "3600"})

    assert (answer["statusCode"], status) == (307, 200)
    assert link["url"].split("?")[0] == answer["headers"]["location"].split("?")[0]
    assert "expires_at" in link
    assert [one["ttl"] for one in signed] == [900, 3600]
    disposition = signed[0]["ResponseContentDisposition"]
    assert disposition.startswith("attachment; filename=\"Kiste Nr. 7 _ _rot_.zip\"; filename*=UTF-8''")
    assert unquote(disposition.partition("UTF-8''")[2]) == "Kiste Nr. 7 – „rot“.zip"
    assert signed[0]["ResponseContentType"] == "application/zip"


def test_one_member_by_its_range(world: World, ids: list[str]) -> None:
    """The range of the archive is the member; the list names them all; an empty one is no range."""
    body = made(world, file_ids=ids)
    archive_id = body["archive_id"]
    archive = opened(world, archive_id)
    job = job_of(world, archive_id)
    data = world.s3.buckets[DERIVED][f"archives/acme/{job.content_sha256}.zip"].body
    found = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        _, page = world.call("sessions", "GET", "/v1/archives/{id}/members", path={"id": archive_id}, query=query)
        found += page["items"]
        if page["next_token"] is None:
            break
        query["next_token"] = page["next_token"]
    assert [one["name"] for one in found] == archive.namelist()
    for info, listed in zip(archive.infolist(), found, strict=True):
        path = {"id": archive_id, "n": str(listed["n"])}
        status, one = world.call("sessions", "GET", "/v1/archives/{id}/members/{n}/content", path=path)
        assert status == 200
        assert {name: one[name] for name in listed} == listed
        first, _, last = one["headers"]["range"].removeprefix("bytes=").partition("-")
        if info.file_size:
            assert data[int(first) : int(last) + 1] == archive.read(info)
        else:
            assert (int(first), last) == (len(data), "")
    for n in ("5", "-1", "x", "9" * 12, "1.0"):
        path = {"id": archive_id, "n": n}
        status, refused = world.call("sessions", "GET", "/v1/archives/{id}/members/{n}/content", path=path)
        assert (status, refused["code"]) == (404, "not_found")


@pytest.mark.parametrize("rest", ["/content", "/members", "/members/0/content"])
def test_nothing_is_downloaded_before_it_is_there_or_after_its_time(world: World, ids: list[str], rest: str) -> None:
    """409 while it is made, 410 when its week is over."""
    _, asked = ask(world, file_ids=ids)
    path = {"id": asked["archive_id"], **({"n": "0"} if "/0/" in rest else {})}
    route = "/v1/archives/{id}" + rest.replace("/0/", "/{n}/")
    status, refused = world.call("sessions", "GET", route, path=path)
    assert (status, refused["code"]) == (409, "archive_not_ready")
    world.pump()
    world.clock.advance(7 * DAY + 1)
    status, refused = world.call("sessions", "GET", route, path=path)
    assert (status, refused["code"]) == (410, "archive_expired")


# --- ends ---


def test_cancel(world: World, ids: list[str]) -> None:
    """Before it is there: nothing of it is left, and a late event builds nothing. After: 409."""
    _, asked = ask(world, file_ids=ids)
    route, path = "/v1/archives/{id}", {"id": asked["archive_id"]}
    status, body = world.call("complete", "DELETE", route, path=path)
    assert (status, body["status"], body["final"]) == (200, "cancelled", True)
    assert world.call("complete", "DELETE", route, path=path)[0] == 200
    world.pump()
    assert look(world, asked["archive_id"])["status"] == "cancelled"
    assert derived(world, "archives/") == []
    check_clean(world)
    done = made(world, file_ids=ids)
    status, refused = world.call("complete", "DELETE", route, path={"id": done["archive_id"]})
    assert (status, refused["code"]) == (409, "state_conflict")


@pytest.mark.parametrize("when", ["create_multipart_upload", "upload_part", "list_parts"])
def test_a_file_that_is_deleted_fails_the_archive_that_uses_it(world: World, ids: list[str], when: str) -> None:
    """By its name, whether its bytes were taken already or not; with on_missing skip the archive does without it."""
    for on_missing in ("fail", "skip"):
        victim = stored(world, f"scan_{on_missing}.txt", a_text(8))
        _, asked = ask(world, file_ids=[*ids, victim], on_missing=on_missing)
        deleted = False

        def around(call: Call, run: Callable[[], Any], victim: str = victim) -> Any:
            nonlocal deleted
            if call.operation == when and not deleted:
                deleted = True
                path = {"id": victim}
                assert world.call("complete", "DELETE", "/v1/files/{id}", path=path)[0] == 200
            return run()

        with world.hook(around):
            world.pump()
        assert deleted
        body = look(world, asked["archive_id"])
        if on_missing == "fail":
            assert body["status"] == "failed", body
            assert body["failure"]["member"] == "scan_fail.txt"
            assert body["failure"]["file_id"] == victim
        else:
            assert (body["status"], body["missing"]) == ("completed", 1), body
            assert "scan_skip.txt" not in opened(world, asked["archive_id"]).namelist()
    check_clean(world)


@pytest.mark.parametrize("when", [None, "create_multipart_upload", "list_parts"])
def test_a_threat_that_is_found_later_is_in_no_archive(world: World, ids: list[str], when: str | None) -> None:
    """Found after the file was stored, before the request or while the archive is built: named, and not a member."""
    victim = stored(world, "scan_bad.txt", a_text(8))
    found = {"status": "THREATS_FOUND", "etag": world.record(victim).etag, "at": 1.0}
    told = False

    def around(call: Call, run: Callable[[], Any]) -> Any:
        nonlocal told
        if call.operation == when and not told:
            told = True
            world.set(victim, scan=found)
        return run()

    if when is None:
        told = bool(world.set(victim, scan=found))
    _, asked = ask(world, file_ids=[*ids, victim], on_missing="skip")
    with world.hook(around):
        world.pump()

    body = look(world, asked["archive_id"])
    archive = opened(world, asked["archive_id"])
    assert told
    assert (body["status"], body["missing"]) == ("completed", 1), body
    assert "scan_bad.txt" not in archive.namelist()
    assert [row["file_id"] for row in rows(archive, "scan_missing.csv")] == [victim]
    check_clean(world)


def downloads(world: World, archive_id: str) -> list[tuple[int, str | None]]:
    """The answers of all routes that lead to an archive's bytes."""
    found = []
    for rest in ("/content", "/members", "/members/{n}/content"):
        path, query = {"id": archive_id, "n": "0"}, {"redirect": "false"}
        status, body = world.call("sessions", "GET", "/v1/archives/{id}" + rest, path=path, query=query)
        found.append((status, body.get("code")))
    return found


SERVED, BLOCKED = [(200, None)] * 3, [(409, "malware_found")] * 3


def test_an_archive_that_holds_a_threat_is_served_no_more(world: World, ids: list[str]) -> None:
    """A verdict that comes when the archive is finished blocks it and its members, and no other archive."""
    victim = stored(world, "scan_bad.txt", a_text(8))
    whole, other = (made(world, file_ids=wanted)["archive_id"] for wanted in ([*ids, victim], ids))
    assert downloads(world, whole) == downloads(world, other) == SERVED
    world.scanned(victim, "THREATS_FOUND")
    world.pump()

    assert downloads(world, whole) == BLOCKED
    assert downloads(world, other) == SERVED
    assert look(world, whole)["status"] == "completed"
    again = made(world, file_ids=[*ids, victim], on_missing="skip")
    assert (again["status"], again["missing"]) == ("completed", 1)
    assert downloads(world, again["archive_id"]) == SERVED


@pytest.mark.parametrize("kill", [kill_before, kill_after])
def test_a_late_threat_blocks_archives_whoever_dies(world: World, kill: Callable[[int], Any]) -> None:
    """Killed at any call between the verdict and its note: the message comes again."""
    for number in range(1, 6):
        victim = stored(world, f"bad_{number}.txt", a_text(number))
        archive_id = made(world, file_ids=[victim])["archive_id"]
        world.scanned(victim, "THREATS_FOUND")
        world.gate.restart(kill(number))
        world.pump()
        world.gate.around = None
        assert downloads(world, archive_id) == BLOCKED, number


def test_the_same_request_again(world: World, ids: list[str]) -> None:
    """Under one Idempotency-Key: one archive, however often it is asked for, also half-way killed."""
    key = {"idempotency-key": "k1"}
    for number in range(1, 9):
        event = events.http("POST", "/v1/archives", body={"file_ids": ids}, headers=key)
        world.gate.restart(kill_after(number))
        try:
            handler_of("initiate")(event, events.Context("initiate", 29))
        except Killed:
            world.clock.advance(60)
        world.gate.around = None
    answers = {
        world.call("initiate", "POST", "/v1/archives", body={"file_ids": ids}, headers=key)[1]["archive_id"]
        for _ in range(2)
    }
    assert len(answers) == 1
    world.pump()
    (archive_id,) = answers
    assert look(world, archive_id)["status"] == "completed"
    status, refused = world.call("initiate", "POST", "/v1/archives", body={"file_ids": ids[:1]}, headers=key)
    assert (status, refused["code"]) == (422, "idempotency_key_reused")


def test_an_event_that_is_faster_than_its_call(world: World, ids: list[str]) -> None:
    """Killed between the request and the job: the event makes the job, and the repeat finds it."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.operation == "put_object" and call.arguments["Key"].startswith("requests/"):
            raise Killed("after the request was written")
        return answer

    event = events.http("POST", "/v1/archives", body={"file_ids": ids}, headers={"idempotency-key": "k2"})
    with world.hook(around), pytest.raises(Killed):
        handler_of("initiate")(event, events.Context("initiate", 29))
    world.pump()
    world.clock.advance(60)
    _, body = world.call("initiate", "POST", "/v1/archives", body={"file_ids": ids}, headers={"idempotency-key": "k2"})
    assert body["status"] == "completed"
    assert opened(world, body["archive_id"]).testzip() is None


def test_killed_at_every_call(worlds: Callable[..., World]) -> None:
    """Whatever call of the function a kill precedes or follows: the archive is made, whole, and nothing is left."""
    world = worlds()
    file_ids = [stored(world, f"scan_{n}.txt", a_text(n)) for n in range(3)]
    world.gate.restart()
    reference = made(world, file_ids=file_ids)
    calls = len(world.gate.calls)
    whole = opened(world, reference["archive_id"]).fp
    assert whole is not None
    wanted = job_of(world, reference["archive_id"])
    for number in range(1, calls, 4):
        for around in (kill_before(number), kill_after(number + 2)):
            for key in derived(world, "archives/"):
                del world.s3.buckets[DERIVED][key]
            world.clock.advance(10)
            status, asked = ask(world, file_ids=file_ids)
            assert status == 202
            world.gate.restart(around)
            world.pump()
            world.gate.around = None
            body = look(world, asked["archive_id"])
            assert (body["status"], body["crc32"]) == ("completed", reference["crc32"]), (number, body)
            job = job_of(world, asked["archive_id"])
            assert job.content_sha256 == wanted.content_sha256
            opened(world, asked["archive_id"])
            world.clock.advance(4_000)
            world.sweep()
            check_clean(world)


# --- what the sweeper does ---


def test_a_request_whose_event_was_lost(world: World, ids: list[str]) -> None:
    """The API's, and one that somebody dropped: the sweeper finds both."""
    _, asked = ask(world, file_ids=ids)
    drop(world, UNKNOWN, {"file_ids": ids[:2]})
    for _, _, one in world.s3.created:
        one.announced = True
    world.clock.advance(700)
    world.sweep()
    world.pump()

    assert look(world, asked["archive_id"])["status"] == "completed"
    assert look(world, UNKNOWN)["status"] == "completed"
    check_clean(world)


def test_a_job_that_is_never_taken_up(world: World, ids: list[str]) -> None:
    """Five sendings without an answer are the end: attempts_exhausted, nothing left."""
    _, asked = ask(world, file_ids=ids)
    for _ in range(12):
        for _, _, one in world.s3.created:
            one.announced = True
        world.queues.messages.clear()
        world.clock.advance(3_000)
        world.sweep()
    body = look(world, asked["archive_id"])

    assert (body["status"], body["failure"]["code"]) == ("failed", "attempts_exhausted")
    world.clock.advance(4_000)
    world.sweep()
    check_clean(world)


def test_an_archives_life(world: World, ids: list[str]) -> None:
    """It expires when its object's week is over; its record goes ninety days later."""
    body = made(world, file_ids=ids)
    world.clock.advance(4_000)
    world.sweep()
    assert look(world, body["archive_id"])["status"] == "completed"
    world.clock.advance(7 * DAY)
    world.sweep()
    assert look(world, body["archive_id"])["status"] == "expired"
    assert derived(world, "archives/") == []
    for _ in range(4):
        world.clock.advance(91 * DAY)
        world.sweep()
    assert world.call("sessions", "GET", "/v1/archives/{id}", path={"id": body["archive_id"]})[0] == 404


def test_uploads_and_temporaries_that_nobody_wants(world: World, ids: list[str]) -> None:
    """Of jobs that ended, or never were: aborted and deleted; those of a living job stay, however old."""
    _, asked = ask(world, file_ids=ids)
    living = replace(
        job_of(world, asked["archive_id"]),
        status=ArchiveStatus.BUILDING,
        content_sha256="a" * 64,
        lease_until=world.clock() + 9 * DAY,
        due_at=world.clock() + 9 * DAY,
    )
    s3 = world.s3

    def upload(key: str) -> str:
        begun: str = s3.create_multipart_upload(
            Bucket=DERIVED, Key=key, ContentType="x", Metadata={}, ChecksumAlgorithm="CRC32"
        )["UploadId"]
        return begun

    wanted = upload(f"archives/acme/{'a' * 64}.zip")
    items.put(jobs.to_item(replace(living, s3_upload_id=wanted)))
    items.put({"pk": f"T#acme#AD#{'a' * 64}", "sk": living.archive_id})
    filling = upload(f"work/acme/{living.archive_id}/t-1")
    s3.put_object(Bucket=DERIVED, Key=f"work/acme/{living.archive_id}/t-2", Body=b"x")
    for key in (f"archives/acme/{'a' * 64}.zip", f"archives/acme/{'b' * 64}.zip", f"work/acme/{UNKNOWN}/t-1"):
        upload(key)
    s3.put_object(Bucket=DERIVED, Key=f"work/acme/{UNKNOWN}/t-2", Body=b"x")
    world.clock.advance(2 * DAY)
    world.sweep()

    assert {name for name, one in s3.uploads.items() if one.bucket == DERIVED} == {wanted, filling}
    assert derived(world, "work/") == [f"work/acme/{living.archive_id}/t-2"]


# --- what the world is told ---


def test_the_bus_hears_of_each_end(world: World, ids: list[str]) -> None:
    """Completed, failed, cancelled; by id, never by a name."""
    made(world, file_ids=ids, name="Secret")
    made(world, file_ids=[ids[0], world.initiate("Secret.txt", a_text(1))], on_missing="skip")
    drop(world, UNKNOWN, {"file_ids": [ids[0], "01JD2Z3NDEKTSV4RRFFQ69G5FB"]})
    world.pump()
    _, asked = ask(world, file_ids=ids[:1])
    world.call("complete", "DELETE", "/v1/archives/{id}", path={"id": asked["archive_id"]})
    told = [one for one in world.bus.taken if one.type.startswith("archive.")]

    assert [one.type for one in told] == [
        "archive.completed", "archive.completed", "archive.failed", "archive.cancelled",
    ]  # fmt: skip
    assert "Secret" not in json.dumps([dict(one.detail) for one in told])
    assert told[2].detail["failure"]["code"] == "member_missing"


def test_a_picture_is_archived_as_it_came(world: World) -> None:
    """Stored and processed files alike, with what is known of them."""
    picture, text = stored(world, PICTURE.name, PICTURE.data), stored(world, TEXT.name, TEXT.data)
    body = made(world, file_ids=[picture, text])
    archive = opened(world, body["archive_id"])

    assert [archive.read(name) for name in archive.namelist()[:2]] == [PICTURE.data, TEXT.data]


# --- twins, and other tenants ---


def test_two_requests_for_the_same_files_at_once(world: World, ids: list[str]) -> None:
    """Both are done; there is one archive, joined once."""
    asked = [ask(world, file_ids=ids)[1]["archive_id"] for _ in range(3)]
    world.pump(copies=2, reverse=True)
    bodies = [look(world, archive_id) for archive_id in asked]

    assert {(body["status"], body["crc32"]) for body in bodies} == {("completed", bodies[0]["crc32"])}
    (key,) = [key for key in derived(world, "archives/") if key.endswith(".zip")]
    assert world.s3.versions_made[DERIVED, key] == 1
    check_clean(world)


def test_a_cancel_in_the_moment_of_joining(world: World, ids: list[str]) -> None:
    """The archive that was joined after its job had ended goes, unless somebody else has it."""
    for others in (False, True):
        if others:
            made(world, file_ids=ids, name="other")
            (key,) = [key for key in derived(world, "archives/") if key.endswith(".zip")]
            del world.s3.buckets[DERIVED][key]
        _, asked = ask(world, file_ids=ids)
        cancelled: list[int] = []

        def around(call: Call, run: Callable[[], Any], asked: Any = asked, cancelled: list[int] = cancelled) -> Any:
            answer = run()
            if call.operation == "complete_multipart_upload" and not cancelled:
                world.gate.around = None
                path = {"id": asked["archive_id"]}
                cancelled.append(world.call("complete", "DELETE", "/v1/archives/{id}", path=path)[0])
            return answer

        with world.hook(around):
            world.pump()
        assert cancelled == [200]
        assert look(world, asked["archive_id"])["status"] == "cancelled"
        world.clock.advance(4_000)
        world.sweep()
        assert len(derived(world, "archives/")) == (2 if others else 0)
        check_clean(world)


def test_another_tenants_archive(world: World, ids: list[str]) -> None:
    """The same 404 as for one that never was, on every route, and S3 is not even asked."""
    body = made(world, file_ids=ids)
    routes = [
        ("sessions", "GET", "/v1/archives/{id}"),
        ("sessions", "GET", "/v1/archives/{id}/content"),
        ("sessions", "GET", "/v1/archives/{id}/members"),
        ("sessions", "GET", "/v1/archives/{id}/members/{n}/content"),
        ("complete", "DELETE", "/v1/archives/{id}"),
    ]
    for function, method, route in routes:
        world.gate.restart()
        answers = []
        for archive_id in (body["archive_id"], UNKNOWN):
            path = {"id": archive_id, **({"n": "0"} if "{n}" in route else {})}
            answers.append(world.call(function, method, route, path=path, tenant="globex"))
        (status, theirs), (_, nobodys) = answers
        assert (status, theirs["code"], theirs["detail"]) == (404, "not_found", nobodys["detail"])
        assert {call.service for call in world.gate.calls} == {"dynamodb"}
    assert look(world, body["archive_id"])["status"] == "completed"
