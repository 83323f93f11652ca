"""POST /v1/uploads: up to 200 sessions a call. Asks S3 for the multipart uploads and writes the records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from heavylift import counting, dynamo, intake, presign
from heavylift.api import member_uploads, problems
from heavylift.api.bodies import FileEntry, InitiateBody, digest_forms, parse
from heavylift.api.caller import Caller, json_body
from heavylift.credentials import bucket_address, from_environment
from heavylift.errors import HeavyliftError, RequestError
from heavylift.ids import new_ulid
from heavylift.records import FileRecord, iso
from heavylift.settings import settings
from heavylift.telemetry import count, logger

CREATE_PARALLEL = 16  # CreateMultipartUpload takes ~50 ms on AWS: 200 of them in under a second


@dataclass(frozen=True, slots=True)
class _Opened:
    """``written``: a batch member's record is in the table already."""

    entry: FileEntry
    record: FileRecord | None
    problem: dict[str, Any] | None = None
    written: bool = False


def initiate_uploads(caller: Caller, event: Mapping[str, Any]) -> dict[str, Any]:
    """The answer's body: one entry a file in the order asked for, with its session or its problem."""
    body = parse(InitiateBody, json_body(event))
    with ThreadPoolExecutor(min(CREATE_PARALLEL, len(body.files))) as pool:
        opened = list(pool.map(lambda entry: _open(caller, entry, body.max_part_size), body.files))
    # The records are written after the uploads exist: one write a file. What a kill between the two leaves is an
    # empty multipart upload without owner, which the sweeper and the bucket's own rule abort.
    records = [one.record for one in opened if one.record and not one.written]
    # Marked before they are there: a kill between the two leaves an hour that is counted once too often.
    counting.mark_all(caller.tenant, (record.file_id for record in records))
    dynamo.put_new(records)
    count("UploadsInitiated", len(records))
    return {"uploads": [_shown(one) for one in opened]}


def _open(caller: Caller, entry: FileEntry, max_part_size: int | None) -> _Opened:
    now = time.time()
    try:
        if entry.batch_id is not None or entry.n is not None:
            record = member_uploads.open_member(caller, entry, max_part_size, now)
            return _Opened(entry, record, written=True)
        record = intake.plan_upload(
            entry,
            tenant=caller.tenant,
            user=caller.user,
            file_id=new_ulid(now),
            now=now,
            max_part_size=max_part_size,
            settings=settings(),
        )
        if record.mode == "multipart":
            record = member_uploads.with_upload(record)
    except RequestError as error:
        return _Opened(entry, None, problems.body(error))
    except HeavyliftError as error:
        logger().warning("upload not opened", code=error.code)
        return _Opened(entry, None, problems.body(error))
    logger().info(
        "upload opened", file_id=record.file_id, size=record.size, mode=record.mode, part_count=record.part_count
    )
    return _Opened(entry, record)


def _shown(one: _Opened) -> dict[str, Any]:
    if one.record is None:
        return {"client_id": one.entry.client_id, "problem": one.problem}
    record = one.record
    shown: dict[str, Any] = {
        "upload_id": record.file_id,
        "client_id": one.entry.client_id,
        "mode": record.mode,
        "part_size": record.part_size,
        "part_count": record.part_count,
        "expires_at": iso(record.expires_at),
    }
    if record.mode == "single" and (one.entry.sha256 or record.checksum == "none"):
        shown["put"] = _signed_put(record, one.entry.sha256)
    return shown


def _signed_put(record: FileRecord, digest: str | None) -> dict[str, Any]:
    now = time.time()
    ttl = settings().signature_ttl_s
    headers = intake.put_headers(digest_forms(digest)[1] if digest else None)
    url = presign.presign_put(
        from_environment(os.environ),
        settings().region,
        bucket_address(settings().staging_bucket, settings().region, os.environ),
        record.key,
        {**headers, "content-length": str(record.size)},
        ttl,
        presign.timestamp(now),
    )
    return {"url": url, "headers": headers, "expires_at": iso(now + ttl)}
