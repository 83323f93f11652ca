"""Complete, cancel, retry: what a client may ask of an upload that exists."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from heavylift import (
    assembly,
    dynamo,
    file_rules,
    items,
    life,
    purging,
    queue,
    records,
    s3,
    scanning,
    states,
    wishes,
    work,
)
from heavylift.api import idempotency
from heavylift.api.bodies import CompleteBody, RetryBody, parse
from heavylift.api.caller import Caller, json_body
from heavylift.api.idempotency import Run
from heavylift.batches import progress
from heavylift.errors import RequestError
from heavylift.limits import COMPLETE_WAIT_S
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import Event, State
from heavylift.telemetry import count

DAY_S = 86_400
_OTHER_SOURCE = frozenset({"source_changed", "source_expired"})
_RETRIES = frozenset(
    {Event.RETRY_ASSEMBLY.value, Event.RETRY_VALIDATION.value, Event.RETRY_PROCESSING.value, wishes.WISHED}
)
HOUR_S = 3_600
CLEAN_UP_PAGE = 50  # records in hand at once; each takes about ten calls to delete
_CLEANABLE = frozenset({State.FAILED.value, State.REJECTED.value, State.CANCELLED.value, State.EXPIRED.value})


def complete_upload(
    caller: Caller, file_id: str, event: Mapping[str, Any]
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """(status, body, headers) of POST …/complete. However often it is asked, the answer stays the same."""
    value = json_body(event)
    body = parse(CompleteBody, value)
    return idempotency.once(caller, event, value, lambda run: _complete(caller, file_id, body))


def _complete(caller: Caller, file_id: str, body: CompleteBody) -> tuple[int, dict[str, Any], dict[str, str]]:
    claimed = {part.part_number: part.sha256 for part in body.parts} if body.parts else None
    record = assembly.complete(
        dynamo.get(caller.tenant, file_id),
        "complete",
        claimed=claimed,
        declared_sha256=body.sha256,
        wait_s=COMPLETE_WAIT_S / settings().time_scale,
    )
    if record.staged_at is None:
        return 202, {"upload_id": file_id, "status": record.status.value, "size": record.size}, {"retry-after": "2"}
    count("UploadsCompleted")
    # What the client asked for is that the upload be staged; where the file is by now, GET /v1/files/{id} tells.
    proof = ("sha256", "sha256_proven", "sha256_composite")
    checksums = {
        "sha256_proven": False,
        **{name: record.checksums[name] for name in proof if name in record.checksums},
    }
    return 200, {"upload_id": file_id, "status": "staged", "size": record.size, "checksums": checksums}, {}


def cancel_upload(caller: Caller, file_id: str) -> dict[str, Any]:
    """DELETE /v1/uploads/{id}: the record first, then the bytes; asked again it only looks whether any are left."""

    def decide(record: FileRecord) -> Change | None:
        return records.transition(record, Event.CANCEL, time.time(), caller.user or "client")

    record = life.update(caller.tenant, file_id, decide)
    if record.status is State.CANCELLED:
        purging.settle(record)
        count("UploadsCancelled")
    return {"upload_id": file_id, "status": record.status.value}


def delete_file(caller: Caller, file_id: str) -> dict[str, Any]:
    """DELETE /v1/files/{id}: the record first, then every version and everything that was made of it.

    Killed in between, the sweeper goes on; asked again it answers the same. An upload that is still open is
    cancelled by DELETE /v1/uploads/{id} instead (409 ``state_conflict``).
    """
    purging.settle(_delete(caller, file_id))
    count("FilesDeleted")
    return {"file_id": file_id, "status": State.DELETED.value}


def _delete(caller: Caller, file_id: str) -> FileRecord:
    def decide(record: FileRecord) -> Change | None:
        if record.status is State.DELETED:
            return None
        return records.transition(record, Event.DELETE, time.time(), caller.user or "client", thumbnails=())

    return life.update(caller.tenant, file_id, decide)


def clean_up(caller: Caller, query: Mapping[str, str], seconds_left: Callable[[], float]) -> dict[str, Any]:
    """DELETE /v1/uploads?status=failed&hours_old=24: delete what ended badly and is that old.

    ``failed`` includes rejected. At most a call's time is spent: ``more`` says that there is more to delete.
    """
    status = query.get("status", State.FAILED.value)
    if status not in _CLEANABLE:
        raise RequestError(
            "invalid_parameter", f"status must be one of {', '.join(sorted(_CLEANABLE))}.", parameter="status"
        )
    hours = query.get("hours_old", "24")
    try:
        age_h = float(hours)
    except ValueError:
        age_h = math.nan
    if not 0 <= age_h < math.inf:
        raise RequestError("invalid_parameter", "hours_old must be a number from 0 on.", parameter="hours_old")
    ended_before = time.time() - age_h * HOUR_S
    partition = records.status_partition(caller.tenant, states.list_group(State(status)))
    deleted, start, more = 0, None, True
    while more and seconds_left() > 0:
        # The oldest first. What was deleted leaves this partition; the page token still points behind it.
        page, start = items.query_keys("status", partition, limit=CLEAN_UP_PAGE, start=start, descending=False)
        for record in dynamo.get_many(page):
            ended = record.finished_at or record.updated_at
            wanted = record.status.value == status or status == State.FAILED.value
            if seconds_left() > 0 and wanted and record.final and ended <= ended_before:
                purging.settle(_delete(caller, record.file_id))
                deleted += 1
        more = start is not None
    count("FilesDeleted", deleted)
    return {"deleted": deleted, "more": more or seconds_left() <= 0}


def retry_upload(caller: Caller, file_id: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """POST …/retry: the failed stage once more, or validation again with other rules."""
    value = json_body(event)
    body = parse(RetryBody, value)
    return idempotency.once(caller, event, value, lambda run: _retry(caller, file_id, body, run))


def _retry(caller: Caller, file_id: str, body: RetryBody, run: Run) -> dict[str, Any]:
    wanted: list[str] = []

    def decide(record: FileRecord) -> Change | None:
        file_rules.check_sent(body.rules)
        if run.resumed and _retried_since(record, run.began):
            # Whoever did it may have been killed before the message left.
            stage_now = work.stage_of(record) or "complete"
            wanted[:] = [wishes.WISHED if record.recheck is not None else stage_now]
            return None
        if body.rules is not None and record.stored:
            wanted[:] = [wishes.WISHED]
            return wishes.wish(record, body.rules, time.time(), caller.user or "client")
        again, stage = retry_of(record, force=body.force)
        source = _source_kept(record) if again is Event.RETRY_VALIDATION else None
        if again is Event.RETRY_VALIDATION and source is None:
            raise RequestError(
                "source_expired", "The uploaded bytes are no longer kept; upload the file again.", file_id=file_id
            )
        wanted[:] = [stage]
        now = time.time()
        due = record.expires_at if again is Event.RETRY_ASSEMBLY else now + work.first_look_s()
        values: dict[str, Any] = {
            "attempt": 0,
            "fence": record.fence + 1,  # whoever worked on it before has no say any more
            "progress": 0,
            "failure": None,
            "finished_at": None,
            "lease_owner": None,
            "lease_until": 0.0,
            "due_at": due,
        }
        if again is Event.RETRY_ASSEMBLY:
            values |= assembly.unmeasured(record)
        if again is Event.RETRY_VALIDATION:
            values["scan"] = scanning.kept_for_retry(record)
        if body.rules is not None:
            values["rules"] = body.rules
        if source is not None and (record.failure or {}).get("code") in _OTHER_SOURCE and source.etag != record.etag:
            # The client has been told that these are other bytes: from here on they are the file. What is known of the
            # old ones goes, and with it a copy of them that was begun (the sweeper ends its upload, nobody's then).
            values |= assembly.staged_values(record, source, now) | {"store_upload_id": None}
        return records.transition(record, again, now, caller.user or "client", **values)

    record = life.update(caller.tenant, file_id, decide)
    if wanted[-1] == wishes.WISHED:
        queue.send("validate", queue.Continuation("continue", caller.tenant, file_id, attempt=0))
    elif not record.final:  # a repeated call may find it ended again
        progress.note_arrived(record)  # of a batch's member: its verdict no longer counts
        if wanted[-1] != "complete":
            queue.send(wanted[-1], queue.Continuation("continue", caller.tenant, file_id, attempt=0))
    count("Retries")
    return {"upload_id": file_id, "status": record.status.value}


def _retried_since(record: FileRecord, began: float) -> bool:
    """Whether this request, which was sent before, has had its effect already."""
    return any(entry["event"] in _RETRIES and entry["at"] >= round(began, 3) for entry in record.events)


def _source_kept(record: FileRecord) -> s3.Head | None:
    """The head of the uploaded bytes while they are in quarantine."""
    now = time.time()
    kept_until = (record.finished_at or now) + settings().quarantine_days * DAY_S
    return s3.head(settings().staging_bucket, record.key) if now <= kept_until else None


def retry_of(record: FileRecord, *, force: bool) -> tuple[Event, str]:
    """Which event and stage a retry means. RequestError ``state_conflict`` when there is nothing to try again."""
    stage = str((record.failure or {}).get("stage", ""))
    judge = "dicom_ingest" if record.is_dicom else "validate"
    if record.status is State.FAILED:
        if stage == "complete":
            return Event.RETRY_ASSEMBLY, "complete"
        return (Event.RETRY_PROCESSING, "thumbnail") if stage == "thumbnail" else (Event.RETRY_VALIDATION, judge)
    if record.status is State.REJECTED:
        return Event.RETRY_VALIDATION, judge
    again = record.status is State.COMPLETED_WITH_ERRORS or (record.status is State.COMPLETED and force)
    if again and not record.is_dicom:  # of DICOM nothing is made before somebody asks for it
        return Event.RETRY_PROCESSING, "thumbnail"
    owner = work.stage_of(record)
    if owner and force:
        return (Event.RETRY_PROCESSING if owner == "thumbnail" else Event.RETRY_VALIDATION), owner
    raise RequestError(
        "state_conflict",
        f"A file that is {record.status.value} has nothing to try again.",
        status=record.status.value,
    )
