"""GET …/multipart/{uploadId}/{partNumber} and …/batch: URLs of parts whose size and digest nobody announced.

Stdlib and heavylift only. Reads the record by a signed DynamoDB request of its own, writes nothing. The URLs sign no
length, so that what they may hold is bounded by S3 and proven where the upload is joined.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from heavylift import credentials, presign
from heavylift.api.caller import Caller
from heavylift.api.companion import door
from heavylift.api.table_requests import get_item
from heavylift.errors import RequestError
from heavylift.limits import PART_COUNT_MAX, PARTS_PER_CALL_MAX, S3_PART_SIZE_MIN
from heavylift.records import SEALING_KEY, item_key
from heavylift.settings import Settings
from heavylift.states import State

_NEEDED = ("by_ticket", "user", "mode", "key", "status", "expires_at", "s3_upload_id")
_secret: list[bytes] = []


def sealing_key(config: Settings) -> bytes | None:
    """The key that seals tickets, kept by the process; None when there is none yet. TransientError."""
    if not _secret:
        item = get_item(SEALING_KEY, ("secret",), config)
        if item is None:
            return None
        _secret.append(item["secret"])
    return _secret[0]


def caller_of(event: Mapping[str, Any], config: Settings, now: float) -> Caller:
    """Tenant and user of the ticket. RequestError ``ticket_invalid``, ``ticket_expired``; TransientError."""
    return door.caller_of(event, sealing_key(config), now)


def sign_part(caller: Caller, event: Mapping[str, Any], config: Settings, now: float) -> dict[str, Any]:
    """{"url", "expires"}; ``expires`` in seconds, which older Uppys take for the time that a part may take."""
    number = _number(door.path_text(event, "partNumber"), config)
    urls, ttl = _urls(caller, event, [number], config, now)
    return {"url": urls[0], "expires": ttl}


def sign_batch(caller: Caller, event: Mapping[str, Any], config: Settings, now: float) -> dict[str, Any]:
    """{"presignedUrls": {"1": …}} for ``partNumbers=1,2,3``."""
    texts = str((event.get("queryStringParameters") or {}).get("partNumbers", "")).split(",")
    if len(texts) > PARTS_PER_CALL_MAX:
        raise RequestError("invalid_parameter", f"partNumbers may name {PARTS_PER_CALL_MAX} parts in one call.")
    numbers = [_number(text, config) for text in texts]
    urls, _ = _urls(caller, event, numbers, config, now)
    return {"presignedUrls": {str(number): url for number, url in zip(numbers, urls, strict=True)}}


def _number(text: str, config: Settings) -> int:
    """A part's number. Every part before it has 5 MiB at least, which already tells that a file is too large."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    if not 1 <= number <= PART_COUNT_MAX:
        raise RequestError("part_number_out_of_range", f"A part number is a whole number from 1 to {PART_COUNT_MAX}.")
    if (number - 1) * S3_PART_SIZE_MIN >= config.max_file_size_bytes:
        raise RequestError("size_not_allowed", f"At most {config.max_file_size_bytes} bytes are taken.")
    return number


def _urls(
    caller: Caller, event: Mapping[str, Any], numbers: Sequence[int], config: Settings, now: float
) -> tuple[list[str], int]:
    """(URLs in the order of ``numbers``, seconds that they live)."""
    record = get_item(item_key(caller.tenant, door.upload_id_of(event)), _NEEDED, config)
    door.must_be_his(caller, event, record)
    assert record is not None
    if record["status"] == State.EXPIRED or (record["status"] == State.UPLOADING and record["expires_at"] <= now):
        raise RequestError("upload_expired", "This upload's time is over; start a new one.")
    if record["status"] != State.UPLOADING:
        raise RequestError("state_conflict", f"An upload that is {record['status']} takes no more parts.")
    ttl = max(1, int(min(config.signature_ttl_s, record["expires_at"] - now)))
    urls = presign.presign_parts(
        credentials.from_environment(os.environ),
        config.region,
        credentials.bucket_address(config.staging_bucket, config.region, os.environ),
        record["key"],
        record["s3_upload_id"],
        [presign.PartToSign(number, {}) for number in numbers],
        ttl,
        presign.timestamp(now),
    )
    return list(urls), ttl
