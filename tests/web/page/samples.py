"""Files as people have them, made here: landscapes, a camera's RAW, a head in slices, a table with mistakes."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.heavylift.raw.raws import Directory, Writer, dng, jpeg_directory

Floats = NDArray[np.float64]
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
UID_ROOT = "1.2.826.0.1.3680043.10.1339"
# Upper sky, lower sky, far hills, near hills.
PALETTES: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "morning": ((64, 106, 150), (250, 214, 170), (122, 140, 160), (38, 58, 62)),
    "evening": ((40, 34, 74), (244, 132, 92), (104, 62, 92), (24, 20, 40)),
    "noon": ((52, 120, 186), (206, 230, 240), (124, 160, 150), (44, 92, 62)),
    "winter": ((120, 146, 168), (238, 240, 242), (176, 190, 202), (86, 104, 118)),
    "desert": ((86, 128, 168), (250, 226, 178), (214, 150, 96), (140, 76, 44)),
}


def landscape(name: str, width: int = 1200, height: int = 800) -> Image.Image:
    """Hills under a sky with a sun; the same picture for the same name."""
    return painted(name).resize((width, height), Image.Resampling.BICUBIC)


@cache
def painted(name: str, width: int = 600, height: int = 400) -> Image.Image:
    chance = np.random.default_rng(sum(map(ord, name)))
    top, low, far, near = (np.array(colour, float) for colour in PALETTES[name])
    y, x = np.mgrid[0:height, 0:width] / (height, width)[0]
    picture: Floats = top + (low - top) * np.clip(y / 0.72, 0, 1)[..., None] ** 1.3
    sun = np.hypot(x - chance.uniform(0.4, 1.1), y - chance.uniform(0.25, 0.5))
    picture += np.exp(-((sun / 0.22) ** 2))[..., None] * (60, 46, 24) + (sun < 0.05)[..., None] * (40, 38, 30)
    line = np.arange(width) / height
    for place in range(5):
        share = place / 4
        waves = sum(
            np.sin(line * chance.uniform(2, 5) * 2**octave + chance.uniform(0, 9)) / 2.1**octave for octave in range(5)
        )
        ridge = 0.56 + 0.085 * place + (0.05 + 0.02 * share) * waves
        colour = far + (near - far) * share
        inside = y > ridge[None, :]
        haze = np.clip((y - ridge[None, :]) * 2.2, 0, 0.45)[..., None] * (1 - share)
        picture = np.where(inside[..., None], colour * (1 - haze) + low * haze, picture)
    picture += chance.normal(0, 1.6, picture.shape[:2])[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def jpeg_of(image: Image.Image, quality: int = 88) -> bytes:
    made = io.BytesIO()
    image.save(made, "JPEG", quality=quality)
    return made.getvalue()


def raw_of(name: str) -> bytes:
    """A DNG whose embedded preview is the landscape."""
    small, large = landscape(name, 400, 300), landscape(name, 1440, 1080)
    previews: list[Directory] = [jpeg_directory(jpeg_of(one), *one.size) for one in (small, large)]
    return Writer(big=False).write(dng(previews))


# A head in the unit cube: centre, half axes, tilt in degrees, Hounsfield units added.
ELLIPSOIDS = (
    ((0, 0, 0), (0.69, 0.92, 0.81), 0, 1000 + 1000),
    ((0, -0.018, 0), (0.66, 0.874, 0.78), 0, -960),
    ((0.22, 0, 0), (0.11, 0.31, 0.22), -18, -32),
    ((-0.22, 0, 0), (0.16, 0.41, 0.28), 18, -32),
    ((0, 0.35, -0.15), (0.21, 0.25, 0.41), 0, 26),
    ((0, 0.1, 0.25), (0.046, 0.046, 0.05), 0, 34),
    ((-0.08, -0.605, 0), (0.046, 0.023, 0.05), 0, 40),
    ((0.06, -0.605, 0), (0.046, 0.023, 0.05), 0, 40),
)


def slice_of_head(height: float, edge: int, axis: str = "axial") -> NDArray[np.int16]:
    """Hounsfield units of a slice at ``height`` (-1 to 1), after Shepp and Logan's phantom (1974)."""
    b, a = np.mgrid[1 : -1 : edge * 1j, -1 : 1 : edge * 1j]
    flat = np.full_like(a, height)
    x, y, z = (a, b, flat) if axis == "axial" else (flat, a, b)
    units = np.full_like(a, -1000.0)
    for (cx, cy, cz), (rx, ry, rz), tilt, more in ELLIPSOIDS:
        turn = np.radians(tilt)
        u, v = x - cx, y - cy
        u, v = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
        units += more * ((u / rx) ** 2 + (v / ry) ** 2 + ((z - cz) / rz) ** 2 <= 1)
    return (units + np.random.default_rng(int((height + 2) * 1e6)).normal(0, 6, units.shape)).astype(np.int16)


def head_image(series: int, number: int, of: int, edge: int) -> bytes:
    """One CT image of the study."""
    axis = ("axial", "sagittal")[series - 1]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_IMAGE
    meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}.1.{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = Dataset()
    one.file_meta = meta
    one.SOPClassUID, one.SOPInstanceUID = CT_IMAGE, meta.MediaStorageSOPInstanceUID
    one.StudyDate, one.StudyTime, one.AccessionNumber = "20261118", "091500", "A-2026-118"
    one.Modality, one.StudyDescription = "CT", "Head without contrast"
    one.SeriesDescription = f"Head {axis} 5 mm"
    one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = (
        "Phantom^Ellipsoid",
        "PH-0042",
        "19740615",
        "O",
    )
    one.StudyInstanceUID, one.SeriesInstanceUID = f"{UID_ROOT}.1", f"{UID_ROOT}.1.{series}"
    one.StudyID, one.SeriesNumber, one.InstanceNumber = "1", series, number
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.Rows = one.Columns = edge
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleIntercept, one.RescaleSlope = "0", "1"
    one.WindowCenter, one.WindowWidth = "40", "180"
    one.PixelData = slice_of_head(-0.7 + 1.4 * (number - 1) / max(1, of - 1), edge, axis).tobytes()
    made = io.BytesIO()
    one.save_as(made, enforce_file_format=True)
    return made.getvalue()


def dicom_folder(folder: Path, images: int = 8, edge: int = 160) -> Path:
    """Two series of a head, and what else lies in such folders: a stray text, a file that is none of it."""
    for series, count in ((1, images), (2, images // 2)):
        place = folder / f"SER{series}"
        place.mkdir(parents=True)
        for number in range(1, count + 1):
            (place / f"IM{number:04}").write_bytes(head_image(series, number, count, edge))
    (folder / "README.TXT").write_text("Burned by nobody in particular.\n")
    (folder / "SER1" / "IM9999").write_bytes(head_image(1, 1, 1, 64)[:900])
    return folder


def table_with_defects() -> str:
    """A CSV whose lines 5, 9 and 14 are wrong in three ways; line 1 is the header."""
    lines = ["id,station,measured_at,temperature_c"]
    lines += [f"{n},north-{n % 3},2026-11-{1 + n % 28:02}T08:00:00Z,{7.5 + n % 9:.1f}" for n in range(1, 40)]
    lines[4] = "4,north-1,2026-11-05T08:00:00Z"
    lines[8] = "8,north-2,2026-11-09T08:00:00Z,15.5,again"
    lines[13] = '13,"north-1,2026-11-14T08:00:00Z,11.5'
    lines[14] = '14,north"-2,2026-11-15T08:00:00Z,12.5'
    return "\n".join(lines) + "\n"


def broken_tiff() -> bytes:
    """A TIFF whose one directory says that it has strips far behind the file's end."""
    shorts = {258: 8, 259: 1, 262: 1, 277: 1}  # bits, compression, photometric, samples
    longs = {256: 4000, 257: 3000, 273: 9000, 278: 3000, 279: 12_000_000}  # width, height, offset, rows, bytes
    entries = sorted(
        [(tag, 3, 1, one) for tag, one in shorts.items()] + [(tag, 4, 1, one) for tag, one in longs.items()]
    )
    body = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return body + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4) + bytes(2000)
