"""The table of faults and functions: complete, true, and shown."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from infra import topology
from tests.faults.matrix import FAULTS, FUNCTIONS, MATRIX, PAGE, Why, proofs, written

TESTS = Path(__file__).resolve().parents[1]
NAMED = sorted({one for row in MATRIX.values() for cell in row.values() for one in proofs(cell)})


def test_every_function_has_a_cell_for_every_fault() -> None:
    """Names of functions are the topology's; a cell names tests, or a reason."""
    assert set(FUNCTIONS) == set(MATRIX) == {function.name for function in topology.FUNCTIONS}
    for function, row in MATRIX.items():
        assert set(row) == set(FAULTS), function
        for fault, cell in row.items():
            assert (isinstance(cell, Why) and len(cell) > 10) or proofs(cell), (function, fault)


@pytest.mark.parametrize("path", sorted({one.partition("::")[0] for one in NAMED}))
def test_every_named_test_is_there(path: str) -> None:
    """A test that was renamed or removed is noticed here."""
    tree = ast.parse((TESTS / path).read_text())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    wanted = {one.partition("::")[2] for one in NAMED if one.startswith(path + "::")}
    assert wanted <= there


def test_the_page_shows_it() -> None:
    """docs/reliability.md has the table of today."""
    page = PAGE.read_text()
    assert page == written(page)
