"""Initiate: what a wanted upload becomes. Pure; the handler makes the S3 uploads and writes the records."""

from __future__ import annotations

from dataclasses import replace

from heavylift import keys
from heavylift.api.bodies import FileEntry, digest_forms, logical_id
from heavylift.errors import RequestError
from heavylift.limits import QUEUE_VISIBILITY_S, REFUSED_MEDIA_TYPES, rule_for_extension, rule_for_media_type
from heavylift.parts import plan_parts
from heavylift.records import FileRecord
from heavylift.settings import Settings
from heavylift.states import State

DAY_S = 86_400


def plan_upload(
    entry: FileEntry, *, tenant: str, user: str, file_id: str, now: float, max_part_size: int | None, settings: Settings
) -> FileRecord:
    """The record of a new upload, without its S3 upload id.

    RequestError for one file (``size_not_allowed``, ``type_not_allowed``): a problem of that file, not of the call.
    """
    if entry.size > settings.max_file_size_bytes:
        raise RequestError(
            "size_not_allowed",
            f"This file has {entry.size} bytes; at most {settings.max_file_size_bytes} are taken.",
            size=entry.size,
            size_max=settings.max_file_size_bytes,
        )
    plain_type = (entry.type or "").split(";", 1)[0].strip().lower()
    if plain_type in REFUSED_MEDIA_TYPES:
        raise RequestError("type_not_allowed", f"Files of the type {plain_type} are not taken.", type=plain_type)
    declared = rule_for_media_type(plain_type) if plain_type else None
    announced = declared or rule_for_extension(entry.name)
    if declared and entry.size > declared.size_max:
        raise RequestError(
            "size_not_allowed",
            f"A file of the type {declared.media_type} may have {declared.size_max} bytes, this one has {entry.size}.",
            size=entry.size,
            size_max=declared.size_max,
        )
    plan = plan_parts(entry.size, part_size_min=settings.part_size_min_bytes, part_size_max=max_part_size)
    session_s = settings.session_days * DAY_S
    # A single PUT has its event as only witness: the sweeper looks for it once its first URL must be dead.
    look_s = (settings.signature_ttl_s + QUEUE_VISIBILITY_S["validate"]) / settings.time_scale
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
        expires_at=now + session_s,
        due_at=now + min(session_s, look_s) if plan.mode == "single" else now + session_s,
    )
    return replace(
        record,
        key=keys.staging(record.lane, tenant, file_id),
        events=({"at": round(now, 3), "event": "initiate", "from": "", "to": record.status.value, "by": user},),
    )


def put_headers(sha256_base64: str | None) -> dict[str, str]:
    """What a client must send with a single PUT, besides its length."""
    headers = {"if-none-match": "*"}
    if sha256_base64:
        headers["x-amz-checksum-sha256"] = sha256_base64
    return headers


def part_headers(sha256_base64: str | None) -> dict[str, str]:
    """What a client must send with a part, besides its length."""
    return {"x-amz-checksum-sha256": sha256_base64} if sha256_base64 else {}
