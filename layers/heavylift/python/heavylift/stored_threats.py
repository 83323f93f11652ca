"""Threats that a scanner finds in files that are stored already: noted for what copies of them there may be.

A file's own record says that it is infected. An archive that was finished before holds it all the same, and nobody can
look at a hundred thousand records for each download: so these few files, hardly ever one, have a list by tenant.
"""

from __future__ import annotations

import math
import time

from heavylift import items
from heavylift.settings import settings

DAY_S = 86_400


def _partition(tenant: str) -> str:
    return f"T#{tenant}#THREATS"


def note(tenant: str, file_id: str) -> None:
    """Remember for as long as an archive lives that was finished before now. Repeatable."""
    ttl = math.ceil(time.time() + (settings().archive_days + 1) * DAY_S)
    items.put({"pk": _partition(tenant), "sk": file_id, "ttl": ttl})


def noted(tenant: str) -> list[str]:
    """The ids of such files of a tenant. One request, unless there are tens of thousands."""
    return [one["sk"] for one in items.read_all(_partition(tenant), consistent=False)]
