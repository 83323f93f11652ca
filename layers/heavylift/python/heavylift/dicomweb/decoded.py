"""Frames of stored instances, decoded or drawn by a child that this process only hands ranges to.

One of the modules that touch the world. A bomb or a decoder's crash costs an error answer, not the function; this
process holds 24 MiB of ranges in flight and what ``take`` keeps.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from heavylift import s3
from heavylift.dicom.instances import Instance
from heavylift.dicom.viewing import QUALITY, Viewport, Window
from heavylift.dicomweb import delivery, drawing
from heavylift.errors import ContentError, TransientError
from heavylift.image.child import Child
from heavylift.settings import settings
from heavylift.telemetry import logger

ENTRY: Final = "heavylift.dicomweb.drawing"

Take = Callable[[int | None, bytes], None]
"""Gets all contents in order, piece by piece; with the first one of each, which of the wished frames it is, from 0."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Frames of one instance."""

    instance: Instance
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How frames shall be drawn. ``skipping``: a frame that cannot be drawn is left out, if it is not the only one."""

    media_type: str = "image/jpeg"
    window: Window | None = None
    quality: int = QUALITY
    viewport: Viewport | None = None
    skipping: bool = False


class StoredFile:
    """An instance's bytes in the store; the first read says which object it is, later ones are pinned by that.

    ``read`` may be called from several threads. RequestError ``not_found`` where it was deleted; TransientError.
    """

    def __init__(self, tenant: str, instance: Instance) -> None:
        self.size_bytes = instance.length if instance.length is not None else instance.size - instance.offset
        self._key = instance.key(tenant)
        self._offset = instance.offset
        self._lock = threading.Lock()
        self._source: s3.ObjectSource | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``, fewer at the end."""
        length = min(length, self.size_bytes - offset)
        if length <= 0:
            return b""
        with self._lock:
            source, data = self._source, b""
            if source is None:
                source, data = self._open(offset, length)
                self._source = source
        if data:
            return data
        try:
            return source.read(self._offset + offset, length)
        except ContentError as error:
            raise delivery.gone() from error  # never overwritten: it was deleted while it was read

    @property
    def etag(self) -> str:
        """The object's, once something of it was read; "" before."""
        return self._source.etag if self._source is not None else ""

    def _open(self, offset: int, length: int) -> tuple[s3.ObjectSource, bytes]:
        bucket = settings().store_bucket
        try:
            first = s3.read_first(bucket, self._key, length, offset=self._offset + offset)
        except s3.NoSuchKey:
            raise delivery.gone() from None
        return s3.ObjectSource(bucket, self._key, first.size_bytes, first.etag), first.data


def draw(tenant: str, wishes: Sequence[Wish], how: Drawing, seconds_left: Callable[[], float], take: Take) -> None:
    """Pictures of all frames that are wished for. Errors as in ``samples``; RequestError ``invalid_parameter``."""
    job = {
        "do": "draw",
        "media_type": how.media_type,
        "window": [how.window.center, how.window.width, how.window.function] if how.window else None,
        "quality": how.quality,
        "viewport": asdict(how.viewport) if how.viewport else None,
        "skipping": how.skipping,
    }
    _run(tenant, wishes, job, seconds_left, take)


def samples(tenant: str, wish: Wish, seconds_left: Callable[[], float], take: Take) -> None:
    """The frames' samples as Explicit VR Little Endian has them.

    ContentError ``too_large_to_decode``, ``unsupported_feature``, ``corrupt``, ``truncated``, ``limit_exceeded``;
    RequestError ``not_found``; TransientError ``out_of_time``, or the store's. What ``take`` raises passes through.
    """
    _run(tenant, [wish], {"do": "samples"}, seconds_left, take)


def _run(
    tenant: str, wishes: Sequence[Wish], job: dict[str, Any], seconds_left: Callable[[], float], take: Take
) -> None:
    files = [StoredFile(tenant, wish.instance) for wish in wishes]

    def fetch(place: int, length: int) -> bytes:
        number, offset = drawing.file_of(place)
        return files[number].read(offset, length)

    job |= {
        "size_bytes": drawing.place_of(len(files), 0),  # of the address space
        "sizes": [file.size_bytes for file in files],
        "wanted": [[number, list(wish.frames)] for number, wish in enumerate(wishes)],
        "budget_bytes": settings().decode_budget_bytes(int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])),
        "cpu_seconds": max(1, math.ceil(seconds_left())) + 1,
    }
    try:
        with Child(
            job, fetch, seconds_left, entry=ENTRY, take=lambda head, piece: take(head["begins"], piece)
        ) as child:
            outcome = child.serve()
    except ContentError as error:
        error.facts.pop("child_memory_peak_bytes", None)
        raise
    except TransientError as error:
        error.facts.pop("child_memory_peak_bytes", None)
        if error.code == "out_of_memory":
            raise ContentError("too_large_to_decode", "Decoding the frame takes more memory than there is.") from error
        raise
    logger().info(
        "frames decoded",
        frames=sum(len(wish.frames) for wish in wishes),
        child_memory_peak_bytes=outcome.memory_peak_bytes,
        ms=outcome.ms,
    )
