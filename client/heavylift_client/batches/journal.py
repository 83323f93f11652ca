"""What a batch upload has done so far, on this disk, so that the same command goes on after any end.

Two files in the user's state folder (XDG Base Directory Specification): ``<key>.files``, the folder as it was listed,
and ``<key>.journal``, one line a step. Lines are appended as things happen; what a kill cuts off in the middle of a
line is left out. A step that is not in the journal is done again, which changes nothing.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from heavylift_client.errors import ClientError

FORGET_AFTER_S = 8 * 86_400  # sessions live 7 days
NO_DIGEST = bytes(32)  # in the place of one, for a member that has none
VERSION = 1


def state_dir() -> str:
    """Where journals lie."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "heavylift", "batches")


def key_of(api: str, folder: str, said: Mapping[str, Any]) -> str:
    """Which batch a command means: the same API, the same folder, the same words about it."""
    words = json.dumps([api.rstrip("/"), os.path.realpath(folder), said], sort_keys=True)
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(slots=True)
class Page:
    """A page of the manifest: ``count`` members from ``first`` on, the digests (base64) of the small ones."""

    number: int
    first: int
    count: int
    sha256: Sequence[str | None]
    listed: bool = False


@dataclass(slots=True)
class Done:
    """What a journal tells."""

    listing: str
    """Digest of the listing that it belongs to."""
    request_key: str
    """Idempotency key of the call that begins the batch: repeated, it is the same batch."""
    batch_id: str | None = None
    pages: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(offset in the journal, number, first, count): digests stay on disk."""
    listed: set[int] = field(default_factory=set)
    stored: bytearray = field(default_factory=bytearray)
    """A byte a member, 1 if it is in the store."""
    completed: bool = False


class Journal:
    """One open journal, locked against a second process. Appending is thread-safe."""

    def __init__(self, key: str, folder: str | None = None) -> None:
        """Raises ClientError ``busy`` when another process uploads the same folder; OSError."""
        place = folder or state_dir()
        os.makedirs(place, mode=0o700, exist_ok=True)
        self._forget_old(place)
        self.files = os.path.join(place, f"{key}.files")
        self._path = os.path.join(place, f"{key}.journal")
        self._fd = _locked(self._path)

    @staticmethod
    def _forget_old(place: str) -> None:
        before = time.time() - FORGET_AFTER_S
        for name in os.listdir(place):
            path = os.path.join(place, name)
            with suppress(OSError):
                if name.endswith((".files", ".journal")) and os.stat(path).st_mtime < before:
                    os.unlink(path)

    def read(self, total: int) -> Done | None:
        """What was done; None if there is nothing to go on with. ``total``: how many members the listing has."""
        done: Done | None = None
        offset = 0
        with open(self._path, "rb") as lines:
            for line in lines:
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError
                    if done is None:
                        done = self._head(json.loads(line), total)
                    elif line.startswith(b"+"):
                        done.stored[int(line[1:])] = 1
                    else:
                        self._step(done, json.loads(line), offset)
                except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                    # Cut by a kill, or not ours: the lines before it hold, and nothing may become its other half.
                    os.ftruncate(self._fd, offset)
                    break
                offset += len(line)
        return done

    @staticmethod
    def _head(head: Mapping[str, Any], total: int) -> Done:
        if head["v"] != VERSION:
            raise ValueError
        return Done(head["listing"], head["key"], stored=bytearray(total))

    @staticmethod
    def _step(done: Done, step: Mapping[str, Any], at: int) -> None:
        if "batch" in step:
            done.batch_id = str(step["batch"])
        elif "page" in step:
            done.pages.append((at, step["page"], step["first"], step["count"]))
        elif "listed" in step:
            done.listed.add(step["listed"])
        elif "completed" in step:
            done.completed = True

    def page(self, at: int) -> Page:
        """One page of the manifest, read back from ``at``."""
        with open(self._path, "rb") as lines:
            lines.seek(at)
            step = json.loads(lines.readline())
        raw = base64.b64decode(step["sha256"])
        digests = [raw[i : i + 32] for i in range(0, len(raw), 32)]
        return Page(
            step["page"],
            step["first"],
            step["count"],
            [None if one == NO_DIGEST else base64.b64encode(one).decode() for one in digests],
        )

    def begin(self, listing: str, request_key: str) -> None:
        """A new batch; everything before is forgotten."""
        os.ftruncate(self._fd, 0)
        self._say({"v": VERSION, "listing": listing, "key": request_key})

    def begun(self, batch_id: str) -> None:
        """The batch has an id."""
        self._say({"batch": batch_id})

    def hashed(self, page: Page) -> None:
        """What a page of the manifest is going to say."""
        raw = b"".join(NO_DIGEST if one is None else base64.b64decode(one) for one in page.sha256)
        self._say(
            {
                "page": page.number,
                "first": page.first,
                "count": page.count,
                "sha256": base64.b64encode(raw).decode(),
            }
        )

    def listed(self, number: int) -> None:
        """A page is in the manifest."""
        self._say({"listed": number})

    def stored(self, n: int) -> None:
        """A member is in the store."""
        self._append(b"+%d\n" % n)

    def completed(self) -> None:
        """The batch was told that no more files will come."""
        self._say({"completed": True})

    def _say(self, step: Mapping[str, Any]) -> None:
        self._append(json.dumps(step, separators=(",", ":")).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        os.write(self._fd, line)  # O_APPEND: one write is one line, whatever thread it comes from

    def forget(self) -> None:
        """The batch has ended: nothing is left to go on with."""
        for path in (self.files, self._path):
            with suppress(OSError):
                os.unlink(path)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._fd < 0

    def close(self) -> None:
        """Let go of the lock; the files stay."""
        fd, self._fd = self._fd, -1  # a thread that still writes must not meet another file under this number
        os.close(fd)


def _locked(path: str) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(fd)):
                return fd
            os.close(fd)  # it was finished and taken away between the two calls
        except BlockingIOError:
            os.close(fd)
            raise ClientError("busy", "another process is uploading this folder") from None
