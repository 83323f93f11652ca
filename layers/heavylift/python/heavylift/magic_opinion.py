"""libmagic's opinion of a file's head, and the classes of content that are refused on its word.

libmagic calls DNG, NEF and dual-headed DICOM plain TIFF, so it never overrules ``heavylift.sniff``. It is asked
where that stays unknown, and for executables, scripts and HTML that hide behind it. Imported lazily: the library
and its 7 MB table cost memory that most files need not pay.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from heavylift.sniff import Detection

# libmagic's guesses of programming languages in plain text are left out but for those with a firm signature.
DENIED: Final[dict[str, str]] = {
    "application/x-dosexec": "executable",
    "application/vnd.microsoft.portable-executable": "executable",
    "application/x-executable": "executable",
    "application/x-pie-executable": "executable",
    "application/x-sharedlib": "executable",
    "application/x-object": "executable",
    "application/x-mach-binary": "executable",
    "application/x-java-applet": "executable",
    "application/x-msi": "executable",
    "application/x-ms-shortcut": "executable",
    "application/x-ms-ne-executable": "executable",
    "text/x-shellscript": "script",
    "text/x-msdos-batch": "script",
    "text/x-php": "script",
    "text/x-perl": "script",
    "text/html": "HTML",
    "application/xhtml+xml": "HTML",
}
# libmagic calls one in a hundred files of mere chance "COM executable for DOS", by a first byte or two. Programs that
# anything runs today bear these letters.
_DOS: Final = "application/x-dosexec"
_DOS_SIGNATURES: Final = (b"MZ", b"ZM")
# Formats whose own signature is firm enough that a guess about their bytes says nothing.
_OPEN_TO_DOUBT: Final = frozenset({"Unknown", "Text", "XML", "CSV", "TSV"})


@lru_cache(maxsize=1)
def _library() -> Any:
    """libmagic with its own table, opened once; None where this machine has none."""
    try:
        import pylibmagic  # noqa: F401  (puts its own libmagic in reach of python-magic; must come first)
    except ImportError:
        pass  # the system's library, or the one of the layer
    try:
        import magic
    except ImportError:
        return None
    try:
        return magic.Magic(mime=True)
    except magic.MagicException:
        return None


def head_opinion(head: bytes) -> str | None:
    """libmagic's media type of a file's first bytes; None where libmagic is not at hand or does not know."""
    library = _library()
    if library is None or not head:
        return None
    import magic

    try:
        answer = str(library.from_buffer(head))
    except magic.MagicException:
        return None
    by_chance = answer == _DOS and not head.startswith(_DOS_SIGNATURES)
    return None if by_chance or answer in ("application/octet-stream", "application/x-empty") else answer


def second_opinion(first: Detection, head: bytes) -> Detection:
    """``first``, with libmagic's media type where it was unknown, and refused where its word is on the deny list."""
    if first.refused or first.format not in _OPEN_TO_DOUBT:
        return first
    opinion = head_opinion(head)
    if opinion is None:
        return first
    if opinion in DENIED and not (first.format in ("CSV", "TSV") and opinion.startswith("text/")):
        return replace(first, refused=DENIED[opinion], media_type=opinion)
    return replace(first, media_type=opinion) if first.format == "Unknown" else first
