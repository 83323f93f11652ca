"""Peak memory of reading and rendering DICOM files, by VmHWM in a process of its own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.heavylift.dicom.made import Element, dataset, element, elements, item, meta, us

MIB = 1 << 20
pytestmark = [
    pytest.mark.memory,
    pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's"),
]
PEAK = """
import json, os, sys
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
"""
HEADER = (
    PEAK
    + """
from heavylift.dicom.header import scan
from heavylift.errors import ContentError
before = peak()
file = os.open(sys.argv[1], os.O_RDONLY)
try:
    found = scan(lambda offset, length: os.pread(file, length, offset), os.fstat(file).st_size)
    said = {"requests": found.requests, "bytes_read": found.bytes_read}
except ContentError as error:
    said = {"code": error.code}
heavy = sorted({"numpy", "pydicom", "PIL", "boto3"} & set(sys.modules))
print(json.dumps(said | {"peak": peak() - before, "heavy": heavy}))
"""
)
RENDER = (
    PEAK
    + """
import numpy, PIL.Image, pydicom.pixels.decoders, pydicom.encaps
from heavylift.dicom.dataset import read_dataset
from heavylift.dicom.frames import native_frame, read_frame
from heavylift.dicom.header import scan
from heavylift.dicom.pixels import decode_frame, image_of
from heavylift.dicom.render import encode, look_of, to_eight_bits
from heavylift.ranges import drive
before = peak()
file = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(file).st_size
def fetch(offset, length):
    return os.pread(file, length, offset)
header = scan(fetch, size, to_pixel_data=True)
found = drive(read_dataset(header.dataset_offset, size, header.encoding), fetch)
image = image_of(found, header.pixel_data, header.transfer_syntax_uid)
if header.pixel_data.length is None:
    frame = drive(read_frame(header.pixel_data, size, 1, header.number_of_frames), fetch)
else:
    frame = native_frame(header.pixel_data.offset, header.pixel_data.length, image.shape, 1)
samples, photometric = decode_frame(b"".join(fetch(p.offset, p.length) for p in frame.pieces), image)
encode(to_eight_bits(samples, photometric, image, look_of(found, image)), edge=512)
print(json.dumps({"peak": peak() - before, "estimate": image.estimated_memory_bytes}))
"""
)


def run(program: str, path: Path) -> dict[str, object]:
    child = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(child.stdout)
    return answer


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return meta("1.2.840.10008.1.2.1.99") + deflate.compress(data) + deflate.flush()


def bomb_in_the_pixels() -> bytes:
    return deflated(dataset(elements()) + element(0x7FE00010, b"OW", bytes(64 * MIB)))


def bomb_in_the_header() -> bytes:
    return deflated(element(0x00080005, b"CS", b"ISO_IR 100") + element(0x00091010, b"OB", bytes(64 * MIB)))


def nested() -> bytes:
    level = element(0x00081110, b"SQ", b"", length=0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return meta("1.2.840.10008.1.2.1") + level * 500_000


def private_block() -> bytes:
    parts = [*elements(), Element(0x00091010, b"OB", bytes(64 * MIB)), Element(0x7FE00010, b"OW", bytes(512))]
    return meta("1.2.840.10008.1.2.1") + dataset(parts)


@pytest.mark.parametrize("make", [bomb_in_the_pixels, bomb_in_the_header, nested, private_block])
def test_a_header_takes_little_memory_whatever_the_file(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    """Below 24 MB beside the interpreter; and no library that a cold start would pay for is loaded."""
    path = tmp_path / "a.dcm"
    path.write_bytes(make())
    said = run(HEADER, path)

    assert said["peak"] < 24_000_000  # type: ignore[operator]
    assert said["heavy"] == []
    assert said.get("code") == {"bomb_in_the_header": "limit_exceeded", "nested": "limit_exceeded"}.get(make.__name__)


def picture(edge: int) -> list[Element]:
    replaced = {0x00280010: us(edge), 0x00280011: us(edge), 0x00280101: us(16), 0x00280102: us(15)}
    return [part._replace(value=replaced.get(part.tag, part.value)) for part in elements()]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"])
def test_rendering_stays_below_its_estimate(tmp_path: Path, syntax: str) -> None:
    """A frame of 8 MB, native, JPEG 2000 and JPEG-LS; the estimate is not absurd either."""
    edge = 2048
    samples = (np.add.outer(np.arange(edge), np.arange(edge)) % 4096).astype("<u2")
    head = meta(syntax) + dataset(picture(edge))
    path = tmp_path / "a.dcm"
    if syntax == "1.2.840.10008.1.2.1":
        path.write_bytes(head + element(0x7FE00010, b"OW", samples.tobytes()))
    else:
        if syntax.endswith("90"):
            from openjpeg.utils import encode_array

            frame = encode_array(samples, bits_stored=16)
        else:
            from jpeg_ls import encode

            frame = bytes(encode(samples))
            frame += b"\0" * (len(frame) % 2)
        value = item(b"") + item(bytes(frame) + b"\0" * (len(frame) % 2)) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        path.write_bytes(head + element(0x7FE00010, b"OB", value, length=0xFFFFFFFF))
    said = run(RENDER, path)

    assert said["peak"] <= said["estimate"]  # type: ignore[operator]
    assert said["estimate"] < 6 * said["peak"]  # type: ignore[operator]
