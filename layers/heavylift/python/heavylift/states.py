"""One life for every file: states, events and the one table that decides. No I/O here.

``TRANSITIONS`` has a row for every pair. Its value is the next state (the same one: the event is known
already and changes nothing), or None: the event is refused in that state.
"""

from __future__ import annotations

from enum import StrEnum

from heavylift.errors import RequestError


class State(StrEnum):
    CREATED = "created"
    UPLOADING = "uploading"
    ASSEMBLING = "assembling"
    STAGED = "staged"
    VALIDATING = "validating"
    SCANNING = "scanning"
    PROMOTING = "promoting"
    FRESH = "fresh"
    PROCESSING = "processing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DELETED = "deleted"


class Event(StrEnum):
    OPEN = "open"  # the multipart upload exists
    ASSEMBLE = "assemble"  # complete was asked for, all parts are proven
    PARTS_MISSING = "parts_missing"  # S3 refused the list after all
    ARRIVE = "arrive"  # the object is proven in staging
    VALIDATE = "validate"  # a worker takes the lease
    SCAN = "scan"  # handed to the malware scanner
    PROMOTE = "promote"  # the content is accepted
    STORE = "store"  # the object is proven in the store
    PROCESS = "process"  # a worker takes the lease
    FINISH = "finish"  # all derived work is done, or none is needed
    FINISH_WITH_ERRORS = "finish_with_errors"  # the file's fault, after promotion
    REJECT = "reject"  # the file's fault, before promotion
    RESOLVE = "resolve"  # it needs no object of its own: its bytes are stored already, or its members are files
    FAIL = "fail"  # ours or the world's, after the last attempt
    RETRY_ASSEMBLY = "retry_assembly"
    RETRY_VALIDATION = "retry_validation"
    RETRY_PROCESSING = "retry_processing"
    CANCEL = "cancel"
    EXPIRE = "expire"
    DELETE = "delete"


FINAL = frozenset(
    {
        State.COMPLETED,
        State.COMPLETED_WITH_ERRORS,
        State.REJECTED,
        State.FAILED,
        State.CANCELLED,
        State.EXPIRED,
        State.DELETED,
    }
)
AWAITING_OBJECT = frozenset({State.CREATED, State.UPLOADING, State.ASSEMBLING})
STORED = frozenset({State.FRESH, State.PROCESSING, State.COMPLETED, State.COMPLETED_WITH_ERRORS})

_S = State
_E = Event

# One line a state: what each event does there. What is not named is refused.
_ROWS: dict[State, dict[Event, State]] = {
    _S.CREATED: {
        _E.OPEN: _S.UPLOADING,
        _E.ARRIVE: _S.STAGED,
        _E.CANCEL: _S.CANCELLED,
        _E.EXPIRE: _S.EXPIRED,
    },
    _S.UPLOADING: {
        _E.OPEN: _S.UPLOADING,
        _E.ASSEMBLE: _S.ASSEMBLING,
        _E.PARTS_MISSING: _S.UPLOADING,
        _E.ARRIVE: _S.STAGED,
        _E.RETRY_ASSEMBLY: _S.UPLOADING,
        _E.CANCEL: _S.CANCELLED,
        _E.EXPIRE: _S.EXPIRED,
    },
    _S.ASSEMBLING: {
        _E.ASSEMBLE: _S.ASSEMBLING,
        _E.PARTS_MISSING: _S.UPLOADING,
        _E.ARRIVE: _S.STAGED,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
        _E.EXPIRE: _S.EXPIRED,
    },
    _S.STAGED: {
        _E.ASSEMBLE: _S.STAGED,
        _E.ARRIVE: _S.STAGED,
        _E.VALIDATE: _S.VALIDATING,
        _E.FAIL: _S.FAILED,
        _E.RETRY_VALIDATION: _S.STAGED,
        _E.CANCEL: _S.CANCELLED,
    },
    _S.VALIDATING: {
        _E.ASSEMBLE: _S.VALIDATING,
        _E.ARRIVE: _S.VALIDATING,
        _E.VALIDATE: _S.VALIDATING,
        _E.SCAN: _S.SCANNING,
        _E.PROMOTE: _S.PROMOTING,
        _E.RESOLVE: _S.COMPLETED,
        _E.REJECT: _S.REJECTED,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
    },
    _S.SCANNING: {
        _E.ASSEMBLE: _S.SCANNING,
        _E.ARRIVE: _S.SCANNING,
        _E.VALIDATE: _S.SCANNING,
        _E.SCAN: _S.SCANNING,
        _E.PROMOTE: _S.PROMOTING,
        _E.REJECT: _S.REJECTED,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
    },
    _S.PROMOTING: {
        _E.ASSEMBLE: _S.PROMOTING,
        _E.ARRIVE: _S.PROMOTING,
        _E.VALIDATE: _S.PROMOTING,
        _E.PROMOTE: _S.PROMOTING,
        _E.STORE: _S.FRESH,
        _E.RESOLVE: _S.COMPLETED,
        _E.REJECT: _S.REJECTED,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,  # the copy may already be in the store: it goes with the rest
    },
    _S.FRESH: {
        _E.ASSEMBLE: _S.FRESH,
        _E.ARRIVE: _S.FRESH,
        _E.PROMOTE: _S.FRESH,
        _E.STORE: _S.FRESH,
        _E.PROCESS: _S.PROCESSING,
        _E.FINISH: _S.COMPLETED,
        _E.FAIL: _S.FAILED,
        _E.RETRY_PROCESSING: _S.FRESH,
        _E.DELETE: _S.DELETED,
    },
    _S.PROCESSING: {
        _E.ASSEMBLE: _S.PROCESSING,
        _E.ARRIVE: _S.PROCESSING,
        _E.PROMOTE: _S.PROCESSING,
        _E.STORE: _S.PROCESSING,
        _E.PROCESS: _S.PROCESSING,
        _E.FINISH: _S.COMPLETED,
        _E.FINISH_WITH_ERRORS: _S.COMPLETED_WITH_ERRORS,
        _E.FAIL: _S.FAILED,
        _E.DELETE: _S.DELETED,
    },
    _S.COMPLETED: {
        _E.ASSEMBLE: _S.COMPLETED,
        _E.ARRIVE: _S.COMPLETED,
        _E.PROMOTE: _S.COMPLETED,
        _E.STORE: _S.COMPLETED,
        _E.RESOLVE: _S.COMPLETED,
        _E.FINISH: _S.COMPLETED,
        _E.RETRY_PROCESSING: _S.FRESH,
        _E.DELETE: _S.DELETED,
    },
    _S.COMPLETED_WITH_ERRORS: {
        _E.ASSEMBLE: _S.COMPLETED_WITH_ERRORS,
        _E.ARRIVE: _S.COMPLETED_WITH_ERRORS,
        _E.PROMOTE: _S.COMPLETED_WITH_ERRORS,
        _E.STORE: _S.COMPLETED_WITH_ERRORS,
        _E.FINISH_WITH_ERRORS: _S.COMPLETED_WITH_ERRORS,
        _E.RETRY_PROCESSING: _S.FRESH,
        _E.DELETE: _S.DELETED,
    },
    _S.REJECTED: {
        _E.ASSEMBLE: _S.REJECTED,
        _E.ARRIVE: _S.REJECTED,
        _E.REJECT: _S.REJECTED,
        _E.RETRY_VALIDATION: _S.STAGED,
        _E.DELETE: _S.DELETED,
    },
    _S.FAILED: {
        _E.ASSEMBLE: _S.FAILED,
        _E.ARRIVE: _S.FAILED,
        _E.FAIL: _S.FAILED,
        _E.RETRY_ASSEMBLY: _S.UPLOADING,
        _E.RETRY_VALIDATION: _S.STAGED,
        _E.RETRY_PROCESSING: _S.FRESH,
        _E.DELETE: _S.DELETED,
    },
    _S.CANCELLED: {_E.CANCEL: _S.CANCELLED, _E.DELETE: _S.DELETED},
    _S.EXPIRED: {_E.CANCEL: _S.EXPIRED, _E.EXPIRE: _S.EXPIRED, _E.DELETE: _S.DELETED},
    _S.DELETED: {_E.CANCEL: _S.DELETED, _E.DELETE: _S.DELETED},
}

TRANSITIONS: dict[tuple[State, Event], State | None] = {
    (state, event): _ROWS[state].get(event) for state in State for event in Event
}


def next_state(state: State, event: Event) -> State:
    """The state after ``event``. RequestError ``state_conflict`` (409) when the table refuses it."""
    following = TRANSITIONS[state, event]
    if following is None:
        raise RequestError(
            "state_conflict",
            f"A file that is {state.value} cannot take the event {event.value}.",
            status=state.value,
            event=event.value,
        )
    return following


def list_group(state: State) -> str:
    """The list a state is found in: ``failed`` includes rejected, ``fresh`` includes completed."""
    if state in {State.FAILED, State.REJECTED}:
        return "failed"
    if state in {State.FRESH, State.COMPLETED, State.COMPLETED_WITH_ERRORS}:
        return "fresh"
    return state.value


def stage_of(state: State) -> str | None:
    """The function that owns a file in this state; None when nobody has to act."""
    if state in {State.STAGED, State.VALIDATING, State.SCANNING, State.PROMOTING}:
        return "validate"
    if state in {State.FRESH, State.PROCESSING}:
        return "thumbnail"
    return None


def as_mermaid() -> str:
    """The state diagram, printed from the table (docs/architecture.md holds it; a test compares)."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.CREATED.value}"]
    for (state, event), following in TRANSITIONS.items():
        if following is not None and following is not state:
            lines.append(f"    {state.value} --> {following.value}: {event.value}")
    return "\n".join(lines) + "\n"
