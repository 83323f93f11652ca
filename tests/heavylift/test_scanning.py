"""The scanning gate: verdicts on bytes, whenever they come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift import queue, scanning, states
from heavylift.limits import SCAN_WAIT_S
from heavylift.records import FileRecord
from heavylift.scanning import Gate
from heavylift.states import State
from tests.doubles import events
from tests.doubles.samples import EMPTY, PICTURE, SMALL_PICTURE, TEXT, Sample
from tests.doubles.world import STAGING, STORE, World, queue_url
from tests.functions.test_batches import begun, texts

CLEAN, INFECTED, UNSUPPORTED = scanning.CLEAN, scanning.INFECTED, scanning.UNSUPPORTED


@pytest.fixture
def gated(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    world.gate_on(monkeypatch)
    return world


def sent(world: World, sample: Sample = TEXT) -> str:
    file_id = world.initiate(sample.name, sample.data)
    world.put(file_id, sample.data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    return file_id


def code_of(world: World, file_id: str) -> str | None:
    return (world.record(file_id).failure or {}).get("code")


def content(world: World, file_id: str) -> tuple[int, dict[str, Any]]:
    return world.call("sessions", "GET", "/v1/files/{id}/content", path={"id": file_id}, query={"redirect": "false"})


@pytest.mark.parametrize("sample", [TEXT, PICTURE, SMALL_PICTURE, EMPTY], ids=lambda sample: sample.name)
def test_nothing_is_promoted_before_the_verdict(gated: World, sample: Sample) -> None:
    """Examined, then ``scanning`` without a lease; the verdict opens the gate, and the rest is as without one."""
    file_id = sent(gated, sample)
    gated.pump()
    waiting = gated.record(file_id)

    assert waiting.status is State.SCANNING
    assert (waiting.lease_owner, waiting.attempt) == (None, 0)
    assert gated.s3.buckets[STORE] == {}

    gated.scanned(file_id)
    gated.pump()

    gated.check_stored(file_id, sample.data)
    assert (gated.record(file_id).scan or {})["status"] == CLEAN


def test_the_gate_is_off_by_default(world: World) -> None:
    """No verdict is waited for, no tag is read, and one that comes all the same changes nothing."""
    asked: list[str] = []
    with world.hook(lambda call, run: (asked.append(call.operation), run())[1]):
        file_id = sent(world)
        world.pump()

    assert world.status(file_id) == "completed"
    assert "get_object_tagging" not in asked


def test_an_infected_file_is_rejected_and_never_served(gated: World) -> None:
    """The verdict names the threats; the store never saw the file; a retry meets the same verdict at once."""
    file_id = sent(gated)
    gated.pump()
    gated.scanned(file_id, INFECTED, threats=("EICAR-Test-File",))
    gated.pump()
    status, answer = content(gated, file_id)
    record = gated.record(file_id)
    shown = gated.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})[1]

    assert (record.status, code_of(gated, file_id)) == (State.REJECTED, "malware_found")
    assert "EICAR-Test-File" in (record.failure or {})["message"]
    assert (shown["scan"]["status"], shown["scan"]["threats"]) == (INFECTED, ["EICAR-Test-File"])
    assert (status, answer["code"]) == (409, "not_stored")
    assert gated.s3.buckets[STORE] == {}

    assert gated.retry(file_id)[0] == 202
    gated.pump()
    assert (gated.status(file_id), code_of(gated, file_id)) == ("rejected", "malware_found")


@pytest.mark.parametrize(
    ("how", "status", "expected", "code"),
    [
        ("strict", CLEAN, "completed", None),
        ("strict", UNSUPPORTED, "rejected", "not_scannable"),
        ("lenient", UNSUPPORTED, "completed", None),
        ("lenient", INFECTED, "rejected", "malware_found"),
        ("strict", "ACCESS_DENIED", "failed", "scan_failed"),
        ("lenient", "FAILED", "failed", "scan_failed"),
        ("strict", "SOMETHING_NEW", "failed", "scan_failed"),
    ],
)
def test_each_verdict_has_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str, status: str, expected: str, code: str | None
) -> None:
    """Findings are the file's, a scan that did not work is ours; what cannot be scanned is up to the setting."""
    world.gate_on(monkeypatch, how)
    file_id = sent(world)
    world.pump()
    world.scanned(file_id, status)
    world.pump()

    assert (world.status(file_id), code_of(world, file_id)) == (expected, code)


@pytest.mark.parametrize("status", [CLEAN, INFECTED])
@pytest.mark.parametrize("sample", [TEXT, PICTURE], ids=lambda sample: sample.name)
def test_a_verdict_before_the_uploads_own_event(gated: World, sample: Sample, status: str) -> None:
    """It is kept, and the file takes its way when its own event comes; an infected one is not even looked into."""
    file_id = world_id = sent(gated, sample)
    gated.scanned(world_id, status)
    message = gated.queues.receive()
    assert message is not None
    assert gated.deliver(message)
    early = gated.status(file_id)
    reads: list[str] = []
    with gated.hook(lambda call, run: (reads.append(call.operation), run())[1]):
        gated.pump()

    assert early in {"created", "staged"}
    assert gated.status(file_id) == ("completed" if status == CLEAN else "rejected")
    assert status == CLEAN or "get_object" not in reads


def test_verdicts_twice_and_out_of_order(gated: World) -> None:
    """The graver one stands, whichever comes first; copies change nothing."""
    first, second = sent(gated), sent(gated)
    for file_id, order in ((first, (INFECTED, CLEAN, CLEAN)), (second, (CLEAN, CLEAN, "FAILED"))):
        for status in order:
            gated.scanned(file_id, status)
    gated.pump(copies=2)

    assert (gated.status(first), gated.status(second)) == ("rejected", "completed")


@pytest.mark.parametrize("when", ["before", "at the gate", "after"])
def test_a_verdict_on_other_bytes(gated: World, when: str) -> None:
    """Another ETag, another version: neither opens the gate nor closes it."""
    file_id = sent(gated)
    if when != "before":
        gated.pump()
    if when == "after":
        gated.scanned(file_id)
        gated.pump()
    before = gated.record(file_id).scan
    gated.scanned(file_id, CLEAN, etag="0" * 32)
    gated.scanned(file_id, INFECTED, etag="1" * 32)
    gated.pump()

    assert gated.status(file_id) == ("completed" if when == "after" else "scanning")
    assert when == "before" or gated.record(file_id).scan == before


@pytest.mark.parametrize(
    "key",
    ["in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA", "in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA/7", "in/acme/x", "files/acme/x", ""],
)
def test_a_verdict_on_nothing(gated: World, key: str) -> None:
    """Nobody's object: nothing is written, nothing is deleted, the message is done with."""
    file_id = sent(gated)
    for status in (CLEAN, INFECTED):
        gated.scanned(file_id, status, key=key, etag="0" * 32)
    body = json.dumps(events.scan_result("another-bucket", gated.record(file_id).key, "0" * 32, INFECTED))
    gated.queues.send_message(QueueUrl=queue_url("validate"), MessageBody=body)
    gated.pump()

    assert gated.status(file_id) == "scanning"
    assert gated.record(file_id).key in gated.s3.buckets[STAGING]
    assert gated.queues.dead == []


def test_a_lost_verdict_is_read_from_the_tag(gated: World) -> None:
    """At the gate, and by the sweeper's looks while a file waits."""
    tagged, later = sent(gated), sent(gated)
    gated.s3.buckets[STAGING][gated.record(tagged).key].tags[scanning.TAG] = CLEAN
    gated.pump()
    at_once = gated.status(tagged)
    gated.s3.buckets[STAGING][gated.record(later).key].tags[scanning.TAG] = INFECTED
    gated.clock.advance(3_600)
    gated.sweep()
    gated.pump()

    assert at_once == "completed"
    assert (gated.status(later), code_of(gated, later)) == ("rejected", "malware_found")


def test_six_hours_without_a_verdict(gated: World) -> None:
    """``failed``, retryable; not before, however often the sweeper looks. A late verdict counts when it is retried."""
    file_id = sent(gated)
    gated.pump()
    began = gated.clock.now
    while gated.status(file_id) == "scanning" and gated.clock.now < began + 2 * SCAN_WAIT_S:
        gated.clock.advance(900)
        gated.sweep()
        gated.pump()
    waited = gated.clock.now - began
    failure = dict(gated.record(file_id).failure or {})
    gated.scanned(file_id)
    gated.pump()
    late = gated.status(file_id)
    assert gated.retry(file_id)[0] == 202
    gated.pump()

    assert SCAN_WAIT_S <= waited <= SCAN_WAIT_S + 2 * 1_800
    assert (failure["code"], failure["retryable"], failure["stage"]) == ("scan_timeout", True, "validate")
    assert (late, gated.status(file_id)) == ("failed", "completed")


def test_a_threat_found_after_promotion(gated: World) -> None:
    """The bytes were called clean and are called infected now: nobody gets them any more."""
    file_id = sent(gated)
    gated.pump()
    gated.scanned(file_id)
    gated.pump()
    served = content(gated, file_id)[0]
    gated.scanned(file_id, INFECTED)
    gated.pump()
    status, answer = content(gated, file_id)

    assert served == 200
    assert (status, answer["code"]) == (409, "malware_found")
    assert gated.status(file_id) == "completed"


def test_cancelled_while_it_waits(gated: World) -> None:
    """The bytes go; a verdict that comes then is about nothing."""
    file_id = sent(gated)
    gated.pump()
    assert gated.cancel(file_id)[0] == 200
    gated.scanned(file_id)
    gated.pump()

    assert gated.status(file_id) == "cancelled"
    assert gated.s3.buckets[STAGING] == {}


def test_other_bytes_are_scanned_anew(gated: World) -> None:
    """The object was replaced and the client says so by retry: the verdict on the old bytes does not count."""
    file_id = sent(gated)
    gated.scanned(file_id)
    key = gated.record(file_id).key
    gated.announce()
    gated.s3.put_object(Bucket=STAGING, Key=key, Body=b"other bytes!\n")
    gated.pump()
    assert gated.status(file_id) in {"rejected", "scanning"}
    if gated.status(file_id) == "rejected":
        gated.retry(file_id)
        gated.pump()

    assert gated.status(file_id) == "scanning"
    assert gated.s3.buckets[STORE] == {}


@pytest.mark.parametrize("early", [False, True])
def test_members_of_a_batch(gated: World, early: bool) -> None:
    """Each waits for its own verdict, also where that comes before the member has a record."""
    client = begun(gated, texts(3))
    client.send()
    if not early:
        gated.pump()
    for number, status in ((1, CLEAN), (2, INFECTED), (3, CLEAN)):
        gated.scanned("", status, key=client.key(number))
    gated.pump(copies=2, reverse=early)
    seen = {n: gated.status(client.file_id(n)) for n in (1, 2, 3)}
    batch = client.look()

    assert seen == {1: "completed", 2: "rejected", 3: "completed"}
    assert (batch["status"], batch["succeeded"], batch["failed"]) == ("open", 2, 1) or batch["final"]


def record_with(status: str | None, etag: str = "e") -> FileRecord:
    scan = None if status is None else {"status": status, "etag": etag, "at": 1.0}
    return FileRecord("t", "f", "n", 1, State.SCANNING, etag="e", scan=scan)


def test_what_a_retry_keeps() -> None:
    """Findings; neither the waiting nor a scan that did not work."""
    kept = {status: scanning.kept_for_retry(record_with(status)) is not None for status in (
        CLEAN, INFECTED, UNSUPPORTED, "FAILED", "ACCESS_DENIED", scanning.WAITING, None)}  # fmt: skip

    assert [status for status, there in kept.items() if there] == [CLEAN, INFECTED, UNSUPPORTED]


def test_a_verdict_counts_for_its_bytes_only(gated: World) -> None:
    """By the ETag."""
    assert scanning.gate_of(record_with(CLEAN)) is Gate.OPEN
    assert scanning.gate_of(record_with(CLEAN, "other")) is Gate.WAIT
    assert scanning.gate_of(record_with(CLEAN), "other") is Gate.WAIT
    assert scanning.gate_of(record_with(None)) is Gate.WAIT


def test_the_message_is_guardduties() -> None:
    """As its user guide shows it; one without a result is a scan that failed, one without an object is no message."""
    event = events.scan_result("b", "k", '"e"', INFECTED, threats=("A", "B"), version_id="v")
    parsed = queue.parse(json.dumps(event))
    del event["detail"]["scanResultDetails"]
    without = queue.parse(json.dumps(event))

    assert parsed == queue.ScanVerdict("b", "k", "e", "v", INFECTED, ("A", "B"))
    assert isinstance(without, queue.ScanVerdict)
    assert without.status == "FAILED"
    del event["detail"]["s3ObjectDetails"]
    with pytest.raises(queue.UnknownMessage):
        queue.parse(json.dumps(event))


def test_waiting_is_nobodys_work_but_has_an_owner() -> None:
    """The sweeper knows whose turn it is."""
    assert states.stage_of(State.SCANNING) == "validate"
