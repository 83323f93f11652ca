"""Which bytes are which part, what is still to send, how far ahead to work. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from heavylift_client.errors import AnswerError

T = TypeVar("T")
MIB = 1 << 20
# Up to here the server plans a single PUT, whose digest goes with the first request; the server's answer decides.
SINGLE_PUT_MAX_BYTES = 16 * MIB
PART_COUNT_MAX = 10_000  # S3: part numbers 1..10 000
INITIATE_FILES_MAX = 200
SIGN_PARTS_MAX = 1_000
# One initiate call: digests of the files are needed first, so a group must not take long to read ...
INITIATE_BYTES_MAX = 256 * MIB
# ... and Lambda takes 6 MB of request.
INITIATE_BODY_MAX_BYTES = 2_000_000
AHEAD_BYTES = 256 * MIB
AHEAD_PARTS_MAX = 64
DOWNLOAD_CHUNK_BYTES = 16 * MIB
DOWNLOAD_CHUNKS_MAX = 10_000  # one line of the journal each


@dataclass(frozen=True, slots=True)
class Part:
    """Part ``number`` (from 1): ``size`` bytes from byte ``offset``."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PartPlan:
    """``part_count`` parts that tile a file of ``size`` bytes; all but the last have ``part_size``."""

    size: int
    part_size: int
    part_count: int

    def part(self, number: int) -> Part:
        """Raises AnswerError for a number that is no part of this file."""
        if not 1 <= number <= self.part_count:
            raise AnswerError(f"part {number} is not one of {self.part_count}")
        offset = (number - 1) * self.part_size
        return Part(number, offset, min(self.part_size, self.size - offset))


def plan_parts(size: int, part_size: int | None, part_count: int | None) -> PartPlan:
    """The plan that a server's answer describes. Raises AnswerError if it does not tile the file."""
    if size == 0 or not part_size or (part_count == 1 and part_size >= size):
        if part_count not in (None, 0, 1):
            raise AnswerError(f"{part_count} parts for {size} bytes, but no part size")
        return PartPlan(size, max(size, 1), 1)
    if part_size < 0:
        raise AnswerError(f"part size {part_size}")
    wanted = -(-size // part_size)
    if part_count is not None and part_count != wanted:
        raise AnswerError(f"{part_count} parts of {part_size} bytes do not make {size} bytes, {wanted} would")
    if wanted > PART_COUNT_MAX:
        raise AnswerError(f"{wanted} parts are more than {PART_COUNT_MAX}")
    return PartPlan(size, part_size, wanted)


def expand(ranges: object, part_count: int) -> list[int]:
    """Part numbers of ``[[1, 57], [60, 60]]``, in order and once each. Raises AnswerError for anything else."""
    numbers: set[int] = set()
    if not isinstance(ranges, Sequence) or isinstance(ranges, str):
        raise AnswerError("ranges of parts are not a list")
    for pair in ranges:
        if (
            not isinstance(pair, Sequence)
            or isinstance(pair, str)
            or len(pair) != 2
            or not all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
            or not 1 <= pair[0] <= pair[1] <= part_count
        ):
            raise AnswerError(f"a range of parts does not lie in 1..{part_count}")
        numbers.update(range(pair[0], pair[1] + 1))
    return sorted(numbers)


@dataclass(frozen=True, slots=True)
class Received:
    """A part that the store already has, with the base64 SHA-256 that it proved on arrival."""

    part: Part
    sha256: str


def joinable(record: Mapping[str, Any], size: int) -> tuple[PartPlan, list[Received]] | None:
    """The plan of an open session and what it has received; None if this file cannot go on with it.

    ``record`` is ``GET /v1/uploads/{id}?parts=true``. A session fits if it is still open, has this size, and
    every part received has the size that the plan gives it and a digest to compare with. Whether the digests
    are those of the local file is for the caller to find out, before a single part is skipped.
    """
    if record.get("status") != "uploading" or record.get("mode") != "multipart" or record.get("size") != size:
        return None
    try:
        plan = plan_parts(size, record.get("part_size"), record.get("part_count"))
        received = []
        for entry in record.get("parts") or ():
            part = plan.part(entry["part_number"])
            if entry.get("size") != part.size or not entry.get("sha256"):
                return None
            received.append(Received(part, entry["sha256"]))
        listed = {have.part.number for have in received}
        if not set(expand(record.get("received") or (), plan.part_count)) <= listed:
            return None  # received parts of which nothing is known cannot be proven the same
    except (AnswerError, KeyError, TypeError):
        return None
    return plan, received


def parts_ahead(part_size: int, concurrency: int) -> int:
    """How many parts may be hashed or signed but not stored yet.

    Enough to sign in batches and never let a connection wait; few enough that URLs do not grow old and the
    bytes are still in the page cache when they are read for the second time.
    """
    return max(2 * concurrency, min(AHEAD_PARTS_MAX, AHEAD_BYTES // max(1, part_size)))


@dataclass(frozen=True, slots=True)
class Weight:
    """What one file adds to a group for one initiate call."""

    hashed_bytes: int
    body_bytes: int


def group_is_full(weights: Sequence[Weight], following: Weight | None = None) -> bool:
    """Whether a group should be sent now (``following`` None) or before ``following`` joins it."""
    if following is None:
        return len(weights) >= INITIATE_FILES_MAX or sum(w.hashed_bytes for w in weights) >= INITIATE_BYTES_MAX
    return bool(weights) and sum(w.body_bytes for w in weights) + following.body_bytes > INITIATE_BODY_MAX_BYTES


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Two halves, the first never empty: how one entry that spoils a whole call is found."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]


def chunks(size: int, chunk_size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) pieces that tile ``size`` bytes."""
    for offset in range(0, size, chunk_size):
        yield offset, min(chunk_size, size - offset)


def download_chunk_size(size: int) -> int:
    """16 MiB, or what keeps a download within 10,000 chunks (whole MiB)."""
    return max(DOWNLOAD_CHUNK_BYTES, -(-size // (DOWNLOAD_CHUNKS_MAX * MIB)) * MIB)


def still_to_fetch(
    size: int, chunk_size: int, have: Mapping[int, int], sound: Callable[[int, int], bool] | None = None
) -> list[tuple[int, int]]:
    """The chunks of a download that are not there yet.

    ``have`` maps the offset of each finished chunk to its CRC-32; ``sound(offset, crc)`` re-reads one.
    """
    return [
        (offset, length)
        for offset, length in chunks(size, chunk_size)
        if offset not in have or (sound is not None and not sound(offset, have[offset]))
    ]
