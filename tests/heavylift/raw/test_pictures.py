"""Pictures of RAW files: the right preview, turned the right way, by few reads; else developed; else a placeholder."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile
from PIL import Image

from heavylift.errors import ContentError, TransientError
from heavylift.image.thumbnails import ThumbnailOptions
from heavylift.ranges import drive
from heavylift.raw import thumbnails as raw_thumbnails
from heavylift.raw.thumbnails import RawResult, make_raw_thumbnails
from heavylift.sniff import Detection, detect, detection
from tests.heavylift.raw import raws
from tests.heavylift.raw.raws import BUILDERS, Directory, Writer, long, preview, short

MIB = 1 << 20


class Source:
    """A file or bytes as an object, every read counted."""

    def __init__(self, data: bytes | Path) -> None:
        self._file = io.BytesIO(data) if isinstance(data, bytes) else None
        self._fd = -1 if isinstance(data, bytes) else os.open(data, os.O_RDONLY)
        self.size_bytes = len(data) if isinstance(data, bytes) else os.fstat(self._fd).st_size
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        if self._file is None:
            return os.pread(self._fd, length, offset)
        return self._file.getvalue()[offset : offset + length]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)


def made_of(
    data: bytes | Source, found: Detection | None = None, *, seconds: float = 120.0, **options: object
) -> RawResult:
    source = Source(data) if isinstance(data, bytes) else data
    if found is None:
        found = drive(detect(source.size_bytes), source.read)
        source.reads.clear()
    chosen = ThumbnailOptions(**options)  # type: ignore[arg-type]
    return make_raw_thumbnails(source, found, chosen, lambda: seconds)


def pixels(made: RawResult, size: int = 1200) -> np.ndarray:
    (jpeg,) = [each.jpeg for each in made.result.thumbnails if each.size == size]
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def difference(made: RawResult, wanted: Image.Image) -> float:
    shown = pixels(made)
    expected = np.asarray(wanted.resize((shown.shape[1], shown.shape[0]), Image.Resampling.LANCZOS)).astype(int)
    return float(np.abs(shown - expected).mean())


def white_corner(made: RawResult) -> str:
    """Which corner the generated pictures' white field is in."""
    shown = pixels(made)
    height, width = shown.shape[:2]
    corners = {
        "top left": shown[: height // 6, : width // 6],
        "top right": shown[: height // 6, -(width // 6) :],
        "bottom left": shown[-(height // 6) :, : width // 6],
        "bottom right": shown[-(height // 6) :, -(width // 6) :],
    }
    return max(corners, key=lambda name: corners[name].min(axis=2).mean())


# --- previews


@pytest.mark.parametrize("name", BUILDERS)
def test_every_format(name: str) -> None:
    """A preview of every format becomes pictures of all sizes, within 3/255 of Pillow's own, upright."""
    data = BUILDERS[name]()
    made = made_of(data)
    orientation = made.result.facts.orientation
    size = {"ARW": (1616, 1080), "CR3": (1620, 1080)}.get(name, (1600, 1200))
    stored = raws.jpeg(*size, exif=raws.exif_block(6, "FUJIFILM", "X-T1")) if name == "RAF" else raws.jpeg(*size)
    turns = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    wanted = Image.open(io.BytesIO(stored))
    turn = turns[orientation]

    assert made.failure is None
    assert made.result.decision.method == "embedded_preview"
    assert [each.size for each in made.result.thumbnails] == [256, 512, 1200]
    assert all(max(each.width, each.height) == each.size for each in made.result.thumbnails)
    assert not any(each.placeholder or each.provisional for each in made.result.thumbnails)
    assert difference(made, wanted.transpose(turn) if turn is not None else wanted) <= 3
    assert made.result.child_memory_peak_bytes < 128 * MIB


CORNERS = {
    1: "top left",
    2: "top right",
    3: "bottom right",
    4: "bottom left",
    5: "top left",
    6: "top right",
    7: "bottom right",
    8: "bottom left",
}


@pytest.mark.parametrize("orientation", CORNERS)
def test_orientation_of_directory_0(orientation: int) -> None:
    """All eight of Exif's orientations, of directory 0, for a preview that says nothing of itself."""
    made = made_of(raws.simple_dng(1300, 900, orientation=orientation))
    assert white_corner(made) == CORNERS[orientation]


def test_orientation_is_applied_once() -> None:
    """A preview with an Exif block of its own is not turned twice, and directory 0 wins over it."""
    turned = raws.jpeg(1300, 900, exif=raws.exif_block(6))
    once = Writer().write(raws.dng([raws.jpeg_directory(turned, 1300, 900)], orientation=6))
    other = Writer().write(raws.dng([raws.jpeg_directory(turned, 1300, 900)], orientation=3))
    alone = Writer().write(raws.dng([raws.jpeg_directory(turned, 1300, 900)], orientation=None))

    assert white_corner(made_of(once)) == "top right"
    assert white_corner(made_of(other)) == "bottom right"
    assert white_corner(made_of(alone)) == "top right"


def test_a_preview_that_stands_upright_already() -> None:
    """A portrait preview beside sensor data that lie was turned by the camera: it is left as it is."""
    data = Writer().write(raws.dng([preview(900, 1300)], size=(320, 240), orientation=6))
    made = made_of(data)
    (largest,) = [each for each in made.result.thumbnails if each.size == 1200]
    assert (largest.width, largest.height) == (831, 1200)
    assert white_corner(made) == "top left"


def test_the_smallest_that_is_large_enough() -> None:
    """Of 1024, 1400 and 3000 pixels the middle one is read, and nothing of the others but their headers."""
    data = Writer().write(raws.dng([preview(3000, 2000), preview(1024, 768), preview(1400, 1000)]))
    source = Source(data)
    made = made_of(source)
    length = len(raws.jpeg(1400, 1000))

    assert "1400 x 1000" in made.result.decision.reason
    assert source.bytes_read <= length + 100_000


def test_sizes_that_lie() -> None:
    """A directory that calls a small JPEG large is found out; the JPEG's own frame header counts."""
    data = Writer().write(raws.dng([raws.jpeg_directory(raws.jpeg(200, 150), 4000, 3000), preview(1500, 1000)]))
    assert "1500 x 1000" in made_of(data).result.decision.reason


def test_a_small_preview_is_not_enlarged() -> None:
    """A file that holds 1024 pixels at most gives 1024, and says so."""
    made = made_of(Writer().write(raws.dng([preview(1024, 768)])))
    assert [(each.width, each.height) for each in made.result.thumbnails] == [(256, 192), (512, 384), (1024, 768)]
    assert "smaller than 1200" in made.result.decision.reason


@pytest.mark.parametrize("big", [False, True])
def test_uncompressed_previews(big: bool) -> None:
    """A preview stored as RGB strips is read by the TIFF engine, in both sizes of TIFF."""
    strips = raws.rgb_directory(1300, 900)
    data = Writer(big=big).write(raws.dng([strips], thumb=False, big=big, sensor=raws.cfa_directory(8, 8, bytes(128))))
    made = made_of(data)

    assert made.result.decision.method == "embedded_preview"
    assert difference(made, raws.picture(1300, 900)) <= 3


def test_long_previews_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview too long to be held is read in blocks, each once, and gives the same picture."""
    from heavylift.raw import windows

    whole = made_of(raws.simple_dng(3000, 2200))
    monkeypatch.setattr(windows, "ONE_READ_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(raw_thumbnails, "ONE_READ_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(windows, "BLOCK_BYTES", 1 << 18)
    source = Source(raws.simple_dng(3000, 2200))
    made = made_of(source)

    assert (pixels(made) == pixels(whole)).all()
    assert source.bytes_read < 1.2 * len(raws.jpeg(3000, 2200)) + 100_000


def sparse(path: Path, where: str) -> int:
    """A DNG of 80 GB with previews of 1024 and 6000 pixels at its front or its end; the larger one's length."""
    at_end = where == "end"
    offsets = 38_416
    sensor = raws.cfa_directory(200_000, 200_000, b"", big=True)
    sensor.entries = [entry for entry in sensor.entries if entry.tag not in (273, 278, 279)]
    sensor.entries += [
        long(322, 1024),
        long(323, 1024),
        raws.Entry(324, raws.LONG8, tuple(1 << 20 for _ in range(offsets))),
        raws.Entry(325, raws.LONG8, tuple(1 << 20 for _ in range(offsets))),
    ]
    gap = 79_990_000_000 if at_end else 0
    previews = [preview(1024, 768, big=True, gap=gap), preview(3600, 2700, big=True)]
    Writer(big=True).write_sparse(raws.dng(previews, big=True, sensor=sensor), path)
    if not at_end:
        os.truncate(path, 80_000_000_000)
    return len(raws.jpeg(3600, 2700))


@pytest.mark.parametrize("where", ["front", "end"])
def test_80_gigabytes_by_a_few_reads(tmp_path: Path, where: str) -> None:
    """1200 pixels of an 80 GB DNG: at most 6 reads, and the preview's bytes with 300 KB."""
    path = tmp_path / "huge.dng"
    length = sparse(path, where)
    source = Source(path)
    made = made_of(source, detection("DNG"))
    source.close()

    assert source.size_bytes > 79_000_000_000
    assert made.result.decision.method == "embedded_preview"
    assert len(source.reads) <= 6
    assert source.bytes_read <= length + 300_000
    assert difference(made, Image.open(io.BytesIO(raws.jpeg(3600, 2700)))) <= 3


@pytest.mark.parametrize("layout", ["all directories at the end", "each in its own place"])
def test_80_gigabytes_laid_out_otherwise(tmp_path: Path, layout: str) -> None:
    """The same bounds where the first directory is at the end, and where directories are gigabytes apart."""
    previews = [preview(1024, 768, big=True), preview(3600, 2700, big=True)]
    sensor = raws.cfa_directory(200_000, 200_000, b"", big=True)
    root = raws.dng(previews, big=True, sensor=sensor)
    if layout.startswith("all"):
        root.gap = 79_990_000_000
    else:
        for each in (sensor, *previews):
            each.gap = 26_000_000_000
    path = tmp_path / "huge.dng"
    Writer(big=True).write_sparse(root, path)
    source = Source(path)
    made = made_of(source, detection("DNG"))
    source.close()

    assert source.size_bytes > 77_000_000_000
    assert "3600 x 2700" in made.result.decision.reason
    assert made.result.facts.make == "Heavy Optics"
    assert len(source.reads) <= 6
    assert source.bytes_read <= len(raws.jpeg(3600, 2700)) + 300_000


# --- sensor data


def test_developed_as_libraw_does() -> None:
    """Without a preview the sensor data are developed at half size: the picture that rawpy makes, scaled."""
    data = Writer().write(raws.dng([], size=(2600, 1800), orientation=6))
    made = made_of(data)
    with rawpy.imread(io.BytesIO(data)) as raw:
        wanted = Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True, user_flip=6))

    assert made.failure is None
    assert made.result.decision.method == "raw_decode"
    assert [(each.width, each.height) for each in made.result.thumbnails][-1] == (831, 1200)
    assert difference(made, wanted) <= 3
    assert made.result.child_memory_peak_bytes <= made.result.decision.estimated_memory_bytes


def test_small_sensors_are_developed_whole() -> None:
    """Where half size would be too small the whole is developed, and nothing is enlarged."""
    made = made_of(Writer().write(raws.dng([], size=(1500, 1000))))
    tiny = made_of(Writer().write(raws.dng([], size=(320, 240))))

    assert [max(each.width, each.height) for each in made.result.thumbnails] == [256, 512, 1200]
    assert [max(each.width, each.height) for each in tiny.result.thumbnails] == [256, 320, 320]


def test_a_dng_of_another_writer(tmp_path: Path) -> None:
    """A mosaic written by tifffile with DNG's tags is told from TIFF, and developed."""
    path = tmp_path / "other.dng"
    cfa = np.frombuffer(raws.mosaic(1400, 1000), "<u2").reshape(1000, 1400)
    matrix = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    tifffile.imwrite(
        path,
        cfa,
        photometric=32803,
        metadata=None,
        extratags=[
            (33421, 3, 2, (2, 2), True),
            (33422, 1, 4, b"\x00\x01\x01\x02", True),
            (50706, 1, 4, b"\x01\x04\x00\x00", True),
            (50708, 2, 6, "Other", True),
            (50721, 10, 9, matrix, True),
            (50728, 5, 3, (1, 1, 1, 1, 1, 1), True),
        ],
    )
    made = made_of(path.read_bytes())

    assert (made.result.facts.format, made.result.facts.width) == ("DNG", 1400)
    assert made.result.decision.method == "raw_decode"
    assert white_corner(made) == "top left"


@pytest.mark.memory
def test_estimate_of_development() -> None:
    """24 megapixels of noise stay within the estimate, and the estimate within twice the truth."""
    noise = np.random.default_rng(1).integers(0, 60_000, 6000 * 4000, dtype=np.uint16).tobytes()
    made = made_of(Writer().write(raws.dng([], sensor=raws.cfa_directory(6000, 4000, noise))))
    peak, estimate = made.result.child_memory_peak_bytes, made.result.decision.estimated_memory_bytes

    assert made.result.decision.method == "raw_decode"
    assert peak <= estimate <= 2 * peak


def test_developing_respects_the_budget() -> None:
    """What would not fit is not copied: a refusal with its numbers, and a placeholder."""
    source = Source(Writer().write(raws.dng([], size=(6000, 4000))))
    made = made_of(source, budget_bytes=96 * MIB)

    assert made.failure is not None
    assert made.failure.code == "too_large_to_decode"
    assert source.bytes_read < 200_000
    assert all(each.placeholder for each in made.result.thumbnails)


def test_a_wrong_estimate_costs_a_placeholder(monkeypatch: pytest.MonkeyPatch) -> None:
    """LibRaw running into the child's limit is the file's fault, told as such."""
    from heavylift.raw import estimate

    monkeypatch.setattr(estimate, "HALF_BYTES_A_PIXEL", 0.1)
    monkeypatch.setattr(estimate, "BASE_BYTES", 1)
    made = made_of(Writer().write(raws.dng([], size=(6000, 4000))), budget_bytes=80 * MIB)

    assert made.failure is not None
    assert made.failure.code in ("too_large_to_decode", "corrupt")
    assert made.result.decision.method == "placeholder"


# --- the chain


def cut(data: bytes, jpeg: bytes, kept: int) -> bytes:
    """The file with the rest of a JPEG in it overwritten."""
    at = data.index(jpeg)
    return data[: at + kept] + b"\xff" * (len(jpeg) - kept) + data[at + len(jpeg) :]


def test_a_damaged_preview_gives_way_to_the_next() -> None:
    """The best preview is broken: the next larger one is taken."""
    data = Writer().write(raws.dng([preview(1300, 900), preview(2000, 1500)]))
    made = made_of(cut(data, raws.jpeg(1300, 900), 30))

    assert made.failure is None
    assert made.result.decision.reason.startswith("a JPEG of 2000 x 1500")
    assert "passed over (the preview in SubIFD 1" in made.result.decision.reason


def test_the_full_size_jpeg_of_a_cr3() -> None:
    """A CR3 whose PRVW is overwritten shows the JPEG of its first track; the sensor data's track is never taken."""
    data = raws.cr3()
    made = made_of(cut(data, raws.jpeg(1620, 1080), 40))

    assert made.failure is None
    assert made.result.decision.reason.startswith("a JPEG of 2400 x 1600 in track 1")
    assert white_corner(made) == "top right"


def test_all_previews_damaged() -> None:
    """No preview decodes: the sensor data are developed, with the reasons of both previews in the decision."""
    data = Writer().write(raws.dng([preview(1300, 900), preview(2000, 1500)], size=(1500, 1000)))
    short_one = cut(cut(data, raws.jpeg(1300, 900), 30), raws.jpeg(2000, 1500), 500)
    made = made_of(short_one)

    assert made.failure is None
    assert made.result.decision.method == "raw_decode"
    assert "SubIFD 1" in made.result.decision.reason
    assert "SubIFD 2" in made.result.decision.reason


def test_a_preview_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview that is not done in its time is given up, and none after it begun; the sensor data are developed."""
    monkeypatch.setattr(raw_thumbnails, "PREVIEW_SECONDS", -1.0)
    made = made_of(Writer().write(raws.dng([preview(1300, 900), preview(2000, 1500)], size=(1500, 1000))))

    assert made.failure is None
    assert made.result.decision.method == "raw_decode"
    assert made.result.decision.reason.count("stopped") == 1


def test_a_mask_that_is_smaller_is_not_shown() -> None:
    """A semantic mask cheaper than the preview (as phones write them) does not become the picture."""
    mask = raws.jpeg_directory(
        raws.jpeg(1400, 1000, seed=9), 1400, 1000, subfile=65540, compression=34892, photometric=52527
    )
    made = made_of(Writer().write(raws.dng([mask, preview(2000, 1500)])))
    assert "2000 x 1500" in made.result.decision.reason


def test_lossless_jpeg_is_no_preview() -> None:
    """Sensor data dressed as a preview (SOF3) are passed over."""
    odd = raws.jpeg_directory(raws.lossless_jpeg(4000, 3000, 90_000), 4000, 3000)
    made = made_of(Writer().write(raws.dng([odd, preview(1300, 900)])))
    assert "1300 x 900" in made.result.decision.reason


def test_the_last_resort() -> None:
    """A file that holds no picture that anybody reads: placeholders of all sizes in its shape, and every reason."""
    big = Writer(big=True).write(raws.dng([], size=(3000, 2000), big=True, orientation=8))
    made = made_of(big)
    shown = pixels(made)

    assert made.failure is not None
    assert made.failure.code == "too_large_to_decode"
    assert made.result.decision.method == "placeholder"
    assert "BigTIFF" in made.result.decision.reason
    assert [(each.size, each.placeholder) for each in made.result.thumbnails] == [
        (256, True),
        (512, True),
        (1200, True),
    ]
    assert [(each.width, each.height) for each in made.result.thumbnails][-1] == (800, 1200)
    assert shown.std() > 5  # something is written on it


def test_padded_placeholder() -> None:
    """Padding counts for placeholders too."""
    made = made_of(Writer(big=True).write(raws.dng([], big=True)), pad_color="white")
    assert [(each.width, each.height) for each in made.result.thumbnails] == [(256, 256), (512, 512), (1200, 1200)]


def test_a_small_preview_of_a_broken_file() -> None:
    """Sensor data cut off behind a small preview: the preview is shown, and the file is called truncated."""
    root = raws.dng([], thumb=False, sensor=raws.cfa_directory(3000, 2000, bytes(1000)))
    small = preview(640, 480)
    root.entries = [entry for entry in root.entries if entry.tag != 330]
    root.entries.append(raws.Entry(330, raws.LONG, (raws.Place(directory=small),)))
    made = made_of(Writer().write(root))

    assert made.failure is not None
    assert made.failure.code == "truncated"
    assert made.result.decision.method == "embedded_preview"
    assert not any(each.placeholder for each in made.result.thumbnails)


@pytest.mark.parametrize("name", ["CRW", "X3F", "MRW"])
def test_formats_that_only_libraw_knows(name: str) -> None:
    """Without a walk of our own LibRaw is asked; what it cannot read ends in a placeholder."""
    fronts: dict[str, Sequence[bytes]] = {
        "CRW": (b"II\x1a\0\0\0HEAPCCDR",),
        "X3F": (b"FOVb",),
        "MRW": (b"\0MRM",),
    }
    made = made_of(fronts[name][0] + bytes(5000))
    assert made.failure is not None
    assert made.failure.code in ("unsupported_feature", "corrupt")
    assert made.result.decision.method == "placeholder"


def test_libraw_extracts_where_we_do_not_walk() -> None:
    """Under the name of such a format LibRaw's own preview is taken (here a DNG's, for want of another)."""
    made = made_of(raws.simple_dng(1600, 1200, orientation=6), Detection("raw", "CRW", "image/x-canon-crw"))

    assert made.result.decision.method == "embedded_preview"
    assert "LibRaw" in made.result.decision.reason
    assert white_corner(made) == "top right"
    assert made.result.facts.width == 320


# --- the world


def test_time_is_up() -> None:
    """No seconds left is nobody's fault: it is tried again."""
    with pytest.raises(TransientError) as caught:
        made_of(raws.simple_dng(), seconds=0.0)
    assert caught.value.code == "out_of_time"


def test_a_replaced_object_ends_it() -> None:
    """source_changed is not a step of the chain."""

    class Replaced(Source):
        def read(self, offset: int, length: int) -> bytes:
            if offset > 70_000:
                raise ContentError("source_changed", "it was replaced")
            return super().read(offset, length)

    with pytest.raises(ContentError) as caught:
        made_of(Replaced(raws.simple_dng()), detection("DNG"))
    assert caught.value.code == "source_changed"


def test_an_unreachable_store_ends_it() -> None:
    """The world's errors go up, for the retry clock."""

    class Down(Source):
        def read(self, offset: int, length: int) -> bytes:
            raise TransientError("aws_unavailable", "S3 does not answer")

    with pytest.raises(TransientError):
        made_of(Down(raws.simple_dng()), detection("DNG"))


def test_no_copy_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy for LibRaw has no name: the temporary folder stays empty, also while it is there."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[Path]] = []

    class Watched(Source):
        def read(self, offset: int, length: int) -> bytes:
            seen.append(list(tmp_path.iterdir()))
            return super().read(offset, length)

    made = made_of(Watched(Writer().write(raws.dng([], size=(3000, 2000)))))
    assert made.result.decision.method == "raw_decode"
    assert len(seen) >= 3
    assert not any(seen)
    assert not list(tmp_path.iterdir())


def test_an_empty_file() -> None:
    """Nothing is nothing."""
    with pytest.raises(ContentError) as caught:
        made_of(b"", detection("DNG"))
    assert caught.value.code == "empty_file"


def test_a_maker_note_behind_a_directory_without_pictures() -> None:
    """A file of one empty directory is a placeholder with a reason, not a crash."""
    data = Writer().write(Directory([raws.Entry(50706, raws.BYTE, (1, 4, 0, 0)), short(256, 0)]))
    made = made_of(data)
    assert made.result.decision.method == "placeholder"
    assert made.failure is not None
    assert struct.unpack("<H", data[8:10]) == (2,)
