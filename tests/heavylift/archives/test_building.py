"""Archives built in S3: the same bytes on every way, nothing of a changed member, nothing left over."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import pytest

from heavylift.archives.building import Continue, Done, Elsewhere, Failed, Progress
from heavylift.archives.crc import to_base64
from heavylift.errors import TransientError
from tests.doubles.answers import refusal
from tests.doubles.gate import Killed, kill_after, kill_before
from tests.doubles.s3 import crc32_base64
from tests.doubles.world import DERIVED, STORE, World
from tests.heavylift.archives.sites import MIXED, PLACE, SMALL, Site, of, site

MANY = tuple([120] * 90)  # above 60 parts: two levels


@pytest.mark.parametrize("sizes", [MIXED, MANY, (), (0, 0), (5,), (130,), (4_000,), (99,) * 40], ids=str)
@pytest.mark.parametrize("junctions", ["auto", "direct", "chain"])
def test_the_archive_is_there_and_nothing_else(world: World, sizes: tuple[int, ...], junctions: str) -> None:
    """One slice makes the planned bytes, which S3 has proven; no upload and no temporary object but blocks stay."""
    made = site(world, sizes, params=of(SMALL, junctions=junctions))
    outcome = made.build()

    assert isinstance(outcome, Done)
    assert made.archive == made.expected
    assert outcome.size_bytes == len(made.archive)
    assert outcome.crc32 == to_base64(zlib.crc32(made.archive))
    assert [key for key in made.left_over() if "block" not in key] == []
    with zipfile.ZipFile(io.BytesIO(made.archive)) as archive:
        assert archive.testzip() is None
        assert [archive.read(one) for one in archive.infolist()] == made.data


def test_two_levels_where_one_upload_has_too_few_parts(world: World) -> None:
    """Blocks are made first and copied; the archive is the same."""
    made = site(world, MANY, params=of(SMALL, junctions="chain"))

    assert isinstance(made.build(), Done)
    assert [key for key in made.left_over() if "block" in key] != []
    assert made.archive == made.expected


@pytest.mark.parametrize("kept", [True, False])
def test_crcs_that_no_record_knows(world: World, kept: bool) -> None:
    """They are asked of S3 or learnt from copies, kept in the list, and the archive is the same."""
    made = site(world, known=False, kept=kept)

    assert isinstance(made.build(), Done)
    assert made.members.unknown() == []
    assert made.archive == made.expected
    assert made.left_over() == []


def test_crcs_of_objects_uploaded_in_parts_are_combined(world: World) -> None:
    """A composite CRC-32 is none of the whole; those of its parts are combined, and no byte is read."""
    made = site(world, (1_300,), known=False, kept=False)
    found, data = world.s3.buckets[STORE]["files/t/0"], made.data[0]
    pieces = [data[:500], data[500:1_000], data[1_000:]]
    found.checksums, found.checksum_type = {"ChecksumCRC32": f"{crc32_base64(b'x')}-3"}, "COMPOSITE"
    found.part_sums = [
        {"PartNumber": n, "Size": len(piece), "ChecksumCRC32": crc32_base64(piece)} for n, piece in enumerate(pieces, 1)
    ]

    assert isinstance(made.build(), Done)
    assert made.archive == made.expected
    assert "upload_part_copy" not in [call.operation for call in world.gate.calls[:4]]


def test_three_workers_make_the_same_archive(world: World) -> None:
    """Each makes its share; the last to end joins them, whoever it is."""
    for sizes in (MIXED, MANY):
        made = site(world, sizes)
        world.s3.buckets[DERIVED].clear()
        outcomes = [made.build(share=share, shares=3) for share in (2, 0, 1)]

        assert [type(one) for one in outcomes] == [Elsewhere, Elsewhere, Done]
        assert made.archive == made.expected


def test_slices_go_on_where_the_last_one_stopped(world: World) -> None:
    """Time is short again and again: each slice does a part or two, none does what is done."""
    made = site(world, known=False, kept=False)
    done, outcome = [], None
    for _ in range(60):
        outcome = made.build(seconds_left=ends_after(world, 12))
        if not isinstance(outcome, Continue):
            break
        done.append(outcome.done)

    assert isinstance(outcome, Done)
    assert made.archive == made.expected
    assert len(done) > 2
    assert done == sorted(done)
    assert made.left_over() == []


def test_progress_counts_parts_bytes_and_members(world: World) -> None:
    """The last word says that all of it is there."""
    made = site(world)
    made.build()
    last = [one for one in made.told if isinstance(one, Progress)][-1]

    assert last.parts_done == last.parts
    assert last.bytes_done == len(made.archive)
    assert last.members_done == len(MIXED)


def test_no_byte_is_asked_for_twice(world: World) -> None:
    """Read and written is what the plan says, and one request a part or small member, five more a chained one."""
    made = site(world)
    outcome = made.build()
    assert isinstance(outcome, Done)
    operations = [call.operation for call in world.gate.calls]

    assert operations.count("list_parts") == 2
    assert operations.count("complete_multipart_upload") == operations.count("create_multipart_upload")
    assert operations.count("delete_object") == operations.count("create_multipart_upload") - 1
    assert made.traffic.bytes_in <= sum(size for size in MIXED if size < SMALL.part_min) + SMALL.part_min
    assert made.traffic.requests == len(operations)


# --- killed ---


def calls_of(world: World, known: bool, sizes: tuple[int, ...]) -> int:
    site(world, sizes, known=known, kept=known).finish()
    return len(world.gate.calls)


@pytest.mark.parametrize(("known", "sizes"), [(True, MIXED[:8]), (False, MIXED[2:7]), (True, MANY[:64])], ids=str)
@pytest.mark.parametrize("kill", [kill_before, kill_after])
def test_killed_at_any_call_and_resumed(
    worlds: Any, known: bool, sizes: tuple[int, ...], kill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a dead worker leaves, the next one makes the same bytes; what it left lies where the job's end looks."""
    total = calls_of(worlds(), known, sizes)
    step = 1 if total < 80 else 29
    for number in range(1, total + 1, step):
        world = worlds()
        made = site(world, sizes, known=known, kept=known)
        world.gate.restart(kill(number))
        try:
            made.build()
        except Killed:
            pass
        world.gate.restart()
        made.finish()

        assert made.archive == made.expected, number
        assert all(key.startswith(PLACE.prefix) for key in made.left_over()), number


# --- members that are not what they were ---


def spoil(made: Site, n: int, how: str) -> str:
    store = made.world.s3
    if how == "changed":
        del store.buckets[STORE][f"files/t/{n}"]
        store.put_object(Bucket=STORE, Key=f"files/t/{n}", Body=b"x" * len(made.data[n]))
        made.members = _unversioned(made)
        return "source_changed"
    if how == "deleted":
        store.delete_object(Bucket=STORE, Key=f"files/t/{n}")
        return "source_missing"
    made.members.set_crc32(n, 12_345)
    return "crc_mismatch"


def _unversioned(made: Site) -> Any:
    from heavylift.archives.members import Member, Members, Source

    members = Members()
    for one in made.members:
        source = Source(one.source.bucket, one.source.key, None, one.source.etag) if one.source else None
        members.append(Member(one.name, one.size_bytes, one.modified_at, one.crc32, source, one.content, one.file_id))
    return members


@pytest.mark.parametrize("how", ["changed", "deleted", "lying"])
@pytest.mark.parametrize("n", [0, 2, 3, 4, 9, 12])
def test_a_member_at_fault_is_named(world: World, how: str, n: int) -> None:
    """Replaced, gone, or with a lying CRC-32: the job fails by that member, and there is no archive."""
    made = site(world)
    code = spoil(made, n, how)
    outcome = made.build()

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.n) == (code, n)
    assert DERIVED not in world.s3.buckets or "archives/t/archive.zip" not in world.s3.buckets[DERIVED]


def test_a_lying_record_does_not_take_a_good_archive_for_its_own(world: World) -> None:
    """The archive that lies there has another CRC-32 than the records promise: the liar is named, the archive stays."""
    made = site(world)
    made.finish()
    good = made.archive
    made.members.set_crc32(4, 99)
    outcome = made.build()

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.n) == ("crc_mismatch", 4)
    assert made.archive == good


# --- others ---


def test_an_archive_that_is_there_is_not_made_again(world: World) -> None:
    """Another job of the same members finds it by one HEAD."""
    made = site(world)
    made.finish()
    world.gate.restart()

    assert isinstance(made.build(), Done)
    assert [call.operation for call in world.gate.calls] == ["head_object"]


def test_an_archive_whose_life_is_nearly_over_is_replaced(world: World) -> None:
    """The same bytes, a new object; somebody else's is not replaced."""
    made = site(world)
    made.finish()
    old = world.s3.buckets[DERIVED]["archives/t/archive.zip"]
    made.upload_id = None

    assert isinstance(made.build(replaces=old.etag), Done)
    assert world.s3.buckets[DERIVED]["archives/t/archive.zip"] is not old
    assert made.archive == made.expected


def test_two_jobs_of_the_same_members_share_the_work(world: World) -> None:
    """The second takes the open upload; the first finds the archive there."""
    first, second = site(world), site(world)
    assert isinstance(first.build(seconds_left=ends_after(world, 9)), Continue)
    assert isinstance(second.build(), Done)
    assert second.upload_id == first.upload_id
    assert isinstance(first.build(), Done)
    assert first.left_over() == []


def ends_after(world: World, calls: int) -> Any:
    """A deadline that comes with the so-many-th call from now on."""
    end = len(world.gate.calls) + calls
    return lambda: 100.0 if len(world.gate.calls) < end else 0.0


def test_an_upload_that_vanished_is_begun_anew(world: World) -> None:
    """Aborted by somebody: the job forgets it and goes on with a new one."""
    made = site(world)
    made.build(seconds_left=ends_after(world, 9))
    world.s3.uploads.clear()
    with pytest.raises(TransientError):
        made.build()

    made.finish()
    assert made.archive == made.expected


def test_a_part_of_another_plan_is_made_again(world: World) -> None:
    """Only parts of the planned size count."""
    made = site(world)
    made.build(seconds_left=ends_after(world, 9))
    (upload,) = [one for one in world.s3.uploads.values() if one.key.startswith("archives/")]
    for number in list(upload.parts):
        upload.parts[number].body += b"!"
    made.finish()

    assert made.archive == made.expected


@pytest.mark.parametrize("operation", ["upload_part", "upload_part_copy", "get_object", "complete_multipart_upload"])
def test_a_full_disk_is_the_worlds_fault(world: World, operation: str) -> None:
    """S3 answers 500 for as long as it cannot store: TransientError, and later the same archive."""
    made = site(world)

    def around(call: Any, run: Any) -> Any:
        if call.operation == operation:
            raise refusal("InternalError", 500, operation)
        return run()

    world.gate.restart(around)
    with pytest.raises(TransientError):
        made.build()
    world.gate.restart()
    made.finish()

    assert made.archive == made.expected


def test_what_s3_cannot_hold_fails(world: World) -> None:
    """More parts than any number of blocks brings below the limit: a verdict before a part is made."""
    made = site(world, MANY, params=of(SMALL, part_count_max=3, junctions="chain"))
    outcome = made.build()

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.n) == ("too_large", None)
    assert made.left_over() == []


def test_much_work_is_shared(world: World) -> None:
    """Others are asked once, and this worker then does its own share."""
    import heavylift.archives.building as building

    made = site(world)
    world_shares = building.shares_of
    try:
        building.shares_of = lambda layout: 3
        assert isinstance(made.build(), Elsewhere)
        assert 3 in made.told
        assert isinstance(made.build(helped=True), Done)
    finally:
        building.shares_of = world_shares
