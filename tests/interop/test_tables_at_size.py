"""Tables through the running stack: many at once, and files of gigabytes in slices and pieces; each report is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from heavylift.tables import validate_file
from heavylift_local.testing import RunningStack, running_stack

pytestmark = pytest.mark.xdist_group("local-stack")
MB = 1_000_000


def table(path: Path, number: int, rows: int) -> None:
    """Every file has its own defects: none in the first, then so many short rows, and a stray quote in every fifth."""
    with path.open("w", newline="") as file:
        file.write("id,text,value\r\n")
        for row in range(rows):
            if row % 97 < number % 7:
                file.write(f"{row},short\r\n")
            elif number % 5 == 4 and row == rows // 2:
                file.write(f'{row},st"ray,1\r\n')
            else:
                file.write(f'{row},"row ""{row}""\nof {number}",{row * 0.5}\r\n')


def records(path: Path, number: int, rows: int) -> None:
    with path.open("wb") as file:
        for row in range(rows):
            file.write(
                b"{oops\n" if row % 89 < number % 4 else b'{"id":%d,"of":%d,"text":"%s"}\n' % (row, number, b"x" * 50)
            )


def put(stack: RunningStack, paths: Sequence[Path], concurrency: int) -> dict[str, dict[str, Any]]:
    """The command's line of each file, by name; a rejected one is no failure here."""
    heavylift = str(Path(sys.executable).with_name("heavylift"))
    command = [heavylift, "put", "--json", "--concurrency", str(concurrency)]
    environment = {**os.environ, "HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": stack.token("tables")}
    done = subprocess.run([*command, *map(str, paths)], env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(paths), done.stderr
    return {line["name"]: line for line in lines}


def compare(stack: RunningStack, tmp_path: Path, count: int, rows: int, concurrency: int) -> None:
    """``count`` files go up; the report of each is that of the same code on the file itself."""
    paths = []
    for number in range(count):
        path = tmp_path / f"{number}.{'csv' if number % 2 else 'jsonl'}"
        (table if number % 2 else records)(path, number, rows)
        paths.append(path)
    lines = put(stack, paths, concurrency)
    token = stack.token("tables")
    verdicts = set()
    for path in paths:
        line = lines[path.name]
        answer = stack.request("GET", f"/v1/files/{line['file_id']}/report?redirect=false", token=token)
        found, expected = fetched(answer["url"]), validate_file(path)
        assert found | {"source": None} == expected | {"source": None}, path.name
        assert line["status"] == ("completed" if expected["valid"] else "rejected")
        verdicts.add(line["status"])
    assert verdicts == {"completed", "rejected"}


def fetched(url: str) -> dict[str, Any]:
    import urllib.request

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def test_files_that_are_checked_at_once_have_their_own_reports(tmp_path: Path) -> None:
    """A dozen at a time; then one that is stored by other rules."""
    with running_stack() as stack:
        compare(stack, tmp_path, 12, 120, 12)
        token = stack.token("tables")
        stored = stack.request("GET", "/v1/files?status=fresh", token=token)["items"][0]
        path = f"/v1/files/{stored['file_id']}"
        stack.request("POST", f"/v1/uploads/{stored['file_id']}/retry", {"rules": {"min_records": 121}}, token=token)
        started = time.monotonic()
        while stack.request("GET", path, token=token)["valid"]:
            assert time.monotonic() - started < 60
            time.sleep(0.2)
        report = fetched(stack.request("GET", f"{path}/report?redirect=false", token=token)["url"])
        assert report["counts"] == {"row-count": 1}


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_a_hundred_at_once_have_their_own_reports(tmp_path: Path) -> None:
    """Of a megabyte each, with sandboxes killed now and then."""
    with running_stack(env={"HEAVYLIFT_TIME_SCALE": "30"}) as stack:
        stack.faults({"functions": {"validate": {"kill": 0.05, "kill_after_ms": 300}}})
        compare(stack, tmp_path, 100, 15_000, 64)


def ten_gigabytes(path: Path, kind: str) -> int:
    """Rows or lines, from one block of 64 MB written again and again; how many records that makes."""
    if kind == "csv":
        head = b"id,text,value\r\n"
        one = b"".join(b'%d,"row ""%d""\nof, many",%d.5\r\n' % (n, n, n) for n in range(20_000))
    else:
        head = b""
        one = b"".join(b'{"id":%d,"text":"%s","more":[1,2.5,null]}\n' % (n, b"x" * (n % 700)) for n in range(20_000))
    block = one * (64 * MB // len(one))
    blocks = 0
    with path.open("wb") as file:
        file.write(head)
        while file.tell() < 10_000 * MB:
            file.write(block)
            blocks += 1
        file.write(b'"1\r\n' if kind == "csv" else b"{oops\n")
    return blocks * (len(block) // len(one)) * 20_000 + 1


def peak_of(stack: RunningStack, function: str) -> int:
    """The highest VmHWM of the function's sandboxes, read from outside."""
    peak = 0
    for process in psutil.Process(stack.pids["up"]).children(recursive=True):
        try:
            if process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == function:
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
        except (psutil.Error, OSError, IndexError):
            continue
    return peak


@pytest.mark.full
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_ten_gigabytes_pass_in_slices_of_thirty_seconds(tmp_path: Path, kind: str) -> None:
    """Adopted from the disk and checked by new rules: exact counts, the last line's defect, below 160 MB."""
    path = tmp_path / f"large.{kind}"
    count = ten_gigabytes(path, kind)
    schema: dict[str, Any] = (
        {"fields": [{"name": "id", "type": "integer"}, {"name": "text"}, {"name": "value", "type": "number"}]}
        if kind == "csv"
        else {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    )
    with running_stack(data_dir=tmp_path / "data") as stack:
        stack.faults({"functions": {"validate": {"timeout_s": 30}}})
        environment = {**os.environ, "HEAVYLIFT_API": stack.api}
        command = [sys.executable, "-m", "heavylift_local", "adopt", "--json", "--tenant", "tables", str(path)]
        line = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True).stdout)
        token, started = stack.token("tables"), time.monotonic()
        body = {"rules": {"schema": schema, "max_errors": 5}}
        stack.request("POST", f"/v1/uploads/{line['file_id']}/retry", body, token=token)
        peak = 0
        while True:
            record = stack.request("GET", f"/v1/files/{line['file_id']}", token=token)
            peak = max(peak, peak_of(stack, "validate"))
            if record.get("records") is not None:
                break
            assert time.monotonic() - started < 3_600, record
            time.sleep(2)
        answer = stack.request("GET", f"/v1/files/{line['file_id']}/report?redirect=false", token=token)
        report = fetched(answer["url"])
        seconds = time.monotonic() - started
        reads = stack.counters()["validate"]
        print(json.dumps({"kind": kind, "bytes": path.stat().st_size, "seconds": round(seconds), "peak": peak}))
        print(json.dumps(reads))
    assert (report["records"], report["bad_records"], sum(report["counts"].values())) == (count, 1, 1)
    assert report["bytes"] == path.stat().st_size
    assert report["errors"][0]["record"] == count
    assert report["valid"]
    assert peak <= 160 * MB
