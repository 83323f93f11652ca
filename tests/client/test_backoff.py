from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heavylift_client.backoff import full_jitter, http_date, moment_s, pause_s, poll_s, retry_after_s


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_full_jitter(attempt: int, rand: float) -> None:
    """random() * min(20 s, 0.3 s * 2^attempt), for any number of attempts."""
    assert full_jitter(attempt, rand) == rand * min(20.0, 0.3 * 2.0 ** min(attempt, 16))
    assert 0 <= full_jitter(attempt, rand) < 20


def test_retry_after() -> None:
    """Seconds or a date; what is neither, or in the past, asks for nothing; no server makes us wait for an hour."""
    assert retry_after_s("7", 0) == 7
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 50) == 10
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 500) == 0
    assert retry_after_s("99999999999", 0) == 300
    assert retry_after_s("soon", 0) is None
    assert retry_after_s("-5", 0) is None
    assert retry_after_s("²", 0) is None
    assert retry_after_s(None, 0) is None


def test_the_longer_of_both_waits() -> None:
    """Retry-After is a minimum."""
    assert pause_s(0, 0.5, 7) == 7
    assert pause_s(8, 0.9, 1) == 18
    assert pause_s(1, 0.5) == 0.3


def test_polls_slow_down() -> None:
    """From 0.2 s to 2 s, and no further."""
    waits = [poll_s(n) for n in range(100)]

    assert waits[0] == 0.2
    assert waits == sorted(waits)
    assert waits[-1] == 2.0


@given(st.text(max_size=40))
def test_any_text_as_a_moment(text: str) -> None:
    """What is no time is None, never an error."""
    assert isinstance(moment_s(text), (float, type(None)))
    assert isinstance(http_date(text), (float, type(None)))
    assert isinstance(retry_after_s(text, 0), (float, type(None)))


def test_moments() -> None:
    """ISO 8601 with Z or an offset, or a number."""
    assert moment_s("1970-01-01T00:00:10.500Z") == 10.5
    assert moment_s("1970-01-01T01:00:00+01:00") == 0
    assert moment_s(5) == 5
    assert moment_s(True) is None
    assert moment_s(None) is None
