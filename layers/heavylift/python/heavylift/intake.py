"""Initiate: what a wanted upload becomes. Pure; the handler makes the S3 uploads and writes the records."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from heavylift import file_rules, keys
from heavylift.digests import digest_forms
from heavylift.errors import RequestError
from heavylift.limits import (
    QUEUE_VISIBILITY_S,
    REFUSED_MEDIA_TYPES,
    TypeRule,
    rule_for_extension,
    rule_for_media_type,
)
from heavylift.logical import logical_id
from heavylift.parts import plan_parts
from heavylift.records import FileRecord
from heavylift.settings import Settings
from heavylift.states import State

if TYPE_CHECKING:  # the workers that ask for a lane have no use for pydantic and its 10 MB
    from heavylift.api.bodies import CompanionFile, FileEntry

DAY_S = 86_400


def plan_upload(
    entry: FileEntry, *, tenant: str, user: str, file_id: str, now: float, max_part_size: int | None, settings: Settings
) -> FileRecord:
    """The record of a new upload, without its S3 upload id.

    RequestError for one file (``size_not_allowed``, ``type_not_allowed``, ``invalid_rules``): a problem of that file,
    not of the call.
    """
    file_rules.check_sent(entry.rules)
    if entry.size > settings.max_file_size_bytes:
        raise RequestError(
            "size_not_allowed",
            f"This file has {entry.size} bytes; at most {settings.max_file_size_bytes} are taken.",
            size=entry.size,
            size_max=settings.max_file_size_bytes,
        )
    declared = _taken_type(entry.type)
    announced = declared or rule_for_extension(entry.name)
    if declared and entry.size > declared.size_max:
        raise RequestError(
            "size_not_allowed",
            f"A file of the type {declared.media_type} may have {declared.size_max} bytes, this one has {entry.size}.",
            size=entry.size,
            size_max=declared.size_max,
        )
    plan = plan_parts(entry.size, part_size_min=settings.part_size_min_bytes, part_size_max=max_part_size)
    record = FileRecord(
        tenant=tenant,
        file_id=file_id,
        name=entry.name,
        size=entry.size,
        status=State.UPLOADING if plan.mode == "multipart" else State.CREATED,
        kind=entry.kind or (announced.kind if announced else "other"),
        mode=plan.mode,
        part_size=plan.part_size,
        part_count=plan.part_count,
        lane=lane_of(entry.kind or (declared.kind if declared else "other"), settings),
        checksum=entry.checksum,
        declared_type=entry.type,
        declared_kind=entry.kind,
        declared_sha256=digest_forms(entry.sha256)[0] if entry.sha256 else None,
        user=user,
        client_id=entry.client_id,
        fingerprint=entry.fingerprint,
        logical_id=logical_id(entry.name, entry.metadata),
        relative_path=entry.relative_path,
        description=entry.description,
        data_type=entry.data_type,
        metadata=entry.metadata,
        rules=entry.rules,
        created_at=now,
        updated_at=now,
    )
    return _begun(record, now, settings)


def lane_of(kind: str, settings: Settings) -> str:
    """The staging lane of files of a kind.

    ``dicom`` has its own; all other kinds go through validate, which tells them by content. Where a malware scanner
    stands before the store, DICOM takes the way through its gate too: validate hands it over behind that.
    """
    return "dicom" if kind == "dicom" and settings.malware_scan == "off" else "in"


def _taken_type(media_type: str | None) -> TypeRule | None:
    """The rule of a declared type, None for one that has none. RequestError ``type_not_allowed``."""
    plain_type = (media_type or "").split(";", 1)[0].strip().lower()
    if plain_type in REFUSED_MEDIA_TYPES:
        raise RequestError("type_not_allowed", f"Files of the type {plain_type} are not taken.", type=plain_type)
    return rule_for_media_type(plain_type) if plain_type else None


def _begun(record: FileRecord, now: float, settings: Settings) -> FileRecord:
    """With its key, its times and the first line of its audit trail."""
    session_s = settings.session_days * DAY_S
    # A single PUT has its event as only witness: the sweeper looks for it once its first URL must be dead.
    look_s = (settings.signature_ttl_s + QUEUE_VISIBILITY_S["validate"]) / settings.time_scale
    return replace(
        record,
        key=keys.staging(record.lane, record.tenant, record.file_id),
        expires_at=now + session_s,
        due_at=now + min(session_s, look_s) if record.mode == "single" else now + session_s,
        events=({"at": round(now, 3), "event": "initiate", "from": "", "to": record.status.value, "by": record.user},),
    )


def plan_unsized(
    wanted: CompanionFile, *, mode: str, tenant: str, user: str, file_id: str, now: float, settings: Settings
) -> FileRecord:
    """The record of an upload begun with a ticket, without its S3 upload id: nobody says its size or its digests.

    RequestError ``type_not_allowed``. How large it may be is ``size_max``, proven where its bytes are counted.
    """
    announced = _taken_type(wanted.type) or rule_for_extension(wanted.filename)
    record = FileRecord(
        tenant=tenant,
        file_id=file_id,
        name=wanted.filename,
        size=0,
        size_known=False,
        by_ticket=True,
        status=State.UPLOADING if mode == "multipart" else State.CREATED,
        kind=announced.kind if announced else "other",
        mode=mode,
        part_count=0 if mode == "multipart" else 1,
        checksum="none",
        declared_type=wanted.type or None,
        user=user,
        logical_id=logical_id(wanted.filename, wanted.labels),
        relative_path=wanted.relative_path,
        metadata=wanted.labels,
        created_at=now,
        updated_at=now,
    )
    return _begun(record, now, settings)


def size_max(declared_type: str | None, settings: Settings) -> int:
    """How many bytes a file of this declared type may have, in bytes."""
    rule = rule_for_media_type(declared_type) if declared_type else None
    return min(settings.max_file_size_bytes, rule.size_max) if rule else settings.max_file_size_bytes


def put_headers(sha256_base64: str | None) -> dict[str, str]:
    """What a client must send with a single PUT, besides its length."""
    headers = {"if-none-match": "*"}
    if sha256_base64:
        headers["x-amz-checksum-sha256"] = sha256_base64
    return headers


def part_headers(sha256_base64: str | None) -> dict[str, str]:
    """What a client must send with a part, besides its length."""
    return {"x-amz-checksum-sha256": sha256_base64} if sha256_base64 else {}
