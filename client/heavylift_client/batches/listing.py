"""The regular files of a folder, listed into a file: a hundred thousand of them must not lie in memory.

Links are not followed: they may lead out of the folder or round in circles.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

from heavylift_client.batches.pages import Member
from heavylift_client.errors import ClientError
from heavylift_client.plan import SINGLE_PUT_MAX_BYTES

OnTrouble = Callable[[str, OSError], None]
"""Takes a folder (relative) that cannot be listed, and why."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a listing adds up to. ``digest`` tells two states of a folder apart: names, sizes and times."""

    total: int
    bytes: int
    small_bytes: int
    digest: str


def regular_files(root: str, on_trouble: OnTrouble) -> Iterator[tuple[str, os.stat_result]]:
    """(path relative to ``root`` with ``/``, its facts) of every regular file below, hidden ones too, in name order.

    Memory: the names of one folder and those of the folders still to be listed.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        here = os.path.join(root, prefix)
        try:
            names = os.listdir(here)
        except OSError as error:
            on_trouble(prefix, error)
            continue
        names.sort(key=os.fsencode)
        below = []
        for name in names:
            try:
                facts = os.lstat(os.path.join(here, name))
            except OSError:
                continue  # gone since it was listed
            if stat.S_ISDIR(facts.st_mode):
                below.append(f"{prefix}{name}/")
            elif stat.S_ISREG(facts.st_mode):
                yield prefix + name, facts
        pending.extend(reversed(below))


def write_listing(root: str, out: TextIO, on_trouble: OnTrouble) -> Listed:
    """One line a file: [path, size, mtime_ns]. Raises ClientError ``source_unreadable`` for a root that cannot be
    listed; other folders go to ``on_trouble``."""
    total = all_bytes = small_bytes = 0
    digest = hashlib.sha256()

    def trouble(prefix: str, error: OSError) -> None:
        if not prefix:
            raise ClientError("source_unreadable", f"the folder cannot be read: {error.strerror}") from None
        on_trouble(prefix, error)

    for path, facts in regular_files(root, trouble):
        line = json.dumps([path, facts.st_size, facts.st_mtime_ns], separators=(",", ":")) + "\n"
        digest.update(line.encode())
        out.write(line)
        total += 1
        all_bytes += facts.st_size
        small_bytes += facts.st_size if facts.st_size <= SINGLE_PUT_MAX_BYTES else 0
    return Listed(total, all_bytes, small_bytes, digest.hexdigest())


def read_listing(path: str) -> Iterator[Member]:
    """The members of a listing, numbered from 0."""
    with open(path, encoding="ascii") as lines:
        for n, line in enumerate(lines):
            relative, size, mtime_ns = json.loads(line)
            yield Member(n, relative, size, mtime_ns)
