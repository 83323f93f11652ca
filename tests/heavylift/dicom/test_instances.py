"""Items of the index: their round trip, their size, what tells two files apart."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from heavylift import ddb_json, records
from heavylift.batches import members
from heavylift.batches.manifest import Entry
from heavylift.batches.model import Batch
from heavylift.dicom import instances, settling, single, verdicts
from heavylift.dicom.header import Header, scan
from heavylift.dicom.instances import Identity, Instance, Series
from heavylift.states import State
from heavylift_local.tables.units import item_size
from tests.doubles.dicom import dicom

SHA = base64.b64encode(bytes(range(32))).decode()
CRC64, CRC32 = base64.b64encode(bytes(8)).decode(), base64.b64encode(bytes(4)).decode()
LONGEST = "2.25." + "9" * 59


def header_of(data: bytes) -> Header:
    return scan(lambda offset, length: data[offset : offset + length], len(data))


class Overwritten:
    """A header with other values in some places."""

    def __init__(self, header: Header, **values: object) -> None:
        self._header = header
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._header, name)


def stored(item: dict[str, object]) -> dict[str, object]:
    """As the table gives it back."""
    return ddb_json.decode_item(ddb_json.encode_item(item))


def test_an_instance_comes_back_as_it_was() -> None:
    """Every field, from a real header."""
    instance = instances.instance_of(
        header_of(dicom(2, 3, 4)), "01JD2Z3NDEKTSV4RRFFQ69G5FA-000007", Identity(828, "e" * 32, SHA, CRC64, CRC32), 12.5
    )
    again = instances.instance_from(stored(instances.instance_item("acme", instance)))

    assert again == instance
    assert again.key("acme") == "dicom/acme/01JD2Z3NDEKTSV4RRFFQ69G5FA-000007"
    assert (again.rows, again.columns, again.number, again.frames) == (4, 4, 4, 1)


def test_an_instance_is_one_write_unit() -> None:
    """Longest UIDs, all digests, all measures: below 1 KB."""
    full = Instance(
        LONGEST, LONGEST, LONGEST, "01JD2Z3NDEKTSV4RRFFQ69G5FA-000007",
        Identity(4 << 30, "e" * 32, SHA, CRC64, CRC32), LONGEST, LONGEST, 999_999, 65_535, 65_535, 99_999, 16, 3,
        "YBR_PARTIAL_422", 123_456, 4 << 30, 4 << 30, 4 << 30, ("bad_number", "repeated_element"), 1_763_596_800.123,
    )  # fmt: skip

    assert item_size(ddb_json.encode_item(instances.instance_item("t" * 63, full))) <= 1_024


def test_series_and_study_come_back_and_are_indexed() -> None:
    """What describes them is kept; the study is found by date, patient, order and name, the series by modality."""
    header = header_of(dicom(1, 2, 3, patient="Müller^Jürgen", charset="ISO_IR 192", patient_id="P1"))
    study, series = instances.study_of(header, 5.0), instances.series_of(header)
    item = instances.study_item("acme", study)
    of_series = {**instances.series_key("acme", study.study_uid, series.series_uid)}
    of_series |= instances.series_attributes("acme", series)

    assert instances.study_from(stored(item)) == study
    assert instances.series_from(stored(of_series)) == series
    assert study.patient_name == "Müller^Jürgen"
    assert item["list_sk"] == f"20240131#{study.study_uid}"
    assert item["logical_pk"] == "T#acme#PATIENT#P1"
    assert item["fingerprint_pk"] == "T#acme#ACCESSION#ZZACC-1"
    assert item["status_sk"] == f"muller^jurgen#{study.study_uid}"
    assert of_series["list_pk"] == "T#acme#MODALITY#CT"


@pytest.mark.parametrize("text", ["x" * 70_000, "é" * 40_000], ids=["ascii", "two bytes"])
def test_no_attribute_is_too_long_for_a_key_or_an_item(text: str) -> None:
    """Broken files hold texts of any length; DynamoDB's keys have 2 048 and 1 024 bytes."""
    header: Any = Overwritten(
        header_of(dicom()), patient_name=text, patient_id=text, accession_number=text, modality=text
    )
    item = instances.study_item("acme", instances.study_of(header, 5.0))
    series = instances.series_attributes("acme", instances.series_of(header))

    for name, value in (*item.items(), *series.items()):
        if name.endswith("_pk"):
            assert len(str(value).encode()) <= 2_048, name
        elif name.endswith("_sk"):
            assert len(str(value).encode()) <= 1_024, name
    assert item_size(ddb_json.encode_item(item)) < 16_384


def test_the_strongest_digest_that_both_have_decides() -> None:
    """Sizes first; SHA-256, then CRC-64, then an equal ETag, then the CRC-32 of the copies; else nobody knows."""
    one = Identity(10, "a" * 32)
    other_sha = base64.b64encode(bytes(32)).decode()

    assert one.same_as(replace(one, size=11)) is False
    assert one.same_as(one) is True
    assert replace(one, sha256=SHA).same_as(replace(one, sha256=other_sha)) is False
    assert replace(one, sha256=SHA).same_as(replace(one, etag="b", sha256=SHA)) is True
    assert replace(one, crc64nvme=CRC64).same_as(replace(one, etag="b", crc64nvme=CRC64)) is True
    # With a key of KMS the same bytes have different ETags.
    assert one.same_as(replace(one, etag="b")) is None
    assert replace(one, crc32=CRC32).same_as(replace(one, etag="b", crc32=CRC32)) is True
    assert replace(one, crc32=CRC32).same_as(replace(one, etag="b", crc32="AAAAAQ==")) is False
    # Members of bundles have no ETag of their own.
    assert Identity(10, "").same_as(Identity(10, "")) is None


def test_series_keys_are_told_from_others() -> None:
    """The sweeper finds dirty series among all that is due."""
    key = instances.series_key("acme", "1.2", "1.2.3")

    assert instances.parse_series_key(key) == ("acme", "1.2", "1.2.3")
    assert instances.parse_series_key(instances.study_key("acme", "1.2")) is None
    assert instances.parse_series_key({"pk": "T#acme#B#x", "sk": "B"}) is None
    assert Series("1", "2", mark_seq=2, done_seq=1).dirty


def test_the_verdict_of_a_stored_file_is_one_write_unit() -> None:
    """Longest UIDs, all digests, a version, a path of a hundred letters: below 1 KB; nothing in lists of all files."""
    batch = Batch("hospital-east", "01JD2Z3NDEKTSV4RRFFQ69G5FA", "dicom", 2_000, lane="dicom", user="u" * 36)
    batch = replace(batch, created_at=1_763_596_800.123, expires_at=1_764_201_600.123, metadata={"ward": "x" * 500})
    path = f"DISC/{'s' * 30}/{'t' * 40}/IM0000123.dcm"
    entry = Entry(1_234, "IM0000123.dcm", 137_456, "ab" * 32, path)
    known = {"sha256": "ab" * 32, "sha256_proven": True, "crc64nvme": CRC64}
    record = replace(members.announced(batch, entry), checksums=known, etag="e" * 32)
    instance = Instance(LONGEST, LONGEST, LONGEST, record.file_id, Identity(137_456, "e" * 32))
    placed = settling.Placed(verdicts.stored(), instance, settling.Copied("f" * 32, "v" * 32, CRC32))
    ended = single.verdict_of(record, placed, header_of(dicom()), 1_763_596_900.4567)
    item = single.compact_item(replace(ended, bytes_read=65_536, requests=2))

    assert item_size(ddb_json.encode_item(item)) <= 1_024
    assert not {name for name in item if name.endswith(("_pk", "_sk"))}
    again = records.from_item(stored(item))
    assert again.status is State.COMPLETED
    assert again.content_key == f"dicom/hospital-east/{record.file_id}"
    assert again.relative_path == path
    assert again.checksums["crc32"] == CRC32
