"""The model of a file's life once more, with the scanning gate on: verdicts come whenever they like, on any bytes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, rule, run_state_machine_as_test

from heavylift import records, scanning
from heavylift.states import STORED, State
from tests.doubles.world import STAGING
from tests.faults.test_life_model import Life, Model, disturbances

STATUSES = (scanning.CLEAN, scanning.INFECTED, scanning.UNSUPPORTED, "FAILED", "ACCESS_DENIED")


class ScannedLife(Life):
    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.world.gate_on(self.monkeypatch)
        self.said: dict[str, set[str]] = {}

    @rule(file_id=files, status=st.sampled_from(STATUSES), disturbance=disturbances)
    def a_verdict(self, file_id: str, status: str, disturbance: tuple[str, int] | None) -> None:
        """On what lies in staging now, if anything does; early, late, for the second time."""
        record = self.stored_record(file_id)
        if record is None:
            return
        if record.key in self.world.s3.buckets[STAGING]:
            self.said.setdefault(file_id, set()).add(status)
            self.world.scanned(file_id, status)
        self.work(True, disturbance)

    @rule(file_id=files, status=st.sampled_from(STATUSES))
    def a_verdict_on_other_bytes(self, file_id: str, status: str) -> None:
        if self.stored_record(file_id) is not None:
            self.world.scanned(file_id, status, etag="0" * 32)

    @rule(status=st.sampled_from(STATUSES))
    def a_verdict_on_nothing(self, status: str) -> None:
        self.world.scanned("", status, key="in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA", etag="0" * 32)

    @rule(file_id=files)
    def a_tag(self, file_id: str) -> None:
        """An event that was lost: the object's tag alone tells."""
        record = self.stored_record(file_id)
        found = self.world.s3.buckets[STAGING].get(record.key) if record is not None else None
        if found is not None:
            self.said.setdefault(file_id, set()).add(scanning.CLEAN)
            found.tags[scanning.TAG] = scanning.CLEAN

    @invariant()
    def what_is_stored_was_called_clean(self) -> None:
        for file_id in self.models:
            record = self.stored_record(file_id)
            if record is not None and record.status in STORED:
                assert scanning.CLEAN in self.said.get(file_id, ())
                assert record.scan is not None
                assert record.scan["status"] in (scanning.CLEAN, scanning.INFECTED)

    def judge_state(self, model: Model, record: records.FileRecord) -> None:
        """As without the gate; but a file may wait for ever, and a verdict may refuse it."""
        said = self.said.get(record.file_id, set())
        code = (record.failure or {}).get("code")
        if record.status is State.FAILED and code in {"scan_timeout", "scan_failed"}:
            assert code == "scan_timeout" or said & {"FAILED", "ACCESS_DENIED"}
            return
        if record.status is State.REJECTED and code == "malware_found":
            assert scanning.INFECTED in said
            return
        if record.status is State.REJECTED and code == "not_scannable":
            assert scanning.UNSUPPORTED in said
            return
        super().judge_state(model, record)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        ScannedLife,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_any_order_of_verdicts_ends_well() -> None:
    """Nothing is stored that was not called clean; what was called infected first never is."""
    run(25, 30)


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_any_order_of_verdicts_ends_well_many_times() -> None:
    """Thousands of lives."""
    run(2_000, 60)
