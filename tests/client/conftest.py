from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from heavylift_client import Client, Hooks, Result
from heavylift_client.backoff import Clock
from tests.client.fake import TOKEN, Stack

# Timing is never asserted, on a shared machine least of all.
hypothesis.settings.register_profile("heavylift", deadline=None)
hypothesis.settings.load_profile("heavylift")

SPEED = 50.0


class FastClock(Clock):
    """The client's time passes fifty times as fast (or ``speed``), the server's does not."""

    def __init__(self, speed: float = SPEED) -> None:
        self.speed = speed
        self.paused: list[float] = []

    def now(self) -> float:
        return super().now() * self.speed

    def random(self) -> float:
        return 0.5

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        self.paused.append(seconds)
        return stop.wait(seconds / self.speed)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        condition.wait(None if seconds is None else seconds / self.speed)


class Told:
    """What the client told its caller."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bytes = 0
        self.resumed = 0
        self.listed = 0
        self.notices: list[str] = []

    def hooks(self) -> Hooks:
        return Hooks(self._moved, self._resumed, self.notices.append, self._listed)

    def _listed(self, size: int) -> None:
        self.listed += size

    def _moved(self, size: int) -> None:
        with self.lock:
            self.bytes += size

    def _resumed(self, size: int) -> None:
        with self.lock:
            self.resumed += size


def well(result: Result, stack: Stack, path: Path) -> None:
    """The file ended well and the store has exactly its bytes."""
    assert result.failure is None
    assert result.status == "completed"
    assert result.ok
    assert path.read_bytes() == stack.content(str(result.upload_id))


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals of batches lie in the test's own folder, also those of commands that a test starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "server"
    folder.mkdir()
    made = Stack(folder)
    yield made
    made.close()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def client(stack: Stack, told: Told, clock: FastClock) -> Iterator[Client]:
    with Client(stack.api, TOKEN, clock=clock, hooks=told.hooks(), patience_s=60.0, timeout_s=10.0) as made:
        yield made


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """A file of pseudo-random bytes that differ from part to part."""

    def make(size: int, name: str = "scan.tif", seed: int = 1) -> Path:
        import random

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(seed).randbytes(size))
        return path

    return make
