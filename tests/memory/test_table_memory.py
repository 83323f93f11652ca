"""Peak memory of the validator for files that are made to need much."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

MIB = 1 << 20
CHILD = """
import json, sys
from heavylift.tables import validate_file
report = validate_file(sys.argv[1], json.loads(sys.argv[2]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024, ",".join(report["counts"]))
"""
pytestmark = [
    pytest.mark.memory,
    pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's"),
]


def one_line(file: BinaryIO) -> None:
    for _ in range(150):
        file.write(b"x" * MIB)


def open_quote(file: BinaryIO) -> None:
    file.write(b'a,b\n1,"' + b"x" * 4 * MIB)
    file.write(b"\n")
    for _ in range(60):
        file.write(b"x" * (MIB - 1) + b"\n")


def bomb(file: BinaryIO) -> None:
    file.write(gzip.compress(bytes(300 * MIB), 1))


def deep(file: BinaryIO) -> None:
    file.write(b"[" * 200_000)


def long_cell(file: BinaryIO) -> None:
    """A record of 16 MiB, the most that is taken, of letters that need four bytes each, also in memory."""
    file.write(b'a,b\n1,"' + "\U0001f600".encode() * (4 * MIB - 10) + b'"\n2,3\n')


def quotes(file: BinaryIO) -> None:
    file.write(b'a,b\n1,"' + b'""' * (8 * MIB - 10) + b'"\n2,3\n')


def arrays(file: BinaryIO) -> None:
    """A record of 15 MB that would be five million objects."""
    file.write(b"[" + b"[]," * (5 * MIB - 10) + b"1]\n{}\n")


def long_text(file: BinaryIO) -> None:
    file.write(b'{"a":"' + "\U0001f600".encode() * (4 * MIB - 10) + b'"}\n{}\n')


SCHEMA = {"type": "object"}
TABLE_SCHEMA = {"fields": [{"name": "a"}, {"name": "b", "constraints": {"minLength": 1}}]}


def peak_of(path: Path, rules: Any) -> tuple[int, str]:
    """(VmHWM of a process that validates the file, codes of the errors)."""
    command = [sys.executable, "-c", CHILD, str(path), json.dumps(rules)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, found = [*run.stdout.split(), ""][:2]
    return int(peak), found


@pytest.mark.parametrize(
    ("name", "write", "rules", "counts"),
    [
        ("a.csv", one_line, None, "blank-header,record-too-long"),
        ("a.jsonl", one_line, None, "record-too-long"),
        ("a.txt", one_line, None, "record-too-long"),
        ("a.json", one_line, None, "invalid-json"),
        ("a.csv.gz", bomb, None, "blank-header,decompression-limit,record-too-long"),
        ("a.json", deep, None, "nesting-too-deep"),
        ("a.jsonl", deep, None, "nesting-too-deep"),
        ("a.csv", open_quote, None, "missing-cell,record-too-long"),
        ("a.csv", long_cell, None, ""),
        ("a.csv", long_cell, {"schema": TABLE_SCHEMA}, "record-too-complex"),
        ("a.csv", quotes, None, ""),
        ("a.jsonl", arrays, None, ""),
        ("a.jsonl", long_text, {"schema": SCHEMA}, "record-too-complex"),
        ("a.jsonl", long_text, {"duplicate_members": "error"}, ""),
        ("a.json", long_text, None, "invalid-json"),
    ],
)
def test_hostile_files_take_little_memory(
    tmp_path: Path, name: str, write: Callable[[BinaryIO], None], rules: Any, counts: str
) -> None:
    """Below 64 MB in a process of its own, and the defect is told."""
    path = tmp_path / name
    with path.open("wb") as file:
        write(file)
    peak, found = peak_of(path, rules)

    assert found == counts
    assert peak <= 64_000_000


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.json"])
def test_a_line_of_five_gigabytes_takes_no_more_than_a_small_one(tmp_path: Path, name: str) -> None:
    """Sparse, so that it costs no disk: zeros in a text are zeros."""
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(5_000_000_000)

    assert peak_of(path, None)[0] <= 64_000_000


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_a_gigabyte_of_zeros_in_a_megabyte_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as packed:
        for _ in range(1_000):
            packed.write(bytes(1_000_000))
    peak, found = peak_of(path, None)

    assert "decompression-limit" in found
    assert peak <= 64_000_000
