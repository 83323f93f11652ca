"""From a request to the fixed list of members: the files it means, their names, METS, table and tag files. I/O.

Done once for a job, by whoever holds its lease. The list is one object in ``work/``, so that every worker has the same;
until it is written nothing of the archive is. Small files that are made stand in the list itself, larger ones are
objects in ``work/`` beside it. All of it goes with the job's end.
"""

from __future__ import annotations

import base64
import errno
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import IO

from heavylift import keys, s3
from heavylift.archives import digests, ends, jobs, packages, requests, selection, store
from heavylift.archives.entries import Entry, Missing, Spool
from heavylift.archives.jobs import ArchiveJob, ArchiveStatus
from heavylift.archives.members import Members, Source
from heavylift.archives.packages import Kept, Package, Sink
from heavylift.archives.requests import Request
from heavylift.errors import ContentError, TransientError
from heavylift.limits import ARCHIVE_REUSE_S, DIGEST_READ_MAX, GIB, KIB, MIB
from heavylift.settings import settings
from heavylift.telemetry import count, logger
from heavylift.work import failure_of, first_look_s

INLINE_MAX = 64 * KIB  # a file made for the archive stands in the list up to here
LIST_BYTES_MAX = 64 * MIB  # of 100 000 members it has about 8
DISK_BYTES_MAX = 192 * MIB  # of one file that is made; two of them and the spool fit into the function's 512 MB
READ_BYTES_PER_S = 30 * MIB  # what a slice counts on when it begins to read a file for its digest
DAY_S = 86_400
_MEDIA_TYPES = {"mets": "application/xml", "table": "text/csv", "missing": "text/csv"}


class Unfinished(Exception):
    """The slice is over before the list was there; ``done`` files were read for their digests until now."""

    def __init__(self, done: int) -> None:
        super().__init__(done)
        self.done = done


# --- the request ---


def take_up(tenant: str, archive_id: str) -> ArchiveJob | None:
    """The job of a request; made here if the request is faster than its API call, or nobody's call made it.

    A request that breaks its rules is a job that has failed with ``invalid_request``. None: there is no such request.
    """
    job = store.find(tenant, archive_id)
    if job is not None:
        return job
    now = time.time()
    try:
        request = read_request(tenant, archive_id)
    except ContentError as error:
        if error.code == "request_gone":
            logger().warning("an archive was asked for whose request is gone", archive_id=archive_id)
            return None
        nameless = ArchiveJob(tenant, archive_id, f"{archive_id}.zip", created_at=now, updated_at=now, due_at=now)
        return ends.settle(fail(store.create(nameless), error))
    return store.create(requests.new_job(tenant, archive_id, request, now, now + first_look_s()))


def read_request(tenant: str, archive_id: str) -> Request:
    """The request as it lies in S3. ContentError ``request_gone``, ``invalid_request``."""
    try:
        body = s3.read_small(
            settings().derived_bucket, keys.archive_request(tenant, archive_id), size_max=requests.BYTES_MAX
        )
    except ValueError:
        raise ContentError(
            "invalid_request", f"The request is larger than {requests.BYTES_MAX} bytes.", size_max=requests.BYTES_MAX
        ) from None
    if body is None:
        raise ContentError("request_gone", "The request is no longer there.")
    return requests.parse(body)


def fail(job: ArchiveJob, error: ContentError) -> ArchiveJob:
    """The job after an error that no retry mends."""
    failure = failure_of(error, store.STAGE, retryable=False)
    return store.update(job.tenant, job.archive_id, lambda now: jobs.failed(now, failure, time.time()))


# --- the list ---


def prepare(job: ArchiveJob, seconds_left: Callable[[], float]) -> ArchiveJob:
    """The job with its list of members; at once if it has one. The caller holds its lease.

    ContentError, naming the file: ``member_missing``, ``no_sha256``; also ``not_found``, ``nothing_to_archive``,
    ``too_many_files``, ``too_much_metadata``, ``invalid_request``. Unfinished, TransientError, LeaseLost.
    Memory: about 60 MB for 100 000 files; disk: what METS, table and metadata take.
    """
    if job.list_key is not None:
        return job
    request = read_request(job.tenant, job.archive_id)
    try:
        return _prepared(job, request, seconds_left)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _too_much() from error
        raise


def _prepared(job: ArchiveJob, request: Request, seconds_left: Callable[[], float]) -> ArchiveJob:
    with ExitStack() as stack:
        spool = Spool(_scratch(stack))
        missing, learnt = _gather(job, request, spool, seconds_left)
        if missing and request.on_missing == "fail":
            raise _missing(missing)

        def open_sink(name: str) -> Sink:
            return _FileSink(_scratch(stack), job, name)

        package = packages.make(
            request.package,
            _Entries(spool, learnt),
            missing,
            label=request.logical_id or request.batch_id or request.study_uid,
            store_bucket=settings().store_bucket,
            open_sink=open_sink,
        )
        return _keep(job, request, package, len(missing))


def _scratch(stack: ExitStack) -> IO[bytes]:
    return stack.enter_context(tempfile.TemporaryFile())


@dataclass(frozen=True, slots=True)
class _Entries:
    """The spool's entries with what was read of them since."""

    spool: Spool
    learnt: dict[str, tuple[str, str | None]]

    def __iter__(self) -> Iterator[Entry]:
        for entry in self.spool:
            known = self.learnt.get(entry.file_id)
            yield replace(entry, sha256=known[0], crc32=known[1], sha256_proven=True) if known else entry


def _gather(
    job: ArchiveJob, request: Request, spool: Spool, seconds_left: Callable[[], float]
) -> tuple[list[Missing], dict[str, tuple[str, str | None]]]:
    """Everything that is meant into the spool: what is missing, and the digests that had to be read."""
    missing: list[Missing] = []
    learnt: dict[str, tuple[str, str | None]] = {}
    too_large: list[Entry] = []
    done = 0
    left_out = {str(one["file_id"]): str(one["reason"]) for one in job.left_out}
    for found in selection.select(job.tenant, request, left_out):
        if isinstance(found, Missing):
            missing.append(found)
            continue
        spool.add(found)
        if request.package != "bagit" or found.sha256 is not None:
            continue
        if found.size > DIGEST_READ_MAX:
            too_large.append(found)
        elif not too_large and not (missing and request.on_missing == "fail"):
            known = _digest(job, found, seconds_left, done)
            learnt[found.file_id] = (known.sha256 or "", known.crc32)
            done += 1
    spool.close()
    if too_large and not (missing and request.on_missing == "fail"):
        raise _no_digest(too_large)
    return missing, learnt


def _digest(job: ArchiveJob, entry: Entry, seconds_left: Callable[[], float], done: int) -> Entry:
    """Read one file for its digest. Unfinished when this slice has no time for it, unless it is the slice's first."""
    if done and seconds_left() < entry.size / READ_BYTES_PER_S:
        raise Unfinished(job.progress + done)
    source = s3.ObjectSource(settings().store_bucket, entry.key, entry.size, entry.etag, entry.version_id)
    try:
        known = digests.read(entry, source)
    except ContentError as error:
        raise TransientError("record_changed", "A file changed while it was read.", reason=error.code) from error
    finally:
        traffic = source.traffic
        store.write(job, lambda now, at: jobs.spent(now, at, bytes_in=traffic.bytes_in, requests=traffic.requests))
    digests.keep(job.tenant, known)
    return known


def _missing(missing: list[Missing]) -> ContentError:
    first = missing[0]
    named = first.path or first.file_id
    more = f" and {len(missing) - 1} more cannot be archived" if len(missing) > 1 else " cannot be archived"
    return ContentError(
        "member_missing",
        f"{named}{more}: {first.reason}.",
        file_id=first.file_id,
        member=named,
        reason=first.reason,
        missing=len(missing),
    )


def _no_digest(entries: list[Entry]) -> ContentError:
    first = entries[0]
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return ContentError(
        "no_sha256",
        f"{first.path}{more}: nobody has said the SHA-256 of the whole, and {first.size} bytes are too many to read "
        f"for it (at most {DIGEST_READ_MAX // GIB} GiB).",
        file_id=first.file_id,
        member=first.path,
        size=first.size,
    )


def _keep(job: ArchiveJob, request: Request, package: Package, missing: int) -> ArchiveJob:
    """Write the list, then say in the job where it lies. Written twice it holds the same bytes under another key."""
    list_key = keys.work(job.tenant, job.archive_id, f"{job.fence}-members")
    body = package.members.pack()
    s3.put_bytes(settings().derived_bucket, list_key, body, media_type="application/octet-stream")
    logger().info(
        "archive listed",
        archive_id=job.archive_id,
        members=len(package.members),
        bytes_total=package.bytes_total,
        missing=missing,
        list_bytes=len(body),
    )
    store.note_content(job, package.content_sha256)
    name = requests.download_name(request, job.archive_id, package.label)
    return store.write(
        job,
        lambda current, now: replace(
            jobs.listed(
                current,
                now,
                list_key=list_key,
                content_sha256=package.content_sha256,
                members=len(package.members),
                bytes_total=package.bytes_total,
                missing=missing,
                name=name,
            ),
            progress=0,
        ),
    )


def load_members(job: ArchiveJob) -> Members:
    """The list of a job that has one. ContentError ``list_gone``. Memory: 25 MB and the packed 8 for 100 000."""
    body = (
        s3.read_small(settings().derived_bucket, job.list_key or "", size_max=LIST_BYTES_MAX) if job.list_key else None
    )
    if body is None:
        raise ContentError("list_gone", "The list of the archive's members is no longer there.")
    return Members.unpack(body)


# --- the files that are made ---


class _FileSink:
    """A file being made on disk; what is small comes back as bytes, the rest becomes an object in ``work/``."""

    def __init__(self, file: IO[bytes], job: ArchiveJob, name: str) -> None:
        self._file, self._job, self._name = file, job, name
        self._digest, self._crc32, self._size = sha256(), 0, 0

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self._size += len(data)
        if self._size > DISK_BYTES_MAX:
            raise _too_much()
        self._digest.update(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        self._file.write(data)

    def close(self) -> Kept:
        found = (self._size, self._crc32, self._digest.hexdigest())
        if self._size <= INLINE_MAX:
            self._file.seek(0)
            return Kept(*found, content=self._file.read())
        # The fence keeps a slow worker from overwriting its successor's file.
        key = keys.work(self._job.tenant, self._job.archive_id, f"{self._job.fence}-{self._name}")
        made = s3.put_file(
            settings().derived_bucket,
            key,
            self._file,
            size_bytes=self._size,
            crc32=base64.b64encode(self._crc32.to_bytes(4, "big")).decode(),
            media_type=_MEDIA_TYPES.get(self._name, "text/plain"),
        )
        self._file.truncate(0)  # the disk is needed for the next
        return Kept(*found, source=Source(settings().derived_bucket, key, made.version_id, made.etag))


def _too_much() -> ContentError:
    return ContentError("too_much_metadata", f"What describes the files has more than {DISK_BYTES_MAX} bytes.")


# --- an archive that is there already ---


@dataclass(frozen=True, slots=True)
class Standing:
    """An archive of these very members that lies in S3. ``expires_at``: seconds since 1970."""

    size: int
    etag: str
    crc32: str
    expires_at: float

    @property
    def lasts(self) -> bool:
        """Whether a day of its life is left; otherwise it is made anew."""
        return self.expires_at - time.time() >= ARCHIVE_REUSE_S


def standing(job: ArchiveJob) -> Standing | None:
    """The archive that the job's members make, if it lies in S3 by now. Two requests."""
    key = keys.archive(job.tenant, job.content_sha256 or "")
    bucket = settings().derived_bucket
    head = s3.head(bucket, key)
    if head is None:
        return None
    page, _ = s3.list_objects(bucket, key, limit=1)
    at = next((one.at for one in page if one.key == key), None)
    if at is None or "crc32" not in head.checksums:
        return None
    return Standing(head.size_bytes, head.etag, head.checksums["crc32"], at + settings().archive_days * DAY_S)


def complete(job: ArchiveJob, found: Standing, *, reused: bool) -> ArchiveJob:
    """End the job with an archive that lies in S3. LeaseLost."""
    after = store.write(
        job,
        lambda current, now: jobs.completed(
            current,
            now,
            size=found.size,
            crc32=found.crc32,
            etag=found.etag,
            expires_at=found.expires_at,
            reused=reused,
        ),
    )
    if after.status is ArchiveStatus.COMPLETED:
        count("ArchivesCompleted", reused=str(reused).lower())
    return after
