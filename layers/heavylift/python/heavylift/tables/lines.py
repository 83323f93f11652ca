"""Text of lines, for what is read line by line: JSON lines and plain text. No I/O here.

A line ends with LF or CRLF, the last one perhaps with nothing. Whole lines of a block go to ``_lines`` at once; one
that lies in several blocks goes to ``_line`` when it is whole, or is told as too long and skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift.tables.bounds import BLOCK_BYTES
from heavylift.tables.rules import Rules
from heavylift.tables.tally import Bytes, Tally


class Lines:
    """``feed`` UTF-8, then ``end``. ``state`` is plain JSON and holds no data: what follows ``tally.offset`` is fed
    again to whoever goes on from it. Memory: one line and two blocks."""

    def __init__(self, rules: Rules, tally: Tally, state: Mapping[str, Any]) -> None:
        self._rules, self._tally = rules, tally
        self._tail = bytearray()
        self._skipping: bool = state.get("skipping", False)

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            if self._tally.stopped_by:
                return
            self._block(data[at : at + BLOCK_BYTES] if len(data) > BLOCK_BYTES else data)

    def settle(self) -> None:
        """Whatever is whole is judged, as it always is here."""

    def end(self) -> None:
        if self._tail and not self._skipping and not self._tally.stopped_by:
            last, self._tail = self._tail, bytearray()
            self._line(last, b"")
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
        first = 0
        cut = data.rfind(b"\n") + 1
        if cut and self._tail:
            first = data.find(b"\n") + 1
            self._tail += data[: first - 1]
            line_break = b"\n"
            if self._tail.endswith(b"\r"):
                del self._tail[-1]
                line_break = b"\r\n"
            line, self._tail = self._tail, bytearray()  # handed over: it may be too large for a copy
            self._line(line, line_break)
        if cut > first and not tally.stopped_by:
            self._lines(data, first, cut)
        if tally.stopped_by:
            return
        self._tail += data[cut:] if cut else data
        if len(self._tail) > self._rules.max_record_bytes + 1:  # one more: it may be the CR of a CRLF
            self._endless()

    def _endless(self) -> None:
        """The tail is a line that is too long already."""
        self._before_record()
        if self._tally.stopped_by:
            return
        self._too_long(bytes(self._tail[:201]), self._tail)
        self._tail = bytearray()
        self._skipping = True

    def _too_long(self, content: Bytes, *passed: Bytes) -> None:
        """Tell so, and move behind ``passed``: but not where the pass stops, for how much was seen is chance."""
        limit = self._rules.max_record_bytes
        words = f"The {self._noun} has more than {limit} bytes."
        self._tally.fault("record-too-long", words, content[: min(limit + 1, 200)], 0)
        self._tally.bad_record()
        if not self._tally.stopped_by:
            for data in passed:
                self._tally.move(data)

    def _each_line(self, data: bytes, at: int, end: int) -> None:
        """Whole lines, one by one in every detail."""
        for line in data[at:end].split(b"\n")[:-1]:
            if self._tally.stopped_by:
                return
            if line.endswith(b"\r"):
                self._line(line[:-1], b"\r\n")
            else:
                self._line(line, b"\n")

    def _pass(self, content: Bytes, line_break: bytes) -> None:
        """The line lies behind."""
        if len(content) <= BLOCK_BYTES:
            self._tally.move(content + line_break)
        else:
            self._tally.move(content)
            self._tally.move(line_break)

    _noun = "line"

    def _before_record(self) -> None:
        """Something that is no blank line follows."""

    def _lines(self, data: bytes, at: int, end: int) -> None:
        """The whole lines of ``data[at:end]``, with their line breaks."""
        raise NotImplementedError

    def _line(self, content: Bytes, line_break: bytes) -> None:
        """One line in every detail; the tally moves behind it."""
        raise NotImplementedError
