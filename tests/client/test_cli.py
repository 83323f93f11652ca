"""The ``heavylift`` command: exit status, one JSON line a file, words for errors, no secrets."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift_client import cli, show
from tests.client.fake import MIB, TOKEN, Fault, Stack

MakeFile = Callable[..., Path]
Run = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def run(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command: (exit status, JSON lines or text lines of stdout, stderr)."""
    monkeypatch.setenv("HEAVYLIFT_API", stack.api)
    monkeypatch.setenv("HEAVYLIFT_TOKEN", TOKEN)

    def do(*arguments: object) -> tuple[int, list[Any], str]:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as left:  # argparse
            status = int(left.code or 0)
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        assert TOKEN not in captured.out + captured.err
        assert "Signature=" not in captured.err
        assert "Traceback" not in captured.err
        return status, [json.loads(line) if line[:1] in "{[" else line for line in lines], captured.err

    return do


def test_put_prints_a_json_line_a_file(run: Run, stack: Stack, make_file: MakeFile) -> None:
    """In a pipe, without --json, as promised: name, ids, status, kind."""
    status, lines, errors = run("put", make_file(17 * MIB, "a.tif"), make_file(10, "b.jpg"))

    assert status == 0
    assert {line["name"] for line in lines} == {"a.tif", "b.jpg"}
    for line in lines:
        assert line["status"] == "completed"
        assert line["kind"] == "image"
        assert line["upload_id"] == line["file_id"]
        assert line["upload_id"] in stack.uploads
    assert errors == ""


def test_put_sends_what_is_declared(run: Run, stack: Stack, make_file: MakeFile, tmp_path: Path) -> None:
    """Every option reaches the API."""
    (tmp_path / "rules.json").write_text('{"min_records": 2}')
    options = (
        "--kind table --type text/csv --data-type sales --description d --logical-id L --metadata a=1 --metadata b=x=y"
    )
    status, _, _ = run("put", make_file(10), *options.split(), "--rules", tmp_path / "rules.json", "--json")
    (entry,) = (upload["entry"] for upload in stack.uploads.values())

    assert status == 0
    assert entry["kind"] == "table"
    assert entry["type"] == "text/csv"
    assert entry["data_type"] == "sales"
    assert entry["description"] == "d"
    assert entry["metadata"] == {"a": "1", "b": "x=y", "logical_id": "L"}
    assert entry["rules"] == {"min_records": 2}


@pytest.mark.parametrize("verdict", ["rejected", "failed", "completed_with_errors", "cancelled"])
def test_put_exits_1_when_a_file_did_not_end_well(run: Run, stack: Stack, make_file: MakeFile, verdict: str) -> None:
    """Whatever the other files did."""
    good = make_file(10, "good.jpg")
    assert run("put", good)[0] == 0
    stack.final_status = verdict if verdict in ("rejected", "cancelled") else "rejected"
    status, lines, _ = run("put", make_file(11, "bad.jpg"))

    assert status == 1
    assert lines[0]["status"] == stack.final_status


def test_put_names_what_is_not_there(run: Run, make_file: MakeFile) -> None:
    """An absent path is a line of its own with a reason, and status 1; the others go up."""
    good = make_file(10, "good.jpg")
    status, lines, _ = run("put", good.parent / "none.tif", good)
    by_name = {line["name"]: line for line in lines}

    assert status == 1
    assert by_name["none.tif"]["status"] == "failed"
    assert by_name["none.tif"]["failure"]["code"] == "source_unreadable"
    assert by_name["none.tif"]["upload_id"] is None
    assert by_name["good.jpg"]["status"] == "completed"


def test_put_of_a_folder(run: Run, stack: Stack, make_file: MakeFile) -> None:
    """A line a file with the batch's id, and a last line that is the batch; a file beside it goes up by itself."""
    make_file(10, "in/a.jpg")
    make_file(17 * MIB, "in/sub/.b")
    single = make_file(13, "single.jpg")
    status, lines, errors = run("put", make_file(12, "in/c.jpg").parent, single, "--kind", "image", "--json")
    (batch_id,) = stack.batches.by_id

    assert (status, errors) == (0, "")
    assert (lines[0]["name"], "batch_id" in lines[0]) == ("single.jpg", False)
    assert [line["relative_path"] for line in lines[1:4]] == ["a.jpg", "c.jpg", "sub/.b"]
    for n, line in enumerate(lines[1:4]):
        assert line["batch_id"] == batch_id
        assert line["upload_id"] == line["file_id"] == f"{batch_id}-{n:06d}"
        assert (line["status"], line["kind"]) == ("completed", "image")
    assert (lines[4]["batch_id"], lines[4]["status"], lines[4]["total"]) == (batch_id, "completed", 3)


def test_put_of_a_folder_that_did_not_end_well(run: Run, stack: Stack, make_file: MakeFile, tmp_path: Path) -> None:
    """One rejected file, or a folder that is not served at all: status 1; the other folder goes up."""
    folder = make_file(10, "in/bad.jpg").parent
    stack.batches.verdicts["bad.jpg"] = {"verdict": "rejected", "code": "not_an_image", "message": "text"}
    status, lines, _ = run("put", folder)
    assert (status, lines[0]["status"], lines[0]["failure"]["code"]) == (1, "rejected", "not_an_image")
    assert lines[1]["status"] == "completed_with_errors" or lines[1]["succeeded"] == 1

    stack.fail("api", Fault(400), route="POST /v1/batches")
    status, lines, errors = run("put", folder, make_file(10, "other/good.jpg").parent)
    assert (status, [line.get("name") for line in lines]) == (1, ["good.jpg", None])
    assert "bad_request" in errors


def test_put_of_an_empty_folder(run: Run, tmp_path: Path) -> None:
    """Nothing to send, nothing printed, no failure."""
    (tmp_path / "in").mkdir()
    status, lines, errors = run("put", tmp_path / "in")

    assert (status, lines) == (0, [])
    assert "no files" in errors


def test_put_without_waiting(run: Run, stack: Stack, make_file: MakeFile) -> None:
    """Status 0 when the bytes are there."""
    status, lines, _ = run("put", make_file(17 * MIB), "--no-wait")

    assert (status, lines[0]["status"]) == (0, "staged")


@pytest.mark.parametrize("name", [b"caf\xe9.tif", "😀.tif".encode(), b"a\nb.tif", b"\xff"])
def test_put_of_any_name_in_any_locale(stack: Stack, tmp_path: Path, name: bytes) -> None:
    """One line of plain ASCII JSON, also where the terminal knows no UTF-8."""
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(b"x")
    environment = os.environ | {"HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": TOKEN, "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "heavylift_client.cli", "put", path], env=environment, capture_output=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1
    assert json.loads(done.stdout)["name"] == name.decode("utf-8", "replace")


def test_on_a_terminal_there_is_a_table(stack: Stack, make_file: MakeFile) -> None:
    """A readable line and a progress bar with bytes and rate; nothing of JSON."""
    path = make_file(18 * MIB, "bild\x1b[31m.tif")

    def slow(operation: str, facts: dict[str, Any]) -> Fault | None:
        time.sleep(0.02)
        return None

    stack.scripts.append(slow)
    parent, child = pty.openpty()
    environment = os.environ | {"HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": TOKEN, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "heavylift_client.cli", "put", path], env=environment, stdout=child, stderr=child
    )
    os.close(child)
    shown = b""
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(parent)

    assert process.wait(60) == 0
    text = shown.decode()
    assert "B/s" in text
    assert "%|" in text
    assert "completed" in text
    assert "18.9 MB" in text
    assert "bild\\x1b[31m.tif" in text
    assert '{"name"' not in text


def test_interrupted_by_ctrl_c(stack: Stack, make_file: MakeFile) -> None:
    """Ends soon, says that running again resumes, and it does."""
    path = make_file(30 * MIB)

    def slow(operation: str, facts: dict[str, Any]) -> Fault | None:
        if operation == "PutPart":
            time.sleep(0.1 if stack.stored_parts < 5 else 1.0)  # on a busy machine too the signal comes in time
        return None

    stack.scripts.append(slow)
    environment = os.environ | {"HEAVYLIFT_API": stack.api, "HEAVYLIFT_TOKEN": TOKEN}
    command = [sys.executable, "-m", "heavylift_client.cli", "put", str(path), "--concurrency", "2"]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 30
        while stack.stored_parts < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    stack.scripts.clear()
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60)

    assert process.returncode == 130
    assert out == b""
    assert b"resumes" in errors
    assert b"Traceback" not in errors
    assert done.returncode == 0, done.stderr
    assert len(stack.uploads) == 1


def test_get_thumbs_status_and_report(run: Run, stack: Stack, make_file: MakeFile, tmp_path: Path) -> None:
    """What went up comes down; records are the API's body on one line."""
    path = make_file(17 * MIB)
    file_id = run("put", path)[1][0]["file_id"]
    got = run("get", file_id, "-o", tmp_path / "copy", "--json")
    thumbs = run("thumbs", file_id, "-o", tmp_path / "thumbs", "--json")
    status = run("status", file_id, "--json")
    report = run("report", file_id, "--json")

    assert (got[0], got[1][0]["verified"], got[1][0]["size"]) == (0, "crc32", 17 * MIB)
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert thumbs[0] == 0
    assert sorted(os.listdir(tmp_path / "thumbs")) == ["256.jpg", "512.jpg"]
    assert (status[0], status[1][0]["status"], status[1][0]["final"]) == (0, "completed", True)
    assert report[:2] == (0, [{"valid": True, "records": 3}])


def test_status_of_an_open_upload_is_its_session(run: Run, stack: Stack, make_file: MakeFile) -> None:
    """While bytes are missing, received ranges and percent are what one wants to know."""
    stack.fail("PutPart", Fault(400, "InvalidRequest"), number=1)
    upload_id = run("put", make_file(17 * MIB))[1][0]["upload_id"]
    status, (body,), _ = run("status", upload_id, "--json")

    assert status == 0
    assert body["status"] == "uploading"
    assert "received" in body


def test_lists(run: Run, stack: Stack, make_file: MakeFile) -> None:
    """--json is one page with its token; for people all pages, a line each."""
    run("put", *[make_file(10 + n, f"{n}.jpg", seed=n) for n in range(5)])
    status, (page,), _ = run("ls", "--json")
    assert (status, len(page["items"]), page["next_token"]) == (0, 2, "2")

    _, (page,), _ = run("ls", "--json", "--next-token", "4")
    assert (len(page["items"]), page["next_token"]) == (1, None)

    assert len(run("ls")[1]) == 5
    assert len(run("ls", "--limit", "3")[1]) == 3


def test_cancel_retry_cleanup_stats(run: Run, stack: Stack, make_file: MakeFile) -> None:
    """The API's answer on one line; options reach it."""
    file_id = run("put", make_file(10), "--no-wait")[1][0]["file_id"]

    assert run("retry", file_id, "--force", "--json")[1][0]["asked"] == {"force": True}
    assert run("retry", file_id, "--json")[1][0]["asked"] == {}
    (cleaned,) = run("cleanup", "--hours-old", "24", "--json")[1]
    assert cleaned["query"] == {"status": "failed", "hours_old": "24"}
    assert (cleaned["deleted"], stack.calls["DELETE /v1/uploads"]) == (3, 2)
    assert run("stats", "--json")[1][0]["total"] == 1
    assert run("cancel", file_id, "--json")[:2] == (0, [{"upload_id": file_id, "status": "cancelled"}])
    for words in ("retry", "cancel", "status"):
        assert run(words, file_id)[1], words


def test_routes_that_are_not_there(run: Run) -> None:
    """The API's own answer is reported, not a traceback."""
    for arguments in (["studies"], ["archive", "up-00", "-o", "x.zip"], ["report", "up-00"], ["status", "up-00"]):
        status, lines, errors = run(*arguments)
        assert (status, lines) == (1, []), arguments
        assert "not_found" in errors, arguments


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["put"],
        ["put", "x", "--concurrency", "0"],
        ["put", "x", "--concurrency", "many"],
        ["put", "x", "--metadata", "novalue"],
        ["put", "x", "--rules", "/nonexistent.json"],
        ["put", "x", "--api", "ftp://x"],
        ["get", "x"],
        ["cleanup"],
        ["archive", "-o", "x.zip"],
        ["archive", "id", "--batch", "b", "-o", "x.zip"],
        ["validate", "/nonexistent.csv", "--rules", "/nonexistent.json"],
    ],
)
def test_usage_is_status_2(run: Run, arguments: list[str]) -> None:
    """What cannot be meant is said on stderr, and nothing is sent."""
    status, lines, errors = run(*arguments)

    assert (status, lines) == (2, [])
    assert errors


@pytest.mark.parametrize("missing", ["HEAVYLIFT_API", "HEAVYLIFT_TOKEN"])
def test_who_and_where(run: Run, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without address or token the name of the variable is said; options stand in for it."""
    monkeypatch.delenv(missing)
    status, _, errors = run("stats")

    assert status == 2
    assert missing in errors


def test_a_refused_token_is_said_plainly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """401 ends with status 1 and the gateway's word."""
    monkeypatch.setenv("HEAVYLIFT_TOKEN", "wrong")
    status, _, errors = run("stats")

    assert status == 1
    assert "unauthorized" in errors


def test_an_api_that_is_not_there(run: Run, stack: Stack, monkeypatch: pytest.MonkeyPatch, make_file: MakeFile) -> None:
    """After the patience one line says that the connection was refused."""
    monkeypatch.setenv("HEAVYLIFT_API", "http://127.0.0.1:9")
    monkeypatch.setattr(cli, "ONE_CALL_PATIENCE_S", 0.2)
    assert "refused" in run("stats")[2]
    status, (line,), _ = run("put", make_file(10), "--patience", "0.2")

    assert (status, line["failure"]["code"]) == (1, "network")


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[2Jb", "a\\x1b[2Jb"), ("ä😀", "ä😀"), ("a\u202eb", "a\\u202eb"), ("x\ny", "x\\ny")]
)
def test_terminals_are_safe_from_names(text: str, shown: str) -> None:
    """No control or direction character of a name reaches the terminal."""
    assert show.printable(text) == shown


def test_long_names_keep_their_end() -> None:
    """The extension is what people look for."""
    assert show.printable("a" * 5000 + ".tif", 40).endswith("a.tif")
    assert len(show.printable("a" * 5000 + ".tif", 40)) == 40


def test_validate_tells_by_its_exit_status(tmp_path: Path) -> None:
    """0 valid, 1 not, 2 where the rules or the file are not there or wrong; the report is one JSON object."""
    table, rules = tmp_path / "a.csv", tmp_path / "rules.json"
    table.write_text("id,n\n1,2\n2\n")
    rules.write_text('{"max_errors": 1}')
    command = [sys.executable, "-m", "heavylift_client.cli", "validate", "--json"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)

    refused, taken = run(str(table)), run(str(table), "--rules", str(rules))
    rules.write_text('{"max_error": 1}')
    wrong, absent = run(str(table), "--rules", str(rules)), run(str(tmp_path / "absent.csv"))

    assert [one.returncode for one in (refused, taken, wrong, absent)] == [1, 0, 2, 2]
    assert json.loads(refused.stdout)["errors"][0]["line"] == 3
    assert "max_error" in wrong.stderr
    assert "Traceback" not in wrong.stderr + absent.stderr
