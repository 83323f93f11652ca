"""What a file really is, and whether it may be kept. Pure.

The content decides, never the extension. What the client declares (type, kind) or the name announces may contradict it,
and a contradiction is a verdict of its own, or a note, by the policy. Only a content that is known for certain
contradicts: one column of CSV looks like text, and a CSV with a NUL looks like nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from heavylift.errors import ContentError
from heavylift.limits import REFUSED_MEDIA_TYPES, TypeRule, rule_for_extension, rule_for_format, rule_for_media_type
from heavylift.records import FileRecord
from heavylift.sniff import Detection
from heavylift.tables.names import announced_by_name

_PICTURES: Final = frozenset({"image", "raw"})
_BINARY_KINDS: Final = frozenset({"image", "raw", "dicom"})
_TEXTUAL: Final = frozenset({"table", "json", "text"})
# What bytes of these look like, other bytes may look like, too; XML and SVG are texts.
_UNSURE: Final = frozenset({"Unknown", "Empty", "XML", "SVG"})
# Announced as the one, they may be the other without anybody being wrong: all are ZIPs.
_ZIPS: Final = frozenset({"ZIP", "XLSX", "DOCX", "PPTX", "EPUB", "ODS", "ODT"})
_PACKED: Final = frozenset({"gzip", "zstd"})
_LIKE_TEXT: Final = _UNSURE | _PACKED


@dataclass(frozen=True, slots=True)
class Accepted:
    """``mismatch``: the sentence about a contradiction that the policy lets pass, but wants to be told."""

    kind: str
    format: str
    media_type: str
    mismatch: str | None = None


def judge(record: FileRecord, detection: Detection, policy: str = "error") -> Accepted:
    """Accept what was detected, or raise ContentError. ``policy``: ``error``, ``warn`` or ``allow`` contradictions.

    Codes: ``empty_file``, ``type_refused``, ``type_mismatch``, ``too_large_for_type``.
    """
    declared = rule_for_media_type(record.declared_type or "")
    announced = declared or rule_for_extension(record.name)
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
    words = contradiction(record, detection, declared, expected)
    if words is not None and policy == "error":
        raise ContentError("type_mismatch", words, expected=expected, detected=detection.media_type)
    accepted = Accepted(detection.kind, detection.format, detection.media_type)
    if words is not None:
        accepted = replace(accepted, mismatch=words if policy == "warn" else None)
    elif announced and announced.kind in _TEXTUAL and _readable(record, detection, announced, declared):
        # One column of CSV and one line of JSONL look like text: for these, what the client says wins.
        accepted = Accepted(announced.kind, announced.formats[0], announced.media_type)
    elif record.declared_kind in _TEXTUAL and detection.kind not in _TEXTUAL:
        accepted = Accepted(record.declared_kind, "Text", "text/plain")
    rule = rule_for_format(accepted.format)
    if rule is not None and record.size > rule.size_max:
        raise ContentError(
            "too_large_for_type",
            f"A {accepted.format} file may have {rule.size_max} bytes, this one has {record.size}.",
            size=record.size,
            size_max=rule.size_max,
        )
    return accepted


def _readable(record: FileRecord, detection: Detection, announced: TypeRule, declared: TypeRule | None) -> bool:
    """Whether content is to be read as the text, table or JSON that it is announced as.

    A name such as notes.txt alone is no promise: binary data below it is kept as it is.
    """
    if detection.kind in _TEXTUAL:
        return True
    by_name_alone = announced.kind == "text" and declared is None and record.declared_kind is None
    return detection.format in _LIKE_TEXT and (not by_name_alone or detection.nearly_text)


def contradiction(
    record: FileRecord, detection: Detection, declared: TypeRule | None, expected: str | None
) -> str | None:
    """The sentence about a content that is not what was announced; None where nobody is wrong for certain.

    A picture or DICOM must be proven: what is announced as one and is not known to be one is none. Anything else must
    be disproven. An archive's or a document's extension alone announces nothing: backups end on anything.
    """
    said = record.declared_type or (f"kind {record.declared_kind}" if record.declared_kind else "its name")
    words = f"The file is announced by {said} as {expected}, but its content is {detection.format}."
    if expected in _BINARY_KINDS:
        return None if _same_family(expected, detection.kind) else words
    inside = announced_by_name(record.name)[0]
    if detection.format in _PACKED and inside is not None and detection.kind not in _TEXTUAL:
        found = detection.inner or "binary data"
        return f"The file is announced by its name as {inside} in {detection.format}, but inside is {found}."
    if detection.format in _UNSURE or expected is None:
        return None
    if expected in _TEXTUAL:
        return None if detection.kind in _TEXTUAL or (detection.format in _PACKED and not detection.inner) else words
    if declared is None or declared.kind not in ("archive", "other"):
        return None
    same = {detection.format, detection.inner} & {*declared.formats, *(_ZIPS if "ZIP" in declared.formats else ())}
    return None if same else f"The file is declared as {declared.media_type}, but its content is {detection.format}."


def _same_family(expected: str, detected: str) -> bool:
    return expected == detected or {expected, detected} <= _PICTURES
