"""Multipart uploads: create, upload a part, complete, abort, list parts.

Complete joins extents and combines part checksums: it reads and writes no object data.
"""

import base64
import hashlib
import itertools
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heavylift_local.s3 import checksums, partlist, tagging
from heavylift_local.s3.body import unsupported_algorithm
from heavylift_local.s3.checksums import COMPOSITE, FULL_OBJECT
from heavylift_local.s3.conditions import check_write, strip_etag, write_condition
from heavylift_local.s3.errors import S3Error, invalid_argument, invalid_request
from heavylift_local.s3.extents import pack
from heavylift_local.s3.headers import check_write_headers, kept_headers, user_metadata
from heavylift_local.s3.objects import (
    XML_BYTES_MAX,
    body_length,
    extents_of,
    part_number,
    require_read_for_match,
)
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import ObjectRecord, PartRecord, Reading, UploadRecord
from heavylift_local.s3.xml import Reader, document, element, timestamp

PART_BYTES_MIN = 5 * 1024**2  # S3: all parts but the last
PARTS_MAX = 10_000
PAGE_MAX = 1000
OBJECT_BYTES_MAX = PARTS_MAX * 5 * 1024**3  # 48.8 TiB

# Lists of 10,000 parts held at once: 5 MB each, so that many clients completing together stay in bounds.
_completing = threading.BoundedSemaphore(4)

_CHECKSUM_FIELDS = {f"Checksum{name}": name for name in (*checksums.DIGEST_BYTES, *checksums.NEWER)}


def create_multipart_upload(service: Service, request: Request) -> Response:
    check_write_headers(request.headers)
    algorithm, kind = declared_checksum(request.headers)
    record = UploadRecord(
        seq=0,
        id=secrets.token_urlsafe(96),
        bucket=request.bucket,
        key=request.key,
        created=int(time.time() * 1000),
        algorithm=algorithm,
        checksum_type=kind,
        headers=kept_headers(request.headers),
        metadata=user_metadata(request.headers),
        initiator=request.caller.name if request.caller else "",
        rewritten=False,
        deleted=False,
        finished=None,
        request=None,
        answer=None,
        tags=tagging.of_header(service, request),
    )
    with service.store.writing() as tx:
        service.bucket(request.bucket)
        tx.add_upload(tx.sequence(), record)
    headers = [("Content-Type", "application/xml"), *service.abortion(service.bucket(request.bucket), record)]
    if algorithm and kind:
        headers += [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)]
    parts = [element("Bucket", record.bucket), element("Key", record.key), element("UploadId", record.id)]
    return Response(headers=headers, body=document("InitiateMultipartUploadResult", parts))


def declared_checksum(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """(algorithm, type) of a CreateMultipartUpload. Raises InvalidRequest for pairs that S3 does not have."""
    name, kind = headers.get("x-amz-checksum-algorithm"), headers.get("x-amz-checksum-type")
    if name is None:
        if kind is not None:
            raise invalid_request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )
        return None, None
    name = name.upper()
    if name not in checksums.DIGEST_BYTES:
        raise unsupported_algorithm()
    if kind is None:
        return name, FULL_OBJECT if name == "CRC64NVME" else COMPOSITE
    kind = kind.upper()
    if kind not in (COMPOSITE, FULL_OBJECT):
        raise invalid_request("Value for x-amz-checksum-type header is invalid.")
    if (kind == COMPOSITE and name == "CRC64NVME") or (kind == FULL_OBJECT and name not in checksums.CRCS):
        raise invalid_request(f"The {kind} checksum type cannot be used with the {name.lower()} checksum algorithm.")
    return name, kind


def open_upload(db: Reading, request: Request) -> UploadRecord:
    """The upload the request names, still open. Raises NoSuchUpload, also for the right id with another key."""
    upload_id = request.query.get("uploadId", "")
    upload = db.upload(upload_id)
    if upload is None or upload.finished or (upload.bucket, upload.key) != (request.bucket, request.key):
        raise S3Error("NoSuchUpload", fields={"UploadId": upload_id})
    return upload


def upload_part(service: Service, request: Request) -> Response:
    number = part_number(request.query["partNumber"])
    with service.store.reading() as db:
        upload = open_upload(db, request)
    body_length(request)
    body = request.body
    assert body is not None
    checks = body.checks()
    also: tuple[str, ...] = ()
    if upload.algorithm:
        also = (upload.algorithm,)
        missing = checks.algorithm is None and upload.checksum_type == COMPOSITE
        if missing or (checks.algorithm is not None and checks.algorithm != upload.algorithm):
            raise checksum_type_mismatch(upload.algorithm, checks.algorithm)
    with service.store.blobs.create() as writer:
        digested = body.take(writer, checks, also)
        writer.close()
        part = PartRecord(
            number=number,
            size=digested.size,
            etag=digested.md5,
            modified=int(time.time() * 1000),
            crc64=digested.crc64,
            checksum=digested.value(upload.algorithm) if upload.algorithm else None,
            extents=pack(extents_of(writer)),
        )
        with service.store.writing() as tx:
            open_upload(tx, request)  # it may have ended while the body came in
            if writer.size:
                tx.add_blob(writer.blob)
            tx.put_part(upload.seq, part)
        if writer.size:
            writer.keep()
    headers = [("ETag", f'"{part.etag}"')]
    shown = checks.algorithm or upload.algorithm or "CRC64NVME"
    headers.append((checksums.HEADER + shown.lower(), digested.value(shown)))
    return Response(headers=headers)


def checksum_type_mismatch(expected: str, actual: str | None) -> S3Error:
    return invalid_request(
        f"Checksum Type mismatch occurred, expected checksum Type: {expected.lower()}, actual checksum Type: "
        f"{actual.lower() if actual else 'null'}"
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """One <Part> of a Complete request."""

    number: int
    etag: str
    checksums: tuple[tuple[str, str], ...]  # (algorithm, base64)


class PartList:
    """Reads <CompleteMultipartUpload> part by part."""

    def __init__(self) -> None:
        self.parts: list[Listed] = []
        self._fields: dict[str, str] = {}

    def leaf(self, path: tuple[str, ...], text: str) -> None:
        if len(path) == 3 and path[1] == "Part":
            self._fields[path[2]] = text.strip()
        elif path not in (("CompleteMultipartUpload",), ("CompleteMultipartUpload", "Part")):
            raise S3Error("MalformedXML")

    def end(self, path: tuple[str, ...]) -> None:
        if len(path) != 2:
            return
        fields = self._fields
        number, etag = fields.pop("PartNumber", ""), fields.pop("ETag", None)
        unknown = set(fields) - set(_CHECKSUM_FIELDS)
        if not number.isascii() or not number.isdigit() or len(number) > 9 or etag is None or unknown:
            raise S3Error("MalformedXML")
        if len(self.parts) >= PARTS_MAX:
            raise S3Error("MalformedXML")
        found = tuple((_CHECKSUM_FIELDS[name], value) for name, value in fields.items())
        self.parts.append(Listed(int(number), strip_etag(etag), found))
        self._fields = {}

    def digest(self) -> bytes:
        """The same list gives the same bytes."""
        running = hashlib.sha256()
        for part in self.parts:
            running.update(repr((part.number, part.etag, part.checksums)).encode())
        return running.digest()


@dataclass(frozen=True, slots=True)
class Assembled:
    size: int
    etag: str
    crc64: str
    algorithm: str
    checksum_type: str
    checksum: str
    parts: bytes
    extents: bytes


def assemble(upload: UploadRecord, listed: Sequence[Listed], parts: Mapping[int, PartRecord]) -> Assembled:
    """What the listed parts make together. Pure. Raises InvalidPartOrder, InvalidPart, InvalidRequest, BadDigest,
    EntityTooSmall, EntityTooLarge."""
    if any(a.number >= b.number for a, b in itertools.pairwise(listed)):
        raise S3Error("InvalidPartOrder", fields={"UploadId": upload.id})
    used: list[PartRecord] = []
    for wanted in listed:
        part = parts.get(wanted.number)
        if part is None or part.etag != wanted.etag:
            raise _invalid_part(upload, wanted)
        _check_part_checksum(upload, wanted, part)
        used.append(part)
    # S3 refuses gaps where a checksum was declared (S3 user guide, "Checking object integrity").
    if upload.algorithm and used[-1].number != len(used):
        raise S3Error("InvalidPartOrder", fields={"UploadId": upload.id})
    for part in used[:-1]:
        if part.size < PART_BYTES_MIN:
            fields = {
                "ETag": part.etag,
                "PartNumber": part.number,
                "MinSizeAllowed": PART_BYTES_MIN,
                "ProposedSize": part.size,
            }
            raise S3Error("EntityTooSmall", fields=fields)
    size = sum(part.size for part in used)
    crc64 = checksums.encode(
        checksums.combine("CRC64NVME", [(base64.b64decode(part.crc64), part.size) for part in used])
    )
    name, kind, digest_bytes = upload.algorithm, upload.checksum_type, 0
    raws: list[bytes] = []
    value = crc64
    if name and kind:
        digest_bytes = checksums.DIGEST_BYTES[name]
        raws = [base64.b64decode(part.checksum or "") for part in used]
        if kind == COMPOSITE:
            value = checksums.composite(name, raws)
        else:
            joined = checksums.combine(name, zip(raws, (part.size for part in used), strict=True))
            value = checksums.encode(joined)
    pieces = [partlist.Piece(part.number, part.size, raws[index] if raws else b"") for index, part in enumerate(used)]
    return Assembled(
        size=size,
        etag=checksums.multipart_etag(part.etag for part in used),
        crc64=crc64,
        algorithm=name or "CRC64NVME",
        checksum_type=kind or FULL_OBJECT,
        checksum=value,
        parts=partlist.pack(pieces, digest_bytes),
        extents=b"".join(part.extents for part in used),
    )


def _invalid_part(upload: UploadRecord, wanted: Listed) -> S3Error:
    return S3Error("InvalidPart", fields={"UploadId": upload.id, "PartNumber": wanted.number, "ETag": wanted.etag})


def _check_part_checksum(upload: UploadRecord, wanted: Listed, part: PartRecord) -> None:
    sent = dict(wanted.checksums)
    if upload.algorithm is None:
        if sent:
            raise _invalid_part(upload, wanted)
        return
    value = sent.pop(upload.algorithm, None)
    if sent:
        other = next(iter(sent)).lower()
        raise S3Error(
            "BadDigest", f"The {other} you specified for part {wanted.number} did not match what we received."
        )
    if value is None:
        if upload.checksum_type == COMPOSITE:
            raise invalid_request(
                f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must "
                f"include the checksum for each part. It was missing for part {wanted.number} in the request."
            )
    elif value != part.checksum:
        raise _invalid_part(upload, wanted)


def check_whole(headers: Mapping[str, str], upload: UploadRecord, made: Assembled) -> None:
    """What the Complete request says of the whole object: size, checksum type, checksum."""
    size = headers.get("x-amz-mp-object-size")
    if size is not None:
        if not size.isascii() or not size.isdigit():
            raise invalid_argument("Value for x-amz-mp-object-size header is invalid.", "x-amz-mp-object-size", size)
        if int(size) != made.size:
            raise invalid_request(
                f"The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: {made.size}"
            )
    kind = headers.get("x-amz-checksum-type")
    if kind is not None and kind.upper() != upload.checksum_type:
        raise invalid_request(
            f"The upload was created using the {upload.checksum_type or 'null'} checksum mode. The complete request "
            "must use the same checksum mode."
        )
    for name in (*checksums.DIGEST_BYTES, *checksums.NEWER):
        value = headers.get(checksums.HEADER + name.lower())
        if value is None:
            continue
        right = name == made.algorithm and value in (made.checksum, made.checksum.partition("-")[0])
        if not right:
            raise S3Error(
                "BadDigest", f"The {made.algorithm.lower()} you specified did not match the calculated checksum."
            )


def complete_multipart_upload(service: Service, request: Request) -> Response:
    condition = write_condition(request.headers)
    require_read_for_match(service, request)
    body = request.body
    assert body is not None
    upload_id = request.query["uploadId"]
    with service.store.reading() as db:  # refused before the list is read
        upload = db.upload(upload_id)
    if upload is None or (upload.bucket, upload.key) != (request.bucket, request.key):
        raise S3Error("NoSuchUpload", fields={"UploadId": upload_id})
    length = body_length(request)
    if length == 0:
        raise invalid_request("You must specify at least one part")
    if length > XML_BYTES_MAX:
        raise S3Error("MalformedXML")
    with _completing:
        listed = PartList()
        reader = Reader("CompleteMultipartUpload", listed.leaf, listed.end)
        body.take(reader, body.checks(of_object=False), plain=True)
        reader.close()
        if not listed.parts:
            raise S3Error("MalformedXML")
        return _commit(service, request, upload_id, listed, condition)


def _commit(
    service: Service, request: Request, upload_id: str, listed: PartList, condition: tuple[str | None, bool]
) -> Response:
    """Check the list against the parts and swap the object in; the same list again gets the same answer."""
    digest = listed.digest()
    with service.store.writing() as tx:
        upload = tx.upload(upload_id)
        if upload is None or (upload.finished and upload.request != digest):
            raise S3Error("NoSuchUpload", fields={"UploadId": upload_id})
        if upload.finished and upload.answer:
            return _completed(json.loads(upload.answer))
        bucket = service.bucket(request.bucket)
        parts = {part.number: part for part in tx.parts(upload.seq)}
        made = assemble(upload, listed.parts, parts)
        check_whole(request.headers, upload, made)
        if condition != (None, False):
            check_write(condition, tx.current(request.bucket, request.key), request.key, upload)
        tx.drop_parts(upload.seq, keep=frozenset(part.number for part in listed.parts))
        record = ObjectRecord(
            bucket=request.bucket,
            key=request.key,
            size=made.size,
            etag=made.etag,
            crc64=made.crc64,
            algorithm=made.algorithm,
            checksum_type=made.checksum_type,
            checksum=made.checksum,
            headers=upload.headers,
            metadata=upload.metadata,
            tags=upload.tags,
            parts=made.parts,
            extents=made.extents,
        )
        record = service.put(tx, request, bucket, record, "CompleteMultipartUpload")
        answer = {
            "xml": [
                ["Location", request.place(record.key)],
                ["Bucket", record.bucket],
                ["Key", record.key],
                ["ETag", f'"{record.etag}"'],
                [f"Checksum{made.algorithm}", made.checksum],
                ["ChecksumType", made.checksum_type],
            ],
            "version": record.version if bucket.versioning == "Enabled" else None,
        }
        tx.finish_upload(upload.seq, digest, json.dumps(answer))
    response = _completed(answer)
    response.headers += service.expiration(bucket, record)
    return response


def _completed(answer: Mapping[str, object]) -> Response:
    headers = [("Content-Type", "application/xml")]
    if answer["version"]:
        headers.append(("x-amz-version-id", str(answer["version"])))
    rows = answer["xml"]
    assert isinstance(rows, list)
    return Response(
        headers=headers,
        body=document("CompleteMultipartUploadResult", [element(name, value) for name, value in rows]),
    )


def abort_multipart_upload(service: Service, request: Request) -> Response:
    with service.store.writing() as tx:
        tx.abort_upload(open_upload(tx, request).seq)
    return Response(204)


def page_number(request: Request, name: str, default: int, highest: int) -> int:
    """A non-negative integer of the query, cut at *highest*. Raises InvalidArgument."""
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > 2**31 - 1:
        message = f"Provided {name} not an integer or within integer range"
        raise invalid_argument(message, name, text)
    return min(int(text), highest)


def list_parts(service: Service, request: Request) -> Response:
    limit = page_number(request, "max-parts", PAGE_MAX, PAGE_MAX)
    marker = page_number(request, "part-number-marker", 0, 2**31 - 1)
    with service.store.reading() as db:
        upload = open_upload(db, request)
        rows = db.parts(upload.seq, marker, limit + 1)
    shown = rows[:limit]
    parts = [
        element("Bucket", upload.bucket),
        element("Key", upload.key),
        element("UploadId", upload.id),
        initiator(service.config.account),
        owner("Owner", service.config.account),
        element("StorageClass", upload.headers.get("x-amz-storage-class", "STANDARD")),
        element("PartNumberMarker", marker),
        element("NextPartNumberMarker", shown[-1].number if shown else 0),
        element("MaxParts", limit),
        element("IsTruncated", len(rows) > limit),
        element("ChecksumAlgorithm", upload.algorithm),
        element("ChecksumType", upload.checksum_type),
    ]
    for part in shown:
        inner = [
            element("PartNumber", part.number),
            element("LastModified", timestamp(part.modified)),
            element("ETag", f'"{part.etag}"'),
            element("Size", part.size),
        ]
        if upload.algorithm:
            inner.append(element(f"Checksum{upload.algorithm}", part.checksum))
        parts.append(f"<Part>{''.join(inner)}</Part>")
    headers = [("Content-Type", "application/xml"), *service.abortion(service.bucket(upload.bucket), upload)]
    return Response(headers=headers, body=document("ListPartsResult", parts))


def owner(name: str, account: str) -> str:
    """Who owns it: S3 names no display names any more (recorded in 2026)."""
    return f"<{name}>{element('ID', account)}</{name}>"


def initiator(account: str) -> str:
    """Who began the upload: here S3 still does."""
    return f"<Initiator>{element('ID', account)}{element('DisplayName', account)}</Initiator>"
