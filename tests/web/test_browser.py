"""A real browser: the page shows the stack, and a script of the page's origin uploads straight into S3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift_local.testing import RunningStack, running_stack
from tests.web.chromium import Browser, chromium

pytestmark = pytest.mark.xdist_group("stack")

UPLOAD = """
const [name, size, done] = arguments;
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
(async () => {
  const token = (await (await fetch("/_local/token")).json()).token;
  const api = async (method, path, body) => (await fetch(path, { method, body: body && JSON.stringify(body),
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" } })).json();
  const data = new Uint8Array(size).map((_, i) => (i * 31 + (i >> 8)) & 255);
  const blob = new Blob([data]);
  const [upload] = (await api("POST", "/v1/uploads", { files: [{ client_id: "b", name, size }] })).uploads;
  const parts = [];
  for (let n = 1; n <= upload.part_count; n += 1) {
    const piece = blob.slice((n - 1) * upload.part_size, Math.min(size, n * upload.part_size));
    const digest = await crypto.subtle.digest("SHA-256", await piece.arrayBuffer());
    parts.push({ piece, part_number: n, sha256: base64(digest) });
  }
  const signed = await api("POST", `/v1/uploads/${upload.upload_id}/parts`,
    { parts: parts.map(({ part_number, sha256 }) => ({ part_number, sha256 })) });
  const answers = await Promise.all(signed.parts.map((one, i) =>
    fetch(one.url, { method: "PUT", body: parts[i].piece, headers: one.headers })));
  const etags = answers.map((one) => one.headers.get("etag"));
  if (upload.mode === "multipart") await api("POST", `/v1/uploads/${upload.upload_id}/complete`, {});
  let file;
  do {
    await new Promise((resolve) => setTimeout(resolve, 200));
    file = await api("GET", `/v1/files/${upload.upload_id}`);
  } while (!file.final);
  const link = await api("GET", `/v1/files/${upload.upload_id}/content?redirect=false`);
  const back = await (await fetch(link.url)).arrayBuffer();
  done({ statuses: answers.map((one) => one.status), etags, file, mode: upload.mode,
    sha256: hex(await crypto.subtle.digest("SHA-256", data)),
    back: hex(await crypto.subtle.digest("SHA-256", back)) });
})().catch((error) => done({ error: String(error) }));
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with running_stack() as running:
        yield running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as one:
        yield one


def test_a_page_uploads_straight_into_s3_and_shows_the_file(stack: RunningStack, browser: Browser) -> None:
    """By presigned URLs under the buckets' CORS rules: one PUT and parts; the page then lists the files."""
    browser.open(stack.api + "/")
    for name, size, mode in (("small.bin", 1000, "single"), ("parts.bin", 17 * 1024 * 1024 + 5, "multipart")):
        result = browser.run(UPLOAD, name, size)
        assert "error" not in result, result
        assert result["mode"] == mode
        assert set(result["statuses"]) == {200}
        assert all(result["etags"]), "the ETag must be exposed by the bucket's CORS rule"
        assert result["file"]["status"] == "completed"
        assert result["back"] == result["sha256"]
    sha256 = hashlib.sha256(bytes((i * 31 + (i >> 8)) & 255 for i in range(1000))).hexdigest()
    listed = stack.request("GET", "/v1/files")["items"]
    (small,) = [one for one in listed if one["name"] == "small.bin"]
    assert stack.request("GET", f"/v1/files/{small['file_id']}")["checksums"]["sha256"] == sha256
    deadline = time.monotonic() + 20
    while "parts.bin" not in (text := browser.get("document.body.innerText")):
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
    assert "completed" in text
    assert "thumbnail" in text
    assert browser.get("document.getElementById('trouble').hidden"), text
