"""A package's table: all that is known of its files, as CSV (RFC 4180). Pure.

A spreadsheet takes a cell that begins with = + - @ for a formula and runs it. Such a cell gets an apostrophe in front
(and so does one that begins with an apostrophe: to read a cell back, take one away). Numbers stay numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from heavylift.archives.entries import Entry, Missing
from heavylift.records import iso

KEYS_MAX = 200  # keys of metadata with a column each; of more all metadata stand in one column, as JSON
_FIXED = (
    "file_id",
    "document",
    "original_name",
    "archived_name",
    "size",
    "media_type",
    "format",
    "kind",
    "sha256",
    "sha256_proven",
    "crc32",
    "created_at",
    "width",
    "height",
    "mode",
    "data_type",
    "description",
)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FORMULA = frozenset("=+-@'＝＋－＠")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_QUOTED = re.compile('[",\r\n]')


def cell(value: Any) -> str:
    """One cell: quoted where it must be, never a formula. Controls and halves of surrogates become U+FFFD."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = _CONTROLS.sub("\ufffd", text)
    if text.lstrip()[:1] in _FORMULA and text.lstrip() and not _NUMBER.fullmatch(text):
        text = "'" + text
    if _QUOTED.search(text) or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def line(cells: Iterable[Any]) -> str:
    return ",".join(map(cell, cells)) + "\r\n"


class Columns:
    """The table's columns: the fixed ones, and one for each key of metadata that any file has, by name."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Learn of a file's metadata; all are noted before the first line is written."""
        if len(self._keys) <= KEYS_MAX:
            self._keys.update(metadata)

    @property
    def _together(self) -> bool:
        return len(self._keys) > KEYS_MAX

    def header(self) -> str:
        keys = ["metadata"] if self._together else [f"metadata.{key}" for key in sorted(self._keys)]
        return line([*_FIXED, *keys])

    def row(self, entry: Entry, archived: str, crc32_hex: str | None) -> str:
        """A file's line; ``archived``: its name inside the package."""
        metadata = entry.metadata
        more = [dict(metadata) or None] if self._together else [metadata.get(key) for key in sorted(self._keys)]
        facts = entry.facts
        return line(
            [
                entry.file_id,
                entry.logical_id,
                entry.path,
                archived,
                entry.size,
                entry.media_type,
                entry.format,
                entry.kind,
                entry.sha256,
                entry.sha256_proven if entry.sha256 else None,
                crc32_hex,
                iso(entry.created_at),
                facts.get("width"),
                facts.get("height"),
                facts.get("mode"),
                entry.data_type,
                entry.description,
                *more,
            ]
        )


def missing_header() -> str:
    """Of the report of files that a package does without."""
    return line(["file_id", "original_name", "reason"])


def missing_row(missing: Missing) -> str:
    return line([missing.file_id, missing.path, missing.reason])
