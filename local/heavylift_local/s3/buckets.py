"""Bucket operations: what there is, where, with which rules."""

from heavylift_local.s3.config import BUCKET_NAME
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.multipart import owner
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.xml import document, element, timestamp

XML = ("Content-Type", "application/xml")


def list_buckets(service: Service, request: Request) -> Response:
    prefix = request.query.get("prefix", "")
    rows = [
        f"<Bucket>{element('Name', b.name)}{element('CreationDate', timestamp(b.created))}"
        f"{element('BucketRegion', service.config.region)}</Bucket>"
        for b in service.store.buckets.values()
        if b.name.startswith(prefix)
    ]
    parts = [owner("Owner", service.config.account), f"<Buckets>{''.join(rows)}</Buckets>"]
    return Response(headers=[XML], body=document("ListAllMyBucketsResult", parts))


def head_bucket(service: Service, request: Request) -> Response:
    service.bucket(request.bucket)
    headers = [("x-amz-bucket-region", service.config.region), ("x-amz-access-point-alias", "false"), XML]
    return Response(headers=headers)


def get_bucket_location(service: Service, request: Request) -> Response:
    # S3 names no region for us-east-1.
    region = service.config.region if service.config.region != "us-east-1" else ""
    body = document("LocationConstraint", [region])
    return Response(headers=[XML], body=body)


def get_bucket_cors(service: Service, request: Request) -> Response:
    bucket = service.bucket(request.bucket)
    if not bucket.cors:
        raise S3Error("NoSuchCORSConfiguration", fields={"BucketName": bucket.name})
    parts = []
    for rule in bucket.cors:
        inner = [element("AllowedHeader", h) for h in rule.allowed_headers]
        inner += [element("AllowedMethod", m) for m in rule.allowed_methods]
        inner += [element("AllowedOrigin", o) for o in rule.allowed_origins]
        inner += [element("ExposeHeader", h) for h in rule.expose_headers]
        inner.append(element("MaxAgeSeconds", rule.max_age_seconds))
        parts.append(f"<CORSRule>{''.join(inner)}</CORSRule>")
    return Response(headers=[XML], body=document("CORSConfiguration", parts))


def get_bucket_versioning(service: Service, request: Request) -> Response:
    status = service.bucket(request.bucket).versioning
    return Response(headers=[XML], body=document("VersioningConfiguration", [element("Status", status or None)]))


def create_bucket(service: Service, request: Request) -> Response:
    if not BUCKET_NAME.match(request.bucket):
        raise S3Error("InvalidBucketName", fields={"BucketName": request.bucket})
    if request.content_length or request.headers.get("transfer-encoding"):
        raise S3Error("NotImplemented", "A bucket's configuration in the request is not implemented")
    with service.store.writing() as tx:
        if request.bucket in service.store.buckets:
            raise S3Error("BucketAlreadyOwnedByYou", fields={"BucketName": request.bucket})
        tx.add_bucket(request.bucket)
    return Response(headers=[("Location", f"/{request.bucket}")])


def delete_bucket(service: Service, request: Request) -> Response:
    with service.store.writing() as tx:
        bucket = service.bucket(request.bucket)
        if tx.db.execute("SELECT 1 FROM objects WHERE bucket=? LIMIT 1", (bucket.name,)).fetchone():
            raise S3Error("BucketNotEmpty", fields={"BucketName": bucket.name})
        open_uploads = "SELECT seq FROM uploads WHERE bucket=? AND finished IS NULL"
        for (upload,) in tx.db.execute(open_uploads, (bucket.name,)).fetchall():
            tx.abort_upload(upload)
        tx.drop_bucket(bucket.name)
    return Response(204)
