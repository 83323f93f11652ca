"""JSON lines: one value a line. No I/O here.

orjson accepts or refuses; simdjson, three times as fast, is asked first where nobody needs the value itself (it
accepts nothing that orjson refuses but a leading byte order mark). Long lines are scanned, never made into objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
import simdjson

from heavylift.tables.bounds import (
    BLOCK_BYTES,
    OBJECT_BYTES,
    SMALL_JSON_BYTES,
)
from heavylift.tables.faults import Keys, text_faults
from heavylift.tables.json_schema import compile_schema, faults
from heavylift.tables.rules import Rules, canonical
from heavylift.tables.scan import Scanner, duplicate_members
from heavylift.tables.statistics import Statistics
from heavylift.tables.tally import Tally

_BOM: Final = b"\xef\xbb\xbf"
_MISSING: Final = object()


class JsonLines:
    """``feed`` UTF-8, then ``end``. ``state`` is plain JSON and holds no data: what follows ``tally.offset`` is fed
    again to whoever goes on from it. Memory: one record and its objects, or OBJECT_BYTES."""

    def __init__(self, rules: Rules, tally: Tally, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self._rules = rules
        self._tally = tally
        self._tail = bytearray()
        self._skipping: bool = state.get("skipping", False)
        self._blank: list[Any] | None = state.get("blank")
        self.statistics = Statistics(state.get("statistics"))
        self.keys = Keys(rules.unique_keys, state.get("keys"))
        schema = rules.schema
        self._validator = None if schema is None or rules.is_table_schema else compile_schema(schema)
        self._parser = simdjson.Parser()
        self._bare = self._validator is None and not rules.unique_keys and rules.duplicate_members == "allow"
        quick = not rules.unique_keys and rules.duplicate_members == "allow" and tally.width is len
        self._quick = quick
        self._accept: Any = self._accept_valid if self._validator is not None else self._parser.parse

    def state(self) -> dict[str, Any]:
        return {
            "skipping": self._skipping,
            "blank": self._blank,
            "statistics": self.statistics.state(),
            "keys": self.keys.state(),
        }

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            if self._tally.stopped_by:
                return
            self._block(data[at : at + BLOCK_BYTES] if len(data) > BLOCK_BYTES else data)

    def end(self) -> None:
        if self._tail and not self._skipping and not self._tally.stopped_by:
            self._line(bytes(self._tail), bytes(self._tail))
        self._tail.clear()
        if self._blank is not None and not self._tally.stopped_by:
            self._tally.warn("trailing-blank-line")
            self._tally.records -= 1
        self._blank = None

    def _block(self, data: bytes) -> None:
        tally = self._tally
        if self._skipping:
            end = data.find(b"\n")
            if end < 0:
                tally.move(data)
                return
            tally.move(data[: end + 1])
            self._skipping = False
            data = data[end + 1 :]
        cut = data.rfind(b"\n")
        if cut < 0:
            self._tail += data
        else:
            if self._tail:
                first = data.find(b"\n") + 1
                line = bytes(self._tail) + data[:first]
                self._tail.clear()
                self._line(_unbroken(line), line)
                self._lines(data, first, cut + 1)
            else:
                self._lines(data, 0, cut + 1)
            if tally.stopped_by:
                return
            self._tail += data[cut + 1 :]
        if len(self._tail) > self._rules.max_record_bytes + 1:  # one more: it may be the CR of a CRLF
            self._blank_before()
            if tally.stopped_by:
                return
            self.statistics.due(tally.offset)
            self._too_long(bytes(self._tail[:201]))
            tally.move(self._tail)
            self._tail.clear()
            self._skipping = True

    def _lines(self, data: bytes, at: int, end: int) -> None:
        """The whole lines of ``data[at:end]``."""
        tally = self._tally
        if at >= end or tally.stopped_by:
            return
        lines = data[at:end].split(b"\n")
        lines.pop()
        if not self._quick or self._rules.max_record_bytes < end - at:
            for line in lines:
                if tally.stopped_by:
                    return
                self._line(line[:-1] if line.endswith(b"\r") else line, line + b"\n")
            return
        # Fast: what simdjson takes, or orjson and the schema, is done.
        accept = self._accept if _BOM not in data else self._accept_plain
        begin, pos = at, at
        crlf_free = b"\r" not in data
        clean = 0
        special = self._next_special(pos)
        for line in lines:
            size = len(line) + 1
            if pos < special and size <= SMALL_JSON_BYTES:
                try:
                    accept(line)
                except (ValueError, RuntimeError):
                    pass  # looked at in detail
                else:
                    clean += 1
                    pos += size
                    continue
            self._clean(data[begin:pos], clean, crlf_free)
            whole = data[pos : pos + size]
            self._line(_unbroken(whole), whole)
            if tally.stopped_by:
                return
            pos += size
            begin, clean = pos, 0
            special = self._next_special(pos)
        self._clean(data[begin:pos], clean, crlf_free)

    def _next_special(self, pos: int) -> int:
        """Where in the block a line must be looked at in detail for the sake of the sample or of a blank line."""
        if self._blank is not None:
            return pos
        return self.statistics.next_at(self._tally.offset) - self._tally.offset + pos

    def _accept_plain(self, line: bytes) -> None:
        """As ``_accept``, but that simdjson skips a byte order mark. ValueError, RuntimeError."""
        if line[:3] == _BOM:
            raise ValueError("a byte order mark")
        self._accept(line)

    def _accept_valid(self, line: bytes) -> None:
        """ValueError: orjson or the schema refuses it."""
        if self._validator is None or not self._validator.is_valid(orjson.loads(line)):
            raise ValueError("the schema")

    def _clean(self, data: bytes, records: int, crlf_free: bool) -> None:
        if not records:
            return
        tally = self._tally
        tally.records += records
        tally.offset += tally.width(data)
        tally.line += records
        tally.unbroken = False
        tally.lf += records
        if not crlf_free:
            tally.crlf += data.count(b"\r\n")

    def _line(self, content: bytes, whole: bytes) -> None:
        """One line in every detail; the tally moves behind it."""
        tally = self._tally
        self._blank_before()
        if tally.stopped_by:
            return
        if not content.strip(b" \t\r"):
            # The last line may be empty: whether it is the last is known later.
            self._blank = [tally.offset, tally.line, tally.records, content[:100].decode("latin-1")]
            tally.records += 1
            tally.move(whole)
            return
        sampled = self.statistics.due(tally.offset)
        if len(content) > self._rules.max_record_bytes:
            self._too_long(content)
            tally.move(whole)
            return
        before = tally.record_errors
        value = self._parsed(content)
        if value is not _MISSING:
            self._judged(content, value)
            if sampled and tally.record_errors == before and value is not None:
                self.statistics.record(value[0])
        if tally.record_errors > before:
            tally.bad_record()
        else:
            tally.records += 1
        tally.move(whole)

    def _blank_before(self) -> None:
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

    def _too_long(self, content: bytes) -> None:
        tally = self._tally
        limit = self._rules.max_record_bytes
        tally.fault("record-too-long", f"The record has more than {limit} bytes.", content[: min(limit + 1, 200)], 0)
        tally.bad_record()

    def _parsed(self, content: bytes) -> Any:
        """[value], None for a good record that is too large to be held, or _MISSING with the fault told."""
        tally = self._tally
        if len(content) > SMALL_JSON_BYTES:
            if text_faults(tally, content):
                return _MISSING
            scanner = Scanner()
            found = None
            for at in range(0, len(content), BLOCK_BYTES):
                found = scanner.feed(content[at : at + BLOCK_BYTES])
                if found:
                    break
            found = found or scanner.end()
            if found:
                tally.fault(found.code, found.message, content, found.at)
                return _MISSING
            if self._bare:
                return None
            if objects_bytes(content) > OBJECT_BYTES:
                if self._validator is not None or self._rules.unique_keys:
                    tally.fault(
                        "record-too-complex", "The record has too many values to be judged by a schema.", content, 0
                    )
                    return _MISSING
                return None
        try:
            return [orjson.loads(content)]
        except orjson.JSONDecodeError as error:
            if not text_faults(tally, content):
                code, message, at = explained(error, content)
                tally.fault(code, message, content, at)
            return _MISSING

    def _judged(self, content: bytes, boxed: list[Any] | None) -> None:
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


def _unbroken(line: bytes) -> bytes:
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def objects_bytes(content: bytes) -> int:
    """At least as much as the text's objects need: 64 bytes a value and its slot, 200 more an object or array."""
    values = content.count(b",") + content.count(b":") + 1
    return len(content) + 96 * values + 232 * (content.count(b"[") + content.count(b"{"))


def explained(error: orjson.JSONDecodeError, content: bytes) -> tuple[str, str, int]:
    """(code, message, byte offset) of orjson's refusal of valid UTF-8; it counts characters."""
    at = error.pos if content.isascii() else len(content.decode("utf-8", "replace")[: error.pos].encode())
    words = error.msg.split(": line ")[0]
    if "depth" in words:
        found = Scanner()
        broken = found.feed(content) or found.end()
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
