"""De-identified ingest: what is stored, indexed and said names nobody, and is the same every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from unittest.mock import patch

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.dicom import expanding, index, rewriting, single, studies
from heavylift.dicom.rewriting import parts_of
from heavylift.limits import S3_PART_SIZE_MIN
from heavylift.ranges import Range
from heavylift.settings import settings
from tests.doubles.dicom import PATIENT, ROOT, DicomClient, dicom, folder, pump, sent, upload, zipped
from tests.doubles.world import STAGING, STORE, World

ASKED = {"metadata": {"deidentify": "true"}}
# What the files of the doubles say of their patient, but for the two letters that an id of ours may hold.
SECRETS = (PATIENT, "TOPSECRET", "ZZID", "19700102", "ZZACC", "ZZREFERRER", "ZZSTUDYTEXT", "20240131", ROOT, "ZZNAME")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    settings.cache_clear()


def stored(world: World) -> dict[str, bytes]:
    return {key: one.body for key, one in world.s3.buckets[STORE].items()}


def read(body: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(body))


def check_nobody_is_named(world: World) -> None:
    """Neither in the store nor in the index, the verdicts or the descriptions of series."""
    for key, one in world.s3.buckets[STORE].items():
        for secret in SECRETS:
            assert secret.encode() not in one.body, (key, secret)
            assert secret not in str(one.metadata), (key, secret)
    for (partition, sort), item in world.table.items.items():
        kind = partition.split("#")[2]
        if kind in {"ST", "SE", "SX"} or sort.startswith("F"):
            for secret in SECRETS:
                assert secret not in f"{partition}{sort}{item}", (partition, sort, secret)


def test_a_batch_is_stored_without_its_patient(world: World) -> None:
    """Pixels as they were, one study still one study, counts exact, uploads gone; names of files are replaced."""
    client = sent(world, {n: (f"ZZNAME{n}", one[1]) for n, one in folder(1, 2, 3).items()}, **ASKED)
    pump(world)

    assert {line["verdict"] for line in client.verdicts().values()} == {"completed"}
    check_nobody_is_named(world)
    assert world.s3.buckets[STAGING] == {}
    copies = [read(body) for body in stored(world).values()]
    assert len(copies) == 6
    assert {one.PatientIdentityRemoved for one in copies} == {"YES"}
    assert len({one.StudyInstanceUID for one in copies}) == 1
    assert len({one.SeriesInstanceUID for one in copies}) == 2
    assert len({one.SOPInstanceUID for one in copies}) == 6
    assert {one.PixelData for one in copies} == {read(dicom(1, 1, 1)).PixelData}
    view = studies.read("acme", copies[0].StudyInstanceUID)
    assert view is not None
    assert view.instances == 6
    assert view.study.patient_id.startswith("ANON-")
    held = list(index.instances_of("acme", copies[0].StudyInstanceUID, copies[0].SeriesInstanceUID))
    assert all(len(stored(world)[one.key("acme")]) == one.size for one in held)


def test_the_same_file_is_the_same_copy(world: World) -> None:
    """Sent again it is a duplicate; another tenant's copy has other UIDs and another patient."""
    sent(world, folder(1, 1, 2), **ASKED)
    pump(world)
    again = sent(world, folder(1, 1, 2), **ASKED)
    pump(world)
    other = DicomClient(world, folder(1, 1, 1), tenant="other")
    other.begin(**ASKED)
    other.list()
    other.send()
    pump(world)

    assert {line["outcome"] for line in again.verdicts().values()} == {"duplicate"}
    mine = [read(body) for key, body in stored(world).items() if "/acme/" in key]
    theirs = [read(body) for key, body in stored(world).items() if "/other/" in key]
    assert (len(mine), len(theirs)) == (2, 1)
    assert {one.StudyInstanceUID for one in mine}.isdisjoint({one.StudyInstanceUID for one in theirs})
    assert {one.PatientID for one in mine}.isdisjoint({one.PatientID for one in theirs})


@pytest.mark.parametrize("compression", [0, 8], ids=["stored", "deflated"])
def test_members_of_a_bundle_and_large_files(world: World, compression: int) -> None:
    """Joined of parts where they are large: the new header is sent, the pixels are copied where they lie."""
    files = {f"ZZNAME{n}": dicom(1, 1, n, edge=64) for n in range(1, 3)}
    with (
        patch.object(rewriting, "WHOLE_MAX", 2_000),
        patch.object(rewriting, "LARGE", 1_000),
        patch.object(rewriting, "S3_PART_SIZE_MIN", 2_000),
        patch.object(rewriting, "COPY_BYTES_MAX", 3_000),
    ):
        sent(world, {1: ("disc.zip", zipped(files, compression)), 2: ("one", dicom(1, 2, 1, edge=64))}, **ASKED)
        pump(world)
        file_id = upload(world, "ZZNAME.dcm", dicom(1, 3, 1, edge=64), kind="dicom", metadata={"deidentify": True})
        pump(world)

    copies = [read(body) for body in stored(world).values()]
    assert len(copies) == 4
    assert {one.PixelData for one in copies} == {read(dicom(1, 1, 1, edge=64)).PixelData}
    check_nobody_is_named(world)
    record = world.record(file_id)
    assert record.status.value == "completed"
    assert record.size == len(world.s3.buckets[STORE][record.store_key].body)
    assert record.checksums.keys() == {"crc32"}
    assert world.s3.uploads == {}
    assert world.s3.buckets[STAGING] == {}


def test_a_tenant_asks_for_all_of_its_files(world: World, plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """DICOM_DEIDENTIFY names it: nobody needs to ask, and nobody can ask for the contrary."""
    monkeypatch.setenv("DICOM_DEIDENTIFY", "trial, acme")
    settings.cache_clear()
    sent(world, folder(1, 1, 1), metadata={"deidentify": False})
    pump(world)

    check_nobody_is_named(world)
    assert len(stored(world)) == 1
    monkeypatch.setenv("DICOM_DEIDENTIFY", "trial")
    settings.cache_clear()
    assert not rewriting.wanted("acme", {})
    monkeypatch.setenv("DICOM_DEIDENTIFY", "*")
    settings.cache_clear()
    assert rewriting.wanted("acme", {})


def test_what_cannot_be_cleaned_is_rejected(world: World) -> None:
    """A deflated file has no ranges to copy, and pixels that may tell are warned of."""
    data = io.BytesIO()
    deflated = read(dicom(1, 1, 1))
    deflated.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    deflated.save_as(data)
    client = sent(world, {1: ("a", data.getvalue()), 2: ("b", dicom(1, 1, 2, modality="US"))}, **ASKED)
    pump(world)

    lines = client.verdicts()
    assert (lines[1]["verdict"], lines[1]["code"]) == ("rejected", "unsupported")
    assert lines[2]["warnings"] == ["burned_in"]
    check_nobody_is_named(world)


def test_a_worker_that_comes_second_knows_the_first_ones_copy(world: World) -> None:
    """The copy was made and its maker killed: the next one finds it and goes on."""
    client = sent(world, folder(1, 1, 1), **ASKED)
    source = world.s3.buckets[STAGING][client.key(1)]
    one = rewriting.rewrite(lambda at, n: source.body[at : at + n], len(source.body), source.etag, "acme")
    made = one.store(f"dicom/acme/{client.file_id(1)}", client.file_id(1), None)
    pump(world)

    assert client.verdicts()[1]["verdict"] == "completed"
    assert world.s3.versions_made[STORE, f"dicom/acme/{client.file_id(1)}"] == 1
    assert one.store(f"dicom/acme/{client.file_id(1)}", client.file_id(1), None) == made


pieces = st.lists(
    st.one_of(st.binary(max_size=400), st.builds(Range, st.integers(0, 10**6), st.integers(0, 40_000))), max_size=12
)


@given(pieces, st.booleans())
def test_parts_tile_the_copy(made: list[bytes | Range], copied: bool) -> None:
    """Every byte once, in order; all parts but the last as large as S3 wants them, what is sent never larger."""
    with patch.object(rewriting, "S3_PART_SIZE_MIN", 500), patch.object(rewriting, "COPY_BYTES_MAX", 3_000):
        parts = list(parts_of(made, copied=copied))

    def tokens(piece: bytes | Range) -> list[object]:
        return list(piece) if isinstance(piece, bytes) else [("at", n) for n in range(piece.offset, piece.end)]

    wanted = [token for piece in made for token in tokens(piece)]
    got = [token for part in parts for piece in (part if isinstance(part, list) else [part]) for token in tokens(piece)]
    assert got == wanted
    sizes = [
        part.length
        if isinstance(part, Range)
        else sum(len(one) if isinstance(one, bytes) else one.length for one in part)
        for part in parts
    ]
    assert all(size >= 500 for size in sizes[:-1])
    assert all(size <= (3_000 if isinstance(part, Range) else 500) for size, part in zip(sizes, parts, strict=True))
    assert S3_PART_SIZE_MIN == 5 << 20


def test_nothing_is_imported_for_others() -> None:
    """The dictionary of attributes is loaded by who needs it: see also tests/heavylift/test_direct.py."""
    assert "deidentify" not in vars(single) | vars(expanding)
