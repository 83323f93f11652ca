"""python -m heavylift_local.openapi [FILE]: write the description, by default to docs/openapi.json."""

import sys
from pathlib import Path

from heavylift_local.openapi import as_text

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "docs" / "openapi.json"
target.write_text(as_text(), encoding="utf-8")
