"""Batches over HTTP: begun, listed, completed, cancelled, watched. Signing is ``sign_batches``'s."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from heavylift import dynamo, file_rules, post_policy, s3
from heavylift.api import batch_views, idempotency, page_token, rates
from heavylift.api.answer_size import SOME_LINES_BYTES_MAX, fitting
from heavylift.api.bodies import BatchBody, BatchEndBody, ManifestBody, digest_forms, parse
from heavylift.api.caller import Caller, json_body
from heavylift.api.idempotency import Run
from heavylift.batches import closing, manifest, members, model, progress, store
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch
from heavylift.credentials import bucket_address, from_environment
from heavylift.dicom import index
from heavylift.dicom import studies as dicom_studies
from heavylift.errors import RequestError
from heavylift.ids import is_ulid, member_of
from heavylift.limits import (
    BATCH_LIST_MAX,
    BATCH_LOOK_S,
    BATCH_WAIT_MAX_S,
    LIST_LIMIT_MAX,
    MANIFEST_PAGES_MAX,
    SINGLE_PUT_MAX,
)
from heavylift.records import FileRecord, iso
from heavylift.settings import settings
from heavylift.telemetry import count, logger

DAY_S = 86_400
WAIT_STEP_S = 0.5  # one small read each; nobody sees the difference


def batch_id_of(event: Mapping[str, Any]) -> str:
    """A batch's id from the path. RequestError ``not_found`` for what cannot be one."""
    text = str((event.get("pathParameters") or {}).get("id", ""))
    if not is_ulid(text):
        raise RequestError("not_found", "There is no batch with this id.")
    return text


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and low <= int(text) <= high):
        raise RequestError("invalid_parameter", f"{name} must be a whole number from {low} to {high}.", parameter=name)
    return int(text)


# --- initiate ---
def begin(caller: Caller, event: Mapping[str, Any], facility: str | None) -> dict[str, Any]:
    """POST /v1/batches: the id, and with mode ``post`` the policy for its small files.

    ``facility``: what the caller's token says; a body that says otherwise is refused (``facility_not_allowed``).
    """
    value = json_body(event)
    body = parse(BatchBody, value)
    if facility is not None and body.facility not in {None, facility}:
        raise RequestError("facility_not_allowed", "The token is for another facility than the body names.")
    file_rules.check_sent(body.rules)
    begun = lambda run: _begin(caller, body, facility, run)  # noqa: E731
    return idempotency.once(caller, event, value, begun, new_ids=1)


def _begin(caller: Caller, body: BatchBody, facility: str | None, run: Run) -> dict[str, Any]:
    (batch_id,) = run.ids
    now = time.time()
    batch = store.find(caller.tenant, batch_id) if run.resumed else None
    if batch is None:
        rates.spend(caller.tenant)
        batch = _planned(caller, body, facility, batch_id, now)
        if store.create(batch):
            count("BatchesBegun")
            logger().info("batch begun", batch_id=batch.batch_id, total=batch.total, kind=batch.kind)
        else:  # a twin of this call was first
            batch = store.get(caller.tenant, batch_id)
    shown: dict[str, Any] = {
        "batch_id": batch.batch_id,
        "status": batch.status.value,
        "expires_at": iso(batch.expires_at),
    }
    if batch.mode == "post":
        shown["policy"] = _policy(batch, now, with_digest=body.checksum == "sha256")
    return shown


def _planned(caller: Caller, body: BatchBody, facility: str | None, batch_id: str, now: float) -> Batch:
    session_s = settings().session_days * DAY_S
    return Batch(
        tenant=caller.tenant,
        batch_id=batch_id,
        kind=body.kind,
        total=body.total,
        mode=body.mode,
        lane=members.lane_of(body.kind),
        facility=facility or body.facility,
        user=caller.user,
        metadata=body.metadata,
        rules=body.rules,
        created_at=now,
        updated_at=now,
        expires_at=now + session_s,
        due_at=now + min(session_s, BATCH_LOOK_S / settings().time_scale),
    )


def _policy(batch: Batch, now: float, *, with_digest: bool) -> dict[str, Any]:
    bucket, ttl = settings().staging_bucket, settings().signature_ttl_s
    form = post_policy.presign_post(
        from_environment(os.environ),
        settings().region,
        bucket_address(bucket, settings().region, os.environ),
        bucket,
        members.prefix_of(batch),
        SINGLE_PUT_MAX,
        ttl,
        now,
        with_digest=with_digest,
    )
    return {**form, "expires_at": iso(now + ttl)}


def put_page(caller: Caller, batch_id: str, page_text: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """PUT /v1/batches/{id}/manifest/{page}: up to 5 000 entries; a page that is there already changes nothing.

    The entries are written first and the page is registered after that: what is registered is whole.
    """
    page = _whole(page_text, "page", 0, MANIFEST_PAGES_MAX - 1)
    value = json_body(event)
    body = parse(ManifestBody, {"entries": value} if isinstance(value, list) else value)
    entries = [
        Entry(
            entry.n,
            entry.name,
            entry.size,
            digest_forms(entry.sha256)[0] if entry.sha256 else None,
            entry.relative_path,
            page,
        )
        for entry in body.entries
    ]
    if len({entry.n for entry in entries}) < len(entries):
        raise RequestError("invalid_body", "A number stands twice on this page.")
    digest = manifest.digest_of(entries)
    batch = store.get(caller.tenant, batch_id)
    if model.may_add_page(batch, page, digest, len(entries), time.time()):
        store.keep_entries(caller.tenant, batch_id, entries)
        batch, _ = store.update(
            caller.tenant,
            batch_id,
            lambda current: model.with_page(current, page, digest, len(entries), time.time()),
        )
        if not batch.unlisted:
            # Its last files may have ended while their page was being registered.
            batch = progress.settle(caller.tenant, batch_id)
    return {"batch_id": batch_id, "page": page, "entries": len(entries), "listed": batch.listed, "total": batch.total}


# --- complete ---
def complete(
    caller: Caller, batch_id: str, event: Mapping[str, Any], seconds_left: Callable[[], float]
) -> dict[str, Any]:
    """POST /v1/batches/{id}/complete"""
    value = json_body(event)
    parse(BatchEndBody, value)
    done = lambda run: _shown(closing.complete(caller.tenant, batch_id, seconds_left))  # noqa: E731
    return idempotency.once(caller, event, value, done)


def cancel(caller: Caller, batch_id: str, seconds_left: Callable[[], float]) -> dict[str, Any]:
    """DELETE /v1/batches/{id}"""
    return _shown(closing.cancel(caller.tenant, batch_id, seconds_left))


# --- sessions ---
def status(caller: Caller, batch_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/batches/{id}?wait=: exact counts; with ``wait`` when it has ended or that many seconds are over."""
    wait_s = _seconds(query.get("wait", ""))
    until = time.time() + wait_s
    batch = store.get(caller.tenant, batch_id)
    if wait_s and not batch.final:
        batch = progress.settle(caller.tenant, batch_id)
    while not batch.final and time.time() < until:
        time.sleep(min(WAIT_STEP_S, max(0.001, until - time.time())))
        batch = store.get(caller.tenant, batch_id)
    shown = _shown(batch)
    if "wait" in query and batch.total <= BATCH_LIST_MAX:
        inside = files(caller, batch_id, {})["items"]
        if fitting(inside, SOME_LINES_BYTES_MAX) == len(inside):
            shown["files"] = inside
    return shown


def _seconds(text: str) -> float:
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise RequestError("invalid_parameter", "wait must be a number of seconds from 0 on.", parameter="wait")
    return min(value, BATCH_WAIT_MAX_S)


def _shown(batch: Batch) -> dict[str, Any]:
    """The batch as of now. The marks are read after the batch: they are never behind its status."""
    found = progress.survey(batch.tenant, batch.batch_id)
    if not batch.final and model.done(batch, found.tally):
        # Whoever marked the last verdict is about to end the batch, or was killed before that.
        batch = progress.settle(batch.tenant, batch.batch_id)
        found = progress.survey(batch.tenant, batch.batch_id)
    numbers = sorted({*found.failures, *found.flaws})
    lines = {line["n"]: line for line in _lines(batch, numbers)}
    errors = [batch_views.problem_view(lines[n]) for n in found.failures if lines[n]["verdict"]]
    strays = store.strays(batch.tenant, batch.batch_id)
    errors += [
        batch_views.stray_view(n, code)
        for n, code in sorted(strays.items(), key=lambda one: (one[0] is None, one[0] or 0))
    ]
    if batch.closed_at is not None and batch.unlisted:
        errors.insert(0, batch_views.unlisted_view(batch))
    warnings = [batch_views.problem_view(lines[n]) for n in found.flaws if lines[n]["verdict"]]
    errors, warnings = (
        few[: fitting(few, SOME_LINES_BYTES_MAX)] for few in (errors[:BATCH_LIST_MAX], warnings[:BATCH_LIST_MAX])
    )
    of_batch = index.studies_of_batch(batch.tenant, batch.batch_id) if batch.kind == "dicom" else []
    return batch_views.batch_view(batch, found.tally, errors, warnings, of_batch)


def _lines(batch: Batch, numbers: list[int]) -> list[dict[str, Any]]:
    """What is known of some members, in this order; at most a few hundred."""
    if not numbers:
        return []
    records = store.members_of(batch.tenant, batch.batch_id, numbers)
    silent = [n for n in numbers if n not in records]
    hundreds = sorted({manifest.hundred_of(n) for n in silent})
    entries = store.entries_of(batch.tenant, batch.batch_id, hundreds)
    known = store.marks_of(batch.tenant, batch.batch_id, hundreds)
    return [batch_views.member_view(batch, entries.get(n), n, records.get(n), known.get(n)) for n in numbers]


def files(caller: Caller, batch_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/batches/{id}/files: every member of the manifest by number, with its verdict."""
    batch = store.get(caller.tenant, batch_id)
    limit = _whole(query.get("limit") or str(LIST_LIMIT_MAX), "limit", 1, LIST_LIMIT_MAX)
    scope = f"{caller.tenant}\0batch\0{batch_id}"
    after = -1
    if query.get("next_token"):
        after = int(page_token.unseal(dynamo.sealing_key(), scope, query["next_token"])["n"])
    numbers: list[int] = []
    for entries in store.manifest_pages(caller.tenant, batch_id, after + 1):
        numbers += sorted(n for n in entries if n > after)
        if len(numbers) > limit:
            break
    lines = _lines(batch, numbers[:limit])
    shown = fitting(lines)
    token = None
    if len(numbers) > shown:
        token = page_token.seal(dynamo.sealing_key(), scope, {"n": str(numbers[shown - 1])})
    return {"items": lines[:shown], "next_token": token}


def studies(caller: Caller, batch_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET /v1/batches/{id}/studies: the studies to which files of the batch belong, by UID, with exact counts."""
    store.get(caller.tenant, batch_id)
    limit = _whole(query.get("limit") or str(LIST_LIMIT_MAX), "limit", 1, LIST_LIMIT_MAX)
    scope = f"{caller.tenant}\0studies\0{batch_id}"
    after = ""
    if query.get("next_token"):
        after = str(page_token.unseal(dynamo.sealing_key(), scope, query["next_token"])["study"])
    known = [uid for uid, _ in index.studies_of_batch(caller.tenant, batch_id) if uid > after]
    found = {uid: dicom_studies.read(caller.tenant, uid) for uid in known[:limit]}
    lines = [batch_views.study_view(view, _thumbnail_url) for view in found.values() if view is not None]
    token = None
    if len(known) > limit:
        token = page_token.seal(dynamo.sealing_key(), scope, {"study": known[limit - 1]})
    return {"items": lines, "next_token": token}


def _thumbnail_url(key: str) -> str:
    return s3.presigned_get(settings().derived_bucket, key, settings().signature_ttl_s, media_type="image/jpeg")


def announced_file(tenant: str, file_id: str) -> FileRecord | None:
    """The record that a member of a manifest will have, before its bytes arrive; None when no manifest names it."""
    member = member_of(file_id)
    batch = store.find(tenant, member[0]) if member else None
    if member is None or batch is None:
        return None
    entry = store.entry(tenant, *member)
    return members.announced(batch, entry) if entry else None
