from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_client import stream_csv

Row = dict[str, Any]


def collect(path: Path, **how: Any) -> tuple[list[tuple[list[Row], int]], int]:
    """Every call of the callback, and the total."""
    calls: list[tuple[list[Row], int]] = []
    return calls, stream_csv(path, lambda rows, count: calls.append((rows, count)), **how)


def test_groups_of_rows(tmp_path: Path) -> None:
    """Full groups and the rest, with the running count; every row once."""
    path = tmp_path / "a.csv"
    path.write_text("id,name\n" + "".join(f'{n},"x, {n}"\n' for n in range(2500)))
    calls, total = collect(path)

    assert [(len(rows), count) for rows, count in calls] == [(1000, 1000), (1000, 2000), (500, 2500)]
    assert total == 2500
    assert calls[2][0][-1] == {"id": "2499", "name": "x, 2499"}


@given(rows=st.integers(0, 40), chunk_size=st.integers(1, 15))
def test_any_group_size(tmp_path_factory: pytest.TempPathFactory, rows: int, chunk_size: int) -> None:
    """The groups make up the file, in order, and none is empty."""
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in range(rows)))
    calls, total = collect(path, chunk_size=chunk_size)

    assert [row["n"] for group, _ in calls for row in group] == [str(n) for n in range(rows)]
    assert all(group for group, _ in calls)
    assert total == rows


@pytest.mark.parametrize("content", ["", "id,name\n"])
def test_nothing_to_call_for(tmp_path: Path, content: str) -> None:
    """An empty file and a header alone have no rows."""
    path = tmp_path / "a.csv"
    path.write_text(content)

    assert collect(path) == ([], 0)


def test_gzip_tabs_bom_and_quotes(tmp_path: Path) -> None:
    """Packed or not, with a byte order mark or not, line breaks inside quotes kept."""
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress('\ufeffid\tname\n1\t"a\nb"\n'.encode()))
    calls, _ = collect(path)

    assert calls == [([{"id": "1", "name": "a\nb"}], 1)]


def test_ragged_rows_and_long_fields(tmp_path: Path) -> None:
    """Missing fields are None, surplus ones a list under None, a field of 1 MB is fine."""
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1\n1,2,3\n{'x' * 1_000_000},2\n")
    calls, _ = collect(path)
    rows = calls[0][0]

    assert rows[0] == {"a": "1", "b": None}
    assert rows[1] == {"a": "1", "b": "2", None: ["3"]}
    assert len(rows[2]["a"]) == 1_000_000


def test_errors_name_the_line(tmp_path: Path) -> None:
    """A broken quote is csv.Error with its line; a chunk size of nothing is ValueError; the callback's errors pass."""
    path = tmp_path / "a.csv"
    path.write_text('a\n1\n"2"x\n')
    with pytest.raises(csv.Error, match="line 3"):
        collect(path)
    with pytest.raises(ValueError, match="chunk_size"):
        collect(path, chunk_size=0)
    with pytest.raises(KeyError):
        stream_csv(path, lambda rows, count: rows[0]["nope"], chunk_size=1)
