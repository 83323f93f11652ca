"""What S3 holds against what the records say: uploads, staged objects, temporaries and derived objects.

The decisions are pure; a listing is older than the records that are read after it, so that what was made meanwhile
is never taken for an orphan. Whoever makes an object writes its record within the grace times below.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from heavylift import assembly, dynamo, keys, purging, queue, records, s3, validation
from heavylift.records import FileRecord
from heavylift.retention import GONE, QUARANTINED
from heavylift.s3 import Listed
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, State
from heavylift.sweeping.archives import living
from heavylift.sweeping.due import Backlog, take_up, wake
from heavylift.sweeping.walking import EVENT_S, GRACE_S, LAP_PAGES_MAX, GoOn, Note, Places, attempt, scaled, walk
from heavylift.telemetry import count, logger

LANES = ("in/", "dicom/")
STRAY_S = 3_600.0  # longer than any worker's lease: nobody will point at this derived object any more
WORK_S = 86_400.0  # as the bucket's own rule for temporaries


# --- decisions ---


def upload_fate(upload: Listed, record: FileRecord | None, *, in_store: bool, now: float, grace_s: float) -> str:
    """``keep`` or ``abort`` an open multipart upload. Pure."""
    young = now - upload.at <= grace_s
    if record is None:
        return "keep" if young else "abort"
    if in_store:
        if record.status is State.PROMOTING and (
            record.store_upload_id == upload.upload_id or record.lease_until > now
        ):
            return "keep"  # it is being filled, or about to be remembered
        return "keep" if young and record.status is State.PROMOTING else "abort"
    if record.s3_upload_id == upload.upload_id:
        open_still = record.status in AWAITING_OBJECT or (record.status is State.FAILED and record.staged_at is None)
        return "keep" if open_still else "abort"
    return "keep" if young else "abort"


def staged_fate(found: Listed, record: FileRecord | None, *, now: float, grace_s: float, event_s: float) -> str:
    """What becomes of an object in staging: ``keep``, ``arrive`` (its event was lost), ``delete``, ``announce``.

    ``announce``: a batch's member has no record before its event; validate decides. Pure.
    """
    age = now - found.at
    if record is None:
        if age <= max(grace_s, event_s):
            return "keep"
        parsed = keys.parse_staging(found.key)
        return "announce" if parsed is not None and "-" in parsed.file_id else "delete"
    if record.status in AWAITING_OBJECT:
        return "arrive" if age > event_s and assembly.may_be(record, found.size_bytes) else "keep"
    if record.status in GONE or record.stored:
        return "delete"
    if record.status in QUARANTINED:
        return "delete" if record.store_etag or record.purged_at is not None else "keep"
    return "keep"


def stored_fate(record: FileRecord | None) -> str:
    """An object in the store: ``keep``, ``prove`` (its copy is done, its record does not know), ``delete``, ``report``.

    Without a record it is never deleted: records are written before their objects, so that this is what a table
    looks like that was restored to an earlier moment. Pure.
    """
    if record is None:
        return "report"
    if record.dicom is not None and record.final and record.store_etag is None:
        return "delete"  # a duplicate, or in conflict: its worker was killed before it took its copy back
    if record.status is State.PROMOTING:
        return "keep" if record.is_dicom else "prove"  # its worker asks the index before it says that it is stored
    return "delete" if record.status in GONE else "keep"


def derived_fate(
    found: Listed, kind: str, record: FileRecord | None, *, now: float, stray_s: float, work_s: float
) -> str:
    """``keep`` or ``delete`` an object in the derived bucket. Pure."""
    age = now - found.at
    if kind == "work":
        if record is not None and record.recheck is None and (record.final or record.stored):
            return "delete" if record.final or age > stray_s else "keep"
        return "delete" if age > work_s else "keep"
    if record is None:
        return "delete" if age > stray_s else "keep"
    if record.status in GONE:
        trail = kind == "manifests" and "/events/" in found.key
        return "keep" if trail else "delete"
    if kind == "thumbnails" and found.key not in {one["key"] for one in record.thumbnails}:
        return "delete" if age > stray_s else "keep"
    return "keep"


# --- walks ---


def _owners(owners: Iterable[tuple[str, str] | None]) -> dict[tuple[str, str], FileRecord]:
    """The records of (tenant, file id), read after the listing."""
    wanted = {owner: records.item_key(*owner) for owner in owners if owner is not None}
    return {(record.tenant, record.file_id): record for record in dynamo.get_many(list(wanted.values()))}


def compare_uploads(go_on: GoOn, note: Note, places: Places) -> None:
    """Abort every open multipart upload that no record wants."""
    buckets = (
        (settings().staging_bucket, LANES, False),
        (settings().store_bucket, ("files/", "dicom/"), True),
    )
    for bucket, prefixes, in_store in buckets:
        for prefix in prefixes:
            place = f"uploads/{'store' if in_store else 'staging'}/{prefix}"
            after = tuple(places.pop(place, ())) or None
            while True:
                if not go_on():
                    places[place] = list(after or ())
                    return
                page, following = s3.list_uploads(bucket, prefix, after=after)
                _settle_uploads(bucket, page, note, in_store=in_store)
                if following is None:
                    break
                after = following


def _owner_of_upload(key: str, *, in_store: bool) -> tuple[str, str] | None:
    if in_store:
        return keys.parse_store(key)
    parsed = keys.parse_staging(key)
    return (parsed.tenant, parsed.file_id) if parsed else None


def _settle_uploads(bucket: str, page: list[Listed], note: Note, *, in_store: bool) -> None:
    owners = {upload.key: _owner_of_upload(upload.key, in_store=in_store) for upload in page}
    found = _owners(owners.values())
    for upload in page:
        owner = owners[upload.key]
        record = found.get(owner) if owner else None
        now = time.time()
        if upload_fate(upload, record, in_store=in_store, now=now, grace_s=scaled(GRACE_S)) == "abort":
            act = lambda upload=upload: s3.abort_multipart(bucket, upload.key, upload.upload_id or "")  # noqa: E731
            attempt(note, "abort", upload.key, act)


def compare_staging(go_on: GoOn, note: Note, places: Places, backlog: Backlog) -> None:
    """Objects whose event was lost are taken up; what nobody waits for goes."""
    bucket = settings().staging_bucket
    for lane in LANES:
        for page in walk(bucket, lane, f"staging/{lane}", places, go_on, None):
            parsed = {one.key: keys.parse_staging(one.key) for one in page}
            found = _owners((one.tenant, one.file_id) if one else None for one in parsed.values())
            for one in page:
                owner = parsed[one.key]
                record = found.get((owner.tenant, owner.file_id)) if owner else None
                now = time.time()
                fate = staged_fate(one, record, now=now, grace_s=scaled(GRACE_S), event_s=scaled(EVENT_S))
                judge = "dicom_ingest" if lane == "dicom/" else "validate"
                if fate in {"arrive", "announce"} and backlog.crowded(judge):
                    continue  # its event most likely waits among the others
                if fate == "delete":
                    logger().warning("an object that nobody waits for is deleted", key=one.key)
                    attempt(note, "delete", one.key, lambda one=one: s3.delete(bucket, one.key))  # type: ignore[misc]
                elif fate == "arrive" and record is not None:
                    attempt(note, "arrive", one.key, lambda record=record: _arrive(record))  # type: ignore[misc]
                elif fate == "announce" and owner is not None:
                    again = queue.Continuation("continue", owner.tenant, owner.file_id, 0)
                    act = lambda again=again, judge=judge: queue.send(judge, again)  # noqa: E731
                    attempt(note, "announce", one.key, act)


def _arrive(record: FileRecord) -> None:
    head = assembly.head_if_whole(record)
    if head is not None:
        take_up(assembly.arrive(record, head, "sweep"))


def compare_work(go_on: GoOn, note: Note, places: Places) -> None:
    """Temporaries whose owner has ended go at once, the others after a day."""
    _settle_derived("work", go_on, note, places, None)


def walk_store(go_on: GoOn, note: Note, places: Places) -> None:
    """A bounded way through the store: copies that nobody committed, and what belongs to nobody."""
    for prefix, place in (("files/", "store"), ("dicom/", "store/dicom")):
        _walk_store(prefix, place, go_on, note, places)


def _walk_store(prefix: str, place: str, go_on: GoOn, note: Note, places: Places) -> None:
    bucket = settings().store_bucket
    for page in walk(bucket, prefix, place, places, go_on, LAP_PAGES_MAX):
        owners = {one.key: keys.parse_store(one.key) for one in page}
        found = _owners(owners.values())
        for one in page:
            owner = owners[one.key]
            record = found.get(owner) if owner else None
            fate = stored_fate(record)
            if fate == "report":
                logger().warning("an object in the store has no record", key=one.key)
                count("UnownedObjects")
            elif fate == "prove" and record is not None:
                attempt(note, "prove", one.key, lambda record=record: _prove(record))  # type: ignore[misc]
            elif fate == "delete":
                attempt(note, "delete", one.key, lambda one=one: purging.delete_versions(one.key))  # type: ignore[misc]


def _prove(record: FileRecord) -> None:
    if record.lease_until > time.time():
        return  # its worker is about to commit
    after = validation.prove_stored(dynamo.get(record.tenant, record.file_id), "sweep")
    if after.status is State.FRESH:
        validation.finish_unserved(after, "sweep")
        wake(after, "thumbnail")


def walk_derived(go_on: GoOn, note: Note, places: Places) -> None:
    """A bounded way through pictures, reports and manifests: what no record points at goes."""
    for kind in ("thumbnails", "reports", "manifests"):
        _settle_derived(kind, go_on, note, places, LAP_PAGES_MAX)


def _settle_derived(kind: str, go_on: GoOn, note: Note, places: Places, pages_max: int | None) -> None:
    bucket = settings().derived_bucket
    for page in walk(bucket, f"{kind}/", kind, places, go_on, pages_max):
        parsed = {one.key: keys.parse_derived(one.key) for one in page}
        found = _owners(one[1:] if one else None for one in parsed.values())
        # What an archive is built of may take longer than a day.
        strangers = {owner[1:] for owner in parsed.values() if owner and owner[1:] not in found}
        needed = living(strangers) if kind == "work" and strangers else frozenset()
        for one in page:
            owner = parsed[one.key]
            if owner and owner[1:] in needed:
                continue
            record = found.get(owner[1:]) if owner else None
            now = time.time()
            fate = derived_fate(
                one, kind, record, now=now, stray_s=scaled(STRAY_S), work_s=WORK_S / settings().time_scale
            )
            if fate == "delete":
                attempt(note, "delete", one.key, lambda one=one: s3.delete(bucket, one.key))  # type: ignore[misc]


__all__ = [
    "compare_staging",
    "compare_uploads",
    "compare_work",
    "derived_fate",
    "staged_fate",
    "stored_fate",
    "upload_fate",
    "walk_derived",
    "walk_store",
]
