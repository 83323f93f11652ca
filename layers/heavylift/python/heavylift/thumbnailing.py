"""thumbnail: pictures of a file in the store. A repeated event reads nothing but the record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from heavylift import dynamo, keys, queue, s3, work
from heavylift.errors import ContentError, TransientError
from heavylift.image.thumbnails import ThumbnailOptions, ThumbnailResult, make_thumbnails
from heavylift.limits import MIB
from heavylift.messages import Delivery
from heavylift.ranges import ReadAhead, drive
from heavylift.raw.thumbnails import make_raw_thumbnails
from heavylift.records import FileRecord, lease_seconds
from heavylift.settings import Settings, settings
from heavylift.sniff import Detection, detect
from heavylift.states import Event
from heavylift.telemetry import count, logger, memory_peak_bytes, memory_report
from heavylift.validation import SERVED_KINDS, finish_unserved, prove_stored
from heavylift.work import THUMBNAIL, Claim

STRAY_FENCES = 8  # five attempts, and a retry by hand or two
TIFF_THRESHOLD_MB = 50  # a TIFF is read by bands from half the general threshold on


def take(delivery: Delivery, function_memory_mb: int) -> None:
    """Settle one message of the queue ``thumbnail``."""
    record = _stored(delivery.message)
    if record is None:
        return
    if record.kind not in SERVED_KINDS:
        finish_unserved(record, THUMBNAIL.name)
        return
    lease_s = lease_seconds(delivery.timeout_s, settings().time_scale)
    answer, record = work.claim(record.tenant, record.file_id, THUMBNAIL, delivery.owner, lease_s)
    if answer is not Claim.TAKE:
        logger().info("nothing to draw", file_id=record.file_id, status=record.status.value, why=answer.value)
        return
    started = time.monotonic()
    source = s3.ObjectSource(
        settings().store_bucket,
        keys.store(record.tenant, record.file_id),
        record.size,
        record.store_etag or "",
        record.store_version_id,
    )
    try:
        found, chosen = _detection(record, source), options(settings(), function_memory_mb)
        failure: ContentError | None = None
        if found.kind == "raw":
            raw = make_raw_thumbnails(source, found, chosen, delivery.seconds_left)
            result, failure = raw.result, raw.failure
        else:
            result = make_thumbnails(source, found, chosen, delivery.seconds_left)
            failure = result.failure
        _publish(record, result, failure, source, started)
    except ContentError as error:
        _verdict(record, error, source, started)
    except TransientError as error:
        work.note_trouble(record, THUMBNAIL, error)
        raise


def options(config: Settings, function_memory_mb: int) -> ThumbnailOptions:
    """The settings of A9 as the reducer's options."""
    return ThumbnailOptions(
        budget_bytes=config.decode_budget_bytes(function_memory_mb),
        pad_color=config.pad_color or None,
        large_file_threshold_bytes=config.large_file_threshold_mb * MIB,
        tiff_threshold_bytes=min(config.large_file_threshold_mb, TIFF_THRESHOLD_MB) * MIB,
        tiff_chunk_edge=config.tiff_chunk_size,
        tiff_chunking=config.enable_tiff_chunking,
    )


def _stored(message: queue.Message) -> FileRecord | None:
    if isinstance(message, queue.Continuation):
        return dynamo.find(message.tenant, message.file_id)
    parsed = keys.parse_store(message.key)
    record = dynamo.find(*parsed) if parsed else None
    if record is None:
        logger().warning("an object in the store has no record", key=message.key)
        count("UnownedObjects")
        return None
    return prove_stored(record, THUMBNAIL.name)


def _detection(record: FileRecord, source: s3.ObjectSource) -> Detection:
    """What validate found; a file that was taken in otherwise is looked at again."""
    if record.format and record.media_type:
        return Detection(record.kind, record.format, record.media_type)
    return drive(detect(record.size, record.name), ReadAhead(source.read, record.size))


def _stage(source: s3.ObjectSource, bytes_out: int, child_peak_bytes: int, started: float) -> dict[str, Any]:
    return {
        "bytes_in": source.traffic.bytes_in,
        "bytes_out": bytes_out,
        "requests": source.traffic.requests,
        "memory_peak_bytes": memory_peak_bytes(),
        "child_memory_peak_bytes": child_peak_bytes,
        "ms": round((time.monotonic() - started) * 1000),
    }


def _publish(
    record: FileRecord,
    result: ThumbnailResult,
    failure: ContentError | None,
    source: s3.ObjectSource,
    started: float,
) -> None:
    """Pictures first, under keys with the attempt in them; then one fenced write that points at them."""
    pictures = []
    for picture in result.thumbnails:
        key = keys.thumbnail(record.tenant, record.file_id, record.fence, picture.size)
        s3.put_bytes(settings().derived_bucket, key, picture.jpeg, media_type="image/jpeg")
        pictures.append(
            {
                "size": picture.size,
                "width": picture.width,
                "height": picture.height,
                "placeholder": picture.placeholder,
                "provisional": picture.provisional,
                "key": key,
                "bytes": len(picture.jpeg),
            }
        )
    bytes_out = sum(len(picture.jpeg) for picture in result.thumbnails)
    stage = _stage(source, bytes_out, result.child_memory_peak_bytes, started)
    logger().info(
        "thumbnails made",
        file_id=record.file_id,
        decision=asdict(result.decision),
        facts=asdict(replace(result.facts, gps=None)),
        **{name: value for name, value in stage.items() if name != "memory_peak_bytes"},
        **memory_report(),
    )
    _remove_strays(record, [picture.size for picture in result.thumbnails])
    try:
        _commit(record, result, failure, pictures, stage)
    except work.LeaseLost:
        _remove(pictures)
        raise
    if failure is None:
        count("FilesCompleted", kind=record.kind)
    else:
        count("ThumbnailsRefused", code=failure.code)
    count("ThumbnailMilliseconds", stage["ms"], "Milliseconds")
    count("ThumbnailMemoryPeak", stage["child_memory_peak_bytes"], "Bytes")
    # Pictures of an earlier run that the record no longer points at.
    kept = {picture["key"] for picture in pictures}
    _remove([old for old in record.thumbnails if old["key"] not in kept])


def _remove_strays(record: FileRecord, sizes: Sequence[int]) -> None:
    """Pictures of attempts that were cut off before their write; the keys are known, no record points at them."""
    if sum(entry["event"] == Event.PROCESS.value for entry in record.events) < 2:
        return  # the first attempt: nobody can have left anything
    shown = {picture["key"] for picture in record.thumbnails}
    for fence in range(max(1, record.fence - STRAY_FENCES), record.fence):
        for size in sizes:
            key = keys.thumbnail(record.tenant, record.file_id, fence, size)
            if key not in shown:
                s3.delete(settings().derived_bucket, key)


def _remove(pictures: Sequence[Mapping[str, Any]]) -> None:
    for picture in pictures:
        s3.delete(settings().derived_bucket, picture["key"])


def _commit(
    record: FileRecord,
    result: ThumbnailResult,
    failure: ContentError | None,
    pictures: Sequence[Mapping[str, Any]],
    stage: Mapping[str, Any],
) -> None:
    work.write(
        record,
        Event.FINISH if failure is None else Event.FINISH_WITH_ERRORS,
        THUMBNAIL.name,
        thumbnails=tuple(pictures),
        thumbnail_generated=bool(pictures),
        preview_generated=any(not picture["placeholder"] for picture in pictures),
        facts=asdict(result.facts),
        decision=asdict(result.decision),
        failure=None if failure is None else work.failure_of(failure, THUMBNAIL.name, retryable=False),
        bytes_read=stage["bytes_in"],
        requests=stage["requests"],
        stages={**record.stages, THUMBNAIL.name: dict(stage)},
    )


def _verdict(record: FileRecord, error: ContentError, source: s3.ObjectSource, started: float) -> None:
    """The file's fault after promotion: it stays available, with the reason on its record."""
    logger().info("no thumbnails", file_id=record.file_id, code=error.code, facts=error.facts)
    count("ThumbnailsRefused", code=error.code)
    stage = _stage(source, 0, 0, started)
    work.write(
        record,
        Event.FINISH_WITH_ERRORS,
        THUMBNAIL.name,
        failure=work.failure_of(error, THUMBNAIL.name, retryable=False),
        bytes_read=stage["bytes_in"],
        requests=stage["requests"],
        stages={**record.stages, THUMBNAIL.name: stage},
    )
