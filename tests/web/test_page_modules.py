"""What the page says and decides, without a browser; and that what it ships of others is what it says."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from tests import npm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "web" / "page"


def test_the_pages_modules() -> None:
    """``node --test``: formats, words, sign-in, windows of DICOM, lists."""
    tests = sorted(Path(__file__).parent.glob("page/unit/*.test.js"))
    command = [npm.node(), "--no-warnings", "--test", *map(str, tests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "fail 0" in done.stdout
    assert len(tests) >= 4


def test_nothing_becomes_markup() -> None:
    """No module makes elements or scripts of text, sets a style or an event by text, or keeps a token."""
    refused = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(.style|cssText"
    )
    found = {path.name: refused.findall(path.read_text()) for path in PAGE.rglob("*.js")}

    assert len(found) > 25
    assert {name: hits for name, hits in found.items() if hits} == {}
    storing = {path.name for path in PAGE.rglob("*.js") if re.search(r"(local|session)Storage", path.read_text())}
    assert storing == {"session.js", "remembered.js", "theme.js"}


def test_looks_are_chosen_in_one_place() -> None:
    """Colours stand in tokens.css (and in two pairs beside it that no token names); sizes of text are tokens."""
    for path in PAGE.glob("styles/*.css"):
        if path.name == "tokens.css":
            continue
        colours = re.findall(r"#[0-9a-f]{3,8}\b", path.read_text())
        assert len(colours) <= 4, (path.name, colours)


def test_no_inline_script_or_style() -> None:
    """The one document has neither; a policy without ``unsafe-`` words would not let them."""
    document = (ROOT / "web" / "index.html").read_text()

    assert "<style" not in document
    assert not re.search(r"<script(?![^>]*\bsrc=)", document)
    assert not re.search(r"\s(style|on[a-z]+)=", document)
    assert not re.search(r"(src|href)=\"(https?:)?//", document)


def test_what_is_shipped_is_what_is_said() -> None:
    """Every file of others has its digest in the folder's README."""
    folder = ROOT / "web" / "vendor" / "page"
    said = dict(re.findall(r"\| `([0-9a-f]{64})` \| `([^`]+)` \|", (folder / "README.md").read_text()))
    shipped = {str(path.relative_to(folder)) for path in folder.rglob("*.woff2")}

    assert set(said.values()) == shipped
    for digest, name in said.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
