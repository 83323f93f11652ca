"""LZW strips in pieces, against the bytes that libtiff's encoder was given."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.tiff import lzw
from heavylift.tiff.lzw import Mark, pieces
from tests.heavylift.image.pictures import scene

Array = np.ndarray


def coded(pixels: Array) -> bytes:
    """One strip by libtiff."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "TIFF", compression="tiff_lzw", tiffinfo={278: len(pixels), 317: 1})
    with tifffile.TiffFile(io.BytesIO(out.getvalue())) as file:
        (offset,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    return out.getvalue()[offset : offset + count]


def decoded(strip: bytes, size: int, start: Mark = Mark()) -> Iterator[tuple[bytes, Mark]]:
    source = io.BytesIO(strip)
    source.seek(start.bit // 8)
    return pieces(source.read, len(strip), size, start)


PICTURES = {
    "noise": np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
    "scene": scene(500, 400),
    "flat": np.zeros((900, 1000, 3), np.uint8),
    "few colours": scene(600, 500) // 64 * 64,
    "one pixel": np.full((1, 1, 3), 7, np.uint8),
}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lzw, "PIECE_BYTES", 20_000)
    monkeypatch.setattr(lzw, "OUT_BYTES", 50_000)


@pytest.mark.parametrize("name", PICTURES)
def test_bytes_are_those_that_were_coded(name: str) -> None:
    """Of every kind of content; from every mark on, the rest."""
    wanted = PICTURES[name].tobytes()
    strip = coded(PICTURES[name])
    made = list(decoded(strip, len(wanted)))

    assert b"".join(piece for piece, _ in made) == wanted
    for _, mark in made[:-1:2]:
        assert b"".join(piece for piece, _ in decoded(strip, len(wanted), mark)) == wanted[mark.out :]


def test_fewer_rows_than_are_coded() -> None:
    """What lies behind the rows that the picture has is not decoded."""
    wanted = PICTURES["scene"].tobytes()[:123_457]

    assert b"".join(piece for piece, _ in decoded(coded(PICTURES["scene"]), len(wanted))) == wanted


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_strip_that_ends_early(share: float) -> None:
    """Truncated, however many segments are whole."""
    strip = coded(PICTURES["scene"])
    with pytest.raises(ContentError) as caught:
        list(decoded(strip[: int(len(strip) * share)], PICTURES["scene"].size))

    assert caught.value.code == "truncated"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 120_000), st.integers(1, 255))
def test_damage_is_told_or_harmless(place: int, change: int) -> None:
    """A changed byte gives a code or as many bytes as were wanted, never a crash, never more."""
    strip = bytearray(coded(PICTURES["noise"][:60]))
    strip[place % len(strip)] ^= change
    size = PICTURES["noise"][:60].size
    try:
        made = b"".join(piece for piece, _ in decoded(bytes(strip), size))
    except (ContentError, OSError) as error:
        assert isinstance(error, OSError) or error.code in ("corrupt", "truncated")  # noqa: PT017
    else:
        assert len(made) == size


def test_no_clear_code_at_the_beginning() -> None:
    """Streams of another making (the old bit order among them) are refused."""
    with pytest.raises(ContentError) as caught:
        list(decoded(b"\x00\x01" + bytes(100), 500))

    assert caught.value.code == "corrupt"
