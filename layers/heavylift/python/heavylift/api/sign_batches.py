"""POST /v1/batches/{id}/urls and …/policy: what brings a batch's small files to S3. Stdlib and heavylift only.

Reads the batch and its manifest by signed DynamoDB requests of its own, calls nothing else, writes nothing.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from heavylift import credentials, keys, parts, post_policy, presign
from heavylift.api import problems
from heavylift.api.caller import Caller, json_body, whole_number
from heavylift.api.table_requests import get_item, get_items
from heavylift.batches import manifest
from heavylift.batches.manifest import Entry
from heavylift.errors import RequestError
from heavylift.ids import is_ulid, member_id
from heavylift.limits import BATCH_NUMBER_MAX, SINGLE_PUT_MAX, URLS_PER_CALL_MAX
from heavylift.records import batch_partition
from heavylift.settings import Settings

OPEN = "open"
_NEEDED = ("batch_id", "status", "lane", "expires_at")


def _batch(caller: Caller, event: Mapping[str, Any], config: Settings, now: float) -> dict[str, Any]:
    """The batch's attributes. RequestError ``not_found``, ``state_conflict``, ``batch_expired``."""
    batch_id = str((event.get("pathParameters") or {}).get("id", ""))
    found = None
    if is_ulid(batch_id):
        found = get_item({"pk": batch_partition(caller.tenant, batch_id), "sk": "B"}, _NEEDED, config)
    if found is None:
        raise RequestError("not_found", "There is no batch with this id.")
    if found["status"] == "expired" or (found["status"] == OPEN and found["expires_at"] <= now):
        raise RequestError("batch_expired", "This batch's time is over; start a new one.")
    if found["status"] != OPEN:
        raise RequestError(
            "state_conflict", f"A batch that is {found['status']} takes no more files.", status=found["status"]
        )
    return found


def _lifetime(batch: Mapping[str, Any], config: Settings, now: float) -> tuple[int, str]:
    """(seconds, end as RFC 3339) of a signature: never longer than the batch's own time."""
    ttl = max(1, int(min(config.signature_ttl_s, batch["expires_at"] - now)))
    return ttl, datetime.fromtimestamp(now + ttl, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sign_policy(caller: Caller, event: Mapping[str, Any], config: Settings, now: float) -> dict[str, Any]:
    """{"url", "fields", "expires_at"}; with ``{"checksum": "sha256"}`` for forms that bring a digest."""
    body = json_body(event)
    checksum = body.get("checksum", "none") if isinstance(body, dict) else None
    if checksum not in ("none", "sha256"):  # whatever JSON it is: a list has no hash
        raise RequestError("invalid_body", 'The body may be empty or {"checksum": "sha256"}.')
    batch = _batch(caller, event, config, now)
    ttl, expires_at = _lifetime(batch, config, now)
    form = post_policy.presign_post(
        credentials.from_environment(os.environ),
        config.region,
        credentials.bucket_address(config.staging_bucket, config.region, os.environ),
        config.staging_bucket,
        keys.staging(batch["lane"], caller.tenant, member_id(batch["batch_id"], 0)).rpartition("/")[0] + "/",
        SINGLE_PUT_MAX,
        ttl,
        now,
        with_digest=checksum == "sha256",
    )
    return {**form, "expires_at": expires_at}


def wanted_numbers(body: Any) -> list[int]:
    """The numbers asked for, each once. RequestError ``invalid_body``. Pure."""
    numbers = body.get("n") if isinstance(body, dict) else None
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= URLS_PER_CALL_MAX:
        raise RequestError("invalid_body", f'"n" must be a list of 1 to {URLS_PER_CALL_MAX} numbers.')
    wanted: dict[int, None] = {}
    for position, given in enumerate(numbers):
        n = whole_number(given)
        if n is None or not 0 <= n <= BATCH_NUMBER_MAX:
            raise RequestError("invalid_body", f"n/{position} must be a whole number from 0 to {BATCH_NUMBER_MAX}.")
        wanted[n] = None
    return list(wanted)


def sign_urls(caller: Caller, event: Mapping[str, Any], config: Settings, now: float) -> dict[str, Any]:
    """{"urls": [{"n", "url", "headers", "expires_at"} or {"n", "problem"}]} in the order asked for."""
    numbers = wanted_numbers(json_body(event))
    batch = _batch(caller, event, config, now)
    partition = batch_partition(caller.tenant, batch["batch_id"])
    hundreds = sorted({manifest.hundred_of(n) for n in numbers})
    items = get_items([{"pk": partition, "sk": manifest.sort_key(hundred)} for hundred in hundreds], config)
    entries: dict[int, Entry] = {}
    for item in items:
        entries.update(manifest.unpack(item["entries"]))
    ttl, expires_at = _lifetime(batch, config, now)
    own = credentials.from_environment(os.environ)
    address = credentials.bucket_address(config.staging_bucket, config.region, os.environ)
    ts = presign.timestamp(now)

    def one(n: int) -> dict[str, Any]:
        try:
            entry = sendable(n, entries.get(n), config)
        except RequestError as error:
            return {"n": n, "problem": problems.body(error)}
        headers = headers_of(entry)
        key = keys.staging(batch["lane"], caller.tenant, member_id(batch["batch_id"], n))
        url = presign.presign_put(
            own, config.region, address, key, {**headers, "content-length": str(entry.size)}, ttl, ts
        )
        return {"n": n, "url": url, "headers": headers, "expires_at": expires_at}

    return {"urls": [one(n) for n in numbers]}


def sendable(n: int, entry: Entry | None, config: Settings) -> Entry:
    """The entry, if one PUT can bring it. RequestError ``not_in_manifest``, ``multipart_required``. Pure."""
    if entry is None:
        raise RequestError("not_in_manifest", f"The manifest does not name a file {n}.", n=n)
    if parts.plan_parts(entry.size, part_size_min=config.part_size_min_bytes, part_size_max=None).mode != "single":
        raise RequestError(
            "multipart_required",
            f"File {n} has {entry.size} bytes: begin an upload for it, with its batch_id and n.",
            n=n,
            size=entry.size,
        )
    return entry


def headers_of(entry: Entry) -> dict[str, str]:
    """What a client must send with the PUT, besides its length."""
    headers = {"if-none-match": "*"}
    if entry.sha256:
        headers["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(entry.sha256)).decode()
    return headers
