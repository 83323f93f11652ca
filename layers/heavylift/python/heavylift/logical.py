"""The logical id: which document a file belongs to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from heavylift.records import logical_key

_LOGICAL_TAIL = re.compile(r"[-_. ]?[0-9]+$")


def logical_id(name: str, metadata: Mapping[str, Any]) -> str | None:
    """``metadata.logical_id``, else the stem of the name without its last run of ``[-_. ]?[0-9]+``."""
    given = metadata.get("logical_id")
    if isinstance(given, str) and given:
        return logical_key(given)
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem = last.rpartition(".")[0] or last
    return logical_key(_LOGICAL_TAIL.sub("", stem, count=1) or stem) or None
