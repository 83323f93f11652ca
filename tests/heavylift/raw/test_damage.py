"""Damaged RAW files, all the way to a verdict: pictures or a code, in bounded memory and time."""

from __future__ import annotations

import io
import random
import time

import pytest
from PIL import Image

from heavylift.errors import ContentError
from heavylift.image.thumbnails import ThumbnailOptions
from heavylift.ranges import drive
from heavylift.raw.thumbnails import RawResult
from heavylift.sniff import detect, detection
from tests.heavylift.raw import raws
from tests.heavylift.raw.test_pictures import Source, made_of

MIB = 1 << 20
CODES = {
    "truncated",
    "corrupt",
    "unsupported_feature",
    "limit_exceeded",
    "too_large_to_decode",
    "too_long_to_decode",
    "not_recognised",
}
SIZE = (640, 480)


def check(data: bytes, name: str) -> RawResult:
    """A verdict within 20 seconds and 128 MiB; pictures of all sizes, that open; else placeholders and a code.

    LibRaw, which cannot stream, may take the child's limit.
    """
    started = time.monotonic()
    source = Source(data)
    made = made_of(source, detection(name))
    assert time.monotonic() - started < 20
    asked_libraw = made.result.decision.method == "raw_decode" or "LibRaw" in made.result.decision.reason
    assert made.result.child_memory_peak_bytes <= (ThumbnailOptions().budget_bytes if asked_libraw else 128 * MIB)
    assert [each.size for each in made.result.thumbnails] == [256, 512, 1200]
    for each in made.result.thumbnails:
        with Image.open(io.BytesIO(each.jpeg)) as opened:
            opened.load()
            assert opened.size == (each.width, each.height)
        assert each.placeholder == (made.result.decision.method == "placeholder")
    if made.failure is None:
        assert made.result.decision.method in ("embedded_preview", "raw_decode")
    else:
        assert made.failure.code in CODES
    drive(detect(len(data)), source.read)
    return made


def sample(name: str) -> bytes:
    if name == "DNG without previews":
        return raws.Writer().write(raws.dng([], size=(320, 240), thumb=False))
    return raws.BUILDERS[name](*SIZE) if name not in ("CR3",) else raws.cr3(SIZE, (800, 600))


@pytest.mark.parametrize("name", ["DNG", "DNG without previews", "CR3"])
@pytest.mark.parametrize("percent", [5, 35, 65, 95])
def test_truncated(name: str, percent: int) -> None:
    """Cut off at a part of its length."""
    data = sample(name)
    check(data[: len(data) * percent // 100], name.split()[0])


@pytest.mark.parametrize("name", ["DNG without previews", "DNG"])
def test_changed_bytes(name: str) -> None:
    """A dozen seeded changes of the first 512 bytes each; the full size takes every byte."""
    data = sample(name)
    chance = random.Random(name)
    for at in chance.sample(range(512), 12):
        changed = bytearray(data)
        changed[at] ^= chance.randrange(1, 256)
        check(bytes(changed), name.split()[0])


def test_sensor_data_cut_off_are_not_developed() -> None:
    """A truncated file is not shown half grey: LibRaw is not even asked."""
    data = raws.Writer().write(raws.dng([], size=(1500, 1000), thumb=False))
    made = check(data[: len(data) // 2], "DNG")
    assert made.failure is not None
    assert made.failure.code == "truncated"
    assert made.result.decision.method == "placeholder"


def test_an_absurd_size() -> None:
    """A kilobyte that claims a picture of 300,000 pixels a side is refused by its numbers."""
    data = raws.Writer().write(raws.dng([], sensor=raws.cfa_directory(300_000, 300_000, b"\x55" * 900), thumb=False))
    made = check(data, "DNG")
    assert made.failure is not None
    assert made.failure.code in ("truncated", "too_large_to_decode")


def test_a_preview_that_claims_too_much() -> None:
    """A progressive JPEG of 60,000 pixels a side behind a true frame header: refused before it is decoded."""
    jpeg = bytearray(raws.jpeg(640, 480, progressive=True))
    at = jpeg.index(b"\xff\xc2")
    jpeg[at + 5 : at + 9] = (60_000).to_bytes(2, "big") * 2
    data = raws.Writer().write(raws.dng([raws.jpeg_directory(bytes(jpeg), 60_000, 60_000)], size=(640, 480)))
    made = check(data, "DNG")
    assert made.result.decision.method == "raw_decode"
    assert "no coding is that short" in made.result.decision.reason


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", [*raws.BUILDERS, "DNG without previews"])
def test_every_truncation(name: str) -> None:
    """At every 5 %."""
    data = sample(name)
    for percent in range(5, 100, 5):
        check(data[: len(data) * percent // 100], name.split()[0])


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", [*raws.BUILDERS, "DNG without previews"])
def test_every_byte(name: str) -> None:
    """Each of the first 512 bytes changed."""
    data = sample(name)
    chance = random.Random(7)
    for at in range(512):
        changed = bytearray(data)
        changed[at] ^= chance.randrange(1, 256)
        try:
            check(bytes(changed), name.split()[0])
        except ContentError as error:
            raise AssertionError(f"byte {at}: {error}") from error
