"""The sizes and checksums of the parts an object was made of, packed into its record. No I/O here.

A header byte (length of a part's digest), then for each part: number, size, digest. 10,000 parts with SHA-256 are
440 kB; reads by part number and GetObjectAttributes need them.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_HEAD = struct.Struct("<B")
_ENTRY = struct.Struct("<HQ")


class Piece(NamedTuple):
    number: int
    size: int
    digest: bytes  # raw, by the upload's algorithm; empty where none was declared


def pack(pieces: Iterable[Piece], digest_bytes: int) -> bytes:
    entries = [_HEAD.pack(digest_bytes)]
    for piece in pieces:
        entries.append(_ENTRY.pack(piece.number, piece.size))
        entries.append(piece.digest)
    return b"".join(entries)


def unpack(packed: bytes) -> Iterator[Piece]:
    (digest_bytes,) = _HEAD.unpack_from(packed)
    step = _ENTRY.size + digest_bytes
    for at in range(_HEAD.size, len(packed), step):
        number, size = _ENTRY.unpack_from(packed, at)
        yield Piece(number, size, packed[at + _ENTRY.size : at + step])


def count(packed: bytes) -> int:
    (digest_bytes,) = _HEAD.unpack_from(packed)
    return (len(packed) - _HEAD.size) // (_ENTRY.size + int(digest_bytes))
