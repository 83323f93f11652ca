from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_client.fingerprint import fingerprint, fingerprint_of, reader, sampled_ranges

MIB = 1 << 20
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "fingerprint.json").read_text())


def pattern(offset: int, length: int) -> bytes:
    """Bytes of the vectors' pattern, at any offset, without the file."""
    made = bytearray()
    position = offset
    while position < offset + length:
        block = position // 65536
        end = min((block + 1) * 65536, offset + length)
        made += bytes((i % 251 + block * 7) % 256 for i in range(position, end))
        position = end
    return bytes(made)


def zeros(offset: int, length: int) -> bytes:
    return bytes(length)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['content']}-{case['size']}")
def test_golden_vectors(case: dict[str, object]) -> None:
    """The committed fingerprints, which the browser's client shares, are what this client computes."""
    read = {"pattern": pattern, "zero": zeros}[str(case["content"])]

    assert case["fingerprint"] == fingerprint_of(int(str(case["size"])), read)


def test_of_a_file_is_that_of_its_bytes(make_file: Callable[..., Path]) -> None:
    """The file's fingerprint follows the definition, read here in another way."""
    path = make_file(3 * MIB + 7)
    data = path.read_bytes()
    picked = data[:MIB] + b"".join(data[(at := i * (len(data) - 65536) // 15) : at + 65536] for i in range(1, 15))
    expected = hashlib.sha256(len(data).to_bytes(8, "big") + picked + data[-MIB:]).hexdigest()

    assert f"v1:{expected}" == fingerprint(path)


def test_a_sparse_file_of_80_gb_is_quick(tmp_path: Path) -> None:
    """Only samples are read: 80 GB take no longer than 3 MiB, and offsets above 32 bits hold."""
    path = tmp_path / "huge.dng"
    with path.open("wb") as file:
        file.truncate(80 * 10**9)
        file.seek(14 * (80 * 10**9 - 65536) // 15)
        file.write(b"x")

    assert fingerprint(path) != fingerprint_of(80 * 10**9, zeros)
    os.truncate(path, 0)


def test_name_and_time_do_not_matter(make_file: Callable[..., Path]) -> None:
    """A copy elsewhere with another time is found again."""
    one, two = make_file(5000, "a.tif"), make_file(5000, "else/b.bin")
    os.utime(two, (1, 1))

    assert fingerprint(one) == fingerprint(two)


def test_a_file_that_shrinks_is_an_error(make_file: Callable[..., Path]) -> None:
    """Less than promised is never hashed as if it were all."""
    path = make_file(100)
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(EOFError):
            fingerprint_of(200, reader(fd))
    finally:
        os.close(fd)


@given(st.integers(0, 48 * 1024**4))
def test_samples_lie_in_the_file(size: int) -> None:
    """Every sample is inside the file, and no more than 3 MiB are read."""
    pieces = list(sampled_ranges(size))

    assert all(offset >= 0 and offset + length <= size for offset, length in pieces)
    assert sum(length for _, length in pieces) <= 3 * MIB
