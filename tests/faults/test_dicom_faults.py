"""DICOM batches under faults: any one call killed, lost or repeated; twins; the same batch twice at the same time.

Whatever happens, every file has one verdict, the studies have the same instances, and nothing lies where it should not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from heavylift.dicom import index, studies
from tests.doubles.dicom import (
    DS_STORE,
    ROOT,
    DicomClient,
    deliver_together,
    dicom,
    folder,
    pump,
    received,
    sent,
    zipped,
)
from tests.doubles.gate import DISTURBANCES, Around, Call, Killed, kill_after, kill_before
from tests.doubles.world import DERIVED, STAGING, STORE, World

Worlds = Callable[[], World]
by_disturbance = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
FILES = {
    1: ("a", dicom(1, 1, 1)),
    2: ("b", dicom(1, 1, 2)),
    3: ("again", dicom(1, 1, 1)),
    4: ("other", dicom(1, 1, 2, pixels=9)),
    5: (".DS_Store", DS_STORE),
}


def quiet(world: World, clients: list[DicomClient]) -> None:
    """Everything that is owed is done in the end, by messages that come back and by the sweeper."""
    world.gate.around = None
    pump(world)
    for client in clients:
        settle(client)
        assert client.told() == list(dict.fromkeys(client.told()))
    assert world.queues.dead == []
    assert world.s3.uploads == {}


def settle(client: DicomClient) -> None:
    """The sweeper's runs until nothing is due for two days."""
    world, end = client.world, client.world.clock.now + 2 * 86_400
    for _ in range(40):
        pump(world)
        due = [
            float(item["due_sk"]["S"].partition("#")[0]) / 1000
            for item in world.table.items.values()
            if "due_sk" in item
        ]
        if not due or min(due) > end:
            return
        world.clock.now = max(world.clock.now, min(due)) + 60
        world.sweep()
    raise AssertionError("the sweeper finds no end")


def check(world: World, clients: list[DicomClient], expected: dict[str, int]) -> Counter[str]:
    """Counts, index, store and verdicts agree. The outcomes of all files."""
    outcomes: Counter[str] = Counter()
    winners = set()
    for client in clients:
        lines = client.verdicts()
        view = client.look()
        assert view["final"], view
        assert all(line["verdict"] for line in lines.values())
        outcomes.update(line["outcome"] for line in lines.values() if line["verdict"] != "expanded")
        winners |= {line["file_id"] for line in lines.values() if line["outcome"] == "stored"}
        assert view["processed"] == view["total"] == sum(line["verdict"] != "expanded" for line in lines.values())
    for uid, number in expected.items():
        view = studies.read("acme", uid)
        assert view is not None
        assert view.instances == number
        held = [one for series in view.series for one in index.instances_of("acme", uid, series.series_uid)]
        assert len(held) == number
        assert all(not series.dirty for series in view.series)
        assert {one.file_id for one in held} <= winners
        for one in held:
            assert world.s3.buckets[STORE][one.key("acme")].body
    assert outcomes["stored"] == sum(expected.values())
    assert set(world.s3.buckets[STORE]) == {f"dicom/acme/{file_id}" for file_id in winners}
    described = [key for key in world.s3.buckets[DERIVED] if key.startswith("dicom/")]
    assert len(described) == sum(len(studies.read("acme", uid).series) for uid in expected)  # type: ignore[union-attr]
    return outcomes


@by_disturbance
def test_a_batch_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Five files, of which two are stored, one is a duplicate, one in conflict, one a stray; at every call."""

    def prepare() -> tuple[World, DicomClient]:
        world = worlds()
        return world, sent(world, FILES)

    world, _ = prepare()
    world.gate.restart()
    pump(world)
    total = len(world.gate.calls)
    assert total > 40
    for number in range(1, total + 1):
        world, client = prepare()
        world.gate.restart(disturb(number))
        pump(world)
        quiet(world, [client])
        outcomes = check(world, [client], {f"{ROOT}.1": 2})
        assert outcomes == {"stored": 2, "duplicate": 1, "conflict": 1, "stray": 1}, number
        kept = {key.rpartition("/")[2] for key in world.s3.buckets[STAGING]}
        lines = client.verdicts()
        assert kept == {str(n) for n, line in lines.items() if line["outcome"] in {"conflict", "stray"}}, number


@pytest.mark.parametrize("disturb", [kill_before, kill_after], ids=lambda disturb: disturb.__name__)
def test_a_bundle_survives_any_one_kill(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """A ZIP of three and a loose file: the same numbers, the same studies, the bundle gone."""
    bundle = zipped({f"IM{n}": dicom(1, 1, n) for n in range(1, 4)})

    def prepare() -> tuple[World, DicomClient]:
        world = worlds()
        return world, sent(world, {1: ("disc.zip", bundle), 2: ("loose", dicom(1, 1, 3))})

    world, _ = prepare()
    world.gate.restart()
    pump(world)
    total = len(world.gate.calls)
    for number in range(1, total + 1, 2 if disturb is kill_before else 3):
        world, client = prepare()
        world.gate.restart(disturb(number))
        pump(world)
        quiet(world, [client])
        outcomes = check(world, [client], {f"{ROOT}.1": 3})
        assert outcomes == {"stored": 3, "duplicate": 1}, number
        assert sorted(client.verdicts()) == [1, 2, 3, 4, 5]
        assert world.s3.buckets[STAGING] == {}
        assert not [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")]


@by_disturbance
def test_an_upload_by_itself_survives_any_one_fault(worlds: Worlds, disturb: Callable[[int], Around]) -> None:
    """Nobody said that it is DICOM: validate and dicom_ingest both work on it."""
    data = dicom(1, 1, 1)

    def prepare() -> tuple[World, str]:
        world = worlds()
        file_id = world.initiate("scan", data)
        world.put(file_id, data)
        world.complete(file_id)
        return world, file_id

    world, _ = prepare()
    world.gate.restart()
    pump(world)
    total = len(world.gate.calls)
    for number in range(1, total + 1):
        world, file_id = prepare()
        world.gate.restart(disturb(number))
        pump(world)
        world.gate.around = None
        world.sweep_until_quiet()
        world.sweep()  # whose walk over staging takes what a refused deletion left there
        assert world.status(file_id) == "completed", number
        assert list(world.s3.buckets[STORE]) == [f"dicom/acme/{file_id}"]
        assert world.s3.buckets[STAGING] == {}
        view = studies.read("acme", f"{ROOT}.1")
        assert view is not None
        assert view.instances == 1


def chaos(chance: random.Random) -> Around:
    """One call in a hundred dies before or after it takes effect, or arrives twice: one in four groups is killed."""

    def around(call: Call, run: Callable[[], Any]) -> Any:
        what = chance.random()
        if what < 0.004:
            raise Killed("before")
        answer = run()
        if what < 0.008:
            raise Killed("after")
        if what < 0.012:
            run()
        return answer

    return around


@pytest.mark.parametrize("seed", range(6))
def test_the_same_batch_twice_at_the_same_time(worlds: Worlds, seed: int) -> None:
    """Two uploads of one folder side by side, events doubled and shuffled, functions killed: each instance is stored
    once, its copy is a duplicate, and a reader never sees a number that falls or is too large."""
    world, chance = worlds(), random.Random(seed)
    files = folder(2, 2, 4)
    clients = [DicomClient(world, files) for _ in range(2)]
    for client in clients:
        client.begin()
        client.list()
    sends = [(client, n) for client in clients for n in files]
    chance.shuffle(sends)
    for client, n in sends:
        client.post(n)
    last: dict[str, int] = {}

    def look() -> None:
        around, world.gate.around = world.gate.around, None
        for uid in (f"{ROOT}.1", f"{ROOT}.2"):
            view = studies.read("acme", uid)
            number = view.instances if view else 0
            assert last.get(uid, 0) <= number <= 8
            last[uid] = number
        world.gate.around = around

    world.gate.restart(chaos(chance))
    pump(world, group=chance.randrange(2, 8), copies=2, chance=chance, after=look, go_on=True)
    quiet(world, clients)
    outcomes = check(world, clients, {f"{ROOT}.1": 8, f"{ROOT}.2": 8})
    assert outcomes == {"stored": 16, "duplicate": 16}
    assert world.s3.buckets[STAGING] == {}


def test_conflicting_twins_leave_one(worlds: Worlds) -> None:
    """The same UIDs with different bytes, each taken in while the other is on its way, at every call of the first."""

    def prepare() -> tuple[World, DicomClient, DicomClient]:
        world = worlds()
        return world, sent(world, {1: ("a", dicom(1, 1, 1))}), sent(world, {1: ("b", dicom(1, 1, 1, pixels=4))})

    world, *_ = prepare()
    world.gate.restart()
    pump(world, group=1)
    total = len(world.gate.calls)
    for number in range(1, total // 2):
        world, first, second = prepare()
        world.gate.restart(meanwhile(number, world))
        pump(world, group=1)
        quiet(world, [first, second])
        outcomes = check(world, [first, second], {f"{ROOT}.1": 1})
        assert outcomes == {"stored": 1, "conflict": 1}, number


def meanwhile(number: int, world: World) -> Around:
    """Another function takes the next message before call ``number``."""
    done: list[int] = []

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.number == number and not done:
            done.append(number)
            messages = received(world, 1)
            if messages:
                deliver_together(world, messages)
        return run()

    return around


def test_a_file_that_kills_its_function_ends_failed_and_alone(worlds: Worlds) -> None:
    """Whoever reads it dies. The nine others are stored all the same, and the batch ends."""
    world = worlds()
    client = sent(world, folder(1, 1, 10))
    poison = client.key(4)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "get_object" and call.arguments["Key"] == poison:
            raise Killed("out of memory")
        return run()

    world.gate.restart(around)
    pump(world, go_on=True)
    for _ in range(12):
        world.clock.advance(3_600)
        world.sweep()
        pump(world, go_on=True)
        if client.look()["final"]:
            break

    lines = client.verdicts()
    assert (lines[4]["verdict"], lines[4]["code"]) == ("failed", "attempts_exhausted")
    assert {line["verdict"] for n, line in lines.items() if n != 4} == {"completed"}
    view = client.look()
    assert (view["status"], view["succeeded"], view["failed"]) == ("completed_with_errors", 9, 1)
    found = studies.read("acme", f"{ROOT}.1")
    assert found is not None
    assert found.instances == 9
