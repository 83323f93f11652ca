"""A building site in memory: members in a bucket, an archive to be made of them, what is left over afterwards."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from heavylift.archives.building import Construction, Continue, Done, Elsewhere, Journal, Outcome, Progress, build
from heavylift.archives.layout import Layout, Params, plan
from heavylift.archives.members import Member, Members, Source
from heavylift.archives.parts import Workplace
from heavylift.s3 import Traffic
from tests.doubles.world import DERIVED, STORE, World

KEY = "archives/t/archive.zip"
PLACE = Workplace(DERIVED, "work/t/01ARZ3NDEKTSV4RRFFQ69G5FAV/")
SMALL = Params(
    part_min=100,
    part_max=5_000,
    part_count_max=60,
    literal_target=160,
    copy_target=400,
    chained_whole_max=250,
    block_parts=6,
    read_whole_max=50,
)
MIXED = (300, 0, 40, 130, 700, 99, 100, 20, 20, 1_300, 60, 55, 350)


@dataclass
class Site:
    """``told``: what the builders said. Members are the store's objects, but for some small ones of the list itself."""

    world: World
    data: list[bytes]
    members: Members
    params: Params = SMALL
    upload_id: str | None = None
    told: list[Any] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)

    def build(
        self,
        *,
        share: int | None = None,
        shares: int = 1,
        seconds_left: Callable[[], float] = lambda: 100.0,
        **more: Any,
    ) -> Outcome:
        """One slice of one worker, with a list of its own, as if read again."""
        job = Construction(DERIVED, KEY, PLACE, self.upload_id, share, shares, **more)
        members = Members.unpack(self.members.pack())
        journal = Journal(
            self._learnt, self._remember, self._forget, self.told.append, self._progress, self.told.append
        )
        return build(job, members, journal, self.traffic, seconds_left, self.params)

    def _learnt(self, members: Members) -> None:
        self.members = members

    def _remember(self, upload_id: str) -> None:
        self.upload_id = upload_id

    def _forget(self, upload_id: str) -> None:
        if self.upload_id == upload_id:
            self.upload_id = None

    def _progress(self, far: Progress) -> None:
        self.told.append(far)

    def finish(self, tries: int = 40) -> Done:
        """Slices until the archive is there."""
        for _ in range(tries):
            outcome = self.build()
            if isinstance(outcome, Done):
                return outcome
            assert isinstance(outcome, Continue | Elsewhere), outcome
        raise AssertionError("never done")

    @property
    def archive(self) -> bytes:
        body: bytes = self.world.s3.buckets[DERIVED][KEY].body
        return body

    @property
    def expected(self) -> bytes:
        """The archive's bytes, without S3."""
        members = Members.unpack(self.members.pack())
        for n, data in enumerate(self.data):
            members.set_crc32(n, zlib.crc32(data))
        return rendered(plan(members, self.params), self.data)

    def left_over(self) -> list[str]:
        """Open uploads and temporary objects."""
        objects = [key for key in self.world.s3.buckets[DERIVED] if key.startswith("work/")]
        return objects + [upload.key for upload in self.world.s3.uploads.values()]


def rendered(layout: Layout, data: list[bytes]) -> bytes:
    return b"".join(
        span.record or data[span.n][span.offset : span.offset + span.length]
        for span in layout.spans(0, layout.size_bytes)
    )


def site(
    world: World,
    sizes: tuple[int, ...] = MIXED,
    *,
    known: bool = True,
    kept: bool = True,
    seed: int = 1,
    params: Params = SMALL,
) -> Site:
    """A site of members of these sizes. ``known``: their CRC-32s are recorded; ``kept``: S3 keeps them too."""
    chance = random.Random(seed)
    members, datas = Members(), []
    for n, size in enumerate(sizes):
        data = chance.randbytes(size)
        name = f"ordner/größe {n}.tif" if n % 3 else f"f{n}"
        datas.append(data)
        if size == 20:
            members.append(Member(name, size, 1_763_596_800 + n, None, None, data))
            continue
        algorithm = "CRC32" if kept else None
        made = world.s3.put_object(Bucket=STORE, Key=f"files/t/{n}", Body=data, ChecksumAlgorithm=algorithm)
        source = Source(STORE, f"files/t/{n}", made["VersionId"], made["ETag"].strip('"'))
        members.append(Member(name, size, 1_763_596_800 + n, zlib.crc32(data) if known else None, source, None, f"{n}"))
    world.s3.created.clear()
    return Site(world, datas, members, params)


def of(params: Params, **changes: Any) -> Params:
    return replace(params, **changes)
