"""Counts and places of everything that is wrong. No I/O here.

A tally is a function of the records it was told of, in their order; blocks and slices leave no trace in it. Its state
is plain JSON.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping
from typing import Any

from heavylift.tables.bounds import (
    BLOCK_BYTES,
    ERRORS_INLINE,
    ERRORS_LISTED,
    ERRORS_LISTED_BYTES,
    EXCERPT_BYTES,
    FIELD_NAME_LENGTH,
    MESSAGE_LENGTH,
    RATE_RECORDS_MIN,
)
from heavylift.tables.codes import CODES
from heavylift.tables.rules import Rules

Bytes = bytes | bytearray  # a long record is never copied
Width = Callable[[bytes | bytearray], int]


def excerpt(data: Bytes, at: int = 0) -> str:
    """At most EXCERPT_BYTES of ``data`` around ``at``, printable whatever is in it."""
    start = max(0, at - EXCERPT_BYTES // 4)
    while start and start < len(data) and data[start] & 0xC0 == 0x80 and at - start < EXCERPT_BYTES // 2:
        start -= 1
    text = data[start : start + EXCERPT_BYTES // 2].decode("utf-8", "backslashreplace")
    shown = printable(text)
    while len(shown.encode()) > EXCERPT_BYTES:
        shown = shown[:-1]
    return shown


def printable(text: str) -> str:
    """``text`` with everything escaped that would move a cursor, hide or turn other text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _characters(data: Bytes, start: int, end: int) -> int:
    """How many characters ``data[start:end]`` has; what is no UTF-8 counts as a reader shows it."""
    if end - start <= BLOCK_BYTES:
        return len(data[start:end].decode("utf-8", "replace"))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    steps = range(start, end, BLOCK_BYTES)
    return sum(len(decoder.decode(data[at : min(at + BLOCK_BYTES, end)], at == steps[-1])) for at in steps)


class Tally:
    """What was found so far, and the place of the next record.

    ``offset``, ``line``, ``record``: of the next record; lines and records from 1, offsets from 0 in the decompressed
    file, in the file's own encoding. ``width`` says how many of the file's bytes a piece of UTF-8 text was.
    """

    def __init__(self, rules: Rules, width: Width = len, state: Mapping[str, Any] | None = None) -> None:
        self.rules = rules
        self.width = width
        self.offset = 0
        self.line = 1
        self.records = 0
        self.bad_records = 0
        self.counts: dict[str, int] = {}
        self.warnings: dict[str, int] = {}
        self.listed: list[dict[str, Any]] = []
        self.listed_bytes = 0
        self.file_errors = 0
        self.record_errors = 0
        self.lf = 0
        self.crlf = 0
        self.cr = False
        self.unbroken = False  # whether the last line has no line break
        self.stopped_by: str | None = None
        self.listed_max = ERRORS_LISTED
        if state is not None:
            for name in _STATE:
                setattr(self, name, state[name])
            self.counts, self.warnings = dict(state["counts"]), dict(state["warnings"])
            self.listed = list(state["listed"])

    def state(self) -> dict[str, Any]:
        """Plain JSON; Tally(rules, width, state) goes on from it."""
        return {name: getattr(self, name) for name in _STATE} | {
            "counts": dict(self.counts),
            "warnings": dict(self.warnings),
            "listed": list(self.listed),
        }

    def fault(
        self,
        code: str,
        message: str,
        data: Bytes = b"",
        at: int = 0,
        *,
        field: str | None = None,
        field_number: int | None = None,
        newline: bytes = b"\n",
        shown: Bytes | None = None,
        pointer: str | None = None,
        keyword: str | None = None,
        here: bool = True,
        header: bool = False,
    ) -> None:
        """Something is wrong at ``data[at]``, ``data`` being the next record (or what there is of it).

        ``here`` False: the whole record is meant, so that there is no column to tell. ``header``: it is no record.
        """
        level = CODES[code].level
        if level == "warning":
            raise ValueError(f"{code} is a warning")
        self.counts[code] = self.counts.get(code, 0) + 1
        if level == "file":
            self.file_errors += 1
        else:
            self.record_errors += 1
        if self._full:
            return
        at = min(at, len(data))
        entry: dict[str, Any] = {"code": code, "message": printable(message)[:MESSAGE_LENGTH]}
        entry["line"] = self.line + data.count(newline, 0, at)
        if level == "record" and not header:
            entry["record"] = self.records + 1
        entry["byte_offset"] = self.offset + (at if self.width is len else self.width(data[:at]))
        if here:
            entry["column"] = _characters(data, data.rfind(newline, 0, at) + 1, at) + 1
        if field_number is not None:
            entry["field_number"] = field_number
        if field is not None:
            entry["field"] = printable(field[:FIELD_NAME_LENGTH])
        if pointer is not None:
            entry["pointer"] = printable(pointer)[:MESSAGE_LENGTH]
        if keyword is not None:
            entry["keyword"] = printable(keyword)[:MESSAGE_LENGTH]
        if data:
            entry["excerpt"] = excerpt(data, at) if shown is None else excerpt(shown)
        self._list(entry)

    def _list(self, entry: dict[str, Any]) -> None:
        self.listed.append(entry)
        self.listed_bytes += len(json.dumps(entry))

    @property
    def _full(self) -> bool:
        return len(self.listed) >= self.listed_max or self.listed_bytes >= ERRORS_LISTED_BYTES

    def composable(self, state: Mapping[str, Any]) -> bool:
        """Whether the pass goes on beyond what another tally, which never stops, was told of the records from here
        on."""
        if self.stopped_by is not None:
            return False
        if len(state["listed"]) < sum(state["counts"].values()) and not self._full:
            return False  # errors that belong into this list are not in that one
        bad, rate = state["bad_records"], self.rules.max_error_rate
        if self.rules.max_errors is not None and self.record_errors + state["record_errors"] > (
            self.rules.errors_tolerated
        ):
            return False
        # As if the bad records were the first ones there; one more, because rates are rounded.
        most = self.bad_records + bad + 1
        return rate is None or not bad or most <= rate * (self.records + bad)

    def absorb(self, state: Mapping[str, Any]) -> None:
        """Take up what another tally was told of the records from here on; its lines and records counted from 1.
        Asked before: ``composable``."""
        for entry in state["listed"]:
            if self._full:
                break
            shifted = dict(entry)
            shifted["line"] += self.line - 1
            if "record" in shifted:
                shifted["record"] += self.records
            self._list(shifted)
        for mine, theirs in ((self.counts, state["counts"]), (self.warnings, state["warnings"])):
            for code, many in theirs.items():
                mine[code] = mine.get(code, 0) + many
        for name in ("records", "bad_records", "record_errors", "lf", "crlf"):
            setattr(self, name, getattr(self, name) + state[name])
        self.line += state["line"] - 1
        self.offset, self.unbroken, self.cr = state["offset"], state["unbroken"], state["cr"]

    def fault_at(
        self, code: str, message: str, *, line: int, byte_offset: int, shown: bytes, column: int | None = None
    ) -> None:
        """Something is wrong in the next record, at a place that the caller knows."""
        self.counts[code] = self.counts.get(code, 0) + 1
        self.record_errors += 1
        entry: dict[str, Any] = {"code": code, "message": printable(message)[:MESSAGE_LENGTH], "line": line}
        entry["byte_offset"] = byte_offset
        if column is not None:
            entry["column"] = column
        if shown:
            entry["excerpt"] = excerpt(shown)
        self.listed.append(entry)

    def file_fault(self, code: str, message: str) -> None:
        """Something is wrong with the whole file."""
        self.counts[code] = self.counts.get(code, 0) + 1
        self.file_errors += 1
        entry = {"code": code, "message": printable(message)[:MESSAGE_LENGTH]}
        self.listed.append(entry | {"line": self.line, "byte_offset": self.offset})

    def warn(self, code: str, number: int = 1) -> None:
        """Something is odd, ``number`` times."""
        if CODES[code].level != "warning" and code not in _WARNED_BY_RULE:
            raise ValueError(f"{code} is no warning")
        self.warnings[code] = self.warnings.get(code, 0) + number

    def bad_record(self) -> None:
        """The record that faults were just told of is over and counts as bad; may stop the pass."""
        self.records += 1
        self.bad_records += 1
        limit, rate = self.rules.errors_tolerated, self.rules.max_error_rate
        if self.rules.max_errors is not None and self.record_errors > limit:
            self.stopped_by = self.stopped_by or "max_errors"
        elif rate is not None and self.records >= RATE_RECORDS_MIN and self.bad_records > rate * self.records:
            self.stopped_by = self.stopped_by or "max_error_rate"

    def move(self, data: Bytes, newline: bytes = b"\n") -> None:
        """``data`` lies behind: the next record begins after it."""
        if not data:
            return
        self.offset += self.width(data)
        self.unbroken = not data.endswith(newline)
        breaks = data.count(newline)
        self.line += breaks
        if newline == b"\n" and breaks:
            self.lf += breaks
            if b"\r" in data:
                self.crlf += data.count(b"\r\n")
            if self.cr and data.startswith(b"\n"):
                self.crlf += 1  # a line that was too long was cut between the two
        self.cr = data.endswith(b"\r")

    def stop_at(self, line: int, offset: int) -> None:
        """The text ends here for us: nothing behind this place can be judged."""
        self.line, self.offset, self.unbroken = line, offset, True
        self.stopped_by = "syntax"

    @property
    def lines(self) -> int:
        """Lines so far; the last one may have no line break."""
        return self.line if self.unbroken else self.line - 1

    @property
    def valid(self) -> bool:
        """Whether the rules take a file of which this was found."""
        if self.file_errors or self.stopped_by not in (None, "syntax"):
            return False
        if self.rules.max_error_rate is not None and self.bad_records > self.rules.max_error_rate * self.records:
            return False
        return self.record_errors <= self.rules.errors_tolerated

    def inline(self) -> list[dict[str, Any]]:
        """The errors that the report itself shows."""
        return self.listed[:ERRORS_INLINE]


_WARNED_BY_RULE = frozenset({"formula-cell", "duplicate-key", "control-character"})
_STATE = (
    "offset",
    "line",
    "records",
    "bad_records",
    "listed_bytes",
    "file_errors",
    "record_errors",
    "lf",
    "crlf",
    "unbroken",
    "cr",
    "stopped_by",
)
