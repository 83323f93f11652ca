"""The manifest of a batch: what is announced, a hundred entries an item. Stdlib only (``sign`` reads it), no I/O.

An entry never changes once it is kept, so pages may be sent twice, in any order and at the same time. The entries of an
item are one compressed text: the paths of a folder have most of their letters in common, and a write costs by its size.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from heavylift.errors import RequestError

HUNDRED = 100  # entries of an item
PACKED_BYTES_MAX = 300 * 1024  # of DynamoDB's 400 KB; a hundred paths of 4 000 characters of prose fit
UNPACKED_BYTES_MAX = 8 * 1024 * 1024  # more than a request can bring
CONFLICTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as announced; ``sha256`` in hex. ``page``: the page that brought it."""

    n: int
    name: str
    size: int
    sha256: str | None = None
    relative_path: str | None = None
    page: int = 0


def hundred_of(n: int) -> int:
    return n // HUNDRED


def sort_key(hundred: int) -> str:
    return f"M#{hundred:04d}"


def pack(entries: Iterable[Entry]) -> bytes:
    """The entries of one item, by number. RequestError ``invalid_body`` when they are too large together."""
    rows = [
        [entry.n, entry.name, entry.size, entry.sha256, entry.relative_path, entry.page]
        for entry in sorted(entries, key=lambda entry: entry.n)
    ]
    packed = zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode(), 6)
    if len(packed) > PACKED_BYTES_MAX:
        raise RequestError(
            "invalid_body",
            f"The names and paths of the files {rows[0][0]} to {rows[-1][0]} are too long together: "
            f"{len(packed)} bytes compressed, {PACKED_BYTES_MAX} can be kept.",
        )
    return packed


def unpack(packed: bytes) -> dict[int, Entry]:
    """The inverse of ``pack``, by number."""
    rows = json.loads(zlib.decompressobj().decompress(packed, UNPACKED_BYTES_MAX))
    return {row[0]: Entry(*row) for row in rows}


def digest_of(entries: Sequence[Entry]) -> str:
    """What tells two contents of a page apart, whatever the order of its entries."""
    return sha256(pack(entries)).hexdigest()[:32]


def by_hundred(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    groups: dict[int, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(hundred_of(entry.n), []).append(entry)
    return groups


def merge(there: Mapping[int, Entry], new: Iterable[Entry]) -> dict[int, Entry] | None:
    """The entries of an item with ``new`` among them; None when they are there already.

    RequestError ``manifest_conflict``: a number was announced with other content, or by another page.
    """
    merged = dict(there)
    wrong = []
    for entry in new:
        if merged.setdefault(entry.n, entry) != entry:
            wrong.append(entry.n)
    if wrong:
        raise RequestError(
            "manifest_conflict",
            f"{len(wrong)} file(s) were announced before, otherwise or by another page; first: number {wrong[0]}.",
            n=wrong[:CONFLICTS_SHOWN],
        )
    return merged if len(merged) > len(there) else None
