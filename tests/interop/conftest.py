"""One running stack for all end-to-end tests of a worker, and the small tools that they share."""

from __future__ import annotations

import base64
import hashlib
import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
from botocore.config import Config
from PIL import Image

from heavylift_client import Client
from heavylift_local.testing import CallFailed, RunningStack, running_stack

FINAL = {"completed", "completed_with_errors", "rejected", "failed", "cancelled", "expired", "deleted"}


@dataclass(frozen=True)
class Desk:
    """A tenant at work: its stack, its token, and S3 seen with the developer's own keys."""

    stack: RunningStack
    token: str
    tenant: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.stack.request(method, path, body, self.token)

    def refused(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """(status, body) of a call that must be refused."""
        with pytest.raises(CallFailed) as caught:
            self.stack.request(method, path, body, token or self.token)
        return caught.value.status, caught.value.body

    def client(self, **options: Any) -> Client:
        return Client(self.stack.api, self.token, **options)

    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.stack.s3,
            region_name=self.stack.ready["region"],
            aws_access_key_id=self.stack.ready["s3_access_key"],
            aws_secret_access_key=self.stack.ready["s3_secret_key"],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def bucket(self, name: str) -> str:
        return str(self.stack.ready["buckets"][name])

    def keys(self, bucket: str, prefix: str) -> list[str]:
        answer = self.s3().list_objects_v2(Bucket=self.bucket(bucket), Prefix=prefix)
        return sorted(one["Key"] for one in answer.get("Contents", []))

    def initiate(self, name: str, size: int, **more: Any) -> dict[str, Any]:
        entry = {"client_id": "1", "name": name, "size": size, **more}
        (opened,) = self.call("POST", "/v1/uploads", {"files": [entry]})["uploads"]
        return dict(opened)

    def send_bytes(self, name: str, data: bytes, **more: Any) -> str:
        """A small file by one signed PUT; its id."""
        opened = self.initiate(name, len(data), sha256=digest(data), **more)
        status, body = put(opened["put"]["url"], data, opened["put"]["headers"])
        assert status == 200, body
        return str(opened["upload_id"])

    def send_parts(self, opened: dict[str, Any], data: bytes) -> None:
        """All parts of a multipart upload, and complete."""
        size = opened["part_size"]
        pieces = [data[offset : offset + size] for offset in range(0, len(data), size)]
        wanted = [{"part_number": n, "sha256": digest(piece)} for n, piece in enumerate(pieces, start=1)]
        signed = self.call("POST", f"/v1/uploads/{opened['upload_id']}/parts", {"parts": wanted})["parts"]
        for piece, one in zip(pieces, signed, strict=True):
            status, body = put(one["url"], piece, one["headers"])
            assert status == 200, body
        self.call("POST", f"/v1/uploads/{opened['upload_id']}/complete", {})

    def wait_final(self, file_id: str, seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            record = self.call("GET", f"/v1/files/{file_id}")
            if record["final"]:
                return dict(record)
            assert time.monotonic() < deadline, record
            time.sleep(0.1)


def digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put(url: str, data: bytes, headers: dict[str, str], method: str = "PUT") -> tuple[int, str]:
    """One raw request with exactly these headers (and content-length): status and body."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    try:
        connection.request(method, f"{address.path}?{address.query}", data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def code_of(xml: str) -> str:
    return xml.partition("<Code>")[2].partition("</Code>")[0]


def write_tiff(path: Path, width: int, height: int, seed: int = 1) -> Path:
    """An uncompressed RGB strip TIFF of smooth colours and noise, written by Pillow."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.stack([np.sin(x / 97) * np.cos(y / 61), np.sin((x + y) / 143), np.cos(x / 211 - y / 83)], axis=-1)
    noise = rng.integers(-12, 12, (height, width, 3), dtype=np.int16)
    pixels = np.clip(128 + 100 * wave + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, "TIFF", compression="raw")
    return path


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    with running_stack() as running:
        yield running


@pytest.fixture
def desk(stack: RunningStack, request: pytest.FixtureRequest) -> Desk:
    """A tenant of its own for every test, so that tests do not see each other's files."""
    tenant = "t-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return Desk(stack, stack.token(tenant), tenant)
