"""Fixtures that every test may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from heavylift import settings as settings_module

# Timing is never asserted: a busy machine is no failure.
hypothesis.settings.register_profile("heavylift", deadline=None)
hypothesis.settings.load_profile("heavylift")


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
