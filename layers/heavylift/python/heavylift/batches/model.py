"""A batch: its item, its states and the steps between them. Pure.

Every change raises ``version`` and is written under the condition that the version read is still there. A step into a
final state owes the world an announcement, which is noted in ``outbox`` by the same write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from heavylift import forms, records
from heavylift.batches.marks import Tally
from heavylift.errors import RequestError
from heavylift.forms import Form

SORT_KEY = "B"


class BatchStatus(StrEnum):
    OPEN = "open"  # takes manifest pages and files
    PROCESSING = "processing"  # no more files will come; verdicts are outstanding
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


LIVE = frozenset({BatchStatus.OPEN, BatchStatus.PROCESSING})
ENDED = frozenset({BatchStatus.COMPLETED, BatchStatus.COMPLETED_WITH_ERRORS})
GONE = frozenset({BatchStatus.CANCELLED, BatchStatus.EXPIRED})
_ANNOUNCED = {
    BatchStatus.COMPLETED: "batch.completed",
    BatchStatus.COMPLETED_WITH_ERRORS: "batch.completed",
    BatchStatus.CANCELLED: "batch.cancelled",
    BatchStatus.EXPIRED: "batch.expired",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. Times are seconds since 1970. ``pages``: page number -> [entries, digest].

    ``bundles``: number of a ZIP or tar whose members are files of the batch -> [its first member's number, members].
    """

    tenant: str
    batch_id: str
    kind: str
    total: int
    mode: str = "post"
    lane: str = "in"
    status: BatchStatus = BatchStatus.OPEN
    version: int = 1
    facility: str | None = None
    user: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Any] | None = None
    pages: Mapping[str, Any] = field(default_factory=dict)
    bundles: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float = 0.0
    closed_at: float | None = None
    finished_at: float | None = None
    due_at: float | None = None
    swept_at: float | None = None
    totals: Mapping[str, int] = field(default_factory=dict)
    outbox: tuple[Mapping[str, Any], ...] = ()

    @property
    def final(self) -> bool:
        return self.status not in LIVE

    @property
    def listed(self) -> int:
        """How many files the manifest names; a bundle counts for its members."""
        inside = sum(int(bundle[1]) - 1 for bundle in self.bundles.values())
        return sum(int(page[0]) for page in self.pages.values()) + inside

    @property
    def unlisted(self) -> int:
        """How many of the announced files the manifest does not name."""
        return max(0, self.total - self.listed)


_FORM: Form[Batch] = Form(Batch, BatchStatus)


def item_key(tenant: str, batch_id: str, sort_key: str = SORT_KEY) -> dict[str, str]:
    return {"pk": records.batch_partition(tenant, batch_id), "sk": sort_key}


def to_item(batch: Batch) -> dict[str, Any]:
    """The whole item as plain values; what is None or empty is left out."""
    key = item_key(batch.tenant, batch.batch_id)
    return {**key, **_FORM.attributes(batch), **forms.due_index(batch.batch_id, batch.due_at)}


def from_item(item: Mapping[str, Any]) -> Batch:
    """The batch of an item; attributes that we do not know are left alone."""
    return _FORM.record(item)


def changed(batch: Batch, now: float, **values: Any) -> Batch:
    """The batch after a change; the caller writes it under the condition that ``batch.version`` is still there."""
    return replace(batch, **values, version=batch.version + 1, updated_at=now)


def _refuse(batch: Batch, doing: str) -> RequestError:
    if batch.status is BatchStatus.EXPIRED:
        return RequestError("batch_expired", "This batch's time is over; start a new one.")
    return RequestError("state_conflict", f"A batch that is {batch.status.value} {doing}.", status=batch.status.value)


def must_be_open(batch: Batch, now: float, doing: str = "takes no more files") -> None:
    """RequestError ``state_conflict`` or ``batch_expired`` unless files may still be announced and sent."""
    if batch.status is BatchStatus.OPEN and batch.expires_at <= now:
        raise RequestError("batch_expired", "This batch's time is over; start a new one.")
    if batch.status is not BatchStatus.OPEN:
        raise _refuse(batch, doing)


def may_add_page(batch: Batch, page: int, digest: str, entries: int, now: float) -> bool:
    """Whether the page is new; False when it is here already. RequestError when it cannot be taken."""
    known = batch.pages.get(str(page))
    if known is not None and known[1] == digest:
        return False
    must_be_open(batch, now, "takes no more pages")
    if known is not None:
        raise RequestError(
            "manifest_conflict", f"Page {page} was sent before with other content; a page never changes.", page=page
        )
    if batch.listed + entries > batch.total:
        raise RequestError(
            "manifest_full",
            f"The batch was begun with {batch.total} files; this page would make it {batch.listed + entries}.",
            total=batch.total,
            listed=batch.listed,
        )
    return True


def with_page(batch: Batch, page: int, digest: str, entries: int, now: float) -> Batch | None:
    """The batch with the page registered; None when it is already."""
    if not may_add_page(batch, page, digest, entries, now):
        return None
    return changed(batch, now, pages={**batch.pages, str(page): [entries, digest]})


def with_bundle(batch: Batch, n: int, first: int, members: int, now: float) -> Batch | None:
    """The batch with file ``n`` known as a bundle of ``members`` files from number ``first`` on; None when it is."""
    if str(n) in batch.bundles or batch.status in GONE:
        return None
    bundles = {**batch.bundles, str(n): [first, members]}
    return changed(batch, now, bundles=bundles, total=batch.total + members - 1)


def closed(batch: Batch, now: float) -> Batch | None:
    """After POST …/complete; None when nothing changes. RequestError ``state_conflict``, ``batch_expired``."""
    if batch.status in GONE:
        raise _refuse(batch, "cannot be completed")
    if batch.status is not BatchStatus.OPEN:
        return None
    return changed(batch, now, status=BatchStatus.PROCESSING, closed_at=now, due_at=now)


def done(batch: Batch, tally: Tally) -> bool:
    """Whether every file has its verdict. Until the batch is closed, files that were never listed may still come."""
    if batch.status is BatchStatus.OPEN and batch.unlisted:
        return False
    return tally.processed >= batch.listed


def totals_of(batch: Batch, tally: Tally) -> dict[str, int]:
    """The counts of GET /v1/batches/{id}; files that were announced and never listed have failed once it is closed."""
    unlisted = batch.unlisted if batch.closed_at is not None else 0
    failed = tally.failed + unlisted
    processed = tally.processed + unlisted
    return {
        "total": max(batch.total, processed),
        "received": tally.received,
        "processed": processed,
        "succeeded": tally.succeeded,
        "failed": failed,
        "skipped": tally.skipped,
        "duplicates": tally.duplicates,
    }


def _finished(batch: Batch, now: float, status: BatchStatus, tally: Tally, **values: Any) -> Batch:
    owed = {
        "type": _ANNOUNCED[status],
        "version": batch.version + 1,
        "at": round(now, 3),
        "status": status.value,
        "totals": totals_of(batch, tally),
    }
    return changed(
        batch,
        now,
        status=status,
        finished_at=now,
        due_at=now,
        totals=owed["totals"],
        outbox=(*batch.outbox, owed),
        **values,
    )


def ended(batch: Batch, tally: Tally, now: float) -> Batch | None:
    """The batch after its last verdict; None when it is not done or has ended."""
    if batch.status not in LIVE or not done(batch, tally):
        return None
    flawed = totals_of(batch, tally)["failed"] > 0 or tally.flawed > 0
    return _finished(
        batch,
        now,
        BatchStatus.COMPLETED_WITH_ERRORS if flawed else BatchStatus.COMPLETED,
        tally,
        closed_at=batch.closed_at or now,
    )


def unsealed(batch: Batch, now: float) -> Batch | None:
    """A member that had a verdict is at work again: an end that was found before no longer counts.

    A batch that is under way gets a new version, so that whoever has just counted its marks counts them again.
    """
    if batch.status in GONE:
        return None
    if batch.status in LIVE:
        return changed(batch, now)
    return changed(batch, now, status=BatchStatus.PROCESSING, finished_at=None, due_at=now, totals={})


def cancelled(batch: Batch, tally: Tally, now: float) -> Batch | None:
    """After DELETE; None when it was cancelled before. RequestError ``state_conflict`` once it has ended."""
    if batch.status is BatchStatus.CANCELLED:
        return None
    if batch.status not in LIVE:
        raise _refuse(batch, "cannot be cancelled")
    return _finished(batch, now, BatchStatus.CANCELLED, tally)


def expired(batch: Batch, tally: Tally, now: float) -> Batch | None:
    """A batch that was never completed and whose time is over; None for any other."""
    if batch.status is not BatchStatus.OPEN or batch.expires_at > now:
        return None
    return _finished(batch, now, BatchStatus.EXPIRED, tally)
