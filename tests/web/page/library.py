"""A library that somebody fills by hand, through the page: chosen files, a dropped one, a DICOM folder, an archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from heavylift_local.testing import RunningStack, running_stack
from tests.web.chromium import chromium
from tests.web.page import samples
from tests.web.page.elsewhere import Elsewhere, Issuer, serving
from tests.web.page.person import Person

STUDY = f"{samples.UID_ROOT}.1"
PARTS = bytes((n * 31 + (n >> 8)) & 255 for n in range(65_536)) * 257  # more than goes by one PUT
# The ids of batches and archives that the page has begun lie in its storage, the newest first.
REMEMBERED = """
const key = Object.keys(localStorage).find((one) => one.startsWith("heavylift.batches."));
arguments[0](JSON.parse(localStorage.getItem(key))[0].id);
"""
CHOOSE = """
const [name, done] = arguments;
const label = [...document.querySelectorAll(".card-choice")].find((one) => one.innerText.includes(name));
const box = label?.querySelector("input");
if (box && !box.checked) box.click();
done(Boolean(box));
"""


@dataclass(slots=True)
class Sent:
    """What the page has sent: file ids by name, the DICOM batch, and the console's words since the page was opened."""

    person: Person
    stack: RunningStack
    elsewhere: Elsewhere
    issuer: Issuer
    ids: dict[str, str] = field(default_factory=dict)
    batch: str = ""
    archive: str = ""

    def view(self, name: str) -> str:
        return f"#/files/{self.ids[name]}"

    def views(self) -> dict[str, str]:
        """Every view by a name."""
        return {
            "uploads": "#/uploads",
            "files": "#/files",
            "raw": self.view("DSC_4711.dng"),
            "rejected": self.view("scan-broken.tif"),
            "report": self.view("stations.csv"),
            "dicom": "#/dicom",
            "batch": f"#/batches/{self.batch}",
            "study": f"#/dicom/studies/{STUDY}",
            "series": f"#/dicom/studies/{STUDY}/{STUDY}.1",
            "tables": "#/tables",
            "archives": "#/archives",
            "archive": f"#/archives/{self.archive}",
            "status": "#/status",
            "nothing": "#/files?kind=other",
        }


def loose_files(folder: Path) -> list[Path]:
    """What somebody might choose at once."""
    folder.mkdir()
    (folder / "morning-ridge.jpg").write_bytes(samples.jpeg_of(samples.landscape("morning")))
    (folder / "DSC_4711.dng").write_bytes(samples.raw_of("noon"))
    (folder / "stations.csv").write_text(samples.table_with_defects())
    (folder / "scan-broken.tif").write_bytes(samples.broken_tiff())
    (folder / "parts.bin").write_bytes(PARTS)
    return sorted(folder.iterdir())


@contextmanager
def filled(scratch: Path) -> Iterator[Sent]:
    """A stack, a browser in front of its page, and what was sent by it."""
    elsewhere, issuer = Elsewhere(), Issuer()
    with (
        serving(elsewhere.answer) as elsewhere.url,
        serving(issuer.answer) as issuer.url,
        running_stack(env={"HEAVYLIFT_TIME_SCALE": "10", "HEAVYLIFT_CORS_ORIGINS": elsewhere.url}) as stack,
        chromium(scratch / "profile") as browser,
    ):
        person = Person(browser, stack.api)
        person.window(1280, 860)
        person.open()
        found = Sent(person, stack, elsewhere, issuer)
        files = loose_files(scratch / "loose")
        person.choose(*files)
        person.drop([("dropped notes.jsonl", b'{"id": 1}\n{"id": 2}\n')])
        person.open("#/dicom")
        person.choose(samples.dicom_folder(scratch / "HEAD_CT"), into="#drop-dicom-folder")
        person.sees("HEAD_CT")
        going = ("in work", "being checked")
        person.wait(lambda: not any(one in person.text(".overall") for one in going), "all ended", 90)
        items = stack.request("GET", "/v1/files")["items"]
        found.ids = {one["name"]: one["file_id"] for one in items}
        remembered = (
            "JSON.parse(localStorage.getItem(Object.keys(localStorage).find((one) => one.includes('%s'))))[0].id"
        )
        found.batch = browser.get(remembered % ".batches.")
        person.open("#/files")
        for name in ("DSC_4711.dng", "morning-ridge.jpg"):
            person.wait(lambda name=name: browser.run(CHOOSE, name), name)  # type: ignore[misc]
        person.click("Make an archive")
        person.click("Build")
        person.sees("ready", "files_mets.xml", within="main")
        found.archive = str(browser.get("location.hash")).rpartition("/")[2]
        yield found
