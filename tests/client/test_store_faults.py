"""Every answer of S3 that the contract names: what passes passes, what lasts fails in words."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client
from tests.client.conftest import FastClock, Told, well
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]


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
