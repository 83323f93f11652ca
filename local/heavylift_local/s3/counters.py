"""What was asked, by whom, and how many body bytes went which way; and the access log."""

import json
import threading
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 0.25  # many times what counting takes after the last byte went out


class Counters:
    """{caller: {"s3.GetObject": {"requests", "bytes_in", "bytes_out"}}}; bytes are those of bodies on the wire."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._answering = 0
        self._by_caller: dict[str, dict[str, list[int]]] = {}

    def answering(self) -> None:
        """An answer begins to go out; `add` follows when it is out. Who has it may ask for the counters before."""
        with self._lock:
            self._answering += 1

    def add(self, caller: str, operation: str, bytes_in: int, bytes_out: int, *, answered: bool) -> None:
        with self._lock:
            if answered:
                self._answering -= 1
                self._settled.notify_all()
            row = self._by_caller.setdefault(caller, {}).setdefault(f"s3.{operation}", [0, 0, 0])
            row[0] += 1
            row[1] += bytes_in
            row[2] += bytes_out

    def snapshot(self) -> dict[str, dict[str, dict[str, int]]]:
        """All counts, those of answers that just went out among them; a long download is not waited for."""
        with self._lock:
            self._settled.wait_for(lambda: self._answering == 0, SETTLE_SECONDS)
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
