"""OHIF, as npm has it, on the local stack: a study is in its list, and its pixels are on the canvas.

The viewer lies on an origin of its own, so that the API's CORS rules count; its token is handed over in memory by the
page around it. What the canvas shows is compared with what pydicom makes of the same file.
"""

from __future__ import annotations

import io
import json
import mimetypes
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_windowing

from heavylift_client import Client
from heavylift_local.testing import RunningStack, running_stack
from tests.doubles.dicom import ROOT, dicom
from tests.web.chromium import Browser, chromium
from tests.web.ohif.build import CONFIGURATION, site

pytestmark = pytest.mark.xdist_group("stack")

EDGE = 128
GRID = 32
STUDY = f"{ROOT}.1"
PATIENT = "VIEWER^TEST"
SECONDS_MAX = 90.0
FRAME = "<!doctype html><title>portal</title><style>*{margin:0;border:0}iframe{width:100vw;height:100vh}</style>"
# The middle square of the canvas, as large as the picture is drawn, in GRID x GRID grey values; "" before it is there.
LOOK = f"""(() => {{
  const frame = document.querySelector('iframe')?.contentDocument;
  const canvas = frame?.querySelector('canvas.cornerstone-canvas');
  if (!canvas || !canvas.width) return '';
  const side = Math.min(canvas.width, canvas.height), small = frame.createElement('canvas');
  small.width = small.height = {GRID};
  const context = small.getContext('2d');
  context.imageSmoothingQuality = 'high';
  const x = (canvas.width - side) / 2, y = (canvas.height - side) / 2;
  context.drawImage(canvas, x, y, side, side, 0, 0, {GRID}, {GRID});
  const data = context.getImageData(0, 0, {GRID}, {GRID}).data;
  return JSON.stringify(Array.from({{ length: {GRID} * {GRID} }}, (_, at) => data[4 * at]));
}})()"""


def picture(number: int) -> bytes:
    """A CT whose quarters are different, the window cutting some off; the viewer shows the highest slice first."""
    made = pydicom.dcmread(io.BytesIO(dicom(1, 1, number, edge=EDGE, patient=PATIENT)))
    ramp = np.arange(EDGE)
    values = (ramp[:, None] * 8 + ramp[None, :] * 4 + 300 * number).astype("<u2")
    values[: EDGE // 2, EDGE // 2 :] = 1800 - ramp[: EDGE // 2, None] * 16
    values[EDGE // 2 :, : EDGE // 2] = 200
    made.PixelData = values.tobytes()
    made.WindowCenter, made.WindowWidth = 1000, 1600
    made.RescaleIntercept, made.RescaleSlope = 0, 1
    made.PixelSpacing, made.SliceThickness = [1, 1], 1
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, -float(number)], [1, 0, 0, 0, 1, 0]
    made.FrameOfReferenceUID = f"{ROOT}.9"
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def rendered(data: bytes) -> np.ndarray[Any, Any]:
    """GRID x GRID grey values by pydicom, window applied."""
    one = pydicom.dcmread(io.BytesIO(data))
    grey = apply_windowing(apply_modality_lut(one.pixel_array, one), one)
    low, high = 1000 - 800, 1000 + 800
    scaled = np.clip((np.clip(one.pixel_array, low, high) - low) / (high - low), 0, 1) * 255
    assert grey.shape == scaled.shape
    block = EDGE // GRID
    return scaled.reshape(GRID, block, GRID, block).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def viewer() -> Iterator[str]:
    """The site on an origin of its own: /portal.html is the page around the viewer."""
    try:
        folder = site()
    except SystemExit as missing:
        pytest.fail(str(missing), pytrace=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            file = CONFIGURATION if path == "app-config.js" else folder / path
            if path == "portal.html":
                body, kind = FRAME.encode(), "text/html"
            else:
                file = file if path and file.is_file() else folder / "index.html"
                body, kind = file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stack(viewer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A running stack with one series."""
    folder = tmp_path_factory.mktemp("disc")
    for number in range(1, 4):
        (folder / f"IM{number}").write_bytes(picture(number))
    with running_stack(env={"HEAVYLIFT_CORS_ORIGINS": viewer}) as running:
        with Client(running.api, running.token()) as client, client.upload_batch(folder, kind="dicom") as batch:
            assert {result.line()["status"] for result in batch} == {"completed"}
        yield running


def until(browser: Browser, expression: str, what: str) -> Any:
    """The expression's value as soon as it is truthy."""
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        found = browser.get(expression)
        if found:
            return found
        time.sleep(0.3)
    text = browser.get("document.querySelector('iframe')?.contentDocument?.body?.innerText?.slice(0, 500)")
    raise AssertionError(f"{what} did not come; the page says: {text!r}")


def show(browser: Browser, path: str) -> None:
    browser.run(
        "const [path, done] = arguments; document.querySelector('iframe')?.remove();"
        "const frame = document.createElement('iframe'); frame.src = path; document.body.append(frame); done();",
        path,
    )


def test_a_study_is_listed_and_its_pixels_are_shown(viewer: str, stack: RunningStack, tmp_path: Path) -> None:
    """The patient is in the study list; the canvas shows the first slice as pydicom draws it; no URL has a token."""
    with chromium(tmp_path / "profile") as browser:
        browser.open(f"{viewer}/portal.html")
        token, root = stack.token(), f"{stack.api}/v1/dicomweb"
        browser.run(
            "const [root, token, done] = arguments;"
            "window.heavylift = { root, token: () => token, more: { useCPURendering: true } }; done();",
            root,
            token,
        )
        show(browser, "/")
        body = "document.querySelector('iframe')?.contentDocument?.body?.innerText"
        until(browser, f"({body} ?? '').toUpperCase().includes('VIEWER')", "the study list")

        show(browser, f"/viewer?StudyInstanceUIDs={STUDY}")
        wanted = rendered(picture(1))
        shown = compare(browser, wanted)
        asked = browser.get(
            "document.querySelector('iframe').contentWindow.performance.getEntriesByType('resource').map((e) => e.name)"
        )

    assert shown.max() - shown.min() > 200
    assert any(url.startswith(root) and "/frames/" in url for url in asked)
    assert not [url for url in asked if token in url or "token" in url.lower()]
    without = urllib.request.Request(f"{root}/studies", headers={"Origin": viewer})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(without)


def compare(browser: Browser, wanted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the canvas shows, as soon as it is what is wanted."""
    end = time.monotonic() + SECONDS_MAX
    shown = np.zeros((GRID, GRID))
    while time.monotonic() < end:
        found = browser.get(LOOK)
        if found:
            shown = np.array(json.loads(found), dtype=float).reshape(GRID, GRID)
            # Edges of the drawn picture lie between pixels of the grid.
            if np.abs(shown - wanted)[1:-1, 1:-1].mean() < 6:
                return shown
        time.sleep(0.3)
    difference = np.abs(shown - wanted).mean()
    raise AssertionError(f"the canvas shows something else: {difference:.1f} of 255 on average, {shown.mean():.1f}")
