"""Batches through the real handlers: from the first call to the last verdict, and every refusal on the way."""

from __future__ import annotations

from typing import Any

from tests.doubles.batches import BatchClient, counts_of
from tests.doubles.samples import SMALL_PICTURE, png
from tests.doubles.world import STAGING, STORE, World

TEXT = b"hello, batch\n"


def texts(number: int, first: int = 1) -> dict[int, tuple[str, bytes]]:
    return {n: (f"note-{n}.txt", b"text %d\n" % n) for n in range(first, first + number)}


def begun(world: World, files: dict[int, tuple[str, bytes]], **body: Any) -> BatchClient:
    client = BatchClient(world, files)
    assert client.begin(**body)[0] == 201
    client.list()
    return client


def test_a_batch_of_every_kind(desk: World) -> None:
    """Small files by form, a large one by its own upload, a bad one among them: each ends, the batch ends once."""
    files = {
        1: ("a.txt", TEXT),
        2: ("b.csv", b"a,b\n1,2\n"),
        3: ("empty.txt", b""),
        4: ("bad.png", b"not a picture"),
        5: ("large.png", png()),
        6: (SMALL_PICTURE.name, SMALL_PICTURE.data),
    }
    client = begun(desk, files)
    client.send()
    desk.pump(copies=2)

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert view["final"] is True
    assert counts_of(view) == {
        "total": 6, "received": 6, "processed": 6, "succeeded": 5, "failed": 1, "skipped": 0, "duplicates": 0,
    }  # fmt: skip
    assert [(error["n"], error["code"], error["file_id"]) for error in view["errors"]] == [
        (4, "type_mismatch", client.file_id(4))
    ]
    assert view["warnings"] == []
    verdicts = client.verdicts()
    assert {n: line["verdict"] for n, line in verdicts.items()} == {
        1: "completed", 2: "completed", 3: "completed", 4: "rejected", 5: "completed", 6: "completed",
    }  # fmt: skip
    assert [kind for kind, _ in client.told()] == ["batch.completed"]
    assert set(desk.s3.buckets[STORE]) == {f"files/acme/{client.file_id(n)}" for n in (1, 2, 3, 5, 6)}
    assert set(desk.s3.buckets[STAGING]) == {client.key(4)}  # in quarantine
    # Closing a batch that has ended changes nothing.
    assert counts_of(client.complete()[1]) == counts_of(view)
    assert [kind for kind, _ in client.told()] == ["batch.completed"]


def test_counts_are_exact_at_every_look(world: World) -> None:
    """After each delivery: what the batch says is what the files' own records say."""
    client = begun(world, {**texts(7), 8: ("bad.png", b"text")})
    client.send()
    world.announce(copies=2)
    looks = 0
    while (message := world.queues.receive()) is not None:
        world.deliver(message)
        world.announce()
        states = [world.status(client.file_id(n)) for n in client.files if world_has(world, client.file_id(n))]
        view = client.look()
        assert view["received"] == len(states)
        assert view["succeeded"] == states.count("completed")
        assert view["failed"] == states.count("rejected")
        assert view["final"] is (view["processed"] == 8)
        looks += 1
    assert looks > 8
    assert client.look()["status"] == "completed_with_errors"


def world_has(world: World, file_id: str) -> bool:
    from heavylift import records

    key = records.item_key("acme", file_id)
    return (key["pk"], key["sk"]) in world.table.items


def test_the_end_needs_no_complete_and_no_sweeper(world: World) -> None:
    """When every file that was announced has its verdict, the batch has ended."""
    client = begun(world, texts(3))
    client.send()
    world.pump()

    assert client.look()["status"] == "completed"
    assert client.look()["message"] == "All 3 files processed."
    assert [kind for kind, _ in client.told()] == ["batch.completed"]


def test_completed_without_some(world: World) -> None:
    """What never arrived has failed and says so; what is on its way is waited for."""
    client = begun(world, texts(5))
    client.post(1)
    client.post(2)
    _, view = client.complete()
    assert view["status"] == "processing"
    assert (view["failed"], view["processed"]) == (3, 3)
    world.pump()

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert counts_of(view) == {
        "total": 5, "received": 2, "processed": 5, "succeeded": 2, "failed": 3, "skipped": 0, "duplicates": 0,
    }  # fmt: skip
    assert [(error["n"], error["code"], error["name"]) for error in view["errors"]] == [
        (n, "not_received", f"note-{n}.txt") for n in (3, 4, 5)
    ]
    assert client.verdicts()[3]["verdict"] == "failed"


def test_a_late_file_is_taken_while_the_batch_lives(world: World) -> None:
    """It was given up, and arrives before the end: its verdict counts. After the end it is deleted and told."""
    client = begun(world, texts(3))
    client.post(1)
    client.complete()
    client.post(2)
    world.announce(reverse=True)
    world.pump()

    view = client.look()
    assert (view["succeeded"], view["failed"]) == (2, 1)
    client.post(3)
    world.pump()
    view = client.look()
    assert (view["succeeded"], view["failed"]) == (2, 1)
    assert [(error["n"], error["code"]) for error in view["errors"]] == [
        (3, "not_received"),
        (3, "batch_completed_with_errors"),
    ]
    assert world.s3.buckets[STAGING] == {}


def test_files_that_were_never_listed(world: World) -> None:
    """total says five, the manifest names two: three have failed once the batch is completed."""
    client = BatchClient(world, texts(2))
    client.begin(total=5)
    client.list()
    client.send()
    world.pump()
    assert client.look()["final"] is False
    _, view = client.complete()

    assert view["status"] == "completed_with_errors"
    assert counts_of(view)["failed"] == 3
    assert [(error["code"], error["number"]) for error in view["errors"]] == [("not_listed", 3)]


def test_an_empty_batch_can_be_completed(world: World) -> None:
    """Nothing was listed, nothing was sent: all have failed."""
    client = BatchClient(world, texts(2))
    client.begin()
    _, view = client.complete()

    assert (view["status"], view["failed"], view["final"]) == ("completed_with_errors", 2, True)


def test_a_file_is_faster_than_its_page(world: World) -> None:
    """Pages and uploads race: nothing is lost, nothing is refused."""
    client = BatchClient(world, texts(4))
    client.begin()
    client.list([1, 2], page=1)
    client.send()
    world.pump(wait=False)
    assert client.look()["received"] == 2
    client.list([3, 4], page=2)
    world.pump()

    assert client.look()["status"] == "completed"
    assert client.look()["errors"] == []


def test_a_page_that_never_comes(world: World) -> None:
    """Messages give up before they are dead letters; the object is told as soon as the batch is closed."""
    client = BatchClient(world, texts(2))
    client.begin()
    client.list([1])
    client.send()
    world.pump()
    assert world.queues.dead == []
    client.complete()
    world.clock.advance(7_200)
    world.sweep()
    world.pump()

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert {error["code"] for error in view["errors"]} == {"not_listed", "not_in_manifest"}
    assert world.s3.buckets[STAGING] == {}


def test_objects_that_no_manifest_names(world: World) -> None:
    """They are deleted and told, with their number; the batch does not wait for them."""
    client = begun(world, texts(2))
    world.s3.put_object(Bucket=STAGING, Key=client.key(7), Body=b"stray")
    world.s3.put_object(Bucket=STAGING, Key="in/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA/1", Body=b"no batch")
    world.pump()
    assert world.s3.buckets[STAGING] == {}
    client.send()
    world.pump()

    view = client.look()
    assert view["status"] == "completed"
    assert [(error["n"], error["code"]) for error in view["errors"]] == [(7, "not_in_manifest")]


def test_another_size_or_digest_than_announced(world: World) -> None:
    """Rejected with its code; S3's proof and our own reading find it alike."""
    from hashlib import sha256

    files = texts(4)
    client = BatchClient(world, files)
    client.begin()
    entries = client.entries()
    for entry in entries[1:]:
        entry["sha256"] = sha256(files[entry["n"]][1]).hexdigest()
    assert client.put_page(1, entries)[0] == 200
    client.post(1, b"another size altogether")
    client.post(2, b"text X\n", digest=True)
    client.post(3, b"text X\n")
    client.post(4)
    world.pump()

    verdicts = client.verdicts()
    assert [(verdicts[n]["verdict"], verdicts[n].get("code")) for n in sorted(verdicts)] == [
        ("rejected", "size_mismatch"),
        ("rejected", "sha256_mismatch"),
        ("rejected", "sha256_mismatch"),
        ("completed", None),
    ]
    record = world.record(client.file_id(4))
    assert record.checksums["sha256"] == sha256(files[4][1]).hexdigest()
    assert record.checksums["sha256_proven"] is True


def test_a_retry_takes_the_verdict_back(world: World) -> None:
    """The batch is under way again, and ends again when the file has."""
    client = begun(world, {1: ("bad.png", b"text"), 2: ("a.txt", TEXT)})
    client.send()
    world.pump()
    assert client.look()["failed"] == 1
    assert world.retry(client.file_id(1), force=True)[0] == 202
    view = client.look()
    assert (view["status"], view["processed"], view["final"]) == ("processing", 1, False)
    world.pump()

    view = client.look()
    assert (view["status"], view["processed"], view["failed"]) == ("completed_with_errors", 2, 1)
    assert [kind for kind, _ in client.told()] == ["batch.completed", "batch.completed"]
    assert len({id for _, id in client.told()}) == 2


def test_a_deleted_file_keeps_its_verdict(world: World) -> None:
    """Deleting a file of the store changes no count of its batch."""
    client = begun(world, texts(2))
    client.send()
    world.pump()
    before = counts_of(client.look())
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": client.file_id(1)})

    assert counts_of(client.look()) == before
    assert client.look()["final"] is True


def test_a_member_that_is_cancelled_is_skipped(world: World) -> None:
    """Cancelled by itself, its batch goes on without it."""
    client = begun(world, {**texts(1), 2: ("large.png", png())})
    _, upload = client.begin_upload(2)
    assert world.cancel(upload["upload_id"])[0] == 200
    client.post(1)
    world.pump()

    view = client.look()
    assert (view["status"], view["succeeded"], view["skipped"]) == ("completed", 1, 1)
