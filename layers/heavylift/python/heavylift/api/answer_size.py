"""How many lines fit into an answer. Pure.

A Lambda's answer has 6 MB at most (AWS Lambda developer guide, "Lambda quotas"), and the HTTP body is a string in it:
its quotes and backslashes are escaped once more. A hundred lines are a hundredth of that, unless their labels are as
long as allowed and of signs that JSON escapes: then a page ends early.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

LINES_BYTES_MAX = 5_000_000  # of the one list of an answer
SOME_LINES_BYTES_MAX = 1_250_000  # of each of several lists in one answer


def fitting(lines: Sequence[Mapping[str, Any]], bytes_max: int = LINES_BYTES_MAX) -> int:
    """How many of the first lines have at most ``bytes_max`` bytes together; one at least, so that pages go on."""
    left = bytes_max
    for position, line in enumerate(lines):
        left -= len(json.dumps(json.dumps(line, separators=(",", ":")))) + 1
        if left < 0:
            return max(position, 1)
    return len(lines)
