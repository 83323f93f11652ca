"""The journal gives back what was written, whatever the moment of the end."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.tables import journal

KEYS = st.sampled_from(["a", "b", "c"])
ITEMS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"v": st.one_of(st.builds(lambda s: {"S": s}, st.text()), st.builds(lambda b: {"B": b}, st.binary()))}
    ),
)


@given(st.lists(st.tuples(KEYS, ITEMS), max_size=20), st.integers(0, 40))
def test_the_latest_of_each_key_survives_a_torn_end(tmp_path_factory, writes, torn) -> None:  # type: ignore[no-untyped-def]
    """Any number of bytes cut from the end costs at most the lines they belong to."""
    path: Path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    log = journal.Journal(path)
    sizes = [0]
    for key, item in writes:
        log.append("t", {"pk": {"S": key}}, None if item is None else {"pk": {"S": key}, **item})
        sizes.append(path.stat().st_size)
    log.close()
    data = path.read_bytes()
    kept = max(0, len(data) - torn)
    path.write_bytes(data[:kept])
    whole = max(number for number, size in enumerate(sizes) if size <= kept)

    expected = {}
    for key, item in writes[:whole]:
        if item is None:
            expected.pop(key, None)
        else:
            expected[key] = {"pk": {"S": key}, **item}
    assert {item["pk"]["S"]: item for item in journal.latest(path).values()} == expected


def test_compaction_keeps_the_items_and_drops_the_history(tmp_path: Path) -> None:
    """One line an item; an attribute called ``bytes`` stays what it is."""
    path = tmp_path / "journal.jsonl"
    log = journal.Journal(path)
    item = {"pk": {"S": "a"}, "bytes": {"N": "1"}, "m": {"M": {"bytes": {"S": "x"}}}, "b": {"B": b"\0\xff"}}
    for _ in range(10):
        log.append("t", {"pk": {"S": "a"}}, item)
    log.close()
    before = journal.latest(path)
    journal.compact(path, before)

    assert journal.latest(path) == before
    assert list(before.values()) == [item]
    assert len(path.read_bytes().splitlines()) == 1
