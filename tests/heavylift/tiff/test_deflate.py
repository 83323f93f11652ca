"""Deflated chunks: what zlib says of a stream is what counts, and frames of raw blocks are ZSTD to others."""

from __future__ import annotations

import zlib

import imagecodecs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import ContentError
from heavylift.tiff import deflate
from heavylift.tiff.deflate import inflate, raw_frame, raw_frame_bytes

DATA = bytes(range(251)) * 40


@pytest.mark.parametrize("size", [0, 1, 131_071, 131_072, 131_073, 196_608, 262_144, 786_433])
def test_raw_frames_are_zstd(size: int) -> None:
    """Whatever the length, a decoder of ZSTD gives back what was put in."""
    content = (DATA * (size // len(DATA) + 1))[:size]
    frame = raw_frame(content)

    assert len(frame) == raw_frame_bytes(size)
    assert imagecodecs.zstd_decode(bytes(frame)) == content


def inflated(stored: bytes, size: int) -> bytes:
    out = bytearray(size)
    inflate(stored, memoryview(out))
    return bytes(out)


STREAM = zlib.compress(DATA)


@pytest.mark.parametrize("library", ["libdeflate", "zlib"])
def test_streams(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole streams, longer ones, ones without an end, and bytes behind: the same with libdeflate and without."""
    if library == "zlib":
        monkeypatch.setattr(deflate, "_libdeflate", lambda: None)

    assert inflated(STREAM, len(DATA)) == DATA
    assert inflated(STREAM, len(DATA) - 7) == DATA[:-7]
    assert inflated(STREAM[:-4], len(DATA)) == DATA
    assert inflated(STREAM + b"tail", len(DATA)) == DATA
    with pytest.raises(ContentError) as caught:
        inflated(STREAM, len(DATA) + 3)
    assert (caught.value.code, caught.value.facts["missing_bytes"]) == ("truncated", 3)
    with pytest.raises(ContentError) as caught:
        inflated(STREAM[: len(STREAM) // 2], len(DATA))
    assert caught.value.code == "truncated"
    with pytest.raises(zlib.error):
        inflated(STREAM[:-1] + bytes([STREAM[-1] ^ 1]), len(DATA))
    with pytest.raises(zlib.error):
        inflated(b"no stream at all", len(DATA))


@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 255), st.integers(0, 500))
def test_agrees_with_zlib(content: bytes, place: int, mask: int, size: int) -> None:
    """A stream with a changed byte is read as zlib reads it, or refused as zlib refuses it."""
    stored = bytearray(zlib.compress(content))
    stored[place * (len(stored) - 1) // 3] ^= mask
    inflater = zlib.decompressobj()
    try:
        wanted = inflater.decompress(bytes(stored), size) if size else b""
    except zlib.error:
        with pytest.raises((zlib.error, ContentError)):
            inflated(bytes(stored), size)
        return
    if size == 0:
        return
    if len(wanted) < size:
        with pytest.raises((zlib.error, ContentError)):
            inflated(bytes(stored), size)
        return
    try:
        assert inflated(bytes(stored), size) == wanted
    except zlib.error:  # what is wanted decodes, the checksum behind it does not fit
        assert mask
