"""Batches that were cut: the same command goes on with the same batch and sends only what is not there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client, Stopped
from tests.client.conftest import FastClock, Told
from tests.client.fake import MIB, TOKEN, Fault, Stack
from tests.client.test_batch_upload import files_of, only_batch

MakeFile = Callable[..., Path]
CONCURRENCY = 3


@pytest.fixture
def folder(make_file: MakeFile, tmp_path: Path) -> Path:
    """Enough small files for some pages, and two that go up in parts."""
    for n in range(120):
        make_file(2_000 + n, f"in/{n % 3}/{n:03d}.bin", seed=n)
    for n in range(2):
        make_file(20 * MIB + n, f"in/large{n}.bin", seed=200 + n)
    return tmp_path / "in"


def cut(stack: Stack, client: Client, folder: Path, after: int) -> None:
    """A run that stops after so many PUTs; no later one is served."""
    seen = [0]

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart":
            seen[0] += 1
            if seen[0] >= after:
                client.stop()
                return Fault(503, "SlowDown")
        return None

    stack.scripts.append(script)
    with pytest.raises(Stopped):
        list(client.upload_batch(folder))
    stack.scripts.clear()


def test_only_what_is_missing_goes_up(stack: Stack, client: Client, told: Told, folder: Path, clock: FastClock) -> None:
    """The same batch and pages, members of the journal not again; bytes that were there are told as such."""
    cut(stack, client, folder, 90)
    time.sleep(0.1)
    before = stack.stored_parts
    told.resumed = told.bytes = 0
    with Client(stack.api, TOKEN, concurrency=CONCURRENCY, clock=clock, hooks=told.hooks()) as again:
        upload = again.upload_batch(folder)
        results = list(upload)

    assert all(result.ok for result in results)
    assert upload.ok
    assert stack.batches.content(only_batch(stack)) == files_of(folder)
    assert stack.calls["POST /v1/batches"] == 1
    assert before < 90
    # What was on the wire arrived and was not noted: parts are found there, members are refused as there already.
    assert stack.stored_parts == 120 + 20 + 21
    assert told.resumed > 0
    assert told.bytes + told.resumed == sum(map(len, files_of(folder).values()))
    assert sum(result.bytes_sent + result.bytes_resumed for result in results) == told.bytes + told.resumed
    assert os.listdir(os.path.join(os.environ["XDG_STATE_HOME"], "heavylift", "batches")) == []


def test_a_folder_that_has_changed_is_a_new_batch(
    stack: Stack, client: Client, told: Told, folder: Path, clock: FastClock
) -> None:
    """The old one is named, so that it can be cancelled."""
    cut(stack, client, folder, 40)
    (folder / "new.bin").write_bytes(b"new")
    with Client(stack.api, TOKEN, clock=clock, hooks=told.hooks()) as again:
        upload = again.upload_batch(folder)
        assert all(result.ok for result in upload)
    old, new = stack.batches.by_id

    assert upload.batch_id == new
    assert stack.batches.content(new) == files_of(folder)
    assert stack.batches.by_id[old]["status"] == "open"
    assert any(old in words for words in told.notices)


@pytest.mark.parametrize("status", ["cancelled", "expired", None])
def test_a_batch_that_is_gone_is_begun_anew(
    stack: Stack, client: Client, folder: Path, clock: FastClock, status: str | None
) -> None:
    """Cancelled from elsewhere, over, or unknown by now."""
    cut(stack, client, folder, 40)
    old = only_batch(stack)
    if status is None:
        del stack.batches.by_id[old]
    else:
        stack.batches.by_id[old]["status"] = status
    with Client(stack.api, TOKEN, clock=clock) as again:
        upload = again.upload_batch(folder)
        assert all(result.ok for result in upload)

    assert upload.batch_id != old
    assert stack.batches.content(str(upload.batch_id)) == files_of(folder)


def test_cut_while_waiting(stack: Stack, client: Client, folder: Path, clock: FastClock) -> None:
    """Everything was sent: the next run sends nothing and tells the verdicts."""
    stack.batches.polls_until_final = 3

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"] == "GET /v1/batches/{id}":
            client.stop()
        return None

    stack.scripts.append(script)
    with pytest.raises(Stopped):
        list(client.upload_batch(folder))
    stack.scripts.clear()
    sent = len(stack.puts)
    with Client(stack.api, TOKEN, clock=clock) as again:
        results = list(again.upload_batch(folder))

    assert len(results) == 122
    assert all(result.ok for result in results)
    assert len(stack.puts) == sent


def test_a_lost_begin_is_found_again(stack: Stack, client: Client, folder: Path, clock: FastClock) -> None:
    """Stopped when the API had begun the batch and the answer was not noted yet: no second batch."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"] == "POST /v1/batches":
            client.stop()
            return Fault(after=True)
        return None

    stack.scripts.append(script)
    with pytest.raises(Stopped):
        list(client.upload_batch(folder))
    stack.scripts.clear()
    assert len(stack.batches.by_id) == 1
    with Client(stack.api, TOKEN, clock=clock) as again:
        assert all(result.ok for result in again.upload_batch(folder))
    only_batch(stack)


def killed_and_run_again(stack: Stack, folder: Path, seed: int) -> None:
    """kill -9 the command at random moments until it ends by itself; bytes, lines and re-sent parts are checked."""
    chance = random.Random(seed)

    def slow(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart":
            time.sleep(0.004)
        return None

    stack.scripts.append(slow)
    command = [sys.executable, "-m", "heavylift_client.cli", "put", str(folder), "--json"]
    command += ["--concurrency", str(CONCURRENCY)]
    environment = os.environ | {"HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": TOKEN}
    kills, out, errors, status = 0, b"", b"", -signal.SIGKILL
    moments = sorted(chance.sample(range(1, 130), 3))
    while status == -signal.SIGKILL:
        moment = moments.pop(0) if moments else None
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while moment is not None and process.poll() is None:
                if len(stack.puts) >= moment:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.002)
            out, errors = process.communicate(timeout=120)
        status = process.returncode
        kills += status == -signal.SIGKILL
        time.sleep(0.2)  # what was on the wire arrives or not

    assert status == 0, errors
    assert kills
    lines = [json.loads(line) for line in out.splitlines()]
    assert (len(lines), lines[-1]["status"]) == (123, "completed")
    assert stack.batches.content(only_batch(stack)) == files_of(folder)
    # Every member is stored once: what was on the wire and arrived is refused when it comes again.
    again = len(stack.puts) - (120 + 20 + 21)
    assert again <= kills * CONCURRENCY


def test_killed_with_9_and_run_again(stack: Stack, folder: Path) -> None:
    """Three kills: at most what was on the wire goes again."""
    killed_and_run_again(stack, folder, 0)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 21))
def test_killed_with_9_twenty_times(stack: Stack, folder: Path, seed: int) -> None:
    """The same at other moments."""
    killed_and_run_again(stack, folder, seed)
