"""Whether keys come twice: exact up to a number, then over a declared sample."""

from __future__ import annotations

import json

import pytest

from heavylift.tables import faults
from heavylift.tables.unique import KeySet, key_of
from tests.heavylift.tables.reading import report_in_slices, report_of


def test_exact_up_to_its_number() -> None:
    """Every repetition is seen, and nothing else is called one."""
    keys = KeySet(1_000)

    assert [keys.add(b"%d" % n) for n in range(1_000)] == [False] * 1_000
    assert [keys.add(b"%d" % n) for n in range(0, 1_000, 10)] == [True] * 100
    assert keys.to_json() == {"exact": True, "sampled_share": 1.0, "repeated": 100}


@pytest.mark.parametrize("times", [3, 20, 100])
def test_a_declared_sample_beyond(times: int) -> None:
    """What is called a repetition is one; the share that is watched says how many are seen, within chance."""
    keys, many = KeySet(500), 500 * times
    first = sum(keys.add(b"a%d" % n) for n in range(many))
    second = sum(keys.add(b"a%d" % n) for n in range(many))
    told = keys.to_json()

    assert (first, told["exact"]) == (0, False)
    assert told["sampled_share"] == 1 / (1 << keys.bits)
    assert second == told["repeated"]
    assert 0.7 < second / (many * told["sampled_share"]) < 1.3
    assert len(json.dumps(keys.state())) < 11 * 500 + 200


def test_a_state_goes_on_where_it_was() -> None:
    """Through JSON, at any moment: the same answers, the same state."""
    whole, cut = KeySet(200), KeySet(200)
    answers: list[list[bool]] = [[], []]
    for n in range(1_500):
        key = b"%d" % (n * 7 % 900)
        answers[0].append(whole.add(key))
        if n % 100 == 0:
            cut = KeySet(200, json.loads(json.dumps(cut.state())))
        answers[1].append(cut.add(key))

    assert answers[0] == answers[1]
    assert whole.state() == cut.state()


def test_no_two_keys_share_a_text() -> None:
    """Parts are told apart, whatever is in them."""
    keys = [("a", "bc"), ("ab", "c"), ("abc",), ("", "abc"), ("abc", ""), ("a", "b", "c"), (b"a\0", "b"), ("a", "\0b")]

    assert len({key_of(parts) for parts in keys}) == len(keys)


def test_the_report_says_which_of_the_two_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap a file is not called invalid for what nobody saw, and slices change nothing."""
    monkeypatch.setattr(faults, "UNIQUE_KEYS", 64)
    rows = [f"{n % 2_000},x\n" for n in range(4_000)]
    data, rules = ("id,name\n" + "".join(rows)).encode(), {"unique_keys": ["id"], "max_errors": 4_000}
    report = report_of(data, "a.csv", rules)
    (told,) = report["unique_keys"]

    assert (told["key"], told["exact"]) == (["id"], False)
    assert report["counts"].get("unique-error", 0) == told["repeated"] > 0
    assert told["repeated"] < 2_000
    sliced = report_in_slices(data, "a.csv", rules, [1_000, 2_000, 3_000], 256)
    assert sliced["unique_keys"] == report["unique_keys"]
    assert sliced["errors"] == report["errors"]
