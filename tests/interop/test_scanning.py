"""The scanning gate on the running stack: the stub calls the EICAR test file infected, everything else passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift_local.scanner import EICAR

pytestmark = pytest.mark.timeout(120)
HEAVYLIFT = [sys.executable, "-m", "heavylift_client.cli"]


@pytest.fixture(scope="module")
def gated() -> Iterator[dict[str, str]]:
    """The environment of a client of a stack with the gate."""
    environment = {**os.environ, "MALWARE_SCAN": "strict"}
    stack = subprocess.Popen(
        [*HEAVYLIFT, "up", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    assert stack.stdout is not None
    ready = json.loads(stack.stdout.readline())
    try:
        yield {**os.environ, "HEAVYLIFT_API": ready["api"], "HEAVYLIFT_TOKEN": ready["token"]}
    finally:
        stack.terminate()
        assert stack.wait(30) == 0


def heavylift(environment: dict[str, str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """(exit status, JSON lines) of one command."""
    done = subprocess.run(
        [*HEAVYLIFT, *arguments, "--json"], capture_output=True, text=True, env=environment, timeout=60
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_infected_files_are_rejected_and_all_others_pass(gated: dict[str, str], tmp_path: Path) -> None:
    """The report and the scan are on the record; new rules of a stored file make a new report."""
    (tmp_path / "eicar.txt").write_bytes(EICAR)
    (tmp_path / "good.csv").write_text("id,name\n1,one\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "rules.json").write_text('{"min_records": 1}')
    (tmp_path / "others.json").write_text('{"min_records": 5}')
    infected, (first,) = heavylift(gated, "put", str(tmp_path / "eicar.txt"))
    well, lines = heavylift(
        gated, "put", str(tmp_path / "good.csv"), "--rules", str(tmp_path / "rules.json"), "--data-type", "orders"
    )
    empty, _ = heavylift(gated, "put", str(tmp_path / "empty.txt"))
    _, (file,) = heavylift(gated, "status", lines[0]["file_id"])
    _, (report,) = heavylift(gated, "report", lines[0]["file_id"])
    refused, _ = heavylift(gated, "get", first["file_id"], "-o", str(tmp_path / "copy"))

    assert (infected, first["failure"]["code"], first["failure"]["threats"]) == (1, "malware_found", 1)
    assert (well, empty, refused) == (0, 0, 1)
    assert (file["scan"]["status"], file["valid"], report["records"]) == ("NO_THREATS_FOUND", True, 1)
    assert not (tmp_path / "copy").exists()

    retried, (answer,) = heavylift(gated, "retry", file["file_id"], "--rules", str(tmp_path / "others.json"))
    valid = True
    for _ in range(50):
        valid = heavylift(gated, "status", file["file_id"])[1][0]["valid"]
        if not valid:
            break

    assert (retried, answer["status"], valid) == (0, "completed", False)
    assert heavylift(gated, "report", file["file_id"])[1][0]["counts"] == {"row-count": 1}
