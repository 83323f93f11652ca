"""What a file really is, and whether it may be kept. Pure.

The content decides, never the extension; what the client declared or the name announces may contradict it, and a
contradiction between a picture and no picture is a verdict of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.errors import ContentError
from heavylift.limits import REFUSED_MEDIA_TYPES, rule_for_extension, rule_for_format, rule_for_media_type
from heavylift.records import FileRecord
from heavylift.sniff import Detection

_PICTURES = frozenset({"image", "raw"})
_BINARY_KINDS = frozenset({"image", "raw", "dicom"})
_TEXTUAL = frozenset({"table", "json", "text"})


@dataclass(frozen=True, slots=True)
class Accepted:
    kind: str
    format: str
    media_type: str


def judge(record: FileRecord, detection: Detection) -> Accepted:
    """Accept what was detected, or raise ContentError.

    Codes: ``empty_file``, ``type_refused``, ``type_mismatch``, ``too_large_for_type``.
    """
    announced = rule_for_media_type(record.declared_type or "") or rule_for_extension(record.name)
    expected = record.declared_kind or (announced.kind if announced else None)
    if record.size == 0:
        if expected in _BINARY_KINDS:
            raise ContentError("empty_file", "The file is empty; a picture cannot be.", size=0)
        return Accepted(expected or "other", "Empty", announced.media_type if announced else "application/octet-stream")
    if detection.refused or detection.media_type in REFUSED_MEDIA_TYPES:
        raise ContentError(
            "type_refused",
            f"The content is {detection.refused or 'of a refused type'} ({detection.media_type}); "
            "such files are not kept.",
            detected=detection.media_type,
        )
    if expected in _BINARY_KINDS and not _same_family(expected, detection.kind):
        said = record.declared_type or (f"kind {record.declared_kind}" if record.declared_kind else "its name")
        raise ContentError(
            "type_mismatch",
            f"The file is announced by {said} as {expected}, but its content is {detection.format}.",
            expected=expected,
            detected=detection.media_type,
        )
    if record.declared_type and announced and announced.kind in _TEXTUAL and detection.kind in _BINARY_KINDS:
        raise ContentError(
            "type_mismatch",
            f"The file is declared as {announced.media_type}, but its content is {detection.format}.",
            expected=announced.kind,
            detected=detection.media_type,
        )
    accepted = Accepted(detection.kind, detection.format, detection.media_type)
    if announced and announced.kind in _TEXTUAL and detection.kind in _TEXTUAL:
        # One column of CSV and one line of JSONL look like text: for these, what the client says wins.
        accepted = Accepted(announced.kind, announced.formats[0], announced.media_type)
    rule = rule_for_format(accepted.format)
    if rule is not None and record.size > rule.size_max:
        raise ContentError(
            "too_large_for_type",
            f"A {accepted.format} file may have {rule.size_max} bytes, this one has {record.size}.",
            size=record.size,
            size_max=rule.size_max,
        )
    return accepted


def _same_family(expected: str, detected: str) -> bool:
    return expected == detected or {expected, detected} <= _PICTURES
