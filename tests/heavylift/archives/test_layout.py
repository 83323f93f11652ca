"""Plans of archives: the same bytes however they are cut, and never a part that S3 would refuse."""

from __future__ import annotations

import io
import random
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from heavylift.archives.layout import Kind, Layout, Params, Part, TooLarge, plan, whole_crc32
from heavylift.archives.members import Member, Members, Source
from heavylift.limits import GIB, MIB, PART_COUNT_MAX, S3_PART_SIZE_MAX, S3_PART_SIZE_MIN

SMALL = Params(
    part_min=100,
    part_max=5_000,
    part_count_max=40,
    literal_target=160,
    copy_target=400,
    chained_whole_max=250,
    block_parts=8,
)
JUNCTIONS = ("auto", "direct", "chain")


class Contents:
    """The bytes of members, made up from a seed; those in S3 are looked up as S3 would."""

    def __init__(self, seed: int, count: int, sizes: tuple[int, ...]) -> None:
        chance = random.Random(seed)
        self.members = Members()
        self.data: list[bytes] = []
        for n in range(count):
            size = chance.choice(sizes)
            size += chance.randrange(-3, 4) if size > 3 else 0
            data = chance.randbytes(size)
            name = chance.choice(["x{}", "ordner/größe {}.tif", "資料/{}.dcm", "a/b/c/{}.bin"]).format(n)
            at = chance.choice([0, -5_000_000_000, 1_600_000_001, 1_763_596_800, 2**31, 9_000_000_000])
            inline = size < 60 and chance.random() < 0.3
            source = None if inline else Source("store", f"files/t/{n}", None, "e")
            content = data if inline else None
            self.members.append(Member(name, size, at, zlib.crc32(data), source, content))
            self.data.append(data)

    def literal(self, layout: Layout, start: int, end: int) -> bytes:
        pieces = []
        for span in layout.spans(start, end):
            piece = span.record or self.data[span.n][span.offset : span.offset + span.length]
            assert len(piece) == span.length
            pieces.append(piece)
        return b"".join(pieces)

    def copied(self, layout: Layout, start: int, end: int) -> bytes:
        n = layout.member_at(start)
        offset = start - layout.data_offset(n)
        assert self.members.in_s3(n)
        assert offset >= 0
        assert offset + end - start <= layout.members.sizes[n], "a copy lies within one member"
        return self.data[n][offset : offset + end - start]

    def part(self, layout: Layout, part: Part, blocks: dict[int, bytes]) -> bytes:
        params = layout.params
        match part.kind:
            case Kind.LITERAL:
                return self.literal(layout, part.start, part.end)
            case Kind.COPY:
                return self.copied(layout, part.start, part.end)
            case Kind.CHAINED:
                assert part.split - part.start >= params.part_min
                assert part.split < part.end
                return self.copied(layout, part.start, part.split) + self.literal(layout, part.split, part.end)
            case Kind.HEADED:
                assert part.split - part.start >= params.part_min
                assert 0 < part.tail - part.split < params.part_min
                head, rest = self.literal(layout, part.start, part.split), self.copied(layout, part.split, part.tail)
                return head + rest + self.literal(layout, part.tail, part.end)
            case Kind.BLOCK:
                block = layout.blocks[part.block - 1]
                return blocks[part.block][part.start - block.start : part.end - block.start]


def obeys_s3(parts: list[Part], params: Params) -> None:
    """Numbers from 1 without a gap, sizes as S3 takes them, bytes one behind the other."""
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert len(parts) <= params.part_count_max
    assert all(params.part_min <= part.size_bytes <= params.part_max for part in parts[:-1])
    assert 0 < parts[-1].size_bytes <= params.part_max
    assert all(one.end == two.start for one, two in pairwise(parts))


def built(contents: Contents, layout: Layout) -> bytes:
    """What S3 would put together."""
    blocks = {}
    for block in layout.blocks:
        parts = list(layout.parts_of_block(block))
        obeys_s3(parts, layout.params)
        assert (parts[0].start, parts[-1].end) == (block.start, block.end)
        blocks[block.number] = b"".join(contents.part(layout, part, {}) for part in parts)
    parts = list(layout.parts_of_archive())
    obeys_s3(parts, layout.params)
    assert parts[0].start == 0
    return b"".join(contents.part(layout, part, blocks) for part in parts)


def by_zipfile(contents: Contents) -> bytes:
    """The same archive written by the standard library, given the same facts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for n, member in enumerate(contents.members):
            moment = min(max(member.modified_at, 315_532_800), 4_354_819_198)
            info = zipfile.ZipInfo(contents.members.name(n).decode(), time.gmtime(moment)[:6])
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if -(2**31) <= member.modified_at < 2**31:
                info.extra = struct.pack("<2HBi", 0x5455, 5, 1, member.modified_at)
            archive.writestr(info, contents.data[n])
    return out.getvalue()


SIZES = (
    (0, 10, 50, 90),
    (100, 130, 190, 210),
    (0, 20, 120, 700, 3_000),
    (150, 99, 101, 100),
    (5_000, 9_000, 30),
)


def cases() -> Iterator[tuple[int, int, tuple[int, ...]]]:
    for seed in range(30):
        for kind, sizes in enumerate(SIZES):
            yield seed * 10 + kind, (seed * 7 + kind) % 43, sizes


def test_every_plan_makes_the_bytes_that_zipfile_writes() -> None:
    """Direct, chain, the cheaper of both, other cuts, one level or two: one archive, and S3 takes every part."""
    kinds, deep = set(), 0
    for seed, count, sizes in cases():
        contents = Contents(seed, count, sizes)
        expected = by_zipfile(contents)
        for junctions in JUNCTIONS:
            for literal_target, part_count_max in ((160, 40), (400, 400)):
                params = replace(
                    SMALL,
                    part_count_max=part_count_max,
                    literal_target=literal_target,
                    by_hand_share=100 if junctions == "auto" else 3,
                    junctions=junctions,
                )
                try:
                    layout = plan(contents.members, params)
                except TooLarge:
                    assert part_count_max == 40
                    continue
                assert built(contents, layout) == expected
                assert layout.size_bytes == len(expected)
                assert whole_crc32(layout) == zlib.crc32(expected)
                kinds |= {layout.part(index).kind for index in range(layout.part_count)}
                deep += bool(layout.blocks)

    assert kinds == {Kind.LITERAL, Kind.COPY, Kind.CHAINED, Kind.HEADED}
    assert deep > 20


def test_a_member_is_read_out_by_its_offset() -> None:
    """``data_offset`` is where the member's bytes are."""
    contents = Contents(3, 25, SIZES[2])
    layout = plan(contents.members, SMALL)
    whole = built(contents, layout)

    for n, data in enumerate(contents.data):
        assert whole[layout.data_offset(n) :][: len(data)] == data


def members_of(sizes: list[int]) -> Members:
    members = Members()
    for n, size in enumerate(sizes):
        members.append(Member(f"f/{n:06d}", size, 1_763_596_800, 0, Source("store", f"files/t/{n}", "v", "e")))
    return members


MB, GB, TB = 10**6, 10**9, 10**12


def test_little_of_large_members_passes_through_the_function() -> None:
    """Each way at most 6 MB and 20 MB a GB of members above 100 MB, 1 MB a GB of 5.3 to 100 MB, and all of smaller."""
    chance = random.Random(5)
    sets = [
        [chance.randrange(int(5.3 * MB), 10 * MB) for _ in range(120)],
        [chance.randrange(int(5.3 * MB), 100 * MB) for _ in range(120)],
        [8 * MB],
        [10_400_000],
        [chance.randrange(100 * MB, 400 * MB) for _ in range(80)],
        [80 * GB] * 300,
        [chance.choice([3 * MB, 8 * MB]) for _ in range(300)],
        [20 * MB if n % 40 == 39 else 150_000 for n in range(2_000)],
        [200_000] * 1_000 + [300 * MB, 300 * MB, 300 * MB, 700 * MB],
        [400 * MB, 200_000] * 4,
    ]
    for sizes in sets:
        layout = plan(members_of(sizes))
        small = sum(size for size in sizes if size < 5.3 * MB)
        middle = sum(size for size in sizes if 5.3 * MB <= size < 100 * MB)
        large = sum(sizes) - small - middle

        assert layout.literal_bytes <= 6 * MB + small + 0.001 * middle + 0.02 * large, sizes[:3]


def literal_max(layout: Layout) -> int:
    return max(layout.part(index).literal_bytes for index in range(layout.part_count))


@pytest.mark.parametrize(
    "sizes",
    [
        [40 * TB],
        [80 * GB] * 300,
        [25 * MB] * 100_000,
        [500_000] * 100_000,
        [0] * 100_000,
        [300 * MB] * 11_002,
        [S3_PART_SIZE_MIN - 1, S3_PART_SIZE_MIN, S3_PART_SIZE_MIN + 1, 2 * S3_PART_SIZE_MIN, 64 * MIB + 1] * 50,
        [5 * GIB, 5 * GIB + 1, 4 * GIB - 1, 4 * GIB],
        [45 * TB] + [300 * MB] * 5_000,
        [],
    ],
    ids=[
        "40TB",
        "300x80GB",
        "100k x 25MB",
        "100k x 500KB",
        "100k empty",
        "11002 x 300MB",
        "marks",
        "GiB",
        "mix",
        "none",
    ],
)
def test_plans_of_every_size_obey_s3(sizes: list[int]) -> None:
    """Part sizes, part counts and block sizes as S3 takes them; what is held of a part at once stays below 16 MiB."""
    layout = plan(members_of(sizes))
    obeys_s3(list(layout.parts_of_archive()), layout.params)
    for block in layout.blocks:
        obeys_s3(list(layout.parts_of_block(block)), layout.params)

    assert (layout.params.part_count_max, layout.params.part_min) == (PART_COUNT_MAX, S3_PART_SIZE_MIN)
    assert layout.params.part_max == S3_PART_SIZE_MAX
    assert literal_max(layout) < 16 * MIB


def test_as_few_bytes_as_possible_are_copied_twice() -> None:
    """An archive that is a little above one upload's parts goes through as many blocks as bring it below."""
    layout = plan(members_of([300 * MB] * 5_501))

    assert layout.part_count > PART_COUNT_MAX
    assert len(layout.blocks) == 2
    assert plan(members_of([25 * MB] * 4_000)).blocks == ()


def test_behind_a_member_of_4_gib_less_a_byte_sizes_are_said_twice() -> None:
    """Info-ZIP's unzip looks for them in the ZIP64 field there; all else has ZIP64 only where a value overflows."""
    layout = plan(members_of([7, 0xFFFF_FFFF, 7, 7]))
    entries = [span for span in layout.spans(layout.central_offset, layout.size_bytes) if span.n >= 0]
    lengths = [len(entry.record) - 46 - 8 - 9 for entry in entries]

    assert lengths == [0, 4 + 16, 4 + 24, 4 + 8]
    assert entries[2].record[20:28] == b"\xff" * 8
    assert struct.unpack_from("<2H3Q", entries[2].record, 46 + 8) == (1, 24, 7, 7, layout.offsets[2])


def test_more_than_s3_holds_is_no_plan() -> None:
    """Above 48.8 TiB there is no such object."""
    with pytest.raises(TooLarge):
        plan(members_of([30 * TB, 30 * TB]))


def test_more_parts_than_blocks_take_together_is_no_plan() -> None:
    """Blocks save parts only where each is of several; a last part by itself is none."""
    params = replace(SMALL, part_count_max=3, junctions="direct")
    assert plan(members_of([400] * 6), params).blocks
    with pytest.raises(TooLarge):
        plan(members_of([400] * 6), replace(params, part_count_max=1))


@pytest.mark.parametrize("given", [{"junctions": "best"}, {"copy_target": 1}, {"literal_target": 1}])
def test_parameters_that_could_break_a_rule_are_refused(given: dict[str, object]) -> None:
    """Equal shares of a range never fall below S3's smallest part."""
    with pytest.raises(ValueError):
        Params(**given)  # type: ignore[arg-type]
