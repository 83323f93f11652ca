"""The local stack's own door: `/_local/…`, loopback and token only. `_local` is not a legal bucket name.

PUT faults · GET counters · PUT event_sink · POST adopt · GET health
"""

import hashlib
import hmac
import ipaddress
import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from heavylift_local.s3 import checksums
from heavylift_local.s3.counters import Counters
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.faults import FaultError, FaultState
from heavylift_local.s3.objects import adopt
from heavylift_local.s3.request import KEY_BYTES_MAX, Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import ObjectRecord

PREFIX = b"/_local/"
BODY_BYTES_MAX = 1024 * 1024


class Refused(Exception):
    """Answered with *status* and {"message"}."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Collected:
    """A small body in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, view: memoryview) -> None:
        self.data += view


class Admin:
    def __init__(self, service: Service, faults: FaultState, counters: Counters) -> None:
        self._service = service
        self._faults = faults
        self._counters = counters

    def answer(self, request: Request) -> Response:
        try:
            self._check(request)
            status, body = 200, self._dispatch(request)
        except Refused as refused:
            status, body = refused.status, {"message": str(refused)}
        except S3Error as error:
            status, body = error.status, {"message": error.message, "code": error.code}
        return Response(status, [("Content-Type", "application/json")], json.dumps(body).encode())

    def _check(self, request: Request) -> None:
        token = self._service.config.admin_token
        given = request.headers.get("x-local-token", "")
        if not ipaddress.ip_address(request.peer).is_loopback or not token:
            raise Refused(403, "not from here")
        if not hmac.compare_digest(token.encode(), given.encode("latin-1")):
            raise Refused(403, "wrong or missing x-local-token")

    def _dispatch(self, request: Request) -> Any:
        path = request.path.decode("utf-8", "replace").removeprefix(PREFIX.decode())
        call = f"{request.method} {path}"
        if call == "GET counters":
            return self._counters.snapshot()
        if call == "GET health":
            return {"status": "ok", "buckets": sorted(self._service.store.buckets)}
        if call == "PUT faults":
            try:
                self._faults.set(self._document(request))
            except (FaultError, TypeError, ValueError) as error:
                raise Refused(400, str(error)) from None
            return {}
        if call == "PUT event_sink":
            url = self._document(request).get("url")
            if url is not None and not str(url).startswith("http://"):
                raise Refused(400, "url: an http:// address or null")
            self._service.outbox.sink = url
            return {}
        if call == "POST adopt":
            return self._adopt(request, self._document(request))
        raise Refused(404, "no such local route")

    def _document(self, request: Request) -> Mapping[str, Any]:
        body = request.body
        assert body is not None
        if not body.length or body.length > BODY_BYTES_MAX or body.chunked:
            raise Refused(400, "wanted a JSON object")
        collected = Collected()
        body.take(collected, body.checks(of_object=False), plain=True)
        try:
            found = json.loads(collected.data)
        except ValueError:
            raise Refused(400, "not JSON") from None
        if not isinstance(found, dict):
            raise Refused(400, "wanted a JSON object")
        return found

    def _adopt(self, request: Request, raw: Mapping[str, Any]) -> dict[str, Any]:
        """A file on this disk becomes an object: not copied, not read, never deleted by us."""
        bucket, key, path = str(raw.get("bucket", "")), str(raw.get("key", "")), str(raw.get("path", ""))
        metadata = raw.get("metadata") or {}
        if not key or len(key.encode()) > KEY_BYTES_MAX or not isinstance(metadata, dict):
            raise Refused(400, "wanted bucket, key, path, and metadata as an object")
        try:
            found = os.stat(path)
            readable = os.access(path, os.R_OK)
        except OSError as error:
            raise Refused(400, f"path: {error.strerror}") from None
        if not os.path.isabs(path) or not stat.S_ISREG(found.st_mode) or not readable:
            raise Refused(400, "path: wanted the absolute path of a readable regular file")
        # Synthetic, and not to be taken for an MD5 of the bytes: the dash says multipart.
        name = f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ino}".encode()
        etag = hashlib.md5(name, usedforsecurity=False).hexdigest() + "-1"
        content_type = raw.get("content_type")
        record = ObjectRecord(
            bucket=bucket,
            key=key,
            size=found.st_size,
            etag=etag,
            checksum_type=checksums.FULL_OBJECT,
            headers={"content-type": str(content_type)} if content_type else {},
            metadata={str(k).lower(): str(v).encode().decode("latin-1") for k, v in metadata.items()},
        )
        stored = adopt(self._service, request, record, path)
        versioned = self._service.bucket(bucket).versioning
        return {"etag": etag, "size": found.st_size, "version_id": stored.version if versioned else None}
