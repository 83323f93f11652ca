"""DICOM files made with pydicom, and a client of DICOM batches in a World."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ConnectionClosedError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from heavylift.dicom import expanding, single
from heavylift.settings import settings
from tests.doubles import events
from tests.doubles import world as world_module
from tests.doubles.batches import BatchClient
from tests.doubles.gate import Call, Killed
from tests.doubles.queues import Message
from tests.doubles.world import World

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.10.1338"
PATIENT = "ZZTOPSECRET^PATIENT"
DS_STORE = b"\x00\x00\x00\x01Bud1" + bytes(60)


@cache
def dicom(
    study: int = 1,
    series: int = 1,
    number: int = 1,
    *,
    pixels: int = 0,
    edge: int = 4,
    patient: str = PATIENT,
    patient_id: str = "ZZID-0815",
    charset: str | None = None,
    modality: str = "CT",
    date: str = "20240131",
    accession: str = "ZZACC-1",
    implicit: bool = False,
) -> bytes:
    """One small CT image. ``pixels``: their value, so that the same UIDs can have other bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT
    meta.MediaStorageSOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    one = Dataset()
    one.file_meta = meta
    if charset:
        one.SpecificCharacterSet = charset
    one.SOPClassUID, one.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    one.StudyDate, one.StudyTime, one.AccessionNumber = date, "101112", accession
    one.Modality = modality
    one.ReferringPhysicianName = "ZZREFERRER^DOCTOR"
    one.StudyDescription, one.SeriesDescription = "ZZSTUDYTEXT", f"series {series}"
    one.PatientName, one.PatientID = patient, patient_id
    one.PatientBirthDate, one.PatientSex = "19700102", "O"
    one.StudyInstanceUID, one.SeriesInstanceUID = f"{ROOT}.{study}", f"{ROOT}.{study}.{series}"
    one.StudyID, one.SeriesNumber, one.InstanceNumber = str(study), series, number
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.Rows = one.Columns = edge
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelData = pixels.to_bytes(2, "little") * (edge * edge)
    made = io.BytesIO()
    one.save_as(made, enforce_file_format=True)
    return made.getvalue()


def folder(studies: int = 1, series: int = 2, instances: int = 5) -> dict[int, tuple[str, bytes]]:
    """A batch's files: number -> (name, bytes), numbers from 1."""
    made = [
        (f"IM{one}-{two}-{three}", dicom(one, two, three))
        for one in range(1, studies + 1)
        for two in range(1, series + 1)
        for three in range(1, instances + 1)
    ]
    return dict(enumerate(made, start=1))


@dataclass(slots=True)
class DicomClient(BatchClient):
    """A client of DICOM batches: its files lie in their own lane, and its messages are handled ten at a time."""

    def begin(self, **body: Any) -> tuple[int, dict[str, Any]]:
        return BatchClient.begin(self, **{"kind": "dicom", **body})

    def key(self, n: int) -> str:
        return f"dicom/{self.tenant}/{self.batch_id}/{n}"

    def send(self) -> None:
        for n in self.files:
            self.post(n)

    def studies(self) -> dict[str, dict[str, Any]]:
        """GET /v1/batches/{id}/studies, by study."""
        path = {"id": self.batch_id}
        status, body = self.world.call("sessions", "GET", "/v1/batches/{id}/studies", path=path, tenant=self.tenant)
        assert status == 200, body
        return {one["study_uid"]: one for one in body["items"]}


def sent(world: World, files: dict[int, tuple[str, bytes]], **body: Any) -> DicomClient:
    """A batch with its manifest, all of it uploaded."""
    client = DicomClient(world, files)
    status, answer = client.begin(**body)
    assert status == 201, answer
    client.list()
    client.send()
    return client


def deliver_together(world: World, messages: list[Message]) -> list[Message]:
    """Messages of the queue in one event; those that were not settled."""
    records = [
        {
            "body": one.body,
            "messageId": one.message_id,
            "receiptHandle": one.receipt_handle,
            "receive_count": one.receive_count,
            "queue": one.queue,
        }
        for one in messages
    ]
    answer = world_module.handler_of("dicom_ingest")(events.sqs(*records), events.Context("dicom_ingest", 120, 512))
    failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
    for one in messages:
        if one.message_id not in failed:
            world.queues.delete(one)
    return [one for one in messages if one.message_id in failed]


def received(world: World, group: int, chance: random.Random | None = None) -> list[Message]:
    """Up to ``group`` visible messages of the queue, in order or as chance wants."""
    taken: list[Message] = []
    others: list[Message] = []
    while len(taken) < group:
        message = world.queues.receive(newest_first=bool(chance and chance.random() < 0.3))
        if message is None:
            break
        (taken if message.queue == "dicom_ingest" else others).append(message)
    for message in others:
        try:
            world.deliver(message)
        except Killed:
            world.gate.around = None
    return taken


def pump(
    world: World,
    *,
    group: int = 10,
    copies: int = 1,
    rounds: int = 400,
    chance: random.Random | None = None,
    after: Callable[[], object] = lambda: None,
    go_on: bool = False,
) -> None:
    """Deliver until nothing is left, ten messages at a time; kills cost their messages, the clock goes on.

    ``go_on``: what disturbs the calls stays after a kill.
    """
    for _ in range(rounds):
        world.announce(copies=copies, reverse=bool(chance and chance.random() < 0.3))
        messages = received(world, group, chance)
        if not messages:
            hidden = [one.visible_at for one in world.queues.messages]
            if not hidden:
                return
            world.clock.now = max(world.clock.now, min(hidden) + 0.001)
            continue
        try:
            deliver_together(world, messages)
        except Killed:
            world.gate.around = world.gate.around if go_on else None
        after()
    raise AssertionError(f"{rounds} rounds and no end: {world.queues.messages[:3]}")


def index_items(world: World, kinds: Iterable[str] = ("ST", "SE")) -> dict[tuple[str, str], dict[str, Any]]:
    """The items of the index."""
    wanted = set(kinds)
    return {key: item for key, item in world.table.items.items() if key[0].split("#")[2] in wanted}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP as Python writes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def upload(world: World, name: str, data: bytes, **entry: Any) -> str:
    """A file by itself, all of it sent."""
    file_id = world.initiate(name, data, **entry)
    world.put(file_id, data)
    world.complete(file_id)
    return file_id


def _break_one_copy(world: World) -> None:
    """The next copy of a part is not answered; what is there is gone on with."""
    plain = world.gate.around

    def around(call: Call, run: Callable[[], Any]) -> Any:
        if call.operation == "upload_part_copy":
            world.gate.around = plain
            raise ConnectionClosedError(endpoint_url="https://s3.example")
        return plain(call, run) if plain else run()

    world.gate.around = around


def live(world: World) -> None:
    """Every way that a DICOM file can take, in short."""
    client = sent(world, {1: ("a", dicom(1, 1, 1)), 2: ("b", dicom(1, 1, 1)), 3: ("c", dicom(1, 1, 1, pixels=2))})
    with patch.object(expanding, "READ_MAX", 100):
        sent(world, {1: ("d.zip", zipped({"IM1": dicom(2, 1, 1), "IM2": dicom(2, 1, 2)}))})
        pump(world)
    # By itself, in parts, handed over by validate.
    with patch.object(single, "COPY_OBJECT_MAX", 100):
        ids = [upload(world, "e.dcm", dicom(3, 1, 1), kind="dicom"), upload(world, "scan", dicom(3, 1, 2))]
        _break_one_copy(world)
        pump(world)
    assert [world.status(file_id) for file_id in ids] == ["completed", "completed"]
    # Another takes the place of one that was uploaded in parts.
    with patch.dict(os.environ, {"DICOM_CONFLICT": "replace"}):
        settings.cache_clear()
        upload(world, "f.dcm", dicom(3, 1, 1, pixels=9), kind="dicom")
        pump(world)
    settings.cache_clear()
    assert world.status(ids[0]) == "deleted"
    assert client.studies()
    # The only file of a study goes, and the study with it.
    alone = sent(world, {1: ("g", dicom(4, 1, 1))})
    pump(world)
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": alone.file_id(1)})
    pump(world)
    assert alone.studies() == {}
    world.call("complete", "DELETE", "/v1/files/{id}", path={"id": client.file_id(1)})
    # The recount's message is lost: the sweeper counts.
    world.queues.messages.clear()
    world.clock.advance(2_000)
    assert world.sweep().get("series_counted") == 1
    assert client.studies() == {}
    # Its event is lost: the sweeper finds the object, and looks how busy the queue is before it says so.
    lost = sent(world, {1: ("g", dicom(4, 1, 1))})
    world.queues.messages.clear()
    world.clock.advance(2_000)
    world.sweep()
    pump(world)
    assert len(lost.studies()) == 1
