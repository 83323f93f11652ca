"""Frames: negotiated, found by range, answered or made an object; bytes against pydicom's reading of the same file."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from heavylift import keys
from heavylift.dicom.syntaxes import syntax_of
from heavylift.dicomweb import delivery, frames, kept
from heavylift.dicomweb.negotiation import parse_accept
from heavylift.errors import ContentError, RequestError
from tests.doubles.gate import Killed, kill_after, kill_before
from tests.doubles.world import DERIVED, World
from tests.heavylift.dicom.made import TEST_FILES, Element, delimiter, element, elements, item, meta, us
from tests.heavylift.dicom.made import dataset as written
from tests.heavylift.dicomweb.placed import BASE, Placed, body_of, parts, place

EXPLICIT = "1.2.840.10008.1.2.1"
JLS, J2K, JPEG, RLE = (
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.5",
)
WHATEVER = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
PLAIN = 'multipart/related; type="application/octet-stream"'


# --- negotiation ---


@pytest.mark.parametrize(
    ("accept", "syntax", "media_type", "transfer_syntax", "in_parts"),
    [
        # What is stored, by any name that it has.
        ("*/*", EXPLICIT, "application/octet-stream", EXPLICIT, True),
        ("*/*", JLS, "image/jls", JLS, True),
        ('multipart/related; type="*/*"', J2K, "image/jp2", J2K, True),
        ("multipart/related", JLS, "image/jls", JLS, True),
        (WHATEVER, JLS, "application/octet-stream", JLS, True),
        (WHATEVER, EXPLICIT, "application/octet-stream", EXPLICIT, True),
        (f"multipart/related; type=image/jls; transfer-syntax={JLS}", JLS, "image/jls", JLS, True),
        ("multipart/related; type=image/x-jls", JLS, "image/jls", JLS, True),
        ("multipart/related; type=image/x-dicom-rle", RLE, "image/dicom-rle", RLE, True),
        ('multipart/related; type="image/*"; transfer-syntax=*', JPEG, "image/jpeg", JPEG, True),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={J2K}", J2K, "application/octet-stream",
         J2K, True),
        # Plain samples, which need a decoder where the file is compressed.
        (PLAIN, JLS, "application/octet-stream", EXPLICIT, True),
        (f"{PLAIN}; transfer-syntax={EXPLICIT}", J2K, "application/octet-stream", EXPLICIT, True),
        (f"{PLAIN}; transfer-syntax={EXPLICIT}", "1.2.840.10008.1.2", "application/octet-stream", EXPLICIT, True),
        (PLAIN, "1.2.840.10008.1.2.2", "application/octet-stream", EXPLICIT, True),
        # One frame alone.
        ("application/octet-stream", EXPLICIT, "application/octet-stream", EXPLICIT, False),
        ("application/octet-stream; transfer-syntax=*", JLS, "application/octet-stream", JLS, False),
        ("image/jp2", J2K, "image/jp2", J2K, False),
        # The first that there is.
        (f"multipart/related; type=image/jp2; q=0.9, {WHATEVER};q=0.5", JLS, "application/octet-stream", JLS, True),
        ("text/html, image/png, */*;q=0.1", JLS, "image/jls", JLS, True),
        # A transfer syntax that nobody knows is served as bytes.
        (WHATEVER, "1.2.840.10008.1.2.4.55", "application/octet-stream", "1.2.840.10008.1.2.4.55", True),
    ],
)  # fmt: skip
def test_what_is_accepted_first_is_given(
    accept: str, syntax: str, media_type: str, transfer_syntax: str, in_parts: bool
) -> None:
    """PS3.18 8.7.3: media type, transfer syntax and whether in parts."""
    form = frames.form_of(parse_accept(accept), syntax_of(syntax), 1)

    assert (form.media_type, form.transfer_syntax, form.in_parts) == (media_type, transfer_syntax, in_parts)
    assert form.converted == (transfer_syntax == EXPLICIT and not syntax_of(syntax).native)


@pytest.mark.parametrize(
    ("accept", "syntax", "count"),
    [
        ("multipart/related; type=image/jpeg", JLS, 1),
        (f"multipart/related; type=image/jp2; transfer-syntax={JLS}", J2K, 1),
        (f"{PLAIN}; transfer-syntax=1.2.840.10008.1.2.2", EXPLICIT, 1),
        (f"{PLAIN}; transfer-syntax={J2K}", EXPLICIT, 1),
        ("image/png", EXPLICIT, 1),
        ("application/octet-stream", EXPLICIT, 2),
        ("application/dicom+json", JLS, 1),
        (PLAIN, "1.2.840.10008.1.2.4.55", 1),
        (PLAIN, "1.2.840.10008.1.2.4.110", 1),
        ("*/*", "1.2.840.10008.1.2.4.102", 1),
        ("*/*", "1.2.840.10008.1.2.4.94", 1),
    ],
)
def test_what_cannot_be_given_is_a_406(accept: str, syntax: str, count: int) -> None:
    """Nothing is compressed anew, video has no frames by themselves, and several frames need parts."""
    with pytest.raises(RequestError) as caught:
        frames.form_of(parse_accept(accept), syntax_of(syntax), count)

    assert caught.value.code == "not_acceptable"


# --- as stored ---


def stored_frames(data: bytes) -> list[bytes]:
    """The frames of a file as pydicom finds them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.dcmread(io.BytesIO(data))
        count = int(read.get("NumberOfFrames") or 1)
        if read.file_meta.TransferSyntaxUID.is_compressed and not read.file_meta.TransferSyntaxUID.is_deflated:
            extended = (
                (read.ExtendedOffsetTable, read.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in read else None
            )
            return list(generate_frames(read.PixelData, number_of_frames=count, extended_offsets=extended))
        length = read.Rows * read.Columns * read.SamplesPerPixel * read.BitsAllocated // 8
        return [read.PixelData[length * n : length * (n + 1)] for n in range(count)]


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",  # native
        "SC_rgb_small_odd.dcm",
        "rtdose.dcm",  # fifteen frames of 32 bits
        "MR_small_implicit.dcm",
        "liver_1frame.dcm",  # of single bits
        "JPEG2000.dcm",  # one fragment
        "MR_small_jpeg_ls_lossless.dcm",
        "rtdose_rle.dcm",  # fifteen frames
        "examples_ybr_color.dcm",  # thirty with a table
        "SC_rgb_jpeg_dcmtk.dcm",
    ],
)
def test_frames_are_the_bytes_that_are_stored(world: World, name: str) -> None:
    """All of them, in the order that was asked for, by a handful of requests."""
    placed = place(world, (TEST_FILES / name).read_bytes())
    expected = stored_frames(placed.data)
    numbers = tuple(range(1, len(expected) + 1))
    answer = frames.retrieve(placed.request(WHATEVER, numbers))
    found = parts(answer)

    assert [one.content for one in found] == [expected[number - 1] for number in numbers]
    assert answer.headers["content-type"].startswith('multipart/related; type="application/octet-stream"; boundary=')
    native = syntax_of(placed.instance.transfer_syntax_uid).native
    told = EXPLICIT if native else placed.instance.transfer_syntax_uid
    assert {one.headers["content-type"] for one in found} == {f"application/octet-stream; transfer-syntax={told}"}
    assert found[0].headers["content-location"].startswith(f"{BASE}/studies/{placed.instance.study_uid}/series/")
    assert found[0].headers["content-location"].endswith(f"/frames/{numbers[0]}")
    assert len(placed.reads()) == 1
    other_way = frames.retrieve(placed.request(WHATEVER, numbers[::-1]))
    assert [one.content for one in parts(other_way)] == expected[::-1]


def test_what_frames_cost(world: World) -> None:
    """One look into the index; a native frame by its very range, a small compressed file by one request."""
    native = place(world, (TEST_FILES / "rtdose.dcm").read_bytes())
    frames.retrieve(native.request(WHATEVER, (3,)))
    first = native.instance.pixel_offset
    assert first is not None
    assert Counter(call.operation for call in world.gate.calls) == {"get_item": 1, "get_object": 1}
    assert native.reads() == [f"bytes={first + 800}-{first + 1199}"]
    world.gate.restart()
    small = place(world, (TEST_FILES / "examples_ybr_color.dcm").read_bytes())
    frames.retrieve(small.request(WHATEVER, (2,)))
    assert small.reads() == [f"bytes=0-{len(small.data) - 1}"]


def encapsulated(frame_bytes: list[bytes], table: str, fragments: int = 1) -> bytes:
    """A JPEG-LS file of so many frames, that are no JPEG-LS at all; ``table``: none, basic or extended."""
    offsets, at = [], 0
    pieces = b""
    for frame in frame_bytes:
        offsets.append(at)
        step = len(frame) // fragments // 2 * 2
        cut = [frame[step * n : step * (n + 1)] for n in range(fragments - 1)] + [frame[step * (fragments - 1) :]]
        written_now = b"".join(map(item, cut))
        pieces += written_now
        at += len(written_now)
    basic = b"".join(offset.to_bytes(4, "little") for offset in offsets) if table == "basic" else b""
    more = [Element(0x00280008, b"IS", str(len(frame_bytes)).encode().ljust(2))]
    if table == "extended":
        more += [
            Element(0x7FE00001, b"OV", b"".join(offset.to_bytes(8, "little") for offset in offsets)),
            Element(0x7FE00002, b"OV", b"".join(len(frame).to_bytes(8, "little") for frame in frame_bytes)),
        ]
    value = item(basic) + pieces + delimiter()
    return meta(JLS) + written([*elements(), *more]) + element(0x7FE00010, b"OB", value, length=0xFFFFFFFF)


@pytest.mark.parametrize(
    ("table", "fragments", "requests"), [("basic", 1, 2), ("basic", 3, 2), ("extended", 1, 2), ("none", 1, 22)]
)
def test_a_frame_of_a_large_file_is_found_by_its_table(world: World, table: str, fragments: int, requests: int) -> None:
    """The header, the table, and all of the frame by one request; without a table every fragment is looked at."""
    made = [bytes([n]) * 70_000 for n in range(1, 21)]
    placed = place(world, encapsulated(made, table, fragments))
    (found,) = parts(frames.retrieve(placed.request(WHATEVER, (17,))))

    assert found.content == made[16]
    assert len(placed.reads()) <= requests
    read = sum(int(one.split("-")[1]) - int(one.split("=")[1].split("-")[0]) + 1 for one in placed.reads() if one)
    assert table == "none" or read < 300_000


def test_frames_that_are_not_there(world: World) -> None:
    """Beyond the count, of an instance without pixels, of another tenant, of nothing."""
    placed = place(world, (TEST_FILES / "rtdose.dcm").read_bytes())
    silent = place(world, (TEST_FILES / "rtplan.dcm").read_bytes())
    for request in (
        placed.request(WHATEVER, (16,)),
        placed.request(WHATEVER, (1, 16)),
        silent.request(WHATEVER, (1,)),
        placed.request(WHATEVER, (1,), tenant="other"),
    ):
        with pytest.raises(RequestError) as caught:
            frames.retrieve(request)
        assert caught.value.code == "not_found"
    with pytest.raises(RequestError) as caught:
        frames.retrieve(placed.request(WHATEVER, (1,) * 1001))
    assert caught.value.code == "answer_too_large"


def test_a_file_that_is_gone_is_not_found(world: World) -> None:
    """Its object was deleted, the index does not know yet."""
    for name in ("rtdose.dcm", "JPEG2000.dcm"):
        placed = place(world, (TEST_FILES / name).read_bytes())
        world.s3.buckets["heavylift-store"].clear()
        with pytest.raises(RequestError) as caught:
            frames.retrieve(placed.request(WHATEVER, (1,)))
        assert caught.value.code == "not_found"


def test_one_frame_without_parts(world: World) -> None:
    """Its bytes, and what they are."""
    placed = place(world, (TEST_FILES / "JPEG2000.dcm").read_bytes())
    answer = frames.retrieve(placed.request("image/jp2", (1,)))

    assert answer.body == stored_frames(placed.data)[0]
    assert answer.headers["content-type"] == f"image/jp2; transfer-syntax={placed.instance.transfer_syntax_uid}"


# --- converted ---


def test_plain_samples_are_pydicoms(world: World) -> None:
    """By one child: the frames of a compressed file, and of one whose bytes have another order."""
    for name in ("SC_rgb_rle_2frame.dcm", "MR_small_bigendian.dcm"):
        placed = place(world, (TEST_FILES / name).read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = pydicom.dcmread(io.BytesIO(placed.data)).pixel_array
        expected = samples if placed.instance.frames > 1 else samples[None]
        numbers = tuple(range(placed.instance.frames, 0, -1))
        found = parts(frames.retrieve(placed.request(PLAIN, numbers)))

        little = expected.astype(expected.dtype.newbyteorder("<"))
        assert [one.content for one in found] == [little[number - 1].tobytes() for number in numbers]
        assert found[0].headers["content-type"] == f"application/octet-stream; transfer-syntax={EXPLICIT}"


def fake_samples(content: bytes) -> Any:
    """The child, as far as its parent sees it: each frame in pieces of a thousand bytes."""

    def samples(tenant: str, wish: Any, seconds_left: Any, take: Any) -> None:
        for number in range(len(wish.frames)):
            for start in range(0, len(content), 1000):
                take(None if start else number, content[start : start + 1000])

    return samples


def test_decoded_frames_beyond_an_answer_are_an_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made once, under a key without UIDs; the second call decodes nothing."""
    for module in (kept, frames):
        monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 5_000)
    monkeypatch.setattr(kept, "PART_BYTES", 4_096)
    content = bytes(range(256)) * 40
    monkeypatch.setattr(frames.decoded, "samples", fake_samples(content))
    placed = place(world, (TEST_FILES / "SC_rgb_rle_2frame.dcm").read_bytes())
    request = placed.request(PLAIN, (1, 2))
    answer = frames.retrieve(request)
    body, media_type = body_of(world, answer)

    assert answer.status == 307
    assert [one.content for one in frames_of(body, media_type)] == [content, content]
    (key,) = world.s3.buckets[DERIVED]
    assert key.startswith(f"frames/acme/{placed.instance.file_id}/")
    assert placed.instance.study_uid not in key
    monkeypatch.setattr(frames.decoded, "samples", None)
    assert frames.retrieve(request).headers["location"] == answer.headers["location"]
    assert world.s3.versions_made[DERIVED, key] == 1


def frames_of(body: bytes, media_type: str) -> list[Any]:
    from heavylift.dicomweb.multipart import take_apart

    return take_apart(body, media_type)


@pytest.fixture
def large(world: World, monkeypatch: pytest.MonkeyPatch) -> Placed:
    """A file whose decoded frames are too large for an answer."""
    for module in (kept, frames):
        monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 5_000)
    monkeypatch.setattr(kept, "PART_BYTES", 4_096)
    monkeypatch.setattr(frames.decoded, "samples", fake_samples(bytes(range(256)) * 40))
    return place(world, (TEST_FILES / "SC_rgb_rle_2frame.dcm").read_bytes())


def test_killed_at_any_call_and_asked_again_the_body_is_whole(world: World, large: Placed) -> None:
    """Nothing but an upload is left by a kill, which the bucket's rule aborts; the next call's body is the same."""
    request = large.request(PLAIN, (1, 2))
    wanted, _ = body_of(world, frames.retrieve(request))
    calls = len(world.gate.calls)
    for how in (kill_before, kill_after):
        for number in range(1, calls + 1):
            world.s3.buckets[DERIVED].clear()
            world.gate.restart(how(number))
            with pytest.raises(Killed):
                frames.retrieve(request)
            world.gate.restart()
            assert body_of(world, frames.retrieve(request))[0] == wanted
            assert len(world.s3.buckets[DERIVED]) == 1


def test_twins_make_one_body(world: World, large: Placed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one's is not needed, and its upload is aborted."""
    request = large.request(PLAIN, (1, 2))
    inner = frames.decoded.samples

    def twin(*given: Any) -> None:
        monkeypatch.setattr(frames.decoded, "samples", inner)
        frames.retrieve(request)
        inner(*given)

    monkeypatch.setattr(frames.decoded, "samples", twin)
    answer = frames.retrieve(request)

    assert answer.status == 307
    (key,) = world.s3.buckets[DERIVED]
    assert world.s3.versions_made[DERIVED, key] == 1
    assert world.s3.uploads == {}


def test_a_file_that_is_deleted_meanwhile_leaves_no_body(
    world: World, large: Placed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deletion has not seen the body that was still being made."""
    inner = frames.decoded.samples

    def deleted(*given: Any) -> None:
        inner(*given)
        world.table.items.clear()

    monkeypatch.setattr(frames.decoded, "samples", deleted)
    with pytest.raises(RequestError) as caught:
        frames.retrieve(large.request(PLAIN, (1, 2)))

    assert caught.value.code == "not_found"
    assert world.s3.buckets[DERIVED] == {}


def test_a_decoder_that_fails_leaves_nothing(world: World, large: Placed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its upload is aborted."""

    def failing(tenant: str, wish: Any, seconds_left: Any, take: Any) -> None:
        for _ in range(8):
            take(None, bytes(1_000))
        raise ContentError("corrupt", "of the file")

    monkeypatch.setattr(frames.decoded, "samples", failing)
    with pytest.raises(ContentError):
        frames.retrieve(large.request("application/octet-stream", (1,)))

    assert world.s3.uploads == {}


def test_stored_frames_beyond_an_answer_are_copied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside S3, but for what stands before them: a native frame is copied from where it lies."""
    monkeypatch.setattr(delivery, "ANSWER_BYTES_MAX", 20_000)
    monkeypatch.setattr(delivery, "S3_PART_SIZE_MIN", 4_000)
    placed = place(world, (TEST_FILES / "CT_small.dcm").read_bytes())
    request = placed.request(WHATEVER, (1,))
    answer = frames.retrieve(request)
    body, media_type = body_of(world, answer)

    assert answer.status == 307
    assert [one.content for one in frames_of(body, media_type)] == [stored_frames(placed.data)[0]]
    copied = [call for call in world.gate.calls if call.operation == "upload_part_copy"]
    assert copied
    alone = frames.retrieve(placed.request("application/octet-stream", (1,)))
    assert body_of(world, alone)[0] == stored_frames(placed.data)[0]
    assert answer.headers["location"] != alone.headers["location"]


def test_too_much_to_decode_is_a_413(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything is read."""
    placed = place(world, (TEST_FILES / "SC_rgb_rle_2frame.dcm").read_bytes())
    monkeypatch.setattr(frames, "DECODED_BYTES_MAX", 1_000)
    with pytest.raises(RequestError) as caught:
        frames.retrieve(placed.request(PLAIN, (1,)))

    assert caught.value.code == "answer_too_large"
    assert placed.reads() == []


def test_a_transfer_syntax_that_is_none_is_not_repeated(world: World) -> None:
    """What a file says of itself becomes no header of ours unless it is a UID."""
    placed = place(world, (TEST_FILES / "CT_small.dcm").read_bytes(), transfer_syntax_uid="1.2\r\nX-Evil: 1")
    (found,) = parts(frames.retrieve(placed.request(WHATEVER, (1,))))

    assert found.headers["content-type"].endswith(EXPLICIT)
    assert np.frombuffer(found.content, "<i2").size == 128 * 128


def test_keys_of_pictures_hold_no_uid() -> None:
    """Ids and numbers of ours only."""
    assert keys.dicom_thumbnail("acme", "01K", 3, 256) == "dicom/acme/01K/3-256.jpg"
    assert Path(keys.frames("acme", "01K", "ab")).parts == ("frames", "acme", "01K", "ab")
    assert us(1)
