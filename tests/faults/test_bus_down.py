"""The bus takes nothing for a while: no file waits for it, and no end stays untold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.doubles.gate import Call
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import World

DAY_S = 86_400


def throttled(world: World, refused: Callable[[str], bool]) -> Callable[[Call, Callable[[], Any]], Any]:
    """Every entry is refused whose detail ``refused`` says so of."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "put_events":
            verdicts = [refused(entry["Detail"]) for entry in call.arguments["Entries"]]
            world.bus.failing = ["ThrottlingException" if one else None for one in verdicts]
        return run()

    return around


def silent(call: Call, run: Callable[[], Any]) -> Any:
    """The call arrives; its answer does not."""
    answer = run()
    if call.operation == "put_events":
        raise ReadTimeoutError(endpoint_url="https://events.example")
    return answer


def lives(world: World) -> dict[str, list[str]]:
    """Files that end in several ways, one of them twice; what is to be told of each."""
    good, picture = world.initiate(TEXT.name, TEXT.data), world.initiate(PICTURE.name, PICTURE.data)
    world.put(good, TEXT.data)
    world.put(picture, PICTURE.data)
    world.complete(picture)
    bad = world.initiate("x.png", b"text")
    world.put(bad, b"text")
    world.pump()
    assert world.retry(bad)[0] < 300
    world.pump()
    cancelled = world.initiate(TEXT.name, TEXT.data)
    assert world.cancel(cancelled)[0] < 300
    assert [world.status(one) for one in (good, picture, bad, cancelled)] == [
        "completed", "completed", "rejected", "cancelled",
    ]  # fmt: skip
    return {
        good: ["file.completed"],
        picture: ["file.completed"],
        bad: ["file.rejected", "file.rejected"],
        cancelled: ["file.cancelled"],
    }


def told(world: World) -> dict[str, list[str]]:
    """Types by file in the order of the records' versions, copies left out."""
    once = {one.detail["id"]: one for one in world.bus.taken}
    found: dict[str, list[str]] = {}
    for one in sorted(once.values(), key=lambda one: one.detail["record_version"]):
        found.setdefault(one.detail["file_id"], []).append(one.type)
    return found


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_ends_wait_for_the_bus_and_files_do_not(world: World, how: str) -> None:
    """Everything ends as usual; when the bus is back the sweeper tells each end under its own version."""
    world.gate.restart(throttled(world, lambda detail: True) if how == "refuses" else silent)
    wanted = lives(world)
    world.sweep()
    if how == "refuses":
        assert world.bus.taken == []
    assert world.queues.dead == []
    world.gate.restart()
    world.bus.failing = []
    for _ in range(4):
        world.clock.advance(901)
        world.sweep()

    assert told(world) == wanted
    for file_id in wanted:
        assert world.record(file_id).outbox == ()


def test_one_end_that_is_never_taken_holds_no_other_up(world: World) -> None:
    """A poisoned announcement stays owed; the sweeper goes on to the others, and to its other work."""
    world.gate.restart(throttled(world, lambda detail: True))
    wanted = lives(world)
    poisoned = next(iter(wanted))
    world.gate.restart(throttled(world, lambda detail: poisoned in detail))
    world.bus.failing = []
    for _ in range(4):
        world.clock.advance(901)
        world.sweep()

    assert told(world) == {file_id: types for file_id, types in wanted.items() if file_id != poisoned}
    assert len(world.record(poisoned).outbox) == 1
    assert world.record(poisoned).due_at is not None


def test_a_steady_bus_hears_each_end_once(world: World) -> None:
    """Without any fault nothing is told twice, and sweeps have nothing to tell."""
    wanted = lives(world)
    puts = world.bus.calls.copy()
    for _ in range(3):
        world.clock.advance(901)
        world.sweep()

    assert told(world) == wanted
    assert world.bus.calls == puts == [1] * 5
