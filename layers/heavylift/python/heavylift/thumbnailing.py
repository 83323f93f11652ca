"""thumbnail: pictures of a file in the store. A repeated event reads nothing but the record."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from heavylift import dynamo, keys, queue, s3, work
from heavylift.errors import ContentError, TransientError
from heavylift.image.thumbnails import SECONDS_MAX, ThumbnailOptions, ThumbnailResult, Unfinished, make_thumbnails
from heavylift.limits import MIB
from heavylift.messages import Delivery, reserve_s
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
CHECKPOINT_BYTES_MAX = 64 * MIB  # small rows of three float channels at most; those of a usual picture are 10 MiB
_CHECKPOINT = "picture"
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
    hop = delivery.message.hop if isinstance(delivery.message, queue.Continuation) else 0
    answer, record = work.claim(record.tenant, record.file_id, THUMBNAIL, delivery.owner, lease_s, hop=hop)
    if answer is not Claim.TAKE:
        logger().info("nothing to draw", file_id=record.file_id, status=record.status.value, why=answer.value)
        return
    run = _Run(record, time.monotonic())
    source = run.source
    try:
        found = _detection(record, source)
        chosen = options(settings(), function_memory_mb, delivery.timeout_s)
        failure: ContentError | None = None
        if found.kind == "raw":
            raw = make_raw_thumbnails(source, found, chosen, delivery.seconds_left)
            result, failure = raw.result, raw.failure
        else:
            result = make_thumbnails(source, found, chosen, delivery.seconds_left, run.resume())
            failure = result.failure
        _publish(run, result, failure)
    except Unfinished as pause:
        run.keep(pause)
        work.hand_on(record, THUMBNAIL, delivery.message, pause.done)
    except ContentError as error:
        _verdict(run, error)
    except TransientError as error:
        work.note_trouble(record, THUMBNAIL, error)
        raise


class _Run:
    """One slice of a file's work: its source, what the slices before it have cost, and the checkpoint between them.

    The checkpoint is an object of ours. Whoever writes it late or twice writes what is true of its own slices: going
    on from an older one costs time and changes nothing.
    """

    def __init__(self, record: FileRecord, started: float) -> None:
        self.record = record
        self.source = s3.ObjectSource(
            settings().store_bucket,
            keys.store(record.tenant, record.file_id),
            record.size,
            record.store_etag or "",
            record.store_version_id,
        )
        self._started = started
        self._child_peak_bytes = 0
        self._ms_before = 0
        self.resumed = False

    @property
    def _key(self) -> str:
        return keys.work(self.record.tenant, self.record.file_id, _CHECKPOINT)

    def resume(self) -> bytes | memoryview:
        """The picture's part of the checkpoint of an earlier slice of these very bytes; b"" to begin."""
        if self.record.progress == 0 and self.record.attempt < 2:
            return b""  # nobody can have left one; an attempt that was killed behind its checkpoint did
        body = s3.read_small(settings().derived_bucket, self._key, size_max=CHECKPOINT_BYTES_MAX)
        if body is None:
            return b""
        length = int.from_bytes(body[:4], "big")
        head = json.loads(body[4 : 4 + length])
        if head["etag"] != self.record.store_etag or head["version_id"] != self.record.store_version_id:
            return b""
        self.resumed = True
        self.source.traffic.add(requests=head["requests"], bytes_in=head["bytes_in"])
        self._child_peak_bytes, self._ms_before = head["child_memory_peak_bytes"], head["ms"]
        return memoryview(body)[4 + length :]

    def keep(self, pause: Unfinished) -> None:
        """Write the checkpoint. TransientError: the slice is lost, and the next attempt goes on from the one before."""
        stage = self.stage(0, pause.child_memory_peak_bytes)
        head = {
            "etag": self.record.store_etag,
            "version_id": self.record.store_version_id,
            "requests": stage["requests"],
            "bytes_in": stage["bytes_in"],
            "child_memory_peak_bytes": stage["child_memory_peak_bytes"],
            "ms": stage["ms"],
        }
        text = json.dumps(head).encode()
        body = pause.checkpoint
        body[:0] = len(text).to_bytes(4, "big") + text  # in place: it may be 20 MiB
        s3.put_bytes(settings().derived_bucket, self._key, body, media_type="application/octet-stream")
        logger().info("a slice ends", file_id=self.record.file_id, rows_done=pause.done, checkpoint_bytes=len(body))
        count("ThumbnailSlices")

    def forget(self) -> None:
        """The work has ended: nobody needs the checkpoint. A kill before this leaves it to the bucket's rule."""
        if self.resumed:
            s3.delete(settings().derived_bucket, self._key)

    def stage(self, bytes_out: int, child_peak_bytes: int) -> dict[str, Any]:
        """What the work has cost, earlier slices included."""
        return {
            "bytes_in": self.source.traffic.bytes_in,
            "bytes_out": bytes_out,
            "requests": self.source.traffic.requests,
            "memory_peak_bytes": memory_peak_bytes(),
            "child_memory_peak_bytes": max(child_peak_bytes, self._child_peak_bytes),
            "ms": self._ms_before + round((time.monotonic() - self._started) * 1000),
        }


def options(config: Settings, function_memory_mb: int, timeout_s: float = math.inf) -> ThumbnailOptions:
    """The settings of A9 as the reducer's options; ``timeout_s`` of the function."""
    return ThumbnailOptions(
        budget_bytes=config.decode_budget_bytes(function_memory_mb),
        pad_color=config.pad_color or None,
        large_file_threshold_bytes=config.large_file_threshold_mb * MIB,
        tiff_threshold_bytes=min(config.large_file_threshold_mb, TIFF_THRESHOLD_MB) * MIB,
        tiff_chunk_edge=config.tiff_chunk_size,
        tiff_chunking=config.enable_tiff_chunking,
        slice_seconds=min(SECONDS_MAX, timeout_s - reserve_s(timeout_s)),
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


def _publish(run: _Run, result: ThumbnailResult, failure: ContentError | None) -> None:
    """Pictures first, under keys with the attempt in them; then one fenced write that points at them."""
    record = run.record
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
    stage = run.stage(bytes_out, result.child_memory_peak_bytes)
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
    run.forget()
    if failure is None:
        count("FilesCompleted", kind=record.kind)
    else:
        count("ThumbnailsRefused", code=failure.code)
    count("BytesRead", stage["bytes_in"], "Bytes", kind=record.kind)
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
        progress=0,
        stages={**record.stages, THUMBNAIL.name: dict(stage)},
    )


def _verdict(run: _Run, error: ContentError) -> None:
    """The file's fault after promotion: it stays available, with the reason on its record."""
    record = run.record
    logger().info("no thumbnails", file_id=record.file_id, code=error.code, facts=error.facts)
    count("ThumbnailsRefused", code=error.code)
    stage = run.stage(0, int(error.facts.get("child_memory_peak_bytes", 0)))
    work.write(
        record,
        Event.FINISH_WITH_ERRORS,
        THUMBNAIL.name,
        failure=work.failure_of(error, THUMBNAIL.name, retryable=False),
        bytes_read=stage["bytes_in"],
        requests=stage["requests"],
        progress=0,
        stages={**record.stages, THUMBNAIL.name: stage},
    )
    run.forget()
