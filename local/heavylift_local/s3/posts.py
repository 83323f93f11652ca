"""POST Object: an upload from an HTML form, allowed by a signed policy.

The fields are read (20 KB at most), the signature, the policy and the signer's rights checked, and only then the file
is taken in, as a PUT's body is. Its size is counted on the way: a form's length says nothing of its file's.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from heavylift_local.s3 import checksums, postpolicy, tagging
from heavylift_local.s3.auth import authenticate_form
from heavylift_local.s3.body import Checks
from heavylift_local.s3.errors import S3Error, invalid_argument, not_implemented
from heavylift_local.s3.extents import pack
from heavylift_local.s3.forms import Form, FormReader, base_name, boundary_of
from heavylift_local.s3.headers import (
    CHECKSUM_HEADERS,
    KEPT,
    META,
    check_write_headers,
    checksum_headers,
    kept_headers,
    user_metadata,
    written_version_header,
)
from heavylift_local.s3.objects import OBJECT_BYTES_MAX, extents_of
from heavylift_local.s3.request import KEY_BYTES_MAX, Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import ObjectRecord, Tags
from heavylift_local.s3.xml import document, element

# Form fields with a meaning; any other x-amz-* field is answered 501, any other name is S3's to ignore.
KNOWN = CHECKSUM_HEADERS | {
    *("acl", "x-amz-storage-class", "x-amz-server-side-encryption", "x-amz-security-token", "x-amz-signature"),
    *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-checksum-algorithm", "x-amz-sdk-checksum-algorithm"),
}
REASON = "POST Object"


def expand(form: Form) -> dict[str, str]:
    """The fields with `${filename}` filled in, before the policy is asked ("Condition matching", API reference)."""
    if form.filename is None:
        return dict(form.fields)
    name = base_name(form.filename)
    return {field: value.replace("${filename}", name) for field, value in form.fields.items()}


def object_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Form fields as the headers of a PUT. Raises NotImplemented for what is not known."""
    headers: dict[str, str] = {}
    for name, value in fields.items():
        if name.startswith("x-amz-") and name not in KNOWN and not name.startswith(META):
            raise not_implemented(name)
        if name == "acl":
            name = "x-amz-acl"
        if name in KEPT or name == "content-md5" or name.startswith("x-amz-"):
            if "\r" in value or "\n" in value:
                raise invalid_argument("Header value cannot contain line breaks.", name, value)
            headers[name] = value.strip().encode("utf-8").decode("latin-1")
    for name in ("x-amz-sdk-checksum-algorithm", "x-amz-security-token"):
        headers.pop(name, None)
    return headers


def post_object(service: Service, request: Request) -> Response:
    for name in ("if-match", "if-none-match"):
        if name in request.headers:
            raise not_implemented(name)
    boundary = boundary_of(request.headers.get("content-type", ""))
    body = request.body
    assert body is not None
    body.open()
    if body.length is None:
        raise S3Error("MissingContentLength")
    reader = FormReader(body.raw, boundary)
    form = reader.fields()
    fields = expand(form)
    key = fields.get("key")
    if not key:
        raise missing_field("key")
    request.signed = authenticate_form(form.fields, service.callers, service.config.pinned_region, service.now())
    request.caller = request.signed.caller
    policy = postpolicy.parse(form.fields["policy"])
    postpolicy.check(policy, {**fields, "bucket": request.bucket}, service.now())
    if len(key.encode()) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", fields={"MaxSizeAllowed": KEY_BYTES_MAX, "Size": len(key.encode())})
    service.authorize(request, "s3:PutObject", f"{request.bucket}/{key}")
    headers = object_fields(fields)
    check_write_headers(headers)
    metadata = user_metadata(headers)
    tags: Tags = ()
    if fields.get("tagging"):
        service.authorize(request, "s3:PutObjectTagging", f"{request.bucket}/{key}")
        tags = tagging.of_form(fields["tagging"])
    checks = _checks(request, headers)
    counted = postpolicy.Counted(reader, policy.size_min, min(policy.size_max, OBJECT_BYTES_MAX))
    body.narrow(counted)
    with service.store.blobs.create() as writer:
        digested = body.take(writer, checks)
        counted.finish()
        writer.close()
        record = ObjectRecord(
            bucket=request.bucket,
            key=key,
            size=digested.size,
            etag=digested.md5,
            crc64=digested.crc64,
            algorithm=checks.algorithm or "CRC64NVME",
            checksum_type=checksums.FULL_OBJECT,
            checksum=digested.value(checks.algorithm) if checks.algorithm else digested.crc64,
            headers=kept_headers(headers),
            metadata=metadata,
            tags=tags,
            extents=pack(extents_of(writer)),
        )
        with service.store.writing() as tx:
            bucket = service.bucket(request.bucket)
            if writer.size:
                tx.add_blob(writer.blob)
            record = service.put(tx, request, bucket, record, REASON)
        if writer.size:
            writer.keep()
    request.key = key  # for the access log
    answer = [
        ("ETag", f'"{record.etag}"'),
        ("Location", request.place(key)),
        *checksum_headers(record),
        *written_version_header(bucket, record),
        *service.expiration(bucket, record),
    ]
    return _answer(fields, answer, record)


def _checks(request: Request, headers: Mapping[str, str]) -> Checks:
    """What the form says its file is: Content-MD5 and one x-amz-checksum-*, as fields."""
    body = request.body
    assert body is not None
    return body.checks(headers=headers)


def missing_field(name: str) -> S3Error:
    message = (
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
    )
    return invalid_argument(message, name, "")


def _answer(fields: Mapping[str, str], headers: list[tuple[str, str]], record: ObjectRecord) -> Response:
    """303 to where the form says, or 200, 201 with a document, or 204."""
    target = fields.get("success_action_redirect") or fields.get("redirect")
    if target:
        split = urlsplit(target)
        if split.scheme in ("http", "https") and split.netloc and _is_one_line(target):
            query = f"bucket={quote(record.bucket)}&key={quote(record.key, safe='')}&etag=%22{record.etag}%22"
            joined = f"{target}{'&' if split.query else '?'}{query}"
            return Response(303, [(n, v) for n, v in headers if n != "Location"] + [("Location", joined)])
    status = fields.get("success_action_status")
    if status == "201":
        location = next(value for name, value in headers if name == "Location")
        parts = [
            element("Location", location),
            element("Bucket", record.bucket),
            element("Key", record.key),
            element("ETag", f'"{record.etag}"'),
        ]
        return Response(
            201, [("Content-Type", "application/xml"), *headers], document("PostResponse", parts, namespace=False)
        )
    return Response(200 if status == "200" else 204, headers)


def _is_one_line(text: str) -> bool:
    """Nothing that would not be a Location header as it stands."""
    return all(32 < ord(c) <= 126 for c in text)
