"""What the API answers, as JSON Schemas written by hand beside the views: tests hold every answer to them.

Objects are open: fields are added within a version, and clients leave alone what they do not know. The tests close
them, so that no field is answered that is not described here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift.api.problems import STATUS
from heavylift.archives.jobs import ArchiveStatus
from heavylift.batches.model import BatchStatus
from heavylift.ids import ULID_PATTERN
from heavylift.limits import KINDS, PART_COUNT_MAX
from heavylift.states import State

Schema = dict[str, Any]

ULID = f"^{ULID_PATTERN.pattern}$"
FILE_ID = f"^{ULID_PATTERN.pattern}(-[0-9]{{6}})?$"
BASE64_DIGEST = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def text(means: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": means} if means else {}), **more}


def count(means: str = "", minimum: int = 0, **more: Any) -> Schema:
    return {"type": "integer", "minimum": minimum, **({"description": means} if means else {}), **more}


def number(means: str) -> Schema:
    return {"type": "number", "minimum": 0, "description": means}


def flag(means: str) -> Schema:
    return {"type": "boolean", "description": means}


def when(means: str) -> Schema:
    return text(means, format="date-time")


def url(means: str) -> Schema:
    return text(means, format="uri")


def array(of: Schema, means: str = "", **more: Any) -> Schema:
    return {"type": "array", "items": of, **({"description": means} if means else {}), **more}


def nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def free(means: str) -> Schema:
    """An object of anything."""
    return {"type": "object", "description": means, "additionalProperties": True}


def objects(means: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "description": means,
        "required": list(required),
        "properties": {**required, **(optional or {})},
    }


KIND = text("What it is.", enum=list(KINDS))
STATUS_OF_FILE = text("Where it stands in its life.", enum=[state.value for state in State])
RANGES = array(
    array(count(minimum=1), minItems=2, maxItems=2),
    "Closed ranges of part numbers, sorted: [[1, 57], [60, 60]].",
)
HEADERS = {
    "type": "object",
    "description": "What must be sent with the PUT besides its length. Never host or content-length.",
    "additionalProperties": {"type": "string"},
}
EXPIRES = when("When it dies at the latest; it may die earlier: ask again.")
LABELS: dict[str, Schema] = {
    "logical_id": text("The document that the file belongs to."),
    "relative_path": text("Where it lay in its folder."),
    "description": text(),
    "data_type": text(),
}
SIGNED_PUT = {"url": url("PUT the bytes here."), "headers": HEADERS, "expires_at": EXPIRES}
PROBLEM_FACTS = "The numbers of the case stand beside these members; docs/errors.md has each code."


def _problem() -> Schema:
    return {
        **objects(
            f"RFC 9457 problem details. {PROBLEM_FACTS}",
            {
                "type": text("urn:heavylift:problem:<code>", pattern="^urn:heavylift:problem:[a-z0-9_]+$"),
                "title": text(),
                "status": count(minimum=400),
                "detail": text("One sentence for people."),
                "code": text("Stable.", enum=sorted(STATUS)),
                "retryable": flag("Whether the same request may succeed later."),
            },
            {"instance": text("The path that was asked.")},
        ),
        "additionalProperties": True,
    }


def _failure() -> Schema:
    return {
        **objects(
            "Why the file was refused, or what went wrong with it. The numbers of the case stand beside these members.",
            {
                "code": text("Stable; docs/errors.md has each."),
                "message": text("One sentence for people."),
                "stage": text("The function that met it."),
                "retryable": flag("Whether retrying makes sense as things are."),
            },
        ),
        "additionalProperties": True,
    }


def _upload_status() -> Schema:
    return objects(
        "An upload's state.",
        {
            "upload_id": text(pattern=FILE_ID),
            "name": text(),
            "size": nullable(count("Bytes; null until all are there, of an upload begun with a ticket.")),
            "status": STATUS_OF_FILE,
            "final": flag("Whether this is the end of its life."),
            "kind": KIND,
            "mode": text("One PUT, or parts.", enum=["single", "multipart"]),
            "part_size": nullable(count("Bytes of every part but the last; null as size.", 1)),
            "part_count": nullable(count("Null as size.", 1, maximum=PART_COUNT_MAX)),
            "received": RANGES,
            "needed": nullable(RANGES),
            "bytes_received": count(),
            "percent": {"type": ["number", "null"], "minimum": 0, "maximum": 100},
            "checksum": text("Whether its parts carry digests.", enum=["sha256", "none"]),
            "integrity": text("What S3 has proven.", enum=["sha256", "size_only"]),
            "metadata": free("As sent."),
            "created_at": when("When it was begun."),
            "updated_at": when("When its record last changed."),
            "expires_at": when("When the session ends."),
        },
        {
            "seconds_left": number("At the speed so far; while parts are arriving."),
            "duration_s": number("From its beginning until all bytes were there."),
            "fingerprint": text(pattern="^v1:[0-9a-f]{64}$"),
            "description": LABELS["description"],
            "data_type": LABELS["data_type"],
            "failure": ref("Failure"),
            "parts": array(
                objects(
                    "A part as S3 has it.",
                    {
                        "part_number": count(minimum=1, maximum=PART_COUNT_MAX),
                        "size": count(),
                        "sha256": nullable(text("Base64; null without digests.")),
                    },
                ),
                "With parts=true, while the upload is open.",
            ),
        },
    )


def _file_summary() -> Schema:
    return objects(
        "A line of a list.",
        {
            "upload_id": text(pattern=FILE_ID),
            "file_id": text(pattern=FILE_ID),
            "name": text(),
            "size": nullable(count("Null as in the upload's state.")),
            "status": STATUS_OF_FILE,
            "final": flag("Whether this is the end of its life."),
            "kind": KIND,
            "mode": text(enum=["single", "multipart"]),
            "part_size": nullable(count(minimum=1)),
            "part_count": nullable(count(minimum=1)),
            "created_at": when("When it was begun."),
            "updated_at": when("When its record last changed."),
        },
        {
            **LABELS,
            "format": text(),
            "fingerprint": text(),
            "expires_at": when("When the session ends."),
            "failure": ref("Failure"),
            "thumbnail": _thumbnail(),
        },
    )


def _thumbnail() -> Schema:
    return objects(
        "A picture of the picture.",
        {
            "size": count("Longest edge in pixels.", 1),
            "width": count(minimum=1),
            "height": count(minimum=1),
            "placeholder": flag("Made because the file could not be decoded."),
            "provisional": flag("Made of what was there before the whole file was."),
            "url": url("A signed GET, for an img."),
        },
    )


def _file() -> Schema:
    facts: dict[str, Schema] = {
        "width": count("Pixels as stored, before orientation; 0: only decoding tells."),
        "height": count("Pixels as stored."),
        "mode": text("Of a picture: its mode in Pillow's names."),
        "bits_per_sample": count(),
        "compression": text(),
        "pages": count(),
        "orientation": count(),
        "estimated_memory_bytes": count("Of decoding the whole picture at once."),
        "interlaced": flag("Whether it is stored in passes."),
        "sampled": number("Samples of each pixel and band that are stored."),
        "levels": count("Sizes that the file holds, the picture itself included."),
        "make": text("Of the camera."),
        "model": text("Of the camera."),
        "captured_at": text("The camera's clock, ISO 8601; with an offset where the camera knew one."),
        "gps": objects(
            "Where the picture was taken, only when asked for: degrees, south and west negative.",
            {
                "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                "longitude": {"type": "number", "minimum": -180, "maximum": 180},
            },
            {"altitude_m": {"type": "number"}},
        ),
    }
    stage = {
        **objects("What one function read and wrote for it.", {}),
        "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
    }
    return objects(
        "All that is known of a file.",
        {
            "file_id": text(pattern=FILE_ID),
            "upload_id": text(pattern=FILE_ID),
            "name": text(),
            "size": nullable(count("Bytes; null as in the upload's state.")),
            "status": STATUS_OF_FILE,
            "final": flag("Whether this is the end of its life."),
            "kind": KIND,
            "checksums": ref("Checksums"),
            "integrity": text(enum=["sha256", "size_only"]),
            "thumbnails": array(_thumbnail()),
            "thumbnail_generated": flag("Whether there are thumbnails."),
            "preview_generated": flag("Whether they show the picture; placeholders do not."),
            "bytes_read": count("Of the source, by the function that made its thumbnails (else validated it)."),
            "requests": count("Reads of the source by that function, retries included."),
            "stages": {"type": "object", "additionalProperties": stage, "description": "By function."},
            "metadata": free("As sent."),
            "created_at": when("When it was begun."),
            "updated_at": when("When its record last changed."),
        },
        {
            **LABELS,
            **facts,
            "format": text("TIFF, DNG, JPEG, CSV, ..."),
            "valid": flag("Whether the rules take the table, JSON or text."),
            "records": count("Of the table, JSON or text, good or bad."),
            "media_type": text(),
            "failure": ref("Failure"),
            "scan": objects(
                "What a malware scanner said, where one is asked.",
                {
                    "status": text("WAITING, or GuardDuty's word: NO_THREATS_FOUND, THREATS_FOUND, UNSUPPORTED, ..."),
                    "at": when("When it said so, or the waiting began."),
                },
                {"threats": array(text("A threat's name."))},
            ),
            "dicom": objects(
                "What became of a DICOM file.",
                {"outcome": text("stored, duplicate, conflict, stray, expanded, not_dicom, truncated, ...")},
                {
                    **{name: text() for name in ("study_uid", "series_uid", "sop_uid")},
                    "warnings": array(text("What is odd about it.")),
                },
            ),
            "decision": objects(
                "How it was decoded, and why.",
                {"method": text(), "reason": text(), "estimated_memory_bytes": count()},
            ),
            "finished_at": when("When it ended."),
        },
    )


def _batch() -> Schema:
    counted = ("total", "received", "processed", "succeeded", "failed", "skipped", "duplicates")
    return objects(
        "A batch; its counts are exact as of now, and processed = succeeded + failed + skipped + duplicates.",
        {
            "batch_id": text(pattern=ULID),
            "status": text(enum=[status.value for status in BatchStatus]),
            "final": flag("Whether it has ended."),
            "message": text("One sentence for people."),
            **{name: count() for name in counted},
            "current_study": nullable(text()),
            "studies": count(),
            "errors": array(ref("BatchProblem"), "The first 100.", maxItems=100),
            "warnings": array(ref("BatchProblem"), "The first 100.", maxItems=100),
            "kind": KIND,
            "mode": text(enum=["post", "put"]),
            "listed": count("Entries of its manifest."),
            "metadata": free("As sent."),
            "created_at": when("When it was begun."),
            "updated_at": when("When it last changed."),
        },
        {
            "facility": text(),
            "expires_at": when("When it ends by itself."),
            "finished_at": when("When it ended."),
            "files": array(ref("BatchFile"), "With wait, of batches of up to 100 files.", maxItems=100),
        },
    )


def _batch_file() -> Schema:
    return objects(
        "A file of a batch.",
        {
            "n": count(),
            "file_id": text(pattern=FILE_ID),
            "name": nullable(text()),
            "size": nullable(count()),
            "status": STATUS_OF_FILE,
            "verdict": nullable(
                text("A final status, or of DICOM skipped, duplicate, expanded; null while there is none.")
            ),
        },
        {
            "relative_path": LABELS["relative_path"],
            "kind": KIND,
            "format": text(),
            "outcome": text("Of DICOM: stored, duplicate, conflict, stray, expanded, not_dicom, truncated, ..."),
            "study_uid": text("Of DICOM."),
            "series_uid": text("Of DICOM."),
            "sop_uid": text("Of DICOM."),
            "warnings": array(text("What is odd about a DICOM file that is stored all the same.")),
            "code": text("Why it failed."),
            "message": text("The same in a sentence."),
        },
    )


def _archive() -> Schema:
    done = {
        "percent": number("Of the members' bytes."),
        "bytes_total": count("Bytes of all members."),
        "bytes_done": count("Bytes of those that are in their place."),
        "members_done": count("Members that are in their place."),
        "parts_done": count("Parts that S3 has."),
    }
    return objects(
        "A ZIP of stored files, and its making.",
        {
            "archive_id": text(pattern=ULID),
            "status": text("Where it stands.", enum=[status.value for status in ArchiveStatus]),
            "final": flag("Whether nothing more happens by itself, but that a completed one expires."),
            "name": text("Of the download."),
            "package": text("What is made of the files.", enum=["plain", "bagit"]),
            "on_missing": text("What a file does that cannot be archived.", enum=["fail", "skip"]),
            "requested": free("What was asked for: batch_id, logical_id, study_uid, or how many files."),
            "size": nullable(count("Bytes of the archive; null before it is there.")),
            "members": nullable(count("What it holds, METS and table among it; null before it is listed.")),
            "missing": nullable(count("Files that it does without; a report inside names them.")),
            "bytes_in": count("Bytes of objects that functions read for it."),
            "bytes_out": count("Bytes of objects that functions wrote for it."),
            "bytes_through": count("The larger of the two: everything else S3 copied by itself."),
            "requests": count("Requests of S3 that functions made for it."),
            "parts": count("Parts that S3 joins."),
            "crc32": nullable(text("CRC-32 of the whole, base64; S3 has proven it.")),
            "progress": objects("How far it is.", done),
            "reused": flag("Whether it was there already."),
            "created_at": when("When it was asked for."),
            "updated_at": when("When its job last changed."),
        },
        {
            "expires_at": when("Until when it is kept."),
            "finished_at": when("When it ended."),
            "failure": ref("Failure"),
        },
    )


def _member() -> dict[str, Schema]:
    return {
        "n": count("Its number, from 0."),
        "name": text("Its name in the archive."),
        "size": count("Its bytes."),
        "offset": count("Where they begin in the archive."),
        "crc32": text("CRC-32 of its bytes, base64."),
    }


def _list_of(name: str) -> Schema:
    return objects(
        "A page.",
        {"items": array(ref(name)), "next_token": nullable(text("Asks for the next page; null on the last."))},
    )


def _one_upload() -> Schema:
    return objects(
        "A session, or the problem why there is none.",
        {"client_id": nullable(text("As sent."))},
        {
            "upload_id": text("Also the file_id.", pattern=FILE_ID),
            "mode": text("One PUT, or parts.", enum=["single", "multipart"]),
            "part_size": count("Bytes of every part but the last.", 1),
            "part_count": count(minimum=1, maximum=PART_COUNT_MAX),
            "expires_at": when("When the session ends."),
            "put": objects("The PUT of a small file whose digest is known.", SIGNED_PUT),
            "problem": ref("Problem"),
        },
    ) | {"oneOf": [{"required": ["problem"]}, {"required": ["upload_id", "mode", "part_size", "part_count"]}]}


def answers() -> dict[str, Schema]:
    """Name -> schema of every answer and its pieces."""
    counts = (
        "active_uploads",
        "active_bytes",
        "average_bytes_per_s",
        "uploads_today",
        "uploads_week",
        "total",
        "succeeded",
        "failed",
        "bytes_total",
        "bytes_average",
    )
    policy = objects(
        "A browser form for small files: POST the fields in this order, then the file.",
        {
            "url": url("POST the form here."),
            "fields": {"type": "object", "additionalProperties": {"type": "string"}},
            "expires_at": EXPIRES,
        },
    )
    check = objects("A component.", {"status": text(enum=["ok", "failed"])}, {"reason": text()})
    # DICOM's own: by tag, {"vr", "Value" | "BulkDataURI" | "InlineBinary"} (PS3.18 annex F).
    dataset: Schema = {"type": "object", "additionalProperties": {"type": "object", "required": ["vr"]}}
    return {
        "Problem": _problem(),
        "DicomDataset": {**dataset, "description": "A dataset in the DICOM JSON model."},
        "DicomJson": {"type": "array", "items": dataset, "description": "Datasets in the DICOM JSON model."},
        "GatewayMessage": objects("What the gateway itself answers.", {"message": nullable(text())}),
        "Failure": _failure(),
        "Checksums": objects(
            "What is known of its bytes.",
            {"sha256_proven": flag("Whether one reader has seen all bytes of the declared SHA-256.")},
            {
                "sha256": text("Of the whole file, hex, as declared.", pattern="^[0-9a-f]{64}$"),
                "sha256_composite": text("Of the parts' digests, base64 and -<count>."),
                "crc32": text("Of the whole file, base64."),
                "crc64nvme": text("Of the whole file, base64."),
            },
        ),
        "Uploads": objects("In the order asked for.", {"uploads": array(ref("Upload"))}),
        "Upload": _one_upload(),
        "SignedParts": objects(
            "In the order asked for.",
            {
                "parts": array(
                    objects("", {"part_number": count(minimum=1, maximum=PART_COUNT_MAX), **SIGNED_PUT}),
                )
            },
        ),
        "UploadStatus": _upload_status(),
        "Part": objects(
            "A part as S3 has it.",
            {
                "part_number": count(minimum=1, maximum=PART_COUNT_MAX),
                "size": count(),
                "etag": text(),
                "sha256": nullable(text("Base64; null without digests.")),
            },
            {"matches": flag("Whether its digest is the one asked about.")},
        ),
        "FileList": _list_of("FileSummary"),
        "FileSummary": _file_summary(),
        "File": _file(),
        "Completed": objects(
            "The upload is joined; or, with 202, about to be.",
            {"upload_id": text(pattern=FILE_ID), "status": STATUS_OF_FILE, "size": count()},
            {"checksums": ref("Checksums")},
        ),
        "UploadState": objects("Its state now.", {"upload_id": text(pattern=FILE_ID), "status": STATUS_OF_FILE}),
        "FileState": objects("Its state now.", {"file_id": text(pattern=FILE_ID), "status": STATUS_OF_FILE}),
        "Deleted": objects(
            "What was cleaned up.",
            {"deleted": count("Files."), "more": flag("Whether there is more: ask again.")},
        ),
        "AuditTrail": objects(
            "All that happened to a file, the oldest first.",
            {
                "items": array(
                    {
                        **objects(
                            "An event; further facts stand beside these members.",
                            {
                                "at": when("When."),
                                "event": text(),
                                "from": text("The state before."),
                                "to": text("The state after."),
                                "by": text("The user, or the function."),
                            },
                        ),
                        "additionalProperties": True,
                    }
                ),
                "dropped": count("Events that could not be kept."),
                "next_token": {"type": "null"},
            },
        ),
        "Link": objects("A signed GET.", {"url": url("GET the bytes here."), "expires_at": EXPIRES}),
        "Archive": _archive(),
        "ArchiveMember": objects("A member of an archive.", _member()),
        "ArchiveMembers": _list_of("ArchiveMember"),
        "ArchiveMemberLink": objects(
            "A member as a range of its archive.",
            {
                **_member(),
                "url": url("GET the archive here, with these headers."),
                "headers": objects("Must be sent.", {"range": text("The member's bytes.", pattern="^bytes=[0-9]+-")}),
                "expires_at": EXPIRES,
            },
        ),
        "Batch": _batch(),
        "BatchFile": _batch_file(),
        "BatchFiles": _list_of("BatchFile"),
        "BatchProblem": objects(
            "An entry of errors or warnings.",
            {"code": text(), "message": text()},
            {
                "n": count(),
                "file_id": text(pattern=FILE_ID),
                "name": text(),
                "relative_path": text(),
                "number": count("How many files it is about."),
            },
        ),
        "BatchBegun": objects(
            "The batch is open.",
            {
                "batch_id": text(pattern=ULID),
                "status": text(enum=[status.value for status in BatchStatus]),
                "expires_at": when("When it ends by itself."),
            },
            {"policy": policy},
        ),
        "Policy": policy,
        "Ticket": objects("A ticket.", {"endpoint": url("Ends with the ticket: a secret."), "expires_at": EXPIRES}),
        "ManifestPage": objects(
            "The page is kept.",
            {
                "batch_id": text(pattern=ULID),
                "page": count(),
                "entries": count("Of this page."),
                "listed": count("Of all pages."),
                "total": count(),
            },
        ),
        "SignedFiles": objects(
            "In the order asked for.",
            {"urls": array(objects("", {"n": count()}, {**SIGNED_PUT, "problem": ref("Problem")}))},
        ),
        "Study": objects(
            "A DICOM study; all its instances count, also those of other batches.",
            {
                "study_uid": text(),
                "modalities": array(text()),
                "series": count("That have instances."),
                "instances": count("Exact as of now."),
            },
            {
                **{name: text() for name in ("study_date", "description", "accession_number")},
                **{name: text() for name in ("patient_id", "patient_name")},
                "bytes": count("Once they are counted."),
                "thumbnails": array(
                    objects("Of a series, once somebody has asked for it.", {"series_uid": text(), "url": text()})
                ),
            },
        ),
        "Studies": _list_of("Study"),
        "Stats": objects(
            "As of the last sweep.",
            {"as_of": nullable(when("null before the first count.")), **{name: count() for name in counts}},
        ),
        "Health": objects(
            "Each component, asked once.",
            {
                "status": text(enum=["ok", "degraded"]),
                "checks": {"type": "object", "additionalProperties": check},
            },
        ),
    }
