"""The child that decodes strangers' frames: within a hard memory limit, fed by its parent, answering with pieces.

Run as ``heavylift.image.child`` runs it. It has no credentials and opens no file and no connection. Its job names files
by number; their bytes are ranges of one address space in which each has a stretch of its own. What comes back are the
contents asked for, in their order, each in pieces: samples as Explicit VR Little Endian has them, or JPEG and PNG.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from heavylift.dicom.header import scan
from heavylift.errors import ContentError, HeavyliftError
from heavylift.image.channel import Channel, ParentGone
from heavylift.ranges import Fetch, Range, ReadAhead, drive

if TYPE_CHECKING:
    from heavylift.dicom.pictures import Opened

STRETCH_BYTES: Final = 1 << 48  # of the address space, a file; S3 has no larger object
WHOLE_BYTES: Final = 1 << 20  # a file up to this length is fetched by one request: most slices of CT and MR
HEAD_BYTES: Final = 73_728  # a window of 64 KiB from wherever the dataset begins, which is asked for again
STREAM_BYTES: Final = 1 << 20  # longer ranges are fetched by several connections
PIECE_BYTES: Final = 1 << 20
# The interpreter with numpy, Pillow, pydicom and a decoder's library: measured 62 MiB, rounded up.
BASE_BYTES: Final = 80 << 20


def place_of(file: int, offset: int) -> int:
    """Where byte ``offset`` of a job's file lies in the address space."""
    return file * STRETCH_BYTES + offset


def file_of(place: int) -> tuple[int, int]:
    """The inverse."""
    return divmod(place, STRETCH_BYTES)


class Drawer:
    """One job: ``do`` is ``samples`` or ``draw``; ``wanted``: (file, frames) pairs; ``sizes``: of the files, bytes.

    ``skipping``: what cannot be drawn of a file is left out with the rest of that file, if anything else can be.
    """

    def __init__(self, channel: Channel, job: dict[str, Any]) -> None:
        self._channel = channel
        self._job = job
        self._budget = int(job["budget_bytes"]) - BASE_BYTES

    def run(self) -> None:
        """Make all that is wanted. HeavyliftError, MemoryError."""
        place, sent, failure = 0, False, None
        for file, numbers in self._job["wanted"]:
            try:
                for at, content in enumerate(self._contents(file, numbers), start=place):
                    self._send(at, content)
                    sent = True
            except ContentError as error:
                failure = error
                if not self._job.get("skipping"):
                    raise
            place += len(numbers)
        if failure is not None and not sent:
            raise failure

    def _contents(self, file: int, numbers: list[int]) -> Iterator[bytes]:
        from heavylift.dicom.pictures import read_image

        size_bytes = int(self._job["sizes"][file])
        head_bytes = size_bytes if size_bytes <= WHOLE_BYTES else HEAD_BYTES
        fetch = ReadAhead(self._fetch(file), size_bytes, head_bytes=head_bytes)
        opened = drive(read_image(scan(fetch, size_bytes, to_pixel_data=True)), fetch)
        for number in numbers:
            yield self._content(opened, number, fetch)

    def _fetch(self, file: int) -> Fetch:
        def fetch(offset: int, length: int) -> bytes:
            place = place_of(file, offset)
            if length <= STREAM_BYTES:
                return self._channel.fetch(place, length)
            data = bytearray(length)
            stream = self._channel.stream([Range(place, length)], request_bytes=STREAM_BYTES)
            stream.readinto(memoryview(data))
            stream.close()
            return bytes(data)

        return fetch

    def _content(self, opened: Opened, number: int, fetch: Fetch) -> bytes:
        from heavylift.dicom.pictures import draw, read_data, read_one, samples_of
        from heavylift.dicom.viewing import Viewport, Window

        if self._job["do"] == "samples":
            return samples_of(opened, *drive(read_data(opened, number, self._budget), fetch))
        viewport = Viewport(**self._job["viewport"]) if self._job["viewport"] else None
        # Enlarged it may be larger than the frame: as pixels twice, and encoded.
        enlarged = 9 * viewport.width * viewport.height if viewport else 0
        return draw(
            drive(read_one(opened, number, self._budget - enlarged), fetch),
            self._job["media_type"],
            window=Window(*self._job["window"]) if self._job["window"] else None,
            quality=self._job["quality"],
            viewport=viewport,
        )

    def _send(self, place: int, content: bytes) -> None:
        for start in range(0, max(1, len(content)), PIECE_BYTES):
            head = {"begins": None if start else place}
            self._channel.send_thumbnail(head, content[start : start + PIECE_BYTES])


def main() -> None:
    """Serve one job on file descriptors 0 and 1, then end."""
    from heavylift.image.render import limit_resources, peak_bytes

    started = time.monotonic()
    channel = Channel(os.dup(0), os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not reach the pipe
    try:
        job = channel.read_job()
        limit_resources(int(job["budget_bytes"]), int(job["cpu_seconds"]), int(job["parent"]))
        try:
            Drawer(channel, job).run()
        except HeavyliftError as error:
            _send_error(channel, error, peak_bytes())
            return
        except MemoryError:
            refusal = ContentError("too_large_to_decode", "the decoder ran into its memory limit")
            _send_error(channel, refusal, peak_bytes())
            return
        milliseconds = int((time.monotonic() - started) * 1000)
        channel.send_json(b"Z", {"memory_peak_bytes": peak_bytes(), "ms": milliseconds})
    except (ParentGone, BrokenPipeError):
        pass


def _send_error(channel: Channel, error: HeavyliftError, memory_peak_bytes: int) -> None:
    told = {"type": type(error).__name__, "code": error.code, "message": error.message, "facts": error.facts}
    channel.send_json(b"X", told | {"memory_peak_bytes": memory_peak_bytes})
