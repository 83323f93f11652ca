"""POST /v1/companion-tickets, GET …/params and POST …/multipart: what begins. A session each, as any other."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from heavylift import counting, dynamo, intake, post_policy, tickets
from heavylift.api import idempotency, member_uploads, rates
from heavylift.api.bodies import CompanionFile, TicketBody, parse
from heavylift.api.caller import Caller, json_body, query
from heavylift.api.companion import door
from heavylift.credentials import bucket_address, from_environment
from heavylift.ids import new_ulid
from heavylift.limits import POST_SIZE_MAX
from heavylift.records import FileRecord, iso
from heavylift.settings import settings
from heavylift.telemetry import count, logger
from heavylift.tickets import Ticket

_METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)


def ticket(caller: Caller, event: Mapping[str, Any]) -> dict[str, Any]:
    """POST /v1/companion-tickets ``{"ttl"?}``: {"endpoint", "expires_at"} for Uppy's ``companionEndpoint``."""
    value = json_body(event)
    body = parse(TicketBody, value)

    def seal(run: idempotency.Run) -> dict[str, Any]:
        expires_at = int(time.time()) + body.ttl
        sealed = tickets.seal(dynamo.sealing_key(), Ticket(caller.tenant, caller.user, expires_at))
        return {"endpoint": f"{_origin(event)}{door.PREFIX}{sealed}", "expires_at": iso(expires_at)}

    return idempotency.once(caller, event, value, seal)


def _origin(event: Mapping[str, Any]) -> str:
    """Where the caller found this API."""
    scheme = str((event.get("headers") or {}).get("x-forwarded-proto", "https"))
    return f"{scheme if scheme == 'http' else 'https'}://{event['requestContext']['domainName']}"


def params(caller: Caller, event: Mapping[str, Any]) -> tuple[int, Any]:
    """GET …/params?filename=&type=&metadata[k]=: a form that brings one file, of any size that one form may have."""
    told = query(event)
    metadata = {found[1]: value for name, value in told.items() if (found := _METADATA.fullmatch(name))}
    given = {name: told[name] for name in ("filename", "type") if name in told}
    record = _begin(caller, parse(CompanionFile, {**given, "metadata": metadata}), "single")
    ttl = settings().signature_ttl_s
    form = post_policy.presign_file(
        from_environment(os.environ),
        settings().region,
        bucket_address(settings().staging_bucket, settings().region, os.environ),
        settings().staging_bucket,
        record.key,
        _plain(record.declared_type),
        min(intake.size_max(record.declared_type, settings()), POST_SIZE_MAX),
        ttl,
        time.time(),
    )
    return 200, {"method": "POST", **form, "expires": ttl}


def _plain(media_type: str | None) -> str:
    """The declared type where it can be a header's value."""
    return media_type if media_type and re.fullmatch(r"[!-~]+/[ -~]+", media_type) else "application/octet-stream"


def create(caller: Caller, event: Mapping[str, Any]) -> tuple[int, Any]:
    """POST …/multipart ``{"filename", "type", "metadata"}``: {"key", "uploadId", "bucket"}."""
    record = _begin(caller, parse(CompanionFile, json_body(event)), "multipart")
    return 200, {"key": record.key, "uploadId": record.file_id, "bucket": settings().staging_bucket}


def _begin(caller: Caller, wanted: CompanionFile, mode: str) -> FileRecord:
    rates.spend(caller.tenant, files=1)
    now = time.time()
    record = intake.plan_unsized(
        wanted,
        mode=mode,
        tenant=caller.tenant,
        user=caller.user,
        file_id=new_ulid(now),
        now=now,
        settings=settings(),
    )
    if mode == "multipart":
        record = member_uploads.with_upload(record)
    counting.mark(caller.tenant, record.file_id)
    dynamo.put_new([record])
    count("UploadsInitiated")
    logger().info("upload opened", file_id=record.file_id, mode=mode, by_ticket=True)
    return record


ROUTES = {
    "GET /s3/t/{ticket}/s3/params": params,
    "POST /s3/t/{ticket}/s3/multipart": create,
}
