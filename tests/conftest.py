"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from heavylift import settings as settings_module

# Timing is never asserted: a busy machine is no failure.
hypothesis.settings.register_profile("heavylift", deadline=None)
hypothesis.settings.load_profile("heavylift")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--s3-endpoint",
        metavar="URL",
        help="run the stacks of tests/interop on this S3 (credentials: AWS's own environment variables)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if endpoint := config.getoption("--s3-endpoint"):
        # What `heavylift up` reads by itself, so that every stack of the run is meant.
        os.environ["HEAVYLIFT_S3_ENDPOINT"] = str(endpoint)


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes worlds, each a fresh one: functions, table, buckets and queues in this process (tests/doubles/world.py)."""
    from tests.doubles.world import World

    yield lambda dynamodb=None: World(monkeypatch, dynamodb)
    monkeypatch.undo()
    settings_module.settings.cache_clear()


@pytest.fixture
def world(worlds: Callable[..., Any]) -> Any:
    """One world."""
    return worlds()
