"""The record of a file: its shape, its keys, and what a transition writes. No I/O here.

A record lives in one item, ``pk = T#<tenant>#F#<file_id>``, ``sk = F``. Every change raises ``version`` and
is written under the condition that the version read is still there, so of two writers one loses and reads again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from heavylift import forms, states
from heavylift.forms import Form
from heavylift.keys import store as plain_store_key
from heavylift.keys import store_dicom as dicom_store_key
from heavylift.limits import AUDIT_EVENTS_KEPT, AUDIT_EVENTS_MOVED, LEASE_MARGIN_S
from heavylift.states import FINAL, Event, State

LOGICAL_ID_BYTES_MAX = 1_500


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file from initiate to its end. Times are seconds since 1970, sizes bytes.

    ``size_known`` is False for an upload that nobody announced a size for, until its bytes are counted: ``size`` and
    the part plan are 0 then. ``by_ticket``: it was begun with a Companion ticket, and tickets reach no other.
    """

    tenant: str
    file_id: str
    name: str
    size: int
    status: State
    size_known: bool = True
    by_ticket: bool = False
    version: int = 1
    kind: str = "other"
    mode: str = "single"
    part_size: int = 0
    part_count: int = 1
    lane: str = "in"
    key: str = ""
    s3_upload_id: str | None = None
    checksum: str = "sha256"
    declared_type: str | None = None
    declared_kind: str | None = None
    declared_sha256: str | None = None
    user: str = ""
    client_id: str | None = None
    fingerprint: str | None = None
    logical_id: str | None = None
    relative_path: str | None = None
    description: str | None = None
    data_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Any] | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float = 0.0
    staged_at: float | None = None
    finished_at: float | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    events_dropped: int = 0
    stage: str | None = None
    attempt: int = 0
    progress: int = 0
    fence: int = 0
    lease_owner: str | None = None
    lease_until: float = 0.0
    resent_at: float = 0.0
    due_at: float | None = None
    failure: Mapping[str, Any] | None = None
    outbox: tuple[Mapping[str, Any], ...] = ()
    purged_at: float | None = None
    etag: str | None = None
    store_upload_id: str | None = None
    store_etag: str | None = None
    store_version_id: str | None = None
    checksums: Mapping[str, Any] = field(default_factory=dict)
    format: str | None = None
    media_type: str | None = None
    facts: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    scan: Mapping[str, Any] | None = None
    recheck: Mapping[str, Any] | None = None
    decision: Mapping[str, Any] | None = None
    thumbnails: tuple[Mapping[str, Any], ...] = ()
    thumbnail_generated: bool = False
    preview_generated: bool = False
    dicom: Mapping[str, Any] | None = None
    """What dicom_ingest found: verdict, its letter for the batch (``mark``), UIDs, warnings; ``stored_as``: the key of
    the file that has the same bytes, for one that is not stored itself."""
    bytes_read: int = 0
    requests: int = 0
    stages: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def stored(self) -> bool:
        return self.status in states.STORED

    @property
    def is_dicom(self) -> bool:
        """Whether dicom_ingest is the one that judges it: it came into its lane, or validate found it out."""
        return self.lane == "dicom" or self.format == "DICOM"

    @property
    def store_key(self) -> str:
        """Where its own bytes are in the store, or would be."""
        build = dicom_store_key if self.is_dicom else plain_store_key
        return build(self.tenant, self.file_id)

    @property
    def content_key(self) -> str:
        """Where its content is read: a duplicate has none of its own."""
        return str((self.dicom or {}).get("stored_as") or self.store_key)


_FORM: Form[FileRecord] = Form(FileRecord, State)
# The item of the key that seals page tokens and tickets.
SEALING_KEY = {"pk": "T#_#CONFIG", "sk": "HMAC"}


def batch_partition(tenant: str, batch_id: str) -> str:
    """A batch and all its members lie in one partition, so that they can be counted with strong consistency."""
    return f"T#{tenant}#B#{batch_id}"


def batch_of(partition: str) -> tuple[str, str]:
    """(tenant, batch id) of a batch's partition."""
    _, tenant, _, batch_id = partition.split("#")
    return tenant, batch_id


def item_key(tenant: str, file_id: str) -> dict[str, str]:
    """Of a file by itself, or of a batch's member (``<batch_id>-<n>``)."""
    batch_id, dash, number = file_id.partition("-")
    if dash:
        return {"pk": batch_partition(tenant, batch_id), "sk": f"F#{number}"}
    return {"pk": f"T#{tenant}#F#{file_id}", "sk": "F"}


def list_partition(tenant: str) -> str:
    return f"T#{tenant}#FILES"


def status_partition(tenant: str, group: str) -> str:
    return f"T#{tenant}#S#{group}"


def fingerprint_partition(tenant: str, fingerprint: str) -> str:
    return f"T#{tenant}#P#{fingerprint}"


def logical_key(text: str) -> str:
    """A logical id as the index keeps it: a partition key has at most 2 048 bytes, the tenant's name among them."""
    return text.encode()[:LOGICAL_ID_BYTES_MAX].decode(errors="ignore")


def logical_partition(tenant: str, logical_id: str) -> str:
    return f"T#{tenant}#L#{logical_id}"


def index_attributes(record: FileRecord) -> dict[str, str | None]:
    """The attributes that put the record into the table's sparse indexes; None = not in that index."""
    tenant, file_id = record.tenant, record.file_id
    # A tombstone is found by its id and by its status only.
    there = record.status is not State.DELETED
    fingerprint, logical_id = (record.fingerprint, record.logical_id) if there else (None, None)
    return {
        "list_pk": list_partition(tenant) if there else None,
        "list_sk": file_id if there else None,
        "status_pk": status_partition(tenant, states.list_group(record.status)),
        "status_sk": file_id,
        "fingerprint_pk": fingerprint_partition(tenant, fingerprint) if fingerprint else None,
        "fingerprint_sk": file_id if fingerprint else None,
        "logical_pk": logical_partition(tenant, logical_id) if logical_id else None,
        "logical_sk": file_id if logical_id else None,
        **forms.due_index(file_id, record.due_at),
    }


def to_item(record: FileRecord) -> dict[str, Any]:
    """The whole item as plain values; what is None or empty is left out."""
    indexes = {name: value for name, value in index_attributes(record).items() if value is not None}
    return {**item_key(record.tenant, record.file_id), **_FORM.attributes(record), **indexes}


def from_item(item: Mapping[str, Any]) -> FileRecord:
    """The record of an item; attributes that we do not know are left alone."""
    return _FORM.record(item)


@dataclass(frozen=True, slots=True)
class Change:
    """A conditional write: the record after it, what to set and what to remove, and the version it needs.

    ``overflow``: the oldest audit events, which leave the item by this write and are kept elsewhere before it.
    """

    record: FileRecord
    version_expected: int
    sets: Mapping[str, Any]
    removes: tuple[str, ...]
    overflow: tuple[Mapping[str, Any], ...] = ()


def change(record: FileRecord, now: float, **values: Any) -> Change:
    """Set fields of ``record``; only what differs is written. ValueError for a field that does not exist."""
    unknown = values.keys() - _FORM.names
    if unknown:
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    after = replace(record, **values, version=record.version + 1, updated_at=now)
    sets, removes = forms.difference(to_item(record), to_item(after))
    return Change(after, record.version, sets, removes)


def with_event(record: FileRecord, entry: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Mapping[str, Any], ...]]:
    """The field values after an audit event was added, and the events that leave the item.

    The item keeps at least the newest 32; older ones leave it by 16, so that most writes move none.
    """
    events = (*record.events, entry)
    moved = AUDIT_EVENTS_MOVED if len(events) >= AUDIT_EVENTS_KEPT + AUDIT_EVENTS_MOVED else 0
    return {"events": events[moved:], "events_dropped": record.events_dropped + moved}, events[:moved]


def note(record: FileRecord, event: str, now: float, by: str, **facts: Any) -> Change:
    """Add an audit event that is no transition: something was seen that the trail must tell."""
    entry = {"at": round(now, 3), "event": event, "from": record.status.value, "to": record.status.value, "by": by}
    values, overflow = with_event(record, {**entry, **facts})
    return replace(change(record, now, **values), overflow=overflow)


# What the world is told when a file ends; ``status`` in the event tells completed from completed_with_errors.
ANNOUNCED: Mapping[State, str] = {
    State.COMPLETED: "file.completed",
    State.COMPLETED_WITH_ERRORS: "file.completed",
    State.REJECTED: "file.rejected",
    State.FAILED: "file.failed",
    State.CANCELLED: "file.cancelled",
    State.EXPIRED: "file.expired",
    State.DELETED: "file.deleted",
}


def transition(record: FileRecord, event: Event, now: float, by: str, **values: Any) -> Change | None:
    """Apply ``event``: the change to write, or None when it changes nothing.

    RequestError ``state_conflict`` when the table refuses the event. An audit entry {at, event, from, to, by}
    is added. A transition into a final state owes the world an announcement: it is noted in ``outbox`` by the same
    write, and the record stays due until somebody has made it.
    """
    following = states.next_state(record.status, event)
    if following is record.status and not values:
        return None
    entry: dict[str, Any] = {
        "at": round(now, 3),
        "event": event.value,
        "from": record.status.value,
        "to": following.value,
        "by": by,
    }
    if values.get("attempt"):
        entry["attempt"] = values["attempt"]
    failure = values.get("failure")
    if failure:
        entry["code"] = failure["code"]
    audit, overflow = with_event(record, entry)
    if following in FINAL:
        values = {"lease_owner": None, "lease_until": 0.0, **values}
        if following is not record.status:
            # The fence takes the say from whoever still works on it.
            owed = {
                "type": ANNOUNCED[following],
                "version": record.version + 1,
                "at": round(now, 3),
                "status": following.value,
            }
            ended = {"finished_at": now, "due_at": now, "outbox": (*record.outbox, owed), "purged_at": None}
            values = {**ended, "fence": record.fence + 1, **values}
    return replace(change(record, now, status=following, **audit, **values), overflow=overflow)


def lease_seconds(timeout_s: float, time_scale: float) -> float:
    """How long a worker may hold a file: its timeout and a margin, on the scaled clock."""
    return (timeout_s + LEASE_MARGIN_S) / time_scale


def iso(seconds: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
