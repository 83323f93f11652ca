"""Promotion: a validated object goes from staging to the store by server-side copies, exactly once.

No byte passes through the function. Up to 64 MiB one CopyObject, above it parallel part copies into an upload made
with CRC32 FULL_OBJECT; both conditions (the source is the validated one, the target is new) are S3's to check. The
target carries the source's ETag in its metadata, so that work already done is recognised after a lost answer.

Nothing here waits past the deadline: what S3 has not answered by then is left to it, and the next slice sees by
ListParts and HEAD what came of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from heavylift import s3
from heavylift.errors import ContentError, HeavyliftError, TransientError
from heavylift.limits import COPY_OBJECT_MAX, MIB, PART_COUNT_PLANNED_MAX, S3_PART_SIZE_MAX

COPY_PART_SIZE = 128 * MIB  # S3 copies a part in about a second; 16 at once keep its servers busy, not ours
COPY_PARALLEL = 16


class OutOfTime(TransientError):
    """The deadline is near; the parts that are copied stay, and the next slice goes on from them."""

    def __init__(self, parts_done: int, parts: int) -> None:
        super().__init__(
            "out_of_time",
            f"{parts_done} of {parts} parts are copied; the rest follows.",
            parts_done=parts_done,
            parts=parts,
        )
        self.parts_done = parts_done


class TargetConflict(HeavyliftError):
    """The target key holds other bytes: nothing of ours made them, so nothing of ours may replace them."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is copied where; ``metadata`` marks the target as this source's copy."""

    source_bucket: str
    source_key: str
    source_etag: str
    size_bytes: int
    target_bucket: str
    target_key: str
    media_type: str
    file_id: str

    @property
    def metadata(self) -> Mapping[str, str]:
        return {
            "source-etag": self.source_etag,
            "source-size": str(self.size_bytes),
            "file-id": self.file_id,
        }


@dataclass(frozen=True, slots=True)
class Journal:
    """What is kept of the work in between, for the attempt that comes after a kill.

    ``remember`` gets a new upload's id ("" when it is gone) before any part is copied into it; ``found`` gets the
    number of parts that an earlier attempt left, before any more are copied. What either raises ends the attempt.
    """

    remember: Callable[[str], None]
    found: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class CopySlice:
    number: int
    offset: int
    length: int


def plan_slices(size_bytes: int) -> list[CopySlice]:
    """The part copies of an object; together they tile it, every one but the last of equal size."""
    size = max(COPY_PART_SIZE, -(-size_bytes // PART_COUNT_PLANNED_MAX // MIB) * MIB)
    size = min(size, S3_PART_SIZE_MAX)
    return [
        CopySlice(number, offset, min(size, size_bytes - offset))
        for number, offset in enumerate(range(0, size_bytes, size), start=1)
    ]


def already_done(work: Promotion) -> s3.Head | None:
    """The target's head when it is this source's copy; None when there is no target. TargetConflict."""
    found = s3.head(work.target_bucket, work.target_key)
    if found is None:
        return None
    if found.size_bytes == work.size_bytes and found.metadata.get("source-etag") == work.source_etag:
        return found
    raise TargetConflict(
        "target_conflict",
        f"The store already holds another object under this key ({found.size_bytes} bytes).",
        size=found.size_bytes,
        size_expected=work.size_bytes,
    )


def promote(work: Promotion, upload_id: str | None, journal: Journal, seconds_left: Callable[[], float]) -> s3.Head:
    """Make the target and return its proven head.

    ``upload_id`` is what an earlier attempt remembered. ContentError ``source_changed`` / ``source_expired`` and
    TargetConflict are verdicts: no upload is left then, and none is left on success. OutOfTime: come back and go on.
    TransientError.
    """
    upload = _Upload(work, upload_id, journal)
    try:
        if work.size_bytes <= COPY_OBJECT_MAX:
            _copy_whole(work, seconds_left)
        else:
            upload.copy(seconds_left)
    except TargetConflict:
        upload.abort()
        raise
    except (s3.PreconditionFailed, s3.NoSuchKey, s3.NoSuchUpload) as error:
        return _what_happened(work, upload, error)
    done = already_done(work)
    if done is None:
        raise TransientError("aws_unavailable", "The copied object cannot be seen yet.")
    return done


def _what_happened(work: Promotion, upload: _Upload, error: Exception) -> s3.Head:
    """S3 refused a condition, or something is gone: the target's head if the work is done, else the verdict."""
    source = s3.head(work.source_bucket, work.source_key)
    changed = source is None or source.etag != work.source_etag
    # The abort comes before the last look: a twin that was stopped before its own completion can complete nothing after
    # it, so what is not in the store by then never will be.
    upload.abort()
    done = already_done(work)
    if done is not None:
        return done
    if source is None:
        raise ContentError("source_expired", "The uploaded object is no longer in staging.") from error
    if changed:
        raise ContentError("source_changed", "The object was replaced after it was validated.") from error
    upload.forget()
    raise TransientError("aws_unavailable", "S3 refused a condition that now holds; the copy starts anew.") from error


def _copy_whole(work: Promotion, seconds_left: Callable[[], float]) -> None:
    if seconds_left() <= 0:
        raise OutOfTime(0, 1)
    if work.size_bytes == 0:
        s3.put_bytes(
            work.target_bucket,
            work.target_key,
            b"",
            media_type=work.media_type,
            metadata=work.metadata,
            only_new=True,
        )
        return
    s3.copy_object(
        work.source_bucket,
        work.source_key,
        work.source_etag,
        work.target_bucket,
        work.target_key,
        media_type=work.media_type,
        metadata=work.metadata,
    )


class _Upload:
    """The multipart upload in the store that one attempt copies into: a remembered one, or its own."""

    def __init__(self, work: Promotion, upload_id: str | None, journal: Journal) -> None:
        self.work, self.upload_id, self.journal = work, upload_id, journal
        self.slowest_s = 0.0
        self.unanswered = 0

    def abort(self) -> None:
        """Leave nothing of it. TransientError when parts outlive it: the next attempt tries again."""
        if self.upload_id and not s3.abort_multipart(self.work.target_bucket, self.work.target_key, self.upload_id):
            raise TransientError("aws_unavailable", "Parts outlived the abort of their upload.")

    def forget(self) -> None:
        if self.upload_id:
            self.journal.remember("")
            self.upload_id = None

    def copy(self, seconds_left: Callable[[], float]) -> None:
        """Copy what is not there yet and join the parts. OutOfTime, and what the calls raise."""
        slices = plan_slices(self.work.size_bytes)
        there = self._continue(slices) if self.upload_id else {}
        if not self.upload_id and not self._create():
            return
        todo = [piece for piece in slices if piece.number not in there]
        if todo:
            there.update(self._copy_all(todo, seconds_left))
        if todo and len(there) == len(slices) - len(todo) and self.unanswered:
            # No progress, and no standstill either: the retry clock gives S3 time to end what it has begun.
            raise TransientError(
                "aws_unavailable", f"S3 did not answer {self.unanswered} part copies in time.", aws_code="Timeout"
            )
        if len(there) < len(slices) or seconds_left() <= 0:
            raise OutOfTime(len(there), len(slices))
        self._join([there[piece.number] for piece in slices], seconds_left)

    def _continue(self, slices: list[CopySlice]) -> dict[int, s3.PartInfo]:
        """The parts that are there and fit the plan; an upload that is gone is given up for a new one."""
        try:
            listed = s3.list_parts(self.work.target_bucket, self.work.target_key, self.upload_id or "")
        except s3.NoSuchUpload:
            self.upload_id = None
            return {}
        planned = {piece.number: piece.length for piece in slices}
        there = {part.number: part for part in listed if planned.get(part.number) == part.size_bytes}
        self.journal.found(len(there))
        return there

    def _create(self) -> bool:
        """A new upload, remembered. False when there is nothing to copy: the target is made already."""
        if already_done(self.work) is not None:
            return False
        self.upload_id = s3.create_multipart(
            self.work.target_bucket,
            self.work.target_key,
            checksum="CRC32",
            checksum_type="FULL_OBJECT",
            media_type=self.work.media_type,
            metadata=self.work.metadata,
        )
        try:
            self.journal.remember(self.upload_id)
        except HeavyliftError:
            # Nobody knows of it (somebody else has the lease now, or the table did not answer): it goes at once.
            with suppress(HeavyliftError):
                self.abort()
            raise
        return True

    def _copy_all(self, todo: list[CopySlice], seconds_left: Callable[[], float]) -> dict[int, s3.PartInfo]:
        """The parts that were copied in time."""

        def one(piece: CopySlice) -> s3.PartInfo | None:
            # A copy is begun only if it would end in time were it as slow as the slowest one so far.
            return self._copy_part(piece) if seconds_left() > self.slowest_s else None

        pool = ThreadPoolExecutor(COPY_PARALLEL, thread_name_prefix="copy")
        running = [pool.submit(one, piece) for piece in todo]
        try:
            ended, _ = wait(running, max(0.0, seconds_left()), FIRST_EXCEPTION)
            answers = [future.result() for future in running if future in ended]
        finally:
            _leave(pool, running, seconds_left)
        self.unanswered = sum(not future.done() for future in running)
        return {part.number: part for part in answers if part is not None}

    def _copy_part(self, piece: CopySlice) -> s3.PartInfo:
        work, started = self.work, time.monotonic()
        part = s3.copy_part(
            work.source_bucket,
            work.source_key,
            work.source_etag,
            work.target_bucket,
            work.target_key,
            self.upload_id or "",
            piece.number,
            piece.offset,
            piece.length,
        )
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        return part

    def _join(self, parts: list[s3.PartInfo], seconds_left: Callable[[], float]) -> None:
        """CompleteMultipartUpload, which may take S3 minutes: it is not waited for beyond the deadline."""
        work = self.work
        pool = ThreadPoolExecutor(1, thread_name_prefix="join")
        joining = pool.submit(
            s3.complete_multipart,
            work.target_bucket,
            work.target_key,
            self.upload_id or "",
            parts,
            size_bytes=work.size_bytes,
            checksum_type="FULL_OBJECT",
        )
        try:
            ended, _ = wait([joining], max(0.0, seconds_left()))
            if not ended:
                raise TransientError("aws_unavailable", "S3 is still joining the parts.", aws_code="Timeout")
            joining.result()
        except s3.Refused as refusal:
            # A twin may have copied a part again since it was listed: the next attempt lists them anew.
            raise TransientError(
                "aws_unavailable", f"S3 refused to join the parts: {refusal.code}.", aws_code=refusal.code
            ) from refusal
        except TransientError as error:
            if error.facts.get("aws_code") == "ConditionalRequestConflict":
                # A twin got in between. "Re-initiate the upload" (API reference, CompleteMultipartUpload), unless the
                # twin's work is ours.
                raise s3.PreconditionFailed from error
            raise
        finally:
            _leave(pool, [joining], seconds_left)


def _leave(pool: ThreadPoolExecutor, running: list[Future[Any]], seconds_left: Callable[[], float]) -> None:
    """Begin nothing more; what runs may end in time, and what does not is left to S3."""
    pool.shutdown(wait=False, cancel_futures=True)
    # A future that was cancelled before it ran never counts as done for wait().
    wait([future for future in running if not future.cancelled()], max(0.0, seconds_left()))
