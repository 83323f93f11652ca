"""How a CSV is written: given by the rules as a Table Dialect (Data Package 2.0), else found by a vote. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from heavylift.tables.rules import RulesError, canonical

_ROWS_MAX: Final = 200
_ALIKE: Final = 0.9
_VOTED: Final = (",", "\t", ";", "|")
_KNOWN: Final = (
    "$schema",
    "name",
    "title",
    "description",
    "header",
    "headerRows",
    "delimiter",
    "lineTerminator",
    "quoteChar",
    "doubleQuote",
    "commentChar",
    "skipInitialSpace",
    "csvddfVersion",
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """``quote`` empty: there is no quoting. ``newline``: LF (which takes CRLF as well) or CR."""

    delimiter: str = ","
    quote: str = '"'
    newline: str = "\n"
    header: bool = True
    comment: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the report shows it."""
        return {
            "delimiter": self.delimiter,
            "quoteChar": self.quote or None,
            "lineTerminator": self.newline,
            "header": self.header,
            **({"commentChar": self.comment} if self.comment else {}),
        }

    def state(self) -> dict[str, Any]:
        return asdict(self)


def parse_dialect(value: Mapping[str, Any], format_name: str, head: str = "") -> Dialect:
    """The dialect of ``head``, the beginning of the text, as far as the rules do not say. RulesError."""
    for name in value:
        if name not in _KNOWN:
            raise RulesError("dialect", f"{name} is not supported; there are {', '.join(_KNOWN)}")
    if value.get("doubleQuote", True) is not True:
        raise RulesError("dialect", "doubleQuote false is not supported: quotes inside a cell are doubled (RFC 4180)")
    if value.get("skipInitialSpace", False) is not False:
        raise RulesError("dialect", "skipInitialSpace is not supported: blanks belong to the cell (RFC 4180)")
    header = value.get("header", True)
    if not isinstance(header, bool):
        raise RulesError("dialect", "header is true or false")
    if value.get("headerRows", [1]) != [1]:
        raise RulesError("dialect", "headerRows other than [1] are not supported")
    terminator = value.get("lineTerminator")
    if terminator not in (None, "\n", "\r\n", "\r"):
        raise RulesError("dialect", "lineTerminator is LF, CRLF or CR")
    quote = _one_character("quoteChar", value.get("quoteChar", '"'), none=True)
    comment = _one_character("commentChar", value.get("commentChar"), none=True)
    newline = ("\r" if terminator == "\r" else "\n") if terminator else _newline(head)
    if "delimiter" in value:
        delimiter = _one_character("delimiter", value["delimiter"], none=False)
    elif format_name == "TSV":
        delimiter = "\t"
    else:
        delimiter = vote(head, quote, newline) or ","
    if len({delimiter, quote or "\0", comment or "\1"}) < 3:
        raise RulesError("dialect", "delimiter, quoteChar and commentChar must differ")
    return Dialect(delimiter, quote, newline, header, comment)


def _one_character(name: str, value: Any, *, none: bool) -> str:
    if value is None and none:
        return ""
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in "\r\n\0":
        raise RulesError("dialect", f"{name} is one ASCII character, not {canonical(value).decode()[:40]}")
    return value


def _newline(head: str) -> str:
    """CR only where no LF is: a file of an old machine."""
    return "\r" if "\r" in head and "\n" not in head and head.rstrip("\r").find("\r") >= 0 else "\n"


def vote(head: str, quote: str = '"', newline: str = "\n") -> str | None:
    """The delimiter that makes nearly all rows as wide as the first, the most columns winning; None: one column."""
    best: tuple[bool, int, str] | None = None
    for delimiter in _VOTED:
        if delimiter not in head or delimiter == quote:
            continue
        widths = _widths(head, delimiter, quote, newline)
        if not widths or widths[0] < 2:
            continue
        alike = sum(1 for width in widths if width == widths[0]) >= _ALIKE * len(widths)
        # Ragged, but most rows have the header's delimiter: it says more than their number.
        if not alike and sum(1 for width in widths if width > 1) * 2 < len(widths):
            continue
        if best is None or (alike, widths[0]) > best[:2]:
            best = (alike, widths[0], delimiter)
    return best[2] if best else None


def _widths(head: str, delimiter: str, quote: str, newline: str) -> list[int]:
    text = io.StringIO(head, newline="")
    if quote:
        reader = csv.reader(text, delimiter=delimiter, quotechar=quote)
    else:
        reader = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    widths = []
    try:
        for row in reader:
            if row:
                widths.append(len(row))
            if len(widths) > _ROWS_MAX:
                break
    except csv.Error:
        pass  # what is readable votes
    return widths[:-1] if len(widths) > 1 else widths  # the last may be cut
