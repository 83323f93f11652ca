from __future__ import annotations

import base64
import zlib

from hypothesis import given
from hypothesis import strategies as st

from heavylift_client import crc


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combined_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    """zlib, which reads the whole, is the judge."""
    assert zlib.crc32(first + second) == crc.combine(zlib.crc32(first), zlib.crc32(second), len(second))


def test_a_long_second_piece() -> None:
    """Lengths beyond 32 bits of bits: a GiB of zeros after one byte, against zlib's own running value."""
    value = zlib.crc32(b"x")
    zeros = bytes(1 << 24)
    piece = zlib.crc32(zeros)
    whole, running = value, value
    for _ in range(4):
        running = zlib.crc32(zeros, running)
        whole = crc.combine(whole, piece, len(zeros))

    assert running == whole


@given(st.integers(0, 0xFFFFFFFF))
def test_every_way_to_write_it(value: int) -> None:
    """Hex, base64 as S3 writes it, or a number."""
    assert value == crc.parse(f"{value:08x}")
    assert value == crc.parse(f"{value:08X}")
    assert value == crc.parse(base64.b64encode(value.to_bytes(4, "big")).decode())
    assert value == crc.parse(value)


@given(st.one_of(st.none(), st.text(max_size=12), st.booleans(), st.integers(max_value=-1)))
def test_what_is_none(value: object) -> None:
    """Anything else is unknown, never an error."""
    parsed = crc.parse(value)

    assert parsed is None or f"{parsed:08x}" == str(value).lower() or str(value).endswith("==")


def test_almost_one() -> None:
    """Eight characters that do not make four bytes are none."""
    for text in ("ab cd ef", "AAAAAA==="[:8], "zzzzzzzz", "A=======", "AAAA===="):
        assert crc.parse(text) is None or text == "AAAAAA=="
