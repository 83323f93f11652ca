"""Rendered pictures and thumbnails: what is asked for, which instances stand for a series, what is kept."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image as Pictures
from pydicom.pixels import apply_modality_lut, apply_windowing

from heavylift.dicom import index
from heavylift.dicom.instances import Series
from heavylift.dicom.viewing import Viewport, Window
from heavylift.dicomweb import kept, rendered
from heavylift.dicomweb.decoded import Drawing, Wish
from heavylift.dicomweb.exchange import Answer
from heavylift.dicomweb.negotiation import parse_accept
from heavylift.errors import ContentError, HeavyliftError, RequestError
from tests.doubles.gate import Killed, kill_after, kill_before
from tests.doubles.world import DERIVED, World
from tests.heavylift.dicom.made import TEST_FILES
from tests.heavylift.dicomweb.placed import Placed, body_of, parts, place

CT = (TEST_FILES / "CT_small.dcm").read_bytes()


# --- what is asked for ---


@pytest.mark.parametrize(
    ("accept", "media_type", "in_parts"),
    [
        ("*/*", "image/jpeg", None),
        ("image/*", "image/jpeg", None),
        ("image/png", "image/png", None),
        ("image/avif,image/webp,image/png,*/*;q=0.8", "image/png", None),
        ("text/html, image/jpeg;q=0.1", "image/jpeg", None),
        ('multipart/related; type="image/png"', "image/png", True),
        ("multipart/related", "image/jpeg", True),
    ],
)
def test_pictures_are_jpeg_or_png(accept: str, media_type: str, in_parts: bool | None) -> None:
    """By what is accepted first; in parts where that is asked for."""
    assert rendered.form_of(parse_accept(accept)) == (media_type, in_parts)


@pytest.mark.parametrize("accept", ["image/gif", "video/mp4", "application/dicom", "multipart/related; type=text/html"])
def test_other_pictures_are_a_406(accept: str) -> None:
    """Said with what there is instead."""
    with pytest.raises(RequestError) as caught:
        rendered.form_of(parse_accept(accept))

    assert caught.value.code == "not_acceptable"


def test_windows_and_viewports_are_read() -> None:
    """PS3.18 8.3.5.1; the later fields of a viewport may be empty."""
    assert rendered.window_of("40,400,linear") == Window(40, 400)
    assert rendered.window_of("-600, 1.5e3, sigmoid") == Window(-600, 1500, "SIGMOID")
    assert rendered.window_of("1,0.5,linear-exact") == Window(1, 0.5, "LINEAR_EXACT")
    assert rendered.window_of("1,2") == Window(1, 2)
    assert rendered.viewport_of("512,256") == Viewport(512, 256)
    assert rendered.viewport_of("512,256,10,20.5,100,-50") == Viewport(
        512, 256, 10, 20.5, 100, 50, mirrored=False, upside_down=True
    )
    assert rendered.viewport_of("64,64,,,-32,") == Viewport(64, 64, 0, 0, 32, None, mirrored=True)


@pytest.mark.parametrize(
    "query",
    [
        {"window": "40"},
        {"window": "40,0,linear"},
        {"window": "40,nan"},
        {"window": "40,400,cubic"},
        {"window": "1e400,1"},
        {"window": "4_0,400"},
        {"quality": "0"},
        {"quality": "101"},
        {"quality": "high"},
        {"quality": "9" * 5_000},
        {"viewport": "512"},
        {"viewport": "0,512"},
        {"viewport": "99999,1"},
        {"viewport": "512,512,a"},
        {"viewport": "512,512,0,0,0,1"},
        {"viewport": "1,2,3,4,5,6,7"},
        {"annotation": "patient"},
        {"iccprofile": "yes"},
    ],
)
def test_wrong_parameters_are_told(world: World, query: dict[str, str]) -> None:
    """Before anything is read; what is not done (annotations, colour profiles) is declined, not ignored."""
    placed = place(world, CT)
    with pytest.raises(RequestError) as caught:
        rendered.render(placed.request(**query))

    assert (caught.value.code, caught.value.facts) == ("invalid_parameter", {"parameter": next(iter(query))})
    assert placed.reads() == []


# --- pictures ---


def picture(answer: Answer) -> np.ndarray:
    assert answer.status == 200
    return np.asarray(Pictures.open(io.BytesIO(answer.body)))


def test_a_picture_is_pydicoms(world: World) -> None:
    """By a child: two requests (index, file); with the window that was asked for, to one grey level."""
    placed = place(world, CT)
    drawn = picture(rendered.render(placed.request("image/png", window="40,400,linear")))
    read = pydicom.dcmread(io.BytesIO(CT))
    read.WindowCenter, read.WindowWidth = 40, 400
    values = apply_windowing(np.append(apply_modality_lut(read.pixel_array, read).ravel(), (-1e6, 1e6)), read)
    low, high = values[-2:]
    expected = np.rint((values[:-2].reshape(128, 128) - low) / (high - low) * 255)

    assert np.abs(drawn.astype(int) - expected.astype(int)).max() <= 1
    assert Counter(call.operation for call in world.gate.calls) == {"get_item": 1, "get_object": 1}


def fake_draw(world: World, failing: dict[str, Exception] | None = None) -> Any:
    """The child, as far as its parent sees it: says what it was told to draw, in pieces of some bytes."""

    def draw(tenant: str, wishes: list[Wish], how: Drawing, seconds_left: Any, take: Any) -> None:
        world.drawn.append(([(wish.instance.number, wish.frames) for wish in wishes], how))  # type: ignore[attr-defined]
        place = 0
        for wish in wishes:
            error = (failing or {}).get(str(wish.instance.number))
            if error is not None:
                raise error
            for frame in wish.frames:
                told = json.dumps([wish.instance.number, frame, how.media_type]).encode()
                take(place, told[:5])
                take(None, told[5:])
                place += 1

    return draw


@pytest.fixture
def fake(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose children only tell what they were to draw."""
    world.drawn = []  # type: ignore[attr-defined]
    monkeypatch.setattr(rendered.decoded, "draw", fake_draw(world))
    return world


def series(world: World, *numbers: int, frames: int = 1) -> list[Placed]:
    """One series of so many instances."""
    return [place(world, CT, number=n, sop_uid=f"1.2.3.{n}", frames=frames) for n in numbers]


def test_parameters_reach_the_drawing(fake: World) -> None:
    """All of them."""
    placed = place(fake, CT)
    rendered.render(placed.request("image/png", window="1,2,sigmoid", quality="70", viewport="5,6"))

    assert fake.drawn[0][1] == Drawing("image/png", Window(1, 2, "SIGMOID"), 70, Viewport(5, 6))  # type: ignore[attr-defined]


def test_frames_are_drawn_in_their_order(fake: World) -> None:
    """One alone as a picture, several in parts; without a number the first, in parts all."""
    (one,) = series(fake, 7, frames=3)
    alone = rendered.render(one.request("image/png", (2,)))
    assert (json.loads(alone.body), alone.headers["content-type"]) == ([7, 2, "image/png"], "image/png")
    assert json.loads(rendered.render(one.request()).body) == [7, 1, "image/jpeg"]
    several = parts(rendered.render(one.request("image/jpeg", (3, 1))))
    assert [json.loads(part.content)[1] for part in several] == [3, 1]
    assert several[0].headers["content-location"].endswith("/instances/1.2.3.7/frames/3/rendered")
    everything = parts(rendered.render(one.request('multipart/related; type="image/png"')))
    assert [json.loads(part.content) for part in everything] == [[7, n, "image/png"] for n in (1, 2, 3)]


def test_a_series_is_its_middle_instance_or_all(fake: World) -> None:
    """By instance number; whoever asks for multipart gets all of them."""
    one = series(fake, 30, 10, 50, 20, 40)[0]
    assert json.loads(rendered.render(one.series_request()).body)[0] == 30
    assert json.loads(rendered.render(one.study_request()).body)[0] == 30
    found = parts(rendered.render(one.series_request("multipart/related")))
    assert [json.loads(part.content)[0] for part in found] == [10, 20, 30, 40, 50]
    found = parts(rendered.render(one.study_request("multipart/related")))
    assert len(found) == 5


def test_what_cannot_be_drawn_is_told(fake: World) -> None:
    """Nothing there, no pixels, a codec that nobody has, too many pictures."""
    silent = place(fake, (TEST_FILES / "rtplan.dcm").read_bytes())
    video = place(fake, CT, transfer_syntax_uid="1.2.840.10008.1.2.4.102", sop_uid="1.2.9")
    many = place(fake, CT, frames=2_000, sop_uid="1.2.10")
    wrong = [
        (silent.request(), "not_acceptable"),
        (silent.series_request(), "not_acceptable"),
        (video.request(), "not_acceptable"),
        (many.request("multipart/related"), "answer_too_large"),
        (many.request(frames=(2_001,)), "not_found"),
        (many.request(tenant="other"), "not_found"),
        (many.series_request(tenant="other"), "not_found"),
        (many.study_request(tenant="other"), "not_found"),
    ]
    for request, code in wrong:
        with pytest.raises(RequestError) as caught:
            rendered.render(request)
        assert caught.value.code == code
    assert fake.drawn == []  # type: ignore[attr-defined]


def test_pictures_beyond_an_answer_are_an_object(fake: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a series under a name of the study's, which holds no UID."""
    monkeypatch.setattr(kept, "ANSWER_BYTES_MAX", 100)
    one = series(fake, 1, 2, 3)[0]
    answer = rendered.render(one.series_request("multipart/related"))
    body, media_type = body_of(fake, answer)

    assert answer.status == 307
    assert body.count(b"image/jpeg") == 6
    assert media_type.startswith("multipart/related")
    (key,) = fake.s3.buckets[DERIVED]
    assert one.instance.study_uid not in key
    again = rendered.render(one.series_request("multipart/related"))
    assert again.headers["location"] == answer.headers["location"]
    assert fake.s3.versions_made[DERIVED, key] == 1


# --- thumbnails ---


def _series_of(one: Placed) -> Series:
    found = index.get_series("acme", one.instance.study_uid, one.instance.series_uid)
    assert found is not None
    return found


def test_a_thumbnail_is_made_once(fake: World) -> None:
    """And kept under ids of ours; the second call costs one look into the index and one object."""
    (one,) = series(fake, 7, frames=5)
    first = rendered.thumbnail(one.request())
    assert json.loads(first.body) == [7, 3, "image/jpeg"]
    assert list(fake.s3.buckets[DERIVED]) == [f"dicom/acme/{one.instance.file_id}/3-256.jpg"]
    fake.gate.restart()
    again = rendered.thumbnail(one.request())
    assert (again.body, again.headers["content-type"]) == (first.body, "image/jpeg")
    assert Counter(call.operation for call in fake.gate.calls) == {"get_item": 1, "get_object": 1}
    assert len(fake.drawn) == 1  # type: ignore[attr-defined]
    assert fake.drawn[0][1].viewport == Viewport(256, 256, enlarging=False)  # type: ignore[attr-defined]
    other = rendered.thumbnail(one.request(frames=(5,)))
    assert json.loads(other.body)[1] == 5


@pytest.mark.parametrize(
    ("accept", "viewport", "is_kept"),
    [("", "128,128", True), ("", "100,100", False), ("", "128,64", False), ("image/png", "", False)],
)
def test_other_sizes_are_made_for_who_asks(fake: World, accept: str, viewport: str, is_kept: bool) -> None:
    """The usual squares in JPEG are kept."""
    (one,) = series(fake, 1)
    query = {"viewport": viewport} if viewport else {}
    rendered.thumbnail(one.request(accept, **query))

    assert bool(fake.s3.buckets[DERIVED]) == is_kept


def test_a_series_keeps_its_thumbnail_until_it_changes(fake: World) -> None:
    """Its item names it; another instance makes another middle."""
    one = series(fake, 1, 2, 3)[0]
    assert json.loads(rendered.thumbnail(one.series_request()).body)[0] == 2
    assert _series_of(one).shown_thumbnail in fake.s3.buckets[DERIVED]
    fake.gate.restart()
    rendered.thumbnail(one.series_request())
    assert Counter(call.operation for call in fake.gate.calls) == {"get_item": 1, "get_object": 1}
    assert json.loads(rendered.thumbnail(one.study_request()).body)[0] == 2
    series(fake, 4, 5)
    assert _series_of(one).shown_thumbnail == ""
    assert json.loads(rendered.thumbnail(one.series_request()).body)[0] == 3


def test_a_series_whose_thumbnail_is_gone_gets_another(fake: World) -> None:
    """Its file was deleted, and with it what was made of it."""
    one = series(fake, 1)[0]
    rendered.thumbnail(one.series_request())
    fake.s3.buckets[DERIVED].clear()

    assert json.loads(rendered.thumbnail(one.series_request()).body)[0] == 1


def test_where_the_middle_cannot_be_drawn_another_stands_for_it(fake: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, then the last; a study goes on to its next series, and reports come last."""
    flaw = ContentError("corrupt", "of the file")
    one = series(fake, 1, 2, 3)[0]
    monkeypatch.setattr(rendered.decoded, "draw", fake_draw(fake, {"2": flaw}))
    assert json.loads(rendered.thumbnail(one.series_request()).body)[0] == 1
    monkeypatch.setattr(rendered.decoded, "draw", fake_draw(fake, {"1": flaw, "2": flaw, "3": flaw}))
    fake.s3.buckets[DERIVED].clear()
    with pytest.raises(RequestError) as caught:
        rendered.thumbnail(one.series_request())
    assert (caught.value.code, caught.value.facts) == ("no_thumbnail", {"reason": "corrupt"})
    place(fake, CT, number=9, sop_uid="1.2.3.9", series_uid="1.2.3.99")
    assert json.loads(rendered.thumbnail(one.study_request()).body)[0] == 9


def test_what_is_no_picture_has_no_thumbnail(fake: World) -> None:
    """A 404 that says so; and what is not there at all."""
    silent = place(fake, (TEST_FILES / "rtplan.dcm").read_bytes())
    for request in (silent.request(), silent.series_request(), silent.study_request()):
        with pytest.raises(RequestError) as caught:
            rendered.thumbnail(request)
        assert caught.value.code == "no_thumbnail"
    for request in (silent.request(tenant="other"), silent.series_request(tenant="other")):
        with pytest.raises(RequestError) as caught:
            rendered.thumbnail(request)
        assert caught.value.code == "not_found"
    with pytest.raises(RequestError):
        rendered.thumbnail(silent.request("multipart/related"))
    with pytest.raises(RequestError):
        rendered.thumbnail(silent.request(viewport="64,64,1,1"))


def test_killed_at_any_call_the_next_one_keeps_the_thumbnail(fake: World) -> None:
    """Its object is there once, and the series names it."""
    one = series(fake, 1, 2, 3)[0]
    request = one.series_request()
    rendered.thumbnail(request)
    calls = len(fake.gate.calls)
    for how in (kill_before, kill_after):
        for number in range(1, calls + 1):
            fake.s3.buckets[DERIVED].clear()
            index.mark("acme", _series_of(one))
            fake.gate.restart(how(number))
            with pytest.raises(Killed):
                rendered.thumbnail(request)
            fake.gate.restart()
            assert json.loads(rendered.thumbnail(request).body)[0] == 2
            assert list(fake.s3.buckets[DERIVED]) == [_series_of(one).shown_thumbnail]


def test_twins_keep_one_thumbnail(fake: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both answer with it, one object is made."""
    (one,) = series(fake, 1)
    inner = rendered.decoded.draw

    def twin(*given: Any) -> None:
        monkeypatch.setattr(rendered.decoded, "draw", inner)
        rendered.thumbnail(one.request())
        inner(*given)

    monkeypatch.setattr(rendered.decoded, "draw", twin)
    rendered.thumbnail(one.request())

    ((key, made),) = fake.s3.buckets[DERIVED].items()
    assert json.loads(made.body)[0] == 1
    assert fake.s3.versions_made[DERIVED, key] == 1


def test_a_file_that_is_deleted_meanwhile_leaves_no_thumbnail(fake: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its deletion came between."""
    (one,) = series(fake, 1)
    inner = rendered.decoded.draw

    def deleted(*given: Any) -> None:
        inner(*given)
        fake.table.items.clear()

    monkeypatch.setattr(rendered.decoded, "draw", deleted)
    with pytest.raises(HeavyliftError):
        rendered.thumbnail(one.request())

    assert fake.s3.buckets[DERIVED] == {}
