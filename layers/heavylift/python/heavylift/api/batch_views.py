"""What the API shows of a batch and its members. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from heavylift.batches import marks, model
from heavylift.batches.manifest import Entry
from heavylift.batches.marks import Tally
from heavylift.batches.model import Batch, BatchStatus
from heavylift.dicom.studies import StudyView
from heavylift.dicom.warnings import warning_in_words
from heavylift.ids import member_id
from heavylift.records import FileRecord, iso
from heavylift.states import State

NOT_RECEIVED = "The batch was completed, and this file had not arrived."
SKIPPED = "skipped"
DUPLICATE = "duplicate"
_STRAYS = {
    "no_number": "At least one object arrived under a name that is no file's number; such objects were deleted.",
    "not_in_manifest": "An object arrived that the manifest does not name; it was deleted.",
    "batch_completed": "An object arrived after the batch had ended; it was deleted.",
    "batch_completed_with_errors": "An object arrived after the batch had ended; it was deleted.",
    "batch_cancelled": "An object arrived after the batch was cancelled; it was deleted.",
    "batch_expired": "An object arrived after the batch's time was over; it was deleted.",
}
_OF_DICOM = {"duplicate": DUPLICATE, "stray": SKIPPED, "expanded": "expanded"}
_SAID = {
    "duplicate": "The same instance with the same bytes is stored already.",
    "expanded": "Its members are files of the batch.",
}
_FLAWED = frozenset({State.COMPLETED_WITH_ERRORS, State.REJECTED, State.FAILED, State.EXPIRED})


def batch_view(
    batch: Batch,
    tally: Tally,
    errors: Iterable[Mapping[str, Any]],
    warnings: Iterable[Mapping[str, Any]],
    studies: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """GET /v1/batches/{id}: the counts as of now; ``errors`` and ``warnings`` are the first 100 of each.

    ``studies``: (UID, when its first file was seen) of its DICOM studies; the latest is the current one.
    """
    totals = model.totals_of(batch, tally)
    shown = {
        "batch_id": batch.batch_id,
        "status": batch.status.value,
        "final": batch.final,
        "message": message(batch, totals),
        **totals,
        "current_study": max(studies, key=lambda one: one[1])[0] if studies and not batch.final else None,
        "studies": len(studies),
        "errors": list(errors),
        "warnings": list(warnings),
        "kind": batch.kind,
        "mode": batch.mode,
        "listed": batch.listed,
        "facility": batch.facility,
        "metadata": dict(batch.metadata),
        "created_at": iso(batch.created_at),
        "updated_at": iso(batch.updated_at),
        "expires_at": None if batch.final else iso(batch.expires_at),
        "finished_at": iso(batch.finished_at),
    }
    optional = {"facility", "expires_at", "finished_at"}
    return {name: value for name, value in shown.items() if value is not None or name not in optional}


def message(batch: Batch, totals: Mapping[str, int]) -> str:
    """One sentence for people; it names no file."""
    of = f"{totals['processed']} of {totals['total']} files"
    trouble = f", {totals['failed']} failed" if totals["failed"] else ""
    match batch.status:
        case BatchStatus.OPEN:
            return f"{totals['received']} of {totals['total']} files received, {of} processed{trouble}."
        case BatchStatus.PROCESSING:
            return f"{of} processed{trouble}."
        case BatchStatus.CANCELLED:
            return f"Cancelled after {of}."
        case BatchStatus.EXPIRED:
            return f"Its time was over after {of}."
    return f"All {totals['total']} files processed{trouble}."


def member_view(
    batch: Batch, entry: Entry | None, n: int, record: FileRecord | None, mark: str | None
) -> dict[str, Any]:
    """One line of GET /v1/batches/{id}/files: ``verdict`` is a final status, or null while there is none."""
    shown: dict[str, Any] = {
        "n": n,
        "file_id": member_id(batch.batch_id, n),
        "name": record.name if record else entry.name if entry else None,
        "relative_path": record.relative_path if record else entry.relative_path if entry else None,
        "size": record.size if record else entry.size if entry else None,
        "status": record.status.value if record else State.CREATED.value,
        "verdict": record.status.value if record and record.final else None,
    }
    if record is not None:
        shown["kind"] = record.kind
        shown["format"] = record.format
        if record.status in _FLAWED and record.failure:
            shown["code"] = record.failure["code"]
            shown["message"] = record.failure["message"]
        if record.final and record.dicom is not None:
            shown |= dicom_view(record.dicom, shown["verdict"])
    elif mark is not None and mark.endswith(marks.MISSING):
        shown.update(status=State.FAILED.value, verdict=State.FAILED.value, code="not_received", message=NOT_RECEIVED)
    optional = {"relative_path", "format"}
    return {name: value for name, value in shown.items() if value is not None or name not in optional}


def dicom_view(found: Mapping[str, Any], verdict: str) -> dict[str, Any]:
    """What dicom_ingest says of a member: ``outcome`` in its own words, ``verdict`` in the batch's."""
    outcome = str(found.get("verdict", ""))
    shown: dict[str, Any] = {name: found[name] for name in ("study_uid", "series_uid", "sop_uid") if name in found}
    shown |= {"outcome": outcome, "verdict": _OF_DICOM.get(outcome, verdict)}
    if outcome in _OF_DICOM:
        shown["code"] = outcome
        shown["message"] = _SAID.get(outcome) or ""
    if found.get("warnings"):
        shown["warnings"] = list(found["warnings"])
        shown["code"] = found["warnings"][0]
        shown["message"] = warning_in_words(found["warnings"][0])
    return {name: value for name, value in shown.items() if value != "" or name == "outcome"}


def problem_view(member: Mapping[str, Any]) -> dict[str, Any]:
    """A member as an entry of ``errors`` or ``warnings``."""
    wanted = ("n", "file_id", "name", "relative_path", "code", "message")
    shown = {name: member[name] for name in wanted if member.get(name) is not None}
    return {"code": str(member["verdict"]), "message": f"The file is {member['verdict']}.", **shown}


def study_view(found: StudyView, sign: Callable[[str], str]) -> dict[str, Any]:
    """A study of a batch; all its instances count, also those of other batches.

    ``sign``: the link to a thumbnail's key. Only those are named that somebody has asked for and that still stand for
    their series.
    """
    study = found.study
    pictures = [(one.series_uid, one.shown_thumbnail) for one in found.series if one.shown_thumbnail]
    shown = {
        "study_uid": study.study_uid,
        "study_date": study.study_date or None,
        "description": study.description or None,
        "accession_number": study.accession_number or None,
        "patient_id": study.patient_id or None,
        "patient_name": study.patient_name or None,
        "modalities": found.modalities,
        "series": len(found.series),
        "instances": found.instances,
        "bytes": sum(one.bytes for one in found.series) if not any(one.dirty for one in found.series) else None,
        "thumbnails": [{"series_uid": uid, "url": sign(key)} for uid, key in pictures] or None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def stray_view(n: int | None, code: str) -> dict[str, Any]:
    """An object that was deleted, as an entry of ``errors``."""
    number = {} if n is None else {"n": n}
    return {**number, "code": code, "message": _STRAYS.get(code, "An object arrived that nobody waits for.")}


def unlisted_view(batch: Batch) -> dict[str, Any]:
    """Files that were announced and never listed, as one entry of ``errors``."""
    return {
        "code": "not_listed",
        "message": f"{batch.unlisted} of {batch.total} files were announced, but the manifest never named them.",
        "number": batch.unlisted,
    }
