"""Work in slices: stopped after any band and taken up again, the picture is the same to the bit."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from heavylift.image.facts import read_tiff
from heavylift.image.sources import LocalSource
from heavylift.ranges import drive
from heavylift.sniff import detection
from heavylift.tiff import bands
from heavylift.tiff.bands import Path, choose_path, choose_shrink, fit_within
from heavylift.tiff.layout import read_chunks
from heavylift.tiff.pace import Paused
from heavylift.tiff.reducer import reduce_tiff
from tests.heavylift.image.pictures import saved, scene, tiff

RGB = scene(521, 397)
GREY = RGB[:, :, 1].copy()
EDGE = 60


class Reading(LocalSource):
    """Counts the bytes that are taken from it."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        super().__init__(self.file, len(data))


def reduction(data: bytes, band_bytes: int = 30_000) -> Callable[..., Image.Image]:
    source = Reading(data)
    structure = drive(read_tiff(detection("TIFF"), len(data)), source.fetch)
    picture = structure.main
    chunks = drive(read_chunks(picture, len(data)), source.fetch)
    out = fit_within(picture.width, picture.height, EDGE)
    shrink = choose_shrink(picture, *out, band_bytes=band_bytes)

    def run(**options: object) -> Image.Image:
        return reduce_tiff(Reading(data), picture, chunks, shrink, out, **options)  # type: ignore[arg-type]

    run.path = choose_path(picture)  # type: ignore[attr-defined]
    return run


def in_slices(run: Callable[..., Image.Image], bands_each: int) -> tuple[Image.Image, list[int]]:
    """The picture, and the rows that were done when each slice ended."""
    checkpoint, ended = b"", []
    while True:
        left = bands_each

        def pause(done: int) -> bool:
            nonlocal left
            left -= 1
            return left == 0

        try:
            return run(checkpoint=checkpoint, pause=pause), ended
        except Paused as stop:
            ended.append(stop.done)
            checkpoint = stop.checkpoint


def one_strip(compression: str) -> bytes:
    return saved(Image.fromarray(RGB), "TIFF", compression=compression, tiffinfo={278: RGB.shape[0]})


CASES: dict[str, tuple[bytes, Path]] = {
    "rows": (tiff(RGB, photometric="rgb", rowsperstrip=7), Path.ROWS),
    "one raw strip": (tiff(RGB, photometric="rgb", rowsperstrip=397), Path.ROWS),
    "tiles": (tiff(RGB, photometric="rgb", tile=(64, 48), compression="zlib"), Path.CHUNKS),
    "carried strips": (tiff(RGB, photometric="rgb", rowsperstrip=31, compression="zlib"), Path.CHUNKS),
    "low strips": (tiff(RGB, photometric="rgb", rowsperstrip=1, compression="zlib"), Path.CHUNKS),
    "planes": (tiff(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate"), Path.ROWS),
    "float rgb": (tiff(RGB.astype("f4") / 9, photometric="rgb", rowsperstrip=17, compression="zlib"), Path.CHUNKS),
    "float planes": (tiff(RGB.astype("f4"), photometric="rgb", tile=(64, 48)), Path.CHUNKS),
    "inflated": (tiff(RGB, photometric="rgb", rowsperstrip=397, compression="zlib", predictor=True), Path.INFLATE),
    "inflated strips": (tiff(RGB, photometric="rgb", rowsperstrip=150, compression="zlib"), Path.INFLATE),
    "lzw": (one_strip("tiff_lzw"), Path.LZW),
}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips count as large from 150 kB on."""
    monkeypatch.setattr(bands, "CHUNK_DECODED_BYTES_MAX", 150_000)
    monkeypatch.setattr("heavylift.tiff.lzw.OUT_BYTES", 20_000)
    monkeypatch.setattr("heavylift.tiff.lzw.PIECE_BYTES", 30_000)


@pytest.mark.parametrize("name", CASES)
def test_stopped_after_every_band(name: str) -> None:
    """The same picture, in as many slices as there are bands; each slice gets further than the last."""
    data, path = CASES[name]
    run = reduction(data)
    assert run.path is path  # type: ignore[attr-defined]
    whole = run()
    for bands_each in (1, 3):
        made, ended = in_slices(run, bands_each)
        assert ended == sorted(set(ended))
        assert len(ended) >= (6 if bands_each == 1 else 2)
        assert made.mode == whole.mode
        assert np.array_equal(np.asarray(made), np.asarray(whole))


def test_a_checkpoint_is_repeatable_and_an_older_one_is_as_good() -> None:
    """The same checkpoint twice, and an old one after a newer, lead to the same picture."""
    run = reduction(CASES["rows"][0])
    whole = np.asarray(run())
    kept: list[bytes] = []
    for stop_at in (1, 2, 3):
        left = stop_at

        def pause(done: int) -> bool:
            nonlocal left
            left -= 1
            return left == 0

        with pytest.raises(Paused) as stop:
            run(checkpoint=kept[-1] if kept else b"", pause=pause)
        kept.append(stop.value.checkpoint)
    for checkpoint in (*kept, *reversed(kept), kept[0]):
        assert np.array_equal(np.asarray(run(checkpoint=checkpoint)), whole)


@pytest.mark.parametrize("damage", ["other plan", "cut", "no checkpoint", "garbage"])
def test_a_checkpoint_that_does_not_fit_has_no_effect(damage: str) -> None:
    """One of another band size, one that is not whole, or something else: the work begins anew."""
    run = reduction(CASES["tiles"][0])
    with pytest.raises(Paused) as stop:
        reduction(CASES["tiles"][0], 200_000 if damage == "other plan" else 30_000)(pause=lambda done: True)
    checkpoint = stop.value.checkpoint
    checkpoint = {"cut": checkpoint[:-40], "no checkpoint": b"", "garbage": b"HLP1" + bytes(90)}.get(damage, checkpoint)

    assert np.array_equal(np.asarray(run(checkpoint=checkpoint)), np.asarray(run()))


@pytest.mark.parametrize(("name", "share"), [("rows", 0.03), ("tiles", 0.15), ("lzw", 0.35)])
def test_a_slice_reads_on_where_the_last_one_ended(name: str, share: float) -> None:
    """What was read before is not read again; of an LZW strip only what lies behind the last Clear code before."""
    data, _ = CASES[name]
    run = reduction(data)
    with pytest.raises(Paused) as stop:
        run(pause=lambda done: done > 330)
    taken: list[int] = []
    real = Reading.stream

    def stream(self: Reading, ranges: object, **given: int) -> object:
        wanted = list(ranges)  # type: ignore[call-overload]
        taken.extend(want.length for want in wanted)
        return real(self, wanted, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reading, "stream", stream)
        run(checkpoint=stop.value.checkpoint)
    left = (RGB.shape[0] - stop.value.done) / RGB.shape[0]

    assert sum(taken) <= (left + share) * len(data)
