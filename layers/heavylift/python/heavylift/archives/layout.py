"""Where every byte of an archive lies, and in which parts S3 is told to put it there. No I/O, no clock, no chance here.

The archive is one string of bytes: for each member in order its local header and its bytes, then the central
directory. Only CRC-32s may be unknown when it is planned, and they move no byte. A plan is a list of cuts through that
string, so the bytes never depend on it; how the cuts lie decides what passes through the function:

``LITERAL``  [start, end) is written by hand: headers, small members, the directory.
``COPY``     [start, end) lies within one member: S3 copies it.
``CHAINED``  [start, split) is the end of a member and at least 5 MiB, [split, end) is written by hand. S3 takes no part
             below 5 MiB but the last of an upload; so both are made an object by an upload of their own, in which what
             is written by hand comes last, and that object is copied as one part.
``HEADED``   [start, split) by hand, at least 5 MiB; [split, tail) the rest of a member, less than that; [tail, end) by
             hand. Only an archive's first member may need it: nothing comes before its header.

At the header of a large member there are two ways on. *Direct*: the member's first bytes are written by hand with it,
until the part has 5 MiB. *Chain*: the header is put behind the end of the member before it (``CHAINED``). Direct costs
up to 5 MiB each way and no request more; chain costs five requests and no byte.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from heavylift.archives.crc import combine
from heavylift.archives.members import Members
from heavylift.archives.zip_records import (
    central_header,
    central_length,
    end_length,
    end_records,
    local_header,
    local_length,
)
from heavylift.limits import KIB, MIB, OBJECT_SIZE_MAX, PART_COUNT_MAX, S3_PART_SIZE_MAX, S3_PART_SIZE_MIN


class Kind(IntEnum):
    LITERAL = 0
    COPY = 1
    CHAINED = 2
    HEADED = 3
    BLOCK = 4
    """[start, end) of an object that holds some of the archive's parts; see ``Layout.blocks``."""


@dataclass(frozen=True, slots=True)
class Params:
    """What decides where the cuts lie; bytes unless named otherwise. Part numbers mean nothing under other values.

    ``junctions``: "direct", "chain", or "auto" for the cheaper one at each member.
    """

    part_min: int = S3_PART_SIZE_MIN
    part_max: int = S3_PART_SIZE_MAX
    part_count_max: int = PART_COUNT_MAX
    literal_target: int = 8 * MIB  # large enough that few are needed, small enough to hold three at once
    copy_target: int = 128 * MIB  # S3 copies it in a second, sixteen at once; doubled while there are too many parts
    chained_whole_max: int = 64 * MIB  # a longer end is copied as parts of its own but for its last 5 MiB
    by_hand_share: int = 100  # auto: by hand what is at most a hundredth of the member, so at most 10 MB of each GB
    block_parts: int = 1_000  # of an archive of too many parts; one page of ListParts
    read_whole_max: int = 256 * KIB  # to learn a CRC-32: up to here one GET is less than the three requests of a copy
    junctions: str = "auto"

    def __post_init__(self) -> None:
        if self.junctions not in {"auto", "direct", "chain"}:
            raise ValueError(self.junctions)
        if self.copy_target < 2 * self.part_min or self.chained_whole_max < 2 * self.part_min:
            raise ValueError("equal shares of a range could fall below the smallest part")
        if self.literal_target < self.part_min:
            raise ValueError("a literal part must be a part")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload; ``number`` counts from 1 within it. Offsets are the archive's.

    ``split``, ``tail``: see the module; ``block``: of a BLOCK, the object that the range is copied from.
    """

    number: int
    kind: Kind
    start: int
    end: int
    split: int = 0
    tail: int = 0
    block: int = 0

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    @property
    def literal_bytes(self) -> int:
        """What of it passes through the function."""
        match self.kind:
            case Kind.LITERAL:
                return self.end - self.start
            case Kind.CHAINED:
                return self.end - self.split
            case Kind.HEADED:
                return self.split - self.start + self.end - self.tail
        return 0


@dataclass(frozen=True, slots=True)
class Block:
    """Parts [first, stop) of the plan, made an object by themselves: bytes [start, end) of the archive."""

    number: int
    first: int
    stop: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of what is written by hand: ``data`` [offset, offset + length) of member ``n``, or records as bytes."""

    length: int
    n: int = -1
    offset: int = 0
    record: bytes = b""


class TooLarge(ValueError):
    """S3 has no object of that size."""


class _Cuts:
    """Parts as they are found, by columns; ``copy`` ranges are shared out once the number of parts is known."""

    def __init__(self) -> None:
        self.kinds = bytearray()
        self.ends = array("Q")
        self.splits = array("Q")
        self.tails: dict[int, int] = {}

    def add(self, kind: Kind, end: int, split: int = 0, tail: int = 0) -> None:
        if tail:
            self.tails[len(self.ends)] = tail
        self.kinds.append(kind)
        self.ends.append(end)
        self.splits.append(split)

    def __len__(self) -> int:
        return len(self.ends)


class Layout:
    """A planned archive. Holds some 25 bytes a member and 17 a part; reading it is safe from several threads."""

    def __init__(
        self, members: Members, params: Params, offsets: array[int], central_ends: array[int], cuts: _Cuts
    ) -> None:
        self.members = members
        self.params = params
        self.offsets = offsets
        self.central_offset: int = central_ends[0]
        self._central_ends = central_ends
        self.size_bytes = central_ends[-1] + end_length(
            len(members), central_ends[0], central_ends[-1] - central_ends[0]
        )
        self._cuts = cuts

    # --- parts ---

    @property
    def part_count(self) -> int:
        """Parts of the plan, whichever upload they are of."""
        return len(self._cuts)

    def part(self, index: int, first: int = 0, number: int = 1) -> Part:
        """The plan's part ``index`` (from 0), as that of an upload whose part ``number`` is the plan's ``first``."""
        cuts = self._cuts
        start = cuts.ends[index - 1] if index else 0
        return Part(
            number + index - first,
            Kind(cuts.kinds[index]),
            start,
            cuts.ends[index],
            cuts.splits[index],
            cuts.tails.get(index, 0),
        )

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The objects that are made first where one upload's parts do not suffice; none where they do.

        As few as do, from the archive's beginning, for their bytes are copied once more. TooLarge.
        """
        params, found = self.params, list[Block]()
        parts, first = self.part_count, 0
        while parts > params.part_count_max:
            stop = min(first + params.block_parts, self.part_count - 1)  # the last part may be a small one
            if stop - first < 2:
                raise TooLarge(f"{self.size_bytes} bytes are more than {params.part_count_max} parts hold")
            start, end = self._cuts.ends[first - 1] if first else 0, self._cuts.ends[stop - 1]
            found.append(Block(len(found) + 1, first, stop, start, end))
            parts += _shares(end - start, params.part_max) - (stop - first)
            first = stop
        return tuple(found)

    def parts_of_block(self, block: Block) -> Iterator[Part]:
        return (self.part(index, block.first) for index in range(block.first, block.stop))

    def parts_of_archive(self) -> Iterator[Part]:
        """The parts of the archive's own upload."""
        number, first = 1, 0
        for block in self.blocks:
            for start, end in _ranges(block.start, block.end, self.params.part_max):
                yield Part(number, Kind.BLOCK, start, end, block=block.number)
                number += 1
            first = block.stop
        for index in range(first, self.part_count):
            yield self.part(index, first, number)

    @property
    def literal_bytes(self) -> int:
        """What passes through the function, each way, but for small members read once to learn their CRC-32."""
        return sum(self.part(index).literal_bytes for index in range(self.part_count))

    # --- bytes ---

    def member_at(self, position: int) -> int:
        """The member whose header or bytes lie at ``position``."""
        return bisect_right(self.offsets, position) - 1

    def members_ended(self, start: int, end: int) -> int:
        """How many members have their last byte in [start, end)."""
        ended = bisect_right(self.offsets, end) - bisect_right(self.offsets, start)
        return ended + (start < self.central_offset <= end and len(self.offsets) > 0)

    def header_length(self, n: int) -> int:
        members = self.members
        return local_length(members.name_length(n), members.sizes[n], members.times[n])

    def data_offset(self, n: int) -> int:
        """Where the bytes of member ``n`` begin: it can be read out of the archive by one ranged GET."""
        return self.offsets[n] + self.header_length(n)

    def header(self, n: int) -> bytes:
        """The local header of member ``n``. ValueError while its CRC-32 is unknown."""
        members = self.members
        return local_header(members.name(n), members.sizes[n], members.times[n], self._crc32(n))

    def _crc32(self, n: int) -> int:
        crc32 = self.members.crc32(n)
        if crc32 is None:
            raise ValueError(f"the CRC-32 of member {n} is unknown")
        return crc32

    def spans(self, start: int, end: int) -> Iterator[Span]:
        """What [start, end) is made of; records begin and end there. Holds one record at a time."""
        members, position = self.members, start
        n = self.member_at(start) if start < self.central_offset else len(members)
        while position < end and n < len(members):
            size, data = members.sizes[n], self.data_offset(n)
            if position < data:
                if position != self.offsets[n] or data > end:
                    raise ValueError(f"a cut through the header of member {n}")
                yield Span(data - position, n=n, offset=-1, record=self.header(n))
                position = data
            length = min(data + size, end) - position
            if length > 0:
                yield Span(length, n=n, offset=position - data)
                position += length
            n += 1
        if position < end:
            yield from self._directory(position, end)

    def _directory(self, start: int, end: int) -> Iterator[Span]:
        members, ends = self.members, self._central_ends
        n = bisect_right(ends, start) - 1
        while n < len(members) and ends[n] < end:
            if ends[n] < start or ends[n + 1] > end:
                raise ValueError(f"a cut through the directory's entry {n}")
            record = central_header(
                members.name(n),
                members.sizes[n],
                members.times[n],
                self._crc32(n),
                self.offsets[n],
                members.sizes[n - 1] if n else 0,
            )
            yield Span(len(record), n=n, offset=-1, record=record)
            n += 1
        if end > ends[-1]:
            if (max(start, ends[-1]), end) != (ends[-1], self.size_bytes):
                raise ValueError("a cut through the end records")
            record = end_records(len(members), self.central_offset, ends[-1] - self.central_offset)
            yield Span(len(record), record=record)


def _shares(length: int, share_max: int) -> int:
    return -(-length // share_max)


def _ranges(start: int, end: int, share_max: int) -> Iterator[tuple[int, int]]:
    """[start, end) in equal ranges of at most ``share_max``."""
    count = _shares(end - start, share_max)
    for k in range(count):
        yield start + (end - start) * k // count, start + (end - start) * (k + 1) // count


def plan(members: Members, params: Params | None = None) -> Layout:
    """The layout of an archive of ``members``, in their order. TooLarge. Pure; 0.3 s for 100 000 members."""
    params = params or Params()
    planner = _Planner(members, params)
    runs = planner.run()
    size = planner.position
    if size > OBJECT_SIZE_MAX:
        raise TooLarge(f"{size} bytes are more than S3 keeps in one object")
    layout = Layout(members, params, planner.offsets, planner.central_ends, _shared_out(runs, params))
    _ = layout.blocks  # TooLarge is the plan's to say, not its reader's
    return layout


def _shared_out(runs: _Cuts, params: Params) -> _Cuts:
    """``runs`` with its copies cut into ranges: as large as needed to stay within one upload's parts."""
    lengths = [end - start for start, end in _copies(runs)]
    others = len(runs) - len(lengths)
    share = params.copy_target
    while share < params.part_max and others + sum(_shares(one, share) for one in lengths) > params.part_count_max:
        share = min(2 * share, params.part_max)
    if others + sum(_shares(one, share) for one in lengths) > params.part_count_max:
        # Blocks are needed anyway, and they leave room: each range is copied in a few seconds again.
        share = max(params.copy_target, min(share, params.part_max // 4))
    cuts, start = _Cuts(), 0
    for index, end in enumerate(runs.ends):
        if runs.kinds[index] == Kind.COPY:
            for _, range_end in _ranges(start, end, share):
                cuts.add(Kind.COPY, range_end)
        else:
            cuts.add(Kind(runs.kinds[index]), end, runs.splits[index], runs.tails.get(index, 0))
        start = end
    return cuts


def _copies(runs: _Cuts) -> Iterator[tuple[int, int]]:
    start = 0
    for index, end in enumerate(runs.ends):
        if runs.kinds[index] == Kind.COPY:
            yield start, end
        start = end


class _Planner:
    """One pass over the members.

    ``copied``: from here to ``literal`` S3 copies (one member's bytes, or the HEADED beginning), not yet a part, for a
    header may yet be chained to it. ``literal``: from here to ``position`` is written by hand. ``cut``: a place within
    that, at least ``part_min`` behind its beginning, where a part may end once as much again has gathered behind it;
    so whatever large member comes next finds ``part_min`` bytes before its header.
    """

    def __init__(self, members: Members, params: Params) -> None:
        self.members, self.params = members, params
        self.cuts = _Cuts()
        self.offsets = array("Q")
        self.central_ends = array("Q")
        self.position = 0
        self.literal = 0
        self.cut = 0
        self.copied: int | None = None
        self.headed: tuple[int, int] | None = None  # (split, tail) of the HEADED beginning, while it is ``copied``

    def run(self) -> _Cuts:
        members, part_min = self.members, self.params.part_min
        for n in range(len(members)):
            size = members.sizes[n]
            self.offsets.append(self.position)
            self.position += local_length(members.name_length(n), size, members.times[n])
            if size >= part_min and members.in_s3(n) and self._copy(size):
                continue
            self.position += size
            self._grow()
        self._directory()
        self._close(last=True)
        return self.cuts

    def _copy(self, size: int) -> bool:
        """Let S3 copy the member whose header ends at ``position``; False where it must be written by hand."""
        params = self.params
        by_hand = max(0, params.part_min - (self.position - self.literal))
        if by_hand and self.copied is not None and self._chain_pays(size, by_hand):
            by_hand = 0
        headed = size - by_hand < params.part_min
        if headed and (params.junctions == "direct" or self.copied is not None):
            return False
        self.position += by_hand
        if headed:
            self.copied, self.headed = self.literal, (self.position, self.position + size - by_hand)
        else:
            self._close()
            self.copied = self.position
        self.position += size - by_hand
        self.literal = self.position
        self.cut = 0
        return True

    def _chain_pays(self, size: int, by_hand: int) -> bool:
        """Whether five more requests are the lesser price than ``by_hand`` bytes through the function, each way."""
        if self.params.junctions == "auto":
            return by_hand * self.params.by_hand_share > size
        return self.params.junctions == "chain"

    def _grow(self) -> None:
        """Something was written by hand up to ``position``, and a part may be cut there."""
        params = self.params
        if self.cut and self.position - self.cut >= params.part_min:
            end = self.position
            self.position = self.cut
            self._close()
            self.position, self.literal, self.cut = end, self.cut, 0
        length = self.position - self.literal
        if length >= params.part_min and (not self.cut or length <= params.literal_target):
            self.cut = self.position

    def _directory(self) -> None:
        members, offsets = self.members, self.offsets
        self.central_ends.append(self.position)
        before = 0
        for n in range(len(members)):
            size = members.sizes[n]
            self.position += central_length(members.name_length(n), size, members.times[n], offsets[n], before)
            before = size
            self.central_ends.append(self.position)
            self._grow()
        start = self.central_ends[0]
        self.position += end_length(len(members), start, self.central_ends[-1] - start)

    def _close(self, *, last: bool = False) -> None:
        """Make parts of all up to ``position``; what is written by hand is a part's worth, or the ``last``."""
        params, cuts = self.params, self.cuts
        by_hand = self.position - self.literal
        if self.copied is not None:
            alone = last or not 0 < by_hand < params.part_min
            end = self.literal if alone else self.position
            if self.headed:
                cuts.add(Kind.HEADED, end, *self.headed)
            elif alone:
                cuts.add(Kind.COPY, end)
            else:
                if self.literal - self.copied > params.chained_whole_max:
                    cuts.add(Kind.COPY, self.literal - params.part_min)
                cuts.add(Kind.CHAINED, end, self.literal)
            self.copied = self.headed = None
            if not alone:
                return
        if by_hand:
            cuts.add(Kind.LITERAL, self.position)


def whole_crc32(layout: Layout) -> int:
    """The CRC-32 of the whole archive from those of its members; it needs none of its parts. 1.5 s for 100 000."""
    acc, members = 0, layout.members
    for n in range(len(members)):
        acc = zlib.crc32(layout.header(n), acc)
        acc = combine(acc, members.crc32(n) or 0, members.sizes[n])
    for span in layout.spans(layout.central_offset, layout.size_bytes):
        acc = zlib.crc32(span.record, acc)
    return acc
