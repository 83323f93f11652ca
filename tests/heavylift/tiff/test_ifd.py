"""Directories of TIFF files, with Pillow and tifffile as independent writers and readers."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heavylift.errors import ContentError
from heavylift.ranges import Range, ReadAhead, Reader, drive
from heavylift.tiff import tags
from heavylift.tiff.ifd import (
    IFDS_MAX,
    Directories,
    parse_header,
    read_array,
    read_header,
    read_ifd,
    read_integers,
    read_numbers,
    read_text,
    walk,
)


def written(pages: int = 1, **options: object) -> bytes:
    out = io.BytesIO()
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3)
    with tifffile.TiffWriter(out, **options) as writer:  # type: ignore[arg-type]
        for _ in range(pages):
            writer.write(
                pixels, photometric="rgb", rowsperstrip=4, contiguous=False, metadata=None, description="a page"
            )
    return out.getvalue()


def walked(data: bytes) -> Directories:
    def read() -> Reader[Directories]:
        header = yield from read_header(len(data))
        return (yield from walk(header, len(data)))

    return drive(read(), lambda offset, length: data[offset : offset + length])


def everything(data: bytes) -> None:
    """Walk a file and read every value of every directory."""
    size = len(data)

    def read() -> Reader[None]:
        header = yield from read_header(size)
        directories = yield from walk(header, size)
        for ifd in (*directories.pages, *directories.sub_ifds):
            for tag in list(ifd.entries)[:50]:
                for reader in (read_numbers, read_integers):
                    try:
                        yield from reader(ifd, tag, size, 100)  # type: ignore[operator]
                    except ContentError:
                        pass
                try:
                    yield from read_array(ifd, tag, size, 1000)
                except ContentError:
                    pass
                yield from read_text(ifd, tag, size)

    def fetch(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= size
        return data[offset : offset + length]

    drive(read(), fetch)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("pages", [1, 3])
def test_walk_agrees_with_tifffile(bigtiff: bool, byteorder: str, pages: int) -> None:
    """Pages, tags, types, counts and values are those that tifffile reads."""
    data = written(pages, bigtiff=bigtiff, byteorder=byteorder)
    found = walked(data)
    with tifffile.TiffFile(io.BytesIO(data)) as judge:
        assert len(found.pages) == len(judge.pages) == pages
        for ifd, page in zip(found.pages, judge.pages, strict=True):
            for tag in page.tags:
                entry = ifd.entries[tag.code]
                assert (entry.type, entry.count) == (int(tag.dtype), tag.count)

                numbers = drive(read_numbers(ifd, tag.code, len(data)), lambda o, n: data[o : o + n])
                if tag.dtype not in (2, 5, 10):
                    expected = tag.value if isinstance(tag.value, tuple) else (tag.value,)
                    assert numbers == tuple(int(value) for value in expected)
    assert found.complete


def test_walk_agrees_with_pillow() -> None:
    """A TIFF of Pillow's: its tags are found with Pillow's values."""
    out = io.BytesIO()
    Image.new("RGB", (50, 20)).save(out, "TIFF", dpi=(300, 300))
    data = out.getvalue()
    ifd = walked(data).pages[0]

    assert drive(read_numbers(ifd, 282, len(data)), lambda o, n: data[o : o + n]) == (300.0,)
    assert drive(read_numbers(ifd, tags.IMAGE_WIDTH, len(data)), lambda o, n: data[o : o + n]) == (50,)


def test_sub_ifds_are_walked() -> None:
    """The levels of a pyramid are found below their page."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8), photometric="rgb", subifds=2)
        writer.write(np.zeros((32, 32, 3), np.uint8), photometric="rgb", subfiletype=1)
        writer.write(np.zeros((16, 16, 3), np.uint8), photometric="rgb", subfiletype=1)
    found = walked(out.getvalue())

    assert (len(found.pages), len(found.sub_ifds), found.complete) == (1, 2, True)


def test_one_request_behind_read_ahead() -> None:
    """The directories of a three-page file cost one request."""
    data = written(3)
    requests = []

    def fetch(offset: int, length: int) -> bytes:
        requests.append(Range(offset, length))
        return data[offset : offset + length]

    def read() -> Reader[Directories]:
        header = yield from read_header(len(data))
        return (yield from walk(header, len(data)))

    drive(read(), ReadAhead(fetch, len(data)))

    assert len(requests) == 1


def directory(*entries: tuple[int, int, int, int], link: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", link)


def test_cycles_end() -> None:
    """A directory that links to itself, and one whose SubIFD is itself, end the walk."""
    itself = b"II*\0" + struct.pack("<I", 8) + directory((256, 3, 1, 1), (330, 4, 1, 8), link=8)
    found = walked(itself)

    assert (len(found.pages), len(found.sub_ifds), found.complete) == (1, 0, False)


def test_long_chains_end() -> None:
    """Of a file with very many pages the first are looked at."""
    step = len(directory((256, 3, 1, 1)))
    data = b"II*\0" + struct.pack("<I", 8)
    for number in range(200):
        data += directory((256, 3, 1, 1), link=8 + step * (number + 1) if number < 199 else 0)
    found = walked(data)

    assert (len(found.pages), found.complete) == (IFDS_MAX, False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"II", "not_recognised"),
        (b"XX*\0\x08\0\0\0", "not_recognised"),
        (b"II\x2c\0\x08\0\0\0", "not_recognised"),
        (b"II*\0\x08", "truncated"),
        (b"II+\0\x08\0\0\0", "truncated"),
        (b"II+\0\x04\0\0\0" + bytes(8), "corrupt"),
        (b"II*\0" + struct.pack("<I", 5000), "truncated"),
        (b"II*\0" + struct.pack("<I", 0), "truncated"),
        (b"II*\0" + struct.pack("<IH", 8, 0) + bytes(10), "corrupt"),
        (b"II*\0" + struct.pack("<IH", 8, 5000) + bytes(70_000), "limit_exceeded"),
        (b"II*\0" + struct.pack("<IH", 8, 50), "truncated"),
        (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 60) + bytes(100), "limit_exceeded"),
    ],
)
def test_bad_beginnings(data: bytes, code: str) -> None:
    """What is wrong with the header or the first directory has a code."""
    with pytest.raises(ContentError) as caught:
        walked(data)

    assert caught.value.code == code


def test_values_outside_the_file_and_too_large() -> None:
    """A value's place and size are checked before it is fetched; an array longer than needed is read in part."""
    data = b"II*\0" + struct.pack("<I", 8) + directory((273, 4, 10, 1 << 30), (279, 4, 0xFFFFFFFF, 8)) + bytes(50)
    ifd = walked(data).pages[0]

    for tag, code in ((273, "truncated"), (279, "limit_exceeded")):
        with pytest.raises(ContentError) as caught:
            drive(read_numbers(ifd, tag, len(data)), lambda o, n: data[o : o + n])
        assert caught.value.code == code
    assert len(drive(read_array(ifd, 279, len(data), 5), lambda o, n: data[o : o + n])) == 5


def test_header_of_camera_formats() -> None:
    """RW2 and ORF have their own magic numbers in front of ordinary directories."""
    assert parse_header(b"IIU\0\x18\0\0\0").first_ifd == 24
    assert parse_header(b"MMOR\0\0\0\x08").order == ">"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["<", ">"]), st.booleans(), st.binary(max_size=400))
def test_garbage_raises_only_content_errors(order: str, big: bool, tail: bytes) -> None:
    """Random bytes behind a valid mark: nothing but ContentError, also when every value is read."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    try:
        everything(head + tail)
    except ContentError:
        pass


REAL = [written(2, bigtiff=bigtiff, byteorder=order) for bigtiff in (False, True) for order in "<>"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(REAL), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=10), st.data())
def test_damage_raises_only_content_errors(sample: bytes, changes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Real headers with bytes changed and ends cut off: nothing but ContentError, and no read outside the file."""
    damaged = bytearray(sample)
    for offset, value in changes:
        damaged[offset % len(damaged)] = value
    try:
        everything(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except ContentError:
        pass


def test_first_of_repeated_tags_counts() -> None:
    """Of a tag that occurs twice the first is taken."""
    data = b"II*\0" + struct.pack("<I", 8) + directory((256, 3, 1, 7), (256, 3, 1, 9))
    header = parse_header(data[:8])
    ifd = drive(read_ifd(header, 8, len(data)), lambda o, n: data[o : o + n])

    assert drive(read_integers(ifd, 256, len(data)), lambda o, n: data[o : o + n]) == (7,)
