"""The manifest: what is packed comes back, pages may come in any order, an entry never changes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.batches import manifest
from heavylift.batches.manifest import Entry
from heavylift.errors import RequestError
from tests.doubles.bodies import names

entries = st.builds(
    Entry,
    st.integers(0, 999_999),
    names,
    st.integers(0, 1 << 50),
    st.one_of(st.none(), st.just("0a" * 32)),
    st.one_of(st.none(), names),
    st.integers(0, 999),
)


@given(st.lists(entries, max_size=20, unique_by=lambda entry: entry.n))
def test_what_is_packed_comes_back(made: list[Entry]) -> None:
    """Names of any kind, digests, paths and pages; the order of packing does not matter."""
    packed = manifest.pack(made)

    assert manifest.unpack(packed) == {entry.n: entry for entry in made}
    shuffled = list(made)
    random.Random(1).shuffle(shuffled)
    assert manifest.pack(shuffled) == packed
    assert manifest.digest_of(shuffled) == manifest.digest_of(made)


@given(st.lists(st.integers(0, 999_999), max_size=50, unique=True))
def test_hundreds_hold_their_numbers(numbers: list[int]) -> None:
    """Every entry is in the item of its hundred, and the items' keys sort as the numbers do."""
    groups = manifest.by_hundred([Entry(n, "a", 1) for n in numbers])

    assert sorted(entry.n for group in groups.values() for entry in group) == sorted(numbers)
    for hundred, group in groups.items():
        assert all(hundred * 100 <= entry.n < hundred * 100 + 100 for entry in group)
    keys = [manifest.sort_key(hundred) for hundred in sorted(groups)]
    assert keys == sorted(keys)


def test_a_hundred_paths_are_a_few_kilobytes() -> None:
    """The paths of a folder compress: an item costs a few write units, not forty."""
    made = [
        Entry(n, f"IM{n:06d}.dcm", 524_288 + n, None, f"PATIENT/STUDY/SERIES{n // 40}/IM{n:06d}") for n in range(100)
    ]

    assert len(manifest.pack(made)) < 2_500


def test_names_that_are_too_long_together_are_refused() -> None:
    """400 KB is DynamoDB's limit of an item; the caller is told which files it is about."""
    rng = random.Random(1)
    made = [Entry(n, "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(4_000)), 1) for n in range(100, 200)]
    with pytest.raises(RequestError) as refused:
        manifest.pack(made)
    assert refused.value.code == "invalid_body"
    assert "100 to 199" in refused.value.message


def test_merging_is_idempotent_and_entries_never_change() -> None:
    """The same page again is nothing new; other content or another page is a conflict that names the numbers."""
    first, second = Entry(1, "a", 1, page=1), Entry(2, "b", 2, page=1)
    there = manifest.merge({}, [first, second])
    assert there == {1: first, 2: second}
    assert manifest.merge(there, [first]) is None
    assert manifest.merge(there, [first, Entry(3, "c", 3, page=2)]) == {**there, 3: Entry(3, "c", 3, page=2)}
    for other in (Entry(2, "b", 3, page=1), Entry(2, "B", 2, page=1), Entry(2, "b", 2, page=2)):
        with pytest.raises(RequestError) as refused:
            manifest.merge(there, [other])
        assert (refused.value.code, refused.value.facts["n"]) == ("manifest_conflict", [2])
