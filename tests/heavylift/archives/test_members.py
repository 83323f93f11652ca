"""Members of an archive: kept by columns, the same after a journey as bytes."""

from __future__ import annotations

import random
import zlib

import pytest

from heavylift.archives.members import Member, Members, Source

FILE_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def some(count: int, seed: int = 1) -> list[Member]:
    chance = random.Random(seed)
    found = []
    for n in range(count):
        name = chance.choice(["a/{}.bin", "ordner/größe {}.tif", "資料/{}"]).format(n)
        kind = chance.randrange(4)
        if kind == 0:
            content = chance.randbytes(chance.randrange(200))
            found.append(Member(name.encode(), len(content), n, zlib.crc32(content), None, content))
        elif kind == 1:
            found.append(Member(f"{name}/".encode(), 0, -n, 0, None, b""))
        else:
            file_id = f"{FILE_ID}-{n:06d}" if kind == 2 else None
            key = f"files/t/{file_id}" if file_id else f"work/t/x/{n}"
            source = Source("store", key, chance.choice([None, f"v{n}"]), f"{n:032x}")
            found.append(Member(name.encode(), 1 + n, n, chance.choice([None, n]), source, None, file_id))
    return found


def filled(found: list[Member]) -> Members:
    members = Members()
    for member in found:
        members.append(member)
    return members


def test_members_come_out_as_they_went_in() -> None:
    """Every field of every kind of member survives the columns, and the bytes too."""
    found = some(500)
    members = filled(found)
    again = Members.unpack(members.pack())

    assert list(members) == found
    assert list(again) == found
    assert again.unknown() == [n for n, one in enumerate(found) if one.crc32 is None]


def test_a_list_without_members_is_a_list() -> None:
    """Nothing in, nothing out."""
    assert list(Members.unpack(Members().pack())) == []


def test_a_learnt_crc_stays() -> None:
    """A CRC-32 found out later is the member's from then on."""
    members = filled([Member("x", 3, 0, None, Source("b", "k", None, "e"))])
    members.set_crc32(0, 7)

    assert (members.crc32(0), members.unknown()) == (7, [])
    assert Members.unpack(members.pack()).crc32(0) == 7


@pytest.mark.parametrize(
    "member",
    [
        Member("", 0, 0),
        Member("x" * 65_536, 0, 0),
        Member(b"\xff", 0, 0),
        Member("x", -1, 0),
        Member("x", 1, 0),
        Member("x", 2, 0, None, None, b"x"),
        Member("x", 1, 0, None, Source("b", "k", None, "e"), b"x"),
        Member("x/", 1, 0, None, None, b"x"),
    ],
)
def test_what_no_archive_can_hold_is_refused(member: Member) -> None:
    """Names of no or too many bytes, sizes without bytes, two origins, directories with content."""
    with pytest.raises(ValueError):
        Members().append(member)


def test_damaged_bytes_are_no_members() -> None:
    """A list that was cut, or is none, is never half read."""
    data = filled(some(50)).pack()
    for damaged in (b"", b"PK", data[:-30], data[:60], data[:8] + b"\0" + data[9:]):
        with pytest.raises(ValueError):
            Members.unpack(damaged)
