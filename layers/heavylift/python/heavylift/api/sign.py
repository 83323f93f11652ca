"""sign's routes, and POST /v1/uploads/{id}/parts among them: signed URLs for up to 1 000 parts.

Reads the record by one signed DynamoDB request of its own, calls nothing else, writes nothing. Stdlib and heavylift
only: these routes are on every upload's critical path, and boto3 alone would cost them ten times their cold start.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from heavylift import credentials, presign
from heavylift.api import problems, sign_batches
from heavylift.api.caller import Caller, caller_of, json_body, path_id, whole_number
from heavylift.api.companion import door
from heavylift.api.companion import sign as companion
from heavylift.api.table_requests import get_item
from heavylift.errors import HeavyliftError, RequestError
from heavylift.limits import PARTS_PER_CALL_MAX
from heavylift.parts import PartPlan
from heavylift.records import item_key
from heavylift.settings import Settings, settings
from heavylift.states import State

_NEEDED = (
    "file_id", "size", "status", "key", "mode", "part_size", "part_count", "s3_upload_id", "checksum", "expires_at",
    "size_known",
)  # fmt: skip
_OPEN = frozenset({State.CREATED.value, State.UPLOADING.value})


def read_record(tenant: str, file_id: str, config: Settings) -> dict[str, Any]:
    """The attributes that signing needs, strongly consistent. RequestError ``not_found``, TransientError."""
    record = get_item(item_key(tenant, file_id), _NEEDED, config)
    if record is None:
        raise RequestError("not_found", "There is no upload or file with this id.")
    return record


def wanted_parts(body: Any, plan: PartPlan, *, digest_required: bool) -> list[presign.PartToSign]:
    """The parts asked for, each with the headers to sign. RequestError for the first that cannot be signed. Pure."""
    parts = body.get("parts") if isinstance(body, dict) else None
    if not isinstance(parts, list) or not 1 <= len(parts) <= PARTS_PER_CALL_MAX:
        raise RequestError("invalid_body", f'"parts" must be a list of 1 to {PARTS_PER_CALL_MAX} parts.')
    wanted = []
    for position, part in enumerate(parts):
        number = whole_number(part.get("part_number")) if isinstance(part, dict) else None
        if number is None:
            raise RequestError("invalid_body", f"parts/{position}/part_number must be a whole number.")
        length = plan.length(number)
        size = part.get("size")
        if size is not None and whole_number(size) != length:
            raise RequestError(
                "part_size_mismatch",
                f"Part {number} of this upload has {length} bytes, not {size}.",
                part_number=number,
                size=length,
            )
        headers = {"content-length": str(length)}
        digest = part.get("sha256")
        if digest is not None:
            headers["x-amz-checksum-sha256"] = _checked_digest(digest, number)
        elif digest_required:
            raise RequestError(
                "sha256_required",
                f"Part {number} needs its sha256: it is signed into the URL, so that S3 itself proves the part.",
                part_number=number,
            )
        wanted.append(presign.PartToSign(number, headers))
    return wanted


def _checked_digest(digest: Any, number: int) -> str:
    try:
        if isinstance(digest, str):
            raw = base64.b64decode(digest, validate=True)
            # S3 compares the text of the signed header: of the many texts for these bytes only the one that it makes.
            if len(raw) == 32 and base64.b64encode(raw).decode() == digest:
                return digest
    except (binascii.Error, ValueError):
        pass
    raise RequestError(
        "invalid_body", f"The sha256 of part {number} must be the base64 of 32 bytes.", part_number=number
    )


def sign_parts(caller: Caller, event: Mapping[str, Any], config: Settings, now: float) -> dict[str, Any]:
    """The answer's body. RequestError for what the caller did, TransientError when the table does not answer."""
    file_id = path_id(event)
    body = json_body(event)
    record = read_record(caller.tenant, file_id, config)
    if record["status"] == State.EXPIRED or (record["status"] in _OPEN and record["expires_at"] <= now):
        raise RequestError("upload_expired", "This upload's time is over; start a new one.")
    if record["status"] not in _OPEN:
        raise RequestError(
            "state_conflict",
            f"An upload that is {record['status']} takes no more parts.",
            status=record["status"],
        )
    if not record.get("size_known", True):
        raise RequestError(
            "state_conflict",
            "This upload was begun with a ticket, and only a ticket signs for it.",
            status=record["status"],
        )
    plan = PartPlan(record["size"], record["mode"], record["part_size"], record["part_count"])
    # A part of an upload without digests may still bring one: S3 checks it, the record does not rely on it.
    wanted = wanted_parts(body, plan, digest_required=record.get("checksum", "sha256") == "sha256")
    ttl = max(1, int(min(config.signature_ttl_s, record["expires_at"] - now)))
    expires_at = datetime.fromtimestamp(now + ttl, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "parts": [
            {"part_number": part.number, "url": url, "headers": _sent(part, record), "expires_at": expires_at}
            for part, url in zip(wanted, _urls(record, wanted, config, ttl, now), strict=True)
        ]
    }


def _sent(part: presign.PartToSign, record: Mapping[str, Any]) -> dict[str, str]:
    """What the client must send: the signed headers but content-length, which its HTTP library sets."""
    headers = {name: value for name, value in part.headers.items() if name != "content-length"}
    return {"if-none-match": "*", **headers} if record["mode"] == "single" else headers


def _urls(
    record: Mapping[str, Any], wanted: list[presign.PartToSign], config: Settings, ttl: int, now: float
) -> list[str]:
    key = record["key"]
    address = credentials.bucket_address(config.staging_bucket, config.region, os.environ)
    own = credentials.from_environment(os.environ)
    ts = presign.timestamp(now)
    if record["mode"] == "single":
        signed = [{**part.headers, "if-none-match": "*"} for part in wanted]
        return [presign.presign_put(own, config.region, address, key, headers, ttl, ts) for headers in signed]
    urls: dict[int, str] = {}  # by the identity of the part: a number may be asked for twice
    # Parts with and without a digest sign other headers, so they are signed in two runs.
    for with_digest in (True, False):
        group = [part for part in wanted if ("x-amz-checksum-sha256" in part.headers) is with_digest]
        upload_id = record["s3_upload_id"]
        signed_urls = presign.presign_parts(own, config.region, address, key, upload_id, group, ttl, ts)
        urls.update({id(part): url for part, url in zip(group, signed_urls, strict=True)})
    return [urls[id(part)] for part in wanted]


def log_line(**facts: Any) -> None:
    """One JSON line, and its metric in CloudWatch's embedded format: what Powertools does elsewhere."""
    now_ms = int(time.time() * 1000)
    emf = {
        "_aws": {
            "Timestamp": now_ms,
            "CloudWatchMetrics": [
                {
                    "Namespace": os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "heavylift"),
                    "Dimensions": [["service"]],
                    "Metrics": [{"Name": "PartsSigned", "Unit": "Count"}],
                }
            ],
        },
        "service": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "sign"),
    }
    print(json.dumps({**emf, "level": "INFO", **facts}, separators=(",", ":")), flush=True)


Sign = Callable[[Caller, Mapping[str, Any], Settings, float], dict[str, Any]]
# By the gateway's route key; the topology has the same (a test compares).
ROUTES: Mapping[str, Sign] = {
    "POST /v1/uploads/{id}/parts": sign_parts,
    "POST /v1/batches/{id}/urls": sign_batches.sign_urls,
    "POST /v1/batches/{id}/policy": sign_batches.sign_policy,
    "GET /s3/t/{ticket}/s3/multipart/{uploadId}/{partNumber}": companion.sign_part,
    "GET /s3/t/{ticket}/s3/multipart/{uploadId}/batch": companion.sign_batch,
}


def _sign(event: Mapping[str, Any]) -> dict[str, Any]:
    route = ROUTES.get(str(event.get("routeKey")))
    if route is None:
        raise RequestError("not_found", "There is nothing under this path.")
    config, now = settings(), time.time()
    by_ticket = door.comes_with_ticket(event)
    caller = companion.caller_of(event, config, now) if by_ticket else caller_of(event, config.tenant_claim)
    return route(caller, event, config, now)


def _refusal(event: Mapping[str, Any], error: HeavyliftError) -> dict[str, Any]:
    if door.comes_with_ticket(event):
        return door.refusal(error)
    return problems.answer(error, str(event.get("rawPath", "")) or None)


def _count_signed(body: Mapping[str, Any]) -> int:
    if "presignedUrls" in body:
        return len(body["presignedUrls"])
    return sum("url" in one for one in body.get("parts") or body.get("urls") or [body])


def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The Lambda answer, errors as problems."""
    started = time.monotonic()
    request_id = (event.get("requestContext") or {}).get("requestId", "")
    try:
        body = _sign(event)
        answer = problems.json_answer(200, body)
        signed, code = _count_signed(body), None
    except HeavyliftError as error:
        answer = _refusal(event, error)
        signed, code = 0, error.code
    except Exception:  # noqa: BLE001 - the top of a server: the caller gets an answer, the log gets all of it
        ours = HeavyliftError("internal_error", "This is our fault; it has been logged.", request_id=request_id)
        answer = _refusal(event, ours)
        signed, code = 0, ours.code
        log_line(level="ERROR", message="request failed", correlation_id=request_id, exception=traceback.format_exc())
    log_line(
        message="signed",
        route=str(event.get("routeKey")),
        PartsSigned=signed,
        status=answer["statusCode"],
        code=code,
        correlation_id=request_id,
        ms=round((time.monotonic() - started) * 1000, 2),
    )
    return answer
