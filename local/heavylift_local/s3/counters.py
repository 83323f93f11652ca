"""What was asked, by whom, and how many body bytes went which way; and the access log."""

import json
import threading
from pathlib import Path
from typing import Any


class Counters:
    """{caller: {"s3.GetObject": {"requests", "bytes_in", "bytes_out"}}}; bytes are those of bodies on the wire."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_caller: dict[str, dict[str, list[int]]] = {}

    def add(self, caller: str, operation: str, bytes_in: int, bytes_out: int) -> None:
        with self._lock:
            row = self._by_caller.setdefault(caller, {}).setdefault(f"s3.{operation}", [0, 0, 0])
            row[0] += 1
            row[1] += bytes_in
            row[2] += bytes_out

    def snapshot(self) -> dict[str, dict[str, dict[str, int]]]:
        with self._lock:
            return {
                caller: {
                    name: {"requests": row[0], "bytes_in": row[1], "bytes_out": row[2]} for name, row in rows.items()
                }
                for caller, rows in self._by_caller.items()
            }


class AccessLog:
    """One JSON line a request, whole lines only."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8", buffering=1) if path else None

    def write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            line = json.dumps(entry, ensure_ascii=False) + "\n"
            with self._lock:
                self._file.write(line)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
