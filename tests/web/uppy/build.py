"""Uppy as it is published, bundled for a page: build/uppy/5.js and 6.js. Nothing is done where they are new enough.

python -m tests.web.uppy.build

npm brings what the locks name (tests/npm.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests import npm

MAJORS = ("5", "6")
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUILT = ROOT / "build" / "uppy"


def sources(major: str) -> list[Path]:
    return [HERE / "page.js", HERE / major / "package.json", HERE / major / "package-lock.json"]


def bundle(major: str) -> Path:
    """The bundle's path, made if it is older than what it is made of. SystemExit with what is missing."""
    made = BUILT / f"{major}.js"
    if made.exists() and made.stat().st_mtime > max(one.stat().st_mtime for one in sources(major)):
        return made
    folder = npm.install(sources(major), BUILT / major)
    esbuild = str(folder / "node_modules" / "esbuild" / "bin" / "esbuild")
    unfinished = folder / "bundle.js"
    options = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={unfinished}"]
    npm.run([npm.node(), esbuild, "page.js", *options], folder, f"Uppy {major} cannot be bundled.")
    unfinished.replace(made)
    return made


if __name__ == "__main__":
    for name in MAJORS:
        print(bundle(name).relative_to(ROOT), file=sys.stderr)
