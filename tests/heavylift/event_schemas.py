"""The events of the bus, field by field: docs/events/*.schema.json and the tables of docs/events.md come from here.

python -m tests.heavylift.event_schemas      writes them

Written by hand beside ``heavylift.announcements``, not made from it: a test holds the one to the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, FOLDER = ROOT / "docs/events.md", ROOT / "docs/events"

ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
TIME = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"}
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "minLength": 1}
FLAG = {"type": "boolean"}
KINDS = ["image", "raw", "dicom", "table", "json", "text", "archive", "other"]


@dataclass(frozen=True, slots=True)
class Field:
    """``when`` says in words when an optional field is there; empty = always."""

    name: str
    means: str
    schema: Mapping[str, Any]
    when: str = ""


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    means: str
    statuses: tuple[str, ...]
    fields: tuple[Field, ...]


def objects(*fields: Field) -> dict[str, Any]:
    """The schema of an object. It is open: within a version fields are added."""
    return {
        "type": "object",
        "required": [field.name for field in fields if not field.when],
        "properties": {field.name: {"description": sentence(field), **field.schema} for field in fields},
    }


def sentence(field: Field) -> str:
    return f"{field.means}. There {field.when}." if field.when else f"{field.means}."


def _common(identity: str) -> tuple[Field, ...]:
    return (
        Field("version", "Version of this description", {"const": 1}),
        Field(
            "id",
            f"The same for every copy of this event: {identity}, a hyphen and record_version",
            {"type": "string", "pattern": f"^{ULID}(-[0-9]{{6}})?-[0-9]+$"},
        ),
        Field("at", "When the status was reached (RFC 3339, UTC, milliseconds); the envelope's time has seconds", TIME),
        Field(
            "store_bucket",
            "The deployment's store bucket: tells deployments apart that share a bus",
            {"type": "string"},
        ),
        Field("tenant", "Whose it is", {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}),
    )


CHECKSUMS = objects(
    Field("sha256", "SHA-256 of the whole, hexadecimal", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "when known"),
    Field("sha256_proven", "Whether S3 has proven sha256; false: the uploader said so, or there is none", FLAG),
    Field("sha256_composite", "S3's composite of the parts' SHA-256", TEXT, "for files sent in parts"),
    Field("crc32", "CRC-32 of the whole as S3 has it, base64", TEXT, "when S3 computed it"),
    Field("crc64nvme", "CRC-64/NVME of the whole as S3 has it, base64", TEXT, "when S3 computed it"),
)
FAILURE = Field(
    "failure",
    "Why",
    objects(
        Field("code", "Stable; see errors.md", TEXT),
        Field("message", "A sentence for people, at most 1,000 characters", {"type": "string", "maxLength": 1000}),
        Field("stage", "Where: assemble, validate, thumbnail", {"type": "string"}),
        Field("retryable", "Whether a retry may help", FLAG),
    ),
    "when something went wrong, unless the file was tried again before this was told",
)
OBJECT = Field(
    "object",
    "Where the bytes are, for who may read the bucket",
    objects(
        Field("bucket", "The store bucket", {"type": "string"}),
        Field("key", "Its key", {"type": "string", "pattern": "^(files|dicom)/"}),
        Field("version_id", "S3's version", TEXT, "when the bucket has versions"),
        Field("etag", "S3's ETag without quotes; for conditional reads", TEXT),
    ),
    "once the bytes are in the store, unless the file was deleted before this was told",
)
THUMBNAILS = Field(
    "thumbnails",
    "Its pictures, JPEG; empty for files that have none",
    {
        "type": "array",
        "items": objects(
            Field("size", "The longest edge asked for: 256, 512 or 1200", COUNT),
            Field("width", "Pixels", COUNT),
            Field("height", "Pixels", COUNT),
            Field("placeholder", "Whether it stands for a picture that could not be made", FLAG),
            Field("bucket", "The derived bucket", {"type": "string"}),
            Field("key", "Its key", {"type": "string", "pattern": "^thumbnails/"}),
        ),
    },
    "unless the file was deleted before this was told",
)


def _file(name: str, means: str, statuses: tuple[str, ...], *more: Field) -> EventType:
    label = "unless it is or may be DICOM, which is named after patients"
    always_sized = set(statuses) <= {"completed", "completed_with_errors", "rejected"}
    fields = (
        *_common("file_id"),
        Field("user", "Who uploaded it: the token's sub", TEXT, "when known"),
        Field("file_id", "The file, also as upload_id", {"type": "string", "pattern": f"^{ULID}(-[0-9]{{6}})?$"}),
        Field("batch_id", "Its batch", {"type": "string", "pattern": f"^{ULID}$"}, "for members of a batch"),
        Field("n", "Its number in the batch", COUNT, "for members of a batch"),
        Field("record_version", "Grows with every change of the file: of two events the larger is later", COUNT),
        Field("status", "Its status at that moment", {"enum": list(statuses)}),
        Field("final", "Whether nothing more happens by itself", {"const": True}),
        Field(
            "name",
            "The file's name as it was given, at most 5,000 characters",
            {"type": "string", "maxLength": 5000},
            label,
        ),
        Field("client_id", "The uploader's own word for it", TEXT, f"when given, {label}"),
        Field("logical_id", "What it belongs to", TEXT, f"when there is one, {label}"),
        Field("kind", "What it is; as declared, until its content was taken", {"enum": KINDS}),
        Field("format", "What it is, exactly: TIFF, CSV, …", TEXT, "when its content was recognised and taken"),
        Field("media_type", "Its media type by content", TEXT, "when its content was recognised and taken"),
        Field(
            "size",
            "Bytes; as declared, until they arrived",
            COUNT,
            "" if always_sized else "unless an upload without a declared size ended early",
        ),
        Field("width", "Pixels", COUNT, "for pictures that were read"),
        Field("height", "Pixels", COUNT, "for pictures that were read"),
        Field("checksums", "What is known of its bytes", CHECKSUMS),
        *more,
        Field("created_at", "When the upload was begun", TIME),
    )
    return EventType(name, means, statuses, fields)


def _batch(name: str, means: str, statuses: tuple[str, ...]) -> EventType:
    numbers = {
        "total": "Files that belong to it",
        "received": "Files whose bytes arrived",
        "processed": "Files with a verdict: the sum of the four below",
        "succeeded": "Files that are complete",
        "failed": "Files that were rejected or failed",
        "skipped": "Files that were left out",
        "duplicates": "Files that were there already",
    }
    fields = (
        *_common("batch_id"),
        Field("batch_id", "The batch", {"type": "string", "pattern": f"^{ULID}$"}),
        Field("record_version", "Grows with every change of the batch: of two events the larger is later", COUNT),
        Field("status", "Its status at that moment", {"enum": list(statuses)}),
        Field("final", "Whether nothing more happens by itself", {"const": True}),
        Field("kind", "What its files are said to be", TEXT),
        Field("totals", "How its files ended", objects(*(Field(name, text, COUNT) for name, text in numbers.items()))),
        Field("created_at", "When the batch was begun", TIME, "when known"),
    )
    return EventType(name, means, statuses, fields)


ARCHIVE_MADE = (
    Field("members", "Its files, METS, CSV and tag files among them", COUNT),
    Field("missing", "Files that were asked for and left out (`on_missing: skip`); a report inside names them", COUNT),
    Field("size", "Bytes", COUNT),
    Field("crc32", "CRC-32 of the whole, base64; S3 has proven it", TEXT),
    Field(
        "object",
        "Where it is, for who may read the bucket",
        objects(
            Field("bucket", "The derived bucket", {"type": "string"}),
            Field("key", "Its key", {"type": "string", "pattern": "^archives/"}),
            Field("etag", "S3's ETag without quotes; for conditional reads", TEXT),
        ),
        "unless its time was over before this was told",
    ),
    Field("expires_at", "Until when it is kept", TIME),
)
ARCHIVE_FAILURE = Field(
    "failure",
    "Why",
    objects(
        Field("code", "Stable; see errors.md", TEXT),
        Field("stage", "Where: archive", {"type": "string"}),
        Field("retryable", "Whether asking again may help", FLAG),
        Field("file_id", "The file that it is about", TEXT, "when it is about one"),
    ),
)


def _archive(name: str, means: str, status: str, *more: Field) -> EventType:
    fields = (
        *_common("archive_id"),
        Field("user", "Who asked for it: the token's sub", TEXT, "when known"),
        Field("archive_id", "The archive", {"type": "string", "pattern": f"^{ULID}$"}),
        Field("record_version", "Grows with every change of the job: of two events the larger is later", COUNT),
        Field("status", "Its status at that moment", {"enum": [status]}),
        Field("final", "Whether nothing more happens by itself", {"const": True}),
        Field("package", "plain or bagit", {"enum": ["plain", "bagit"]}),
        *more,
        Field("created_at", "When it was asked for", TIME),
    )
    return EventType(name, means, (status,), fields)


EVENTS: tuple[EventType, ...] = (
    _file(
        "file.completed",
        "It is in the store, and all that is made of it is made. `completed_with_errors`: it is in the store, but "
        "something could not be made; `failure` says what",
        ("completed", "completed_with_errors"),
        FAILURE,
        OBJECT,
        THUMBNAILS,
    ),
    _file(
        "file.rejected", "Its content may not or cannot be taken; its bytes stay in quarantine", ("rejected",), FAILURE
    ),
    _file(
        "file.failed",
        "Our or the world's fault, after the last attempt; a retry goes on from there",
        ("failed",),
        FAILURE,
        OBJECT,
        THUMBNAILS,
    ),
    _file("file.cancelled", "Its upload was cancelled", ("cancelled",)),
    _file("file.expired", "Its upload was not ended in time", ("expired",)),
    _file("file.deleted", "It was deleted, with all that was made of it", ("deleted",)),
    _batch(
        "batch.completed",
        "Every file of it has its verdict. `completed_with_errors`: not all of them are good",
        ("completed", "completed_with_errors"),
    ),
    _batch("batch.cancelled", "It was cancelled", ("cancelled",)),
    _batch("batch.expired", "It was not ended in time", ("expired",)),
    _archive("archive.completed", "It can be downloaded until `expires_at`", "completed", *ARCHIVE_MADE),
    _archive("archive.failed", "It cannot be made; `failure` says why", "failed", ARCHIVE_FAILURE),
    _archive("archive.cancelled", "It was cancelled before it was there", "cancelled"),
)


def path(event: EventType) -> Path:
    return FOLDER / f"{event.name}.v1.schema.json"


def schema(event: EventType) -> dict[str, Any]:
    """JSON Schema 2020-12 of the event's detail."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:heavylift:event:{event.name}:v1",
        "title": f"{event.name}, version 1",
        "description": f"The detail of the event {event.name}. {event.means.replace('`', '')}.",
        **objects(*event.fields),
    }


def text(event: EventType) -> str:
    return json.dumps(schema(event), indent=2, ensure_ascii=False) + "\n"


def tables() -> dict[str, str]:
    """The tables of docs/events.md by the name of their place."""
    files = [event for event in EVENTS if event.name.startswith("file.")]
    batches = [event for event in EVENTS if event.name.startswith("batch.")]
    archives = [event for event in EVENTS if event.name.startswith("archive.")]
    return {
        "types": "\n".join(
            [
                "| detail-type | `status` | what it says | schema |",
                "|---|---|---|---|",
                *(
                    f"| `{event.name}` | {', '.join(f'`{one}`' for one in event.statuses)} | {event.means}. "
                    f"| [v1](events/{path(event).name}) |"
                    for event in EVENTS
                ),
            ]
        ),
        "file fields": _fields(files),
        "batch fields": _fields(batches),
        "archive fields": _fields(archives),
    }


def _names(event: EventType) -> set[str]:
    return {field.name for field in event.fields}


def _fields(events: list[EventType]) -> str:
    """One row for each field of any of the events, nested ones too, in the order of the longest; then those that it
    has not.
    """
    rows = ["| field | what | there |", "|---|---|---|"]
    longest = max(events, key=lambda event: len(event.fields))
    known = {field.name: field for event in (longest, *events) for field in reversed(event.fields)}
    ordered = (*longest.fields, *(field for name, field in known.items() if name not in _names(longest)))
    for field in ordered:
        having = [event.name for event in events if field.name in _names(event)]
        only = "" if len(having) == len(events) else f"in {', '.join(f'`{name}`' for name in having)}"
        there = ", ".join(filter(None, (only, field.when))) or "always"
        rows.append(f"| `{field.name}` | {field.means} | {there} |")
        inner = field.schema.get("items", field.schema)
        mark = "[]" if "items" in field.schema else ""
        for name, one in inner.get("properties", {}).items():
            means, _, when = one["description"].removesuffix(".").partition(". There ")
            rows.append(f"| `{field.name}{mark}.{name}` | {means} | {when or 'always'} |")
    return "\n".join(rows)


def rendered(document: str) -> str:
    """The document with its tables written anew."""
    for name, table in tables().items():
        begin, end = f"<!-- {name}: generated -->\n", f"<!-- {name}: end -->"
        before, _, rest = document.partition(begin)
        _, _, after = rest.partition(end)
        document = f"{before}{begin}{table}\n{end}{after}"
    return document


if __name__ == "__main__":
    for one in EVENTS:
        path(one).write_text(text(one), encoding="utf-8")
    DOCUMENT.write_text(rendered(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
