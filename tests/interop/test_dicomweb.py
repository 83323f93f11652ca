"""dicomweb-client, a client that is not ours, against the running stack; pydicom says what it should get."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from heavylift_client import cli
from tests.doubles.dicom import ROOT, dicom
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("stack")

STUDY, SERIES = f"{ROOT}.1", f"{ROOT}.1.1"
PEAK_BYTES_MAX = 256 << 20  # of 1769 MB; parts written by hand are 8 MiB, four at a time
FILES = {(series, number): dicom(1, series, number, edge=8, pixels=number) for series in (1, 2) for number in (1, 2, 3)}


@pytest.fixture
def client(desk: Desk) -> DICOMwebClient:
    return DICOMwebClient(url=f"{desk.stack.api}/v1/dicomweb", headers={"Authorization": f"Bearer {desk.token}"})


def peak_of(desk: Desk) -> int:
    """The highest VmHWM of dicomweb's sandboxes, read from outside."""
    peak = 0
    for process in psutil.Process(desk.stack.pids["up"]).children(recursive=True):
        try:
            if process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == "dicomweb":
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
        except (psutil.Error, OSError, IndexError):
            continue  # it ended meanwhile
    return peak


def parsed(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data))


def written(found: Dataset) -> bytes:
    made = io.BytesIO()
    found.save_as(made, enforce_file_format=True)
    return made.getvalue()


def test_store_search_and_retrieve(client: DICOMwebClient, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stored is found, described and given back, byte for byte; counts are right at once."""
    stored = client.store_instances([parsed(data) for data in FILES.values()])
    assert len(stored.ReferencedSOPSequence) == 6
    assert "FailedSOPSequence" not in stored

    (study,) = map(Dataset.from_json, client.search_for_studies(search_filters={"PatientID": "ZZID-0815"}))
    assert (study.StudyInstanceUID, study.NumberOfStudyRelatedInstances) == (STUDY, 6)
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(client.search_for_studies(search_filters={"00080020": "20240101-20240201"}, fields=["StudyID"])) == 1
    series = client.search_for_series(STUDY, search_filters={"Modality": "CT"})
    assert [one["0020000E"]["Value"][0] for one in series] == [f"{STUDY}.1", f"{STUDY}.2"]
    assert len(client.search_for_instances(STUDY, limit=2, offset=1)) == 2
    assert len(client.search_for_instances(STUDY, limit=2, get_remaining=True)) == 6

    for (number, _), data in zip([(1, 1)], [FILES[1, 1]], strict=True):
        sop = f"{SERIES}.{number}"
        expected = parsed(data)
        found = Dataset.from_json(client.retrieve_instance_metadata(STUDY, SERIES, sop))
        for element in expected:
            if element.tag != 0x7FE00010:
                assert found[element.tag].value == element.value, element.keyword
        assert written(client.retrieve_instance(STUDY, SERIES, sop)) == data
        (pixels,) = client.retrieve_bulkdata(
            client.retrieve_instance_metadata(STUDY, SERIES, sop)["7FE00010"]["BulkDataURI"]
        )
        assert pixels == expected.PixelData
    assert len(client.retrieve_study_metadata(STUDY)) == 6
    metadata = client.retrieve_series_metadata(STUDY, SERIES)
    assert [one["00200013"]["Value"] for one in metadata] == [[1], [2], [3]]
    files = client.retrieve_series(STUDY, SERIES)
    assert sorted(written(one) for one in files) == sorted(FILES[1, number] for number in (1, 2, 3))

    assert cli.main(["studies", "--api", desk.stack.api, "--token", desk.token]) == 0
    out = capsys.readouterr().out
    assert STUDY in out
    assert "6 instances" in out


def test_a_file_above_four_mib(client: DICOMwebClient, desk: Desk) -> None:
    """By a signed link to an object: alone, in parts, its study; the same bytes, and the token goes no further."""
    data = dicom(7, 1, 1, edge=1_500)
    assert len(data) > 4 << 20
    file_id = desk.send_bytes("big.dcm", data, kind="dicom")
    assert desk.wait_final(file_id)["status"] == "completed"
    study, series = f"{ROOT}.7", f"{ROOT}.7.1"
    (found,) = list(client.iter_series(study, series))
    assert written(found) == data

    def get(path: str, accept: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {desk.token}", "Accept": accept}
        return requests.get(f"{desk.stack.api}/v1/dicomweb{path}", headers=headers, timeout=60, **more)

    path = f"/studies/{study}/series/{series}/instances/{series}.1"
    alone = get(path, "application/dicom")
    assert (alone.status_code, alone.content, alone.headers["content-type"]) == (200, data, "application/dicom")
    assert [one.status_code for one in alone.history] == [307]
    assert "Authorization" not in alone.request.headers
    whole = get(f"/studies/{study}", "multipart/related; type=application/dicom")
    assert data in whole.content
    assert whole.headers["content-type"].startswith("multipart/related")
    piece = requests.get(whole.url, headers={"Range": "bytes=0-9"}, timeout=60)
    assert (piece.status_code, piece.content) == (206, whole.content[:10])
    too_large = requests.post(
        f"{desk.stack.api}/v1/dicomweb/studies",
        data,
        headers={"Authorization": f"Bearer {desk.token}", "Content-Type": "application/dicom"},
        timeout=60,
    )
    assert too_large.status_code == 413
    assert 0 < peak_of(desk) < PEAK_BYTES_MAX


def test_scopes_and_tenants(desk: Desk, tmp_path: Path) -> None:
    """Reading needs read, storing write; without a token nothing; another tenant sees nothing."""
    url = f"{desk.stack.api}/v1/dicomweb/studies"
    reader, writer = (desk.stack.token(desk.tenant, scope=f"heavylift/{scope}") for scope in ("read", "write"))

    def post(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/dicom"}
        return requests.post(url, FILES[1, 1], headers=headers, timeout=60).status_code

    def get(token: str | None, path: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.get(url + path, headers=headers, timeout=60).status_code

    assert (post(reader), post(writer), get(None), get(writer)) == (403, 200, 401, 403)
    assert get(reader, f"/{STUDY}/metadata") == 200
    other = desk.stack.token(f"{desk.tenant}-other")
    assert (get(other), get(other, f"/{STUDY}/metadata")) == (204, 404)
