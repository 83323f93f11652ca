"""What is made of pixels and kept in the derived bucket: large bodies for a while, thumbnails as long as their file.

One of the modules that touch the world. Names follow from what is asked for and from the file, whose bytes never
change: whoever comes twice makes the same bytes, and the later one's are not needed. Whatever is made of a file is
deleted with it; a deletion that comes while something is made is noticed after it was written.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from heavylift import keys, s3
from heavylift.archives import transfer
from heavylift.archives.transfer import Upload
from heavylift.dicom import index
from heavylift.dicom.instances import Instance, Series
from heavylift.dicomweb import delivery
from heavylift.dicomweb.exchange import ANSWER_BYTES_MAX, Answer, found
from heavylift.errors import TransientError
from heavylift.limits import MIB
from heavylift.s3 import PartInfo, Traffic
from heavylift.settings import settings

PART_BYTES: Final = 8 * MIB  # above S3's least, and little beside what the function holds anyway
EDGE: Final = 256  # of a thumbnail where none is asked for
EDGES: Final = (64, 128, EDGE, 512)  # of those that are kept; other sizes are made for the one who asks
JPEG: Final = "image/jpeg"


def week() -> int:
    """The present week, as part of a large body's name: what is named today lives longer than any link to it.

    The bucket's rule deletes bodies at the first midnight after seven days; nobody is sent to one of last week.
    """
    return int(time.time() // (7 * 86_400))


def still_there(tenant: str, instance: Instance) -> bool:
    """Whether the index still has this file under the instance's UIDs."""
    now = index.get_instance(tenant, instance.study_uid, instance.series_uid, instance.sop_uid)
    return now is not None and now.file_id == instance.file_id


class AlreadyMade(Exception):
    """The body that is being made lies in its place: whoever makes it can stop."""


class Body:
    """A body that is made piece by piece: up to 4 MiB it is held, above it becomes an object under ``key``.

    A context manager: what fails leaves no upload behind, what is killed leaves one that the bucket's rule aborts.
    Memory: 4 MiB, above that 16.
    """

    def __init__(self, key: str, media_type: str) -> None:
        self._key = key
        self._media_type = media_type
        self._held: list[bytes] = []
        self._size_bytes = 0
        self._looked = False
        self._upload: Upload | None = None
        self._part: mmap.mmap | None = None
        self._filled = 0
        self._parts: list[PartInfo] = []
        self._traffic = Traffic()

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._part is not None:
            self._part.close()
        upload = self._upload
        if upload is not None and isinstance(error, Exception):
            transfer.quietly(lambda: s3.abort_multipart(upload.bucket, upload.key, upload.upload_id))

    def add(self, piece: bytes) -> None:
        """The next bytes. AlreadyMade; TransientError."""
        self._size_bytes += len(piece)
        if self._upload is None:
            self._held.append(piece)
            if self._size_bytes > ANSWER_BYTES_MAX:
                self._begin()
            return
        self._fill(piece)

    def look(self) -> None:
        """Whether the object is there already, for a body that is known to be large. AlreadyMade."""
        if s3.head(settings().derived_bucket, self._key) is not None:
            raise AlreadyMade
        self._looked = True

    def _begin(self) -> None:
        bucket = settings().derived_bucket
        if not self._looked:
            self.look()
        self._upload = transfer.begin(bucket, self._key, self._traffic, self._media_type)
        self._part = mmap.mmap(-1, PART_BYTES)  # goes back to the system with it
        for piece in self._held:
            self._fill(piece)
        self._held = []

    def _fill(self, piece: bytes) -> None:
        assert self._part is not None
        at = 0
        while at < len(piece):
            count = min(PART_BYTES - self._filled, len(piece) - at)
            self._part[self._filled : self._filled + count] = piece[at : at + count]
            self._filled += count
            at += count
            if self._filled == PART_BYTES:
                self._write(self._part)

    def _write(self, data: mmap.mmap) -> None:
        assert self._upload is not None
        try:
            self._parts.append(transfer.write_part(self._upload, len(self._parts) + 1, data, self._traffic))
        except s3.NoSuchUpload:
            raise delivery.later() from None  # somebody tidied up
        self._filled = 0

    def answer(self, still: Callable[[], bool]) -> Answer:
        """The body as an answer, or 307 to it. RequestError ``not_found`` unless it is ``still`` to be served."""
        if self._upload is None:
            return found(b"".join(self._held), self._media_type)
        if self._filled:
            assert self._part is not None
            with mmap.mmap(-1, self._filled) as last:
                last[:] = self._part[: self._filled]
                self._write(last)
        upload = self._upload
        try:
            transfer.join(upload, self._parts, self._size_bytes, self._traffic)
        except s3.PreconditionFailed:  # a twin was first
            transfer.quietly(lambda: s3.abort_multipart(upload.bucket, upload.key, upload.upload_id))
        except s3.NoSuchUpload:
            if s3.head(upload.bucket, upload.key) is None:
                raise delivery.later() from None
        except s3.Refused as error:
            raise TransientError("aws_unavailable", f"S3 did not join the parts: {error.code}.") from error
        return self.link(still)

    def link(self, still: Callable[[], bool]) -> Answer:
        """307 to the object, which is there."""
        if not still():
            s3.delete(settings().derived_bucket, self._key)
            raise delivery.gone()
        return delivery.link(self._key, self._media_type)


# --- thumbnails ---


def thumbnail(tenant: str, file_id: str, frame: int, edge: int) -> bytes | None:
    """The kept thumbnail of a frame; None when none was made yet. TransientError."""
    return s3.read_small(settings().derived_bucket, keys.dicom_thumbnail(tenant, file_id, frame, edge))


def noted_thumbnail(series: Series) -> bytes | None:
    """The kept thumbnail that stands for a series; None when none does, or its file is gone. TransientError."""
    return s3.read_small(settings().derived_bucket, series.shown_thumbnail) if series.shown_thumbnail else None


def keep_thumbnail(tenant: str, instance: Instance, frame: int, edge: int, jpeg: bytes) -> None:
    """Keep a thumbnail; a twin's, which is the same, stays. RequestError ``not_found`` where the file is gone."""
    bucket, key = settings().derived_bucket, keys.dicom_thumbnail(tenant, instance.file_id, frame, edge)
    try:
        s3.put_bytes(bucket, key, jpeg, media_type=JPEG, only_new=True)
    except s3.PreconditionFailed:
        pass
    if not still_there(tenant, instance):
        s3.delete(bucket, key)
        raise delivery.gone()


def note_series(tenant: str, series: Series, instance: Instance, frame: int) -> None:
    """Say in a series' item which thumbnail is its own, unless its instances have changed since it was read."""
    key = keys.dicom_thumbnail(tenant, instance.file_id, frame, EDGE)
    if series.shown_thumbnail != key:
        index.note_thumbnail(tenant, series, key)
