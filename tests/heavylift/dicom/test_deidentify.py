"""De-identified copies: nothing of the patient is left, the pictures are the same, other programs read them."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset

from heavylift.dicom.basic_profile import CODES
from heavylift.dicom.deidentify import DECISIONS, Copy, action_of, deidentify, derived_uid
from heavylift.dicom.values import valid_uid
from heavylift.errors import ContentError
from heavylift.ranges import Range, drive
from tests.heavylift.dicom.made import Element, ct, element, header_of, item, real_files
from tests.heavylift.dicom.test_header import DEFLATED, dataset, deflated, elements

KEY = b"one tenant's key"
SECRET = "PLANTED SECRET"
DATE = "19771231"


def copy_of(data: bytes, key: bytes = KEY) -> tuple[bytes, Copy]:
    def fetch(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    copy = drive(deidentify(header_of(data, to_pixel_data=True), key), fetch)
    out = b"".join(fetch(piece.offset, piece.length) if isinstance(piece, Range) else piece for piece in copy.pieces)
    assert len(out) == copy.size_bytes
    return out, copy


def planted(vr: str) -> object:
    """A value that must not come through."""
    match vr:
        case "DA":
            return DATE
        case "DT":
            return DATE + "115959"
        case "TM":
            return "115959.77"
        case "AS":
            return "077Y"
        case "IS" | "DS":
            return "7712"
        case "UI":
            return "1.9.7712.1"
        case "AE" | "SH" | "CS":
            return SECRET[:14]
        case "PN" | "LO" | "ST" | "LT" | "UT" | "UC":
            return SECRET
        case "UR":
            return "http://planted.secret"
        case "OB" | "UN" | "OW":
            return SECRET.encode()
        case "US" | "SS" | "UL" | "SL":
            return 7712
        case "FD" | "FL":
            return 7712.25
        case _:
            raise AssertionError(vr)


def with_everything(nested: bool) -> bytes:
    """A file that has each attribute of the table, with a secret in it; at the top or two sequences deep."""
    top = Dataset()
    top.file_meta = FileMetaDataset()
    top.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    top.file_meta.SourceApplicationEntityTitle = SECRET[:14]
    holder = Dataset() if nested else top
    for tag in CODES:
        try:
            vr = dictionary_VR(tag).split(" ")[0]
        except KeyError:
            continue
        if tag in (0x00080018, 0x0020000D, 0x0020000E) or tag >> 16 in (0, 2, 0x5000, 0x6000):
            continue
        if vr == "SQ":
            inner = Dataset()
            inner.PatientName = SECRET
            if DECISIONS.get(CODES[tag], CODES[tag]) == "D":  # then nothing in it is kept, listed or not
                inner.TextValue = SECRET
            inner.add_new(0x00091001, "LO", SECRET)
            holder.add_new(tag, "SQ", [inner])
        else:
            holder.add_new(tag, vr, planted(vr))
    holder.add_new(0x00090010, "LO", "MAKER")
    holder.add_new(0x00091001, "LO", SECRET)
    if nested:
        middle = Dataset()
        middle.add_new(0x00081140, "SQ", [holder])
        middle.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        top.add_new(0x00082112, "SQ", [middle])
    top.SOPClassUID = top.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    top.SOPInstanceUID = top.file_meta.MediaStorageSOPInstanceUID = "1.9.7712.2"
    top.StudyInstanceUID, top.SeriesInstanceUID = "1.9.7712.3", "1.9.7712.4"
    top.Rows = top.Columns = 2
    top.BitsAllocated = top.BitsStored = 8
    top.HighBit, top.PixelRepresentation, top.SamplesPerPixel = 7, 0, 1
    top.PixelData = b"\1\2\3\4"
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(out, top, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_planted_comes_through(nested: bool) -> None:
    """Every attribute of the table, at the top and deep inside, with a secret in it."""
    data = with_everything(nested)
    assert data.count(SECRET[:10].encode()) > 200
    out, _ = copy_of(data)

    for secret in (SECRET[:10].encode(), DATE.encode(), b"115959", b"077Y", b"7712", struct.pack("<d", 7712.25)):
        assert secret not in out, secret
    read = pydicom.dcmread(io.BytesIO(out))
    assert read.PixelData == b"\1\2\3\4"
    assert read.PatientIdentityRemoved == "YES"


def test_each_attribute_is_treated_as_the_table_says() -> None:
    """Removed, emptied, replaced; choices are taken as decided."""
    read = pydicom.dcmread(io.BytesIO(copy_of(with_everything(False))[0]))
    seen = set()
    for tag, code in CODES.items():
        action = DECISIONS.get(code, code)
        assert action == action_of(tag) or tag >> 16 in (0x5000, 0x6000)
        if action == "X":
            assert tag not in read, hex(tag)
            seen.add("X")
        elif tag in read and read[tag].VR != "SQ" and tag != 0x00100010:
            value = read[tag].value
            assert (value in (None, "", b"") or read[tag].is_empty) == (action == "Z"), hex(tag)
            if action == "U":
                assert str(value).startswith("2.25."), hex(tag)
            seen.add(action)
    assert seen == {"X", "Z", "D", "U"}


def indexed(path: Path) -> bool:
    """Whole and with all its UIDs; only such files are copied."""
    try:
        return header_of(path.read_bytes()).transfer_syntax_uid != DEFLATED
    except ContentError:
        return False


@pytest.mark.parametrize("path", list(filter(indexed, real_files())), ids=lambda path: path.name)
def test_real_files_stay_readable(path: Path) -> None:
    """pydicom reads the copy: the same pixel data, other UIDs, no name, no private attribute."""
    data = path.read_bytes()
    header = header_of(data)
    out, copy = copy_of(data)
    again = header_of(out, to_pixel_data=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = pydicom.dcmread(io.BytesIO(data)), pydicom.dcmread(io.BytesIO(out))

        assert after.get("PixelData") == before.get("PixelData")
        assert not [elem.tag for elem in after.iterall() if elem.tag.is_private]
    assert again.study_instance_uid == copy.study_instance_uid == derived_uid(header.study_instance_uid, KEY)
    assert again.patient_name.startswith("ANON-") or not header.patient_name
    assert not (len(header.patient_name) > 4 and header.values[0x00100010].strip() in out)
    assert not again.warnings & {"repeated_element", "trailing_bytes"}
    assert list(after.keys()) == sorted(after.keys())


def test_the_same_key_gives_the_same_uids() -> None:
    """So that a study stays one; another key gives others, and those of the standard stay."""
    uid = derived_uid("1.2.3", KEY)

    assert uid == derived_uid("1.2.3", KEY) != derived_uid("1.2.3", b"another")
    assert valid_uid(uid)
    assert derived_uid("1.2.840.10008.5.1.4.1.1.2", KEY) == "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize(("explicit", "little", "syntax"), [(True, True, ".1"), (False, True, ""), (True, False, ".2")])
def test_each_encoding_keeps_its_own(explicit: bool, little: bool, syntax: str) -> None:
    """The pixels are copied as they are, so the header is written in the encoding that the file has."""
    data = ct("1.2.840.10008.1.2" + syntax, explicit=explicit, little=little, pixels=bytes(range(256)) * 2)
    header = header_of(copy_of(data)[0])

    assert (header.explicit_vr, header.little_endian, header.rows, header.columns) == (explicit, little, 16, 16)
    assert header.warnings == frozenset()


def test_what_follows_the_pixels_is_left_behind() -> None:
    """Signatures and whatever else; the copy ends with its pixels."""
    data = ct() + element(0xFFFAFFFA, b"SQ", item(element(0x04000115, b"OB", SECRET.encode())))

    assert SECRET.encode() not in copy_of(data)[0]


@pytest.mark.parametrize(
    ("modality", "said", "burned_in"),
    [(b"CT", None, False), (b"US", None, True), (b"US", b"NO", False), (b"CT", b"YES ", True)],
)
def test_burned_in_names_are_feared_where_they_occur(modality: bytes, said: bytes | None, burned_in: bool) -> None:
    """By the file's own word, else by modality."""
    parts = [part._replace(value=modality) if part.tag == 0x00080060 else part for part in elements()]
    if said is not None:
        parts.append(Element(0x00280301, b"CS", said))
    data = ct()[:-524]
    data = data[: data.index(b"\x08\0\x16\0UI")] + dataset([*parts, Element(0x7FE00010, b"OW", bytes(512))])

    assert copy_of(data)[1].burned_in is burned_in


def test_a_deflated_file_is_declined() -> None:
    """Its ranges cannot be copied."""
    data = deflated(dataset([*elements(), Element(0x7FE00010, b"OW", bytes(512))]))
    with pytest.raises(ContentError) as caught:
        copy_of(data)

    assert caught.value.code == "unsupported_feature"
    assert header_of(data).transfer_syntax_uid == DEFLATED
