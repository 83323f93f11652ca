"""TIFFs that take longer than one call of the function: adopted, drawn in slices, the right picture, within memory."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heavylift_local.testing import RunningStack, running_stack

pytestmark = pytest.mark.xdist_group("long tiff")
MIB = 1 << 20
STRIP_ROWS = 64


def write_sparse(path: Path, width: int, height: int) -> np.ndarray:
    """An RGB BigTIFF of one strip per 64 rows, most of them holes in the file; the brightness of each strip."""
    row_bytes = 3 * width
    count = -(-height // STRIP_ROWS)
    offsets = [16 + n * STRIP_ROWS * row_bytes for n in range(count)]
    lengths = [min(STRIP_ROWS, height - n * STRIP_ROWS) * row_bytes for n in range(count)]
    fields: list[tuple[int, int, bytes]] = [
        (256, 4, struct.pack("<I", width)),
        (257, 4, struct.pack("<I", height)),
        (258, 3, struct.pack("<3H", 8, 8, 8)),
        (259, 3, struct.pack("<H", 1)),
        (262, 3, struct.pack("<H", 2)),
        (273, 16, struct.pack(f"<{count}Q", *offsets)),
        (277, 3, struct.pack("<H", 3)),
        (278, 4, struct.pack("<I", STRIP_ROWS)),
        (279, 16, struct.pack(f"<{count}Q", *lengths)),
    ]
    at = offsets[-1] + lengths[-1]
    directory, behind = struct.pack("<Q", len(fields)), b""
    behind_at = at + 8 + 20 * len(fields) + 8
    for tag, kind, value in fields:
        directory += struct.pack("<HHQ", tag, kind, len(value) // {3: 2, 4: 4, 16: 8}[kind])
        directory += value.ljust(8, b"\0") if len(value) <= 8 else struct.pack("<Q", behind_at + len(behind))
        behind += value if len(value) > 8 else b""
    bright = np.zeros(count)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, at))
        for n in range(0, count, 37):
            bright[n] = 40 + n * 200 // count
            file.seek(offsets[n])
            row = np.full(row_bytes, bright[n], np.uint8).tobytes()
            for _ in range(lengths[n] // row_bytes):
                file.write(row)
        file.seek(at)
        file.write(directory + bytes(8) + behind)
    return bright


def adopted(stack: RunningStack, path: Path, patience_s: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "heavylift_local", "adopt", "--json", str(path), "--tenant", "acme"]
    environment = {**os.environ, "HEAVYLIFT_API": stack.api}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=patience_s, check=False)
    line = json.loads(done.stdout)
    body: dict[str, Any] = stack.request("GET", f"/v1/files/{line['file_id']}", token=stack.token("acme"))
    return body


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    ("width", "height", "timeout_s", "latency_ms"),
    [(10_000, 4_400, 6, 400), (100_000, 67_000, 30, 0)],
    ids=["132 MB", "20 GB"],
)
def test_over_slices(tmp_path: Path, width: int, height: int, timeout_s: int, latency_ms: int) -> None:
    """Several calls, none of which broke; every byte read about once; the strips are where they belong."""
    path = tmp_path / "long.tif"
    bright = write_sparse(path, width, height)
    size = path.stat().st_size
    with running_stack() as stack:
        slow = {"callers": {"thumbnail": {"latency_ms": {"GetObject": latency_ms}}}}
        stack.faults({"s3": slow, "functions": {"thumbnail": {"timeout_s": timeout_s}}})
        body = adopted(stack, path, 1_800)
        thumbnail, counted = stack.state()["functions"]["thumbnail"], stack.counters()["thumbnail"]
        stack.faults({})
        stage = body["stages"]["thumbnail"]
        print(
            f"\n{size / 1e9:.1f} GB: {thumbnail['invocations']} calls, {stage['ms'] / 1000:.1f} s, "
            f"{stage['requests']} requests, {stage['bytes_in'] / 1e9:.2f} GB read, peaks "
            f"{stage['memory_peak_bytes'] / MIB:.0f} + {stage['child_memory_peak_bytes'] / MIB:.0f} MiB"
        )
        (largest,) = [each for each in body["thumbnails"] if each["size"] == 1200]
        with urllib.request.urlopen(largest["url"], timeout=30) as answer:
            picture = np.asarray(Image.open(io.BytesIO(answer.read())).convert("L"), float)

    assert body["status"] == "completed"
    assert thumbnail["errors"] == 0
    assert thumbnail["invocations"] >= 2
    assert 1 <= counted["s3.PutObject"]["requests"] - 3 <= thumbnail["invocations"] - 1  # checkpoints, and pictures
    assert size * 0.99 <= stage["bytes_in"] <= size + thumbnail["invocations"] * 40 * MIB
    assert max(stage["memory_peak_bytes"], stage["child_memory_peak_bytes"]) <= 128 * MIB
    rows = np.minimum(np.arange(height) // STRIP_ROWS, len(bright) - 1)
    column = Image.fromarray(bright[rows][:, None].astype(np.float32))
    wanted = np.asarray(column.resize((1, picture.shape[0]), Image.Resampling.LANCZOS))
    assert float(np.abs(picture - np.clip(wanted, 0, 255)).mean()) <= 3
