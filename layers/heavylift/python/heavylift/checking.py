"""validate's look into tables, JSON and text: one pass over the object in staging, in as many slices as it takes.

The report lies under a key that follows from the object and the rules, and its bytes follow from them too: whoever
writes it twice, or late, writes the same. The checkpoint between slices is an object of ours, because a table's state
may be larger than a message or an item; one that is lost or old costs time and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from heavylift import keys, piecework, s3
from heavylift.errors import ContentError, TransientError
from heavylift.file_rules import rules_of
from heavylift.limits import MIB, SNIFF_HEAD_BYTES, rule_for_extension, rule_for_media_type
from heavylift.prefetch import ahead
from heavylift.ranges import REQUEST_BYTES, Fetch
from heavylift.records import FileRecord
from heavylift.settings import settings
from heavylift.sniff import Detection
from heavylift.tables.names import announced_by_name
from heavylift.verdict import Accepted

KINDS: Final = frozenset({"table", "json", "text"})
CHECKPOINT_BYTES_MAX: Final = 64 * MIB  # a million keys, ten thousand errors and the columns' samples stay below half
CODES_TOLD: Final = 8  # kinds of error that the verdict's sentence names; the report has all
_CHECKPOINT: Final = "table.json"


class Unfinished(TransientError):
    """The deadline is near; the next slice goes on from the checkpoint. ``done``: bytes of the content behind."""

    def __init__(self, done: int) -> None:
        super().__init__("out_of_time", f"{done} bytes are checked; the rest follows.", bytes_done=done)
        self.done = done


class Invalid(ContentError):
    """The content breaks the rules; ``findings`` are what the record keeps of it."""

    def __init__(self, message: str, findings: Mapping[str, Any], **facts: Any) -> None:
        super().__init__("not_valid", message, **facts)
        self.findings = dict(findings)


@dataclass(frozen=True, slots=True)
class Checked:
    """A content that the rules take: what the record keeps of its report, and what earlier slices have read."""

    report: Mapping[str, Any]
    bytes_before: int = 0
    requests_before: int = 0


def wanted(record: FileRecord, accepted: Accepted) -> bool:
    """Whether there is something to check.

    Without rules that is what somebody calls a table, JSON or text, by type, kind or name: a file of which only its
    bytes look like text is kept as it is, and an empty one is taken.
    """
    if accepted.kind not in KINDS:
        return False
    return rules_of(record) is not None or (record.size > 0 and _announced(record))


def _announced(record: FileRecord) -> bool:
    by_type = rule_for_media_type(record.declared_type or "") or rule_for_extension(record.name)
    if record.declared_kind in KINDS or (by_type is not None and by_type.kind in KINDS):
        return True
    return announced_by_name(record.name)[0] is not None


def check(
    record: FileRecord,
    accepted: Accepted,
    detection: Detection,
    etag: str,
    source: s3.ObjectSource,
    fetch: Fetch,
    seconds_left: Callable[[], float],
) -> Checked:
    """Check the content to its end, or raise: Invalid; ContentError ``invalid_rules``; Unfinished; TransientError.

    ``fetch`` has the first bytes already. Memory: four ranges of 4 MiB in flight, and what ``tables.run.Run`` holds.
    """
    from heavylift.tables.bounds import PIECE_BYTES
    from heavylift.tables.pieces import walk
    from heavylift.tables.rules import RulesError, parse_rules
    from heavylift.tables.run import Run, resumed
    from heavylift.tables.unpacking import Unpackable, inflater_for, unpack

    try:
        rules = parse_rules(rules_of(record))
        kept = _checkpoint(record, etag, rules.sha256)
        if kept is not None:
            run = resumed(rules, kept["run"])
        else:
            run = Run(_plan(record, accepted, detection, fetch, rules), rules, record.size)
    except RulesError as error:
        raise ContentError("invalid_rules", f"The rules are wrong: {error.message}", rule=error.facts["rule"]) from None
    before = (kept or {}).get("traffic", (0, 0))
    compression = run.plan.compression
    read = fetch if record.size <= SNIFF_HEAD_BYTES else source.read
    order = None
    if compression is None:
        order = piecework.order_for(record.tenant, record.file_id, etag, rules.sha256, record.size, kept)

    inflater = inflater_for(compression, record.size, (kept or {}).get("place"))
    began = run.offset

    def pause_in_time() -> None:
        if seconds_left() <= 0 and run.resumable and run.offset > began:
            place = inflater.place_before(run.offset) if inflater is not None else None
            more = {
                "pieces": order is not None and order.given,
                "place": place.state() if place is not None else None,
            }
            _save(record, etag, run.checkpoint(), before, source, more)
            raise Unfinished(run.offset)

    def feed(start: int, end: int) -> None:
        if run.done or (compression is None and start >= end):
            return
        first = start if compression is None else inflater.at if inflater is not None else 0
        blocks = unpack(compression, ahead(read, first, end), record.size, start, inflater)
        try:
            for block in blocks:
                run.feed(block)
                if run.done:
                    break
                pause_in_time()
        finally:
            blocks.close()

    def load(number: int) -> list[Any]:
        pause_in_time()
        return order.found(number, source.traffic) if order is not None else []

    try:
        at = run.offset if kept is not None else 0
        if order is not None and kept is None:
            at = min(REQUEST_BYTES, PIECE_BYTES)
            feed(0, at)  # the header tells what a piece's reader has to know
            order.give(run, rules_of(record), source)
        if order is not None:
            walk(run, at, record.size, PIECE_BYTES, feed, load)
        else:
            feed(at, record.size)
        run.end()
    except Unpackable as error:
        run.fail(error.code, error.message)
    report = run.report({"name": record.name, "size": record.size, "etag": etag})
    described = _written(record, etag, run, report)
    if order is not None:
        order.take_back(record.size)
    if kept is not None:
        s3.delete(settings().derived_bucket, _checkpoint_key(record))
    if not report["valid"]:
        raise _invalid(accepted, described, report)
    return Checked(described, *before)


def _plan(record: FileRecord, accepted: Accepted, detection: Detection, fetch: Fetch, rules: Any) -> Any:
    from heavylift.tables.bounds import HEAD_BYTES
    from heavylift.tables.local import unpacked_head
    from heavylift.tables.planning import compression_of, plan_for
    from heavylift.tables.rules import FORMATS

    head = fetch(0, min(HEAD_BYTES, record.size))
    compression = compression_of(head)
    announced = next((one for one in (accepted.format, detection.inner) if one in FORMATS), None)
    announced = announced or announced_by_name(record.name)[0]
    more = record.size > len(head)
    if compression is not None:
        head, more = unpacked_head(
            compression, ahead(fetch, 0, record.size, request_bytes=65_536, parallel=1), record.size
        )
    return plan_for(head, more, record.name, announced, rules, compression)


def _checkpoint(record: FileRecord, etag: str, rules_sha256: str) -> dict[str, Any] | None:
    """The checkpoint of an earlier slice, if it is of these bytes and these rules."""
    if record.progress == 0:
        return None
    body = s3.read_small(settings().derived_bucket, _checkpoint_key(record), size_max=CHECKPOINT_BYTES_MAX)
    if body is None:
        return None
    kept: dict[str, Any] = json.loads(body)
    same = kept.get("etag") == etag and kept["run"].get("rules_sha256") == rules_sha256 and kept["run"].get("v") == 1
    return kept if same else None


def _save(
    record: FileRecord,
    etag: str,
    run: Mapping[str, Any],
    before: tuple[int, int],
    source: s3.ObjectSource,
    more: Mapping[str, Any],
) -> None:
    traffic = (before[0] + source.traffic.bytes_in, before[1] + source.traffic.requests)
    kept = {"etag": etag, "run": run, "traffic": traffic, **more}
    body = json.dumps(kept, separators=(",", ":")).encode()
    s3.put_bytes(settings().derived_bucket, _checkpoint_key(record), body, media_type="application/json")


def _checkpoint_key(record: FileRecord) -> str:
    return keys.work(record.tenant, record.file_id, _CHECKPOINT)


def _written(record: FileRecord, etag: str, run: Any, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write the report; what the record keeps of it."""
    name = hashlib.sha256(f"{etag} {run.rules.sha256}".encode()).hexdigest()[:16]
    bucket = settings().derived_bucket
    described: dict[str, Any] = {
        "key": keys.report(record.tenant, record.file_id, name),
        "valid": report["valid"],
        "records": report["records"],
        "errors": sum(report["counts"].values()),
        "rules_sha256": run.rules.sha256,
    }
    if report["errors_listed"] > len(report["errors"]):
        described["errors_key"] = keys.report_errors(record.tenant, record.file_id, name)
        s3.put_bytes(bucket, described["errors_key"], run.error_lines(), media_type="application/x-ndjson")
    body = json.dumps(report, separators=(",", ":"), ensure_ascii=False).encode()
    s3.put_bytes(bucket, described["key"], body, media_type="application/json")
    return described


def _invalid(accepted: Accepted, described: Mapping[str, Any], report: Mapping[str, Any]) -> Invalid:
    """The verdict on a content that the rules do not take."""
    counts = sorted(report["counts"].items(), key=lambda one: (-one[1], one[0]))
    told = ", ".join(f"{code} {many}" for code, many in counts[:CODES_TOLD]) or report["stopped_by"]
    findings = {
        "kind": accepted.kind,
        "format": accepted.format,
        "media_type": accepted.media_type,
        "report": described,
    }
    return Invalid(
        f"The content breaks the rules: {told}. The report has every place.",
        findings,
        errors=described["errors"],
        records=report["records"],
        bad_records=report["bad_records"],
    )
