"""A batch under faults: any one call killed, lost or repeated; twins; events late, doubled or never. The same end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from heavylift.batches import store
from heavylift.errors import TransientError
from tests.doubles.batches import BatchClient, counts_of
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed, kill_after, kill_before
from tests.doubles.samples import SMALL_PICTURE, png
from tests.doubles.world import STAGING, STORE, World

Worlds = Callable[[], World]
by_disturbance = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
TEXT, BAD = ("a.txt", b"text\n"), ("bad.png", b"no picture")


def begun(world: World, files: dict[int, tuple[str, bytes]], **body: Any) -> BatchClient:
    client = BatchClient(world, files)
    assert client.begin(**body)[0] == 201
    client.list()
    return client


def calls_of(worlds: Worlds, prepare: Callable[[World], BatchClient], act: Callable[[BatchClient], object]) -> int:
    world = worlds()
    client = prepare(world)
    world.gate.restart()
    act(client)
    return len(world.gate.calls)


def insist(world: World, ask: Callable[[], tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Ask as a client does: again when there was no answer, or one that says later."""
    for _ in range(3):
        try:
            status, body = ask()
        except Killed:
            world.gate.around = None
            continue
        world.gate.around = None
        if status < 500:
            assert status == 200, body
            return body
    raise AssertionError("no answer")


def quiet(client: BatchClient) -> None:
    """Everything that is owed is done by the sweeper's next runs; nothing lies where it should not."""
    client.world.gate.around = None
    client.settle()
    assert client.world.queues.dead == []
    assert client.world.s3.uploads == {}
    batch = store.get("acme", client.batch_id)
    assert batch.outbox == ()


@by_disturbance
def test_processing_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Members taken up, judged and marked, the batch ended: counts exact, the end told under one id."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: BAD})
        client.send()
        return client

    total = calls_of(worlds, prepare, lambda client: client.world.pump())
    assert total > 30
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.gate.restart(disturb(number))
        world.pump()
        quiet(client)
        view = client.look()
        assert (view["status"], view["received"], view["succeeded"], view["failed"]) == (
            "completed_with_errors", 2, 1, 1,
        ), number  # fmt: skip
        assert [kind for kind, _ in client.told()] == ["batch.completed"], number
        assert list(world.s3.buckets[STORE]) == [f"files/acme/{client.file_id(1)}"]
        assert world.s3.versions_made[STORE, f"files/acme/{client.file_id(1)}"] == 1


@pytest.mark.parametrize("disturb", [kill_before, kill_after], ids=lambda disturb: disturb.__name__)
def test_counts_are_exact_when_read_whatever_was_killed(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """A worker dies at any one call: what is read at that very moment is what the members' own records say."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: BAD, 3: TEXT})
        client.post(1)
        client.post(2)
        return client

    def upto_kill(world: World) -> None:
        world.announce()
        try:
            while (message := world.queues.receive()) is not None:
                world.deliver(message)
                world.announce()
        except Killed:
            pass
        world.gate.around = None

    total = calls_of(worlds, prepare, lambda client: upto_kill(client.world))
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.gate.restart(disturb(number))
        upto_kill(world)
        view = client.look()
        there = store.members_of("acme", client.batch_id, [1, 2, 3]).values()
        ended = [record.status.value for record in there if record.final]
        counted = (view["succeeded"], view["failed"])
        assert counted == (ended.count("completed"), ended.count("rejected")), number


@by_disturbance
def test_a_page_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Sent until it is answered: each entry once, the count right; half a page is never taken for a whole one."""
    files = {n: (f"{n}.txt", b"x") for n in (1, 99, 100, 250)}

    def prepare(world: World) -> BatchClient:
        client = BatchClient(world, files)
        client.begin()
        return client

    def act(client: BatchClient) -> tuple[int, dict[str, Any]]:
        return client.put_page(0, client.entries())

    total = calls_of(worlds, prepare, act)
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.gate.restart(disturb(number))
        answer = insist(world, lambda client=client: act(client))  # type: ignore[misc]
        assert (answer["listed"], answer["total"]) == (4, 4)
        assert sorted(client.verdicts()) == [1, 99, 100, 250]
        client.send()
        world.pump()
        assert client.look()["status"] == "completed"


@by_disturbance
def test_complete_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """One file is on its way, one upload stands open, one never came: all are told apart, the end comes once."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: ("large.png", png()), 3: TEXT})
        client.begin_upload(2)
        client.post(1)
        return client

    total = calls_of(worlds, prepare, lambda client: client.complete())
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.gate.restart(disturb(number))
        insist(world, client.complete)
        world.pump()
        quiet(client)
        view = client.look()
        assert (view["status"], view["received"], view["succeeded"], view["failed"]) == (
            "completed_with_errors", 1, 1, 2,
        ), number  # fmt: skip
        assert {(error["n"], error["code"]) for error in view["errors"]} == {(2, "not_received"), (3, "not_received")}
        assert [kind for kind, _ in client.told()] == ["batch.completed"], number
        assert world.s3.buckets[STAGING] == {}


@pytest.mark.parametrize("file", [TEXT, BAD], ids=["good", "bad"])
def test_complete_after_a_kill(worlds: Worlds, file: tuple[str, bytes]) -> None:
    """A member's handler dies at any one call, and the batch is completed at once: the verdict is not lost."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: file, 2: TEXT})
        client.post(1)
        return client

    total = calls_of(worlds, prepare, lambda client: client.world.pump())
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.announce()
        message = world.queues.receive()
        assert message is not None
        world.gate.restart(kill_before(number))
        try:
            world.deliver(message)
        except Killed:
            pass
        world.gate.around = None
        assert client.complete()[0] == 200
        world.pump()
        quiet(client)
        view = client.look()
        good = int(file == TEXT)
        assert (view["received"], view["succeeded"], view["failed"]) == (1, good, 2 - good), number
        assert view["final"] is True
        assert len({kind for kind, _ in client.told()}) == 1


@by_disturbance
@pytest.mark.parametrize("asked_again", [True, False])
def test_cancel_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around], asked_again: bool) -> None:
    """Files in every stage: afterwards nothing is in staging, and no member comes to life any more."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: ("large.png", png()), 3: TEXT, 4: BAD})
        client.post(4)
        world.pump()
        client.begin_upload(2)
        client.post(1)
        return client

    total = calls_of(worlds, prepare, lambda client: client.cancel())
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.gate.restart(disturb(number))
        try:
            status, _ = client.cancel()
        except Killed:
            status = 0
        world.gate.around = None
        if asked_again or store.get("acme", client.batch_id).status.value != "cancelled":
            assert insist(world, client.cancel)["status"] == "cancelled"
        client.post(3)  # too late
        world.pump()
        quiet(client)
        view = client.look()
        assert (view["status"], view["final"], view["succeeded"]) == ("cancelled", True, 0), (number, status)
        assert [kind for kind, _ in client.told()] == ["batch.cancelled"], number
        assert world.s3.buckets[STAGING] == {}, number
        assert world.s3.buckets[STORE] == {}


@by_disturbance
def test_expiry_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Nobody completed it: the sweeper ends it; a file whose event was lost is taken up first."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: TEXT, 3: TEXT})
        client.post(1)
        world.pump()
        client.post(2)
        world.s3.created.clear()  # its event is lost
        world.clock.advance(7 * 86_400 + 1)
        return client

    def act(client: BatchClient) -> None:
        try:
            client.world.sweep()
        except (Killed, TransientError):  # the schedule comes again
            client.world.gate.around = None

    total = calls_of(worlds, prepare, act)
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        world.gate.restart(disturb(number))
        act(client)
        client.settle(days=3)
        quiet(client)
        view = client.look()
        assert (view["status"], view["succeeded"], view["processed"]) == ("expired", 2, 2), number
        assert [kind for kind, _ in client.told()] == ["batch.expired"], number


def test_the_last_two_end_at_the_same_moment(worlds: Worlds) -> None:
    """One member's handler stops at each of its calls in turn while the other's runs through: one end, told once."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: BAD})
        client.send()
        world.announce()
        return client

    world = worlds()
    prepare(world)
    world.gate.restart()
    first = world.queues.receive()
    assert first is not None
    world.deliver(first)
    total = len(world.gate.calls)
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)
        other = world.queues.messages[1]

        def around(call: Call, run: Any, number: int = number, world: World = world, other: Any = other) -> Any:
            if call.number == number:
                world.gate.around = None
                other.receive_count += 1
                world.deliver(other)
            return run()

        world.gate.restart(around)
        mine = world.queues.receive()
        assert mine is not None
        world.deliver(mine)
        world.gate.around = None
        view = client.look()
        assert (view["status"], view["succeeded"], view["failed"]) == ("completed_with_errors", 1, 1), number
        assert [kind for kind, _ in client.told()] == ["batch.completed"], number


def test_a_cancel_meets_a_member_at_any_moment(worlds: Worlds) -> None:
    """The batch is cancelled before any one call of a member's handler: it never becomes a file of the store, or it
    was one before the cancel could know; nothing is left in staging either way."""

    def prepare(world: World) -> BatchClient:
        client = begun(world, {1: TEXT, 2: TEXT})
        client.post(1)
        return client

    total = calls_of(worlds, prepare, lambda client: client.world.pump())
    for number in range(1, total + 1):
        world = worlds()
        client = prepare(world)

        def around(call: Call, run: Any, number: int = number, world: World = world, client: Any = client) -> Any:
            if call.number == number:
                world.gate.around = None
                assert client.cancel()[0] == 200
            return run()

        world.gate.restart(around)
        world.pump()
        quiet(client)
        view = client.look()
        assert view["status"] == "cancelled"
        assert world.s3.buckets[STAGING] == {}, number
        record = store.members_of("acme", client.batch_id, [1]).get(1)
        assert record is None or record.final, (number, record)
        assert set(world.s3.buckets[STORE]) == (
            {f"files/acme/{client.file_id(1)}"} if record and record.status.value == "completed" else set()
        ), number


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_everything(worlds: Worlds, seed: int) -> None:
    """Pages, files, doubled and lost events, kills, complete and looks in a random order end in exact counts."""
    rng = random.Random(seed)
    world = worlds()
    files: dict[int, tuple[str, bytes]] = {}
    for n in rng.sample(range(1, 400), 9):
        files[n] = rng.choice([("a.txt", b"text %d" % n), BAD, (SMALL_PICTURE.name, SMALL_PICTURE.data)])
    client = BatchClient(world, files)
    client.begin()
    numbers = list(files)
    steps: list[Callable[[], object]] = [
        *(lambda n=n: client.post(n) for n in numbers),  # type: ignore[misc]
        lambda: client.list(numbers[:4], page=0),
        lambda: client.list(numbers[4:], page=1),
        lambda: client.list(numbers[:4], page=0),
        *(client.look for _ in range(4)),
    ]
    rng.shuffle(steps)
    for step in steps:
        step()
        if rng.random() < 0.2:
            world.s3.created[-1:] = []  # an event is lost
        world.announce(copies=rng.choice([1, 2]), reverse=rng.random() < 0.5)
        if rng.random() < 0.7:
            world.gate.restart(kill_before(rng.randrange(1, 30)) if rng.random() < 0.5 else None)
            message = world.queues.receive(newest_first=rng.random() < 0.5)
            try:
                if message is not None:
                    world.deliver(message)
            except Killed:
                pass
            world.gate.around = None
    client.complete()
    world.pump()
    quiet(client)
    bad = sum(data == BAD[1] for _, data in files.values())
    view = client.look()
    assert counts_of(view) == {
        "total": 9, "received": 9, "processed": 9, "succeeded": 9 - bad, "failed": bad, "skipped": 0, "duplicates": 0,
    }  # fmt: skip
    assert {n: line["verdict"] for n, line in client.verdicts().items()} == {
        n: "rejected" if data == BAD[1] else "completed" for n, (_, data) in files.items()
    }
    assert len(client.told()) == 1


@pytest.mark.full
def test_a_hundred_thousand_files(world: World) -> None:
    """20 calls for the manifest; marks of all in two pages of a query; what never came is found in one complete."""
    sent = {n: (f"n{n}.txt", b"text %d\n" % n) for n in random.Random(5).sample(range(100_000), 500)}
    client = BatchClient(world, sent)
    client.begin(total=100_000)
    for page in range(20):
        numbers = range(page * 5_000, page * 5_000 + 5_000)
        entries = [{"n": n, "name": f"n{n}.txt", "size": len(b"text %d\n" % n)} for n in numbers]
        assert client.put_page(page, entries)[0] == 200
    for n in sent:
        client.post(n)
    world.pump(rounds=5_000)
    assert client.look()["succeeded"] == 500
    for _ in range(20):
        status, view = client.complete()
        assert status == 200
        if view["final"]:
            break
    assert counts_of(view) == {
        "total": 100_000, "received": 500, "processed": 100_000, "succeeded": 500, "failed": 99_500, "skipped": 0,
        "duplicates": 0,
    }  # fmt: skip
    assert len(view["errors"]) == 100
    world.gate.restart()
    client.look()
    queries = [call for call in world.gate.calls if call.operation == "query"]
    assert len(queries) <= 3
    assert len(world.gate.calls) < 20
