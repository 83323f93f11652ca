"""OHIF's viewer as it is published, with our configuration: build/ohif.

Its package holds the built site, so the lock names nothing of what it was built from (tests/npm.py).
"""

from __future__ import annotations

from pathlib import Path

from tests import npm

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CONFIGURATION = ROOT / "docs" / "viewer" / "app-config.js"


def site() -> Path:
    """The folder of the built site. SystemExit with what is missing."""
    sources = [HERE / "package.json", HERE / "package-lock.json"]
    return npm.install(sources, ROOT / "build" / "ohif") / "node_modules" / "@ohif" / "app" / "dist"
