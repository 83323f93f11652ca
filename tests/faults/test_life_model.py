"""A file's life against a simple model: anything may happen in any order, and the end is always the right one.

Hypothesis chooses what clients, events, workers, the sweeper and faults do; the real handlers run over the doubles.
The model knows only what was asked for and answered. Judged at every step: no record points at nothing. Judged when
all is quiet: one final state, the right one; the right bytes, once; every object has an owner; every end announced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from heavylift import keys, life, records
from heavylift.errors import HeavyliftError
from heavylift.states import FINAL, STORED, State
from tests.doubles.answers import refusal
from tests.doubles.gate import Around, Call, Killed, kill_after, kill_before, lose_answer, repeat
from tests.doubles.samples import EMPTY, PICTURE, SMALL_PICTURE, TEXT, Sample
from tests.doubles.world import DERIVED, STAGING, STORE, World

REJECTED = Sample("x.png", b"plain text that calls itself a picture", served=False)
BROKEN = Sample(
    "big.png", b"plain text that calls itself a picture, and so long that it goes up in parts!", served=False
)
SAMPLES = (TEXT, PICTURE, SMALL_PICTURE, EMPTY, REJECTED, BROKEN)
GONE = {State.CANCELLED, State.EXPIRED, State.DELETED}
DISTURBANCES = {"kill_before": kill_before, "kill_after": kill_after, "lose_answer": lose_answer, "repeat": repeat}
disturbances = st.one_of(st.none(), st.tuples(st.sampled_from(sorted(DISTURBANCES)), st.integers(1, 25)))


@dataclass
class Model:
    """What the client of one file asked for and was told."""

    sample: Sample
    parts: set[int] = field(default_factory=set)
    cancelled: bool = False
    deleted: bool = False
    completed: bool = False


class Life(RuleBasedStateMachine):
    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.monkeypatch = pytest.MonkeyPatch()
        self.world = World(self.monkeypatch)
        self.models: dict[str, Model] = {}
        self.disturbed = 0
        self.strangers: list[str] = []

    def teardown(self) -> None:
        try:
            self.come_to_rest()
            self.judge()
        finally:
            self.monkeypatch.undo()

    @contextlib.contextmanager
    def disturbed_by(self, disturbance: tuple[str, int] | None) -> Iterator[None]:
        """One call of what runs inside is disturbed; a kill ends it."""
        around: Around | None = None
        if disturbance is not None:
            self.disturbed += 1
            around = DISTURBANCES[disturbance[0]](disturbance[1])
        self.world.gate.restart(around)
        try:
            yield
        except Killed:
            pass
        finally:
            self.world.gate.around = None

    # --- the client ---
    @initialize(target=files, sample=st.sampled_from(SAMPLES))
    def first(self, sample: Sample) -> str:
        return self.initiate(sample)

    @rule(target=files, sample=st.sampled_from(SAMPLES))
    def another(self, sample: Sample) -> str:
        return self.initiate(sample)

    def initiate(self, sample: Sample) -> str:
        file_id = self.world.initiate(sample.name, sample.data)
        self.models[file_id] = Model(sample)
        return file_id

    @rule(file_id=files, part=st.integers(1, 8), everything=st.booleans())
    def send(self, file_id: str, part: int, everything: bool) -> None:
        """A client with signed URLs sends whatever the state of the file: S3 knows nothing of it."""
        model, record = self.models[file_id], self.stored_record(file_id)
        if record is None:
            return
        if record.mode == "single":
            with contextlib.suppress(_Refused):
                self.world.put(file_id, model.sample.data)
                model.parts = {1}
            return
        numbers = range(1, record.part_count + 1) if everything else [min(part, record.part_count)]
        for number in numbers:
            with contextlib.suppress(_Refused):
                self.world.put_part(file_id, number, model.sample.data)
                model.parts.add(number)

    @rule(file_id=files, disturbance=disturbances)
    def complete(self, file_id: str, disturbance: tuple[str, int] | None) -> None:
        with self.disturbed_by(disturbance):
            status, _ = self.world.complete(file_id)
            if status == 200:
                self.models[file_id].completed = True

    @rule(file_id=files, disturbance=disturbances)
    def cancel(self, file_id: str, disturbance: tuple[str, int] | None) -> None:
        with self.disturbed_by(disturbance):
            status, body = self.world.cancel(file_id)
            if status == 200 and body["status"] == "cancelled":
                self.models[file_id].cancelled = True

    @rule(file_id=files, disturbance=disturbances)
    def delete(self, file_id: str, disturbance: tuple[str, int] | None) -> None:
        with self.disturbed_by(disturbance):
            status, _ = self.world.call("complete", "DELETE", "/v1/files/{id}", path={"id": file_id})
            if status == 200:
                self.models[file_id].deleted = True

    @rule(file_id=files, force=st.booleans(), disturbance=disturbances)
    def retry(self, file_id: str, force: bool, disturbance: tuple[str, int] | None) -> None:
        with self.disturbed_by(disturbance):
            self.world.retry(file_id, force=force)

    @rule(hours=st.sampled_from(["0", "1", "500"]))
    def clean_up(self, hours: str) -> None:
        before = {file_id for file_id in self.models if self.state(file_id) in {State.FAILED, State.REJECTED}}
        status, body = self.world.call(
            "complete", "DELETE", "/v1/uploads", query={"status": "failed", "hours_old": hours}
        )
        assert status == 200
        after = {file_id for file_id in before if self.state(file_id) is State.DELETED}
        assert body["deleted"] == len(after)
        for file_id in after:
            self.models[file_id].deleted = True

    @rule(file_id=files)
    def a_part_in_flight_outlives_its_upload(self, file_id: str) -> None:
        """After an abort the upload is there again, as on a bad day of S3: a part was still being written."""
        record = self.stored_record(file_id)
        if record is not None and record.s3_upload_id and record.status in GONE:
            made = self.world.s3.create_multipart_upload(Bucket=STAGING, Key=record.key, ContentType="", Metadata={})
            self.world.s3.uploads[record.s3_upload_id] = self.world.s3.uploads.pop(made["UploadId"])

    # --- events, workers, the clock ---
    @rule(copies=st.integers(0, 3), reverse=st.booleans())
    def events(self, copies: int, reverse: bool) -> None:
        """S3's events: none, once, more often, the newest first."""
        self.world.announce(copies=copies, reverse=reverse)

    @rule(newest_first=st.booleans(), disturbance=disturbances)
    def work(self, newest_first: bool, disturbance: tuple[str, int] | None) -> None:
        message = self.world.queues.receive(newest_first=newest_first)
        if message is not None:
            with self.disturbed_by(disturbance):
                self.world.deliver(message)

    @rule(
        number=st.integers(1, 12),
        after=st.booleans(),
        asleep_s=st.sampled_from([0.0, 400.0, 1_000.0]),
        meanwhile=st.sampled_from(["work", "sweep", "cancel", "delete", "retry", "complete"]),
        file_id=files,
    )
    def a_worker_sleeps(self, number: int, after: bool, asleep_s: float, meanwhile: str, file_id: str) -> None:
        """At one call a worker stands still, within its lease or past it, and the world goes on."""
        message = self.world.queues.receive()
        if message is None:
            return
        others = {
            "work": lambda: self.work(False, None),
            "sweep": lambda: self.sweep(None),
            "cancel": lambda: self.cancel(file_id, None),
            "delete": lambda: self.delete(file_id, None),
            "retry": lambda: self.retry(file_id, True, None),
            "complete": lambda: self.complete(file_id, None),
        }

        def around(call: Call, run: Callable[[], Any]) -> Any:
            if call.number != number:
                return run()
            self.world.gate.around = None
            answer = run() if after else None
            self.world.clock.advance(asleep_s)
            self.world.announce(copies=2)
            others[meanwhile]()
            return answer if after else run()

        self.disturbed += 1
        self.world.gate.restart(around)
        self.world.deliver(message)
        self.world.gate.around = None

    @rule(number=st.integers(1, 8), sample=st.sampled_from(SAMPLES))
    def a_killed_initiate(self, number: int, sample: Sample) -> None:
        """Nobody learns of its session; what it began must go."""
        with self.disturbed_by(("kill_before", number)):
            self.strangers.append(self.world.initiate(sample.name, sample.data))

    @rule(disturbance=disturbances)
    def sweep(self, disturbance: tuple[str, int] | None) -> None:
        with self.disturbed_by(disturbance), contextlib.suppress(HeavyliftError):
            self.world.sweep()

    @rule(seconds=st.sampled_from([1.0, 50.0, 700.0, 4_000.0, 100_000.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    # --- the judge ---
    def stored_record(self, file_id: str) -> records.FileRecord | None:
        key = (f"T#acme#F#{file_id}", "F")
        return self.world.record(file_id) if key in self.world.table.items else None

    def state(self, file_id: str) -> State | None:
        record = self.stored_record(file_id)
        return record.status if record else None

    @invariant()
    def no_record_points_at_nothing(self) -> None:
        for file_id in self.models:
            record = self.stored_record(file_id)
            if record is None or record.status in GONE:
                continue
            if record.status in STORED:
                found = self.world.s3.buckets[STORE].get(keys.store("acme", file_id))
                assert found is not None
                assert (found.etag, found.version_id) == (record.store_etag, record.store_version_id)
                assert found.body == self.models[file_id].sample.data
            for picture in record.thumbnails:
                assert picture["key"] in self.world.s3.buckets[DERIVED]

    def come_to_rest(self) -> None:
        """No more faults: what is there is delivered, and the sweeper runs as long as there is something for it."""
        self.world.sweep_until_quiet(days=8, rounds=200)
        self.world.clock.advance(4_000)
        self.world.sweep()
        self.world.pump()
        self.world.clock.advance(4_000)
        self.world.sweep()

    def judge(self) -> None:
        world = self.world
        store, staging, pictures, manifests = set(), set(), set(), set()
        for file_id, model in self.models.items():
            record = self.stored_record(file_id)
            assert record is not None
            assert record.status in FINAL, record.status
            self.judge_state(model, record)
            if record.status in STORED or (record.status is State.FAILED and record.store_etag):
                store.add(keys.store("acme", file_id))
                assert world.s3.versions_made[STORE, keys.store("acme", file_id)] == 1
            if record.status in {State.REJECTED, State.FAILED} and not record.store_etag and record.purged_at is None:
                staging.add(record.key)
            if record.status not in GONE:
                pictures |= {picture["key"] for picture in record.thumbnails}
                manifests.add(keys.manifest("acme", file_id))
            self.judge_announcements(file_id, record)
        derived = world.s3.buckets[DERIVED]
        assert set(world.s3.buckets[STORE]) == store
        assert {key for _, key in world.s3.versions} == store
        assert set(world.s3.buckets[STAGING]) <= staging
        assert {key for key in derived if key.startswith("thumbnails/")} == pictures
        assert {key for key in derived if key.startswith("manifests/") and "/events/" not in key} <= manifests
        assert not any(key.startswith("work/") for key in derived)
        assert world.s3.uploads == {}

    def judge_state(self, model: Model, record: records.FileRecord) -> None:
        """Which ends the client may be shown for what it did."""
        if model.deleted:
            assert record.status is State.DELETED
            return
        if model.cancelled:
            assert record.status in {State.CANCELLED, State.DELETED}
            return
        whole = len(model.parts) == record.part_count
        right: set[State] = set()
        if whole:
            right.add(State.REJECTED if model.sample in {REJECTED, BROKEN} else State.COMPLETED)
        if not model.completed and (record.mode == "multipart" or not whole):
            right.add(State.EXPIRED)
        if self.disturbed:  # killed too often is failed; a request whose answer was lost may have been done
            right |= {State.FAILED, State.CANCELLED, State.DELETED}
        assert record.status in right, (record.status, model)

    def judge_announcements(self, file_id: str, record: records.FileRecord) -> None:
        """Every end that the audit trail shows was told, under one id each, and nothing else was."""
        trail = life.audit_trail(record)
        ended = [State(str(entry["to"])) for entry in trail if entry["from"] != entry["to"]]
        due = sorted(records.ANNOUNCED[state] for state in ended if state in FINAL)
        told = {one.detail["id"]: one.type for one in self.world.bus.taken if one.detail["file_id"] == file_id}
        assert sorted(told.values()) == due
        assert record.outbox == ()


_Refused = type(refusal("x", 400, "y"))


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_events_ends_well() -> None:
    """Some dozens of lives of up to 40 steps each."""
    run(60, 40)


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_any_order_of_events_ends_well_many_times() -> None:
    """Thousands of lives."""
    run(3_000, 60)
