"""RFC 9457 problem details: the one place that knows HTTP status codes. Stdlib only: ``sign`` uses it."""

from __future__ import annotations

import json
from typing import Any

from heavylift.errors import ContentError, HeavyliftError, RequestError, TransientError

# Every code an API answer may carry, with its status. docs/errors.md has a heading for each; a test compares.
STATUS: dict[str, int] = {
    "not_json": 400,
    "part_number_out_of_range": 400,
    "invalid_next_token": 400,
    "invalid_query": 400,
    "invalid_multipart": 400,
    "ticket_invalid": 401,
    "ticket_expired": 401,
    "ticket_foreign": 403,
    "no_tenant": 403,
    "facility_not_allowed": 403,
    "not_found": 404,
    "no_thumbnail": 404,
    "no_report": 404,
    "part_not_received": 404,
    "not_acceptable": 406,
    "state_conflict": 409,
    "parts_missing": 409,
    "part_mismatch": 409,
    "not_stored": 409,
    "archive_not_ready": 409,
    "malware_found": 409,
    "scan_required": 409,
    "idempotency_in_flight": 409,
    "manifest_conflict": 409,
    "manifest_full": 409,
    "source_expired": 410,
    "upload_expired": 410,
    "batch_expired": 410,
    "archive_expired": 410,
    "size_not_allowed": 413,
    "answer_too_large": 413,
    "search_too_wide": 413,
    "unsupported_media_type": 415,
    "invalid_body": 422,
    "invalid_parameter": 422,
    "invalid_rules": 422,
    "part_size_mismatch": 422,
    "sha256_required": 422,
    "type_not_allowed": 422,
    "not_in_manifest": 422,
    "multipart_required": 422,
    "size_mismatch": 422,
    "unreadable_instance": 422,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "aws_unavailable": 503,
    "record_changed": 503,
    "not_ready": 503,
}
# The caller's turn, but later: the same request will be taken.
LATER = frozenset({"idempotency_in_flight", "rate_limited"})
RETRY_AFTER_S = 2  # what a 503 of ours asks for; DynamoDB and S3 throttling passes within seconds


def status_of(error: HeavyliftError) -> int:
    """The status of an error at the edge; unknown codes fall back to their type."""
    fallback = 400 if isinstance(error, RequestError) else 422 if isinstance(error, ContentError) else 500
    if isinstance(error, TransientError):
        fallback = 503
    return STATUS.get(error.code, fallback)


def body(error: HeavyliftError, instance: str | None = None) -> dict[str, Any]:
    """The problem document: type, title, status, detail, code, and the error's facts as further members."""
    status = status_of(error)
    problem: dict[str, Any] = {
        "type": f"urn:heavylift:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "detail": error.message,
        "code": error.code,
        "retryable": isinstance(error, TransientError) or error.code in LATER,
    }
    if instance:
        problem["instance"] = instance
    for name, value in error.facts.items():
        problem.setdefault(name, value)
    return problem


def answer(error: HeavyliftError, instance: str | None = None) -> dict[str, Any]:
    """The error as a Lambda answer of payload format 2.0."""
    status = status_of(error)
    headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
    if status == 503 or error.code in LATER:
        headers["retry-after"] = str(error.facts.get("retry_after_s", RETRY_AFTER_S))
    return {"statusCode": status, "headers": headers, "body": json.dumps(body(error, instance))}


def json_answer(status: int, value: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A JSON answer of payload format 2.0."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store", **(headers or {})},
        "body": json.dumps(value, separators=(",", ":")),
    }
