"""The decoding child: what it asks for and sends, and what its end means to the caller."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from heavylift.dicom.viewing import Viewport
from heavylift.dicomweb import decoded, drawing
from heavylift.dicomweb.decoded import Drawing, StoredFile, Wish
from heavylift.dicomweb.drawing import Drawer, file_of, place_of
from heavylift.errors import ContentError, RequestError, TransientError
from heavylift.settings import settings
from tests.doubles.world import World
from tests.heavylift.dicom.made import TEST_FILES, Element, element, elements, meta, us
from tests.heavylift.dicom.made import dataset as written
from tests.heavylift.dicomweb.placed import place

CT = (TEST_FILES / "CT_small.dcm").read_bytes()
PALETTE = (TEST_FILES / "examples_palette.dcm").read_bytes()
REPORT = (TEST_FILES / "rtplan.dcm").read_bytes()
BUDGET = 400 << 20


class Pipe:
    """The channel's end that a drawer has: files in, pieces out."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files
        self.asked: list[tuple[int, int, int]] = []
        self.sent: list[tuple[int | None, bytes]] = []

    def fetch(self, where: int, length: int) -> bytes:
        number, offset = file_of(where)
        self.asked.append((number, offset, length))
        return self.files[number][offset : offset + length]

    def stream(self, ranges: list[Any], *, request_bytes: int) -> Any:
        (want,) = ranges
        pipe = self

        class Stream:
            def readinto(self, view: memoryview) -> None:
                view[:] = pipe.fetch(want.offset, want.length)

            def close(self) -> None:
                assert request_bytes == drawing.STREAM_BYTES

        return Stream()

    def send_thumbnail(self, head: dict[str, Any], data: bytes) -> None:
        self.sent.append((head["begins"], data))

    def contents(self) -> dict[int, bytes]:
        """What was sent, by its number."""
        found: dict[int, bytes] = {}
        last = -1
        for begins, piece in self.sent:
            last = last if begins is None else begins
            found[last] = found.get(last, b"") + piece
        return found


def run(files: list[bytes], wanted: list[list[Any]], **job: Any) -> Pipe:
    pipe = Pipe(files)
    told = {"do": "draw", "media_type": "image/png", "window": None, "quality": 90, "viewport": None, "skipping": False}
    told |= {"budget_bytes": BUDGET, "sizes": [len(data) for data in files], "wanted": wanted}
    Drawer(pipe, told | job).run()  # type: ignore[arg-type]
    return pipe


def size(data: bytes) -> tuple[int, int]:
    return Pictures.open(io.BytesIO(data)).size


def test_frames_of_several_files_by_one_child() -> None:
    """Each by one request where it is small; contents are numbered in the order that was asked for."""
    pipe = run([CT, PALETTE], [[0, [1]], [1, [1]]])

    assert {number: size(data) for number, data in pipe.contents().items()} == {0: (128, 128), 1: (800, 350)}
    assert pipe.asked == [(0, 0, len(CT)), (1, 0, len(PALETTE))]


def test_a_large_file_is_read_in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its header, and the frame; what is sent is cut into pieces."""
    monkeypatch.setattr(drawing, "PIECE_BYTES", 1_000)
    edge = 1_200
    pixels = np.arange(edge * edge, dtype="<u2").tobytes()
    replaced = {0x00280010: us(edge), 0x00280011: us(edge)}
    parts = [part._replace(value=replaced.get(part.tag, part.value)) for part in elements()]
    data = meta("1.2.840.10008.1.2.1") + written(parts) + element(0x7FE00010, b"OW", pixels)
    pipe = run([data], [[0, [1]]], do="samples")

    assert pipe.contents() == {0: pixels}
    assert [length for _, _, length in pipe.asked] == [drawing.HEAD_BYTES, len(pixels)]
    assert {len(piece) for _, piece in pipe.sent} == {1_000}
    assert [begins for begins, _ in pipe.sent[:2]] == [0, None]


def test_what_cannot_be_drawn_is_left_out_where_that_is_wished() -> None:
    """If anything else can be; and otherwise told."""
    pipe = run([REPORT, CT], [[0, [1]], [1, [1]]], skipping=True)
    assert [begins for begins, _ in pipe.sent] == [1]
    for skipping in (False, True):
        with pytest.raises(ContentError) as caught:
            run([REPORT], [[0, [1]]], skipping=skipping)
        assert caught.value.code == "unsupported_feature"


@pytest.mark.parametrize("rows", [40_000, 65_535])
def test_a_bomb_is_refused_before_its_pixels_are_asked_for(rows: int) -> None:
    """By its measures: a file of a kilobyte that claims gigabytes."""
    replaced = {0x00280010: us(rows), 0x00280011: us(rows)}
    parts = [part._replace(value=replaced.get(part.tag, part.value)) for part in elements()]
    more = [Element(0x00080008, b"CS", b"ORIGINAL")]
    value = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0\xff\xd8\xff\xd9\xfe\xff\xdd\xe0\0\0\0\0"
    data = meta("1.2.840.10008.1.2.4.80") + written([*parts, *more])
    data += element(0x7FE00010, b"OB", value, length=0xFFFFFFFF)
    with pytest.raises(ContentError) as caught:
        run([data], [[0, [1]]])

    assert caught.value.code == "too_large_to_decode"


def test_an_enlarged_picture_counts() -> None:
    """What a viewport asks for is part of the estimate."""
    viewport = {
        "width": 4_096,
        "height": 4_096,
        "left": 0,
        "top": 0,
        "across": None,
        "down": None,
        "mirrored": False,
        "upside_down": False,
        "enlarging": True,
    }
    with pytest.raises(ContentError) as caught:
        run([CT], [[0, [1]]], viewport=viewport, budget_bytes=200 << 20)

    assert caught.value.code == "too_large_to_decode"


def test_places_tell_files_apart() -> None:
    """Also at their ends."""
    assert file_of(place_of(3, (1 << 48) - 1)) == (3, (1 << 48) - 1)
    assert file_of(place_of(4, 0)) == (4, 0)


# --- the child's end ---


@pytest.mark.parametrize(
    ("way", "seconds", "kind", "code"),
    [
        (1, 20.0, ContentError, "corrupt"),
        (2, 0.3, TransientError, "out_of_time"),
        (3, 20.0, ContentError, "too_large_to_decode"),
    ],
)
def test_a_childs_end_is_an_error_of_the_file(
    world: World, monkeypatch: pytest.MonkeyPatch, way: int, seconds: float, kind: type[Exception], code: str
) -> None:
    """A crash, a hang and the kernel's kill cost an answer; nothing of the child's measures is in it."""
    placed = place(world, CT, frames=3)
    monkeypatch.setattr(decoded, "ENTRY", "tests.heavylift.dicomweb.crashing")
    end = time.monotonic() + seconds
    with pytest.raises(kind) as caught:
        decoded.samples(
            "acme", Wish(placed.instance, (way,)), lambda: end - time.monotonic(), lambda begins, data: None
        )

    assert caught.value.code == code  # type: ignore[attr-defined]
    assert "child_memory_peak_bytes" not in caught.value.facts  # type: ignore[attr-defined]


def test_a_childs_own_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewport beside the picture, found out there; too little memory, by its estimate; a file that is gone."""
    placed = place(world, CT)
    wish = Wish(placed.instance, (1,))
    beside = Drawing(viewport=Viewport(8, 8, 128, 128))
    with pytest.raises(RequestError) as caught:
        decoded.draw("acme", [wish], beside, lambda: 20.0, lambda begins, data: None)
    assert caught.value.code == "invalid_parameter"
    monkeypatch.setenv("MAX_MEMORY_MB", "295")
    settings.cache_clear()
    with pytest.raises(ContentError) as refused:
        decoded.samples("acme", wish, lambda: 20.0, lambda begins, data: None)
    assert refused.value.code == "too_large_to_decode"
    world.s3.buckets["heavylift-store"].clear()
    with pytest.raises(RequestError) as gone:
        StoredFile("acme", placed.instance).read(0, 100)
    assert gone.value.code == "not_found"


def test_a_file_that_is_replaced_while_it_is_read_is_not_read_on(world: World) -> None:
    """Its first read says which object is meant."""
    placed = place(world, CT)
    file = StoredFile("acme", placed.instance)
    assert file.read(0, 10) == CT[:10]
    assert file.read(10, 10) == CT[10:20]
    assert file.read(len(CT), 10) == b""
    assert file.etag
    world.s3.put_object(Bucket="heavylift-store", Key=placed.instance.key("acme"), Body=CT[::-1])
    with pytest.raises(RequestError):
        file.read(20, 10)
