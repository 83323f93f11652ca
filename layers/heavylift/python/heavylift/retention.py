"""What is still to be done for a file that has ended, and when. Pure.

A cancelled, expired or deleted file leaves nothing behind but its record: its bytes go at once, once more when
nothing of it can appear any more (a part in flight outlives the abort of its upload, a slow worker its lease), and
after 90 days the record goes too. A rejected or failed file keeps its uploaded bytes as long as it may be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.limits import ANNOUNCE_AGAIN_S, PURGE_AGAIN_S, TOMBSTONE_DAYS
from heavylift.records import FileRecord
from heavylift.states import State

DAY_S = 86_400.0
GONE = frozenset({State.CANCELLED, State.EXPIRED, State.DELETED})
QUARANTINED = frozenset({State.REJECTED, State.FAILED})


@dataclass(frozen=True, slots=True)
class Clocks:
    """The waiting times that count, in seconds, already divided by the time scale where they are clocks of ours."""

    quarantine_s: float
    announce_again_s: float = ANNOUNCE_AGAIN_S
    purge_again_s: float = PURGE_AGAIN_S
    tombstone_s: float = TOMBSTONE_DAYS * DAY_S


def next_look(record: FileRecord, clocks: Clocks) -> float | None:
    """When a final record that owes no announcement is to be looked at again; None = never."""
    ended = record.finished_at or record.updated_at
    if record.status in GONE:
        if record.purged_at is None:
            return ended
        last_purge = ended + clocks.purge_again_s
        return last_purge if record.purged_at < last_purge else ended + clocks.tombstone_s
    if record.status in QUARANTINED and record.purged_at is None:
        return ended + clocks.quarantine_s
    if record.recheck is not None and record.stored:
        return max(float(record.recheck["at"]), float(record.recheck.get("until", 0)))
    return None


def duty(record: FileRecord, now: float, clocks: Clocks) -> str:
    """What a final record needs now: ``announce``, ``purge``, ``release``, ``recheck``, ``forget`` or ``nothing``.

    ``purge``: all its objects and uploads go. ``release``: the uploaded bytes of a rejected or failed file go.
    ``recheck``: rules that came late are to be applied, and nobody does it. ``forget``: the record itself goes.
    """
    if record.outbox:
        overdue = now - float(record.outbox[0]["at"]) >= clocks.announce_again_s
        return "announce" if overdue else "nothing"
    due = next_look(record, clocks)
    if due is None or due > now:
        return "nothing"
    if record.status in QUARANTINED:
        return "release"
    if record.stored:
        return "recheck" if record.due_at is not None and record.due_at <= now else "nothing"
    ended = record.finished_at or record.updated_at
    purged_for_good = record.purged_at is not None and record.purged_at >= ended + clocks.purge_again_s
    return "forget" if purged_for_good else "purge"
