"""Leases: who may work on a file now."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import work
from heavylift.errors import ContentError
from heavylift.limits import ATTEMPTS_MAX, LEASE_MARGIN_S, QUEUE_VISIBILITY_S
from heavylift.records import FileRecord, lease_seconds
from heavylift.states import FINAL, State
from heavylift.work import STAGES, Claim, may_claim
from infra import topology

NOW = 1_000.0
BASE = FileRecord("t", "f", "n", 1, State.STAGED)
stages = st.sampled_from(list(STAGES.values()))


@given(
    stages,
    st.sampled_from(list(State)),
    st.sampled_from([None, "me", "other"]),
    st.floats(0, 2_000),
    st.integers(0, 7),
)
def test_a_claim_in_every_case(
    stage: work.Stage, state: State, owner: str | None, lease_until: float, attempt: int
) -> None:
    """Nothing to do, held by another, spent, or ours: in that order."""
    record = replace(BASE, status=state, lease_owner=owner, lease_until=lease_until, attempt=attempt)
    answer = may_claim(record, stage, "me", NOW)

    if state not in stage.waiting | stage.working:
        assert answer is Claim.DONE
    elif state in stage.working and lease_until > NOW and owner != "me":
        assert answer is Claim.HELD
    elif attempt >= ATTEMPTS_MAX:
        assert answer is Claim.EXHAUSTED
    else:
        assert answer is Claim.TAKE
    if state in FINAL:
        assert answer is Claim.DONE


def test_every_state_of_work_has_one_stage() -> None:
    """validate and thumbnail share no state, and leave none of theirs out; dicom_ingest has some of validate's."""
    owned = [state for stage in STAGES.values() if stage is not work.INGEST for state in stage.waiting | stage.working]

    assert len(owned) == len(set(owned))
    assert work.INGEST.waiting | work.INGEST.working < work.VALIDATE.waiting | work.VALIDATE.working
    assert work.stage_of(replace(BASE, status=State.STAGED)) == "validate"
    assert work.stage_of(replace(BASE, status=State.STAGED, lane="dicom")) == "dicom_ingest"
    assert work.stage_of(replace(BASE, status=State.PROMOTING, format="DICOM")) == "dicom_ingest"
    assert work.stage_of(replace(BASE, status=State.SCANNING, format="DICOM")) == "validate"
    assert work.stage_of(replace(BASE, status=State.COMPLETED, format="DICOM")) is None
    assert set(owned) == {
        State.STAGED, State.VALIDATING, State.SCANNING, State.PROMOTING, State.FRESH, State.PROCESSING,
    }  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_a_lease_outlives_its_worker_and_ends_before_the_message_comes_back(name: str) -> None:
    """timeout < lease < visibility < the sweeper's look."""
    timeout_s = topology.function(name).timeout_s
    lease_s = lease_seconds(timeout_s, 1.0)

    assert timeout_s < lease_s == timeout_s + LEASE_MARGIN_S < QUEUE_VISIBILITY_S[name] < work.look_again_s(name)
    assert lease_seconds(timeout_s, 10.0) == lease_s / 10


def test_what_is_kept_of_an_error() -> None:
    """code, sentence, stage, whether a retry helps, and the plain facts; nothing that is no JSON scalar."""
    error = ContentError("truncated", "wanted 5, got 3", wanted_bytes=5, got_bytes=3, more=[1], other=object())

    assert work.failure_of(error, "validate", retryable=True) == {
        "code": "truncated", "message": "wanted 5, got 3", "stage": "validate", "retryable": True,
        "wanted_bytes": 5, "got_bytes": 3,
    }  # fmt: skip


def test_the_last_known_reason_is_shown() -> None:
    """After the last attempt: its stage's own reason, not another stage's."""
    reason = {"code": "out_of_memory", "message": "m", "stage": "thumbnail", "retryable": False}
    record = replace(BASE, attempt=5, failure=reason)

    assert work.exhausted(record, "thumbnail") == {**reason, "retryable": True}
    assert work.exhausted(record, "validate")["code"] == "attempts_exhausted"
    assert work.exhausted(record, "validate")["attempts"] == 5
