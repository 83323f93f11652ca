"""What ``make layers`` says of the layers that it made. Imports nothing heavy: the CDK app asks."""

from __future__ import annotations

import json
from pathlib import Path

LIST = "layers.json"  # beside the layers' folders
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}  # Lambda's names for architectures -> those of wheels


def is_for_other(layer: Path, architecture: str) -> bool:
    """Whether a built layer is for another machine than functions of this architecture run on.

    False where nobody says: our own package, a stub.
    """
    try:
        said = json.loads((layer.parent / LIST).read_text())
    except FileNotFoundError:
        return False
    named = {one["name"] for one in said["layers"]}
    return layer.name in named and said["machine"] != MACHINES[architecture]
