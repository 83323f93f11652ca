"""POST /v1/uploads: up to 200 sessions a call. Asks S3 for the multipart uploads and writes the records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from heavylift import counting, dynamo, intake, items, presign, s3
from heavylift.api import idempotency, member_uploads, problems, rates
from heavylift.api.bodies import FileEntry, InitiateBody, digest_forms, parse
from heavylift.api.caller import Caller, json_body
from heavylift.api.idempotency import Run
from heavylift.credentials import bucket_address, from_environment
from heavylift.errors import HeavyliftError, RequestError
from heavylift.records import FileRecord, iso, item_key, to_item
from heavylift.settings import settings
from heavylift.states import State
from heavylift.telemetry import count, logger

CREATE_PARALLEL = 16  # CreateMultipartUpload takes ~50 ms on AWS: 200 of them in under a second


@dataclass(frozen=True, slots=True)
class _Opened:
    """``written``: the record is in the table already."""

    entry: FileEntry
    record: FileRecord | None
    problem: dict[str, Any] | None = None
    written: bool = False


def initiate_uploads(caller: Caller, event: Mapping[str, Any]) -> dict[str, Any]:
    """The answer's body: one entry a file in the order asked for, with its session or its problem."""
    value = json_body(event)
    body = parse(InitiateBody, value)
    return idempotency.once(caller, event, value, lambda run: _initiate(caller, body, run), new_ids=len(body.files))


def _initiate(caller: Caller, body: InitiateBody, run: Run) -> dict[str, Any]:
    there = _there(caller, run) if run.resumed else {}
    rates.spend(caller.tenant, files=len(body.files) - len(there))
    # Marked before they are there: a kill between the two leaves an hour that is counted once too often.
    if run.keyed:
        counting.mark_all(caller.tenant, run.ids)
    with ThreadPoolExecutor(min(CREATE_PARALLEL, len(body.files))) as pool:
        opened = list(
            pool.map(
                lambda entry, file_id: _open(caller, entry, file_id, body.max_part_size, there, keyed=run.keyed),
                body.files,
                run.ids,
            )
        )
    # The records are written after the uploads exist: one write a file. What a kill between the two leaves is an
    # empty multipart upload without owner, which the sweeper and the bucket's own rule abort.
    records = [one.record for one in opened if one.record and not one.written]
    counting.mark_all(caller.tenant, (record.file_id for record in records))
    dynamo.put_new(records)
    count("UploadsInitiated", len(records))
    return {"uploads": [_shown(one) for one in opened]}


def _there(caller: Caller, run: Run) -> dict[str, FileRecord]:
    """What an earlier run of the same request has made."""
    found = dynamo.get_many([item_key(caller.tenant, file_id) for file_id in run.ids], consistent=True)
    return {record.file_id: record for record in found}


def _open(
    caller: Caller,
    entry: FileEntry,
    file_id: str,
    max_part_size: int | None,
    there: Mapping[str, FileRecord],
    *,
    keyed: bool,
) -> _Opened:
    now = time.time()
    try:
        if entry.batch_id is not None or entry.n is not None:
            record = member_uploads.open_member(caller, entry, max_part_size, now)
            return _Opened(entry, record, written=True)
        if file_id in there:
            return _Opened(entry, there[file_id], written=True)
        record = intake.plan_upload(
            entry,
            tenant=caller.tenant,
            user=caller.user,
            file_id=file_id,
            now=now,
            max_part_size=max_part_size,
            settings=settings(),
        )
        if record.mode == "multipart":
            record = member_uploads.with_upload(record)
        if keyed:  # another run of the same request may be at work: the first to write the record makes the session
            record = _first(record)
    except RequestError as error:
        return _Opened(entry, None, problems.body(error))
    except HeavyliftError as error:
        logger().warning("upload not opened", code=error.code)
        return _Opened(entry, None, problems.body(error))
    logger().info(
        "upload opened", file_id=record.file_id, size=record.size, mode=record.mode, part_count=record.part_count
    )
    return _Opened(entry, record, written=keyed)


def _first(record: FileRecord) -> FileRecord:
    """Write the record, unless a twin was first: then our upload goes and the twin's record is given."""
    if items.put(to_item(record), only_new=True):
        return record
    there = dynamo.get(record.tenant, record.file_id)
    if record.s3_upload_id and record.s3_upload_id != there.s3_upload_id:
        s3.abort_multipart(settings().staging_bucket, record.key, record.s3_upload_id)
    return there


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
    waits = record.status is State.CREATED  # a repeated call may find it sent, or cancelled
    if waits and record.mode == "single" and (one.entry.sha256 or record.checksum == "none"):
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
