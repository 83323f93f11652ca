"""CRC-32s that no record knows: asked of S3, taken from the answers of copies, and only then read for.

Promotion leaves a CRC-32 with every stored object, so that this is for objects that came into the store otherwise. A
copy's answer has the CRC-32 of the range that S3 copied; it is copied into an upload that is then aborted, so that no
byte passes through here.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from heavylift import s3
from heavylift.archives import crc, transfer
from heavylift.archives.crew import Crew, Lane
from heavylift.archives.layout import Params
from heavylift.archives.members import Members, Source
from heavylift.archives.parts import MemberFault, Workplace
from heavylift.archives.transfer import SourceLost, Upload
from heavylift.errors import TransientError
from heavylift.limits import GIB, MIB, PART_COUNT_MAX
from heavylift.s3 import Traffic

THREADS = 24  # each waits for S3
READ_EVER_MAX = GIB  # of an S3 whose copies say nothing: 13 s a GB; more would never end within a slice
_CHUNK = 1 * MIB


@dataclass(slots=True)
class _Ranges:
    """A member copied in ranges, and what is known of each; a later slice finds them by ListParts."""

    n: int
    upload: Upload
    length: int
    crcs: dict[int, int] = field(default_factory=dict)

    def count(self, size: int) -> int:
        return -(-size // self.length)


class Learner:
    """Finds the CRC-32 of members; ``found`` gets each."""

    def __init__(
        self,
        members: Members,
        place: Workplace,
        traffic: Traffic,
        seconds_left: Callable[[], float],
        found: Callable[[int, int], None],
        params: Params,
    ) -> None:
        self._members = members
        self._place = place
        self._traffic = traffic
        self._seconds_left = seconds_left
        self._found = found
        self._range_target = params.copy_target
        self._read_whole_max = params.read_whole_max
        self._scratch: Upload | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._large: list[int] = []
        self.ranges = 0
        """Ranges of members whose CRC-32 is still unknown that need not be copied again."""

    def learn(self, wanted: list[int], tick: Callable[[], None] = lambda: None) -> bool:
        """Find the CRC-32 of each of ``wanted``; False when time was short. MemberFault, TransientError."""
        asking = Crew(self._seconds_left)
        try:
            asking.run([Lane(wanted, min(THREADS, len(wanted) or 1), self._ask)], tick)
        finally:
            if self._scratch is not None:
                self._abort(self._scratch)
        return not asking.late and (not self._large or self._copy(sorted(self._large), tick))

    def _source(self, n: int) -> Source:
        source = self._members.source(n)
        if source is None:
            raise ValueError(f"member {n} is no object")
        return source

    def _ask(self, n: int) -> None:
        try:
            known = transfer.known_crc32(self._source(n), self._members.sizes[n], self._traffic)
        except SourceLost as error:
            raise MemberFault(n, error.code, error.message) from error
        if known is not None:
            self._found(n, known)
        elif self._members.sizes[n] > self._range_target:
            self._large.append(n)
        else:
            self._one((n, next(self._numbers) % PART_COUNT_MAX + 1, None))

    # --- what S3 does not keep ---

    def _scratch_upload(self) -> Upload:
        """Where members are copied whole, each over what was copied there before; the answers are all we want."""
        with self._lock:
            if self._scratch is None:
                self._scratch = transfer.begin(self._place.bucket, self._place.temporary(), self._traffic)
            return self._scratch

    def _copy(self, large: list[int], tick: Callable[[], None]) -> bool:
        copying = Crew(self._seconds_left)
        many: list[_Ranges] = []
        try:
            copying.run([Lane(self._work(large, many), THREADS, self._one)], tick)
        finally:
            for one in many:
                size = self._members.sizes[one.n]
                if len(one.crcs) < one.count(size):
                    self.ranges += len(one.crcs)
                    continue
                joined = 0
                for number in range(1, len(one.crcs) + 1):
                    joined = crc.combine(joined, one.crcs[number], min(one.length, size - (number - 1) * one.length))
                self._found(one.n, joined)
                self._abort(one.upload)
        return not copying.late

    def _abort(self, upload: Upload) -> None:
        transfer.quietly(lambda: s3.abort_multipart(upload.bucket, upload.key, upload.upload_id))

    def _work(self, large: list[int], many: list[_Ranges]) -> Iterator[tuple[int, int, _Ranges | None]]:
        """(member, part number, its ranges where it has several)."""
        for n in large:
            size = self._members.sizes[n]
            ranges = self._ranges(n, size)
            many.append(ranges)
            for number in range(1, ranges.count(size) + 1):
                if number not in ranges.crcs:
                    yield n, number, ranges

    def _ranges(self, n: int, size: int) -> _Ranges:
        key = f"{self._place.prefix}crc-{n}"
        length = max(self._range_target, -(-size // PART_COUNT_MAX))
        open_already = [one for one in transfer.open_uploads(self._place.bucket, key, self._traffic) if one.key == key]
        upload = open_already[0] if open_already else transfer.begin(self._place.bucket, key, self._traffic)
        ranges = _Ranges(n, upload, length)
        if open_already:
            for part in s3.list_parts(upload.bucket, upload.key, upload.upload_id):
                if part.crc32 and part.size_bytes == min(length, size - (part.number - 1) * length):
                    ranges.crcs[part.number] = crc.from_base64(part.crc32)
        return ranges

    def _one(self, item: tuple[int, int, _Ranges | None]) -> None:
        n, number, ranges = item
        source, size = self._source(n), self._members.sizes[n]
        try:
            if size <= self._read_whole_max:
                self._found(n, self._read(source, size))
                return
            upload = ranges.upload if ranges else self._scratch_upload()
            offset = (number - 1) * ranges.length if ranges else 0
            length = min(ranges.length, size - offset) if ranges else size
            text = transfer.copy_part(source, size, upload, number, offset, length, self._traffic).crc32
            if text is None:
                self._say_nothing(n, source, size, ranges)
            elif ranges:
                ranges.crcs[number] = crc.from_base64(text)
            else:
                self._found(n, crc.from_base64(text))
        except SourceLost as error:
            raise MemberFault(n, error.code, error.message) from error
        except s3.NoSuchUpload as error:
            raise TransientError("aws_unavailable", "A temporary upload went before it was used.") from error

    def _say_nothing(self, n: int, source: Source, size: int, ranges: _Ranges | None) -> None:
        """This S3 copies without saying a CRC-32: the bytes are read once."""
        if ranges or size > READ_EVER_MAX:
            raise MemberFault(n, "no_crc32", f"Nobody knows the CRC-32 of the file's {size} bytes.")
        self._found(n, self._read(source, size))

    def _read(self, source: Source, size: int) -> int:
        value, buffer = 0, bytearray(min(size, _CHUNK))
        for offset in range(0, size, _CHUNK):
            with memoryview(buffer)[: min(_CHUNK, size - offset)] as view:
                transfer.read_into(source, offset, view, self._traffic)
                value = zlib.crc32(view, value)
        return value
