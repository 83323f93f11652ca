"""The upload engine without a network: its own tests under Node, and what its files promise about themselves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from heavylift_client.verdict import Answer, Tries, judge
from infra.node import node_major, wheel_node

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "web" / "engine"
VENDOR = ROOT / "web" / "vendor"
NODE_MAJOR_MIN = 20  # AbortSignal.any, File, a test runner
# hash-wasm 4.12.0 as npm has it, dist/sha256.umd.min.js: unchanged.
PINNED = {
    "hash-wasm/sha256.umd.min.js": "ed7f5896b41aba98909ab143264c5b2ae5c81abf2e47f08dd2d1c0d02ce623de",
    "hash-wasm/LICENSE": "c14dea172f72f2714284a0ac2ab1b00b5352a01409d58255a46227ffc541debd",
}


def vectors(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text())["cases"]
    return cases


@pytest.fixture(scope="module")
def node() -> str:
    """The machine's Node if it will do, else the wheel's."""
    machine = shutil.which("node")
    found = machine if machine and (node_major(machine) or 0) >= NODE_MAJOR_MIN else wheel_node()
    assert found, "Node 20 or later is wanted: requirements/infra.lock brings one"
    return found


@pytest.mark.parametrize("name", ["vectors", "uploader", "batches"])
def test_under_node(node: str, name: str) -> None:
    """Plan, digests, decisions, and whole uploads against an API and an S3 that are objects in the same process."""
    command = [node, "--test", "--test-reporter=tap", str(Path(__file__).parent / "engine" / f"{name}.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.M)
    assert passed is not None
    assert int(passed[1]) >= 15


@pytest.mark.parametrize(
    "case", vectors("s3_verdicts"), ids=lambda case: f"{case['status']}-{case['code']}-{case['act']}"
)
def test_python_decides_alike(case: dict[str, Any]) -> None:
    """The Python client and the browser do the same after each of S3's answers."""
    tries = Tries(**case["tries"])

    assert judge(Answer(case["status"], case["code"]), tries, case["failing_s"], case["patience_s"]) == case["act"]


def test_vendored_files_are_those_that_were_published() -> None:
    """Byte by byte, each with its licence; nothing else lies there for the engine."""
    for name, digest in PINNED.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
    assert {one.name for one in (VENDOR / "hash-wasm").iterdir()} == {Path(name).name for name in PINNED}
    assert "MIT License" in (VENDOR / "hash-wasm" / "LICENSE").read_text()


def test_modules_import_only_each_other_and_name_no_host() -> None:
    """Plain modules: relative imports of files that are there, no address of anybody else's server."""
    for module in sorted(ENGINE.glob("*.js")):
        text = module.read_text()
        for target in re.findall(r'(?:from|import)\s+"([^"]+)"', text):
            assert target.startswith("."), (module.name, target)
            assert (module.parent / target).resolve().is_file(), (module.name, target)
        assert not re.findall(r"https?://[a-z]", text), module.name
        assert "innerHTML" not in text
        assert "eval(" not in text


def test_the_published_shape_names_what_is_exported() -> None:
    """index.d.ts and index.js have the same exports."""
    declared = set(re.findall(r"^export (?:function|class) (\w+)", (ENGINE / "index.d.ts").read_text(), re.M))
    text = (ENGINE / "index.js").read_text()
    exported = set(re.findall(r"^export function (\w+)", text, re.M))
    for names in re.findall(r"^export \{ ([^}]+) \}", text, re.M):
        exported |= {name.strip() for name in names.split(",")}

    assert exported == declared
