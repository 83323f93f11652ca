"""S3 as the builder of archives uses it: members read into buffers, parts written by hand, ranges copied.

One of the few modules that touch the world. Every read and copy of a member is pinned by its version and its ETag; what
is there instead is never taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift import aws, s3
from heavylift.archives import crc
from heavylift.archives.members import Source
from heavylift.errors import TransientError
from heavylift.s3 import PartInfo, Traffic

READ_TRIES = 4  # of one range; each starts where the broken answer ended
READ_CHUNK = 128 * 1024  # what one read holds beside the buffer that it fills


class SourceLost(Exception):
    """The object is gone, another one, shorter, or in a storage class that cannot be read: ``code`` says which."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_CHANGED = frozenset({"PreconditionFailed", "412", "InvalidRange", "416", "InvalidArgument"})
_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound", "MethodNotAllowed", "405"})
_FROZEN = frozenset({"InvalidObjectState", "403 InvalidObjectState"})


def _lost(error: ClientError) -> SourceLost | None:
    code = aws.error_code(error)
    if code in _CHANGED:
        return SourceLost("source_changed", "The file was replaced after the archive was asked for.")
    if code in _MISSING:
        return SourceLost("source_missing", "The file is no longer in the store.")
    if code in _FROZEN:
        return SourceLost("source_frozen", "The file lies in a storage class that cannot be read at once.")
    return None


def _of_source(operation: str, **arguments: Any) -> Any:
    """A call whose refusals are about the source. SourceLost, NoSuchUpload, TransientError."""
    try:
        return getattr(aws.client("s3"), operation)(**arguments)
    except ClientError as error:
        if aws.error_code(error) == "NoSuchUpload":
            raise s3.NoSuchUpload from error
        lost = _lost(error)
        if lost is not None:
            raise lost from error
        if aws.is_later(error):
            raise aws.later(error, operation) from error
        raise
    except BotoCoreError as error:
        raise aws.later(error, operation) from error


def _version(source: Source) -> dict[str, str]:
    return {"VersionId": source.version_id} if source.version_id else {}


def read_into(source: Source, offset: int, view: memoryview, traffic: Traffic) -> None:
    """Fill ``view`` with the bytes from ``offset``; holds 128 KiB beside it. SourceLost, TransientError."""
    got, failure = 0, None
    for _ in range(READ_TRIES):
        traffic.add(requests=1)
        answer = _of_source(
            "get_object",
            Bucket=source.bucket,
            Key=source.key,
            Range=f"bytes={offset + got}-{offset + len(view) - 1}",
            IfMatch=f'"{source.etag}"',
            **_version(source),
        )
        body = answer["Body"]
        try:
            while piece := body.read(min(READ_CHUNK, len(view) - got)):
                view[got : got + len(piece)] = piece
                got += len(piece)
                traffic.add(bytes_in=len(piece))
        except (BotoCoreError, OSError) as error:
            failure = error
        finally:
            body.close()
        if got == len(view):
            return
    raise TransientError(
        "aws_unavailable",
        f"S3 gave {got} of {len(view)} bytes at {offset} in {READ_TRIES} tries.",
        aws_code=type(failure).__name__ if failure else "ShortBody",
    )


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload."""

    bucket: str
    key: str
    upload_id: str


def begin(bucket: str, key: str, traffic: Traffic, media_type: str = "application/octet-stream") -> Upload:
    """A new upload of which S3 will know the CRC-32 of the whole."""
    traffic.add(requests=1)
    upload_id = s3.create_multipart(bucket, key, checksum="CRC32", checksum_type="FULL_OBJECT", media_type=media_type)
    return Upload(bucket, key, upload_id)


def write_part(upload: Upload, number: int, data: mmap | bytes, traffic: Traffic) -> PartInfo:
    """A part by hand, the whole of ``data``; S3 refuses it if it arrives changed. NoSuchUpload, TransientError."""
    check = crc.to_base64(zlib.crc32(data))
    traffic.add(requests=1, bytes_out=len(data))
    try:
        answer = aws.client("s3").upload_part(
            Bucket=upload.bucket,
            Key=upload.key,
            UploadId=upload.upload_id,
            PartNumber=number,
            Body=data,
            ChecksumCRC32=check,
        )
    except ClientError as error:
        code = aws.error_code(error)
        if code == "NoSuchUpload":
            raise s3.NoSuchUpload from error
        if aws.is_later(error) or code in {"BadDigest", "IncompleteBody"}:
            raise aws.later(error, "upload_part") from error
        raise
    except BotoCoreError as error:
        raise aws.later(error, "upload_part") from error
    return PartInfo(number, len(data), answer["ETag"].strip('"'), None, check)


def copy_part(
    source: Source, size_bytes: int, upload: Upload, number: int, offset: int, length: int, traffic: Traffic
) -> PartInfo:
    """A part copied by S3 from ``source``, an object of ``size_bytes``; with its CRC-32 where S3 says it.

    SourceLost, NoSuchUpload, TransientError.
    """
    whole = offset == 0 and length == size_bytes
    extra = {} if whole else {"CopySourceRange": f"bytes={offset}-{offset + length - 1}"}
    traffic.add(requests=1)
    answer = _of_source(
        "upload_part_copy",
        Bucket=upload.bucket,
        Key=upload.key,
        UploadId=upload.upload_id,
        PartNumber=number,
        CopySource={"Bucket": source.bucket, "Key": source.key, **_version(source)},
        CopySourceIfMatch=f'"{source.etag}"',
        **extra,
    )
    result = answer["CopyPartResult"]
    return PartInfo(number, length, result["ETag"].strip('"'), None, result.get("ChecksumCRC32"))


def join(
    upload: Upload,
    parts: list[PartInfo],
    size_bytes: int,
    traffic: Traffic,
    crc32: int | None = None,
    replaces: str | None = None,
) -> s3.Stored:
    """Complete an upload of ours; S3 refuses another size, or another CRC-32 of the whole where one is given.

    ``replaces``: the ETag of what lies at the key; without it the key must be free. NoSuchUpload, PreconditionFailed,
    Refused, TransientError.
    """
    traffic.add(requests=1)
    return s3.complete_multipart(
        upload.bucket,
        upload.key,
        upload.upload_id,
        parts,
        size_bytes=size_bytes,
        checksum_type="FULL_OBJECT",
        checksum_crc32=None if crc32 is None else crc.to_base64(crc32),
        if_match=replaces,
    )


# --- what S3 knows of a CRC-32 ---


def known_crc32(source: Source, size_bytes: int, traffic: Traffic) -> int | None:
    """The CRC-32 of the whole object, from what S3 keeps of it; None when it keeps none. SourceLost, TransientError.

    One HEAD; where the object was uploaded in parts with a CRC-32 each, their list too, by which they are combined.
    """
    traffic.add(requests=1)
    answer = _of_source(
        "head_object",
        Bucket=source.bucket,
        Key=source.key,
        ChecksumMode="ENABLED",
        IfMatch=f'"{source.etag}"',
        **_version(source),
    )
    if answer["ContentLength"] != size_bytes:
        raise SourceLost("source_changed", f"The file has {answer['ContentLength']} bytes, not {size_bytes}.")
    text = answer.get("ChecksumCRC32")
    if not text:
        return None
    if answer.get("ChecksumType") != "COMPOSITE" and "-" not in text:
        return crc.from_base64(text)
    return _combined(source, size_bytes, traffic)


def _combined(source: Source, size_bytes: int, traffic: Traffic) -> int | None:
    total, joined, marker = 0, 0, 0
    while True:
        traffic.add(requests=1)
        answer = _of_source(
            "get_object_attributes",
            Bucket=source.bucket,
            Key=source.key,
            ObjectAttributes=["ETag", "ObjectParts"],
            PartNumberMarker=marker,
            MaxParts=1_000,
            **_version(source),
        )
        if answer["ETag"].strip('"') != source.etag:
            raise SourceLost("source_changed", "The file was replaced after the archive was asked for.")
        listed = answer.get("ObjectParts", {})
        for part in listed.get("Parts", []):
            if "ChecksumCRC32" not in part:
                return None
            joined = crc.combine(joined, crc.from_base64(part["ChecksumCRC32"]), part["Size"])
            total += part["Size"]
        if not listed.get("IsTruncated"):
            return joined if total == size_bytes else None
        marker = int(listed["NextPartNumberMarker"])


# --- nothing left over ---


def open_uploads(bucket: str, prefix: str, traffic: Traffic) -> list[Upload]:
    """Every open upload of a key that begins so."""
    found: list[Upload] = []
    after: tuple[str, str] | None = None
    while True:
        traffic.add(requests=1)
        page, after = s3.list_uploads(bucket, prefix, after=after)
        found += [Upload(bucket, one.key, one.upload_id) for one in page if one.upload_id]
        if after is None:
            return found


def quietly(act: Callable[[], object]) -> None:
    """Tidy up after a failure; what cannot be reached now the sweeper finds."""
    try:
        act()
    except (TransientError, s3.NoSuchUpload, ClientError):
        return
