"""Frames and pictures by dicomweb-client from the running stack, as pydicom reads and draws the same files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut, apply_windowing

from tests.doubles.dicom import ROOT, dicom
from tests.interop.conftest import Desk

pytestmark = pytest.mark.xdist_group("stack")

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
NAMES = ("CT_small.dcm", "SC_rgb_rle_2frame.dcm", "MR_small_jpeg_ls_lossless.dcm", "rtdose_expb_1frame.dcm")
PLAIN = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
WHATEVER = (("application/octet-stream", "*"),)


@pytest.fixture
def client(desk: Desk) -> DICOMwebClient:
    return DICOMwebClient(url=f"{desk.stack.api}/v1/dicomweb", headers={"Authorization": f"Bearer {desk.token}"})


def test_frames_and_pictures(client: DICOMwebClient, desk: Desk) -> None:
    """Stored frames byte for byte, decoded ones as arrays, a window to one grey level; thumbnails of a series."""
    ids = [desk.send_bytes(name, (TEST_FILES / name).read_bytes(), kind="dicom") for name in NAMES]
    for name, file_id in zip(NAMES, ids, strict=True):
        assert desk.wait_final(file_id)["status"] == "completed"
        read = dcmread(TEST_FILES / name)
        place = (read.StudyInstanceUID, read.SeriesInstanceUID, read.SOPInstanceUID)
        frames = int(read.get("NumberOfFrames") or 1)
        numbers = list(range(1, frames + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = read.pixel_array.astype(read.pixel_array.dtype.newbyteorder("<"))
        plain = client.retrieve_instance_frames(*place, numbers, media_types=PLAIN)
        assert b"".join(plain) == samples.tobytes()
        stored = client.retrieve_instance_frames(*place, numbers, media_types=WHATEVER)
        if read.file_meta.TransferSyntaxUID.is_compressed:
            assert stored == list(generate_frames(read.PixelData, number_of_frames=frames))
            assert client.retrieve_instance_frames(*place, numbers) == stored
        else:
            assert b"".join(stored) == samples.tobytes()

    read = dcmread(TEST_FILES / "CT_small.dcm")
    place = (read.StudyInstanceUID, read.SeriesInstanceUID, read.SOPInstanceUID)
    drawn = client.retrieve_instance_rendered(
        *place, media_types=("image/png",), params={"window": "40,400,linear", "viewport": "128,128"}
    )
    read.WindowCenter, read.WindowWidth = 40, 400
    values = apply_windowing(np.append(apply_modality_lut(read.pixel_array, read).ravel(), (-1e6, 1e6)), read)
    expected = (values[:-2] - values[-2]) / (values[-1] - values[-2]) * 255
    seen = np.asarray(Image.open(io.BytesIO(drawn))).ravel()
    assert np.abs(seen - expected).max() <= 1.5
    jpeg = client.retrieve_instance_frames_rendered(*place, [1], media_types=("image/jpeg",))
    assert Image.open(io.BytesIO(jpeg)).size == (128, 128)
    path = f"{desk.stack.api}/v1/dicomweb/studies/{place[0]}/series/{place[1]}/thumbnail"
    headers = {"Authorization": f"Bearer {desk.token}"}
    small = [requests.get(path, headers=headers, timeout=60) for _ in range(2)]
    assert small[0].content == small[1].content
    assert Image.open(io.BytesIO(small[0].content)).format == "JPEG"
    assert len(desk.keys("derived", f"dicom/{desk.tenant}/{ids[0]}/")) == 1


def test_a_frame_above_four_mib(client: DICOMwebClient, desk: Desk) -> None:
    """By a signed link to a body that S3 has put together, most of it copied; again by the same object."""
    data = dicom(8, 1, 1, edge=2_860)
    file_id = desk.send_bytes("large.dcm", data, kind="dicom")
    assert desk.wait_final(file_id)["status"] == "completed"
    place = (f"{ROOT}.8", f"{ROOT}.8.1", f"{ROOT}.8.1.1")
    pixels = dcmread(io.BytesIO(data)).PixelData
    for _ in range(2):
        assert list(client.iter_instance_frames(*place, [1], media_types=WHATEVER)) == [pixels]
    assert len(desk.keys("derived", f"frames/{desk.tenant}/{file_id}/")) == 1
