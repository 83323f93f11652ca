"""Somebody in front of the page: looks, waits, chooses, drops, clicks, takes pictures."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.web.chromium import Browser

TAB, ENTER, SPACE, ESCAPE, RIGHT = "\ue004", "\ue007", " ", "\ue00c", "\ue014"
PATIENCE_S = 90.0  # on a machine that has other things to do

CLICK = """
const [within, words, done] = arguments;
const named = (one) => (one.getAttribute("aria-label") ?? one.innerText).trim();
const all = [...document.querySelectorAll(`${within} button, ${within} a`)].filter((one) => one.checkVisibility());
const found = all.find((one) => named(one) === words) ?? all.find((one) => named(one).startsWith(words));
found?.click();
done(Boolean(found));
"""
DROP = """
const [onto, files, done] = arguments;
const data = new DataTransfer();
for (const [name, text] of files) data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
for (const type of ["dragenter", "dragover", "drop"]) {
  const event = new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
  document.querySelector(onto).dispatchEvent(event);
}
done(true);
"""


class Person:
    def __init__(self, browser: Browser, page: str) -> None:
        self.browser, self.page = browser, page.rstrip("/")

    def open(self, address: str = "") -> None:
        """A view by its address, without loading the page anew where it is open already."""
        if str(self.browser.get("location.href")).startswith(self.page + "/"):
            self.browser.get(f"location.hash = {address or '#/uploads'!r}")
        else:
            self.browser.open(f"{self.page}/{address}")
        self.wait(lambda: self.browser.get("document.querySelector('main h1') !== null"), address)

    def wait(self, what: Callable[[], Any], words: str = "", seconds: float = PATIENCE_S) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, f"{words or what}: {self.text()[:3000]}"
            time.sleep(0.1)
        return found

    def text(self, selector: str = "body") -> str:
        return str(self.browser.get(f"document.querySelector({selector!r})?.innerText ?? ''"))

    def sees(self, *words: str, within: str = "body", seconds: float = PATIENCE_S) -> None:
        """Waits until all of them are there to be read."""
        for one in words:
            self.wait(lambda one=one: one in self.text(within), one, seconds)  # type: ignore[misc]

    def click(self, words: str, within: str = "main") -> None:
        """A button or a link by what it says, or is called."""
        self.wait(lambda: self.browser.run(CLICK, within, words), f"click {words}")

    def choose(self, *files: Path, into: str = "#drop-files") -> None:
        self.browser.pick(into, *files)

    def drop(self, files: Sequence[tuple[str, bytes]], onto: str = ".drop") -> None:
        """A drop of these files, as far as a script can make one: the event and its DataTransfer are real."""
        self.browser.run(DROP, onto, [[name, base64.b64encode(body).decode()] for name, body in files])

    def window(self, width: int, height: int, *, dark: bool = False, still: bool = True) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.cdp("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        if still:
            features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        self.browser.cdp("Emulation.setEmulatedMedia", features=features)

    def settled(self) -> None:
        """All pictures that can be seen are there, and fonts, and nothing is to be drawn."""
        pictures = "document.fonts.status === 'loaded' && [...document.images].every((one) => one.complete)"
        self.wait(lambda: self.browser.get(pictures), "pictures")
        self.browser.run("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0](true)))")

    def picture(self, path: Path) -> None:
        """What the window shows, in few colours, so that a repository can keep it."""
        from PIL import Image

        self.settled()
        data = base64.b64decode(self.browser.cdp("Page.captureScreenshot", format="png")["data"])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(data)).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(
            path, optimize=True
        )
