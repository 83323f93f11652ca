"""S3 in memory, for fault tests: the operations that heavylift uses, as strict as S3 where heavylift relies on it.

Conditions (If-Match, If-None-Match, copy source), SHA-256 composites, full-object CRC-32, MpuObjectSize, part lists,
versions. What S3 would refuse is refused with S3's code; an unknown argument is a TypeError.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
import time
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5, sha256
from typing import IO, Any

from tests.doubles.answers import refusal


def sha256_base64(data: bytes) -> str:
    return base64.b64encode(sha256(data).digest()).decode()


def crc32_base64(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4)).decode()


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)  # S3's listings know whole seconds


@dataclass(slots=True)
class Object:
    body: bytes
    etag: str
    version_id: str | None
    media_type: str
    metadata: dict[str, str]
    checksums: dict[str, str]
    checksum_type: str | None = None
    at: float = 0.0
    marker: bool = False
    announced: bool = False
    part_sums: list[dict[str, Any]] = field(default_factory=list)  # of an object whose parts had a checksum each
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Part:
    body: bytes
    etag: str
    checksums: dict[str, str]


@dataclass(slots=True)
class Upload:
    bucket: str
    key: str
    media_type: str
    metadata: dict[str, str]
    checksum: str | None
    checksum_type: str | None
    at: float = 0.0
    parts: dict[int, Part] = field(default_factory=dict)


class FakeS3:
    """``created`` collects (bucket, key, object) of every new object, for whoever plays EventBridge."""

    def __init__(self, buckets: tuple[str, ...], versioned: tuple[str, ...] = ()) -> None:
        self.buckets: dict[str, dict[str, Object]] = {name: {} for name in buckets}
        self.versioned = set(versioned)
        self.uploads: dict[str, Upload] = {}
        self.created: list[tuple[str, str, Object]] = []
        self.versions_made: dict[tuple[str, str], int] = {}
        self.versions: dict[tuple[str, str], list[Object]] = {}
        self._count = itertools.count(1)

    def _next(self, prefix: str) -> str:
        return f"{prefix}{next(self._count)}"  # one step: threads never share a number

    # --- objects ---
    def _find(self, bucket: str, key: str, operation: str) -> Object:
        found = self.buckets[bucket].get(key)
        if found is None:
            raise refusal("404" if operation == "HeadObject" else "NoSuchKey", 404, operation)
        return found

    def _store(self, bucket: str, key: str, made: Object, *, only_new: bool, operation: str) -> Object:
        if only_new and key in self.buckets[bucket]:
            raise refusal("PreconditionFailed", 412, operation)
        made.version_id = self._next("v") if bucket in self.versioned else None
        made.at = time.time()
        self.buckets[bucket][key] = made
        if bucket in self.versioned:
            self.versions.setdefault((bucket, key), []).append(made)
        self.versions_made[bucket, key] = self.versions_made.get((bucket, key), 0) + 1
        self.created.append((bucket, key, made))
        return made

    def _pinned(self, bucket: str, key: str, version_id: str | None, if_match: str, operation: str) -> Object:
        """The object, if it is the one that is meant."""
        found = self._find(bucket, key, operation)
        if version_id is not None and found.version_id != version_id:
            raise refusal("404" if operation == "HeadObject" else "NoSuchVersion", 404, operation)
        if if_match.strip('"') != found.etag:
            raise refusal("412" if operation == "HeadObject" else "PreconditionFailed", 412, operation)
        return found

    def head_object(
        self,
        *,
        Bucket: str,
        Key: str,
        ChecksumMode: str | None = None,
        IfMatch: str | None = None,
        VersionId: str | None = None,
    ) -> dict[str, Any]:
        found = self._find(Bucket, Key, "HeadObject")
        if IfMatch is not None:
            found = self._pinned(Bucket, Key, VersionId, IfMatch, "HeadObject")
        answer: dict[str, Any] = {
            "ContentLength": len(found.body),
            "ETag": f'"{found.etag}"',
            "ContentType": found.media_type,
            "Metadata": dict(found.metadata),
        }
        if found.version_id:
            answer["VersionId"] = found.version_id
        if ChecksumMode == "ENABLED":
            answer.update(found.checksums)
            if found.checksum_type:
                answer["ChecksumType"] = found.checksum_type
        return answer

    def get_object_attributes(
        self,
        *,
        Bucket: str,
        Key: str,
        ObjectAttributes: list[str],
        PartNumberMarker: int,
        MaxParts: int,
        VersionId: str | None = None,
    ) -> dict[str, Any]:
        found = self._find(Bucket, Key, "GetObjectAttributes")
        shown = [part for part in found.part_sums if part["PartNumber"] > PartNumberMarker][:MaxParts]
        more = bool(shown) and shown[-1] is not found.part_sums[-1]
        parts = {"Parts": shown, "IsTruncated": more, "NextPartNumberMarker": shown[-1]["PartNumber"] if shown else 0}
        return {"ETag": found.etag, "ObjectParts": parts}

    def get_object_tagging(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        found = self._find(Bucket, Key, "GetObjectTagging")
        return {"TagSet": [{"Key": key, "Value": value} for key, value in found.tags.items()]}

    def put_object_tagging(self, *, Bucket: str, Key: str, Tagging: dict[str, Any]) -> dict[str, Any]:
        found = self._find(Bucket, Key, "PutObjectTagging")
        found.tags = {tag["Key"]: tag["Value"] for tag in Tagging["TagSet"]}
        return {}

    def get_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Range: str | None = None,
        IfMatch: str | None = None,
        VersionId: str | None = None,
    ) -> dict[str, Any]:
        found = self._find(Bucket, Key, "GetObject")
        if Range is None:
            assert IfMatch is None, "a condition is for ranges: whole objects are documents of ours"
            return {"Body": io.BytesIO(found.body)}
        first, last = (int(number) for number in Range.removeprefix("bytes=").split("-"))
        if IfMatch is None:
            kept = (Bucket, Key.partition("/")[0]) == ("heavylift-store", "dicom")  # these are never written twice
            assert first == 0 or kept, "a later range without its condition may be of another object"
        else:
            found = self._pinned(Bucket, Key, VersionId, IfMatch, "GetObject")
        if first >= len(found.body):
            raise refusal("InvalidRange", 416, "GetObject")
        data = found.body[first : last + 1]
        place = f"bytes {first}-{first + len(data) - 1}/{len(found.body)}"
        return {"Body": io.BytesIO(data), "ETag": f'"{found.etag}"', "ContentRange": place}

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes | IO[bytes],
        ContentType: str = "binary/octet-stream",
        ContentLength: int | None = None,
        Metadata: dict[str, str] | None = None,
        ChecksumAlgorithm: str | None = None,
        ChecksumSHA256: str | None = None,
        ChecksumCRC32: str | None = None,
        IfNoneMatch: str | None = None,
    ) -> dict[str, Any]:
        if not isinstance(Body, bytes):
            Body = bytes(Body) if isinstance(Body, bytearray) else Body.read()
        if ContentLength is not None and ContentLength != len(Body):
            raise refusal("IncompleteBody", 400, "PutObject")
        checksums = {"ChecksumCRC32": crc32_base64(Body)} if ChecksumAlgorithm == "CRC32" else {}
        if ChecksumCRC32:
            if crc32_base64(Body) != ChecksumCRC32:
                raise refusal("BadDigest", 400, "PutObject")
            checksums["ChecksumCRC32"] = ChecksumCRC32
        if ChecksumSHA256:
            if sha256_base64(Body) != ChecksumSHA256:
                raise refusal("BadDigest", 400, "PutObject")
            checksums["ChecksumSHA256"] = ChecksumSHA256
        made = Object(Body, md5(Body).hexdigest(), None, ContentType, dict(Metadata or {}), checksums, "FULL_OBJECT")
        made = self._store(Bucket, Key, made, only_new=IfNoneMatch == "*", operation="PutObject")
        return {"ETag": f'"{made.etag}"', "VersionId": made.version_id, **checksums}

    def delete_object(self, *, Bucket: str, Key: str, VersionId: str | None = None) -> dict[str, Any]:
        if VersionId is None:
            self.buckets[Bucket].pop(Key, None)
            if Bucket in self.versioned:  # the versions stay, a marker hides them
                marker = Object(b"", "", self._next("v"), "", {}, {}, at=time.time(), marker=True)
                self.versions.setdefault((Bucket, Key), []).append(marker)
            return {}
        assert Bucket in self.versioned
        left = [one for one in self.versions.get((Bucket, Key), []) if one.version_id != VersionId]
        self.versions[Bucket, Key] = left
        if left and not left[-1].marker:
            self.buckets[Bucket][Key] = left[-1]
        else:
            self.buckets[Bucket].pop(Key, None)
        if not left:
            del self.versions[Bucket, Key]
        return {}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        assert Delete["Quiet"] is True
        assert 1 <= len(Delete["Objects"]) <= 1_000
        for one in Delete["Objects"]:
            self.delete_object(Bucket=Bucket, Key=one["Key"])
        return {}

    # --- listings ---
    def list_objects_v2(self, *, Bucket: str, Prefix: str, StartAfter: str, MaxKeys: int) -> dict[str, Any]:
        assert 1 <= MaxKeys <= 1_000
        keys = sorted(key for key in self.buckets[Bucket] if key.startswith(Prefix) and key > StartAfter)
        page = [
            {"Key": key, "LastModified": _when(found.at), "Size": len(found.body), "ETag": f'"{found.etag}"'}
            for key, found in ((key, self.buckets[Bucket][key]) for key in keys[:MaxKeys])
        ]
        answer: dict[str, Any] = {"IsTruncated": len(keys) > MaxKeys}
        return {**answer, "Contents": page} if page else answer

    def list_object_versions(self, *, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        found = [
            (key, one)
            for (bucket, key), versions in sorted(self.versions.items())
            for one in versions
            if bucket == Bucket and key.startswith(Prefix)
        ]
        assert len(found) <= MaxKeys
        shown = [
            (one.marker, {"Key": key, "VersionId": one.version_id, "LastModified": _when(one.at)}) for key, one in found
        ]
        return {
            "Versions": [entry for marker, entry in shown if not marker],
            "DeleteMarkers": [entry for marker, entry in shown if marker],
        }

    def list_multipart_uploads(
        self, *, Bucket: str, Prefix: str, MaxUploads: int, KeyMarker: str = "", UploadIdMarker: str = ""
    ) -> dict[str, Any]:
        found = sorted(
            (upload.key, upload_id)
            for upload_id, upload in self.uploads.items()
            if upload.bucket == Bucket
            and upload.key.startswith(Prefix)
            and (upload.key, upload_id) > (KeyMarker, UploadIdMarker)
        )
        page = found[:MaxUploads]
        answer: dict[str, Any] = {
            "Uploads": [
                {"Key": key, "UploadId": upload_id, "Initiated": _when(self.uploads[upload_id].at)}
                for key, upload_id in page
            ],
            "IsTruncated": len(found) > len(page),
        }
        if answer["IsTruncated"]:
            answer["NextKeyMarker"], answer["NextUploadIdMarker"] = page[-1]
        return answer

    def head_bucket(self, *, Bucket: str) -> dict[str, Any]:
        if Bucket not in self.buckets:
            raise refusal("404", 404, "HeadBucket")
        return {}

    def copy_object(
        self,
        *,
        Bucket: str,
        Key: str,
        CopySource: dict[str, str],
        CopySourceIfMatch: str,
        IfNoneMatch: str,
        ChecksumAlgorithm: str,
        MetadataDirective: str,
        TaggingDirective: str,
        ContentType: str,
        Metadata: dict[str, str],
    ) -> dict[str, Any]:
        assert (IfNoneMatch, ChecksumAlgorithm) == ("*", "CRC32")
        assert MetadataDirective == TaggingDirective == "REPLACE"
        source = self._find(CopySource["Bucket"], CopySource["Key"], "CopyObject")
        if source.etag != CopySourceIfMatch.strip('"'):
            raise refusal("PreconditionFailed", 412, "CopyObject")
        checksums = {"ChecksumCRC32": crc32_base64(source.body)}
        body = source.body
        made = Object(body, md5(body).hexdigest(), None, ContentType, dict(Metadata), checksums, "FULL_OBJECT")
        made = self._store(Bucket, Key, made, only_new=True, operation="CopyObject")
        return {"CopyObjectResult": {"ETag": f'"{made.etag}"', **checksums}, "VersionId": made.version_id}

    # --- multipart uploads ---
    def create_multipart_upload(
        self,
        *,
        Bucket: str,
        Key: str,
        ContentType: str,
        Metadata: dict[str, str],
        ChecksumAlgorithm: str | None = None,
        ChecksumType: str | None = None,
    ) -> dict[str, Any]:
        upload_id = self._next("u")
        self.uploads[upload_id] = Upload(
            Bucket, Key, ContentType, dict(Metadata), ChecksumAlgorithm, ChecksumType, time.time()
        )
        return {"UploadId": upload_id}

    def _upload(self, bucket: str, key: str, upload_id: str, operation: str) -> Upload:
        found = self.uploads.get(upload_id)
        if found is None or (found.bucket, found.key) != (bucket, key):
            raise refusal("NoSuchUpload", 404, operation)
        return found

    def upload_part(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        PartNumber: int,
        Body: bytes,
        ChecksumSHA256: str | None = None,
        ChecksumCRC32: str | None = None,
    ) -> dict[str, Any]:
        upload = self._upload(Bucket, Key, UploadId, "UploadPart")
        checksums: dict[str, str] = {}
        Body = bytes(Body)
        if upload.checksum == "CRC32":
            checksums = {"ChecksumCRC32": crc32_base64(Body)}  # S3 computes it where it is not given
            if ChecksumCRC32 not in {None, checksums["ChecksumCRC32"]}:
                raise refusal("BadDigest", 400, "UploadPart")
        if upload.checksum == "SHA256":
            if ChecksumSHA256 != sha256_base64(Body):
                raise refusal("BadDigest", 400, "UploadPart")
            checksums = {"ChecksumSHA256": ChecksumSHA256}
        upload.parts[PartNumber] = Part(Body, md5(Body).hexdigest(), checksums)
        return {"ETag": f'"{upload.parts[PartNumber].etag}"'}

    def upload_part_copy(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        PartNumber: int,
        CopySource: dict[str, str],
        CopySourceIfMatch: str,
        CopySourceRange: str | None = None,
    ) -> dict[str, Any]:
        upload = self._upload(Bucket, Key, UploadId, "UploadPartCopy")
        version = CopySource.get("VersionId")
        source = self._pinned(CopySource["Bucket"], CopySource["Key"], version, CopySourceIfMatch, "UploadPartCopy")
        span = CopySourceRange or f"bytes=0-{len(source.body) - 1}"
        first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
        if last >= len(source.body):
            raise refusal("InvalidRange", 416, "UploadPartCopy")
        body = source.body[first : last + 1]
        checksums = {"ChecksumCRC32": crc32_base64(body)} if upload.checksum == "CRC32" else {}
        upload.parts[PartNumber] = Part(body, md5(body).hexdigest(), checksums)
        return {"CopyPartResult": {"ETag": f'"{upload.parts[PartNumber].etag}"', **checksums}}

    def list_parts(
        self, *, Bucket: str, Key: str, UploadId: str, PartNumberMarker: int, MaxParts: int
    ) -> dict[str, Any]:
        upload = self._upload(Bucket, Key, UploadId, "ListParts")
        numbers = sorted(number for number in upload.parts if number > PartNumberMarker)
        page = numbers[:MaxParts]
        return {
            "Parts": [
                {
                    "PartNumber": number,
                    "Size": len(upload.parts[number].body),
                    "ETag": f'"{upload.parts[number].etag}"',
                    **upload.parts[number].checksums,
                }
                for number in page
            ],
            "IsTruncated": len(numbers) > len(page),
            "NextPartNumberMarker": page[-1] if page else 0,
        }

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        self._upload(Bucket, Key, UploadId, "AbortMultipartUpload")
        del self.uploads[UploadId]
        return {}

    def complete_multipart_upload(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        MultipartUpload: dict[str, Any],
        MpuObjectSize: int,
        IfNoneMatch: str | None = None,
        IfMatch: str | None = None,
        ChecksumType: str | None = None,
        ChecksumCRC32: str | None = None,
    ) -> dict[str, Any]:
        operation = "CompleteMultipartUpload"
        upload = self._upload(Bucket, Key, UploadId, operation)
        listed = MultipartUpload["Parts"]
        numbers = [entry["PartNumber"] for entry in listed]
        if numbers != sorted(set(numbers)):
            raise refusal("InvalidPartOrder", 400, operation)
        if upload.checksum and numbers != list(range(1, len(numbers) + 1)):
            raise refusal("InvalidRequest", 400, operation)
        bodies = []
        for entry in listed:
            part = upload.parts.get(entry["PartNumber"])
            if part is None or part.etag != entry["ETag"].strip('"'):
                raise refusal("InvalidPart", 400, operation)
            for name, value in part.checksums.items():
                if entry.get(name) != value:
                    raise refusal("InvalidPart" if name in entry else "InvalidRequest", 400, operation)
            bodies.append(part.body)
        body = b"".join(bodies)
        if len(body) != MpuObjectSize:
            raise refusal("InvalidRequest", 400, operation)
        checksums: dict[str, str] = {}
        if upload.checksum == "SHA256":
            assert ChecksumType == "COMPOSITE"
            joined = b"".join(sha256(piece).digest() for piece in bodies)
            checksums = {"ChecksumSHA256": f"{sha256_base64(joined)}-{len(bodies)}"}
        elif upload.checksum == "CRC32":
            assert ChecksumType == upload.checksum_type == "FULL_OBJECT"
            checksums = {"ChecksumCRC32": crc32_base64(body)}
            if ChecksumCRC32 not in {None, checksums["ChecksumCRC32"]}:
                raise refusal("BadDigest", 400, operation)
        etag = f"{md5(b''.join(md5(piece).digest() for piece in bodies)).hexdigest()}-{len(bodies)}"
        made = Object(body, etag, None, upload.media_type, upload.metadata, checksums, upload.checksum_type)
        assert (IfNoneMatch is None) != (IfMatch is None), "what may be replaced is said"
        if IfMatch is not None:
            self._pinned(Bucket, Key, None, IfMatch, operation)
        made = self._store(Bucket, Key, made, only_new=IfNoneMatch == "*", operation=operation)
        del self.uploads[UploadId]
        return {"ETag": f'"{etag}"', "VersionId": made.version_id, **checksums}

    def generate_presigned_url(self, operation: str, *, Params: dict[str, Any], ExpiresIn: int) -> str:
        assert operation == "get_object"
        assert re.fullmatch(r"[A-Za-z0-9/._-]+", Params["Key"]), "a key holds ids and numbers only"
        return f"https://{Params['Bucket']}.example/{Params['Key']}?X-Amz-Expires={ExpiresIn}"
