"""A client of DICOMweb in a World: calls the handler by paths, as the gateway would."""

from __future__ import annotations

import base64
import gzip
import json
import os
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

from heavylift import parts
from heavylift.dicom import single
from heavylift.dicomweb import delivery, metadata, multipart
from heavylift.settings import settings
from heavylift_local.gateway.routing import Router
from infra import topology
from tests.doubles import dicom as dicom_double
from tests.doubles import events
from tests.doubles import world as world_module
from tests.doubles.dicom import ROOT, dicom
from tests.doubles.world import DERIVED, STORE, World

BASE = "https://api.example.com/v1/dicomweb"
CHILD_S = 29


@cache
def router() -> Router:
    return Router(topology.FUNCTIONS)


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def code(self) -> str:
        return str(self.json["code"])

    @property
    def parts(self) -> list[bytes]:
        return [one.content for one in multipart.take_apart(self.body, self.headers["content-type"])]


@dataclass(slots=True)
class Viewer:
    """``ask`` is a GET, ``send`` a POST, below /v1/dicomweb."""

    world: World
    tenant: str = "acme"
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, accept: str | None = None, *, zipped: bool = False) -> Reply:
        headers = {"accept": accept} if accept is not None else {}
        return self._call("GET", path, headers | ({"accept-encoding": "gzip, br"} if zipped else {}))

    def send(self, path: str, body: bytes, content_type: str, accept: str = "application/dicom+json") -> Reply:
        return self._call("POST", path, {"accept": accept, "content-type": content_type}, body)

    def post(self, *files: bytes, study: str = "") -> Reply:
        """STOW-RS."""
        mark = multipart.boundary("test")
        pieces = [
            multipart.opening(mark, {"Content-Type": "application/dicom"}, first=number == 0) + data
            for number, data in enumerate(files)
        ]
        body = b"".join(pieces) + multipart.closing(mark)
        return self.send(
            f"/studies/{study}" if study else "/studies", body, multipart.media_type(mark, "application/dicom")
        )

    def _call(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        plain, _, query = path.partition("?")
        target = router().find(method, f"/v1/dicomweb{plain}")
        assert target is not None, f"no route for {path}"
        event = events.http(
            method, target.route_key.partition(" ")[2], path=dict(target.parameters), tenant=self.tenant
        )
        event["headers"] = {"host": "api.example.com", "x-forwarded-proto": "https", **self.headers, **headers}
        event["rawQueryString"] = query
        event["queryStringParameters"] = dict(parse_qsl(query, keep_blank_values=True))
        if body is not None:
            event["body"], event["isBase64Encoded"] = base64.b64encode(body).decode(), True
        answer = world_module.handler_of(target.function)(event, events.Context(target.function, CHILD_S, 1769))
        data = base64.b64decode(answer["body"]) if answer.get("isBase64Encoded") else answer["body"].encode()
        if answer["headers"].get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        return Reply(answer["statusCode"], answer["headers"], data)

    def fetched(self, reply: Reply) -> bytes:
        """What a 307 leads to."""
        assert reply.status == 307, (reply.status, reply.body)
        host, _, key = reply.headers["location"].removeprefix("https://").partition("?")[0].partition("/")
        bucket = {f"{name}.example": name for name in (DERIVED, STORE)}[host]
        return self.world.s3.buckets[bucket][key].body


def values(result: dict[str, Any], tag: str) -> list[Any]:
    found: list[Any] = result.get(tag, {}).get("Value", [])
    return found


def uids(reply: Reply, tag: str = "0020000D") -> list[str]:
    return [values(one, tag)[0] for one in reply.json or []]


def live(world: World) -> None:
    """Every way that a call of DICOMweb can take, in short."""
    viewer = Viewer(world)
    study = f"/studies/{ROOT}.5"
    with patch.object(parts, "SINGLE_PUT_MAX", 1 << 20), patch.object(single, "COPY_OBJECT_MAX", 1 << 20):
        assert viewer.post(dicom(5, 1, 1), dicom(5, 1, 2)).status == 200
        assert viewer.post(dicom(5, 1, 1, pixels=3)).status == 409
        with patch.dict(os.environ, {"DICOM_CONFLICT": "replace"}):
            settings.cache_clear()
            assert viewer.post(dicom(5, 1, 1, pixels=4)).status == 200
        settings.cache_clear()
    dicom_double.pump(world)
    for path in (
        "/studies",
        "/instances",
        f"{study}/instances?SOPInstanceUID={ROOT}.5.1.1",
        f"{study}/metadata",
        study,
    ):
        assert viewer.ask(path).status == 200
    one = f"{study}/series/{ROOT}.5.1/instances/{ROOT}.5.1.1"
    for path in ("", "/frames/1", "/rendered", "/thumbnail"):
        assert viewer.ask(one + path).status == 200, path
    # The batch's list names the thumbnail of a series, once somebody has asked for it.
    client = dicom_double.sent(world, {1: ("a", dicom(6, 1, 1))})
    dicom_double.pump(world)
    assert "thumbnails" not in client.studies()[f"{ROOT}.6"]
    assert viewer.ask(f"/studies/{ROOT}.6/thumbnail").status == 200
    (picture,) = client.studies()[f"{ROOT}.6"]["thumbnails"]
    assert picture["series_uid"] == f"{ROOT}.6.1"
    # A body that is an object: begun and given up because a file goes; begun and gone on with.
    small = {"ANSWER_BYTES_MAX": 40, "S3_PART_SIZE_MIN": 5, "HAND_TARGET": 100, "COPY_TARGET": 200}
    with patch.multiple(delivery, **small), patch.object(metadata, "ANSWER_BYTES_MAX", 40):
        (key,) = (key for key, found in world.s3.buckets[STORE].items() if found.body == dicom(5, 1, 2))
        for gone in (True, False):
            left = iter([1.0] * 3 + [0.0] * 99)
            with patch.object(events.Context, "get_remaining_time_in_millis", lambda self: 9_000 + 1_000 * next(left)):  # noqa: B023
                assert viewer.ask(study).status == 503
            kept = world.s3.buckets[STORE][key]
            if gone:
                del world.s3.buckets[STORE][key]
            assert viewer.ask(study).status == (404 if gone else 307)
            world.s3.buckets[STORE][key] = kept
        assert viewer.ask(f"{study}/metadata").status == 307
