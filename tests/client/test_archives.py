"""Archives by the client: asked for, watched, downloaded with resume and proof, one member read out of one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from heavylift_client import Client, ClientError
from heavylift_client import plan as plans
from heavylift_client.cli import main
from tests.client.conftest import FastClock, Told
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 1 MiB, so that small objects have several."""
    monkeypatch.setattr(plans, "DOWNLOAD_CHUNK_BYTES", MIB)


@pytest.fixture
def ids(stack: Stack, client: Client, make_file: MakeFile) -> list[str]:
    """Three stored files, one of them empty."""
    return [str(client.put(make_file(size, f"f{size}.tif")).file_id) for size in (2 * MIB + 5, 7, 0)]


def test_an_archive_is_built_and_downloaded(
    stack: Stack, client: Client, told: Told, ids: list[str], tmp_path: Path
) -> None:
    """Its bytes are proven by the CRC-32 of the whole; the hooks heard of all bytes, built and downloaded."""
    out = tmp_path / "a.zip"
    before = told.bytes
    body = client.archive({"file_ids": ids, "package": "bagit"}, out)

    assert body["status"] == "completed"
    assert stack.archives.asked == [{"file_ids": ids, "package": "bagit"}]
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert [one.file_size for one in archive.infolist()] == [2 * MIB + 5, 7, 0]
    assert told.bytes - before == (2 * MIB + 12) + out.stat().st_size
    assert told.listed == told.bytes - before


def test_an_archive_that_fails_is_no_download(stack: Stack, client: Client, ids: list[str], tmp_path: Path) -> None:
    """Its body says why; nothing is written."""
    stack.archives.ends_as = "failed"
    body = client.archive({"file_ids": ids}, tmp_path / "a.zip")

    assert (body["status"], body["failure"]["code"]) == ("failed", "member_missing")
    assert not list(tmp_path.glob("a.zip*"))
    with pytest.raises(ClientError, match="failed"):
        client.get(body["archive_id"], tmp_path / "a.zip")


def test_a_download_that_was_cut_goes_on_in_another_archive_of_the_same_files(
    stack: Stack, client: Client, clock: FastClock, ids: list[str], told: Told, tmp_path: Path
) -> None:
    """The same files are the same bytes: what came of the first is not fetched again."""
    stack.fail("GetObject", Fault(403, "Broken", "it stays broken"), times=50, first=2 * MIB)
    out = tmp_path / "a.zip"
    one = Client(stack.api, TOKEN, concurrency=1, clock=clock, hooks=told.hooks())
    with one, pytest.raises(ClientError, match="Broken"):
        one.archive({"file_ids": ids}, out)
    stack.scripts.clear()
    client.archive({"file_ids": ids}, out)

    assert len(stack.archives.by_id) == 2
    assert told.resumed == 2 * MIB
    assert zipfile.ZipFile(out).testzip() is None


@pytest.mark.parametrize("member", [0, 1, 2, "f7.tif", "f0.tif"])
def test_one_member(stack: Stack, client: Client, ids: list[str], tmp_path: Path, member: int | str) -> None:
    """By number or name: only its bytes, proven by its own CRC-32."""
    archive_id = client.archive({"file_ids": ids})["archive_id"]
    done = client.get_member(archive_id, member, tmp_path / "one")
    n = member if isinstance(member, int) else {"f7.tif": 1, "f0.tif": 2}[member]

    assert (tmp_path / "one").read_bytes() == stack.content(ids[n])
    assert done.verified == "crc32"
    assert done.bytes_received == len(stack.content(ids[n]))


def test_a_member_that_is_not_there(client: Client, ids: list[str], tmp_path: Path) -> None:
    """In words, whether it was named or numbered."""
    archive_id = client.archive({"file_ids": ids})["archive_id"]
    for member in ("nothing.tif", 3):
        with pytest.raises(ClientError):
            client.get_member(archive_id, member, tmp_path / "one")
    assert [one["name"] for one in client.archive_members(archive_id)] == ["f2097157.tif", "f7.tif", "f0.tif"]


def test_an_archive_is_found_by_its_id(client: Client, ids: list[str], tmp_path: Path) -> None:
    """status, get and cancel take it like a file's."""
    archive_id = client.archive({"file_ids": ids})["archive_id"]
    assert client.status(archive_id)["archive_id"] == archive_id
    client.get(archive_id, tmp_path / "again.zip")
    assert zipfile.ZipFile(tmp_path / "again.zip").testzip() is None
    assert client.cancel(client.begin_archive({"file_ids": ids})["archive_id"])["status"] == "cancelled"


def run(stack: Stack, *arguments: str) -> int:
    return main([*arguments, "--api", stack.api, "--token", TOKEN, "--json"])


def test_the_commands(stack: Stack, ids: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """archive waits and downloads; get --member takes one out of it; a failed one exits 1."""
    out = tmp_path / "F.zip"
    assert run(stack, "archive", *ids, "--name", "n", "-o", str(out)) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["status"] == "completed"
    assert stack.archives.asked[-1] == {"file_ids": ids, "name": "n"}
    assert zipfile.ZipFile(out).testzip() is None
    for member, n in (("1", 1), ("f7.tif", 1), ("0", 0)):
        assert run(stack, "get", body["archive_id"], "--member", member, "-o", str(tmp_path / "m")) == 0
        assert json.loads(capsys.readouterr().out)["member"] == member
        assert (tmp_path / "m").read_bytes() == stack.content(ids[n])
    assert main(["archive", *ids, "-o", str(out), "--api", stack.api, "--token", TOKEN]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 2.1 MB, proven by crc32"
    stack.archives.ends_as = "failed"
    assert run(stack, "archive", *ids, "-o", str(out)) == 1
    assert run(stack, "archive", "up-00", "-o", str(out)) == 1
