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
from typing import Any, Final

from heavylift.tables.bounds import BLOCK_BYTES, COLUMNS_MAX, FIELD_NAME_LENGTH, RECORD_BYTES, ROWS_BYTES
from heavylift.tables.csv_syntax import Fault, Grammar, Row
from heavylift.tables.dialect import Dialect
from heavylift.tables.faults import Keys, suspects, text_faults
from heavylift.tables.rules import Rules
from heavylift.tables.statistics import Statistics
from heavylift.tables.table_schema import Field, Plan, TableSchema, bind, parse_table_schema
from heavylift.tables.tally import Tally

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMERIC: Final = frozenset("0123456789+-.,eE% ")


class CsvRows:
    """``feed`` UTF-8, then ``end``. ``state`` is plain JSON and holds no data: what follows ``tally.offset`` is fed
    again to whoever goes on from it. Memory: three times ``max_record_bytes``, two blocks, the keys."""

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
        self.statistics = Statistics(state.get("statistics"))
        self._schema: TableSchema | None = parse_table_schema(rules.schema) if rules.is_table_schema else None
        self._labels: list[str] | None = None
        self._plan = Plan(())
        self._key_columns: list[tuple[str, list[int]]] = []
        self.keys = Keys(())
        if state.get("labels") is not None:
            self._settle(state["labels"], state["keys"])

    def state(self) -> dict[str, Any]:
        return {
            "skipping": self._skipping,
            "blank": self._blank,
            "headless": self._headless,
            "labels": self._labels,
            "statistics": self.statistics.state(),
            "keys": self.keys.state(),
        }

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
                whole = bytes(self._tail)
                self._tail.clear()
                self._work(whole, False)

    def end(self) -> None:
        if self._tail and not self._tally.stopped_by:
            whole = bytes(self._tail)
            self._tail.clear()
            self._work(whole, True)
        if self._blank is not None and not self._tally.stopped_by:
            self._tally.warn("trailing-blank-line")
            self._tally.records -= 1
        self._blank = None
        if self._labels is None and self._headless and not self._tally.stopped_by:
            self._tally.file_fault("blank-header", "There is no header.")

    # --- blocks ----------------------------------------------------------------------------------------------

    def _work(self, buf: bytes, final: bool) -> None:
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
            if self._labels is not None and self._blank is None and not self._comment:
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
            self._tail += buf[at:] if at else buf
            self._tail_breaks = buf.find(self._newline, at) >= 0
            self._try_at = min(2 * len(self._tail), len(self._tail) + BLOCK_BYTES * 4)

    def _clean_end(self, buf: bytes, at: int, bad: list[int]) -> int:
        """Where the clean rows from ``at`` on end, as far as one pattern sees."""
        labels = self._labels or ()
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
        found = self._grammar.rows(len(labels)).match(buf, at, stop)
        return found.end() if found else at

    def _short_rows(self, buf: bytes, at: int, stop: int) -> int:
        """Clean rows that are not too long: a long tail may hold one that is."""
        row = self._grammar.row(len(self._labels or ()))
        while found := row.match(buf, at, stop):
            if found.end() - at > self._rules.max_record_bytes:
                break
            at = found.end()
        return at

    def _region(self, buf: bytes, at: int, end: int) -> int:
        """Rows without a fault in their syntax; the place after them, or after the row that stopped the pass."""
        tally, statistics = self._tally, self.statistics
        quoted = bool(self._quote) and buf.find(self._quote, at, end) >= 0
        first = tally.offset
        plain = tally.width is len
        sample_at = statistics.next_at(first)
        if not self._needs_cells and plain and sample_at > first:
            while True:
                # From one row of the sample to the next.
                stop = self._row_from(buf, at, end, sample_at - tally.offset, quoted)
                rows = self._count(buf, at, stop, quoted)
                tally.records += rows
                tally.move(buf[at:stop], self._newline)
                at = stop
                if at >= end:
                    return end
                after = self._row_end(buf, at, end)
                statistics.due(tally.offset)
                self._sample(buf[at:after], quoted)
                tally.records += 1
                tally.move(buf[at:after], self._newline)
                at = after
                if at >= end:
                    return end
                sample_at = statistics.next_at(tally.offset)
        return self._cells(buf, at, end, quoted)

    def _row_from(self, buf: bytes, at: int, end: int, ahead: int, quoted: bool) -> int:
        """The first row that begins ``ahead`` bytes after ``at`` or later; ``end`` if none does."""
        if at + ahead >= end:
            return end
        if not quoted:
            found = buf.find(self._newline, at + ahead - 1, end)
            return end if found < 0 else found + 1
        wanted = at + ahead
        before = self._grammar.rows(len(self._labels or ())).match(buf, at, wanted)
        last = before.end() if before else at
        return last if last == wanted else self._row_end(buf, last, end)

    def _row_end(self, buf: bytes, at: int, end: int) -> int:
        found = self._grammar.row(len(self._labels or ())).match(buf, at, end)
        return found.end() if found else end

    def _count(self, buf: bytes, at: int, end: int, quoted: bool) -> int:
        breaks = buf.count(self._newline, at, end)
        if not quoted or not breaks:
            return breaks
        # Inside quotes stands every second piece.
        pieces = buf[at:end].split(self._quote)
        return breaks - b"".join(pieces[1::2]).count(self._newline)

    def _sample(self, row: bytes, quoted: bool) -> None:
        for cells in self._rows_of(row.decode("utf-8"), quoted):
            self.statistics.row(cells)

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

    def _cells(self, buf: bytes, at: int, end: int, quoted: bool) -> int:
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
        good, keyed = self._good, bool(self._key_columns)
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
                self._judge_cells(buf[start:stop].rstrip(b"\r\n"), row, None, faulty)
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

    def _starts(self, buf: bytes, at: int, end: int, quoted: bool) -> list[int]:
        """Where the rows of a clean region begin."""
        if quoted:
            return [match.start() for match in self._grammar.row(len(self._labels or ())).finditer(buf, at, end)]
        lines = buf[at:end].split(self._newline)
        lines.pop()
        starts = list(accumulate((len(line) + 1 for line in lines), initial=at))
        starts.pop()
        return starts

    # --- one row ---------------------------------------------------------------------------------------------

    def _record(self, buf: bytes, at: int, final: bool) -> int | None:
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

    def _broken_row(self, data: bytes, faults: Sequence[Fault], whole: bytearray | None = None) -> None:
        """A row of which no cells are known; ``data`` is what it took, or the beginning of ``whole``."""
        tally = self._tally
        if not self._flush_blank():
            return
        header = self._labels is None and self._dialect.header
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
                field=None if fault.code == "record-too-long" else self._label(fault.cell),
            )
        if header:
            self._headless = True
        else:
            tally.bad_record()
        tally.move(data if whole is None else whole, self._newline)

    def _pass(self, content: bytes, line_break: bytes) -> None:
        """The row lies behind."""
        if self._tally.width is not len or len(content) <= BLOCK_BYTES:
            self._tally.move(content + line_break, self._newline)
            return
        self._tally.move(content, self._newline)
        self._tally.move(line_break, self._newline)

    def _whole_row(self, buf: bytes, at: int, row: Row) -> None:
        tally = self._tally
        content, line_break = buf[at : at + row.content_end], buf[at + row.content_end : at + row.end]
        if not self._flush_blank():
            return
        if self._labels is None:
            if row.blank and row.ended:
                self._headless = True
                self._pass(content, line_break)
                return
            if not self._begin(content, row):
                self._pass(content, line_break)
                return
            if self._dialect.header:
                self._pass(content, line_break)
                return
        width = len(self._labels or ())
        if row.blank and width != 1:
            self._blank = [tally.offset, tally.line, tally.records]
            tally.records += 1
            self._pass(content, line_break)
            return
        sampled = self.statistics.due(tally.offset)
        before = tally.record_errors
        if not self._row_faults(content, row, width):
            cells = [value.decode("utf-8") for _, _, value in row.cells[:width]]
            self._judge_cells(content, cells, row, True)
            if sampled and tally.record_errors == before and len(row.cells) == width:
                self.statistics.row(cells)
        if tally.record_errors > before:
            tally.bad_record()
        else:
            tally.records += 1
        self._pass(content, line_break)

    def _row_faults(self, content: bytes, row: Row, width: int, header: bool = False) -> bool:
        """Tell what is wrong with the row's text and syntax, and with its width; True: its cells are in doubt."""
        tally, newline = self._tally, self._newline
        doubtful = text_faults(tally, content, newline, header)
        for fault in row.faults:
            tally.fault(
                fault.code,
                fault.message,
                content,
                fault.at,
                newline=newline,
                field_number=fault.cell + 1,
                field=self._label(fault.cell),
                header=header,
            )
            doubtful = True
        if header:
            return doubtful
        many = len(row.cells)
        if many < width:
            words = f"The row has {many} of {width} cells."
            tally.fault(
                "missing-cell",
                words,
                content,
                len(content),
                newline=newline,
                field_number=many + 1,
                field=self._label(many),
                shown=content[-200:],
            )
        elif many > width:
            words = f"The row has {many} cells, {many - width} more than the header."
            tally.fault("extra-cell", words, content, row.cells[width][0], newline=newline, field_number=width + 1)
        return doubtful

    def _flush_blank(self) -> bool:
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

    # --- header and cells ------------------------------------------------------------------------------------

    def _begin(self, content: bytes, row: Row) -> bool:
        """Take the first row as the header, or as the measure of those without one. False: it is too wide."""
        tally, newline = self._tally, self._newline
        many = len(row.cells)
        if many > COLUMNS_MAX:
            tally.fault(
                "too-many-columns",
                f"{many} columns; {COLUMNS_MAX} are the most.",
                content,
                row.cells[COLUMNS_MAX][0],
                newline=newline,
            )
            tally.stopped_by = "too_many_columns"
            return False
        if not self._dialect.header:
            names = [one.name for one in self._schema.fields] if self._schema else []
            width = max(many, len(names)) if names else many
            self._settle([*names, *(f"column{n}" for n in range(len(names) + 1, width + 1))][:width], None)
            self._check_keys()
            return True
        if self._headless:
            tally.file_fault("blank-header", "The first line is no header.")
        self._row_faults(content, row, many, header=True)
        labels = [value.decode("utf-8", "backslashreplace") for _, _, value in row.cells]
        seen: dict[str, int] = {}
        for index, label in enumerate(labels):
            place = {"newline": newline, "field_number": index + 1}
            at = row.cells[index][0]
            if not label.strip():
                tally.fault("blank-label", "The column has no name.", content, at, **place)  # type: ignore[arg-type]
            elif label in seen:
                words = f"Column {seen[label] + 1} has this name already."
                tally.fault("duplicate-label", words, content, at, field=label, **place)  # type: ignore[arg-type]
            seen.setdefault(label, index)
        if self._schema is not None:
            for code, words, index in bind(self._schema, labels, many)[1]:
                inside = index < many
                tally.fault(
                    code,
                    words,
                    content,
                    row.cells[index][0] if inside else len(content),
                    newline=newline,
                    field_number=index + 1,
                    field=labels[index] if inside else None,
                    shown=content[:200],
                )
        self._settle(labels, None)
        self._check_keys()
        return True

    def _settle(self, labels: list[str], keys: Any) -> None:
        """Bind the schema, the keys and the statistics to the columns."""
        self._labels = labels
        width = len(labels)
        if self._schema is not None:
            self._plan = bind(self._schema, labels if self._dialect.header else None, width)[0]
        listed: list[tuple[str, tuple[str, ...]]] = [("unique-error", names) for names in self._rules.unique_keys]
        if self._schema is not None:
            listed += [("unique-error", names) for names in self._schema.unique_keys]
            if self._schema.primary_key:
                listed.append(("primary-key", self._schema.primary_key))
        names_of = [one.name if one else labels[i] for i, one in enumerate(self._plan.columns)] or labels
        known = [(code, names) for code, names in listed if all(name in names_of for name in names)]
        self.keys = Keys([names for _, names in known], keys)
        self._key_columns = [(code, [names_of.index(name) for name in names]) for code, names in known]
        if not self.statistics.total_columns:
            shown: dict[str, int] = {}
            unlike = []
            for label in labels:
                shown[label] = shown.get(label, 0) + 1
                unlike.append((label if shown[label] == 1 else f"{label} ({shown[label]})")[:FIELD_NAME_LENGTH])
            self.statistics.label(unlike)
        self._good = self._row_check()
        self._needs_cells = self._good is not None or bool(self._key_columns)

    def _check_keys(self) -> None:
        known = set(self.keys.names)
        for names in self._rules.unique_keys:
            if names not in known:
                absent = ", ".join(name for name in names if name not in (self._labels or ()))
                self._tally.file_fault("missing-label", f"unique_keys names {absent}; there is no such column.")

    def _row_check(self) -> Any:
        """Whether all cells of a row are good, as one function; None: all rows are."""
        check = self._plan.row_check()
        if self._rules.formula_cells == "allow":
            return check
        if check is None:
            return lambda row: not any(map(is_formula, row))
        return lambda row: check(row) and not any(map(is_formula, row))

    def _judge_cells(self, content: bytes, cells: list[str], row: Row | None, doubtful: bool) -> None:
        """Tell what the schema and the rules have against the cells of a row that is sound (``doubtful``: something,
        perhaps); take up its keys."""
        tally, newline = self._tally, self._newline
        formulas = self._rules.formula_cells
        place = row
        for index, cell in enumerate(cells if doubtful else ()):
            field: Field | None = self._plan.columns[index] if index < len(self._plan.columns) else None
            found = field.faults(cell) if field is not None else []
            if formulas != "allow" and is_formula(cell):
                if formulas == "warn":
                    tally.warn("formula-cell")
                else:
                    found = [*found, ("formula-cell", "A spreadsheet would run this cell as a formula.")]
            for code, said in found:
                if place is None:
                    place = self._grammar.read(content, 0, True)
                start, end, _ = place.cells[index] if place else (0, 0, b"")
                tally.fault(
                    code,
                    said,
                    content,
                    start,
                    newline=newline,
                    field_number=index + 1,
                    field=self._label(index),
                    shown=content[start : min(end, start + 200)] or content[:200],
                )
        if len(cells) < len(self._labels or ()):
            return
        for number, (code, columns) in enumerate(self._key_columns):
            parts = [cells[column] for column in columns]
            empty = [part == "" or self._is_missing(column, part) for part, column in zip(parts, columns, strict=True)]
            words: str | None = None
            if code == "primary-key" and any(empty):
                words = "A primary key is empty."
            elif all(empty):
                continue
            elif self.keys.add(number, parts):
                words = f"The key {', '.join(self.keys.names[number])} was in an earlier row."
            if words is not None:
                if place is None:
                    place = self._grammar.read(content, 0, True)
                tally.fault(
                    code,
                    words,
                    content,
                    place.cells[columns[0]][0] if place else 0,
                    newline=newline,
                    field_number=columns[0] + 1,
                    field=", ".join(self.keys.names[number]),
                    shown=content[:200],
                )

    def _is_missing(self, column: int, text: str) -> bool:
        field = self._plan.columns[column] if column < len(self._plan.columns) else None
        return field is not None and text in field.missing

    def _label(self, index: int) -> str | None:
        labels = self._labels
        return labels[index] if labels is not None and index < len(labels) else None


def is_formula(cell: str) -> bool:
    """A cell that spreadsheet programs run (OWASP, "CSV Injection"); a plain number is none."""
    return cell.startswith(_FORMULA) and (cell[0] not in "+-" or not _NUMERIC.issuperset(cell))
