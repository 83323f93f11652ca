"""The header reader on files as they come: encodings, starts, sequences, private blocks, damage, strays."""

from __future__ import annotations

import struct
import zlib

import pytest

from heavylift.dicom.elements import DEPTH_MAX, WINDOW_BYTES
from heavylift.dicom.header import FRAGMENTS_ASKED_MAX, RANGES_MAX, Header, read_header, scan
from heavylift.errors import ContentError
from tests.heavylift.dicom.made import (
    TEST_FILES,
    UNDEFINED,
    Element,
    ct,
    dataset,
    delimiter,
    element,
    elements,
    header_of,
    item,
    meta,
    us,
)

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
PRIVATE = 0x00291010


def verdict(data: bytes) -> ContentError:
    with pytest.raises(ContentError) as caught:
        header_of(data)
    return caught.value


def check_index(header: Header) -> None:
    assert (header.sop_instance_uid, header.study_instance_uid) == ("1.2.3.4.5.600", "1.2.3.4.5.60")
    assert (header.series_instance_uid, header.sop_class_uid) == ("1.2.3.4.5.61", "1.2.840.10008.5.1.4.1.1.2")
    assert (header.patient_name, header.patient_id, header.modality) == ("Made^Up", "42", "CT")
    assert (header.study_date, header.series_number, header.instance_number) == ("20240229", 3, 17)
    assert (header.rows, header.columns, header.bits_allocated, header.bits_stored) == (16, 16, 16, 12)
    assert (header.photometric_interpretation, header.number_of_frames) == ("MONOCHROME2", 1)


@pytest.mark.parametrize(
    ("syntax", "explicit", "little"),
    [(IMPLICIT, False, True), (EXPLICIT, True, True), (BIG, True, False)],
)
def test_each_encoding_gives_the_same_index(syntax: str, explicit: bool, little: bool) -> None:
    """One range, the attributes and the pixels' place."""
    data = ct(syntax, explicit=explicit, little=little)
    header = header_of(data)

    check_index(header)
    assert (header.explicit_vr, header.little_endian) == (explicit, little)
    assert header.pixel_data is not None
    assert (header.pixel_data.offset, header.pixel_data.length) == (len(data) - 512, 512)
    assert (header.requests, header.bytes_read, header.warnings) == (1, len(data), frozenset())


@pytest.mark.parametrize(("said", "explicit"), [(IMPLICIT, True), (EXPLICIT, False), (JPEG, False)])
def test_data_win_over_a_transfer_syntax_that_lies(said: str, explicit: bool) -> None:
    """Read as they are, with a warning."""
    header = header_of(ct(said, explicit=explicit))

    check_index(header)
    assert header.warnings == {"encoding_differs"}


@pytest.mark.parametrize(("explicit", "little"), [(False, True), (True, True), (True, False)])
def test_a_dataset_without_preamble_and_meta_information(explicit: bool, little: bool) -> None:
    """Its encoding is told by its first element."""
    parts = [*elements(little), Element(0x7FE00010, b"OW", bytes(512))]
    header = header_of(dataset(parts, explicit=explicit, little=little))

    check_index(header)
    assert (header.explicit_vr, header.little_endian, header.has_preamble) == (explicit, little, False)
    assert header.warnings == {"preamble_missing", "transfer_syntax_missing"}


def test_a_file_whose_preamble_was_cut_off() -> None:
    """It begins with the prefix."""
    header = header_of(ct()[128:])

    check_index(header)
    assert header.warnings == {"preamble_missing"}


@pytest.mark.parametrize(
    ("preamble", "kind"),
    [
        (b"", "zeros"),
        (b"II*\0", "tiff"),
        (b"MZ\x90", "pe"),
        (b"\x7fELF", "elf"),
        (b"#!/bin/sh", "script"),
        (b"x", "other"),
    ],
)
def test_what_a_preamble_hides_is_told(preamble: bytes, kind: str) -> None:
    """The file is read all the same; serving it is another matter."""
    assert header_of(preamble.ljust(128, b"\0") + ct()[128:]).preamble_kind == kind


def test_a_wrong_group_length_does_not_matter() -> None:
    """The meta information ends where its group ends."""
    data = bytearray(ct())
    data[140:144] = struct.pack("<I", 7)

    check_index(header_of(bytes(data)))


def test_a_command_set_before_the_dataset_is_passed_over() -> None:
    """Some systems leave what came over the network before the dataset."""
    command = element(0x00000002, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0", explicit=False)
    start = len(meta(EXPLICIT))
    data = ct()
    header = header_of(data[:start] + command + data[start:])

    check_index(header)
    assert header.warnings == {"command_set"}


def test_a_large_private_block_is_jumped_over() -> None:
    """300 KB between the attributes and the pixels: the index needs one range, the pixels' place a second one."""
    data = ct(more=[Element(PRIVATE, b"OB", bytes(300_000))])
    header = header_of(data)

    check_index(header)
    assert (header.requests, header.bytes_read, header.complete) == (1, WINDOW_BYTES, False)
    assert header.pixel_data is None
    further = header_of(data, to_pixel_data=True)
    assert further.pixel_data is not None
    assert (further.pixel_data.offset, further.requests) == (len(data) - 512, 2)
    assert further.bytes_read < WINDOW_BYTES + 2_000


def test_attributes_behind_a_large_private_block_are_found() -> None:
    """A private group 0009 of 300 KB lies before everything but the class: a second range from its end."""
    header = header_of(ct(more=[Element(0x00091010, b"OB", bytes(300_000))]))

    check_index(header)
    assert header.requests == 2
    assert header.bytes_read < WINDOW_BYTES + 3_000


def test_a_file_that_is_too_small_for_its_pixels_is_read_on() -> None:
    """The pixels begin beyond the first range; what is left of the file cannot hold them."""
    data = ct(more=[Element(PRIVATE, b"OB", bytes(100_000))])[:-300]

    assert verdict(data).code == "truncated"


def sequence(depth: int) -> bytes:
    """Sequences of undefined length inside each other."""
    inner = element(0x00080100, b"SH", b"code")
    for _ in range(depth):
        inner = element(0x00081110, b"SQ", item(inner, undefined=True) + delimiter(), length=UNDEFINED)
    return inner


def with_element(raw: bytes, after: int = 0x00080020) -> bytes:
    """The CT with one more element as bytes, behind those up to ``after``."""
    parts = [*elements(), Element(0x7FE00010, b"OW", bytes(512))]
    return (
        meta(EXPLICIT)
        + dataset([part for part in parts if part.tag <= after])
        + raw
        + dataset([part for part in parts if part.tag > after])
    )


@pytest.mark.parametrize("depth", [1, 2, 16])
def test_nested_sequences_of_undefined_length_are_passed_over(depth: int) -> None:
    """Attributes in them are not the file's."""
    check_index(header_of(with_element(sequence(depth), 0x0008FFFF)))


@pytest.mark.parametrize("depth", [18, 400, 20_000])
def test_sequences_nested_too_deep_are_refused(depth: int) -> None:
    """By a limit, not by the interpreter's stack. (Each level is a sequence and an item.)"""
    inner = b"".join(
        [element(0x00081110, b"SQ", b"", length=UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)] * depth
    )
    error = verdict(with_element(inner))

    assert (error.code, error.facts["limit"]) == ("limit_exceeded", DEPTH_MAX)


def test_unknown_values_of_undefined_length_hold_implicit_elements() -> None:
    """UN of undefined length (PS3.5 6.2.2), also where an inner length looks like VR letters would not."""
    inner = element(0x00080100, b"SH", b"code", explicit=False)
    raw = element(0x00091001, b"UN", item(inner, undefined=True) + delimiter(), length=UNDEFINED)

    check_index(header_of(with_element(raw, 0x0008FFFF)))


def test_a_sequence_that_changes_to_implicit_elements_is_passed_over() -> None:
    """As some writers do inside explicit files."""
    inner = element(0x00080100, b"SH", b"code", explicit=False)
    raw = element(0x00081110, b"SQ", item(inner, undefined=True) + delimiter(), length=UNDEFINED)

    check_index(header_of(with_element(raw, 0x0008FFFF)))


def test_a_text_of_undefined_length_ends_at_its_delimiter() -> None:
    """Against the standard, but seen; the delimiter is searched for, across ranges too."""
    text = b"words " * 15_000
    raw = element(0x00091001, b"UT", text + delimiter(), length=UNDEFINED)
    header = header_of(with_element(raw, 0x0008FFFF))

    check_index(header)
    assert header.requests == 2


def test_an_undefined_sequence_longer_than_the_ranges_is_given_up_in_words() -> None:
    """Behind it the UIDs were never seen."""
    items = item(element(0x00080100, b"SH", b"code" * 5), undefined=True) * 20_000
    raw = element(0x00081110, b"SQ", items + delimiter(), length=UNDEFINED)
    assert len(raw) > (RANGES_MAX + 1) * WINDOW_BYTES

    assert verdict(with_element(raw)).code in {"missing_uid", "limit_exceeded"}


def test_a_sequence_that_never_ends_is_truncated() -> None:
    """The file's end comes inside it."""
    raw = element(0x00081110, b"SQ", item(b"", undefined=True), length=UNDEFINED)

    assert verdict(meta(EXPLICIT) + dataset(elements()) + raw).code == "truncated"


def test_every_cut_within_the_header_is_noticed() -> None:
    """Wherever the file ends before its pixels: never a shorter index without a word."""
    data = ct()
    start = len(meta(EXPLICIT))
    ends = [start]
    for part in [*elements(), Element(0x7FE00010, b"OW", bytes(512))]:
        ends.append(ends[-1] + len(element(part.tag, part.vr, part.value)))
    for cut in range(start + 1, len(data)):
        if cut in ends:
            continue  # between two elements: nothing tells the end but what is missing
        assert verdict(data[:cut]).code == "truncated", cut
    for cut in ends[1:7]:
        assert verdict(data[:cut]).code == "missing_uid", cut


def test_trailing_zeros_are_no_truncation() -> None:
    """A file padded to an even number of bytes, say."""
    parts = elements()
    header = header_of(meta(EXPLICIT) + dataset(parts) + bytes(6))

    check_index(header)
    assert header.warnings == {"trailing_bytes"}


@pytest.mark.parametrize("length", [100_000, 0x7FFFFFFF, 0xFFFFFF00])
def test_a_length_beyond_the_file_is_truncation(length: int) -> None:
    """Of a value that nobody wants, too."""
    raw = element(0x00091001, b"UN", b"", length=length)

    assert verdict(with_element(raw, 0x0008FFFF)).code == "truncated"


def test_pixels_that_are_fewer_than_announced_are_a_warning() -> None:
    """The element is whole, so the file is; the frames may not be."""
    assert header_of(ct(pixels=bytes(500))).warnings == {"pixel_data_short"}


def encapsulated(fragments: list[bytes], *, table: bytes = b"", end: bytes | None = None) -> bytes:
    value = item(table) + b"".join(item(fragment) for fragment in fragments) + (delimiter() if end is None else end)
    return meta(JPEG) + dataset(elements()) + element(0x7FE00010, b"OB", value, length=UNDEFINED)


def test_one_fragment_is_proven_whole_by_its_length() -> None:
    """A frame of 200 KB: no second range."""
    header = header_of(encapsulated([bytes(200_000)]))

    assert (header.requests, header.warnings) == (1, frozenset())
    assert header.pixel_data is not None
    assert header.pixel_data.length is None


def test_many_fragments_are_proven_whole_by_the_files_end() -> None:
    """A small second range."""
    header = header_of(encapsulated([bytes(50_000)] * 30))

    assert header.requests == 2
    assert header.bytes_read < WINDOW_BYTES + 1_000


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("lost", [1, 7, 8, 9, 20_000, 49_000])
def test_compressed_pixels_cut_short_are_noticed(count: int, lost: int) -> None:
    """Whether inside a fragment or its end mark; only a lost mark, whole, is no loss."""
    data = encapsulated([bytes(50_000)] * count)[:-lost]
    if lost == 8 and count < FRAGMENTS_ASKED_MAX:
        assert header_of(data).warnings == {"delimiter_missing"}
    else:
        assert verdict(data).code == "truncated"


def test_padding_behind_compressed_pixels_is_taken() -> None:
    """Trailing padding is an element (PS3.10 7.2)."""
    padding = element(0xFFFCFFFC, b"OB", bytes(100))

    assert header_of(encapsulated([bytes(50_000)] * 30) + padding).warnings == frozenset()


def deflated(data: bytes, level: int = 9) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return meta(DEFLATED) + deflate.compress(data) + deflate.flush()


def test_a_deflated_dataset_is_inflated_as_far_as_its_header() -> None:
    """Also where the stream is longer than a range."""
    noise = b"".join(zlib.crc32(number.to_bytes(4, "big")).to_bytes(4, "big") for number in range(30_000))
    whole = dataset([*elements(), Element(0x00091010, b"OB", noise), Element(0x7FE00010, b"OW", bytes(512))])
    header = header_of(deflated(whole))

    check_index(header)
    assert header.requests == 2
    assert header.pixel_data is not None
    assert header.pixel_data.offset == len(whole) - 512


def test_a_deflate_bomb_costs_nothing() -> None:
    """512 MB in half a megabyte: one range, and the pixels are never inflated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = [deflate.compress(dataset(elements()) + element(0x7FE00010, b"OW", b"", length=512 << 20))]
    out += [deflate.compress(bytes(1 << 20)) for _ in range(16)]
    header = header_of(meta(DEFLATED) + b"".join(out) + deflate.flush())

    check_index(header)
    assert header.requests == 1


def test_a_deflate_bomb_before_the_attributes_is_refused() -> None:
    """The limit is on inflated bytes."""
    data = dataset([*elements(), Element(0x00091010, b"OB", bytes(12 << 20))])

    assert verdict(deflated(data)).code == "limit_exceeded"


def test_broken_deflate_streams() -> None:
    """A stream that lies and one that ends too early."""
    whole = deflated(dataset([*elements(), Element(0x7FE00010, b"OW", bytes(512))]))
    start = len(meta(DEFLATED))

    assert verdict(whole[:start] + b"\xff" * 100).code == "corrupt"
    for cut in range(start + 1, len(whole)):
        assert verdict(whole[:cut]).code == "truncated", cut


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x0020000E])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "missing_uid"),
        (b"", "missing_uid"),
        (b"\0\0", "missing_uid"),
        (b"../../etc/passwd", "invalid_uid"),
        (b"1." * 40, "invalid_uid"),
    ],
)
def test_uids_are_there_and_are_uids(tag: int, value: bytes | None, code: str) -> None:
    """Before they become part of anything; the value itself is not told."""
    parts = [part for part in elements() if part.tag != tag]
    if value is not None:
        parts.append(Element(tag, b"UI", value))
    error = verdict(meta(EXPLICIT) + dataset(parts))

    assert error.code == code
    assert "passwd" not in str(error) + str(error.facts)


def test_an_attribute_that_comes_twice_is_told() -> None:
    """The last one counts, as elsewhere."""
    data = meta(EXPLICIT) + dataset(elements()) + element(0x0020000D, b"UI", b"9.9.9\0")
    header = header_of(data)

    assert (header.study_instance_uid, header.warnings) == ("9.9.9", {"repeated_element"})


def test_numbers_that_are_none_become_none() -> None:
    """With a warning; the file is taken."""
    parts = [part for part in elements() if part.tag not in (0x00200013, 0x00280010)]
    more = [Element(0x00200013, b"IS", b"1A"), Element(0x00280008, b"IS", b"0 "), Element(0x00280010, b"US", us(16))]
    header = header_of(meta(EXPLICIT) + dataset([*parts, *more]))

    assert (header.instance_number, header.number_of_frames, header.warnings) == (None, 1, {"bad_number"})


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\1Bud1\0\0", "ds_store"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "Catalog".encode("utf-16-le"), "thumbs_db"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "compound_file"),
        (b"\0\5\x16\7\0\2\0\0" + bytes(100), "apple_double"),
        (b"Read me first.\n", "text"),
        (b"<?xml version='1.0'?><a/>", "text"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "jpeg"),
        (b"MZ" + bytes(200), "executable"),
        (b"PK\3\4" + bytes(200), "zip"),
        (bytes(1000), "zeros"),
    ],
)
def test_strays_are_told_apart(data: bytes, kind: str) -> None:
    """By content."""
    error = verdict(data)

    assert (error.code, error.facts["stray"]) == ("stray", kind)


def test_a_dicomdir_is_a_stray() -> None:
    """Every one that pydicom ships, in each encoding."""
    folders = sorted((TEST_FILES / "dicomdirtests").glob("DICOMDIR*"))
    assert folders
    for path in folders:
        assert verdict(path.read_bytes()).facts["stray"] == "dicomdir", path.name


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (b"\1", "not_dicom"), (b"\1\2\3\4" * 50, "not_dicom")])
def test_what_is_nothing_known_is_not_dicom(data: bytes, code: str) -> None:
    """Neither DICOM nor a stray."""
    assert verdict(data).code == code


def test_the_first_range_is_asked_for_and_nothing_else() -> None:
    """64 KiB, or the whole of a smaller object."""
    assert next(read_header(10_000)).length == 10_000
    assert next(read_header(10 << 30)).length == WINDOW_BYTES


def test_errors_of_the_fetch_pass_unchanged() -> None:
    """They are the world's, not the file's."""

    def fetch(offset: int, length: int) -> bytes:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        scan(fetch, 1000)
