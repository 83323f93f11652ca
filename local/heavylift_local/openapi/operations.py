"""Each route of the topology: what it does, what it takes, what it answers, by which codes it refuses."""

from __future__ import annotations

from collections.abc import Mapping

from heavylift.api import bodies
from heavylift.ids import ULID_PATTERN
from heavylift.limits import (
    BATCH_NUMBER_MAX,
    KINDS,
    LIST_LIMIT_MAX,
    PART_COUNT_MAX,
    PARTS_PER_CALL_MAX,
    URLS_PER_CALL_MAX,
)
from heavylift.states import State
from heavylift_local.openapi import dicomweb
from heavylift_local.openapi.described import Operation, Parameter
from heavylift_local.openapi.schemas import BASE64_DIGEST, FILE_ID, Schema, count, text

# Of every route with a token: the token's fault, ours, the world's.
COMMON_CODES = ("no_tenant", "internal_error", "aws_unavailable")
KEYED_CODES = ("idempotency_in_flight", "idempotency_key_reused", "invalid_parameter")
BODY_CODES = ("not_json", "invalid_body")

FILE_PATH = text("The upload's, which is the file's.", pattern=FILE_ID)
BATCH_PATH = text("The batch's.", pattern=f"^{ULID_PATTERN.pattern}$")
ARCHIVE_PATH = text("The archive's.", pattern=f"^{ULID_PATTERN.pattern}$")
LIMIT = {"type": "integer", "minimum": 1, "maximum": LIST_LIMIT_MAX}
TRUE_FALSE = {"type": "string", "enum": ["true", "false"]}
DIGEST = {"type": "string", "pattern": BASE64_DIGEST}


def _filters() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "status",
            "Of this state; failed includes rejected, fresh includes completed.",
            {"type": "string", "enum": [state.value for state in State]},
        ),
        Parameter("kind", "Of this kind.", {"type": "string", "enum": list(KINDS)}),
        Parameter("fingerprint", "With these bytes.", {"type": "string", "pattern": "^v1:[0-9a-f]{64}$"}),
        Parameter("batch_id", "Of this batch, by number.", {"type": "string", "pattern": f"^{ULID_PATTERN.pattern}$"}),
        Parameter("logical_id", "Of this document.", {"type": "string"}),
        Parameter("thumbnail", "true: each line with its smallest picture.", TRUE_FALSE),
        Parameter("limit", "At most so many; 50 by itself.", LIMIT),
        Parameter("next_token", "From the page before.", {"type": "string"}),
    )


def _list(summary: str) -> Operation:
    return Operation(
        summary,
        {200: ("FileList", "The newest first. Indexes lag behind a change by a moment; ids never do.")},
        ("invalid_parameter", "invalid_next_token"),
        query=_filters(),
    )


REDIRECT = Parameter("redirect", "false: the link comes as JSON instead of a redirect.", TRUE_FALSE)
TTL = Parameter("ttl", "Life of the link in seconds.", {"type": "integer", "minimum": 1, "maximum": 3600})
LINK = {
    200: ("Link", "With redirect=false."),
    307: (None, "To a signed GET: Location."),
}
SIGN_PARTS: Schema = {
    "type": "object",
    "required": ["parts"],
    "properties": {
        "parts": {
            "type": "array",
            "minItems": 1,
            "maxItems": PARTS_PER_CALL_MAX,
            "items": {
                "type": "object",
                "required": ["part_number"],
                "properties": {
                    "part_number": count(minimum=1, maximum=PART_COUNT_MAX),
                    "sha256": {
                        **DIGEST,
                        "type": ["string", "null"],
                        "description": "Base64 of the part's SHA-256; needed but for sessions with checksum none.",
                    },
                    "size": {
                        "type": ["integer", "null"],
                        "description": "Bytes, to be compared with the plan.",
                    },
                },
            },
        }
    },
}
SIGN_FILES: Schema = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": {
            "type": "array",
            "minItems": 1,
            "maxItems": URLS_PER_CALL_MAX,
            "items": count(minimum=0, maximum=BATCH_NUMBER_MAX),
            "description": "Numbers of the manifest.",
        }
    },
}
SIGN_POLICY: Schema = {
    "type": "object",
    "properties": {"checksum": {"type": "string", "enum": ["none", "sha256"]}},
}

OPERATIONS: Mapping[str, Operation] = {
    "POST /v1/uploads": Operation(
        "Begin uploads",
        {201: ("Uploads", "One entry a file in the order asked for: its session, or the problem why there is none.")},
        (*BODY_CODES, "rate_limited"),
        "1 to 200 files. A file that cannot be taken is a problem in its entry and stops no other one. With a file's "
        "sha256 the answer already holds the PUT of a small one. With batch_id and n the entry is a batch's file that "
        "is too large for its form.",
        body=bodies.InitiateBody,
        keyed=True,
    ),
    "POST /v1/uploads/{id}/parts": Operation(
        "Sign parts",
        {200: ("SignedParts", "In the order asked for.")},
        (
            *BODY_CODES,
            "not_found",
            "part_number_out_of_range",
            "part_size_mismatch",
            "sha256_required",
            "state_conflict",
            "upload_expired",
        ),
        "Digest and length of each part are signed into its URL: S3 refuses anything else. Writes nothing; ask again "
        "whenever a URL has died.",
        {"id": FILE_PATH},
        body=SIGN_PARTS,
    ),
    "GET /v1/uploads/{id}": Operation(
        "An upload's state",
        {200: ("UploadStatus", "What S3 has, and what it still needs.")},
        ("not_found", "invalid_parameter"),
        path={"id": FILE_PATH},
        query=(Parameter("parts", "true: each received part with its size and digest.", TRUE_FALSE),),
    ),
    "GET /v1/uploads/{id}/parts/{n}": Operation(
        "Verify one part",
        {200: ("Part", "As S3 has it.")},
        ("not_found", "part_not_received", "part_number_out_of_range", "invalid_body"),
        path={"id": FILE_PATH, "n": count("The part's number.", 1, maximum=PART_COUNT_MAX)},
        query=(
            Parameter(
                "sha256",
                "Base64 or hex: matches tells whether S3 has these bytes.",
                {"type": "string", "pattern": f"^[0-9a-fA-F]{{64}}$|{BASE64_DIGEST}"},
            ),
        ),
    ),
    "GET /v1/uploads": _list("List uploads"),
    "GET /v1/files": _list("List files"),
    "POST /v1/uploads/{id}/complete": Operation(
        "Join the parts",
        {
            200: ("Completed", "The upload is staged, however often it is asked."),
            202: ("Completed", "S3 is still joining them; ask again after Retry-After."),
        },
        (
            *BODY_CODES,
            "not_found",
            "parts_missing",
            "part_mismatch",
            "part_size_mismatch",
            "size_not_allowed",
            "state_conflict",
            "upload_expired",
            "record_changed",
        ),
        "The server lists the parts itself and proves count, order, sizes and digests; what the client claims is only "
        "compared. 409 parts_missing names the ranges to send. Not needed for single PUTs, and harmless.",
        {"id": FILE_PATH},
        body=bodies.CompleteBody,
        body_required=False,
        keyed=True,
    ),
    "POST /v1/uploads/{id}/retry": Operation(
        "Try again",
        {202: ("UploadState", "It is on its way again.")},
        (*BODY_CODES, "invalid_rules", "not_found", "state_conflict", "source_expired", "record_changed"),
        "The failed stage once more; of a rejected file the validation, with other rules where some are given. Rules "
        "for a file that is stored make a new report; its state stays. force also begins the stage again that the file "
        "is in, or has completed.",
        {"id": FILE_PATH},
        body=bodies.RetryBody,
        body_required=False,
        keyed=True,
    ),
    "DELETE /v1/uploads/{id}": Operation(
        "Cancel an upload",
        {200: ("UploadState", "Cancelled; asked again, it looks whether anything is left.")},
        ("not_found", "state_conflict", "record_changed"),
        path={"id": FILE_PATH},
    ),
    "DELETE /v1/uploads": Operation(
        "Clean up",
        {200: ("Deleted", "What was deleted within this call's time.")},
        ("invalid_parameter", "state_conflict", "record_changed"),
        "Deletes what ended badly and is that old.",
        query=(
            Parameter(
                "status",
                "failed includes rejected.",
                {"type": "string", "enum": ["failed", "rejected", "cancelled", "expired"], "default": "failed"},
            ),
            Parameter("hours_old", "How long ago it ended.", {"type": "number", "minimum": 0, "default": 24}),
        ),
    ),
    "GET /v1/files/{id}": Operation(
        "A file",
        {200: ("File", "From the beginning of its upload on, also when it was refused.")},
        ("not_found", "invalid_parameter"),
        path={"id": FILE_PATH},
        query=(Parameter("gps", "true: also where the picture was taken, if the file tells.", TRUE_FALSE),),
    ),
    "GET /v1/files/{id}/events": Operation(
        "A file's audit trail",
        {200: ("AuditTrail", "Every step of its life.")},
        ("not_found",),
        path={"id": FILE_PATH},
    ),
    "DELETE /v1/files/{id}": Operation(
        "Delete a file",
        {200: ("FileState", "Every version of it, and all that was made of it.")},
        ("not_found", "state_conflict", "record_changed"),
        path={"id": FILE_PATH},
    ),
    "GET /v1/files/{id}/content": Operation(
        "Download a file",
        LINK,
        ("not_found", "not_stored", "malware_found", "invalid_parameter"),
        "S3 answers ranges, too.",
        {"id": FILE_PATH},
        (
            REDIRECT,
            TTL,
            Parameter(
                "disposition",
                "inline: a browser shows pictures and PDF.",
                {"type": "string", "enum": ["attachment", "inline"]},
            ),
        ),
    ),
    "GET /v1/files/{id}/report": Operation(
        "A validation report",
        LINK,
        ("not_found", "no_report", "invalid_parameter"),
        "Of tables, JSON and text, also of refused ones.",
        {"id": FILE_PATH},
        (REDIRECT, Parameter("errors", "All errors, a JSON line each.", {"type": "boolean", "default": False})),
    ),
    "GET /v1/files/{id}/thumbnails/{size}": Operation(
        "A thumbnail",
        LINK,
        ("not_found", "no_thumbnail", "invalid_parameter"),
        path={"id": FILE_PATH, "size": count("Longest edge in pixels.", 1)},
        query=(REDIRECT,),
    ),
    "POST /v1/batches": Operation(
        "Begin a batch",
        {201: ("BatchBegun", "With mode post, the form for its small files.")},
        (*BODY_CODES, "invalid_rules", "facility_not_allowed", "rate_limited"),
        "Many files that belong together. mode post: one form for all of them; put: a signed URL each.",
        body=bodies.BatchBody,
        keyed=True,
    ),
    "PUT /v1/batches/{id}/manifest/{page}": Operation(
        "List a batch's files",
        {200: ("ManifestPage", "The page is kept; sent again it changes nothing.")},
        (
            *BODY_CODES,
            "not_found",
            "invalid_parameter",
            "state_conflict",
            "batch_expired",
            "manifest_conflict",
            "manifest_full",
            "record_changed",
        ),
        path={"id": BATCH_PATH, "page": count("The page's number.", maximum=999)},
        body=bodies.ManifestBody,
    ),
    "POST /v1/batches/{id}/urls": Operation(
        "Sign a batch's files",
        {200: ("SignedFiles", "In the order asked for: a PUT, or the problem why there is none.")},
        (*BODY_CODES, "not_found", "state_conflict", "batch_expired"),
        path={"id": BATCH_PATH},
        body=SIGN_FILES,
    ),
    "POST /v1/batches/{id}/policy": Operation(
        "Renew a batch's form",
        {200: ("Policy", "A fresh form.")},
        (*BODY_CODES, "not_found", "state_conflict", "batch_expired"),
        path={"id": BATCH_PATH},
        body=SIGN_POLICY,
        body_required=False,
    ),
    "GET /v1/batches/{id}": Operation(
        "A batch",
        {200: ("Batch", "Exact counts.")},
        ("not_found", "invalid_parameter"),
        "With wait the answer comes when the batch has ended or the time is up (25 s at most), and holds the files of "
        "batches of up to 100.",
        {"id": BATCH_PATH},
        (Parameter("wait", "Seconds.", {"type": "number", "minimum": 0}),),
    ),
    "GET /v1/batches/{id}/files": Operation(
        "A batch's files",
        {200: ("BatchFiles", "By number, each with its verdict.")},
        ("not_found", "invalid_parameter", "invalid_next_token"),
        path={"id": BATCH_PATH},
        query=(
            Parameter("limit", "At most so many; 100 by itself.", LIMIT),
            Parameter("next_token", "From the page before.", {"type": "string"}),
        ),
    ),
    "GET /v1/batches/{id}/studies": Operation(
        "A batch's studies",
        {200: ("Studies", "By UID, with exact counts.")},
        ("not_found", "invalid_parameter", "invalid_next_token"),
        path={"id": BATCH_PATH},
        query=(
            Parameter("limit", "At most so many; 100 by itself.", LIMIT),
            Parameter("next_token", "From the page before.", {"type": "string"}),
        ),
    ),
    "POST /v1/batches/{id}/complete": Operation(
        "Say that no more files will come",
        {200: ("Batch", "What has not arrived has failed.")},
        (*BODY_CODES, "not_found", "state_conflict", "batch_expired", "record_changed"),
        path={"id": BATCH_PATH},
        body=bodies.BatchEndBody,
        body_required=False,
        keyed=True,
    ),
    "DELETE /v1/batches/{id}": Operation(
        "Cancel a batch",
        {200: ("Batch", "Files that have ended stay as they are.")},
        ("not_found", "state_conflict", "record_changed"),
        path={"id": BATCH_PATH},
    ),
    "POST /v1/archives": Operation(
        "Ask for an archive",
        {202: ("Archive", "It is queued; watch it by its id.")},
        (*BODY_CODES, "not_found", "not_stored", "state_conflict", "rate_limited"),
        "A ZIP of stored files, built inside S3: of file_ids, of a batch_id, of a logical_id or of a study_uid, one of "
        "them. package plain: the files with METS and a table; bagit: a BagIt 1.0 bag. on_missing fail: a file "
        "that cannot be archived fails the whole by its name; skip: a report inside tells what is missing. The same "
        "files make the same archive, which is not built again while a day of its life is left.",
        body=bodies.ArchiveBody,
        keyed=True,
    ),
    "GET /v1/archives/{id}": Operation(
        "An archive",
        {200: ("Archive", "How far it is, and what became of it.")},
        ("not_found",),
        path={"id": ARCHIVE_PATH},
    ),
    "DELETE /v1/archives/{id}": Operation(
        "Cancel an archive",
        {200: ("Archive", "Cancelled, and nothing of its making is left.")},
        ("not_found", "state_conflict", "record_changed"),
        path={"id": ARCHIVE_PATH},
    ),
    "GET /v1/archives/{id}/content": Operation(
        "Download an archive",
        LINK,
        ("not_found", "archive_not_ready", "archive_expired", "malware_found", "invalid_parameter"),
        "S3 answers ranges, too.",
        {"id": ARCHIVE_PATH},
        (REDIRECT, TTL),
    ),
    "GET /v1/archives/{id}/members": Operation(
        "List an archive's members",
        {200: ("ArchiveMembers", "In the order of the archive's directory, counted from 0.")},
        (
            "not_found",
            "archive_not_ready",
            "archive_expired",
            "malware_found",
            "invalid_parameter",
            "invalid_next_token",
        ),
        path={"id": ARCHIVE_PATH},
        query=(
            Parameter("limit", "At most so many; 100 by itself.", LIMIT),
            Parameter("next_token", "From the page before.", {"type": "string"}),
        ),
    ),
    "GET /v1/archives/{id}/members/{n}/content": Operation(
        "Download one member",
        {200: ("ArchiveMemberLink", "A link to the archive, and the range of it that is the member.")},
        ("not_found", "archive_not_ready", "archive_expired", "malware_found"),
        "Members are stored as they are, so one of them is a range. The client sends the headers itself: a redirect "
        "could not.",
        {"id": ARCHIVE_PATH, "n": count("The member's number, from 0.", maximum=999_999_999)},
    ),
    "POST /v1/companion-tickets": Operation(
        "A ticket for Uppy",
        {201: ("Ticket", "What to give to Uppy as its companionEndpoint.")},
        BODY_CODES,
        "Uppy sends no token to a Companion: a sealed ticket in the path stands in for it, for uploads only. The "
        "routes under it are Companion's own (docs/api.md).",
        body=bodies.TicketBody,
        body_required=False,
        keyed=True,
    ),
    "GET /v1/stats": Operation("Statistics", {200: ("Stats", "As of the last sweep.")}),
    "GET /v1/health": Operation(
        "Health",
        {200: ("Health", "The API can work."), 503: ("Health", "A component fails that requests need.")},
        means="No token needed; no counts, no names.",
    ),
    **dicomweb.OPERATIONS,
}
