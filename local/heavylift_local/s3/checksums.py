"""The five checksums of S3 and how part checksums make an object's. No I/O here.

COMPOSITE: base64(H(concatenated raw part digests))-N. FULL_OBJECT: the CRCs of the parts combined over GF(2), which
needs their lengths and reads nothing (Amazon S3 user guide, "Checking object integrity").
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from awscrt import checksums as crt

COMPOSITE = "COMPOSITE"
FULL_OBJECT = "FULL_OBJECT"
DIGEST_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}
CRCS = ("CRC32", "CRC32C", "CRC64NVME")
HEADER = "x-amz-checksum-"
# Names of the service model of 2026 that this server does not compute; a part that sends one is refused.
NEWER = frozenset({"SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"})

_CRC_FUNCTIONS: dict[str, Callable[..., int]] = {
    "CRC32": zlib.crc32,  # twice as fast as awscrt's here, and frees the GIL too
    "CRC32C": crt.crc32c,
    "CRC64NVME": crt.crc64nvme,
}
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}


class Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_function", "_size", "value")

    def __init__(self, name: str) -> None:
        self._function = _CRC_FUNCTIONS[name]
        self._size = DIGEST_BYTES[name]
        self.value = 0

    def update(self, data: memoryview, /) -> None:
        self.value = self._function(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(self._size, "big")


def new(name: str) -> Hash:
    """A running hash: one of the five, or MD5."""
    if name in _CRC_FUNCTIONS:
        return _Crc(name)
    if name == "SHA256":
        return hashlib.sha256()
    if name == "SHA1":
        return hashlib.sha1(usedforsecurity=False)
    if name == "MD5":
        return hashlib.md5(usedforsecurity=False)
    raise ValueError(name)


def encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def decode(name: str, text: str) -> bytes | None:
    """Raw digest of a header value, None when it is not base64 of the right length."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == DIGEST_BYTES[name] else None


def composite(name: str, digests: Sequence[bytes]) -> str:
    """The COMPOSITE value of an object made of parts with these raw digests."""
    outer = new(name)
    for digest in digests:
        outer.update(memoryview(digest))
    return f"{encode(outer.digest())}-{len(digests)}"


def combine(name: str, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """The FULL_OBJECT digest of an object whose parts have these (raw CRC, size) in order."""
    join = _COMBINE[name]
    value = 0
    for raw, size in parts:
        value = join(value, int.from_bytes(raw, "big"), size)
    return value.to_bytes(DIGEST_BYTES[name], "big")


def multipart_etag(md5s: Iterable[str]) -> str:
    """Hex MD5 of the concatenated raw part MD5s, a dash, the number of parts."""
    outer, count = hashlib.md5(usedforsecurity=False), 0
    for md5 in md5s:
        outer.update(bytes.fromhex(md5))
        count += 1
    return f"{outer.hexdigest()}-{count}"
