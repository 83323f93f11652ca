"""Thumbnails of anything, in bounded memory: the parent reads, a child decodes.

The parent (a Lambda handler with its clients loaded) never holds a pixel: it serves ranges of the object to a child
that has a hard memory limit, no credentials and no network to speak of. A bomb costs a verdict, not the function.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Protocol

from heavylift.errors import ContentError, TransientError
from heavylift.image.child import Child
from heavylift.image.decision import Decision
from heavylift.image.facts import TIFF_FORMATS, ImageFacts
from heavylift.image.prefetch import CONNECTIONS, IN_FLIGHT_BYTES
from heavylift.sniff import Detection
from heavylift.tiff.bands import BAND_BYTES, CHUNK_EDGE

MIB: Final = 1 << 20
# Long work stops so much before its time is up: a band may take a second or two, and its checkpoint has to be kept.
PAUSE_S_MAX: Final = 20.0
PAUSE_SHARE: Final = 0.2
SECONDS_MAX: Final = 86_400.0  # no function runs longer; infinity is no JSON
# Formats that the child decodes; the others are refused here, without starting one.
OTHER_FORMATS: Final = frozenset(
    {"JPEG", "PNG", "WebP", "GIF", "BMP", "JP2", "J2K", "JXL", "AVIF", "HEIC", "HEIF", "PSD"}
)
DECODED_FORMATS: Final = TIFF_FORMATS | OTHER_FORMATS

__all__ = [
    "DECODED_FORMATS",
    "Decision",
    "RangeSource",
    "Thumbnail",
    "ThumbnailOptions",
    "ThumbnailResult",
    "Unfinished",
    "make_thumbnails",
]


class RangeSource(Protocol):
    """An object to read from: thread-safe, with its own retries.

    ``read`` raises TransientError, or ContentError ``source_changed`` where the object was replaced meanwhile.
    """

    size_bytes: int

    def read(self, offset: int, length: int) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailOptions:
    """``budget_bytes``: what the child may hold. Thresholds: files above them are decoded in bands where they can be.

    ``tiff_chunk_edge``: a band has at most as many rows, and as many pixels as a square of this edge.
    ``slice_seconds``: the most that one call ever has; what takes longer in one piece is refused.
    ``orientation``: how to turn the picture, whatever its own file says; None: as that says.
    """

    sizes: tuple[int, ...] = (256, 512, 1200)
    quality: int = 85
    pad_color: str | None = None
    budget_bytes: int = 824 * MIB  # MAX_MEMORY_MB - MEMORY_BUFFER_MB at their defaults
    large_file_threshold_bytes: int = 100 * MIB
    tiff_threshold_bytes: int = 50 * MIB
    tiff_chunk_edge: int = CHUNK_EDGE
    tiff_chunking: bool = True
    band_bytes: int = BAND_BYTES
    connections: int = CONNECTIONS
    in_flight_bytes: int = IN_FLIGHT_BYTES
    orientation: int | None = None
    slice_seconds: float = SECONDS_MAX


class Unfinished(TransientError):
    """Time is up between two bands. ``done``: rows behind; ``checkpoint``: what the next call goes on from."""

    def __init__(self, done: int, checkpoint: bytearray, child_memory_peak_bytes: int = 0) -> None:
        super().__init__("out_of_time", f"{done} rows are decoded; the rest follows.", rows_done=done)
        self.done = done
        self.checkpoint = checkpoint
        self.child_memory_peak_bytes = child_memory_peak_bytes


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """``size``: the edge asked for; the JPEG is ``width`` x ``height`` and never larger than the picture."""

    size: int
    width: int
    height: int
    placeholder: bool
    provisional: bool
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class ThumbnailResult:
    """What was made, how and at what cost. ``failure``: what is broken in the file beside the picture shown."""

    facts: ImageFacts
    decision: Decision
    thumbnails: tuple[Thumbnail, ...]
    child_memory_peak_bytes: int
    ms: int
    failure: ContentError | None = None


def make_thumbnails(
    source: RangeSource,
    detection: Detection,
    options: ThumbnailOptions,
    seconds_left: Callable[[], float],
    checkpoint: bytes | memoryview | None = None,
) -> ThumbnailResult:
    """Thumbnails of all sizes, from one decode.

    ``checkpoint``: work that takes long may stop with Unfinished and be taken up by another call with what that
    carries; b"" for the first. None: it is done in this call. A checkpoint of another picture or plan has no effect.

    ContentError: ``empty_file``, ``truncated``, ``corrupt``, ``unsupported_feature``, ``limit_exceeded``,
    ``too_large_to_decode``, or the source's. TransientError: ``out_of_time`` when ``seconds_left()`` reaches 0,
    ``out_of_memory`` when the child was killed or hit its limit against the estimate, or the source's.
    Memory of this process: at most ``in_flight_bytes`` and the thumbnails.
    """
    if source.size_bytes == 0:
        raise ContentError("empty_file", "the file is empty", size_bytes=0)
    if detection.format not in DECODED_FORMATS:
        raise ContentError(
            "unsupported_feature", f"no decoder for {detection.format} here yet", format=detection.format
        )
    started = time.monotonic()
    seconds = max(0.0, min(seconds_left(), SECONDS_MAX))
    job = {
        "size_bytes": source.size_bytes,
        "detection": asdict(detection),
        "options": asdict(options),
        "seconds": seconds,
        "cpu_seconds": max(1, math.ceil(seconds)) + 5,
        "checkpoint": bool(checkpoint),
        "pause_s": None if checkpoint is None else seconds - min(PAUSE_S_MAX, seconds * PAUSE_SHARE),
    }
    child = Child(
        job,
        source.read,
        seconds_left,
        checkpoint=checkpoint or b"",
        connections=options.connections,
        in_flight_bytes=options.in_flight_bytes,
    )
    with child:
        checkpoint = None  # it is with the child
        outcome = child.serve()
    if outcome.paused_at is not None:
        raise Unfinished(outcome.paused_at, outcome.checkpoint, outcome.memory_peak_bytes)
    assert outcome.facts is not None
    assert outcome.decision is not None
    return ThumbnailResult(
        ImageFacts(**outcome.facts),
        Decision(**outcome.decision),
        tuple(
            Thumbnail(head["size"], head["width"], head["height"], False, False, jpeg)
            for head, jpeg in outcome.thumbnails
        ),
        outcome.memory_peak_bytes,
        int((time.monotonic() - started) * 1000),
        outcome.flaw,
    )
