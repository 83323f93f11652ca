"""STOW-RS: instances posted in one body of up to 4 MiB. PS3.18 10.5.

What is posted goes the way of any DICOM file: a record, an object in staging, and then, without waiting for its event,
the work of dicom_ingest. So each instance gets the same verdict, whoever sends it, and a call that is killed half-way
leaves files that their events take in. An instance that is stored already with the same bytes is no failure: a call
may be repeated.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from heavylift import counting, dynamo, ids, intake, items, queue, records, s3
from heavylift.api import rates
from heavylift.api.bodies import FileEntry
from heavylift.dicom import header, single
from heavylift.dicom.header import Header
from heavylift.dicom.verdicts import Verdict
from heavylift.dicomweb import multipart
from heavylift.dicomweb.exchange import Answer, Request
from heavylift.dicomweb.negotiation import DICOM, json_type
from heavylift.errors import ContentError, HeavyliftError, RequestError
from heavylift.limits import MIB
from heavylift.messages import Delivery
from heavylift.records import FileRecord
from heavylift.settings import settings
from heavylift.telemetry import count, logger
from heavylift.work import LeaseLost

BODY_BYTES_MAX: Final = 4 * MIB  # base64 of it fits into Lambda's 6 MB event; more goes up as a batch
PARALLEL: Final = 8
TIMEOUT_S: Final = 29.0  # the function's: a lease outlives it
LOOK_S: Final = 0.2

# Failure Reasons: PS3.18 table I.2-2; 0111 is C-STORE's "duplicate SOP instance" (PS3.7 annex C).
CONFLICT: Final = 0x0111
PROCESSING: Final = 0x0110
OTHER_STUDY: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
NOT_SUPPORTED: Final = 0x0122
_REASONS: Final = {
    Verdict.CONFLICT.value: CONFLICT,
    Verdict.STRAY.value: NOT_SUPPORTED,
    Verdict.EXPANDED.value: NOT_SUPPORTED,
    "unsupported": NOT_SUPPORTED,
}
_STORED: Final = frozenset({Verdict.STORED.value, Verdict.DUPLICATE.value})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part. ``reason`` None: it is stored. ``found`` None: nobody can say which instance it is.

    ``stored_as``: study, series and instance under which it is found, which de-identification at ingest changes.
    """

    found: Header | None
    reason: int | None
    stored_as: tuple[str, str, str] = ("", "", "")


def store(request: Request, event: Mapping[str, Any]) -> Answer:
    """The Store Instances Response (PS3.18 annex I): 200, 202 where some failed, 409 where all did.

    RequestError ``not_acceptable``, ``unsupported_media_type``, ``size_not_allowed``, ``invalid_multipart``,
    ``rate_limited``; ``scan_required`` where a malware scanner stands before the store.
    """
    media_type = json_type(request.accept)
    if settings().malware_scan != "off":
        raise RequestError(
            "scan_required",
            "Files are scanned before they are stored here, which takes longer than a call: send a batch.",
        )
    contents = contents_of(event)
    rates.spend(request.tenant, files=len(contents))
    with ThreadPoolExecutor(min(PARALLEL, len(contents)), thread_name_prefix="stow") as pool:
        outcomes = list(pool.map(lambda content: _store(request, content), contents))
    failed = sum(one.reason is not None for one in outcomes)
    count("StowInstances", len(outcomes) - failed)
    status = 200 if not failed else 202 if failed < len(outcomes) else 409
    body = json.dumps(report(request.base, outcomes), separators=(",", ":")).encode()
    return Answer(status, {"content-type": media_type}, body)


def contents_of(event: Mapping[str, Any]) -> list[bytes]:
    """The files of a body: the parts of a multipart one, or the one that it is. RequestError."""
    headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    content_type = headers.get("content-type", "")
    name, parameters = multipart.parameters_of(content_type)
    inner = parameters.get("type", DICOM).lower() if name == multipart.NAME else name
    if inner.partition(";")[0].strip() != DICOM:
        raise _unsupported()
    body = body_of(event)
    if len(body) > BODY_BYTES_MAX:
        raise RequestError(
            "size_not_allowed",
            f"A body of {len(body)} bytes; at most {BODY_BYTES_MAX} are taken here. Send larger ones as a batch.",
            size=len(body),
            size_max=BODY_BYTES_MAX,
        )
    if name == DICOM:
        return [body]
    parts = multipart.take_apart(body, content_type)
    if not parts:
        raise RequestError("invalid_multipart", "The body has no part.")
    for part in parts:
        kind, _ = multipart.parameters_of(part.headers.get("content-type", DICOM))
        if kind != DICOM:
            raise _unsupported()
    return [part.content for part in parts]


def body_of(event: Mapping[str, Any]) -> bytes:
    """The body's bytes. RequestError ``invalid_multipart`` for base64 that is none."""
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(text).encode()
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise RequestError("invalid_multipart", "The body is no base64.") from None


def _unsupported() -> RequestError:
    return RequestError("unsupported_media_type", f"Only whole files are taken: {multipart.NAME}; type={DICOM}.")


# --- one file ---


def _store(request: Request, content: bytes) -> Outcome:
    """One file, as far as it gets; what fails, fails for it alone."""
    found = None
    try:
        found = header.scan(lambda offset, length: content[offset : offset + length], len(content))
    except ContentError:
        pass  # dicom_ingest says so too, and its verdict is kept
    if found is not None and request.study_uid not in ("", found.study_instance_uid):
        return Outcome(found, OTHER_STUDY)
    try:
        record = _take_in(request, content, found)
    except HeavyliftError as error:
        logger().warning("a posted file was not taken in", code=error.code)
        return Outcome(found, PROCESSING)
    said: Mapping[str, Any] = (record.dicom or {}) if record is not None and record.final else {}
    verdict = str(said.get("verdict", ""))
    if verdict in _STORED:
        return Outcome(found, None, (str(said["study_uid"]), str(said["series_uid"]), str(said["sop_uid"])))
    return Outcome(found, _REASONS.get(verdict, NOT_UNDERSTOOD) if verdict else PROCESSING)


def _take_in(request: Request, content: bytes, found: Header | None) -> FileRecord | None:
    """The file's record once it has ended; None where somebody else's work on it takes longer than this call."""
    digest = hashlib.sha256(content)
    file_id = ids.new_ulid(time.time())
    entry = FileEntry(
        name=f"{found.sop_instance_uid}.dcm" if found else "instance.dcm",
        size=len(content),
        type=DICOM,
        kind="dicom",
        sha256=digest.hexdigest(),
    )
    record = intake.plan_upload(
        entry,
        tenant=request.tenant,
        user=request.user,
        file_id=file_id,
        now=time.time(),
        max_part_size=None,
        settings=settings(),
    )
    counting.mark_all(request.tenant, [file_id])
    items.put(records.to_item(record), only_new=True)
    s3.put_bytes(
        settings().staging_bucket,
        record.key,
        content,
        media_type=DICOM,
        sha256=base64.b64encode(digest.digest()).decode(),
        only_new=True,
    )
    message = queue.Continuation("continue", request.tenant, file_id, 0)
    delivery = Delivery(message, f"stow-{file_id}", 1, TIMEOUT_S, request.seconds_left)
    try:
        single.take(delivery, record, request.tenant, file_id)
    except LeaseLost:
        logger().info("its event was faster", file_id=file_id)
    while True:
        now = dynamo.find(request.tenant, file_id)
        if now is None or now.final:
            return now
        if request.seconds_left() <= LOOK_S:
            return None
        time.sleep(LOOK_S)


# --- the answer ---


def report(base: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The Store Instances Response Module as DICOM JSON. Pure."""
    found: dict[str, Any] = {}
    studies = {one.stored_as[0] for one in outcomes if one.reason is None}
    found["00081190"] = _uri(f"{base}/studies/{studies.pop()}") if len(studies) == 1 else {"vr": "UR"}
    stored = [_reference(one.found) | _address(base, one) for one in outcomes if one.found and one.reason is None]
    failed = [_reference(one.found) | _reason(one.reason) for one in outcomes if one.found and one.reason is not None]
    others = [_reason(one.reason) for one in outcomes if one.found is None and one.reason is not None]
    for tag, listed in (("00081198", failed), ("00081199", stored), ("0008119A", others)):
        if listed:
            found[tag] = {"vr": "SQ", "Value": listed}
    return found


def _uri(text: str) -> dict[str, Any]:
    return {"vr": "UR", "Value": [text]}


def _reference(found: Header) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [found.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [found.sop_instance_uid]},
    }


def _address(base: str, one: Outcome) -> dict[str, Any]:
    study_uid, series_uid, sop_uid = one.stored_as
    return {"00081190": _uri(f"{base}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}")}


def _reason(reason: int | None) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [reason]}}
