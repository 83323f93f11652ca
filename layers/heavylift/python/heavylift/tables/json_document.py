"""One JSON text of any length. No I/O here.

Scanned in pieces, so that a document of 100 GB takes no more memory than one of a kilobyte; only where a schema (or
``duplicate_members``) wants to see it whole is it held, up to ``max_record_bytes``. Records are the elements of an
outermost array; any other document is one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from heavylift.tables.bounds import BLOCK_BYTES, OBJECT_BYTES
from heavylift.tables.faults import Keys, bad_bytes
from heavylift.tables.json_lines import objects_bytes
from heavylift.tables.json_schema import compile_schema, faults
from heavylift.tables.rules import Rules
from heavylift.tables.scan import Scanner, duplicate_members
from heavylift.tables.tally import Tally

_CONTEXT_BYTES: Final = 100  # of the text before a fault, for the excerpt


class JsonDocument:
    """``feed`` UTF-8, then ``end``. Memory: three blocks, or the document and its objects where it is held.

    A place is [line, column, byte offset, text before it as hex]. Places before the block at hand are known for those
    bytes alone at which a fault may still be found: the last comma, and where an unfinished token begins.
    """

    def __init__(self, rules: Rules, tally: Tally, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self._rules, self._tally = rules, tally
        self.keys = Keys(())
        schema = rules.schema
        self._validator = None if schema is None or rules.is_table_schema else compile_schema(schema)
        self._holding = self._validator is not None or rules.duplicate_members != "allow"
        self._scanner = Scanner(state.get("scanner"))
        self._text = bytearray()
        self._tail = b""  # the beginning of a character
        self._passed: int = state.get("passed", 0)  # bytes of UTF-8 behind
        self._column: int = state.get("column", 1)
        self._before: bytes = bytes.fromhex(state.get("before", ""))
        self._places: dict[int, list[Any]] = dict(state.get("places", ()))

    def state(self) -> dict[str, Any]:
        return {
            "scanner": self._scanner.state(),
            "passed": self._passed,
            "column": self._column,
            "before": self._before.hex(),
            "places": [[at, place] for at, place in self._places.items()],
        }

    @property
    def resumable(self) -> bool:
        """A document that is held whole is read in one go."""
        return not self._holding

    def statistics_json(self) -> dict[str, Any]:
        return {"outermost": self._scanner.outermost or None, "elements": self._scanner.elements}

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            if self._tally.stopped_by:
                return
            self._block(data[at : at + BLOCK_BYTES] if len(data) > BLOCK_BYTES else data)

    def end(self) -> None:
        tally = self._tally
        if tally.stopped_by:
            return
        if self._tail:
            self._fault("encoding-error", "The text ends in the middle of a character.", self._passed, b"")
        elif found := self._scanner.end():
            if self._scanner.waiting(found.at) == b"\0":
                self._fault("nul-byte", "A NUL byte.", found.at, b"")
            else:
                self._fault(found.code, found.message, found.at, b"")
        else:
            if self._holding:
                self._whole(bytes(self._text))
            tally.records = self._scanner.elements if self._scanner.outermost == "array" else 1

    def _block(self, data: bytes) -> None:
        joined = self._tail + data if self._tail else data
        cut, broken = len(joined), False
        if wrong := bad_bytes(joined):
            cut = wrong[0][0]
            # The last character may go on in the next block.
            broken = not _begins_character(joined[cut:])
        good = joined[:cut] if cut < len(joined) else joined
        found = self._scanner.feed(good)
        if found is not None:
            inside = found.at - self._passed
            byte = good[inside : inside + 1] if inside >= 0 else self._scanner.waiting(found.at)
            if byte == b"\0":
                self._fault("nul-byte", "A NUL byte.", found.at, good)
            else:
                self._fault(found.code, found.message, found.at, good)
            return
        if broken:
            shown = " ".join(f"{byte:02X}" for byte in joined[cut : wrong[0][1]])
            self._fault("encoding-error", f"{shown} is no text in this file's encoding.", self._passed + cut, good)
            return
        if self._holding:
            self._hold(good)
        places = {}
        for at in self._scanner.pending:
            places[at] = self._place(at, good) if at >= self._passed else self._places.get(at, self._place(at, good))
        self._places = places
        self._tail = joined[cut:]
        self._move(good)

    def _move(self, good: bytes) -> None:
        self._passed += len(good)
        newline = good.rfind(b"\n")
        self._column = (1 if newline >= 0 else self._column) + _characters(good[newline + 1 :])
        self._before = (self._before + good[-_CONTEXT_BYTES:])[-_CONTEXT_BYTES:]
        self._tally.move(good)

    def _place(self, at: int, block: bytes) -> list[Any]:
        """Of byte ``at`` of the text, in the block at hand or near one of the places that are known."""
        tally = self._tally
        if at >= self._passed:
            prefix = block[: at - self._passed]
            newline = prefix.rfind(b"\n")
            column = (1 if newline >= 0 else self._column) + _characters(prefix[newline + 1 :])
            before = (self._before + prefix[-_CONTEXT_BYTES:])[-_CONTEXT_BYTES:]
            return [tally.line + prefix.count(b"\n"), column, tally.offset + tally.width(prefix), before.hex()]
        known = max((one for one in self._places if one <= at), default=None)
        if known is None:
            return [tally.line, self._column, tally.offset, self._before.hex()]
        line, column, offset, before_hex = self._places[known]
        ahead = at - known  # inside one token of ASCII
        token = self._scanner.unfinished(known)[:ahead]
        before = (bytes.fromhex(before_hex) + token)[-_CONTEXT_BYTES:]
        return [line, column + ahead, offset + tally.width(b"0" * ahead), before.hex()]

    def _fault(self, code: str, message: str, at: int, block: bytes) -> None:
        tally = self._tally
        line, column, offset, before = self._place(at, block)
        tally.fault_at(code, message, line=line, column=column, byte_offset=offset, shown=bytes.fromhex(before))
        tally.records = max(0, self._scanner.elements - 1)
        tally.bad_record()
        tally.stop_at(line, offset)

    def _hold(self, good: bytes) -> None:
        """Keep the text for the schema, up to the limit."""
        self._text += good
        limit = self._rules.max_record_bytes
        if len(self._text) > limit:
            words = f"A document of more than {limit} bytes is not judged by a schema."
            self._tally.fault_at("record-too-complex", words, line=1, byte_offset=0, shown=bytes(self._text[:100]))
            self._tally.bad_records += 1
            self._text.clear()
            self._holding = False

    def _whole(self, text: bytes) -> None:
        """What the rules want to see of the whole document."""
        tally = self._tally
        place = (tally.offset, tally.line)
        tally.offset, tally.line = tally.offset - tally.width(text), 1
        before = tally.record_errors
        if self._rules.duplicate_members != "allow":
            for at, name in duplicate_members(text):
                if self._rules.duplicate_members == "error":
                    tally.fault("duplicate-key", f"The name {name!r} is there already.", text, at, field=name)
                else:
                    tally.warn("duplicate-key")
        if self._validator is not None:
            if objects_bytes(text) > OBJECT_BYTES:
                words = "The document has too many values to be judged by a schema."
                tally.fault("record-too-complex", words, text[:100], 0, here=False)
            else:
                value = orjson.loads(text)
                if not self._validator.is_valid(value):
                    for message, pointer, keyword in faults(self._validator, value):
                        tally.fault("schema", message, text, 0, pointer=pointer, keyword=keyword, here=False)
        tally.offset, tally.line = place
        if tally.record_errors > before:
            tally.bad_records += 1


def _begins_character(data: bytes) -> bool:
    """Whether more bytes may make a character of these."""
    lead = data[0]
    need = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0
    if len(data) >= need:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _characters(data: bytes) -> int:
    return sum(1 for byte in data if byte & 0xC0 != 0x80) if len(data) < 64 else len(data.translate(None, _TAILS))


_TAILS: Final = bytes(range(0x80, 0xC0))
