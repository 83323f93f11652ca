"""Whole uploads against the fake stack: what goes up, in how many calls, and what the caller learns."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client
from heavylift_client.sources import Item, item_of
from tests.client.conftest import FastClock, Told, well
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]


def test_a_large_file_goes_up_in_parts(stack: Stack, client: Client, told: Told, make_file: MakeFile) -> None:
    """Every part once, the bytes as they were, the caller told of each byte, the verdict waited for."""
    stack.polls_until_final = 3
    path = make_file(18 * MIB + 5)
    result = client.put(path)

    well(result, stack, path)
    assert stack.stored_parts == 19
    assert told.bytes == 18 * MIB + 5
    assert result.bytes_sent == 18 * MIB + 5
    assert result.kind == "image"
    assert result.file_id == result.upload_id
    assert stack.calls["GET /v1/files/{id}"] == 3


def test_signing_goes_in_batches_and_connections_are_kept(stack: Stack, make_file: MakeFile) -> None:
    """100 parts need far fewer than 100 signing calls, and no more connections than parts on the wire."""
    stack.part_size = 256 << 10
    path = make_file(25 * MIB)
    with Client(stack.api, TOKEN, concurrency=4, clock=FastClock()) as client:
        well(client.put(path), stack, path)

    assert stack.stored_parts == 100
    assert stack.calls["POST /v1/uploads/{id}/parts"] <= 34
    assert stack.connections["s3"] <= 4


def test_small_files_need_no_signing_and_no_complete(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """450 small files: three initiate calls, whose answers hold the URLs; S3's event does the rest."""
    paths = [make_file(100 + n, f"{n}.jpg", seed=n) for n in range(450)]
    results = {result.path: result for result in client.put_many(paths)}

    for path in paths:
        well(results[str(path)], stack, path)
    assert stack.calls["POST /v1/uploads"] == 3
    assert not stack.calls["POST /v1/uploads/{id}/parts"]
    assert not stack.calls["POST /v1/uploads/{id}/complete"]


def test_large_and_small_together(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A mixed list ends with one result for each path."""
    paths = [make_file(17 * MIB + n if n % 4 == 0 else n * 1000, f"{n}.bin", seed=n) for n in range(12)]
    results = {result.path: result for result in client.put_many(paths)}

    assert len(results) == 12
    for path in paths:
        well(results[str(path)], stack, path)


def test_an_empty_file(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """It goes up like any other; what it is worth is for the server to say."""
    path = make_file(0)

    well(client.put(path), stack, path)


def test_the_same_bytes_twice_are_two_files(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A copy does not join the session of its original in the same run."""
    one, two = make_file(17 * MIB, "a.tif"), make_file(17 * MIB, "b.tif")
    results = list(client.put_many([one, two]))

    assert len({result.upload_id for result in results}) == 2
    for result in results:
        well(result, stack, one)


def test_the_server_decides_the_mode(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A small file that the server wants in parts goes up in parts, a large one that it wants whole goes up whole."""
    stack.single_max = 1000
    small = make_file(3 * MIB + 1, "small.bin")
    well(client.put(small), stack, small)
    assert stack.stored_parts == 4

    stack.single_max = 1 << 40
    large = make_file(17 * MIB, "large.bin")
    well(client.put(large), stack, large)
    assert stack.stored_parts == 5


def test_declared_things_travel(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """What the caller says is sent; a type is never guessed; the logical id is metadata."""
    client.put(
        make_file(10),
        kind="image",
        data_type="scan",
        description="page ✓",
        logical_id="L1",
        metadata={"k": "v"},
        rules={"min_records": 1},
    )
    client.put(make_file(10), type="image/tiff", name="other 😀.tif")
    first, second = (upload["entry"] for upload in stack.uploads.values())

    assert first["name"] == "scan.tif"
    assert first["metadata"] == {"k": "v", "logical_id": "L1"}
    assert (first["kind"], first["data_type"], first["description"]) == ("image", "scan", "page ✓")
    assert first["rules"] == {"min_records": 1}
    assert "type" not in first
    assert (second["type"], second["name"]) == ("image/tiff", "other 😀.tif")
    assert "metadata" not in second


@pytest.mark.parametrize(
    "name", ["😀.tif", "a\nb.tif", "-rf", "x" * 255, "a'b\"c.tif", b"caf\xe9.tif", b"\xff\xfe", "..."]
)
def test_any_file_name(stack: Stack, client: Client, tmp_path: Path, name: str | bytes) -> None:
    """Names are labels: bytes that are no UTF-8 become U+FFFD, the rest travels as it is."""
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    with open(path, "wb") as file:
        file.write(b"content")
    result = client.put(path)

    assert result.ok
    assert stack.uploads[str(result.upload_id)]["name"] == os.fsencode(name).decode("utf-8", "replace")


def test_one_bad_file_does_not_stop_the_others(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A file the store refuses, one the API refuses, one that is not there, a folder: the rest ends well."""
    stack.problems["evil.exe"] = {"code": "type_not_allowed", "detail": "no executables", "status": 422}
    good = [make_file(5000 + n, f"{n}.jpg", seed=n) for n in range(5)]
    refused, evil = make_file(6000, "refused.jpg"), make_file(7000, "evil.exe")

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and stack.uploads[facts["upload_id"]]["name"] == "refused.jpg":
            return Fault(400, "InvalidRequest")
        return None

    stack.scripts.append(script)
    paths = [good[0], refused, good[1], evil, good[2], refused.parent / "none.jpg", good[3], refused.parent, good[4]]
    results = {result.path: result for result in client.put_many(paths)}

    for path in good:
        well(results[str(path)], stack, path)
    codes = {
        os.path.basename(path): (r.status, r.failure["code"]) for path, r in results.items() if r.failure is not None
    }
    assert codes == {
        "refused.jpg": ("failed", "InvalidRequest"),
        "evil.exe": ("rejected", "type_not_allowed"),
        "none.jpg": ("failed", "source_unreadable"),
        refused.parent.name: ("failed", "not_a_file"),
    }


def test_one_name_that_breaks_the_schema(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A 422 for a whole call is traced to the one file that caused it."""
    paths = [make_file(100 + n, f"{n}.jpg", seed=n) for n in range(9)]
    paths.insert(4, make_file(5, "unspeakable.jpg"))
    results = {os.path.basename(result.path): result for result in client.put_many(paths)}

    bad = results.pop("unspeakable.jpg")
    assert bad.failure is not None
    assert bad.failure["code"] == "invalid_body"
    assert all(result.ok for result in results.values())
    assert len(results) == 9


def test_rejected_by_content(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """The server's verdict and its reason are the result."""
    stack.final_status = "rejected"
    result = client.put(make_file(1000))

    assert result.status == "rejected"
    assert (result.failure or {})["code"] == "not_an_image"
    assert result.record is not None
    assert not result.ok


@pytest.mark.parametrize("size", [1000, 17 * MIB])
def test_without_waiting(stack: Stack, client: Client, make_file: MakeFile, size: int) -> None:
    """All bytes are there and proven; the verdict is not asked for."""
    result = client.put(make_file(size), wait=False)

    assert (result.status, result.ok) == ("staged", True)
    assert not stack.calls["GET /v1/files/{id}"]


def test_assembling_takes_its_time(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """202 is asked again after its Retry-After."""
    stack.assembling_answers = 3
    path = make_file(17 * MIB)

    well(client.put(path), stack, path)
    assert stack.calls["POST /v1/uploads/{id}/complete"] == 4


def test_sources_are_read_lazily(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A million paths are not opened at once: a generator is asked only as fast as files go up."""
    path = make_file(100)
    asked = [0]

    def items() -> Iterator[Item]:
        for n in range(2000):
            asked[0] += 1
            yield item_of(path, name=f"{n}.bin")

    hold = threading.Event()

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart":
            hold.wait(10)
        return None

    stack.scripts.append(script)
    results = client.put_many(items(), wait=False)
    first = threading.Thread(target=lambda: next(results))
    first.start()
    deadline = time.monotonic() + 10
    while asked[0] < 400 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    seen = asked[0]
    hold.set()
    first.join()
    results.close()

    assert 400 <= seen <= 700


def test_a_pipe_is_no_file(client: Client, tmp_path: Path) -> None:
    """Opening it does not hang."""
    os.mkfifo(tmp_path / "pipe")
    result = client.put(tmp_path / "pipe")

    assert (result.failure or {})["code"] == "not_a_file"
