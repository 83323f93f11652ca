"""Downloads against the fake stack: ranges, resume, proof, and a name that appears only at the end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import ApiError, ChecksumMismatch, Client, ClientError, StoreError
from heavylift_client import plan as plans
from tests.client.conftest import Told
from tests.client.fake import MIB, Fault, Stack

MakeFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 1 MiB, so that small objects have several."""
    monkeypatch.setattr(plans, "DOWNLOAD_CHUNK_BYTES", MIB)


def stored(stack: Stack, client: Client, path: Path) -> str:
    """The id of a file that is in the store."""
    result = client.put(path)
    assert result.ok
    return str(result.file_id)


@pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB + 7])
def test_the_bytes_come_back(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path, size: int) -> None:
    """Any size, proven by the record's CRC-32, nothing left beside it."""
    path, out = make_file(size), tmp_path / "out" / "copy.tif"
    out.parent.mkdir()
    done = client.get(stored(stack, client, path), out)

    assert out.read_bytes() == path.read_bytes()
    assert (done.verified, done.size, done.bytes_received) == ("crc32", size, size)
    assert os.listdir(out.parent) == ["copy.tif"]


def test_ranges_of_a_stored_file(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Only the bytes asked for, by one URL; over the end as a file does; a cut GET goes on where it ended."""
    path = make_file(2 * MIB)
    data, file_id = path.read_bytes(), stored(stack, client, path)
    calls = stack.calls["GetObject"]
    stack.fail("GetObject", Fault(cut_after=100))
    wanted = [(5, 1_000), (0, 0), (2 * MIB - 3, 10), (2 * MIB + 1, 5), (MIB, MIB)]
    assert list(client.read(file_id, wanted)) == [data[at : at + length] for at, length in wanted]
    assert stack.calls["GetObject"] - calls == 4
    assert sum(one["kind"] == "get" and "bytes" not in one for one in stack.signed.values()) == 1
    with pytest.raises(ValueError, match="no negative length"):
        next(client.read(file_id, [(0, -1)]))


def test_a_proven_sha256_is_compared(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """Where the server has proven it; a declared one proves nothing."""
    path, out = make_file(2 * MIB), tmp_path / "out"
    file_id = stored(stack, client, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    stack.uploads[file_id]["checksums"] = {"sha256": digest, "sha256_proven": True}
    assert client.get(file_id, out).verified == "sha256"

    stack.uploads[file_id]["checksums"] = {"sha256": "0" * 64, "sha256_proven": False}
    assert client.get(file_id, out).verified is None


@pytest.mark.parametrize("sums", [{"sha256": "0" * 64, "sha256_proven": True}, {"crc32": "00000000"}])
def test_other_bytes_never_get_the_name(
    stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path, sums: dict[str, Any]
) -> None:
    """A checksum that differs: an error, no file, no rest that a later run would trust; an old file stays."""
    out = tmp_path / "out" / "copy"
    out.parent.mkdir()
    out.write_text("old")
    file_id = stored(stack, client, make_file(2 * MIB))
    stack.uploads[file_id]["checksums"] = sums
    with pytest.raises(ChecksumMismatch):
        client.get(file_id, out)

    assert os.listdir(out.parent) == ["copy"]
    assert out.read_text() == "old"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(503, "SlowDown"),
        Fault(500, "InternalError"),
        Fault(400, "ExpiredToken"),
        Fault(403, "AccessDenied"),
        Fault(cut_after=0),
        Fault(cut_after=100_000),
    ],
    ids=lambda fault: f"{fault.code}-{fault.cut_after}",
)
def test_one_fault_costs_a_retry(
    stack: Stack, client: Client, told: Told, make_file: MakeFile, tmp_path: Path, fault: Fault
) -> None:
    """A cut GET goes on where it ended; a refused one gets a new URL."""
    path, out = make_file(4 * MIB + 1), tmp_path / "out"
    file_id = stored(stack, client, path)
    told.bytes = 0
    stack.fail("GetObject", fault, times=3)
    client.get(file_id, out)

    assert out.read_bytes() == path.read_bytes()
    assert told.bytes == 4 * MIB + 1


def interrupted(stack: Stack, client: Client, file_id: str, out: Path) -> None:
    """A download of which some chunks are done."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "GetObject" and facts["first"] >= 4 * MIB:
            return Fault(400, "InvalidRequest")
        return None

    stack.scripts.append(script)
    with pytest.raises(StoreError):
        client.get(file_id, out)
    stack.scripts.clear()
    assert not out.exists()


def test_what_is_there_is_not_fetched_again(
    stack: Stack, client: Client, told: Told, make_file: MakeFile, tmp_path: Path
) -> None:
    """A second run goes on from the part file."""
    path, out = make_file(9 * MIB + 5), tmp_path / "out"
    file_id = stored(stack, client, path)
    interrupted(stack, client, file_id, out)
    lines = Path(f"{out}.part.journal").read_text().splitlines()
    there = sum(min(MIB, 9 * MIB + 5 - json.loads(line)[0]) for line in lines[1:])
    done = client.get(file_id, out)

    assert out.read_bytes() == path.read_bytes()
    assert (done.bytes_resumed, done.bytes_received) == (there, 9 * MIB + 5 - there)


def test_damaged_rests_are_not_trusted(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """Chunks are read back before they are skipped; half a line in the journal costs its chunk only."""
    path, out = make_file(9 * MIB), tmp_path / "out"
    file_id = stored(stack, client, path)
    interrupted(stack, client, file_id, out)
    with open(f"{out}.part", "r+b") as part:
        part.write(b"damage")
    with open(f"{out}.part.journal", "a") as journal:
        journal.write("[12")
    client.get(file_id, out)

    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("head", ["", "garbage\n", '{"v":1}\n', '{"v":1,"id":"other","size":1,"chunk":1}\n[0,1]\n'])
def test_a_journal_of_something_else(
    stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path, head: str
) -> None:
    """What belongs to another object, or to nothing, is started anew."""
    path, out = make_file(3 * MIB), tmp_path / "out"
    Path(f"{out}.part").write_bytes(b"x" * 10 * MIB)
    Path(f"{out}.part.journal").write_text(head)
    client.get(stored(stack, client, path), out)

    assert out.read_bytes() == path.read_bytes()


def test_two_at_once_do_not_share_a_part_file(
    stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path
) -> None:
    """The second says so and touches nothing."""
    out = tmp_path / "out"
    file_id = stored(stack, client, make_file(100))
    with open(f"{out}.part", "wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        with pytest.raises(ClientError) as raised:
            client.get(file_id, out)

    assert raised.value.code == "busy"


def test_into_a_folder(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """A server-side name never becomes a path; the caller names the file."""
    with pytest.raises(ClientError) as raised:
        client.get(stored(stack, client, make_file(100)), tmp_path)

    assert raised.value.code == "is_a_folder"


def test_an_unknown_id(client: Client, tmp_path: Path) -> None:
    """404 as the API says it; nothing is created."""
    with pytest.raises(ApiError) as raised:
        client.get("up-00", tmp_path / "out")

    assert (raised.value.status, raised.value.code) == (404, "not_found")
    assert not (tmp_path / "out.part").exists()


def test_thumbnails(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """One file a size, no URL in what is returned; an expired URL is asked for again."""
    file_id = stored(stack, client, make_file(100))
    stack.fail("GetObject", Fault(403, "AccessDenied"))
    saved = client.thumbs(file_id, tmp_path / "thumbs")

    assert [(entry["size"], Path(entry["path"]).read_bytes()) for entry in saved] == [
        (256, b"jpeg256"),
        (512, b"jpeg512"),
    ]
    assert "http" not in json.dumps(saved)


def test_report(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """The report itself, not a link to it."""
    assert client.report(stored(stack, client, make_file(100))) == {"valid": True, "records": 3}


def test_no_thread_outlives_a_download(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """The pool is gone when ``get`` returns."""
    client.get(stored(stack, client, make_file(3 * MIB)), tmp_path / "out")

    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
