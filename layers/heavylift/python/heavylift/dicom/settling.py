"""From a header to a place in the index: the copy in the store, the instance's item, the loser's retreat.

The copy is made before the instance is put, so that the index never points at nothing; of two files with the same
UIDs the put decides, and who lost deletes its own copy. Every step may be repeated: a copy that is there is recognised
by its source's ETag, an instance by its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from heavylift import dynamo, life, purging, records, s3
from heavylift.dicom import index, verdicts
from heavylift.dicom.instances import Identity, Instance, with_crc32
from heavylift.dicom.verdicts import Judged, Policy, Verdict
from heavylift.errors import TransientError
from heavylift.promotion import Promotion, already_done
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import Event, State
from heavylift.telemetry import logger

MEDIA_TYPE = "application/dicom"


@dataclass(frozen=True, slots=True)
class Copied:
    """The copy in the store; ``crc32`` is base64."""

    etag: str
    version_id: str | None
    crc32: str | None


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a file: ``copied``: it has an object of its own; ``stored_as``: another has its bytes."""

    judged: Judged
    instance: Instance | None = None
    copied: Copied | None = None
    stored_as: str | None = None


def copy_small(work: Promotion) -> Copied:
    """One CopyObject, unless it is done already. TargetConflict; TransientError when the source has changed."""
    try:
        made = s3.copy_object(
            work.source_bucket,
            work.source_key,
            work.source_etag,
            work.target_bucket,
            work.target_key,
            media_type=work.media_type,
            metadata=work.metadata,
        )
    except (s3.PreconditionFailed, s3.NoSuchKey):
        head = already_done(work)
        if head is None:
            raise TransientError("source_changed", "The object in staging was replaced or deleted.") from None
        return Copied(head.etag, head.version_id, head.checksums.get("crc32"))
    return Copied(made.etag, made.version_id, made.checksums.get("crc32"))


def promotion_of(tenant: str, file_id: str, key: str, etag: str, size: int, target_key: str) -> Promotion:
    """The copy from staging into the store."""
    return Promotion(
        settings().staging_bucket, key, etag, size, settings().store_bucket, target_key, MEDIA_TYPE, file_id
    )


def known_already(tenant: str, instance: Instance, there: Instance | None) -> Placed | None:
    """What can be said before a copy is made: that the same bytes are stored, or others that stay. None: copy it."""
    if there is None or there.file_id == instance.file_id:
        return None
    found = verdicts.of_existing(there, instance.file_id, instance.identity)
    if found is Verdict.DUPLICATE:
        return Placed(verdicts.duplicate(), instance, stored_as=there.key(tenant))
    if found is Verdict.CONFLICT and settings().dicom_conflict == Policy.KEEP_FIRST.value:
        return Placed(verdicts.conflict(kept=False), instance)
    return None


def place(tenant: str, instance: Instance, make_copy: Callable[[], Copied]) -> Placed:
    """Copy a file and put its instance; what became of it. TransientError; TargetConflict."""
    copied = make_copy()
    instance = with_crc32(instance, copied.crc32)
    there = index.put(tenant, instance)
    if there is None:
        if settings().dicom_conflict == Policy.REPLACE.value:
            _finish_replacement(tenant, instance)
        return Placed(verdicts.stored(instance.warnings), instance, copied)
    found = verdicts.of_existing(there, instance.file_id, instance.identity) or Verdict.CONFLICT
    if found is Verdict.DUPLICATE:
        retreat(tenant, instance, copied)
        return Placed(verdicts.duplicate(), instance, stored_as=there.key(tenant))
    match Policy(settings().dicom_conflict):
        case Policy.KEEP_BOTH:
            index.put_other(tenant, instance)
            return Placed(verdicts.conflict(kept=True), instance, copied)
        case Policy.REPLACE:
            return _replace(tenant, there, instance, copied)
    retreat(tenant, instance, copied)
    return Placed(verdicts.conflict(kept=False), instance)


def withdraw(key: str) -> None:
    """Delete the copy that an attempt may have made before it was killed, of a file that needs none."""
    store = settings().store_bucket
    for version in s3.list_versions(store, key):
        s3.delete(store, key, version.version_id)


def retreat(tenant: str, instance: Instance, copied: Copied) -> None:
    """Who lost deletes its own copy."""
    s3.delete(settings().store_bucket, instance.key(tenant), copied.version_id)


def _replace(tenant: str, there: Instance, instance: Instance, copied: Copied) -> Placed:
    """Policy ``replace``: the later file takes the name, the earlier one is deleted. TransientError: not yet."""
    if _still_at_work(tenant, there.file_id):
        raise TransientError("record_changed", "The file that is to be replaced is still being taken in.")
    instance = replace(
        instance, replaces=there.file_id, warnings=tuple(sorted({*instance.warnings, "replaced_another"}))
    )
    if not index.replace_instance(tenant, there, instance):
        raise TransientError("record_changed", "The instance was changed at the same moment.")
    _finish_replacement(tenant, instance)
    return Placed(verdicts.stored(instance.warnings), instance, copied)


def _still_at_work(tenant: str, file_id: str) -> bool:
    record = dynamo.find(tenant, file_id)
    return record is None or not record.final


def _finish_replacement(tenant: str, instance: Instance) -> None:
    """Delete the file that an instance has replaced; killed before this, the next attempt does it."""
    known = index.get_instance(tenant, instance.study_uid, instance.series_uid, instance.sop_uid)
    replaced = known.replaces if known is not None and known.file_id == instance.file_id else ""
    record = dynamo.find(tenant, replaced) if replaced else None
    if record is None or record.status is State.DELETED:
        return

    def decide(current: FileRecord) -> Change | None:
        if current.status is State.DELETED:
            return None
        return records.transition(current, Event.DELETE, time.time(), "dicom_ingest")

    purging.settle(life.update(tenant, replaced, decide))
    logger().info("a file was replaced", file_id=replaced, by=instance.file_id)


def identity_of(head: s3.Head) -> Identity:
    """What is known of a file's bytes without reading them."""
    checksums = head.checksums
    whole = checksums.get("sha256")
    return Identity(
        head.size_bytes,
        head.etag,
        whole if whole and "-" not in whole else None,
        checksums.get("crc64nvme"),
    )
