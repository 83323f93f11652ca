"""``heavylift adopt`` with the project's own functions: a file on disk gets its thumbnails without being copied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from heavylift_local.testing import RunningStack, running_stack

pytestmark = pytest.mark.xdist_group("local-stack")


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with running_stack(env={"HEAVYLIFT_CORS_ORIGINS": "https://app.example"}) as running:
        yield running


def adopt(stack: RunningStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heavylift_local", "adopt", "--json", *arguments]
    environment = {**os.environ, "HEAVYLIFT_API": stack.api}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_an_adopted_picture_is_completed_and_not_copied(stack: RunningStack, tmp_path: Path) -> None:
    """Record, thumbnails and content as of any file; the bytes stay where they are."""
    picture = tmp_path / "Scan 7.tif"
    Image.linear_gradient("L").resize((900, 700)).convert("RGB").save(picture)
    done = adopt(stack, str(picture), "--tenant", "acme")
    line = json.loads(done.stdout)
    record = stack.request("GET", f"/v1/files/{line['file_id']}", token=stack.token("acme"))

    assert (done.returncode, line["status"], line["kind"]) == (0, "completed", "image")
    assert (line["name"], line["size"]) == ("Scan 7.tif", picture.stat().st_size)
    assert (record["format"], record["media_type"], record["final"]) == ("TIFF", "image/tiff", True)
    assert [picture["size"] for picture in record["thumbnails"]] == [256, 512, 1200]
    assert not record["checksums"].get("sha256")
    stored = sum(path.stat().st_size for path in (stack.data / "s3").rglob("*") if path.is_file())
    assert stored < line["size"]


def test_a_refused_file_says_why_and_the_others_go_on(stack: RunningStack, tmp_path: Path) -> None:
    """Empty, absent, a folder, a program: a sentence each, exit 1, and the good one is taken."""
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "program").write_bytes(b"\x7fELF" + bytes(200))
    (tmp_path / "notes.txt").write_text("good\n")
    names = ["empty.tif", "absent.tif", "program", "", "notes.txt"]
    done = adopt(stack, *(str(tmp_path / name) for name in names))

    assert done.returncode == 1
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["notes.txt"]
    assert len(done.stderr.splitlines()) == 4
    for words in ("empty_file", "no regular file", "type_refused"):
        assert words in done.stderr


def test_another_origin_may_be_allowed(stack: RunningStack) -> None:
    """HEAVYLIFT_CORS_ORIGINS answers its preflights and nobody else's, on the API and on S3."""
    import http.client
    from urllib.parse import urlsplit

    def preflight(origin: str) -> tuple[int, str | None]:
        connection = http.client.HTTPConnection(urlsplit(stack.api).netloc, timeout=30)
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        connection.request("OPTIONS", "/v1/uploads", headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers.get("access-control-allow-origin")

    assert preflight("https://app.example") == (204, "https://app.example")
    assert preflight("https://evil.example") == (204, None)
