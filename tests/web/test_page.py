"""The page in a real browser, used as people use it: chooses, drops, reads, clicks, presses keys.

One stack and one browser for all; what is sent is sent once, by the page itself.
"""

from __future__ import annotations

import io
import re
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.gateway.pages import Origins
from tests import npm
from tests.web.page.library import PARTS, Sent, filled
from tests.web.page.person import ENTER, TAB, Person

pytestmark = pytest.mark.xdist_group("stack")

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).parent / "page" / "axe"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# WCAG 2.2 AA and what came before it; what axe calls a best practice is not asked for.
JUDGE = """
const [runOnly, done] = arguments;
const told = (one) => `${one.html.slice(0, 160)} ${one.any[0]?.message ?? ""}`;
axe.run(document, { runOnly }).then(({ violations, passes }) => done({
  passes: passes.length,
  violations: violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.slice(0, 3).map(told).join(" | ")}`),
})).catch((error) => done({ passes: 0, violations: [String(error)] }));
"""
FIGURES = """
const cells = [...document.querySelectorAll(".figures > div")];
arguments[0](Object.fromEntries(cells.map((one) => [...one.children].map((part) => part.innerText))));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The judge's source; npm brings it."""
    try:
        folder = npm.install([AXE / "package.json", AXE / "package-lock.json"], ROOT / "build" / "axe")
    except SystemExit as missing:
        pytest.fail(str(missing), pytrace=False)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """One library for all."""
    with filled(tmp_path_factory.mktemp("page")) as found:
        yield found


def test_chosen_and_dropped_files_are_there(sent: Sent) -> None:
    """By the file chooser and by a drop: each with its verdict in words, and a way to its details."""
    sent.person.open("#/uploads")
    sent.person.sees("dropped notes.jsonl", "DSC_4711.dng", "HEAD_CT", "14 files", "12 succeeded", "1 failed")
    listed = {one["name"]: one["status"] for one in sent.stack.request("GET", "/v1/files")["items"]}
    parts = sent.stack.request("GET", f"/v1/files/{sent.ids['parts.bin']}")
    link = sent.stack.request("GET", f"/v1/files/{sent.ids['parts.bin']}/content?redirect=false")["url"]
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert answer.read() == PARTS

    assert (parts["status"], parts["integrity"]) == ("completed", "sha256")
    assert listed["dropped notes.jsonl"] == "completed"
    assert listed["morning-ridge.jpg"] == "completed"
    assert listed["scan-broken.tif"] == "rejected"


def test_a_raw_shows_badge_and_preview(sent: Sent) -> None:
    """In the library and by itself: the badge, a picture of the RAW, and that it was generated. S3 alone serves it."""
    person = sent.person
    person.open("#/files?kind=raw")
    person.sees("DNG RAW", "DSC_4711.dng", within="main")
    card = "document.querySelector('.card img')"
    person.wait(lambda: person.browser.get(f"{card}?.naturalWidth > 0"), "its picture")
    person.open(sent.view("DSC_4711.dng"))
    person.sees("DNG RAW", "preview was generated from the RAW", "Heavy Optics", "Audit trail", "Finished", "proven")
    person.wait(lambda: person.browser.get("document.querySelector('.preview img')?.naturalWidth > 1000"), "preview")
    sources = person.browser.get("[...document.images].map((one) => one.src)")

    assert sources
    assert all(one.startswith((sent.stack.s3, "blob:")) for one in sources)


def test_a_bad_picture_shows_its_reason(sent: Sent) -> None:
    """In words, with a retry, and in the list of what failed."""
    sent.person.open(sent.view("scan-broken.tif"))
    file = sent.stack.request("GET", sent.view("scan-broken.tif").replace("#/", "/v1/"))
    sent.person.sees("rejected", file["failure"]["message"].rstrip("."), "Retry", within="main")
    sent.person.open("#/files?status=failed")
    sent.person.sees("scan-broken.tif", within="main")


def test_a_table_shows_its_errors_by_line(sent: Sent) -> None:
    """Lines 5, 9 and 15, each with what is wrong; the list has the verdict and a retry that leads to a new one."""
    person = sent.person
    person.open(sent.view("stations.csv"))
    person.sees("Validation report", "3 errors", "The row has 3 of 4 cells.", "The row has 5 cells")
    lines = person.browser.get("[...document.querySelectorAll('td:first-child.num')].map((one) => one.innerText)")

    assert lines[:3] == ["5", "9", "15"]
    person.open("#/tables?status=failed")
    person.sees("stations.csv", "extra-cell 1", within="main")
    trail = lambda: sent.stack.request("GET", f"/v1/files/{sent.ids['stations.csv']}/events")["items"]  # noqa: E731
    before = trail()
    person.click("Retry stations.csv")
    person.wait(
        lambda: (
            len(sent.stack.request("GET", f"/v1/files/{sent.ids['stations.csv']}/events")["items"]) >= len(before) + 3
        ),
        "checked again",
    )
    person.sees("rejected", within="main")


def test_a_dicom_folder_shows_its_studies_with_pictures(sent: Sent) -> None:
    """Exact figures, what was left out and why, the study, its series with pictures, frames that can be paged."""
    person, browser = sent.person, sent.person.browser
    person.open(f"#/batches/{sent.batch}")
    person.sees(
        "14 of 14 files processed", "Phantom, Ellipsoid", "IM9999", "This is no DICOM file, but text", "HEAD_CT"
    )
    figures = browser.run(FIGURES)
    wanted = {"Total": "14", "Processed": "14", "Succeeded": "12", "Failed": "1", "Skipped": "1", "Duplicates": "0"}

    assert {name: figures[name] for name in wanted} == wanted
    person.open("#/dicom")
    person.click("Phantom, Ellipsoid")
    person.sees("Head axial 5 mm", "Head sagittal 5 mm", "8 images")
    loaded = "[...document.querySelectorAll('.card img')].filter((one) => one.naturalWidth > 0).length"
    person.wait(lambda: browser.get(loaded) == 2, "two pictures")
    person.click("Head axial 5 mm")
    shown = "document.querySelector('.viewer-stage img')"
    person.wait(lambda: browser.get(f"{shown}?.naturalWidth === 160"), "the picture")
    first = browser.get(f"{shown}.src")
    browser.get("document.querySelector('.viewer-stage').focus()")
    browser.press("\ue014")
    person.sees("Picture 6 of 8")
    person.wait(lambda: browser.get(f"{shown}.src") != first, "the next one")
    browser.drag(".viewer-stage", 120, 0)
    width = "Number(document.querySelectorAll('.viewer-tools input[type=number]')[1].value)"
    person.wait(lambda: browser.get(width) > 200, "a wider window")
    person.wait(lambda: browser.get(f"{shown}?.naturalWidth === 160"), "the picture in it")


def test_an_archive_downloads_and_opens(sent: Sent, tmp_path: Path) -> None:
    """What the button brings to the disk is a ZIP with the chosen files and their METS."""
    person = sent.person
    person.browser.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    person.open(f"#/archives/{sent.archive}")
    person.click("Download")
    there = person.wait(lambda: [one for one in tmp_path.iterdir() if one.suffix == ".zip"], "the download")

    assert [one.name for one in there] == ["files.zip"]
    with zipfile.ZipFile(io.BytesIO(there[0].read_bytes())) as opened:
        assert opened.testzip() is None
        assert {"DSC_4711.dng", "morning-ridge.jpg", "files_mets.xml"} <= set(opened.namelist())


def test_the_status_shows_figures_health_and_functions(sent: Sent) -> None:
    """The health of every component, and of a local stack its functions and queues."""
    sent.person.open("#/status")
    sent.person.sees("Health", "Dead letters", "thumbnail", "Queues", "Succeeded", within="main")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_view_is_sound(sent: Sent, axe: str, dark: bool) -> None:
    """No view breaks WCAG 2.2 AA (in the dark only colours differ), none is wider than a window of 360 pixels, and none
    says anything in the console: no error, no refusal by the policy, no warning.
    """
    person = sent.person
    complaints: dict[str, Any] = {}
    person.browser.open("about:blank")
    person.browser.log()
    try:
        for name, address in sent.views().items():
            person.window(1280, 900, dark=dark)
            person.open(address)
            person.wait(lambda: not person.browser.get("document.querySelector('.bones') !== null"), name)
            person.settled()
            if not person.browser.get("'axe' in window"):
                person.browser.cdp("Runtime.evaluate", expression=axe)
            judged = person.browser.run(JUDGE, ["color-contrast"] if dark else WCAG)
            assert judged["passes"] >= (1 if dark else 10)
            if judged["violations"]:
                complaints[name] = judged["violations"]
            if said := [one["message"] for one in person.browser.log() if one["level"] in ("SEVERE", "WARNING")]:
                complaints[f"{name} in the console"] = said
            if not dark:
                person.window(360, 740)
                person.settled()
                width = person.browser.get("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
                if width > 360:
                    complaints[f"{name} at 360"] = width
    finally:
        person.window(1280, 860)

    assert complaints == {}


def test_an_upload_by_keyboard_alone(sent: Sent, tmp_path: Path) -> None:
    """From the top: skip link, sections, buttons, each with a focus that can be seen; then a row's controls."""
    person, browser = sent.person, sent.person.browser
    browser.open("about:blank")
    browser.open(f"{person.page}/#/uploads")
    person.sees("Drop files or folders here")
    name = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText.trim()"
    seen = []
    for _ in range(14):
        browser.press(TAB)
        seen.append(browser.get(f"({name}).split('\\n')[0]"))
        assert browser.get("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen
        if seen[-1] == "Choose files":
            break
    assert seen[0] == "Skip to content"
    assert seen[-1] == "Choose files", seen
    # Enter opens the system's own chooser, which no test can reach: what it hands over comes by the input behind it.
    large = tmp_path / "by keyboard.bin"
    with large.open("wb") as file:
        file.truncate(40_000_000)
    sent.stack.faults({"s3": {"latency_ms": 400}})
    try:
        person.choose(large)
        person.sees("by keyboard.bin")
        press_named(person, "Pause by keyboard.bin")
        person.sees("paused", within=".queue")
        press_named(person, "Resume by keyboard.bin")
        person.sees("uploading", within=".queue")
        press_named(person, "Cancel by keyboard.bin")
        person.sees("cancelled", within=".queue")
    finally:
        sent.stack.faults({})


def press_named(person: Person, name: str) -> None:
    """Goes on with Tab until the focus is on what has this name, then presses it."""
    named = "document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.innerText"
    for _ in range(40):
        if person.browser.get(named) == name:
            person.browser.press(ENTER)
            return
        person.browser.press(TAB)
    raise AssertionError(f"no way to {name} by keyboard")


def test_the_policy_is_strict_and_keeps_to_it(sent: Sent) -> None:
    """No unsafe- word anywhere; wasm for the hash worker's own script alone; nobody contacted but the API and S3."""
    asked = {}
    for path in ("/", "/page/main.js", "/page/styles/base.css", "/config.json", "/engine/hash_worker.js"):
        with urllib.request.urlopen(sent.stack.api + path, timeout=30) as answer:
            asked[path] = str(answer.headers["content-security-policy"])
            assert answer.headers["x-content-type-options"] == "nosniff"
    for path, policy in asked.items():
        assert "unsafe-inline" not in policy
        assert re.sub("'wasm-unsafe-eval'", "", policy).count("unsafe") == 0
        assert ("wasm-unsafe-eval" in policy) == (path == "/engine/hash_worker.js")
        assert f"connect-src 'self' {sent.stack.s3};" in policy
        assert "default-src 'none'" in policy
    entries = sent.person.browser.get("performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)")
    known = {sent.stack.api, sent.stack.s3, "null"}
    assert {one for one in entries if not one.startswith("blob:")} <= known


def test_signing_in_elsewhere(sent: Sent, tmp_path: Path) -> None:
    """The page on an origin of its own, with an issuer of its own: sign in, upload, renew, session over, sign out.

    No token is ever in an address or in a storage of the browser; the code leaves the address at once.
    """
    person, browser, issuer = Person(sent.person.browser, sent.elsewhere.url), sent.person.browser, sent.issuer
    issuer.mint = lambda: sent.stack.token("elsewhere", "kim")
    sent.elsewhere.origins = Origins((sent.stack.s3,), (sent.stack.api,), (issuer.url,))
    sign_in = {"kind": "oidc", "issuer": issuer.url, "client_id": "page"}
    sent.elsewhere.config = {"version": 1, "api": sent.stack.api, "sign_in": sign_in}
    browser.open(f"{person.page}/#/files?kind=raw")
    person.sees("Sign in")
    browser.click(".signin button")
    # Where the person wanted to go; another tenant sees nothing of what others sent.
    person.sees("Nothing like this", "elsewhere", "kim")
    assert browser.get("location.search") == ""
    assert issuer.said == ["discovered", "authorized", "discovered", "signed in"]
    small = tmp_path / "from elsewhere.txt"
    small.write_text("bytes from another origin\n")
    person.open("#/uploads")
    person.choose(small)
    person.sees("All done", "ready", within="main")
    kept = browser.get("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert "eyJ" not in kept
    assert not any(one in kept for one in issuer.refreshing)

    # Loaded again: the issuer still knows who it is. A token that is about to end is renewed; then the issuer refuses.
    issuer.lifetime_s = 61
    browser.open("about:blank")
    browser.open(f"{person.page}/#/files")
    person.sees("from elsewhere.txt", within="main")
    person.wait(lambda: (person.open("#/files"), person.open("#/tables"), "refreshed" in issuer.said)[-1], "renewed")
    issuer.refuses_refresh = True
    person.wait(
        lambda: (person.open("#/files"), person.open("#/tables"), "session has ended" in person.text())[-1], "ended"
    )
    issuer.refuses_refresh, issuer.lifetime_s = False, 3600
    browser.click(".notice .button")
    person.wait(lambda: "session has ended" not in person.text(), "signed in again")
    person.open("#/files")
    person.sees("from elsewhere.txt", within="main")
    person.click("Sign out", within=".account")
    person.sees("Sign in")
    person.wait(lambda: "revoked" in issuer.said, "revoked")
    assert "from elsewhere.txt" not in person.text()
    browser.open("about:blank")
    browser.open(f"{person.page}/")
    person.sees("Sign in")
