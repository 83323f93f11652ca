"""Local files as sources of an upload: what they are called, what is declared about them, their bytes hashed.

A source remembers size, time and identity of its file; whoever opens it again learns whether it changed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from heavylift_client.errors import SourceChanged, SourceError, Stopped
from heavylift_client.plan import Part

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Declared:
    """What the caller says about a file; nothing is sent that the caller did not say, but the name."""

    kind: str | None = None
    type: str | None = None
    data_type: str | None = None
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    rules: Any = None

    def entry(self) -> dict[str, Any]:
        """The fields for an initiate call."""
        given = {
            "kind": self.kind,
            "type": self.type,
            "data_type": self.data_type,
            "description": self.description,
            "metadata": dict(self.metadata) or None,
            "rules": self.rules,
        }
        return {name: clean(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Membership:
    """A file's place in a batch, and how it was listed there. ``begun``: an earlier run may have sent some of it."""

    batch_id: str
    n: int
    size: int
    mtime_ns: int
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One file to upload: where it lies and what to call it."""

    path: str
    name: str
    declared: Declared = Declared()
    relative_path: str | None = None
    member: Membership | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A regular file as it was when first looked at."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    device: int


def label(path: str | bytes | os.PathLike[str]) -> str:
    """A file name as text that any JSON reader takes: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def clean(value: Any) -> Any:
    """A JSON value whose texts hold no surrogates (those of the command line stand for bytes)."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape" if _escaped(value) else "replace").decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {clean(name): clean(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def _escaped(text: str) -> bool:
    return not any("\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff" for c in text)


def item_of(
    path: str | bytes | os.PathLike[str],
    declared: Declared | None = None,
    *,
    name: str | None = None,
    relative_path: str | None = None,
) -> Item:
    """An item for ``path``; the name is the path's last part unless another is given."""
    text = os.fsdecode(path)
    last = os.path.basename(text) or os.path.basename(os.path.abspath(text))
    return Item(text, clean(name) if name is not None else label(last), declared or Declared(), relative_path)


def look(path: str) -> Source:
    """Raises SourceError for what is absent, unreadable or no regular file."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise unreadable(error) from None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError("not_a_file", "this is no regular file")
    return Source(path, status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


@contextmanager
def opened(source: Source) -> Iterator[int]:
    """A descriptor of the file, still the same one as first seen. Raises SourceChanged, SourceError."""
    try:
        fd = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SourceChanged("the file vanished while it was being uploaded") from None
    except OSError as error:
        raise unreadable(error) from None
    try:
        check_unchanged(fd, source)
        yield fd
    finally:
        os.close(fd)


def check_unchanged(fd: int, source: Source) -> None:
    """Raises SourceChanged if size, time or identity differ from what was first seen."""
    status = os.fstat(fd)
    if (status.st_ino, status.st_dev) != (source.inode, source.device):
        raise SourceChanged("the file was replaced by another while it was being uploaded")
    if status.st_size != source.size:
        raise SourceChanged(
            f"the file changed while it was being uploaded: {source.size} bytes became {status.st_size}"
        )
    if status.st_mtime_ns != source.mtime_ns:
        raise SourceChanged("the file changed while it was being uploaded: it was written to")


def part_sha256(source: Source, part: Part, stop: threading.Event) -> str:
    """Base64 SHA-256 of one part, 1 MiB at a time. Raises SourceChanged, SourceError, Stopped."""
    digest = hashlib.sha256()
    offset, end = part.offset, part.offset + part.size
    with opened(source) as fd:
        while offset < end:
            if stop.is_set():
                raise Stopped
            try:
                data = os.pread(fd, min(READ_BYTES, end - offset), offset)
            except OSError as error:
                raise unreadable(error) from None
            if not data:
                raise SourceChanged(f"the file ends at byte {offset}, where {end} were expected")
            digest.update(data)
            offset += len(data)
        check_unchanged(fd, source)
    return base64.b64encode(digest.digest()).decode()


def unreadable(error: Exception) -> SourceError:
    """What the system said about a file, as our error."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return SourceError("source_unreadable", f"the file cannot be read: {reason}")
