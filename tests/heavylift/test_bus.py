"""Events reach the bus, ten a call and within its limits; what is refused is put again, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from heavylift import aws, bus
from heavylift import settings as settings_module
from heavylift.announcements import BusEvent
from heavylift.errors import TransientError
from heavylift.messages import RESERVE_MAX_S
from tests.doubles.answers import refusal
from tests.doubles.bus import FakeBus


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBus]:
    made = FakeBus()
    slept: list[float] = []
    monkeypatch.setattr(aws, "client", {"events": made}.__getitem__)
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.delenv("EVENT_BUS_NAME", raising=False)
    settings_module.settings.cache_clear()
    yield made
    settings_module.settings.cache_clear()


def events(count: int, text: str = "") -> list[BusEvent]:
    return [BusEvent("file.completed", f"e{n}", 1000.5 + n, {"id": f"e{n}", "text": text}) for n in range(count)]


def ids(fake: FakeBus) -> list[str]:
    return [put.detail["id"] for put in fake.taken]


def test_an_event_as_it_is_put(fake: FakeBus) -> None:
    """Source, type, time and detail are the event's."""
    bus.put(events(1, "ü"))
    (taken,) = fake.taken

    assert (taken.source, taken.type, taken.at) == ("heavylift", "file.completed", 1000.5)
    assert taken.detail == {"id": "e0", "text": "ü"}


@pytest.mark.parametrize(("count", "calls"), [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (25, [10, 10, 5])])
def test_ten_a_call_in_order(fake: FakeBus, count: int, calls: list[int]) -> None:
    """No events, no call."""
    bus.put(events(count))

    assert fake.calls == calls
    assert ids(fake) == [f"e{n}" for n in range(count)]


def test_large_events_go_in_more_calls(fake: FakeBus) -> None:
    """Below the limit of a call's bytes, counted as EventBridge counts them: in UTF-8."""
    bus.put(events(10, "é" * 40_000))

    assert fake.calls == [3, 3, 3, 1]
    assert len(fake.taken) == 10


entries = st.lists(
    st.fixed_dictionaries(
        {"Source": st.just("s"), "DetailType": st.just("t"), "Detail": st.integers(0, 300_000).map("x".__mul__)}
    ),
    max_size=30,
)


@given(entries)
def test_groups_keep_the_limits(given_entries: list[dict[str, Any]]) -> None:
    """Every entry once and in order; a group is within both limits, unless it is one entry that is too large."""
    groups = list(bus.grouped(given_entries))

    assert [entry for group in groups for entry in group] == given_entries
    for group in groups:
        assert 1 <= len(group) <= bus.ENTRIES_MAX
        assert len(group) == 1 or sum(map(bus.entry_bytes, group)) < bus.CALL_BYTES_MAX


def test_refused_entries_alone_are_put_again(fake: FakeBus) -> None:
    """What was taken is not put twice."""
    fake.failing = [None, "ThrottlingException", None, "InternalFailure", "InternalFailure"]
    bus.put(events(4))

    assert fake.calls == [4, 2, 1]
    assert sorted(ids(fake)) == ["e0", "e1", "e2", "e3"]


def test_what_is_never_taken_is_an_error(fake: FakeBus) -> None:
    """After four tries, with the code; later calls are not made, for the caller puts all again."""
    fake.failing = ["ThrottlingException"] * 100
    with pytest.raises(TransientError) as caught:
        bus.put(events(12))

    assert caught.value.code == "aws_unavailable"
    assert caught.value.facts["aws_code"] == "ThrottlingException"
    assert fake.calls == [10, 10, 10, 10]


@pytest.mark.parametrize("code", ["MalformedDetail", "NotAuthorizedForSourceException", "AccessDeniedException"])
def test_what_a_try_cannot_mend_is_not_tried_again(fake: FakeBus, code: str) -> None:
    """It is an error at once, and no verdict on the file: the announcement stays owed."""
    fake.failing = [None, code]
    with pytest.raises(TransientError) as caught:
        bus.put(events(2))

    assert caught.value.facts["aws_code"] == code
    assert fake.calls == [2]


@pytest.mark.parametrize(
    "error",
    [
        refusal("AccessDeniedException", 400, "PutEvents"),
        refusal("InternalException", 500, "PutEvents"),
        ConnectionClosedError(endpoint_url="https://aws.example"),
    ],
)
def test_a_call_that_fails_is_an_error(fake: FakeBus, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever botocore raises once it has given up."""

    def raises(**_: Any) -> None:
        raise error

    monkeypatch.setattr(fake, "put_events", raises, raising=False)
    with pytest.raises(TransientError) as caught:
        bus.put(events(1))
    assert caught.value.code == "aws_unavailable"


def test_botocore_takes_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request fits the service's own model, on the bus that the environment names."""
    client = boto3.client("events", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    monkeypatch.setattr(aws, "client", lambda service: client)
    monkeypatch.setenv("EVENT_BUS_NAME", "ours")
    settings_module.settings.cache_clear()
    expected = {
        "Time": datetime(1970, 1, 1, 0, 16, 40, 500_000, UTC),
        "Source": "heavylift",
        "DetailType": "file.completed",
        "Detail": ANY,
        "EventBusName": "ours",
    }
    with Stubber(client) as stub:
        stub.add_response("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}, {"Entries": [expected]})
        bus.put(events(1))
    settings_module.settings.cache_clear()


def test_a_bus_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore has given up, pauses included, well within the time that workers keep in reserve."""
    monkeypatch.setattr(aws, "_clients", {})
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = aws.client("events").meta.config
    pause_max_s = 1  # standard mode: a random part of 2^0 s before the second try

    assert config.retries == {"mode": "standard", "total_max_attempts": 2}
    assert 2 * (config.connect_timeout + config.read_timeout) + pause_max_s < RESERVE_MAX_S


def test_the_double_refuses_what_eventbridge_refuses(fake: FakeBus) -> None:
    """More than ten entries as a call, a bad entry by itself."""
    good = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    for many in ([], [good] * 11, [{**good, "Detail": json.dumps("x" * 262_144)}]):
        with pytest.raises(Exception, match="ValidationException"):
            fake.put_events(Entries=many)
    answer = fake.put_events(Entries=[good, {**good, "Detail": "[]"}])

    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][1]["ErrorCode"] == "MalformedDetail"
    assert len(fake.taken) == 1
