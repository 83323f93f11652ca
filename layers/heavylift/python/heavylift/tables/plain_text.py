"""Plain text: characters of its encoding, lines of bounded length. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from heavylift.tables.bounds import ERRORS_PER_RECORD
from heavylift.tables.faults import Keys, bad_bytes, text_faults
from heavylift.tables.lines import Lines
from heavylift.tables.rules import Rules
from heavylift.tables.tally import Bytes, Tally

# Everything below the blank but TAB, LF, VT, FF, CR and ESC (logs colour their lines); DEL. NUL has a code of its own.
_CONTROL: Final = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_WITH_NUL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_NUL: Final = re.compile(rb"\0")


class PlainText(Lines):
    """``feed`` UTF-8, then ``end``; a record is a line. Memory: one line and two blocks."""

    def __init__(self, rules: Rules, tally: Tally, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        super().__init__(rules, tally, state)
        self.length_max: int = state.get("length_max", 0)
        self.keys = Keys(())
        self._suspicious = _CONTROL if rules.control_characters != "allow" else None

    def state(self) -> dict[str, Any]:
        return {"skipping": self._skipping, "length_max": self.length_max}

    def fresh(self) -> dict[str, Any]:
        """The state of a pass that begins at a line far from the file's beginning."""
        return {}

    def absorb(self, state: Mapping[str, Any], lines_before: int, records_before: int) -> None:
        """Take up what another pass found in the lines from here on."""
        self._skipping = state["skipping"]
        self.length_max = max(self.length_max, state["length_max"])

    def composable(self, state: Mapping[str, Any], offset: int) -> bool:
        """Lines know nothing of each other."""
        return True

    def flush_blank(self) -> None:
        """A blank line is a line."""

    def statistics_json(self) -> dict[str, Any]:
        return {"longest_line_bytes": self.length_max}

    def _lines(self, data: bytes, at: int, end: int) -> None:
        if end - at < len(data):
            data = data[at:end]
        tally = self._tally
        control = _WITH_NUL if self._suspicious else _NUL
        if len(data) > self._rules.max_record_bytes or control.search(data) or bad_bytes(data):
            self._each_line(data, 0, len(data))
            return
        lines = data.split(b"\n")
        longest = max(map(len, lines))
        if longest > self.length_max:
            longest = max(len(line[:-1] if line.endswith(b"\r") else line) for line in lines)
            self.length_max = max(self.length_max, longest)
        tally.records += len(lines) - 1
        tally.move(data)

    def _line(self, content: Bytes, line_break: bytes) -> None:
        tally = self._tally
        if len(content) > self._rules.max_record_bytes:
            self._too_long(content, content, line_break)
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
        self._pass(content, line_break)
