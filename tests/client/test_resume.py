"""Uploads that were cut: found by fingerprint, proven part by part, never joined to other bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client, NoSession
from heavylift_client.fingerprint import fingerprint
from tests.client.conftest import Told
from tests.client.fake import MIB, TOKEN, Fault, Stack, b64

MakeFile = Callable[..., Path]


def interrupt(stack: Stack, client: Client, path: Path, after: int) -> str:
    """A session that an earlier run opened and left with parts 1..``after`` in the store; its id."""
    data = path.read_bytes()
    entry = {"client_id": "0", "name": path.name, "size": len(data), "fingerprint": fingerprint(path)}
    upload_id: str = client._api.call("POST", "/v1/uploads", body={"files": [entry]}).body["uploads"][0]["upload_id"]
    for n in range(1, after + 1):
        part = data[(n - 1) * stack.part_size : n * stack.part_size]
        stored = stack.folder / f"{upload_id}-{n}"
        stored.write_bytes(part)
        sha256 = b64(hashlib.sha256(part).digest())
        stack.uploads[upload_id]["parts"][n] = {"size": len(part), "sha256": sha256, "path": str(stored)}
    return upload_id


def test_only_what_is_missing_goes_up(stack: Stack, client: Client, told: Told, make_file: MakeFile) -> None:
    """The same session, the missing parts, the same bytes."""
    path = make_file(20 * MIB + 3)
    upload_id = interrupt(stack, client, path, 7)
    result = client.put(path)

    assert result.upload_id == upload_id
    assert result.ok
    assert path.read_bytes() == stack.content(upload_id)
    assert sorted(n for _, n, _ in stack.puts) == list(range(8, 22))
    assert (result.bytes_resumed, told.resumed) == (7 * MIB, 7 * MIB)
    assert told.bytes == 13 * MIB + 3


def test_with_every_part_there_only_complete_is_left(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Killed between the last part and complete."""
    path = make_file(17 * MIB)
    upload_id = interrupt(stack, client, path, 17)
    result = client.put(path)

    assert (result.upload_id, result.ok) == (upload_id, True)
    assert stack.puts == []


def test_a_copy_in_another_folder(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """Neither name nor place nor time matter, only the bytes."""
    path = make_file(17 * MIB)
    upload_id = interrupt(stack, client, path, 4)
    copy = tmp_path / "else" / "other.tif"
    copy.parent.mkdir()
    shutil.copy(path, copy)

    assert client.put(copy).upload_id == upload_id
    assert len(stack.puts) == 13


def test_a_file_changed_in_the_middle_is_not_joined(
    stack: Stack, client: Client, told: Told, make_file: MakeFile
) -> None:
    """One byte in a received part, where no sample of the fingerprint lies: a new session, the old one untouched."""
    path = make_file(17 * MIB)
    mark = fingerprint(path)
    old_id = interrupt(stack, client, path, 9)
    old_parts = {n: part["sha256"] for n, part in stack.uploads[old_id]["parts"].items()}
    with path.open("r+b") as file:
        file.seek(5 * MIB + MIB // 2)
        file.write(b"\0\1\2\3")
    assert fingerprint(path) == mark  # else this test would prove nothing
    result = client.put(path)

    assert result.ok
    assert result.upload_id != old_id
    assert path.read_bytes() == stack.content(str(result.upload_id))
    assert stack.uploads[old_id]["status"] == "uploading"
    assert {n: part["sha256"] for n, part in stack.uploads[old_id]["parts"].items()} == old_parts
    assert any("another version" in words for words in told.notices)


def test_a_change_where_nothing_was_received_yet_is_no_obstacle(
    stack: Stack, client: Client, make_file: MakeFile
) -> None:
    """What is there is the same, what comes is the new: the object is the file as it is now."""
    path = make_file(17 * MIB)
    mark = fingerprint(path)
    upload_id = interrupt(stack, client, path, 3)
    with path.open("r+b") as file:
        file.seek(5 * MIB + MIB // 2)
        file.write(b"\0\1\2\3")
    assert fingerprint(path) == mark
    result = client.put(path)

    assert (result.upload_id, result.ok) == (upload_id, True)
    assert path.read_bytes() == stack.content(upload_id)


def test_the_session_owns_the_part_size(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A server that plans other parts today does not mix them with yesterday's."""
    path = make_file(17 * MIB)
    upload_id = interrupt(stack, client, path, 5)
    stack.part_size = 3 * MIB
    result = client.put(path)

    assert (result.upload_id, result.ok) == (upload_id, True)
    assert len(stack.puts) == 12
    assert path.read_bytes() == stack.content(upload_id)


def test_the_second_of_two_open_sessions_fits(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Of several open sessions the one whose parts are those of the file is taken."""
    path = make_file(17 * MIB)
    right = interrupt(stack, client, path, 6)
    wrong = interrupt(stack, client, path, 6)
    stack.uploads[wrong]["parts"][2]["sha256"] = "something else"

    assert client.put(path).upload_id == right


def test_a_session_that_is_gone_is_no_obstacle(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Listed, but cancelled by the time it is asked for."""
    path = make_file(17 * MIB)
    old_id = interrupt(stack, client, path, 6)

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"] == "GET /v1/uploads/{id}":
            stack.uploads.pop(old_id, None)
        return None

    stack.scripts.append(script)
    result = client.put(path)

    assert result.ok
    assert result.upload_id != old_id


def test_resume_and_nothing_else(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """``resume`` goes on where there is a session, and says so where there is none."""
    path = make_file(17 * MIB)
    with pytest.raises(NoSession):
        client.resume(path)
    assert not stack.uploads
    upload_id = interrupt(stack, client, path, 2)

    assert client.resume(path).upload_id == upload_id
    with pytest.raises(NoSession):
        client.resume(make_file(10, "small"))


def test_killed_with_9_and_run_again(stack: Stack, make_file: MakeFile, tmp_path: Path) -> None:
    """The command, killed half-way, then run on a copy elsewhere: re-sends at most concurrency x part size."""
    concurrency, parts = 3, 40
    path = make_file(parts * MIB)

    def slow(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart":
            time.sleep(0.03)
        return None

    stack.scripts.append(slow)
    command = [sys.executable, "-m", "heavylift_client.cli", "put", "--json", "--concurrency", str(concurrency)]
    environment = os.environ | {"HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": TOKEN}
    with subprocess.Popen([*command, str(path)], env=environment, stdout=subprocess.PIPE) as killed:
        deadline = time.monotonic() + 30
        while stack.stored_parts < parts // 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
    stack.scripts.clear()
    time.sleep(0.2)  # what was on the wire arrives or not
    stored = stack.stored_parts
    assert parts // 2 <= stored < parts
    copy = tmp_path / "moved" / "again.tif"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    done = subprocess.run([*command, str(copy)], env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert len(stack.uploads) == 1
    (upload_id,) = stack.uploads
    assert path.read_bytes() == stack.content(upload_id)
    assert stack.stored_parts <= parts + concurrency
    assert "resuming" in done.stderr
