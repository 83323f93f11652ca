"""One synthesis for all tests of the templates: Node costs seconds, so it runs once, in a process of its own."""

from __future__ import annotations

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
    templates = {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in sorted(folder.glob("*.template.json"))
    }
    return Assembly(folder, templates, done.stderr)


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """The system as cdk.json describes it."""
    if util.find_spec("aws_cdk") is None:
        pytest.skip("aws-cdk-lib is not installed: pip install -r requirements/infra.lock")
    return synthesise(tmp_path_factory.mktemp("cdk") / "cdk.out", PYTHONHASHSEED="1")
