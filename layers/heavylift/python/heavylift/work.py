"""Leases: who works on a file now, and what a finished or broken piece of work writes.

A worker takes a lease with a fence one higher than the last; every write of it carries the fence as a condition, so
a worker that was stopped past its lease can do no harm when it wakes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from heavylift import life, queue, records, states
from heavylift.errors import HeavyliftError
from heavylift.limits import ATTEMPTS_MAX, FIRST_LOOK_S, QUEUE_VISIBILITY_S
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import Event, State

STALLS_MAX = 2  # slices in a row that got no further


class LeaseLost(HeavyliftError):
    """Somebody took the work over, or the file was cancelled: stop, nothing is to be written."""


class Claim(Enum):
    TAKE = "take"
    HELD = "held"  # another message's worker is at it
    DONE = "done"  # nothing to do in this state
    EXHAUSTED = "exhausted"  # five attempts are over


@dataclass(frozen=True, slots=True)
class Stage:
    """One function's part in a file's life: the states it takes up and those it works in."""

    name: str
    event: Event
    waiting: frozenset[State]
    working: frozenset[State]
    retry: Event


VALIDATE = Stage(
    "validate",
    Event.VALIDATE,
    frozenset({State.STAGED}),
    frozenset({State.VALIDATING, State.SCANNING, State.PROMOTING}),
    Event.RETRY_VALIDATION,
)
THUMBNAIL = Stage(
    "thumbnail",
    Event.PROCESS,
    frozenset({State.FRESH}),
    frozenset({State.PROCESSING}),
    Event.RETRY_PROCESSING,
)
INGEST = Stage(
    "dicom_ingest",
    Event.VALIDATE,
    frozenset({State.STAGED}),
    frozenset({State.VALIDATING, State.PROMOTING}),
    Event.RETRY_VALIDATION,
)
STAGES = {stage.name: stage for stage in (VALIDATE, THUMBNAIL, INGEST)}


def stage_of(record: FileRecord) -> str | None:
    """The function that owns the file now; None when nobody has to act. DICOM is dicom_ingest's before it is stored."""
    stage = states.stage_of(record.status)
    if stage == VALIDATE.name and record.is_dicom and record.status is not State.SCANNING:
        return INGEST.name
    return stage


def look_again_s(stage: str) -> float:
    """When the sweeper looks at a file that its stage does not move: well after the visibility of its message.

    A killed worker's message comes back by itself at its visibility, and as the same message, so that its receives
    are counted and the fifth ends in the dead-letter queue. The sweeper steps in only when that did not happen.
    """
    return 1.25 * QUEUE_VISIBILITY_S[stage] / settings().time_scale


def may_claim(record: FileRecord, stage: Stage, owner: str, now: float) -> Claim:
    """Whether the message ``owner`` may work on the record now. Pure."""
    working = record.status in stage.working
    if not working and record.status not in stage.waiting:
        return Claim.DONE
    if working and record.lease_until > now and record.lease_owner != owner:
        return Claim.HELD
    if record.attempt >= ATTEMPTS_MAX:
        return Claim.EXHAUSTED
    return Claim.TAKE


def failure_of(error: HeavyliftError, stage: str, *, retryable: bool) -> dict[str, Any]:
    """What the record keeps of an error."""
    facts = {name: value for name, value in error.facts.items() if isinstance(value, str | int | float | bool)}
    return {"code": error.code, "message": error.message, "stage": stage, "retryable": retryable, **facts}


def exhausted(record: FileRecord, stage: str) -> dict[str, Any]:
    """The failure of a file whose last attempt ended without a word; the last known reason if there is one."""
    if record.failure and record.failure.get("stage") == stage:
        return {**record.failure, "retryable": True}
    return {
        "code": "attempts_exhausted",
        "message": f"The stage {stage} was tried {record.attempt} times and never ended.",
        "stage": stage,
        "retryable": True,
        "attempts": record.attempt,
    }


def first_look_s() -> float:
    """When the sweeper looks at a file that waits for a stage to take it up; it does nothing in a crowded queue."""
    return FIRST_LOOK_S / settings().time_scale


def claim(
    tenant: str, file_id: str, stage: Stage, owner: str, lease_s: float, *, hop: int = 0
) -> tuple[Claim, FileRecord]:
    """Take the lease if it is free: (TAKE, the record as leased), or why not.

    A further slice (``hop`` > 0) of work that goes on as it should is no event for the audit trail.
    """
    seen: list[Claim] = []

    def decide(record: FileRecord) -> Change | None:
        now = time.time()
        answer = may_claim(record, stage, owner, now)
        seen.append(answer)
        if answer is Claim.EXHAUSTED:
            return records.transition(
                record, Event.FAIL, now, stage.name, failure=exhausted(record, stage.name), stage=stage.name
            )
        if answer is not Claim.TAKE:
            return None
        lease: dict[str, Any] = {
            "stage": stage.name,
            "attempt": record.attempt + 1,
            "fence": record.fence + 1,
            "lease_owner": owner,
            "lease_until": now + lease_s,
            "resent_at": 0.0,
            "due_at": now + look_again_s(stage.name),
        }
        if hop and record.status in stage.working and record.attempt == 0:
            return records.change(record, now, **lease)
        return records.transition(record, stage.event, now, stage.name, **lease)

    record = life.update(tenant, file_id, decide)
    return seen[-1], record


def write(record: FileRecord, event: Event | None, by: str, **values: Any) -> FileRecord:
    """A fenced write of the worker that holds ``record``'s lease; the record after it. LeaseLost.

    When an earlier try of the same write did arrive (its answer was lost), it is recognised by the state.
    """

    def decide(current: FileRecord) -> Change | None:
        return fenced(current, record, event, by, **values)

    return life.update(record.tenant, record.file_id, decide)


def fenced(current: FileRecord, record: FileRecord, event: Event | None, by: str, **values: Any) -> Change | None:
    """The change, if ``record``'s worker still holds the file. LeaseLost."""
    if current.fence != record.fence:
        raise LeaseLost("lease_lost", "Somebody else works on this file now.")
    now = time.time()
    if event is None:
        return records.change(current, now, **values)
    if states.TRANSITIONS[current.status, event] is None:
        raise LeaseLost("lease_lost", f"The file is {current.status.value} now.")
    return records.transition(current, event, now, by, **values)


def next_slice(message: queue.Message, record: FileRecord, done: int) -> queue.Continuation:
    """The message that goes on with a file after a slice that ended with ``done`` units of the work behind it. Pure.

    HeavyliftError ``no_progress``.
    """
    return following(message, "continue", record.tenant, record.file_id, record.attempt, done)


def following(
    message: queue.Message, do: str, tenant: str, owner_id: str, attempt: int, done: int, **kept: Any
) -> queue.Continuation:
    """The message that follows ``message`` when ``done`` units of its work are behind it; its checkpoint has ``kept``.

    HeavyliftError ``no_progress``: over the hop limit, or twice in a row no further than before. Lambda's own guard
    against functions that call themselves is off for these functions; this one stands in its place.
    """
    before = message if isinstance(message, queue.Continuation) else queue.Continuation(do, "", "", 0)
    checkpoint = before.checkpoint or {}
    stalls = 0 if done > int(checkpoint.get("done", 0)) else int(checkpoint.get("stalls", 0)) + 1
    hop = before.hop + 1
    if stalls >= STALLS_MAX or hop > before.hop_limit:
        raise HeavyliftError(
            "no_progress", f"The work stood still: {done} units done after {hop - 1} continuations.", hop=hop, done=done
        )
    checkpoint = {"done": done, "stalls": stalls, **kept}
    return queue.Continuation(do, tenant, owner_id, attempt, hop, before.hop_limit, checkpoint)


def hand_on(record: FileRecord, stage: Stage, message: queue.Message, done: int) -> FileRecord:
    """End a slice: release the lease in one write, then send the continuation. It is no attempt.

    A slice that got further than any before (``done`` units against the record's ``progress``) clears the attempts
    that broke before it.
    """
    try:
        following = next_slice(message, record, done)
    except HeavyliftError as error:
        return write(record, Event.FAIL, stage.name, failure=failure_of(error, stage.name, retryable=True))
    further = {"attempt": 0, "progress": done} if done > record.progress else {"attempt": record.attempt - 1}
    due_at = time.time() + look_again_s(stage.name)
    after = write(record, None, stage.name, **further, lease_owner=None, lease_until=0.0, due_at=due_at)
    queue.send(stage.name, following)
    return after


def note_trouble(record: FileRecord, stage: Stage, error: HeavyliftError) -> FileRecord:
    """A handled failure of one attempt: free the lease and keep the reason; the fifth one is the end."""
    failure = failure_of(error, stage.name, retryable=True)

    def decide(current: FileRecord) -> Change | None:
        # Counted now, not when the lease was taken: work that got further counts its attempts anew.
        if current.attempt >= ATTEMPTS_MAX:
            return fenced(current, record, Event.FAIL, stage.name, failure=failure)
        return fenced(current, record, None, stage.name, failure=failure, lease_until=0.0)

    return life.update(record.tenant, record.file_id, decide)
