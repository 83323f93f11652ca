"""Headers of DICOM files: a Header within its budget of ranges, or a verdict; never anything else."""

from __future__ import annotations

from heavylift.dicom.header import FRAGMENTS_ASKED_MAX, RANGES_MAX, scan
from heavylift.dicom.values import valid_uid
from heavylift.errors import ContentError


def one(data: bytes) -> None:
    asked = 0

    def fetch(offset: int, length: int) -> bytes:
        nonlocal asked
        asked += 1
        assert 0 <= offset < len(data), offset
        assert length > 0, length
        return data[offset : offset + length]

    try:
        header = scan(fetch, len(data))
    except ContentError:
        pass
    else:
        uids = (header.sop_class_uid, header.sop_instance_uid, header.study_instance_uid, header.series_instance_uid)
        assert all(valid_uid(uid) for uid in uids), uids
        assert header.requests == asked, asked
        assert header.number_of_frames > 0, header.number_of_frames
        assert isinstance(header.patient_name + header.character_set, str)
        assert header.rows is None or header.rows >= 0
    assert asked <= 2 + 2 * RANGES_MAX + FRAGMENTS_ASKED_MAX, asked
