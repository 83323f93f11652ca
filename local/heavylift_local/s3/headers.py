"""Object headers between the wire and the record. No I/O here."""

import base64
from collections.abc import Mapping

from heavylift_local.s3 import partlist
from heavylift_local.s3.checksums import HEADER
from heavylift_local.s3.conditions import http_date
from heavylift_local.s3.errors import S3Error, invalid_argument, not_implemented
from heavylift_local.s3.request import Request
from heavylift_local.s3.store import Bucket, ObjectRecord

METADATA_BYTES_MAX = 2048  # S3: user-defined metadata, names and values together
CONTENT_TYPE_DEFAULT = "binary/octet-stream"
KEPT = ("content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires")
META = "x-amz-meta-"
STORAGE_CLASSES = frozenset(
    {"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"}
)
ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE", "SNOW", "EXPRESS_ONEZONE"})

# x-amz-* headers of requests that write an object.
WRITE_HEADERS = frozenset({META, "x-amz-acl", "x-amz-tagging", "x-amz-storage-class", "x-amz-server-side-encryption"})
CHECKSUM_HEADERS = frozenset(
    HEADER + name
    for name in (
        *("crc32", "crc32c", "crc64nvme", "sha1", "sha256"),
        *("sha512", "md5", "xxhash64", "xxhash3", "xxhash128"),
    )
)


def check_write_headers(headers: Mapping[str, str]) -> None:
    """Storage class, encryption and ACL: what a bucket with default settings takes. Raises S3Error for the rest."""
    acl = headers.get("x-amz-acl")
    if acl is not None and acl not in ("private", "bucket-owner-full-control"):
        raise S3Error("AccessControlListNotSupported")
    encryption = headers.get("x-amz-server-side-encryption")
    if encryption is not None and encryption != "AES256":
        if not encryption.startswith("aws:"):
            message = "The encryption method specified is not supported"
            raise invalid_argument(message, "x-amz-server-side-encryption", encryption)
        raise not_implemented("x-amz-server-side-encryption")
    storage = headers.get("x-amz-storage-class")
    if storage is not None and storage not in STORAGE_CLASSES:
        if storage in ARCHIVE_CLASSES:
            raise not_implemented("x-amz-storage-class")
        raise S3Error("InvalidStorageClass", fields={"StorageClassRequested": storage})


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are stored with an object; aws-chunked is a framing and not kept."""
    kept = {name: headers[name] for name in KEPT if headers.get(name)}
    if "aws-chunked" in kept.get("content-encoding", ""):
        encodings = [e.strip() for e in kept["content-encoding"].split(",") if e.strip() != "aws-chunked"]
        kept["content-encoding"] = ", ".join(encodings)
        if not encodings:
            del kept["content-encoding"]
    storage = headers.get("x-amz-storage-class")
    if storage is not None and storage != "STANDARD":
        kept["x-amz-storage-class"] = storage
    return kept


def user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """x-amz-meta-* without the prefix. Raises MetadataTooLarge."""
    found = {name[len(META) :]: value for name, value in headers.items() if name.startswith(META)}
    size = sum(len(name) + len(value.encode("latin-1", "replace")) for name, value in found.items())
    if size > METADATA_BYTES_MAX:
        raise S3Error("MetadataTooLarge", fields={"Size": size, "MaxSizeAllowed": METADATA_BYTES_MAX})
    return found


def _shown(value: str) -> str:
    """A metadata value as S3 returns it: RFC 2047 where it is not plain ASCII, Q where most of it is, else B."""
    raw = value.encode("latin-1")
    text = raw.decode("utf-8", "replace")
    plain = sum(32 <= ord(c) < 127 or c in "\r\n\t" for c in text)
    if plain == len(text):
        return value
    if plain <= len(text) - plain:
        return f"=?UTF-8?B?{base64.b64encode(raw).decode()}?="
    encoded = "".join("_" if b == 32 else chr(b) if 32 < b < 127 and b not in b"=_?" else f"={b:02X}" for b in raw)
    return f"=?UTF-8?Q?{encoded}?="


def version_header(bucket: Bucket, record: ObjectRecord) -> list[tuple[str, str]]:
    return [("x-amz-version-id", record.version)] if bucket.versioning else []


def written_version_header(bucket: Bucket, record: ObjectRecord) -> list[tuple[str, str]]:
    """Of a write: only while versioning is on. A suspended bucket names the version `null` when read (recorded)."""
    return version_header(bucket, record) if bucket.versioning == "Enabled" else []


def checksum_headers(record: ObjectRecord) -> list[tuple[str, str]]:
    """The object's checksum and its type; CRC64NVME of the whole where none was asked for."""
    if record.algorithm and record.checksum:
        kind = record.checksum_type or "FULL_OBJECT"
        return [(HEADER + record.algorithm.lower(), record.checksum), ("x-amz-checksum-type", kind)]
    if record.crc64:
        return [(HEADER + "crc64nvme", record.crc64), ("x-amz-checksum-type", "FULL_OBJECT")]
    return []


def object_headers(request: Request, bucket: Bucket, record: ObjectRecord) -> list[tuple[str, str]]:
    """What GET and HEAD say of an object, length and range apart."""
    headers = [
        ("Last-Modified", http_date(record.modified)),
        ("ETag", f'"{record.etag}"'),
        ("Accept-Ranges", "bytes"),
    ]
    kept = {"content-type": CONTENT_TYPE_DEFAULT, **record.headers}
    for name in KEPT:
        override = request.query.get("response-" + name)
        if override is not None:
            if any(ord(c) > 255 for c in override):
                message = "Header value cannot be represented using ISO-8859-1."
                raise invalid_argument(message, "response-" + name, override)
            kept[name] = override
    headers += [(name.title() if name != "x-amz-storage-class" else name, value) for name, value in kept.items()]
    headers += [(META + name, _shown(value)) for name, value in record.metadata.items()]
    if record.tags:
        headers.append(("x-amz-tagging-count", str(len(record.tags))))
    headers += version_header(bucket, record)
    return headers


def parts_count(record: ObjectRecord) -> int | None:
    return partlist.count(record.parts) if record.parts else None
