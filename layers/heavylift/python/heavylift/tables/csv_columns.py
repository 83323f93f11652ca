"""The columns of a CSV: names, what schema and rules want of the cells, keys, statistics. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from heavylift.tables.bounds import CELL_BYTES, COLUMNS_MAX, FIELD_NAME_LENGTH
from heavylift.tables.csv_syntax import Grammar, Row
from heavylift.tables.dialect import Dialect
from heavylift.tables.faults import Keys, text_faults
from heavylift.tables.rules import Rules
from heavylift.tables.statistics import Statistics
from heavylift.tables.table_schema import Field, Plan, TableSchema, bind, parse_table_schema
from heavylift.tables.tally import Bytes, Tally

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMERIC: Final = frozenset("0123456789+-.,eE% ")


class Columns:
    """``labels`` is None until the first row was seen. ``good`` says whether all cells of a row are as they should be
    (None: they always are), ``all_good`` the same of many rows (None: ask for each)."""

    def __init__(
        self, rules: Rules, tally: Tally, dialect: Dialect, grammar: Grammar, state: Mapping[str, Any]
    ) -> None:
        self._rules, self._tally, self._dialect, self._grammar = rules, tally, dialect, grammar
        self._newline, self._quote = dialect.newline.encode(), dialect.quote.encode()
        self.statistics = Statistics(state.get("statistics"))
        self._schema: TableSchema | None = parse_table_schema(rules.schema) if rules.is_table_schema else None
        self.labels: list[str] | None = None
        self._plan = Plan(())
        self._key_columns: list[tuple[str, list[int]]] = []
        self.keys = Keys(())
        self.good: Callable[[list[str]], bool] | None = None
        self.all_good: Callable[[Iterable[list[str]]], bool] | None = None
        if state.get("labels") is not None:
            self._settle(state["labels"], state.get("keys"))

    def state(self) -> dict[str, Any]:
        return {"labels": self.labels, "statistics": self.statistics.state(), "keys": self.keys.state()}

    @property
    def width(self) -> int:
        return len(self.labels or ())

    @property
    def keyed(self) -> bool:
        return bool(self._key_columns)

    @property
    def needs_cells(self) -> bool:
        """Whether every row has to be cut into cells."""
        return self.good is not None or self.keyed

    def begin(self, content: Bytes, row: Row) -> bool:
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
        self.row_faults(content, row, many, header=True)
        labels = [row.text(content, index, self._quote) for index in range(many)]
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
        self.labels = labels
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
        self.good = self._row_check()
        self.all_good = self._plan.columns_check() if self._rules.formula_cells == "allow" else None

    def _check_keys(self) -> None:
        known = set(self.keys.names)
        for names in self._rules.unique_keys:
            if names not in known:
                absent = ", ".join(name for name in names if name not in (self.labels or ()))
                self._tally.file_fault("missing-label", f"unique_keys names {absent}; there is no such column.")

    def _row_check(self) -> Any:
        """Whether all cells of a row are good, as one function; None: all rows are."""
        check = self._plan.row_check()
        if self._rules.formula_cells == "allow":
            return check
        if check is None:
            return lambda row: not any(map(is_formula, row))
        return lambda row: check(row) and not any(map(is_formula, row))

    def row_faults(self, content: Bytes, row: Row, width: int, header: bool = False) -> bool:
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
                field=self.label(fault.cell),
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
                field=self.label(many),
                shown=content[-200:],
            )
        elif many > width:
            words = f"The row has {many} cells, {many - width} more than the header."
            tally.fault("extra-cell", words, content, row.cells[width][0], newline=newline, field_number=width + 1)
        return doubtful

    def judge(self, content: Bytes, cells: list[str], row: Row | None, doubtful: bool) -> None:
        """Tell what the schema and the rules have against the cells of a row that is sound (``doubtful``: something,
        perhaps); take up its keys."""
        place = row
        for index, cell in enumerate(cells if doubtful else ()):
            found = self._against(index, cell)
            if found and place is None:
                place = self._grammar.read(content, 0, True)
            if found and place is not None:
                self._tell(content, place, index, found)
        if len(cells) == self.width:
            self._judge_keys(content, place, lambda column: cells[column])

    def judge_long(self, content: Bytes, row: Row) -> None:
        """As ``judge``, one cell in memory at a time, and only those that somebody asks for."""
        asked = [
            index
            for index in range(min(self.width, len(row.cells)))
            if self._rules.formula_cells != "allow" or self._plan.checks(index)
        ]
        asked = sorted({*asked, *(column for _, columns in self._key_columns for column in columns)})
        complex_ = False
        for index in asked:
            if index >= len(row.cells):
                return
            start, end, _ = row.cells[index]
            if end - start > CELL_BYTES:
                complex_ = True
                words = f"The cell has more than {CELL_BYTES} bytes; it is not judged."
                self._tell(content, row, index, [("record-too-complex", words)])
            elif found := self._against(index, row.text(content, index, self._quote)):
                self._tell(content, row, index, found)
        if len(row.cells) >= self.width and not complex_:
            self._judge_keys(content, row, lambda column: row.text(content, column, self._quote))

    def _against(self, index: int, cell: str) -> list[tuple[str, str]]:
        """(code, message) of what is wrong with a cell."""
        field = self._field(index)
        found = field.faults(cell) if field is not None else []
        formulas = self._rules.formula_cells
        if formulas != "allow" and is_formula(cell):
            if formulas == "warn":
                self._tally.warn("formula-cell")
            else:
                found = [*found, ("formula-cell", "A spreadsheet would run this cell as a formula.")]
        return found

    def _tell(self, content: Bytes, place: Row, index: int, found: Sequence[tuple[str, str]]) -> None:
        start, end, _ = place.cells[index]
        for code, said in found:
            self._tally.fault(
                code,
                said,
                content,
                start,
                newline=self._newline,
                field_number=index + 1,
                field=self.label(index),
                shown=content[start : min(end, start + 200)] or content[:200],
            )

    def _judge_keys(self, content: Bytes, place: Row | None, cell: Callable[[int], str]) -> None:
        for number, (code, columns) in enumerate(self._key_columns):
            parts = [cell(column) for column in columns]
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
                self._tally.fault(
                    code,
                    words,
                    content,
                    place.cells[columns[0]][0] if place else 0,
                    newline=self._newline,
                    field_number=columns[0] + 1,
                    field=", ".join(self.keys.names[number]),
                    shown=content[:200],
                )

    def _field(self, index: int) -> Field | None:
        return self._plan.columns[index] if index < len(self._plan.columns) else None

    def _is_missing(self, column: int, text: str) -> bool:
        field = self._field(column)
        return field is not None and text in field.missing

    def label(self, index: int) -> str | None:
        labels = self.labels
        return labels[index] if labels is not None and index < len(labels) else None


def is_formula(cell: str) -> bool:
    """A cell that spreadsheet programs run (OWASP, "CSV Injection"); a plain number is none."""
    return cell.startswith(_FORMULA) and (cell[0] not in "+-" or not _NUMERIC.issuperset(cell))
