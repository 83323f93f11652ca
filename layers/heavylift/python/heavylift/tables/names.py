"""What a file name announces. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BY_NAME: Final[Mapping[str, str]] = {
    "csv": "CSV",
    "tsv": "TSV",
    "tab": "TSV",
    "jsonl": "JSONL",
    "ndjson": "JSONL",
    "json": "JSON",
    "geojson": "JSON",
    "txt": "Text",
    "log": "Text",
    "md": "Text",
}
PACKED: Final = {"gz": "gzip", "zst": "zstd", "zstd": "zstd"}


def announced_by_name(name: str) -> tuple[str | None, str | None]:
    """(format, compression) that a file name announces."""
    parts = name.lower().rsplit("/", 1)[-1].split(".")[1:]
    compression = PACKED.get(parts[-1]) if parts else None
    if compression:
        parts.pop()
    return (_BY_NAME.get(parts[-1]) if parts else None), compression
