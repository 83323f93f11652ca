"""A ZIP or tar in a DICOM batch is taken apart: each of its members is a file of the batch.

The bundle's directory is read from ranges, its members get numbers above the manifest's and entries in it, and then
they are taken in piece by piece, each by its own message. Nothing is unpacked as a whole: a member that is stored is
read and copied where it lies, a compressed one is inflated alone. What a piece needs of the directory is an object of
ours; the numbers are kept in the batch's item before anything is written under them, so that whoever does it again
writes the same. The bundle has its verdict when all its members have theirs; then it is deleted.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

from heavylift import keys, queue, s3, work
from heavylift.batches import manifest, marks, model, store
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch, BatchStatus
from heavylift.dicom import bundles
from heavylift.dicom.bundles import Member
from heavylift.dicom.rewriting import Place
from heavylift.dicom.settling import MEDIA_TYPE, Copied
from heavylift.errors import ContentError, TransientError
from heavylift.ids import member_of
from heavylift.limits import BATCH_NUMBER_MAX, MANIFEST_PAGES_MAX, MIB, NAME_LENGTH_MAX
from heavylift.messages import Delivery
from heavylift.ranges import ReadAhead, drive
from heavylift.records import FileRecord
from heavylift.settings import settings
from heavylift.telemetry import count, logger

PIECE: Final = 50  # members of a message: half a minute of a small function, or a few seconds
READ_MAX: Final = 8 * MIB  # a member up to here is read and written; a larger one is copied inside S3
INFLATED_MAX: Final = 64 * MIB  # of a compressed member, which is inflated in memory
LARGE: Final = MIB  # members above it are taken in one at a time
HEADER_AHEAD: Final = 1_024  # of a local header; most names are shorter
_NAME: Final = "dicom_ingest"


class Unfinished(TransientError):
    """The members are under way; whoever finishes the last of them finishes the bundle."""

    def __init__(self, done: int) -> None:
        super().__init__("out_of_time", f"{done} members are done; the rest follows.", members_done=done)
        self.done = done


def take_apart(record: FileRecord, kind: str, source: s3.ObjectSource, delivery: Delivery) -> int | None:
    """Make files of a bundle's members, or see whether all of them are done: their number then, else None.

    ContentError ``corrupt``, ``limit_exceeded``, ``unsupported``; TransientError ``not_listed_yet``.
    """
    batch_id, n = member_of(record.file_id) or ("", 0)
    batch = store.get(record.tenant, batch_id)
    known = batch.bundles.get(str(n))
    if known is not None and record.progress:
        first, members = int(known[0]), int(known[1])
        missing = _unfinished_pieces(record.tenant, batch_id, first, members)
        if not missing:
            return members
    else:
        fetch = ReadAhead(source.read, record.size, blocks_max=4)
        reader = bundles.read_zip(record.size) if kind == "zip" else bundles.read_tar(record.size)
        inside = drive(reader, fetch)
        if not inside:
            raise ContentError("unsupported", "The bundle has no members.", kind="an empty bundle")
        for place in range(0, len(inside), PIECE):
            _keep_piece(record, kind, place // PIECE, inside[place : place + PIECE])
        batch, first = _reserve(batch, n, len(inside))
        _list(batch, n, first, inside)
        missing = list(range(-(-len(inside) // PIECE)))
        logger().info("bundle opened", file_id=record.file_id, members=len(inside), first=first)
        count("DicomBundlesOpened")
    # The lease goes, and the sweeper looks again: a piece whose message is lost is sent once more.
    now = time.time()
    work.write(
        record,
        None,
        _NAME,
        progress=max(record.progress, 1),
        attempt=0,
        lease_owner=None,
        lease_until=0.0,
        due_at=now + work.look_again_s(_NAME),
    )
    for piece in missing:
        send_piece(record, piece)
    return None


def send_piece(record: FileRecord, piece: int) -> None:
    """Ask for a piece of a bundle to be taken in."""
    queue.send(_NAME, queue.Continuation("chunk", record.tenant, record.file_id, 0, checkpoint={"piece": piece}))


def _reserve(batch: Batch, n: int, members: int) -> tuple[Batch, int]:
    """The numbers of a bundle's members, kept in the batch: the batch after that, and the first of them."""

    def decide(current: Batch) -> Batch | None:
        if current.status is BatchStatus.OPEN and current.unlisted and str(n) not in current.bundles:
            raise TransientError("not_listed_yet", "The manifest is not whole yet, so its last number is not known.")
        top = _top_number(current)
        if top + members > BATCH_NUMBER_MAX:
            raise ContentError("limit_exceeded", "The bundle has more members than the batch has numbers.")
        return model.with_bundle(current, n, top + 1, members, time.time())

    batch, _ = store.update(batch.tenant, batch.batch_id, decide)
    if str(n) not in batch.bundles:
        raise TransientError("record_changed", "The batch has gone meanwhile.")
    return batch, int(batch.bundles[str(n)][0])


def _top_number(batch: Batch) -> int:
    """The highest number that the manifest or a bundle has."""
    reserved = max((int(first) + int(members) - 1 for first, members in batch.bundles.values()), default=-1)
    return max(reserved, store.top_number(batch.tenant, batch.batch_id))


def _list(batch: Batch, n: int, first: int, inside: Sequence[Member]) -> None:
    """The members' entries in the manifest, by hundreds."""
    page = MANIFEST_PAGES_MAX + n
    entries = [
        Entry(first + place, one.name[-NAME_LENGTH_MAX:], one.size, None, one.path[-NAME_LENGTH_MAX:], page)
        for place, one in enumerate(inside)
    ]
    for start in range(0, len(entries), 16 * manifest.HUNDRED):
        store.keep_entries(batch.tenant, batch.batch_id, entries[start : start + 16 * manifest.HUNDRED])


# --- pieces ---


def _piece_key(record: FileRecord, piece: int) -> str:
    return keys.work(record.tenant, record.file_id, f"members-{piece:05d}.json.gz")


def _keep_piece(record: FileRecord, kind: str, piece: int, inside: Sequence[Member]) -> None:
    body = {"kind": kind, "etag": record.etag, "members": [asdict(one) for one in inside]}
    s3.put_bytes(
        settings().derived_bucket,
        _piece_key(record, piece),
        gzip.compress(json.dumps(body, ensure_ascii=False).encode(), mtime=0),
        media_type="application/gzip",
    )


def read_piece(record: FileRecord, piece: int) -> tuple[str, list[Member]] | None:
    """(kind, members) of a piece; None when it is gone, or of other bytes."""
    body = s3.read_small(settings().derived_bucket, _piece_key(record, piece))
    found = json.loads(gzip.decompress(body)) if body is not None else None
    if found is None or found["etag"] != record.etag:
        return None
    return found["kind"], [Member(**one) for one in found["members"]]


def forget_pieces(record: FileRecord, members: int) -> None:
    for piece in range(-(-members // PIECE)):
        s3.delete(settings().derived_bucket, _piece_key(record, piece))


def is_done(tenant: str, batch_id: str, first: int, members: int) -> bool:
    """Whether every member of a bundle has its verdict."""
    return not _unfinished_pieces(tenant, batch_id, first, members)


def _unfinished_pieces(tenant: str, batch_id: str, first: int, members: int) -> list[int]:
    hundreds = range(manifest.hundred_of(first), manifest.hundred_of(first + members - 1) + 1)
    known = store.marks_of(tenant, batch_id, hundreds)
    missing = {place // PIECE for place in range(members) if not marks.is_final(known.get(first + place))}
    return sorted(missing)


# --- one member ---


class MemberSource:
    """A bundle's member as an object: ranged reads of its content, and its copy into the store.

    Reads of a stored member cost a range each, the first of them brings the local header along. A compressed one is
    inflated whole when it is first asked for. ContentError ``corrupt``, ``unsupported``.
    """

    def __init__(self, source: s3.ObjectSource, kind: str, member: Member) -> None:
        self._source, self._kind, self.member = source, kind, member
        self._data_at = member.offset if kind == "tar" else -1
        self._ahead = b""
        self._whole: bytes | None = None
        if member.encrypted:
            raise ContentError("unsupported", "The member is encrypted.", kind="an encrypted member")
        if member.method not in {bundles.STORED, bundles.DEFLATED}:
            raise ContentError("unsupported", "The member is compressed otherwise.", kind="a compression of ZIP")
        if member.method == bundles.DEFLATED and member.size > INFLATED_MAX:
            raise ContentError("unsupported", "The member is too large.", kind="a compressed member above 64 MiB")

    def read(self, offset: int, length: int) -> bytes:
        if self.member.method == bundles.DEFLATED:
            return self.whole()[offset : offset + length]
        if self._data_at < 0:
            self._open(length if offset == 0 else 0)
        length = min(length, self.member.size - offset)
        if offset + length <= len(self._ahead):
            return self._ahead[offset : offset + length]
        return self._source.read(self._data_at + offset, length)

    def _open(self, length: int) -> None:
        """Find where the data begin, with the first ``length`` bytes of them in the same range."""
        block = self._source.read(self.member.offset, HEADER_AHEAD + length)
        before = bundles.local_header_bytes(block)
        self._data_at = self.member.offset + before
        if self._data_at + self.member.packed_size > self._source.size_bytes:
            raise ContentError("corrupt", "A member ends outside of its bundle.")
        self._ahead = block[before : before + self.member.packed_size] if before < len(block) else b""

    def place(self) -> Place | None:
        """Where S3 may copy of; None for a compressed member. What was read must have opened it."""
        if self.member.method != bundles.STORED or self._data_at < 0:
            return None
        return Place(self._source.bucket, self._source.key, self._source.etag, self._data_at)

    def whole(self) -> bytes:
        """The content, proven against the directory's CRC-32 where there is one."""
        if self._whole is None:
            self._whole = self._read_whole()
            if self.member.crc32 is not None and zlib.crc32(self._whole) != self.member.crc32:
                self._whole = None
                raise ContentError("corrupt", "A member's bytes have another CRC-32 than its bundle says.")
        return self._whole

    def _read_whole(self) -> bytes:
        if self.member.method == bundles.STORED:
            return self.read(0, self.member.size)
        self._open(min(self.member.packed_size, 65_536))
        inflater = zlib.decompressobj(-15)
        pieces, got = [], 0
        try:
            for block in self._packed():
                piece = inflater.decompress(block, self.member.size + 1 - got)
                pieces.append(piece)
                got += len(piece)
                if inflater.eof or got > self.member.size:
                    break
        except zlib.error:
            raise ContentError("corrupt", "A member's compressed bytes are broken.") from None
        if got != self.member.size:
            raise ContentError("corrupt", "A member has another size than its bundle says.")
        return b"".join(pieces)

    def _packed(self) -> Iterator[bytes]:
        yield self._ahead
        for at in range(len(self._ahead), self.member.packed_size, MIB):
            yield self._source.read(self._data_at + at, min(MIB, self.member.packed_size - at))

    def copy_to(self, key: str, file_id: str) -> Copied:
        """The member's copy in the store, made once. TransientError when its bundle has changed."""
        if self.member.method == bundles.STORED and self.member.size > READ_MAX:
            return self._copy_inside(key, file_id)
        bucket = settings().store_bucket
        body = self.whole()
        try:
            made = s3.put_bytes(
                bucket, key, body, media_type=MEDIA_TYPE, metadata=self._metadata(file_id), only_new=True
            )
        except s3.PreconditionFailed:
            return self._there(key)
        return Copied(made.etag, made.version_id, made.checksums.get("crc32"))

    def _metadata(self, file_id: str) -> dict[str, str]:
        return {
            "source-etag": self._source.etag,
            "source-offset": str(self.member.offset),
            "source-size": str(self.member.size),
            "file-id": file_id,
        }

    def _there(self, key: str) -> Copied:
        head = s3.head(settings().store_bucket, key)
        if head is None or head.size_bytes != self.member.size or head.metadata.get("source-etag") != self._source.etag:
            raise TransientError("record_changed", "The member's place in the store holds something else.")
        return Copied(head.etag, head.version_id, head.checksums.get("crc32"))

    def _copy_inside(self, key: str, file_id: str) -> Copied:
        """No byte through this function: parts of the bundle become the object, and S3 proves the CRC-32."""
        bucket = settings().store_bucket
        if s3.head(bucket, key) is not None:
            return self._there(key)
        if self._data_at < 0:
            self._open(0)
        upload = s3.create_multipart(
            bucket,
            key,
            checksum="CRC32",
            checksum_type="FULL_OBJECT",
            media_type=MEDIA_TYPE,
            metadata=self._metadata(file_id),
        )
        size = self.member.size
        try:
            parts = [
                s3.copy_part(
                    self._source.bucket,
                    self._source.key,
                    self._source.etag,
                    bucket,
                    key,
                    upload,
                    number,
                    self._data_at + offset,
                    min(1 << 30, size - offset),
                )
                for number, offset in enumerate(range(0, size, 1 << 30), start=1)
            ]
            crc = self.member.crc32
            made = s3.complete_multipart(
                bucket,
                key,
                upload,
                parts,
                size_bytes=size,
                checksum_type="FULL_OBJECT",
                checksum_crc32=None if crc is None else base64.b64encode(crc.to_bytes(4, "big")).decode(),
            )
        except s3.Refused as refusal:
            s3.abort_multipart(bucket, key, upload)
            raise ContentError("corrupt", "A member's bytes have another CRC-32 than its bundle says.") from refusal
        except (s3.PreconditionFailed, s3.NoSuchKey) as error:
            s3.abort_multipart(bucket, key, upload)
            raise TransientError("source_changed", "The bundle was replaced, or a twin was first.") from error
        return Copied(made.etag, made.version_id, made.checksums.get("crc32"))


def crc32_base64(member: Member) -> str | None:
    """The directory's CRC-32 as S3 writes it."""
    return None if member.crc32 is None else base64.b64encode(member.crc32.to_bytes(4, "big")).decode()
