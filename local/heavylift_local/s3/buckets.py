"""Bucket operations: what there is, where, with which rules."""

from heavylift_local.s3.config import BUCKET_NAME
from heavylift_local.s3.errors import S3Error, invalid_argument, not_implemented
from heavylift_local.s3.listing import decode_token, encode_token
from heavylift_local.s3.multipart import owner, page_number
from heavylift_local.s3.objects import body_length
from heavylift_local.s3.policy import ARN
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service
from heavylift_local.s3.xml import Reader, document, element, timestamp

XML = ("Content-Type", "application/xml")
PAGE_MAX = 10_000  # S3: buckets on one page
OWNED = "BucketOwnerEnforced"  # what S3 gives a new bucket since 2023: no ACLs
LOCATION_BYTES_MAX = 64 * 1024  # a CreateBucketConfiguration is a few hundred bytes
# AWS's regions as of 2026, "EU" being the old name of eu-west-1.
REGIONS = frozenset(
    {
        *("af-south-1", "ca-central-1", "ca-west-1", "il-central-1", "me-central-1", "me-south-1", "mx-central-1"),
        *("ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2"),
        *("ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6"),
        *("ap-southeast-7", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1"),
        *("eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2", "EU"),
    }
)


def list_buckets(service: Service, request: Request) -> Response:
    query = request.query
    prefix, region = query.get("prefix"), query.get("bucket-region")
    if region is not None and region not in REGIONS:
        raise invalid_argument(f"Argument value {region} is not a valid AWS Region", "bucket-region", region)
    limit = page_number(request, "max-buckets", PAGE_MAX, PAGE_MAX)
    if limit == 0:
        raise invalid_argument("Argument max-buckets must be an integer between 1 and 10000", "max-buckets", "0")
    token = query.get("continuation-token")
    after = decode_token(token) if token else ""
    wanted = sorted(
        (b for b in service.store.buckets.values() if b.name > after and b.name.startswith(prefix or "")),
        key=lambda b: b.name,
    )
    if region is not None and region != service.config.region:
        wanted = []
    shown = wanted[:limit]
    rows = [
        f"<Bucket>{element('Name', b.name)}{element('CreationDate', timestamp(b.created))}"
        f"{element('BucketRegion', service.config.region)}{element('BucketArn', ARN + b.name)}</Bucket>"
        for b in shown
    ]
    parts = [
        owner("Owner", service.config.account),
        f"<Buckets>{''.join(rows)}</Buckets>",
        element("Prefix", prefix),
        element("ContinuationToken", encode_token(shown[-1].name) if len(wanted) > limit else None),
    ]
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
    region = service.config.region
    if request.headers.get("x-amz-object-ownership", OWNED) != OWNED:
        raise not_implemented("x-amz-object-ownership")
    if request.headers.get("x-amz-acl", "private") != "private":
        message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
        raise S3Error("InvalidBucketAclWithObjectOwnership", message, status=400)
    _check_location(_location(request), region)
    with service.store.writing() as tx:
        # S3 takes it for done in us-east-1, and only there (recorded).
        if request.bucket not in service.store.buckets:
            tx.add_bucket(request.bucket)
        elif region != "us-east-1":
            raise S3Error("BucketAlreadyOwnedByYou", fields={"BucketName": request.bucket})
    return Response(headers=[("Location", f"/{request.bucket}"), ("x-amz-bucket-arn", ARN + request.bucket)])


def _location(request: Request) -> str | None:
    """The region a CreateBucketConfiguration asks for. Raises NotImplemented for what else it can hold."""
    body = request.body
    assert body is not None
    if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
        return None  # nothing said, nothing sent
    if not body_length(request):
        return None
    if (body.length or 0) > LOCATION_BYTES_MAX:
        raise S3Error("MalformedXML")
    found: list[str] = []

    def leaf(path: tuple[str, ...], text: str) -> None:
        if path == ("CreateBucketConfiguration", "LocationConstraint"):
            found.append(text)
        elif path != ("CreateBucketConfiguration",):
            raise S3Error("NotImplemented", fields={"Parameter": path[1]})

    reader = Reader("CreateBucketConfiguration", leaf)
    body.take(reader, body.checks(), plain=True)
    reader.close()
    return found[0] if found else None


def _check_location(wanted: str | None, region: str) -> None:
    """There is one region here. us-east-1 is the one that must not be named (recorded)."""
    if (
        wanted == region != "us-east-1"
        or (wanted == "EU" and region == "eu-west-1")
        or (wanted is None and region == "us-east-1")
    ):
        return
    if region == "us-east-1" and (wanted == "us-east-1" or wanted not in REGIONS):
        fields = {"LocationConstraint": wanted}
        message = "The specified location-constraint is not valid"
        raise S3Error("InvalidLocationConstraint", message, status=400, fields=fields)
    raise S3Error(
        "IllegalLocationConstraintException",
        f"The {wanted or 'unspecified'} location constraint is incompatible for the region specific endpoint this "
        "request was sent to.",
        status=400,
    )


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
