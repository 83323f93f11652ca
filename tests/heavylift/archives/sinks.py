"""Packages without S3: entries from plain values, files that are made kept in memory, archives by Python's zipfile."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from heavylift.archives import packages
from heavylift.archives.entries import Entry, Missing
from heavylift.archives.members import Source
from heavylift.archives.packages import Kept, Package
from tests.doubles.s3 import crc32_base64

STORE = "store"
AT = 1_763_596_800.5


@dataclass(slots=True)
class Memory:
    """A sink; all made ones together stand in ``files``, those above ``inline_max`` as objects by their key."""

    name: str
    files: dict[str, bytes]
    inline_max: int
    text: list[str] = field(default_factory=list)

    def write(self, text: str) -> None:
        self.text.append(text)

    def close(self) -> Kept:
        data = "".join(self.text).encode()
        self.files[self.name] = data
        found = (len(data), zlib.crc32(data), sha256(data).hexdigest())
        if len(data) <= self.inline_max:
            return Kept(*found, content=data)
        return Kept(*found, source=Source("derived", self.name, None, "e"))


def an_entry(n: int, path: str, data: bytes = b"x", **fields: Any) -> Entry:
    file_id = f"01JD2Z3NDEKTSV4RRFFQ69G{n:03d}"
    usual: dict[str, Any] = {
        "crc32": crc32_base64(data),
        "sha256": sha256(data).hexdigest(),
        "sha256_proven": True,
        "logical_id": "scan",
    }
    key, etag = f"files/acme/{file_id}", f"e{n}"
    return Entry(file_id, path, len(data), AT + n, key, etag, f"v{n}", **{**usual, **fields})


def package(
    kind: str,
    entries: Sequence[Entry],
    missing: Sequence[Missing] = (),
    *,
    label: str | None = None,
    inline_max: int = 1 << 20,
) -> tuple[Package, dict[str, bytes]]:
    """The package, and the files that were made for it."""
    files: dict[str, bytes] = {}
    open_sink: Callable[[str], packages.Sink] = lambda name: Memory(name, files, inline_max)  # noqa: E731
    made = packages.make(kind, entries, missing, label=label, store_bucket=STORE, open_sink=open_sink)
    return made, files


def zipped(made: Package, files: dict[str, bytes], stored: dict[str, bytes]) -> zipfile.ZipFile:
    """The members as a ZIP; ``stored``: the bytes of stored files by their id."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in made.members:
            if member.content is not None:
                data = member.content
            elif member.source is not None and member.source.bucket == STORE:
                data = stored[member.file_id or ""]
            else:
                data = files[member.source.key] if member.source else b""
            assert (len(data), zlib.crc32(data)) == (member.size_bytes, member.crc32)
            archive.writestr(bytes(member.name).decode(), data)
    return zipfile.ZipFile(buffer)
