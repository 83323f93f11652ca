"""PutObject, GetObject, HeadObject, DeleteObject, DeleteObjects."""

import re
import threading
from dataclasses import replace

from heavylift_local.s3 import checksums, partlist, tagging, versions
from heavylift_local.s3.blobs import BlobWriter
from heavylift_local.s3.conditions import (
    check_delete,
    check_read,
    check_write,
    http_date,
    range_applies,
    write_condition,
)
from heavylift_local.s3.errors import S3Error, invalid_argument, invalid_request
from heavylift_local.s3.extents import Extent, cut, pack, parse_range, unpack
from heavylift_local.s3.headers import (
    check_write_headers,
    checksum_headers,
    kept_headers,
    object_headers,
    parts_count,
    user_metadata,
    written_version_header,
)
from heavylift_local.s3.request import KEY_BYTES_MAX, Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import NULL, Bucket, ObjectRecord, Reading, Writing
from heavylift_local.s3.xml import Reader, document, element

OBJECT_BYTES_MAX = 5 * 1024**3  # one PUT, one part, one copy
DELETE_KEYS_MAX = 1000
XML_BYTES_MAX = 8 * 1024 * 1024  # 10,000 parts with SHA-256 are about 2 MB; 1,000 keys of escaped characters about 6

# Lists of 1,000 keys held at once: 3 MB each.
_deleting = threading.BoundedSemaphore(8)


def body_length(request: Request) -> int:
    """The payload's length, known before it is read. Raises MissingContentLength, EntityTooLarge."""
    body = request.body
    assert body is not None
    body.open()
    if body.length is None:
        raise S3Error("MissingContentLength")
    if body.length > OBJECT_BYTES_MAX:
        fields = {"ProposedSize": body.length, "MaxSizeAllowed": OBJECT_BYTES_MAX}
        raise S3Error("EntityTooLarge", fields=fields)
    return body.length


def require_read_for_match(service: Service, request: Request) -> None:
    """A write with If-Match tells something about the object, so it needs GetObject too (S3 user guide)."""
    if "if-match" in request.headers:
        service.authorize(request, "s3:GetObject", f"{request.bucket}/{request.key}")


def extents_of(writer: BlobWriter) -> list[Extent]:
    return [Extent(writer.blob, 0, writer.size)] if writer.size else []


def put_object(service: Service, request: Request) -> Response:
    body_length(request)
    body = request.body
    assert body is not None
    check_write_headers(request.headers)
    condition = write_condition(request.headers)
    require_read_for_match(service, request)
    metadata = user_metadata(request.headers)
    tags = tagging.of_header(service, request)
    checks = body.checks()
    bucket = service.bucket(request.bucket)
    if condition != (None, False):  # decided again at commit; here it spares the client the sending
        with service.store.reading() as db:
            check_write(condition, db.current(request.bucket, request.key), request.key)
    with service.store.blobs.create() as writer:
        digested = body.take(writer, checks)
        writer.close()
        record = ObjectRecord(
            bucket=request.bucket,
            key=request.key,
            size=digested.size,
            etag=digested.md5,
            crc64=digested.crc64,
            algorithm=checks.algorithm or "CRC64NVME",
            checksum_type=checksums.FULL_OBJECT,
            checksum=digested.value(checks.algorithm) if checks.algorithm else digested.crc64,
            headers=kept_headers(request.headers),
            metadata=metadata,
            tags=tags,
            extents=pack(extents_of(writer)),
        )
        with service.store.writing() as tx:
            bucket = service.bucket(request.bucket)
            if condition != (None, False):
                check_write(condition, tx.current(request.bucket, request.key), request.key)
            if writer.size:
                tx.add_blob(writer.blob)
            record = service.put(tx, request, bucket, record, "PutObject")
        if writer.size:
            writer.keep()
    return Response(
        headers=[
            ("ETag", f'"{record.etag}"'),
            *checksum_headers(record),
            *written_version_header(bucket, record),
            *service.expiration(bucket, record),
        ]
    )


def find(
    service: Service, request: Request, db: Reading, bucket: Bucket, key: str, version: str | None
) -> ObjectRecord:
    """The object a read or copy names. Raises NoSuchKey, NoSuchVersion, MethodNotAllowed, InvalidArgument; and
    AccessDenied in place of NoSuchKey for who may not list."""
    if version is None:
        record = db.current(bucket.name, key)
        if record is None:
            raise service.absent(request, bucket.name, S3Error("NoSuchKey", fields={"Key": key}))
        if record.marker:
            headers = {"x-amz-delete-marker": "true", "x-amz-version-id": record.version}
            raise service.absent(request, bucket.name, S3Error("NoSuchKey", fields={"Key": key}, headers=headers))
        return record
    check_version(version)
    record = db.version(bucket.name, key, version)
    if record is None:
        error = S3Error("NoSuchVersion", fields={"Key": key, "VersionId": version})
        raise service.absent(request, bucket.name, error)
    if record.marker:
        raise S3Error(
            "MethodNotAllowed",
            fields={"Method": request.method, "ResourceType": "DeleteMarker"},
            headers={
                "x-amz-delete-marker": "true",
                "x-amz-version-id": record.version,
                "Last-Modified": http_date(record.modified),
                "Allow": "DELETE",
            },
        )
    return record


def check_version(version: str) -> None:
    if not versions.is_ours(version):
        raise invalid_argument("Invalid version id specified", "versionId", version)


def get_object(service: Service, request: Request) -> Response:
    return _read(service, request, with_body=True)


def head_object(service: Service, request: Request) -> Response:
    return _read(service, request, with_body=False)


def _read(service: Service, request: Request, *, with_body: bool) -> Response:
    bucket = service.bucket(request.bucket)
    version = request.query.get("versionId")
    action = "s3:GetObject" if version is None else "s3:GetObjectVersion"
    service.authorize(request, action, f"{request.bucket}/{request.key}")
    with service.store.reading() as db:
        record = find(service, request, db, bucket, request.key, version)
    check_read(request.headers, record)
    headers = object_headers(request, bucket, record) + service.expiration(bucket, record)
    wanted_range = request.headers.get("range") if range_applies(request.headers, record) else None
    offset, length, partial = 0, record.size, False
    with_checksum = request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    if "partNumber" in request.query:
        if "range" in request.headers:
            raise invalid_request("Cannot specify both Range header and partNumber query parameter")
        offset, length, digest = part_slice(record, part_number(request.query["partNumber"]))
        partial = True
        count = parts_count(record)
        if count is not None:
            headers.append(("x-amz-mp-parts-count", str(count)))
            if with_checksum and digest and record.algorithm and record.checksum_type:
                name = checksums.HEADER + record.algorithm.lower()
                headers += [(name, checksums.encode(digest)), ("x-amz-checksum-type", record.checksum_type)]
        elif with_checksum:
            headers += checksum_headers(record)
    else:
        found = parse_range(wanted_range, record.size)
        if found is not None:
            (offset, length), partial = found, True
        if with_checksum and length == record.size:
            headers += checksum_headers(record)
    if partial and record.size:
        headers.append(("Content-Range", f"bytes {offset}-{offset + length - 1}/{record.size}"))
    slices = list(cut(unpack(record.extents), offset, length)) if with_body else None
    return Response(206 if partial else 200, headers, slices=slices, length=length)


def part_number(text: str) -> int:
    """1..10,000. Raises InvalidArgument."""
    if re.fullmatch(r"\d{1,5}", text, re.ASCII) and 1 <= int(text) <= 10_000:
        return int(text)
    raise invalid_argument("Part number must be an integer between 1 and 10000, inclusive", "partNumber", text)


def part_slice(record: ObjectRecord, number: int) -> tuple[int, int, bytes]:
    """(offset, size, raw digest) of one part; an object that was put whole has the part 1. Raises InvalidPartNumber."""
    offset = 0
    count = 1
    if record.parts:
        count = 0
        for piece in partlist.unpack(record.parts):
            if piece.number == number:
                return offset, piece.size, piece.digest
            offset += piece.size
            count += 1
    elif number == 1:
        return 0, record.size, b""
    raise S3Error("InvalidPartNumber", fields={"PartNumberRequested": number, "ActualPartCount": count})


def delete_object(service: Service, request: Request) -> Response:
    bucket = service.bucket(request.bucket)
    version = request.query.get("versionId")
    action = "s3:DeleteObject" if version is None else "s3:DeleteObjectVersion"
    service.authorize(request, action, f"{request.bucket}/{request.key}")
    require_read_for_match(service, request)
    if version is not None:
        check_version(version)
    with service.store.writing() as tx:
        current = tx.current(bucket.name, request.key) if "if-match" in request.headers else None
        check_delete(request.headers, current, request.key)
        gone_version, was_marker, made = remove(service, tx, request, bucket, request.key, version)
    headers = []
    if bucket.versioning and gone_version is not None:
        headers.append(("x-amz-version-id", gone_version))
    if was_marker or made:
        headers.append(("x-amz-delete-marker", "true"))
    return Response(204, headers)


def remove(
    service: Service, tx: Writing, request: Request, bucket: Bucket, key: str, version: str | None
) -> tuple[str | None, bool, bool]:
    """(version removed or made, whether the removed one was a delete marker, whether a marker was made)."""
    if version is None and bucket.versioning:
        marker = ObjectRecord(bucket=bucket.name, key=key, size=0, etag="", marker=True)
        stored = tx.put(bucket, marker)
        service.note_deleted(tx, request, bucket, key, stored.version, seq=stored.seq, marker=True)
        return stored.version, False, True
    target = version or NULL
    was_marker = tx.remove(bucket.name, key, target)
    if was_marker is not None:
        service.note_deleted(tx, request, bucket, key, target, seq=tx.sequence(), marker=False)
    return target, bool(was_marker), False


def delete_objects(service: Service, request: Request) -> Response:
    with _deleting:
        return _delete_objects(service, request)


def _delete_objects(service: Service, request: Request) -> Response:
    bucket = service.bucket(request.bucket)
    body = request.body
    assert body is not None
    if body_length(request) > XML_BYTES_MAX:
        raise S3Error("MalformedXML")
    checks = body.checks()
    if checks.md5 is None and checks.algorithm is None:
        raise invalid_request("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    wanted: list[tuple[str, str | None, str | None]] = []
    fields: dict[str, str] = {}
    quiet = False

    def leaf(path: tuple[str, ...], text: str) -> None:
        nonlocal quiet
        if path == ("Delete", "Quiet"):
            quiet = text == "true"
        elif len(path) == 3 and path[1] == "Object":
            if path[2] not in ("Key", "VersionId", "ETag"):
                raise S3Error("NotImplemented", fields={"Parameter": path[2]})
            fields[path[2]] = text
        else:
            raise S3Error("MalformedXML")

    def end(path: tuple[str, ...]) -> None:
        if path == ("Delete", "Object"):
            if not fields.get("Key") or len(wanted) >= DELETE_KEYS_MAX:
                raise S3Error("MalformedXML")
            if len(fields["Key"].encode()) > KEY_BYTES_MAX:
                raise S3Error("KeyTooLongError", fields={"MaxSizeAllowed": KEY_BYTES_MAX})
            wanted.append((fields["Key"], fields.get("VersionId"), fields.get("ETag")))
            fields.clear()

    reader = Reader("Delete", leaf, end)
    body.take(reader, checks, plain=True)
    reader.close()
    if not wanted:
        raise S3Error("MalformedXML")
    parts = []
    for key, version, etag in wanted:
        try:
            action = "s3:DeleteObject" if version is None else "s3:DeleteObjectVersion"
            service.authorize(request, action, f"{bucket.name}/{key}")
            if version is not None and not versions.is_ours(version):
                raise S3Error("NoSuchVersion")  # in a list of deletions, and there alone
            with service.store.writing() as tx:
                if etag is not None:
                    check_delete({"if-match": etag}, tx.current(bucket.name, key), key)
                gone_version, was_marker, made = remove(service, tx, request, bucket, key, version)
        except S3Error as error:
            inner = [element("Key", key), element("VersionId", version), element("Code", error.code)]
            parts.append(f"<Error>{''.join(inner)}{element('Message', error.message)}</Error>")
            continue
        if quiet:
            continue
        inner = [element("Key", key), element("VersionId", version)]
        if was_marker or made:
            inner += [element("DeleteMarker", True), element("DeleteMarkerVersionId", gone_version)]
        parts.append(f"<Deleted>{''.join(inner)}</Deleted>")
    return Response(headers=[("Content-Type", "application/xml")], body=document("DeleteResult", parts))


def adopt(service: Service, request: Request, record: ObjectRecord, path: str) -> ObjectRecord:
    """An object whose single extent is a file that stays where it is, is not read here and never deleted by us."""
    bucket = service.bucket(record.bucket)
    blob = service.store.blobs.number()
    extents = [Extent(blob, 0, record.size)] if record.size else []
    with service.store.writing() as tx:
        if extents:
            tx.add_blob(blob, path)
            service.store.blobs.adopt(blob, path)
        return service.put(tx, request, bucket, replace(record, extents=pack(extents)), "PutObject")
