"""What others are told: every event fits its published schema, and no event tells what it must not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from moto.events.models import EventPattern

from heavylift import announcements, bus, limits, records
from heavylift.announcements import BATCH_TOTALS, BATCH_TYPES, BusEvent, archive_event, batch_event, file_event
from heavylift.archives import jobs
from heavylift.records import ANNOUNCED, FileRecord
from heavylift.settings import Settings
from heavylift.states import FINAL, State
from infra import topology
from tests.heavylift import event_schemas
from tests.heavylift.event_schemas import EVENTS

CONFIG = Settings(staging_bucket="b-staging", store_bucket="b-store", derived_bucket="b-derived")
DESCRIBED = {event.name: event for event in EVENTS}
ID, MEMBER = "01JD2Z3NDEKTSV4RRFFQ69G5FA", "01JD2Z3NDEKTSV4RRFFQ69G5FA-000042"
FAILURE = {"code": "truncated", "message": "The file ends early.", "stage": "validate", "retryable": False, "size": 7}
PICTURE = {"size": 256, "width": 256, "height": 200, "placeholder": False, "provisional": False, "bytes": 9}


def entry_of(record: FileRecord, version: int = 9, at: float = 1_763_596_815.1234) -> dict[str, Any]:
    return {"type": ANNOUNCED[record.status], "version": version, "at": at, "status": record.status.value}


def told(record: FileRecord, **entry: Any) -> Mapping[str, Any]:
    return file_event(record, {**entry_of(record), **entry}, CONFIG).detail


def a_record(status: State = State.COMPLETED, **fields: Any) -> FileRecord:
    usual: dict[str, Any] = {
        "name": "scan_001.tif",
        "kind": "image",
        "format": "TIFF",
        "media_type": "image/tiff",
        "created_at": 1_763_596_800.0,
    }
    return FileRecord("acme", ID, size=10, status=status, **{**usual, **fields})


def fields_of(value: Any, path: str = "") -> set[str]:
    """The paths of an event's fields, as docs/events.md names them."""
    found: set[str] = set()
    for name, inner in value.items():
        here = f"{path}{name}"
        found.add(here)
        if isinstance(inner, Mapping):
            found |= fields_of(inner, f"{here}.")
        elif isinstance(inner, list):
            for one in inner:
                found |= fields_of(one, f"{here}[].")
    return found


def described(schema: Mapping[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for name, inner in schema["properties"].items():
        here = f"{path}{name}"
        found.add(here)
        if "items" in inner:
            found |= described(inner["items"], f"{here}[].")
        elif "properties" in inner:
            found |= described(inner, f"{here}.")
    return found


def check(event: BusEvent) -> None:
    """It is as its schema says, has no field that the schema does not name, and can be put."""
    schema = json.loads(event_schemas.path(DESCRIBED[event.type]).read_text())
    detail = json.loads(json.dumps(event.detail))
    problems = [error.message for error in Draft202012Validator(schema).iter_errors(detail)]
    assert problems == []
    assert fields_of(detail) <= described(schema)
    owner = next(detail[name] for name in ("file_id", "archive_id", "batch_id") if name in detail)
    assert event.id == detail["id"] == f"{owner}-{detail['record_version']}"
    assert records.iso(event.at) == detail["at"]
    entry = {"Source": bus.SOURCE, "DetailType": event.type, "Detail": json.dumps(event.detail, ensure_ascii=False)}
    assert bus.entry_bytes(entry) < bus.CALL_BYTES_MAX // 4


words = st.text(max_size=30)
names = st.one_of(
    words, st.sampled_from(["a.tif", "b.dcm", "IM0001", "t.csv", "x" * 5_000, "\x01" * 5_000, "🙂" * 5_000])
)
rules = st.sampled_from([*limits.TYPES, None])


@st.composite
def ended_records(draw: st.DrawFn) -> FileRecord:
    rule = draw(rules)
    looked_at = draw(st.booleans())
    return FileRecord(
        tenant=draw(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)),
        file_id=draw(st.sampled_from([ID, MEMBER])),
        name=draw(names),
        size=draw(st.integers(0, limits.OBJECT_SIZE_MAX)),
        status=draw(st.sampled_from(sorted(FINAL))),
        version=draw(st.integers(1, 10**6)),
        kind=rule.kind if rule else draw(st.sampled_from(limits.KINDS)),
        format=rule.formats[0] if rule and looked_at else None,
        media_type=rule.media_type if rule and looked_at else None,
        lane=draw(st.sampled_from(["in", "dicom"])),
        declared_type=draw(st.one_of(st.none(), words, st.just("application/dicom"))),
        declared_kind=draw(st.one_of(st.none(), st.sampled_from(limits.KINDS))),
        declared_sha256=draw(st.one_of(st.none(), st.from_regex(r"[0-9a-f]{64}", fullmatch=True))),
        user=draw(words),
        client_id=draw(st.one_of(st.none(), names)),
        logical_id=draw(st.one_of(st.none(), names)),
        created_at=draw(st.floats(0, 4e9)),
        failure=draw(
            st.one_of(
                st.none(),
                st.fixed_dictionaries(
                    {"code": st.just("x"), "message": names, "stage": words, "retryable": st.booleans()},
                    optional={"attempts": st.integers()},
                ),
            )
        ),
        store_etag=draw(st.one_of(st.none(), st.just("e" * 32))),
        store_version_id=draw(st.one_of(st.none(), st.just("v1"))),
        checksums=draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "sha256_proven": st.booleans(),
                    "crc32": st.just("AAAAAA=="),
                    "sha256_composite": st.just("a-2"),
                },
            )
        ),
        facts=draw(
            st.one_of(st.none(), st.fixed_dictionaries({"width": st.integers(1, 10**6), "height": st.just(1.0)}))
        ),
        thumbnails=tuple({**PICTURE, "key": f"thumbnails/t/{n}.jpg"} for n in range(draw(st.integers(0, 3)))),
    )


@given(
    ended_records(),
    st.sampled_from(sorted(FINAL)),
    st.integers(1, 10**6),
    st.floats(0, 4e9),
)
def test_every_event_of_a_file_fits_its_schema(record: FileRecord, then: State, version: int, at: float) -> None:
    """Whatever the record says by now, and whatever end of it is told."""
    event = file_event(record, {"type": ANNOUNCED[then], "version": version, "at": at, "status": then.value}, CONFIG)

    check(event)
    assert event.type == ANNOUNCED[then]
    assert (event.detail["status"], event.detail["final"]) == (then.value, True)


@given(
    st.sampled_from(sorted(BATCH_TYPES)),
    st.lists(st.integers(0, 10**9), min_size=7, max_size=7),
    st.one_of(st.none(), st.floats(0, 4e9)),
)
def test_every_event_of_a_batch_fits_its_schema(status: str, numbers: list[int], created_at: float | None) -> None:
    """Each end has its type."""
    totals = dict(zip(BATCH_TOTALS, numbers, strict=True))
    event = batch_event(
        tenant="acme", batch_id=ID, kind="dicom", status=status, version=4, at=7.0, totals=totals,
        created_at=created_at, config=CONFIG,
    )  # fmt: skip

    check(event)
    assert event.detail["totals"] == totals
    assert event.detail["status"] in DESCRIBED[event.type].statuses


SECRET = "Doe^Jane"


def archive_told(status: str, **fields: Any) -> BusEvent:
    job = jobs.ArchiveJob(
        "acme", ID, f"{SECRET}.zip", jobs.ArchiveStatus(status), content_sha256="0" * 64, etag="e-2", crc32="AAAAAA==",
        size=7, members=3, expires_at=9.0, wanted={"logical_id": SECRET},
        failure={**FAILURE, "message": f"{SECRET} is gone", "file_id": MEMBER, "member": SECRET},
        **fields,
    )  # fmt: skip
    owed = {"type": f"archive.{status}", "version": 4, "at": 7.0, "status": status}
    return archive_event(job, owed, CONFIG)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("user", ["", "user-1"])
def test_every_event_of_an_archive_fits_its_schema(status: str, user: str) -> None:
    """Without a name in it: neither the archive's nor, in the words of a failure, a file's."""
    event = archive_told(status, user=user)

    check(event)
    assert SECRET not in json.dumps(event.detail)
    assert ("object" in event.detail, "failure" in event.detail) == (status == "completed", status == "failed")


def test_an_archive_that_is_gone_leaves_no_trail() -> None:
    """Told late, its end names no object that is there no more; a failure that was none is not told."""
    job = jobs.ArchiveJob("acme", ID, "a.zip", jobs.ArchiveStatus.EXPIRED, content_sha256="0" * 64, etag="e", size=1,
                          crc32="AAAAAA==", expires_at=3.0)  # fmt: skip
    owed = {"type": "archive.completed", "version": 4, "at": 2.0, "status": "completed"}
    event = archive_event(job, owed, CONFIG)

    check(event)
    assert "object" not in event.detail


def test_a_batch_that_has_not_ended_has_no_event() -> None:
    """Nor has one whose numbers are not all there."""
    with pytest.raises(KeyError):
        batch_event(
            tenant="a", batch_id=ID, kind="x", status="open", version=1, at=1, totals=dict.fromkeys(BATCH_TOTALS, 0)
        )
    with pytest.raises(KeyError):
        batch_event(tenant="a", batch_id=ID, kind="x", status="expired", version=1, at=1, totals={"total": 1})


def test_what_a_completed_file_tells() -> None:
    """Enough to find the bytes and the pictures, and to file them."""
    detail = told(
        a_record(
            user="user-1",
            client_id="a7",
            logical_id="scan",
            store_etag="e",
            store_version_id="v",
            checksums={"sha256_proven": False, "crc32": "AAAAAA=="},
            facts={"width": 30, "height": 20, "mode": "RGB"},
            thumbnails=({**PICTURE, "key": "thumbnails/acme/x/1-256.jpg"},),
        )
    )

    assert detail == {
        "version": 1,
        "id": f"{ID}-9",
        "at": "2025-11-20T00:00:15.123Z",
        "store_bucket": "b-store",
        "tenant": "acme",
        "user": "user-1",
        "file_id": ID,
        "record_version": 9,
        "status": "completed",
        "final": True,
        "name": "scan_001.tif",
        "client_id": "a7",
        "logical_id": "scan",
        "kind": "image",
        "format": "TIFF",
        "media_type": "image/tiff",
        "size": 10,
        "width": 30,
        "height": 20,
        "checksums": {"sha256_proven": False, "crc32": "AAAAAA=="},
        "object": {"bucket": "b-store", "key": f"files/acme/{ID}", "version_id": "v", "etag": "e"},
        "thumbnails": [
            {
                **{name: PICTURE[name] for name in ("size", "width", "height", "placeholder")},
                "bucket": "b-derived",
                "key": "thumbnails/acme/x/1-256.jpg",
            }
        ],
        "created_at": "2025-11-20T00:00:00.000Z",
    }


@pytest.mark.parametrize("status", [State.REJECTED, State.FAILED, State.COMPLETED_WITH_ERRORS])
def test_the_reason_of_a_failure(status: State) -> None:
    """Code, sentence, stage and whether a retry helps; a long sentence is cut."""
    detail = told(a_record(status, failure={**FAILURE, "message": "x" * 5_000}))

    assert detail["failure"].keys() == {"code", "message", "stage", "retryable"}
    assert len(detail["failure"]["message"]) == announcements.MESSAGE_LENGTH_MAX
    assert detail["failure"]["message"].endswith("x…")


def test_a_late_event_tells_of_its_own_moment() -> None:
    """A file that failed, was tried again and completed: the failure is told under its version, without a reason."""
    record = a_record(failure=FAILURE, store_etag="e")
    detail = told(record, type="file.failed", version=5, status="failed", at=3.0)

    assert (detail["id"], detail["record_version"], detail["status"]) == (f"{ID}-5", 5, "failed")
    assert detail["at"] == "1970-01-01T00:00:03.000Z"
    assert "failure" not in detail


def test_a_deleted_file_leaves_no_trail_to_its_bytes() -> None:
    """Neither in its own event nor in one of an earlier end that is told after it."""
    record = a_record(State.DELETED, store_etag="e", thumbnails=({**PICTURE, "key": "thumbnails/x"},))
    for entry in ({}, {"type": "file.completed", "version": 3, "status": "completed"}):
        detail = told(record, **entry)
        assert "object" not in detail
        assert "thumbnails" not in detail


def test_a_member_names_its_batch() -> None:
    """Batch and number are told apart; the file's own id stays whole."""
    record = FileRecord("acme", MEMBER, "a.csv", 1, State.CANCELLED, kind="table")
    detail = told(record)

    assert (detail["file_id"], detail["batch_id"], detail["n"]) == (MEMBER, ID, 42)
    assert "batch_id" not in told(a_record())


PATIENTS: list[dict[str, Any]] = [
    {"kind": "dicom"},
    {"kind": "dicom", "format": "DICOM", "media_type": "application/dicom"},
    {"kind": "other", "format": "DICOM"},
    {"kind": "other", "lane": "dicom"},
    {"kind": "image", "declared_kind": "dicom"},
    {"kind": "image", "declared_type": "application/dicom; transfer-syntax=*"},
    {"kind": "image", "name": f"{SECRET}.DCM"},
    {"kind": "other", "format": None, "media_type": None},
    {"kind": "image", "failure": {**FAILURE, "code": "type_mismatch", "detected": "application/dicom"}},
]


@pytest.mark.parametrize("fields", PATIENTS)
@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_patients_name_is_never_told(status: State, fields: Mapping[str, Any]) -> None:
    """DICOM by content, by what was said of it, by its name, or unknown: no label, and no free text."""
    record = a_record(
        status,
        **{
            "format": None,
            "media_type": None,
            "name": f"{SECRET}.bin",
            "client_id": SECRET,
            "logical_id": SECRET,
            "relative_path": f"{SECRET}/1",
            "description": SECRET,
            "data_type": SECRET,
            "metadata": {"patient": SECRET},
            "fingerprint": f"v1:{SECRET}",
            "facts": {"PatientName": SECRET, "width": 1},
            "rules": {"x": SECRET},
            "events": ({"at": 1, "event": "x", "by": SECRET},),
            "failure": {**FAILURE, "value": SECRET},
            **fields,
        },
    )

    event = file_event(record, entry_of(record), CONFIG)
    assert SECRET not in json.dumps(event.detail)
    check(event)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": None, "media_type": None},  # an image by what was declared
        {"kind": "other", "format": "Unknown", "media_type": "application/octet-stream"},  # looked at
        {"kind": "other", "format": None, "media_type": None, "name": "table.csv"},
    ],
)
def test_other_files_have_their_labels(fields: Mapping[str, Any]) -> None:
    """A receiver recognises what it sent."""
    detail = told(a_record(State.EXPIRED, client_id="a7", logical_id="scan", **fields))

    assert (detail["client_id"], detail["logical_id"]) == ("a7", "scan")
    assert detail["name"]


@given(ended_records())
def test_no_event_holds_a_link(record: FileRecord) -> None:
    """Keys of S3, never a URL that somebody signed."""
    text = json.dumps(file_event(record, entry_of(record), CONFIG).detail)

    assert "X-Amz" not in text
    assert not re.search(r'"(https?|s3)://', text)


def test_our_events_start_nothing_of_ours() -> None:
    """No rule of the topology asks for them, so that no file is handled because of what was said of it."""
    for rule in topology.RULES:
        pattern = EventPattern.load(json.dumps(rule.pattern(CONFIG.store_bucket)))
        for event in EVENTS:
            detail = told(a_record(store_etag="e")) if event.name.startswith("file.") else {"batch_id": ID}
            for also in ({}, {"bucket": {"name": CONFIG.store_bucket}, "object": {"key": f"{rule.prefix}acme/{ID}"}}):
                envelope = {"source": bus.SOURCE, "detail-type": event.name, "detail": {**detail, **also}}
                assert not pattern.matches_event(envelope), (rule.name, event.name)


# The documents.


def test_the_documents_are_up_to_date() -> None:
    """`python -m tests.heavylift.event_schemas` would change nothing."""
    assert {path.name for path in event_schemas.FOLDER.iterdir()} == {
        event_schemas.path(event).name for event in EVENTS
    }
    for event in EVENTS:
        assert event_schemas.path(event).read_text() == event_schemas.text(event), event.name
    document = event_schemas.DOCUMENT.read_text()
    assert event_schemas.rendered(document) == document


def test_every_type_and_field_is_described() -> None:
    """Types are those that are told; the page names every field of every schema."""
    page = event_schemas.DOCUMENT.read_text()

    assert DESCRIBED.keys() == {*ANNOUNCED.values(), *BATCH_TYPES.values(), *jobs.ANNOUNCED.values()}
    for state, name in ANNOUNCED.items():
        assert state.value in DESCRIBED[name].statuses
    for event in EVENTS:
        assert f"| `{event.name}` |" in page
        for field in described(event_schemas.schema(event)):
            assert f"| `{field}` |" in page, field


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_the_schemas_are_schemas(event: event_schemas.EventType) -> None:
    """Of the dialect that they name; they are open and they do refuse what is wrong."""
    schema = event_schemas.schema(event)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    if event.name.startswith("file."):
        status = State(event.statuses[0])
        good = dict(
            told(a_record(status, failure=FAILURE, store_etag="e", thumbnails=({**PICTURE, "key": "thumbnails/x"},)))
        )
    elif event.name.startswith("archive."):
        good = dict(archive_told(event.statuses[0]).detail)
    else:
        totals = dict.fromkeys(BATCH_TOTALS, 1)
        made = batch_event(
            tenant="a", batch_id=ID, kind="x", status=event.statuses[0], version=1, at=1, totals=totals, config=CONFIG
        )
        good = dict(made.detail)

    assert validator.is_valid({**good, "added_later": {"x": 1}})
    for name in good:
        assert not validator.is_valid({**good, name: [7]}), name
    for name in schema["required"]:
        assert not validator.is_valid({key: value for key, value in good.items() if key != name}), name


def test_the_example_is_an_event() -> None:
    """What the page shows fits the schema and leaves out no field that is always there."""
    page = event_schemas.DOCUMENT.read_text()
    found = re.search(r"<!-- example: begin -->\n```json\n(.*?)```", page, re.DOTALL)
    assert found
    example = json.loads(found[1])
    schema = event_schemas.schema(DESCRIBED[example["detail-type"]])

    assert Draft202012Validator(schema).is_valid(example["detail"])
    assert fields_of(example["detail"]) <= described(schema)
    assert example["source"] == bus.SOURCE


def test_the_rules_of_the_page_match_events() -> None:
    """Both rules that the page shows take the completed file of its example, and no other tenant's."""
    page = event_schemas.DOCUMENT.read_text()
    shown = json.loads(re.search(r"--event-pattern '(\{.*?\})'", page, re.DOTALL)[1])  # type: ignore[index]
    pattern = EventPattern.load(json.dumps(shown))
    envelope = {"source": bus.SOURCE, "detail-type": "file.completed", "detail": dict(told(a_record()))}

    assert pattern.matches_event(envelope)
    assert not pattern.matches_event({**envelope, "detail": {**envelope["detail"], "tenant": "other"}})
    assert not pattern.matches_event({**envelope, "detail-type": "file.failed"})
    assert json.dumps(shown["detail"]) in page.split("CDK", 1)[1]
