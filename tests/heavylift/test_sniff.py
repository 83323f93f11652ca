"""What a file is, by content."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tifffile
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift import sniff
from heavylift.magic_opinion import head_opinion, second_opinion
from heavylift.ranges import Range, drive
from heavylift.sniff import Detection, detect


def detected(data: bytes, name: str = "") -> Detection:
    return drive(detect(len(data), name), lambda offset, length: data[offset : offset + length])


def picture(format_name: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 90, 200)).save(out, format_name, **options)
    return out.getvalue()


def tiff(*tags: tuple[int, int, int, object, bool], **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((8, 8, 3), np.uint8), photometric="rgb", extratags=tags, **options)
    return out.getvalue()


def zipped(*names: str, first: tuple[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        if first:
            archive.writestr(*first)
        for name in names:
            archive.writestr(name, b"x" * 70_000)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a/b.txt"), io.BytesIO())
    return out.getvalue()


def boxes(major: bytes, *brands: bytes) -> bytes:
    return struct.pack(">I", 16 + 4 * len(brands)) + b"ftyp" + major + bytes(4) + b"".join(brands) + bytes(64)


DNG_VERSION = (50706, 1, 4, (1, 4, 0, 0), True)
MAKE = {maker: (271, 2, len(maker) + 1, maker, True) for maker in ("NIKON CORPORATION", "SONY", "PENTAX", "Canon")}
SENSOR = (262, 3, 1, 32803, True)


NOISE = Random(5).randbytes(30_000)


SAMPLES: dict[str, tuple[bytes, str, str, str]] = {
    # what: content, name, kind, format
    "tiff": (tiff(), "", "image", "TIFF"),
    "tiff big-endian": (tiff(byteorder=">"), "", "image", "TIFF"),
    "bigtiff": (tiff(bigtiff=True), "", "image", "BigTIFF"),
    "bigtiff big-endian": (tiff(bigtiff=True, byteorder=">"), "", "image", "BigTIFF"),
    "dng": (tiff(DNG_VERSION), "a.tif", "raw", "DNG"),
    "bigtiff dng": (tiff(DNG_VERSION, bigtiff=True), "", "raw", "DNG"),
    "nef by extension": (tiff(MAKE["NIKON CORPORATION"]), "A.NEF", "raw", "NEF"),
    "developed nikon picture": (tiff(MAKE["NIKON CORPORATION"]), "a.tif", "image", "TIFF"),
    "arw": (tiff(MAKE["SONY"]), "x.arw", "raw", "ARW"),
    "pef": (tiff(MAKE["PENTAX"]), "x.pef", "raw", "PEF"),
    "svs": (tiff(description="Aperio Image Library v11"), "", "image", "SVS"),
    "ome": (tiff(description='<?xml version="1.0"?><OME></OME>'), "", "image", "OME-TIFF"),
    "cr2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "", "raw", "CR2"),
    "rw2": (b"IIU\0\x18\0\0\0" + bytes(100), "", "raw", "RW2"),
    "orf": (b"IIRO\x08\0\0\0" + bytes(100), "", "raw", "ORF"),
    "orf big-endian": (b"MMOR\0\0\0\x08" + bytes(100), "", "raw", "ORF"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(100), "", "raw", "RAF"),
    "crw": (b"II\x1a\0\0\0HEAPCCDR" + bytes(100), "", "raw", "CRW"),
    "cr3": (boxes(b"crx ", b"crx ", b"isom"), "", "raw", "CR3"),
    "heic": (boxes(b"heic", b"mif1", b"heic"), "", "image", "HEIC"),
    "heif with heic": (boxes(b"mif1", b"mif1", b"heic"), "", "image", "HEIC"),
    "heif": (boxes(b"mif1", b"mif1"), "", "image", "HEIF"),
    "avif in heif": (boxes(b"mif1", b"avif"), "", "image", "AVIF"),
    "mp4": (boxes(b"isom", b"mp42"), "", "other", "MP4"),
    "mov": (boxes(b"qt  "), "", "other", "MOV"),
    "old mov": (b"\0\0\0\x08wide\0\0\0\x10mdat" + bytes(50), "", "other", "MOV"),
    "jpeg": (picture("JPEG"), "", "image", "JPEG"),
    "png": (picture("PNG"), "", "image", "PNG"),
    "webp": (picture("WEBP"), "", "image", "WebP"),
    "gif": (picture("GIF"), "", "image", "GIF"),
    "bmp": (picture("BMP"), "", "image", "BMP"),
    "jp2": (picture("JPEG2000"), "", "image", "JP2"),
    "avif": (picture("AVIF"), "", "image", "AVIF"),
    "psd": (b"8BPS\0\x01" + bytes(30), "", "image", "PSD"),
    "psb": (b"8BPS\0\x02" + bytes(30), "", "image", "PSB"),
    "pdf": (picture("PDF"), "", "other", "PDF"),
    "dicom": (bytes(128) + b"DICM" + bytes(20), "", "dicom", "DICOM"),
    "dicom with a tiff preamble": (b"II*\0" + bytes(124) + b"DICM" + bytes(20), "", "dicom", "DICOM"),
    "bare explicit dicom": (
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x16\0UI\x1a\0" + b"1.2.840.10008.5.1.4.1.1.2\0",
        "",
        "dicom",
        "DICOM",
    ),
    "bare implicit dicom": (
        b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x16\0\x1a\0\0\0" + b"1.2.840.10008.5.1.4.1.1.2\0",
        "",
        "dicom",
        "DICOM",
    ),
    "csv": (b"a,b,c\n1,2,3\n4,5,6\n", "", "table", "CSV"),
    "csv with quotes": (b'a,b\n"x, y",2\n"z",3\n', "", "table", "CSV"),
    "csv with semicolons": (b"a;b\n1,5;2\n2,5;3\n", "", "table", "CSV"),
    "csv latin-1": ("größe,zahl\nä,1\nö,2\n".encode("latin-1"), "", "table", "CSV"),
    "csv utf-16": ("a,b\n1,2\n".encode("utf-16"), "", "table", "CSV"),
    "one column by name": (b"a\n1\n2\n", "x.csv", "table", "CSV"),
    "tsv": (b"a\tb\n1\t2\n", "", "table", "TSV"),
    "jsonl": (b'{"a":1}\n{"a":2}\n', "", "json", "JSONL"),
    "jsonl with a broken second line": (b'{"a":1}\n{"a":\n', "", "json", "JSONL"),
    "jsonl with bom": (b'\xef\xbb\xbf{"a":1}\n{"a":2}\n', "", "json", "JSONL"),
    "jsonl one line by name": (b'{"a":1}\n', "x.jsonl", "json", "JSONL"),
    "json": (json.dumps({"a": [1, 2]}, indent=1).encode(), "", "json", "JSON"),
    "json list": (b"[1,2,3]", "", "json", "JSON"),
    "text": (b"Dear reader,\nthis is prose, and no table,\nof any kind.\n", "a.tif", "text", "Text"),
    "text in brackets": (b"[note to self] buy milk\n", "", "text", "Text"),
    "xml": (b'<?xml version="1.0"?><a/>', "", "text", "XML"),
    "gzip of csv": (gzip.compress(b"a,b\n1,2\n3,4\n"), "x.csv.gz", "table", "gzip"),
    "gzip of tar": (gzip.compress(tarred()), "x.tgz", "archive", "gzip"),
    "zstd of jsonl by name": (b"\x28\xb5\x2f\xfd" + bytes(20), "x.jsonl.zst", "json", "zstd"),
    "zstd of csv": (zstandard.compress(b"a,b\n1,2\n3,4\n"), "x.bin", "table", "zstd"),
    "zstd of json": (zstandard.compress(b'{"a": [1,\n2]}\n' * 1), "", "json", "zstd"),
    "zstd of tar": (zstandard.compress(tarred()), "x.csv.zst", "archive", "zstd"),
    "zstd of text": (zstandard.compress(b"hello, reader of prose\n"), "", "text", "zstd"),
    "zstd of noise": (zstandard.compress(NOISE), "x.csv.zst", "archive", "zstd"),
    "gzip of noise": (gzip.compress(NOISE), "x.csv.gz", "archive", "gzip"),
    "gzip of a table with a NUL": (gzip.compress(b"id,name\n1,o\0ne\n" + b"2,two\n" * 9), "x.csv.gz", "table", "gzip"),
    "gzip in members": (b"".join(gzip.compress(line) for line in (b"a,b\n", b"1,2\n", b"3,4\n")), "", "table", "gzip"),
    "gzip of jsonl utf-16": (gzip.compress('{"a":1}\n{"a":2}\n'.encode("utf-16")), "", "json", "gzip"),
    "tar": (tarred(), "", "archive", "tar"),
    "zip": (zipped("a.txt", "b.txt"), "", "archive", "ZIP"),
    "empty zip": (zipped(), "", "archive", "ZIP"),
    "xlsx": (zipped("xl/workbook.xml", "[Content_Types].xml"), "", "other", "XLSX"),
    "docx": (zipped("[Content_Types].xml", "word/document.xml"), "", "other", "DOCX"),
    "epub": (zipped("a.html", first=("mimetype", b"application/epub+zip")), "", "other", "EPUB"),
    "parquet with an encrypted footer": (b"PARE" + bytes(40) + b"PARE", "", "other", "Parquet"),
    "avro": (b"Obj\x01" + bytes(40), "", "other", "Avro"),
    "arrow": (b"ARROW1\0\0" + bytes(40), "", "other", "Arrow"),
    "an old sheet": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "x.csv", "other", "OLE2"),
    "parquet": (b"PAR1" + bytes(40) + b"PAR1", "", "other", "Parquet"),
    "empty": (b"", "a.tif", "other", "Empty"),
    "one byte": (b"\0", "", "other", "Unknown"),
    "noise": (bytes(i * i % 251 for i in range(3000)), "", "other", "Unknown"),
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(60), "executable"),
    "this python": (Path(sys.executable).read_bytes()[:200_000], "executable"),
    "windows": (b"MZ\x90\0\x03\0\0\0" + bytes(60), "executable"),
    "mach-o": (b"\xcf\xfa\xed\xfe\x07\0\0\x01" + bytes(60), "executable"),
    "shell": (b"#!/bin/sh\nrm -rf /\n", "script"),
    "shell with bom": (b"\xef\xbb\xbf#!/usr/bin/env python3\n", "script"),
    "php": (b"\n<?php system($_GET['c']);", "script"),
    "batch": (b"@echo off\r\ndel *\r\n", "script"),
    "html": (b"<!DOCTYPE html>\n<html></html>", "HTML"),
    "html after a comment": (b"<!-- hi -->\n  <HTML><body>", "HTML"),
    "xhtml": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x"><html>', "HTML"),
    "a bare script tag": (b"<script>alert(1)</script>", "HTML"),
}


@pytest.mark.parametrize("what", SAMPLES)
def test_kind_and_format(what: str) -> None:
    """Each sample is told by its content."""
    data, name, kind, format_name = SAMPLES[what]
    found = detected(data, name)

    assert (found.kind, found.format, found.refused) == (kind, format_name, None)
    assert "/" in found.media_type


@pytest.mark.parametrize("what", REFUSED)
def test_refused_classes(what: str) -> None:
    """Executables, scripts and HTML carry the reason for their refusal, whatever they are called."""
    data, reason = REFUSED[what]

    assert detected(data, "holiday.jpg").refused == reason


def test_letters_of_an_executable_in_a_table() -> None:
    """A table whose first cell is MZ is a table."""
    assert detected(b"MZ,count\n1,2\n3,4\n").format == "CSV"


def test_encoding_of_text() -> None:
    """The encoding is told with the format."""
    assert detected("a,b\n1,2\n".encode("utf-16")).encoding == "utf-16-le"
    assert detected(b"\xef\xbb\xbfa,b\n1,2\n").encoding == "utf-8-sig"
    assert detected("grün\n".encode("latin-1")).encoding == "latin-1"


def test_a_bomb_and_a_window_are_bounded() -> None:
    """Of a gigabyte of zeros 64 KiB come out; a window over 8 MiB is not opened, and the name tells."""
    bomb = gzip.compress(bytes(50_000_000))
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, strategy=1)
    ).compressobj()
    data = wide.compress(b"a,b\n1,2\n" * 5_000) + wide.flush()

    assert detected(bomb, "x.csv.gz").format == "gzip"
    assert detected(data, "x.csv.zst").inner == "CSV"
    assert detected(data, "x.bin").inner is None


def test_text_with_a_defect_is_told_from_binary_data() -> None:
    """One NUL in a page of text is a defect; one byte in twenty is none."""
    page = b"All work and no play makes a dull page.\n" * 50

    assert detected(page[:99] + b"\0" + page[100:], "a.txt").nearly_text
    assert not detected(NOISE, "a.txt").nearly_text
    assert not detected("no mark".encode("utf-16-le") * 40, "a.txt").nearly_text


def test_a_character_cut_at_the_end_of_the_head() -> None:
    """UTF-8 stays UTF-8 where the first read ends inside a character."""
    data = ("ä" * 40_000).encode()

    assert detected(b"x" + data).encoding == "utf-8"


def test_few_and_small_reads() -> None:
    """One read of 64 KiB is enough for a TIFF whose directory stands in front, two for one with it at the end."""
    asked: list[Range] = []

    def run(data: bytes) -> Detection:
        asked.clear()
        reader = detect(len(data))
        try:
            want = next(reader)
            while True:
                asked.append(want)
                want = reader.send(data[want.offset : want.end])
        except StopIteration as done:
            return done.value

    front = tiff(DNG_VERSION)
    assert run(front).format == "DNG"
    assert len(asked) == 1
    # The same directory behind a megabyte of nothing.
    body = bytearray(front[:4] + struct.pack("<I", 8 + (1 << 20)) + bytes(1 << 20))
    body += struct.pack("<H", 1) + struct.pack("<HHI4s", 50706, 1, 4, bytes([1, 4, 0, 0])) + bytes(4)
    assert run(bytes(body)).format == "DNG"
    assert len(asked) == 3
    assert all(want.length <= sniff.HEAD_BYTES for want in asked)


@pytest.mark.parametrize(
    "what",
    ["tiff", "bigtiff big-endian", "dng", "xlsx", "heic", "jsonl", "csv", "gzip of csv", "tar", "bare explicit dicom"],
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_never_raises(what: str, data: st.DataObject) -> None:
    """A detection comes out of every damaged or shortened file, by reads inside the file and of bounded number."""
    sample = bytearray(SAMPLES[what][0][:70_000])
    for _ in range(data.draw(st.integers(0, 8))):
        sample[data.draw(st.integers(0, min(len(sample), 400) - 1))] = data.draw(st.integers(0, 255))
    sample = sample[: data.draw(st.integers(0, len(sample)))]
    count = 0

    def fetch(offset: int, length: int) -> bytes:
        nonlocal count
        count += 1
        assert 0 <= offset <= offset + length <= len(sample)
        return bytes(sample[offset : offset + length])

    found = drive(detect(len(sample), "x.csv"), fetch)

    assert found.format in sniff.MEDIA_TYPES
    assert count <= 20


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_garbage_never_raises(data: bytes) -> None:
    """Any bytes at all have a detection."""
    assert detected(data).format in sniff.MEDIA_TYPES


def test_chance_is_no_program() -> None:
    """Bytes of no format, such as an encrypted volume, are kept; libmagic takes one in a hundred for a DOS program."""
    unknown = sniff.detection("Unknown")
    random = Random(5)
    for _ in range(1_000):
        assert second_opinion(unknown, random.randbytes(512)).refused is None
    program = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(200)
    assert second_opinion(unknown, program).refused == "executable"


def test_second_opinion_only_where_in_doubt() -> None:
    """libmagic names what the table does not know, refuses what hides in it, and never overrules a firm signature."""
    unknown = sniff.detection("Unknown")
    ogg = b"OggS\0\x02" + bytes(20) + b"\x01\x1e\x01vorbis" + bytes(40)

    assert "ogg" in second_opinion(unknown, ogg).media_type
    assert second_opinion(unknown, Path(sys.executable).read_bytes()[:65_536]).refused == "executable"
    firm = sniff.detection("DNG")
    assert second_opinion(firm, b"#!/bin/sh\n") is firm


def test_head_opinion() -> None:
    """libmagic's word on a head, None where it knows nothing."""
    assert head_opinion(picture("PNG")) == "image/png"
    assert head_opinion(b"") is None
    assert head_opinion(bytes(100)) is None


def test_sniffing_loads_no_decoder() -> None:
    """The sniffer runs in functions without Pillow, numpy, rawpy and libmagic."""
    code = (
        "import sys; import heavylift.sniff, heavylift.magic_opinion; "
        "print(sorted({'PIL','numpy','rawpy','magic','pylibmagic','boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
