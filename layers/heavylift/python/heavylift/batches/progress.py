"""Progress: what became of a member is marked, and whoever finds the last verdict ends the batch.

Work per member is a constant number of small requests: two marks; when its hundred has a verdict for every mark, one
read of that hundred's manifest; when that is complete too, one query over the marks of all hundreds. Two members that
end at the same moment both mark before they look, and reads are strongly consistent: the later one sees both.

A mark that takes a verdict back (a retry, a file that arrives after it was given up) raises the batch's version after
it is written, and whoever ends a batch reads that version before the marks: no end is written over it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift import announcements, bus, items
from heavylift.batches import manifest, marks, model, store
from heavylift.batches.marks import Tally
from heavylift.batches.model import Batch
from heavylift.errors import TransientError
from heavylift.ids import member_of
from heavylift.limits import BATCH_LIST_MAX, PURGE_AGAIN_S, TOMBSTONE_DAYS
from heavylift.records import FileRecord
from heavylift.retention import DAY_S
from heavylift.settings import settings
from heavylift.states import State
from heavylift.telemetry import count, logger

SETTLE_TRIES = 8
RUNNING_LOOKED_MAX = 1_000  # ten BatchGetItem calls; 50 workers and what waits for its retry are fewer


@dataclass(frozen=True, slots=True)
class Survey:
    """The counts of a batch, and the first numbers of members that failed, and of those with a warning."""

    tally: Tally
    failures: tuple[int, ...]
    flaws: tuple[int, ...]


def survey(tenant: str, batch_id: str) -> Survey:
    """Count all marks, strongly consistent. Memory: a megabyte, whatever the size of the batch.

    A member that is marked as running may have ended since: between its end and its mark a worker may be killed. So
    the records of running members (as many as there are workers, and some) have the last word.
    """
    sums = Tally()
    failures: list[int] = []
    flaws: list[int] = []
    looked = 0
    for page in store.mark_pages(tenant, batch_id):
        running = [n for n, mark in page.items() if not marks.is_final(mark)][: RUNNING_LOOKED_MAX - looked]
        looked += len(running)
        if running:
            page = {**page, **store.verdicts_of(tenant, batch_id, running)}
        sums = sums.plus(marks.tally(page.values()))
        for n, mark in sorted(page.items()):
            found = failures if mark[-1] in marks.FAILURES else flaws if mark[-1] in marks.WARNED else None
            if found is not None and len(found) < BATCH_LIST_MAX:
                found.append(n)
    return Survey(sums, tuple(failures), tuple(flaws))


def note_arrived(record: FileRecord) -> None:
    """Mark a member that is being worked on; nothing for one that has ended, or for a file by itself."""
    member = member_of(record.file_id)
    if member is not None and not record.final:
        _mark(record.tenant, *member, marks.mark_of(record.version, marks.RUNNING))


def note_verdict(record: FileRecord) -> None:
    """Mark what a member's end owes its batch (its ``outbox`` tells), and end the batch if that was the last.

    Nothing for a file by itself. Repeated it changes nothing, but looks again whether the batch has ended: it may be
    that an earlier try was killed in between.
    """
    member = member_of(record.file_id)
    verdict = _verdict(record)
    if member is None or verdict is None:
        return
    batch_id, n = member
    known = _mark(record.tenant, batch_id, n, verdict)
    if not all(map(marks.is_final, known.values())):
        return
    if len(known) >= store.entries_listed(record.tenant, batch_id, manifest.hundred_of(n)):
        settle(record.tenant, batch_id)


def note_verdicts(tenant: str, batch_id: str, verdicts: Mapping[int, str]) -> None:
    """``note_verdict`` for members that ended together and have no record with an outbox: number -> mark.

    One write a hundred. Repeated it changes nothing, but looks again whether the batch has ended.
    """
    groups: dict[int, dict[int, str]] = {}
    for n, mark in verdicts.items():
        groups.setdefault(manifest.hundred_of(n), {})[n] = mark
    whole = False
    for hundred, new in groups.items():
        raised, before = store.raise_marks(tenant, batch_id, hundred, new)
        if any(marks.is_final(before.get(n)) for n in raised):
            _unseal(tenant, batch_id)
        known = {**before, **{n: new[n] for n in raised}}
        if all(map(marks.is_final, known.values())):
            whole = whole or len(known) >= store.entries_listed(tenant, batch_id, hundred)
    if whole:
        settle(tenant, batch_id)


def settle_if_whole(tenant: str, batch_id: str, hundred: int) -> None:
    """End the batch if every file of this hundred has its verdict and no other is missing."""
    known = store.marks_of(tenant, batch_id, [hundred])
    if all(map(marks.is_final, known.values())) and len(known) >= store.entries_listed(tenant, batch_id, hundred):
        settle(tenant, batch_id)


def _verdict(record: FileRecord) -> str | None:
    """The mark of the newest verdict that is owed; what is owed no more was marked before it was cleared."""
    found = [
        marks.mark_of(int(owed["version"]), outcome)
        for owed in record.outbox
        if (outcome := marks.outcome_of(State(owed["status"]), record.dicom)) is not None
    ]
    return max(found, default=None)


def _mark(tenant: str, batch_id: str, n: int, mark: str) -> dict[int, str]:
    """Set the mark; the marks of its hundred after that."""
    raised, before = store.raise_mark(tenant, batch_id, n, mark)
    if not raised:
        return before
    if marks.is_final(before.get(n)):
        # The verdict that was counted is no longer the last word.
        _unseal(tenant, batch_id)
    return {**before, n: mark}


def _unseal(tenant: str, batch_id: str) -> None:
    store.update(tenant, batch_id, lambda batch: model.unsealed(batch, time.time()))


def settle(tenant: str, batch_id: str) -> Batch:
    """End the batch if its last verdict is there, and tell the world. The batch. RequestError ``not_found``."""
    batch = store.get(tenant, batch_id)
    for attempt in range(SETTLE_TRIES):
        if batch.final:
            break
        # The version was read before the marks: see above.
        after = model.ended(batch, survey(tenant, batch_id).tally, time.time())
        if after is None:
            return batch
        if items.change_over(model.to_item(batch), model.to_item(after)):
            batch = after
            logger().info("batch ended", batch_id=batch_id, status=batch.status.value, totals=dict(batch.totals))
            count("BatchesEnded", status=batch.status.value)
        else:
            time.sleep(0.01 * attempt)
            batch = store.get(tenant, batch_id)
    return tell(batch)


def tell(batch: Batch) -> Batch:
    """Put what is owed on the bus and clear it; what fails now the sweeper does."""
    if not batch.outbox:
        return batch
    try:
        return announce(batch)
    except TransientError as error:
        logger().warning("the sweeper will announce this batch", batch_id=batch.batch_id, code=error.code)
        return batch


def announce(batch: Batch) -> Batch:
    """Put what ``outbox`` holds on the bus and clear it. TransientError: it stays there, due for the sweeper."""
    bus.put(
        [
            announcements.batch_event(
                tenant=batch.tenant,
                batch_id=batch.batch_id,
                kind=batch.kind,
                status=str(owed["status"]),
                version=int(owed["version"]),
                at=float(owed["at"]),
                totals=owed["totals"],
                created_at=batch.created_at,
            )
            for owed in batch.outbox
        ]
    )
    told = {owed["version"] for owed in batch.outbox}

    def decide(current: Batch) -> Batch | None:
        left = tuple(owed for owed in current.outbox if owed["version"] not in told)
        if left == current.outbox:
            return None
        values: dict[str, Any] = {"outbox": left}
        if current.final and not left:
            values["due_at"] = next_look(current)
        return model.changed(current, time.time(), **values)

    return store.update(batch.tenant, batch.batch_id, decide)[0]


def next_look(batch: Batch) -> float | None:
    """When the sweeper is to look again at a batch that has ended and owes no announcement; None = never.

    What is left of a cancelled or expired one goes at once, once more when no signed URL of it is alive, and its own
    items after 90 days, as the records of its files do.
    """
    if batch.status not in model.GONE:
        return None
    ended = batch.finished_at or batch.updated_at
    if batch.swept_at is None:
        return ended
    return _last_sweep(batch) if batch.swept_at < _last_sweep(batch) else ended + TOMBSTONE_DAYS * DAY_S


def may_be_forgotten(batch: Batch, now: float) -> bool:
    """A cancelled or expired batch, swept for good, told, and its 90 days over."""
    if batch.outbox or batch.status not in model.GONE or batch.swept_at is None:
        return False
    due = next_look(batch)
    return batch.swept_at >= _last_sweep(batch) and due is not None and due <= now


def _last_sweep(batch: Batch) -> float:
    ended = batch.finished_at or batch.updated_at
    return ended + max(PURGE_AGAIN_S, settings().signature_ttl_s) / settings().time_scale
