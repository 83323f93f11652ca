"""The templates as they are committed, so that a review sees what a change does: ``python -m infra.snapshots``.

Asset hashes are left out, for they follow every change of code. What is left changes only when the system does.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.app import ROOT, STAGE, read_context, synthesise
from infra.config import stages

FOLDER = ROOT / "tests" / "infra" / "snapshots"
COMMAND = ".venv/bin/python -m infra.snapshots"
_HASH = re.compile(r"[0-9a-f]{64}")
# A layer version's logical id ends on a hash of its content, and the page's version is one.
_LAYER = re.compile(r"\b(Layers[A-Za-z0-9]*?)[0-9A-F]{8}\b")


def normalised(template: Mapping[str, Any]) -> str:
    """A template's text without what follows from the code's content."""
    kept = {key: value for key, value in template.items() if key not in ("Parameters", "Rules")}
    for resource in kept["Resources"].values():
        if resource["Type"] == "Custom::HeavyliftPage":
            resource = resource["Properties"]
            resource["Version"] = "VERSION"
    text = json.dumps(kept, indent=1, sort_keys=True)
    return _HASH.sub("HASH", _LAYER.sub(r"\1", text)) + "\n"


def main() -> int:
    """Write the snapshots of every stage anew."""
    FOLDER.mkdir(exist_ok=True)
    written = set()
    for stage in stages():
        with tempfile.TemporaryDirectory() as scratch:
            _, templates = synthesise(Path(scratch) / "cdk.out", {**read_context(ROOT / "cdk.json"), STAGE: stage})
        for name, template in templates.items():
            written.add(f"{name}.json")
            (FOLDER / f"{name}.json").write_text(normalised(template))
    for path in FOLDER.glob("*.json"):
        if path.name not in written:
            path.unlink()
    print(f"{len(written)} snapshots in {FOLDER.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
