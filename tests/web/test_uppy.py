"""Uppy as it is published uploads here: the current major of its S3 plugin and the one before, in a real browser.

The page is of another origin than the API, so that every CORS rule counts: the API's for Companion's routes, the
bucket's for forms and parts. npm brings Uppy (tests/web/uppy); without npm's registry these tests fail and say so.
"""

from __future__ import annotations

import hashlib
import time
import urllib.request
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

from heavylift_local.testing import CallFailed, RunningStack, running_stack
from tests.web.chromium import Browser, chromium
from tests.web.uppy.build import MAJORS, bundle

pytestmark = pytest.mark.xdist_group("stack")

MIB = 1024 * 1024
VERSIONS = {"5": "5.1.0", "6": "6.3.1"}
RUN = """
const [endpoint, files, options, done] = arguments;
upload(endpoint, files, options).then(done, (error) => done({ error: String(error) }));
"""


@dataclass(frozen=True, slots=True)
class Uppy:
    major: str
    browser: Browser

    def run(self, endpoint: str, files: list[dict[str, Any]], seconds: float = 90, **options: Any) -> dict[str, Any]:
        """{"version", "errors", "done": [[name, key, URL]]} of one upload of all files."""
        result: dict[str, Any] = self.browser.run(RUN, endpoint, files, options, seconds=seconds)
        assert "error" not in result, result
        return result


@cache
def twice() -> bytes:
    words, x = array("I"), 1
    for _ in range(MIB // 4):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        words.append(x)
    return words.tobytes() * 2


def pieces_of(size: int, seed: int) -> Iterator[bytes]:
    """The file that page.js makes, in pieces."""
    for at in range(0, size, MIB):
        start = (at // MIB * 4099 + seed * 257) % MIB
        yield twice()[start : start + min(MIB, size - at)]


def digest_of(size: int, seed: int) -> str:
    digest = hashlib.sha256()
    for piece in pieces_of(size, seed):
        digest.update(piece)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def bundles() -> dict[str, Path]:
    """Both majors, built if they are not there yet."""
    try:
        return {major: bundle(major) for major in MAJORS}
    except SystemExit as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="module")
def page(bundles: dict[str, Path]) -> Iterator[str]:
    """A web site of its own: /5 and /6 are pages with Uppy."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").removesuffix(".js")
            script = self.path.endswith(".js")
            body = b""
            if name in bundles:
                module = f'<script type="module" src="/{name}.js"></script>'
                text = f'<!doctype html><title>Uppy {name}</title><input type="file">{module}'
                body = bundles[name].read_bytes() if script else text.encode()
            self.send_response(200 if body else 404)
            self.send_header("content-type", "text/javascript" if script else "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stack(page: str) -> Iterator[RunningStack]:
    with running_stack(env={"HEAVYLIFT_CORS_ORIGINS": page}) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(params=MAJORS)
def uppy(request: pytest.FixtureRequest, page: str, browser: Browser) -> Uppy:
    """A page with one of the majors, freshly loaded."""
    browser.open(f"{page}/{request.param}")
    deadline = time.monotonic() + 60
    while not browser.get("typeof window.upload === 'function'"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return Uppy(request.param, browser)


def endpoint_of(stack: RunningStack) -> str:
    return str(stack.request("POST", "/v1/companion-tickets", {})["endpoint"])


def final(stack: RunningStack, file_id: str, seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        file: dict[str, Any] = stack.request("GET", f"/v1/files/{file_id}")
        if file["final"]:
            return file
        assert time.monotonic() < deadline, file
        time.sleep(0.1)


def check(stack: RunningStack, result: dict[str, Any], files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every file is completed, downloads as the bytes that the page made, and says that only its size is proven."""
    assert result["errors"] == []
    wanted = {file["name"]: file for file in files}
    assert sorted(name for name, _, _ in result["done"]) == sorted(wanted)
    found = []
    for name, key, url in result["done"]:
        # S3 writes the slashes of a form's Location as %2F.
        assert unquote(url) == f"{stack.s3}/{stack.ready['buckets']['staging']}/{key}"
        file = final(stack, key.rpartition("/")[2])
        assert (file["name"], file["status"], file["size"]) == (name, "completed", wanted[name]["size"])
        assert file["integrity"] == "size_only"
        assert file["metadata"] == {"seed": str(wanted[name]["seed"])}
        link = stack.request("GET", f"/v1/files/{file['file_id']}/content?redirect=false")["url"]
        digest = hashlib.sha256()
        with urllib.request.urlopen(link, timeout=60) as body:
            while piece := body.read(MIB):
                digest.update(piece)
        assert digest.hexdigest() == digest_of(wanted[name]["size"], wanted[name]["seed"])
        found.append(file)
    return found


def nothing_is_left(stack: RunningStack) -> None:
    """No upload is open and nothing lies in staging, once the functions are through."""
    assert stack.request("GET", "/v1/uploads?status=uploading")["items"] == []


def test_uppy_uploads_in_parts(stack: RunningStack, uppy: Uppy) -> None:
    """40 MB in parts of 5 MiB, one PUT in ten answered 503: all of it arrives, each part once."""
    files = [{"name": "large.bin", "size": 40_000_003, "seed": int(uppy.major)}]
    stack.faults({"s3": {"errors": {"UploadPart": [0.1, 503, "SlowDown"]}}})
    try:
        result = uppy.run(endpoint_of(stack), files, multipartAbove=10 * MIB)
    finally:
        stack.faults({})
    assert result["version"] == VERSIONS[uppy.major]
    (file,) = check(stack, result, files)
    shown = stack.request("GET", f"/v1/uploads/{file['file_id']}")
    assert (shown["mode"], shown["part_size"], shown["part_count"], shown["percent"]) == ("multipart", 5 * MIB, 8, 100)
    nothing_is_left(stack)


def test_uppy_uploads_many_small_files(stack: RunningStack, uppy: Uppy) -> None:
    """30 by forms, an empty one among them."""
    files = [{"name": f"né {n}.bin", "size": n * 4_321, "seed": n} for n in range(30)]
    check(stack, uppy.run(endpoint_of(stack), files), files)


def test_what_uppy_cancels_leaves_nothing(stack: RunningStack, uppy: Uppy) -> None:
    """In the middle of its parts: the session is cancelled."""
    name = f"given up {uppy.major}.bin"
    given_up = [{"name": name, "size": 40_000_000, "seed": 1}]
    uppy.run(endpoint_of(stack), given_up, multipartAbove=0, cancelAt=6 * MIB)
    deadline = time.monotonic() + 30
    while True:
        (mine,) = [one for one in stack.request("GET", "/v1/uploads?limit=100")["items"] if one["name"] == name]
        if mine["status"] == "cancelled":
            break
        assert time.monotonic() < deadline, mine
        time.sleep(0.1)
    nothing_is_left(stack)


def test_a_ticket_of_nobody_uploads_nothing(stack: RunningStack, uppy: Uppy) -> None:
    """Uppy tells of an error, for a form and for parts; no session is begun."""
    before = stack.request("GET", "/v1/uploads?limit=1")["items"]
    endpoint = endpoint_of(stack)[:-3] + "AAA"
    for above in (0, 10**9):
        files = [{"name": "x.bin", "size": 10, "seed": 1}]
        result = uppy.run(endpoint, files, multipartAbove=above)
        assert len(result["errors"]) == 1
        assert result["done"] == []
    assert stack.request("GET", "/v1/uploads?limit=1")["items"] == before


@pytest.mark.parametrize("uppy", ["6"], indirect=True)
def test_no_ticket_lies_in_the_stacks_logs(stack: RunningStack, uppy: Uppy) -> None:
    """Gateway, functions and S3 together, after an upload and a refusal."""
    endpoint = endpoint_of(stack)
    ticket = endpoint.rpartition("/")[2]
    files = [{"name": "x.bin", "size": 10, "seed": 1}]
    for above in (0, 10**9):
        assert uppy.run(endpoint, files, multipartAbove=above)["errors"] == []
    for path in ("/s3/multipart/none", "/s3/params", "/s3/multipart/none/1"):
        with pytest.raises(CallFailed):
            stack.request("GET", f"/s3/t/{ticket}{path}")
    logs = [one for one in (stack.data / "logs").rglob("*") if one.is_file()]
    assert logs
    assert not [one for one in logs if ticket[:60] in one.read_text(errors="replace")]


@pytest.mark.full
def test_a_gibibyte_and_five_hundred_files(stack: RunningStack, uppy: Uppy, tmp_path: Path) -> None:
    """As a page would: with a file that was picked, and Uppy's own part size and limits."""
    large = [{"name": "gib.bin", "size": 1024 * MIB, "seed": int(uppy.major)}]
    with (tmp_path / "gib.bin").open("wb") as file_on_disk:
        file_on_disk.writelines(pieces_of(1024 * MIB, int(uppy.major)))
    uppy.browser.pick("input", tmp_path / "gib.bin")
    (file,) = check(stack, uppy.run(endpoint_of(stack), large, seconds=900), large)
    assert stack.request("GET", f"/v1/uploads/{file['file_id']}")["part_count"] == 205
    small = [{"name": f"{n}.bin", "size": 100_000 + n, "seed": n} for n in range(500)]
    check(stack, uppy.run(endpoint_of(stack), small, seconds=600), small)
    nothing_is_left(stack)
