"""Layers that were built for another machine than a stage runs on."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from infra.node import choose_node

ROOT = Path(__file__).parents[2]
ONE_STACK = """
import dataclasses, sys
from pathlib import Path
import aws_cdk as cdk
from infra.config import load_stage
from infra.constructs.layers import Layers
architecture, root = sys.argv[1], Path(sys.argv[2])
app = cdk.App(outdir=str(root / architecture), analytics_reporting=False)
config = dataclasses.replace(load_stage("default"), architecture=architecture)
dirs = {"base": root / "layers" / "base", "heavylift": Path("layers/heavylift")}
Layers(cdk.Stack(app, "one"), "Layers", config, dirs, ["base"])
app.synth()
"""


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.skipif(util.find_spec("aws_cdk") is None, reason="pip install -r requirements/infra.lock")
@pytest.mark.parametrize(("architecture", "warned"), [("arm64", False), ("x86_64", True)])
def test_layers_for_another_machine_are_a_warning(tmp_path: Path, architecture: str, warned: bool) -> None:
    """One that a strict deployment refuses, with the command that mends it; our own layer is for any machine."""
    (tmp_path / "layers" / "base" / "python").mkdir(parents=True)
    (tmp_path / "layers" / "layers.json").write_text('{"machine": "aarch64", "layers": [{"name": "base"}]}')
    done = subprocess.run(
        [sys.executable, "-c", ONE_STACK, architecture, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JSII_NODE": choose_node(os.environ)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = "".join(path.read_text() for path in (tmp_path / architecture).glob("*.json"))

    assert ("layer base is not built for x86_64: make layers ARCHITECTURE=x86_64" in said) == warned
    assert "layer heavylift is not built" not in said
