"""ListObjects (both versions), ListObjectVersions, ListMultipartUploads: pages in the order of UTF-8 bytes.

A page skips over what it rolls up: a common prefix costs one look-up however many keys lie under it.
"""

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from heavylift_local.s3 import versions
from heavylift_local.s3.errors import S3Error, invalid_argument
from heavylift_local.s3.multipart import initiator, owner, page_number
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import Reading
from heavylift_local.s3.xml import document, element, timestamp

PAGE_MAX = 1000
BATCH = 256  # rows fetched at a time while prefixes are rolled up

_LISTED = "key, size, etag, modified, algorithm, checksum_type, json_extract(headers, '$.\"x-amz-storage-class\"')"


def after_prefix(prefix: str) -> str | None:
    """The least key above every key that starts with *prefix*; None when there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None


@dataclass(slots=True)
class Page:
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    truncated: bool = False
    last: str = ""  # the last key or prefix shown

    @property
    def ends_with_prefix(self) -> bool:
        return self.last in self.prefixes[-1:]


def walk(
    fetch: Callable[[str, bool, int], list[tuple[Any, ...]]], prefix: str, delimiter: str, after: str, limit: int
) -> Page:
    """A page of rows (key first) and common prefixes. *fetch(key, inclusive, limit)* gives rows from a key on.

    *after*: rows and prefixes up to and with it were shown; a prefix that *after* lies under was shown too.
    """
    page = Page()
    position, inclusive = (after, False) if after >= prefix else (prefix, True)
    if limit == 0:
        return page
    while True:
        rows = fetch(position, inclusive, BATCH if delimiter else PAGE_MAX + 1)
        jumped = False
        for row in rows:
            key = row[0]
            if not key.startswith(prefix):
                return page
            group = _rolled(key, prefix, delimiter)
            shown = group is not None and after.startswith(group)
            if not shown:
                if len(page.rows) + len(page.prefixes) == limit:
                    page.truncated = True
                    return page
                if group is None:
                    page.rows.append(row)
                else:
                    page.prefixes.append(group)
                page.last = group or key
            position, inclusive = key, False
            if group is not None:
                successor = after_prefix(group)
                if successor is None:
                    return page
                position, inclusive, jumped = successor, True, True
                break
        if not rows:
            return page
        if not jumped and len(rows) < (BATCH if delimiter else PAGE_MAX + 1):
            return page


def rolled_up(rows: Iterable[tuple[Any, ...]], prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """A page of rows that come one by one in order, a key several times maybe, from behind *after* on."""
    page = Page()
    for row in rows:
        key = row[0]
        if not key.startswith(prefix):
            break
        group = _rolled(key, prefix, delimiter)
        if group is not None and (after.startswith(group) or group in page.prefixes[-1:]):
            continue
        if len(page.rows) + len(page.prefixes) >= limit:
            page.truncated = limit > 0
            break
        if group is None:
            page.rows.append(row)
        else:
            page.prefixes.append(group)
        page.last = group or key
    return page


def _rolled(key: str, prefix: str, delimiter: str) -> str | None:
    """The common prefix that *key* is rolled up into, None for none."""
    cut = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: cut + len(delimiter)] if cut >= 0 else None


def _encoder(request: Request) -> tuple[str | None, Callable[[str], str]]:
    kind = request.query.get("encoding-type")
    if kind is None:
        return None, str
    if kind != "url":
        raise invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", kind)
    return kind, lambda text: quote(text, safe="/-_.~*")


def _contents(row: tuple[Any, ...], encode: Callable[[str], str], owned: str) -> str:
    key, size, etag, modified, algorithm, kind, storage = row
    inner = [
        element("Key", encode(key)),
        element("LastModified", timestamp(modified)),
        element("ETag", f'"{etag}"'),
        element("ChecksumAlgorithm", algorithm),
        element("ChecksumType", kind),
        element("Size", size),
        owned,
        element("StorageClass", storage or "STANDARD"),
    ]
    return f"<Contents>{''.join(inner)}</Contents>"


def _prefixes(page: Page, encode: Callable[[str], str]) -> list[str]:
    return [f"<CommonPrefixes>{element('Prefix', encode(p))}</CommonPrefixes>" for p in page.prefixes]


def _current(db: Reading, bucket: str) -> Callable[[str, bool, int], list[tuple[Any, ...]]]:
    def fetch(key: str, inclusive: bool, limit: int) -> list[tuple[Any, ...]]:
        sign = ">=" if inclusive else ">"
        return db.db.execute(
            f"SELECT {_LISTED} FROM objects WHERE bucket=? AND latest=1 AND key{sign}? AND marker=0 "
            "ORDER BY key LIMIT ?",
            (bucket, key, limit),
        ).fetchall()

    return fetch


def _xml(root: str, parts: list[str]) -> Response:
    return Response(headers=[("Content-Type", "application/xml")], body=document(root, parts))


def encode_token(last: str) -> str:
    return "1" + base64.urlsafe_b64encode(last.encode()).decode()


def decode_token(token: str) -> str:
    """Raises InvalidArgument for what `encode_token` did not make."""
    try:
        if not token.startswith("1"):
            raise ValueError(token)
        return base64.b64decode(token[1:], altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            fields={"ArgumentName": "continuation-token"},
        ) from None


def list_objects_v2(service: Service, request: Request) -> Response:
    query = request.query
    kind, encode = _encoder(request)
    limit = page_number(request, "max-keys", PAGE_MAX, PAGE_MAX)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    token, start_after = query.get("continuation-token"), query.get("start-after", "")
    after = decode_token(token) if token is not None else start_after
    with service.store.reading() as db:
        page = walk(_current(db, request.bucket), prefix, delimiter, after, limit)
    owned = owner("Owner", service.config.account) if query.get("fetch-owner") == "true" else ""
    parts = [
        element("Name", request.bucket),
        element("Prefix", encode(prefix)),
        element("ContinuationToken", token),
        element("NextContinuationToken", encode_token(page.last) if page.truncated else None),
        element("StartAfter", encode(start_after) if start_after and token is None else None),
        element("KeyCount", len(page.rows) + len(page.prefixes)),
        element("MaxKeys", limit),
        element("Delimiter", encode(delimiter) if delimiter else None),
        element("EncodingType", kind),
        element("IsTruncated", page.truncated),
    ]
    parts += [_contents(row, encode, owned) for row in page.rows]
    return _xml("ListBucketResult", parts + _prefixes(page, encode))


def list_objects(service: Service, request: Request) -> Response:
    query = request.query
    kind, encode = _encoder(request)
    limit = page_number(request, "max-keys", PAGE_MAX, PAGE_MAX)
    prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", "")
    with service.store.reading() as db:
        page = walk(_current(db, request.bucket), prefix, delimiter, marker, limit)
    parts = [
        element("Name", request.bucket),
        element("Prefix", encode(prefix)),
        element("Marker", encode(marker)),
        # S3 names the next marker only where keys are rolled up; else the last key is it.
        element("NextMarker", encode(page.last) if page.truncated and delimiter else None),
        element("MaxKeys", limit),
        element("Delimiter", encode(delimiter) if delimiter else None),
        element("EncodingType", kind),
        element("IsTruncated", page.truncated),
    ]
    owned = owner("Owner", service.config.account)
    parts += [_contents(row, encode, owned) for row in page.rows]
    return _xml("ListBucketResult", parts + _prefixes(page, encode))


def list_multipart_uploads(service: Service, request: Request) -> Response:
    query = request.query
    kind, encode = _encoder(request)
    limit = page_number(request, "max-uploads", PAGE_MAX, PAGE_MAX)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, id_marker = query.get("key-marker", ""), query.get("upload-id-marker", "")
    with service.store.reading() as db:
        after = (key_marker, 2**63 - 1)
        if key_marker and id_marker:
            row = db.db.execute(
                "SELECT key, seq FROM uploads WHERE id=? AND bucket=? AND key=?",
                (id_marker, request.bucket, key_marker),
            ).fetchone()
            if row is None:
                raise invalid_argument("Invalid uploadId marker", "upload-id-marker", id_marker)
            after = (row[0], row[1])
        elif not key_marker:
            after = ("", -1)
        # Rows come one by one; open uploads of one bucket are few next to its objects.
        rows = db.db.execute(
            "SELECT key, seq, id, created, algorithm, checksum_type, "
            "json_extract(headers, '$.\"x-amz-storage-class\"') FROM uploads "
            "WHERE finished IS NULL AND bucket=? AND (key, seq) > (?, ?) AND key >= ? ORDER BY key, seq",
            (request.bucket, *after, prefix),
        )
        page = rolled_up(rows, prefix, delimiter, key_marker, limit)
    next_id = "" if page.ends_with_prefix or not page.rows else page.rows[-1][2]
    parts = [
        element("Bucket", request.bucket),
        element("KeyMarker", encode(key_marker)),
        element("UploadIdMarker", id_marker if key_marker else ""),
        element("NextKeyMarker", encode(page.last)),
        element("NextUploadIdMarker", next_id),
        element("Prefix", encode(prefix) if prefix else None),
        element("Delimiter", encode(delimiter) if delimiter else None),
        element("EncodingType", kind),
        element("MaxUploads", limit),
        element("IsTruncated", page.truncated),
    ]
    account = service.config.account
    for key, _, upload_id, created, algorithm, checksum_type, storage in page.rows:
        inner = [
            element("Key", encode(key)),
            element("UploadId", upload_id),
            initiator(account),
            owner("Owner", account),
            element("StorageClass", storage or "STANDARD"),
            element("Initiated", timestamp(created)),
            element("ChecksumAlgorithm", algorithm),
            element("ChecksumType", checksum_type),
        ]
        parts.append(f"<Upload>{''.join(inner)}</Upload>")
    return _xml("ListMultipartUploadsResult", parts + _prefixes(page, encode))


def list_object_versions(service: Service, request: Request) -> Response:
    query = request.query
    kind, encode = _encoder(request)
    limit = page_number(request, "max-keys", PAGE_MAX, PAGE_MAX)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if version_marker and not key_marker:
        message = "A version-id marker cannot be specified without a key marker."
        raise invalid_argument(message, "version-id-marker", version_marker)
    with service.store.reading() as db:
        below = 0  # versions of the marker's key older than this sequence number come next
        if version_marker:
            row = db.db.execute(
                "SELECT seq FROM objects WHERE bucket=? AND key=? AND version=?",
                (request.bucket, key_marker, version_marker),
            ).fetchone()
            if row is None and not versions.is_ours(version_marker):
                raise invalid_argument("Invalid version id specified", "version-id-marker", version_marker)
            # Gone since the last page was shown (who empties a bucket deletes page by page): so are those before it.
            below = row[0] if row else 2**63 - 1
        rows = db.db.execute(
            f"SELECT {_LISTED}, version, latest, marker, seq FROM objects "
            "WHERE bucket=? AND (key > ? OR (key = ? AND seq < ?)) AND key >= ? ORDER BY key, seq DESC",
            (request.bucket, key_marker, key_marker, below, prefix),
        )
        page = rolled_up(rows, prefix, delimiter, key_marker, limit)
    parts = [
        element("Name", request.bucket),
        element("Prefix", encode(prefix)),
        element("KeyMarker", encode(key_marker)),
        element("VersionIdMarker", version_marker),
        element("MaxKeys", limit),
        element("Delimiter", encode(delimiter) if delimiter else None),
        element("EncodingType", kind),
        element("IsTruncated", page.truncated),
    ]
    if page.truncated:
        parts.append(element("NextKeyMarker", encode(page.last)))
        parts.append("" if page.ends_with_prefix else element("NextVersionIdMarker", page.rows[-1][7]))
    owned = owner("Owner", service.config.account)
    for key, size, etag, modified, algorithm, checksum_type, storage, version, latest, marker, _ in page.rows:
        inner = [
            element("Key", encode(key)),
            element("VersionId", version),
            element("IsLatest", bool(latest)),
            element("LastModified", timestamp(modified)),
            owned,
        ]
        if marker:
            parts.append(f"<DeleteMarker>{''.join(inner)}</DeleteMarker>")
            continue
        inner += [
            element("ETag", f'"{etag}"'),
            element("ChecksumAlgorithm", algorithm),
            element("ChecksumType", checksum_type),
            element("Size", size),
            element("StorageClass", storage or "STANDARD"),
        ]
        parts.append(f"<Version>{''.join(inner)}</Version>")
    return _xml("ListVersionsResult", parts + _prefixes(page, encode))
