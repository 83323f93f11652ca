"""A running server for tests of anything that talks to S3."""

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heavylift_local.s3.config import parse
from heavylift_local.s3.server import S3Server

ACCESS_KEY = "AKIDDEVELOPER"
SECRET_KEY = "developer-secret"
ADMIN_TOKEN = "local-token"
BUCKETS = ("staging", "store", "derived")


@cache
def _session() -> Any:
    import boto3

    return boto3.session.Session()  # loading the service model costs 100 ms: once a process


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over the wire."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def code(self) -> str | None:
        """<Code> of an error document."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found[1].decode() if found else None

    @property
    def refusal(self) -> tuple[int, str | None]:
        return self.status, self.code


def send(url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One request over a connection of its own, with exactly these headers (and those http.client must add)."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        data = answer.read()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, data)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class RunningS3:
    server: S3Server
    region: str

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def port(self) -> int:
        return self.server.port

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, **more: Any) -> Any:
        """A boto3 client with default settings but region, path style and SigV4. More arguments go to `client()`."""
        from botocore.config import Config

        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4", retries={"max_attempts": 1})
        config = config.merge(more.pop("config", Config()))
        return _session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=config,
            **more,
        )

    def presign(self, method: str, path: str, *, region: str | None = None, expires: int = 60) -> str:
        """See `presign`."""
        return presign(self.endpoint, method, path, region or self.region, expires)

    def admin(self, method: str, path: str, document: Any = None) -> Any:
        """The decoded answer of /_local/*path*."""
        body = None if document is None else json.dumps(document).encode()
        answer = send(f"{self.endpoint}/_local/{path}", method, body, {"x-local-token": ADMIN_TOKEN})
        return json.loads(answer.body)


def developer(allow: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The developer's own key: everything."""
    return {
        "name": "developer",
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "allow": [allow or {"actions": ["s3:*"], "resources": ["*"]}],
    }


@contextmanager
def running_s3(path: Path, **config: Any) -> Iterator[RunningS3]:
    """A server in this process with its data under *path*, three unversioned buckets and one almighty caller.

    *config*: fields of the configuration document that replace these.
    """
    raw: dict[str, Any] = {
        "data": str(path / "s3"),
        "admin_token": ADMIN_TOKEN,
        "buckets": [{"name": name} for name in BUCKETS],
        "callers": [developer()],
        **config,
    }
    server = S3Server(parse(raw)).start()
    try:
        yield RunningS3(server, server.config.region)
    finally:
        server.stop()


def start_process(path: Path, **config: Any) -> tuple[subprocess.Popen[str], int]:
    """A server in a process of its own with its data under *path*, ready; and its port. The caller ends it."""
    file = path / "config.json"
    raw = {
        "data": str(path / "data"),
        "buckets": [{"name": "staging"}],
        "callers": [developer()],
        "admin_token": ADMIN_TOKEN,
        **config,
    }
    file.write_text(json.dumps(raw))
    process = subprocess.Popen(
        [sys.executable, "-m", "heavylift_local.s3", "--config", str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert (ready["ready"], ready["pid"]) == (True, process.pid)
    return process, ready["port"]


def peak_kib(pid: int) -> int:
    """The most memory that process ever held, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def presign(
    endpoint: str, method: str, path: str, region: str = "us-east-1", expires: int = 60, secret: str = SECRET_KEY
) -> str:
    """A presigned URL of the developer's for any method and path, also those that boto3 has no operation for."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, endpoint + path)
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, secret), "s3", region, expires).add_auth(request)
    return str(request.url)
