"""The CRC-32 of a whole from the CRC-32s of its pieces, without a second read. No I/O here.

``crc(A || B) = x^(8 len(B)) * crc(A)  xor  crc(B)`` over GF(2), reflected polynomial 0xEDB88320
(ISO 3309, as zlib and S3 use it).
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

POLYNOMIAL = 0xEDB88320
ONE = 1 << 31  # x^0: reflected, the highest bit is the lowest power
X1 = 1 << 30


def multiply(a: int, b: int) -> int:
    """a * b modulo the polynomial."""
    product = 0
    while a:
        if a & ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=16)
def shift(length: int) -> int:
    """x^(8 length) modulo the polynomial; pieces mostly have the same length, hence the cache."""
    result, square, exponent = ONE, X1, 8 * length
    while exponent:
        if exponent & 1:
            result = multiply(square, result)
        square = multiply(square, square)
        exponent >>= 1
    return result


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of A || B from those of A and B and the length of B."""
    return multiply(shift(second_length), first) ^ second


def parse(value: object) -> int | None:
    """A CRC-32 as a record may write it: 8 hex digits, base64 of 4 bytes big-endian (S3's form), or a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value <= 0xFFFFFFFF else None
    if not isinstance(value, str) or len(value) != 8:
        return None
    try:
        raw = base64.b64decode(value, validate=True) if value.endswith("==") else bytes.fromhex(value)
    except (ValueError, binascii.Error):
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None
