"""The number of requests on the wire: more while that pays, fewer when the store asks for less."""

from __future__ import annotations

import threading

import pytest

from heavylift_client.pace import EPOCH_S, FIRST, MOST, Pace, Trend, after_epoch, slowed
from tests.client.conftest import FastClock


def settle(rate_of: dict[int, float] | float, epochs: int = 60, most: int = MOST, start: int = FIRST) -> list[int]:
    """The limits of ``epochs`` epochs on a link whose rate depends on the limit."""
    trend, limits = Trend(start, most), []
    for _ in range(epochs):
        limits.append(trend.limit)
        rate = rate_of[trend.limit] if isinstance(rate_of, dict) else rate_of
        trend = after_epoch(trend, rate, busy=True)
    return limits


def test_it_climbs_while_every_connection_brings_something() -> None:
    """A link that gives each connection its share is filled with all that are allowed."""
    limits = settle({n: n * 50e6 for n in range(1, MOST + 1)})

    assert limits[-1] >= MOST - 2
    assert limits == sorted(limits) or max(limits) == MOST


@pytest.mark.parametrize("enough", [1, 4, 6, 9])
def test_it_stays_where_more_brings_nothing(enough: int) -> None:
    """A link that is full with so many connections: never far above, mostly no step above."""
    limits = settle({n: min(n, enough) * 50e6 for n in range(1, MOST + 1)}, epochs=200)
    settled = limits[50:]

    assert max(settled) <= max(FIRST, enough) + 3
    assert sum(settled) / len(settled) <= max(FIRST, enough) + 1.5


def test_a_step_that_did_not_pay_is_taken_back_and_rested() -> None:
    """One trial, then some epochs of rest."""
    limits = settle(100e6, epochs=9)

    assert limits[:3] == [FIRST, FIRST + 1, FIRST]
    assert set(limits[2:]) == {FIRST}


def test_what_is_not_used_is_not_raised() -> None:
    """Without enough work the rate says nothing."""
    trend = Trend(FIRST, MOST)
    for _ in range(10):
        trend = after_epoch(trend, 1e6, busy=False)

    assert trend.limit == FIRST


def test_slow_down_halves_and_rests() -> None:
    """Never below one; after a rest it climbs again."""
    trend = Trend(16, MOST)
    limits = []
    for _ in range(6):
        trend = slowed(trend)
        limits.append(trend.limit)
    assert limits == [8, 4, 2, 1, 1, 1]

    rates = {n: n * 1e6 for n in range(1, MOST + 1)}
    for _ in range(10):
        trend = after_epoch(trend, rates[trend.limit], busy=True)
    assert trend.limit > 4


def test_one_wave_of_slow_downs_counts_once() -> None:
    """All that were on the wire together say the same thing; a second epoch's counts again."""
    clock = FastClock()
    now = [0.0]
    clock.now = lambda: now[0]  # type: ignore[method-assign]
    pace = Pace(8, clock)
    assert sum(pace.try_enter() for _ in range(10)) == 8
    for _ in range(8):
        pace.leave(0, slow_down=True)
    assert pace.limit == 4

    now[0] += EPOCH_S
    assert pace.try_enter()
    pace.leave(0)
    assert pace.try_enter()
    pace.leave(0, slow_down=True)
    assert pace.limit == 2


def test_a_fixed_number_is_never_exceeded() -> None:
    """Whatever the link could take."""
    assert max(settle({n: n * 1e6 for n in range(1, 6)}, most=5, start=5)) == 5
    assert Pace(3, FastClock()).most == 3


def test_whoever_waits_gets_the_place_that_is_given_back() -> None:
    """Another lane's too, and nobody waits once it was stopped."""
    pace, stop, woken = Pace(1, FastClock()), threading.Event(), []
    pace.listen(lambda: woken.append(1))
    assert pace.enter(stop)
    assert not pace.try_enter()
    threading.Timer(0.05, pace.leave, (100,)).start()
    assert pace.enter(stop)
    assert woken == [1]

    stop.set()
    assert not pace.enter(stop)
