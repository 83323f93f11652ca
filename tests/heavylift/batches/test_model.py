"""A batch's steps: what each status allows, and that an end is owed exactly once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heavylift import ddb_json
from heavylift.batches import model
from heavylift.batches.marks import Tally
from heavylift.batches.model import ENDED, GONE, LIVE, Batch, BatchStatus
from heavylift.errors import RequestError

NOW = 1_763_596_800.0
BATCH = Batch(
    tenant="acme",
    batch_id="01JD2Z3NDEKTSV4RRFFQ69G5FA",
    kind="other",
    total=3,
    pages={"1": [2, "d1"], "7": [1, "d7"]},
    created_at=NOW,
    updated_at=NOW,
    expires_at=NOW + 100,
    due_at=NOW + 50,
    metadata={"a": {"": [1, None]}},
    rules={"max_records": 10**40},
)
ALL = Tally(received=3, succeeded=3)
every_status = pytest.mark.parametrize("status", BatchStatus, ids=lambda status: status.value)


def test_it_survives_the_table() -> None:
    """All fields, free JSON that DynamoDB would refuse, and the sweeper's index."""
    owed = {"type": "batch.completed", "version": 3, "at": NOW, "status": "completed", "totals": {"total": 3}}
    batch = replace(BATCH, facility="north", closed_at=NOW, finished_at=NOW, outbox=(owed,), totals={"total": 3})
    item = ddb_json.decode_item(ddb_json.encode_item(model.to_item(batch)))

    assert model.from_item(item) == batch
    assert item["pk"] == "T#acme#B#01JD2Z3NDEKTSV4RRFFQ69G5FA"
    assert item["due_pk"].startswith("T#_#DUE#")
    assert item["due_sk"].endswith("#01JD2Z3NDEKTSV4RRFFQ69G5FA")
    assert "due_pk" not in model.to_item(replace(batch, due_at=None))


def code_of(act: Any) -> str | None:
    try:
        act()
    except RequestError as error:
        return error.code
    return None


@every_status
def test_what_a_status_allows(status: BatchStatus) -> None:
    """Only an open batch takes pages and files; only a living one is cancelled; what is gone is not completed."""
    batch = replace(BATCH, status=status)
    refusal = "batch_expired" if status is BatchStatus.EXPIRED else "state_conflict"
    is_open = status is BatchStatus.OPEN
    assert code_of(lambda: model.must_be_open(batch, NOW)) == (None if is_open else refusal)
    assert code_of(lambda: model.closed(batch, NOW)) == (refusal if status in GONE else None)
    cancelled = code_of(lambda: model.cancelled(batch, ALL, NOW))
    assert cancelled == (None if status in LIVE or status is BatchStatus.CANCELLED else refusal)
    assert (model.expired(batch, ALL, NOW + 101) is not None) is is_open
    assert (model.ended(batch, ALL, NOW) is not None) is (status in LIVE)
    reopened = model.unsealed(batch, NOW)
    assert (reopened is None) is (status in GONE)
    if status in ENDED and reopened:
        assert (reopened.status, reopened.finished_at) == (BatchStatus.PROCESSING, None)


def test_time_is_over() -> None:
    """From the second on, before the sweeper has said so."""
    assert code_of(lambda: model.must_be_open(BATCH, NOW + 100)) == "batch_expired"
    assert model.expired(BATCH, ALL, NOW + 99) is None


def test_pages() -> None:
    """The same again is nothing; other content never; more than announced never; each page counts once."""
    assert model.with_page(BATCH, 1, "d1", 2, NOW) is None
    assert code_of(lambda: model.with_page(BATCH, 1, "other", 2, NOW)) == "manifest_conflict"
    assert code_of(lambda: model.with_page(BATCH, 2, "d2", 1, NOW)) == "manifest_full"
    larger = model.with_page(replace(BATCH, total=5), 2, "d2", 2, NOW)
    assert larger is not None
    assert (larger.listed, larger.unlisted, larger.version) == (5, 0, 2)
    # A page that was registered is answered even when the batch has ended meanwhile.
    assert model.with_page(replace(BATCH, status=BatchStatus.COMPLETED), 1, "d1", 2, NOW) is None


@pytest.mark.parametrize(
    ("tally", "closed", "status"),
    [
        (ALL, False, BatchStatus.COMPLETED),
        (Tally(received=3, succeeded=2, skipped=1), False, BatchStatus.COMPLETED),
        (Tally(received=3, succeeded=2, duplicates=1), False, BatchStatus.COMPLETED),
        (Tally(received=3, succeeded=2, failed=1), False, BatchStatus.COMPLETED_WITH_ERRORS),
        (Tally(received=3, succeeded=3, flawed=1), False, BatchStatus.COMPLETED_WITH_ERRORS),
        (Tally(received=3, succeeded=2), False, None),
        (Tally(received=3, succeeded=2), True, None),
        (ALL, True, BatchStatus.COMPLETED),
    ],
)
def test_how_it_ends(tally: Tally, closed: bool, status: BatchStatus | None) -> None:
    """By its marks; with an announcement of its own version, the totals in it."""
    batch = replace(BATCH, status=BatchStatus.PROCESSING, closed_at=NOW) if closed else BATCH
    ended = model.ended(batch, tally, NOW)

    assert (ended.status if ended else None) is status
    if ended:
        (owed,) = ended.outbox
        assert (owed["type"], owed["version"], owed["status"]) == ("batch.completed", ended.version, status)
        assert owed["totals"] == ended.totals == model.totals_of(ended, tally)
        assert ended.due_at == NOW


def test_files_that_were_never_listed() -> None:
    """An open batch waits for them, a closed one counts them as failed."""
    batch = replace(BATCH, total=5)
    assert model.ended(batch, ALL, NOW) is None
    closed = model.closed(batch, NOW)
    assert closed is not None
    ended = model.ended(closed, ALL, NOW)
    assert ended is not None
    assert ended.status is BatchStatus.COMPLETED_WITH_ERRORS
    assert ended.totals == {
        "total": 5, "received": 3, "processed": 5, "succeeded": 3, "failed": 2, "skipped": 0, "duplicates": 0,
    }  # fmt: skip
