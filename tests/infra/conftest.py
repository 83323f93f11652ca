"""One synthesis for all tests of the templates: Node costs seconds, so it runs once, in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from infra.config import Config, load_stage

ROOT = Path(__file__).parents[2]
# What is tested: a stage that costs nothing, and one with all that can be switched on.
STAGES = ("default", "hardened")


@dataclass(frozen=True)
class Assembly:
    """A cloud assembly on disk, its templates by stack name, its stage, and what the app said while it made it."""

    folder: Path
    templates: Mapping[str, dict[str, Any]]
    config: Config
    told: str

    def resources(self, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(stack, logical id, resource) of one CloudFormation type."""
        for stack, template in self.templates.items():
            for logical_id, resource in template["Resources"].items():
                if resource["Type"] == kind:
                    yield stack, logical_id, resource

    def warnings(self) -> list[str]:
        """What keeps this assembly from being deployed strictly."""
        report = json.loads((self.folder / "validation-report.json").read_text())
        return [
            violation["description"]
            for plugin in report["pluginReports"]
            if plugin["pluginName"] == "Construct Annotations"
            for violation in plugin.get("violations", ())
        ]

    def stack(self, name: str) -> dict[str, Any]:
        """The template of the stack with this name, the deployment's before it."""
        return self.templates[f"{self.config.deployment}-{name}"]


def synthesise(folder: Path, arguments: tuple[str, ...], *before: str, **environment: str) -> str:
    """``python infra/app.py``, as ``make synth`` runs it, into ``folder``; what it said."""
    done = subprocess.run(
        [*before, sys.executable, str(ROOT / "infra" / "app.py"), "--output", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder.parent,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout + done.stderr


def read(folder: Path, stage: str, told: str) -> Assembly:
    templates = {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in sorted(folder.glob("*.template.json"))
    }
    return Assembly(folder, templates, load_stage(stage), told)


@pytest.fixture(scope="session")
def assemblies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Assembly]:
    """Both stages, judged; made by whichever worker comes first, read by the others."""
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
            chosen = tuple(word for stage in STAGES for word in ("--stage", stage))
            told.write_text(synthesise(folder, ("--judge", *chosen), PYTHONHASHSEED="1"))
    return {stage: read(folder / stage, stage, told.read_text()) for stage in STAGES}


@pytest.fixture(scope="session")
def assembly(assemblies: dict[str, Assembly]) -> Assembly:
    """The default stage."""
    return assemblies["default"]


@pytest.fixture(params=STAGES)
def each(request: pytest.FixtureRequest, assemblies: dict[str, Assembly]) -> Assembly:
    """One stage after the other."""
    return assemblies[request.param]


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def without_each(value: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], Any]]:
    """(path, value) of every entry of every object and list in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key), inner
        yield from without_each(inner, (*path, key))
