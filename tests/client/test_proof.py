"""The finished object's checksums are compared with those of the bytes that were read here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client
from tests.client.conftest import well
from tests.client.fake import MIB, Stack

MakeFile = Callable[..., Path]


def sums_of(data: bytes, part_size: int) -> dict[str, Any]:
    """What S3 and the server say of an object whose parts have these digests (S3: "checksum of checksums")."""
    digests = [hashlib.sha256(data[at : at + part_size]).digest() for at in range(0, len(data), part_size)]
    composite = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    return {"sha256_composite": f"{composite}-{len(digests)}", "sha256_proven": False}


def finish_with(stack: Stack, sums: dict[str, Any]) -> None:
    """From the first PUT on, the record has these checksums."""

    def script(operation: str, facts: dict[str, Any]) -> None:
        if operation == "PutPart":
            stack.uploads[facts["upload_id"]]["checksums"] = sums

    stack.scripts.append(script)


def test_the_same_composite_is_well(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """Of all parts in order, with their number."""
    path = make_file(17 * MIB + 5)
    finish_with(stack, sums_of(path.read_bytes(), stack.part_size))

    well(client.put(path), stack, path)


def test_the_same_digest_of_a_small_file_is_well(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """In hexadecimal, as records have it."""
    path = make_file(5_000)
    finish_with(stack, {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "sha256_proven": True})

    well(client.put(path), stack, path)


@pytest.mark.parametrize(
    ("size", "sums"),
    [
        (17 * MIB, sums_of(b"other bytes", 5)),
        (17 * MIB, sums_of(bytes(17 * MIB), MIB)),
        (5_000, {"sha256": "0" * 64, "sha256_proven": True}),
    ],
    ids=["other parts", "other bytes", "one PUT"],
)
def test_another_checksum_is_a_failure(
    stack: Stack, client: Client, make_file: MakeFile, size: int, sums: dict[str, Any]
) -> None:
    """Whatever the server's verdict was."""
    finish_with(stack, sums)
    result = client.put(make_file(size))

    assert not result.ok
    assert (result.failure or {})["code"] == "checksum_mismatch"


def test_a_digest_that_is_only_declared_proves_nothing(stack: Stack, client: Client, make_file: MakeFile) -> None:
    """It is not compared."""
    path = make_file(5_000)
    finish_with(stack, {"sha256": "0" * 64, "sha256_proven": False})

    well(client.put(path), stack, path)
