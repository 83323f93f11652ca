"""The one description of the system: what exists, who may call what, and with which limits.

Plain data; imports nothing heavy. The local stack runs it as it stands and the CDK app makes
CloudFormation of it, so the two cannot drift apart.

Names here are logical ("staging", "validate"): each realisation gives them its physical names. An
environment value may hold ``{bucket:NAME}``, ``{table}``, ``{queue:NAME}`` (a queue's URL; ``NAME-dlq`` is that of
its dead letters) or ``{bus}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from infra.model import (
    Allow,
    Bucket,
    Function,
    Index,
    KeyClass,
    Queue,
    Route,
    Rule,
    ScanRule,
    Source,
    Table,
)

READ, WRITE, ADMIN = "heavylift/read", "heavylift/write", "heavylift/admin"
SCOPES = (READ, WRITE, ADMIN)

# What a page of another origin may send to the API and see of its answers; preflights need no token.
API_CORS_METHODS = ("GET", "POST", "PUT", "DELETE")
# Accept too: quotes in it, as DICOMweb's have, take it out of what needs no asking.
API_CORS_HEADERS = ("authorization", "content-type", "idempotency-key", "accept")
API_CORS_EXPOSE = ("location", "retry-after", "warning")
API_CORS_MAX_AGE_S = 600

# How long we sign for: every URL, unless SIGNATURE_TTL_SECONDS says otherwise, and the longest (``content`` with
# ``ttl``), which only the buckets know that are read from. Buckets deny what is older, by the leeway of two clocks.
SIGNATURE_TTL_S = 900
SIGNATURE_TTL_READ_MAX_S = 3600
SIGNATURE_LEEWAY_S = 30

# Companion's routes, where a sealed ticket in the path stands in for the token that Uppy cannot send.
BY_TICKET = "/s3/t/{ticket}/s3"

# DICOMweb: what can be read below this path (PS3.18, chapter 10).
DICOMWEB = "/v1/dicomweb"
_SERIES = "/studies/{study}/series/{series}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
DICOMWEB_READS = (
    "/studies",
    "/series",
    "/instances",
    "/studies/{study}/series",
    "/studies/{study}/instances",
    f"{_SERIES}/instances",
    "/studies/{study}",
    _SERIES,
    _INSTANCE,
    "/studies/{study}/metadata",
    f"{_SERIES}/metadata",
    f"{_INSTANCE}/metadata",
    f"{_INSTANCE}/bulkdata/{{place}}",
    f"{_INSTANCE}/frames/{{frames}}",
    "/studies/{study}/rendered",
    f"{_SERIES}/rendered",
    f"{_INSTANCE}/rendered",
    f"{_INSTANCE}/frames/{{frames}}/rendered",
    "/studies/{study}/thumbnail",
    f"{_SERIES}/thumbnail",
    f"{_INSTANCE}/thumbnail",
    f"{_INSTANCE}/frames/{{frames}}/thumbnail",
)

# What every function runs on. All our wheels exist for both, and Graviton costs a fifth less per GB-second.
RUNTIME, ARCHITECTURE = "python3.13", "arm64"
# The layer of every function, whatever its others: layers/heavylift.
SHARED_LAYER = "heavylift"

BUCKETS = (
    Bucket(
        "staging",
        # 14 days: the quarantine, within which a rejected or failed file can be retried.
        (KeyClass("in", 14), KeyClass("dicom", 14)),
        abort_incomplete_days=7,
        cors_methods=("PUT", "POST", "GET", "HEAD"),
        cors_expose=("ETag", "Location", "x-amz-checksum-sha256"),
    ),
    Bucket(
        "store",
        (KeyClass("files"), KeyClass("dicom")),
        versioned=True,
        abort_incomplete_days=7,
        cors_methods=("GET", "HEAD"),
        cors_expose=("ETag", "Content-Range", "Content-Length"),
    ),
    Bucket(
        "derived",
        (
            KeyClass("thumbnails"),
            KeyClass("reports"),
            KeyClass("dicom"),
            # Bodies too large for an answer, made anew when they are asked for again.
            KeyClass("frames", 7),
            KeyClass("manifests"),
            KeyClass("archives", 7),
            KeyClass("requests", 7),
            KeyClass("work", 1),
        ),
        abort_incomplete_days=2,
        cors_methods=("GET", "HEAD"),
        cors_expose=("ETag", "Content-Range", "Content-Length"),
    ),
)

TABLE = Table(
    "heavylift",
    "pk",
    "sk",
    "ttl",
    (
        Index("list", "list_pk", "list_sk"),
        Index("status", "status_pk", "status_sk"),
        Index("fingerprint", "fingerprint_pk", "fingerprint_sk"),
        Index("logical", "logical_pk", "logical_sk"),
        Index("due", "due_pk", "due_sk"),
    ),
)

QUEUES = (
    Queue("validate", visibility_s=6 * 300),
    Queue("dicom_ingest", visibility_s=6 * 120),
    Queue("thumbnail", visibility_s=6 * 900),
    Queue("archive", visibility_s=6 * 300),
)

RULES = (
    Rule("staging-in", "staging", "in/", "validate"),
    Rule("staging-dicom", "staging", "dicom/", "dicom_ingest"),
    Rule("store-files", "store", "files/", "thumbnail"),
    Rule("derived-requests", "derived", "requests/", "archive"),
)

# Where the scanning gate is on (setting MALWARE_SCAN): what GuardDuty scans, and whom it tells.
SCAN_RULES = (ScanRule("staging-in-scanned", "staging", "in/", "validate"),)


MALWARE_SCAN = ("off", "strict", "lenient")


def scanning(settings: Mapping[str, str]) -> bool:
    """Whether a deployment with these settings has the scanning gate."""
    return settings.get("MALWARE_SCAN", "").strip().lower() not in ("", "off")


def rules(settings: Mapping[str, str]) -> tuple[Rule, ...]:
    """The rules of a deployment with these settings."""
    return (*RULES, *SCAN_RULES) if scanning(settings) else RULES


# Items are read from the table; indexes hold keys and are only asked.
_RECORD_READ = (
    Allow(("dynamodb:GetItem", "dynamodb:BatchGetItem"), ("table",)),
    Allow(("dynamodb:Query",), ("table", "table/index/*")),
)
# Whoever ends a file also marks its hour for the statistics.
_RECORD_WRITE = Allow(("dynamodb:GetItem", "dynamodb:UpdateItem"), ("table",))
_RECORD_UPDATE = Allow(("dynamodb:UpdateItem",), ("table",))
# Whoever finds the last verdict of a batch's member counts the batch's marks and ends it.
_BATCH_COUNT = Allow(("dynamodb:Query",), ("table",))
# Audit events that no longer fit the record.
_AUDIT_WRITE = Allow(("s3:PutObject",), ("derived/manifests/*",))
# Everything that a file left behind but its versions in the store.
_PURGE_AROUND = (
    Allow(("s3:ListBucket",), ("staging", "derived")),
    Allow(("s3:ListBucketVersions", "s3:ListBucketMultipartUploads"), ("store",)),
    Allow(("s3:DeleteObject",), ("derived/manifests/*", "derived/work/*", "derived/dicom/*", "derived/frames/*")),
)
_PURGE = (
    *_PURGE_AROUND,
    # DICOM has neither.
    Allow(("s3:DeleteObject",), ("derived/thumbnails/*", "derived/reports/*")),
    Allow(("s3:DeleteObjectVersion", "s3:AbortMultipartUpload"), ("store/files/*", "store/dicom/*")),
)
# What an archive's making left behind; the archive itself goes at its time.
_ARCHIVE_CLEAR = (
    Allow(("s3:ListBucketMultipartUploads",), ("derived",)),
    Allow(
        ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
        ("derived/archives/*", "derived/work/*"),
    ),
    Allow(("s3:DeleteObject",), ("derived/requests/*", "derived/archives/*")),
)
# A DICOM file that is deleted leaves the index, and its series is counted again.
_LEAVE_INDEX = (
    Allow(("dynamodb:DeleteItem",), ("table",)),
    Allow(("sqs:SendMessage",), ("queue:dicom_ingest",)),
)
# What taking in a DICOM file costs, whoever does it.
_INGEST = (
    *_PURGE_AROUND,
    Allow(("s3:ListBucket",), ("store",)),
    Allow(
        (
            "s3:GetObject",
            "s3:PutObject",
            "s3:ListMultipartUploadParts",
            "s3:DeleteObjectVersion",
            "s3:AbortMultipartUpload",
        ),
        ("store/dicom/*",),
    ),
    # Descriptions of series.
    Allow(("s3:PutObject",), ("derived/dicom/*",)),
    _AUDIT_WRITE,
    Allow(("dynamodb:BatchGetItem", "dynamodb:Query"), ("table",)),
    _RECORD_WRITE,
    Allow(("dynamodb:PutItem",), ("table",)),
)
# Whoever ends a file tells others of it.
_ANNOUNCE = Allow(("events:PutEvents",), ("bus",))

FUNCTIONS = (
    Function(
        "initiate",
        memory_mb=1024,
        timeout_s=29,
        layers=("base", "tables"),
        routes=(
            Route("POST", "/v1/uploads"),
            Route("POST", "/v1/batches"),
            Route("PUT", "/v1/batches/{id}/manifest/{page}"),
            Route("POST", "/v1/archives"),
            Route("POST", "/v1/companion-tickets"),
            Route("GET", f"{BY_TICKET}/params", None),
            Route("POST", f"{BY_TICKET}/multipart", None),
        ),
        allows=(
            # Of two that begin the same member's upload the later one aborts its own.
            Allow(
                ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
                ("staging/in/*", "staging/dicom/*"),
            ),
            Allow(
                (
                    "dynamodb:GetItem",
                    "dynamodb:PutItem",
                    "dynamodb:UpdateItem",
                    "dynamodb:BatchGetItem",
                    "dynamodb:BatchWriteItem",
                ),
                ("table",),
            ),
            _BATCH_COUNT,
            _ANNOUNCE,
            # A request for an archive, and whether its files are there.
            Allow(("s3:PutObject",), ("derived/requests/*",)),
            Allow(("dynamodb:Query",), ("table/index/*",)),
        ),
    ),
    Function(
        "sign",
        memory_mb=256,
        timeout_s=10,
        layers=(),
        routes=(
            Route("POST", "/v1/uploads/{id}/parts"),
            Route("POST", "/v1/batches/{id}/urls"),
            Route("POST", "/v1/batches/{id}/policy"),
            Route("GET", f"{BY_TICKET}/multipart/{{uploadId}}/{{partNumber}}", None),
            Route("GET", f"{BY_TICKET}/multipart/{{uploadId}}/batch", None),
        ),
        allows=(
            Allow(("s3:PutObject",), ("staging/in/*", "staging/dicom/*")),
            Allow(("dynamodb:GetItem", "dynamodb:BatchGetItem"), ("table",)),
        ),
    ),
    Function(
        "complete",
        memory_mb=512,
        timeout_s=29,
        layers=("base", "tables"),
        routes=(
            Route("POST", "/v1/uploads/{id}/complete"),
            Route("POST", "/v1/uploads/{id}/retry"),
            Route("DELETE", "/v1/uploads/{id}"),
            Route("DELETE", "/v1/uploads"),
            Route("DELETE", "/v1/files/{id}"),
            Route("POST", "/v1/batches/{id}/complete"),
            Route("DELETE", "/v1/batches/{id}"),
            Route("DELETE", "/v1/archives/{id}"),
            Route("GET", f"{BY_TICKET}/multipart/{{uploadId}}", None),
            Route("POST", f"{BY_TICKET}/multipart/{{uploadId}}/complete", None),
            Route("DELETE", f"{BY_TICKET}/multipart/{{uploadId}}", None),
        ),
        allows=(
            *_PURGE,
            *_ARCHIVE_CLEAR,
            *_LEAVE_INDEX,
            Allow(
                (
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ),
                ("staging/in/*", "staging/dicom/*"),
            ),
            _AUDIT_WRITE,
            # What an upload begun with a ticket was joined of, for a client that lost our answer.
            Allow(("s3:GetObject",), ("derived/manifests/*",)),
            *_RECORD_READ,
            _RECORD_UPDATE,
            # The last: to whoever waits for the end of an archive that is cancelled.
            Allow(("sqs:SendMessage",), ("queue:validate", "queue:thumbnail", "queue:archive")),
            _ANNOUNCE,
        ),
    ),
    Function(
        "sessions",
        memory_mb=512,
        timeout_s=29,
        layers=("base",),
        routes=(
            Route("GET", "/v1/uploads", READ),
            Route("GET", "/v1/uploads/{id}", READ),
            Route("GET", "/v1/uploads/{id}/parts/{n}", READ),
            Route("GET", "/v1/files", READ),
            Route("GET", "/v1/files/{id}", READ),
            Route("GET", "/v1/files/{id}/events", READ),
            Route("GET", "/v1/files/{id}/content", READ),
            Route("GET", "/v1/files/{id}/report", READ),
            Route("GET", "/v1/files/{id}/thumbnails/{size}", READ),
            Route("GET", "/v1/batches/{id}", READ),
            Route("GET", "/v1/batches/{id}/files", READ),
            Route("GET", "/v1/batches/{id}/studies", READ),
            Route("GET", "/v1/archives/{id}", READ),
            Route("GET", "/v1/archives/{id}/content", READ),
            Route("GET", "/v1/archives/{id}/members", READ),
            Route("GET", "/v1/archives/{id}/members/{n}/content", READ),
            Route("GET", "/v1/stats", READ),
            Route("GET", "/v1/health", None),
        ),
        allows=(
            Allow(("s3:ListMultipartUploadParts",), ("staging/in/*", "staging/dicom/*")),
            Allow(("s3:ListBucket",), ("staging", "store", "derived")),
            Allow(
                ("s3:GetObject",),
                ("store/files/*", "store/dicom/*", "derived/thumbnails/*", "derived/reports/*", "derived/manifests/*"),
            ),
            # An archive, its index, and what a link to it may read; thumbnails of series.
            Allow(("s3:GetObject",), ("derived/archives/*", "derived/dicom/*")),
            *_RECORD_READ,
            # The key that seals page tokens is made by whoever needs it first.
            Allow(("dynamodb:PutItem",), ("table",)),
            # Who looks at a batch whose last verdict is there ends it, if nobody else could.
            Allow(("dynamodb:UpdateItem",), ("table",)),
            _ANNOUNCE,
            # Whether queues answer, and whether anything lies among the dead letters.
            Allow(
                ("sqs:GetQueueAttributes",),
                tuple(f"queue:{name}" for queue in QUEUES for name in (queue.name, f"{queue.name}-dlq")),
            ),
        ),
        environment={f"{queue.name.upper()}_DLQ_QUEUE_URL": f"{{queue:{queue.name}-dlq}}" for queue in QUEUES},
    ),
    Function(
        "validate",
        memory_mb=1769,
        timeout_s=300,
        layers=("base", "detect", "tables"),
        source=Source("validate", concurrency_max=50),
        recursive_loop="allow",
        allows=(
            Allow(("s3:ListBucket",), ("staging", "store", "derived")),
            # A multipart upload is aborted where a member is withdrawn with its batch.
            Allow(
                ("s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
                ("staging/in/*",),
            ),
            # New rules for a file that is stored: the very version that the record names is read.
            Allow(("s3:GetObjectVersion",), ("store/files/*",)),
            # A scan's verdict whose event was lost.
            Allow(("s3:GetObjectTagging",), ("staging/in/*",)),
            # The record of a batch's member is made when its object is there.
            Allow(("dynamodb:PutItem",), ("table",)),
            Allow(
                ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
                ("store/files/*",),
            ),
            # Reports of tables and text, and where the next slice of the work goes on.
            Allow(("s3:PutObject",), ("derived/reports/*",)),
            Allow(("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), ("derived/work/*",)),
            _AUDIT_WRITE,
            _RECORD_WRITE,
            _BATCH_COUNT,
            Allow(("sqs:SendMessage", "sqs:ChangeMessageVisibility"), ("queue:validate",)),
            # DICOM that came into its lane is handed over.
            Allow(("sqs:SendMessage",), ("queue:dicom_ingest",)),
            _ANNOUNCE,
        ),
    ),
    Function(
        "dicom_ingest",
        memory_mb=512,
        timeout_s=120,
        # Of the second layer only pydicom's dictionary of attributes, and only where copies without names are made.
        layers=("base", "dicom"),
        # Ten files share the reads and writes of their batch, their study and their series.
        source=Source("dicom_ingest", batch_size=10, batch_window_s=1, concurrency_max=20),
        recursive_loop="allow",
        allows=(
            *_INGEST,
            # In ``in/`` lies what validate has handed over.
            Allow(
                ("s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
                ("staging/dicom/*", "staging/in/*"),
            ),
            # A study without instances is forgotten.
            Allow(("dynamodb:DeleteItem",), ("table",)),
            # The directories of bundles that are taken apart.
            Allow(("s3:GetObject", "s3:PutObject"), ("derived/work/*",)),
            Allow(("sqs:SendMessage", "sqs:ChangeMessageVisibility"), ("queue:dicom_ingest",)),
            _ANNOUNCE,
        ),
    ),
    Function(
        "dicomweb",
        memory_mb=1769,
        timeout_s=29,
        layers=("base", "dicom"),
        routes=(
            *(Route("GET", f"{DICOMWEB}{path}", READ) for path in DICOMWEB_READS),
            Route("POST", f"{DICOMWEB}/studies"),
            Route("POST", f"{DICOMWEB}/studies/{{study}}"),
        ),
        allows=(
            # What is posted goes through staging as any other file, and is taken in at once.
            *_INGEST,
            Allow(("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), ("staging/dicom/*",)),
            Allow(("dynamodb:Query",), ("table/index/*",)),
            Allow(("sqs:SendMessage",), ("queue:dicom_ingest",)),
            _ANNOUNCE,
            # Metadata, thumbnails and large bodies, made once.
            Allow(("s3:GetObject",), ("derived/dicom/*", "derived/frames/*")),
            Allow(("s3:PutObject",), ("derived/frames/*",)),
            Allow(("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"), ("derived/frames/*",)),
            Allow(("s3:ListBucketMultipartUploads",), ("derived",)),
        ),
    ),
    Function(
        "thumbnail",
        memory_mb=1769,
        timeout_s=900,
        layers=("base", "image"),
        # A camera file without a usable preview is copied here for LibRaw: up to 1 GiB, one at a time.
        ephemeral_mb=1536,
        source=Source("thumbnail", concurrency_max=20),
        recursive_loop="allow",
        allows=(
            Allow(("s3:ListBucket",), ("store", "derived")),
            Allow(("s3:GetObject", "s3:GetObjectVersion"), ("store/files/*",)),
            Allow(("s3:PutObject", "s3:DeleteObject"), ("derived/thumbnails/*",)),
            # The checkpoint of a picture that takes longer than one call.
            Allow(("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), ("derived/work/*",)),
            _AUDIT_WRITE,
            _RECORD_WRITE,
            _BATCH_COUNT,
            Allow(("sqs:SendMessage", "sqs:ChangeMessageVisibility"), ("queue:thumbnail",)),
            _ANNOUNCE,
        ),
    ),
    Function(
        "archive",
        memory_mb=1024,
        timeout_s=300,
        layers=("base",),
        source=Source("archive", concurrency_max=20),
        recursive_loop="allow",
        allows=(
            Allow(("s3:ListBucket",), ("store", "derived")),
            # Members are copied from, a version each; small ones are read, and CRC-32s that no record knows asked for.
            Allow(
                (
                    "s3:GetObject",
                    "s3:GetObjectVersion",
                    "s3:GetObjectAttributes",
                    "s3:GetObjectVersionAttributes",
                ),
                ("store/files/*", "store/dicom/*"),
            ),
            Allow(("s3:GetObject",), ("derived/requests/*", "derived/work/*", "derived/archives/*")),
            Allow(("s3:PutObject",), ("derived/work/*", "derived/archives/*")),
            # What the making left in work/; complete and sweep may delete it with all that is made of files.
            Allow(("s3:DeleteObject",), ("derived/work/*",)),
            *_ARCHIVE_CLEAR,
            *_RECORD_READ,
            _RECORD_UPDATE,
            Allow(("dynamodb:PutItem",), ("table",)),
            Allow(("sqs:SendMessage", "sqs:ChangeMessageVisibility"), ("queue:archive",)),
            _ANNOUNCE,
        ),
    ),
    Function(
        "sweep",
        memory_mb=512,
        timeout_s=300,
        layers=("base",),
        schedule_minutes=15,
        concurrency_reserved=1,
        allows=(
            *_PURGE,
            *_ARCHIVE_CLEAR,
            # Series whose recount was lost.
            Allow(("s3:PutObject",), ("derived/dicom/*",)),
            # Requests whose event was lost.
            Allow(("s3:GetObject",), ("derived/requests/*",)),
            Allow(("s3:ListBucketMultipartUploads",), ("staging",)),
            Allow(("s3:ListMultipartUploadParts",), ("store/files/*",)),
            Allow(
                (
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                    "s3:DeleteObject",
                    "s3:GetObject",
                    "s3:PutObject",
                ),
                ("staging/in/*", "staging/dicom/*"),
            ),
            # It finishes uploads that stand in assembling.
            _AUDIT_WRITE,
            Allow(
                (
                    "dynamodb:GetItem",
                    "dynamodb:BatchGetItem",
                    "dynamodb:PutItem",
                    "dynamodb:UpdateItem",
                    "dynamodb:DeleteItem",
                ),
                ("table",),
            ),
            Allow(("dynamodb:Query",), ("table", "table/index/*")),
            # Whether the copy of a worker that died is whole.
            Allow(("s3:ListBucket",), ("store",)),
            Allow(("s3:GetObject",), ("store/files/*",)),
            Allow(
                ("sqs:SendMessage", "sqs:GetQueueAttributes"),
                ("queue:validate", "queue:dicom_ingest", "queue:thumbnail", "queue:archive"),
            ),
            _ANNOUNCE,
        ),
    ),
)

# What every function is told. Settings keep their defaults unless a deployer gives others.
ENVIRONMENT: Mapping[str, str] = {
    "STAGING_BUCKET": "{bucket:staging}",
    "STORE_BUCKET": "{bucket:store}",
    "DERIVED_BUCKET": "{bucket:derived}",
    "TABLE_NAME": "{table}",
    "VALIDATE_QUEUE_URL": "{queue:validate}",
    "DICOM_INGEST_QUEUE_URL": "{queue:dicom_ingest}",
    "THUMBNAIL_QUEUE_URL": "{queue:thumbnail}",
    "ARCHIVE_QUEUE_URL": "{queue:archive}",
    "EVENT_BUS_NAME": "{bus}",
}

# What the libraries below our code are told; the functions themselves read none of it.
LIBRARY_ENVIRONMENT: Mapping[str, str] = {
    "POWERTOOLS_METRICS_NAMESPACE": "heavylift",
    # glibc gives each thread an arena of its own; two keep a function's peak where it was measured.
    "MALLOC_ARENA_MAX": "2",
}

# What a deployer may set; each is read by heavylift.settings and described in docs/settings.md.
SETTINGS: tuple[str, ...] = (
    "MAX_FILE_SIZE",
    "PART_SIZE_MIN",
    "SIGNATURE_TTL_SECONDS",
    "SESSION_DAYS",
    "QUARANTINE_DAYS",
    "ARCHIVE_DAYS",
    "TENANT_CLAIM",
    "FACILITY_CLAIM",
    "PAD_COLOR",
    "LOG_LEVEL",
    "MAX_MEMORY_MB",
    "MEMORY_BUFFER_MB",
    "LARGE_FILE_THRESHOLD_MB",
    "TIFF_CHUNK_SIZE",
    "ENABLE_TIFF_CHUNKING",
    "DEFAULT_RULES",
    "MALWARE_SCAN",
    "DICOM_CONFLICT",
    "DICOM_DEIDENTIFY",
    "TYPE_MISMATCH",
    "RATE_LIMIT_FILES_PER_MINUTE",
    "RATE_LIMIT_CALLS_PER_MINUTE",
)


def signature_age_max_s(bucket: str, settings: Mapping[str, str]) -> int:
    """How old a signature may be when this bucket sees it, in seconds. ValueError for a setting that is no number."""
    ttl_s = math.ceil(float(settings.get("SIGNATURE_TTL_SECONDS", "").strip() or SIGNATURE_TTL_S))
    return (ttl_s if bucket == "staging" else max(ttl_s, SIGNATURE_TTL_READ_MAX_S)) + SIGNATURE_LEEWAY_S


def function(name: str) -> Function:
    """The function called ``name``; KeyError when there is none."""
    return {f.name: f for f in FUNCTIONS}[name]


def queue(name: str) -> Queue:
    """The queue called ``name``; KeyError when there is none."""
    return {q.name: q for q in QUEUES}[name]


def unauthorized_routes() -> tuple[str, ...]:
    """``METHOD path`` of every route without an authorizer, by name."""
    return tuple(f"{r.method} {r.path}" for f in FUNCTIONS for r in f.routes if r.scope is None)
