"""What a subscriber on the bus sees of real files: each end once or more, as published, and where the bytes are."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from tests.doubles.dicom import dicom
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("stack")
SCHEMAS = Path(__file__).resolve().parents[2] / "docs/events"


def seen(desk: Desk, enough: Callable[[dict[str, list[str]]], bool], seconds: float = 60) -> list[dict[str, Any]]:
    """The tenant's events, without copies, once ``enough`` holds of the types by file."""
    by_id: dict[str, dict[str, Any]] = {}
    deadline, after = time.monotonic() + seconds, 0
    while True:
        page = desk.stack.local("GET", f"bus?after={after}")
        after = page["last"]
        for event in page["events"]:
            if event["detail"].get("tenant") == desk.tenant:
                by_id.setdefault(event["detail"]["id"], event)
        types: dict[str, list[str]] = {}
        for event in by_id.values():
            types.setdefault(event["detail"]["file_id"], []).append(event["detail-type"])
        if not page["events"]:
            if enough(types):
                return list(by_id.values())
            assert time.monotonic() < deadline, types
            time.sleep(0.1)


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(out, "PNG")
    return out.getvalue()


def test_every_end_is_told_as_published(desk: Desk) -> None:
    """Completed, rejected twice, cancelled: an event for each end, in an order that record_version gives."""
    drawn, bad = desk.send_bytes("drawn.png", picture()), desk.send_bytes("bad.png", b"no picture\n")
    patient = desk.send_bytes("Doe^Jane.dcm", dicom(1, 1, 1, patient="Doe^Jane"))
    cancelled = desk.initiate("late.txt", 5)["upload_id"]
    desk.call("DELETE", f"/v1/uploads/{cancelled}")
    desk.wait_final(bad)
    desk.call("POST", f"/v1/uploads/{bad}/retry", {})
    wanted = {
        drawn: ["file.completed"],
        bad: ["file.rejected", "file.rejected"],
        patient: ["file.completed"],
        cancelled: ["file.cancelled"],
    }
    events = seen(desk, lambda types: types == wanted)

    for event in events:
        schema = json.loads((SCHEMAS / f"{event['detail-type']}.v1.schema.json").read_text())
        assert [error.message for error in Draft202012Validator(schema).iter_errors(event["detail"])] == []
        assert event["source"] == "heavylift"
    of = {event["detail"]["file_id"]: event["detail"] for event in events}
    record = desk.wait_final(drawn)
    found = of[drawn]["object"]
    body = desk.s3().get_object(Bucket=found["bucket"], Key=found["key"], IfMatch=found["etag"])["Body"].read()
    assert body == picture()
    pictures = [one["key"] for one in of[drawn]["thumbnails"]]
    assert sorted(pictures) == desk.keys("derived", f"thumbnails/{desk.tenant}/{drawn}/")
    assert {of[drawn][name] == record[name] for name in ("name", "size", "kind", "format", "media_type", "status")} == {
        True
    }
    assert of[bad]["failure"]["code"] == "type_mismatch"
    assert "Doe" not in json.dumps(of[patient])


def test_a_deleted_file_is_told(desk: Desk) -> None:
    """After its completion, under a higher version; where its bytes were is told no more."""
    file_id = desk.send_bytes("gone.txt", b"some words\n")
    desk.wait_final(file_id)
    desk.call("DELETE", f"/v1/files/{file_id}")
    completed, deleted = seen(desk, lambda types: types == {file_id: ["file.completed", "file.deleted"]})

    assert deleted["detail"]["record_version"] > completed["detail"]["record_version"]
    assert "object" in completed["detail"]
    assert "object" not in deleted["detail"]
