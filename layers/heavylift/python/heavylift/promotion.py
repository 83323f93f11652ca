"""Promotion: a validated object goes from staging to the store by server-side copies, exactly once.

No byte passes through the function. Up to 64 MiB one CopyObject, above it parallel part copies into an upload made
with CRC32 FULL_OBJECT; both conditions (the source is the validated one, the target is new) are S3's to check. The
target carries the source's ETag in its metadata, so that work already done is recognised after a lost answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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


def promote(
    work: Promotion,
    upload_id: str | None,
    remember: Callable[[str], None],
    seconds_left: Callable[[], float],
) -> s3.Head:
    """Make the target and return its proven head.

    ``upload_id`` is what an earlier attempt remembered; ``remember`` keeps a new one before any part is copied, so
    that the next attempt goes on where this one was killed. ContentError ``source_changed`` / ``source_expired``,
    TargetConflict, OutOfTime (come back and go on), TransientError.
    """
    try:
        if work.size_bytes <= COPY_OBJECT_MAX:
            _copy_whole(work)
        else:
            _copy_parts(work, upload_id, remember, seconds_left)
    except (s3.PreconditionFailed, s3.NoSuchKey, s3.NoSuchUpload) as error:
        done = already_done(work)
        if done is not None:
            return done
        if isinstance(error, s3.NoSuchUpload):
            remember("")
            raise TransientError("aws_unavailable", "The copy's upload is gone; it starts anew.") from error
        source = s3.head(work.source_bucket, work.source_key)
        if source is None:
            raise ContentError("source_expired", "The uploaded object is no longer in staging.") from error
        if source.etag != work.source_etag:
            raise ContentError("source_changed", "The object was replaced after it was validated.") from error
        raise TransientError("aws_unavailable", "S3 refused a condition that now holds.") from error
    done = already_done(work)
    if done is None:
        raise TransientError("aws_unavailable", "The copied object cannot be seen yet.")
    return done


def _copy_whole(work: Promotion) -> None:
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


def _copy_parts(
    work: Promotion, upload_id: str | None, remember: Callable[[str], None], seconds_left: Callable[[], float]
) -> None:
    slices = plan_slices(work.size_bytes)
    there: dict[int, s3.PartInfo] = {}
    if upload_id:
        there = {part.number: part for part in s3.list_parts(work.target_bucket, work.target_key, upload_id)}
    else:
        upload_id = s3.create_multipart(
            work.target_bucket,
            work.target_key,
            checksum="CRC32",
            checksum_type="FULL_OBJECT",
            media_type=work.media_type,
            metadata=work.metadata,
        )
        remember(upload_id)
    open_slices = [
        piece for piece in slices if piece.number not in there or there[piece.number].size_bytes != piece.length
    ]

    def copy(piece: CopySlice) -> s3.PartInfo | None:
        if seconds_left() <= 0:
            return None
        return s3.copy_part(
            work.source_bucket,
            work.source_key,
            work.source_etag,
            work.target_bucket,
            work.target_key,
            upload_id,
            piece.number,
            piece.offset,
            piece.length,
        )

    with ThreadPoolExecutor(COPY_PARALLEL) as pool:
        for done in pool.map(copy, open_slices):
            if done is not None:
                there[done.number] = done
    if len(there) < len(slices):
        raise OutOfTime(len(there), len(slices))
    s3.complete_multipart(
        work.target_bucket,
        work.target_key,
        upload_id,
        [there[piece.number] for piece in slices],
        size_bytes=work.size_bytes,
        checksum_type="FULL_OBJECT",
    )
