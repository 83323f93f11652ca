"""The copy for a library that reads files only: whole, without a name, and honest about what goes wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import ContentError, TransientError
from heavylift.raw import copying
from heavylift.raw.copying import copied


class Bytes:
    def __init__(self, data: bytes, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.data, self.size_bytes, self.fails_at, self.error = data, len(data), fails_at, error

    def read(self, offset: int, length: int) -> bytes:
        if self.fails_at is not None and offset >= self.fails_at:
            if self.error is not None:
                raise self.error
            return b""
        return self.data[offset : offset + length]


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 20_500])
def test_every_byte_is_copied(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Whatever the size is in requests, the copy is the object."""
    monkeypatch.setattr(copying, "REQUEST_BYTES", 1000)
    data = os.urandom(size)
    with copied(Bytes(data), lambda: 60.0) as descriptor:
        assert os.pread(descriptor, size + 10, 0) == data


def test_the_childs_path_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc/self/fd opens the file that has no name; after the copy the descriptor is closed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with copied(Bytes(b"abc"), lambda: 60.0) as descriptor:
        assert Path(f"/proc/self/fd/{descriptor}").read_bytes() == b"abc"
        assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContentError("source_changed", "it was replaced"), "source_changed"),
        (TransientError("aws_unavailable", "S3 does not answer"), "aws_unavailable"),
        (None, "aws_unavailable"),
    ],
)
def test_errors_of_the_source(monkeypatch: pytest.MonkeyPatch, error: Exception | None, code: str) -> None:
    """The source's error ends the copy; a short answer is one of the world's."""
    monkeypatch.setattr(copying, "REQUEST_BYTES", 1000)
    with pytest.raises((ContentError, TransientError)) as caught, copied(Bytes(bytes(9000), 4000, error), lambda: 60.0):
        raise AssertionError("a part is missing")
    assert caught.value.code == code


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC is told as what it is."""

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(TransientError) as caught, copied(Bytes(bytes(9000)), lambda: 60.0):
        raise AssertionError("nothing was written")
    assert caught.value.code == "no_space"


def test_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is looked at before each request."""
    monkeypatch.setattr(copying, "REQUEST_BYTES", 1000)
    with pytest.raises(TransientError) as caught, copied(Bytes(bytes(9000)), lambda: 0.0):
        raise AssertionError("there was no time")
    assert caught.value.code == "out_of_time"
