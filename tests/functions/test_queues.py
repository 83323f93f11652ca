"""validate, thumbnail and sweep as handlers: verdicts, partial failures, what reaches the logs."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from typing import Any

import pytest

from heavylift import thumbnailing
from heavylift.errors import ContentError
from heavylift.telemetry import logger
from tests.doubles import events
from tests.doubles.samples import EMPTY, PICTURE, SMALL_PICTURE, TEXT
from tests.doubles.world import DERIVED, STAGING, World, handler_of


def put(world: World, name: str, data: bytes, **entry: Any) -> str:
    file_id = world.initiate(name, data, **entry)
    world.put(file_id, data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    return file_id


@pytest.mark.parametrize(
    ("name", "data", "entry", "code"),
    [
        ("a.tif", b"this is text", {}, "type_mismatch"),
        ("a.tif", b"", {}, "empty_file"),
        ("a.bin", b"#!/bin/sh\necho hello\n", {}, "type_refused"),
        ("a.bin", b"<!DOCTYPE html><html><script>x</script></html>", {}, "type_refused"),
        ("a.bin", b"MZ" + bytes(62), {}, "type_refused"),
        ("a.txt", PICTURE.data, {"type": "text/plain"}, "type_mismatch"),
    ],
)
def test_verdicts_are_on_the_record_and_the_queue_goes_on(
    desk: World, name: str, data: bytes, entry: dict[str, Any], code: str
) -> None:
    """rejected with its code, the bytes in quarantine, nothing in the store; the next file is not held up."""
    bad = put(desk, name, data, **entry)
    good = put(desk, TEXT.name, TEXT.data)
    desk.pump()
    record = desk.record(bad)

    assert (record.status.value, (record.failure or {})["code"]) == ("rejected", code)
    assert list(desk.s3.buckets[STAGING]) == [record.key]
    assert desk.status(good) == "completed"
    assert desk.queues.dead == []


def test_a_file_of_another_size_than_announced(world: World) -> None:
    """size_mismatch with both numbers."""
    file_id = world.initiate("a.bin", b"12345")
    world.s3.put_object(Bucket=STAGING, Key=world.record(file_id).key, Body=b"1234")
    world.pump()
    failure = world.record(file_id).failure or {}

    assert world.status(file_id) == "rejected"
    assert (failure["code"], failure["size"], failure["size_expected"]) == ("size_mismatch", 4, 5)


def test_pictures_that_cannot_be_drawn_stay_available(desk: World) -> None:
    """completed_with_errors with the reason, downloadable, no thumbnails; a retry draws them."""

    def refuse(source: Any, *_: Any) -> Any:
        source.read(0, 10)
        raise ContentError("too_large_to_decode", "It needs 9 of 8 bytes.", estimated_bytes=9, budget_bytes=8)

    plain, desk.thumbnails = desk.thumbnails, refuse
    file_id = put(desk, PICTURE.name, PICTURE.data)
    desk.pump()
    desk.check_stored(file_id, PICTURE.data, "completed_with_errors")
    shown = desk.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})[1]
    assert shown["failure"] == {
        "code": "too_large_to_decode", "message": "It needs 9 of 8 bytes.", "stage": "thumbnail", "retryable": False,
        "estimated_bytes": 9, "budget_bytes": 8,
    }  # fmt: skip
    assert (shown["thumbnails"], shown["thumbnail_generated"], shown["bytes_read"]) == ([], False, 10)
    desk.thumbnails = plain
    assert desk.retry(file_id)[0] == 202
    desk.pump()
    desk.check_stored(file_id, PICTURE.data)
    assert "failure" not in desk.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})[1]


def test_a_second_run_replaces_the_pictures(world: World) -> None:
    """After a forced retry the record points at new pictures, and the old ones are gone."""
    file_id = put(world, SMALL_PICTURE.name, SMALL_PICTURE.data)
    world.pump()
    first = {picture["key"] for picture in world.record(file_id).thumbnails}
    assert world.retry(file_id, force=True)[0] == 202
    world.pump()
    second = {picture["key"] for picture in world.record(file_id).thumbnails}

    assert len(second) == 3
    assert not first & second
    assert {key for key in world.s3.buckets[DERIVED] if key.startswith("thumbnails/")} == second


def test_the_fault_is_the_messages_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of three, one of which breaks: that one alone is reported, and its visibility set."""
    ids = [put(world, f"{n}.txt", TEXT.data + str(n).encode()) for n in range(3)]
    world.announce()
    broken = json.loads(world.queues.messages[1].body)["detail"]["object"]["key"]
    messages = [world.queues.receive() for _ in range(3)]
    assert all(messages)

    def around(call: Any, run: Any) -> Any:
        if call.operation == "get_object" and call.arguments["Key"] == broken:
            raise ZeroDivisionError
        return run()

    world.gate.around = around
    event = events.sqs(
        *(
            {"body": m.body, "messageId": m.message_id, "receiptHandle": m.receipt_handle, "receive_count": 1}
            for m in messages
            if m
        )
    )
    answer = handler_of("validate")(event, events.Context("validate", 300))

    assert answer == {"batchItemFailures": [{"itemIdentifier": messages[1].message_id}]}  # type: ignore[union-attr]
    assert [world.status(file_id) for file_id in ids] == ["completed", "validating", "completed"]
    assert messages[1].visible_at == pytest.approx(world.clock.now + 15, abs=0.1)  # type: ignore[union-attr]


def test_work_stops_before_the_deadline(world: World) -> None:
    """What a worker believes to have left is its time less min(20 s, a quarter of the timeout)."""
    seen = []

    def look(source: Any, detection: Any, options: Any, seconds_left: Any, checkpoint: bytes) -> Any:
        seen.append(seconds_left())
        raise ContentError("truncated", "m")

    world.thumbnails = look
    for seconds in (900, 40):
        put(world, PICTURE.name, PICTURE.data)
        world.announce()
        while message := world.queues.receive():
            world.deliver(message, seconds if message.queue == "thumbnail" else None)
            world.announce()

    assert seen == [880, 30]


def test_the_record_is_the_detection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """thumbnail believes what validate found, and looks again only at a record that was taken in otherwise."""
    found = []
    plain = world.thumbnails

    def look(source: Any, detection: Any, *more: Any) -> Any:
        found.append(detection.format)
        return plain(source, detection, *more)

    world.thumbnails = look
    looked: list[int] = []
    whole = thumbnailing.detect
    monkeypatch.setattr(thumbnailing, "detect", lambda *given: looked.append(1) or whole(*given))
    file_id = put(world, PICTURE.name, PICTURE.data)
    world.pump()
    assert (found, looked) == (["PNG"], [])
    world.set(file_id, format=None, media_type=None)
    assert world.retry(file_id, force=True)[0] == 202
    world.pump()
    assert (found, looked) == (["PNG", "PNG"], [1])


def test_no_line_of_the_log_holds_a_secret(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON lines with the file's id; no name, no URL, no metadata, no credential. Metrics are CloudWatch's format."""
    log = io.StringIO()
    monkeypatch.setattr(logger().registered_handler, "stream", log)
    name, secret = "Jane Doe 1970-01-01.png", "patient-secret"
    file_id = put(
        world,
        name,
        PICTURE.data,
        metadata={"note": secret},
        description=secret,
        sha256=sha256(PICTURE.data).hexdigest(),
    )
    put(world, "a.txt", TEXT.data, sha256=sha256(TEXT.data).hexdigest())
    world.pump()
    for route in ("/v1/files/{id}", "/v1/files/{id}/content", "/v1/uploads/{id}"):
        world.call("sessions", "GET", route, path={"id": file_id})
    world.sweep()
    out = capsys.readouterr()
    lines = [json.loads(line) for line in (log.getvalue() + out.out + out.err).splitlines() if line.strip()]

    assert any(line.get("file_id") == file_id for line in lines)
    text = json.dumps(lines)
    for forbidden in ("Jane", secret, "X-Amz-", "wJalrXUtnFEMI", "Bearer"):
        assert forbidden not in text
    metrics = {
        metric["Name"] for line in lines if "_aws" in line for one in line["_aws"]["CloudWatchMetrics"]
        for metric in one["Metrics"]
    }  # fmt: skip
    assert {"UploadsInitiated", "UploadsCompleted", "FilesPromoted", "FilesCompleted"} <= metrics


def test_an_empty_file_is_taken(world: World) -> None:
    """Of a kind that may be empty."""
    file_id = put(world, EMPTY.name, b"")
    world.pump()
    world.check_stored(file_id, b"")
    assert world.record(file_id).format == "Empty"


def test_the_sweepers_schedule(world: World) -> None:
    """Its own event, and an empty one: it runs, and says what it did."""
    assert world.sweep() == {}
    assert handler_of("sweep")({}, events.Context("sweep", 300)) == {}
