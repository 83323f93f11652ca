"""Packages of npm that tests use: brought by the Node of the wheel in requirements/infra.lock, by committed locks.

The locks hold digests and no addresses: the packages come from whatever registry npm is set to.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.node import wheel_node


def node() -> str:
    """The Node of the wheel. SystemExit with what is missing."""
    found = wheel_node()
    if found is None:
        raise SystemExit("There is no Node: requirements/infra.lock brings it with npm (make test installs it)")
    return found


def run(command: Sequence[str], folder: Path, trouble: str) -> None:
    """A command that must end well. SystemExit with its last words and ``trouble``."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout.strip()[-2000:]}\n{trouble}")


def install(sources: Sequence[Path], folder: Path) -> Path:
    """``folder`` with the sources (package.json and its lock among them) and what the lock names; at once if it has
    them and they are no older. Safe for several processes. SystemExit with what is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / ".installed"
        if stamp.exists() and stamp.stat().st_mtime > max(one.stat().st_mtime for one in sources):
            return folder
        for one in sources:
            shutil.copy(one, folder)
        npm = Path(node()).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        trouble = f"npm cannot bring what {sources[0].parent.name} needs; is its registry within reach?"
        run([node(), str(npm), "ci", *quiet], folder, trouble)
        stamp.touch()
    return folder
