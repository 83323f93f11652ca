"""Specific Character Set (0008,0005): from a value's bytes to text. No I/O.

Facts: PS3.3 C.12.1.1.2 (defined terms, tables C.12-2 to C.12-5), PS3.5 6.1.2 (code extensions of ISO 2022: escape
sequences, and which control characters return to the first set). Where the standard leaves a choice, text comes out
as pydicom reads it; docs/dicom.md lists where it does not.
"""

from __future__ import annotations

import re
from typing import Final

DEFAULT: Final = "iso8859"

# Defined term -> Python's codec. The terms after GB18030 are common misspellings (CP-1234) and codec names.
CODECS: Final[dict[str, str]] = {
    "": DEFAULT,
    "ISO_IR 6": DEFAULT,
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 203": "iso8859_15",
    "ISO 2022 IR 6": DEFAULT,
    "ISO 2022 IR 13": "shift_jis",
    "ISO 2022 IR 58": "gb2312",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 100": "latin_1",
    "ISO 2022 IR 101": "iso8859_2",
    "ISO 2022 IR 109": "iso8859_3",
    "ISO 2022 IR 110": "iso8859_4",
    "ISO 2022 IR 126": "iso8859_7",
    "ISO 2022 IR 127": "iso8859_6",
    "ISO 2022 IR 138": "iso8859_8",
    "ISO 2022 IR 144": "iso8859_5",
    "ISO 2022 IR 148": "iso8859_9",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "ISO 2022 IR 166": "tis_620",
    "ISO 2022 IR 203": "iso8859_15",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO 2022 GBK": "gbk",
    "ISO 2022 58": "gb2312",
    "UTF-8": "utf_8",
    "UTF8": "utf_8",
}
_STAND_ALONE: Final = frozenset({"ISO_IR 192", "GBK", "GB18030"})  # no code extensions (PS3.5 6.1.2.5.4 d)

# Escape sequence -> codec (PS3.3 tables C.12-3 and C.12-4).
ESCAPES: Final[dict[bytes, str]] = {
    b"\x1b(B": DEFAULT,
    b"\x1b-A": "latin_1",
    b"\x1b)I": "shift_jis",
    b"\x1b(J": "shift_jis",
    b"\x1b$B": "iso2022_jp",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620",
    b"\x1b-b": "iso8859_15",
    b"\x1b$)C": "euc_kr",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)A": "gb2312",
}
_OWN_ESCAPES: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})  # these codecs want to see the escape sequence
_RUNS: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_RESET: Final = re.compile(rb"[\r\n\t\f]")


def codecs_of(value: bytes) -> tuple[tuple[str, ...], bool]:
    """The codecs of a Specific Character Set's value, first the one in force at a value's beginning.

    Also True where a term is not defined; the default (ISO 8859-1, a superset of the standard's ASCII) stands for it.
    """
    terms = [term.strip(" \0") for term in value.decode("latin-1").split("\\")]
    names: list[str] = []
    unknown = False
    for number, term in enumerate(terms):
        if number and (terms[0] in _STAND_ALONE or term in _STAND_ALONE):
            unknown = True
            continue
        codec = CODECS.get(term) or CODECS.get(_respelled(term))
        unknown = unknown or codec is None
        names.append(codec or DEFAULT)
    return tuple(names), unknown


def _respelled(term: str) -> str:
    """The defined term behind "ISO IR 100", "ISO-IR 100", "ISO_2022_IR_87" and their like."""
    if re.match(r"ISO[^_]IR", term):
        return "ISO_IR" + term[6:]
    if re.match(r"ISO.2022.IR.", term):
        return "ISO 2022 IR " + term[12:]
    return term.upper()


def decode(value: bytes, codecs: tuple[str, ...]) -> str:
    """The text of ``value``. Never fails: what a codec cannot read becomes U+FFFD."""
    if b"\x1b" not in value:
        return value.decode(codecs[0], "replace")
    return "".join(_decode_run(run, codecs) for run in _RUNS.findall(value))


def _decode_run(run: bytes, codecs: tuple[str, ...]) -> str:
    """A part of a value, up to the next escape sequence. One that its set cannot read falls back to the first set."""
    if not run.startswith(b"\x1b"):
        return run.decode(codecs[0], "replace")
    length = 4 if run.startswith((b"\x1b$(", b"\x1b$)")) else 3
    codec = ESCAPES.get(run[:length])
    if codec is None or (codec not in codecs and codec != DEFAULT):
        return run.decode(codecs[0], "replace")
    try:
        if codec in _OWN_ESCAPES:
            return run.decode(codec)
        text = run[length:]
        reset = _RESET.search(text)
        if reset is None:
            return text.decode(codec)
        return text[: reset.start()].decode(codec) + text[reset.start() :].decode(codecs[0])
    except UnicodeError:
        return run.decode(codecs[0], "replace")
