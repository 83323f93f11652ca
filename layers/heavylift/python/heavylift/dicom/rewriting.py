"""De-identified ingest: a file as it is stored where its batch, upload or tenant asks that nobody be named in it.

The file that is judged, indexed and stored is then the copy that ``deidentify`` describes; what it is made of is read
from the upload piece by piece, and pixel data above a few MiB are copied inside S3. Twice from the same bytes the
same copy comes: a worker that comes second recognises the first one's, and a file sent twice is a duplicate.

Memory: WHOLE_MAX twice for a copy, of at most two at the same time above LARGE; and the header twice.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Final

from heavylift import dynamo, s3
from heavylift.dicom import header, instances
from heavylift.dicom.header import Header
from heavylift.dicom.instances import Identity, Instance
from heavylift.dicom.settling import MEDIA_TYPE, Copied
from heavylift.errors import ContentError, TransientError
from heavylift.limits import MIB, S3_PART_SIZE_MIN
from heavylift.ranges import Fetch, Range, ReadAhead, drive
from heavylift.records import FileRecord
from heavylift.settings import settings

WHOLE_MAX: Final = 8 * MIB  # a copy up to here is one PutObject
LARGE: Final = MIB
COPY_BYTES_MAX: Final = 1 << 30  # of one UploadPartCopy
_YES: Final = frozenset({"true", "yes", "1"})
_room = threading.BoundedSemaphore(2)  # for what is large

Piece = bytes | Range


def wanted(tenant: str, metadata: Mapping[str, Any]) -> bool:
    """Whether files are to be de-identified: ``metadata.deidentify`` says so, or DICOM_DEIDENTIFY names the tenant."""
    asked = metadata.get("deidentify")
    if asked is True or (isinstance(asked, str) and asked.strip().lower() in _YES):
        return True
    named = {one.strip() for one in settings().dicom_deidentify.split(",")}
    return tenant in named or "*" in named


def tenant_key(tenant: str) -> bytes:
    """The key of a tenant's pseudonyms; it never leaves the function. TransientError."""
    return hmac.digest(dynamo.sealing_key(), b"dicom-deidentify\0" + tenant.encode(), hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the upload lies: its bytes from ``offset`` on of an object that has this ETag."""

    bucket: str
    key: str
    etag: str
    offset: int = 0


class Rewritten:
    """The copy as a file: read like one, and stored. ``header``: its own; ``burned_in``: its pixels may tell."""

    def __init__(self, pieces: Sequence[Piece], fetch: Fetch, *, burned_in: bool, mark: str) -> None:
        self._pieces, self._fetch = tuple(pieces), fetch
        self._ends = list(accumulate(_length(piece) for piece in self._pieces))
        self.size_bytes = self._ends[-1] if self._ends else 0
        self.burned_in, self._mark = burned_in, mark
        self.header: Header = header.scan(self.read, self.size_bytes)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the copy; fewer only at its end. Holds ``length`` bytes twice."""
        out = []
        at, end = offset, min(offset + length, self.size_bytes)
        while at < end:
            place = bisect_right(self._ends, at)
            piece = self._pieces[place]
            skipped = at - (self._ends[place] - _length(piece))
            taken = min(end, self._ends[place]) - at
            out.append(self._bytes_of(_cut(piece, skipped, taken)))
            at += taken
        return out[0] if len(out) == 1 else b"".join(out)

    def _bytes_of(self, piece: Piece) -> bytes:
        if isinstance(piece, bytes):
            return piece
        data = self._fetch(piece.offset, piece.length)
        if len(data) != piece.length:
            raise ContentError("truncated", "The file ends before its content does.")
        return data

    def store(self, key: str, file_id: str, place: Place | None) -> Copied:
        """The copy in the store, made once. ``place``: from where S3 may copy; None: everything is read.

        TransientError when the upload has changed. Who is killed in between leaves an upload that S3 aborts.
        """
        if self.size_bytes <= LARGE:
            return self._put(key, file_id)
        with _room:
            return self._put(key, file_id) if self.size_bytes <= WHOLE_MAX else self._join(key, file_id, place)

    def _metadata(self, file_id: str) -> dict[str, str]:
        return {"source-mark": self._mark, "file-id": file_id}

    def _there(self, key: str) -> Copied:
        found = s3.head(settings().store_bucket, key)
        if found is None or found.size_bytes != self.size_bytes or found.metadata.get("source-mark") != self._mark:
            raise TransientError("record_changed", "The copy's place in the store holds something else.")
        return Copied(found.etag, found.version_id, found.checksums.get("crc32"))

    def _put(self, key: str, file_id: str) -> Copied:
        body, metadata = self.read(0, self.size_bytes), self._metadata(file_id)
        bucket = settings().store_bucket
        try:
            made = s3.put_bytes(bucket, key, body, media_type=MEDIA_TYPE, metadata=metadata, only_new=True)
        except s3.PreconditionFailed:
            return self._there(key)
        return Copied(made.etag, made.version_id, made.checksums.get("crc32"))

    def _join(self, key: str, file_id: str, place: Place | None) -> Copied:
        bucket = settings().store_bucket
        if s3.head(bucket, key) is not None:
            return self._there(key)
        upload = s3.create_multipart(
            bucket,
            key,
            checksum="CRC32",
            checksum_type="FULL_OBJECT",
            media_type=MEDIA_TYPE,
            metadata=self._metadata(file_id),
        )
        try:
            parts = [
                self._part(key, upload, number, pieces, place)
                for number, pieces in enumerate(parts_of(self._pieces, copied=place is not None), start=1)
            ]
            made = s3.complete_multipart(
                bucket, key, upload, parts, size_bytes=self.size_bytes, checksum_type="FULL_OBJECT"
            )
        except (s3.PreconditionFailed, s3.NoSuchKey, s3.Refused) as error:
            s3.abort_multipart(bucket, key, upload)
            raise TransientError("source_changed", "The upload was replaced, or a twin was first.") from error
        except (ContentError, TransientError):
            s3.abort_multipart(bucket, key, upload)
            raise
        return Copied(made.etag, made.version_id, made.checksums.get("crc32"))

    def _part(
        self, key: str, upload: str, number: int, pieces: Range | list[Piece], place: Place | None
    ) -> s3.PartInfo:
        bucket = settings().store_bucket
        if isinstance(pieces, Range) and place is not None:
            offset = place.offset + pieces.offset
            return s3.copy_part(place.bucket, place.key, place.etag, bucket, key, upload, number, offset, pieces.length)
        made = pieces if isinstance(pieces, list) else [pieces]
        return s3.put_part(bucket, key, upload, number, b"".join(map(self._bytes_of, made)))


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.length


def _cut(piece: Piece, start: int, length: int) -> Piece:
    if isinstance(piece, bytes):
        return piece[start : start + length]
    return Range(piece.offset + start, length)


def parts_of(pieces: Sequence[Piece], *, copied: bool = True) -> Iterator[Range | list[Piece]]:
    """The parts of a multipart upload, in order: ranges that S3 copies, and lists of pieces to be read and sent.

    Every part but the last has at least S3_PART_SIZE_MIN bytes, what is sent at most WHOLE_MAX. Pure.
    """
    hand: list[Piece] = []
    held = 0
    for piece in pieces:
        at, length = 0, _length(piece)
        while at < length:
            left = length - at
            if copied and not hand and isinstance(piece, Range) and left >= S3_PART_SIZE_MIN:
                taken = left if left <= COPY_BYTES_MAX else min(COPY_BYTES_MAX, left - S3_PART_SIZE_MIN)
                yield Range(piece.offset + at, taken)
                at += taken
                continue
            taken = min(left, S3_PART_SIZE_MIN - held)
            hand.append(_cut(piece, at, taken))
            held += taken
            at += taken
            if held == S3_PART_SIZE_MIN:
                yield hand
                hand, held = [], 0
    if hand:
        yield hand


def rewrite(fetch: Fetch, size_bytes: int, etag: str, tenant: str) -> Rewritten:
    """The de-identified copy of a file. ContentError: its own fault, and ``unsupported`` for deflated ones.

    ``fetch`` is asked in blocks of 64 KiB for the header, twice for nothing.
    """
    from heavylift.dicom.deidentify import deidentify  # pydicom's dictionary: 40 MB that others need not pay

    ahead = ReadAhead(fetch, size_bytes, blocks_max=4)
    key = tenant_key(tenant)
    try:
        copy = drive(deidentify(header.scan(ahead, size_bytes, to_pixel_data=True), key), ahead)
    except ContentError as error:
        if error.code != "unsupported_feature":
            raise
        kind = "a deflated file that is to be de-identified"
        raise ContentError("unsupported", "A deflated file cannot be de-identified.", kind=kind) from error
    # The source's own digest would tell who has the source; a keyed one tells us alone.
    mark = hmac.digest(key, f"source\0{etag}\0{size_bytes}".encode(), hashlib.sha256).hex()
    return Rewritten(copy.pieces, ahead, burned_in=copy.burned_in, mark=mark)


def instance_of(rewritten: Rewritten, file_id: str) -> Instance:
    """The instance of a copy: what tells it from others is the CRC-32 that S3 will make of it."""
    identity = Identity(rewritten.size_bytes, "")
    instance = instances.instance_of(rewritten.header, file_id, identity, time.time())
    if not rewritten.burned_in:
        return instance
    return replace(instance, warnings=tuple(sorted({*instance.warnings, "burned_in"})))


def nameless(record: FileRecord, size_bytes: int) -> dict[str, Any]:
    """What a record says instead: names of files are often patients' names, digests tell who has the original."""
    name = f"{record.file_id}.dcm"
    return {
        "name": name,
        "relative_path": None,
        "size": size_bytes,
        "size_known": True,
        "logical_id": None,
        "description": None,
        "fingerprint": None,
        "declared_sha256": None,
        "etag": None,
        "checksums": {},
    }


def without_names(record: FileRecord, size_bytes: int) -> FileRecord:
    """``nameless`` for a record that nobody has written yet."""
    return replace(record, **nameless(record, size_bytes))
