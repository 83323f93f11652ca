"""Counts of series: whatever happens in whatever order, no reader is told a wrong number for long, nor a smaller one.

A model of ``counts``: workers put and delete instances, recounts count them, calls are late or arrive twice, workers
die at any step. Real decisions (``must_mark_before`` and so on), a table of one series.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from heavylift.dicom import counts
from heavylift.dicom.instances import Series

WORKER_S = 1.0  # a worker's puts follow its look within this; a recount waits for SETTLE_S


@dataclass
class Model:
    """One series, its instances, and the messages that wait."""

    chance: random.Random
    series: Series = field(default_factory=lambda: Series("1", "2"))
    instances: set[int] = field(default_factory=set)
    late: list[Callable[[], None]] = field(default_factory=list)
    recounts: int = 0
    now: float = 100.0
    marked_after: bool = True

    # --- conditional writes, some of which arrive once more, later ---
    def write(self, act: Callable[[], None]) -> None:
        act()
        if self.chance.random() < 0.1:
            self.late.append(act)

    def mark(self) -> None:
        now = self.now

        def act() -> None:
            self.series = replace(
                self.series, mark_seq=self.series.mark_seq + 1, marked_at=max(now, self.series.marked_at)
            )

        self.write(act)

    def claim(self, seq: int) -> bool:
        def act() -> None:
            if self.series.mark_seq == seq:
                self.series = replace(self.series, claim_seq=seq)

        holds = self.series.mark_seq == seq
        self.write(act)
        return holds

    def settle(self, seq: int, number: int) -> None:
        def act() -> None:
            if self.series.mark_seq == seq:
                self.series = replace(self.series, done_seq=seq, instances=number)

        self.write(act)

    # --- the two protocols, a step at a time ---
    def worker(self, puts: list[int], deletes: list[int]) -> Iterator[None]:
        marked = counts.must_mark_before(self.series if self.series.mark_seq else None, self.now)
        if marked:
            self.mark()
        yield
        for one in puts:
            self.instances.add(one)
            yield
        for one in deletes:
            self.instances.discard(one)
            yield
        if self.marked_after and counts.must_mark_after(self.series):
            self.mark()
            marked = True
        yield
        if marked:
            self.recounts += 1

    def recount(self) -> Iterator[None]:
        seen = self.series
        if not seen.dirty:
            return
        if not counts.may_recount(seen, self.now):
            self.recounts += 1  # asked for once more
            return
        yield
        if not self.claim(seen.mark_seq):
            self.recounts += 1
            return
        yield
        counted = 0
        for page in (0, 1):  # two pages: no snapshot
            counted += sum(one % 2 == page for one in self.instances)
            yield
        self.settle(seen.mark_seq, counted)
        if self.series.dirty:
            self.recounts += 1

    def read(self) -> int:
        return len(self.instances) if self.series.dirty else self.series.instances


def run(seed: int, *, kill: float = 0.03, deletes: bool = True, slow: bool = True, **broken: bool) -> Model:
    """Workers and recounts in one random order until nothing is left; what died is delivered again, whole."""
    chance = random.Random(seed)
    model = Model(chance, **broken)
    work = [sorted(chance.sample(range(30), 4)) for _ in range(6)]
    waiting: list[tuple[list[int], list[int]]] = [
        (some, chance.sample(some, 1) if deletes and chance.random() < 0.2 else []) for some in work
    ]
    running: list[tuple[Iterator[None], tuple[list[int], list[int]] | None]] = []
    while waiting or running or model.recounts or model.late:
        model.now += chance.choice((0.01, 0.01, 0.1, 1.0, 8.0) if slow else (0.01, 0.01, 0.05))
        what = chance.random()
        if what < 0.25 and waiting:
            given = waiting.pop(chance.randrange(len(waiting)))
            running.append((model.worker(*given), given))
        elif what < 0.35 and model.recounts:
            model.recounts -= 1
            model.now += 0 if slow else counts.RECOUNT_AFTER_S
            running.append((model.recount(), None))
        elif what < 0.4 and model.late:
            model.late.pop(chance.randrange(len(model.late)))()
        elif running:
            at = chance.randrange(len(running))
            step, given = running[at]
            if chance.random() < kill:
                running.pop(at)
                if given is not None:
                    waiting.append(given)  # its message was not acknowledged
                else:
                    model.recounts += 1
            elif next(step, "over") == "over":
                running.pop(at)
    return model


@pytest.mark.parametrize("seeds", [range(3_000), pytest.param(range(3_000, 40_000), marks=pytest.mark.full)], ids=str)
def test_the_last_count_is_exact(seeds: range) -> None:
    """When no message is left the series is clean and its number is the number of its instances, or it is dirty
    because a mark arrived twice: then a reader counts."""
    dirty = 0
    for seed in seeds:
        model = run(seed)
        assert model.read() == len(model.instances), seed
        dirty += model.series.dirty
    # Only a mark that arrived late and twice leaves a series to the sweeper.
    assert dirty < len(seeds) / 2


def test_without_the_look_after_the_puts_counts_go_wrong() -> None:
    """The model can tell: a worker that relies on what it saw before its puts is found out."""
    models = [run(seed, marked_after=False) for seed in range(400)]

    assert sum(model.read() != len(model.instances) for model in models) > 0


def test_a_mark_that_is_claimed_or_old_is_not_relied_on() -> None:
    """The four cases of a look at a series."""
    clean = Series("1", "2", mark_seq=3, claim_seq=3, done_seq=3, marked_at=100.0)
    claimed = replace(clean, done_seq=2)
    young = replace(clean, mark_seq=4)

    assert counts.must_mark_before(None, 100.0)
    assert counts.must_mark_before(clean, 100.0)
    assert counts.must_mark_before(claimed, 100.0)
    assert not counts.must_mark_before(young, 101.0)
    assert counts.must_mark_before(young, 103.0)
    assert counts.must_mark_after(clean)
    assert counts.must_mark_after(claimed)
    assert not counts.must_mark_after(young)


def test_clocks_are_divided_by_the_time_scale() -> None:
    """A test's clock runs faster; what is young and what is at rest scale together."""
    young = Series("1", "2", mark_seq=4, claim_seq=3, marked_at=100.0)

    assert counts.must_mark_before(young, 100.5, time_scale=10)
    assert counts.may_recount(young, 100.7, time_scale=10)
    assert not counts.may_recount(young, 100.7)
