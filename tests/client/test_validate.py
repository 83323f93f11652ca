"""``heavylift validate`` as somebody uses it: no server, a sentence a fault, an exit status for scripts."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "heavylift_client.cli", "validate"]
BAD = 'id,name\n1,o"ne\n2\n3,x,y\n'


def validate(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr), with no address of any server in the environment."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HEAVYLIFT_", "AWS_"))}
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, env={**known, **environment}, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "data", "rules", "status"),
    [
        ("a.csv", b"id,name\n1,one\n", None, 0),
        ("a.csv", b"id,name\n1,one\n", {"min_records": 2}, 1),
        ("a.csv", BAD.encode(), {"max_errors": 3}, 0),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', None, 1),
        ("a.json", b"[1, 2]", {"schema": {"items": {"type": "integer"}}}, 0),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0), None, 0),
        ("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(50), None, 1),
        ("empty.csv", b"", None, 0),  # an empty file is taken
    ],
)
def test_the_exit_status_is_the_verdict(
    tmp_path: Path, name: str, data: bytes, rules: dict[str, object] | None, status: int
) -> None:
    """0 valid, 1 not; with --json one object on one line, and nothing else is written."""
    (tmp_path / name).write_bytes(data)
    given = []
    if rules is not None:
        (tmp_path / "rules.json").write_text(json.dumps(rules))
        given = ["--rules", str(tmp_path / "rules.json")]
    found, out, err = validate(tmp_path / name, *given, "--json")
    report = json.loads(out)

    assert (found, report["valid"], err) == (status, status == 0, "")
    assert out.count("\n") == 1
    assert report["source"] == {"name": name, "size": len(data)}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ('{"min_recrods": 1}', "min_recrods: there is no such rule"),
        ('{"schema": {"type": "nonsense"}}', "schema: "),
        ("{", "this is no JSON"),
    ],
)
def test_wrong_rules_are_a_sentence_and_2(tmp_path: Path, rules: str, said: str) -> None:
    """Which rule, and why; no traceback, no report."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "rules.json").write_text(rules)
    status, out, err = validate(tmp_path / "a.csv", "--rules", tmp_path / "rules.json")

    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_a_file_that_is_not_there_is_2(tmp_path: Path, name: str) -> None:
    status, out, err = validate(tmp_path / name)

    assert (status, out) == (2, "")
    assert err.startswith("heavylift: ")
    assert "Traceback" not in err


def test_a_person_reads_places_and_sentences(tmp_path: Path) -> None:
    """On a terminal: the verdict, the counts, a line a fault with its line, byte and column; and a bar meanwhile."""
    (tmp_path / "a.csv").write_text(BAD)
    leader, follower = pty.openpty()
    done = subprocess.Popen([*COMMAND, str(tmp_path / "a.csv")], stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65_536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    text = shown.decode()

    assert done.wait(30) == 1
    assert "not valid: CSV, 3 records" in text
    assert "line 2, byte 11, column 4" in text
    assert "stray-quote" in text
    assert "line 3" in text
    assert "{" not in text
