"""A folder listed into a file: every regular file once, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from heavylift_client.batches.listing import Listed, read_listing, write_listing
from heavylift_client.batches.pages import Member
from heavylift_client.errors import ClientError

MakeFile = Callable[..., Path]


def listed(root: Path, out: Path) -> tuple[Listed, list[Member], list[str]]:
    """The sums, the members as read back, and the folders that could not be listed."""
    troubles: list[str] = []
    with out.open("w", encoding="ascii") as file:
        sums = write_listing(str(root), file, lambda prefix, _: troubles.append(prefix))
    return sums, list(read_listing(str(out))), troubles


def test_every_file_below(make_file: MakeFile, tmp_path: Path) -> None:
    """Deep and odd names, hidden ones too; no links, pipes or folders; numbered from 0 in name order."""
    for name in ["b/2", "b/1", "a", "c/d/e/f", ".x/y", "😀", "a\nb"]:
        make_file(3, f"in/{name}")
    root = tmp_path / "in"
    (root / "empty").mkdir()
    (root / os.fsdecode(b"\xff")).write_bytes(b"1")
    (root / "loop").symlink_to(root)
    (root / "link").symlink_to(root / "a")
    os.mkfifo(root / "pipe")
    sums, members, troubles = listed(root, tmp_path / "out")

    assert [member.path for member in members] == [
        *["a", "a\nb", "😀", os.fsdecode(b"\xff")],
        *[".x/y", "b/1", "b/2", "c/d/e/f"],
    ]
    assert [member.n for member in members] == list(range(8))
    assert all(os.lstat(root / member.path).st_mtime_ns == member.mtime_ns for member in members)
    assert (sums.total, sums.bytes, troubles) == (8, 22, [])


def test_the_digest_tells_states_of_a_folder_apart(make_file: MakeFile, tmp_path: Path) -> None:
    """The same folder has the same digest; a file more, a byte more or another time has another."""
    root, out = make_file(3, "in/a").parent, tmp_path / "out"
    digests = [listed(root, out)[0].digest]
    assert listed(root, out)[0].digest == digests[0]
    os.utime(root / "a", (1, 1))
    digests.append(listed(root, out)[0].digest)
    make_file(4, "in/a")
    digests.append(listed(root, out)[0].digest)
    make_file(0, "in/b")
    digests.append(listed(root, out)[0].digest)

    assert len(set(digests)) == 4


def test_large_files_are_told_apart(tmp_path: Path) -> None:
    """What one PUT brings is summed up by itself: it is what has to be hashed before it is sent."""
    root = tmp_path / "in"
    root.mkdir()
    for name, size in (("whole", 16 << 20), ("parts", (16 << 20) + 1)):
        with (root / name).open("wb") as file:
            file.truncate(size)
    sums, members, _ = listed(root, tmp_path / "out")

    assert sums.small_bytes == 16 << 20
    assert {member.path: member.is_small for member in members} == {"whole": True, "parts": False}


def test_a_folder_that_is_none(make_file: MakeFile, tmp_path: Path) -> None:
    """Said as an error of the client, not a traceback of the walk."""
    for root in (tmp_path / "none", make_file(1, "file")):
        with pytest.raises(ClientError) as caught:
            listed(root, tmp_path / "out")
        assert caught.value.code == "source_unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_below_that_cannot_be_listed(make_file: MakeFile, tmp_path: Path) -> None:
    """It is named, and the others are listed."""
    make_file(1, "in/good/a")
    make_file(1, "in/bad/b").parent.chmod(0)
    try:
        sums, _, troubles = listed(tmp_path / "in", tmp_path / "out")
    finally:
        (tmp_path / "in" / "bad").chmod(0o700)

    assert (sums.total, troubles) == (1, ["bad/"])
