"""S3 without boto3: heads, ranges, copies, small objects, multipart uploads, deletions. See ``direct``.

Facts: Amazon S3 API reference, the operations of these names; "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from html import escape, unescape
from typing import Any, Final
from urllib.parse import quote

from heavylift import credentials, presign
from heavylift.connections import Answer
from heavylift.retried import Calls, Refused
from heavylift.settings import settings

EMPTY_SHA256: Final = sha256(b"").hexdigest()
Fallback = Callable[[], Any]

_ELEMENT: Final = re.compile(r"<(\w+)>([^<]*)</\1>")
_ERROR: Final = re.compile(r"<Error>(.*?)</Error>", re.DOTALL)
_RESULT: Final = re.compile(rb"<\w+Result\b")
_PART: Final = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)
_CONTENTS: Final = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_VERSION: Final = re.compile(r"<Version>(.*?)</Version>", re.DOTALL)
_MARKER: Final = re.compile(r"<DeleteMarker>(.*?)</DeleteMarker>", re.DOTALL)
_HEADERS: Final = {
    "ETag": "etag",
    "VersionId": "x-amz-version-id",
    "ContentType": "content-type",
    "ContentRange": "content-range",
}
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_PREFIX: Final = "x-amz-checksum-"


class Whole:
    """A body that is there already, as boto3's streams are read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, amount: int | None = None) -> bytes:
        data = self._data if amount is None else self._data[:amount]
        self._data = self._data[len(data) :]
        return data


class S3:
    """HEAD, ranges, copies, small objects and deletions."""

    def __init__(self, calls: Calls, fallback: Fallback) -> None:
        self._calls, self._fallback = calls, fallback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fallback(), name)

    def _ask(
        self,
        operation: str,
        method: str,
        bucket: str,
        key: str,
        headers: Mapping[str, str | None],
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | bytearray = b"",
        refused: Refused | None = None,
    ) -> Answer:
        region = settings().region
        address = credentials.bucket_address(bucket, region, os.environ)
        path = quote(f"{address.prefix}/{key}" if key else address.prefix or "/", safe="/~")
        asked = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted((query or {}).items())
        )
        given = {name: value for name, value in headers.items() if value is not None}
        digest = sha256(body).hexdigest() if body else EMPTY_SHA256

        def sign(ts: str) -> Mapping[str, str]:
            known = credentials.from_environment(os.environ)
            signed = {**given, "host": address.host, "x-amz-content-sha256": digest, "x-amz-date": ts}
            if known.token:
                signed["x-amz-security-token"] = known.token
            signed["authorization"] = presign.authorization(
                known, region, "s3", method, path, asked, signed, digest, ts
            )
            return signed

        target = f"{path}?{asked}" if asked else path
        return self._calls.ask(
            operation, method, address.scheme, address.host, target, sign, body, refused or _s3_refused
        )

    def head_object(self, *, Bucket: str, Key: str, ChecksumMode: str | None = None) -> dict[str, Any]:
        return _described(self._ask("HeadObject", "HEAD", Bucket, Key, {"x-amz-checksum-mode": ChecksumMode}))

    def get_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Range: str | None = None,
        IfMatch: str | None = None,
        VersionId: str | None = None,
    ) -> dict[str, Any]:
        query = {"versionId": VersionId} if VersionId else None
        answer = self._ask("GetObject", "GET", Bucket, Key, {"range": Range, "if-match": IfMatch}, query=query)
        return {**_described(answer), "Body": Whole(answer.body)}

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes | bytearray,
        ContentType: str,
        ChecksumAlgorithm: str,
        Metadata: Mapping[str, str],
        IfNoneMatch: str | None = None,
    ) -> dict[str, Any]:
        if ChecksumAlgorithm != "CRC32":
            raise ValueError(f"no checksum {ChecksumAlgorithm} here")
        headers = {"content-type": ContentType, "if-none-match": IfNoneMatch, f"{_PREFIX}crc32": _crc32(Body)}
        return _described(self._ask("PutObject", "PUT", Bucket, Key, {**headers, **_metadata(Metadata)}, body=Body))

    def copy_object(
        self,
        *,
        Bucket: str,
        Key: str,
        CopySource: Mapping[str, str],
        CopySourceIfMatch: str,
        IfNoneMatch: str,
        ChecksumAlgorithm: str,
        MetadataDirective: str,
        TaggingDirective: str,
        ContentType: str,
        Metadata: Mapping[str, str],
    ) -> dict[str, Any]:
        headers = {
            "content-type": ContentType,
            "if-none-match": IfNoneMatch,
            "x-amz-checksum-algorithm": ChecksumAlgorithm,
            "x-amz-copy-source": _source(CopySource),
            "x-amz-copy-source-if-match": CopySourceIfMatch,
            "x-amz-metadata-directive": MetadataDirective,
            "x-amz-tagging-directive": TaggingDirective,
            **_metadata(Metadata),
        }
        answer = self._ask("CopyObject", "PUT", Bucket, Key, headers, refused=_late_refused)
        return {**_described(answer), "CopyObjectResult": _elements(answer.body)}

    def delete_object(self, *, Bucket: str, Key: str, VersionId: str | None = None) -> dict[str, Any]:
        query = {"versionId": VersionId} if VersionId else None
        return _described(self._ask("DeleteObject", "DELETE", Bucket, Key, {}, query=query))

    def list_objects_v2(self, *, Bucket: str, Prefix: str, StartAfter: str, MaxKeys: int) -> dict[str, Any]:
        query = {"list-type": "2", "prefix": Prefix, "start-after": StartAfter, "max-keys": str(MaxKeys)}
        text = self._ask("ListObjectsV2", "GET", Bucket, "", {}, query=query).body.decode("utf-8", "replace")
        truncated = _elements(_CONTENTS.sub("", text).encode()).get("IsTruncated") == "true"
        return {"Contents": _listed(_CONTENTS, text), "IsTruncated": truncated}

    def list_object_versions(self, *, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        query = {"versions": "", "prefix": Prefix, "max-keys": str(MaxKeys)}
        answer = self._ask("ListObjectVersions", "GET", Bucket, "", {}, query=query)
        text = answer.body.decode("utf-8", "replace")
        return {"Versions": _listed(_VERSION, text), "DeleteMarkers": _listed(_MARKER, text)}

    def create_multipart_upload(
        self,
        *,
        Bucket: str,
        Key: str,
        ContentType: str,
        Metadata: Mapping[str, str],
        ChecksumAlgorithm: str | None = None,
        ChecksumType: str | None = None,
    ) -> dict[str, Any]:
        headers = {
            "content-type": ContentType,
            "x-amz-checksum-algorithm": ChecksumAlgorithm,
            "x-amz-checksum-type": ChecksumType,
            **_metadata(Metadata),
        }
        answer = self._ask("CreateMultipartUpload", "POST", Bucket, Key, headers, query={"uploads": ""})
        return {"UploadId": _elements(answer.body)["UploadId"]}

    def upload_part(
        self, *, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes, ChecksumCRC32: str
    ) -> dict[str, Any]:
        query = {"partNumber": str(PartNumber), "uploadId": UploadId}
        headers = {f"{_PREFIX}crc32": ChecksumCRC32}
        return _described(self._ask("UploadPart", "PUT", Bucket, Key, headers, query=query, body=Body))

    def upload_part_copy(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        PartNumber: int,
        CopySource: Mapping[str, str],
        CopySourceIfMatch: str,
        CopySourceRange: str,
    ) -> dict[str, Any]:
        headers = {
            "x-amz-copy-source": _source(CopySource),
            "x-amz-copy-source-if-match": CopySourceIfMatch,
            "x-amz-copy-source-range": CopySourceRange,
        }
        query = {"partNumber": str(PartNumber), "uploadId": UploadId}
        answer = self._ask("UploadPartCopy", "PUT", Bucket, Key, headers, query=query, refused=_late_refused)
        return {"CopyPartResult": _elements(answer.body)}

    def list_parts(
        self, *, Bucket: str, Key: str, UploadId: str, PartNumberMarker: int, MaxParts: int
    ) -> dict[str, Any]:
        query = {"uploadId": UploadId, "part-number-marker": str(PartNumberMarker), "max-parts": str(MaxParts)}
        answer = self._ask("ListParts", "GET", Bucket, Key, {}, query=query)
        text = answer.body.decode("utf-8", "replace")
        said = _elements(_PART.sub("", text).encode())
        parts: list[dict[str, Any]] = [_elements(part.encode()) for part in _PART.findall(text)]
        for part in parts:
            part |= {"PartNumber": int(part["PartNumber"]), "Size": int(part["Size"])}
        return {
            "Parts": parts,
            "IsTruncated": said.get("IsTruncated") == "true",
            "NextPartNumberMarker": int(said.get("NextPartNumberMarker") or 0),
        }

    def complete_multipart_upload(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        MultipartUpload: Mapping[str, Any],
        MpuObjectSize: int,
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
        ChecksumType: str | None = None,
        ChecksumCRC32: str | None = None,
    ) -> dict[str, Any]:
        parts = "".join(
            "<Part>" + "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in part.items()) + "</Part>"
            for part in MultipartUpload["Parts"]
        )
        body = (
            f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{parts}</CompleteMultipartUpload>'  # as in the reference
        ).encode()
        headers = {
            "content-type": "application/xml",
            "if-match": IfMatch,
            "if-none-match": IfNoneMatch,
            "x-amz-mp-object-size": str(MpuObjectSize),
            "x-amz-checksum-type": ChecksumType,
            f"{_PREFIX}crc32": ChecksumCRC32,
        }
        query = {"uploadId": UploadId}
        answer = self._ask(
            "CompleteMultipartUpload", "POST", Bucket, Key, headers, query=query, body=body, refused=_late_refused
        )
        return {**_described(answer), **_elements(answer.body)}

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        return _described(self._ask("AbortMultipartUpload", "DELETE", Bucket, Key, {}, query={"uploadId": UploadId}))

    def delete_objects(self, *, Bucket: str, Delete: Mapping[str, Any]) -> dict[str, Any]:
        keys = "".join(f"<Object><Key>{escape(one['Key'])}</Key></Object>" for one in Delete["Objects"])
        quiet = "<Quiet>true</Quiet>" if Delete.get("Quiet") else ""
        body = f'<Delete xmlns="{_NAMESPACE}">{keys}{quiet}</Delete>'.encode()
        headers = {"content-type": "application/xml", f"{_PREFIX}crc32": _crc32(body)}
        answer = self._ask("DeleteObjects", "POST", Bucket, "", headers, query={"delete": ""}, body=body)
        text = answer.body.decode("utf-8", "replace")
        return {"Errors": [_elements(one.encode()) for one in _ERROR.findall(text)]}


def _elements(body: bytes) -> dict[str, str]:
    """The innermost elements of a document that has each of them once."""
    found = _ELEMENT.findall(body.decode("utf-8", "replace"))
    return {name: unescape(value) for name, value in found}


def _listed(pattern: re.Pattern[str], text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [_elements(one.encode()) for one in pattern.findall(text)]
    for one in found:
        one["LastModified"] = datetime.fromisoformat(one["LastModified"])
        if "Size" in one:
            one["Size"] = int(one["Size"])
    return found


def _source(source: Mapping[str, str]) -> str:
    return quote(f"{source['Bucket']}/{source['Key']}", safe="/-_.~")


def _crc32(body: bytes | bytearray) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"x-amz-meta-{name}": value for name, value in metadata.items()}


def _described(answer: Answer) -> dict[str, Any]:
    """An answer's headers under boto3's names."""
    headers = answer.headers
    found: dict[str, Any] = {
        "ContentLength": int(headers.get("content-length", len(answer.body))),
        "Metadata": {name[11:]: value for name, value in headers.items() if name.startswith("x-amz-meta-")},
        "ResponseMetadata": {"HTTPStatusCode": answer.status, "HTTPHeaders": dict(headers)},
    }
    for name, header in _HEADERS.items():
        if header in headers:
            found[name] = headers[header]
    for name, value in headers.items():
        if name.startswith(_PREFIX):
            kind = name.removeprefix(_PREFIX)
            found["ChecksumType" if kind == "type" else f"Checksum{kind.upper()}"] = value
    return found


def _s3_refused(answer: Answer) -> tuple[str, str] | None:
    if answer.status < 300:
        return None
    said = _elements(answer.body)
    # A HEAD's answer has no body: boto3 shows the status then.
    return said.get("Code", str(answer.status)), said.get("Message", "")


def _late_refused(answer: Answer) -> tuple[str, str] | None:
    """A copy or a completion may fail after its 200 has left ("CopyObject", "CompleteMultipartUpload")."""
    if answer.status == 200 and _RESULT.search(answer.body) is None:
        code, message = _s3_refused(Answer(500, {}, answer.body)) or ("InternalError", "")
        return ("InternalError" if code == "500" else code), message
    return _s3_refused(answer)
