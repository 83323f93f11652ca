"""Files and batches whose time has come, by the table's index of what is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from heavylift import (
    assembly,
    counting,
    dynamo,
    forms,
    items,
    keys,
    life,
    purging,
    queue,
    records,
    retention,
    s3,
    work,
)
from heavylift.archives import ends
from heavylift.archives import jobs as archive_jobs
from heavylift.batches import closing
from heavylift.batches import model as batch_model
from heavylift.dicom import instances, recounting
from heavylift.errors import HeavyliftError, RequestError, TransientError
from heavylift.limits import ATTEMPTS_MAX, DUE_SHARDS
from heavylift.records import Change, FileRecord
from heavylift.retention import Clocks
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, Event, State
from heavylift.telemetry import logger

PAGE = 100
LOOK_AGAIN_S = 86_400.0
BACKLOG_MESSAGES = 20  # fewer are taken up by the functions' concurrency well before the sweeper's next look
DUE_PAGES_MAX = 50  # of one shard in one run: 20 000 files a run, the next run goes on


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about a record that is due.

    ``resend``, ``fail``, ``assemble``, ``look`` (whether the object of a single PUT has arrived although its event
    never came), ``expire``; of files that have ended ``announce``, ``purge``, ``release``,
    ``recheck``, ``forget``; or nothing.
    """

    do: str
    stage: str | None = None


def step_for(record: FileRecord, now: float, clocks: Clocks) -> Step:
    """The decision for one record. Pure."""
    if record.final:
        return Step(retention.duty(record, now, clocks))
    if record.outbox and now - float(record.outbox[0]["at"]) >= clocks.announce_again_s:
        return Step("announce")  # it ended, was never announced, and is tried again by now
    if record.due_at is None or record.due_at > now or record.lease_until > now:
        return Step("nothing")
    if record.status in AWAITING_OBJECT:
        if record.expires_at <= now:
            return Step("expire")
        if record.status is State.ASSEMBLING and record.attempt >= ATTEMPTS_MAX:
            return Step("fail", "complete")
        return Step({State.ASSEMBLING: "assemble", State.CREATED: "look"}.get(record.status, "nothing"))
    stage = work.stage_of(record)
    if stage is None:
        return Step("nothing")
    return Step("fail" if record.attempt >= ATTEMPTS_MAX else "resend", stage)


class Backlog:
    """How many messages wait on each queue, asked once a run."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def crowded(self, stage: str) -> bool:
        if stage not in self._known:
            self._known[stage] = queue.backlog(stage)
        return self._known[stage] > BACKLOG_MESSAGES


def settle_all(go_on: Callable[[], bool], note: Callable[[str], None], backlog: Backlog) -> None:
    """Settle every file and every batch that is due, shard by shard."""
    for shard in range(DUE_SHARDS):
        start = None
        for _ in range(DUE_PAGES_MAX):
            if not go_on():
                return
            # A record that was moved leaves this index; the page token still points behind it, so nothing repeats.
            page, start = items.query_keys(
                "due",
                forms.due_partition(shard),
                limit=PAGE,
                start=start,
                descending=False,
                sort_key_max=forms.due_sort_key(time.time(), "~"),
            )
            for record in dynamo.get_many([key for key in page if key["sk"].startswith("F")]):
                note(settle(record, backlog))
                if not go_on():
                    return
            for key in page:
                if key["sk"] == batch_model.SORT_KEY and go_on():
                    note(settle_batch(*records.batch_of(key["pk"]), go_on))
                if key["sk"] == archive_jobs.SORT_KEY and go_on():
                    note(settle_archive(*archive_jobs.of_partition(key["pk"])))
                series = instances.parse_series_key(key)
                if series is not None and go_on():
                    note(settle_series(*series))
            if start is None:
                break


def settle(record: FileRecord, backlog: Backlog) -> str:
    """Do what one record needs now; what was done."""
    step = step_for(record, time.time(), life.clocks())
    return _settled(record.file_id, step.do, lambda: _do(step, record, backlog))


def settle_batch(tenant: str, batch_id: str, go_on: Callable[[], bool]) -> str:
    """Do what one batch needs now; what was done."""

    def act() -> str:
        done = closing.settle_due(tenant, batch_id, lambda: 1.0 if go_on() else 0.0)
        return done if done == "nothing" else f"batch_{done}"

    return _settled(batch_id, "batch", act)


def settle_series(tenant: str, study_uid: str, series_uid: str) -> str:
    """Count a series whose recount was lost; what was done."""

    def act() -> str:
        done = recounting.recount(tenant, study_uid, series_uid)
        return done if done == "nothing" else f"series_{done}"

    return _settled(f"{study_uid} {series_uid}", "series", act)


def settle_archive(tenant: str, archive_id: str) -> str:
    """Do what one archive's job needs now; what was done."""

    def act() -> str:
        done = ends.settle_due(tenant, archive_id)
        return done if done == "nothing" else f"archive_{done}"

    return _settled(archive_id, "archive", act)


def _settled(owner_id: str, what: str, act: Callable[[], str | None]) -> str:
    """Act; what was done. A fault with one file or batch keeps nobody behind it waiting."""
    try:
        return act() or what
    except HeavyliftError as error:
        logger().warning("could not settle this now", id=owner_id, code=error.code, step=what)
        return "postponed"
    except ClientError:
        # A fault of ours: the alarm is told.
        logger().exception("could not settle this", id=owner_id, step=what)
        return "refused"


def _do(step: Step, record: FileRecord, backlog: Backlog) -> None:
    match step.do:
        case "expire":
            _expire(record)
        case "look":
            _look(record)
        case "assemble":
            _assemble(record)
        case "fail":
            _fail(record, step.stage or "")
        case "resend":
            _resend(record, step.stage or "", backlog)
        case "announce":
            life.announce(dynamo.get(record.tenant, record.file_id))
        case "purge" | "release":
            _clear_away(record)
        case "recheck":
            _recheck(record)
        case "forget":
            _forget(record)


def wake(record: FileRecord, stage: str) -> None:
    """Tell a stage to take a file up whose event may have been lost."""
    queue.send(stage, queue.Continuation("continue", record.tenant, record.file_id, record.attempt))


def take_up(record: FileRecord) -> None:
    """Tell the stage that judges new files of one that has arrived."""
    wake(record, work.stage_of(record) or "validate")


def _look(record: FileRecord) -> None:
    """Commit ``staged`` for an object whose event was lost; if there is none, look again tomorrow."""
    head = assembly.head_if_whole(record)
    if head is not None:
        take_up(assembly.arrive(record, head, "sweep"))
        return

    def decide(current: FileRecord) -> Change | None:
        if current.status is not State.CREATED:
            return None
        now = time.time()
        return records.change(current, now, due_at=min(current.expires_at, now + LOOK_AGAIN_S / settings().time_scale))

    life.update(record.tenant, record.file_id, decide)


def _assemble(record: FileRecord) -> None:
    """Go on where complete was cut off. Each try counts: joining that fails for ever ends ``failed``."""

    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        if step_for(current, now, life.clocks()).do != "assemble":
            return None
        return records.change(current, now, attempt=current.attempt + 1)

    record = life.update(record.tenant, record.file_id, decide)
    record = assembly.complete(record, "sweep", claimed=None, declared_sha256=None, wait_s=0)
    if record.status is State.STAGED:
        take_up(record)


def _expire(record: FileRecord) -> None:
    """The session's time is over; but bytes that did arrive are never dropped for a lost event.

    What S3 holds goes first: an upload that could not be aborted is due again in the next run.
    """
    record = dynamo.get(record.tenant, record.file_id)  # the list of what is due may be behind
    if step_for(record, time.time(), life.clocks()).do != "expire":
        return
    head = assembly.head_if_whole(record)
    if head is not None:
        take_up(assembly.arrive(record, head, "sweep"))
        return
    if record.status is State.ASSEMBLING:
        try:  # all parts were there when complete was asked for
            take_up(assembly.complete(record, "sweep", claimed=None, declared_sha256=None, wait_s=0))
            return
        except RequestError as error:
            logger().info("an upload cannot be joined", file_id=record.file_id, code=error.code)
    if record.s3_upload_id and not s3.abort_multipart(settings().staging_bucket, record.key, record.s3_upload_id):
        raise TransientError("aws_unavailable", "Parts outlived the abort of their upload.")

    def decide(current: FileRecord) -> Change | None:
        if step_for(current, time.time(), life.clocks()).do != "expire":
            return None
        return records.transition(current, Event.EXPIRE, time.time(), "sweep")

    purging.settle(life.update(record.tenant, record.file_id, decide))


def _fail(record: FileRecord, stage: str) -> None:
    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        if step_for(current, now, life.clocks()).do != "fail":
            return None
        return records.transition(current, Event.FAIL, now, "sweep", failure=work.exhausted(current, stage))

    life.update(record.tenant, record.file_id, decide)


def _resend(record: FileRecord, stage: str, backlog: Backlog) -> None:
    """The next look first, then the message: at most one a visibility period, whatever happens between the two.

    Sending to a file that nobody has taken up since the last time counts as an attempt, whether it waits for its
    stage or was left by a worker: a function that dies before its first write would else be called for ever. But
    where many messages wait for their turn, its own is most likely among them: one more would lengthen the queue,
    and waiting is no attempt.
    """
    waiting = work.STAGES[stage].waiting
    crowded = record.status in waiting and backlog.crowded(stage)
    wanted: list[bool] = []

    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        wanted[:] = [step_for(current, now, life.clocks()).do == "resend"]
        if not wanted[0]:
            return None
        due_at = now + work.look_again_s(stage)
        if crowded:
            wanted[0] = False
            return records.change(current, now, due_at=due_at)
        attempt = current.attempt + (current.status in waiting or current.resent_at > 0)
        return records.change(current, now, due_at=due_at, resent_at=now, attempt=attempt)

    current = life.update(record.tenant, record.file_id, decide)
    if wanted[0]:
        wake(current, stage)


def _recheck(record: FileRecord) -> None:
    """Rules that came late wait for validate: tell it once more, at most once a visibility period."""
    wanted: list[bool] = []

    def decide(current: FileRecord) -> Change | None:
        now = time.time()
        wanted[:] = [step_for(current, now, life.clocks()).do == "recheck"]
        return records.change(current, now, due_at=now + work.look_again_s("validate")) if wanted[0] else None

    current = life.update(record.tenant, record.file_id, decide)
    if wanted[0]:
        wake(current, "validate")


def _clear_away(record: FileRecord) -> None:
    current = dynamo.get(record.tenant, record.file_id)
    if step_for(current, time.time(), life.clocks()).do in {"purge", "release"}:
        purging.settle(current)


def _forget(record: FileRecord) -> None:
    """The tombstone's time is over: its older audit events go, then the record."""
    current = dynamo.get(record.tenant, record.file_id)
    if step_for(current, time.time(), life.clocks()).do != "forget":
        return
    purging.delete_under(settings().derived_bucket, keys.audit_prefix(record.tenant, record.file_id))
    counting.mark(record.tenant, record.file_id)  # a cancelled or expired file counted until now
    dynamo.remove(current)
