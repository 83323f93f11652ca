"""An archive built, slice by slice. Any number of workers at once, any of them killed at any instruction.

There is no state but S3's: the plan follows from the members, ListParts says which parts are there, and a part made
twice has the same bytes. Whoever finds all parts there joins them; S3 is told the size and the CRC-32 of the whole as
the plan has them, and refuses anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from heavylift import s3
from heavylift.archives import transfer
from heavylift.archives.crc import to_base64
from heavylift.archives.crew import Crew, Lane
from heavylift.archives.layout import Block, Kind, Layout, Params, Part, TooLarge, plan, whole_crc32
from heavylift.archives.learning import Learner
from heavylift.archives.members import Members
from heavylift.archives.parts import READS_EACH, Held, MemberFault, PartMaker, Workplace, crc_fault
from heavylift.archives.transfer import Upload
from heavylift.errors import TransientError
from heavylift.limits import GIB, MIB
from heavylift.s3 import PartInfo, Stored, Traffic

MEDIA_TYPE = "application/zip"
PARAMS = Params()
LITERAL_THREADS = 3  # one part is read while another is written; each has up to 12 reads of its own
COPY_THREADS = 16  # S3 copies; a thread only waits for it
HELD_BYTES_MAX = 24 * MIB  # three parts of 8 MiB, or what chained headers need; a part of 15 MiB still has its turn


@dataclass(frozen=True, slots=True)
class Construction:
    """What a worker is told of a job. ``upload_id``: of the archive's upload, None before anybody began it.

    ``share`` of ``shares``: which of the parts are this worker's; None = whatever is not there. ``helped``: others were
    asked to help. ``replaces``: the ETag of an archive of the same members whose life is nearly over.
    """

    bucket: str
    key: str
    place: Workplace
    upload_id: str | None = None
    share: int | None = None
    shares: int = 1
    helped: bool = False
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the whole archive is, as this worker knows it."""

    parts: int
    parts_done: int
    bytes_done: int
    members_done: int


@dataclass(frozen=True, slots=True)
class Journal:
    """Whom a worker tells. What any of them raises ends the slice.

    ``learnt``: some CRC-32s are known now, the members hold them. ``remember``: the id of the archive's upload, before
    any part is made; ``forget``: that it is gone. ``help_wanted``: the work is worth so many workers, this one among
    them. ``progress``: every few seconds. ``joining``: all parts are there, the archive will be in a moment.
    """

    learnt: Callable[[Members], None]
    remember: Callable[[str], None]
    forget: Callable[[str], None]
    help_wanted: Callable[[int], None]
    progress: Callable[[Progress], None]
    joining: Callable[[Layout], None]


@dataclass(frozen=True, slots=True)
class Continue:
    """Time is over; what is there stays. ``done``: units of work behind the job, more than before if it moved."""

    done: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """This worker's share is done, others are still at theirs; the last of them joins the parts."""


@dataclass(frozen=True, slots=True)
class Done:
    """The archive is there, proven. ``crc32`` of the whole, base64 as S3 writes it."""

    size_bytes: int
    crc32: str
    etag: str
    parts: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The archive cannot be made. ``n``: the member at fault, None when it is none's."""

    code: str
    message: str
    n: int | None = None


SHARE_S = 150.0  # seconds of work worth a worker of its own: half of the function's timeout
SHARES_MAX = 8  # more would ask more of one prefix's request rate than S3 promises to each
_BY_HAND_PER_S = 40 * MIB  # a 1 GB function reads and writes small members at about this
_COPIED_PER_S = GIB  # sixteen ranges at once
_CHAINED_PER_S = 40.0  # of six requests each, sixteen at once

Outcome = Continue | Elsewhere | Done | Failed


def build(
    job: Construction,
    members: Members,
    journal: Journal,
    traffic: Traffic,
    seconds_left: Callable[[], float],
    params: Params | None = None,
) -> Outcome:
    """One slice of a worker's part in an archive. TransientError: the same call may succeed later.

    Holds the members and the plan, and at most 24 MiB of an archive's bytes (or one part, of 15 MiB at most).
    """
    params = params or PARAMS
    try:
        learner = Learner(members, job.place, traffic, seconds_left, members.set_crc32, params)
        if not _learn(members, learner, journal):
            return Continue(_work_of(members, params) - _work_of(members, params, unknown=True) + learner.ranges)
        return _Builder(job, plan(members, params), journal, traffic, seconds_left).build()
    except MemberFault as fault:
        return Failed(fault.code, fault.message, fault.n)
    except TooLarge as error:
        return Failed("too_large", str(error))


def _learn(members: Members, learner: Learner, journal: Journal) -> bool:
    """All CRC-32s, or as many as there is time for; what is found is kept whatever comes after."""
    unknown = members.unknown()
    if not unknown:
        return True
    try:
        return learner.learn(unknown)
    finally:
        if len(members.unknown()) < len(unknown):
            journal.learnt(members)


def _work_of(members: Members, params: Params, *, unknown: bool = False) -> int:
    """Units of work that the CRC-32s of (unknown) members are: a range each, one at least."""
    wanted = members.unknown() if unknown else range(len(members))
    return sum(1 + members.sizes[n] // params.copy_target for n in wanted)


def shares_of(layout: Layout) -> int:
    """How many workers an archive is worth."""
    kinds = [layout.part(index).kind for index in range(layout.part_count)]
    seconds = (
        layout.literal_bytes / _BY_HAND_PER_S
        + layout.size_bytes / _COPIED_PER_S * (2 if layout.blocks else 1)
        + kinds.count(Kind.CHAINED) / _CHAINED_PER_S
    )
    return min(SHARES_MAX, 1 + int(seconds / SHARE_S))


class _Builder:
    def __init__(
        self,
        job: Construction,
        layout: Layout,
        journal: Journal,
        traffic: Traffic,
        seconds_left: Callable[[], float],
    ) -> None:
        self.job = job
        self.layout = layout
        self.journal = journal
        self.traffic = traffic
        self.seconds_left = seconds_left
        self.share, self.shares = job.share, job.shares
        self.parts = list(layout.parts_of_archive())
        self.parts_all = len(self.parts) + sum(block.stop - block.first for block in layout.blocks)
        self.done = _work_of(layout.members, layout.params)
        self.parts_done = 0
        self.bytes_done = 0
        self.members_done = 0

    def build(self) -> Outcome:
        made = self._made_already()
        if made is not None:
            return made
        upload_id = self.job.upload_id or self._begin()
        upload = Upload(self.job.bucket, self.job.key, upload_id)
        self._ask_for_help()
        readers = ThreadPoolExecutor(LITERAL_THREADS * READS_EACH, thread_name_prefix="read")
        maker = PartMaker(self.layout, self.job.place, self.traffic, readers, Held(HELD_BYTES_MAX))
        try:
            return self._build(upload, maker)
        except s3.NoSuchUpload:
            return self._what_happened(upload)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)

    def _ask_for_help(self) -> None:
        shares = shares_of(self.layout)
        if self.share is None and not self.job.helped and shares > 1:
            self.journal.help_wanted(shares)
            self.share, self.shares = 0, shares

    # --- the archive as a whole ---

    def _made_already(self) -> Done | Failed | None:
        """The archive, if it is there: by an earlier slice, another worker, or another job of the same members.

        One of other bytes was made when a record told of another CRC-32: S3 checked it then.
        """
        self.traffic.add(requests=1)
        found = s3.head(self.job.bucket, self.job.key)
        if found is None or found.etag == self.job.replaces:
            return None
        crc32 = to_base64(whole_crc32(self.layout))
        if found.size_bytes != self.layout.size_bytes or found.checksums.get("crc32") != crc32:
            return self._find_liar()
        return Done(found.size_bytes, crc32, found.etag, len(self.parts))

    def _begin(self) -> str:
        """The archive's upload, remembered before anything is done in it.

        One that is open already is taken: left by a worker that was killed before it remembered it, or begun for
        another job. The key names the members, so its parts are ours.
        """
        for one in transfer.open_uploads(self.job.bucket, self.job.key, self.traffic):
            if one.key == self.job.key:
                self.journal.remember(one.upload_id)
                return one.upload_id
        upload = transfer.begin(self.job.bucket, self.job.key, self.traffic, MEDIA_TYPE)
        remembered = False
        try:
            self.journal.remember(upload.upload_id)
            remembered = True
        finally:
            if not remembered:  # somebody else has the job now: nobody would look for this one
                transfer.quietly(lambda: s3.abort_multipart(upload.bucket, upload.key, upload.upload_id))
        return upload.upload_id

    def _what_happened(self, upload: Upload) -> Outcome:
        """Some upload is gone: the archive's own, because it is done or was given up, or a temporary one."""
        made = self._made_already()
        if made is not None:
            return made
        try:
            s3.list_part(upload.bucket, upload.key, upload.upload_id, 1)
        except s3.NoSuchUpload:
            self.journal.forget(upload.upload_id)
        raise TransientError("aws_unavailable", "An upload is gone; the archive goes on with a new one.")

    # --- parts ---

    def _build(self, upload: Upload, maker: PartMaker) -> Outcome:
        there = self._there(upload, self.parts)
        self._count(self.parts, there)
        crew = Crew(self.seconds_left)
        for block in self._own_blocks(there):
            if not self._make_block(block, maker, crew):
                return Continue(self.done)
        todo = [part for part in self.parts if part.number not in there and self._is_mine(part)]
        if todo:
            there.update(self._make(upload, todo, maker, crew))
        if crew.late:
            return Continue(self.done)
        # Others may have made theirs meanwhile, or one of ours again: only what S3 lists can be joined.
        there = self._there(upload, self.parts)
        if len(there) < len(self.parts):
            if self.share is None:
                raise TransientError("aws_unavailable", "A part is not listed that S3 has taken.")
            return Elsewhere()
        return self._join(upload, [there[part.number] for part in self.parts])

    def _is_mine(self, part: Part) -> bool:
        share = self.share
        if share is None:
            return True
        return (part.block if part.kind is Kind.BLOCK else part.number) % self.shares == share

    def _there(self, upload: Upload, parts: list[Part]) -> dict[int, PartInfo]:
        """The parts that S3 has and that are as planned; any other is made again."""
        self.traffic.add(requests=1 + len(parts) // 1_000)
        planned = {part.number: part.size_bytes for part in parts}
        listed = s3.list_parts(upload.bucket, upload.key, upload.upload_id)
        return {part.number: part for part in listed if planned.get(part.number) == part.size_bytes}

    def _count(self, parts: Iterable[Part], there: dict[int, PartInfo]) -> None:
        for part in parts:
            if part.number in there:
                self._made(part)

    def _made(self, part: Part) -> None:
        self.done += 1
        self.parts_done += 1
        if part.kind is Kind.BLOCK:
            return  # its bytes count as those of the block's parts
        self.bytes_done += part.size_bytes
        self.members_done += self.layout.members_ended(part.start, part.end)

    def _make(self, upload: Upload, todo: list[Part], maker: PartMaker, crew: Crew) -> dict[int, PartInfo]:
        made: dict[int, PartInfo] = {}

        def one(part: Part) -> None:
            made[part.number] = maker.make(upload, part)

        counted: set[int] = set()

        def tick() -> None:
            for part in todo:
                if part.number in made and part.number not in counted:
                    counted.add(part.number)
                    self._made(part)
            self.journal.progress(Progress(self.parts_all, self.parts_done, self.bytes_done, self.members_done))

        by_hand = [part for part in todo if part.kind is Kind.LITERAL]
        others = [part for part in todo if part.kind is not Kind.LITERAL]
        lanes = [
            Lane(parts, min(threads, len(parts)), one)
            for parts, threads in ((by_hand, LITERAL_THREADS), (others, COPY_THREADS))
            if parts
        ]
        crew.run(lanes, tick)
        tick()
        return made

    # --- blocks ---

    def _own_blocks(self, there: dict[int, PartInfo]) -> list[Block]:
        """Blocks of this share of which a range is still to be copied."""
        wanted = {part.block for part in self.parts if part.kind is Kind.BLOCK and part.number not in there}
        mine = [block for block in self.layout.blocks if self._is_mine_block(block)]
        for block in mine:
            if block.number not in wanted:
                self._count_block(block)
        return [block for block in mine if block.number in wanted]

    def _is_mine_block(self, block: Block) -> bool:
        return self.share is None or block.number % self.shares == self.share

    def _count_block(self, block: Block) -> None:
        for part in self.layout.parts_of_block(block):
            self._made(part)

    def _make_block(self, block: Block, maker: PartMaker, crew: Crew) -> bool:
        """The block's object; False when time was short."""
        if maker.block(block) is not None:
            self._count_block(block)
            return True
        upload = self._upload_of(block)
        parts = list(self.layout.parts_of_block(block))
        there = self._there(upload, parts)
        self._count(parts, there)
        todo = [part for part in parts if part.number not in there]
        if todo:
            there.update(self._make(upload, todo, maker, crew))
        if crew.late or self.seconds_left() <= 0:
            crew.late = True
            return False
        there = self._there(upload, parts)
        if len(there) < len(parts):
            raise TransientError("aws_unavailable", "A part of a block is not listed that S3 has taken.")
        try:
            transfer.join(upload, [there[part.number] for part in parts], block.end - block.start, self.traffic)
        except s3.PreconditionFailed:  # a twin was faster
            transfer.quietly(lambda: s3.abort_multipart(upload.bucket, upload.key, upload.upload_id))
        except s3.Refused as refusal:
            raise TransientError("aws_unavailable", f"S3 did not join a block: {refusal.code}.") from refusal
        return maker.block(block) is not None

    def _upload_of(self, block: Block) -> Upload:
        """The upload that an earlier slice began, or a new one. Of twins each may have its own: the first wins."""
        key = self.job.place.block(block.number)
        for one in transfer.open_uploads(self.job.place.bucket, key, self.traffic):
            if one.key == key:
                return one
        return transfer.begin(self.job.place.bucket, key, self.traffic)

    # --- the end ---

    def _join(self, upload: Upload, parts: list[PartInfo]) -> Outcome:
        """CompleteMultipartUpload, which may take S3 minutes: it is not waited for beyond the deadline."""
        crc32 = whole_crc32(self.layout)
        self.journal.joining(self.layout)
        pool = ThreadPoolExecutor(1, thread_name_prefix="join")
        joining: Future[Stored] = pool.submit(
            transfer.join, upload, parts, self.layout.size_bytes, self.traffic, crc32, self.job.replaces
        )
        try:
            ended, _ = wait([joining], max(0.0, self.seconds_left()))
            if not ended:
                return Continue(self.done)
            stored = joining.result()
        except s3.PreconditionFailed:
            # Somebody else's archive of the same members came first (or that which this one was to replace is gone).
            transfer.quietly(lambda: s3.abort_multipart(upload.bucket, upload.key, upload.upload_id))
            self.journal.forget(upload.upload_id)
            made = self._made_already()
            if made is None:
                raise TransientError("aws_unavailable", "The archive was there and is gone.") from None
            return made
        except s3.Refused as refusal:
            if refusal.code == "BadDigest":
                return self._find_liar()
            # A twin may have made a part again since it was listed: the next attempt lists them anew.
            raise TransientError(
                "aws_unavailable", f"S3 refused to join the parts: {refusal.code}.", aws_code=refusal.code
            ) from refusal
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return Done(self.layout.size_bytes, to_base64(crc32), stored.etag, len(self.parts))

    def _find_liar(self) -> Failed:
        """The parts have another CRC-32 than the records promise: whose record is it?

        Members that were read by hand were checked then; the others' CRC-32 is asked of S3, record or not.
        """
        members = self.layout.members

        def compare(n: int, found: int) -> None:
            recorded = members.crc32(n)
            if recorded != found:
                raise crc_fault(n, found, recorded or 0)

        learner = Learner(members, self.job.place, self.traffic, self.seconds_left, compare, self.layout.params)
        minimum = self.layout.params.part_min
        suspects = [n for n in range(len(members)) if members.sizes[n] >= minimum and members.in_s3(n)]
        try:
            learner.learn(suspects)
        except MemberFault as fault:
            return Failed(fault.code, fault.message, fault.n)
        return Failed("archive_mismatch", "S3 refused the archive: its CRC-32 is not that of its members.")
