"""Records: what an item holds, what a change writes, what a transition notes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift import ddb_json, forms, records
from heavylift.errors import RequestError
from heavylift.limits import AUDIT_EVENTS_KEPT, AUDIT_EVENTS_MOVED, DUE_SHARDS
from heavylift.records import ANNOUNCED, FileRecord, change, from_item, note, to_item, transition
from heavylift.states import FINAL, TRANSITIONS, Event, State

texts = st.one_of(st.none(), st.text(max_size=20))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
file_records = st.builds(
    FileRecord,
    tenant=st.just("acme"),
    file_id=st.just("01JD2Z3NDEKTSV4RRFFQ69G5FA"),
    name=st.text(min_size=1),
    size=st.integers(0, 10**14),
    status=st.sampled_from(list(State)),
    version=st.integers(1, 10**6),
    fingerprint=st.one_of(st.none(), st.just("v1:" + "a" * 64)),
    logical_id=st.one_of(st.none(), st.text(min_size=1, max_size=20)),
    description=texts,
    metadata=st.dictionaries(st.text(), json_values, max_size=3),
    rules=st.one_of(st.none(), st.dictionaries(st.text(), json_values, min_size=1, max_size=2)),
    due_at=st.one_of(st.none(), st.floats(0, 1e10)),
    lease_until=st.floats(0, 1e10),
    attempt=st.integers(0, 5),
    facts=st.one_of(st.none(), st.dictionaries(st.text(min_size=1), st.integers(0, 9), min_size=1, max_size=3)),
    events=st.lists(st.fixed_dictionaries({"at": st.floats(0, 1e9), "event": st.text()}), max_size=3).map(tuple),
)


@given(file_records)
def test_records_round_trip_through_the_table(record: FileRecord) -> None:
    """What is written is what is read, metadata to the last digit; None and empty take no room."""
    item = ddb_json.encode_item(to_item(record))

    assert from_item(ddb_json.decode_item(item)) == record
    assert not any(value in ({"NULL": True}, {"L": []}, {"M": {}}) for value in item.values())


@given(file_records)
def test_attributes_of_a_later_version_are_left_alone(record: FileRecord) -> None:
    """An unknown attribute is no error."""
    assert from_item({**to_item(record), "new_attribute": 5, "ttl": 1}) == record


@given(file_records, file_records)
def test_a_change_turns_one_item_into_the_other(before: FileRecord, after: FileRecord) -> None:
    """sets and removes, applied to the old item, make the new one, and hold nothing that did not change."""
    values = {
        name: getattr(after, name) for name in ("name", "status", "fingerprint", "due_at", "metadata", "rules", "facts")
    }
    made = change(before, 5.0, **values)
    old, item = to_item(before), to_item(before)
    item.update(made.sets)
    for name in made.removes:
        del item[name]

    assert item == to_item(made.record)
    assert (made.version_expected, made.record.version) == (before.version, before.version + 1)
    assert all(old.get(name) != value for name, value in made.sets.items())
    assert not set(made.removes) & set(made.sets)


def test_a_field_that_does_not_exist() -> None:
    """A typing error is no silent write."""
    record = FileRecord("t", "f", "n", 1, State.CREATED)
    with pytest.raises(ValueError, match="attempts"):
        change(record, 1.0, attempts=1)


@given(file_records, st.sampled_from(list(Event)))
def test_transitions_follow_the_table(record: FileRecord, event: Event) -> None:
    """Refused, unchanged, or one step with one audit entry; an end is held by nobody and owes one announcement."""
    following = TRANSITIONS[record.status, event]
    if following is None:
        with pytest.raises(RequestError):
            transition(record, event, 7.0, "somebody")
        return
    made = transition(record, event, 7.0, "somebody")
    if following is record.status:
        assert made is None
        return
    assert made is not None
    after = made.record
    assert after.status is following
    assert after.events[-1] == {
        "at": 7.0, "event": event.value, "from": record.status.value, "to": following.value, "by": "somebody",
    }  # fmt: skip
    if following in FINAL:
        assert (after.due_at, after.lease_owner, after.lease_until, after.finished_at) == (7.0, None, 0.0, 7.0)
        assert {"due_pk", "due_sk"} <= to_item(after).keys()
        assert after.fence == record.fence + 1
        assert after.outbox[:-1] == record.outbox
        owed = {"type": ANNOUNCED[following], "version": after.version, "at": 7.0, "status": following.value}
        assert after.outbox[-1] == owed
    else:
        assert after.outbox == record.outbox


@given(st.integers(1, 200))
def test_no_audit_event_is_lost(number: int) -> None:
    """At least the newest 32 stay in the item; what leaves it is handed over in order, 16 at a time."""
    record = FileRecord("t", "f", "n", 1, State.VALIDATING)
    kept: list[Any] = []
    for attempt in range(number):
        made = transition(record, Event.VALIDATE, float(attempt), "validate", attempt=attempt + 1)
        assert made is not None
        record = made.record
        assert len(made.overflow) in {0, AUDIT_EVENTS_MOVED}
        kept.extend(made.overflow)
        assert record.events_dropped == len(kept)
        assert min(attempt + 1, AUDIT_EVENTS_KEPT) <= len(record.events) < AUDIT_EVENTS_KEPT + AUDIT_EVENTS_MOVED

    assert [entry["attempt"] for entry in (*kept, *record.events)] == list(range(1, number + 1))


def test_a_note_changes_nothing_but_the_trail() -> None:
    """What was seen is told without a transition."""
    record = FileRecord("t", "f", "n", 1, State.CANCELLED, version=4)
    made = note(record, "unawaited_object", 9.0, "validate", size=5)

    (entry,) = made.record.events
    assert entry == {
        "at": 9.0,
        "event": "unawaited_object",
        "from": "cancelled",
        "to": "cancelled",
        "by": "validate",
        "size": 5,
    }
    assert set(made.sets) == {"events", "version", "updated_at"}
    assert made.version_expected == 4


def test_a_failures_code_is_in_the_trail() -> None:
    """What went wrong can be read from the audit trail alone."""
    record = FileRecord("t", "f", "n", 1, State.VALIDATING)
    made = transition(record, Event.REJECT, 1.0, "validate", failure={"code": "type_mismatch"})

    assert made is not None
    assert made.record.events[-1]["code"] == "type_mismatch"


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_due_keys_sort_as_their_times(earlier: float, later: float) -> None:
    """The sweeper's index is in the order of time."""
    keys = [forms.due_sort_key(moment, "x") for moment in (earlier, later)]

    assert (keys[0] <= keys[1]) == (int(earlier * 1000) <= int(later * 1000))
    assert forms.due_sort_key(earlier, "01JD2Z3NDEKTSV4RRFFQ69G5FA-999999") < forms.due_sort_key(earlier, "~")


def test_due_records_are_spread() -> None:
    """All partitions of the sweeper's index are used, and the sweeper knows them all."""
    from heavylift.ids import new_ulid

    used = {
        records.index_attributes(FileRecord("t", new_ulid(), "n", 1, State.CREATED, due_at=1.0))["due_pk"]
        for _ in range(200)
    }

    assert used == {forms.due_partition(shard) for shard in range(DUE_SHARDS)}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (0, "1970-01-01T00:00:00.000Z"), (1_763_596_800.1239, "2025-11-20T00:00:00.123Z")],
)
def test_times_as_the_api_writes_them(seconds: Any, text: str | None) -> None:
    """RFC 3339 in UTC."""
    assert records.iso(seconds) == text
