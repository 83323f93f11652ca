"""Everything that can be read: status, lists, facts, downloads, statistics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from heavylift import assembly, counting, dynamo, items, life, records, s3, scanning
from heavylift.api import batches, page_token, views
from heavylift.api.answer_size import fitting
from heavylift.api.bodies import digest_forms
from heavylift.api.caller import Caller
from heavylift.api.disposition import content_disposition
from heavylift.api.links import CONTENT_TTL_MAX_S, flag, link, number
from heavylift.batches import store
from heavylift.errors import RequestError
from heavylift.ids import FINGERPRINT_PATTERN, is_ulid, member_of
from heavylift.limits import KINDS, LIST_LIMIT_MAX, PART_COUNT_MAX
from heavylift.records import FileRecord
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, State, list_group

LIST_PAGES_MAX = 10  # index pages read for one answer when filters leave much out; then next_token goes on
INLINE_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "application/pdf"})


def _listed(record: FileRecord) -> list[s3.PartInfo]:
    """The parts in S3 while the upload is open; none once it is joined or gone."""
    if record.mode != "multipart" or record.status not in AWAITING_OBJECT:
        return []
    try:
        return assembly.list_parts(record)
    except s3.NoSuchUpload:
        return []


def upload(caller: Caller, file_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/uploads/{id}?parts="""
    with_parts = flag(query, "parts", default=False)
    record = dynamo.get(caller.tenant, file_id)
    listed = _listed(record)
    answer = views.upload_status(record, [(part.number, part.size_bytes) for part in listed], time.time())
    if with_parts:
        answer["parts"] = [
            {"part_number": part.number, "size": part.size_bytes, "sha256": part.sha256} for part in listed
        ]
    return answer


def part(caller: Caller, file_id: str, number_text: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/uploads/{id}/parts/{n}?sha256=: one part as S3 has it, and whether it is the one the caller means."""
    record = dynamo.get(caller.tenant, file_id)
    if not number_text.isascii() or not number_text.isdecimal() or len(number_text) > 5:
        raise RequestError("part_number_out_of_range", "A part number is a whole number from 1.")
    wanted = int(number_text)
    if record.size_known:
        assembly.plan_of(record).length(wanted)
    elif not 1 <= wanted <= PART_COUNT_MAX:
        raise RequestError("part_number_out_of_range", f"A part number is a whole number from 1 to {PART_COUNT_MAX}.")
    found = None
    if record.s3_upload_id and record.status in AWAITING_OBJECT:
        try:
            found = s3.list_part(settings().staging_bucket, record.key, record.s3_upload_id, wanted)
        except s3.NoSuchUpload:
            found = None
    if found is None:
        raise RequestError("part_not_received", f"Part {wanted} is not in S3.", part_number=wanted)
    answer: dict[str, Any] = {
        "part_number": wanted,
        "size": found.size_bytes,
        "etag": found.etag,
        "sha256": found.sha256,
    }
    if query.get("sha256"):
        answer["matches"] = found.sha256 == digest_forms(query["sha256"].replace(" ", "+"))[1]
    return answer


def list_files(caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/uploads and /v1/files: the newest first, filtered; eventually consistent, as indexes are.

    With ``thumbnail=true`` each line that has pictures brings its smallest one, signed here without a further read.
    """
    limit = number(query, "limit", 50, LIST_LIMIT_MAX)
    pictured = flag(query, "thumbnail", default=False)
    filters = {
        name: query[name]
        for name in ("status", "kind", "fingerprint", "batch_id", "logical_id")
        if name in query and (name != "logical_id" or query[name])
    }
    if filters.get("kind", KINDS[0]) not in KINDS:
        raise RequestError("invalid_parameter", f"kind must be one of {', '.join(KINDS)}.", parameter="kind")
    if "status" in filters and filters["status"] not in {state.value for state in State}:
        raise RequestError("invalid_parameter", "status must be the name of a state.", parameter="status")
    if "fingerprint" in filters and not FINGERPRINT_PATTERN.fullmatch(filters["fingerprint"]):
        raise RequestError("invalid_parameter", "This is no fingerprint of version 1.", parameter="fingerprint")
    if "batch_id" in filters and not is_ulid(filters["batch_id"]):
        raise RequestError("invalid_parameter", "This is no batch's id.", parameter="batch_id")
    if filters.get("logical_id"):
        filters["logical_id"] = records.logical_key(filters["logical_id"])
    scope = "\0".join((caller.tenant, *(f"{name}={value}" for name, value in sorted(filters.items()))))
    start = page_token.unseal(dynamo.sealing_key(), scope, query["next_token"]) if query.get("next_token") else None
    found: list[FileRecord] = []
    for _ in range(LIST_PAGES_MAX):
        wanted = limit - len(found)
        page, start = _list_page(caller.tenant, filters, wanted, start)
        found.extend(record for record in page if _matches(record, filters))
        if start is None or len(found) >= limit:
            break
    lines = [_line(record, pictured=pictured) for record in found]
    shown = fitting(lines)
    if shown < len(lines):
        start = _place_of(found[shown - 1], filters)
    token = page_token.seal(dynamo.sealing_key(), scope, start) if start else None
    return {"items": lines[:shown], "next_token": token}


def _line(record: FileRecord, *, pictured: bool) -> dict[str, Any]:
    line = views.upload_summary(record)
    if pictured and record.thumbnails:
        smallest = min(record.thumbnails, key=lambda one: int(one["size"]))
        line["thumbnail"] = views.thumbnail(smallest, _thumbnail_url(smallest["key"]))
    return line


def _thumbnail_url(key: str) -> str:
    return s3.presigned_get(settings().derived_bucket, key, settings().signature_ttl_s, media_type="image/jpeg")


def _place_of(record: FileRecord, filters: Mapping[str, str]) -> dict[str, str]:
    """Where a page goes on behind this record."""
    key = records.item_key(record.tenant, record.file_id)
    if "batch_id" in filters:
        return {"sk": key["sk"]}
    index, partition = _index_for(record.tenant, filters)
    return {**key, f"{index}_pk": partition, f"{index}_sk": record.file_id}


def _list_page(
    tenant: str, filters: Mapping[str, str], limit: int, start: Mapping[str, str] | None
) -> tuple[list[FileRecord], dict[str, str] | None]:
    """Records of the narrowest list for these filters, and where the next page starts."""
    if "batch_id" in filters:
        # A batch's members lie together: by number, strongly consistent.
        records_there, after = store.member_page(tenant, filters["batch_id"], start["sk"] if start else None, limit)
        return records_there, {"sk": after} if after else None
    index, partition = _index_for(tenant, filters)
    page, following = items.query_keys(index, partition, limit=limit, start=start)
    return dynamo.get_many(page), following


def _index_for(tenant: str, filters: Mapping[str, str]) -> tuple[str, str]:
    """The narrowest index for these filters; the rest is filtered from the records."""
    if "fingerprint" in filters:
        return "fingerprint", records.fingerprint_partition(tenant, filters["fingerprint"])
    if "logical_id" in filters:
        return "logical", records.logical_partition(tenant, filters["logical_id"])
    if "status" in filters:
        return "status", records.status_partition(tenant, list_group(State(filters["status"])))
    return "list", records.list_partition(tenant)


def _matches(record: FileRecord, filters: Mapping[str, str]) -> bool:
    status = filters.get("status")
    if status in {State.FAILED.value, State.FRESH.value}:
        if list_group(record.status) != status:
            return False
    elif status is not None and record.status.value != status:
        return False
    batch = filters.get("batch_id")
    return (
        filters.get("kind", record.kind) == record.kind
        and filters.get("fingerprint", record.fingerprint) == record.fingerprint
        and filters.get("logical_id", record.logical_id) == record.logical_id
        and (batch is None or (member_of(record.file_id) or ("",))[0] == batch)
    )


def file(caller: Caller, file_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/files/{id}?gps=: the facts, with fresh thumbnail URLs. A batch's member answers from its manifest on."""
    gps = flag(query, "gps", default=False)
    record = dynamo.find(caller.tenant, file_id) or batches.announced_file(caller.tenant, file_id)
    if record is None:
        raise dynamo.unknown()
    urls = {int(one["size"]): _thumbnail_url(one["key"]) for one in record.thumbnails}
    return views.file_view(record, urls, gps=gps)


def events(caller: Caller, file_id: str) -> dict[str, Any]:
    """GET /v1/files/{id}/events"""
    record = dynamo.get(caller.tenant, file_id)
    return views.audit_trail(record, life.audit_trail(record))


def content(caller: Caller, file_id: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """GET /v1/files/{id}/content: a signed link to the bytes, as attachment unless a browser shows them safely."""
    record = dynamo.get(caller.tenant, file_id)
    if not record.stored and not (record.status is State.FAILED and record.store_etag):
        raise RequestError(
            "not_stored", f"A file that is {record.status.value} cannot be downloaded.", status=record.status.value
        )
    if scanning.is_infected(record):
        raise RequestError("malware_found", "A malware scanner has found a threat in this file; it is not served.")
    if record.dicom is not None and record.store_etag is None and "stored_as" not in record.dicom:
        raise RequestError("not_stored", "This file was taken apart: its members are files.", status="completed")
    ttl = number(query, "ttl", settings().signature_ttl_s, CONTENT_TTL_MAX_S)
    media_type = record.media_type or "application/octet-stream"
    disposition = query.get("disposition", "attachment")
    if disposition not in {"attachment", "inline"}:
        raise RequestError("invalid_parameter", "disposition must be attachment or inline.", parameter="disposition")
    inline = disposition == "inline" and media_type in INLINE_TYPES
    url = s3.presigned_get(
        settings().store_bucket,
        record.content_key,
        ttl,
        disposition=content_disposition(record.name, inline=inline),
        media_type=media_type,
    )
    return link(url, ttl, query)


def thumbnail(
    caller: Caller, file_id: str, size_text: str, query: Mapping[str, str]
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """GET /v1/files/{id}/thumbnails/{size}"""
    record = dynamo.get(caller.tenant, file_id)
    for one in record.thumbnails:
        if str(one["size"]) == size_text:
            ttl = settings().signature_ttl_s
            return link(
                s3.presigned_get(settings().derived_bucket, one["key"], ttl, media_type="image/jpeg"), ttl, query
            )
    raise RequestError(
        "no_thumbnail",
        "There is no thumbnail of this size.",
        sizes=[int(one["size"]) for one in record.thumbnails],
        status=record.status.value,
    )


def report(caller: Caller, file_id: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """GET /v1/files/{id}/report: a signed link to the validation's report, or (``errors=true``) to all its errors."""
    record = dynamo.get(caller.tenant, file_id)
    described = record.report or {}
    with_errors = flag(query, "errors", default=False)
    key = described.get("errors_key" if with_errors else "key")
    if key is None:
        words = "The report has all errors." if described else "This file has no report."
        raise RequestError("no_report", words, status=record.status.value, kind=record.kind)
    media_type = "application/x-ndjson" if with_errors else "application/json"
    ttl = settings().signature_ttl_s
    return link(s3.presigned_get(settings().derived_bucket, key, ttl, media_type=media_type), ttl, query)


def stats(caller: Caller) -> dict[str, Any]:
    """GET /v1/stats: as of the last sweep."""
    return counting.read(caller.tenant)
