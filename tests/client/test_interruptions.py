"""What happens on this side in the middle of an upload: files that change, callers that stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client, Stopped
from tests.client.conftest import well
from tests.client.fake import MIB, Fault, Stack

MakeFile = Callable[..., Path]


@pytest.mark.parametrize("change", ["append", "truncate", "touch", "replace", "remove"])
def test_a_file_that_changes_meanwhile(stack: Stack, client: Client, make_file: MakeFile, change: str) -> None:
    """A clear error; the session is never completed with bytes of two versions."""
    path = make_file(17 * MIB)
    done = threading.Event()

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and facts["number"] == 5 and not done.is_set():
            done.set()
            if change == "append":
                with path.open("ab") as file:
                    file.write(b"more")
            elif change == "truncate":
                os.truncate(path, 3 * MIB)
            elif change == "touch":
                os.utime(path, (1, 1))
            elif change == "replace":
                other = path.with_name("other")
                other.write_bytes(path.read_bytes())
                os.replace(other, path)
            else:
                path.unlink()
        return None

    stack.scripts.append(script)
    result = client.put(path)

    assert (result.status, (result.failure or {})["code"]) == ("failed", "source_changed")
    assert not stack.calls["POST /v1/uploads/{id}/complete"]


def test_stopping_in_the_middle(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """``stop`` from another thread ends the run soon with Stopped, and leaves no thread behind."""
    before = threading.active_count()
    client_threads = {t for t in threading.enumerate() if "heavylift" in str(getattr(t, "_target", ""))}

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and facts["number"] == 5:
            client.stop()
            return Fault(503, "SlowDown", delay_s=0.2)
        return None

    stack.scripts.append(script)
    with pytest.raises(Stopped):
        client.put(make_file(17 * MIB))
    assert threading.active_count() <= before + 20  # the fake's own connection threads may linger
    left = {t for t in threading.enumerate() if "guarded" in str(getattr(t, "_target", ""))}
    assert left <= client_threads


def test_leaving_the_loop_stops_the_work(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Breaking out of put_many ends its threads; the client can be used again, and goes on where it was."""
    paths = [make_file(1000, "first.jpg"), make_file(20 * MIB, "big.tif")]

    def slow(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and stack.uploads[facts["upload_id"]]["name"] == "big.tif":
            time.sleep(0.02)
        return None

    stack.scripts.append(slow)
    results = client.put_many(paths)
    assert next(results).name == "first.jpg"
    results.close()
    stack.scripts.clear()

    well(client.put(paths[1]), stack, paths[1])
