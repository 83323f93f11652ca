"""The upload engine against the fake stack: every answer of S3 and the API that the contract names."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client, Result, Stopped
from heavylift_client.sources import Item, item_of
from tests.client.conftest import FastClock, Told
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]


def well(result: Result, stack: Stack, path: Path) -> None:
    """The file ended well and the store has exactly its bytes."""
    assert result.failure is None
    assert result.status == "completed"
    assert result.ok
    assert path.read_bytes() == stack.content(str(result.upload_id))


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


def test_signing_goes_in_batches_and_connections_are_kept(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """100 parts need far fewer than 100 signing calls, and no more connections than threads."""
    stack.part_size = 256 << 10
    path = make_file(25 * MIB)
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


@pytest.mark.parametrize(
    "fault",
    [
        Fault(503, "SlowDown"),
        Fault(503, "SlowDown", read_body=False),
        Fault(500, "InternalError"),
        Fault(400, "RequestTimeout"),
        Fault(400, "IncompleteBody"),
        Fault(400, "BadDigest"),
        Fault(400, "ExpiredToken"),
        Fault(400, "ExpiredToken", read_body=False),
        Fault(403, "AccessDenied"),
        Fault(403, "RequestTimeTooSkewed"),
        Fault(403, "SignatureDoesNotMatch"),
        Fault(409, "ConditionalRequestConflict"),
        Fault(429, ""),
        Fault(408, ""),
        Fault(cut_after=0),
        Fault(cut_after=300_000),
        Fault(after=True),
    ],
    ids=lambda fault: f"{fault.status}-{fault.code}-{fault.cut_after}-{fault.read_body}-{fault.after}",
)
@pytest.mark.parametrize("size", [17 * MIB, 2 * MIB], ids=["parts", "single"])
def test_one_fault_costs_a_retry(
    stack: Stack, client: Client, told: Told, make_file: MakeFile, fault: Fault, size: int
) -> None:
    """Each answer that may pass passes: the bytes arrive, and none is counted twice for the caller."""
    stack.fail("PutPart", fault, number=1)
    path = make_file(size)

    well(client.put(path), stack, path)
    assert told.bytes == size


def test_new_urls_only_where_they_help(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """A slow store is asked again with the same URL, an expired token with a new one."""
    path = make_file(2 * MIB)
    stack.fail("PutPart", Fault(503, "SlowDown"), times=3)
    well(client.put(path), stack, path)
    assert not stack.calls["POST /v1/uploads/{id}/parts"]

    stack.fail("PutPart", Fault(400, "ExpiredToken"))
    well(client.put(path), stack, path)
    assert stack.calls["POST /v1/uploads/{id}/parts"] == 1


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Fault(403, "SignatureDoesNotMatch"), 2),
        (Fault(400, "BadDigest"), 4),
        (Fault(403, "AccessDenied"), 9),
        (Fault(400, "EntityTooLarge"), 1),
        (Fault(404, "NoSuchBucket"), 1),
        (Fault(501, "NotImplemented"), 1),
    ],
    ids=lambda value: getattr(value, "code", str(value)),
)
def test_a_lasting_refusal_fails_in_words(
    stack: Stack, client: Client, make_file: MakeFile, fault: Fault, tries: int
) -> None:
    """The tries are counted, the file fails with S3's code, and no URL is in the words; another file goes on."""
    stack.fail("PutPart", fault, times=1000, number=1)
    bad = client.put(make_file(2 * MIB))
    stack.scripts.clear()
    good_path = make_file(1000, "good.tif")

    assert not bad.ok
    assert bad.status == "failed"
    assert bad.failure is not None
    assert bad.failure["code"] == fault.code
    assert "http" not in bad.failure["message"]
    assert "Signature=" not in bad.failure["message"]
    assert len(stack.puts) == tries
    well(client.put(good_path), stack, good_path)


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


def test_short_lived_urls(stack: Stack, told: Told, make_file: MakeFile) -> None:
    """URLs that live one second while a part takes a while: new ones are asked for, everything arrives."""
    stack.ttl_s = 1.0
    stack.fail("PutPart", Fault(503, "SlowDown", delay_s=0.7), times=6)
    path = make_file(17 * MIB)
    with Client(stack.api, TOKEN, concurrency=2, hooks=told.hooks()) as client:
        result = client.put(path)

    well(result, stack, path)


def test_urls_that_are_dead_on_arrival_end(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """If no URL ever works, the upload ends with a failure instead of asking for ever."""
    stack.ttl_s = -5.0
    result = client.put(make_file(17 * MIB))

    assert result.failure is not None
    assert result.failure["code"] == "AccessDenied"


def test_five_percent_of_puts_fail(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Every twentieth PUT answered 503: all bytes arrive, each part stored once."""
    stack.part_size = 128 << 10
    count = [0]

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        count[0] += operation == "PutPart"
        return Fault(503, "SlowDown") if operation == "PutPart" and count[0] % 20 == 0 else None

    stack.scripts.append(script)
    path = make_file(17 * MIB)

    well(client.put(path), stack, path)
    assert stack.stored_parts == 136


@pytest.mark.parametrize("seed", range(3))
def test_everything_goes_wrong_now_and_then(stack: Stack, client: Client, make_file: MakeFile, seed: int) -> None:
    """Any mixture of faults of store and API, on any request: all files end well, with their bytes."""
    chance = random.Random(seed)
    lock = threading.Lock()
    store = [
        Fault(503, "SlowDown"),
        Fault(500, "InternalError", read_body=False),
        Fault(400, "ExpiredToken"),
        Fault(400, "RequestTimeout"),
        Fault(cut_after=70_000),
        Fault(after=True),
    ]
    api = [Fault(503), Fault(429), Fault(cut_after=0), Fault(after=True)]

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        with lock:
            if chance.random() > 0.15:
                return None
            return chance.choice(store if operation == "PutPart" else api)

    stack.scripts.append(script)
    stack.part_size = 512 << 10
    stack.assembling_answers = 1
    paths = [make_file(17 * MIB + n if n % 5 == 0 else n * 10_000, f"{n}.bin", seed=n) for n in range(15)]
    results = {result.path: result for result in client.put_many(paths)}

    for path in paths:
        well(results[str(path)], stack, path)
    assert len(stack.uploads) == 15


def test_retry_after_of_the_store_is_honoured(
    stack: Stack, client: Client, clock: FastClock, make_file: MakeFile
) -> None:
    """The wait is at least what S3 asks for."""
    stack.fail("PutPart", Fault(503, "SlowDown", headers={"retry-after": "9"}))
    path = make_file(1000)

    well(client.put(path), stack, path)
    assert max(clock.paused) == 9


def test_the_api_away_for_a_while(stack: Stack, client: Client, told: Told, make_file: MakeFile) -> None:
    """Initiate, sign, complete and polls meet a dead API and wait; the person is told."""
    back: list[float] = []

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation != "api":
            return None
        if not back:
            back.append(time.monotonic() + 0.5)
        return Fault(cut_after=0) if time.monotonic() < back[0] else None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    well(client.put(path), stack, path)

    assert any("trying again" in words for words in told.notices)
    assert "the API answers again" in told.notices


@pytest.mark.parametrize("status", [429, 502, 503, 504, 500])
def test_the_gateway_is_overloaded(stack: Stack, client: Client, make_file: MakeFile, status: int) -> None:
    """Its own answers without a code are tried again."""
    stack.fail("api", Fault(status, headers={"retry-after": "1"}), times=4)
    path = make_file(17 * MIB)

    well(client.put(path), stack, path)


def test_patience_ends(stack: Stack, make_file: MakeFile) -> None:
    """With the API away for good, every file fails in words, after one wait for all of them."""
    stack.close()
    with Client(stack.api, TOKEN, patience_s=20, clock=FastClock()) as client:
        started = time.monotonic()
        results = list(client.put_many([make_file(10, f"{n}.tif") for n in range(300)]))

    assert [(r.status, (r.failure or {})["code"]) for r in results] == [("failed", "network")] * 300
    assert time.monotonic() - started < 20


def test_a_lost_initiate_answer_makes_no_second_session(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """The repeat carries the same Idempotency-Key."""
    stack.fail("api", Fault(after=True), route="POST /v1/uploads")
    path = make_file(17 * MIB)

    well(client.put(path), stack, path)
    assert len(stack.uploads) == 1


def test_a_wrong_token(stack: Stack, make_file: MakeFile) -> None:
    """All files fail with the gateway's 401, without hashing the rest, and without a retry."""
    with Client(stack.api, "wrong", clock=FastClock()) as client:
        results = list(client.put_many([make_file(10), make_file(17 * MIB, "b"), make_file(10, "c")]))

    assert [(r.status, (r.failure or {})["code"]) for r in results] == [("failed", "unauthorized")] * 3
    assert sum(stack.calls.values()) <= 2


def test_a_token_that_is_renewed(stack: Stack, make_file: MakeFile) -> None:
    """A function as token is asked again after a 401."""
    tokens = iter(["old"])
    path = make_file(17 * MIB)
    with Client(stack.api, lambda: next(tokens, TOKEN), clock=FastClock()) as client:
        well(client.put(path), stack, path)


def test_assembling_takes_its_time(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """202 is asked again after its Retry-After."""
    stack.assembling_answers = 3
    path = make_file(17 * MIB)

    well(client.put(path), stack, path)
    assert stack.calls["POST /v1/uploads/{id}/complete"] == 4


def test_parts_that_got_lost_are_sent_again(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """409 parts_missing names them; only they go again."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/complete") and stack.stored_parts == 17:
            (upload,) = stack.uploads.values()
            del upload["parts"][3], upload["parts"][4], upload["parts"][17]
        return None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    well(client.put(path), stack, path)

    assert stack.stored_parts == 20


def test_a_part_that_another_client_overwrote(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Complete says which digests are expected; a part with others is sent again."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/complete") and stack.stored_parts == 17:
            (upload,) = stack.uploads.values()
            upload["parts"][5]["sha256"] = "somebody else's"
        return None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    well(client.put(path), stack, path)

    assert stack.stored_parts == 18


def test_parts_that_never_stay_end_the_upload(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Sending again is bounded."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/complete"):
            next(iter(stack.uploads.values()))["parts"].pop(3, None)
        return None

    stack.scripts.append(script)
    result = client.put(make_file(17 * MIB))

    assert (result.status, (result.failure or {})["code"]) == ("failed", "parts_missing")
    assert stack.calls["POST /v1/uploads/{id}/complete"] == 4


def test_cancelled_from_elsewhere(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """S3 knows the upload no longer, the API says why: the result is ``cancelled``, not an error."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart" and facts["number"] == 6:
            stack.uploads[facts["upload_id"]]["status"] = "cancelled"
        return None

    stack.scripts.append(script)
    result = client.put(make_file(17 * MIB))

    assert result.status == "cancelled"
    assert not result.ok


def test_cancelled_before_signing(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """The API's 409 on signing is looked into as well."""

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "api" and facts["route"].endswith("/parts"):
            for upload in stack.uploads.values():
                upload["status"] = "cancelled"
        return None

    stack.scripts.append(script)

    assert client.put(make_file(17 * MIB)).status == "cancelled"


def test_a_lost_upload_starts_again_once(stack: Stack, client: Client, told: Told, make_file: MakeFile) -> None:
    """The store lost the parts (a lifecycle rule), the API still waits for them: a new session, all bytes again."""
    first: list[str] = []

    def script(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation != "PutPart":
            return None
        first.append(facts["upload_id"])
        return Fault(404, "NoSuchUpload") if facts["upload_id"] == first[0] and len(first) > 5 else None

    stack.scripts.append(script)
    path = make_file(17 * MIB)
    result = client.put(path)

    well(result, stack, path)
    assert result.upload_id != first[0]
    assert told.bytes + told.resumed == 17 * MIB
    assert any("starting again" in words for words in told.notices)


def test_an_upload_that_is_lost_again_fails(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """One new start, not a loop."""
    stack.fail("PutPart", Fault(404, "NoSuchUpload"), times=1000)
    result = client.put(make_file(17 * MIB))

    assert (result.status, (result.failure or {})["code"]) == ("failed", "NoSuchUpload")
    assert len(stack.uploads) == 2


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


def test_a_folder(stack: Stack, client: Client, make_file: MakeFile, tmp_path: Path) -> None:
    """Every regular file below, hidden ones too, with its relative path; links are not followed."""
    for n, name in enumerate(["in/b.tif", "in/.hidden", "in/sub/deep/a.tif", "in/sub/.DS_Store"]):
        make_file(10 + n, name, seed=n)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "b.tif")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe")
    results = list(client.put_folder(tmp_path / "in"))

    assert all(result.ok for result in results)
    assert sorted(str(result.relative_path) for result in results) == [
        ".hidden",
        "b.tif",
        "sub/.DS_Store",
        "sub/deep/a.tif",
    ]
    assert {u["entry"]["relative_path"] for u in stack.uploads.values()} == {str(r.relative_path) for r in results}


def test_a_pipe_is_no_file(client: Client, tmp_path: Path) -> None:
    """Opening it does not hang."""
    os.mkfifo(tmp_path / "pipe")
    result = client.put(tmp_path / "pipe")

    assert (result.failure or {})["code"] == "not_a_file"
