"""sweep: what the clock has to do. Bounded pages, restartable, one at a time.

Lapsed leases and lost events are sent again, the fifth attempt's end becomes ``failed``, uploads that stand in
assembling are finished, sessions whose time is over expire, and the statistics are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from botocore.exceptions import ClientError

from heavylift import assembly, dynamo, queue, records, s3, states, statistics, work
from heavylift.errors import HeavyliftError, RequestError, TransientError
from heavylift.limits import ATTEMPTS_MAX
from heavylift.records import DUE_SHARDS, Change, FileRecord
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, Event, State
from heavylift.telemetry import count, logger

PAGE = 100
LOOK_AGAIN_S = 86_400.0
BACKLOG_MESSAGES = 20  # fewer are taken up by the functions' concurrency well before the sweeper's next look
DUE_PAGES_MAX = 50  # of one shard in one run: 20 000 files a run, the next run goes on
SCAN_PAGE = 1_000
_STATISTICS_STATE = {"pk": "T#_#SWEEP", "sk": "STATISTICS"}


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about a record that is due: ``resend``, ``fail``, ``assemble``, ``look``, ``expire``, nothing.

    ``look``: whether the object of a single PUT has arrived although its event never came.
    """

    do: str
    stage: str | None = None


def step_for(record: FileRecord, now: float) -> Step:
    """The decision for one record. Pure."""
    if record.due_at is None or record.due_at > now or record.final:
        return Step("nothing")
    if record.status in AWAITING_OBJECT:
        if record.lease_until > now:
            return Step("nothing")  # somebody is joining the parts
        if record.expires_at <= now:
            return Step("expire")
        return Step({State.ASSEMBLING: "assemble", State.CREATED: "look"}.get(record.status, "nothing"))
    stage = states.stage_of(record.status)
    if stage is None:
        return Step("nothing")
    if record.lease_until > now:
        return Step("nothing")
    if record.attempt >= ATTEMPTS_MAX:
        return Step("fail", stage)
    return Step("resend", stage)


def sweep(seconds_left: Callable[[], float]) -> dict[str, int]:
    """One run: what was done, by kind. Stops in time; what is left is found by the next run."""
    done: dict[str, int] = {}
    backlog = cache(queue.backlog)  # asked once a run
    for shard in range(DUE_SHARDS):
        start = None
        for _ in range(DUE_PAGES_MAX):
            if seconds_left() <= 0:
                return done
            # A record that was moved leaves this index; the page token still points behind it, so nothing repeats.
            keys, start = dynamo.query_keys(
                "due",
                records.due_partition(shard),
                limit=PAGE,
                start=start,
                descending=False,
                sort_key_max=records.due_sort_key(time.time(), "~"),
            )
            for record in dynamo.get_many(keys):
                what = _settle(record, backlog)
                done[what] = done.get(what, 0) + 1
            if start is None:
                break
    if seconds_left() > 0:
        _count_statistics(seconds_left)
    logger().info("swept", done=done)
    for what, number in done.items():
        if what != "nothing":
            count("Swept", number, what=what)
    return done


def _settle(record: FileRecord, backlog: Callable[[str], int]) -> str:
    step = step_for(record, time.time())
    try:
        if step.do == "expire":
            _expire(record)
        elif step.do == "look":
            _look(record)
        elif step.do == "assemble":
            assembly.complete(record, "sweep", claimed=None, declared_sha256=None, wait_s=0)
        elif step.do == "fail" and step.stage:
            _fail(record, step.stage)
        elif step.do == "resend" and step.stage:
            _resend(record, step.stage, backlog)
    except HeavyliftError as error:
        logger().warning("could not settle a file now", file_id=record.file_id, code=error.code, step=step.do)
        return "postponed"
    except ClientError:
        # A fault of ours with one file: the alarm is told, and the files behind it get their turn.
        logger().exception("could not settle a file", file_id=record.file_id, step=step.do)
        return "refused"
    return step.do


def _look(record: FileRecord) -> None:
    """Commit ``staged`` for an object whose event was lost; if there is none, look again tomorrow."""
    head = assembly.head_if_whole(record)
    if head is not None:
        assembly.arrive(record, head, "sweep")
        return

    def decide(current: FileRecord) -> Change | None:
        if current.status is not State.CREATED:
            return None
        now = time.time()
        return records.change(current, now, due_at=min(current.expires_at, now + LOOK_AGAIN_S / settings().time_scale))

    dynamo.update(record.tenant, record.file_id, decide)


def _expire(record: FileRecord) -> None:
    """The session's time is over; but bytes that did arrive are never dropped for a lost event.

    What S3 holds goes first: an upload that could not be aborted is due again in the next run.
    """
    record = dynamo.get(record.tenant, record.file_id)  # the list of what is due may be behind
    if step_for(record, time.time()).do != "expire":
        return
    head = assembly.head_if_whole(record)
    if head is not None:
        assembly.arrive(record, head, "sweep")
        return
    if record.status is State.ASSEMBLING:
        try:  # all parts were there when complete was asked for
            assembly.complete(record, "sweep", claimed=None, declared_sha256=None, wait_s=0)
            return
        except RequestError as error:
            logger().info("an upload cannot be joined", file_id=record.file_id, code=error.code)
    if record.s3_upload_id and not s3.abort_multipart(settings().staging_bucket, record.key, record.s3_upload_id):
        raise TransientError("aws_unavailable", "Parts outlived the abort of their upload.")

    def decide(current: FileRecord) -> Change | None:
        if step_for(current, time.time()).do != "expire":
            return None
        return records.transition(current, Event.EXPIRE, time.time(), "sweep")

    dynamo.update(record.tenant, record.file_id, decide)


def _fail(record: FileRecord, stage: str) -> None:
    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        if step_for(current, now).do != "fail":
            return None
        return records.transition(current, Event.FAIL, now, "sweep", failure=work.exhausted(current, stage))

    dynamo.update(record.tenant, record.file_id, decide)


def _resend(record: FileRecord, stage: str, backlog: Callable[[str], int]) -> None:
    """The next look first, then the message: at most one a visibility period, whatever happens between the two.

    Sending to a file that nobody has taken up since the last time counts as an attempt: a function that dies before
    its first write would else be called for ever. But where many messages wait for their turn, its own is most
    likely among them: one more would lengthen the queue, and waiting is no attempt.
    """
    waiting = work.STAGES[stage].waiting
    crowded = record.status in waiting and backlog(stage) > BACKLOG_MESSAGES
    wanted: list[bool] = []

    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        wanted[:] = [step_for(current, now).do == "resend"]
        if not wanted[0]:
            return None
        due_at = now + work.look_again_s(stage)
        if crowded:
            wanted[0] = False
            return records.change(current, now, due_at=due_at)
        attempt = current.attempt + (current.status in waiting)
        return records.change(current, now, due_at=due_at, resent_at=now, attempt=attempt)

    current = dynamo.update(record.tenant, record.file_id, decide)
    if wanted[0]:
        queue.send(stage, queue.Continuation("continue", current.tenant, current.file_id, current.attempt))


def _count_statistics(seconds_left: Callable[[], float]) -> None:
    """Count the table page by page; a run that ends early keeps its place, the last one publishes."""
    state = dynamo.get_item(_STATISTICS_STATE) or {}
    sums = state.get("sums") or {}
    start = state.get("next") or None
    now = time.time()
    while seconds_left() > 0:
        items, start = dynamo.scan_page(statistics.COUNTED, start, SCAN_PAGE)
        sums = statistics.add(sums, items, now)
        if start is None:
            for tenant, counts in sums.items():
                dynamo.put_item({**statistics.item_key(tenant), "as_of": now, "counts": counts})
            sums = {}
            break
    dynamo.put_item({**_STATISTICS_STATE, "sums": sums, "next": start or {}})
