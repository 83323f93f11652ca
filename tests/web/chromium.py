"""Chromium for tests, by chromedriver (tests/system_packages.sh installs both)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Chromium looks up its maker's hosts at every start unless it is told not to.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """W3C WebDriver over plain HTTP: as much of it as these tests need."""

    def __init__(self, driver: str, profile: Path) -> None:
        options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._post(driver + "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"{driver}/session/{answer['sessionId']}"

    @staticmethod
    def _post(url: str, body: Any, method: str = "POST", seconds: float = 120) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._post(f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any, seconds: float = 90) -> Any:
        """What an asynchronous script hands to its last argument."""
        self._post(f"{self._session}/timeouts", {"script": int(seconds * 1000)})
        wanted = {"script": script, "args": list(arguments)}
        return self._post(f"{self._session}/execute/async", wanted, seconds=seconds + 30)

    def get(self, expression: str) -> Any:
        return self._post(f"{self._session}/execute/sync", {"script": f"return {expression}", "args": []})

    def pick(self, selector: str, *files: Path) -> None:
        """Choose files in an ``<input type="file">``, as a person does."""
        self.type(selector, "\n".join(map(str, files)))

    def element(self, selector: str) -> str:
        """The first one's id; urllib.error.HTTPError where there is none."""
        found = self._post(f"{self._session}/element", {"using": "css selector", "value": selector})
        (element,) = found.values()
        return str(element)

    def type(self, selector: str, text: str) -> None:
        self._post(f"{self._session}/element/{self.element(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        self._post(f"{self._session}/element/{self.element(selector)}/click", {})

    def press(self, *keys: str) -> None:
        """Keys one after another, where the focus is; W3C WebDriver 17.4.2 names those that are no characters."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post(f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, selector: str, dx: int, dy: int) -> None:
        """From the element's middle, with the button down."""
        middle = {"element-6066-11e4-a52e-4f735466cecf": self.element(selector)}
        moves = [
            {"type": "pointerMove", "duration": 0, "origin": middle, "x": 0, "y": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pause", "duration": 300},
            {"type": "pointerMove", "duration": 100, "origin": "pointer", "x": dx, "y": dy},
            {"type": "pointerUp", "button": 0},
        ]
        self._post(f"{self._session}/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def cdp(self, command: str, **params: Any) -> Any:
        """A command of the Chrome DevTools Protocol."""
        return self._post(f"{self._session}/goog/cdp/execute", {"cmd": command, "params": params})

    def log(self) -> list[dict[str, Any]]:
        """What the console said since it was asked last."""
        said: list[dict[str, Any]] = self._post(f"{self._session}/se/log", {"type": "browser"})
        return said

    def quit(self) -> None:
        self._post(self._session, None, "DELETE")


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A headless browser with a profile of its own, gone at the end."""
    chromedriver = shutil.which("chromedriver")
    assert chromedriver, "tests/system_packages.sh installs it"
    process = subprocess.Popen(
        [chromedriver, "--port=0", "--log-level=WARNING"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                break
        else:
            raise AssertionError("chromedriver did not start")
        one = Browser(f"http://127.0.0.1:{found[1]}", profile)
        try:
            yield one
        finally:
            one.quit()
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
