"""schemathesis, an independent reader of docs/openapi.json, against the running stack over HTTP: no finding.

Every operation gets requests made by its schema and against it, at the edges and at random, and chains of operations
along the links. Every answer is held to the description; what is allowed is never refused for its shape, what is not
allowed never taken; no answer is a server error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("stack")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run(desk: Desk, tmp_path: Path, phases: str, examples: int, *options: str) -> str:
    """What schemathesis prints; its status is asserted."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml"),
        "run", str(ROOT / "docs/openapi.json"), "--url", desk.stack.api,
        "--header", f"Authorization: Bearer {desk.token}",
        "--phases", phases, "--max-examples", str(examples), *options,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.interop.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    return done.stdout


@pytest.mark.timeout(600)  # half a minute where nobody else is at work
def test_schemathesis_finds_nothing(desk: Desk, tmp_path: Path) -> None:
    """The edges of every schema, a few random requests of each operation, and short chains; the same every time."""
    out = run(desk, tmp_path, "coverage,fuzzing,stateful", 2, "--generation-deterministic")

    assert "No issues found" in out, out[-2_000:]


def test_the_stack_serves_its_description(desk: Desk) -> None:
    """The one that was read above, at an address that is no route of the API."""
    assert desk.stack.local("GET", "openapi.json") == json.loads((ROOT / "docs/openapi.json").read_text())
    assert desk.refused("GET", "/openapi.json")[0] == 404


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_schemathesis_finds_nothing_at_depth(desk: Desk, tmp_path: Path, seed: int) -> None:
    """The same with hundreds of random requests and long chains, by other seeds."""
    out = run(desk, tmp_path, "coverage,fuzzing,stateful", 300, "--seed", str(seed))

    assert "No issues found" in out, out[-2_000:]
