"""The grammar of CSV: RFC 4180, strictly, for any delimiter and quote. Pure.

``Grammar.clean`` runs over whole rows at the speed of a compiled pattern and stops before the first row that is not as
it should be; ``Grammar.read`` takes one row apart, says what is wrong with it and where the next one begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

Bytes = bytes | bytearray
_WRITTEN_OUT_MAX: Final = 64  # columns of which the pattern is written out; a repeat is slower


@dataclass(frozen=True, slots=True)
class Fault:
    """``at``: bytes from the row's beginning; ``cell`` from 0."""

    code: str
    at: int
    cell: int
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """``content_end`` and ``end``: where its content and its line break end, from its beginning. ``cells``: (start,
    end, whether quotes are around it). ``ended``: a line break was there. ``open_at``: the opening quote of a cell that
    did not end."""

    content_end: int
    end: int
    cells: tuple[tuple[int, int, bool], ...]
    faults: tuple[Fault, ...]
    ended: bool
    open_at: int | None = None

    @property
    def blank(self) -> bool:
        return self.content_end == 0

    def value(self, content: Bytes, index: int, quote: bytes) -> Bytes:
        """What the cell holds; ``content`` is the row's."""
        start, end, quoted = self.cells[index]
        return content[start + 1 : end - 1].replace(quote + quote, quote) if quoted else content[start:end]

    def text(self, content: Bytes, index: int, quote: bytes) -> str:
        """The same as a text; what is no UTF-8 is shown as such."""
        return self.value(content, index, quote).decode("utf-8", "backslashreplace")


class Grammar:
    """``delimiter``, ``quote``: one byte each, ``quote`` may be empty. ``newline``: LF (CRLF as well) or CR."""

    def __init__(self, delimiter: bytes, quote: bytes, newline: bytes) -> None:
        self.delimiter, self.quote, self.newline = delimiter, quote, newline
        d, q = re.escape(delimiter), re.escape(quote)
        bare = rb"[^" + d + q + rb"\r\n]*+"
        quoted = q + rb"[^" + q + rb"]*+(?:" + q + q + rb"[^" + q + rb"]*+)*+" + q
        self._field = rb"(?:" + quoted + rb"|" + bare + rb")" if quote else bare
        self._break = rb"\r?\n" if newline == b"\n" else rb"\r"
        # One cell may hold millions of doubled quotes, and each repeat of a pattern is remembered: so many at once.
        self._inside = re.compile(rb"(?:[^" + q + rb"]*+" + q + q + rb"){1,10000}+") if quote else None
        # A bare cell that is not as it should be goes on to the delimiter or line break.
        self._loose = re.compile(rb"[^" + d + newline + rb"]*+")
        self._patterns: dict[tuple[int, bool], re.Pattern[bytes]] = {}

    def row(self, width: int) -> re.Pattern[bytes]:
        """One clean row of ``width`` cells with its line break."""
        return self._pattern(width, False)

    def rows(self, width: int) -> re.Pattern[bytes]:
        """Any number of them; matches at once."""
        return self._pattern(width, True)

    def _pattern(self, width: int, many: bool) -> re.Pattern[bytes]:
        if (width, many) not in self._patterns:
            more = re.escape(self.delimiter) + self._field
            if width <= _WRITTEN_OUT_MAX:
                one = self._field + more * (width - 1)
            else:
                one = self._field + rb"(?:" + more + rb"){%d}" % (width - 1)
            one += self._break
            self._patterns[width, many] = re.compile(rb"(?:" + one + rb")*+" if many else one)
        return self._patterns[width, many]

    def read(self, buf: Bytes, at: int, final: bool, stop_at: int | None = None) -> Row | None:
        """The row that begins at ``at``. None: it does not end in ``buf`` (read up to ``stop_at``) and more may come.

        A cell that opens a quote and never ends (``open_at``) takes everything up to the end of ``buf``.
        """
        cells: list[tuple[int, int, bool]] = []
        faults: list[Fault] = []
        size, pos = len(buf) if stop_at is None else stop_at, at
        while True:
            start = pos
            faulty = quoted = False
            if self.quote and buf.startswith(self.quote, pos, size):
                closing = self._closing(buf, pos + 1, size)
                if (closing < 0 or closing + 1 >= size) and not final:
                    return None
                if closing < 0:
                    cells.append((start - at, size - at, False))
                    faults.append(Fault("unterminated-quote", start - at, len(cells) - 1, "A quoted cell never ends."))
                    return Row(size - at, size - at, tuple(cells), tuple(faults), False, start - at)
                pos = closing + 1
                quoted = True
                if pos < size and not self._closes(buf, pos, size):
                    if buf[pos : pos + 1] == b"\r" and pos + 1 >= size and not final:
                        return None
                    faults.append(
                        Fault(
                            "text-after-quote", pos - at, len(cells), "Text stands between a closing quote and the end."
                        )
                    )
                    faulty, quoted = True, False
            loose = self._loose.match(buf, pos, size)
            stop = loose.end() if loose else pos
            if stop >= size and not final:
                return None
            end = stop
            ended = stop < size and buf.startswith(self.newline, stop, size)
            if ended and self.newline == b"\n" and stop > pos and buf[stop - 1] == 0x0D:
                end = stop - 1
            piece = buf[pos:end]
            if piece and not faulty:
                self._bare_faults(piece, pos - at, len(cells), faults)
            elif piece:
                self._stray_newlines(piece, pos - at, len(cells), faults)
            cells.append((start - at, end - at, quoted))
            if stop >= size:
                return Row(end - at, stop - at, tuple(cells), tuple(faults), False)
            pos = stop + 1
            if ended:
                return Row(end - at, pos - at, tuple(cells), tuple(faults), True)

    def _closing(self, buf: Bytes, pos: int, size: int) -> int:
        """Where the quote lies that ends the cell whose content begins at ``pos``; -1: not before ``size``."""
        while self._inside is not None and (found := self._inside.match(buf, pos, size)):
            pos = found.end()
        return buf.find(self.quote, pos, size)

    def _closes(self, buf: Bytes, pos: int, size: int) -> bool:
        """Whether a delimiter or the line break follows a closing quote."""
        if buf.startswith((self.delimiter, self.newline), pos, size):
            return True
        if self.newline == b"\n" and buf[pos : pos + 1] == b"\r":
            return buf.startswith(b"\r\n", pos, size)
        return False

    def _bare_faults(self, piece: Bytes, base: int, cell: int, faults: list[Fault]) -> None:
        if self.quote and (found := piece.find(self.quote)) >= 0:
            faults.append(Fault("stray-quote", base + found, cell, "A quote stands in a cell that has none around it."))
        self._stray_newlines(piece, base, cell, faults)

    def _stray_newlines(self, piece: Bytes, base: int, cell: int, faults: list[Fault]) -> None:
        other = b"\r" if self.newline == b"\n" else b"\n"
        if (found := piece.find(other)) >= 0:
            name = "carriage return" if other == b"\r" else "line feed"
            faults.append(Fault("stray-newline", base + found, cell, f"A bare {name} stands in a cell."))
