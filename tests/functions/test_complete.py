"""complete, cancel and retry: what is proven before parts are joined, and which answers stay the same."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import pytest

from heavylift import keys
from heavylift.states import State
from tests.doubles.answers import refusal
from tests.doubles.s3 import sha256_base64
from tests.doubles.samples import PICTURE, TEXT
from tests.doubles.world import DERIVED, STAGING, World

DATA = bytes(range(101))  # 7 parts of 16 bytes in a World
ULID = "01JD2Z3NDEKTSV4RRFFQ69G5FA"


def opened(world: World, data: bytes = DATA, **entry: Any) -> str:
    return world.initiate("a.bin", data, **entry)


def test_all_parts_make_a_file(desk: World) -> None:
    """200 with the composite that S3 computes; the manifest of the part digests is kept."""
    file_id = opened(desk)
    desk.put(file_id, DATA)
    status, body = desk.complete(file_id)

    digests = [sha256(DATA[start : start + 16]).digest() for start in range(0, 101, 16)]
    composite = base64.b64encode(sha256(b"".join(digests)).digest()).decode() + "-7"
    assert status == 200
    assert body == {
        "upload_id": file_id,
        "status": "staged",
        "size": 101,
        "checksums": {"sha256_proven": False, "sha256_composite": composite},
    }
    manifest = json.loads(desk.s3.buckets[DERIVED][keys.manifest("acme", file_id)].body)
    assert manifest["sha256_composite"] == composite
    assert [part[:2] for part in manifest["parts"]] == [[n, 16 if n < 7 else 5] for n in range(1, 8)]
    assert [base64.b64decode(part[2]) for part in manifest["parts"]] == digests


def test_the_answer_stays_the_same(desk: World) -> None:
    """Asked before, during and after processing: one answer."""
    file_id = desk.initiate(PICTURE.name, PICTURE.data)
    desk.put(file_id, PICTURE.data)
    answers = [desk.complete(file_id)]
    desk.announce()
    message = desk.queues.receive()
    assert message is not None
    desk.deliver(message)
    answers.append(desk.complete(file_id))
    desk.pump()
    answers.append(desk.complete(file_id))

    assert desk.status(file_id) == "completed"
    assert answers == [answers[0]] * 3
    assert answers[0][0] == 200


def test_a_rejected_file_was_staged_all_the_same(world: World) -> None:
    """What complete was asked for did happen; the verdict is the file's."""
    data = b"this is no picture, whatever its name says, and it is longer than a single PUT in this world" * 2
    file_id = world.initiate("a.png", data)
    world.put(file_id, data)
    first = world.complete(file_id)
    world.pump()

    assert world.status(file_id) == "rejected"
    assert world.complete(file_id) == first


@pytest.mark.parametrize(
    ("sent", "missing", "received"),
    [
        ([], [[1, 7]], []),
        ([1, 2, 3], [[4, 7]], [[1, 3]]),
        ([2, 4, 7], [[1, 1], [3, 3], [5, 6]], [[2, 2], [4, 4], [7, 7]]),
    ],
)
def test_missing_parts_are_named(
    desk: World, sent: list[int], missing: list[list[int]], received: list[list[int]]
) -> None:
    """409 with the ranges to send; after they are sent the same call succeeds."""
    file_id = opened(desk)
    for number in sent:
        desk.put_part(file_id, number, DATA)
    status, body = desk.complete(file_id)

    assert (status, body["code"]) == (409, "parts_missing")
    assert (body["missing"], body["received"]) == (missing, received)
    assert desk.status(file_id) == "uploading"
    for first, last in missing:
        for number in range(first, last + 1):
            desk.put_part(file_id, number, DATA)
    assert desk.complete(file_id)[0] == 200


def put_raw(world: World, file_id: str, number: int, body: bytes) -> None:
    """A part as a client with a stolen signature could not send it; the server does not trust that."""
    record = world.record(file_id)
    world.s3.upload_part(
        Bucket=STAGING,
        Key=record.key,
        UploadId=record.s3_upload_id or "",
        PartNumber=number,
        Body=body,
        ChecksumSHA256=sha256_base64(body) if record.checksum == "sha256" else None,
    )


@pytest.mark.parametrize("checksum", ["sha256", "none"])
@pytest.mark.parametrize(("number", "size"), [(1, 15), (1, 17), (3, 0), (7, 6), (7, 4)])
def test_a_part_of_another_size_is_missing(world: World, checksum: str, number: int, size: int) -> None:
    """Sizes are compared with the plan, not only counted."""
    file_id = opened(world, checksum=checksum)
    world.put(file_id, DATA)
    put_raw(world, file_id, number, bytes(size))
    status, body = world.complete(file_id)

    assert (status, body["code"], body["missing"]) == (409, "parts_missing", [[number, number]])
    assert world.s3.buckets[STAGING] == {}


def test_two_wrong_sizes_that_add_up(world: World) -> None:
    """The sum alone proves nothing."""
    file_id = opened(world)
    world.put(file_id, DATA)
    put_raw(world, file_id, 1, bytes(15))
    put_raw(world, file_id, 2, bytes(17))

    assert world.complete(file_id)[1]["missing"] == [[1, 2]]


def test_a_part_too_many(world: World) -> None:
    """A part behind the last one: refused, with its number."""
    file_id = opened(world)
    world.put(file_id, DATA)
    put_raw(world, file_id, 8, bytes(5))
    status, body = world.complete(file_id)

    assert (status, body["code"], body["surplus"], body["missing"]) == (409, "parts_missing", [[8, 8]], [])


def test_what_the_client_claims_is_compared(world: World) -> None:
    """A digest that is not S3's: 409 part_mismatch, nothing joined; the right ones: 200."""
    file_id = opened(world)
    world.put(file_id, DATA)
    right = [{"part_number": n, "sha256": sha256_base64(DATA[(n - 1) * 16 : n * 16])} for n in range(1, 8)]
    wrong = [*right[:3], {"part_number": 4, "sha256": right[4]["sha256"]}, *right[4:]]
    status, body = world.complete(file_id, parts=wrong)

    assert (status, body["code"], body["parts"]) == (409, "part_mismatch", [[4, 4]])
    assert world.status(file_id) == "uploading"
    assert world.complete(file_id, parts=right)[0] == 200


def test_the_whole_files_digest_is_declared_not_proven(world: World) -> None:
    """Given with complete it is kept, and never called proven for a multipart file."""
    file_id = opened(world)
    world.put(file_id, DATA)
    hexadecimal = sha256(DATA).hexdigest()
    status, body = world.complete(file_id, sha256=hexadecimal.upper())

    assert status == 200
    assert body["checksums"]["sha256"] == hexadecimal
    assert body["checksums"]["sha256_proven"] is False


def test_two_different_declarations_are_refused(world: World) -> None:
    """initiate said one digest, complete another: the client is told, nothing is joined."""
    file_id = opened(world, sha256=sha256(DATA).hexdigest())
    world.put(file_id, DATA)
    status, body = world.complete(file_id, sha256=sha256(b"other").hexdigest())

    assert (status, body["code"]) == (409, "part_mismatch")
    assert world.complete(file_id, sha256=sha256(DATA).hexdigest())[0] == 200


def test_a_single_put(desk: World) -> None:
    """Needs no complete, but a call is harmless: its SHA-256 is proven by S3 itself."""
    file_id = desk.initiate(TEXT.name, TEXT.data)
    status, body = desk.complete(file_id)
    assert (status, body["code"], body["missing"]) == (409, "parts_missing", [[1, 1]])
    desk.put(file_id, TEXT.data)
    digest = sha256(TEXT.data)
    other = sha256(b"other")
    assert desk.complete(file_id, sha256=other.hexdigest())[1]["code"] == "part_mismatch"
    claim = [{"part_number": 1, "sha256": base64.b64encode(other.digest()).decode()}]
    assert desk.complete(file_id, parts=claim)[1]["code"] == "part_mismatch"
    assert desk.status(file_id) == "created"
    status, body = desk.complete(file_id, sha256=digest.hexdigest())

    assert status == 200
    assert body["checksums"] == {"sha256": digest.hexdigest(), "sha256_proven": True}
    desk.pump()
    desk.check_stored(file_id, TEXT.data)


def test_an_empty_single_put(world: World) -> None:
    """Nothing is a file too."""
    file_id = world.initiate("empty.txt", b"")
    world.put(file_id, b"")

    assert world.complete(file_id)[1]["checksums"]["sha256"] == sha256(b"").hexdigest()


def test_s3_refuses_the_parts_after_all(world: World) -> None:
    """InvalidPart between the list and the join: the session is open again, and a repeat succeeds."""
    file_id = opened(world)
    world.put(file_id, DATA)

    def around(call: Any, run: Any) -> Any:
        if call.operation == "complete_multipart_upload":
            raise refusal("InvalidPart", 400, "CompleteMultipartUpload")
        return run()

    world.gate.around = around
    status, body = world.complete(file_id)
    world.gate.around = None

    assert (status, body["code"], body["aws_code"]) == (409, "parts_missing", "InvalidPart")
    assert world.status(file_id) == "uploading"
    assert world.complete(file_id)[0] == 200


def test_while_somebody_else_joins(world: World) -> None:
    """A live lease of another call: 202 assembling with Retry-After, no second join; after its lease, taken over."""
    file_id = opened(world)
    world.put(file_id, DATA)
    world.set(file_id, status=State.ASSEMBLING, lease_until=world.clock.now + 40)
    answer = world.answer("complete", "POST", "/v1/uploads/{id}/complete", path={"id": file_id}, body={})

    assert answer["statusCode"] == 202
    assert answer["headers"]["retry-after"] == "2"
    assert json.loads(answer["body"]) == {"upload_id": file_id, "status": "assembling", "size": 101}
    world.clock.advance(41)
    assert world.complete(file_id)[0] == 200


def test_an_upload_that_s3_has_forgotten(world: World) -> None:
    """Aborted by the bucket's own rule: 410, start anew; not an endless 503."""
    file_id = opened(world)
    world.s3.uploads.clear()
    status, body = world.complete(file_id)

    assert (status, body["code"]) == (410, "upload_expired")


@pytest.mark.parametrize("body", [{"parts": 5}, {"parts": [{"part_number": 0}]}, {"sha256": "x"}, [], 5, "x"])
def test_bodies_that_break_the_schema(world: World, body: Any) -> None:
    """422, nothing joined."""
    file_id = opened(world)
    world.put(file_id, DATA)
    status, problem = world.call("complete", "POST", "/v1/uploads/{id}/complete", path={"id": file_id}, body=body)

    assert (status, problem["code"]) == (422, "invalid_body")
    assert world.status(file_id) == "uploading"


def test_no_json(world: World) -> None:
    """400."""
    file_id = opened(world)
    for method, route in (("POST", "/v1/uploads/{id}/complete"), ("POST", "/v1/uploads/{id}/retry")):
        status, problem = world.call("complete", method, route, path={"id": file_id}, raw_body="{no")
        assert (status, problem["code"]) == (400, "not_json")


def test_an_empty_body_is_an_empty_object(world: World) -> None:
    """POST without a body completes."""
    file_id = opened(world)
    world.put(file_id, DATA)

    assert world.call("complete", "POST", "/v1/uploads/{id}/complete", path={"id": file_id})[0] == 200


@pytest.mark.parametrize("state", list(State))
def test_complete_in_every_state(world: World, state: State) -> None:
    """Staged or later: 200. Cancelled, deleted: 409. Expired: 410. Open: what the parts say."""
    file_id = opened(world)
    staged_at = None if state in {State.CREATED, State.UPLOADING, State.ASSEMBLING} else world.clock.now
    world.set(file_id, status=state, staged_at=staged_at)
    status, body = world.complete(file_id)

    if state is State.EXPIRED:
        assert (status, body["code"]) == (410, "upload_expired")
    elif state in {State.CANCELLED, State.DELETED}:
        assert (status, body["code"]) == (409, "state_conflict")
    elif staged_at is None:
        assert (status, body["code"]) == (409, "parts_missing")
    else:
        assert (status, body["status"]) == (200, "staged")


@pytest.mark.parametrize("state", list(State))
def test_cancel_in_every_state(desk: World, state: State) -> None:
    """Before its copy is committed: cancelled. After: 409, delete the file instead. Ended by itself: said as it is."""
    file_id = opened(desk)
    desk.set(file_id, status=state)
    status, body = desk.cancel(file_id)

    if state in {State.CANCELLED, State.EXPIRED, State.DELETED}:
        assert (status, body["status"]) == (200, state.value)
    elif state in {
        State.CREATED, State.UPLOADING, State.ASSEMBLING, State.STAGED, State.VALIDATING, State.SCANNING,
        State.PROMOTING,
    }:  # fmt: skip
        assert (status, body["status"]) == (200, "cancelled")
        assert desk.s3.uploads == {}
    else:
        assert (status, body["code"]) == (409, "state_conflict")
        assert desk.status(file_id) == state.value


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("state", list(State))
def test_retry_in_every_state(desk: World, state: State, force: bool) -> None:
    """Failed, rejected and completed with errors can be tried again; with force also what stands or is complete."""
    file_id = desk.initiate(PICTURE.name, PICTURE.data)
    desk.put(file_id, PICTURE.data)
    assert desk.complete(file_id)[0] == 200
    failure = {"code": "c", "message": "m", "stage": "thumbnail", "retryable": True}
    desk.set(
        file_id, status=state, failure=failure if state is State.FAILED else None, attempt=3, finished_at=desk.clock.now
    )
    status, body = desk.retry(file_id, force=force)
    expected = {
        State.FAILED: "fresh",
        State.REJECTED: "staged",
        State.COMPLETED_WITH_ERRORS: "fresh",
        **({State.COMPLETED: "fresh", State.STAGED: "staged", State.FRESH: "fresh"} if force else {}),
    }.get(state)

    if expected is None:
        assert (status, body["code"]) == (409, "state_conflict")
        assert desk.queues.messages == []
        return
    assert (status, body["status"]) == (202, expected)
    record = desk.record(file_id)
    assert (record.attempt, record.failure, record.finished_at, record.lease_until) == (0, None, None, 0)
    assert record.due_at is not None
    (message,) = desk.queues.messages
    assert message.queue == ("validate" if expected == "staged" else "thumbnail")
    assert json.loads(message.body)["id"] == file_id


@pytest.mark.parametrize(
    ("stage", "state", "status"),
    [("validate", "staged", 202), ("thumbnail", "fresh", 202), ("complete", "uploading", 202)],
)
def test_retry_goes_to_the_stage_that_failed(world: World, stage: str, state: str, status: int) -> None:
    """The failed stage is run again, not the whole way."""
    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    if stage != "complete":
        assert world.complete(file_id)[0] == 200
    failure = {"code": "c", "message": "m", "stage": stage, "retryable": True}
    world.set(file_id, status=State.FAILED, failure=failure, finished_at=world.clock.now)

    assert world.retry(file_id) == (status, {"upload_id": file_id, "status": state})
    assert [message.queue for message in world.queues.messages] == ([] if stage == "complete" else [stage])


def test_retry_takes_other_rules(world: World) -> None:
    """rules of a retry replace those of initiate."""
    data = b"no picture"
    file_id = world.initiate("a.png", data, rules={"min_records": 1})
    world.put(file_id, data)
    world.pump()
    assert world.status(file_id) == "rejected"
    assert world.retry(file_id, rules={"min_records": 2})[0] == 202
    assert world.record(file_id).rules == {"min_records": 2}
    world.pump()
    assert world.status(file_id) == "rejected"


@pytest.mark.parametrize("how", ["days are over", "bytes are gone"])
def test_the_quarantine_ends(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """QUARANTINE_DAYS after its end, or when the bytes are gone, a rejected file is 410 source_expired."""
    from heavylift import settings as settings_module

    monkeypatch.setenv("QUARANTINE_DAYS", "3")
    settings_module.settings.cache_clear()
    data = b"no picture"
    file_id = world.initiate("a.png", data)
    world.put(file_id, data)
    world.pump()
    assert world.s3.buckets[STAGING], "rejected bytes are kept"
    world.clock.advance(3 * 86_400 - 60)
    assert world.retry(file_id)[0] == 202
    world.pump()
    if how == "days are over":
        world.clock.advance(3 * 86_400 + 60)
    else:
        world.s3.buckets[STAGING].clear()
    status, body = world.retry(file_id)
    assert (status, body["code"]) == (410, "source_expired")
    assert world.status(file_id) == "rejected"


def test_whoever_worked_before_a_retry_has_no_say_after_it(world: World) -> None:
    """A worker that slept through failure and retry: its write is refused by the fence."""
    from heavylift import work
    from heavylift.states import Event

    file_id = world.initiate(PICTURE.name, PICTURE.data)
    world.put(file_id, PICTURE.data)
    assert world.complete(file_id)[0] == 200
    world.announce()
    message = world.queues.receive()
    assert message is not None
    world.deliver(message)
    claim, sleeper = work.claim("acme", file_id, work.THUMBNAIL, "sleeper", 930)
    assert claim is work.Claim.TAKE
    failure = {"code": "attempts_exhausted", "message": "m", "stage": "thumbnail", "retryable": True}
    world.set(file_id, status=State.FAILED, failure=failure)
    assert world.retry(file_id)[0] == 202
    with pytest.raises(work.LeaseLost):
        work.write(sleeper, Event.FINISH, "thumbnail", thumbnails=())
    assert world.status(file_id) == "fresh"


def test_a_refused_permission_is_ours_not_the_worlds(world: World) -> None:
    """AccessDenied of S3: 500 with the request's id and no detail; not a 503 that invites to try again."""
    file_id = opened(world)

    def around(call: Any, run: Any) -> Any:
        if call.operation == "list_parts":
            raise refusal("AccessDenied", 403, "ListParts", "User: arn:aws:iam::123456789012:role/x is not authorized")
        return run()

    world.gate.around = around
    status, body = world.complete(file_id)

    assert (status, body["code"], body["retryable"]) == (500, "internal_error", False)
    assert body["request_id"] == "UXHyZgTTIAMEJxQ="
    assert "arn:aws" not in json.dumps(body)
