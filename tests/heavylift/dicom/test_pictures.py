"""From a file's ranges to a picture, as the server draws it."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image as Pictures
from pydicom.pixels import pixel_array

from heavylift.dicom import pictures
from heavylift.dicom.pictures import Picture, dataset_of, draw, read_picture
from heavylift.dicom.viewing import Window
from heavylift.errors import ContentError, RequestError
from heavylift.ranges import drive
from tests.heavylift.dicom.made import TEST_FILES, Element, ct, dataset, elements, header_of, meta
from tests.heavylift.dicom.test_header import deflated

BUDGET = 256 << 20


def picture_of(data: bytes, number: int = 1, budget: int = BUDGET) -> Picture:
    header = header_of(data, to_pixel_data=True)
    return drive(read_picture(header, number, budget), lambda offset, length: data[offset : offset + length])


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_the_last_frame_is_drawn(name: str) -> None:
    """Native or compressed: its pixels are pydicom's."""
    data = (TEST_FILES / name).read_bytes()
    frames = header_of(data).number_of_frames
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugin = "pillow" if name == "examples_ybr_color.dcm" else ""
        expected = pixel_array(io.BytesIO(data), index=frames - 1, decoding_plugin=plugin)
        drawn = np.asarray(Pictures.open(io.BytesIO(draw(picture_of(data, frames), "image/png"))))

    assert drawn.shape == expected.shape
    assert np.abs(drawn.astype(int) - expected.astype(int)).max() <= 1


def test_a_deflated_file_is_drawn() -> None:
    """It is read as a whole, which is limited."""
    data = (TEST_FILES / "image_dfl.dcm").read_bytes()
    expected = pydicom.dcmread(io.BytesIO(data)).pixel_array
    drawn = np.asarray(Pictures.open(io.BytesIO(draw(picture_of(data), "image/png"))))

    assert drawn.shape == expected.shape
    assert np.corrcoef(drawn.ravel(), expected.ravel())[0, 1] > 0.99
    header = header_of(data)
    read = drive(dataset_of(header), lambda offset, length: data[offset : offset + length])
    assert read.text(0x00080060) == header.modality


def test_a_window_may_be_asked_for() -> None:
    """A dark one and a bright one."""
    picture = picture_of((TEST_FILES / "CT_small.dcm").read_bytes())
    dark, bright = (
        np.asarray(Pictures.open(io.BytesIO(draw(picture, "image/png", window=Window(center, 100)))))
        for center in (3000, -3000)
    )

    assert (int(dark.max()), int(bright.min())) == (0, 255)


def test_pictures_that_are_not_there() -> None:
    """A frame, the pixels, or the memory."""
    data = ct()
    with pytest.raises(RequestError):
        picture_of(data, 2)
    with pytest.raises(ContentError) as none:
        picture_of(meta("1.2.840.10008.1.2.1") + dataset(elements()))
    with pytest.raises(ContentError) as large:
        picture_of(data, budget=1 << 20)

    assert (none.value.code, large.value.code) == ("unsupported_feature", "too_large_to_decode")


def test_deflated_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """When their pixels are asked for; the index never inflates them."""
    monkeypatch.setattr(pictures, "DEFLATED_BYTES_MAX", 1 << 20)
    parts = [*elements(), Element(0x7FE00010, b"OW", bytes(2 << 20))]
    with pytest.raises(ContentError) as caught:
        picture_of(deflated(dataset(parts)))

    assert caught.value.code == "limit_exceeded"
