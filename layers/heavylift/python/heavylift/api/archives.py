"""Archives over HTTP: asked for, watched, cancelled, downloaded, one member read out of one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

from heavylift import dynamo, keys, s3, stored_threats
from heavylift.api import archive_views, idempotency, page_token, rates
from heavylift.api.answer_size import fitting
from heavylift.api.bodies import ArchiveBody, parse
from heavylift.api.caller import Caller, json_body
from heavylift.api.disposition import content_disposition
from heavylift.api.idempotency import Run
from heavylift.api.links import CONTENT_TTL_MAX_S, link, number
from heavylift.archives import ends, index, requests, selection, store
from heavylift.archives.entries import Missing
from heavylift.archives.jobs import ArchiveJob, ArchiveStatus
from heavylift.archives.requests import Request
from heavylift.batches import store as batches
from heavylift.errors import ContentError, RequestError
from heavylift.ids import is_ulid
from heavylift.limits import ARCHIVE_LOOKED_AT_MAX, LIST_LIMIT_MAX
from heavylift.ranges import drive
from heavylift.records import iso
from heavylift.settings import settings
from heavylift.telemetry import logger
from heavylift.work import first_look_s

MEDIA_TYPE = "application/zip"
NAMED_MAX = 20  # files that a refusal names
MEMBER_DIGITS_MAX = 9


def archive_id_of(event: Mapping[str, Any]) -> str:
    """An archive's id from the path. RequestError ``not_found`` for what cannot be one."""
    text = str((event.get("pathParameters") or {}).get("id", ""))
    if not is_ulid(text):
        raise RequestError("not_found", "There is no archive with this id.")
    return text


# --- initiate ---


def begin(caller: Caller, event: Mapping[str, Any]) -> dict[str, Any]:
    """POST /v1/archives: the request becomes an object, whose event starts the work."""
    value = json_body(event)
    body = parse(ArchiveBody, value)
    try:
        request = requests.made(body.model_dump())
    except ContentError as error:
        raise RequestError("invalid_body", error.message) from None
    return idempotency.once(caller, event, value, lambda run: _begin(caller, request, run), new_ids=1)


def _begin(caller: Caller, request: Request, run: Run) -> dict[str, Any]:
    (archive_id,) = run.ids
    job = store.find(caller.tenant, archive_id) if run.resumed else None
    if job is None:
        rates.spend(caller.tenant)
        _look(caller.tenant, request)
        # Whoever runs this again writes the same bytes; the object comes first, for its event can make the job, too.
        request = requests.asked(request, caller.user, run.began)
        try:
            s3.put_bytes(
                settings().derived_bucket,
                keys.archive_request(caller.tenant, archive_id),
                requests.encode(request),
                media_type="application/json",
                only_new=True,
            )
        except s3.PreconditionFailed:
            logger().info("the request is there already", archive_id=archive_id)
        now = time.time()
        job = store.create(requests.new_job(caller.tenant, archive_id, request, now, now + first_look_s()))
    return archive_views.archive_view(job)


def _look(tenant: str, request: Request) -> None:
    """What can be said at once. RequestError ``not_found``, ``not_stored``, ``state_conflict``.

    Of many files the first are looked at; the job looks at all of them.
    """
    if request.batch_id is not None:
        batch = batches.get(tenant, request.batch_id)
        if not batch.final and request.on_missing == "fail":
            raise RequestError(
                "state_conflict",
                f"A batch that is {batch.status.value} may get more files; wait for its end, or use on_missing skip.",
                status=batch.status.value,
            )
        return
    if request.file_ids and request.on_missing == "skip":
        return
    try:
        found = list(islice(selection.select(tenant, request, {}), ARCHIVE_LOOKED_AT_MAX if request.file_ids else 1))
    except ContentError as error:
        raise RequestError(error.code, error.message) from None
    if not request.file_ids:
        return
    missing = [one for one in found if isinstance(one, Missing)]
    unknown = [one.file_id for one in missing if one.reason == "not_found"]
    if unknown:
        raise RequestError(
            "not_found",
            f"There is no file with the id {unknown[0]}.",
            file_ids=unknown[:NAMED_MAX],
            number=len(unknown),
        )
    if missing:
        first = missing[0]
        raise RequestError(
            "not_stored",
            f"The file {first.file_id} is {first.reason} and cannot be archived; wait, or ask with on_missing skip.",
            file_ids=[one.file_id for one in missing[:NAMED_MAX]],
            status=first.reason,
            number=len(missing),
        )


# --- sessions ---


def status(caller: Caller, archive_id: str) -> dict[str, Any]:
    """GET /v1/archives/{id}"""
    return archive_views.archive_view(store.get(caller.tenant, archive_id))


def _made(caller: Caller, archive_id: str) -> ArchiveJob:
    """A job whose archive can be read. RequestError ``archive_not_ready``, ``archive_expired``, ``malware_found``."""
    job = store.get(caller.tenant, archive_id)
    over = job.expires_at is not None and job.expires_at <= time.time()
    if job.status is ArchiveStatus.EXPIRED or (job.status is ArchiveStatus.COMPLETED and over):
        raise RequestError("archive_expired", "This archive's time is over; ask for it again.", status="expired")
    if job.status is not ArchiveStatus.COMPLETED:
        raise RequestError(
            "archive_not_ready",
            f"An archive that is {job.status.value} cannot be downloaded.",
            status=job.status.value,
            final=job.final,
        )
    found = stored_threats.noted(caller.tenant)
    if found:
        source, head = _index(job)
        if drive(index.holds_any(head, found), source.read):
            raise RequestError(
                "malware_found",
                "A malware scanner has found a threat in a file of this archive; ask again with on_missing skip.",
            )
    return job


def _signed(job: ArchiveJob, ttl_s: int, name: str, media_type: str) -> str:
    return s3.presigned_get(
        settings().derived_bucket,
        keys.archive(job.tenant, job.content_sha256 or ""),
        ttl_s,
        disposition=content_disposition(name),
        media_type=media_type,
    )


def content(caller: Caller, archive_id: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """GET /v1/archives/{id}/content: a signed link; S3 answers ranges of it."""
    job = _made(caller, archive_id)
    ttl_s = number(query, "ttl", settings().signature_ttl_s, CONTENT_TTL_MAX_S)
    return link(_signed(job, ttl_s, job.name, MEDIA_TYPE), ttl_s, query)


def _index(job: ArchiveJob) -> tuple[s3.ObjectSource, index.Head]:
    """The archive's index, and how much is in it. RequestError ``archive_expired``."""
    bucket, key = settings().derived_bucket, keys.archive_index(job.tenant, job.content_sha256 or "")
    head = s3.head(bucket, key)
    if head is None:
        raise RequestError("archive_expired", "This archive is no longer there; ask for it again.", status="expired")
    source = s3.ObjectSource(bucket, key, head.size_bytes, head.etag)
    return source, index.head_of(source.read(0, index.HEAD_BYTES))


def members(caller: Caller, archive_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/archives/{id}/members: names, sizes and places, in the order of the archive's directory."""
    job = _made(caller, archive_id)
    limit = number(query, "limit", LIST_LIMIT_MAX, LIST_LIMIT_MAX)
    scope = f"{caller.tenant}\0archive\0{archive_id}"
    first = 0
    if query.get("next_token"):
        first = int(page_token.unseal(dynamo.sealing_key(), scope, query["next_token"])["n"])
    source, head = _index(job)
    lines = [archive_views.member_view(place) for place in drive(index.places(head, first, limit), source.read)]
    shown = fitting(lines)
    following = first + shown
    token = page_token.seal(dynamo.sealing_key(), scope, {"n": str(following)}) if following < head.count else None
    return {"items": lines[:shown], "next_token": token}


def member_content(caller: Caller, archive_id: str, number_text: str) -> dict[str, Any]:
    """GET /v1/archives/{id}/members/{n}/content: a signed link to the archive, and the Range that is the member.

    An empty member is no range: its Range begins behind the archive's end, and S3 answers 416 instead of everything.
    """
    job = _made(caller, archive_id)
    if not (number_text.isascii() and number_text.isdecimal() and len(number_text) <= MEMBER_DIGITS_MAX):
        raise RequestError("not_found", "A member's number is a whole number from 0.")
    source, head = _index(job)
    (place,) = drive(index.places(head, int(number_text), 1), source.read)
    ttl_s = settings().signature_ttl_s
    return {
        **archive_views.member_view(place),
        "url": _signed(job, ttl_s, place.name, "application/octet-stream"),
        "headers": {"range": place.range or f"bytes={job.size}-"},
        "expires_at": iso(time.time() + ttl_s),
    }


# --- complete ---


def cancel(caller: Caller, archive_id: str) -> dict[str, Any]:
    """DELETE /v1/archives/{id}"""
    return archive_views.archive_view(ends.cancel(caller.tenant, archive_id))
