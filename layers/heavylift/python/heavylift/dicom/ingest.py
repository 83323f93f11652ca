"""dicom_ingest: up to ten files at once, each with its own verdict.

What files share is done once for all of them: one read of their batch, manifest and records, one of the index, one
mark a series, one write of the batch's marks, one call to the bus. What fails, fails for the files that it concerns;
their messages come back, and what is done already is recognised.

The order is what makes it exact. A series is marked before and after its instances are put (``counts``); an instance
is put when its copy is there; the verdict is written when the index is done; the batch is told after the verdict; and
the upload is deleted last, so that a message that finds it gone has nothing left to do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from heavylift import announcements, bus, counting, dynamo, items, keys, queue, records, s3, work
from heavylift.batches import manifest, marks, members, model, progress, store
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch
from heavylift.dicom import counts, expanding, index, instances, recounting, rewriting, settling, single, verdicts
from heavylift.dicom.bundles import Member
from heavylift.dicom.examining import Job, examine
from heavylift.dicom.instances import Instance
from heavylift.dicom.settling import Placed
from heavylift.errors import ContentError, TransientError
from heavylift.ids import member_id, member_of
from heavylift.limits import ATTEMPTS_MAX
from heavylift.messages import Delivery
from heavylift.records import FileRecord
from heavylift.settings import settings
from heavylift.states import State
from heavylift.telemetry import count, logger

NAME = "dicom_ingest"
PARALLEL = 10  # as many as messages: each has a request or two of S3 in flight
SUSPECT_RECEIVES = 3  # who comes back as often may be what kills the function: it goes last, alone, with a lease


def take_all(deliveries: Sequence[Delivery]) -> Mapping[str, Exception]:
    """Settle the messages of one event; by owner why some of them are not settled."""
    group = _Group(_pool("dicom"))
    group.settle(deliveries)
    return group.unsettled


@cache
def _pool(purpose: str) -> ThreadPoolExecutor:
    """Threads that are kept between events. Whoever waits for them in one of them has those of another purpose."""
    return ThreadPoolExecutor(PARALLEL, thread_name_prefix=purpose)


def _all(pool: ThreadPoolExecutor, units: Sequence[Any], step: Callable[[Any], None]) -> list[Exception | None]:
    """Do ``step`` for all units at the same time, and wait for all of them: what each has failed with."""
    errors = [future.exception() for future in [pool.submit(step, unit) for unit in units]]
    for error in errors:
        if error is not None and not isinstance(error, Exception):
            raise error
    return [error for error in errors if error is None or isinstance(error, Exception)]


class _Group:
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.unsettled: dict[str, Exception] = {}

    # --- failures are their files' alone ---
    def _run(self, units: Iterable[Any], step: Callable[[Any], None], owners: Callable[[Any], list[str]]) -> list[Any]:
        """Do ``step`` for all units at the same time; those for which it failed."""
        units = list(units)
        failed = []
        for unit, error in zip(units, _all(self.pool, units, step), strict=True):
            if error is not None:
                failed.append(unit)
                for owner in owners(unit):
                    self.unsettled.setdefault(owner, error)
        return failed

    def _each(self, jobs: Iterable[Job], step: Callable[[Job], None]) -> None:
        jobs = [job for job in jobs if not job.over]
        for job in self._run(jobs, step, lambda job: [one.owner for one in job.deliveries]):
            job.over = True

    def _together(self, groups: Iterable[list[Job]], step: Callable[[list[Job]], None]) -> None:
        groups = [alive for jobs in groups if (alive := [job for job in jobs if not job.over])]
        owners = lambda jobs: [one.owner for job in jobs for one in job.deliveries]  # noqa: E731
        for jobs in self._run(groups, step, owners):
            for job in jobs:
                job.over = True

    # --- what the messages are about ---
    def settle(self, deliveries: Sequence[Delivery]) -> None:
        files: dict[tuple[str, str], list[Delivery]] = {}
        others = []
        for delivery in deliveries:
            message = delivery.message
            if isinstance(message, queue.Continuation):
                if message.do in {"recount", "chunk"}:
                    others.append(delivery)
                else:
                    files.setdefault((message.tenant, message.file_id), []).append(delivery)
            elif isinstance(message, queue.ObjectCreated):
                parsed = keys.parse_staging(message.key)
                if parsed is None or parsed.lane != "dicom":
                    self._run([delivery], _refuse_unnamed, lambda one: [one.owner])
                    continue
                files.setdefault((parsed.tenant, parsed.file_id), []).append(delivery)
        for delivery in others:
            self._run([delivery], _take_other, lambda one: [one.owner])
        if files:
            self._settle_files(files)

    def _settle_files(self, files: Mapping[tuple[str, str], list[Delivery]]) -> None:
        everything = [list(files.items())]
        loaded: list[_Loaded] = []
        owners = lambda found: [one.owner for _, given in found for one in given]  # noqa: E731
        self._run(everything, lambda found: loaded.append(_load([name for name, _ in found])), owners)
        if not loaded:
            return
        jobs: list[Job] = []
        suspects: list[tuple[tuple[str, str], list[Delivery]]] = []
        for name, given in files.items():
            if name not in loaded[0].records and max(one.receive_count for one in given) >= SUSPECT_RECEIVES:
                suspects.append((name, given))
                continue
            step = lambda _, name=name, given=given: self._sort(name, given, loaded[0], jobs)  # noqa: E731
            self._run([name], step, lambda _, given=given: [one.owner for one in given])  # type: ignore[misc]
        self.settle_jobs(jobs)
        # What the others have come to is safe by now, whatever a suspect does to this sandbox.
        owners_of = lambda suspect: [one.owner for one in suspect[1]]  # noqa: E731
        for suspect in suspects:
            self._run([suspect], _take_suspect, owners_of)

    def _sort(self, name: tuple[str, str], given: list[Delivery], loaded: _Loaded, jobs: list[Job]) -> None:
        """A small member without a record joins the group; everything else goes its own way."""
        tenant, file_id = name
        record = loaded.records.get(name)
        if record is None and member_of(file_id) is not None:
            job = _job(tenant, file_id, given, loaded)
            if job is not None:
                jobs.append(job)
            return
        if record is not None and record.final and member_of(file_id) is not None:
            _finish_up(record)
            return
        single.take(given[0], record, tenant, file_id)

    # --- the way of small members ---
    def settle_jobs(self, jobs: list[Job]) -> None:
        """Files that are known to be waited for and have no record yet."""
        self._each(jobs, examine)
        taken_apart = [job for job in jobs if job.is_bundle and not job.over]
        for job in taken_apart:
            self._each([job], _take_bundle)
            job.over = True
        by_tenant = _grouped(jobs, lambda job: job.tenant)
        self._together(by_tenant, self._place)
        self._each([job for job in jobs if job.placed is not None], _write_verdict)
        self._together(_grouped(jobs, lambda job: (job.tenant, job.batch.batch_id)), _tell_batch)
        self._together([jobs], _tell_world)
        self._together([jobs], self._leave_staging)

    def _place(self, jobs: list[Job]) -> None:
        """All jobs of a tenant into the index. Threads of the pool wait for nothing here: this runs in one of them."""
        tenant = jobs[0].tenant
        wanted = [job for job in jobs if job.instance is not None]
        if not wanted:
            return
        known = index.look(
            tenant,
            [_name(job) for job in wanted],
            [(job.batch.batch_id, _name(job)[0]) for job in wanted],
        )
        for job in wanted:
            there = known.instances.get(_name(job))
            job.placed = settling.known_already(tenant, _noted(job, known), there)
            if job.placed is not None and job.again:
                settling.withdraw(keys.store_dicom(tenant, job.file_id))
        to_put = [job for job in wanted if job.placed is None]
        marked = _prepare(tenant, wanted, to_put, known)
        for job, error in zip(to_put, _all(_pool("place"), to_put, _put), strict=True):
            if error is not None:
                job.over = True
                for one in job.deliveries:
                    self.unsettled.setdefault(one.owner, error)
        # Also where a put has failed: nobody knows whether it arrived.
        marked |= _mark_after(tenant, to_put)
        if any(job.again for job in wanted):
            marked |= {_name(job)[:2] for job in wanted}
        recounting.ask(tenant, marked)

    def _leave_staging(self, jobs: list[Job]) -> None:
        """The uploads of what is stored, in one request; what S3 keeps comes back with its message."""
        stored = [job for job in jobs if job.record.stored and job.inside is None]
        kept = s3.delete_many(settings().staging_bucket, [job.record.key for job in stored])
        for job in stored:
            if job.record.key in kept:
                for one in job.deliveries:
                    error = TransientError("aws_unavailable", "S3 did not delete an upload.", doing="delete_objects")
                    self.unsettled.setdefault(one.owner, error)


@dataclass(frozen=True, slots=True)
class _Loaded:
    records: Mapping[tuple[str, str], FileRecord]
    batches: Mapping[tuple[str, str], Batch]
    entries: Mapping[tuple[str, str], Mapping[int, Entry]]


def _load(names: Sequence[tuple[str, str]]) -> _Loaded:
    """The records of files, and the batches and manifest entries of members: one call for ten files."""
    wanted: dict[tuple[str, str], Mapping[str, str]] = {}
    for tenant, file_id in names:
        member = member_of(file_id)
        found = [records.item_key(tenant, file_id)]
        if member is not None:
            batch_id, n = member
            found += [
                model.item_key(tenant, batch_id),
                model.item_key(tenant, batch_id, manifest.sort_key(manifest.hundred_of(n))),
            ]
        wanted.update({(key["pk"], key["sk"]): key for key in found})
    there: dict[tuple[str, str], FileRecord] = {}
    batches: dict[tuple[str, str], Batch] = {}
    entries: dict[tuple[str, str], dict[int, Entry]] = {}
    for item in items.read_many(list(wanted.values())):
        if item["sk"].startswith("F"):
            record = records.from_item(item)
            there[record.tenant, record.file_id] = record
        elif item["sk"] == model.SORT_KEY:
            batch = model.from_item(item)
            batches[batch.tenant, batch.batch_id] = batch
        else:
            entries.setdefault(records.batch_of(item["pk"]), {}).update(manifest.unpack(item["entries"]))
    return _Loaded(there, batches, entries)


def _job(tenant: str, file_id: str, given: list[Delivery], loaded: _Loaded) -> Job | None:
    """The job of a member whose batch waits for it; None when nobody does: then its object is gone."""
    batch_id, n = member_of(file_id) or ("", 0)
    batch = loaded.batches.get((tenant, batch_id))
    entry = loaded.entries.get((tenant, batch_id), {}).get(n)
    entry = entry or store.entry(tenant, batch_id, n)  # a page may have come between the two reads
    if batch is None or batch.final or entry is None:
        lane_key = keys.staging("dicom", tenant, file_id)
        if s3.head(settings().staging_bucket, lane_key) is None:
            return None  # gone again: a twin or a cancel was faster
    last_try = any(one.receive_count >= ATTEMPTS_MAX or isinstance(one.message, queue.Continuation) for one in given)
    if not members.awaits(batch, entry, tenant, file_id, "dicom", last_try=last_try) or batch is None or entry is None:
        return None
    return Job(tenant, file_id, given, batch, entry, members.announced(batch, entry))


def _refuse_unnamed(delivery: Delivery) -> None:
    """An object in the lane whose key we never made: deleted, and told in its batch's errors."""
    message = delivery.message
    if isinstance(message, queue.ObjectCreated):
        members.note_unnamed(message.key)
    single.unwanted(delivery)


def _take_suspect(suspect: tuple[tuple[str, str], list[Delivery]]) -> None:
    """A small member that came back again and again gets a record first, so that its attempts are counted."""
    (tenant, file_id), given = suspect
    record = dynamo.find(tenant, file_id)
    if record is None and member_of(file_id) is not None:
        last_try = any(one.receive_count >= ATTEMPTS_MAX for one in given)
        record = members.take_up(tenant, file_id, "dicom", last_try=last_try, by=NAME)
        if record is None:
            return
    if record is not None and record.final:
        _finish_up(record)
    else:
        single.take(given[0], record, tenant, file_id)


def _take_bundle(job: Job) -> None:
    record = members.take_up(job.tenant, job.file_id, "dicom", last_try=False, by=NAME)
    if record is not None:
        single.take(job.deliveries[0], record, job.tenant, job.file_id)


def _name(job: Job) -> index.InstanceName:
    assert job.instance is not None
    return job.instance.study_uid, job.instance.series_uid, job.instance.sop_uid


def _noted(job: Job, known: index.Known) -> Instance:
    """The job's instance, with a warning where its study is known as another patient's."""
    assert job.instance is not None
    assert job.found is not None
    job.instance = single.with_mismatch(job.instance, job.found, known.studies.get(job.instance.study_uid))
    return job.instance


def _prepare(tenant: str, wanted: list[Job], to_put: list[Job], known: index.Known) -> set[index.SeriesName]:
    """Before anything is put: studies are there, batches know them, series are marked. The series marked here."""
    now, scale = time.time(), settings().time_scale
    studies = {job.found.study_instance_uid: job.found for job in reversed(to_put) if job.found is not None}
    for study_uid, found in studies.items():
        if study_uid not in known.studies:
            index.add_study(tenant, instances.study_of(found, now))
    for batch_id, study_uid in {(job.batch.batch_id, _name(job)[0]) for job in wanted} - known.noted:
        index.note_batch_study(tenant, batch_id, study_uid)
    described = {_name(job)[:2]: instances.series_of(job.found) for job in reversed(to_put) if job.found is not None}
    marked = set()
    for name, series in described.items():
        if counts.must_mark_before(known.series.get(name), now, scale):
            index.mark(tenant, series)
            marked.add(name)
    return marked


def _put(job: Job) -> None:
    assert job.instance is not None
    instance, head, member = job.instance, job.head, job.member
    rewritten, place = job.rewritten, job.place
    if rewritten is not None:
        key = instance.key(job.tenant)
        job.placed = settling.place(job.tenant, instance, lambda: rewritten.store(key, job.file_id, place))
        job.member = None
        return
    if member is not None:
        key = instance.key(job.tenant)
        try:
            job.placed = settling.place(job.tenant, instance, lambda: member.copy_to(key, job.file_id))
        except ContentError as error:
            job.placed = Placed(verdicts.refused(error))
        job.member = None  # and with it the bytes that were read
        return
    assert head is not None
    plan = settling.promotion_of(
        job.tenant, job.file_id, job.record.key, head.etag, head.size_bytes, instance.key(job.tenant)
    )
    job.placed = settling.place(job.tenant, instance, lambda: settling.copy_small(plan))


def _mark_after(tenant: str, jobs: list[Job]) -> set[index.SeriesName]:
    """After the puts: mark what a recount has claimed meanwhile, and bring back studies that were forgotten meanwhile.

    The series marked here.
    """
    names = {_name(job)[:2] for job in jobs}
    if not names:
        return set()
    there, studies = index.look_again(tenant, names)
    marked = {name for name in names if counts.must_mark_after(there.get(name))}
    found = {_name(job)[:2]: job.found for job in reversed(jobs) if job.found is not None}
    for name in marked:
        index.mark(tenant, instances.series_of(found[name]))
    for study_uid, one in {name[0]: one for name, one in found.items()}.items():
        if study_uid not in studies:
            index.add_study(tenant, instances.study_of(one, time.time()))
    return marked


# --- the verdict and those who are told of it ---


def _write_verdict(job: Job) -> None:
    """The member's one item; a twin's, which says the same, stays."""
    assert job.placed is not None
    now = time.time()
    etag = job.head.etag if job.head else None
    record = replace(job.record, checksums=job.checksums, etag=etag)
    if job.rewritten is not None and single.status_of(job.placed) is not State.REJECTED:
        record = rewriting.without_names(record, job.rewritten.size_bytes)
    job.record = single.verdict_of(record, job.placed, job.found, now)
    job.record = replace(job.record, bytes_read=job.bytes_read, requests=job.requests)
    if not items.put(single.compact_item(job.record), only_new=True):
        there = dynamo.find(job.tenant, job.file_id)
        if there is not None:
            job.record = there
    if job.record.status is not State.COMPLETED:
        counting.mark(job.tenant, job.file_id)
    logger().info(
        "file judged",
        file_id=job.file_id,
        verdict=job.placed.judged.verdict,
        bytes_read=job.bytes_read,
        requests=job.requests,
    )


def _mark_of(record: FileRecord) -> str | None:
    outcome = marks.outcome_of(record.status, record.dicom)
    return marks.mark_of(record.version, outcome) if outcome else None


def _tell_batch(jobs: list[Job]) -> None:
    verdict = {job.n: mark for job in jobs if (mark := _mark_of(job.record)) is not None}
    progress.note_verdicts(jobs[0].tenant, jobs[0].batch.batch_id, verdict)


def _tell_world(jobs: list[Job]) -> None:
    # Counted here, by one thread: two that write a metric at once would mix their lines.
    for verdict, number in Counter(job.placed.judged.verdict for job in jobs if job.placed).items():
        count("DicomFiles", number, verdict=verdict)
    announce([job.record for job in jobs])


def announce(ended: Sequence[FileRecord]) -> None:
    """Tell the bus of files that have ended; what it does not take now the sweeper tells it."""
    owed = {record.file_id: _owed(record) for record in ended if record.status in records.ANNOUNCED}
    told = [record for record in ended if record.file_id in owed]
    try:
        bus.put([announcements.file_event(record, owed[record.file_id]) for record in told])
    except TransientError as error:
        logger().warning("the sweeper will announce these files", files=len(told), code=error.code)
        for record in told:
            entry = owed[record.file_id]
            dynamo.update(
                record.tenant,
                record.file_id,
                lambda current, entry=entry: (
                    None  # type: ignore[misc]
                    if entry in current.outbox
                    else records.change(current, time.time(), outbox=(*current.outbox, entry), due_at=time.time())
                ),
            )


def _owed(record: FileRecord) -> dict[str, Any]:
    return {
        "type": records.ANNOUNCED[record.status],
        "version": record.version,
        "at": round(record.finished_at or record.updated_at, 3),
        "status": record.status.value,
    }


def _finish_up(record: FileRecord) -> None:
    """A member that has its verdict, announced once more: whatever a kill has left undone is done now."""
    batch_id, n = member_of(record.file_id) or ("", 0)
    staging = settings().staging_bucket
    single.forget_leftovers(record)
    if s3.head(staging, record.key) is None:
        return  # deleted last: everything is done
    mark = _mark_of(record)
    if mark is not None:
        if store.marks_of(record.tenant, batch_id, [manifest.hundred_of(n)]).get(n, "") < mark:
            progress.note_verdicts(record.tenant, batch_id, {n: mark})
        else:
            progress.settle_if_whole(record.tenant, batch_id, manifest.hundred_of(n))
        announce([record])
    if record.stored or record.status is State.DELETED:
        s3.delete(staging, record.key)


def _take_other(delivery: Delivery) -> None:
    message = delivery.message
    assert isinstance(message, queue.Continuation)
    if message.do == "recount":
        recounting.take(message)
    else:
        take_piece(delivery, message)


# --- members of bundles ---


def take_piece(delivery: Delivery, message: queue.Continuation) -> None:
    """Take in some members of a bundle; who finishes the last of them sends the bundle to its end."""
    bundle = dynamo.find(message.tenant, message.file_id)
    piece = int((message.checkpoint or {}).get("piece", 0))
    if bundle is None or bundle.status not in work.INGEST.working or work.stage_of(bundle) != NAME:
        return
    batch_id, n = member_of(bundle.file_id) or ("", 0)
    batch = store.get(bundle.tenant, batch_id)
    found = expanding.read_piece(bundle, piece)
    known = batch.bundles.get(str(n))
    if found is None or known is None or batch.status in model.GONE:
        logger().warning("a piece of a bundle is gone", file_id=bundle.file_id, piece=piece)
        return
    kind, inside = found
    jobs = _jobs_inside(delivery, bundle, batch, kind, int(known[0]) + piece * expanding.PIECE, inside)
    for group in _in_groups(jobs):
        if delivery.seconds_left() <= 0:
            expanding.send_piece(bundle, piece)
            return
        _take_in(group)
    if expanding.is_done(bundle.tenant, batch_id, int(known[0]), int(known[1])):
        queue.send(NAME, queue.Continuation("continue", bundle.tenant, bundle.file_id, bundle.attempt))


def _jobs_inside(
    delivery: Delivery, bundle: FileRecord, batch: Batch, kind: str, first: int, inside: Sequence[Member]
) -> list[Job]:
    """The members of a piece that have no verdict yet; those whose verdict is not told of yet are told of."""
    numbers = range(first, first + len(inside))
    hundreds = sorted({manifest.hundred_of(n) for n in numbers})
    entries = store.entries_of(batch.tenant, batch.batch_id, hundreds)
    known = store.marks_of(batch.tenant, batch.batch_id, hundreds)
    there = store.members_of(batch.tenant, batch.batch_id, [n for n in numbers if not marks.is_final(known.get(n))])
    late = {n: mark for n, record in there.items() if (mark := _mark_of(record)) is not None}
    if late:
        progress.note_verdicts(batch.tenant, batch.batch_id, late)
        announce(list(there.values()))
    return [
        Job(
            batch.tenant,
            member_id(batch.batch_id, n),
            [delivery],
            batch,
            entries[n],
            members.announced(batch, entries[n]),
            inside=(bundle, kind, member),
        )
        for n, member in zip(numbers, inside, strict=True)
        if n in entries and n not in there and not marks.is_final(known.get(n))
    ]


def _in_groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Ten small members at once, large ones alone: what is held in memory stays the same."""
    small = [job for job in jobs if job.entry.size <= expanding.LARGE]
    large = [[job] for job in jobs if job.entry.size > expanding.LARGE]
    return [*(list(small[at : at + PARALLEL]) for at in range(0, len(small), PARALLEL)), *large]


def _take_in(jobs: list[Job]) -> None:
    group = _Group(_pool("member"))
    group.settle_jobs(jobs)
    for error in group.unsettled.values():
        raise error


def _grouped(jobs: Iterable[Job], key: Callable[[Job], Any]) -> list[list[Job]]:
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        groups.setdefault(key(job), []).append(job)
    return list(groups.values())
