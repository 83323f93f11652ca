"""Archives in S3 against their jobs: requests whose event was lost, uploads nobody fills, what is past its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from heavylift import items, keys, s3
from heavylift.archives import jobs, preparing, store
from heavylift.archives.jobs import LIVE, ArchiveJob
from heavylift.s3 import Listed
from heavylift.settings import settings
from heavylift.sweeping.walking import EVENT_S, GRACE_S, LAP_PAGES_MAX, GoOn, Note, Places, attempt, scaled, walk
from heavylift.telemetry import logger

DAY_S = 86_400.0
WORK_S = DAY_S  # as the bucket's own rule for temporaries

Owner = tuple[str, str]


def jobs_of(owners: Iterable[Owner]) -> dict[Owner, ArchiveJob]:
    """The jobs of (tenant, archive id), read after a listing; strongly consistent."""
    found = items.read_many([jobs.item_key(*owner) for owner in dict.fromkeys(owners)])
    return {(job.tenant, job.archive_id): job for job in map(jobs.from_item, found)}


def living(owners: Iterable[Owner]) -> frozenset[Owner]:
    """Those of these owners that are archives being built: what lies in ``work/`` for them is needed."""
    return frozenset(owner for owner, job in jobs_of(owners).items() if job.status in LIVE)


# --- decisions ---


def request_fate(found: Listed, job: ArchiveJob | None, now: float, event_s: float) -> str:
    """``keep`` a request, ``take_up`` one whose event was lost, ``delete`` one that is done. Pure."""
    if now - found.at <= event_s:
        return "keep"
    if job is None:
        return "take_up"
    return "delete" if job.final and job.purged_at is not None else "keep"


def upload_fate(upload: Listed, filled: Iterable[str | None], now: float, grace_s: float) -> str:
    """``keep`` or ``abort`` an open upload; ``filled``: those that living jobs remember. Pure."""
    return "keep" if upload.upload_id in set(filled) or now - upload.at <= grace_s else "abort"


# --- walks ---


def compare_requests(go_on: GoOn, note: Note, places: Places) -> None:
    """Requests whose event was lost are taken up; those that are done go."""
    bucket = settings().derived_bucket
    for page in walk(bucket, "requests/", "requests", places, go_on, LAP_PAGES_MAX):
        owners = {one.key: keys.parse_archive_request(one.key) for one in page}
        known = jobs_of(owner for owner in owners.values() if owner)
        for one in page:
            owner = owners[one.key]
            if owner is None:
                continue  # nobody knows whose it is; the bucket's rule ends it
            fate = request_fate(one, known.get(owner), time.time(), scaled(EVENT_S))
            if fate == "take_up":
                attempt(note, "take_up", one.key, lambda owner=owner: _take_up(*owner))  # type: ignore[misc]
            elif fate == "delete":
                attempt(note, "delete", one.key, lambda one=one: s3.delete(bucket, one.key))  # type: ignore[misc]


def _take_up(tenant: str, archive_id: str) -> None:
    job = preparing.take_up(tenant, archive_id)
    if job is not None and not job.final:
        store.wake(job)


def compare_uploads(go_on: GoOn, note: Note, places: Places) -> None:
    """Abort every open upload of an archive, or of what is made for one, that no living job wants."""
    for prefix, filled in (("archives/", _of_archives), ("work/", _of_temporaries)):
        place = f"uploads/derived/{prefix}"
        after = tuple(places.pop(place, ())) or None
        while True:
            if not go_on():
                places[place] = list(after or ())
                return
            page, following = s3.list_uploads(settings().derived_bucket, prefix, after=after)
            wanted = filled(page)
            for one in page:
                grace_s = scaled(GRACE_S) if prefix == "archives/" else WORK_S / settings().time_scale
                if upload_fate(one, wanted.get(one.key, ()), time.time(), grace_s) == "abort":
                    logger().warning("an upload that nobody fills is aborted", key=one.key)
                    attempt(note, "abort", one.key, _aborting(one))
            if following is None:
                break
            after = following


def _aborting(one: Listed) -> Callable[[], object]:
    return lambda: s3.abort_multipart(settings().derived_bucket, one.key, one.upload_id or "")


def _of_archives(page: Iterable[Listed]) -> Mapping[str, list[str | None]]:
    """The uploads that living jobs remember, by key: the jobs of a content say which are theirs."""
    wanted: dict[str, list[str | None]] = {}
    for key in {one.key for one in page}:
        content = keys.parse_archive(key)
        found = store.jobs_of_content(*content) if content else []
        wanted[key] = [job.s3_upload_id for job in found if job.status in LIVE]
    return wanted


def _of_temporaries(page: Iterable[Listed]) -> Mapping[str, list[str | None]]:
    """Every upload in the folder of a living job is one that a worker may be filling."""
    page = list(page)
    owners = {one.key: keys.parse_derived(one.key) for one in page}
    alive = living(owner[1:] for owner in owners.values() if owner)
    wanted: dict[str, list[str | None]] = {}
    for one in page:
        owner = owners[one.key]
        if owner is not None and owner[1:] in alive:
            wanted.setdefault(one.key, []).append(one.upload_id)
    return wanted


def walk_archives(go_on: GoOn, note: Note, places: Places) -> None:
    """What is past its time goes, whether or not the bucket's own rule has come by."""
    bucket, kept_s = settings().derived_bucket, settings().archive_days * DAY_S
    for page in walk(bucket, "archives/", "archives", places, go_on, LAP_PAGES_MAX):
        for one in page:
            # A second more than a job promises: a listing knows whole seconds.
            if time.time() - one.at > kept_s + 1:
                attempt(note, "delete", one.key, lambda one=one: s3.delete(bucket, one.key))  # type: ignore[misc]
