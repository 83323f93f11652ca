"""The recount: exact after any order of changes, kills and runs; it costs what changed, not what is stored."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from heavylift import counting, dynamo, ids, items, records
from heavylift.errors import HeavyliftError
from heavylift.records import FileRecord
from heavylift.states import FINAL, State
from tests.doubles.answers import refusal
from tests.doubles.gate import Around, Call, Killed, kill_after, kill_before, lose_answer, repeat
from tests.doubles.samples import TEXT
from tests.doubles.world import START, World

HOUR_S = 3_600.0
DISTURBANCES = {"kill_before": kill_before, "kill_after": kill_after, "lose_answer": lose_answer, "repeat": repeat}
TENANTS = ("acme", "a-1")


class Ledger:
    """Files of a world, changed as ``heavylift.life`` and initiate change them, and their sums by the shortest way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.files: dict[str, FileRecord] = {}

    def create(self, tenant: str = "acme", *, hours_ago: float = 0, size: int = 1, member: int | None = None) -> str:
        now = self.world.clock()
        file_id = ids.new_ulid(now - hours_ago * HOUR_S) + ("" if member is None else f"-{member:06d}")
        counting.mark(tenant, file_id)
        self._put(FileRecord(tenant, file_id, "x", size, State.UPLOADING, created_at=now - hours_ago * HOUR_S))
        return file_id

    def _put(self, record: FileRecord) -> None:
        self.files[record.file_id] = record
        dynamo.put_new([record])

    def turn(self, file_id: str, status: State) -> None:
        """To any state: marked after the change into a final one, before the change out of one."""
        before = self.files[file_id]
        staged_at = self.world.clock() if status is State.STAGED else before.staged_at
        if before.final and status not in FINAL:
            counting.mark(before.tenant, file_id)
        self._put(replace(before, status=status, staged_at=staged_at))
        if status in FINAL:
            counting.mark(before.tenant, file_id)

    def expected(self, tenant: str, as_of: float) -> dict[str, Any]:
        """One loop over the files."""
        mine = [one for one in self.files.values() if one.tenant == tenant and one.status is not State.DELETED]
        hour = lambda one: ids.ulid_ms(one.file_id) // 3_600_000  # noqa: E731
        now = int(as_of // HOUR_S)
        timed = [one for one in mine if one.staged_at is not None and hour(one) > now - 168]
        took = sum(max(1, round(1000 * ((one.staged_at or 0) - one.created_at))) for one in timed)
        uploading = [one.size for one in mine if one.status is State.UPLOADING]
        stored = {State.FRESH, State.PROCESSING, State.COMPLETED, State.COMPLETED_WITH_ERRORS}
        return {
            "as_of": records.iso(as_of),
            "active_uploads": len(uploading),
            "active_bytes": sum(uploading),
            "average_bytes_per_s": round(1000 * sum(one.size for one in timed) / took) if took else 0,
            "uploads_today": sum(hour(one) > now - 24 for one in mine),
            "uploads_week": sum(hour(one) > now - 168 for one in mine),
            "total": len(mine),
            "succeeded": sum(one.status in stored for one in mine),
            "failed": sum(one.status in {State.FAILED, State.REJECTED} for one in mine),
            "bytes_total": sum(one.size for one in mine),
            "bytes_average": round(sum(one.size for one in mine) / len(mine)) if mine else 0,
        }

    def judge(self) -> None:
        """Each tenant's statistics are the sums over its files."""
        as_of = self.world_as_of()
        for tenant in TENANTS:
            assert counting.read(tenant) == self.expected(tenant, as_of)

    def world_as_of(self) -> float:
        state = items.get(counting.STATE)
        assert state is not None
        as_of: float = state["as_of"]
        return as_of

    def marks(self) -> int:
        return sum("#DIRTY#" in pk for pk, _ in self.world.table.items)


def patiently() -> float:
    return 1.0


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages so small that a handful of files fills them."""
    monkeypatch.setattr(counting, "FILES_PAGE", 2)
    monkeypatch.setattr(counting, "MARKS_PAGE", 2)
    monkeypatch.setattr(counting, "OPEN_KEPT_MAX", 3)


@pytest.fixture
def ledger(world: World) -> Ledger:
    return Ledger(world)


class Counting(RuleBasedStateMachine):
    """Files are made and changed, runs end early, are killed and repeated: what a whole run shows is exact."""

    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.monkeypatch = pytest.MonkeyPatch()
        self.world = World(self.monkeypatch)
        small(self.monkeypatch)
        self.ledger = Ledger(self.world)

    def teardown(self) -> None:
        try:
            self.world.clock.advance(counting.SETTLE_S)
            self.world.gate.restart()
            counting.recount(patiently)  # whatever round was under way ends
            assert counting.recount(patiently)["rounds"] == 1
            self.ledger.judge()
            for file_id in list(self.ledger.files):
                self.ledger.turn(file_id, State.COMPLETED)
            self.world.clock.advance(counting.SETTLE_S)
            counting.recount(patiently)
            self.ledger.judge()
            assert self.ledger.marks() == 0
            assert not [sk for pk, sk in self.world.table.items if pk.endswith("#STATS") and sk.startswith("O#")]
        finally:
            self.monkeypatch.undo()

    @initialize(target=files, size=st.integers(0, 10**12))
    def first(self, size: int) -> str:
        return self.ledger.create(size=size)

    @rule(
        target=files,
        tenant=st.sampled_from(TENANTS),
        sizes=st.lists(st.integers(0, 10**12), min_size=1, max_size=6),
        hours_ago=st.sampled_from([0, 0.5, 1, 23, 24, 30, 167, 168, 200, 24 * 40, 24 * 400]),
        members=st.booleans(),
    )
    def create(self, tenant: str, sizes: list[int], hours_ago: float, members: bool) -> Any:
        made = [
            self.ledger.create(tenant, hours_ago=hours_ago, size=size, member=n if members else None)
            for n, size in enumerate(sizes)
        ]
        return multiple(*made)

    @rule(file_id=files, status=st.sampled_from(sorted(set(State) - {State.DELETED})))
    def turn(self, file_id: str, status: State) -> None:
        if self.ledger.files[file_id].status is not State.DELETED:
            self.ledger.turn(file_id, status)

    @rule(file_id=files)
    def delete(self, file_id: str) -> None:
        self.ledger.turn(file_id, State.DELETED)

    @rule(seconds=st.sampled_from([1.0, 100.0, counting.SETTLE_S, HOUR_S]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(
        disturbance=st.one_of(st.none(), st.tuples(st.sampled_from(sorted(DISTURBANCES)), st.integers(1, 40))),
        looks=st.integers(0, 12),
    )
    def run(self, disturbance: tuple[str, int] | None, looks: int) -> None:
        """A run with time for so many looks at the clock, one of its calls disturbed."""
        self.world.gate.restart(DISTURBANCES[disturbance[0]](disturbance[1]) if disturbance else None)
        left = iter([1.0] * looks)
        with contextlib.suppress(Killed, HeavyliftError):
            counting.recount(lambda: next(left, 0.0))
        self.world.gate.around = None

    @rule()
    def whole_run(self) -> None:
        self.world.gate.restart()
        counting.recount(patiently)
        assert counting.recount(patiently) | {"hours": 0, "files": 0} == {
            "hours": 0, "files": 0, "postponed": 0, "rounds": 1,
        }  # fmt: skip
        self.ledger.judge()


def test_exact_under_any_order() -> None:
    """The judge is one loop over the files."""
    run_state_machine_as_test(
        Counting,
        settings=settings(
            max_examples=30, stateful_step_count=20, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_exact_under_any_order_many_times() -> None:
    """The same, long."""
    run_state_machine_as_test(
        Counting, settings=settings(max_examples=2_000, stateful_step_count=50, suppress_health_check=list(HealthCheck))
    )


def scene(ledger: Ledger) -> list[str]:
    """Two tenants, three hours: one at rest, one changed, one with many open files."""
    old = [ledger.create(hours_ago=30, size=n) for n in range(5)]
    for file_id in old:
        ledger.turn(file_id, State.COMPLETED)
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    ledger.turn(old[0], State.DELETED)
    ledger.turn(old[1], State.STAGED)
    opened = [ledger.create(size=10 + n) for n in range(5)]
    ledger.turn(opened[0], State.REJECTED)
    ledger.create("a-1", hours_ago=1, size=100)
    ledger.world.clock.advance(counting.SETTLE_S)
    return old + opened


@pytest.mark.parametrize("how", DISTURBANCES)
def test_a_disturbance_at_each_call(worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Killed before or after any call, an answer lost, a call sent twice: the next whole run is exact."""
    small(monkeypatch)
    total, number = 1, 0
    while number < total:
        number += 1
        ledger = Ledger(worlds())
        scene(ledger)
        ledger.world.gate.restart(DISTURBANCES[how](number) if number > 1 else None)
        with contextlib.suppress(Killed, HeavyliftError):
            counting.recount(patiently)
        if number == 1:
            total = len(ledger.world.gate.calls)
            assert total > 30
        ledger.world.gate.restart()
        counting.recount(patiently)
        counting.recount(patiently)
        ledger.judge()


def meanwhile(ledger: Ledger, number: int, do: Callable[[], None]) -> Around:
    """Before call ``number``, once, something else happens."""
    happened = False

    def around(call: Call, run: Callable[[], Any]) -> Any:
        nonlocal happened
        if call.number == number and not happened:
            happened = True
            do()
        return run()

    return around


def test_two_runs_at_once(worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """At any call of a run, files change and another run does everything: the late one changes nothing back."""
    small(monkeypatch)
    bare = Ledger(worlds())
    scene(bare)
    for number in range(1, calls_of(bare) + 1):
        ledger = Ledger(worlds())
        files = scene(ledger)

        def other(ledger: Ledger = ledger, files: list[str] = files) -> None:
            ledger.turn(files[2], State.DELETED)
            ledger.turn(files[6], State.COMPLETED)
            ledger.world.clock.advance(counting.SETTLE_S)
            counting.recount(patiently)

        ledger.world.gate.restart(meanwhile(ledger, number, other))
        counting.recount(patiently)
        ledger.world.gate.restart()
        counting.recount(patiently)
        counting.recount(patiently)
        ledger.judge()


def test_a_run_that_sleeps_while_another_works(ledger: Ledger) -> None:
    """What it read before it slept is never written over what was written meanwhile."""
    file_id = ledger.create(size=5)
    ledger.world.clock.advance(counting.SETTLE_S)
    slept = False

    def around(call: Call, run: Callable[[], Any]) -> Any:
        nonlocal slept
        if call.operation == "put_item" and not slept:
            slept = True
            ledger.turn(file_id, State.FAILED)
            ledger.world.clock.advance(counting.SETTLE_S)
            assert counting.recount(patiently)["rounds"] == 1
            assert ledger.marks() == 0
        return run()

    ledger.world.gate.restart(around)
    assert counting.recount(patiently) == {"hours": 0, "files": 1, "postponed": 1, "rounds": 0}
    ledger.judge()


def test_an_index_that_lags(ledger: Ledger) -> None:
    """A file that its index does not show yet is counted by a later run: its hour's mark waits for it."""
    shown = ledger.create(size=1)
    ledger.turn(shown, State.COMPLETED)
    hidden = ledger.create(size=10)
    ledger.turn(hidden, State.COMPLETED)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        answer = run()
        if call.arguments.get("IndexName") == "list":
            answer["Items"] = [item for item in answer["Items"] if item["list_sk"]["S"] != hidden]
        return answer

    ledger.world.gate.restart(around)
    counting.recount(patiently)
    assert counting.read("acme")["total"] == 1
    ledger.world.gate.restart()
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    ledger.judge()
    assert ledger.marks() == 0


def test_initiate_marks_before_it_writes(ledger: Ledger) -> None:
    """A run between the two does not forget the hour: its mark is too young to be removed."""
    counting.mark("acme", ids.new_ulid(ledger.world.clock()))
    counting.recount(patiently)
    assert ledger.marks() == 1
    late = FileRecord("acme", ids.new_ulid(ledger.world.clock()), "x", 7, State.CREATED, created_at=START)
    ledger.files[late.file_id] = late
    dynamo.put_new([late])
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    ledger.judge()


def test_one_write_an_hour_for_a_call_of_many_files(world: World) -> None:
    """initiate marks its hour once, not each of its files."""
    world.gate.restart()
    status, body = world.call(
        "initiate", "POST", "/v1/uploads", body={"files": [{"name": f"{n}.txt", "size": 5} for n in range(200)]}
    )
    assert (status, len(body["uploads"])) == (201, 200)
    marks = [call for call in world.gate.calls if "#DIRTY#" in repr(call.arguments.get("Key"))]
    assert [call.operation for call in marks] == ["update_item"]
    counting.recount(patiently)
    assert counting.read("acme")["total"] == 200


def calls_of(ledger: Ledger) -> int:
    ledger.world.gate.restart()
    assert counting.recount(patiently)["rounds"] == 1
    return len(ledger.world.gate.calls)


def test_a_run_with_nothing_to_do_is_cheap(ledger: Ledger) -> None:
    """However many files there are: where it stopped, a look into each shard of marks, and as of when."""
    for n in range(100):
        ledger.turn(ledger.create(hours_ago=n), State.COMPLETED)
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)

    assert ledger.marks() == 0
    assert calls_of(ledger) == 1 + counting.MARK_SHARDS + 1
    ledger.judge()


@pytest.mark.parametrize("stored_files", [0, 100])
def test_a_run_costs_what_changed(ledger: Ledger, stored_files: int) -> None:
    """A constant for each changed hour, whatever else is stored; reads of its own files by the hundred."""
    for n in range(stored_files):
        ledger.turn(ledger.create(hours_ago=n + 100), State.COMPLETED)
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    costs = []
    for hours in (1, 2, 10):
        for n in range(hours):
            ledger.turn(ledger.create(hours_ago=n), State.COMPLETED)
        ledger.world.clock.advance(counting.SETTLE_S)
        # Versions and marks, the index, the files, four sums, three reads of their parts, the hour's rest; its
        # one or two marks.
        costs.append((calls_of(ledger) - 6) / hours)
    assert max(costs) <= 13
    ledger.judge()


def test_an_open_hour_costs_its_open_files(ledger: Ledger) -> None:
    """Counted again in each run, but only what can have changed: a few open files among many that have ended."""
    for _ in range(300):
        ledger.turn(ledger.create(), State.COMPLETED)
    slow = [ledger.create(size=1_000) for _ in range(3)]
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    idle = calls_of(ledger)
    assert idle <= 6 + 2  # its marks and sums, its three files
    ledger.turn(slow[0], State.STAGED)  # nobody marks what is no end
    assert calls_of(ledger) <= 6 + 2 + 8
    ledger.judge()
    assert calls_of(ledger) == idle
    for file_id in slow:
        ledger.turn(file_id, State.COMPLETED)
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    ledger.judge()
    assert ledger.marks() == 0


def test_an_hour_of_many_open_files(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are named is read whole each time, and as exact."""
    monkeypatch.setattr(counting, "OPEN_KEPT_MAX", 3)
    files = [ledger.create(size=n) for n in range(6)]
    for status in (State.ASSEMBLING, State.STAGED, State.PROCESSING, State.COMPLETED):
        for file_id in files:
            ledger.turn(file_id, status)
            ledger.world.clock.advance(counting.SETTLE_S)
            counting.recount(patiently)
            ledger.judge()
    assert ledger.marks() == 0


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_a_large_hour_is_counted_over_several_runs(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """A run that ends or is killed after a page goes on behind it; what is shown is the last whole count."""
    monkeypatch.setattr(counting, "FILES_PAGE", 10)
    for n in range(95):
        ledger.turn(ledger.create(size=n), State.COMPLETED)
    ledger.create("a-1", hours_ago=2)
    ledger.world.clock.advance(counting.SETTLE_S)
    seen, read = [], 0
    for _ in range(14):
        if killed:
            pages = 0

            def around(call: Call, run: Callable[[], Any]) -> Any:
                nonlocal pages
                pages += call.arguments.get("IndexName") == "list"
                if pages > 2:
                    raise Killed("in the third page")
                return run()

            ledger.world.gate.restart(around)
            with contextlib.suppress(Killed):
                counting.recount(patiently)
            ledger.world.gate.restart()
        else:
            left = iter([1.0, 1.0])
            read += counting.recount(lambda left=left: next(left, 0.0))["files"]  # type: ignore[misc]
        seen.append(counting.read("acme")["total"])
    assert set(seen) == {0, 95}
    assert seen == sorted(seen)
    assert killed or read <= 95 + 14  # no page twice, but for the other tenant's open file
    ledger.judge()


def test_hours_that_cannot_be_counted_do_not_stop_the_others(ledger: Ledger) -> None:
    """A throttled hour waits for the next round; the statistics are not called newer than they are."""
    ledger.create("acme")
    ledger.create("a-1", hours_ago=1)
    counting.recount(patiently)
    before = ledger.world_as_of()
    ledger.world.clock.advance(1_000)
    ledger.create("acme", size=9)
    ledger.create("a-1", hours_ago=1, size=8)

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.arguments.get("IndexName") == "list" and "acme" in str(call.arguments["ExpressionAttributeValues"]):
            raise refusal("ThrottlingException", 400, "Query")
        return run()

    ledger.world.gate.restart(around)
    assert counting.recount(patiently)["postponed"] == 1
    assert ledger.world_as_of() == before
    assert counting.read("a-1")["total"] == 2
    ledger.world.gate.restart()
    assert counting.recount(patiently)["postponed"] == 0
    ledger.judge()


def test_no_item_grows(ledger: Ledger) -> None:
    """Many tenants, years and files: each item of the statistics keeps its size."""
    chance = random.Random(1)
    for n in range(120):
        name = f"t-{n % 60}"
        file_id = ids.new_ulid(START - chance.randrange(5 * 365 * 24) * HOUR_S)
        counting.mark(name, file_id)
        dynamo.put_new([FileRecord(name, file_id, "x", 10**12, State.COMPLETED, created_at=START)])
    ledger.world.clock.advance(counting.SETTLE_S)
    counting.recount(patiently)
    sizes = {
        len(str(item))
        for (pk, _), item in ledger.world.table.items.items()
        if pk.endswith("#STATS") or pk.startswith("T#_#")
    }
    assert max(sizes) < 600
    assert sum(counting.read(f"t-{n}")["total"] for n in range(60)) == 120


def test_the_way_of_a_real_file(world: World) -> None:
    """By the handlers: each step shows in the next run, and at the end nothing is left to count."""
    file_id = world.initiate(TEXT.name, TEXT.data)
    world.sweep()
    assert counting.read("acme")["total"] == 1
    assert counting.read("acme")["succeeded"] == 0
    world.put(file_id, TEXT.data)
    world.pump()
    world.sweep()
    assert counting.read("acme")["succeeded"] == 1
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": file_id})
    world.clock.advance(counting.SETTLE_S)
    world.sweep()
    assert counting.read("acme")["total"] == 0
    assert not [pk for pk, _ in world.table.items if "#DIRTY#" in pk]


def test_a_file_that_is_tried_again_counts_as_such(world: World) -> None:
    """Its hour was at rest; leaving a final state marks it, before the write."""
    file_id = world.initiate("x.png", b"text")
    world.put(file_id, b"text")
    world.pump()
    world.clock.advance(counting.SETTLE_S)
    world.sweep()
    assert counting.read("acme")["failed"] == 1
    assert not [pk for pk, _ in world.table.items if "#DIRTY#" in pk]
    assert world.retry(file_id)[0] == 202
    world.sweep()
    assert counting.read("acme")["failed"] == 0
    world.pump()
    world.sweep()
    assert counting.read("acme")["failed"] == 1


def test_a_record_that_is_forgotten_no_longer_counts(world: World) -> None:
    """Cancelled uploads are in the total until their tombstones go."""
    world.cancel(world.initiate(TEXT.name, TEXT.data))
    world.sweep()
    assert counting.read("acme")["total"] == 1
    for days in (1, 91, 1):
        world.clock.advance(days * 86_400)
        world.sweep()
    assert not [sk for _, sk in world.table.items if sk == "F"]
    assert counting.read("acme")["total"] == 0
