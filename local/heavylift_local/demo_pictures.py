"""The demo's files: real pictures that ship inside pydicom, a large TIFF made from one, and files that must be refused.

Nothing is downloaded. The pictures are test data of the pydicom project; its JPEG and JPEG 2000 frames are taken
out of their DICOM wrapping as they are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
TIFF_WIDTH, TIFF_HEIGHT = 9_000, 8_000  # 206 MiB of RGB: four times the size from which a TIFF is read by bands


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file of the demo and what the system must make of it."""

    path: Path
    status: str = "completed"
    format: str | None = None
    thumbnails: int = 0
    code: str | None = None


def make_demo_files(folder: Path) -> list[DemoFile]:
    """Write the demo's files into ``folder``; takes about two seconds and 210 MiB of disk."""
    from pydicom import dcmread, examples
    from pydicom.data import get_testdata_file
    from pydicom.encaps import generate_frames

    picture = examples.rgb_color.pixel_array  # a real ultrasound frame: height x width x 3, 8 bits
    files = [_large_tiff(folder / "ultrasound-large.tif", picture)]

    from PIL import Image

    png = folder / "ultrasound.png"
    Image.fromarray(picture).resize((1600, 1200), Image.Resampling.BICUBIC).save(png)
    files.append(DemoFile(png, format="PNG", thumbnails=3))

    for name, source, detected in (
        ("ultrasound.jpg", "examples_ybr_color.dcm", "JPEG"),
        ("ultrasound.j2k", "examples_jpeg2k.dcm", "J2K"),
    ):
        path = folder / name
        dataset = dcmread(get_testdata_file(source, download=False))
        frames = int(dataset.get("NumberOfFrames", 1))
        path.write_bytes(next(generate_frames(dataset.PixelData, number_of_frames=frames)))
        files.append(DemoFile(path, format=detected, thumbnails=3))

    table = folder / "measurements.csv"
    table.write_text("id,kv,mas\n" + "".join(f"{n},{80 + n % 40},{n % 7}\n" for n in range(2_000)), "utf-8")
    files.append(DemoFile(table, format="CSV"))

    text = folder / "a.tif"
    text.write_text("This is a text that calls itself a picture.\n", "utf-8")
    files.append(DemoFile(text, status="rejected", code="type_mismatch"))
    empty = folder / "empty.tif"
    empty.write_bytes(b"")
    files.append(DemoFile(empty, status="rejected", code="empty_file"))
    return files


def _large_tiff(path: Path, picture: object) -> DemoFile:
    """An uncompressed RGB strip TIFF (TIFF 6.0, section 6), written row by row from a small picture enlarged."""
    from PIL import Image

    small = Image.fromarray(picture)  # type: ignore[arg-type]
    rows_per_strip = 64
    strip_count = -(-TIFF_HEIGHT // rows_per_strip)
    strip_bytes = TIFF_WIDTH * 3 * rows_per_strip
    counts = [min(rows_per_strip, TIFF_HEIGHT - n * rows_per_strip) * TIFF_WIDTH * 3 for n in range(strip_count)]
    entry_count = 10
    arrays_at = 8 + 2 + entry_count * 12 + 4
    pixels_at = arrays_at + 6 + 8 * strip_count
    offsets = [pixels_at + n * strip_bytes for n in range(strip_count)]
    short, long = 3, 4
    entries = [
        (256, long, 1, TIFF_WIDTH),
        (257, long, 1, TIFF_HEIGHT),
        (258, short, 3, arrays_at),
        (259, short, 1, 1),  # no compression
        (262, short, 1, 2),  # RGB
        (273, long, strip_count, arrays_at + 6),
        (277, short, 1, 3),
        (278, long, 1, rows_per_strip),
        (279, long, strip_count, arrays_at + 6 + 4 * strip_count),
        (284, short, 1, 1),  # chunky
    ]
    with path.open("wb") as out:
        out.write(struct.pack("<2sHI", b"II", 42, 8))
        out.write(struct.pack("<H", entry_count))
        for tag, kind, count, value in entries:
            out.write(struct.pack("<HHII", tag, kind, count, value))
        out.write(struct.pack("<I", 0))
        out.write(struct.pack("<3H", 8, 8, 8))
        out.write(struct.pack(f"<{strip_count}I", *offsets))
        out.write(struct.pack(f"<{strip_count}I", *counts))
        scale = small.height / TIFF_HEIGHT
        for top in range(0, TIFF_HEIGHT, rows_per_strip):
            height = min(rows_per_strip, TIFF_HEIGHT - top)
            box = (0, top * scale, small.width, (top + height) * scale)
            out.write(small.resize((TIFF_WIDTH, height), Image.Resampling.BILINEAR, box=box).tobytes())
    return DemoFile(path, format="TIFF", thumbnails=3)
