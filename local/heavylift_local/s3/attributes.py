"""GetObjectAttributes: what is known of an object without reading it."""

from itertools import islice

from heavylift_local.s3 import checksums, partlist
from heavylift_local.s3.conditions import http_date
from heavylift_local.s3.errors import invalid_argument
from heavylift_local.s3.headers import version_header
from heavylift_local.s3.multipart import PAGE_MAX
from heavylift_local.s3.objects import find
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import ObjectRecord
from heavylift_local.s3.xml import document, element

KNOWN = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


def get_object_attributes(service: Service, request: Request) -> Response:
    bucket = service.bucket(request.bucket)
    version = request.query.get("versionId")
    kind = "GetObject" if version is None else "GetObjectVersion"
    for action in (kind, f"{kind}Attributes"):
        service.authorize(request, f"s3:{action}", f"{request.bucket}/{request.key}")
    text = request.headers.get("x-amz-object-attributes", "")
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    if not wanted or not wanted <= KNOWN:
        raise invalid_argument("Invalid attribute name specified.", "x-amz-object-attributes", text)
    limit, marker = _number(request, "x-amz-max-parts", PAGE_MAX), _number(request, "x-amz-part-number-marker", 0)
    with service.store.reading() as db:
        record = find(service, request, db, bucket, request.key, version)
    parts = []
    if "ETag" in wanted:
        parts.append(element("ETag", record.etag))  # without quotes here (recorded)
    if "Checksum" in wanted and record.algorithm and record.checksum:
        value = record.checksum.partition("-")[0]  # without the number of parts here (recorded)
        inner = element(f"Checksum{record.algorithm}", value) + element("ChecksumType", record.checksum_type)
        parts.append(f"<Checksum>{inner}</Checksum>")
    if "ObjectParts" in wanted and record.parts:
        parts.append(_object_parts(record, record.parts, min(limit, PAGE_MAX), marker))
    if "StorageClass" in wanted:
        parts.append(element("StorageClass", record.headers.get("x-amz-storage-class", "STANDARD")))
    if "ObjectSize" in wanted:
        parts.append(element("ObjectSize", record.size))
    headers = [("Content-Type", "application/xml"), ("Last-Modified", http_date(record.modified))]
    return Response(
        headers=headers + version_header(bucket, record), body=document("GetObjectAttributesResponse", parts)
    )


def _object_parts(record: ObjectRecord, packed: bytes, limit: int, marker: int) -> str:
    """A page of parts where each has a checksum of its own (COMPOSITE); else the count alone (recorded)."""
    count = element("PartsCount", partlist.count(packed))
    if record.checksum_type != checksums.COMPOSITE:
        return f"<ObjectParts>{count}</ObjectParts>"
    rows = list(islice((piece for piece in partlist.unpack(packed) if piece.number > marker), limit + 1))
    shown = rows[:limit]
    inner = [
        count,
        element("PartNumberMarker", marker),
        element("NextPartNumberMarker", shown[-1].number if shown else 0),
        element("MaxParts", limit),
        element("IsTruncated", len(rows) > limit),
    ]
    for piece in shown:
        value = element(f"Checksum{record.algorithm}", checksums.encode(piece.digest))
        inner.append(f"<Part>{element('PartNumber', piece.number)}{element('Size', piece.size)}{value}</Part>")
    return f"<ObjectParts>{''.join(inner)}</ObjectParts>"


def _number(request: Request, header: str, default: int) -> int:
    text = request.headers.get(header)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise invalid_argument(f"Provided {header} not an integer or within integer range", header, text)
    return int(text)
