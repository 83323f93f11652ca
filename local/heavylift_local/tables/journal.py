"""The journal that makes a table outlive its process: one JSON line per written item, compacted at start.

A line is ``[table, key, item]`` in DynamoDB JSON, item null for a deletion; the last line of a key counts.
Lines reach the kernel before the write is answered, so a killed process loses nothing; a torn last line
(machine lost its power) is dropped. Not fsynced: this is a development stack.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Item = dict[str, Any]


def encode(value: object) -> str:
    """Compact JSON; bytes, which moto keeps as such, become ``{"bytes": base64}`` in place of the string."""
    return json.dumps(value, separators=(",", ":"), default=_encode_bytes)


def _encode_bytes(value: object) -> object:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    raise TypeError(f"no JSON for {type(value).__name__}")


def encode_request(body: object) -> str:
    """The JSON of a request; bytes as the service wants them, in base64."""
    return json.dumps(body, default=lambda value: base64.b64encode(value).decode())


def decode(text: str | bytes) -> Any:
    """The reverse; DynamoDB JSON itself has no object whose only key is ``bytes``, its type tags are capitals."""
    return json.loads(text, object_hook=_decode_bytes)


def _decode_bytes(value: dict[str, Any]) -> object:
    if value.keys() == {"bytes"} and isinstance(value["bytes"], str):
        return base64.b64decode(value["bytes"])
    return value


def read(path: Path) -> Iterator[tuple[str, Item, Item | None]]:
    """(table, key, item or None) in the order written; stops at the first line that is not whole."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            try:
                table, key, item = decode(line)
            except ValueError:
                return
            yield table, key, item


def latest(path: Path) -> dict[tuple[str, str], Item]:
    """The items that exist after all lines, by table and canonical key."""
    items: dict[tuple[str, str], Item] = {}
    for table, key, item in read(path):
        identity = (table, encode(key))
        if item is None:
            items.pop(identity, None)
        else:
            items[identity] = item
    return items


class Journal:
    """Appends; the caller serialises writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def append(self, table: str, key: Item, item: Item | None) -> None:
        self._file.write(encode([table, key, item]).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def compact(path: Path, items: dict[tuple[str, str], Item]) -> None:
    """Replaces the journal by one line per item, atomically."""
    part = path.with_suffix(".part")
    with part.open("wb") as lines:
        for (table, key), item in items.items():
            lines.write(encode([table, decode(key), item]).encode() + b"\n")
        lines.flush()
        os.fsync(lines.fileno())
    part.replace(path)
