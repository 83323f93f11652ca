"""What becomes of a DICOM file: one verdict each, in words that hold no value of the file. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from heavylift.batches import marks
from heavylift.dicom.instances import Identity, Instance
from heavylift.errors import ContentError


class Verdict(StrEnum):
    STORED = "stored"
    DUPLICATE = "duplicate"  # the same instance with the same bytes is stored already
    CONFLICT = "conflict"  # the same instance with other bytes is stored already
    STRAY = "stray"  # a DICOMDIR, a .DS_Store, a text: never meant to be an instance
    EXPANDED = "expanded"  # a ZIP or tar: its members are files of their own


class Policy(StrEnum):
    """Of two files with the same UIDs and other bytes (setting ``DICOM_CONFLICT``)."""

    KEEP_FIRST = "keep_first"
    REPLACE = "replace"
    KEEP_BOTH = "keep_both"


# What the batch's counts make of a verdict.
_MARKS: Final = {
    Verdict.STORED: marks.SUCCEEDED,
    Verdict.DUPLICATE: marks.DUPLICATE,
    Verdict.STRAY: marks.SKIPPED,
    Verdict.EXPANDED: marks.EXPANDED,
}
_STRAYS: Final = {
    "dicomdir": "a DICOMDIR, which lists files and is none of them",
    "ds_store": "a .DS_Store of macOS",
    "apple_double": "a file of macOS beside another one",
    "thumbs_db": "a Thumbs.db of Windows",
    "windows_thumbnail_cache": "a cache of thumbnails of Windows",
    "windows_link": "a shortcut of Windows",
    "compound_file": "an Office document or a cache of Windows",
}
_WORDS: Final = {
    Verdict.DUPLICATE.value: "The same instance with the same bytes is stored already.",
    Verdict.CONFLICT.value: "Another file with the same UIDs and other bytes was stored first; this one is not kept.",
    "conflict_kept": "Another file with the same UIDs and other bytes was stored first; this one is kept beside it.",
    "not_dicom": "The content is no DICOM file.",
    "empty_file": "The file is empty; a DICOM file cannot be.",
    "missing_uid": "A UID is absent without which the file belongs to no series: {attribute}.",
    "invalid_uid": "A UID is none: {attribute}.",
    "truncated": "The file ends before its content does.",
    "corrupt": "The file's structure is broken.",
    "limit_exceeded": "The file's structure exceeds what is read of a header.",
    "unsupported": "The file is of a kind that cannot be taken: {kind}.",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """``code``: stable; ``message``: for people; ``mark``: the letter in the batch's counts."""

    verdict: str
    message: str
    mark: str
    warnings: tuple[str, ...] = ()
    facts: tuple[tuple[str, Any], ...] = ()


def stored(warnings: Iterable[str] = ()) -> Judged:
    noted = tuple(sorted(warnings))
    return Judged(Verdict.STORED.value, "", marks.NOTED if noted else marks.SUCCEEDED, noted)


def duplicate() -> Judged:
    return Judged(Verdict.DUPLICATE.value, _WORDS["duplicate"], marks.DUPLICATE)


def conflict(*, kept: bool) -> Judged:
    """``kept``: beside the one that was first, by the policy ``keep_both``."""
    words = _WORDS["conflict_kept" if kept else "conflict"]
    return Judged(Verdict.CONFLICT.value, words, marks.FLAWED if kept else marks.FAILED)


def expanded(members: int) -> Judged:
    return Judged(Verdict.EXPANDED.value, "", marks.EXPANDED, facts=(("members", members),))


def refused(error: ContentError) -> Judged:
    """Of a file that cannot be taken. Only facts that are numbers or our own words are kept."""
    if error.code == Verdict.STRAY.value:
        kind = str(error.facts.get("stray", ""))
        words = f"This is {_STRAYS.get(kind, 'no DICOM file, but ' + (kind or 'something else'))}; it is left out."
        return Judged(Verdict.STRAY.value, words, marks.SKIPPED, facts=(("stray", kind),))
    facts = {name: value for name, value in error.facts.items() if name in _TOLD}
    words = _WORDS.get(error.code, "")
    try:
        message = words.format(**error.facts) if words else error.message
    except KeyError:
        message = words.partition(":")[0].rstrip(".") + "."
    return Judged(error.code, message, marks.FAILED, facts=tuple(sorted(facts.items())))


_TOLD: Final = frozenset(
    {"attribute", "size", "size_expected", "size_bytes", "sha256", "sha256_expected", "kind", "stray"}
)


def of_existing(there: Instance, file_id: str, identity: Identity) -> Verdict | None:
    """What a file is beside the instance that has its UIDs; None where its copy must be made to tell."""
    if there.file_id == file_id:
        return Verdict.STORED
    same = identity.same_as(there.identity)
    if same is None:
        return None
    return Verdict.DUPLICATE if same else Verdict.CONFLICT
