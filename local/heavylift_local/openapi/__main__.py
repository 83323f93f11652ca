"""python -m heavylift_local.openapi [FILE]: write the description, by default to docs/openapi.json.

Without FILE also the table of codes in docs/api.md.
"""

import sys
from pathlib import Path

from heavylift_local.openapi import as_text, with_codes_table
from heavylift_local.plan import REPOSITORY

if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(as_text(), encoding="utf-8")
else:
    (REPOSITORY / "docs" / "openapi.json").write_text(as_text(), encoding="utf-8")
    guide = REPOSITORY / "docs" / "api.md"
    guide.write_text(with_codes_table(guide.read_text(encoding="utf-8")), encoding="utf-8")
