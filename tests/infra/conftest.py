"""One synthesis for all tests of the templates: Node costs seconds, so it runs once, in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Assembly:
    """A cloud assembly on disk, its templates by stack name, and what the app said while it made it."""

    folder: Path
    templates: Mapping[str, dict[str, Any]]
    told: str


def synthesise(folder: Path, *before: str, **environment: str) -> Assembly:
    """``python infra/app.py``, as ``make synth`` runs it, into ``folder``."""
    done = subprocess.run(
        [*before, sys.executable, str(ROOT / "infra" / "app.py"), "--output", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder.parent,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return _read(folder, done.stderr)


def _read(folder: Path, told: str) -> Assembly:
    templates = {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in sorted(folder.glob("*.template.json"))
    }
    return Assembly(folder, templates, told)


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """The system as cdk.json describes it; made by whichever worker comes first, read by the others."""
    if util.find_spec("aws_cdk") is None:
        pytest.skip("aws-cdk-lib is not installed: pip install -r requirements/infra.lock")
    base = tmp_path_factory.getbasetemp()
    # A worker's folder lies in the run's own.
    shared = base.parent / "cdk" if "PYTEST_XDIST_WORKER" in os.environ else base / "cdk"
    shared.mkdir(exist_ok=True)
    folder, told = shared / "cdk.out", shared / "told.txt"
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            told.write_text(synthesise(folder, PYTHONHASHSEED="1").told)
    return _read(folder, told.read_text())
