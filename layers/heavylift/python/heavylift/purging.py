"""Everything that a file left in S3 is deleted: every upload, every version, every derived object. Repeatable.

The record goes first (nobody is served from then on), then the bytes; killed in between, the sweeper goes on.
"""

from __future__ import annotations

import time

from botocore.exceptions import ClientError

from heavylift import aws, keys, life, records, retention, s3
from heavylift.dicom import removing
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.telemetry import count, logger

LOCKED_LOOK_S = 86_400.0  # locks end by days


class Locked(Exception):
    """S3 keeps versions until their day (Object Lock); all else is gone."""


def purge(record: FileRecord) -> bool:
    """Delete all that belongs to ``record`` but its audit trail; False when an upload outlived its abort.

    Requests: 2 for a file that never arrived, about 10 for one that was stored. Raises Locked, after all else.
    """
    clean = release(record)
    if record.dicom is not None:
        removing.leave_index(record)
    derived = settings().derived_bucket
    if record.mode == "multipart":
        s3.delete(derived, keys.manifest(record.tenant, record.file_id))
    if record.staged_at is None and record.store_etag is None:
        return clean
    clean = _abort_copies(record.store_key) and clean
    gone = delete_versions(record.store_key)
    for prefix in keys.derived_prefixes(record.tenant, record.file_id):
        delete_under(derived, prefix)
    if not gone:
        raise Locked
    return clean


def release(record: FileRecord) -> bool:
    """Delete what lies in staging; False when an upload outlived its abort."""
    staging = settings().staging_bucket
    clean = not record.s3_upload_id or s3.abort_multipart(staging, record.key, record.s3_upload_id)
    if not clean:
        logger().warning("parts outlived the abort; the sweeper goes on", file_id=record.file_id)
    s3.delete(staging, record.key)
    return clean


def _abort_copies(key: str) -> bool:
    store = settings().store_bucket
    clean = True
    uploads, _ = s3.list_uploads(store, key)
    for upload in uploads:
        if upload.key == key and upload.upload_id:
            clean = s3.abort_multipart(store, key, upload.upload_id) and clean
    return clean


def delete_versions(key: str) -> bool:
    """Delete every version of a stored object; False when S3 refuses some, which are locked."""
    store, gone = settings().store_bucket, True
    for version in s3.list_versions(store, key):
        try:
            s3.delete(store, key, version.version_id)
        except ClientError as error:
            if aws.error_code(error) != "AccessDenied":
                raise
            logger().warning("S3 keeps a version: it is locked, or we may not delete it", key=key)
            count("VersionsKept")
            gone = False
    return gone


def delete_under(bucket: str, prefix: str) -> int:
    """Delete every object under ``prefix``, page by page; how many there were."""
    deleted = 0
    after: str | None = ""
    while after is not None:
        page, after = s3.list_objects(bucket, prefix, after=after)
        for one in page:
            s3.delete(bucket, one.key)
        deleted += len(page)
    return deleted


def settle(record: FileRecord) -> FileRecord:
    """Purge a file that is gone (or release one in quarantine) and write down that it was done."""
    gone = record.status in retention.GONE
    try:
        if not (purge(record) if gone else release(record)):
            return record  # still due: the next run of the sweeper tries again
    except Locked:
        return _look_tomorrow(record)

    def decide(current: FileRecord) -> Change | None:
        if current.status is not record.status or current.finished_at != record.finished_at:
            return None  # tried again meanwhile
        now = time.time()
        after = records.change(current, now, purged_at=now).record
        due_at = current.due_at if current.outbox else retention.next_look(after, life.clocks())
        return records.change(current, now, purged_at=now, due_at=due_at)

    return life.update(record.tenant, record.file_id, decide)


def _look_tomorrow(record: FileRecord) -> FileRecord:
    """It stays unpurged, and is due again in a day."""

    def decide(current: FileRecord) -> Change | None:
        if current.status is not record.status or current.outbox:
            return None
        now = time.time()
        return records.change(current, now, due_at=now + LOCKED_LOOK_S / settings().time_scale)

    return life.update(record.tenant, record.file_id, decide)
