"""Which operation a request is: one table, and 501 for everything it does not name. No I/O here."""

from collections.abc import Callable
from dataclasses import dataclass

from heavylift_local.s3 import attributes, bucketconfig, buckets, copies, listing, multipart, objects, objecttags, posts
from heavylift_local.s3.auth import QUERY_NAMES
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.headers import CHECKSUM_HEADERS, KEPT, WRITE_HEADERS
from heavylift_local.s3.request import Request, Response
from heavylift_local.s3.service import Service

Handler = Callable[[Service, Request], Response]

AUTH_PARAMETERS = frozenset(QUERY_NAMES) | {"X-Amz-Security-Token"}
RESPONSE_PARAMETERS = frozenset("response-" + name for name in KEPT)
COPY_SOURCE_HEADERS = frozenset(
    {
        "x-amz-copy-source",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-unmodified-since",
        "x-amz-source-expected-bucket-owner",
    }
)

# Query parameters that make another operation of a request. One of these that has no row below is answered 501.
SUB_RESOURCES = frozenset(
    {
        *("accelerate", "acl", "analytics", "annotation", "attributes", "cors"),
        *("delete", "encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle"),
        *("list-type", "location", "logging", "metadataConfiguration", "metadataTable", "metrics"),
        *("notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock"),
        *("renameObject", "replication", "requestPayment", "restore", "retention", "select"),
        *("session", "tagging", "torrent", "uploadId", "uploads", "versioning"),
        *("versions", "website"),
    }
)


@dataclass(frozen=True, slots=True)
class Operation:
    """*action* is what the caller must be allowed on the bucket or object; None: the handler asks by itself."""

    name: str
    handler: Handler
    action: str | None
    parameters: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()
    needs_bucket: bool = True
    reads: bool = False  # holds on to the files of what it read until it is answered
    takes_body: bool = False


def _operation(
    name: str,
    handler: Handler,
    action: str | None,
    parameters: str = "",
    headers: frozenset[str] = frozenset(),
    *,
    needs_bucket: bool = True,
    reads: bool = False,
    takes_body: bool = False,
) -> Operation:
    known = frozenset(parameters.split()) | AUTH_PARAMETERS
    return Operation(name, handler, action, known, headers, needs_bucket, reads, takes_body)


_READ_HEADERS = frozenset({"x-amz-checksum-mode"})
_READ_PARAMETERS = "versionId partNumber " + " ".join(RESPONSE_PARAMETERS)
_LIST = "prefix delimiter max-keys encoding-type "

# (method, level, sub-resource) -> operation. Level: service, bucket or object.
OPERATIONS: dict[tuple[str, str, str], Operation] = {
    ("GET", "service", ""): _operation(
        "ListBuckets",
        buckets.list_buckets,
        "s3:ListAllMyBuckets",
        "prefix max-buckets continuation-token bucket-region",
        needs_bucket=False,
    ),
    ("PUT", "bucket", ""): _operation(
        "CreateBucket",
        buckets.create_bucket,
        "s3:CreateBucket",
        "",
        CHECKSUM_HEADERS | {"x-amz-acl", "x-amz-object-ownership"},
        needs_bucket=False,
        takes_body=True,
    ),
    ("DELETE", "bucket", ""): _operation("DeleteBucket", buckets.delete_bucket, "s3:DeleteBucket"),
    ("HEAD", "bucket", ""): _operation("HeadBucket", buckets.head_bucket, "s3:ListBucket"),
    ("GET", "bucket", "location"): _operation(
        "GetBucketLocation", buckets.get_bucket_location, "s3:GetBucketLocation", "location"
    ),
    ("GET", "bucket", "cors"): _operation("GetBucketCors", buckets.get_bucket_cors, "s3:GetBucketCORS", "cors"),
    ("GET", "bucket", "versioning"): _operation(
        "GetBucketVersioning", buckets.get_bucket_versioning, "s3:GetBucketVersioning", "versioning"
    ),
    ("PUT", "bucket", "cors"): _operation(
        "PutBucketCors", bucketconfig.put_cors, "s3:PutBucketCORS", "cors", CHECKSUM_HEADERS, takes_body=True
    ),
    ("DELETE", "bucket", "cors"): _operation("DeleteBucketCors", bucketconfig.delete_cors, "s3:PutBucketCORS", "cors"),
    ("PUT", "bucket", "versioning"): _operation(
        "PutBucketVersioning",
        bucketconfig.put_versioning,
        "s3:PutBucketVersioning",
        "versioning",
        CHECKSUM_HEADERS,
        takes_body=True,
    ),
    ("GET", "bucket", "lifecycle"): _operation(
        "GetBucketLifecycleConfiguration",
        bucketconfig.get_lifecycle,
        "s3:GetLifecycleConfiguration",
        "lifecycle",
    ),
    ("PUT", "bucket", "lifecycle"): _operation(
        "PutBucketLifecycleConfiguration",
        bucketconfig.put_lifecycle,
        "s3:PutLifecycleConfiguration",
        "lifecycle",
        CHECKSUM_HEADERS | {"x-amz-transition-default-minimum-object-size"},
        takes_body=True,
    ),
    ("DELETE", "bucket", "lifecycle"): _operation(
        "DeleteBucketLifecycle", bucketconfig.delete_setting, "s3:PutLifecycleConfiguration", "lifecycle"
    ),
    ("GET", "bucket", "policy"): _operation("GetBucketPolicy", bucketconfig.get_policy, "s3:GetBucketPolicy", "policy"),
    ("GET", "bucket", "policyStatus"): _operation(
        "GetBucketPolicyStatus", bucketconfig.get_policy_status, "s3:GetBucketPolicyStatus", "policyStatus"
    ),
    ("PUT", "bucket", "policy"): _operation(
        "PutBucketPolicy",
        bucketconfig.put_policy,
        "s3:PutBucketPolicy",
        "policy",
        CHECKSUM_HEADERS | {"x-amz-confirm-remove-self-bucket-access"},
        takes_body=True,
    ),
    ("DELETE", "bucket", "policy"): _operation(
        "DeleteBucketPolicy", bucketconfig.delete_setting, "s3:DeleteBucketPolicy", "policy"
    ),
    ("GET", "bucket", "tagging"): _operation(
        "GetBucketTagging", bucketconfig.get_tagging, "s3:GetBucketTagging", "tagging"
    ),
    ("PUT", "bucket", "tagging"): _operation(
        "PutBucketTagging",
        bucketconfig.put_tagging,
        "s3:PutBucketTagging",
        "tagging",
        CHECKSUM_HEADERS,
        takes_body=True,
    ),
    ("DELETE", "bucket", "tagging"): _operation(
        "DeleteBucketTagging", bucketconfig.delete_setting, "s3:PutBucketTagging", "tagging"
    ),
    ("GET", "bucket", ""): _operation("ListObjects", listing.list_objects, "s3:ListBucket", _LIST + "marker"),
    ("GET", "bucket", "list-type"): _operation(
        "ListObjectsV2",
        listing.list_objects_v2,
        "s3:ListBucket",
        _LIST + "list-type continuation-token start-after fetch-owner",
    ),
    ("GET", "bucket", "versions"): _operation(
        "ListObjectVersions",
        listing.list_object_versions,
        "s3:ListBucketVersions",
        _LIST + "versions key-marker version-id-marker",
    ),
    ("GET", "bucket", "uploads"): _operation(
        "ListMultipartUploads",
        listing.list_multipart_uploads,
        "s3:ListBucketMultipartUploads",
        "uploads prefix delimiter encoding-type max-uploads key-marker upload-id-marker",
    ),
    ("POST", "bucket", "delete"): _operation(
        "DeleteObjects",
        objects.delete_objects,
        None,
        "delete",
        # S3 refuses this one where nothing can be locked; conformance suites send it whenever they clean up.
        CHECKSUM_HEADERS | {"x-amz-bypass-governance-retention"},
        takes_body=True,
    ),
    ("PUT", "object", ""): _operation(
        "PutObject", objects.put_object, "s3:PutObject", "", WRITE_HEADERS | CHECKSUM_HEADERS, takes_body=True
    ),
    ("PUT", "object", "copy"): _operation(
        "CopyObject",
        copies.copy_object,
        "s3:PutObject",
        "",
        WRITE_HEADERS
        | COPY_SOURCE_HEADERS
        | {"x-amz-metadata-directive", "x-amz-tagging-directive", "x-amz-checksum-algorithm"},
        reads=True,
    ),
    ("GET", "object", ""): _operation(
        "GetObject", objects.get_object, None, _READ_PARAMETERS, _READ_HEADERS, reads=True
    ),
    ("HEAD", "object", ""): _operation("HeadObject", objects.head_object, None, _READ_PARAMETERS, _READ_HEADERS),
    ("GET", "object", "attributes"): _operation(
        "GetObjectAttributes",
        attributes.get_object_attributes,
        None,
        "attributes versionId",
        frozenset({"x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker"}),
    ),
    ("PUT", "object", "tagging"): _operation(
        "PutObjectTagging", objecttags.put, None, "tagging versionId", CHECKSUM_HEADERS, takes_body=True
    ),
    ("GET", "object", "tagging"): _operation("GetObjectTagging", objecttags.get, None, "tagging versionId"),
    ("DELETE", "object", "tagging"): _operation("DeleteObjectTagging", objecttags.delete, None, "tagging versionId"),
    ("DELETE", "object", ""): _operation("DeleteObject", objects.delete_object, None, "versionId"),
    ("POST", "object", "uploads"): _operation(
        "CreateMultipartUpload",
        multipart.create_multipart_upload,
        "s3:PutObject",
        "uploads",
        WRITE_HEADERS | {"x-amz-checksum-algorithm", "x-amz-checksum-type"},
    ),
    ("PUT", "object", "uploadId"): _operation(
        "UploadPart",
        multipart.upload_part,
        "s3:PutObject",
        "uploadId partNumber",
        CHECKSUM_HEADERS,
        takes_body=True,
    ),
    ("PUT", "object", "uploadId copy"): _operation(
        "UploadPartCopy",
        copies.upload_part_copy,
        "s3:PutObject",
        "uploadId partNumber",
        COPY_SOURCE_HEADERS | {"x-amz-copy-source-range"},
        reads=True,
    ),
    ("POST", "object", "uploadId"): _operation(
        "CompleteMultipartUpload",
        multipart.complete_multipart_upload,
        "s3:PutObject",
        "uploadId",
        CHECKSUM_HEADERS | {"x-amz-checksum-type", "x-amz-mp-object-size"},
        takes_body=True,
    ),
    ("DELETE", "object", "uploadId"): _operation(
        "AbortMultipartUpload", multipart.abort_multipart_upload, "s3:AbortMultipartUpload", "uploadId"
    ),
    ("GET", "object", "uploadId"): _operation(
        "ListParts",
        multipart.list_parts,
        "s3:ListMultipartUploadParts",
        "uploadId max-parts part-number-marker",
    ),
}


POST_OBJECT = _operation("PostObject", posts.post_object, None, "", takes_body=True)


def level(request: Request) -> str:
    if not request.bucket:
        return "service"
    return "object" if request.key else "bucket"


def operation_of(request: Request) -> Operation:
    """Raises NotImplemented (501) or MethodNotAllowed (405)."""
    where = level(request)
    found = [name for name in request.query if name in SUB_RESOURCES]
    sub = found[0] if found else ""
    if len(found) > 1:
        raise _unknown(found[1])
    if where == "object" and request.method == "PUT" and sub in ("", "uploadId"):
        if ("partNumber" in request.query) != (sub == "uploadId"):
            raise S3Error(
                "InvalidRequest",
                "This operation does not accept a query-string.",
            )
        if "x-amz-copy-source" in request.headers:
            sub = f"{sub} copy".strip()
    operation = OPERATIONS.get((request.method, where, sub))
    if operation is not None:
        if sub == "list-type" and request.query["list-type"] != "2":
            raise S3Error("InvalidArgument", "Invalid List Type specified in Request")
        return operation
    if sub:
        raise _unknown(sub)
    fields = {"Method": request.method, "ResourceType": where.upper()}
    raise S3Error("MethodNotAllowed", fields=fields)


def form_operation(request: Request) -> Operation | None:
    """PostObject where the request is one: a POST to a bucket without a sub-resource."""
    if request.method != "POST" or level(request) != "bucket" or any(n in SUB_RESOURCES for n in request.query):
        return None
    return POST_OBJECT


def _unknown(parameter: str) -> S3Error:
    message = "A parameter you provided implies functionality that is not implemented"
    return S3Error("NotImplemented", message, fields={"Parameter": parameter})
