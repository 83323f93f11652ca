"""Ten minutes without network, by the client's clock: everything waits, everything arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import Client
from tests.client.conftest import FastClock, Told, well
from tests.client.fake import MIB, TOKEN, Fault, Stack
from tests.client.test_batch_upload import files_of, only_batch

MakeFile = Callable[..., Path]
OUTAGE_S = 600.0


class Cable:
    """Pulled at the first request that ``when`` names, plugged in again after ten minutes of the client's time."""

    def __init__(self, clock: FastClock, when: str) -> None:
        self.clock, self.when = clock, when
        self.lock = threading.Lock()
        self.until: float | None = None
        self.refused = 0

    def __call__(self, operation: str, facts: dict[str, Any]) -> Fault | None:
        with self.lock:
            if self.until is None and self.when in (operation, facts.get("route")):
                self.until = self.clock.now() + OUTAGE_S
            if self.until is None or self.clock.now() >= self.until:
                return None
            self.refused += 1
            return Fault(cut_after=0)


@pytest.fixture
def slow_time() -> FastClock:
    """Ten minutes in a second."""
    return FastClock(speed=600.0)


@pytest.mark.parametrize(
    "when", ["POST /v1/uploads", "POST /v1/uploads/{id}/parts", "PutPart", "POST /v1/uploads/{id}/complete"]
)
def test_a_file_survives_ten_minutes_without_network(
    stack: Stack, told: Told, slow_time: FastClock, make_file: MakeFile, when: str
) -> None:
    """Wherever it begins; every part is stored once, and the person is told."""
    path = make_file(20 * MIB)
    cable = Cable(slow_time, when)
    stack.scripts.append(cable)
    with Client(stack.api, TOKEN, clock=slow_time, hooks=told.hooks()) as client:
        well(client.put(path), stack, path)

    assert cable.refused > 5
    assert stack.stored_parts == 20
    assert any("trying again" in words for words in told.notices) or when == "PutPart"


@pytest.mark.parametrize(
    "when",
    [
        "POST /v1/batches",
        "PUT /v1/batches/{id}/manifest/{page}",
        "POST /v1/batches/{id}/urls",
        "PutPart",
        "POST /v1/batches/{id}/complete",
        "GET /v1/batches/{id}",
        "GET /v1/batches/{id}/files",
    ],
)
def test_a_folder_survives_ten_minutes_without_network(
    stack: Stack, slow_time: FastClock, make_file: MakeFile, tmp_path: Path, when: str
) -> None:
    """Wherever it begins: one batch, every member once."""
    for n in range(30):
        make_file(100 + n, f"in/{n}", seed=n)
    make_file(17 * MIB, "in/large", seed=40)
    cable = Cable(slow_time, when)
    stack.scripts.append(cable)
    with Client(stack.api, TOKEN, clock=slow_time) as client:
        assert all(result.ok for result in client.upload_batch(tmp_path / "in"))

    assert cable.refused > 5
    assert stack.batches.content(only_batch(stack)) == files_of(tmp_path / "in")
    assert stack.stored_parts == 30 + 17
