"""A CSV of any size in groups of rows, to a callback; memory holds one group."""

from __future__ import annotations

import csv
import gzip
import io
import os
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

FIELD_MAX_BYTES = 16 << 20  # as max_record_bytes of the validator
_field_limit = threading.Lock()

Callback = Callable[[list[dict[str, Any]], int], object]


def stream_csv(
    path: str | os.PathLike[str],
    callback: Callback,
    chunk_size: int = 1000,
    *,
    delimiter: str | None = None,
    encoding: str = "utf-8-sig",
) -> int:
    """Read ``path`` and call ``callback(rows, row_count)`` for every ``chunk_size`` rows, and for the rest.

    ``rows`` is a list of dicts keyed by the header line; ``row_count`` counts all rows so far, the header
    not. A row with too few fields has None for the missing ones, surplus fields are a list under None (as in
    ``csv.DictReader``). gzip is recognised by its first bytes; ``delimiter`` is a comma, or a tab for names
    that end in ``.tsv``. Returns the number of rows. Raises OSError, UnicodeDecodeError, csv.Error (with a
    line number), ValueError for a chunk size below 1; what the callback raises passes unchanged.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, must be at least 1")
    if delimiter is None:
        delimiter = "\t" if os.fspath(path).removesuffix(".gz").endswith(".tsv") else ","
    with _field_limit:  # the limit belongs to the process; it is only ever raised
        if csv.field_size_limit() < FIELD_MAX_BYTES:
            csv.field_size_limit(FIELD_MAX_BYTES)
    with open(path, "rb") as raw:
        text = io.TextIOWrapper(_unpacked(raw), encoding=encoding, newline="")
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        rows: list[dict[str, Any]] = []
        row_count = 0
        try:
            for row in reader:
                rows.append(row)
                row_count += 1
                if len(rows) == chunk_size:
                    callback(rows, row_count)
                    rows = []
        except csv.Error as error:
            raise csv.Error(f"line {reader.reader.line_num}: {error}") from None
        if rows:
            callback(rows, row_count)
    return row_count


def _unpacked(raw: BinaryIO) -> BinaryIO:
    head = raw.read(2)
    raw.seek(0)
    return gzip.open(raw) if head == b"\x1f\x8b" else raw  # type: ignore[return-value]
