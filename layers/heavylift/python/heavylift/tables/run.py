"""One pass over one file: from its bytes to the report, in slices if need be. No I/O here.

A run is fed the file's unpacked bytes in blocks of any size. ``checkpoint`` is plain JSON at any moment; a run made
from it goes on with the bytes from its ``offset`` on and ends in the same report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from heavylift.tables.bounds import ERRORS_OF_PIECE
from heavylift.tables.csv_rows import CsvRows
from heavylift.tables.dialect import Dialect
from heavylift.tables.encodings import ToUtf8, width_of
from heavylift.tables.json_document import JsonDocument
from heavylift.tables.json_lines import JsonLines
from heavylift.tables.plain_text import PlainText
from heavylift.tables.planning import Plan, from_state
from heavylift.tables.rules import Rules, RulesError
from heavylift.tables.tally import Tally

CHECKPOINT_VERSION: Final = 1
DIVISIBLE: Final = frozenset({"CSV", "TSV", "JSONL", "Text"})  # records that say where they end
_TELLING: Final = frozenset({"CSV", "TSV", "JSONL", "JSON"})  # broken files of all kinds look like text
_BLIND: Final = frozenset({"CSV", "TSV", "Text"})  # what is read as these may well be something else


class Run:
    """``feed`` blocks, then ``end``, then ``report``. ``done``: nothing more needs to be fed."""

    def __init__(self, plan: Plan, rules: Rules, size_bytes: int, checkpoint: Mapping[str, Any] | None = None) -> None:
        self.plan, self.rules, self.size_bytes = plan, rules, size_bytes
        state: Mapping[str, Any] = checkpoint or {}
        self._tally = Tally(rules, width_of(plan.encoding), state.get("tally"))
        self._reader = ToUtf8(plan.encoding)
        self._unread = 0 if checkpoint else plan.bom_bytes  # of the byte order mark
        self._ended = False
        if checkpoint is None:
            self._begin()
        self._pass = self._made(state.get("pass"))

    def _begin(self) -> None:
        plan, tally = self.plan, self._tally
        if plan.bom_bytes:
            tally.offset = plan.bom_bytes
            tally.warn("bom")
        if self.rules.max_file_size is not None and self.size_bytes > self.rules.max_file_size:
            words = f"The file has {self.size_bytes} bytes, more than max_file_size, {self.rules.max_file_size}."
            tally.file_fault("byte-count", words)
            tally.stopped_by = "max_file_size"
        if plan.refused is not None:
            tally.file_fault(*plan.refused)
            tally.stopped_by = tally.stopped_by or "type"
        elif self.rules.type_mismatch != "allow" and plan.format in _BLIND and plan.seems not in (None, *_BLIND):
            tally.warn("unlike-name")

    def _made(self, state: Mapping[str, Any] | None) -> Any:
        rules, tally, plan = self.rules, self._tally, self.plan
        if plan.format in ("CSV", "TSV"):
            if rules.schema is not None and not rules.is_table_schema:
                raise RulesError("schema", "a CSV wants a Table Schema: an object with a list of fields")
            return CsvRows(rules, tally, plan.dialect or Dialect(), state)
        if rules.is_table_schema and plan.format in ("JSONL", "JSON"):
            raise RulesError("schema", "JSON wants a JSON Schema, not a Table Schema")
        if plan.format == "JSONL":
            return JsonLines(rules, tally, state)
        if plan.format == "JSON":
            return JsonDocument(rules, tally, state)
        return PlainText(rules, tally, state)

    @property
    def done(self) -> bool:
        return self._tally.stopped_by is not None

    @property
    def offset(self) -> int:
        """Where the next bytes to be fed after a checkpoint lie, in the unpacked file."""
        return self._tally.offset

    @property
    def resumable(self) -> bool:
        return bool(getattr(self._pass, "resumable", True))

    def feed(self, data: bytes) -> None:
        """The next bytes of the unpacked file."""
        if self.done:
            return
        if self._unread:
            step = min(self._unread, len(data))
            self._unread -= step
            data = data[step:]
        if data:
            self._pass.feed(self._reader.feed(data))

    def settle(self) -> None:
        """Judge every record that is whole: ``offset`` is where the next one begins."""
        if not self.done:
            self._pass.settle()

    def seed(self) -> dict[str, Any] | None:
        """What a reader of one piece of the file needs to know, as plain JSON; None: nothing can be told yet, or the
        file is no sequence of records that can be judged one by one."""
        plan, made = self.plan, self._pass
        if plan.compression or plan.encoding != "utf-8" or plan.format not in DIVISIBLE or self.done:
            return None
        if made.keys.names or (plan.dialect is not None and plan.dialect.comment):
            return None
        fresh = made.fresh()
        return None if fresh is None else {"plan": plan.state(), "size": self.size_bytes, "pass": fresh}

    def findings(self) -> dict[str, Any]:
        """What was found so far, for another run's ``absorb``."""
        return {"tally": self._tally.state(), "pass": self._pass.state()}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many errors of each code there were so far."""
        return self._tally.counts

    def absorb(self, start: int, findings: Mapping[str, Any]) -> bool:
        """Take up what another run found in the records from ``start`` on, if a record begins there and this run,
        which was fed all bytes before ``start`` and has settled, would find the same. False: nothing was taken up."""
        tally = self._tally
        if self.done or tally.offset != start or findings["tally"]["offset"] <= start:
            return False
        self._pass.flush_blank()
        if not tally.composable(findings["tally"]) or not self._pass.composable(findings["pass"], start):
            return False
        lines_before, records_before = tally.line - 1, tally.records
        tally.absorb(findings["tally"])
        self._pass.absorb(findings["pass"], lines_before, records_before)
        return True

    def end(self) -> None:
        """The file is over."""
        if not self.done:
            rest = self._reader.feed(b"", True)
            if rest:
                self._pass.feed(rest)
        self._pass.end()
        self._close()

    def fail(self, code: str, message: str) -> None:
        """The file cannot be read any further: its compression is broken."""
        self._pass.end()
        self._tally.file_fault(code, message)
        self._tally.stopped_by = self._tally.stopped_by or code.replace("-", "_")
        self._close()

    def _close(self) -> None:
        tally, rules = self._tally, self.rules
        if tally.crlf and tally.crlf != tally.lf:
            tally.warn("mixed-newlines")
        if tally.stopped_by is None or tally.stopped_by == "syntax":
            low, high = rules.min_records, rules.max_records
            if low is not None and tally.records < low:
                tally.file_fault("row-count", f"{tally.records} records, fewer than min_records, {low}.")
            if high is not None and tally.records > high:
                tally.file_fault("row-count", f"{tally.records} records, more than max_records, {high}.")
        if self.rules.type_mismatch in (None, "error") and not tally.valid and self._is_another():
            words = f"The content looks like {self.plan.seems}, not like the {self.plan.format} that was announced."
            tally.file_fault("type-mismatch", words)
        self._ended = True

    def _is_another(self) -> bool:
        """Whether the file looks like another format than the one it was read as. What parses as announced, is it."""
        seems, announced = self.plan.seems, self.plan.format
        return seems in _TELLING and seems != announced and not {seems, announced} <= {"CSV", "TSV"}

    def checkpoint(self) -> dict[str, Any]:
        """Plain JSON that ``resumed`` goes on from, with the bytes from ``offset`` on."""
        return {
            "v": CHECKPOINT_VERSION,
            "rules_sha256": self.rules.sha256,
            "size": self.size_bytes,
            "offset": self.offset,
            "plan": self.plan.state(),
            "tally": self._tally.state(),
            "pass": self._pass.state(),
        }

    def report(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """The report of a run that has ended; it depends on the file's bytes and the rules alone."""
        if not self._ended:
            raise ValueError("the run has not ended")
        tally, plan = self._tally, self.plan
        found = self._pass
        described: dict[str, Any] = {
            "version": 1,
            "valid": tally.valid,
            "complete": tally.stopped_by is None,
            "stopped_by": tally.stopped_by,
            "format": plan.format,
            "compression": plan.compression,
            "encoding": plan.encoding,
            "records": tally.records,
            "bad_records": tally.bad_records,
            "lines": tally.lines,
            "bytes": self.size_bytes,
            "decompressed_bytes": tally.offset,
            "counts": dict(sorted(tally.counts.items())),
            "warnings": dict(sorted(tally.warnings.items())),
            "errors": tally.inline(),
            "errors_listed": len(tally.listed),
            "errors_truncated": sum(tally.counts.values()) > len(tally.inline()),
            "rules_sha256": self.rules.sha256,
            "source": dict(source),
        }
        if plan.dialect is not None:
            described["dialect"] = plan.dialect.to_json()
        if found.keys.names:
            described["unique_keys"] = found.keys.to_json()
        statistics = getattr(found, "statistics", None)
        described["statistics"] = statistics.to_json() if statistics is not None else found.statistics_json()
        return described

    def error_lines(self) -> bytes:
        """All errors that were kept, a JSON line each."""
        lines = (json.dumps(error, separators=(",", ":"), ensure_ascii=False) + "\n" for error in self._tally.listed)
        return "".join(lines).encode()


def begun_at(seed: Mapping[str, Any], rules: Rules, offset: int) -> Run:
    """A run over the records from ``offset`` on, where one begins; it never stops by itself."""
    endless = replace(rules, max_errors=None, max_error_rate=None)
    plan = from_state(seed["plan"])
    tally = Tally(endless, width_of(plan.encoding)).state() | {"offset": offset}
    run = Run(plan, endless, seed["size"], {"tally": tally, "pass": seed["pass"]})
    run._tally.listed_max = ERRORS_OF_PIECE
    return run


def resumed(rules: Rules, checkpoint: Mapping[str, Any]) -> Run:
    """The run that ``checkpoint`` was made of. ValueError: it is of other rules or of another version."""
    if checkpoint.get("v") != CHECKPOINT_VERSION or checkpoint.get("rules_sha256") != rules.sha256:
        raise ValueError("this checkpoint is of other rules or of another version")
    return Run(from_state(checkpoint["plan"]), rules, checkpoint["size"], checkpoint)
