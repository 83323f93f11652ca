"""The index of DICOM files: studies are found, told apart by tenant, described, listed and archived."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from heavylift.archives import selection
from heavylift.archives.entries import Entry
from heavylift.archives.requests import Request
from heavylift.dicom import index, studies
from heavylift.dicom.studies import Filter
from heavylift.errors import ContentError
from tests.doubles.dicom import (
    DS_STORE,
    ROOT,
    DicomClient,
    dicom,
    folder,
    pump,
    sent,
)
from tests.doubles.world import DERIVED, STORE, World

STUDY = f"{ROOT}.1"
ROOT_FOLDER = Path(__file__).parents[2]


def test_studies_are_found(world: World) -> None:
    """By patient, order, date, modality and name with wildcards, accents aside; the newest first."""
    files = {
        1: ("a", dicom(1, 1, 1, patient="Müller^Jürgen", charset="ISO_IR 192", patient_id="P1", date="20240101")),
        2: ("b", dicom(2, 1, 1, patient="Muller^Jana", patient_id="P2", date="20240301", modality="MR")),
        3: (
            "c",
            dicom(3, 1, 1, patient="山田^太郎", charset="ISO_IR 192", patient_id="P1", date="20230101", accession="A3"),
        ),
    }
    sent(world, files)
    pump(world)

    def found(**wanted: Any) -> list[str]:
        return [view.study.study_uid.rpartition(".")[2] for view in studies.find("acme", Filter(**wanted))]

    assert found() == ["2", "1", "3"]
    assert found(patient_id="P1") == ["1", "3"]
    assert found(accession_number="A3") == ["3"]
    assert found(modality="MR") == ["2"]
    assert found(date_from="20240101", date_to="20240229") == ["1"]
    assert sorted(found(patient_name="mul*")) == ["1", "2"]
    assert found(patient_name="*^JURGEN") == ["1"]
    assert found(patient_name="山?^太郎") == ["3"]
    assert found(study_uids=(f"{ROOT}.2", f"{ROOT}.9")) == ["2"]
    assert found(patient_id="P1", modality="MR") == []
    assert list(studies.find("other", Filter())) == []


def test_another_patient_in_the_same_study_is_told(world: World) -> None:
    """It is stored, with a warning; the study stays the first one's."""
    client = sent(world, {1: ("a", dicom(1, 1, 1)), 2: ("b", dicom(1, 1, 2, patient_id="ZZ-ANOTHER"))})
    pump(world, group=1)

    view = client.look()
    assert view["status"] == "completed"
    assert [(one["n"], one["code"]) for one in view["warnings"]] == [(2, "other_patient")]
    study = studies.read("acme", STUDY)
    assert study is not None
    assert study.study.patient_id == "ZZID-0815"


def test_a_series_is_described_in_the_derived_bucket(world: World) -> None:
    """DICOM JSON of the series and its instances in order, under a key without a UID."""
    sent(world, folder(1, 1, 3))
    pump(world)
    ((key, made),) = ((key, one) for key, one in world.s3.buckets[DERIVED].items() if key.startswith("dicom/"))

    body = json.loads(gzip.decompress(made.body))
    assert [one["00200013"]["Value"] for one in body["instances"]] == [[1], [2], [3]]
    assert body["series"]["00201209"]["Value"] == [3]
    assert ROOT not in key
    (_, series) = index.read_study("acme", STUDY)
    assert series[0].json_key == key


def test_tenants_do_not_share_an_index(world: World) -> None:
    """The same files of two tenants are two studies."""
    for tenant in ("acme", "other"):
        client = DicomClient(world, folder(1, 1, 2), tenant=tenant)
        client.begin()
        client.list()
        client.send()
    pump(world)

    for tenant in ("acme", "other"):
        view = studies.read(tenant, STUDY)
        assert view is not None
        assert view.instances == 2
    assert len(world.s3.buckets[STORE]) == 4
    status, _ = world.call("sessions", "GET", "/v1/batches/{id}/studies", path={"id": client.batch_id}, tenant="acme")
    assert status == 404


def test_a_study_is_selected_for_an_archive(world: World) -> None:
    """Its files series by series in their order, from two batches; nothing of another study, no duplicate."""
    sent(
        world, {1: ("c", dicom(1, 1, 3)), 2: ("a", dicom(1, 1, 1)), 3: ("x", dicom(2, 1, 1)), 4: ("a2", dicom(1, 1, 1))}
    )
    pump(world)
    sent(world, {1: ("d", dicom(1, 2, 1)), 2: ("b", dicom(1, 1, 2))})
    pump(world)
    found = list(selection.select("acme", Request(name="x", package="plain", on_missing="fail", study_uid=STUDY), {}))

    assert [one.path for one in found] == ["a", "b", "c", "d"]
    assert all(isinstance(one, Entry) and one.key.startswith("dicom/acme/") for one in found)
    with pytest.raises(ContentError, match="not_found"):
        list(selection.select("acme", Request(name="x", package="plain", on_missing="fail", study_uid="9.9"), {}))


def test_a_files_facts_say_where_it_belongs(world: World) -> None:
    """GET /v1/files/{id}: the outcome and the UIDs; nothing of the patient."""
    client = sent(world, {1: ("a", dicom(1, 2, 3)), 2: ("b", DS_STORE)})
    pump(world)
    first, second = (world.call("sessions", "GET", "/v1/files/{id}", path={"id": client.file_id(n)})[1] for n in (1, 2))

    assert first["dicom"] == {
        "outcome": "stored",
        "study_uid": STUDY,
        "series_uid": f"{STUDY}.2",
        "sop_uid": f"{STUDY}.2.3",
    }
    assert (first["kind"], first["format"], first["media_type"]) == ("dicom", "DICOM", "application/dicom")
    assert second["dicom"] == {"outcome": "stray"}
    # (An id made by us may hold two letters Z.)
    assert not [word for word in ("ZZTOP", "ZZID", "ZZACC", "ZZREF", "ZZSTUDY") if word in json.dumps(first)]


def test_a_batch_lists_all_of_its_files(world: World) -> None:
    """Stored members are in no list of a tenant, but in both lists of their batch at every moment."""
    client = sent(world, {**folder(1, 1, 12), 40: ("again", dicom(1, 1, 1)), 41: (".DS_Store", DS_STORE)})
    seen: list[int] = []

    def look() -> None:
        lines = [line for line in client.verdicts().values() if line["verdict"]]
        status, answer = world.call("sessions", "GET", "/v1/files", query={"batch_id": client.batch_id, "limit": "100"})
        assert status == 200
        assert {one["file_id"] for one in answer["items"]} == {line["file_id"] for line in lines}
        view = client.look()
        assert view["processed"] == len(lines)
        seen.append(len(lines))

    pump(world, group=5, after=look)

    assert len(set(seen)) > 2
    assert seen[-1] == 14
    lines = client.verdicts()
    assert {lines[n]["outcome"] for n in range(1, 13)} == {"stored"}
    assert (lines[40]["outcome"], lines[41]["outcome"]) == ("duplicate", "stray")
    assert all(lines[n]["study_uid"] == STUDY for n in range(1, 13))
    _, everything = world.call("sessions", "GET", "/v1/files")
    assert {one["file_id"] for one in everything["items"]}.isdisjoint({lines[n]["file_id"] for n in range(1, 13)})
