"""What a person sees: a progress bar, a line a file, a few facts. Nothing here goes into a pipe."""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from heavylift_client.results import Result
from heavylift_client.transfers import Hooks

NAME_WIDTH = 40
# Facts that a person wants first; the rest is for --json.
FACTS = (
    "file_id",
    "upload_id",
    "batch_id",
    "archive_id",
    "package",
    "name",
    "size",
    "status",
    "final",
    "kind",
    "format",
    "media_type",
    "width",
    "height",
    "mode",
    "logical_id",
    "percent",
    "bytes_received",
    "part_size",
    "part_count",
    "seconds_left",
    "duration_s",
    "message",
    "total",
    "received",
    "processed",
    "succeeded",
    "skipped",
    "duplicates",
    "members",
    "missing",
    "bytes_through",
    "crc32",
    "expires_at",
    "created_at",
    "updated_at",
    "as_of",
    "active_uploads",
    "active_bytes",
    "average_bytes_per_s",
    "uploads_today",
    "uploads_week",
    "bytes_total",
    "bytes_average",
    "deleted",
)


def printable(text: str, width: int | None = None) -> str:
    """A name as a terminal may show it: control characters made visible, cut in the middle to ``width``."""
    shown = "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)
    if width is None or len(shown) <= width:
        return shown
    tail = width // 3  # the end has the extension
    return shown[: width - tail - 1] + "…" + shown[-tail:]


def _harmless(c: str) -> bool:
    return unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def size_in_words(size: float) -> str:
    """Decimal units, as disks and networks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def put_line(result: Result) -> str:
    """One line of the table of uploads."""
    cells = [f"{printable(result.relative_path or result.name, NAME_WIDTH):{NAME_WIDTH}}"]
    cells.append(f"{size_in_words(result.size) if result.size is not None else '-':>9}")
    rate = result.bytes_sent / 1e6 / result.upload_s if result.upload_s and result.bytes_sent else None
    cells.append(f"{f'{rate:.1f} MB/s' if rate else '-':>11}")
    cells.append(f"{result.status:21}")
    cells.append(f"{result.kind or '-':7}")
    cells.append(result.file_id or "-")
    if result.failure:
        cells.append(f"{result.failure.get('code')}: {printable(str(result.failure.get('message', '')))}")
    return "  ".join(cells).rstrip()


def facts(body: Mapping[str, Any]) -> list[str]:
    """A record as lines of "name  value"."""
    lines = [f"{name:20} {_value(body[name])}" for name in FACTS if body.get(name) is not None]
    failure = body.get("failure")
    if failure:
        lines.append(f"{'failure':20} {failure.get('code')}: {printable(str(failure.get('message', '')))}")
    for entry in body.get("thumbnails") or ():
        placeholder = ", placeholder" if entry.get("placeholder") else ""
        where = f"  {entry['path']}" if entry.get("path") else ""
        lines.append(f"{'thumbnail':20} {entry.get('width')} x {entry.get('height')}{placeholder}{where}")
    for name in sorted(set(body) - set(FACTS) - {"failure", "thumbnails"}):
        if isinstance(body[name], (int, float, bool)):
            lines.append(f"{name:20} {body[name]}")
    return lines


def studies(body: Any) -> list[str]:
    """Studies, a line each: those of a batch ({"items"}), or QIDO-RS's DICOM JSON (PS3.18 F)."""
    found = body.get("items") or () if isinstance(body, Mapping) else body or ()
    return [_study(_of_qido(one) if "0020000D" in one else one) for one in found]


def _study(one: Mapping[str, Any]) -> str:
    cells = [
        f"{one.get('study_date') or '-':8}",
        f"{','.join(one.get('modalities') or ()) or '-':8}",
        f"{one.get('series', 0):>4} series",
        f"{one.get('instances', 0):>6} instances",
        str(one.get("study_uid")),
    ]
    cells += [printable(str(one[name]), NAME_WIDTH) for name in ("patient_name", "description") if one.get(name)]
    return "  ".join(cells)


def _of_qido(found: Mapping[str, Any]) -> dict[str, Any]:
    def value(tag: str) -> Any:
        return (found.get(tag, {}).get("Value") or [None])[0]

    name = value("00100010")
    return {
        "study_uid": value("0020000D"),
        "study_date": value("00080020"),
        "modalities": found.get("00080061", {}).get("Value") or (),
        "series": value("00201206") or 0,
        "instances": value("00201208") or 0,
        "patient_name": name.get("Alphabetic") if isinstance(name, Mapping) else None,
        "description": value("00081030"),
    }


def table(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """A list of files, a line each."""
    lines = []
    for item in items:
        size = item.get("size")
        lines.append(
            "  ".join(
                (
                    f"{item.get('file_id') or item.get('upload_id') or '-':33}",
                    f"{item.get('status') or '-':21}",
                    f"{item.get('kind') or '-':7}",
                    f"{size_in_words(size) if isinstance(size, (int, float)) else '-':>9}",
                    printable(str(item.get("name", "")), NAME_WIDTH),
                )
            ).rstrip()
        )
    return lines


def report(body: Mapping[str, Any]) -> list[str]:
    """What validation found, as a person reads it: the verdict, the counts, the first errors with their places."""
    verdict = "valid" if body.get("valid") else "not valid"
    dialect = body.get("encoding") or ""
    lines = [f"{verdict}: {body.get('format')}, {body.get('records')} records, {body.get('lines')} lines, {dialect}"]
    if body.get("stopped_by"):
        lines.append(f"reading stopped early: {body['stopped_by']}")
    for title, counts in (("errors", body.get("counts")), ("warnings", body.get("warnings"))):
        lines += [f"{title}  {code}  {number}" for code, number in (counts or {}).items()]
    for error in body.get("errors") or ():
        place = f"line {error.get('line')}, byte {error.get('byte_offset')}"
        place += f", column {error['column']}" if "column" in error else ""
        place += f", {printable(str(error['field']), NAME_WIDTH)}" if "field" in error else ""
        lines.append(f"{place}: {error.get('code')}: {printable(str(error.get('message', '')))}")
    if body.get("errors_truncated"):
        lines.append("there are more errors than these")
    return lines


def _value(value: Any) -> str:
    return printable(value) if isinstance(value, str) else str(value)


class Progress:
    """A bar on the terminal, or nothing: bytes, MB/s, time left. Says notices without breaking the bar."""

    def __init__(self, *, visible: bool, total: int | None) -> None:
        self._lock = threading.Lock()
        self._bar: Any = None
        if visible:
            from tqdm import tqdm

            # A terminal that does not know its width says 0, and tqdm would show nothing.
            known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
            self._bar = tqdm(
                total=total,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                dynamic_ncols=known,
                ncols=None if known else 80,
                nrows=None if known else 24,
                leave=False,
            )

    def hooks(self) -> Hooks:
        """For a client."""
        return Hooks(self._moved, self._resumed, self.notice, self.add_total)

    def moved(self, size: int) -> None:
        """So many bytes more are done."""
        self._moved(size)

    def _moved(self, size: int) -> None:
        if self._bar is not None:
            with self._lock:
                self._bar.update(size)

    def _resumed(self, size: int) -> None:
        if self._bar is not None:
            with self._lock:
                self._bar.initial += size  # so that it does not count as speed
                self._bar.update(size)

    def add_total(self, size: int) -> None:
        """More to do than was known at first."""
        if self._bar is not None:
            with self._lock:
                self._bar.total = (self._bar.total or 0) + size
                self._bar.refresh()

    def notice(self, words: str) -> None:
        """A sentence on stderr."""
        self._say(f"heavylift: {printable(words)}", sys.stderr)

    def line(self, text: str) -> None:
        """A line of output on stdout."""
        self._say(text, sys.stdout)

    def _say(self, text: str, stream: Any) -> None:
        with self._lock:
            if self._bar is None:
                print(text, file=stream, flush=True)
            else:
                self._bar.clear()
                print(text, file=stream, flush=True)
                self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
