"""One part of an archive made, whatever it takes: bytes by hand, a range copied, an object of both."""

from __future__ import annotations

import mmap
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from heavylift import s3
from heavylift.archives import transfer
from heavylift.archives.layout import Block, Kind, Layout, Part, Span
from heavylift.archives.members import Source
from heavylift.archives.transfer import SourceLost, Upload
from heavylift.errors import TransientError
from heavylift.s3 import PartInfo, Traffic

READS_EACH = 8  # ranged GETs at once for one part by hand; three parts fill a 1 GB function's network and processor


class MemberFault(Exception):
    """A member cannot be archived: it is gone, another one, or not what its record says. A verdict, never retried."""

    def __init__(self, n: int, code: str, message: str) -> None:
        super().__init__(message)
        self.n = n
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a job's temporary objects and uploads lie: every key that begins with ``prefix`` is one."""

    bucket: str
    prefix: str  # ends with "/"

    def temporary(self) -> str:
        """A key that no other attempt shares: what one deletes, no other is about to copy."""
        return f"{self.prefix}t-{os.urandom(12).hex()}"

    def block(self, number: int) -> str:
        return f"{self.prefix}block-{number}"


class Held:
    """At most so many bytes in buffers at once; who wants more waits."""

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size_bytes <= self._max)
            self._held += size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held -= size_bytes
                self._changed.notify_all()


class PartMaker:
    """Makes parts of one layout; ``make`` may be called from several threads.

    MemberFault is a verdict on the whole archive; NoSuchUpload and TransientError are not.
    """

    def __init__(self, layout: Layout, place: Workplace, traffic: Traffic, readers: Executor, held: Held) -> None:
        self.layout = layout
        self.place = place
        self.traffic = traffic
        self._readers = readers
        self._held = held
        self._blocks: dict[int, Source] = {}

    def make(self, upload: Upload, part: Part) -> PartInfo:
        """The part, as S3 took it."""
        match part.kind:
            case Kind.LITERAL:
                return self._written(upload, part.number, part.start, part.end)
            case Kind.COPY:
                return self._member(upload, part.number, part.start, part.end)
            case Kind.BLOCK:
                return self._of_block(upload, part)
            case Kind.CHAINED:
                return self._joined(upload, part, lambda own: self._chained(own, part))
            case Kind.HEADED:
                return self._headed(upload, part)

    # --- pieces ---

    def _written(self, upload: Upload, number: int, start: int, end: int) -> PartInfo:
        # Memory of its own, which goes back to the system with it: the heap would keep holes of such a size.
        with self._held.taken(end - start), mmap.mmap(-1, end - start) as data:
            with memoryview(data) as view:
                self._fill_all(start, end, view)
            return transfer.write_part(upload, number, data, self.traffic)

    def _fill_all(self, start: int, end: int, view: memoryview) -> None:
        """[start, end) of the archive into ``view``, its members read by several threads at once."""
        spans, lock, at, stopped = self.layout.spans(start, end), threading.Lock(), 0, threading.Event()

        def pull() -> None:
            nonlocal at
            while True:
                with lock:
                    span = None if stopped.is_set() else next(spans, None)
                    if span is None:
                        return
                    begins, at = at, at + span.length
                with view[begins : begins + span.length] as piece:
                    if span.record:
                        piece[:] = span.record
                    else:
                        self._fill(span, piece)

        count = self.layout.member_at(end - 1) - self.layout.member_at(start) + 1
        pulling = [self._readers.submit(pull) for _ in range(min(READS_EACH, count))]
        try:
            for one in pulling:
                one.result()
        finally:
            stopped.set()
            for one in pulling:
                one.cancel()
            wait([one for one in pulling if not one.cancelled()])  # nobody writes into it after this

    def _fill(self, span: Span, piece: memoryview) -> None:
        members, n = self.layout.members, span.n
        source = members.source(n)
        if source is None:
            piece[:] = (members.content(n) or b"")[span.offset : span.offset + span.length]
            return
        try:
            transfer.read_into(source, span.offset, piece, self.traffic)
        except SourceLost as error:
            raise MemberFault(n, error.code, error.message) from error
        if span.length == members.sizes[n] and zlib.crc32(piece) != members.crc32(n):
            raise crc_fault(n, zlib.crc32(piece), members.crc32(n) or 0)

    def _member(self, upload: Upload, number: int, start: int, end: int) -> PartInfo:
        layout = self.layout
        n = layout.member_at(start)
        source = layout.members.source(n)
        if source is None:
            raise ValueError(f"member {n} is no object")
        try:
            return transfer.copy_part(
                source,
                layout.members.sizes[n],
                upload,
                number,
                start - layout.data_offset(n),
                end - start,
                self.traffic,
            )
        except SourceLost as error:
            raise MemberFault(n, error.code, error.message) from error

    # --- objects of several pieces ---

    def _chained(self, own: Upload, part: Part) -> list[PartInfo]:
        return [
            self._member(own, 1, part.start, part.split),
            self._written(own, 2, part.split, part.end),
        ]

    def _headed(self, upload: Upload, part: Part) -> PartInfo:
        """The beginning by hand and the member's rest, an object; with what is chained to it, another one."""
        head = Part(1, Kind.HEADED, part.start, part.tail)

        def beginning(own: Upload) -> list[PartInfo]:
            return [
                self._written(own, 1, part.start, part.split),
                self._member(own, 2, part.split, part.tail),
            ]

        if part.tail == part.end:
            return self._joined(upload, part, beginning)

        def with_tail(own: Upload) -> list[PartInfo]:
            return [self._joined(own, head, beginning), self._written(own, 2, part.tail, part.end)]

        return self._joined(upload, part, with_tail)

    def _joined(self, upload: Upload, part: Part, pieces: Callable[[Upload], list[PartInfo]]) -> PartInfo:
        """An object of ``pieces`` by an upload of its own, copied as ``part`` and gone again."""
        own = transfer.begin(self.place.bucket, self.place.temporary(), self.traffic)
        stored = None
        try:
            stored = transfer.join(own, pieces(own), part.size_bytes, self.traffic)
            return self._copied(Source(own.bucket, own.key, None, stored.etag), upload, part.number, 0, part.size_bytes)
        except (s3.PreconditionFailed, s3.Refused) as error:
            raise TransientError("aws_unavailable", f"S3 did not join two pieces: {error!r}.") from error
        finally:
            if stored is None:
                transfer.quietly(lambda: s3.abort_multipart(own.bucket, own.key, own.upload_id))
            transfer.quietly(lambda: self._delete(own.key))

    def _delete(self, key: str) -> None:
        self.traffic.add(requests=1)
        s3.delete(self.place.bucket, key)

    def _copied(
        self, source: Source, upload: Upload, number: int, offset: int, length: int, size_bytes: int | None = None
    ) -> PartInfo:
        """A part from a temporary object of ours; if that is gone, somebody tidied up, and it is made anew."""
        try:
            return transfer.copy_part(source, size_bytes or length, upload, number, offset, length, self.traffic)
        except SourceLost as error:
            raise TransientError("aws_unavailable", "A temporary object went before it was copied.") from error

    def _of_block(self, upload: Upload, part: Part) -> PartInfo:
        block = self.layout.blocks[part.block - 1]
        source = self._blocks.get(block.number) or self.block(block)
        if source is None:
            raise TransientError("aws_unavailable", f"Block {block.number} is not there yet.")
        return self._copied(
            source, upload, part.number, part.start - block.start, part.size_bytes, block.end - block.start
        )

    def block(self, block: Block) -> Source | None:
        """The object of a block; None when it is not there."""
        self.traffic.add(requests=1)
        found = s3.head(self.place.bucket, self.place.block(block.number))
        if found is None or found.size_bytes != block.end - block.start:
            return None
        made = Source(self.place.bucket, self.place.block(block.number), None, found.etag)
        self._blocks[block.number] = made
        return made


def crc_fault(n: int, found: int, recorded: int) -> MemberFault:
    """The bytes of member ``n`` are not those that its record tells of."""
    return MemberFault(
        n, "crc_mismatch", f"The file's bytes have the CRC-32 {found:08x}, its record says {recorded:08x}."
    )
