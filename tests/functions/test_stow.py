"""STOW-RS through its handler: what is posted is taken in as any DICOM file, and the answer says what became of it."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from heavylift import parts
from heavylift import settings as settings_module
from heavylift.dicom import single
from heavylift.dicomweb import stow
from tests.doubles import events
from tests.doubles.dicom import DS_STORE, PATIENT, ROOT, dicom, pump
from tests.doubles.dicomweb import BASE, Reply, Viewer, values
from tests.doubles.gate import Call, Killed
from tests.doubles.world import STAGING, STORE, World, handler_of

STUDY = f"{ROOT}.1"


@pytest.fixture
def viewer(world: World, monkeypatch: pytest.MonkeyPatch) -> Viewer:
    """With the real size of a single PUT and of one copy."""
    monkeypatch.setattr(parts, "SINGLE_PUT_MAX", 16 << 20)
    monkeypatch.setattr(single, "COPY_OBJECT_MAX", 64 << 20)
    return Viewer(world)


def told(reply: Reply) -> tuple[list[str], list[tuple[str, int]], list[int]]:
    """Instances stored, instances failed with their reasons, reasons of what is no instance; as pydicom reads them."""
    found = Dataset.from_json(reply.json)
    stored = [str(one.ReferencedSOPInstanceUID) for one in found.get("ReferencedSOPSequence", [])]
    failed = [(str(one.ReferencedSOPInstanceUID), int(one.FailureReason)) for one in found.get("FailedSOPSequence", [])]
    return stored, failed, [int(one.FailureReason) for one in found.get((0x0008, 0x119A), Dataset()) or []]


def others(reply: Reply) -> list[int]:
    return [values(one, "00081197")[0] for one in values(reply.json, "0008119A")]


def test_what_is_posted_is_stored(world: World, viewer: Viewer) -> None:
    """200; each instance with its address, where its very bytes are; nothing is left in staging."""
    reply = viewer.post(dicom(1, 1, 1), dicom(1, 1, 2), dicom(1, 2, 1))
    assert (reply.status, reply.headers["content-type"]) == (200, "application/dicom+json")
    found = Dataset.from_json(reply.json)
    assert [one.ReferencedSOPInstanceUID for one in found.ReferencedSOPSequence] == [
        f"{ROOT}.1.1.1", f"{ROOT}.1.1.2", f"{ROOT}.1.2.1",
    ]  # fmt: skip
    assert "FailedSOPSequence" not in found
    assert found.RetrieveURL == f"{BASE}/studies/{STUDY}"
    address = found.ReferencedSOPSequence[1].RetrieveURL.removeprefix(BASE)
    assert viewer.ask(address, "application/dicom").body == dicom(1, 1, 2)
    assert world.s3.buckets[STAGING] == {}
    assert values(viewer.ask("/studies").json[0], "00201208") == [3]
    pump(world)
    assert values(viewer.ask("/studies").json[0], "00201208") == [3]


def test_one_file_without_parts(viewer: Viewer) -> None:
    """application/dicom alone, and a bare content type of a multipart body."""
    assert viewer.send("/studies", dicom(1, 1, 1), "application/dicom").status == 200
    body = b"--b\r\n\r\n" + dicom(1, 1, 2) + b"\r\n--b--"
    assert viewer.send("/studies", body, "multipart/related; boundary=b").status == 200


def test_again_is_no_failure(world: World, viewer: Viewer) -> None:
    """The same bytes under the same UIDs: stored already, kept once."""
    assert viewer.post(dicom(1, 1, 1)).status == 200
    reply = viewer.post(dicom(1, 1, 1), dicom(1, 1, 1))
    assert (reply.status, told(reply)[0]) == (200, [f"{ROOT}.1.1.1"] * 2)
    assert len(world.s3.buckets[STORE]) == 1


def test_what_fails_is_said_one_by_one(world: World, viewer: Viewer) -> None:
    """202: a conflict, a file that is cut, something else; what is none cannot be named."""
    viewer.post(dicom(1, 1, 1))
    reply = viewer.post(dicom(1, 1, 2), dicom(1, 1, 1, pixels=9), dicom(1, 1, 3)[:-10], b"hello", DS_STORE)
    assert reply.status == 202
    stored, failed, _ = told(reply)
    assert stored == [f"{ROOT}.1.1.2"]
    assert failed == [(f"{ROOT}.1.1.1", stow.CONFLICT)]
    assert Counter(others(reply)) == {stow.NOT_UNDERSTOOD: 1, stow.NOT_SUPPORTED: 2}
    assert len(world.s3.buckets[STORE]) == 2


def test_nothing_stored_is_a_409(viewer: Viewer) -> None:
    """With the reasons."""
    reply = viewer.post(b"hello", b"\0" * 300)
    assert reply.status == 409
    assert len(others(reply)) == 2


def test_another_study_is_refused(world: World, viewer: Viewer) -> None:
    """POST to a study takes its instances alone; the others are not even uploaded."""
    reply = viewer.post(dicom(1, 1, 1), dicom(2, 1, 1), study=STUDY)
    assert (reply.status, told(reply)[0], told(reply)[1]) == (
        202, [f"{ROOT}.1.1.1"], [(f"{ROOT}.2.1.1", stow.OTHER_STUDY)],
    )  # fmt: skip
    assert viewer.post(dicom(2, 1, 1), study=STUDY).status == 409
    assert len(world.s3.buckets[STORE]) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "code", "status"),
    [
        (b"x", "application/json", "unsupported_media_type", 415),
        (b"--b--", 'multipart/related; type="application/dicom+json"; boundary=b', "unsupported_media_type", 415),
        (b"--b\r\nContent-Type: a/b\r\n\r\nx\r\n--b--", "multipart/related; boundary=b", "unsupported_media_type", 415),
        (b"--b--", "multipart/related; boundary=b", "invalid_multipart", 400),
        (b"--b\r\n\r\nx", "multipart/related; boundary=b", "invalid_multipart", 400),
        (b"x", 'multipart/related; type="application/dicom"', "invalid_multipart", 400),
        (bytes(stow.BODY_BYTES_MAX + 1), "application/dicom", "size_not_allowed", 413),
    ],
)  # fmt: skip
def test_bodies_that_are_refused(
    world: World, viewer: Viewer, body: bytes, content_type: str, code: str, status: int
) -> None:
    """By the standard's status, before anything is written."""
    world.gate.restart()
    reply = viewer.send("/studies", body, content_type)
    assert (reply.status, reply.code) == (status, code)
    assert world.gate.calls == []


def test_answers_of_other_kinds_are_refused(world: World, viewer: Viewer) -> None:
    """XML is not made; said before anything is stored."""
    reply = viewer.send("/studies", dicom(1, 1, 1), "application/dicom", "application/dicom+xml")
    assert (reply.status, reply.code) == (406, "not_acceptable")
    assert world.s3.buckets[STORE] == {}


def test_behind_a_scanner_nothing_is_posted(world: World, viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is posted would pass its gate by."""
    monkeypatch.setenv("MALWARE_SCAN", "strict")
    settings_module.settings.cache_clear()
    reply = viewer.post(dicom(1, 1, 1))
    assert (reply.status, reply.code) == (409, "scan_required")
    assert world.s3.buckets[STAGING] == {}


def test_killed_anywhere_the_file_is_taken_in_or_never_was(world: World, viewer: Viewer) -> None:
    """At every call: what had arrived in staging is stored once by its event; a repetition is no failure."""
    for step in range(1, 60):
        data = dicom(1, 1, step)
        seen = 0

        def around(call: Call, run: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == step:  # noqa: B023 - called within this round
                raise Killed
            return run()

        with world.hook(around):
            try:
                viewer.post(data)
            except Killed:
                pass
            else:
                break
        arrived = bool(world.s3.buckets[STAGING])
        pump(world)
        world.clock.advance(4_000)
        world.sweep()
        pump(world)
        path = f"/studies/{STUDY}/series/{ROOT}.1.1/instances/{ROOT}.1.1.{step}"
        assert (viewer.ask(path, "application/dicom").status == 200) or not arrived
        assert viewer.post(data).status == 200
        assert viewer.ask(path, "application/dicom").body == data
        pump(world)
    else:
        raise AssertionError("there is no end of calls")
    assert step > 10
    assert world.s3.buckets[STAGING] == {}


def test_its_event_may_be_faster(world: World, viewer: Viewer) -> None:
    """dicom_ingest at work on the file at any moment of the call: one instance, and the call says that it is stored."""
    for step in range(4, 40):
        data, seen, done = dicom(1, 1, step), 0, False

        def around(call: Call, run: Any) -> Any:
            nonlocal seen, done
            seen += 1
            if seen == step and not done:  # noqa: B023 - called within this round
                done = True
                world.gate.around = None
                world.announce()
                message = world.queues.receive()
                if message is not None:
                    world.deliver(message)
                world.gate.around = around
            return run()

        world.gate.around = around
        reply = viewer.post(data)
        world.gate.around = None
        assert (reply.status, told(reply)[0]) == (200, [f"{ROOT}.1.1.{step}"])
        pump(world)
        if not done:
            break
    (one,) = viewer.ask("/studies").json
    assert values(one, "00201208") == [step - 3]


def test_another_tenant_stores_its_own(world: World, viewer: Viewer) -> None:
    """The same UIDs in another tenant are another instance."""
    viewer.post(dicom(1, 1, 1))
    other = Viewer(world, "globex")
    assert other.post(dicom(1, 1, 1, pixels=7)).status == 200
    path = f"/studies/{STUDY}/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"
    assert viewer.ask(path, "application/dicom").body == dicom(1, 1, 1)
    assert dcmread(io.BytesIO(other.ask(path, "application/dicom").body)).pixel_array.max() == 7


def test_nothing_of_patients_leaves_by_the_side(
    world: World, viewer: Viewer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in logs, answers or keys, of what is stored and of what is refused."""
    replies = [viewer.post(dicom(1, 1, 1), dicom(1, 1, 2)[:-10], PATIENT.encode()), viewer.post(PATIENT.encode())]
    written = "".join(capfd.readouterr()) + "".join(json.dumps([one.headers, one.json]) for one in replies)
    written += "".join(key for bucket in world.s3.buckets.values() for key in bucket)
    assert not [word for word in ("ZZTOPSECRET", "ZZID-0815") if word in written]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.sampled_from(["multipart/related; boundary=b", "application/dicom", "", "x/y; ="]))
def test_any_bytes_are_answered(world: World, body: bytes, content_type: str) -> None:
    """No fault of ours, whatever is sent; what is no base64 included."""
    event = events.http("POST", "/v1/dicomweb/studies", headers={"content-type": content_type})
    event["body"], event["isBase64Encoded"] = base64.b64encode(body).decode(), True
    assert handler_of("dicomweb")(event, events.Context("dicomweb", 29))["statusCode"] < 500
    event["body"] = "no base64!"
    assert handler_of("dicomweb")(event, events.Context("dicomweb", 29))["statusCode"] in {400, 415}
