"""One file that is to be archived, as its record has it; and one that cannot be. Pure.

Between the two rounds that a package takes (names first, then contents) entries lie in a ``Spool``: a compressed file
on this machine's disk, so that 100 000 of them with all their metadata need no memory.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from heavylift.errors import ContentError

SPOOL_BYTES_MAX = 256 * 1024 * 1024  # of the function's 512 MB disk; METS and table lie there too


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored file. ``path``: its name as it was given, with its folders. ``sha256`` hex, ``crc32`` base64.

    ``sha256_proven``: S3 or we have read the bytes to it; else the uploader said so. Times in seconds since 1970.
    """

    file_id: str
    path: str
    size: int
    created_at: float
    key: str
    etag: str
    version_id: str | None = None
    crc32: str | None = None
    sha256: str | None = None
    sha256_proven: bool = False
    logical_id: str | None = None
    media_type: str | None = None
    format: str | None = None
    kind: str = "other"
    facts: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None
    data_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that was asked for and cannot be archived. ``reason``: a code, such as ``deleted`` or ``not_found``."""

    file_id: str
    path: str
    reason: str


class Spool:
    """Entries in the order they came, on disk. ContentError ``too_much_metadata`` when they are too much for it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._squeeze = zlib.compressobj(1)
        self._bytes = 0
        self.count = 0

    def add(self, entry: Entry) -> None:
        line = json.dumps(list(asdict(entry).values()), ensure_ascii=False, separators=(",", ":"))
        self._write(self._squeeze.compress(line.encode("utf-8", "surrogatepass") + b"\n"))
        self.count += 1

    def close(self) -> None:
        """No entry comes any more."""
        self._write(self._squeeze.flush())

    def _write(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > SPOOL_BYTES_MAX:
            raise ContentError(
                "too_much_metadata", f"The metadata of the files is more than {SPOOL_BYTES_MAX} bytes compressed."
            )
        self._file.write(data)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, again for each call. Memory: some 100 KB."""
        self._file.seek(0)
        inflate = zlib.decompressobj()
        rest = b""
        while data := self._file.read(16 * 1024):
            lines = (rest + inflate.decompress(data)).split(b"\n")
            rest = lines.pop()
            yield from map(_entry, lines)


def _entry(line: bytes) -> Entry:
    return Entry(*json.loads(line.decode("utf-8", "surrogatepass")))
