"""Assembly: the parts of an upload are proven and joined, once, however many ask for it at the same time.

The server takes nothing on trust: it lists the parts itself, proves their count, sizes and digests, keeps the digests
as a manifest and lets S3 prove the total. Whoever wins the transition joins; the others wait for the result.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from heavylift import dynamo, intake, items, keys, life, records, s3, work
from heavylift.errors import RequestError, TransientError
from heavylift.limits import ASSEMBLING_LEASE_S
from heavylift.parts import PartPlan, needed_ranges, ranges_of
from heavylift.records import Change, FileRecord
from heavylift.settings import settings
from heavylift.states import AWAITING_OBJECT, Event, State


def plan_of(record: FileRecord) -> PartPlan:
    """The plan that initiate fixed; a later change of the rule never changes an open upload."""
    return PartPlan(record.size, record.mode, record.part_size, record.part_count)


@dataclass(frozen=True, slots=True)
class Proof:
    """Parts that make up the whole file, in order, and the composite of their digests (None: size only)."""

    parts: tuple[s3.PartInfo, ...]
    sha256_composite: str | None


def measured(record: FileRecord, listed: Sequence[s3.PartInfo], claimed: Iterable[int], size_max: int) -> FileRecord:
    """An upload that nobody announced a size for, with the plan that its parts make; any other as it is. Pure.

    The file is what the client says it has sent (``claimed``; all that is there if it says nothing): parts 1 to the
    last of them, all of one size but the last. RequestError ``parts_missing``, ``part_mismatch`` for parts of
    different sizes, which are those of two different cuts, and ``size_not_allowed``.
    """
    if record.size_known:
        return record
    there = {part.number: part.size_bytes for part in listed}
    part_count = max(claimed, default=0) or max(there, default=1)
    missing = needed_ranges(part_count, there)
    if missing:
        raise RequestError(
            "parts_missing",
            f"{part_count - sum(number <= part_count for number in there)} of {part_count} parts are missing.",
            missing=missing,
            received=ranges_of(there),
        )
    part_size, size = there[1], sum(there[number] for number in range(1, part_count + 1))
    odd = [number for number in range(1, part_count) if there[number] != part_size]
    if odd or there[part_count] > part_size:
        raise RequestError(
            "part_mismatch",
            f"The parts have different sizes ({part_size} bytes the first): they are of different cuts of the file.",
            parts=ranges_of(odd or [part_count]),
        )
    if size > size_max:
        raise RequestError(
            "size_not_allowed",
            f"This file has {size} bytes; at most {size_max} are taken.",
            size=size,
            size_max=size_max,
        )
    return replace(record, size=size, size_known=True, part_size=part_size, part_count=part_count)


def unmeasured(record: FileRecord) -> dict[str, Any]:
    """What to write where an upload is open again whose size only its parts tell; nothing for any other."""
    if not record.by_ticket or record.mode == "single":
        return {}
    return {"size": 0, "size_known": False, "part_size": 0, "part_count": 0}


def prove(
    record: FileRecord,
    listed: Sequence[s3.PartInfo],
    claimed: Mapping[int, str | None] | None = None,
    etags: Mapping[int, str] | None = None,
) -> Proof:
    """That ``listed`` is the whole file. Pure.

    RequestError ``parts_missing`` (with the ranges to send, wrong sizes included) or ``part_mismatch`` (a digest or
    an ETag that the client claims is not the one that S3 has).
    """
    plan = plan_of(record)
    there = {part.number: part for part in listed if 1 <= part.number <= plan.part_count}
    good = {
        number: part
        for number, part in there.items()
        if part.size_bytes == plan.length(number) and (part.sha256 or record.checksum == "none")
    }
    surplus = [part.number for part in listed if part.number > plan.part_count]
    missing = needed_ranges(plan.part_count, good)
    if missing or surplus:
        raise RequestError(
            "parts_missing",
            f"{plan.part_count - len(good)} of {plan.part_count} parts are missing or have another size.",
            missing=missing,
            received=ranges_of(good),
            **({"surplus": ranges_of(surplus)} if surplus else {}),
        )
    wrong = [
        number
        for number, digest in (claimed or {}).items()
        if digest and number in good and good[number].sha256 != digest
    ]
    if wrong:
        raise RequestError(
            "part_mismatch",
            f"{len(wrong)} part(s) in S3 have another SHA-256 than the client claims.",
            parts=ranges_of(wrong),
        )
    other = [number for number, etag in (etags or {}).items() if number in good and good[number].etag != etag]
    if other:
        raise RequestError(
            "part_mismatch",
            f"{len(other)} part(s) in S3 have another ETag than the client claims.",
            parts=ranges_of(other),
        )
    ordered = tuple(good[number] for number in range(1, plan.part_count + 1))
    return Proof(ordered, composite(ordered))


def composite(parts: Sequence[s3.PartInfo]) -> str | None:
    """S3's composite checksum: base64 of the SHA-256 of the raw part digests in order, a dash, their number."""
    digests = [base64.b64decode(part.sha256) for part in parts if part.sha256]
    if len(digests) != len(parts):
        return None
    return f"{base64.b64encode(sha256(b''.join(digests)).digest()).decode()}-{len(parts)}"


def staged_values(record: FileRecord, head: s3.Head, now: float) -> dict[str, Any]:
    """What the record learns from the object in staging: proof of the whole, or of its parts, or of its size only."""
    checksums: dict[str, Any] = {"sha256_proven": False}
    if record.declared_sha256:
        checksums["sha256"] = record.declared_sha256
    whole = head.checksums.get("sha256")
    if whole and "-" in whole:
        checksums["sha256_composite"] = whole
    elif whole:
        checksums["sha256"] = base64.b64decode(whole).hex()
        checksums["sha256_proven"] = True
    if crc64 := head.checksums.get("crc64nvme"):
        checksums["crc64nvme"] = crc64
    counted: dict[str, Any] = {} if record.size_known else {"size": head.size_bytes, "size_known": True}
    if counted and record.mode == "single":
        counted["part_size"] = max(head.size_bytes, 1)
    return {"etag": head.etag, "checksums": checksums, "staged_at": now, **counted}


def head_if_whole(record: FileRecord) -> s3.Head | None:
    """The staging object's head when it is there with the promised size, if any was promised."""
    head = s3.head(settings().staging_bucket, record.key)
    return head if head is not None and may_be(record, head.size_bytes) else None


def may_be(record: FileRecord, size_bytes: int) -> bool:
    """Whether an object of this size in staging can be the file."""
    return not record.size_known or size_bytes == record.size


def arrive(record: FileRecord, head: s3.Head, by: str) -> FileRecord:
    """Commit ``staged`` for an object that HEAD has proven; whoever comes first does it."""

    def decide(current: FileRecord) -> Change | None:
        if current.status not in AWAITING_OBJECT:
            return None
        now = time.time()
        due = now + work.first_look_s()  # if no event ever comes
        return records.transition(
            current, Event.ARRIVE, now, by, **staged_values(current, head, now), due_at=due, lease_until=0.0, attempt=0
        )

    return life.update(record.tenant, record.file_id, decide)


def complete(
    record: FileRecord,
    by: str,
    *,
    claimed: Mapping[int, str | None] | None,
    declared_sha256: str | None,
    wait_s: float,
    etags: Mapping[int, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FileRecord:
    """Join the parts, or wait for whoever does. The record: ``staged`` or later, or still ``assembling``.

    ``claimed``: the digests of parts that the client knows, ``etags`` their ETags; both by number. RequestError
    ``parts_missing``, ``part_mismatch``, ``size_not_allowed``, ``state_conflict``, ``upload_expired``. TransientError
    when S3 does not answer: the next call, the event or the sweeper goes on from there.
    """
    deadline = time.monotonic() + wait_s
    pause = 0.05
    while record.status in AWAITING_OBJECT:
        if record.mode == "single":
            head = head_if_whole(record)
            if head is None:
                raise RequestError("parts_missing", "The file has not arrived yet.", missing=[[1, 1]], received=[])
            _agree(head, claimed, declared_sha256)
            record = arrive(record, head, by)
            break
        now = time.time()
        if record.status is State.UPLOADING or record.lease_until <= now:
            mine = _begin(record, by, claimed, etags, declared_sha256)
            if mine is not None:
                record = _join(*mine, by)
                break
        elif time.monotonic() >= deadline:
            return record
        else:
            sleep(pause)
            pause = min(1.0, pause * 2)
        record = dynamo.get(record.tenant, record.file_id)
    if record.status is State.EXPIRED:
        raise RequestError("upload_expired", "This upload's time is over; start a new one.")
    if record.status in {State.CANCELLED, State.DELETED}:
        raise RequestError(
            "state_conflict",
            f"This upload is {record.status.value}; it cannot be completed.",
            status=record.status.value,
        )
    return record


def _agree(head: s3.Head, claimed: Mapping[int, str | None] | None, declared_sha256: str | None) -> None:
    """That what a client claims of a single PUT is what S3 has proven. RequestError ``part_mismatch``."""
    proven = head.checksums.get("sha256")
    if proven is None:
        return
    claims = {(claimed or {}).get(1), base64.b64encode(bytes.fromhex(declared_sha256 or "")).decode() or None}
    if claims - {None, proven}:
        raise RequestError("part_mismatch", "The object in S3 has another SHA-256 than the client claims.")


def _begin(
    record: FileRecord,
    by: str,
    claimed: Mapping[int, str | None] | None,
    etags: Mapping[int, str] | None,
    declared_sha256: str | None,
) -> tuple[FileRecord, Proof | None] | None:
    """Prove the parts and take the lease. None: somebody else was first, read again."""
    values: dict[str, Any] = {}
    try:
        listed = list_parts(record)
        size_max = intake.size_max(record.declared_type, settings())
        whole = measured(record, listed, claimed or etags or (), size_max)
        proof: Proof | None = prove(whole, listed, claimed, etags)
        if whole is not record:
            values = {name: getattr(whole, name) for name in ("size", "size_known", "part_size", "part_count")}
    except s3.NoSuchUpload:
        # Joined already (the answer was lost), or aborted: the object decides.
        if head_if_whole(record) is None:
            current = dynamo.get(record.tenant, record.file_id)
            if current.version != record.version:
                return None
            raise RequestError(
                "upload_expired", "The upload's parts are gone from S3; start a new upload.", retryable=False
            ) from None
        proof = None
    if declared_sha256 and record.declared_sha256 not in {None, declared_sha256.lower()}:
        raise RequestError("part_mismatch", "The upload was begun with another SHA-256 of the whole file.")
    now = time.time()
    lease = ASSEMBLING_LEASE_S / settings().time_scale
    values |= {
        "lease_until": now + lease,
        "due_at": now + lease,
        "fence": record.fence + 1,
        "stage": "complete",
    }
    if declared_sha256 and not record.declared_sha256:
        values["declared_sha256"] = declared_sha256.lower()
    change = records.transition(record, Event.ASSEMBLE, now, by, **values)
    if change is None:
        return None
    try:
        return dynamo.commit(change), proof
    except items.Stale:
        return None


def _join(record: FileRecord, proof: Proof | None, by: str) -> FileRecord:
    """CompleteMultipartUpload and the transition to ``staged``; an answer that was lost is recognised by HEAD."""
    if proof is not None:
        if proof.sha256_composite or record.by_ticket:
            _keep_manifest(record, proof)
        try:
            s3.complete_multipart(
                settings().staging_bucket,
                record.key,
                record.s3_upload_id or "",
                proof.parts,
                size_bytes=record.size,
                checksum_type="COMPOSITE" if proof.sha256_composite else None,
            )
        except (s3.NoSuchUpload, s3.PreconditionFailed):
            pass  # somebody joined before us: HEAD decides
        except s3.Refused as refusal:
            _reopen(record, by, refusal.code)
            raise RequestError(
                "parts_missing",
                f"S3 refused the parts: {refusal.code}.",
                aws_code=refusal.code,
                missing=[],
                received=[],
            ) from refusal
    head = head_if_whole(record)
    if head is None:
        raise TransientError("aws_unavailable", "The assembled object cannot be seen yet.")
    return arrive(record, head, by)


def _reopen(record: FileRecord, by: str, aws_code: str) -> None:
    def decide(current: FileRecord) -> Change | None:
        if current.status is not State.ASSEMBLING or current.fence != record.fence:
            return None
        return records.transition(
            current,
            Event.PARTS_MISSING,
            time.time(),
            by,
            failure={"code": "parts_refused", "message": f"S3 refused the parts: {aws_code}.", "stage": "complete"},
            lease_until=0.0,
            attempt=0,
            due_at=current.expires_at,
            **unmeasured(current),
        )

    life.update(record.tenant, record.file_id, decide)


def _keep_manifest(record: FileRecord, proof: Proof) -> None:
    """What S3 forgets with the upload: the parts as [number, size, sha256], or [number, size, null, etag] where the
    client has nothing but ETags.
    """
    document = {
        "upload_id": record.file_id,
        "size": record.size,
        "part_size": record.part_size,
        "sha256_composite": proof.sha256_composite,
        "parts": [
            [part.number, part.size_bytes, part.sha256, *([] if proof.sha256_composite else [part.etag])]
            for part in proof.parts
        ],
    }
    s3.put_bytes(
        settings().derived_bucket,
        keys.manifest(record.tenant, record.file_id),
        json.dumps(document, separators=(",", ":")).encode(),
        media_type="application/json",
    )


def list_parts(record: FileRecord) -> list[s3.PartInfo]:
    """The upload's parts as S3 has them now. s3.NoSuchUpload."""
    if not record.s3_upload_id:
        raise s3.NoSuchUpload
    return s3.list_parts(settings().staging_bucket, record.key, record.s3_upload_id)


def joined_parts(record: FileRecord) -> list[s3.PartInfo]:
    """The parts that an upload begun with a ticket was joined of; none where nobody kept them."""
    kept = s3.read_small(settings().derived_bucket, keys.manifest(record.tenant, record.file_id))
    parts = [] if kept is None else json.loads(kept)["parts"]
    return [s3.PartInfo(number, size, etag) for number, size, _, etag in parts]
