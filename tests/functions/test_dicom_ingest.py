"""DICOM batches through the handlers: a verdict for every file, exact studies, few requests, no patient anywhere."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from heavylift.dicom import index, single, studies
from heavylift.settings import settings
from heavylift_local.tables import units
from infra import topology
from tests.doubles import events
from tests.doubles.dicom import (
    DS_STORE,
    PATIENT,
    ROOT,
    DicomClient,
    dicom,
    folder,
    index_items,
    pump,
    sent,
    upload,
    zipped,
)
from tests.doubles.gate import Call
from tests.doubles.s3 import crc32_base64
from tests.doubles.world import DERIVED, STAGING, STORE, World, queue_url

TABLE = units.Keys(("pk", "sk"))
INDEXES = [units.Keys((index.partition_key, index.sort_key)) for index in topology.TABLE.indexes]
ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
STUDY = f"{ROOT}.1"
ROOT_FOLDER = Path(__file__).parents[2]


@contextmanager
def write_units(world: World) -> Iterator[Counter[str]]:
    """What the writes cost, by the kind of their items: ``index``, ``batch``, ``member`` and so on."""
    spent: Counter[str] = Counter()

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation not in {"put_item", "update_item", "delete_item"}:
            return run()
        given = call.arguments.get("Key") or call.arguments["Item"]
        key = (given["pk"]["S"], given["sk"]["S"])
        before = world.table.items.get(key)
        kind = {"ST": "index", "SE": "index", "SX": "index", "B": "batch"}.get(key[0].split("#")[2], "other")
        try:
            answer = run()
        except Exception:
            spent[kind] += units.refused(before)
            raise
        spent[kind] += units.written(before, world.table.items.get(key), TABLE, INDEXES)
        return answer

    with world.hook(around):
        yield spent


def store_keys(world: World) -> set[str]:
    return set(world.s3.buckets[STORE])


def test_every_file_has_its_verdict(world: World) -> None:
    """Stored, duplicate, conflict, stray, no DICOM, cut: each once, each with its reason; counts and studies exact."""
    cut = dicom(1, 1, 9)[:-10]
    files = {
        **folder(1, 2, 3),
        11: (".DS_Store", DS_STORE),
        12: ("copy.dcm", dicom(1, 1, 1)),
        13: ("other.dcm", dicom(1, 1, 1, pixels=7)),
        14: ("readme.txt", b"hello, this is a text\n"),
        15: ("cut.dcm", cut),
        16: ("noise", random.Random(1).randbytes(300)),
        17: ("empty", b""),
    }
    client = sent(world, files)
    pump(world)

    lines = client.verdicts()
    outcomes = {n: (line["verdict"], line["outcome"]) for n, line in lines.items()}
    assert outcomes == {
        **dict.fromkeys(range(1, 7), ("completed", "stored")),
        11: ("skipped", "stray"),
        12: ("duplicate", "duplicate"),
        13: ("rejected", "conflict"),
        14: ("skipped", "stray"),
        15: ("rejected", "truncated"),
        16: ("rejected", "not_dicom"),
        17: ("rejected", "empty_file"),
    }
    assert all(line["message"] for n, line in lines.items() if n > 6)
    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert (view["succeeded"], view["failed"], view["skipped"], view["duplicates"]) == (6, 4, 2, 1)
    assert sorted(error["n"] for error in view["errors"]) == [13, 15, 16, 17]
    assert sorted(warning["n"] for warning in view["warnings"]) == [11, 14]
    assert view["studies"] == 1
    study = client.studies()[STUDY]
    assert (study["series"], study["instances"], study["modalities"]) == (2, 6, ["CT"])
    assert [kind for kind, _ in client.told()] == ["batch.completed"]
    # Objects: the six; what was rejected is in quarantine; who lost has taken its copy back.
    assert store_keys(world) == {f"dicom/acme/{client.file_id(n)}" for n in range(1, 7)}
    assert set(world.s3.buckets[STAGING]) == {client.key(n) for n in (11, 13, 14, 15, 16, 17)}
    assert world.queues.dead == []


def test_a_clean_batch_is_completed(world: World) -> None:
    """Duplicates and strays are no errors; the current study is shown while it runs."""
    client = sent(world, {**folder(2, 1, 2), 8: ("Thumbs.db", DS_STORE), 9: ("again", dicom(1, 1, 1))})
    seen = set()
    pump(world, group=2, after=lambda: seen.add(client.look()["current_study"]))

    assert client.look()["status"] == "completed"
    assert client.look()["message"] == "All 6 files processed."
    assert seen >= {f"{ROOT}.1", f"{ROOT}.2"}
    assert client.look()["current_study"] is None
    assert {uid: one["instances"] for uid, one in client.studies().items()} == {f"{ROOT}.1": 2, f"{ROOT}.2": 2}


def test_counts_are_never_wrong_while_it_runs(world: World) -> None:
    """After every event: a study counts what its files' verdicts say, and no count ever falls."""
    client = sent(world, folder(2, 2, 8))
    last: dict[str, int] = {}

    def look() -> None:
        stored = Counter(line["study_uid"] for line in client.verdicts().values() if line.get("outcome") == "stored")
        shown = {uid: one["instances"] for uid, one in client.studies().items()}
        assert shown == dict(stored)
        assert all(shown[uid] >= number for uid, number in last.items())
        last.update(shown)
        view = client.look()
        assert view["succeeded"] == sum(stored.values())
        assert view["studies"] == len(shown)

    pump(world, group=3, chance=random.Random(3), after=look)
    assert last == {f"{ROOT}.1": 16, f"{ROOT}.2": 16}
    for _, series in (index.read_study("acme", uid) for uid in last):
        assert [one.instances for one in series if not one.dirty] == [8, 8]


@pytest.mark.parametrize(
    ("studies_made", "series", "index_units", "all_units"),
    [
        (1, 2, 230, 500),
        pytest.param(5, 4, 2_300, 5_000, marks=[pytest.mark.full, pytest.mark.timeout(7_200)]),
    ],
    ids=["200 files", "2000 files"],
)
def test_one_range_a_file_and_few_writes(
    world: World, studies_made: int, series: int, index_units: int, all_units: int
) -> None:
    """Series of 100 files: one GET of at most 64 KiB each; the index below 1.15 write units a file, everything below
    2.5."""
    files = folder(studies_made, series, 100)
    client = sent(world, files)
    world.gate.restart()
    with write_units(world) as spent:
        pump(world, rounds=2_000)
        calls = Counter(call.operation for call in world.gate.calls if call.service == "s3")

    assert client.look()["succeeded"] == len(files)
    assert calls["get_object"] == len(files)
    assert calls["head_object"] == len(files)
    assert spent["index"] <= index_units, spent
    assert sum(spent.values()) <= all_units, spent
    sys.stderr.write(f"{len(files)} files: {dict(spent)} write units, {dict(calls)}\n")
    for n in (1, len(files)):
        record = world.record(client.file_id(n))
        assert record.bytes_read <= 65_536
        assert record.requests == 2
    sizes = [units.item_size(item) for (_, sk), item in world.table.items.items() if sk.startswith("F#")]
    assert max(sizes) <= 1_024


@pytest.mark.parametrize("policy", ["keep_first", "replace", "keep_both"])
def test_a_conflict_is_settled_by_the_policy(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Same UIDs, other bytes: the first stays, the last takes its place, or both are kept; one instance is counted."""
    world = worlds()
    monkeypatch.setenv("DICOM_CONFLICT", policy)
    settings.cache_clear()
    first = sent(world, {1: ("a", dicom(1, 1, 1))})
    pump(world)
    second = sent(world, {1: ("a", dicom(1, 1, 1, pixels=5))})
    pump(world)

    (line,) = second.verdicts().values()
    kept = {key: one.body for key, one in world.s3.buckets[STORE].items()}
    mine, theirs = f"dicom/acme/{second.file_id(1)}", f"dicom/acme/{first.file_id(1)}"
    held = index.get_instance("acme", STUDY, f"{STUDY}.1", f"{STUDY}.1.1")
    assert held is not None
    assert first.studies()[STUDY]["instances"] == 1
    if policy == "keep_first":
        assert (line["verdict"], line["code"]) == ("rejected", "conflict")
        assert set(kept) == {theirs}
        assert held.file_id == first.file_id(1)
    elif policy == "replace":
        assert (line["verdict"], line["warnings"]) == ("completed", ["replaced_another"])
        assert set(kept) == {mine}
        assert held.file_id == second.file_id(1)
        assert world.status(first.file_id(1)) == "deleted"
        assert world.s3.list_object_versions(Bucket=STORE, Prefix=theirs, MaxKeys=10).get("Versions", []) == []
    else:
        assert (line["verdict"], line["code"]) == ("completed_with_errors", "conflict")
        assert set(kept) == {mine, theirs}
        assert held.file_id == first.file_id(1)
        assert second.look()["status"] == "completed_with_errors"


def test_a_duplicate_is_served_from_the_file_that_has_its_bytes(world: World) -> None:
    """It has no object of its own, and its content can be had; deleting it leaves the other alone."""
    first = sent(world, {1: ("a", dicom(1, 1, 1))})
    pump(world)
    second = sent(world, {1: ("b", dicom(1, 1, 1))})
    pump(world)

    assert second.verdicts()[1]["verdict"] == "duplicate"
    path = {"id": second.file_id(1)}
    status, body = world.call("sessions", "GET", "/v1/files/{id}/content", path=path, query={"redirect": "false"})
    assert status == 200
    assert f"dicom/acme/{first.file_id(1)}" in body["url"]
    status, _ = world.call("complete", "DELETE", "/v1/files/{id}", path=path)
    pump(world)
    assert status in {200, 204}
    assert store_keys(world) == {f"dicom/acme/{first.file_id(1)}"}
    assert first.studies()[STUDY]["instances"] == 1


def test_a_deleted_file_leaves_the_index(world: World) -> None:
    """Its instance is found no more, its study counts one less at once, and an empty study is none."""
    client = sent(world, folder(1, 1, 2))
    pump(world)
    for left, n in ((1, 1), (0, 2)):
        status, _ = world.call("complete", "DELETE", "/v1/files/{id}", path={"id": client.file_id(n)})
        assert status in {200, 204}
        assert client.studies().get(STUDY, {"instances": 0})["instances"] == left
    pump(world)

    assert client.studies() == {}
    assert store_keys(world) == set()
    assert not [key for key in world.s3.buckets[DERIVED] if key.startswith("dicom/")]
    # The same bytes again are stored again.
    again = sent(world, folder(1, 1, 2))
    pump(world)
    assert again.studies()[STUDY]["instances"] == 2


def test_an_upload_by_itself(world: World) -> None:
    """Declared as DICOM it goes its own lane, in parts or not; its record lives as any other."""
    small = world.initiate("one.dcm", b"x" * 10, kind="dicom")
    assert world.record(small).key == f"dicom/acme/{small}"
    data = dicom(1, 1, 1)
    file_id = world.initiate("two.dcm", data, kind="dicom")
    world.put(file_id, data)
    assert world.complete(file_id)[0] == 200
    pump(world)

    record = world.record(file_id)
    assert record.status.value == "completed"
    assert record.format == "DICOM"
    assert record.checksums["crc32"] == crc32_base64(data)
    assert record.dicom is not None
    assert record.dicom["study_uid"] == STUDY
    assert world.s3.buckets[STORE][f"dicom/acme/{file_id}"].body == data
    view = studies.read("acme", STUDY)
    assert view is not None
    assert view.instances == 1
    assert [event["to"] for event in record.events][-4:] == ["validating", "promoting", "fresh", "completed"]


def test_dicom_in_the_general_lane_is_handed_over(world: World) -> None:
    """Nobody said that it is DICOM: validate finds out, dicom_ingest takes it in; twins and duplicates too."""
    data = dicom(1, 1, 1)
    ids = [world.initiate(f"scan{number}", data) for number in range(2)]
    for file_id in ids:
        world.put(file_id, data)
        world.complete(file_id)
    assert {world.record(file_id).lane for file_id in ids} == {"in"}
    pump(world, copies=2)

    verdicts = sorted(str((world.record(file_id).dicom or {})["verdict"]) for file_id in ids)
    assert verdicts == ["duplicate", "stored"]
    assert {world.status(file_id) for file_id in ids} == {"completed"}
    assert len(store_keys(world)) == 1
    assert world.s3.buckets[STAGING] == {}
    view = studies.read("acme", STUDY)
    assert view is not None
    assert view.instances == 1


def tarred(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


@pytest.mark.parametrize("kind", ["stored", "deflated", "tar"])
def test_a_bundle_is_taken_apart(world: World, kind: str) -> None:
    """Its members are files of the batch above the manifest's numbers; the bundle itself does not count."""
    inside = {f"disc/IM{n}": dicom(1, 1, n) for n in range(1, 6)}
    inside |= {"disc/DICOMDIR.txt": b"just a text, nothing else\n", "disc/again": dicom(1, 1, 1)}
    bundle = tarred(inside) if kind == "tar" else zipped(inside, {"stored": 0, "deflated": 8}[kind])
    client = sent(world, {3: ("disc.zip", bundle), 7: ("loose", dicom(1, 2, 1))})
    pump(world)

    view = client.look()
    assert view["status"] == "completed"
    assert (view["total"], view["succeeded"], view["skipped"], view["duplicates"]) == (8, 6, 1, 1)
    lines = client.verdicts()
    assert lines[3]["verdict"] == "expanded"
    assert {n: line["relative_path"] for n, line in lines.items() if n > 7} == dict(enumerate(inside, start=8))
    assert client.studies()[STUDY]["instances"] == 6
    assert world.s3.buckets[STAGING] == {}
    assert not [key for key in world.s3.buckets[DERIVED] if key.startswith("work/")]
    for n, (path, data) in enumerate(inside.items(), start=8):
        if path.startswith("disc/IM"):
            assert world.s3.buckets[STORE][f"dicom/acme/{client.file_id(n)}"].body == data


def test_a_broken_bundle_is_rejected(world: World) -> None:
    """A ZIP without a directory, and one whose member has another CRC-32 than it says."""
    whole = zipped({"IM1": dicom(1, 1, 1)}, 0)
    wrong = whole.replace(dicom(1, 1, 1), dicom(1, 1, 1, pixels=3))
    client = sent(world, {1: ("cut.zip", whole[:-30]), 2: ("wrong.zip", wrong)})
    pump(world)

    lines = client.verdicts()
    assert (lines[1]["verdict"], lines[1]["code"]) == ("rejected", "corrupt")
    assert lines[2]["verdict"] == "expanded"
    assert (lines[3]["verdict"], lines[3]["code"]) == ("rejected", "corrupt")
    assert client.look()["status"] == "completed_with_errors"


def test_no_patient_is_told_to_anybody(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, ids, dates and texts of patients are in the table and the store only: not in keys, logs, metrics, events,
    messages or errors."""
    files = {**folder(1, 1, 3), 5: ("ZZNAME.dcm", dicom(1, 1, 1)), 6: ("x", dicom(1, 1, 1, pixels=3))}
    files[7] = ("z.zip", zipped({"ZZNAME/IM1": dicom(1, 3, 1), "ZZNAME/IM2": dicom(1, 3, 2)[:-8]}, 8))
    messages: list[str] = []
    client = sent(world, files)
    with world.hook(
        lambda call, run: (messages.append(str(call.arguments)) if call.service == "sqs" else None, run())[1]
    ):
        pump(world)
    world.sweep()

    told = capsys.readouterr()
    everything = [told.out, told.err, *messages, *(str(put.detail) for put in world.bus.taken)]
    for bucket in world.s3.buckets.values():
        for key, one in bucket.items():
            everything += [key, str(one.metadata)]
    everything += [line.get("message", "") for line in client.verdicts().values()]
    assert len(told.out) > 1_000
    for text in everything:
        plain = ULID.sub("", text)  # an id of ours may hold any two letters
        for secret in ("ZZ", "TOPSECRET", "19700102", PATIENT):
            assert secret not in plain, plain[:2_000]
    held = "".join(str(item) for item in index_items(world).values())
    assert PATIENT in held


def test_events_are_told_once_a_file(world: World) -> None:
    """Ten files a call to the bus, no label of theirs; a bus that is down is told by the sweeper."""
    client = sent(world, folder(1, 1, 12))
    pump(world)

    told = [put for put in world.bus.taken if put.type.startswith("file.")]
    assert {put.detail["file_id"] for put in told} == {client.file_id(n) for n in range(1, 13)}
    assert len(told) == 12
    assert all("name" not in put.detail for put in told)
    assert {put.detail["object"]["key"] for put in told} == store_keys(world)

    late = sent(world, folder(3, 1, 1))
    with world.hook(lambda call, run: _refuse() if call.service == "events" else run()):
        pump(world)
    assert late.verdicts()[3]["verdict"] == "completed"
    assert len(world.bus.taken) == 13
    late.settle()
    ids = {put.detail["file_id"] for put in world.bus.taken if put.type.startswith("file.")}
    assert ids >= {late.file_id(n) for n in (1, 2, 3)}


def _refuse() -> None:
    raise ConnectionClosedError(endpoint_url="https://events.example")


def test_a_rejected_file_can_be_tried_again(world: World) -> None:
    """The file that was first is deleted: the retry of the one in conflict stores it, and its batch ends again."""
    first = sent(world, {1: ("a", dicom(1, 1, 1))})
    pump(world)
    second = sent(world, {1: ("b", dicom(1, 1, 1, pixels=3))})
    pump(world)
    assert second.look()["status"] == "completed_with_errors"
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": first.file_id(1)})
    assert world.retry(second.file_id(1))[0] in {200, 202}
    assert second.look()["status"] == "processing"
    pump(world)

    assert second.verdicts()[1]["outcome"] == "stored"
    assert second.look()["status"] == "completed"
    assert second.studies()[STUDY]["instances"] == 1
    assert world.s3.buckets[STAGING] == {}


def test_events_that_never_come(world: World) -> None:
    """The sweeper finds the objects in their lane and tells dicom_ingest of them."""
    client = sent(world, folder(1, 1, 3))
    for _, _, made in world.s3.created:
        made.announced = True
    pump(world)
    assert client.look()["received"] == 0
    world.clock.advance(600)
    world.sweep()
    pump(world)

    assert client.look()["status"] == "completed"
    assert client.studies()[STUDY]["instances"] == 3


def test_files_that_never_arrive(world: World) -> None:
    """Two of three are sent: the batch ends with one that was never received."""
    client = DicomClient(world, folder(1, 1, 3))
    client.begin()
    client.list()
    client.post(1)
    client.post(2)
    pump(world)
    client.complete()

    view = client.look()
    assert view["status"] == "completed_with_errors"
    assert [(error["n"], error["code"]) for error in view["errors"]] == [(3, "not_received")]


def test_a_cancelled_batch_leaves_nothing_in_staging(world: World) -> None:
    """What is stored by then stays; what arrives later is deleted."""
    client = DicomClient(world, folder(1, 1, 3))
    client.begin()
    client.list()
    client.post(1)
    pump(world)
    client.post(2)
    client.cancel()
    client.post(3)
    pump(world)

    assert client.look()["status"] == "cancelled"
    assert world.s3.buckets[STAGING] == {}
    view = studies.read("acme", STUDY)
    assert view is not None
    assert view.instances == 1


def test_dicom_waits_at_the_scanning_gate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a malware scanner before the store its files go the general lane, and are handed over behind the gate."""
    monkeypatch.setenv("MALWARE_SCAN", "strict")
    settings.cache_clear()
    client = DicomClient(world, {1: ("a", dicom(1, 1, 1)), 2: ("b", dicom(1, 1, 2))})
    client.begin()
    client.list()
    for n in client.files:
        world.s3.put_object(Bucket=STAGING, Key=f"in/acme/{client.batch_id}/{n}", Body=client.files[n][1])
    pump(world)
    assert {world.status(client.file_id(n)) for n in (1, 2)} == {"scanning"}
    assert store_keys(world) == set()
    for n, result in ((1, "NO_THREATS_FOUND"), (2, "THREATS_FOUND")):
        key = f"in/acme/{client.batch_id}/{n}"
        body = events.scan_result(STAGING, key, world.s3.buckets[STAGING][key].etag, result)
        world.queues.send_message(QueueUrl=queue_url("validate"), MessageBody=json.dumps(body))
    pump(world)

    lines = client.verdicts()
    assert (lines[1]["verdict"], lines[1]["outcome"]) == ("completed", "stored")
    assert lines[2]["verdict"] == "rejected"
    assert store_keys(world) == {f"dicom/acme/{client.file_id(1)}"}
    assert client.studies()[STUDY]["instances"] == 1


def test_a_cold_start_loads_no_decoder() -> None:
    """Neither pydicom nor numpy: they cost more than ten files."""
    heavy = "{'numpy', 'pydicom', 'PIL'}"
    script = f"import sys; import functions.dicom_ingest.handler; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT_FOLDER,
        env={**os.environ, "PYTHONPATH": f"{ROOT_FOLDER}/layers/heavylift/python:{ROOT_FOLDER}"},
    )

    assert done.stdout.strip() == "[]"


def test_a_file_above_its_types_limit_is_rejected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 GiB for DICOM; whoever sends more is told, and nothing is copied."""
    monkeypatch.setattr(single, "_SIZE_MAX", 500)
    file_id = upload(world, "large.dcm", dicom(1, 1, 1), kind="dicom")
    pump(world)

    record = world.record(file_id)
    assert record.status.value == "rejected"
    assert record.failure is not None
    assert record.failure["code"] == "too_large_for_type"
    assert store_keys(world) == set()


def test_objects_that_nobody_waits_for_are_deleted(world: World) -> None:
    """A name that is no number, a number that no page names, a batch that never was: told where there is a batch."""
    client = sent(world, folder(1, 1, 1))
    nobodys = "01JD2Z3NDEKTSV4RRFFQ69G5FA"
    for key in (f"{client.key(1)}x", client.key(77), f"dicom/acme/{nobodys}/1", f"dicom/acme/{nobodys}"):
        world.s3.put_object(Bucket=STAGING, Key=key, Body=dicom(1, 1, 2))
    pump(world)

    assert world.s3.buckets[STAGING] == {}
    assert {error["code"] for error in client.look()["errors"]} <= {"no_number", "not_in_manifest", "batch_completed"}
    assert len(client.look()["errors"]) == 2
    assert client.studies()[STUDY]["instances"] == 1
    assert world.queues.dead == []
