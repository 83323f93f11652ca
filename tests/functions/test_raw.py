"""Camera RAW files through validate and thumbnail: facts, verdicts, placeholders, and pictures made once."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from heavylift import thumbnailing
from heavylift.limits import rule_for_format
from tests.doubles.world import DERIVED, World
from tests.heavylift.raw import raws

# A DNG of a few hundred bytes that holds 16 sensor values and no picture: in a BigTIFF, LibRaw opens none.
NO_PICTURE = raws.Writer(big=True).write(
    raws.dng([], thumb=False, big=True, sensor=raws.cfa_directory(4, 4, bytes(32), big=True))
)


def put(world: World, name: str, data: bytes) -> str:
    file_id = world.initiate(name, data)
    world.put(file_id, data)
    if world.record(file_id).mode == "multipart":
        assert world.complete(file_id)[0] == 200
    world.pump()
    return file_id


def shown(world: World, file_id: str) -> dict[str, object]:
    status, body = world.call("sessions", "GET", "/v1/files/{id}", path={"id": file_id})
    assert status == 200
    return body


def test_a_placeholder_is_a_verdict_with_pictures(world: World) -> None:
    """completed_with_errors with the reason, pictures of all sizes marked, the facts, and the file itself there."""
    file_id = put(world, "a.dng", NO_PICTURE)
    body = shown(world, file_id)

    assert (body["status"], body["kind"], body["format"], body["final"]) == (
        "completed_with_errors",
        "raw",
        "DNG",
        True,
    )
    assert body["failure"]["code"] == "too_large_to_decode"  # type: ignore[index]
    assert body["failure"]["stage"] == "thumbnail"  # type: ignore[index]
    assert body["decision"]["method"] == "placeholder"  # type: ignore[index]
    assert [(each["size"], each["placeholder"], each["provisional"]) for each in body["thumbnails"]] == [  # type: ignore[attr-defined]
        (256, True, False),
        (512, True, False),
        (1200, True, False),
    ]
    assert (body["thumbnail_generated"], body["preview_generated"]) == (True, False)
    assert (body["width"], body["height"], body["make"], body["model"]) == (4, 4, "Heavy Optics", "Lifter 80")
    assert body["captured_at"] == "2024-05-01T12:34:56+02:00"
    assert "gps" not in json.dumps(body).lower()
    for picture in world.record(file_id).thumbnails:
        drawn = Image.open(io.BytesIO(world.s3.get_object(Bucket=DERIVED, Key=picture["key"])["Body"].read()))
        assert max(drawn.size) == picture["size"]
    world.check_stored(file_id, NO_PICTURE, "completed_with_errors")


def test_a_repeated_event_reads_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made once: an event that comes again draws nothing and reads nothing but the record."""
    file_id = put(world, "a.dng", NO_PICTURE)
    before = world.record(file_id)
    monkeypatch.setattr(thumbnailing, "make_raw_thumbnails", None)
    world.announce()
    world.pump()
    assert world.record(file_id).thumbnails == before.thumbnails


def test_a_retry_draws_anew_and_leaves_nothing(world: World) -> None:
    """Pictures of the retry replace the placeholders, object for object."""
    file_id = put(world, "a.dng", NO_PICTURE)
    first = {picture["key"] for picture in world.record(file_id).thumbnails}
    assert world.retry(file_id)[0] in (200, 202)
    world.pump()
    second = {picture["key"] for picture in world.record(file_id).thumbnails}

    assert len(second) == 3
    assert not first & second
    assert {key for key in world.s3.buckets[DERIVED] if key.startswith("thumbnails/")} == second


def test_a_truncated_file_is_rejected(world: World) -> None:
    """Sensor data that reach beyond the file: rejected by validate with a code, no pictures, nothing in the store."""
    cut = NO_PICTURE[: NO_PICTURE.index(bytes(32))]
    file_id = put(world, "cut.dng", cut)
    body = shown(world, file_id)

    assert (body["status"], body["thumbnails"]) == ("rejected", [])
    assert body["failure"]["code"] == "truncated"  # type: ignore[index]


def test_a_dng_by_any_name(world: World) -> None:
    """DNG is told by its content, with DNG's own limit of size."""
    file_id = put(world, "holiday.tif", NO_PICTURE)
    body = shown(world, file_id)
    rule = rule_for_format("DNG")

    assert (body["kind"], body["format"], body["media_type"]) == ("raw", "DNG", "image/x-adobe-dng")
    assert rule is not None
    assert rule.size_max == 80 << 30
