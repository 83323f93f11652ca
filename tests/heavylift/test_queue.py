"""Messages: what they say, what nobody wrote, and when a failed one comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import queue
from heavylift.limits import ATTEMPTS_MAX, HOP_LIMIT, QUEUE_VISIBILITY_S
from heavylift.queue import Continuation, ObjectCreated, UnknownMessage
from tests.doubles import events

ids = st.text(min_size=1, max_size=30)
continuations = st.builds(
    Continuation,
    st.sampled_from(sorted(queue.DOINGS)),
    ids,
    ids,
    st.integers(0, 5),
    st.integers(0, HOP_LIMIT),
    st.integers(1, HOP_LIMIT),
    st.one_of(st.none(), st.dictionaries(ids, st.integers(), max_size=3)),
)


@given(continuations)
def test_continuations_round_trip(message: Continuation) -> None:
    """What is sent is what is taken."""
    assert queue.parse(queue.body_of(message)) == message


def test_a_continuation_has_the_contracts_shape() -> None:
    """The names in the message are fixed."""
    body = json.loads(queue.body_of(Continuation("continue", "acme", "F", 2, 1, 10, {"done": 3})))

    assert body == {
        "v": 1, "do": "continue", "tenant": "acme", "id": "F", "attempt": 2, "hop": 1, "hop_limit": 10,
        "checkpoint": {"done": 3},
    }  # fmt: skip


def test_s3s_event_as_eventbridge_hands_it_on() -> None:
    """The real shape, version id and all; the key is raw there, not URL-encoded."""
    event = events.event("s3_object_created")
    event["detail"]["object"]["key"] = "in/acme/a%20b+c"

    assert queue.parse(json.dumps(event)) == ObjectCreated(
        "heavylift-staging",
        "in/acme/a%20b+c",
        5,
        "b1946ac92492d2347c6235b4d2611184",
        "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        "617f08299329d189",
    )


def test_s3s_test_event_asks_for_nothing() -> None:
    """It is acknowledged, not sent to the dead-letter queue."""
    assert queue.parse(json.dumps(events.event("s3_test_event"))) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[]",
        "5",
        "null",
        "{}",
        '{"v":1}',
        '{"v":2,"do":"continue","tenant":"t","id":"i"}',
        '{"v":1,"do":"dance","tenant":"t","id":"i"}',
        '{"source":"aws.ec2","detail-type":"Object Created"}',
        '{"source":"aws.s3","detail-type":"Object Deleted"}',
    ],
)
def test_what_nobody_here_wrote(body: str) -> None:
    """Unknown v, unknown do, other events, no JSON."""
    with pytest.raises(UnknownMessage):
        queue.parse(body)


@given(st.one_of(st.text(max_size=60), st.dictionaries(st.text(max_size=8), st.integers(), max_size=4).map(json.dumps)))
def test_garbage_is_unknown_or_nothing(body: str) -> None:
    """No message of anybody's makes anything but UnknownMessage."""
    try:
        assert queue.parse(body) is None
    except UnknownMessage:
        pass


def test_the_retry_clock() -> None:
    """min(900, 15 * 2^(n-1)) s, for any receive count."""
    assert [queue.retry_delay_s(n) for n in range(1, 9)] == [15, 30, 60, 120, 240, 480, 900, 900]
    assert queue.retry_delay_s(0) == 15
    assert queue.retry_delay_s(10**6) == 900


@given(st.integers(1, 10_000), st.floats(1, 1_000))
def test_the_retry_clock_on_another_scale(receive_count: int, time_scale: float) -> None:
    """The scale divides; SQS takes whole seconds from 0 to 43 200."""
    delay = queue.retry_delay_s(receive_count, time_scale)

    assert isinstance(delay, int)
    assert delay == int(queue.retry_delay_s(receive_count) / time_scale)
    assert 0 <= delay <= 43_200


def test_five_attempts_end_before_the_sweeper_looks() -> None:
    """All handled retries of a message fit well into the visibility after which the sweeper steps in."""
    assert sum(queue.retry_delay_s(n) for n in range(1, ATTEMPTS_MAX)) < min(QUEUE_VISIBILITY_S.values())


def test_a_lost_visibility_call_is_no_error(world: Any) -> None:
    """The message comes back after six timeouts instead; the handler's report still goes out."""
    from tests.doubles.answers import refusal

    def refuse(call: Any, run: Any) -> Any:
        raise refusal("InternalError", 500, "ChangeMessageVisibility")

    world.gate.around = refuse
    assert queue.come_back_in("validate", "handle", 15) is None


def test_a_refused_send_is_transient(world: Any) -> None:
    """Whoever sends a continuation learns that it did not go out."""
    from heavylift.errors import TransientError
    from tests.doubles.answers import refusal

    def refuse(call: Any, run: Any) -> Any:
        raise refusal("ServiceUnavailable", 503, "SendMessage")

    world.gate.around = refuse
    with pytest.raises(TransientError):
        queue.send("validate", Continuation("continue", "acme", "F", 0))
