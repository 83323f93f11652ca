"""A table that is checked in pieces: whatever is killed, lost, doubled, late or out of order, the report is the same.

Pieces are of 4 KiB here. What is expected is what one worker alone writes, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from heavylift import checking, parts, promotion, queue
from heavylift.tables import bounds
from heavylift.tables.run import Run
from tests.doubles.gate import DISTURBANCES, Around, Call, lose_answer
from tests.doubles.world import DERIVED, World

Worlds = Callable[[], World]
by_disturbance = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
PIECE = 4_096
PIECES = 4  # that are given out
RULES = {"max_errors": 10}


def table() -> bytes:
    """Five pieces of rows with quoted line breaks, with a defect in the third."""
    rows = [f'{n},"row {n}\nof ""many""\n{"x" * 300}",{"y" * 150}\n' for n in range(40)]
    rows[20] = "1,2\n"
    return ("id,text,more\n" + "".join(rows)).encode()


DATA = table()


@pytest.fixture
def worlds(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> Worlds:
    """As everywhere, but that a file goes up and is promoted in one request, and is checked in pieces."""
    monkeypatch.setattr(bounds, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(bounds, "PIECES_FROM_BYTES", 2 * PIECE)

    def made() -> World:
        world = worlds()
        monkeypatch.setattr(parts, "SINGLE_PUT_MAX", 1 << 20)
        monkeypatch.setattr(promotion, "COPY_OBJECT_MAX", 1 << 20)
        return world

    return made


@pytest.fixture
def absorbed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where findings of pieces were taken up."""
    places: list[int] = []
    real = Run.absorb

    def noted(run: Run, start: int, findings: Any) -> bool:
        taken = real(run, start, findings)
        if taken:
            places.append(start)
        return taken

    monkeypatch.setattr(Run, "absorb", noted)
    return places


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's first slice ends when its pieces are given out, the later ones after three looks at the clock."""
    real: Callable[..., Any] = checking.check

    def impatient(record: Any, *given: Any) -> Any:
        looks = iter([9.0] * (1 if record.progress == 0 else 3))
        return real(record, *given[:-1], lambda: next(looks, 0.0))

    monkeypatch.setattr(checking, "check", impatient)


def uploaded(world: World) -> str:
    file_id = world.initiate("a.csv", DATA, rules=RULES)
    world.put(file_id, DATA)
    return file_id


def report_bytes(world: World, file_id: str) -> bytes:
    record = world.record(file_id)
    assert record.status.value == "completed", record.failure
    body: bytes = world.s3.buckets[DERIVED][(record.report or {})["key"]].body
    return body


def left_over(world: World) -> list[str]:
    return [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")]


@pytest.fixture
def expected(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The report of one worker alone."""
    with monkeypatch.context() as alone:
        alone.setattr(bounds, "PIECES_FROM_BYTES", 1 << 40)
        world = worlds()
        file_id = uploaded(world)
        world.pump()
        return report_bytes(world, file_id)


def deliver_pieces(world: World, *, reverse: bool = False) -> int:
    """Hand out every piece that waits, by sandboxes that nothing disturbs; how many there were."""
    found = [one for one in world.queues.messages if json.loads(one.body).get("do") == "chunk"]
    for message in reversed(found) if reverse else found:
        if message in world.queues.messages:
            message.receive_count += 1
            world.deliver(message)
    return len(found)


def test_pieces_are_taken_up_in_whatever_order_they_were_read(
    worlds: Worlds, expected: bytes, hurried: None, absorbed: list[int]
) -> None:
    """In order, in reverse, and each message twice; nothing is left in work/ and nothing among the dead."""
    for reverse in (False, True):
        for copies in (1, 2):
            absorbed.clear()
            world = worlds()
            file_id = uploaded(world)
            message = take_first(world)
            assert world.deliver(message)
            assert deliver_pieces(world, reverse=reverse) == PIECES
            for _ in range(copies - 1):
                assert resend_pieces(world, file_id) == PIECES
                deliver_pieces(world)
            world.pump()

            assert report_bytes(world, file_id) == expected
            assert len(absorbed) == PIECES
            assert (left_over(world), world.queues.dead) == ([], [])


def take_first(world: World) -> Any:
    world.announce()
    message = world.queues.receive()
    assert message is not None
    return message


def resend_pieces(world: World, file_id: str) -> int:
    """Every piece's message once more."""
    order = next(key for key in left_over(world) if key.endswith("order.json"))
    digest = order.split("/")[-2].removeprefix("pieces-")
    for number in range(1, PIECES + 1):
        queue.send(
            "validate",
            queue.Continuation("chunk", "acme", file_id, 0, checkpoint={"work": digest, "piece": number}),
        )
    return PIECES


def test_messages_that_come_when_the_report_is_written_read_nothing(worlds: Worlds, expected: bytes) -> None:
    """One worker was faster than all others: no piece is read, and nothing is written."""
    world = worlds()
    file_id = uploaded(world)
    assert world.deliver(take_first(world))
    assert report_bytes(world, file_id) == expected
    world.gate.restart()
    assert deliver_pieces(world) == PIECES
    calls = [call.operation for call in world.gate.calls]

    assert set(calls) == {"get_object"}
    assert len(calls) == PIECES
    assert left_over(world) == []


def test_lost_messages_cost_nothing_but_time(worlds: Worlds, expected: bytes, hurried: None) -> None:
    """No piece is ever read by another one."""
    world = worlds()
    file_id = uploaded(world)
    assert world.deliver(take_first(world))
    world.queues.messages = [one for one in world.queues.messages if json.loads(one.body).get("do") != "chunk"]
    world.pump()

    assert report_bytes(world, file_id) == expected
    assert left_over(world) == []


def test_a_queue_that_takes_nothing_stops_nobody(worlds: Worlds, expected: bytes) -> None:
    """The messages cannot be sent: the file is read in turn."""
    world = worlds()
    file_id = uploaded(world)

    def refuse(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "send_message" and '"chunk"' in call.arguments["MessageBody"]:
            return lose_answer(call.number)(call, lambda: None)
        return run()

    with world.hook(refuse):
        world.pump()

    assert report_bytes(world, file_id) == expected


@by_disturbance
def test_checking_in_pieces_survives_any_one_fault(
    worlds: Worlds, expected: bytes, hurried: None, disturb: Callable[[int], Around]
) -> None:
    """Every call of every message, the pieces' and the file's own, is disturbed in turn."""
    world = worlds()
    uploaded(world)
    world.gate.restart()
    world.pump()
    total = len(world.gate.calls)
    assert total > 40
    for number in range(1, total + 1):
        world = worlds()
        file_id = uploaded(world)
        world.gate.restart(disturb(number))
        world.pump()

        assert report_bytes(world, file_id) == expected, number
        assert (left_over(world), world.queues.dead) == ([], []), number


def test_pieces_may_be_read_at_any_moment(worlds: Worlds, expected: bytes, hurried: None) -> None:
    """All pieces that wait are read inside each single call of whoever is working, another piece's reader included."""
    world = worlds()
    uploaded(world)
    world.gate.restart()
    world.pump()
    total = len(world.gate.calls)
    for number in range(1, total + 1):
        world = worlds()
        file_id = uploaded(world)

        def meanwhile(call: Call, run: Callable[[], Any], world: World = world, number: int = number) -> Any:
            if call.number != number:
                return run()
            world.gate.around = None
            deliver_pieces(world)
            return run()

        world.gate.restart(meanwhile)
        world.pump()

        assert report_bytes(world, file_id) == expected, number
        # A twin that ends after the report leaves its piece to the bucket's rule, one day.
        assert len(left_over(world)) <= 1
        assert world.queues.dead == []


def test_the_table_is_written_as_often_as_without_pieces(worlds: Worlds, hurried: None) -> None:
    """Whoever reads a piece reads and writes objects, nothing else."""
    world = worlds()
    uploaded(world)
    assert world.deliver(take_first(world))
    world.gate.restart()
    assert deliver_pieces(world) == PIECES

    assert {call.service for call in world.gate.calls} == {"s3"}
    assert [call.operation for call in world.gate.calls].count("put_object") == PIECES


def test_a_file_that_is_gone_is_no_error_of_its_pieces(worlds: Worlds, hurried: None) -> None:
    """Cancelled while pieces wait: their messages are settled."""
    world = worlds()
    file_id = uploaded(world)
    assert world.deliver(take_first(world))
    assert world.cancel(file_id)[0] == 200
    world.pump()

    assert world.queues.dead == []
    assert world.queues.messages == []
    assert world.status(file_id) == "cancelled"
