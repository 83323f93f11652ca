"""Frames, pictures and thumbnails through the handler: statuses, types, and what the gateway is told."""

from __future__ import annotations

import io
import json
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image as Pictures
from pydicom import dcmread

from heavylift.dicomweb import delivery
from tests.doubles.dicom import ROOT, dicom, pump, sent
from tests.doubles.dicomweb import BASE, Viewer
from tests.doubles.world import DERIVED, World

SERIES = f"/studies/{ROOT}.1/series/{ROOT}.1.1"
INSTANCE = f"{SERIES}/instances/{ROOT}.1.1.2"


@pytest.fixture
def viewer(world: World) -> Viewer:
    """Of a series of three images of 16 x 16, grey 100, 200 and 300."""
    files = {n: (f"IM{n}", dicom(1, 1, n, pixels=100 * n, edge=16)) for n in (1, 2, 3)}
    sent(world, files)
    pump(world)
    return Viewer(world)


def test_frames_and_pictures_of_an_instance(viewer: Viewer) -> None:
    """Bytes as stored, in parts or alone; JPEG and PNG; a thumbnail that is kept."""
    read = dcmread(io.BytesIO(dicom(1, 1, 2, pixels=200, edge=16)))
    reply = viewer.ask(f"{INSTANCE}/frames/1", "multipart/related; type=application/octet-stream; transfer-syntax=*")
    assert (reply.status, reply.parts) == (200, [read.PixelData])
    assert f"Content-Location: {BASE}{INSTANCE}/frames/1\r\n".encode() in reply.body
    assert viewer.ask(f"{INSTANCE}/frames/1", "application/octet-stream").body == read.PixelData
    picture = viewer.ask(f"{INSTANCE}/rendered?window=200,400,linear-exact&viewport=8,8&accept=image/png")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/png")
    drawn = np.asarray(Pictures.open(io.BytesIO(picture.body)))
    assert (drawn.shape, set(drawn.ravel().tolist())) == ((8, 8), {128})
    several = viewer.ask(f"{SERIES}/rendered", 'multipart/related; type="image/jpeg"')
    assert [Pictures.open(io.BytesIO(one)).size for one in several.parts] == [(16, 16)] * 3
    thumbnail = viewer.ask(f"/studies/{ROOT}.1/thumbnail")
    assert (thumbnail.status, thumbnail.headers["content-type"]) == (200, "image/jpeg")
    assert viewer.ask(f"{SERIES}/thumbnail").body == viewer.ask(f"{INSTANCE}/thumbnail").body == thumbnail.body


@pytest.mark.parametrize(
    ("path", "accept", "status", "code"),
    [
        (f"{INSTANCE}/frames/2", "*/*", 404, "not_found"),
        (f"{INSTANCE}/frames/0", "*/*", 400, "invalid_query"),
        (f"{INSTANCE}/frames/1", "image/jpeg", 406, "not_acceptable"),
        (f"{INSTANCE}/frames/2/rendered", "*/*", 404, "not_found"),
        (f"{INSTANCE}/rendered", "image/gif", 406, "not_acceptable"),
        (f"{INSTANCE}/rendered?window=1", "*/*", 400, "invalid_query"),
        (f"{INSTANCE}/rendered?annotation=patient", "*/*", 400, "invalid_query"),
        (f"{SERIES}/thumbnail", "multipart/related", 406, "not_acceptable"),
        (f"{SERIES}.9/thumbnail", "*/*", 404, "not_found"),
        (f"{SERIES}.9/rendered", "*/*", 404, "not_found"),
    ],
)
def test_what_cannot_be_given_is_told(viewer: Viewer, path: str, accept: str, status: int, code: str) -> None:
    """The standard's statuses, with our codes."""
    reply = viewer.ask(path, accept)

    assert (reply.status, reply.code) == (status, code)


def test_large_frames_are_links(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an object that leaves with its file, and names nobody."""
    monkeypatch.setattr(delivery, "ANSWER_BYTES_MAX", 100)
    reply = viewer.ask(f"{INSTANCE}/frames/1")
    assert (reply.status, reply.body) == (307, b"")
    place = urlsplit(reply.headers["location"])
    made = viewer.world.s3.buckets[DERIVED][place.path.removeprefix("/")]
    assert made.media_type.startswith('multipart/related; type="application/octet-stream"; boundary=')
    assert f"{ROOT}" not in place.path
    (file_id,) = {key.split("/")[2] for key in viewer.world.s3.buckets[DERIVED] if key.startswith("frames/")}
    viewer.world.call("complete", "DELETE", "/v1/files/{id}", path={"id": file_id})
    assert [key for key in viewer.world.s3.buckets[DERIVED] if key.startswith("frames/")] == []
    assert viewer.ask(f"{INSTANCE}/frames/1").status == 404


def test_pictures_leave_with_their_file(viewer: Viewer) -> None:
    """A thumbnail of the one that was deleted is nobody's any more, and the series gets another."""
    before = viewer.ask(f"{SERIES}/thumbnail")
    (key,) = (key for key in viewer.world.s3.buckets[DERIVED] if key.endswith(".jpg"))
    viewer.world.call("complete", "DELETE", "/v1/files/{id}", path={"id": key.split("/")[2]})
    assert key not in viewer.world.s3.buckets[DERIVED]
    after = viewer.ask(f"{SERIES}/thumbnail")
    assert (before.status, after.status) == (200, 200)
    assert json.loads(viewer.ask(f"{INSTANCE}/thumbnail").body)["code"] == "not_found"
