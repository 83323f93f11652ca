"""``make demo``: the whole system on this machine, from a client through S3 to thumbnails, and what came of it.

    python -m heavylift_local.demo [FILE | FOLDER]…

Without files it makes its own. Exit status 0 only if every file ended as it should.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heavylift_client import Client, ClientError, Result
from heavylift_local.demo_pictures import DemoFile, make_demo_files
from heavylift_local.testing import running_stack

MIB = 1024 * 1024
FUNCTIONS = ("validate", "thumbnail")
COLUMNS = ("file", "MiB", "MB/s", "detected", "ended", "thumbnails", "validate", "thumbnail")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Run the whole system once, with real files.")
    parser.add_argument("paths", nargs="*", metavar="FILE", help="your own files and folders")
    parser.add_argument("--api", help="a system that is there already; its token is HEAVYLIFT_TOKEN")
    parser.add_argument("--out", default="build/demo", help="where the thumbnails are left (default: %(default)s)")
    options = parser.parse_args(arguments)
    out = Path(options.out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="heavylift-demo-") as folder:
        try:
            wanted = [DemoFile(path) for path in _regular_files(options.paths)] or make_demo_files(Path(folder))
        except FileNotFoundError as error:
            print(f"There is no such file: {error}", file=sys.stderr)
            return 2
        if options.api:
            token = os.environ.get("HEAVYLIFT_TOKEN")
            if not token:
                print("HEAVYLIFT_TOKEN is not set: whose files should these be?", file=sys.stderr)
                return 2
            outcomes = _run_all(options.api, token, wanted, out)
        else:
            print("Starting the local stack: a strict S3, DynamoDB, queues, an API gateway and the Lambda functions …")
            started = time.monotonic()
            with running_stack() as stack:
                print(f"Ready after {time.monotonic() - started:.1f} s: {stack.api} (S3: {stack.s3})\n")
                outcomes = _run_all(stack.api, stack.token(), wanted, out)
        rows = [row for row, _ in outcomes]
        complaints = [complaint for _, complaint in outcomes if complaint]
    _print_table(rows)
    print(
        f"\nThumbnails: {out}/<file>/<size>.jpg. validate and thumbnail: ms, peak MB of the handler + of its decoder."
    )
    if not options.api:
        print("To play with it: `make up`, then `.venv/bin/heavylift put FILE` beside it; its page shows the rest.")
    for complaint in complaints:
        print(f"NOT AS IT SHOULD BE: {complaint}", file=sys.stderr)
    print(f"\n{len(rows) - len(complaints)} of {len(rows)} files ended as they should.")
    return 1 if complaints else 0


def _run_all(api: str, token: str, wanted: Sequence[DemoFile], out: Path) -> list[tuple[list[str], str | None]]:
    with Client(api, token) as client:
        return [_run(client, one, out) for one in wanted]


def _regular_files(paths: Sequence[str]) -> Iterator[Path]:
    for text in paths:
        path = Path(text)
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        elif path.is_file():
            yield path
        else:
            raise FileNotFoundError(text)


def _run(client: Client, wanted: DemoFile, out: Path) -> tuple[list[str], str | None]:
    """Upload one file, wait for its end, fetch its thumbnails: its row, and what is wrong with it."""
    result = client.put(wanted.path)
    record: dict[str, Any] = dict(result.record or {})
    code = (record.get("failure") or result.failure or {}).get("code")
    thumbnails = record.get("thumbnails") or []
    complaint = _complaint(wanted, result, record)
    if result.file_id and thumbnails:
        try:
            client.thumbs(result.file_id, out / wanted.path.name)
        except ClientError as error:
            complaint = complaint or f"{wanted.path.name}: its thumbnails cannot be fetched: {error}"
    size = wanted.path.stat().st_size
    seconds = result.upload_s or 0
    sizes = ", ".join(f"{one['width']}x{one['height']}" for one in thumbnails)
    stages = record.get("stages") or {}
    row = [
        wanted.path.name,
        f"{size / MIB:.2f}",
        f"{size / seconds / 1e6:.0f}" if seconds and size > MIB else "-",
        record.get("format") or "-",
        result.status + (f" ({code})" if code else ""),
        sizes or "-",
        *(_stage(stages.get(name)) for name in FUNCTIONS),
    ]
    return row, complaint


def _stage(values: dict[str, Any] | None) -> str:
    if not values:
        return "-"
    child = values.get("child_memory_peak_bytes", 0)
    peak = f"{values['memory_peak_bytes'] / 1e6:.0f}" + (f" + {child / 1e6:.0f}" if child else "")
    return f"{values['ms']} ms, {peak} MB"


def _complaint(wanted: DemoFile, result: Result, record: dict[str, Any]) -> str | None:
    name = wanted.path.name
    failure = record.get("failure") or result.failure or {}
    if result.status != wanted.status:
        return f"{name} is {result.status}, not {wanted.status}: {failure.get('message', 'no reason given')}"
    if wanted.code and failure.get("code") != wanted.code:
        return f"{name} was refused with {failure.get('code')}, not {wanted.code}"
    if wanted.format and record.get("format") != wanted.format:
        return f"{name} was taken for {record.get('format')}, not {wanted.format}"
    if wanted.thumbnails and len(record.get("thumbnails") or []) != wanted.thumbnails:
        return f"{name} has {len(record.get('thumbnails') or [])} thumbnails, not {wanted.thumbnails}"
    return None


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    table = [list(COLUMNS), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    for number, row in enumerate(table):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


if __name__ == "__main__":
    sys.exit(main())
