"""The API away, overloaded, deaf or of another mind about the token."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client
from tests.client.conftest import FastClock, Told, well
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]


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
