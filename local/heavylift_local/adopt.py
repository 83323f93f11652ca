"""A file on this disk becomes a stored object without being copied or read, for files too large to upload twice.

Its record starts at ``fresh``, judged by the same sniffer over ranged reads, with a synthetic ETag and no
checksums. Then the store's own event sets the life of every file going.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift_local import plan

if TYPE_CHECKING:
    from heavylift_local.stack import Stack


class AdoptError(Exception):
    """The file cannot be adopted; the message says why."""


def adopt(stack: Stack, path: str, tenant: str) -> dict[str, Any]:
    """{"name","upload_id","file_id","status","kind","size"} of the new file. Raises AdoptError.

    ``path`` is absolute: the stack's working directory is not the caller's.
    """
    if stack.external is not None:
        raise AdoptError("a file can be adopted by the embedded S3 only, not by another one")
    file = Path(path)
    if not file.is_absolute():
        raise AdoptError("the path must be absolute")
    try:
        if not file.is_file():
            raise AdoptError(f"{path} is no regular file")
        record = _record(file, tenant, stack.scale)
    except OSError as error:
        raise AdoptError(f"{path}: {error.strerror}") from None
    # The store's event must not overtake the record: an object that nobody waits for is not kept.
    with stack.events_held():
        try:
            stored = stack.s3_admin(
                "POST",
                "adopt",
                {
                    "bucket": stack.bucket_names["store"],
                    "key": f"files/{tenant}/{record.file_id}",
                    "path": str(file),
                    "content_type": record.media_type or "application/octet-stream",
                    "metadata": {"file-id": record.file_id},
                },
            )
        except OSError as error:
            raise AdoptError(f"the store refused it: {error}") from None
        record = replace(record, store_etag=stored["etag"].strip('"'), store_version_id=stored.get("version_id"))
        _put(stack, record)
    return {
        "name": record.name,
        "upload_id": record.file_id,
        "file_id": record.file_id,
        "status": record.status.value,
        "kind": record.kind,
        "size": record.size,
    }


def _record(file: Path, tenant: str, scale: float) -> Any:
    """The record at ``fresh``. Raises OSError, and AdoptError for content that validate would reject."""
    from heavylift.api.bodies import logical_id
    from heavylift.errors import ContentError
    from heavylift.ids import new_ulid
    from heavylift.image.facts import inspect
    from heavylift.limits import QUEUE_VISIBILITY_S
    from heavylift.ranges import ReadAhead, drive
    from heavylift.raw.reading import inspect_raw
    from heavylift.records import FileRecord
    from heavylift.sniff import detect
    from heavylift.states import State
    from heavylift.verdict import judge

    size = file.stat().st_size
    now = time.time()
    record = FileRecord(
        tenant=tenant,
        file_id=new_ulid(now),
        name=file.name,
        size=size,
        status=State.FRESH,
        user="adopt",
        logical_id=logical_id(file.name, {}),
        created_at=now,
        updated_at=now,
        staged_at=now,
        due_at=now + QUEUE_VISIBILITY_S["thumbnail"] / scale,
        events=({"at": round(now, 3), "event": "adopt", "from": "", "to": State.FRESH.value, "by": "adopt"},),
    )
    descriptor = os.open(file, os.O_RDONLY)
    try:
        fetch = ReadAhead(lambda offset, length: os.pread(descriptor, length, offset), size)
        try:
            detection = drive(detect(size, file.name), fetch)
            accepted = judge(record, detection)
        except ContentError as error:
            raise AdoptError(f"{error.code}: {error.message}") from None
        facts = None
        if accepted.kind in ("image", "raw"):
            look = inspect if accepted.kind == "image" else inspect_raw
            try:
                facts = asdict(drive(look(detection, size), fetch))
            except ContentError:
                pass  # a broken picture gets its verdict where its pixels are read
    finally:
        os.close(descriptor)
    return replace(record, kind=accepted.kind, format=accepted.format, media_type=accepted.media_type, facts=facts)


def _put(stack: Stack, record: Any) -> None:
    from heavylift import ddb_json, records

    key = stack.identity.keys[plan.OPERATOR].access_key
    body = {
        "TableName": stack.topology.TABLE.name,
        "Item": ddb_json.encode_item(records.to_item(record)),
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    request = urllib.request.Request(
        stack.endpoints.dynamodb,
        json.dumps(body).encode(),
        {
            "X-Amz-Target": "DynamoDB_20120810.PutItem",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260101/{plan.REGION}/dynamodb/aws4_request",
        },
        method="POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise AdoptError(f"the table refused the record: {error.read(300).decode(errors='replace')}") from None
    except OSError as error:
        raise AdoptError(f"the table cannot be reached: {error}") from None
