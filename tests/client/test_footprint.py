"""What the client costs: imports, memory, files left open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heavylift_client import Client
from tests.client.fake import MIB, TOKEN, Stack

PEAK_KB_MAX = 60_000

MEASURED = """
import sys
from heavylift_client.cli import main
status = main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, file=sys.stderr)
sys.exit(status)
"""


def peak_kb(stack: Stack, *arguments: object) -> int:
    """VmHWM of one command in a fresh process."""
    environment = os.environ | {"HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1_500,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])


def test_only_the_standard_library_is_imported() -> None:
    """The client alone is enough: no boto3, no other part of the project, tqdm only on a terminal."""
    code = "import sys, json, heavylift_client.cli, heavylift_client.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    tops = {name.partition(".")[0] for name in json.loads(done.stdout)}

    assert not tops & {"heavylift", "heavylift_local", "boto3", "botocore", "requests", "urllib3", "tqdm", "numpy"}


@pytest.mark.memory
def test_memory_of_put_and_get(stack: Stack, tmp_path: Path) -> None:
    """A file of 160 MiB in parts of 32 MiB, eight on the wire: at most 60 MB, as without a file."""
    stack.part_size = 32 * MIB
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(160 * MIB)
        file.write(b"x" * MIB)

    assert peak_kb(stack, "put", path, "--concurrency", 8) <= PEAK_KB_MAX
    (file_id,) = stack.uploads
    assert peak_kb(stack, "get", file_id, "-o", tmp_path / "copy") <= PEAK_KB_MAX


@pytest.mark.full
@pytest.mark.memory
def test_memory_of_a_large_put(stack: Stack, tmp_path: Path) -> None:
    """8 GiB in parts of 64 MiB: the same bound."""
    stack.part_size, stack.keep = 64 * MIB, False
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(8 << 30)

    assert peak_kb(stack, "put", path, "--no-wait") <= PEAK_KB_MAX


def _folder_of(count: int, folder: Path) -> Path:
    for n in range(count):
        place = folder / f"{n // 1_000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"a name of some length {n:06d}.dcm").write_bytes(b"%d" % n)
    return folder


@pytest.mark.memory
def test_memory_of_a_folder(stack: Stack, tmp_path: Path) -> None:
    """3,000 tiny files: within the bound of one large one."""
    stack.keep = False

    assert peak_kb(stack, "put", _folder_of(3_000, tmp_path / "in")) <= PEAK_KB_MAX


@pytest.mark.full
@pytest.mark.memory
@pytest.mark.timeout(1800)
def test_memory_of_a_hundred_thousand_files(stack: Stack, tmp_path: Path) -> None:
    """100,000 tiny files, all in one batch: the same bound."""
    stack.keep = False

    assert peak_kb(stack, "put", _folder_of(100_000, tmp_path / "in")) <= PEAK_KB_MAX


def test_no_file_stays_open(stack: Stack, client: Client, make_file: Callable[..., Path], tmp_path: Path) -> None:
    """Descriptors after uploads and downloads are those before."""
    paths = [make_file(17 * MIB, "a"), *[make_file(100 + n, f"s{n}", seed=n) for n in range(30)]]

    def mine() -> int:
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _exists(fd)]
        return sum(1 for link in links if str(tmp_path) in link)

    before = mine()
    results = list(client.put_many(paths))
    client.get(str(results[0].file_id), tmp_path / "copy")

    assert all(result.ok for result in results)
    assert mine() == before


def _exists(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")
