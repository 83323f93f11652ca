"""Peak memory of the validator for files that are made to need much."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

MIB = 1 << 20
CHILD = """
import sys
from heavylift.tables import validate_file
report = validate_file(sys.argv[1])
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


@pytest.mark.parametrize(
    ("name", "write", "counts"),
    [
        ("a.csv", one_line, "blank-header,record-too-long"),
        ("a.jsonl", one_line, "record-too-long"),
        ("a.txt", one_line, "record-too-long"),
        ("a.json", one_line, "invalid-json"),
        ("a.csv.gz", bomb, "blank-header,decompression-limit,record-too-long"),
        ("a.json", deep, "nesting-too-deep"),
    ],
)
def test_hostile_files_take_little_memory(
    tmp_path: Path, name: str, write: Callable[[BinaryIO], None], counts: str
) -> None:
    """Below 64 MB in a process of its own, and the defect is told."""
    path = tmp_path / name
    with path.open("wb") as file:
        write(file)
    run = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)
    peak, found = run.stdout.split()

    assert found == counts
    assert int(peak) <= 64_000_000


def test_a_quote_that_never_ends_takes_a_record_and_a_little(tmp_path: Path) -> None:
    """Records of up to 16 MiB are held; 160 MB is what the function has."""
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        open_quote(file)
    run = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)

    assert int(run.stdout.split()[0]) <= 160_000_000
