"""What Uppy asks of Companion's routes, over the very handlers of a World; parts and forms go into its S3."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infra import topology
from tests.doubles.world import STAGING, World

BASE = "/s3/t/{ticket}/s3"
UPLOAD = BASE + "/multipart/{uploadId}"
OWNER = {f"{route.method} {route.path}": function.name for function in topology.FUNCTIONS for route in function.routes}


@dataclass(slots=True)
class Companion:
    """One page with one ticket."""

    world: World
    tenant: str = "acme"
    user: str = "user-1"
    endpoint: str = field(init=False)
    ticket: str = field(init=False)

    def __post_init__(self) -> None:
        self.renew()

    def renew(self, **body: Any) -> dict[str, Any]:
        status, answer = self.world.call(
            "initiate", "POST", "/v1/companion-tickets", body=body, tenant=self.tenant, user=self.user
        )
        assert status == 201, answer
        self.endpoint = answer["endpoint"]
        self.ticket = self.endpoint.rpartition("/s3/t/")[2]
        return answer

    def answer(self, route: str, **given: Any) -> dict[str, Any]:
        """The whole answer of a route, e.g. ``GET /s3/t/{ticket}/s3/params``."""
        method, _, path = route.partition(" ")
        names = {"ticket": self.ticket, **given.pop("path", {})}
        used = {name: names[name] for name in re.findall(r"{(\w+)}", path)}
        return self.world.answer(OWNER[route], method, path, path=used, tenant=None, **given)

    def call(self, route: str, **given: Any) -> tuple[int, Any]:
        """(status, decoded body)."""
        answer = self.answer(route, **given)
        assert answer["headers"]["content-type"] == "application/json"
        return answer["statusCode"], json.loads(answer["body"])

    # --- what Uppy does ---
    def params(self, filename: str = "a.txt", **query: str) -> dict[str, Any]:
        status, body = self.call(f"GET {BASE}/params", query={"filename": filename, **query})
        assert status == 200, body
        made: dict[str, Any] = body
        return made

    def post(self, form: dict[str, Any], data: bytes) -> str:
        """What S3 makes of the form; the file's id."""
        key: str = form["fields"]["key"]
        self.world.s3.put_object(Bucket=STAGING, Key=key, Body=data)
        return key.rpartition("/")[2]

    def create(self, filename: str = "a.txt", type: str = "text/plain", **body: Any) -> dict[str, Any]:
        status, answer = self.call(
            f"POST {BASE}/multipart", body={"filename": filename, "type": type, "metadata": {}, **body}
        )
        assert status == 200, answer
        made: dict[str, Any] = answer
        return made

    def put(self, upload: dict[str, Any], pieces: Sequence[bytes]) -> list[dict[str, Any]]:
        """Parts 1 to n; what Uppy then says at complete."""
        s3_upload_id = self.world.record(upload["uploadId"], self.tenant).s3_upload_id or ""
        said = []
        for number, piece in enumerate(pieces, start=1):
            etag = self.world.s3.upload_part(
                Bucket=STAGING, Key=upload["key"], UploadId=s3_upload_id, PartNumber=number, Body=piece
            )["ETag"]
            said.append({"PartNumber": number, "ETag": etag})
        return said

    def of_upload(self, route: str, upload: dict[str, Any], **given: Any) -> tuple[int, Any]:
        """A route under …/multipart/{uploadId}, with the key in the query as Uppy sends it."""
        query = {"key": upload["key"], **given.pop("query", {})}
        path = {"uploadId": upload["uploadId"], **given.pop("path", {})}
        return self.call(route, path=path, query=query, **given)

    def complete(self, upload: dict[str, Any], parts: Any) -> tuple[int, Any]:
        return self.of_upload(f"POST {UPLOAD}/complete", upload, body={"parts": parts})

    def list(self, upload: dict[str, Any]) -> tuple[int, Any]:
        return self.of_upload(f"GET {UPLOAD}", upload)

    def abort(self, upload: dict[str, Any]) -> tuple[int, Any]:
        return self.of_upload(f"DELETE {UPLOAD}", upload)

    def sign(self, upload: dict[str, Any], number: int | str) -> tuple[int, Any]:
        return self.of_upload(f"GET {UPLOAD}/{{partNumber}}", upload, path={"partNumber": str(number)})


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
