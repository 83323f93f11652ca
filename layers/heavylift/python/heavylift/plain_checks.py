"""What rules say of a file without records, a picture or an archive: its size and its format."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from heavylift import keys, s3
from heavylift.checking import Checked, Invalid
from heavylift.limits import rule_for_format
from heavylift.records import FileRecord
from heavylift.settings import settings
from heavylift.verdict import Accepted

if TYPE_CHECKING:
    from heavylift.tables.rules import Rules

REPORT_VERSION: Final = 1


def check(record: FileRecord, accepted: Accepted, etag: str, rules: Rules) -> Checked:
    """Judge, and write the report. ``checking.Invalid``; TransientError."""
    report = report_of(record, accepted, rules)
    name = hashlib.sha256(f"{etag} {rules.sha256}".encode()).hexdigest()[:16]
    described = {
        "key": keys.report(record.tenant, record.file_id, name),
        "valid": report["valid"],
        "records": 0,
        "errors": len(report["errors"]),
        "rules_sha256": rules.sha256,
    }
    body = json.dumps(report, separators=(",", ":"), ensure_ascii=False).encode()
    s3.put_bytes(settings().derived_bucket, described["key"], body, media_type="application/json")
    if report["valid"]:
        return Checked(described)
    findings = {
        "kind": accepted.kind,
        "format": accepted.format,
        "media_type": accepted.media_type,
        "report": described,
    }
    sentences = " ".join(error["message"] for error in report["errors"])
    raise Invalid(f"The file breaks its rules: {sentences}", findings, errors=len(report["errors"]), records=0)


def report_of(record: FileRecord, accepted: Accepted, rules: Rules) -> dict[str, Any]:
    """The report, with the members of a table's; what only records have is 0 or absent. Pure."""
    errors: list[dict[str, Any]] = []
    if rules.max_file_size is not None and record.size > rules.max_file_size:
        words = f"The file has {record.size} bytes, more than max_file_size, {rules.max_file_size}."
        errors.append({"code": "byte-count", "message": words})
    allowed = rules.allowed_formats
    if allowed is not None and not set(allowed) & names_of(accepted.format, accepted.media_type):
        words = f"The file is {accepted.format}; the rules allow {', '.join(allowed)}."
        errors.append({"code": "type-mismatch", "message": words})
    return {
        "version": REPORT_VERSION,
        "valid": not errors,
        "complete": True,
        "stopped_by": None,
        "format": accepted.format,
        "compression": None,
        "encoding": None,
        "records": 0,
        "bad_records": 0,
        "lines": 0,
        "bytes": record.size,
        "decompressed_bytes": record.size,
        "counts": {error["code"]: 1 for error in errors},
        "warnings": {},
        "errors": errors,
        "errors_listed": len(errors),
        "errors_truncated": False,
        "rules_sha256": rules.sha256,
        "source": {"name": record.name, "size": record.size},
        "statistics": {},
    }


def names_of(format_name: str, media_type: str) -> set[str]:
    """All names under which ``allowed_formats`` may allow a format."""
    rule = rule_for_format(format_name)
    names = {format_name, format_name.lower(), media_type}
    if rule is not None:
        names |= {rule.media_type, *rule.extensions, *(one.lower() for one in rule.formats)}
    return names
