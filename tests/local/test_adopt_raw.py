"""80 GB of a camera's RAW data on the running stack: adopted, never copied, shown after a few small reads."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from heavylift_local.testing import RunningStack, running_stack
from tests.heavylift.raw import raws
from tests.heavylift.raw.test_pictures import sparse

pytestmark = pytest.mark.xdist_group("local-stack")


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with running_stack() as running:
        yield running


def adopted(stack: RunningStack, path: Path) -> dict[str, object]:
    """The file's record once it has ended."""
    command = [sys.executable, "-m", "heavylift_local", "adopt", "--json", str(path), "--tenant", "acme"]
    environment = {**os.environ, "HEAVYLIFT_API": stack.api}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    line = json.loads(done.stdout)
    body: dict[str, object] = stack.request("GET", f"/v1/files/{line['file_id']}", token=stack.token("acme"))
    return body


@pytest.mark.parametrize("where", ["front", "end"])
def test_80_gigabytes(stack: RunningStack, tmp_path: Path, where: str) -> None:
    """At most 6 reads and the preview's bytes with 300 KB; both processes within 128 MiB; a real picture."""
    path = tmp_path / "huge.dng"
    length = sparse(path, where)
    body = adopted(stack, path)
    stage = body["stages"]["thumbnail"]  # type: ignore[index]
    (largest,) = [each for each in body["thumbnails"] if each["size"] == 1200]  # type: ignore[attr-defined]
    with urllib.request.urlopen(largest["url"], timeout=30) as answer:
        picture = Image.open(io.BytesIO(answer.read()))

    assert (body["status"], body["format"], body["width"]) == ("completed", "DNG", 200_000)
    assert body["decision"]["method"] == "embedded_preview"  # type: ignore[index]
    assert body["requests"] <= 6  # type: ignore[operator]
    assert body["bytes_read"] <= length + 300_000  # type: ignore[operator]
    assert max(stage["memory_peak_bytes"], stage["child_memory_peak_bytes"]) <= 128 << 20
    assert picture.size == (1200, 900)


def test_developed_on_the_stack(stack: RunningStack, tmp_path: Path) -> None:
    """Without a preview LibRaw develops the file within the function's memory and disk."""
    path = tmp_path / "plain.dng"
    path.write_bytes(raws.Writer().write(raws.dng([], size=(2600, 1800))))
    body = adopted(stack, path)

    assert (body["status"], body["preview_generated"]) == ("completed", True)
    assert body["decision"]["method"] == "raw_decode"  # type: ignore[index]


def test_a_broken_file_on_the_stack(stack: RunningStack, tmp_path: Path) -> None:
    """Half a DNG without a preview: placeholders, the reason, and the stack goes on."""
    path = tmp_path / "half.dng"
    data = raws.Writer().write(raws.dng([], size=(2600, 1800), thumb=False))
    path.write_bytes(data[: len(data) // 2])
    body = adopted(stack, path)

    assert body["status"] == "completed_with_errors"
    assert body["failure"]["code"] == "truncated"  # type: ignore[index]
    assert [each["placeholder"] for each in body["thumbnails"]] == [True] * 3  # type: ignore[attr-defined]
