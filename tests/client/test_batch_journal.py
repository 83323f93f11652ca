"""The journal of a batch: what is read back is what was written, wherever a kill cut it."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path

import pytest

from heavylift_client.batches.journal import FORGET_AFTER_S, Done, Journal, Page, key_of
from heavylift_client.errors import ClientError

DIGEST = base64.b64encode(bytes(range(32))).decode()


def write(journal: Journal) -> None:
    journal.begin("listing", "request")
    journal.begun("B1")
    journal.hashed(Page(0, 0, 3, [DIGEST, None, DIGEST]))
    journal.listed(0)
    for n in (0, 2):
        journal.stored(n)
    journal.hashed(Page(1, 3, 1, [DIGEST]))
    journal.completed()


def read(folder: Path, total: int = 4) -> Done | None:
    journal = Journal("k", str(folder))
    try:
        return journal.read(total)
    finally:
        journal.close()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Ids, pages with their digests, what is listed and stored, and that it was completed."""
    journal = Journal("k", str(tmp_path))
    write(journal)
    done = journal.read(4)

    assert done is not None
    assert (done.listing, done.request_key, done.batch_id, done.completed) == ("listing", "request", "B1", True)
    assert list(done.stored) == [1, 0, 1, 0]
    assert done.listed == {0}
    assert [page[1:] for page in done.pages] == [(0, 0, 3), (1, 3, 1)]
    assert journal.page(done.pages[0][0]).sha256 == [DIGEST, None, DIGEST]
    assert journal.page(done.pages[1][0]).sha256 == [DIGEST]
    journal.close()


def test_a_journal_cut_anywhere_holds_what_stands_before_the_cut(tmp_path: Path) -> None:
    """Every prefix can be read and appended to; nothing is known that was not written."""
    journal = Journal("k", str(tmp_path))
    write(journal)
    journal.close()
    path = tmp_path / "k.journal"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        done = read(tmp_path)
        if done is None:
            assert b"\n" not in whole[:end]
            continue
        assert bytes(done.stored) in (b"\0\0\0\0", b"\1\0\0\0", b"\1\0\1\0")
        assert done.batch_id in (None, "B1")
        assert not done.completed
        again = Journal("k", str(tmp_path))
        again.stored(3)
        more = again.read(4)
        again.close()
        assert more is not None
        assert (bytes(more.stored[:3]), more.stored[3]) == (bytes(done.stored[:3]), 1)


@pytest.mark.parametrize("content", [b"", b"\0\0\0\n", b"[]\n", b'{"v":2}\n', b'{"v":1}\n', b"+1\n", b"\xff\xfe\n" * 9])
def test_what_is_no_journal_is_nothing_to_go_on_with(tmp_path: Path, content: bytes) -> None:
    """Also that of another version."""
    (tmp_path / "k.journal").write_bytes(content)

    assert read(tmp_path) is None


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Until the first has let go."""
    first = Journal("k", str(tmp_path))
    with pytest.raises(ClientError) as caught:
        Journal("k", str(tmp_path))
    assert caught.value.code == "busy"
    Journal("other", str(tmp_path)).close()
    first.close()
    Journal("k", str(tmp_path)).close()


def test_a_journal_that_was_forgotten_leaves_nothing(tmp_path: Path) -> None:
    """Neither the listing nor the journal."""
    journal = Journal("k", str(tmp_path))
    write(journal)
    Path(journal.files).touch()
    journal.forget()
    journal.close()

    assert os.listdir(tmp_path) == []


def test_journals_of_sessions_that_are_over_go(tmp_path: Path) -> None:
    """After the server has forgotten the batch, so does the disk; other files stay."""
    old = time.time() - FORGET_AFTER_S - 60
    for name in ("a.journal", "a.files", "notes"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / "b.journal").touch()
    Journal("k", str(tmp_path)).close()

    assert sorted(os.listdir(tmp_path)) == ["b.journal", "k.journal", "notes"]


def test_which_batch_a_command_means(tmp_path: Path) -> None:
    """The folder by whatever name, the API, and the words about it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    key = key_of("http://a/", str(tmp_path / "in"), {"kind": "image"})

    assert key == key_of("http://a", str(tmp_path / "link"), {"kind": "image"})
    assert key != key_of("http://b", str(tmp_path / "in"), {"kind": "image"})
    assert key != key_of("http://a", str(tmp_path / "in"), {"kind": "dicom"})
    assert key != key_of("http://a", str(tmp_path), {"kind": "image"})
