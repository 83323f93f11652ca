"""The trace header counts a function's invocations along a chain, through any queue in between."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.runtime import lineage


def test_a_chain_counts_each_function_by_itself() -> None:
    """a -> b -> a: twice a, once b, one root."""
    start = lineage.fresh()
    first, a1 = lineage.enter(lineage.parse(start.header()), "a")
    second, b1 = lineage.enter(lineage.parse(first.header()), "b")
    third, a2 = lineage.enter(lineage.parse(second.header()), "a")

    assert (a1, b1, a2) == (1, 1, 2)
    assert third.root == start.root
    assert third.header().startswith(f"Root={start.root};Parent=")


def test_the_header_survives_botocores_quoting() -> None:
    """botocore percent-encodes the bar between two functions."""
    trace, _ = lineage.enter(lineage.enter(lineage.fresh(), "a")[0], "b")

    assert lineage.parse(quote(trace.header(), safe="-=;:+&[]{}\"',")).counts == trace.counts


def test_a_batch_counts_as_its_deepest_message() -> None:
    """A fresh message beside one of a long chain does not reset the chain."""
    deep = lineage.fresh()
    for _ in range(5):
        deep, _ = lineage.enter(deep, "f")

    assert lineage.deepest([None, deep.header(), lineage.fresh().header()], "f").counts == deep.counts


@given(st.text(max_size=200))
def test_any_header_parses(header: str) -> None:
    """Nonsense starts a new chain; it never raises."""
    trace = lineage.parse(header)

    assert trace.root
    assert all(count >= 0 for _, count in trace.counts)
