"""DICOMweb through its handler: searches, metadata, files and bulk data of a batch, and what each costs."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from heavylift.dicomweb import delivery, exchange, metadata, retrieve, search
from tests.doubles.dicom import PATIENT, ROOT, dicom, folder, pump, sent
from tests.doubles.dicomweb import BASE, Reply, Viewer, router, uids, values
from tests.doubles.gate import Call
from tests.doubles.world import DERIVED, STORE, World

STUDY, SERIES, INSTANCE = f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1"
PATH = f"/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"
MULTIPART = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def filled(world: World, files: dict[int, tuple[str, bytes]] | None = None) -> Viewer:
    """A viewer of studies that have come to rest."""
    sent(world, files if files is not None else folder(1, 2, 3))
    pump(world)
    return Viewer(world)


def several(world: World) -> Viewer:
    """Studies of three patients."""
    made = [
        dicom(1, 1, 1),
        dicom(1, 2, 1),
        dicom(2, 1, 1, patient="Müller^Jürgen", patient_id="P2", date="20240215", accession="A2", modality="MR"),
        dicom(3, 1, 1, patient="Muller^Anna", patient_id="P3", date="20230101", accession="A3", modality="MR"),
        dicom(4, 1, 1, patient="Yamada^Tarou=山田^太郎", patient_id="P4", date="", accession="", charset="ISO_IR 192"),
    ]
    return filled(world, {n: (f"IM{n}", data) for n, data in enumerate(made, start=1)})


def calls(world: World) -> Counter[str]:
    """What was asked since the gate was restarted, by operation."""
    return Counter(call.operation for call in world.gate.calls)


# --- searches ---


def test_a_study_is_found_with_exact_counts(world: World) -> None:
    """All that viewers show of it, as pydicom reads it."""
    reply = filled(world).ask("/studies")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/dicom+json")
    (one,) = reply.json
    found = Dataset.from_json(one)
    assert (found.StudyInstanceUID, found.PatientName, found.PatientID) == (STUDY, PATIENT, "ZZID-0815")
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (2, 6)
    assert (found.ModalitiesInStudy, found.StudyDate, found.AccessionNumber) == ("CT", "20240131", "ZZACC-1")
    assert found.RetrieveURL == f"{BASE}/studies/{STUDY}"
    assert list(one) == sorted(one)


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("PatientID=P2", [2]),
        ("00100020=P2", [2]),
        ("patientid=P2", [2, 1, 3, 4]),
        ("PatientName=M*", [3, 2]),
        ("PatientName=m%C3%BCller*", [3, 2]),
        ("PatientName=MULLER%5EANNA", [3]),
        ("PatientName=*tarou", [4]),
        ("PatientName=%E5%B1%B1%E7%94%B0*", [4]),
        ("PatientName=Yamada%5ETarou%3D%E5%B1%B1%E7%94%B0%5E%E5%A4%AA%E9%83%8E", [4]),
        ("StudyDate=20240131", [1]),
        ("StudyDate=20240101-20241231", [2, 1]),
        ("StudyDate=20240201-", [2]),
        ("StudyDate=-20231231", [3]),
        ("StudyDate=20240101-&ModalitiesInStudy=MR", [2]),
        ("ModalitiesInStudy=MR", [2, 3]),
        ("ModalitiesInStudy=MR%5CCT", [2, 1, 3, 4]),
        ("ModalitiesInStudy=MR&ModalitiesInStudy=CT", [2, 1, 3, 4]),
        ("AccessionNumber=A3", [3]),
        ("AccessionNumber=A?", [2, 3]),
        ("AccessionNumber=", [2, 1, 3, 4]),
        ("StudyTime=1011", [2, 1, 3, 4]),
        ("StudyTime=101200-", []),
        ("StudyTime=10-11&StudyDate=20230101", [3]),
        (f"StudyInstanceUID={ROOT}.2,{ROOT}.3", [2, 3]),
        (f"StudyInstanceUID={ROOT}.2%5C{ROOT}.9", [2]),
        (f"0020000D={ROOT}.4&0020000D={ROOT}.1", [4, 1]),
        ("NumberOfStudyRelatedSeries=2", [1]),
        ("StudyDescription=ZZSTUDY*&PatientSex=O&StudyID=3", [3]),
        ("PatientID=p2", []),
        ("limit=2", [2, 1]),
        ("limit=2&offset=1", [1, 3]),
        ("offset=3", [4]),
        ("offset=9", []),
        ("limit=0", []),
    ],
)
def test_studies_by(world: World, query: str, studies: list[int]) -> None:
    """Keyword and tag, wildcards, ranges, lists of UIDs, several at once, pages; the newest first."""
    reply = several(world).ask(f"/studies?{query}")
    assert [int(uid.removeprefix(f"{ROOT}.")) for uid in uids(reply)] == studies
    assert reply.status == (200 if studies else 204)
    assert bool(reply.body) == bool(studies)


def test_series_and_instances(world: World) -> None:
    """Of a study, of a series, and of all; with the attributes of the levels that the path does not name."""
    viewer = filled(world)
    series = viewer.ask(f"/studies/{STUDY}/series").json
    assert [values(one, "0020000E")[0] for one in series] == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    assert [values(one, "00201209") for one in series] == [[3], [3]]
    assert "00100010" not in series[0]
    instances = viewer.ask(f"/studies/{STUDY}/series/{SERIES}/instances").json
    assert [values(one, "00080018")[0] for one in instances] == [f"{ROOT}.1.1.{n}" for n in (1, 2, 3)]
    assert "00080060" not in instances[0]
    assert values(instances[0], "00081190") == [f"{BASE}{PATH}"]
    everyone = viewer.ask(f"/studies/{STUDY}/instances").json
    assert [values(one, "00080060") for one in everyone] == [["CT"]] * 6
    assert "00100010" not in everyone[0]
    relational = viewer.ask(f"/instances?SeriesInstanceUID={ROOT}.1.2&PatientID=ZZID-0815").json
    assert len(relational) == 3
    assert values(relational[0], "00100010") == [{"Alphabetic": PATIENT}]
    assert len(viewer.ask("/series?Modality=CT").json) == 2
    assert viewer.ask("/series?Modality=MR").status == 204
    (one,) = viewer.ask(f"/studies/{STUDY}/instances?SOPInstanceUID={ROOT}.1.2.3&includefield=all").json
    assert values(one, "00080018") == [f"{ROOT}.1.2.3"]
    assert values(one, "00100020") == ["ZZID-0815"]
    (only,) = viewer.ask(f"/studies/{STUDY}/series/{SERIES}/instances?InstanceNumber=2").json
    assert values(only, "00200013") == [2]


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ("00080070", set()),
        ("SliceThickness", set()),
        ("BodyPartExamined,SeriesDate", set()),
        ("all", {"00100010", "00100020"}),
        ("PatientName", {"00100010"}),
        ("00100010&includefield=PatientID", {"00100010", "00100020"}),
    ],
)
def test_includefield_adds(world: World, field: str, tags: set[str]) -> None:
    """Attributes of this level and of those above; what the index has not is no mistake."""
    viewer = filled(world)
    plain = viewer.ask(f"/studies/{STUDY}/series").json[0]
    more = viewer.ask(f"/studies/{STUDY}/series?includefield={field}")
    assert more.status == 200
    assert tags <= set(more.json[0]) - set(plain)
    assert set(plain) <= set(more.json[0])


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        (
            "fuzzymatching=true",
            "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
        ),
        ("emptyvaluematching=true", "The emptyvaluematching parameter is not supported."),
        ("SliceThickness=1", "Matching by SliceThickness is not supported at this level; it has been ignored."),
        ("RequestAttributesSequence.ScheduledProcedureStepID=1", "Matching by RequestAttributesSequence.Sch"),
        ("00400275.00400009=1", "Matching by RequestAttributesSequence.ScheduledProcedureStepID is not supported"),
        ("Modality=MR", "Matching by Modality is not supported at this level"),
        ("nonsense=ZZSECRET", "1 unknown parameter in the query; ignored."),
        ("includefield=SliceThickness", "1 attribute of includefield not in the index; ignored."),
        ("limit=1", "There are additional results that can be requested."),
    ],
)
def test_what_is_not_done_is_said(world: World, query: str, warning: str) -> None:
    """A Warning header as the standard writes it, and the results as if the parameter were not there (PS3.18 8.3)."""
    reply = several(world).ask(f"/studies?{query}")
    assert reply.status == 200
    assert f"299 {BASE}: {warning}" in reply.headers["warning"]
    assert "ZZSECRET" not in reply.headers["warning"]
    assert len(reply.json) == (1 if query == "limit=1" else 4)


def test_without_a_reason_there_is_no_warning(world: World) -> None:
    """Nor for a parameter that asks for what is done anyway."""
    assert "warning" not in filled(world).ask("/studies?fuzzymatching=false&limit=5").headers


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=2024", "StudyDate=today", "StudyDate=20240101-20240201-", "StudyDate=-", "StudyTime=25", "limit=x",
        "limit=-1", "limit=1&limit=2", "offset=1e3", "offset=99999999999", "fuzzymatching=perhaps",
        "includefield=nothing", "PatientID=a&PatientID=b", "PatientID=a&00100020=b", "NumberOfStudyRelatedSeries=many",
        "PatientName=%FF", "&".join(f"a{n}=1" for n in range(300)),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_400(world: World, query: str) -> None:
    """Of a parameter that is supported: problem+json, and nothing is read."""
    world.gate.restart()
    reply = Viewer(world).ask(f"/studies?{query}")
    assert (reply.status, reply.code) == (400, "invalid_query")
    assert reply.headers["content-type"] == "application/problem+json"
    assert world.gate.calls == []


def test_a_search_that_is_too_wide_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than answered in part; by an index it is narrow enough."""
    viewer = several(world)
    monkeypatch.setattr(search, "STUDIES_LOOKED_AT_MAX", 3)
    reply = viewer.ask("/studies?StudyDescription=nothing")
    assert (reply.status, reply.code) == (413, "search_too_wide")
    assert viewer.ask("/studies?limit=2").status == 200
    assert len(viewer.ask("/studies?PatientID=P4").json) == 1
    monkeypatch.setattr(search, "INSTANCES_LOOKED_AT_MAX", 1)
    assert viewer.ask(f"/studies/{STUDY}/instances").code == "search_too_wide"


def test_more_than_an_answer_holds_is_paged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit, and a warning that there are more."""
    viewer = filled(world)
    monkeypatch.setitem(search.RESULT_BYTES_MAX, False, 1_500)
    seen: list[str] = []
    for _ in range(20):
        reply = viewer.ask(f"/studies/{STUDY}/instances?offset={len(seen)}")
        if reply.status == 204:
            break
        seen += uids(reply, "00080018")
        assert ("warning" in reply.headers) == (len(seen) < 6)
    assert sorted(seen) == sorted(f"{ROOT}.1.{s}.{n}" for s in (1, 2) for n in (1, 2, 3))


def test_counts_are_exact_before_the_series_is_at_rest(world: World) -> None:
    """A series that has just changed is counted, and its instances are read from the table."""
    client = sent(world, folder(1, 1, 3))
    pump(world)
    viewer = Viewer(world)
    more = dicom(1, 1, 9)
    client = sent(world, {1: ("more", more)})
    world.announce()
    message = world.queues.receive()
    assert message is not None
    world.deliver(message)
    assert client.studies()[STUDY]["instances"] == 4
    (one,) = viewer.ask("/studies").json
    assert values(one, "00201208") == [4]
    assert len(viewer.ask(f"/studies/{STUDY}/series/{SERIES}/instances").json) == 4


def test_what_a_search_costs(world: World) -> None:
    """One query of an index and one a study; of the instances of a series, one object that was made before."""
    viewer = several(world)
    world.gate.restart()
    assert len(viewer.ask("/studies").json) == 4
    assert calls(world) == {"query": 5}
    viewer = filled(world, folder(7, 1, 5))
    world.gate.restart()
    found = viewer.ask(f"/studies/{ROOT}.7/series/{ROOT}.7.1/instances").json
    assert len(found) == 5
    assert calls(world) == {"get_item": 1, "get_object": 1}
    world.gate.restart()
    viewer.ask(f"/studies/{ROOT}.7/series/{ROOT}.7.1/instances?SOPInstanceUID={ROOT}.7.1.2")
    assert calls(world) == {"get_item": 1, "batch_get_item": 1}


# --- metadata ---


def expected(data: bytes, address: str) -> dict[str, Any]:
    """What pydicom makes of a file, pixel data and transfer syntax apart."""
    found: dict[str, Any] = dcmread(io.BytesIO(data)).to_json_dict(
        bulk_data_threshold=1, bulk_data_element_handler=lambda element: f"{address}/bulkdata/pixeldata"
    )
    return found


def test_metadata_are_what_pydicom_says(world: World) -> None:
    """Of an instance, a series and a study: every attribute, and an address for the pixel data."""
    viewer = filled(world)
    for path, count in ((PATH, 1), (f"/studies/{STUDY}/series/{SERIES}", 3), (f"/studies/{STUDY}", 6)):
        reply = viewer.ask(f"{path}/metadata", "application/dicom+json, application/json")
        assert (reply.status, reply.headers["content-type"], len(reply.json)) == (200, "application/dicom+json", count)
        first = reply.json[0]
        assert first.pop("00083002") == {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]}
        assert first == expected(dicom(1, 1, 1), BASE + PATH)


def test_metadata_of_a_series_are_made_once(world: World) -> None:
    """One range of each header the first time; then one object, whoever asks; after a change, anew."""
    viewer = filled(world)
    path = f"/studies/{STUDY}/series/{SERIES}/metadata"
    world.gate.restart()
    first = viewer.ask(path)
    assert calls(world) == {"get_item": 3, "query": 1, "get_object": 4, "put_object": 1}
    world.gate.restart()
    assert viewer.ask(path, zipped=True).json == first.json
    assert calls(world) == {"get_item": 1, "get_object": 1}
    world.gate.restart()
    viewer.ask(f"{PATH}/metadata")
    assert calls(world) == {"get_item": 1, "get_object": 1}

    sent(world, {1: ("more", dicom(1, 1, 7))})
    pump(world)
    again = viewer.ask(path)
    assert len(again.json) == 4
    # What was made for the older mark is gone.
    assert sum("metadata" in key for key in world.s3.buckets[DERIVED]) == 1


def test_metadata_of_a_large_series_are_made_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of time: 503, and the next call goes on with what there is."""
    viewer = filled(world, folder(1, 1, 7))
    monkeypatch.setattr(metadata, "PIECE", 2)
    left = iter([1.0, 1.0, 0.0])
    made = metadata.later
    monkeypatch.setattr(metadata, "later", made)
    path = f"/studies/{STUDY}/series/{SERIES}/metadata"
    with monkeypatch.context() as short:
        short.setattr(
            "tests.doubles.events.Context.get_remaining_time_in_millis", lambda self: 9_000 + 1_000 * next(left)
        )
        reply = viewer.ask(path)
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "not_ready", "2")
    world.gate.restart()
    assert [values(one, "00200013") for one in viewer.ask(path).json] == [[n] for n in range(1, 8)]
    headers = [
        call for call in world.gate.calls if call.operation == "get_object" and "dicom/acme" in call.arguments["Key"]
    ]
    assert sum(call.arguments["Bucket"].endswith("store") for call in headers) == 3


def test_metadata_beyond_an_answer_are_an_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """307 to JSON with the same content, packed where the caller unpacks; made once."""
    viewer = filled(world)
    whole = viewer.ask(f"/studies/{STUDY}/metadata").json
    monkeypatch.setattr(metadata, "ANSWER_BYTES_MAX", 100)
    reply = viewer.ask(f"/studies/{STUDY}/metadata")
    assert json.loads(viewer.fetched(reply)) == whole
    world.gate.restart()
    assert viewer.ask(f"/studies/{STUDY}/metadata").status == 307
    assert calls(world)["put_object"] == 0


# --- files ---


def test_an_instance_is_what_was_stored(world: World) -> None:
    """As a part of a multipart body, or alone; by one read of the table and one of the store."""
    viewer = filled(world)
    world.gate.restart()
    reply = viewer.ask(PATH, MULTIPART)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert reply.parts == [dicom(1, 1, 1)]
    assert calls(world) == {"get_item": 1, "get_object": 1}
    alone = viewer.ask(PATH, "application/dicom")
    assert (alone.body, alone.headers["content-type"]) == (dicom(1, 1, 1), "application/dicom")
    assert alone.headers["content-disposition"] == "attachment"
    assert alone.headers["x-content-type-options"] == "nosniff"


def test_series_and_studies_come_whole(world: World) -> None:
    """One part an instance, in their order."""
    viewer = filled(world)
    assert viewer.ask(f"/studies/{STUDY}/series/{SERIES}").parts == [dicom(1, 1, n) for n in (1, 2, 3)]
    assert viewer.ask(f"/studies/{STUDY}", MULTIPART).parts == [dicom(1, s, n) for s in (1, 2) for n in (1, 2, 3)]


def test_large_bodies_are_objects(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """307: to the stored file itself, or to a multipart body that S3 has put together; the same bytes."""
    viewer = filled(world)
    small = viewer.ask(f"/studies/{STUDY}")
    monkeypatch.setattr(delivery, "ANSWER_BYTES_MAX", 100)
    monkeypatch.setattr(retrieve, "ANSWER_BYTES_MAX", 100)
    assert viewer.fetched(viewer.ask(PATH, "application/dicom")) == dicom(1, 1, 1)
    reply = viewer.ask(f"/studies/{STUDY}")
    assert viewer.fetched(reply) == small.body
    assert set(world.s3.buckets[DERIVED]) & {reply.headers["location"].partition("?")[0].partition(".example/")[2]}
    assert viewer.ask(PATH, MULTIPART).status == 307


def test_a_dangerous_preamble_is_not_served(world: World) -> None:
    """A file that is a program too comes with zeros in its preamble; all else is untouched."""
    plain = dicom(1, 1, 1)
    viewer = filled(world, {1: ("evil", b"MZ" + b"\x90" * 126 + plain[128:])})
    assert viewer.ask(PATH, "application/dicom").body == bytes(128) + plain[128:]
    assert viewer.ask(f"/studies/{STUDY}").parts == [bytes(128) + plain[128:]]


@pytest.mark.parametrize("path", [f"/studies/{STUDY}", f"/studies/{STUDY}/metadata", PATH])
@pytest.mark.parametrize("all_of_it", [True, False], ids=["all", "one"])
def test_a_body_of_what_is_deleted_meanwhile_is_not_left(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, all_of_it: bool
) -> None:
    """Nobody else would ever delete it: the call does, and answers that it is gone, or that it must be asked again."""
    client = sent(world, folder(1, 1, 2))
    pump(world)
    for module in (delivery, metadata):
        monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 100)

    def around(call: Call, run: Any) -> Any:
        answer = run()
        if call.arguments.get("Bucket") == DERIVED and call.operation in {"complete_multipart_upload", "put_object"}:
            world.gate.around = None
            for n in (1, 2) if all_of_it else (1,):
                world.call("complete", "DELETE", "/v1/files/{id}", path={"id": client.file_id(n)})
            world.gate.around = around
        return answer

    world.gate.around = around
    reply = Viewer(world).ask(path)
    world.gate.around = None
    assert (reply.status, reply.code) in {(404, "not_found"), (503, "not_ready")}
    pump(world)
    left = [key for key in world.s3.buckets[DERIVED] if key.startswith(("frames/", "dicom/"))]
    assert all("metadata" not in key for key in left)
    assert len(left) == (0 if all_of_it else 1)  # the description of the series as it is now


# --- bulk data ---


def with_values(**more: Any) -> bytes:
    """An image with bytes that do not fit into its metadata."""
    made = dcmread(io.BytesIO(dicom(1, 1, 1)))
    made.add_new(0x00091001, "OB", bytes(range(256)) * 8)
    made.add_new(0x00090010, "LO", "ours")
    made.add_new(0x00091002, "OW", b"\x01\x02" * 1_000)
    written = io.BytesIO()
    made.save_as(written, **more)
    return written.getvalue()


@pytest.mark.parametrize("big", [False, True])
def test_bulk_data_by_their_address(world: World, big: bool) -> None:
    """What the metadata point at; words in little endian whatever the file has."""
    data = with_values()
    if big:
        made = dcmread(io.BytesIO(data))
        made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        made[0x00091002].value = b"\x02\x01" * 1_000
        made.PixelData = b"\x00\x05" * 16
        written = io.BytesIO()
        dcmwrite(written, made, implicit_vr=False, little_endian=False, force_encoding=True)
        data = written.getvalue()
    viewer = filled(world, {1: ("a", data)})
    (found,) = viewer.ask(f"{PATH}/metadata").json

    def bulk(tag: str, accept: str = "application/octet-stream") -> Reply:
        return viewer.ask(found[tag]["BulkDataURI"].removeprefix(BASE), accept)

    assert bulk("00091001").body == bytes(range(256)) * 8
    assert bulk("00091002").body == b"\x01\x02" * 1_000
    assert bulk("7FE00010").body == (b"\x05\x00" if big else b"\x00\x00") * 16
    assert bulk("00091001", "multipart/related; type=application/octet-stream").parts == [bytes(range(256)) * 8]
    assert bulk("00091001", "*/*").parts == [bytes(range(256)) * 8]
    assert bulk("00091001", "image/jpeg").code == "not_acceptable"


@pytest.mark.parametrize("place", ["0-99999999-OB", "5-0-OB", "nothing", "1-1", "..%2F..%2Fx", "1-2-OB-3", "-1-5-OB"])
def test_other_places_are_not_found(world: World, place: str) -> None:
    """Beyond the file, or no place at all."""
    assert filled(world).ask(f"{PATH}/bulkdata/{place}").code == "not_found"


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/studies", 'multipart/related; type="application/dicom+xml"'),
        ("/studies", "text/html"),
        (f"/studies/{STUDY}/metadata", "application/dicom+xml"),
        (PATH, 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
        (PATH, "image/jpeg"),
        (f"/studies/{STUDY}", "application/dicom"),
        ("/studies?accept=text%2Fhtml", "application/dicom+json"),
    ],
)
def test_what_is_not_made_is_a_406(world: World, path: str, accept: str) -> None:
    """XML, pages, other transfer syntaxes: said by the standard's status."""
    reply = filled(world).ask(path, accept)
    assert (reply.status, reply.code) == (406, "not_acceptable")


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/*",
        "application/json",
        "application/dicom+json;q=0.1, text/html",
        'x/y;z="a,b", */*;q=0.5',
    ],
)
def test_accept_is_read_with_care(world: World, accept: str) -> None:
    """Wildcards, qualities, quotes; JSON by either name."""
    reply = filled(world).ask("/studies", accept)
    assert reply.status == 200
    assert reply.headers["content-type"] == (
        "application/json" if accept == "application/json" else "application/dicom+json"
    )


PATHS = [
    "", "/series", "/instances", "/metadata", "/thumbnail", f"/series/{SERIES}", f"/series/{SERIES}/instances",
    f"/series/{SERIES}/metadata", f"/series/{SERIES}/thumbnail", "/rendered", f"/series/{SERIES}/rendered",
    *(f"/series/{SERIES}/instances/{INSTANCE}{rest}" for rest in (
        "", "/metadata", "/bulkdata/pixeldata", "/bulkdata/0-10-OB", "/frames/1", "/rendered", "/frames/1/rendered",
        "/thumbnail", "/frames/1/thumbnail",
    )),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_another_tenants_uids_are_not_there(world: World, path: str) -> None:
    """On every path: the same 404 as for UIDs that never were, and no object is touched."""
    filled(world)
    other = Viewer(world, "globex")
    world.gate.restart()
    reply = other.ask(f"/studies/{STUDY}{path}")
    unknown = other.ask(f"/studies/{ROOT}.99{path}")
    assert (reply.status, reply.code) == (404, "not_found")
    assert {**reply.json, "instance": ""} == {**unknown.json, "instance": ""}
    assert {call.service for call in world.gate.calls} == {"dynamodb"}


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances", f"/studies?StudyInstanceUID={STUDY}"])
def test_another_tenants_studies_are_not_found(world: World, path: str) -> None:
    """Searches see one tenant's studies alone."""
    filled(world)
    assert Viewer(world, "globex").ask(path).status == 204


@pytest.mark.parametrize("uid", ["x", "1..2", "1.2.", "1" * 65, "1.2%2F3", "..", "1.2 "])
def test_what_is_no_uid_is_not_found(world: World, uid: str) -> None:
    """Nothing is asked of anybody."""
    world.gate.restart()
    assert Viewer(world).ask(f"/studies/{uid}/metadata").code == "not_found"
    assert world.gate.calls == []


FEW = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ("limit", "offset", "includefield", "fuzzymatching", "accept", "PatientName", "StudyDate", "00080030", "window")
WORDS = ("", "*", "-", "all", "1", "20240101-", "ZZ^*", "\\", "a,b", "%", "\x00", "é")


@FEW
@given(
    st.sampled_from(["/studies", "/series", "/instances", f"/studies/{STUDY}", f"{PATH}/metadata", PATH]),
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=9), st.sampled_from(WORDS) | st.text(max_size=9))),
    st.sampled_from(["", "*/*", "application/dicom+json", "multipart/related", 'a/b;c="', "image/jpeg"]),
)
def test_any_query_is_answered(world: World, path: str, query: list[tuple[str, str]], accept: str) -> None:
    """By what is described (the judge of all answers looks), never by a fault of ours."""
    if not world.s3.buckets[STORE]:
        filled(world, folder(1, 1, 2))
    reply = Viewer(world).ask(f"{path}?{urlencode(query)}", accept)
    assert reply.status in {200, 204, 400, 406}, reply.body


@FEW
@given(st.sampled_from(PATHS), st.text(min_size=1, max_size=12))
def test_any_path_is_answered(world: World, path: str, text: str) -> None:
    """UIDs, numbers and places that are none: 404, or 400 of frames."""
    wrong = quote(text, safe="")
    for wanted in (STUDY, SERIES, INSTANCE, "frames/1", "pixeldata"):
        if wanted in path or wanted is STUDY:
            whole = f"/studies/{STUDY}{path}".replace(wanted, f"frames/{wrong}" if "/" in wanted else wrong, 1)
            if router().find("GET", f"/v1/dicomweb{whole}") is not None:
                assert Viewer(world).ask(whole).status in {400, 404}


def test_faults_of_aws_are_told_as_everywhere(world: World) -> None:
    """503 with Retry-After, and no word of what was asked."""
    viewer = filled(world)

    def around(call: Call, run: Any) -> Any:
        from botocore.exceptions import ConnectionClosedError

        raise ConnectionClosedError(endpoint_url="https://dynamodb.example")

    with world.hook(around):
        reply = viewer.ask("/studies")
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "aws_unavailable", "2")


def test_nothing_of_patients_leaves_by_the_side(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in logs, errors, keys or addresses, whatever is asked for."""
    viewer = filled(world)
    capfd.readouterr()
    shown = [
        viewer.ask(path)
        for path in (
            f"/studies?PatientName={PATIENT}&PatientID=ZZID-0815", f"/studies/{STUDY}/metadata", f"/studies/{STUDY}",
            f"/studies?PatientName={PATIENT}&StudyDate=x", f"/studies?ZZTOPSECRET=1&nothing={PATIENT}",
            f"/studies/{PATIENT}/metadata", f"{PATH}/bulkdata/{PATIENT}",
        )
    ]  # fmt: skip
    written = "".join(capfd.readouterr())
    for one in shown:
        written += json.dumps(one.headers)
        if one.status >= 400:
            written += json.dumps({**one.json, "instance": ""})
    written += "".join(key for bucket in world.s3.buckets.values() for key in bucket)
    assert not [word for word in ("ZZTOPSECRET", "ZZID-0815", "ZZREFERRER") if word in written]


def test_answers_stay_below_lambdas_limit() -> None:
    """A body of the largest size, as base64, with room for the headers."""
    assert exchange.ANSWER_BYTES_MAX * 4 / 3 + 100_000 < 6 * 1024 * 1024
