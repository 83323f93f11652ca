"""CRC-32 of things put together, from the CRC-32s of their pieces (zlib's ``crc32_combine``). No I/O here.

A CRC is a remainder of polynomials over GF(2); putting n zero bytes behind a text multiplies its remainder by x^8n.
Polynomials are 32-bit numbers with the highest power in the lowest bit, as in zlib's crc32.c ("multmodp", "x2nmodp").
"""

from __future__ import annotations

import base64
from functools import lru_cache

_POLYNOMIAL = 0xEDB8_8320
_ONE = 1 << 31


def _times(a: int, b: int) -> int:
    """a(x) * b(x) modulo the CRC's polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFF_FFFF
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _powers() -> list[list[int]]:
    """Per byte of a length, from the lowest: x^(8 * value * 256^place) for its 256 values."""
    tables, step = [], _ONE >> 8
    for _ in range(8):
        table = [_ONE]
        for _ in range(255):
            table.append(_times(table[-1], step))
        tables.append(table)
        step = _times(table[-1], step)
    return tables


_POWERS = _powers()


@lru_cache(maxsize=4_096)
def _shift(length: int) -> int:
    """x^(8 * length): what ``length`` zero bytes multiply by."""
    product, place = _ONE, 0
    while length:
        value = length & 0xFF
        if value:
            product = _POWERS[place][value] if product == _ONE else _times(product, _POWERS[place][value])
        length >>= 8
        place += 1
    return product


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of two texts, one behind the other, from theirs and the length of the second in bytes."""
    return _times(_shift(second_length), first) ^ second if second_length else first


def to_base64(crc32: int) -> str:
    """As S3 writes it: base64 of the four bytes, highest first."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def from_base64(text: str) -> int:
    """As S3 wrote it. ValueError for a composite (``…-3``) or anything else that is no CRC-32 of a whole."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) != 4:
        raise ValueError(f"{text!r} is no CRC-32")
    return int.from_bytes(raw, "big")
