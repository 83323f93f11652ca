"""Statistics of a tenant, counted by the sweeper page by page and shown as of its last full count. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from heavylift.records import iso
from heavylift.states import State

DAY_S = 86_400
COUNTED = ("tenant", "status", "size", "created_at", "staged_at")
_SUCCEEDED = frozenset({State.FRESH.value, State.COMPLETED.value, State.COMPLETED_WITH_ERRORS.value})
_FAILED = frozenset({State.FAILED.value, State.REJECTED.value})
_ZERO: dict[str, float] = {
    "active_uploads": 0,
    "active_bytes": 0,
    "week_bytes": 0,
    "week_seconds": 0.0,
    "uploads_today": 0,
    "uploads_week": 0,
    "total": 0,
    "succeeded": 0,
    "failed": 0,
    "bytes_total": 0,
}


def item_key(tenant: str) -> dict[str, str]:
    return {"pk": f"T#{tenant}#STATS", "sk": "NOW"}


def add(sums: Mapping[str, Mapping[str, float]], items: Iterable[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """``sums`` (tenant -> counts) with one page of file items counted in."""
    result = {tenant: dict(counts) for tenant, counts in sums.items()}
    for item in items:
        counts = result.setdefault(item["tenant"], dict(_ZERO))
        status, size, created = item["status"], item["size"], item["created_at"]
        counts["total"] += 1
        counts["bytes_total"] += size
        counts["succeeded"] += status in _SUCCEEDED
        counts["failed"] += status in _FAILED
        counts["uploads_today"] += now - created < DAY_S
        counts["uploads_week"] += now - created < 7 * DAY_S
        if status == State.UPLOADING.value:
            counts["active_uploads"] += 1
            counts["active_bytes"] += size
        staged = item.get("staged_at")
        if staged is not None and now - staged < 7 * DAY_S:
            counts["week_bytes"] += size
            counts["week_seconds"] += max(staged - created, 0.001)
    return result


def view(item: Mapping[str, Any] | None) -> dict[str, Any]:
    """GET /v1/stats. Before the first count all is zero and ``as_of`` null."""
    counts = {**_ZERO, **((item or {}).get("counts") or {})}
    total = int(counts["total"])
    return {
        "as_of": iso(item["as_of"]) if item else None,
        "active_uploads": int(counts["active_uploads"]),
        "active_bytes": int(counts["active_bytes"]),
        "average_bytes_per_s": round(counts["week_bytes"] / counts["week_seconds"]) if counts["week_seconds"] else 0,
        "uploads_today": int(counts["uploads_today"]),
        "uploads_week": int(counts["uploads_week"]),
        "total": total,
        "succeeded": int(counts["succeeded"]),
        "failed": int(counts["failed"]),
        "bytes_total": int(counts["bytes_total"]),
        "bytes_average": round(counts["bytes_total"] / total) if total else 0,
    }
