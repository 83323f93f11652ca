"""The promise at its size: TIFFs of 700 MB and 2.1 GB up, drawn, down, within the published memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from heavylift_local.testing import RunningStack, running_stack
from tests.interop.conftest import Desk

MB = 1_000_000
ROWS = 128


def _write_large_tiff(path: Path, width: int, height: int) -> None:
    """Rows from a formula, strip by strip, by a writer that never holds the whole."""
    import tifffile

    def strips():
        rng = np.random.default_rng(5)
        x = np.arange(width, dtype=np.float32)[None, :, None]
        for top in range(0, height, ROWS):
            y = np.arange(top, min(top + ROWS, height), dtype=np.float32)[:, None, None]
            phase = np.array([0, 1.1, 2.3], np.float32)
            wave = 128 + 100 * np.sin(x / 901 + phase) * np.cos(y / 733 - phase)
            noise = rng.integers(-10, 10, wave.shape, dtype=np.int16)
            yield np.clip(wave + noise, 0, 255).astype(np.uint8)

    tifffile.imwrite(
        path, strips(), shape=(height, width, 3), dtype=np.uint8, photometric="rgb", rowsperstrip=ROWS, bigtiff=False
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _peaks(stack: RunningStack) -> dict[str, int]:
    """VmHWM by name, read from outside: the S3 server and every child of a function."""
    found: dict[str, int] = {}
    for process in psutil.Process(stack.pids["up"]).children(recursive=True):
        try:
            environ = process.environ()
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (psutil.Error, OSError):
            continue
        name = "s3" if process.pid == stack.pids["s3"] else environ.get("AWS_LAMBDA_FUNCTION_NAME")
        if name and "VmHWM:" in status:
            peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
            found[name] = max(found.get(name, 0), peak)
    return found


@pytest.mark.full
@pytest.mark.parametrize(("width", "height"), [(17_600, 13_260), (30_000, 23_400)], ids=["700MB", "2.1GB"])
def test_a_large_strip_tiff_by_the_command_line(tmp_path: Path, width: int, height: int) -> None:
    """put, get, thumbs by the real command; the same SHA-256, pictures like Pillow's, memory as published."""
    path = tmp_path / "large.tif"
    _write_large_tiff(path, width, height)
    command = str(Path(sys.executable).with_name("heavylift"))
    with running_stack(data_dir=tmp_path / "data") as stack:
        desk = Desk(stack, stack.token("full"), "full")
        env = {**os.environ, "HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": desk.token}
        done = subprocess.run([command, "put", str(path), "--json"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        line = json.loads(done.stdout)
        assert line["status"] == "completed"
        back = tmp_path / "back.tif"
        subprocess.run([command, "get", line["file_id"], "-o", str(back)], env=env, check=True, capture_output=True)
        assert _sha256(back) == _sha256(path)
        back.unlink()
        record = desk.call("GET", f"/v1/files/{line['file_id']}")
        peaks = _peaks(stack)
        print(json.dumps({"size": path.stat().st_size, "put": line, "peaks": peaks, "stages": record["stages"]}))
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as whole:
            pixels = whole.convert("RGB")
        for entry in record["thumbnails"]:
            with urllib.request.urlopen(entry["url"]) as answer:
                thumbnail = np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"), np.int16)
            size = (entry["width"], entry["height"])
            reference = np.asarray(pixels.resize(size, Image.Resampling.LANCZOS), np.int16)
            assert np.abs(thumbnail - reference).mean() <= 3
        assert peaks["thumbnail"] <= 128 * MB
        assert record["stages"]["thumbnail"]["child_memory_peak_bytes"] <= 128 * MB
        assert peaks["s3"] <= 100 * MB
        for name in ("sign", "complete", "sessions", "validate"):
            assert peaks[name] <= 160 * MB, name
