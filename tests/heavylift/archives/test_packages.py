"""What is in a package: files under safe names, METS by the Library's schema, a table, a bag that is one."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import bagit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from heavylift.archives import packages
from heavylift.archives.bagit import manifest_line
from heavylift.archives.entries import Entry, Missing, Spool
from heavylift.errors import ContentError
from tests.heavylift.archives.sinks import an_entry, package, zipped

SCHEMAS = Path(__file__).parent / "schemas"
METS = {"m": "http://www.loc.gov/METS/"}
HREF = "{http://www.w3.org/1999/xlink}href"
TITLE = "{http://www.w3.org/1999/xlink}title"


class _Beside(etree.Resolver):
    """mets.xsd imports xlink.xsd over the network; here it lies beside it."""

    def resolve(self, url: str, public_id: str, context: Any) -> Any:
        if url.endswith("/xlink.xsd"):
            return self.resolve_filename(str(SCHEMAS / "xlink.xsd"), context)
        return None


@pytest.fixture(scope="session")
def mets_schema() -> etree.XMLSchema:
    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(_Beside())
    return etree.XMLSchema(etree.parse(str(SCHEMAS / "mets.xsd"), parser))


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def read_back(cell: str) -> str:
    """A cell without the apostrophe that keeps it from being a formula."""
    return cell.removeprefix("'")


BYTES = {0: b"first", 1: b"second one", 2: b""}
ENTRIES = [
    an_entry(0, "page_1.tif", BYTES[0], media_type="image/tiff", facts={"width": 30, "height": 20, "mode": "RGB"}),
    an_entry(1, "sub/page_2.tif", BYTES[1], metadata={"box": "7", "tags": ["a", "b"]}),
    an_entry(2, "empty.txt", BYTES[2], logical_id="notes", description="nothing, in it"),
]
STORED = {entry.file_id: BYTES[n] for n, entry in enumerate(ENTRIES)}
GONE = [Missing("01JD2Z3NDEKTSV4RRFFQ69G5FA", "=lost.tif", "rejected")]


def test_a_plain_package(mets_schema: etree.XMLSchema) -> None:
    """Files as they are named, in the order asked for; then METS, table and report, called after the document."""
    made, files = package("plain", ENTRIES, GONE, label="scan")
    archive = zipped(made, files, STORED)

    assert archive.namelist() == [
        "page_1.tif", "sub/page_2.tif", "empty.txt", "scan_mets.xml", "scan_metadata.csv", "scan_missing.csv",
    ]  # fmt: skip
    assert archive.testzip() is None
    assert (made.files, made.label, made.bytes_total) == (3, "scan", sum(one.file_size for one in archive.infolist()))
    document = etree.fromstring(archive.read("scan_mets.xml"))
    assert mets_schema.validate(document), mets_schema.error_log
    table = rows_of(archive.read("scan_metadata.csv"))
    assert [(row["original_name"], row["archived_name"], row["size"]) for row in table] == [
        ("page_1.tif", "page_1.tif", "5"), ("sub/page_2.tif", "sub/page_2.tif", "10"), ("empty.txt", "empty.txt", "0"),
    ]  # fmt: skip
    assert (table[0]["width"], table[0]["media_type"], table[1]["metadata.box"]) == ("30", "image/tiff", "7")
    assert json.loads(table[1]["metadata.tags"]) == ["a", "b"]
    assert rows_of(archive.read("scan_missing.csv")) == [
        {"file_id": GONE[0].file_id, "original_name": "'=lost.tif", "reason": "rejected"}
    ]


def test_the_mets_document(mets_schema: etree.XMLSchema) -> None:
    """Each file with its digest and link, a division for each document; a wrong kind of checksum is refused."""
    made, files = package("plain", [*ENTRIES, an_entry(3, "page 3 & more%.tif", sha256=None)], label="scan")
    document = etree.fromstring(files["mets"])

    assert mets_schema.validate(document), mets_schema.error_log
    listed = document.findall(".//m:file", METS)
    assert [one.get("SIZE") for one in listed] == ["5", "10", "0", "1"]
    assert [one.get("CHECKSUMTYPE") for one in listed] == ["SHA-256"] * 3 + ["CRC32"]
    assert listed[0].get("CHECKSUM") == ENTRIES[0].sha256
    links = document.findall(".//m:FLocat", METS)
    assert links[3].get(HREF) == "page%203%20%26%20more%25.tif"
    assert links[3].get(TITLE) == "page 3 & more%.tif"
    divisions = document.findall(".//m:div[@TYPE='document']", METS)
    pointed = [[one.get("FILEID") for one in division.findall(".//m:fptr", METS)] for division in divisions]
    assert [division.get("LABEL") for division in divisions] == ["scan", "notes"]
    assert pointed == [["F1", "F2", "F4"], ["F3"]]
    listed[0].set("CHECKSUMTYPE", "SHA-0")
    assert not mets_schema.validate(document)
    assert made.files == 4


def test_a_bag(tmp_path: Path, mets_schema: etree.XMLSchema) -> None:
    """The libraries' own reader accepts it, and refuses it when one byte of a file is another one."""
    declared = replace(ENTRIES[1], sha256_proven=False)
    made, files = package("bagit", [ENTRIES[0], declared, ENTRIES[2]], GONE, label="scan")
    archive = zipped(made, files, STORED)
    archive.extractall(tmp_path)
    bag = bagit.Bag(str(tmp_path / "scan"))

    bag.validate()
    assert bag.version_info == (1, 0)
    assert bag.info["Payload-Oxum"] == "15.3"
    assert bag.info["Bagging-Date"] == "2025-11-20"
    assert bag.info["Declared-SHA-256"] == "data/objects/sub/page_2.tif"
    assert bag.info["Missing-Files"] == "1"
    assert set(bag.payload_entries()) == {f"data/objects/{entry.path}" for entry in ENTRIES}
    assert rows_of((tmp_path / "scan/metadata/missing.csv").read_bytes())[0]["reason"] == "rejected"
    document = etree.parse(tmp_path / "scan/metadata/mets.xml")
    assert mets_schema.validate(document), mets_schema.error_log
    for link in document.findall(".//m:FLocat", METS):
        assert (tmp_path / "scan" / link.get(HREF)).is_file()
    for row in rows_of((tmp_path / "scan/metadata/metadata.csv").read_bytes()):
        assert row["archived_name"] in archive.namelist()
    damaged = tmp_path / "scan/data/objects/page_1.tif"
    damaged.write_bytes(b"First")
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(tmp_path / "scan")).validate()


def test_a_bag_whose_tags_were_changed_is_refused(tmp_path: Path) -> None:
    """METS and table stand in the tag manifest."""
    made, files = package("bagit", ENTRIES, label="scan")
    zipped(made, files, STORED).extractall(tmp_path)
    table = tmp_path / "scan/metadata/metadata.csv"
    table.write_bytes(table.read_bytes().replace(b"page_1", b"page_7"))

    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(tmp_path / "scan")).validate()


names = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["a.tif", "A.TIF", "../a.tif", "d/e", "d", "100%.tif", "con", "scan_mets.xml", "é", "é", "x\r\ny"]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@st.composite
def entry_lists(draw: st.DrawFn) -> list[Entry]:
    return [
        an_entry(
            n,
            draw(names),
            draw(st.binary(max_size=4)),
            logical_id=draw(st.one_of(st.none(), names)),
            description=draw(st.one_of(st.none(), st.text(max_size=8))),
            metadata=draw(st.dictionaries(st.text(max_size=5), values, max_size=3)),
            media_type=draw(st.one_of(st.none(), st.just("image/tiff"))),
        )
        for n in range(draw(st.integers(1, 5)))
    ]


@settings(max_examples=60, deadline=None)
@given(entry_lists(), st.sampled_from(["plain", "bagit"]), st.one_of(st.none(), names))
def test_every_package_is_sound(
    mets_schema: etree.XMLSchema, entries: list[Entry], kind: str, label: str | None
) -> None:
    """Whatever files are called and described: METS is valid, the table has a line a file, a bag is accepted."""
    made, files = package(kind, entries, label=label)
    document = etree.fromstring(files["mets"])
    table = rows_of(files["table"])
    archived = [bytes(member.name).decode() for member in made.members]

    assert mets_schema.validate(document), mets_schema.error_log
    assert [read_back(row["archived_name"]) for row in table] == archived[: len(entries)]
    assert [row["file_id"] for row in table] == [entry.file_id for entry in entries]
    assert len({name.casefold() for name in archived}) == len(archived)
    again, _ = package(kind, entries, label=label)
    assert (again.content_sha256, list(again.members)) == (made.content_sha256, list(made.members))
    if kind == "bagit":
        with tempfile.TemporaryDirectory() as folder:
            stored = {entry.file_id: b"" for entry in entries}
            sound = all(entry.size == 0 for entry in entries)
            if sound:
                zipped(made, files, stored).extractall(folder)
                bagit.Bag(f"{folder}/{made.label}").validate()


def test_the_digest_names_the_content() -> None:
    """It changes with a name, an order, a version or bytes of a file, the package and the report; not with the list."""
    base, _ = package("plain", ENTRIES, label="scan")
    others = [
        package("plain", ENTRIES[::-1], label="scan"),
        package("bagit", ENTRIES, label="scan"),
        package("plain", ENTRIES, GONE, label="scan"),
        package("plain", ENTRIES, label="other"),
        package("plain", [replace(ENTRIES[0], path="x.tif"), *ENTRIES[1:]], label="scan"),
        package("plain", [replace(ENTRIES[0], version_id="v9"), *ENTRIES[1:]], label="scan"),
        package("plain", [replace(ENTRIES[0], description="x"), *ENTRIES[1:]], label="scan"),
    ]

    assert len({made.content_sha256 for made, _ in others} | {base.content_sha256}) == len(others) + 1
    same, _ = package("plain", ENTRIES, label="scan", inline_max=0)
    assert same.content_sha256 == base.content_sha256


def test_files_of_one_document_name_their_package() -> None:
    """Asked for by their ids they make the very archive that the document's name makes; of several it has no name."""
    one = [replace(entry, logical_id="scan") for entry in ENTRIES]

    assert package("plain", one)[0].label == "scan"
    assert package("plain", one)[0].content_sha256 == package("plain", one, label="scan")[0].content_sha256
    assert package("plain", ENTRIES)[0].label == "files"


def test_nothing_makes_no_archive() -> None:
    """Also when everything is missing."""
    with pytest.raises(ContentError) as refused:
        package("plain", [], GONE)
    assert refused.value.code == "nothing_to_archive"


def test_a_bag_needs_every_digest() -> None:
    """The file is named."""
    with pytest.raises(ContentError) as refused:
        package("bagit", [ENTRIES[0], replace(ENTRIES[1], sha256=None)])
    assert (refused.value.code, refused.value.facts["file_id"]) == ("no_sha256", ENTRIES[1].file_id)
    with pytest.raises(ValueError, match="neither"):
        manifest_line("0" * 64, "data/objects/100%.tif")


def test_a_checksum_that_is_none_is_not_one() -> None:
    """A composite, or nothing."""
    assert packages.crc32_of("AAAAAQ==") == 1
    assert [packages.crc32_of(text) for text in (None, "", "AAAAAQ==-2", "AAAA", "é")] == [None] * 5


@given(entry_lists())
@settings(max_examples=25, deadline=None)
def test_the_spool_gives_back_what_it_was_given(entries: list[Entry]) -> None:
    """In order, and again."""
    with tempfile.TemporaryFile() as file:
        spool = Spool(file)
        for entry in entries:
            spool.add(entry)
        spool.close()

        assert list(spool) == entries
        assert list(spool) == entries
        assert spool.count == len(entries)


def test_zipfile_reads_what_was_asked_for() -> None:
    """The members in a real archive, with their bytes."""
    made, files = package("plain", ENTRIES, label="scan")
    archive = zipped(made, files, STORED)

    assert isinstance(archive, zipfile.ZipFile)
    assert archive.read("sub/page_2.tif") == BYTES[1]
