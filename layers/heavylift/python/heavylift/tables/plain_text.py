"""Plain text: characters of its encoding, lines of bounded length. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from heavylift.tables.bounds import BLOCK_BYTES, ERRORS_PER_RECORD
from heavylift.tables.faults import Keys, bad_bytes, text_faults
from heavylift.tables.rules import Rules
from heavylift.tables.tally import Tally

# Everything below the blank but TAB, LF, VT, FF, CR and ESC (logs colour their lines); DEL. NUL has a code of its own.
_CONTROL: Final = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_WITH_NUL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class PlainText:
    """``feed`` UTF-8, then ``end``; a record is a line. Memory: one line and two blocks."""

    def __init__(self, rules: Rules, tally: Tally, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self._rules, self._tally = rules, tally
        self._tail = bytearray()
        self._skipping: bool = state.get("skipping", False)
        self.length_max: int = state.get("length_max", 0)
        self.keys = Keys(())
        self._suspicious = _CONTROL if rules.control_characters != "allow" else None

    def state(self) -> dict[str, Any]:
        return {"skipping": self._skipping, "length_max": self.length_max}

    def statistics_json(self) -> dict[str, Any]:
        return {"longest_line_bytes": self.length_max}

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            if self._tally.stopped_by:
                return
            self._block(data[at : at + BLOCK_BYTES] if len(data) > BLOCK_BYTES else data)

    def end(self) -> None:
        if self._tail and not self._skipping and not self._tally.stopped_by:
            line = bytes(self._tail)
            self._line(line, line)
        self._tail.clear()

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
        cut = data.rfind(b"\n") + 1
        if cut:
            if self._tail:
                first = data.find(b"\n") + 1
                line = bytes(self._tail) + data[:first]
                self._tail.clear()
                self._line(_unbroken(line), line)
                self._lines(data[first:cut])
            else:
                self._lines(data[:cut])
            if tally.stopped_by:
                return
        self._tail += data[cut:]
        if len(self._tail) > self._rules.max_record_bytes + 1:
            self._too_long(bytes(self._tail[:201]))
            tally.move(self._tail)
            self._tail.clear()
            self._skipping = True

    def _lines(self, data: bytes) -> None:
        """Whole lines."""
        tally = self._tally
        if not data or tally.stopped_by:
            return
        short = len(data) <= self._rules.max_record_bytes
        control = _WITH_NUL if self._suspicious else None
        if short and b"\0" not in data and not (control and control.search(data)) and not bad_bytes(data):
            lines = data.split(b"\n")
            longest = max(map(len, lines))
            if longest > self.length_max:
                longest = max(len(line[:-1] if line.endswith(b"\r") else line) for line in lines)
                self.length_max = max(self.length_max, longest)
            tally.records += len(lines) - 1
            tally.move(data)
            return
        for line in data.split(b"\n")[:-1]:
            self._line(line[:-1] if line.endswith(b"\r") else line, line + b"\n")
            if tally.stopped_by:
                return

    def _line(self, content: bytes, whole: bytes) -> None:
        tally = self._tally
        if len(content) > self._rules.max_record_bytes:
            self._too_long(content)
            tally.move(whole)
            return
        before = tally.record_errors
        text_faults(tally, content)
        if self._suspicious is not None:
            for number, match in enumerate(self._suspicious.finditer(content)):
                if self._rules.control_characters == "warn":
                    tally.warn("control-character")
                elif number < ERRORS_PER_RECORD:
                    words = f"The control character {match.group()[0]:02X}."
                    tally.fault("control-character", words, content, match.start())
        self.length_max = max(self.length_max, len(content))
        if tally.record_errors > before:
            tally.bad_record()
        else:
            tally.records += 1
        tally.move(whole)

    def _too_long(self, content: bytes) -> None:
        limit = self._rules.max_record_bytes
        words = f"The line has more than {limit} bytes."
        self._tally.fault("record-too-long", words, content[: min(limit + 1, 200)], 0)
        self._tally.bad_record()


def _unbroken(line: bytes) -> bytes:
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]
