"""GET, POST …/complete and DELETE …/multipart/{uploadId}: what is there, what is joined, what is given up."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from heavylift import assembly, dynamo, life, purging, records, s3
from heavylift.api.bodies import CompanionParts, parse
from heavylift.api.caller import Caller, json_body
from heavylift.api.companion import door
from heavylift.credentials import bucket_address
from heavylift.errors import RequestError
from heavylift.limits import COMPLETE_WAIT_S
from heavylift.records import Change, FileRecord
from heavylift.retention import GONE
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, Event, State
from heavylift.telemetry import count


def _record(caller: Caller, event: Mapping[str, Any]) -> FileRecord:
    record = dynamo.find(caller.tenant, door.upload_id_of(event))
    facts = None if record is None else {name: getattr(record, name) for name in ("by_ticket", "user", "mode", "key")}
    door.must_be_his(caller, event, facts)
    assert record is not None
    return record


def list_parts(caller: Caller, event: Mapping[str, Any]) -> tuple[int, Any]:
    """[{"PartNumber", "ETag", "Size"}] of all pages; of an upload that was joined, what it was joined of.

    So a client that lost the answer to its complete finds all parts, sends none again and completes once more.
    """
    record = _record(caller, event)
    parts = _parts(record)
    return 200, [{"PartNumber": one.number, "ETag": f'"{one.etag}"', "Size": one.size_bytes} for one in parts]


def _parts(record: FileRecord) -> list[s3.PartInfo]:
    if record.status in AWAITING_OBJECT:
        try:
            return assembly.list_parts(record)
        except s3.NoSuchUpload:
            pass
    found = [] if record.status in GONE else assembly.joined_parts(record)
    if not found:
        raise RequestError("upload_expired", "This upload's parts are gone; start a new upload.")
    return found


def complete(caller: Caller, event: Mapping[str, Any]) -> tuple[int, Any]:
    """{"location", "key", "bucket"}, however often it is asked. 202 when S3 is still joining after 20 s."""
    record = _record(caller, event)
    body = parse(CompanionParts, json_body(event))
    record = assembly.complete(
        record,
        "complete",
        claimed=None,
        declared_sha256=None,
        wait_s=COMPLETE_WAIT_S / settings().time_scale,
        etags={part.PartNumber: part.ETag.strip('"') for part in body.parts},
    )
    if record.staged_at is not None:
        count("UploadsCompleted")
    elif record.final:
        raise RequestError("state_conflict", f"This upload is {record.status.value}; it cannot be completed.")
    bucket = settings().staging_bucket
    address = bucket_address(bucket, settings().region, os.environ)
    location = f"{address.scheme}://{address.host}{address.prefix}/{record.key}"
    return 202 if record.staged_at is None else 200, {"location": location, "key": record.key, "bucket": bucket}


def abort(caller: Caller, event: Mapping[str, Any]) -> tuple[int, Any]:
    """{} once nothing of it is left; a file whose bytes are all there is beyond a ticket's reach (409)."""
    record = _record(caller, event)

    def decide(current: FileRecord) -> Change | None:
        if current.status in GONE:
            return None
        if current.status not in AWAITING_OBJECT:
            raise RequestError("state_conflict", f"A file that is {current.status.value} is aborted no more.")
        return records.transition(current, Event.CANCEL, time.time(), caller.user or "client")

    record = life.update(caller.tenant, record.file_id, decide)
    if record.status is State.CANCELLED:
        purging.settle(record)
        count("UploadsCancelled")
    return 200, {}


ROUTES = {
    "GET /s3/t/{ticket}/s3/multipart/{uploadId}": list_parts,
    "POST /s3/t/{ticket}/s3/multipart/{uploadId}/complete": complete,
    "DELETE /s3/t/{ticket}/s3/multipart/{uploadId}": abort,
}
