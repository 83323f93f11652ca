"""Exact counts without a counter: marks, claims and recounts of a series. Pure.

A series' item has three numbers that only grow. ``mark_seq``: its instances have changed or are about to.
``claim_seq``: the mark that a recount has begun to count for. ``done_seq``: the mark that ``instances`` holds. They
are equal when ``instances`` is the truth; else a reader counts the items of the series itself.

A worker  (1) marks, unless a mark stands that no recount has claimed and that is young; (2) puts or deletes items;
          (3) reads the series, and marks again if the mark has been claimed meanwhile.
A recount (1) reads s = mark_seq; (2) sets claim_seq = s if mark_seq is still s; (3) counts; (4) sets instances and
          done_seq = s if mark_seq is still s.

Why no item is missed. Let a recount that wrote at (4) not have counted an item that was put before: so it was put
after its count (3) began, and the worker's read came later still. Had that read seen an unclaimed mark, then mark_seq
> claim_seq = s at a time after (2), so mark_seq was not s at (4) or will not be: either (4) failed, or the series has
been dirty since. If it saw none, the worker has marked: dirty too. Whoever marks sends a recount's message before its
own is acknowledged, so that every mark is followed by a recount that began after it. All writes may arrive twice or
late: (2) and (4) are refused once there is another mark, and a mark too many costs one recount.

That a mark must be young is for the eyes only: a recount waits until its mark is older than SETTLE_S, by then those
who relied on it have put their items, and a number that somebody has read is never followed by a smaller one.
"""

from __future__ import annotations

from typing import Final

from heavylift.dicom.instances import Series

YOUNG_S: Final = 2.0  # a worker relies on a mark that is not older; its puts take well below a second
SETTLE_S: Final = 6.0  # a recount begins when its mark is as old as this
RECOUNT_AFTER_S: Final = 8.0  # the message of a recount sleeps so long: most marks of a series share one recount
SWEEP_AFTER_S: Final = 900.0  # a mark that no recount has followed by then has lost its message


def must_mark_before(series: Series | None, now: float, time_scale: float = 1.0) -> bool:
    """Whether a worker that is about to change items of the series has to mark it first."""
    if series is None or series.mark_seq == series.claim_seq:
        return True
    return now - series.marked_at > YOUNG_S / time_scale


def must_mark_after(series: Series | None) -> bool:
    """Whether a worker that has changed items has to mark the series, as it reads it now."""
    return series is None or series.mark_seq == series.claim_seq


def may_recount(series: Series, now: float, time_scale: float = 1.0) -> bool:
    """Whether a dirty series has come to rest."""
    return now - series.marked_at >= SETTLE_S / time_scale
