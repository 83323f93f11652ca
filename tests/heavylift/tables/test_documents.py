"""docs/validation.md: the table of codes and the rules are those of the code, and its example is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

from heavylift.tables.codes import CODES
from heavylift.tables.rules import NAMES
from tests.heavylift.tables.reading import report_of

TEXT = (Path(__file__).parents[3] / "docs" / "validation.md").read_text()


def test_every_code_has_its_row() -> None:
    rows = [f"| `{code.name}` | {code.level} | {code.formats} | {code.words} |" for code in CODES.values()]

    assert TEXT.split("<!-- codes -->\n")[1].split("\n\n")[0].splitlines()[2:] == rows


def test_every_rule_is_described() -> None:
    section = TEXT.split("## Rules")[1].split("## The report")[0]

    assert set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))) == set(NAMES)


def test_the_example_is_what_the_validator_says() -> None:
    """But for the statistics and the digest, which it leaves out."""
    shown = json.loads(TEXT.split("```json\n")[1].split("```")[0])
    found = report_of(b"id,name\n1,one\n2\n", "a.csv")

    assert {name: found[name] for name in shown} | {"rules_sha256": None} == shown | {"rules_sha256": None}
