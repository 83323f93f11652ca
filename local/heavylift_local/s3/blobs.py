"""Immutable files that hold bytes: written once, shared by reference, unlinked when nobody can see them.

A file's name is its number. A record (see `store`) names the numbers it uses; the file is written before the record
and unlinked after it, so whatever a kill leaves behind is a file without a record, removed at the next start.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

FAN_OUT = 256  # folders: 10,000 parts an upload make 40 entries each


class BlobWriter:
    """One new file, unlinked on exit unless `keep` was called."""

    def __init__(self, blob: int, path: str, *, fsync: bool) -> None:
        self.blob = blob
        self.size = 0
        self._path = path
        self._fsync = fsync
        self._kept = False
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def update(self, view: memoryview) -> None:
        """Append *view* as a whole. Raises OSError (a full disk)."""
        written = os.write(self._fd, view)
        while written < len(view):
            written += os.write(self._fd, view[written:])
        self.size += written

    def close(self) -> None:
        """The bytes are where they will stay; with fsync, on the platter too."""
        if self._fd < 0:
            return
        try:
            if self._fsync:
                os.fsync(self._fd)
                folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        finally:
            os.close(self._fd)
            self._fd = -1

    def keep(self) -> None:
        """A record names this file now."""
        self._kept = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not self._kept:
            os.unlink(self._path)


class Blobs:
    """The folder of files, and who may still be reading them."""

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self._root = str(root)
        self._fsync = fsync
        self._lock = threading.Lock()
        self._ticket = 0
        self._readers: set[int] = set()
        self._doomed: deque[tuple[int, set[int]]] = deque()
        self._adopted: dict[int, str] = {}
        self._numbers = count(1)
        for index in range(FAN_OUT):
            (root / f"{index:02x}").mkdir(parents=True, exist_ok=True)

    def start(self, known: set[int], adopted: dict[int, str]) -> int:
        """Remove every file that no record names; returns how many. Numbers go on above the highest known."""
        removed = 0
        for index in range(FAN_OUT):
            with os.scandir(f"{self._root}/{index:02x}") as entries:
                for entry in entries:
                    try:
                        number = int(entry.name, 16)
                    except ValueError:
                        continue
                    if number not in known:
                        os.unlink(entry.path)
                        removed += 1
        self._adopted = dict(adopted)
        self._numbers = count(max(known, default=0) + 1)
        return removed

    def _path(self, blob: int) -> str:
        return f"{self._root}/{blob % FAN_OUT:02x}/{blob:016x}"

    def create(self) -> BlobWriter:
        blob = next(self._numbers)
        return BlobWriter(blob, self._path(blob), fsync=self._fsync)

    def number(self) -> int:
        """A fresh number, for a file that stays where it is."""
        return next(self._numbers)

    def adopt(self, blob: int, path: str) -> None:
        self._adopted[blob] = path

    def adopted_path(self, blob: int) -> str | None:
        return self._adopted.get(blob)

    def open(self, blob: int) -> int:
        """A descriptor for reading; the caller closes it. Call it inside `reading`."""
        return os.open(self._adopted.get(blob) or self._path(blob), os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever record is read inside, its files stay until the block ends, deleted or not.

        Each reader takes a ticket; a file that lost its record is unlinked when no older ticket is out.
        """
        with self._lock:
            self._ticket += 1
            ticket = self._ticket
            self._readers.add(ticket)
        try:
            yield
        finally:
            with self._lock:
                self._readers.discard(ticket)
                ripe = self._ripe()
            self._unlink(ripe)

    def doom(self, blobs: Iterable[int]) -> None:
        """No record names these any more (call it before another writer can commit)."""
        gone = set(blobs)
        if not gone:
            return
        with self._lock:
            self._ticket += 1
            self._doomed.append((self._ticket, gone))

    def sweep(self) -> None:
        """Unlink what is doomed and unread. Needs no lock of the store."""
        if self._doomed:
            with self._lock:
                ripe = self._ripe()
            self._unlink(ripe)

    def revive(self, blob: int) -> None:
        """A reader that still holds *blob* gave it a record again."""
        with self._lock:
            for _, gone in self._doomed:
                gone.discard(blob)

    def _ripe(self) -> list[int]:
        oldest = min(self._readers, default=self._ticket + 1)
        ripe: list[int] = []
        while self._doomed and self._doomed[0][0] < oldest:
            ripe.extend(self._doomed.popleft()[1])
        return ripe

    def _unlink(self, blobs: list[int]) -> None:
        for blob in blobs:
            if self._adopted.pop(blob, None) is None:
                try:
                    os.unlink(self._path(blob))
                except FileNotFoundError:
                    pass
