"""ZIP and tar directories read from ranges, with Python's own writers as the judges."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
import zlib

import pytest

from heavylift.dicom import bundles
from heavylift.errors import ContentError
from heavylift.ranges import drive

FILES = {
    "IM1": b"one" * 50,
    "sub/IM2": b"two" * 9_000,
    "sub/" + "d" * 120 + "/IMÄ3": random.Random(1).randbytes(70_000),
}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.mkdir("sub")
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = comment
    return made.getvalue()


def tarred(files: dict[str, bytes], form: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "IM1"
        archive.addfile(link)
    return made.getvalue()


def members_of(data: bytes) -> list[bundles.Member]:
    reader = bundles.read_zip(len(data)) if bundles.kind_of(data[:512]) == "zip" else bundles.read_tar(len(data))
    return drive(reader, lambda offset, length: data[offset : offset + length])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("comment", [b"", b"c" * 60_000], ids=["plain", "comment"])
def test_a_zip_is_listed(compression: int, comment: bytes) -> None:
    """Names, sizes, CRCs and where the data lie; folders are left out."""
    data = zipped(FILES, compression, comment)
    found = members_of(data)

    assert [one.path for one in found] == list(FILES)
    for one in found:
        before = bundles.local_header_bytes(data[one.offset : one.offset + 1_024])
        packed = data[one.offset + before : one.offset + before + one.packed_size]
        plain = zlib.decompress(packed, -15) if one.method == bundles.DEFLATED else packed
        assert plain == FILES[one.path]
        assert one.size == len(plain)
        assert one.crc32 == zlib.crc32(plain)


def test_a_zip64_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 65 535 members, or where the writer thinks the file long: the ZIP64 records count."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    data = zipped(FILES)

    assert b"PK\x06\x06" in data
    assert [(one.path, one.size) for one in members_of(data)] == [(name, len(body)) for name, body in FILES.items()]


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"]
)
def test_a_tar_is_listed(form: int) -> None:
    """Long names in all three dialects; folders and links are left out."""
    files = FILES if form != tarfile.USTAR_FORMAT else {"IM1": b"one" * 50, "sub/" + "d" * 90 + "/IM3": b"x" * 1_000}
    data = tarred(files, form)
    found = members_of(data)

    assert [one.path for one in found] == list(files)
    assert [data[one.offset : one.offset + one.size] for one in found] == list(files.values())


def test_damage_is_a_verdict() -> None:
    """Cut, shifted or rewritten at any place: a list, or ContentError; never another error, never a member outside."""
    chance = random.Random(7)
    seen: set[str] = set()
    for data in (zipped(FILES), zipped(FILES, zipfile.ZIP_DEFLATED), tarred(FILES, tarfile.GNU_FORMAT)):
        for _ in range(300):
            broken = bytearray(data[: chance.randrange(512, len(data) + 1)])
            for _ in range(chance.randrange(4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            if bundles.kind_of(bytes(broken[:512])) is None:
                continue
            try:
                found = members_of(bytes(broken))
            except ContentError as error:
                seen.add(error.code)
                continue
            assert len(found) <= bundles.MEMBERS_MAX
    assert "corrupt" in seen
    assert seen <= {"corrupt", "truncated", "limit_exceeded"}


def test_a_bomb_of_overlapping_members_is_refused() -> None:
    """Members that claim more than their bundle can hold."""
    data = bytearray(zipped({"a": b"x" * 10}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")

    with pytest.raises(ContentError, match="limit_exceeded"):
        members_of(bytes(data))


def test_nothing_else_is_a_bundle() -> None:
    """DICOM, text, zeros."""
    assert bundles.kind_of(bytes(128) + b"DICM") is None
    assert bundles.kind_of(b"hello") is None
    assert bundles.kind_of(bytes(512)) is None
