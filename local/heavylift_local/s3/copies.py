"""CopyObject and UploadPartCopy: bytes are shared, never written again; at most one read, to hash.

S3 gives a copy a plain MD5 ETag and a FULL_OBJECT checksum whatever its source was (recorded), so a copy of a
multipart object must be hashed once; what the source's record already knows is not computed again.
"""

import base64
import hashlib
import os
import time
from collections.abc import Iterable
from urllib.parse import unquote

from heavylift_local.s3 import checksums, tagging
from heavylift_local.s3.blobs import Blobs
from heavylift_local.s3.body import unsupported_algorithm
from heavylift_local.s3.conditions import check_copy_source, check_write, write_condition
from heavylift_local.s3.errors import S3Error, invalid_argument, invalid_request
from heavylift_local.s3.extents import Extent, cut, pack, parse_copy_range, unpack
from heavylift_local.s3.headers import check_write_headers, kept_headers, user_metadata, written_version_header
from heavylift_local.s3.multipart import open_upload
from heavylift_local.s3.objects import (
    OBJECT_BYTES_MAX,
    check_version,
    find,
    part_number,
    require_read_for_match,
)
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import Bucket, ObjectRecord, PartRecord
from heavylift_local.s3.xml import document, element, timestamp

HASH_BUFFER_BYTES = 1024 * 1024


def parse_source(text: str) -> tuple[str, str, str | None]:
    """(bucket, key, version) of x-amz-copy-source: `[/]bucket/key[?versionId=v]`, percent-encoded."""
    path, _, query = text.partition("?")
    version = query.removeprefix("versionId=") if query.startswith("versionId=") else None
    bucket, _, key = unquote(path, errors="replace").removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument("Invalid copy source object key", "x-amz-copy-source", "x-amz-copy-source")
    return bucket, key, version


def _source(service: Service, request: Request) -> tuple[Bucket, ObjectRecord]:
    """The object to copy from, allowed and with its conditions met. Call inside `Blobs.reading`."""
    name, key, version = parse_source(request.headers["x-amz-copy-source"])
    bucket = service.bucket(name)
    action = "s3:GetObject" if version is None else "s3:GetObjectVersion"
    service.authorize(request, action, f"{name}/{key}")
    if version is not None:
        check_version(version)
    with service.store.reading() as db:
        try:
            record = find(service, request, db, bucket, key, version)
        except S3Error as error:
            if error.code == "MethodNotAllowed":
                raise invalid_request(
                    "The source of a copy request may not specifically refer to a delete marker by version id."
                ) from None
            error.headers.clear()
            raise
    check_copy_source(request.headers, record)
    return bucket, record


def hash_extents(blobs: Blobs, extents: Iterable[Extent], names: Iterable[str]) -> dict[str, bytes]:
    """Raw digests of the bytes of *extents*, read once; 1 MiB held."""
    hashes = {name: checksums.new(name) for name in names}
    if not hashes:
        return {}
    buffer = memoryview(bytearray(HASH_BUFFER_BYTES))
    for blob, offset, length in extents:
        fd = blobs.open(blob)
        try:
            while length:
                got = os.preadv(fd, [buffer[: min(length, HASH_BUFFER_BYTES)]], offset)
                if got == 0:
                    raise S3Error("InternalError", "A file that holds this object's bytes is shorter than it was.")
                for hash_ in hashes.values():
                    hash_.update(buffer[:got])
                offset += got
                length -= got
        finally:
            os.close(fd)
    return {name: hash_.digest() for name, hash_ in hashes.items()}


def _is_plain_md5(etag: str) -> bool:
    return len(etag) == hashlib.md5(usedforsecurity=False).digest_size * 2


def digests_of(
    blobs: Blobs, record: ObjectRecord, extents: Iterable[Extent], algorithm: str | None, *, whole: bool
) -> dict[str, bytes]:
    """MD5, CRC64NVME and *algorithm* of a slice of *record*; only what its record does not know is read for."""
    known: dict[str, bytes] = {}
    if whole:
        if _is_plain_md5(record.etag):
            known["MD5"] = bytes.fromhex(record.etag)
        if record.crc64:
            known["CRC64NVME"] = base64.b64decode(record.crc64)
        if record.algorithm and record.checksum and record.checksum_type == checksums.FULL_OBJECT:
            known[record.algorithm] = base64.b64decode(record.checksum)
    wanted = {"MD5", "CRC64NVME"} | ({algorithm} if algorithm else set())
    known.update(hash_extents(blobs, extents, sorted(wanted - set(known))))
    return known


def copy_object(service: Service, request: Request) -> Response:
    headers = request.headers
    check_write_headers(headers)
    condition = write_condition(headers)
    require_read_for_match(service, request)
    directive = headers.get("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument("Unknown metadata directive.", "x-amz-metadata-directive", directive)
    tag_directive = headers.get("x-amz-tagging-directive", "COPY")
    if tag_directive not in ("COPY", "REPLACE"):
        raise invalid_argument("Unknown tagging directive.", "x-amz-tagging-directive", tag_directive)
    new_tags = tagging.of_header(service, request) if tag_directive == "REPLACE" else ()
    algorithm = headers.get("x-amz-checksum-algorithm")
    if algorithm is not None:
        algorithm = algorithm.upper()
        if algorithm not in checksums.DIGEST_BYTES:
            raise unsupported_algorithm()
    replaced = user_metadata(headers)
    source_bucket, source = _source(service, request)
    if source.size > OBJECT_BYTES_MAX:
        raise invalid_request(
            f"The specified copy source is larger than the maximum allowable size for a copy source: {OBJECT_BYTES_MAX}"
        )
    if tag_directive == "COPY" and source.tags:  # copying tags is reading and writing them (S3 user guide)
        service.authorize(request, "s3:GetObjectTagging", f"{source.bucket}/{source.key}")
        service.authorize(request, "s3:PutObjectTagging", f"{request.bucket}/{request.key}")
    source_version = parse_source(headers["x-amz-copy-source"])[2]
    changes = {"x-amz-storage-class", "x-amz-server-side-encryption"} & set(headers)
    same = (source.bucket, source.key) == (request.bucket, request.key)
    if same and directive == "COPY" and not changes and source_version is None:
        raise invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
    if condition != (None, False):
        with service.store.reading() as db:
            check_write(condition, db.current(request.bucket, request.key), request.key)
    name = algorithm or source.algorithm or "CRC64NVME"
    extents = list(unpack(source.extents))
    digests = digests_of(service.store.blobs, source, extents, name, whole=True)
    storage = {k: v for k, v in kept_headers(headers).items() if k == "x-amz-storage-class"}
    kept = {k: v for k, v in source.headers.items() if k != "x-amz-storage-class"}
    record = ObjectRecord(
        bucket=request.bucket,
        key=request.key,
        size=source.size,
        etag=digests["MD5"].hex(),
        crc64=checksums.encode(digests["CRC64NVME"]),
        algorithm=name,
        checksum_type=checksums.FULL_OBJECT,
        checksum=checksums.encode(digests[name]),
        headers=kept_headers(headers) if directive == "REPLACE" else kept | storage,
        metadata=replaced if directive == "REPLACE" else source.metadata,
        tags=new_tags if tag_directive == "REPLACE" else source.tags,
        extents=source.extents,
    )
    with service.store.writing() as tx:
        bucket = service.bucket(request.bucket)
        if condition != (None, False):
            check_write(condition, tx.current(request.bucket, request.key), request.key)
        tx.hold(extents)
        record = service.put(tx, request, bucket, record, "CopyObject")
    answer_headers = [("Content-Type", "application/xml"), *written_version_header(bucket, record)]
    answer_headers += service.expiration(bucket, record)
    if source_bucket.versioning:
        answer_headers.append(("x-amz-copy-source-version-id", source.version))
    parts = [
        element("LastModified", timestamp(record.modified)),
        element("ETag", f'"{record.etag}"'),
        element(f"Checksum{name}", record.checksum),
        element("ChecksumType", record.checksum_type),
    ]
    return Response(headers=answer_headers, body=document("CopyObjectResult", parts))


def upload_part_copy(service: Service, request: Request) -> Response:
    number = part_number(request.query["partNumber"])
    with service.store.reading() as db:
        upload = open_upload(db, request)
    source_bucket, source = _source(service, request)
    wanted = request.headers.get("x-amz-copy-source-range")
    offset, length = parse_copy_range(wanted, source.size) if wanted else (0, source.size)
    if length > OBJECT_BYTES_MAX:
        fields = {"ProposedSize": length, "MaxSizeAllowed": OBJECT_BYTES_MAX}
        raise S3Error("EntityTooLarge", fields=fields)
    extents = list(cut(unpack(source.extents), offset, length))
    digests = digests_of(
        service.store.blobs, source, extents, upload.algorithm, whole=(offset, length) == (0, source.size)
    )
    part = PartRecord(
        number=number,
        size=length,
        etag=digests["MD5"].hex(),
        modified=int(time.time() * 1000),
        crc64=checksums.encode(digests["CRC64NVME"]),
        checksum=checksums.encode(digests[upload.algorithm]) if upload.algorithm else None,
        extents=pack(extents),
    )
    with service.store.writing() as tx:
        open_upload(tx, request)
        tx.hold(extents)
        tx.put_part(upload.seq, part)
    headers = [("Content-Type", "application/xml")]
    if source_bucket.versioning:
        headers.append(("x-amz-copy-source-version-id", source.version))
    parts = [element("LastModified", timestamp(part.modified)), element("ETag", f'"{part.etag}"')]
    if upload.algorithm:
        parts.append(element(f"Checksum{upload.algorithm}", part.checksum))
    return Response(headers=headers, body=document("CopyPartResult", parts))
