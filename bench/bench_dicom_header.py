"""The header path against pydicom with specific tags, from memory, over the same files in the same process.

    ours          heavylift.dicom.header.scan: the UIDs checked, the pixels found, the file's end proven
    ours looked   the same, and each attribute of the index taken as text or number, decoded by its character set
    read          pydicom.dcmread(BytesIO, stop_before_pixels=True, specific_tags=the same), nothing looked at
    looked        the same, and each attribute's value taken as text, which is when pydicom decodes it

Files: those with pixel data that ship with pydicom, and a made CT of 250 elements and 137 KB. Processor time in
microseconds a file, least of the rounds, rounds interleaved. One JSON line a file, one with the ratios of the sums.

    python bench/bench_dicom_header.py [--rounds 7] [--calls 20]
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from heavylift.dicom.header import INDEX_TAGS, Header, scan
from heavylift.errors import ContentError

BAR = 4.0
FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
TAGS = [Tag(tag) for tag in sorted(INDEX_TAGS)]


def made_ct(edge: int = 256, uids: tuple[str, str, str] = ("", "", "")) -> bytes:
    """A CT slice of ``edge`` x ``edge`` pixels with about 250 elements, private ones and sequences among them.

    ``uids``: of its study, its series and itself.
    """
    study, series, instance = (
        given or generate_uid(entropy_srcs=[name])
        for given, name in zip(uids, ("study", "series", "instance"), strict=True)
    )
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = instance
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Test^Made", "42", "CT"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyDescription = "20260101", "120000", "A made study"
    dataset.SeriesNumber, dataset.InstanceNumber = 3, 17
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 1.5], [1, 0, 0, 0, 1, 0]
    block = dataset.private_block(0x0009, "MADE", create=True)
    for number in range(200):
        block.add_new(number, ("LO", "DS", "SH", "UI")[number % 4], ("text", "1.25", "code", "1.2.3")[number % 4])
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "DCM", "made"
    dataset.ProcedureCodeSequence = [item] * 3
    dataset.Rows = dataset.Columns = edge
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = bytes(2 * edge * edge)
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def files() -> dict[str, bytes]:
    """Every file that both read, and that has pixels."""
    found = {"made CT": made_ct()}
    for path in sorted(FOLDER.glob("*.dcm")):
        data = path.read_bytes()
        try:
            header = ours(data)
        except ContentError:
            continue
        if header.pixel_data is not None and header.has_preamble:
            found[path.name] = data
    return found


def ours(data: bytes) -> Header:
    return scan(lambda offset, length: data[offset : offset + length], len(data))


ATTRIBUTES = [name for name in vars(Header) if name.islower() and not name.startswith("_")]


def ours_looked(data: bytes) -> list[object]:
    header = ours(data)
    return [getattr(header, name) for name in ATTRIBUTES]


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=TAGS)


def looked(data: bytes) -> list[str]:
    return [str(element.value) for element in read(data)]


def microseconds(work: Callable[[bytes], object], data: bytes, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        work(data)
    return (time.process_time() - began) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    works: dict[str, Callable[[bytes], object]] = {
        "ours": ours,
        "ours_looked": ours_looked,
        "read": read,
        "looked": looked,
    }
    sums = dict.fromkeys(works, 0.0)
    lowest = float("inf")
    for name, data in files().items():
        rounds = [
            {way: microseconds(work, data, asked.calls) for way, work in works.items()} for _ in range(asked.rounds)
        ]
        taken = {way: min(costs[way] for costs in rounds) for way in works}
        for way, cost in taken.items():
            sums[way] += cost
        lowest = min(lowest, taken["read"] / taken["ours"])
        print(json.dumps({"file": name, "bytes": len(data)} | {way: round(cost, 1) for way, cost in taken.items()}))
    ratio = sums["read"] / sums["ours"]
    print(
        json.dumps(
            {
                "bench": "dicom_header",
                "read_over_ours": round(ratio, 2),
                "looked_over_ours_looked": round(sums["looked"] / sums["ours_looked"], 2),
                "lowest_file": round(lowest, 2),
                "bar": BAR,
                "met": min(ratio, sums["looked"] / sums["ours_looked"]) >= BAR,
                "python": platform.python_version(),
                "machine": f"{os.cpu_count()} x {platform.machine()}",
            }
        )
    )


if __name__ == "__main__":
    main()
