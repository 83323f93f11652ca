"""docs/requirements.md: every need once, each with tests that are there and run in ``make test``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "requirements.md").read_text()
ROWS = re.findall(r"^\| ([A-G]\d+) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
PROOFS = sorted(
    {(code, path, name) for code, cell in ROWS for name, path in re.findall(r"\[`(\w+)`\]\(\.\./(\S+?)\)", cell)}
)
COUNTS = {"A": 14, "B": 12, "C": 10, "D": 10, "E": 12, "F": 9, "G": 4}


def test_every_need_is_a_row() -> None:
    """A1 to G4, each once, in order, each with a proof."""
    assert [code for code, _ in ROWS] == [f"{group}{n}" for group, count in COUNTS.items() for n in range(1, count + 1)]
    assert {code for code, _, _ in PROOFS} == {code for code, _ in ROWS}


def full_only(function: ast.FunctionDef) -> bool:
    """Whether the whole test (not some of its parameters) is left to ``make test-full``."""
    return any(ast.unparse(one) == "pytest.mark.full" for one in function.decorator_list)


@pytest.mark.parametrize("path", sorted({path for _, path, _ in PROOFS}))
def test_every_proof_is_there(path: str) -> None:
    """The file has the tests that the page names, and they run at their smallest size."""
    there = {
        node.name: full_only(node)
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    for _, where, name in PROOFS:
        if where == path:
            assert there.get(name) is False, name
