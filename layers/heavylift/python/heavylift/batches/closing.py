"""The ends of a batch: completed by its client, cancelled, or its time over. And what the sweeper does for it.

The batch is written first, then its members, objects and uploads follow in bounded pages; what a kill or the clock
leaves undone the sweeper goes on with. Every step may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from heavylift import keys, life, purging, queue, records, s3
from heavylift.batches import marks, members, model, progress, store
from heavylift.batches.manifest import hundred_of
from heavylift.batches.model import Batch, BatchStatus
from heavylift.errors import RequestError
from heavylift.ids import member_id, member_of
from heavylift.limits import ANNOUNCE_AGAIN_S, BATCH_LOOK_S, MANIFEST_PAGES_MAX
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, Event, State
from heavylift.telemetry import count, logger

SecondsLeft = Callable[[], float]
PATIENCE_S = 86_400.0  # objects whose events were lost are announced again and again by then
NOT_RECEIVED = {
    "code": "not_received",
    "message": "The batch was completed before all bytes of this file had arrived.",
    "stage": "upload",
    "retryable": False,
}


def complete(tenant: str, batch_id: str, seconds_left: SecondsLeft) -> Batch:
    """No more files will come: what has not arrived has failed, the rest is awaited. However often it is asked.

    RequestError ``not_found``, ``state_conflict``.
    """
    batch, changed = store.update(tenant, batch_id, lambda batch: model.closed(batch, time.time()))
    if changed:
        count("BatchesClosed")
    return _go_on(batch, seconds_left)


def _go_on(batch: Batch, seconds_left: SecondsLeft) -> Batch:
    """Find out what is missing in a closed batch, and end it if nothing is awaited any more."""
    batch = progress.settle(batch.tenant, batch.batch_id)
    if batch.status is not BatchStatus.PROCESSING:
        return batch
    if give_up_missing(batch, seconds_left):
        batch = progress.settle(batch.tenant, batch.batch_id)
    return batch if batch.final else _look_again(batch)


def _look_again(batch: Batch) -> Batch:
    """When the sweeper is to look at a batch that still lives."""

    def decide(current: Batch) -> Batch | None:
        now = time.time()
        if current.final or (current.due_at is not None and current.due_at > now):
            return None
        return model.changed(current, now, due_at=now + BATCH_LOOK_S / settings().time_scale)

    return store.update(batch.tenant, batch.batch_id, decide)[0]


def give_up_missing(batch: Batch, seconds_left: SecondsLeft) -> bool:
    """Mark members of a closed batch that have neither arrived nor an upload under way; False when time was short.

    Staging is listed before the marks are read, and a member is marked before it leaves staging: one that is in
    neither has not arrived. One that arrives after all takes its mark back.
    """
    arrived = _arrived_numbers(batch, seconds_left)
    if arrived is None:
        return False
    marked: set[int] = set()
    for page in store.mark_pages(batch.tenant, batch.batch_id):
        marked.update(page)
    for entries in store.manifest_pages(batch.tenant, batch.batch_id):
        silent = [
            n
            for n, entry in entries.items()
            if n not in marked and n not in arrived and entry.page < MANIFEST_PAGES_MAX  # beyond: inside a bundle
        ]
        if not silent:
            continue
        if seconds_left() <= 0:
            return False
        known = store.members_of(batch.tenant, batch.batch_id, silent)
        for record in known.values():
            _give_up_session(record)
        missing = [n for n in silent if n not in known]
        if missing:
            logger().info("files were never received", batch_id=batch.batch_id, number=len(missing), first=missing[0])
            store.add_marks(
                batch.tenant, batch.batch_id, hundred_of(missing[0]), missing, marks.mark_of(0, marks.MISSING)
            )
    return True


def _arrived_numbers(batch: Batch, seconds_left: SecondsLeft) -> set[int] | None:
    """Numbers whose objects lie in staging; None when time was short. Memory: 8 MB for 100 000."""
    found: set[int] = set()
    after: str | None = ""
    while after is not None:
        if seconds_left() <= 0:
            return None
        page, after = s3.list_objects(settings().staging_bucket, members.prefix_of(batch), after=after)
        for one in page:
            parsed = keys.parse_staging(one.key)
            member = member_of(parsed.file_id) if parsed else None
            if member is not None:
                found.add(member[1])
    return found


def _wake_arrived(batch: Batch, seconds_left: SecondsLeft) -> int:
    """Tell validate of members whose objects lie in staging without a mark; how many there were."""
    arrived = _arrived_numbers(batch, seconds_left) or set()
    for page in store.mark_pages(batch.tenant, batch.batch_id):
        arrived.difference_update(page)
    for n in arrived:
        if seconds_left() > 0:
            file_id = member_id(batch.batch_id, n)
            owner = "dicom_ingest" if batch.lane == "dicom" else "validate"
            queue.send(owner, queue.Continuation("continue", batch.tenant, file_id, attempt=0))
    return len(arrived)


def _give_up_session(record: FileRecord) -> None:
    """End a member's upload that was left open; one that is being joined or has arrived goes on."""
    if record.status not in AWAITING_OBJECT:
        # Whoever took it up, or ended it, was killed before the mark.
        progress.note_arrived(record)
        progress.note_verdict(record)
        return

    def decide(current: FileRecord) -> Change | None:
        if current.status not in {State.CREATED, State.UPLOADING}:
            return None
        return records.transition(current, Event.EXPIRE, time.time(), "batch", failure=NOT_RECEIVED)

    after = life.update(record.tenant, record.file_id, decide)
    if after.status is State.EXPIRED and after.purged_at is None:
        purging.settle(after)


def cancel(tenant: str, batch_id: str, seconds_left: SecondsLeft) -> Batch:
    """DELETE: the batch first, then everything of it that has not become a file of the store.

    RequestError ``not_found``, ``state_conflict`` for a batch that has ended otherwise.
    """
    batch, changed = store.update(
        tenant, batch_id, lambda batch: model.cancelled(batch, progress.survey(tenant, batch_id).tally, time.time())
    )
    if changed:
        count("BatchesEnded", status=batch.status.value)
    batch = progress.tell(batch)
    return clear(batch, seconds_left)


def clear(batch: Batch, seconds_left: SecondsLeft) -> Batch:
    """Delete what a cancelled or expired batch left in staging, and cancel its members that are no files yet."""
    if batch.swept_at is not None and (batch.due_at is None or batch.due_at > time.time()):
        return batch
    began = time.time()
    after: str | None = None
    while True:
        page, after = store.member_page(batch.tenant, batch.batch_id, after)
        for record in page:
            if seconds_left() <= 0:
                return batch  # still due
            after_cancel = record if record.final else members.cancelled(record, "batch")
            if after_cancel.status is State.CANCELLED and after_cancel.purged_at is None:
                purging.settle(after_cancel)
        if after is None:
            break
    staging = settings().staging_bucket
    following: str | None = ""
    while following is not None:
        listed, following = s3.list_objects(staging, members.prefix_of(batch), after=following)
        for one in listed:
            if seconds_left() <= 0:
                return batch
            s3.delete(staging, one.key)

    def decide(current: Batch) -> Batch | None:
        swept = model.changed(current, time.time(), swept_at=began)
        due_at = current.due_at if current.outbox else progress.next_look(swept)
        return model.changed(current, time.time(), swept_at=began, due_at=due_at)

    return store.update(batch.tenant, batch.batch_id, decide)[0]


def settle_due(tenant: str, batch_id: str, seconds_left: SecondsLeft) -> str:
    """What the sweeper does for a batch that is due; what was done: ``announce``, ``expire``, ``wake``, ``clear``,
    ``forget``, ``recount``, ``nothing``.

    HeavyliftError when it could not be done now; the batch stays due.
    """
    batch = store.find(tenant, batch_id)
    now = time.time()
    if batch is None or batch.due_at is None or batch.due_at > now:
        return "nothing"
    if batch.outbox:
        if now - float(batch.outbox[0]["at"]) < ANNOUNCE_AGAIN_S / settings().time_scale:
            return "nothing"  # whoever ended it is about to
        batch = progress.announce(batch)
        return "announce"
    if batch.status is BatchStatus.OPEN and batch.expires_at <= now:
        return _expire(batch, seconds_left)
    if progress.may_be_forgotten(batch, now):
        return "forget" if store.forget(batch, seconds_left) else "nothing"
    if batch.status in model.GONE:
        clear(batch, seconds_left)
        return "clear"
    if batch.status is BatchStatus.PROCESSING:
        _go_on(batch, seconds_left)
        return "recount"
    if batch.status is BatchStatus.OPEN:
        batch = progress.settle(tenant, batch_id)
        if not batch.final:
            _look_again(batch)
        return "recount"
    return "nothing"


def _expire(batch: Batch, seconds_left: SecondsLeft) -> str:
    """End a batch that nobody completed; but for a day longer, files that did arrive are taken up first."""
    tenant, batch_id = batch.tenant, batch.batch_id
    batch = progress.settle(tenant, batch_id)
    if batch.final:
        return "recount"
    if time.time() < batch.expires_at + PATIENCE_S / settings().time_scale and _wake_arrived(batch, seconds_left):
        _look_again(batch)
        return "wake"
    try:
        batch, _ = store.update(
            tenant,
            batch_id,
            lambda current: model.expired(current, progress.survey(tenant, batch_id).tally, time.time()),
        )
    except RequestError as error:
        logger().info("a batch cannot expire", batch_id=batch_id, code=error.code)
        return "nothing"
    if batch.status is BatchStatus.EXPIRED:
        count("BatchesEnded", status=batch.status.value)
        clear(progress.tell(batch), seconds_left)
    return "expire"
