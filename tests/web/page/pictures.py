"""Pictures of every view, for docs/page.md.

python -m tests.web.page.pictures [FOLDER]    docs/page/ by itself; half a minute
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.web.page import samples
from tests.web.page.library import Sent, filled

FOLDER = Path(__file__).parents[3] / "docs" / "page"
DESK, PHONE = (1280, 800), (390, 780)
# name: (view, window, dark)
WANTED = {
    "files": ("files", DESK, False),
    "files-dark": ("files", DESK, True),
    "file-raw": ("raw", DESK, False),
    "file-rejected": ("rejected", DESK, False),
    "table-report": ("report", DESK, False),
    "tables": ("tables", DESK, False),
    "dicom-batch": ("batch", DESK, False),
    "dicom-study": ("study", DESK, True),
    "dicom-viewer": ("series", DESK, True),
    "archive": ("archive", DESK, False),
    "status": ("status", DESK, False),
    "phone-files": ("files", PHONE, False),
    "phone-report": ("report", PHONE, True),
}


def uploading(sent: Sent, folder: Path, scratch: Path) -> None:
    """The uploads view while large files are on their way, one of them paused, over a slow line."""
    person = sent.person
    large = []
    for name, megabytes in (("survey-north.tif", 96), ("reel-07.mov", 144), ("nightly-backup.tar", 60)):
        path = scratch / name
        with path.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        large.append(path)
    person.open("#/uploads")
    person.wait(lambda: not person.browser.get("document.querySelector('.toast') !== null"), "no more news")
    sent.stack.faults({"s3": {"latency_ms": 1500}})
    try:
        person.choose(*large)
        person.click("Pause nightly-backup.tar")
        person.wait(lambda: "left" in person.text(".overall"), "a speed")
        time.sleep(3)
        person.picture(folder / "uploads.png")
        person.click("Cancel survey-north.tif")
        person.click("Cancel reel-07.mov")
        person.click("Cancel nightly-backup.tar")
    finally:
        sent.stack.faults({})


def main(folder: Path = FOLDER) -> None:
    with tempfile.TemporaryDirectory() as scratch, filled(Path(scratch)) as sent:
        person = sent.person
        for name in ("desert", "winter", "evening", "noon"):
            picture = Path(scratch) / f"{name}-ridge.jpg"
            picture.write_bytes(samples.jpeg_of(samples.landscape(name)))
            person.open("#/uploads")
            person.choose(picture)
        going = ("in work", "being checked")
        person.wait(lambda: not any(one in person.text(".overall") for one in going), "all ended")
        person.click("Clear")
        sent.stack.invoke("sweep", {})  # so that there are statistics
        views = sent.views()
        person.window(*DESK)
        for name, (view, (width, height), dark) in WANTED.items():
            person.window(width, height, dark=dark)
            person.open(views[view])
            person.wait(
                lambda: not person.browser.get("document.querySelector('.bones, .toast, .viewer-note') !== null"), name
            )
            time.sleep(1)
            person.picture(folder / f"{name}.png")
        person.window(*DESK)
        uploading(sent, folder, Path(scratch))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
