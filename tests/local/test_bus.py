"""boto3 talks to the bus as to EventBridge: same shapes, same refusals, by each caller's own rights."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from heavylift_local import bus
from heavylift_local.access import Caller, Callers, Grant
from heavylift_local.serving import Exchange, LoopbackServer

FULL = {"Source": "test", "DetailType": "thing.done", "Detail": '{"n":1}'}


class Handler(Exchange):
    def do_POST(self) -> None:
        status, headers, body = self.server.service.handle(self.headers, self.read_body(1 << 24))  # type: ignore[attr-defined]
        self.reply(status, body, None, headers)


class Service:
    def __init__(self, folder: Path) -> None:
        self.server = LoopbackServer(Handler)
        self.log = folder / "bus.jsonl"
        self.delivered: list[dict[str, Any]] = []
        everything, putting = Grant(("*",), ("*",)), Grant(("events:PutEvents",), ("bus",))
        callers = (
            Caller("all", "AKALL", (everything,)),
            Caller("putter", "AKPUT", (putting,)),
            Caller("no", "AKNO", ()),
        )
        self.callers = Callers(callers, "000000000000")
        self.bus = bus.Bus(
            self.callers, self.log, "us-east-1", "000000000000", self.delivered.append, lambda sprung: None
        )
        self.server.service = self.bus  # type: ignore[attr-defined]
        self.server.start("bus")

    def client(self, key: str = "AKPUT") -> Any:
        return boto3.client(
            "events",
            endpoint_url=self.server.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.server.stop()


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_an_event_in_its_envelope(service: Service) -> None:
    """Kept, logged and handed to the rules are the same: the envelope with the entry's own time, to the second."""
    moment = datetime(2026, 11, 20, 9, 30, 15, 900_000, UTC)
    answer = service.client().put_events(Entries=[{**FULL, "Time": moment, "Resources": ["arn:a"]}])
    (shown,) = service.bus.events(0)["events"]

    assert answer["FailedEntryCount"] == 0
    assert shown == {
        "version": "0",
        "id": answer["Entries"][0]["EventId"],
        "detail-type": "thing.done",
        "source": "test",
        "account": "000000000000",
        "time": "2026-11-20T09:30:15Z",
        "region": "us-east-1",
        "resources": ["arn:a"],
        "detail": {"n": 1},
    }
    assert service.delivered == [shown] == [json.loads(line) for line in service.log.open()]
    assert service.callers.counts()["putter"]["events.PutEvents"]["requests"] == 1


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({**FULL, "Source": ""}, "InvalidArgument"),
        ({"DetailType": "x", "Detail": "{}"}, "InvalidArgument"),
        ({"Source": "x", "Detail": "{}"}, "InvalidArgument"),
        ({"Source": "x", "DetailType": "y"}, "InvalidArgument"),
        ({**FULL, "DetailType": "x" * 129}, "InvalidArgument"),
        ({**FULL, "Source": "aws.s3"}, "NotAuthorizedForSourceException"),
        ({**FULL, "Detail": "{"}, "MalformedDetail"),
        ({**FULL, "Detail": "[1]"}, "MalformedDetail"),
        ({**FULL, "Detail": "7"}, "MalformedDetail"),
    ],
)
def test_a_bad_entry_fails_alone(service: Service, entry: dict[str, Any], code: str) -> None:
    """The answer names it at its place; its neighbours are taken."""
    answer = service.client().put_events(Entries=[FULL, entry, FULL])

    assert answer["FailedEntryCount"] == 1
    assert [one.get("ErrorCode") for one in answer["Entries"]] == [None, code, None]
    assert service.bus.events(0)["last"] == 2


def test_a_call_has_limits(service: Service) -> None:
    """Ten entries and less than 256 KB together; what is over is refused as a whole."""
    client = service.client()
    size = bus.entry_bytes({**FULL, "Detail": "{}"})
    room = bus.CALL_BYTES_MAX - size - 1
    fits = {**FULL, "Detail": '{"x":"' + "a" * (room - 6) + '"}'}
    assert bus.entry_bytes(fits) == bus.CALL_BYTES_MAX - 1
    client.put_events(Entries=[fits])
    client.put_events(Entries=[FULL] * 10)
    for entries in ([], [FULL] * 11, [{**fits, "DetailType": "thing.done+"}], [fits, FULL]):
        with pytest.raises(ClientError) as caught:
            client.put_events(Entries=entries)
        assert code_of(caught) == "ValidationException"
    assert service.bus.events(0)["last"] == 11


def test_who_may_put(service: Service) -> None:
    """A caller without the right, a key that nobody has, another bus, another action."""
    for key, entry, code in [
        ("AKNO", FULL, "AccessDeniedException"),
        ("AKNOBODY", FULL, "UnrecognizedClientException"),
        ("AKPUT", {**FULL, "EventBusName": "other"}, "AccessDeniedException"),
        ("AKALL", {**FULL, "EventBusName": "other"}, "ResourceNotFoundException"),
    ]:
        with pytest.raises(ClientError) as caught:
            service.client(key).put_events(Entries=[entry])
        assert code_of(caught) == code
    with pytest.raises(ClientError) as caught:
        service.client("AKALL").list_rules()
    assert code_of(caught) == "UnknownOperationException"
    for name in ("default", "arn:aws:events:us-east-1:000000000000:event-bus/default"):
        service.client().put_events(Entries=[{**FULL, "EventBusName": name}])
    assert service.bus.events(0)["last"] == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"Entries":7}', b'{"Entries":[7]}', b"\xff"])
def test_a_request_that_is_none(service: Service, body: bytes) -> None:
    """An answer in the protocol's own form, no crash."""
    headers = {"X-Amz-Target": "AWSEvents.PutEvents", "Authorization": "AWS4-HMAC-SHA256 Credential=AKPUT/x"}
    status, _, answer = service.bus.handle(headers, body)

    assert status == 400
    assert json.loads(answer)["__type"] == "SerializationException"


def test_the_newest_are_kept_and_given_in_pages(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks on from ``last`` sees each kept event once; older ones are in the log only."""
    monkeypatch.setattr(bus, "PAGE_MAX", 4)
    monkeypatch.setattr(service.bus, "_kept", type(service.bus._kept)(maxlen=10))
    for number in range(15):
        service.client().put_events(Entries=[{**FULL, "Detail": json.dumps({"n": number})}])
    seen, after, pages = [], 0, 0
    while (page := service.bus.events(after))["events"]:
        seen += [event["detail"]["n"] for event in page["events"]]
        after, pages = page["last"], pages + 1

    assert seen == list(range(5, 15))
    assert (after, pages) == (15, 3)
    assert service.bus.events(99) == {"events": [], "last": 99}
    assert len(service.log.read_text().splitlines()) == 15


def test_calls_side_by_side(service: Service) -> None:
    """Every event is numbered once, and the log has whole lines."""

    def put() -> None:
        client = service.client()
        for _ in range(5):
            client.put_events(Entries=[FULL] * 10)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = service.bus.events(0)

    assert kept["last"] == 200
    assert len({event["id"] for event in kept["events"]}) == 200
    assert [json.loads(line) for line in service.log.open()] == kept["events"]
