"""JSON lines: one value a line. No I/O here.

orjson accepts or refuses; simdjson, three times as fast, is asked first where nobody needs the value itself (it
accepts nothing that orjson refuses but a leading byte order mark). Long lines are scanned, never made into objects.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from operator import length_hint
from typing import Any, Final

import orjson
import simdjson

from heavylift.tables.bounds import (
    BLOCK_BYTES,
    LINES_BYTES,
    OBJECT_BYTES,
    SMALL_JSON_BYTES,
)
from heavylift.tables.faults import Keys, text_faults
from heavylift.tables.json_schema import compile_schema, faults
from heavylift.tables.lines import Lines
from heavylift.tables.rules import Rules, canonical
from heavylift.tables.scan import Scanner, duplicate_members
from heavylift.tables.statistics import Statistics
from heavylift.tables.tally import Bytes, Tally

_BOM: Final = b"\xef\xbb\xbf"
_MISSING: Final = object()
_BLANK: Final = re.compile(rb"[ \t\r]*+")
_SIMD_LINE_BYTES: Final = 128  # mean length of lines from which simdjson's call costs less than orjson's objects


class JsonLines(Lines):
    """``feed`` UTF-8, then ``end``. ``state`` is plain JSON and holds no data: what follows ``tally.offset`` is fed
    again to whoever goes on from it. Memory: one record, and as objects OBJECT_BYTES with it."""

    _noun = "record"

    def __init__(self, rules: Rules, tally: Tally, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        super().__init__(rules, tally, state)
        self._blank: list[Any] | None = state.get("blank")
        self.statistics = Statistics(state.get("statistics"))
        self.keys = Keys(rules.unique_keys, state.get("keys"))
        schema = rules.schema
        self._validator = None if schema is None or rules.is_table_schema else compile_schema(schema)
        self._parse = simdjson.Parser().parse
        self._quick = not rules.unique_keys and rules.duplicate_members == "allow" and tally.width is len

    def state(self) -> dict[str, Any]:
        return {
            "skipping": self._skipping,
            "blank": self._blank,
            "statistics": self.statistics.state(),
            "keys": self.keys.state(),
        }

    def fresh(self) -> dict[str, Any]:
        """The state of a pass that begins at a record far from the file's beginning."""
        return {}

    def absorb(self, state: Mapping[str, Any], lines_before: int, records_before: int) -> None:
        """Take up what another pass found in the records from here on. Asked before: ``composable``."""
        blank = state["blank"]
        if blank is not None:
            offset, line, records, shown = blank
            blank = [offset, line + lines_before, records + records_before, shown]
        self._blank = blank
        self._skipping = state["skipping"]
        self.statistics.absorb(state["statistics"])

    def composable(self, state: Mapping[str, Any], offset: int) -> bool:
        """Whether ``absorb`` would answer what reading the records from ``offset`` on does."""
        return not self.keys.names and self.statistics.composable(state["statistics"], offset)

    def end(self) -> None:
        super().end()
        if self._blank is not None and not self._tally.stopped_by:
            self._tally.warn("trailing-blank-line")
            self._tally.records -= 1
        self._blank = None

    def _before_record(self) -> None:
        self.flush_blank()
        if not self._tally.stopped_by:
            self.statistics.due(self._tally.offset)

    def _lines(self, data: bytes, at: int, end: int) -> None:
        tally = self._tally
        if not self._quick or self._rules.max_record_bytes < end - at:
            self._each_line(data, at, end)
            return
        crlf = data.find(b"\r", at, end) >= 0
        # simdjson skips a byte order mark; one byte is looked for ten times as fast as three.
        simple = data.find(_BOM[:1], at, end) < 0 or data.find(_BOM, at, end) < 0
        while at < end and not tally.stopped_by:
            # From one record of the sample to the next; a blank line before waits for what follows it.
            stop = at
            if self._blank is None:
                ahead = self.statistics.next_at(tally.offset) - tally.offset
                if ahead > 0:
                    ahead = min(ahead, LINES_BYTES)
                    stop = data.find(b"\n", at + ahead - 1, end) + 1 or end if at + ahead < end else end
            if stop > at:
                self._good_lines(data, at, stop, crlf, simple)
                at = stop
            else:
                stop = data.find(b"\n", at, end) + 1
                at = self._one(data, at, stop)

    def _one(self, data: bytes, at: int, stop: int) -> int:
        """The line ``data[at:stop]`` in every detail; the place behind it."""
        broken = stop - 2 if stop - at > 1 and data[stop - 2] == 0x0D else stop - 1
        self._line(data[at:broken], data[broken:stop])
        return stop

    def _good_lines(self, data: bytes, at: int, stop: int, crlf: bool, simple: bool) -> None:
        """Whole lines of which most are good: no step of the interpreter for each of these."""
        tally = self._tally
        lines = data[at:stop].split(b"\n")
        lines.pop()
        # simdjson answers twice as fast as orjson where records are not small.
        small = stop - at < _SIMD_LINE_BYTES * len(lines)
        parse = self._parse if simple and not small else orjson.loads
        waiting = iter(lines)
        done = 0  # lines behind
        while True:
            try:
                if self._validator is None:
                    deque(map(parse, waiting), 0)
                    refused = False
                else:
                    refused = not all(map(self._validator.is_valid, map(orjson.loads, waiting)))
            except (ValueError, RuntimeError):
                refused = True
            taken = len(lines) - length_hint(waiting) - refused
            after = at + sum(map(len, lines[done:taken])) + taken - done if refused else stop
            self._clean(data, at, after, taken - done, crlf)
            if not refused:
                return
            at = self._one(data, after, after + len(lines[taken]) + 1)
            done = taken + 1
            while done < len(lines) and self._blank is not None and not tally.stopped_by:
                at = self._one(data, at, at + len(next(waiting)) + 1)
                done += 1
            if tally.stopped_by:
                return

    def _clean(self, data: bytes, at: int, stop: int, records: int, crlf: bool) -> None:
        if not records:
            return
        tally = self._tally
        tally.records += records
        tally.offset += stop - at
        tally.line += records
        tally.unbroken = False
        tally.lf += records
        if crlf:
            tally.crlf += data.count(b"\r\n", at, stop)

    def _line(self, content: Bytes, line_break: bytes) -> None:
        tally = self._tally
        self.flush_blank()
        if tally.stopped_by:
            return
        if len(content) <= self._rules.max_record_bytes and _BLANK.fullmatch(content):
            # The last line may be empty: whether it is the last is known later.
            self._blank = [tally.offset, tally.line, tally.records, content[:100].decode("latin-1")]
            tally.records += 1
            self._pass(content, line_break)
            return
        sampled = self.statistics.due(tally.offset)
        if len(content) > self._rules.max_record_bytes:
            self._too_long(content, content, line_break)
            return
        before = tally.record_errors
        value = self._parsed(content)
        if value is not _MISSING:
            self._judged(content, value)
            if sampled and tally.record_errors == before and value and len(content) <= SMALL_JSON_BYTES:
                self.statistics.record(value[0])
        del value
        if tally.record_errors > before:
            tally.bad_record()
        else:
            tally.records += 1
        self._pass(content, line_break)

    def flush_blank(self) -> None:
        """A blank line that something follows is an error of its own."""
        if self._blank is None:
            return
        tally = self._tally
        offset, line, records, shown = self._blank
        self._blank = None
        now = (tally.offset, tally.line, tally.records)
        tally.offset, tally.line, tally.records = offset, line, records
        tally.fault("blank-line", "The line is blank.", shown.encode("latin-1"), 0)
        tally.bad_record()
        tally.offset, tally.line, tally.records = now

    def _parsed(self, content: Bytes) -> Any:
        """[value], None for a good record that is too large to be held, or _MISSING with the fault told."""
        tally = self._tally
        if len(content) > SMALL_JSON_BYTES:
            if text_faults(tally, content):
                return _MISSING
            scanner = Scanner()
            found = None
            for at in range(0, len(content), BLOCK_BYTES):
                found = scanner.feed(bytes(content[at : at + BLOCK_BYTES]))
                if found:
                    break
            found = found or scanner.end()
            if found:
                tally.fault(found.code, found.message, content, found.at)
                return _MISSING
            if self._validator is None and not self._rules.unique_keys:
                return None
            if len(content) + objects_bytes(content) > OBJECT_BYTES:
                tally.fault("record-too-complex", "The record is too large to be judged by a schema.", content, 0)
                return _MISSING
        try:
            return [orjson.loads(content)]
        except orjson.JSONDecodeError as error:
            if not text_faults(tally, content):
                code, message, at = explained(error, content)
                tally.fault(code, message, content, at)
            return _MISSING

    def _judged(self, content: Bytes, boxed: list[Any] | None) -> None:
        tally = self._tally
        if self._rules.duplicate_members != "allow":
            for at, name in duplicate_members(content):
                if self._rules.duplicate_members == "error":
                    tally.fault("duplicate-key", f"The name {name!r} is there already.", content, at, field=name)
                else:
                    tally.warn("duplicate-key")
        if boxed is None:
            return
        value = boxed[0]
        if self._validator is not None and not self._validator.is_valid(value):
            for message, pointer, keyword in faults(self._validator, value):
                tally.fault("schema", message, content, 0, pointer=pointer, keyword=keyword, here=False)
        for index, names in enumerate(self.keys.names):
            parts = [canonical_value(member(value, name)) for name in names]
            if all(part is None for part in parts):
                continue  # a record without the key breaks no promise of it; a schema can require it
            if self.keys.add(index, [part or b"" for part in parts]):
                tally.fault(
                    "unique-error",
                    f"The key {', '.join(names)} was in an earlier record.",
                    content,
                    0,
                    field=", ".join(names),
                    here=False,
                )


def objects_bytes(content: Bytes) -> int:
    """At least as much as the text's objects need: 64 bytes a value and its slot, 200 more an object or array.

    A string takes as many bytes for each of its characters as the widest of them needs.
    """
    values = content.count(b",") + content.count(b":") + 1
    wide = 1
    if not content.isascii():
        wide = 4 if max(content) >= 0xF0 else 2
    if b"\\u" in content:
        wide = 4
    return wide * len(content) + 96 * values + 232 * (content.count(b"[") + content.count(b"{"))


def explained(error: orjson.JSONDecodeError, content: Bytes) -> tuple[str, str, int]:
    """(code, message, byte offset) of orjson's refusal of valid UTF-8; it counts characters."""
    at = error.pos if content.isascii() else len(content.decode("utf-8", "replace")[: error.pos].encode())
    words = error.msg.split(": line ")[0]
    if "depth" in words:
        found = Scanner()
        broken = found.feed(bytes(content)) or found.end()
        return "nesting-too-deep", "More than 1024 levels of nesting.", broken.at if broken else at
    code = "number-out-of-range" if "infinity" in words else "invalid-json"
    return code, words[0].upper() + words[1:] + ".", at


def member(value: Any, name: str) -> Any:
    """``value``'s member of that name, or the one a JSON pointer leads to (RFC 6901); None if there is none."""
    if isinstance(value, dict) and name in value:
        return value[name]
    if not name.startswith("/"):
        return None
    for step in name.split("/")[1:]:
        plain = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(plain)
        elif isinstance(value, list) and plain.isdigit() and int(plain) < len(value):
            value = value[int(plain)]
        else:
            return None
    return value


def canonical_value(value: Any) -> bytes | None:
    """Equal for equal JSON values; None for null."""
    return None if value is None else canonical(value)
