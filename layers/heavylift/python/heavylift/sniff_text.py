"""Which text format the beginning of a file is. No I/O here.

Modest on purpose: it decides which validator looks at the file, and which files are never taken (scripts, HTML).
The validator then says whether the file is what it claims to be.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Final

ROWS_LOOKED_AT: Final = 200
ROWS_ALIKE: Final = 0.9  # of the rows as wide as the header: real tables have the odd broken line
_DELIMITERS: Final = (",", "\t", ";", "|")
CONTROLS_SHARE: Final = 50
_NO_CONTROLS: Final = bytes(n for n in range(256) if n not in {*range(9), *range(14, 27), *range(28, 32), 0x7F})
# Everything below the blank but TAB, LF, VT, FF, CR, ESC; DEL.
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML: Final = re.compile(r"<(!doctype\s+html|html|head|body|script|iframe|title|table|div|a\s+href)\b", re.IGNORECASE)
_SCRIPT_LINE: Final = re.compile(r"#!\s*[/\w]")
_SCRIPT_OPENING: Final = re.compile(r"(<\?php\b|<\?=|<%@|@echo\s+off\b|<job\b|<hta:)", re.IGNORECASE)
_EXTENSION_FORMATS: Final[dict[str, str]] = {".csv": "CSV", ".tsv": "TSV", ".tab": "TSV"}


@dataclass(frozen=True, slots=True)
class Text:
    """``format``: CSV TSV JSONL JSON Text XML SVG HTML Script; ``refused`` as in Detection."""

    format: str
    encoding: str
    refused: str | None = None


def sniff_text(head: bytes, more: bool, name: str = "") -> Text | None:
    """The text format of ``head``, the file's beginning (``more``: the file goes on). None where it is no text."""
    decoded = _decode(head, more)
    if decoded is None:
        return None
    text, encoding = decoded
    body = text.lstrip()
    if _SCRIPT_LINE.match(text) or _SCRIPT_OPENING.match(body):
        return Text("Script", encoding, "script")
    opening = _without_comments(body)
    if _HTML.match(opening) or (opening.startswith("<") and re.search(r"<(!doctype\s+)?html\b", opening[:1024], re.I)):
        return Text("HTML", encoding, "HTML")
    if body.startswith("<?xml") or opening.startswith("<svg"):
        return Text("SVG" if re.search(r"<svg\b", opening[:4096]) else "XML", encoding)
    if body[:1] in ("{", "["):
        return Text(_json_format(body, more, name), encoding)
    if body[:1] == '"' and _is_jsonl(body, more):
        return Text("JSONL", encoding)
    delimiter = _delimiter(text, more)
    if delimiter is not None:
        return Text("TSV" if delimiter == "\t" else "CSV", encoding)
    extension = name[name.rfind(".") :].lower() if "." in name else ""
    return Text(_EXTENSION_FORMATS.get(extension, "Text"), encoding)


def _decode(head: bytes, more: bool) -> tuple[str, str] | None:
    """The text and its encoding; None where bytes say that it is no text. A character cut at the end is dropped."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not head.startswith(codecs.BOM_UTF32_LE):
        encoding = "utf-16-le" if head.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head[2:], False)
        except UnicodeDecodeError:
            return None
        return None if _CONTROL.search(text) else (text, encoding)
    encoding = "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head, not more)
    except UnicodeDecodeError:
        text, encoding = head.decode("latin-1"), "latin-1"
        # Binary data nearly always holds C1 controls; Latin-1 prose never does, Windows-1252 holds a few.
        if sum(1 for c in text if "\x80" <= c <= "\x9f") * 20 > len(text):
            return None
    return None if _CONTROL.search(text) else (text, encoding)


def is_nearly_text(head: bytes) -> bool:
    """Whether no more than one byte in fifty is a control character: text with a defect, and no binary data."""
    return bool(head) and len(head.translate(None, _NO_CONTROLS)) * CONTROLS_SHARE <= len(head)


def _without_comments(body: str) -> str:
    while body.startswith("<!--"):
        end = body.find("-->")
        if end < 0:
            break
        body = body[end + 3 :].lstrip()
    return body


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_jsonl(body: str, more: bool) -> bool:
    lines = body.split("\n", 3)
    whole = [line for line in (lines[:-1] if more or len(lines) > 3 else lines) if line.strip()][:2]
    return len(whole) == 2 and all(_parses(line) for line in whole)


def _json_format(body: str, more: bool, name: str) -> str:
    if _is_jsonl(body, more):
        return "JSONL"
    by_name = "JSONL" if name.lower().endswith((".jsonl", ".ndjson")) else "JSON"
    if not more and _parses(body):
        return by_name  # one line only: both are right, so the name decides
    first, newline, rest = body.partition("\n")
    if newline and first.startswith("{") and _parses(first) and rest.strip():
        return "JSONL"  # a second line that is broken does not make the file something else
    if body.startswith("{") and not re.match(r'\{\s*("|\}|$)', body):
        return "Text"
    if body.startswith("[") and not re.match(r'\[\s*(["\[{\]\d-]|true|false|null|$)', body):
        return "Text"
    return by_name


def _delimiter(text: str, more: bool) -> str | None:
    """The delimiter of a table: at least two columns and two rows, nearly all as wide as the header."""
    lines = text.splitlines()
    if more and len(lines) > 1:
        lines.pop()
    lines = [line for line in lines if line.strip()][:ROWS_LOOKED_AT]
    if len(lines) < 2:
        return None
    best: tuple[int, str] | None = None
    for delimiter in _DELIMITERS:
        header = _cells(lines[0], delimiter)
        if header < 2 or (delimiter != "\t" and any(cell.startswith(" ") for cell in lines[0].split(delimiter))):
            continue  # a blank after the comma is prose
        alike = sum(1 for line in lines if _cells(line, delimiter) == header)
        if alike >= 2 and alike >= ROWS_ALIKE * len(lines) and (best is None or header > best[0]):
            best = (header, delimiter)
    return best[1] if best else None


def _cells(line: str, delimiter: str) -> int:
    """Cells in a line, delimiters inside quotes not counted."""
    if '"' not in line:
        return line.count(delimiter) + 1
    return sum(part.count(delimiter) for part in line.split('"')[::2]) + 1
