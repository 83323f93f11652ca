"""What a file costs in the table, counted call by call over its whole life: a small constant, whatever its size."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.doubles.samples import png
from tests.doubles.world import World

WRITES = {"put_item", "update_item", "delete_item", "batch_write_item"}


def whole_life(world: World, name: str, data: bytes, *, kind: str) -> Counter[str]:
    """Calls to the table by operation, from initiate to the cleared announcement."""
    world.gate.restart()
    file_id = world.initiate(name, data)
    world.put(file_id, data)
    world.complete(file_id)
    world.pump()
    assert world.status(file_id) == "completed"
    assert world.record(file_id).kind == kind
    return Counter(call.operation for call in world.gate.calls if call.service == "dynamodb")


@pytest.mark.parametrize("parts", [5, 60, 600])
def test_a_picture(world: World, parts: int) -> None:
    """Multipart, promoted by part copies, with thumbnails: the same calls for 5 parts and for 600."""
    picture = png(40, 30)
    calls = whole_life(world, "p.png", picture + bytes(max(0, parts * 16 - len(picture))), kind="image")

    # initiate with the caller's limit and the hour; assemble, arrive, validate, promote, the copy's upload, store;
    # process, finish, the hour again, told.
    assert sum(calls[operation] for operation in WRITES) == 13
    assert calls.total() - 13 <= 14


@pytest.mark.parametrize("size", [0, 1, 64])
def test_a_small_file(world: World, size: int) -> None:
    """One PUT, one CopyObject, nobody makes anything of it."""
    calls = whole_life(world, "notes.bin", bytes(size), kind="other")

    # initiate with the caller's limit and the hour; arrive, validate, promote, store, finish, the hour again, told.
    assert sum(calls[operation] for operation in WRITES) == 10
    assert calls.total() - 10 <= 11


def test_a_sweep_that_finds_nothing(world: World) -> None:
    """Its cost does not grow with the files that are at rest: 40 or 4."""
    costs = []
    for files in (4, 36):
        for _ in range(files):
            whole_life(world, "notes.bin", b"\0", kind="other")
        for _ in range(3):
            world.clock.advance(900)
            world.sweep()
        world.gate.restart()
        world.clock.advance(900)
        world.sweep()
        costs.append(Counter(call.operation for call in world.gate.calls))

    # Only the walk through the store looks at more records: a page of 100 a call.
    assert costs[0] == costs[1]
