"""Which files a request means: every one of them once, in order, with what the record says, or why it is missing."""

from __future__ import annotations

import pytest

from heavylift import items, records
from heavylift.archives import digests, selection
from heavylift.archives.entries import Entry, Missing
from heavylift.archives.members import Member, Members, Source
from heavylift.archives.requests import Request
from heavylift.batches import manifest, marks, store
from heavylift.batches.manifest import Entry as Listed
from heavylift.batches.model import Batch, BatchStatus
from heavylift.errors import ContentError
from heavylift.ids import following, member_id
from heavylift.records import FileRecord
from heavylift.s3 import ObjectSource
from heavylift.states import State
from tests.doubles.s3 import crc32_base64
from tests.doubles.world import STORE, World

BATCH = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
IDS = following("01JD2Z3NDEKTSV4RRFFQ69G000", 260)


def a_file(file_id: str, status: State = State.COMPLETED, **fields: object) -> FileRecord:
    usual = {"name": f"{file_id[-3:]}.txt", "size": 7, "store_etag": "e", "store_version_id": "v", "logical_id": "doc"}
    record = FileRecord("acme", file_id, status=status, **{**usual, **fields})  # type: ignore[arg-type]
    items.put(records.to_item(record))
    return record


def select(request: Request, **left_out: str) -> list[Entry | Missing]:
    return list(selection.select("acme", request, left_out))


def test_files_by_id(world: World) -> None:
    """In the order asked for, pages apart; what is not stored is missing by its status."""
    for n, file_id in enumerate(IDS):
        a_file(file_id, State.REJECTED if n == 150 else State.COMPLETED)
    wanted = IDS[::-1]
    found = select(Request(file_ids=(*wanted, BATCH)), **{IDS[3]: "source_missing"})

    assert [one.file_id for one in found] == [*wanted, BATCH]
    missing = {one.file_id: one.reason for one in found if isinstance(one, Missing)}
    assert missing == {IDS[150]: "rejected", IDS[3]: "source_missing", BATCH: "not_found"}


def test_what_an_entry_holds(world: World) -> None:
    """Where the bytes are and what pins them; a digest counts as proven only where the record says so."""
    a_file(IDS[0], checksums={"sha256": "A" * 64, "sha256_proven": True, "crc32": "AAAAAA=="}, relative_path="d/x.txt")
    a_file(IDS[1], declared_sha256="b" * 64, checksums={"sha256_proven": False})
    a_file(IDS[2], State.FAILED, metadata={"a": [1]}, facts={"width": 3})
    a_file(IDS[3], State.FRESH, store_etag=None)
    first, second, third, fourth = select(Request(file_ids=IDS[:4]))

    assert isinstance(first, Entry)
    assert (first.path, first.key, first.etag, first.version_id) == ("d/x.txt", f"files/acme/{IDS[0]}", "e", "v")
    assert (first.sha256, first.sha256_proven, first.crc32) == ("a" * 64, True, "AAAAAA==")
    assert isinstance(second, Entry)
    assert (second.sha256, second.sha256_proven) == ("b" * 64, False)
    assert isinstance(third, Entry)
    assert (third.metadata, third.facts) == ({"a": [1]}, {"width": 3})
    assert fourth == Missing(IDS[3], f"{IDS[3][-3:]}.txt", "not_stored")


def test_a_document(world: World) -> None:
    """All of its files, the oldest first, over pages; what was taken back is no part of it, what is on its way is."""
    for n, file_id in enumerate(IDS[:210]):
        a_file(file_id, {5: State.CANCELLED, 6: State.EXPIRED, 7: State.UPLOADING}.get(n, State.COMPLETED))
    a_file(IDS[220], logical_id="other")
    found = select(Request(logical_id="doc"))

    assert [one.file_id for one in found] == [file_id for n, file_id in enumerate(IDS[:210]) if n not in {5, 6}]
    assert [one.reason for one in found if isinstance(one, Missing)] == ["uploading"]


def test_a_batch(world: World) -> None:
    """By number over all hundreds; skipped files and duplicates are not missing, files that never came are."""
    numbers = [*range(1, 103), 250]
    batch = Batch("acme", BATCH, "other", len(numbers), status=BatchStatus.COMPLETED_WITH_ERRORS)
    assert store.create(batch)
    store.keep_entries("acme", BATCH, [Listed(n, f"{n}.txt", 7, relative_path=f"d/{n}.txt") for n in numbers])
    for n in numbers:
        if n not in {2, 3, 4, 5}:
            a_file(member_id(BATCH, n), relative_path=f"d/{n}.txt")
    for n, outcome in ((2, marks.SKIPPED), (3, marks.DUPLICATE), (4, marks.MISSING)):
        store.add_marks("acme", BATCH, manifest.hundred_of(n), [n], marks.mark_of(1, outcome))
    found = select(Request(batch_id=BATCH))

    assert [one.file_id for one in found] == [member_id(BATCH, n) for n in numbers if n not in {2, 3}]
    assert [(one.path, one.reason) for one in found if isinstance(one, Missing)] == [
        ("d/4.txt", "not_received"), ("d/5.txt", "not_received"),
    ]  # fmt: skip


@pytest.mark.parametrize("request_made", [Request(batch_id=BATCH), Request(logical_id="x"), Request(study_uid="1.2")])
def test_what_is_not_there(world: World, request_made: Request) -> None:
    """Nor is another tenant's."""
    a_file(IDS[0])
    with pytest.raises(ContentError) as refused:
        select(request_made)
    assert refused.value.code == "not_found"
    with pytest.raises(ContentError):
        list(selection.select("globex", Request(logical_id="doc"), {}))


def test_too_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive has an end."""
    monkeypatch.setattr(selection, "ARCHIVE_FILES_MAX", 3)
    for file_id in IDS[:4]:
        a_file(file_id)
    assert len(select(Request(file_ids=IDS[:3]))) == 3
    with pytest.raises(ContentError) as refused:
        select(Request(file_ids=IDS[:4]))
    assert refused.value.code == "too_many_files"


def listed(file_ids: tuple[str, ...]) -> Members:
    members = Members()
    for file_id in file_ids:
        source = Source(STORE, f"files/acme/{file_id}", "v", "e")
        members.append(Member(f"{file_id}.txt", 7, 0, 0, source, None, file_id))
    members.append(Member("mets.xml", 1, 0, None, None, b"x"))
    return members


def test_what_vanished(world: World) -> None:
    """The first member whose file is gone or deleted, over pages; what was made for the archive is nobody's file."""
    for file_id in IDS:
        a_file(file_id)
    members = listed(IDS)
    assert selection.vanished("acme", members) is None
    a_file(IDS[230], State.DELETED, store_etag=None)
    a_file(IDS[250], State.DELETED)
    assert selection.vanished("acme", members) == 230
    assert selection.vanished("globex", members) == 0


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 95])
def test_a_digest_that_is_read(world: World, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """In pieces, each byte once and in order; the record keeps it unless it has one, or is of other bytes by now."""
    monkeypatch.setattr(digests, "CHUNK_BYTES", 10)
    data = bytes(range(size))
    etag = world.s3.put_object(Bucket=STORE, Key=f"files/acme/{IDS[0]}", Body=data)["ETag"].strip('"')
    a_file(IDS[0], size=size, store_etag=etag, checksums={"sha256_proven": False})
    (entry,) = select(Request(file_ids=IDS[:1]))
    assert isinstance(entry, Entry)
    source = ObjectSource(STORE, entry.key, entry.size, entry.etag)
    known = digests.read(entry, source)
    digests.keep("acme", known)

    assert (known.crc32, known.sha256_proven) == (crc32_base64(data), True)
    assert source.traffic.bytes_in == size
    kept = world.record(IDS[0]).checksums
    assert kept == {"sha256": known.sha256, "sha256_proven": True, "crc32": known.crc32}
    a_file(IDS[1], store_etag="other")
    digests.keep("acme", Entry(**{**_fields(known), "file_id": IDS[1]}))
    assert world.record(IDS[1]).checksums == {}
    digests.keep("acme", Entry(**{**_fields(known), "file_id": BATCH}))


def _fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__slots__}


def test_pages_cost_one_read(world: World) -> None:
    """A request a hundred files, and no more."""
    for file_id in IDS:
        a_file(file_id)
    world.gate.restart()
    select(Request(file_ids=IDS))

    assert [call.operation for call in world.gate.calls] == ["batch_get_item"] * 3
