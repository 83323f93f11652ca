"""CSV: rows as wide as the header, cells as the schema has them. No I/O here.

Blocks run through one compiled pattern of clean rows; what it stops at is taken apart row by row. csv.reader only cuts
rows into cells that the pattern has taken. No verdict depends on where a block ends.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from heavylift.tables.bounds import BLOCK_BYTES, COLUMNS_MAX, LONG_ROW_BYTES, RECORD_BYTES, ROWS_BYTES
from heavylift.tables.csv_columns import Columns
from heavylift.tables.csv_syntax import Fault, Grammar, Row
from heavylift.tables.dialect import Dialect
from heavylift.tables.faults import Keys, suspects
from heavylift.tables.rules import Rules
from heavylift.tables.tally import Bytes, Tally


class CsvRows:
    """``feed`` UTF-8, then ``end``. ``state`` is plain JSON and holds no data: what follows ``tally.offset`` is fed
    again to whoever goes on from it. Memory: twice ``max_record_bytes``, two blocks, the keys."""

    def __init__(self, rules: Rules, tally: Tally, dialect: Dialect, state: Mapping[str, Any] | None = None) -> None:
        if csv.field_size_limit() < RECORD_BYTES:
            csv.field_size_limit(RECORD_BYTES)  # it belongs to the process; only ever raised
        state = state or {}
        self._rules, self._tally, self._dialect = rules, tally, dialect
        self._newline = dialect.newline.encode()
        self._delimiter = dialect.delimiter.encode()
        self._quote = dialect.quote.encode()
        self._comment = dialect.comment.encode()
        self._grammar = Grammar(self._delimiter, self._quote, self._newline)
        self._tail = bytearray()
        self._tail_breaks = False
        self._try_at = 0  # the tail is looked at again when it is as long
        self._skipping: bool = state.get("skipping", False)
        self._blank: list[int] | None = state.get("blank")
        self._headless: bool = state.get("headless", False)
        self._columns = Columns(rules, tally, dialect, self._grammar, state)
        self.statistics = self._columns.statistics

    @property
    def keys(self) -> Keys:
        return self._columns.keys

    def state(self) -> dict[str, Any]:
        return {
            "skipping": self._skipping,
            "blank": self._blank,
            "headless": self._headless,
            **self._columns.state(),
        }

    def fresh(self) -> dict[str, Any] | None:
        """The state of a pass that begins at a row far from the file's beginning. None: the header is not read yet."""
        return None if self._columns.labels is None else {"labels": self._columns.labels}

    def absorb(self, state: Mapping[str, Any], lines_before: int, records_before: int) -> None:
        """Take up what another pass found in the rows from here on. Asked before: ``composable``."""
        blank = state["blank"]
        self._blank = [blank[0], blank[1] + lines_before, blank[2] + records_before] if blank is not None else None
        self._skipping = state["skipping"]
        self.statistics.absorb(state["statistics"])

    def composable(self, state: Mapping[str, Any], offset: int) -> bool:
        """Whether ``absorb`` would answer what reading the rows from ``offset`` on does."""
        if self._columns.labels is None or self._columns.keyed or self._skipping or self._comment:
            return False
        return self.statistics.composable(state["statistics"], offset)

    def settle(self) -> None:
        """Judge all rows that are whole: some may wait for more, which is cheaper."""
        if self._tail and not self._tally.stopped_by:
            whole, self._tail = self._tail, bytearray()  # handed over: it may be too large for a copy
            self._work(whole, False)

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), BLOCK_BYTES):
            if self._tally.stopped_by:
                return
            block = data[at : at + BLOCK_BYTES] if len(data) > BLOCK_BYTES else data
            if not self._tail:
                self._work(block, False)
                continue
            self._tail += block
            if not self._tail_breaks and self._newline not in block:
                # No row can end here: nothing is copied until one may.
                if len(self._tail) > self._rules.max_record_bytes + 2 and not self._comment:
                    self._endless_line()
                continue
            self._tail_breaks = True
            if len(self._tail) >= self._try_at:
                self.settle()

    def end(self) -> None:
        if self._tail and not self._tally.stopped_by:
            whole, self._tail = self._tail, bytearray()
            self._work(whole, True)
        if self._blank is not None and not self._tally.stopped_by:
            self._tally.warn("trailing-blank-line")
            self._tally.records -= 1
        self._blank = None
        if self._columns.labels is None and self._headless and not self._tally.stopped_by:
            self._tally.file_fault("blank-header", "There is no header.")

    # --- blocks ----------------------------------------------------------------------------------------------

    def _work(self, buf: Bytes, final: bool) -> None:
        """Everything of ``buf`` that is whole; the rest becomes the tail."""
        tally = self._tally
        at, size = 0, len(buf)
        bad: list[int] | None = None
        while at < size and not tally.stopped_by:
            if self._skipping:
                end = buf.find(self._newline, at)
                stop = size if end < 0 else end + 1
                tally.move(buf[at:stop], self._newline)
                self._skipping = end < 0
                at = stop
                continue
            if self._columns.labels is not None and self._blank is None and not self._comment:
                if bad is None:
                    bad = suspects(buf)
                end = self._clean_end(buf, at, bad)
                if end > at:
                    at = self._region(buf, at, end)
                    continue
            after = self._record(buf, at, final)
            if after is None:
                break
            at = after
        if not tally.stopped_by and at < size:
            if isinstance(buf, bytearray):
                del buf[:at]
                self._tail = buf
            else:
                self._tail = bytearray(buf[at:] if at else buf)
            self._tail_breaks = self._tail.find(self._newline) >= 0
            self._try_at = min(2 * len(self._tail), len(self._tail) + BLOCK_BYTES * 4)

    def _clean_end(self, buf: Bytes, at: int, bad: list[int]) -> int:
        """Where the clean rows from ``at`` on end, as far as one pattern sees."""
        stop = min(len(buf), at + ROWS_BYTES)
        if bad:
            index = bisect_left(bad, at)
            if index == len(bad):
                bad[:] = suspects(buf, at)  # it names the first ones only
                index = 0
            if bad:
                stop = min(stop, bad[index])
        if self._rules.max_record_bytes < stop - at:
            return at if self._rules.max_record_bytes < BLOCK_BYTES else self._short_rows(buf, at, stop)
        found = self._grammar.rows(self._columns.width).match(buf, at, stop)
        return found.end() if found else at

    def _short_rows(self, buf: Bytes, at: int, stop: int) -> int:
        """Clean rows that are not too long: a long tail may hold one that is."""
        row = self._grammar.row(self._columns.width)
        while found := row.match(buf, at, stop):
            if found.end() - at > self._rules.max_record_bytes:
                break
            at = found.end()
        return at

    def _region(self, buf: Bytes, at: int, end: int) -> int:
        """Rows without a fault in their syntax; the place after them, or after the row that stopped the pass."""
        tally, statistics, columns = self._tally, self.statistics, self._columns
        quoted = bool(self._quote) and buf.find(self._quote, at, end) >= 0
        at_once = (columns.all_good is not None and columns.width > 1) or not columns.needs_cells
        if columns.keyed or not at_once or tally.width is not len:
            return self._cells(buf, at, end, quoted)
        while at < end and not tally.stopped_by:
            # From one row of the sample to the next.
            sample_at = statistics.next_at(tally.offset)
            if sample_at <= tally.offset:
                at = self._cells(buf, at, self._row_end(buf, at, end) if sample_at else end, quoted)
                continue
            stop = self._row_from(buf, at, end, sample_at - tally.offset, quoted)
            if columns.all_good is None:
                rows = self._count(buf, at, stop, quoted)
            else:
                cut = list(self._rows_of(buf[at:stop].decode("utf-8"), quoted))
                if not columns.all_good(cut):
                    at = self._cells(buf, at, stop, quoted)
                    continue
                rows = len(cut)
            tally.records += rows
            tally.move(buf[at:stop], self._newline)
            at = stop
        return at

    def _row_from(self, buf: Bytes, at: int, end: int, ahead: int, quoted: bool) -> int:
        """The first row that begins ``ahead`` bytes after ``at`` or later; ``end`` if none does."""
        if at + ahead >= end:
            return end
        if not quoted:
            found = buf.find(self._newline, at + ahead - 1, end)
            return end if found < 0 else found + 1
        wanted = at + ahead
        before = self._grammar.rows(self._columns.width).match(buf, at, wanted)
        last = before.end() if before else at
        return last if last == wanted else self._row_end(buf, last, end)

    def _row_end(self, buf: Bytes, at: int, end: int) -> int:
        found = self._grammar.row(self._columns.width).match(buf, at, end)
        return found.end() if found else end

    def _count(self, buf: Bytes, at: int, end: int, quoted: bool) -> int:
        breaks = buf.count(self._newline, at, end)
        if not quoted or not breaks:
            return breaks
        # Inside quotes stands every second piece.
        pieces = buf[at:end].split(self._quote)
        return breaks - b"".join(pieces[1::2]).count(self._newline)

    def _rows_of(self, text: str, quoted: bool) -> Iterable[list[str]]:
        """The cells of clean rows."""
        if quoted:
            lines = io.StringIO(text, newline="")
            return csv.reader(lines, delimiter=self._dialect.delimiter, quotechar=self._dialect.quote, strict=True)
        newline, delimiter = self._dialect.newline, self._dialect.delimiter
        if newline == "\n" and "\r" in text:
            text = text.replace("\r\n", "\n")
        lines_ = text.split(newline)
        lines_.pop()
        return [line.split(delimiter) for line in lines_]

    def _cells(self, buf: Bytes, at: int, end: int, quoted: bool) -> int:
        """As _region, with every cell looked at."""
        tally, statistics, newline = self._tally, self.statistics, self._newline
        starts = self._starts(buf, at, end, quoted)
        if tally.width is len:
            ahead = tally.offset - at
            offsets = [start + ahead for start in starts] if ahead else starts
        else:
            ends = [*starts[1:], end]
            sizes = (tally.width(buf[a:z]) for a, z in zip(starts, ends, strict=True))
            offsets = list(accumulate(sizes, initial=tally.offset))
        rows = self._rows_of(buf[at:end].decode("utf-8"), quoted)
        done, told = 0, at  # rows told to the tally, and the place after them
        sample_at = statistics.next_at(tally.offset)
        good, keyed = self._columns.good, self._columns.keyed
        last = len(starts) - 1
        for index, row in enumerate(rows):
            if not row:
                row = [""]
            faulty = good is not None and not good(row)
            sampled = offsets[index] >= sample_at
            if not sampled and not faulty and not keyed:
                continue
            if sampled:
                statistics.due(offsets[index])
            if faulty or keyed:
                start = starts[index]
                stop = starts[index + 1] if index < last else end
                tally.records += index - done
                tally.move(buf[told:start], newline)
                told, done = stop, index + 1
                before = tally.record_errors
                self._columns.judge(buf[start:stop].rstrip(b"\r\n"), row, None, faulty)
                faulty = tally.record_errors > before
                if faulty:
                    tally.bad_record()
                else:
                    tally.records += 1
                tally.move(buf[start:stop], newline)
                if tally.stopped_by:
                    return stop
            if sampled:
                if not faulty:
                    statistics.row(row)
                sample_at = statistics.next_at(offsets[index + 1]) if index < last else 0
        tally.records += len(starts) - done
        tally.move(buf[told:end], newline)
        return end

    def _starts(self, buf: Bytes, at: int, end: int, quoted: bool) -> list[int]:
        """Where the rows of a clean region begin."""
        if quoted:
            return [match.start() for match in self._grammar.row(self._columns.width).finditer(buf, at, end)]
        lines = buf[at:end].split(self._newline)
        lines.pop()
        starts = list(accumulate((len(line) + 1 for line in lines), initial=at))
        starts.pop()
        return starts

    # --- one row ---------------------------------------------------------------------------------------------

    def _record(self, buf: Bytes, at: int, final: bool) -> int | None:
        """Judge the row at ``at`` in every detail: the place after it. None: it goes on beyond ``buf``."""
        newline, limit = self._newline, self._rules.max_record_bytes
        available = len(buf) - at
        if self._comment and buf.startswith(self._comment, at):
            self._skipping = True
            return at
        row = self._grammar.read(buf, at, final)
        if row is None and available <= limit + 2:
            return None
        if row is not None and row.content_end <= limit and (row.open_at is None or available <= limit):
            if row.open_at is None:
                self._whole_row(buf, at, row)
                return at + row.end
            stop = buf.find(newline, at + row.open_at)
            end = len(buf) if stop < 0 else stop + 1
            self._broken_row(buf[at:end], row.faults)
            return end
        window_end = min(len(buf), at + limit + 1)
        row = self._grammar.read(buf, at, True, window_end)
        opened = row.open_at if row is not None else None
        stop = buf.find(newline, at + opened, window_end) if opened is not None else -1
        words = f"The record has more than {limit} bytes."
        end = window_end
        if stop >= 0 and opened is not None:
            line = buf.count(newline, at, at + opened) + 1
            words += f" A quoted cell opened on its line {line} does not end; reading goes on after that line."
            end = stop + 1
        self._broken_row(buf[at:end], (Fault("record-too-long", 0, 0, words),))
        self._skipping = stop < 0
        return end

    def _endless_line(self) -> None:
        """The tail is a line that is too long already."""
        limit = self._rules.max_record_bytes
        fault = Fault("record-too-long", 0, 0, f"The record has more than {limit} bytes.")
        self._broken_row(bytes(self._tail[: min(limit + 1, 200)]), (fault,), self._tail)
        if not self._tally.stopped_by:
            self._tail.clear()
        self._skipping = True

    def _broken_row(self, data: Bytes, faults: Sequence[Fault], whole: bytearray | None = None) -> None:
        """A row of which no cells are known; ``data`` is what it took, or the beginning of ``whole``."""
        tally = self._tally
        if not self.flush_blank():
            return
        header = self._columns.labels is None and self._dialect.header
        if not header:
            self.statistics.due(tally.offset)
        for fault in faults:
            tally.fault(
                fault.code,
                fault.message,
                data if fault.code != "record-too-long" else data[:200],
                fault.at,
                newline=self._newline,
                header=header,
                field_number=None if fault.code == "record-too-long" else fault.cell + 1,
                field=None if fault.code == "record-too-long" else self._columns.label(fault.cell),
            )
        if header:
            self._headless = True
        else:
            tally.bad_record()
        if tally.stopped_by and faults[0].code == "record-too-long":
            return  # how much of it was seen is chance
        tally.move(data if whole is None else whole, self._newline)

    def _pass(self, content: Bytes, line_break: Bytes) -> None:
        """The row lies behind."""
        if self._tally.width is not len or len(content) <= BLOCK_BYTES:
            self._tally.move(content + line_break, self._newline)
            return
        self._tally.move(content, self._newline)
        self._tally.move(line_break, self._newline)

    def _whole_row(self, buf: Bytes, at: int, row: Row) -> None:
        tally = self._tally
        content, line_break = buf[at : at + row.content_end], buf[at + row.content_end : at + row.end]
        if not self.flush_blank():
            return
        if self._columns.labels is None:
            if row.blank and row.ended:
                self._headless = True
                self._pass(content, line_break)
                return
            if self._headless and self._dialect.header and len(row.cells) <= COLUMNS_MAX:
                tally.file_fault("blank-header", "The first line is no header.")
            if not self._columns.begin(content, row):
                self._pass(content, line_break)
                return
            if self._dialect.header:
                self._pass(content, line_break)
                return
        width = self._columns.width
        if row.blank and width != 1:
            self._blank = [tally.offset, tally.line, tally.records]
            tally.records += 1
            self._pass(content, line_break)
            return
        sampled = self.statistics.due(tally.offset)
        before = tally.record_errors
        if not self._columns.row_faults(content, row, width):
            if len(content) > LONG_ROW_BYTES:
                self._columns.judge_long(content, row)
            else:
                cells = [row.text(content, index, self._quote) for index in range(min(width, len(row.cells)))]
                self._columns.judge(content, cells, row, True)
                if sampled and tally.record_errors == before and len(row.cells) == width:
                    self.statistics.row(cells)
        if tally.record_errors > before:
            tally.bad_record()
        else:
            tally.records += 1
        self._pass(content, line_break)

    def flush_blank(self) -> bool:
        """A blank line that something follows is an error of its own; False: it was one too many."""
        if self._blank is None:
            return True
        tally = self._tally
        offset, line, records = self._blank
        self._blank = None
        now = (tally.offset, tally.line, tally.records)
        tally.offset, tally.line, tally.records = offset, line, records
        tally.fault("blank-row", "The row is blank.", b"", 0)
        tally.bad_record()
        tally.offset, tally.line, tally.records = now
        return tally.stopped_by is None
