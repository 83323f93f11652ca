"""Folders as batches against the fake stack: what is sent, in how many calls, and what the caller learns."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import ApiError, Client, ClientError, NetworkError, Stopped
from tests.client.conftest import FastClock, Told
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]


@pytest.fixture
def folder(make_file: MakeFile, tmp_path: Path) -> Path:
    """Twelve files of all sorts, one of them larger than one PUT brings."""
    for n in range(8):
        make_file(1000 + n, f"in/many/{n}.jpg", seed=n)
    for n, name in enumerate(["in/.hidden", "in/a/.DS_Store", "in/empty"]):
        make_file(n * 0 if name == "in/empty" else 50 + n, name, seed=20 + n)
    make_file(18 * MIB + 7, "in/large.tif", seed=30)
    return tmp_path / "in"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def only_batch(stack: Stack) -> str:
    (batch_id,) = stack.batches.by_id
    return batch_id


def test_a_folder_is_one_batch(stack: Stack, client: Client, told: Told, folder: Path) -> None:
    """Every regular file once, hidden ones too, with names, ids, verdicts and bytes; then the batch itself."""
    (folder / "link").symlink_to(folder / "large.tif")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    upload = client.upload_batch(folder, kind="image")
    results = list(upload)
    batch_id = only_batch(stack)

    assert stack.batches.content(batch_id) == files_of(folder)
    assert [result.relative_path for result in results] == [
        ".hidden",
        "empty",
        "large.tif",
        "a/.DS_Store",
        *[f"many/{n}.jpg" for n in range(8)],
    ]
    for result in results:
        assert result.ok
        assert result.name == os.path.basename(str(result.relative_path))
        assert result.upload_id == result.file_id == f"{batch_id}-{result.n:06d}"
        assert result.size == os.stat(result.path).st_size == result.bytes_sent
        assert result.line()["batch_id"] == batch_id
    assert upload.ok
    assert upload.batch_id == batch_id
    assert upload.record is not None
    assert (upload.record["status"], upload.record["total"]) == ("completed", 12)
    assert stack.batches.by_id[batch_id]["asked"] == {"kind": "image", "total": 12, "mode": "put"}
    assert told.bytes == sum(map(len, files_of(folder).values()))
    assert told.listed == told.bytes


def test_every_byte_of_a_small_file_is_proven(stack: Stack, client: Client, folder: Path) -> None:
    """The manifest has a digest for each, and the URLs are signed with it."""
    list(client.upload_batch(folder))
    batch = stack.batches.by_id[only_batch(stack)]

    assert all(("sha256" in entry) == (entry["name"] != "large.tif") for entry in batch["entries"].values())
    assert all(part["sha256"] for part in batch["stored"].values())


def test_two_thousand_files_take_few_calls(stack: Stack, client: Client, tmp_path: Path) -> None:
    """2,000 files of 100 KB: at most 12 calls of the API besides status reads, and no more connections than needed."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(2_000):
        with (folder / f"{n:04d}.bin").open("wb") as file:
            file.write(n.to_bytes(4, "big"))
            file.truncate(100_000)
    stack.keep = False
    upload = client.upload_batch(folder)

    assert sum(1 for result in upload if result.ok) == 2_000
    reads = {"GET /v1/batches/{id}", "GET /v1/batches/{id}/files"}
    calls = {route: count for route, count in stack.calls.items() if route not in reads}
    assert sum(calls.values()) <= 12, calls
    assert stack.stored_parts == 2_000
    assert stack.connections["s3"] <= 16


def test_declared_things_travel(stack: Stack, client: Client, folder: Path) -> None:
    """Kind and rules are the batch's; what it has no field for is in its metadata; large members say it themselves."""
    list(
        client.upload_batch(
            folder,
            kind="image",
            data_type="scan",
            description="a ✓",
            logical_id="L",
            metadata={"k": "v"},
            rules={"min_records": 1},
            facility="F1",
        )
    )
    asked = stack.batches.by_id[only_batch(stack)]["asked"]
    (large,) = (upload["entry"] for upload in stack.uploads.values())

    assert asked["metadata"] == {"k": "v", "logical_id": "L", "data_type": "scan", "description": "a ✓"}
    assert (asked["kind"], asked["rules"], asked["facility"]) == ("image", {"min_records": 1}, "F1")
    assert (large["data_type"], large["relative_path"], large["metadata"]) == (
        "scan",
        "large.tif",
        {"k": "v", "logical_id": "L"},
    )


@pytest.mark.parametrize("name", [b"caf\xe9.tif", "😀.tif".encode(), b"a\nb", b"\xff\xfe", b"-rf", b"a'b\"c"])
def test_any_file_name(stack: Stack, client: Client, tmp_path: Path, name: bytes) -> None:
    """Bytes that are no UTF-8 become U+FFFD in the manifest, and the file is found all the same."""
    folder = os.path.join(os.fsencode(tmp_path), b"in\xff")
    os.mkdir(folder)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(b"content")
    (result,) = client.upload_batch(folder)

    assert result.ok
    assert result.relative_path == name.decode("utf-8", "replace")
    assert list(stack.batches.content(only_batch(stack)).values()) == [b"content"]


def test_a_folder_without_files(stack: Stack, client: Client, told: Told, tmp_path: Path) -> None:
    """Nothing to do is no failure, and no batch."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    upload = client.upload_batch(tmp_path / "in")

    assert list(upload) == []
    assert upload.ok
    assert upload.record is None
    assert not stack.batches.by_id
    assert any("no files" in words for words in told.notices)


def test_verdicts_are_told_file_by_file(stack: Stack, client: Client, folder: Path) -> None:
    """A rejected member has its reason; one that is skipped ended well; the batch as a whole did not."""
    stack.batches.verdicts["3.jpg"] = {"verdict": "rejected", "code": "not_an_image", "message": "this is text"}
    stack.batches.verdicts[".DS_Store"] = {"verdict": "skipped", "code": "stray", "message": "of no use"}
    stack.batches.polls_until_final = 3
    upload = client.upload_batch(folder)
    results = {result.name: result for result in upload}

    assert not upload.ok
    assert not results["3.jpg"].ok
    assert results["3.jpg"].failure == {"code": "not_an_image", "message": "this is text"}
    assert results[".DS_Store"].ok
    assert results["large.tif"].ok
    assert stack.calls["GET /v1/batches/{id}"] == 3


def test_without_waiting(stack: Stack, client: Client, folder: Path) -> None:
    """All bytes are there, the batch is completed, nobody waits for verdicts."""
    stack.batches.polls_until_final = 1000
    upload = client.upload_batch(folder, wait=False)
    results = list(upload)

    assert {result.status for result in results} == {"staged"}
    assert all(result.ok for result in results)
    assert upload.ok
    assert upload.record is not None
    assert upload.record["status"] == "processing"
    assert not stack.calls["GET /v1/batches/{id}/files"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(503, "SlowDown"),
        Fault(503, "SlowDown", read_body=False),
        Fault(500, "InternalError"),
        Fault(400, "RequestTimeout"),
        Fault(400, "BadDigest"),
        Fault(400, "ExpiredToken"),
        Fault(403, "AccessDenied"),
        Fault(403, "SignatureDoesNotMatch"),
        Fault(409, "ConditionalRequestConflict"),
        Fault(429, ""),
        Fault(cut_after=0),
        Fault(cut_after=500),
        Fault(after=True),
    ],
    ids=lambda fault: f"{fault.status}-{fault.code}-{fault.cut_after}-{fault.read_body}-{fault.after}",
)
def test_one_fault_costs_a_retry(stack: Stack, client: Client, told: Told, folder: Path, fault: Fault) -> None:
    """Each answer that may pass passes, for small members too; no byte is counted twice for the caller."""
    stack.fail("PutPart", fault, times=3, number=1)
    upload = client.upload_batch(folder)

    assert all(result.ok for result in upload)
    assert stack.batches.content(only_batch(stack)) == files_of(folder)
    assert told.bytes == sum(map(len, files_of(folder).values()))


def test_a_member_that_is_refused_for_good(stack: Stack, client: Client, folder: Path) -> None:
    """It fails with S3's words, the others end well, and the batch with errors."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        bad = operation == "PutPart" and facts["upload_id"].endswith("-000005")
        return Fault(400, "InvalidRequest") if bad else None

    stack.scripts.append(script)
    upload = client.upload_batch(folder)
    results = list(upload)

    assert [result.n for result in results if not result.ok] == [5]
    assert (results[5].failure or {})["code"] == "InvalidRequest"
    assert results[5].status == "failed"
    assert not upload.ok


def test_a_store_that_refuses_all(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """After some files in a row the run ends in words, instead of trying a hundred thousand."""
    for n in range(200):
        make_file(10, f"in/{n}", seed=n)
    stack.fail("PutPart", Fault(400, "InvalidRequest"), times=10_000)
    with pytest.raises(NetworkError, match="InvalidRequest"):
        list(client.upload_batch(tmp_path / "in"))

    assert len(stack.puts) < 100


def test_short_lived_urls(stack: Stack, told: Told, make_file: MakeFile, tmp_path: Path) -> None:
    """URLs that live 1 s while every PUT takes a while: signed again in time, each member stored once."""
    for n in range(60):
        make_file(100 + n, f"in/{n}", seed=n)
    stack.ttl_s = 1.0

    def slow(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart":
            time.sleep(0.1)
        return None

    stack.scripts.append(slow)
    with Client(stack.api, TOKEN, concurrency=2, hooks=told.hooks()) as client:
        assert all(result.ok for result in client.upload_batch(tmp_path / "in"))
    assert stack.stored_parts == 60
    assert stack.batches.content(only_batch(stack)) == files_of(tmp_path / "in")


def test_the_api_away_for_a_while(stack: Stack, client: Client, folder: Path) -> None:
    """Every call meets a dead API once, also after it did its work: one batch, every member once."""
    seen: set[str] = set()

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation != "api" or facts["route"] in seen:
            return None
        seen.add(facts["route"])
        return Fault(after=True) if len(seen) % 2 else Fault(cut_after=0)

    stack.scripts.append(script)
    assert all(result.ok for result in client.upload_batch(folder))
    assert stack.batches.content(only_batch(stack)) == files_of(folder)
    assert len(seen) >= 5


def test_a_network_that_stays_away(stack: Stack, folder: Path) -> None:
    """Once patience has run out the run ends in words; what is noted stays."""
    stack.fail("PutPart", Fault(503, "SlowDown"), times=100_000)
    with (
        Client(stack.api, TOKEN, patience_s=20, clock=FastClock()) as client,
        pytest.raises(NetworkError, match="SlowDown"),
    ):
        list(client.upload_batch(folder))
    stack.scripts.clear()
    with Client(stack.api, TOKEN, clock=FastClock()) as client:
        assert all(result.ok for result in client.upload_batch(folder))
    only_batch(stack)


def test_a_wrong_token(stack: Stack, folder: Path) -> None:
    """The gateway's 401, without a retry."""
    with Client(stack.api, "wrong", clock=FastClock()) as client, pytest.raises(ApiError) as caught:
        list(client.upload_batch(folder))

    assert caught.value.code == "unauthorized"
    assert sum(stack.calls.values()) == 1


def test_cancelled_from_elsewhere(stack: Stack, client: Client, folder: Path) -> None:
    """The API signs no more: the batch as it is now is the answer, not an error."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/urls"):
            stack.batches.by_id[only_batch(stack)]["status"] = "cancelled"
        return None

    stack.scripts.append(script)
    upload = client.upload_batch(folder)
    list(upload)

    assert upload.record is not None
    assert upload.record["status"] == "cancelled"
    assert not upload.ok


@pytest.mark.parametrize("change", ["append", "touch", "remove", "unreadable"])
def test_a_file_that_changes_meanwhile(stack: Stack, client: Client, folder: Path, change: str) -> None:
    """That member fails in words, whether it goes up whole or in parts; no bytes of two versions are joined."""
    done = threading.Event()
    victims = [folder / "large.tif", folder / "many" / "7.jpg"]

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"] == "PUT /v1/batches/{id}/manifest/{page}" and not done.is_set():
            done.set()
            for victim in victims:
                if change == "append":
                    with victim.open("ab") as file:
                        file.write(b"more")
                elif change == "touch":
                    os.utime(victim, (1, 1))
                elif change == "remove":
                    victim.unlink()
                else:
                    victim.unlink()
                    victim.mkdir()
        return None

    stack.scripts.append(script)
    results = {result.name: result for result in client.upload_batch(folder)}
    failed = {name: result.failure for name, result in results.items() if not result.ok}

    assert set(failed) == {"large.tif", "7.jpg"}
    for failure in failed.values():
        assert failure is not None
        assert failure["code"] in ("source_changed", "source_unreadable", "not_a_file")
    assert len(stack.batches.content(only_batch(stack))) == 10


def test_stopping_in_the_middle(stack: Stack, client: Client, folder: Path) -> None:
    """``stop`` from another thread ends the run soon with Stopped; the next run goes on with the same batch."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and facts["upload_id"].endswith("-000006"):
            client.stop()
            return Fault(503, "SlowDown", delay_s=0.1)
        return None

    stack.scripts.append(script)
    with pytest.raises(Stopped):
        list(client.upload_batch(folder))
    assert not [t for t in threading.enumerate() if "guarded" in str(getattr(t, "_target", ""))]
    stack.scripts.clear()
    with Client(stack.api, TOKEN, clock=FastClock()) as again:
        assert all(result.ok for result in again.upload_batch(folder))
    assert stack.batches.content(only_batch(stack)) == files_of(folder)


def test_two_at_once(stack: Stack, client: Client, folder: Path) -> None:
    """A second process with the same folder is refused: it would send everything twice."""
    with client.upload_batch(folder) as first:
        next(first)
        with pytest.raises(ClientError) as caught:
            client.upload_batch(folder)

    assert caught.value.code == "busy"


def test_too_many_files(stack: Stack, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a batch takes is said before anything is sent."""
    monkeypatch.setattr("heavylift_client.batches.pages.FILES_MAX", 5)
    with pytest.raises(ClientError) as caught:
        list(client.upload_batch(folder))

    assert caught.value.code == "too_many_files"
    assert not stack.calls


def test_pages_and_windows(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """More files than a page and a window hold; the fake refuses pages and windows that are too large."""
    for n in range(1_203):
        make_file(3, f"in/{n % 7}/{n}", seed=n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heavylift_client.batches.pages.ENTRIES_MAX", 500)
        assert sum(1 for result in client.upload_batch(tmp_path / "in") if result.ok) == 1_203

    batch = stack.batches.by_id[only_batch(stack)]
    assert [len(batch["pages"][number]) for number in sorted(batch["pages"])] == [500, 500, 203]
    assert stack.calls["POST /v1/batches/{id}/urls"] == 3
