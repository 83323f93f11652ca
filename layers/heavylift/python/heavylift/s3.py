"""S3: heads, ranged reads, multipart uploads and server-side copies. One of the few modules that touch the world.

Errors: what a retry may mend is TransientError ``aws_unavailable``; the answers that mean something to a caller
have their own names below; anything else is ours and passes through as botocore's ClientError.
"""

from __future__ import annotations

import base64
import random
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws
from heavylift.errors import ContentError, TransientError
from heavylift.limits import MIB

SMALL_OBJECT_MAX = 4 * MIB  # what we read whole are documents of our own: manifests, audit events
READ_TRIES = 4  # of one range; each starts where the broken answer ended
READ_BACKOFF_S = 0.1  # botocore waits by itself where S3 refuses; this is for answers that break off


class NoSuchUpload(Exception):
    """The multipart upload was completed, aborted, or never was."""


class PreconditionFailed(Exception):
    """412: If-Match or If-None-Match did not hold."""


class NoSuchKey(Exception):
    """The object is not there."""


class Refused(Exception):
    """S3 refused a list of parts or a size: ``code`` is S3's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


_REFUSALS = frozenset(
    {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "InvalidRequest", "BadDigest", "MalformedXML"}
)


def _call(operation: str, **arguments: Any) -> Any:
    try:
        return getattr(aws.client("s3"), operation)(**arguments)
    except ClientError as error:
        code = aws.error_code(error)
        if code == "NoSuchUpload":
            raise NoSuchUpload from error
        if code in {"PreconditionFailed", "412"}:
            raise PreconditionFailed from error
        if code in {"NoSuchKey", "404", "NotFound"}:
            raise NoSuchKey from error
        if aws.is_later(error):
            raise aws.later(error, operation) from error
        if code in _REFUSALS:
            raise Refused(code) from error
        raise
    except BotoCoreError as error:
        raise aws.later(error, operation) from error


@dataclass(frozen=True, slots=True)
class Head:
    """What HEAD says of an object; ``checksums`` by S3's names in lower case (``sha256``, ``crc32``, …)."""

    size_bytes: int
    etag: str
    version_id: str | None
    media_type: str
    metadata: Mapping[str, str]
    checksums: Mapping[str, str]
    checksum_type: str | None


def _checksums(answer: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("Checksum").lower(): value
        for name, value in answer.items()
        if name.startswith("Checksum") and name not in {"ChecksumType", "ChecksumAlgorithm"} and value
    }


def head(bucket: str, key: str) -> Head | None:
    """The object's head with its checksums; None when there is no such object."""
    try:
        answer = _call("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except NoSuchKey:
        return None
    return Head(
        answer["ContentLength"],
        answer["ETag"].strip('"'),
        answer.get("VersionId"),
        answer.get("ContentType", "application/octet-stream"),
        answer.get("Metadata", {}),
        _checksums(answer),
        answer.get("ChecksumType"),
    )


def tags(bucket: str, key: str) -> dict[str, str]:
    """The object's tags; none where there is no such object."""
    try:
        answer = _call("get_object_tagging", Bucket=bucket, Key=key)
    except NoSuchKey:
        return {}
    return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}


@dataclass(slots=True)
class Traffic:
    """What was read and written, retries included; safe to share between threads."""

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, requests: int = 0, bytes_in: int = 0, bytes_out: int = 0) -> None:
        with self._lock:
            self.requests += requests
            self.bytes_in += bytes_in
            self.bytes_out += bytes_out


class ObjectSource:
    """Ranged reads of one object, pinned by its ETag (and version): a replaced object is never read on.

    ``read`` may be called from several threads. ContentError ``source_changed`` when the object is another one now
    or is gone, TransientError when S3 does not answer.
    """

    def __init__(self, bucket: str, key: str, size_bytes: int, etag: str, version_id: str | None = None) -> None:
        self.bucket, self.key, self.size_bytes, self.etag, self.version_id = bucket, key, size_bytes, etag, version_id
        self.traffic = Traffic()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from ``offset``; fewer than ``length`` only at the end of the object. Holds ``length`` bytes twice."""
        length = min(length, self.size_bytes - offset)
        if length <= 0:
            return b""
        pieces: list[bytes] = []
        got = 0
        failure: Exception | None = None
        for attempt in range(READ_TRIES):
            if attempt:  # full jitter: what broke one of twelve connections may have broken them all
                time.sleep(random.uniform(0, READ_BACKOFF_S * 2**attempt))
            try:
                piece = self._get(offset + got, length - got)
            except (BotoCoreError, OSError) as error:
                failure = error
                continue
            pieces.append(piece)
            got += len(piece)
            if got >= length:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        raise TransientError(
            "aws_unavailable",
            f"S3 gave {got} of {length} bytes at {offset} in {READ_TRIES} tries.",
            aws_code=type(failure).__name__ if failure else "ShortBody",
        )

    def _get(self, offset: int, length: int) -> bytes:
        extra = {"VersionId": self.version_id} if self.version_id else {}
        self.traffic.add(requests=1)
        try:
            answer = aws.client("s3").get_object(
                Bucket=self.bucket,
                Key=self.key,
                Range=f"bytes={offset}-{offset + length - 1}",
                IfMatch=f'"{self.etag}"',
                **extra,
            )
            body: bytes = answer["Body"].read()
        except ClientError as error:
            code = aws.error_code(error)
            if code in {"PreconditionFailed", "412", "NoSuchKey", "NoSuchVersion", "404"}:
                raise ContentError("source_changed", "The object was replaced or deleted while it was read.") from error
            if aws.is_later(error):
                raise aws.later(error, "get_object") from error
            raise
        self.traffic.add(bytes_in=len(body))
        return body


@dataclass(frozen=True, slots=True)
class First:
    """The first bytes of an object, and what it is: what a HEAD would say beside it."""

    data: bytes
    size_bytes: int
    etag: str


def read_first(bucket: str, key: str, length: int, traffic: Traffic | None = None, *, offset: int = 0) -> First:
    """``length`` bytes of an object that is not empty, in one request, before anything of it is known.

    The answer's own ETag says which object they are of; later reads are pinned by it. NoSuchKey, TransientError.
    """
    failure: Exception | None = None
    for attempt in range(READ_TRIES):
        if attempt:
            time.sleep(random.uniform(0, READ_BACKOFF_S * 2**attempt))
        if traffic:
            traffic.add(requests=1)
        answer = _call("get_object", Bucket=bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
        size_bytes = int(answer["ContentRange"].rpartition("/")[2])
        try:
            body: bytes = answer["Body"].read()
        except (BotoCoreError, OSError) as error:
            failure = error
            continue
        if traffic:
            traffic.add(bytes_in=len(body))
        if len(body) == min(length, size_bytes - offset):
            return First(body, size_bytes, answer["ETag"].strip('"'))
    raise TransientError(
        "aws_unavailable",
        f"S3 did not give {length} bytes at {offset} in {READ_TRIES} tries.",
        aws_code=type(failure).__name__ if failure else "ShortBody",
    )


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part as ListParts shows it; ``sha256`` and ``crc32`` are base64, None when S3 has none."""

    number: int
    size_bytes: int
    etag: str
    sha256: str | None = None
    crc32: str | None = None


def create_multipart(
    bucket: str,
    key: str,
    *,
    checksum: str | None,
    checksum_type: str | None = None,
    media_type: str = "application/octet-stream",
    metadata: Mapping[str, str] | None = None,
) -> str:
    """A new multipart upload's id. ``checksum``: SHA256, CRC32 or None; ``checksum_type``: COMPOSITE or FULL_OBJECT."""
    extra = {"ChecksumAlgorithm": checksum} if checksum else {}
    if checksum_type:
        extra["ChecksumType"] = checksum_type
    answer = _call(
        "create_multipart_upload",
        Bucket=bucket,
        Key=key,
        ContentType=media_type,
        Metadata=dict(metadata or {}),
        **extra,
    )
    upload_id: str = answer["UploadId"]
    return upload_id


def list_parts(bucket: str, key: str, upload_id: str) -> list[PartInfo]:
    """All parts, over all pages (at most ten: 10 000 parts, ~3 MB). NoSuchUpload."""
    parts: list[PartInfo] = []
    marker = 0
    while True:
        answer = _call("list_parts", Bucket=bucket, Key=key, UploadId=upload_id, PartNumberMarker=marker, MaxParts=1000)
        parts.extend(
            PartInfo(
                part["PartNumber"],
                part["Size"],
                part["ETag"].strip('"'),
                part.get("ChecksumSHA256"),
                part.get("ChecksumCRC32"),
            )
            for part in answer.get("Parts", [])
        )
        if not answer.get("IsTruncated"):
            return parts
        marker = int(answer["NextPartNumberMarker"])


def list_part(bucket: str, key: str, upload_id: str, number: int) -> PartInfo | None:
    """One part, asked for by one request. NoSuchUpload."""
    answer = _call("list_parts", Bucket=bucket, Key=key, UploadId=upload_id, PartNumberMarker=number - 1, MaxParts=1)
    for part in answer.get("Parts", []):
        if part["PartNumber"] == number:
            return PartInfo(number, part["Size"], part["ETag"].strip('"'), part.get("ChecksumSHA256"))
    return None


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that S3 says it has made."""

    etag: str
    version_id: str | None
    checksums: Mapping[str, str]


def complete_multipart(
    bucket: str,
    key: str,
    upload_id: str,
    parts: Sequence[PartInfo],
    *,
    size_bytes: int,
    checksum_type: str | None = None,
    checksum_crc32: str | None = None,
    if_match: str | None = None,
) -> Stored:
    """Join the parts if the key is still free, or holds what has the ETag ``if_match``.

    NoSuchUpload, PreconditionFailed, Refused, TransientError.
    """
    listed: list[dict[str, Any]] = []
    for part in parts:
        entry: dict[str, Any] = {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
        if part.sha256:
            entry["ChecksumSHA256"] = part.sha256
        if part.crc32:
            entry["ChecksumCRC32"] = part.crc32
        listed.append(entry)
    extra: dict[str, Any] = {"ChecksumType": checksum_type} if checksum_type else {}
    if checksum_crc32:
        extra["ChecksumCRC32"] = checksum_crc32
    answer = _call(
        "complete_multipart_upload",
        Bucket=bucket,
        Key=key,
        UploadId=upload_id,
        MultipartUpload={"Parts": listed},
        MpuObjectSize=size_bytes,
        **({"IfMatch": f'"{if_match}"'} if if_match else {"IfNoneMatch": "*"}),
        **extra,
    )
    return Stored(answer["ETag"].strip('"'), answer.get("VersionId"), _checksums(answer))


def abort_multipart(bucket: str, key: str, upload_id: str, *, tries: int = 3) -> bool:
    """Abort until ListParts says that nothing is left (a part in flight may outlive the first abort)."""
    for _ in range(tries):
        try:
            _call("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)
        except NoSuchUpload:
            return True
        try:
            list_part(bucket, key, upload_id, 1)
        except NoSuchUpload:
            return True
    return False


def copy_object(
    source_bucket: str,
    source_key: str,
    source_etag: str,
    bucket: str,
    key: str,
    *,
    media_type: str,
    metadata: Mapping[str, str],
) -> Stored:
    """One server-side copy with a CRC-32 of the whole. PreconditionFailed, NoSuchKey (the source), TransientError."""
    answer = _call(
        "copy_object",
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": source_bucket, "Key": source_key},
        CopySourceIfMatch=f'"{source_etag}"',
        IfNoneMatch="*",
        ChecksumAlgorithm="CRC32",
        MetadataDirective="REPLACE",
        # A scanner's tag stays where it was written: copying tags asks for rights that nobody here has.
        TaggingDirective="REPLACE",
        ContentType=media_type,
        Metadata=dict(metadata),
    )
    result = answer["CopyObjectResult"]
    return Stored(result["ETag"].strip('"'), answer.get("VersionId"), _checksums(result))


def copy_part(
    source_bucket: str,
    source_key: str,
    source_etag: str,
    bucket: str,
    key: str,
    upload_id: str,
    number: int,
    offset: int,
    length: int,
) -> PartInfo:
    """One UploadPartCopy. PreconditionFailed (the source is another one), NoSuchKey, NoSuchUpload, TransientError."""
    answer = _call(
        "upload_part_copy",
        Bucket=bucket,
        Key=key,
        UploadId=upload_id,
        PartNumber=number,
        CopySource={"Bucket": source_bucket, "Key": source_key},
        CopySourceIfMatch=f'"{source_etag}"',
        CopySourceRange=f"bytes={offset}-{offset + length - 1}",
    )
    result = answer["CopyPartResult"]
    return PartInfo(number, length, result["ETag"].strip('"'), None, result.get("ChecksumCRC32"))


def put_part(bucket: str, key: str, upload_id: str, number: int, body: bytes) -> PartInfo:
    """A part by hand; S3 refuses it if it arrives changed (Refused). NoSuchUpload, TransientError."""
    check = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    answer = _call(
        "upload_part",
        Bucket=bucket,
        Key=key,
        UploadId=upload_id,
        PartNumber=number,
        Body=body,
        ChecksumCRC32=check,
    )
    return PartInfo(number, len(body), answer["ETag"].strip('"'), None, check)


def put_bytes(
    bucket: str,
    key: str,
    body: bytes | bytearray,
    *,
    media_type: str,
    metadata: Mapping[str, str] | None = None,
    only_new: bool = False,
    sha256: str | None = None,
) -> Stored:
    """One small object, with its SHA-256 (base64) or a CRC-32. PreconditionFailed when ``only_new`` and it exists."""
    extra: dict[str, Any] = {"IfNoneMatch": "*"} if only_new else {}
    extra |= {"ChecksumSHA256": sha256} if sha256 else {"ChecksumAlgorithm": "CRC32"}
    answer = _call(
        "put_object",
        Bucket=bucket,
        Key=key,
        Body=body,
        ContentType=media_type,
        Metadata=dict(metadata or {}),
        **extra,
    )
    return Stored(answer["ETag"].strip('"'), answer.get("VersionId"), _checksums(answer))


def put_file(bucket: str, key: str, file: IO[bytes], *, size_bytes: int, crc32: str, media_type: str) -> Stored:
    """A file on this machine's disk as an object of up to 5 GB. ``crc32``: base64; S3 refuses other bytes (Refused)."""
    file.seek(0)
    answer = _call(
        "put_object",
        Bucket=bucket,
        Key=key,
        Body=file,
        ContentLength=size_bytes,
        ContentType=media_type,
        ChecksumCRC32=crc32,
    )
    return Stored(answer["ETag"].strip('"'), answer.get("VersionId"), _checksums(answer))


def delete(bucket: str, key: str, version_id: str | None = None) -> None:
    """Delete an object, or one version of it for good; what is not there is deleted already."""
    extra = {"VersionId": version_id} if version_id else {}
    _call("delete_object", Bucket=bucket, Key=key, **extra)


def delete_many(bucket: str, keys: Sequence[str]) -> set[str]:
    """Delete up to 1,000 objects in one request; the keys that S3 has not deleted. TransientError."""
    if not keys:
        return set()
    wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    answer = _call("delete_objects", Bucket=bucket, Delete=wanted)
    return {one["Key"] for one in answer.get("Errors", ())}


def read_small(bucket: str, key: str, *, size_max: int = SMALL_OBJECT_MAX) -> bytes | None:
    """A small object of ours, whole; None when it is not there. ValueError above ``size_max`` bytes."""
    try:
        answer = _call("get_object", Bucket=bucket, Key=key)
    except NoSuchKey:
        return None
    try:
        body: bytes = answer["Body"].read(size_max + 1)
    except (BotoCoreError, OSError) as error:
        raise TransientError("aws_unavailable", "S3 broke off the answer.", aws_code=type(error).__name__) from error
    if len(body) > size_max:
        raise ValueError(f"{key} has more than {size_max} bytes")
    return body


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as a listing shows it; ``at``: seconds since 1970 of its last change, or of its upload's beginning."""

    key: str
    at: float
    size_bytes: int = 0
    upload_id: str | None = None
    version_id: str | None = None


def list_objects(bucket: str, prefix: str, *, after: str = "", limit: int = 1_000) -> tuple[list[Listed], str | None]:
    """One page of keys beyond ``after``, and the key to go on behind (None = this was the last page)."""
    answer = _call("list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit)
    page = [Listed(one["Key"], one["LastModified"].timestamp(), one["Size"]) for one in answer.get("Contents", [])]
    return page, page[-1].key if answer.get("IsTruncated") and page else None


def list_uploads(
    bucket: str, prefix: str, *, after: tuple[str, str] | None = None, limit: int = 1_000
) -> tuple[list[Listed], tuple[str, str] | None]:
    """One page of open multipart uploads, and (key, upload id) to go on behind (None = this was the last page)."""
    extra = {"KeyMarker": after[0], "UploadIdMarker": after[1]} if after else {}
    answer = _call("list_multipart_uploads", Bucket=bucket, Prefix=prefix, MaxUploads=limit, **extra)
    page = [
        Listed(one["Key"], one["Initiated"].timestamp(), upload_id=one["UploadId"]) for one in answer.get("Uploads", [])
    ]
    following = (answer["NextKeyMarker"], answer["NextUploadIdMarker"]) if answer.get("IsTruncated") else None
    return page, following


def list_versions(bucket: str, key: str) -> list[Listed]:
    """All versions and delete markers of one key; a file of ours has one of each at most."""
    answer = _call("list_object_versions", Bucket=bucket, Prefix=key, MaxKeys=1_000)
    return [
        Listed(one["Key"], one["LastModified"].timestamp(), one.get("Size", 0), version_id=one["VersionId"])
        for one in (*answer.get("Versions", []), *answer.get("DeleteMarkers", []))
        if one["Key"] == key
    ]


def presigned_get(
    bucket: str,
    key: str,
    expires_s: int,
    *,
    disposition: str | None = None,
    media_type: str | None = None,
    version_id: str | None = None,
    encoding: str | None = None,
) -> str:
    """A GET URL by this function's role; the answer's headers are fixed by the signature.

    ``encoding``: the Content-Encoding to be told.
    """
    parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if disposition:
        parameters["ResponseContentDisposition"] = disposition
    if media_type:
        parameters["ResponseContentType"] = media_type
    if encoding:
        parameters["ResponseContentEncoding"] = encoding
    if version_id:
        parameters["VersionId"] = version_id
    url: str = aws.client("s3").generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_s)
    return url
