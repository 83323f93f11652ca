"""Uppy as it is published, bundled for a page: build/uppy/5.js and 6.js. Nothing is done where they are new enough.

python -m tests.web.uppy.build

Node and npm are those of the wheel in requirements/infra.lock. The locks hold digests and no addresses: the packages
come from whatever registry npm is set to.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from infra.node import wheel_node

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
    node = wheel_node()
    if node is None:
        raise SystemExit("Uppy cannot be built: requirements/infra.lock brings Node and npm (make test installs it)")
    npm = Path(node).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    folder = BUILT / major
    folder.mkdir(parents=True, exist_ok=True)
    for one in sources(major):
        shutil.copy(one, folder)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run([node, str(npm), "ci", *quiet], folder, f"npm cannot bring Uppy {major}; is its registry within reach?")
    esbuild = str(folder / "node_modules" / "esbuild" / "bin" / "esbuild")
    unfinished = folder / "bundle.js"
    options = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={unfinished}"]
    _run([node, esbuild, "page.js", *options], folder, f"Uppy {major} cannot be bundled.")
    unfinished.replace(made)
    return made


def _run(command: list[str], folder: Path, trouble: str) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout.strip()[-2000:]}\n{trouble}")


if __name__ == "__main__":
    for name in MAJORS:
        print(bundle(name).relative_to(ROOT), file=sys.stderr)
