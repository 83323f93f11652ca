"""Peak memory of thumbnails of large TIFFs, by VmHWM: of the child that decodes, and of the parent that reads.

The small size is many times what either may hold, so that anything that grows with the file shows.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MIB = 1 << 20
PARENT = """
import json, os, sys
from heavylift.image.render import peak_bytes
from heavylift.image.thumbnails import ThumbnailOptions, make_thumbnails
from heavylift.ranges import drive
from heavylift.sniff import detect
class Source:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        self.size_bytes = os.fstat(self.fd).st_size
    def read(self, offset, length):
        return os.pread(self.fd, length, offset)
source = Source(sys.argv[1])
found = drive(detect(source.size_bytes), source.read)
before = peak_bytes()
made = make_thumbnails(source, found, ThumbnailOptions(), lambda: 600.0)
print(json.dumps({"child": made.child_memory_peak_bytes, "parent": peak_bytes() - before,
    "method": made.decision.method, "estimate": made.decision.estimated_memory_bytes,
    "sizes": [(t.width, t.height) for t in made.thumbnails]}))
"""


def write_tiff(path: Path, width: int, height: int, samples: int, bits: int, strip_rows: int) -> None:
    """An uncompressed TIFF (BigTIFF over 4 GiB), written in pieces; every row has its own brightness."""
    row_bytes = width * samples * bits // 8
    count = -(-height // strip_rows)
    big = row_bytes * height > 4_000_000_000
    photometric = 2 if samples == 3 else 5 if samples == 4 else 1
    base = np.random.default_rng(0).integers(0, 64, row_bytes, dtype=np.uint8)
    with path.open("wb") as file:
        file.write(bytes(16))
        for start in range(0, height, strip_rows):
            rows = min(strip_rows, height - start)
            file.write((base + np.uint8(start * 190 // height)).tobytes() * rows)
        offsets = [16 + i * strip_rows * row_bytes for i in range(count)]
        counts = [min(strip_rows, height - i * strip_rows) * row_bytes for i in range(count)]
        code, wide = ("Q", 16) if big else ("I", 4)
        values = [
            (256, 4, struct.pack("<I", width)),
            (257, 4, struct.pack("<I", height)),
            (258, 3, struct.pack(f"<{samples}H", *[bits] * samples)),
            (259, 3, struct.pack("<H", 1)),
            (262, 3, struct.pack("<H", photometric)),
            (273, wide, struct.pack(f"<{count}{code}", *offsets)),
            (277, 3, struct.pack("<H", samples)),
            (278, 4, struct.pack("<I", strip_rows)),
            (279, wide, struct.pack(f"<{count}{code}", *counts)),
        ]
        room, entry, head = (8, "<HHQ", "<Q") if big else (4, "<HHI", "<H")
        at = file.tell()
        behind = at + struct.calcsize(head) + len(values) * (struct.calcsize(entry) + room) + room
        out, blob = struct.pack(head, len(values)), b""
        for tag, kind, value in values:
            out += struct.pack(entry, tag, kind, len(value) // {3: 2, 4: 4, 16: 8}[kind])
            if len(value) <= room:
                out += value.ljust(room, b"\0")
            else:
                out += struct.pack("<Q" if big else "<I", behind + len(blob))
                blob += value
        file.write(out + bytes(room) + blob)
        file.seek(0)
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if big else struct.pack("<2sHI", b"II", 42, at))


def measured(path: Path) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PARENT, str(path)], capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def assert_bounded(result: dict[str, object]) -> None:
    assert result["method"] == "chunked"
    assert isinstance(result["child"], int)
    assert isinstance(result["estimate"], int)
    assert isinstance(result["parent"], int)
    assert result["child"] <= 70 * MIB
    assert result["child"] <= result["estimate"]
    assert result["parent"] <= 32 * MIB  # twelve ranges of 2 MiB in flight, and the thumbnails


@pytest.mark.memory
@pytest.mark.parametrize(
    ("width", "height", "samples", "bits", "strip_rows"),
    [(10_000, 5_000, 3, 8, 64), (9_000, 4_000, 4, 8, 4_000), (6_000, 4_200, 3, 16, 1)],
    ids=["rgb", "cmyk in one strip", "rgb16 by rows"],
)
def test_150_megabytes(tmp_path: Path, width: int, height: int, samples: int, bits: int, strip_rows: int) -> None:
    """150 MB of pixels: the child stays below 70 MiB, the parent gains less than 32 MiB."""
    path = tmp_path / "large.tif"
    write_tiff(path, width, height, samples, bits, strip_rows)
    assert_bounded(measured(path))


@pytest.mark.full
@pytest.mark.memory
@pytest.mark.parametrize(("width", "height"), [(30_000, 23_400), (45_000, 40_000)], ids=["2.1 GB", "5.4 GB BigTIFF"])
def test_gigabytes(tmp_path: Path, width: int, height: int) -> None:
    """The same bounds for files that are many times as large."""
    path = tmp_path / "huge.tif"
    write_tiff(path, width, height, 3, 8, 64)
    assert_bounded(measured(path))
